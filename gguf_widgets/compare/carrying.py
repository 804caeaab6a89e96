"""Carries a comparison out: one thread loads, has the sides answer, scores, and keeps.

Promises: every answer is in the store before it counts (each side's are a batch run); sides that
are in memory together take turns, block by block, so that no side's speed is disturbed by another's
and pairs of answers come early; a side that cannot be loaded or go on is told and left out, and the
others go on; with early stopping the comparison ends as soon as it is clear, with the stated chance
of a false alarm; a store that cannot be written to makes it wait and loses nothing; `stop` works
within seconds, also from another process. Leaves to others: loading (`memory`), scoring
(`scorer`), asking (`batch.runner`), what a person sees (`comparison`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.runner import Runner
from gguf_widgets.compare.answers import Answers
from gguf_widgets.compare.block import Block, count_tokens
from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.memory import Memory
from gguf_widgets.compare.prompts import run_table
from gguf_widgets.compare.records import Record, Records
from gguf_widgets.compare.scorer import Scorer
from gguf_widgets.compare.sequential import clear_after
from gguf_widgets.compare.statistics import CONFIDENCE
from gguf_widgets.compare.types import ComparisonStatus, SideStatus
from gguf_widgets.compare.verdicts import stopped_words
from gguf_widgets.core.errors import (
    BatchError,
    GgufWidgetsError,
    LoadCancelledError,
    StoreError,
    WorkerError,
    to_wire,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import RunStatus

__all__ = ["Carrier"]

_log = logging.getLogger(__name__)

_SLICE_S: Final = 0.1
_LOOK_S: Final = 0.5
_STORE_AGAIN_S: Final = 1.0
_END_S: Final = 60.0  # a runner that is stopped ends within seconds
_LEAST_BLOCK: Final = 16
_MOST_BLOCKS: Final = 200
_ROUNDS: Final = 4  # a block is so many times what the model computes side by side
_ONE_BY_ONE: Final = "Memory does not hold all models at once, so they answer one after another."
_TOGETHER: Final = (
    "The sides answered at the same time, so each was slowed down by the others: do not take "
    "their speeds for what each can do."
)

# The comparisons that this process carries out: the store tells only processes apart.
_AT_IT: Final[set[str]] = set()
_AT_IT_LOCK: Final = threading.Lock()


class _Stopped(Exception):  # noqa: N818 - no error: a person's wish
    """The comparison was asked to stop."""


class _Clear(Exception):  # noqa: N818 - no error: it was clear early
    """There is no need to ask more."""


class Carrier:
    """One comparison being carried out.

    Parameters
    ----------
    records : Records
    record : Record
    definition : Definition
    answers : Answers
    manager : ModelManager
    given : mapping of int to Model
        Models that somebody holds, by side.
    on_change : callable
        Called, in the comparison's thread, while something changes, and at the end.
    """

    def __init__(
        self,
        records: Records,
        record: Record,
        definition: Definition,
        answers: Answers,
        manager: ModelManager,
        given: Mapping[int, Model],
        *,
        on_change: Callable[[], object],
    ) -> None:
        self._records, self._record, self._definition = records, record, definition
        self._answers, self._manager = answers, manager
        self._runs = BatchRuns(records.store)
        self._on_change = on_change
        self._is_stopping = False
        self._memory = Memory(manager, given, lambda: self._is_stopping)
        self._looked = self._told = 0.0
        self._began = time.monotonic()
        self._runners: list[Runner] = []
        self._live: dict[int, Runner] = {}
        self.statuses: dict[int, SideStatus] = {}
        self.phase = "loading"
        self.note = ""
        self.status = ComparisonStatus.RUNNING
        self.error: GgufWidgetsError | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"gguf-widgets-compare-{record.id[:8]}", daemon=True
        )

    # -- any thread -------------------------------------------------------------------------------

    def start(self, on_begin: Callable[[], object] = lambda: None) -> None:
        """Begin.

        Parameters
        ----------
        on_begin : callable, optional
            Called when nothing can keep it from beginning any more, before it does anything.

        Raises
        ------
        BatchError
            Another process, or another place in this one, is at it.
        StoreError
        """
        with _AT_IT_LOCK:
            if self._record.id in _AT_IT:
                raise BatchError(
                    "This comparison is being carried out here already, in another place of this "
                    "notebook or program. Wait for it, or stop it there first.",
                    id=self._record.id,
                    problem="taken",
                )
            self._records.take(self._record.id)
            _AT_IT.add(self._record.id)
        on_begin()
        self._thread.start()

    def stop(self) -> None:
        """Have it end soon; what is done stays."""
        self._is_stopping = True
        for runner in list(self._runners):
            runner.stop()

    @property
    def elapsed_s(self) -> float:
        """How long it has been at it."""
        return time.monotonic() - self._began

    def live(self, number: int) -> tuple[float, float | None]:
        """Return how long a side has been answering just now, in seconds, and its tokens/s."""
        runner = self._live.get(number)
        if runner is None:
            return 0.0, None
        progress = runner.progress()
        return progress.elapsed_s, progress.tok_per_s

    # -- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        status, error = ComparisonStatus.FINISHED, None
        try:
            self._answers.forget_runs(self._runs)
            scorer = self._patiently(self._scorer)
            with contextlib.suppress(_Clear):
                self._answer(scorer)
            self.phase = "scoring"
            self._patiently(scorer.score_rest)
        except (_Stopped, LoadCancelledError):
            status = ComparisonStatus.STOPPED
        except GgufWidgetsError as caught:
            status, error = ComparisonStatus.FAILED, caught
        except Exception as caught:  # noqa: BLE001 - the comparison says so, and keeps what it has
            _log.exception("A comparison met an error it did not expect")
            status = ComparisonStatus.FAILED
            error = BatchError(f"The comparison met an error that it did not expect: {caught}")
            error.__cause__ = caught
        finally:
            self._finish(status, error)

    def _finish(self, status: ComparisonStatus, error: GgufWidgetsError | None) -> None:
        wire = to_wire(error) if error is not None else None
        try:
            self._memory.unload()
            self._records.put_data(self._record.id, self._definition.to_dict())
            self._records.let_go(self._record.id, status, wire)
        except GgufWidgetsError as caught:
            status, error = ComparisonStatus.FAILED, error or caught
        finally:  # whoever waits must not wait for ever, whatever went wrong
            self.status, self.error, self.note, self.phase = status, error, "", ""
            with _AT_IT_LOCK:
                _AT_IT.discard(self._record.id)
            self.ended.set()
        self._on_change()

    def _scorer(self) -> Scorer:
        return Scorer(
            self._records,
            self._record,
            self._definition,
            self._answers,
            self._manager,
            self._memory,
            look_up=self._look_up,
            keep=self._keep,
        )

    def _answer(self, scorer: Scorer) -> None:
        """Have every side that can answer everything that it has not."""
        sides = self._definition.sides
        if self._definition.stopped_early is not None:
            return
        waiting = [number for number in range(len(sides)) if self._has_waiting(number)]
        for number in range(len(sides)):
            is_done = number not in waiting
            self.statuses[number] = SideStatus.DONE if is_done else SideStatus.WAITING
            sides[number].error = None
        alone = self._definition.order == "one by one"
        while waiting:
            self.phase = "loading"
            now, later = (waiting[:1], waiting[1:]) if alone else (waiting, [])
            loaded = self._memory.load([(one, sides[one]) for one in now], self._loading)
            for number, error in loaded.failed.items():
                self._fail(number, error)
            if loaded.later:
                self._definition.note(_ONE_BY_ONE)
            for number in loaded.models:
                self.statuses[number] = SideStatus.READY
            self._ask_all(loaded.models, scorer)
            waiting = [*loaded.later, *later]
            for number in waiting:
                self.statuses[number] = SideStatus.WAITING
            if waiting:
                self._memory.unload()
        if all(one.error is not None for one in sides):
            told = " ".join(f"{one.label}: {one.error}" for one in sides)
            raise BatchError(f"No side can answer. {told}", problem="no_side")

    def _loading(self, number: int) -> None:
        self.statuses[number] = SideStatus.LOADING
        self._look_up(f'Loading "{self._definition.sides[number].label}"')

    def _fail(self, number: int, error: GgufWidgetsError) -> None:
        _log.warning("A side of a comparison cannot answer: %s", error.message)
        self._definition.sides[number].error = error.message
        self.statuses[number] = SideStatus.FAILED
        self._keep()

    # -- asking -----------------------------------------------------------------------------------

    def _ask_all(self, models: Mapping[int, Model], scorer: Scorer) -> None:
        """Have these sides answer, block by block."""
        runs = {}
        for number, model in models.items():
            try:
                runs[number] = self._patiently(partial(self._run_of, number, model))
            except StoreError:
                raise
            except GgufWidgetsError as error:
                self._fail(number, error)
        self._keep()
        self.phase = "answering"
        start = min((self._first_waiting(number) for number in runs), default=0)
        together = self._definition.order == "together" and len(runs) > 1
        if together:
            self._definition.note(_TOGETHER)
        for stop in self._block_ends(start, list(models.values()), together=together):
            able = [number for number in runs if self.statuses[number] is not SideStatus.FAILED]
            groups = [able] if together else [[number] for number in able]
            for group in groups:
                self._ask_block({number: (models[number], runs[number]) for number in group}, stop)
            self._keep()
            self._patiently(partial(scorer.score_answers, start, stop))
            self._look_whether_clear(scorer, start, stop)
            start = stop
        for number in runs:
            if self.statuses[number] is not SideStatus.FAILED:
                self.statuses[number] = SideStatus.DONE

    def _block_ends(self, start: int, models: Sequence[Model], *, together: bool) -> list[int]:
        """Return up to which row is asked in each block."""
        num = self._record.num_prompts
        takes_turns = len(models) > 1 and not together
        if not takes_turns and self._definition.stop_early is None:
            return [num]
        at_once = max((model.settings.n_seq_max or 1 for model in models), default=1)
        size = max(_LEAST_BLOCK, _ROUNDS * at_once, -(-num // _MOST_BLOCKS))
        return [*range(start + size, num, size), num]

    def _run_of(self, number: int, model: Model) -> BatchRun:
        """Return a side's run; make it if this is its beginning."""
        side, common = self._definition.sides[number], self._definition.common
        store = self._records.store
        if side.run_id is not None:
            run = BatchRun(side.run_id, store, self._manager)
            run.use_model(model)
            return run
        prompt = side.prompt(common)
        rows = [data for data, _ in self._records.prompts(self._record, 0, 1 << 31)]
        title = self._record.title
        made = BatchProcessor(model, store=store, manager=self._manager).prepare(
            run_table(self._definition.columns, rows, self._answers.order, prompt),
            prompt.template,
            schema=prompt.output,
            title=f"{title}: {side.label}" if title else f"Comparison: {side.label}",
            **side.sampling_of(common),
        )
        side.note_model(model)
        side.run_id = made.id
        return made

    def _ask_block(self, sides: Mapping[int, tuple[Model, BatchRun]], stop: int) -> None:
        """Have some sides answer, at the same time, all up to a row; wait for it."""
        at_work: dict[int, tuple[Runner, Model, list[int]]] = {}
        try:
            for number, (model, run) in sides.items():
                plan = Block(self._records, run, model, stop)
                if plan.is_done(0):
                    continue
                tokens: list[int] = []
                runner = Runner(
                    run.id,
                    self._records.store,
                    plan,
                    on_ended=partial(count_tokens, tokens),
                )
                try:
                    self._patiently(runner.start)
                except StoreError:
                    raise
                except GgufWidgetsError as error:  # somebody else is at this run
                    self._fail(number, error)
                    continue
                self.statuses[number] = SideStatus.ANSWERING
                self._runners.append(runner)
                self._live[number] = runner
                at_work[number] = runner, model, tokens
            while not all(runner.ended.wait(_SLICE_S) for runner, _, _ in at_work.values()):
                notes = [runner.progress().note for runner, _, _ in at_work.values()]
                self._look_up(next((note for note in notes if note), ""))
        finally:
            for runner, _, _ in at_work.values():
                runner.stop()
                runner.ended.wait(_END_S)
            self._runners.clear()
            self._live.clear()
        for number, (runner, model, tokens) in at_work.items():
            self._after_block(number, runner, model, sum(tokens), is_last=stop)
        self._look_up("")

    def _after_block(
        self, number: int, runner: Runner, model: Model, num_tokens: int, *, is_last: int
    ) -> None:
        side = self._definition.sides[number]
        side.busy_s += runner.progress().elapsed_s
        side.num_tokens += num_tokens
        self.statuses[number] = SideStatus.READY
        try:
            rss = model.stats().rss_bytes
            side.memory_bytes = max(side.memory_bytes or 0, rss)
        except GgufWidgetsError as error:  # its process has just died, say
            if not isinstance(error, WorkerError):
                _log.warning("The memory of a side is not known: %s", error.message)
        if runner.error is not None:
            self._fail(number, runner.error)
        elif is_last < self._record.num_prompts and not self._is_stopping:
            # The runner ended all that it was given, and takes that for the whole run.
            self._patiently(lambda: self._runs.set_status(runner.run_id, RunStatus.STOPPED))

    # -- whether it is clear ----------------------------------------------------------------------

    def _look_whether_clear(self, scorer: Scorer, start: int, stop: int) -> None:
        import numpy as np

        name = self._definition.stop_early
        if name is None:
            return
        scoring = self._definition.scoring(name)
        self._patiently(lambda: scorer.score_by_likeness(start, stop, only=name))
        if scoring.bounds is None:  # refused before; for the type checker
            return
        values = scorer.values(name)[:, :stop]
        sides = [n for n, one in enumerate(self._definition.sides) if one.error is None]
        num_pairs = len(sides) * (len(sides) - 1) // 2
        if num_pairs == 0:
            return
        confidence = 1 - (1 - CONFIDENCE) / num_pairs
        width = scoring.bounds[1] - scoring.bounds[0]
        sign = -1.0 if scoring.better == "low" else 1.0
        wins = dict.fromkeys(sides, 0)
        for a, b in itertools.combinations(sides, 2):
            differences = sign * (values[a] - values[b])
            differences = differences[~np.isnan(differences)]
            if clear_after(differences, bounds=(-width, width), confidence=confidence) is not None:
                wins[a if differences.mean() > 0 else b] += 1
        best = max(wins, key=lambda side: wins[side])
        if wins[best] < len(sides) - 1 or stop >= self._record.num_prompts:
            return
        self._definition.stopped_early = {
            "num_prompts": stop,
            "best": best,
            "words": stopped_words(
                self._definition.sides[best].label, scoring, stop, self._record.num_prompts
            ),
        }
        for number in sides:
            self.statuses[number] = SideStatus.STOPPED
        self._keep()
        raise _Clear

    # -- inside -----------------------------------------------------------------------------------

    def _has_waiting(self, number: int) -> bool:
        counts = self._answers.counts(number)
        return counts is None or counts.waiting > 0

    def _first_waiting(self, number: int) -> int:
        tasks = self._answers.tasks(number)
        expected = 0
        for ended in tasks.ended() if tasks is not None else ():
            if ended != expected:
                break
            expected += 1
        return expected

    def _keep(self) -> None:
        self._patiently(lambda: self._records.put_data(self._record.id, self._definition.to_dict()))

    def _patiently(self, do: Callable[[], Any]) -> Any:
        """Do something with the store; wait while it cannot be written to, unless it is stopped."""
        while True:
            try:
                return do()
            except StoreError as error:
                if self._is_stopping or error.details.get("reason") in ("closed", "damaged"):
                    raise
                _log.warning("A comparison waits for the store: %s", error.message)
                self.note = f"{error.message} The comparison waits until it can be written to."
                self._tell()
                time.sleep(_STORE_AGAIN_S)

    def _look_up(self, note: str) -> None:
        """See whether it is to stop, and tell how far it is.

        Raises
        ------
        _Stopped
        """
        now = time.monotonic()
        self.note = note
        if now - self._looked >= _LOOK_S and not self._is_stopping:
            self._looked = now
            try:
                if self._records.is_asked_to_stop(self._record.id):
                    self.stop()
            except StoreError:  # it is looked at again
                _log.debug("The wish of a comparison could not be read")
        if self._is_stopping:
            raise _Stopped
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told >= _SLICE_S:
            self._told = now
            self._on_change()
