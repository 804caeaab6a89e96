"""`BatchProcessor`: makes runs over tables, and finds those of before.

Promises: whatever is wrong with a table, a prompt, a schema or a setting is said before a row is
asked; the table is in the store before the first one is. Leaves to others: the run (`run`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.batch.cluster import Cluster
from gguf_widgets.batch.frame import check_names
from gguf_widgets.batch.images import ImageColumns
from gguf_widgets.batch.missing import MissingCount
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.show import Shown
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import Table, row_of
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.manager import ModelManager, default_manager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.store import Store, default_store

if TYPE_CHECKING:
    from gguf_widgets.batch.files import RowSource

__all__ = ["BatchProcessor", "resume", "runs"]

_SHOW_S: Final = 0.25


class BatchProcessor:
    """Asks one or more models about every row of a table.

    Parameters
    ----------
    model : Model or sequence of Model
        With several, each row is asked of each, one model after another.
    store : Store, optional
        Where runs are kept; default: this user's.
    manager : ModelManager, optional
        Who loads a run's model again where that is needed.

    Examples
    --------
    >>> processor = BatchProcessor(model)  # doctest: +SKIP
    >>> run = processor.run(df, "Good or bad? {review}", schema=["good", "bad"])  # doctest: +SKIP
    >>> run.to_frame()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        store: Store | None = None,
        manager: ModelManager | None = None,
    ) -> None:
        self._models = [model] if isinstance(model, Model) else list(model)
        for one in self._models:
            if not isinstance(one, Model):
                raise InvalidValueError(
                    f"A batch run needs a loaded model, and this is a {type(one).__name__}. Load "
                    "one with gguf_widgets.load(...)."
                )
        self._store = store if store is not None else default_store()
        self._manager = manager if manager is not None else default_manager()

    def run(
        self,
        table: Any,
        prompt: Any,
        *,
        progress: bool | None = None,
        executor: Any = None,
        **how: Any,
    ) -> BatchRun:
        """Do what `start` does and wait for the end; an interrupt stops the run.

        Parameters
        ----------
        progress : bool, optional
            Show how far it is: in a notebook, and in a terminal. Default: where somebody can see
            it.
        executor : dask.distributed.Client or Cluster, optional
            As for `start`.
        """
        return wait_shown(self.start(table, prompt, executor=executor, **how), progress)

    def start(
        self,
        table: Any,
        prompt: Any,
        *,
        own_process: bool = False,
        executor: Any = None,
        **how: Any,
    ) -> BatchRun:
        """Begin a run in the background and return it at once; see `prepare`.

        Parameters
        ----------
        own_process : bool, default False
            Have a process of its own carry it out: it goes on when this one ends, and can be
            watched, paused and stopped from any other.
        executor : dask.distributed.Client or Cluster, optional
            Have the machines of a cluster answer, each with a model process of its own; see
            `batch.cluster`. This process asks them, and alone writes the store.
        """
        cluster = Cluster.of(executor, own_process=own_process)  # refused before the table is kept
        run = self.prepare(table, prompt, **how)
        return run.start(own_process=own_process, executor=cluster)

    def prepare(
        self,
        table: Any,
        prompt: Any,
        *,
        schema: Any = None,
        system: str | None = None,
        n: int = 1,
        missing: Any = "refuse",
        syntax: str = "auto",
        title: str = "",
        images: Any = None,
        **sampling: Any,
    ) -> BatchRun:
        """Make a run that has not begun: everything is checked, and the table is in the store.

        Parameters
        ----------
        table : DataFrame, Series, list of texts, list of dicts, dict of lists
        prompt : str, list of messages, or dict of these
            With the table's columns in it, as ``{review}`` or in Jinja; see `Template`. A dict has
            several prompts for each row, by name.
        schema : optional
            What a reply is turned into; see `Output.parse`. With several prompts: one for all, or
            a dict by the prompts' names.
        system : str, optional
            A system message for each row; it may have columns in it, too.
        n : int, default 1
            How often each row is asked; needs a temperature above 0 to make a difference.
        missing : {"refuse", "skip", "empty"} or {"with": text}, default "refuse"
            What is done about values that are missing (None, NaN) in columns that the prompt uses.
        syntax : {"auto", "format", "jinja"}
        title : str
        images : str or list of str, optional
            Columns that hold images, for models that see them: file names, bytes or Pillow's. An
            image goes where the prompt names its column, ``{photo}``, else before the prompt's
            text. A file that is named without a folder is beside the table's file, or where Python
            is.
        **sampling
            Fields of `SamplingSettings`; the temperature is 0 unless told.

        Raises
        ------
        InvalidValueError
            Something of this cannot be: the message says what, and what can.
        RowError
            A value of the table cannot be kept.
        """
        spec = Spec.make(
            prompt,
            self._models,
            schema=schema,
            system=system,
            missing=missing,
            n=n,
            syntax=syntax,
            sampling=sampling,
            images=ImageColumns.parse(images, folder=folder_of(table)),
        )
        given = Table.of(table)
        spec.check(given.names)
        check_names(given.names, spec)
        return self._made(given, spec, title or _title_of(spec))

    def prepare_requests(self, source: RowSource, *, title: str = "", **sampling: Any) -> BatchRun:
        """Make a run of OpenAI's batch requests, each with messages and settings of its own.

        Parameters
        ----------
        source : RowSource
            What `files.read` makes of such a file.
        title : str
            Default: the file's name.
        **sampling
            For what a request does not say; the temperature is 0 unless told.

        Raises
        ------
        InvalidValueError, TableFileError
            The file is another one, or a setting cannot be.
        """
        from gguf_widgets.batch.requests import request_spec, table_of_requests

        given, num_samples = table_of_requests(source)
        spec = request_spec(self._models, num_samples, sampling)
        return self._made(given, spec, title or source.name)

    def _made(self, given: Table, spec: Spec, title: str) -> BatchRun:
        """Put a run and its table into the store."""
        for model in self._models:
            if spec.images.columns and not model.sees_images:
                raise no_sight(model)
            for one in spec.prompts:
                one.output.check_with(model)
        runs = BatchRuns(self._store)
        run = runs.create(
            spec.to_dict(),
            given.columns,
            num_prompts=len(spec.prompts),
            num_models=len(spec.models),
            num_samples=spec.num_samples,
            title=title,
        )
        try:
            RunTasks(self._store, run.id).add_rows(_checked(given, spec))
        except BaseException:
            runs.discard(run.id)  # nobody has seen it
            raise
        return BatchRun(run.id, self._store, self._manager, self._models)


def resume(
    run_id: str,
    *,
    progress: bool | None = None,
    wait: bool = True,
    own_process: bool = False,
    executor: Any = None,
    store: Store | None = None,
    manager: ModelManager | None = None,
) -> BatchRun:
    """Go on with a run of before: what has ended stays, what is missing is asked.

    Parameters
    ----------
    run_id : str
        Its id, or the beginning of it.
    progress : bool, optional
        As for `BatchProcessor.run`.
    wait : bool, default True
        Wait for the end; else it is carried out in the background.
    own_process : bool, default False
        As for `BatchProcessor.start`; to wait, and to stop waiting, does not matter to it.
    executor : dask.distributed.Client or Cluster, optional
        As for `BatchProcessor.start`, also for a run that was begun on one machine. Default: this
        machine, wherever it was before.

    Raises
    ------
    InvalidValueError
        There is none, or there are several.
    BatchError
        Another process is at it; its model is gone or is another file.
    """
    own = store if store is not None else default_store()
    found = BatchRuns(own).find(run_id)
    run = BatchRun(found.id, own, manager if manager is not None else default_manager())
    run.start(own_process=own_process, executor=executor)
    return wait_shown(run, progress) if wait else run


def runs(*, store: Store | None = None, limit: int = 100) -> list[BatchRun]:
    """Return the runs in the store, the newest first."""
    own = store if store is not None else default_store()
    return [BatchRun(run.id, own, default_manager()) for run in BatchRuns(own).recent(limit=limit)]


def wait_shown(run: BatchRun, progress: bool | None) -> BatchRun:
    """Wait for a run, and show how far it is."""
    with Shown(run, progress) as shown:
        while True:
            try:
                return run.wait(_SHOW_S)
            except TimeoutError:
                shown.update(run.progress)


def _checked(table: Table, spec: Spec) -> Iterator[str]:
    """Yield the rows as JSON; refuse the table if values are missing and nothing was chosen."""
    columns = spec.columns_used(table.names)
    count = MissingCount(columns)
    for number, data in enumerate(table.as_json(), 1):
        if spec.missing.action == "refuse" and columns:
            count.add(number, row_of(table.names, data))
        yield data
    count.check(spec.missing)


def folder_of(table: Any) -> Path | None:
    """Return the folder of a table's file, or None if it is not from one."""
    if isinstance(table, str | os.PathLike):
        return expanded(table).parent
    folder = getattr(table, "folder", None)  # a `files.RowSource` has one; a column is no path
    return folder if isinstance(folder, Path) else None


def no_sight(model: Model) -> InvalidValueError:
    """Return the error that a model cannot be shown images."""
    return InvalidValueError(
        f'images= needs a model that sees, and "{model.name}" is loaded without a projector (a '
        "file with mmproj in its name, which comes with models that see). Load it with "
        "load(..., mmproj=PATH), or choose another model.",
        problem="no_mmproj",
    )


def _title_of(spec: Spec) -> str:
    """Call a run by the beginning of what is asked."""
    return " ".join(spec.prompts[0].template.messages[-1]["content"].split())[:60]
