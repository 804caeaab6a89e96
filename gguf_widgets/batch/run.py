"""`BatchRun`: a run as a person holds it: look at it, pause, stop, go on, take the result.

Promises: the same object before, while and after the run is carried out, and for one of long ago;
what is shown is what the store holds, whichever process carries it out. A wait can be interrupted:
a run that is carried out here is stopped then, and what is done stays. Leaves to others: making a
run (`processor`), carrying it out (`runner`), a process of its own for it (`process`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from gguf_widgets.batch import events
from gguf_widgets.batch.cluster import Cluster
from gguf_widgets.batch.frame import result_frame
from gguf_widgets.batch.places import LocalPlaces, Places
from gguf_widgets.batch.preflight import Preflight
from gguf_widgets.batch.progress import Progress
from gguf_widgets.batch.row_stream import RowStream, row_as_dict
from gguf_widgets.batch.runner import Runner
from gguf_widgets.batch.saving import save_run
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.steering import IN_HAND, Onlooker, check_end, progress_of
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.batch.trial import try_out
from gguf_widgets.batch.waiting import late, wait_for_runner, wait_until_not
from gguf_widgets.batch.work import Work
from gguf_widgets.core.errors import BatchError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import (
    Counts,
    Outcome,
    Run,
    RunStatus,
    RunWish,
    TaskStatus,
)
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import LoadSettings

__all__ = ["BatchRun"]

_STOP_S: Final = 30.0


class BatchRun:
    """One run; made by `BatchProcessor`, `Model.map`, or `resume`.

    Parameters
    ----------
    run_id : str
    store : Store
    manager : ModelManager
    models : sequence of Model
        Those of the run that are loaded already.

    Attributes
    ----------
    id : str
        For `resume`, in another session or on another page.
    spec : Spec
        What is asked.
    store, models
        As given; the models are others after `change` or `use_model`.

    Examples
    --------
    >>> run = model.map(df, "Translate to French: {text}")  # doctest: +SKIP
    >>> run.to_frame()  # doctest: +SKIP
    """

    def __init__(
        self, run_id: str, store: Store, manager: ModelManager, models: Sequence[Model] = ()
    ) -> None:
        self.id = run_id
        self.store, self._manager, self.models = store, manager, list(models)
        self._runs, self._tasks = BatchRuns(store), RunTasks(store, run_id)
        run = self._record
        self.spec = Spec.from_dict(run.spec)
        self._names = [str(decoded(c["name"])) for c in run.columns if not c.get("index")]
        self._runner: Runner | None = None
        self._lock = threading.Lock()
        self._observers: list[Callable[[BatchRun], None]] = []
        self._listeners: list[Callable[[Sequence[Outcome]], None]] = []
        self._own_process = False
        self._cluster: Cluster | None = None
        self._onlooker = Onlooker(lambda: self._is_elsewhere, self._on_change)

    # -- how it stands ----------------------------------------------------------------------------

    @property
    def _record(self) -> Run:
        return self._runs.get(self.id)

    @property
    def title(self) -> str:
        """What a person calls it; it can be set."""
        return self._record.title

    @title.setter
    def title(self, text: str) -> None:
        self._runs.rename(self.id, text)

    @property
    def created_at(self) -> float:
        """When it was made: seconds since 1970, UTC."""
        return self._record.created_at

    @property
    def num_rows(self) -> int:
        """How many rows the table has."""
        return self._record.shape.num_rows

    @property
    def status(self) -> RunStatus:
        """Where it stands, also if another process is at it."""
        runner = self._runner
        if runner is not None and not runner.ended.is_set():
            return runner.progress().status
        return self._record.status

    @property
    def is_here(self) -> bool:
        """Whether it is this object that carries it out just now."""
        runner = self._runner
        return runner is not None and not runner.ended.is_set()

    @property
    def _is_elsewhere(self) -> bool:
        """Whether somebody else carries it out just now."""
        return not self.is_here and self._record.status in IN_HAND

    @property
    def counts(self) -> Counts:
        """How many rows are done, failed, skipped and waiting (of every prompt, model, sample)."""
        return self._tasks.counts()

    @property
    def progress(self) -> Progress:
        """How far it is, how fast, and how long it still takes."""
        runner = self._runner
        if runner is not None and not runner.ended.is_set():
            return runner.progress()
        return progress_of(self._record.status, self.counts, self._runs.progress(self.id))

    @property
    def error(self) -> str | None:
        """Why the run as a whole could not go on; None if it could."""
        error = self._record.error
        return None if error is None else error["message"]

    def observe(self, callback: Callable[[BatchRun], None]) -> Callable[[], None]:
        """Have `callback` called with this run as it goes on, at most ten times a second.

        It is called in the run's thread and must return at once. While another process carries the
        run out it is called twice a second, and once after the end.

        Returns
        -------
        callable
            Ends it.
        """
        self._observers.append(callback)
        if self._is_elsewhere:
            self._onlooker.start()
        return lambda: _without(self._observers, callback)

    # -- before it begins -------------------------------------------------------------------------

    def preflight(self, *, sample: int = 2) -> Preflight:
        """Tell what the run will be like: lengths, what does not fit, what is shared, the time.

        Parameters
        ----------
        sample : int, default 2
            So many rounds of rows are really asked, each as many as the model computes side by
            side, to tell the time; what comes of them is kept. 0 asks none.

        Raises
        ------
        BatchError
            The run is being carried out.
        """
        self._refuse_while_running()
        return try_out(self.id, self.store, self._work(), rounds=sample, on_ended=self._on_ended)

    # -- carrying it out --------------------------------------------------------------------------

    def start(self, *, own_process: bool | None = None, executor: Any = None) -> Self:
        """Begin, or go on with what is missing, in the background; return at once.

        Parameters
        ----------
        own_process : bool, optional
            Have a process of its own carry it out, which outlives this one; see `process`. Default:
            as the last time, at first not.
        executor : dask.distributed.Client or Cluster, optional
            Have the machines of a cluster answer; see `cluster`. This process asks them, and alone
            writes what comes of it. Default: as the last time, at first this machine.

        Raises
        ------
        InvalidValueError
            `executor` is something else, or comes with `own_process`.
        BatchError
            Another process is at it; the model's file is gone or is another one; with `executor`,
            the run is being carried out.
        """
        cluster = Cluster.of(executor, own_process=bool(own_process))
        if cluster is not None:
            self._refuse_while_running()
            self._cluster, self._own_process = cluster, False
        if own_process is not None:
            self._own_process = own_process
            self._cluster = None if own_process else self._cluster
        if self._own_process:
            return self._start_elsewhere()
        with self._lock:
            if self._runner is not None and not self._runner.ended.is_set():
                return self
            before = self._runner
            self._runner = Runner(
                self.id,
                self.store,
                self._work(),
                on_ended=self._on_ended,
                on_change=self._on_change,
                places_with=self._places_with,
            )
            try:
                events.tell_started(self)
                self._runner.start()
            except BaseException:
                self._runner = before  # another process may be at it
                raise
        return self

    def _start_elsewhere(self) -> Self:
        from gguf_widgets.batch.process import start_process  # most runs need none

        with self._lock:
            if self.is_here:
                return self
            start_process(self.id, store=self.store)
            self._runner = None
        events.tell_started(self)
        if self._observers:
            self._onlooker.start()
        return self

    def pause(self) -> None:
        """Ask no more rows; those that the model is at are finished."""
        runner = self._runner
        if runner is not None and not runner.ended.is_set():
            runner.pause()
        else:
            self._runs.ask(self.id, RunWish.PAUSE)

    def resume(self) -> Self:
        """Go on after a pause, a stop, a failure or an interruption, where it was begun."""
        runner = self._runner
        if runner is not None and not runner.ended.is_set():
            runner.resume()
            return self
        if self._is_elsewhere:
            with contextlib.suppress(BatchError):  # it has ended in this very moment
                self._runs.ask(self.id, RunWish.GO_ON)
                return self
        return self.start()

    def stop(self, timeout_s: float = _STOP_S) -> None:
        """End it; rows that the model is at wait for `resume`. What is done stays.

        It returns when the run has ended, or after `timeout_s` seconds.
        """
        runner = self._runner
        if runner is not None and not runner.ended.is_set():
            runner.stop()
            runner.ended.wait(timeout_s)
        elif self._is_elsewhere:
            with contextlib.suppress(BatchError):  # it has ended in this very moment
                self._runs.ask(self.id, RunWish.STOP)
                wait_until_not(lambda: self._is_elsewhere, timeout_s)

    def wait(self, timeout_s: float | None = None) -> Self:
        """Wait until it has ended.

        An interrupt (Ctrl+C, or Stop in a notebook) stops a run that is carried out here; what is
        done stays, and `resume` goes on. One that another process carries out goes on.

        Raises
        ------
        BatchError
            It could not go on, or its process ended; the rows that are done are kept.
        TimeoutError
            It has not ended; it goes on.
        """
        runner = self._runner
        if not self.is_here and (runner is None or self._is_elsewhere):
            return self._wait_elsewhere(timeout_s)
        if runner is None:
            return self
        wait_for_runner(runner, timeout_s, self.stop)
        return self

    def _wait_elsewhere(self, timeout_s: float | None) -> Self:
        """Wait while another process is at it; what it says of the end is said here."""
        if not self._is_elsewhere and not self._own_process:
            return self  # nobody is at it
        if not wait_until_not(lambda: self._is_elsewhere, timeout_s):
            raise late(timeout_s)
        check_end(self._record)
        return self

    def retry_failed(self, *, own_process: bool | None = None, executor: Any = None) -> Self:
        """Ask the rows again that failed; return at once.

        Parameters
        ----------
        own_process, executor : optional
            As for `start`.

        Raises
        ------
        BatchError
            The run is being carried out.
        """
        self._refuse_while_running()
        Cluster.of(executor, own_process=bool(own_process))  # refused before anything is forgotten
        self._tasks.forget(TaskStatus.FAILED)
        return self.start(own_process=own_process, executor=executor)

    def retry(self, numbers: Sequence[int]) -> Self:
        """Ask these tasks again, whatever came of them; return at once."""
        self._refuse_while_running()
        self._tasks.forget(numbers)
        return self.start()

    def use_model(self, model: Model) -> None:
        """Ask this one from now on: the run's own model, loaded with other settings.

        A row that did not fit can be asked again so, once the model is loaded with more room.

        Raises
        ------
        BatchError
            The run is being carried out, or its answers cannot be this model's.
        """
        self._refuse_while_running()
        self.spec = self.spec.with_model(model)
        self._runs.set_spec(self.id, self.spec.to_dict())
        self.models = [model]

    def edit(self, number: int, values: dict[str, Any] | None) -> None:
        """Put other values in place of what the model gave; None takes that back.

        Parameters
        ----------
        number : int
            The task's: with one prompt, model and sample the row's, from 0.
        values : dict or None
            By the output's columns; those that are left out stay.

        Raises
        ------
        InvalidValueError
            The output has no such column.
        BatchError
            The row has no result yet.
        """
        if values is not None:
            _, prompt, _, _ = self._record.shape.place(number)
            output = self.spec.prompts[prompt].output
            for name in values:
                output.column(name)
            known = self._tasks.tasks(number, number + 1).get(number)
            values = {**((known.values if known else None) or {}), **values}
        self._tasks.edit(number, values)

    def change(self, **settings: Any) -> None:
        """Load the model with other settings, such as ``n_seq_max=16``, and go on with it.

        It returns when that model is loaded; the one before finishes what it is at. Where another
        process carries the run out it is asked to, and this returns at once; `progress` says so if
        it could not.

        Raises
        ------
        InvalidValueError
            There is no such setting.
        BatchError
            It is not being carried out, has several models, or would have another one.
        GgufWidgetsError
            It cannot be loaded like this; the run goes on with the one before.
        """
        LoadSettings.from_keywords(**settings)
        if len(self.spec.models) > 1:
            raise BatchError("A run with several models cannot change its settings on the way.")
        if self._is_elsewhere:
            self._runs.ask(self.id, RunWish.CHANGE, settings)
            return
        self._here().use(self._places_with(settings))

    def _places_with(self, settings: dict[str, Any]) -> Places:
        """Return the model, loaded with other settings."""
        self.models = [self._work().model_with(settings)]
        return LocalPlaces(self.models[0])

    # -- the result -------------------------------------------------------------------------------

    def to_frame(self) -> Any:
        """Return the table with the new columns, as far as it has come, as a DataFrame: `frame`."""
        return result_frame(self._record, self.spec, self._tasks)

    def save(self, path: str | os.PathLike[str], **how: Any) -> Path:
        """Write the result to a file, as far as it has come, and return its path.

        Only some rows are in memory at a time. The ending says the format (``how``: as for
        `files.write`); OpenAI's requests have their results in OpenAI's layout in ``.jsonl``.

        Raises
        ------
        TableFileError, InvalidValueError
            It cannot be written; what was there before is untouched.
        """
        return save_run(path, self._record, self.spec, self._tasks, **how).path

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """Yield each row as it ends, as a dict: the table's columns, the new ones, and its number.

        Those that have ended before come first. The iteration ends with the run.
        """
        stream = RowStream(self._tasks, lambda: self.status in IN_HAND)
        self._listeners.append(stream.heard)
        forget = self.observe(lambda _run: stream.look(is_here=self.is_here))
        try:
            await asyncio.to_thread(lambda: stream.look(is_here=False))
            while (following := await stream.arrived.get()) is not None:
                yield await asyncio.to_thread(self._row, following)
        finally:
            forget()
            _without(self._listeners, stream.heard)

    def __await__(self) -> Generator[Any, None, BatchRun]:
        return asyncio.to_thread(self.wait).__await__()

    # -- inside -----------------------------------------------------------------------------------

    def _row(self, number: int) -> dict[str, Any]:
        return row_as_dict(self._record, self.spec, self._tasks, number)

    def _work(self) -> Work:
        return Work(
            self.id,
            self.store,
            self.spec,
            self._names,
            self._manager,
            self.models,
            self._cluster,
        )

    def _here(self) -> Runner:
        runner = self._runner
        if runner is None or runner.ended.is_set():
            raise BatchError(
                "This run is not being carried out here. Start it with resume().", id=self.id
            )
        return runner

    def _refuse_while_running(self) -> None:
        if self.status in IN_HAND:
            raise BatchError(
                "The run is being carried out. Wait for its end, or stop it first.", id=self.id
            )

    def _on_ended(self, ended: Sequence[Outcome]) -> None:
        for listener in list(self._listeners):
            listener(ended)

    def _on_change(self) -> bool:
        """Tell those who observe; return whether there are any."""
        for observer in list(self._observers):
            observer(self)
        return bool(self._observers)

    def __repr__(self) -> str:
        return f"<BatchRun {self.id[:8]}: {self.progress}>"


def _without(items: list[Any], item: Any) -> None:
    with contextlib.suppress(ValueError):
        items.remove(item)
