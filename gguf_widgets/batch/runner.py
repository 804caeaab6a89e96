"""Carries out a run: one thread asks, receives and keeps.

Promises: the model always has enough to do, and no more than that is on its way; every answer is in
the store before it is told of; a row that fails does not stop the run, and what would fail every
row does; a model's process that dies is started again and what was in it asked again (`line`); a
store that cannot be written to pauses the run and loses nothing; `pause` and `stop` work at any
moment, `stop` within seconds, also from other processes (`steering`). Leaves to others: what is
asked (`questions`), which model (whoever makes it), what a person sees (`run`).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from gguf_widgets.batch.line import Line
from gguf_widgets.batch.outcomes import copy_of, failure_of, outcome_of
from gguf_widgets.batch.progress import Meter, Progress
from gguf_widgets.batch.question import Known, Question
from gguf_widgets.batch.steering import steer
from gguf_widgets.core.errors import (
    BatchError,
    GgufWidgetsError,
    GrammarError,
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    ModelUnloadedError,
    ProtocolError,
    StoreError,
    UnsupportedByModelError,
    UnsupportedSchemaError,
    WireError,
    WorkerBusyError,
    WorkerDiedError,
    WorkerError,
    WorkerStartError,
    to_wire,
)
from gguf_widgets.core.model import Model
from gguf_widgets.core.model_submit import Submitted
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Counts, Outcome, RunStatus, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Reply

__all__ = ["Plan", "Runner"]

_log = logging.getLogger(__name__)

# What would be the same for every row: the run ends, and the rows wait for what comes.
_STOPS_ALL: Final = (
    GrammarError,
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    ModelUnloadedError,
    ProtocolError,
    UnsupportedByModelError,
    UnsupportedSchemaError,
)
_ALL_FAIL: Final = 20  # so many failures before anything went well are no accident
_MOST_FAILED_STARTS: Final = 5  # of the model's process, one after another
_START_AGAIN_S: Final = 1.0
_LOOK_S: Final = 0.5
_STORE_AGAIN_S: Final = 2.0
_PASSES: Final = ("full", "locked", "disk")  # what a person, or time, can put right
_STOP_S: Final = 15.0
_TELL_S: Final = 0.1
_MOST_AT_ONCE: Final = 512

# The runs that this process carries out: the store tells only processes apart.
_AT_IT: Final[set[str]] = set()
_AT_IT_LOCK: Final = threading.Lock()


class Plan(Protocol):
    """What the runner needs to know of a run."""

    def num_models(self) -> int:
        """Return how many models there are."""

    def is_done(self, number: int) -> bool:
        """Say whether all tasks of a model have ended."""

    def model(self, number: int) -> Model:
        """Return a model, loaded."""

    def questions(self, number: int) -> Iterable[Question | Known]:
        """Return what has not ended of a model's tasks, in the order to ask them."""


class _Stopped(Exception):  # noqa: N818 - no error: a person's wish
    """The run was asked to stop."""


class _Wake:
    """Put among the answers to have the thread look around."""


class Runner:
    """One run being carried out.

    Parameters
    ----------
    run_id : str
    store : Store
    plan : Plan
    on_ended : callable, optional
        Called, in the runner's thread, with outcomes that are in the store now.
    on_change : callable, optional
        Called, there too, a few times a second while something changes, and at the end.
    loaded_with : callable, optional
        Loads the run's model with other settings, for `change`.
    """

    def __init__(
        self,
        run_id: str,
        store: Store,
        plan: Plan,
        *,
        on_ended: Callable[[Sequence[Outcome]], None] = lambda _ended: None,
        on_change: Callable[[], None] = lambda: None,
        loaded_with: Callable[[dict[str, Any]], Model] | None = None,
    ) -> None:
        self.run_id = run_id
        self._runs, self._tasks = BatchRuns(store), RunTasks(store, run_id)
        self._plan = plan
        self._on_ended, self._on_change = on_ended, on_change
        self._loaded_with = loaded_with
        self._arrived: queue.SimpleQueue[tuple[int, Reply | GgufWidgetsError] | _Wake] = (
            queue.SimpleQueue()
        )
        self._flying: dict[int, Question] = {}
        self._requests: dict[int, Submitted] = {}
        # By key: who is asked, and who waits for the same answer.
        self._leaders: dict[str, Question] = {}
        self._followers: dict[str, list[Question]] = {}
        self._unsaved: list[tuple[Outcome, str]] = []
        self._new_model: Model | None = None
        self._is_paused = self._is_stopping = False
        self._note = self._warning = ""
        self._failed_in_a_row = self._num_failed_starts = 0
        self._has_done = False
        self._not_before = 0.0
        self._told = 0.0
        self._meter = Meter()
        self._status = RunStatus.READY
        self._counts: Counts = self._tasks.counts()
        self.error: GgufWidgetsError | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"gguf-widgets-batch-{run_id[:8]}", daemon=True
        )

    # -- any thread -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin.

        Raises
        ------
        BatchError
            Another process is at it, or its rows are not all there.
        StoreError
        """
        with _AT_IT_LOCK:
            if self.run_id in _AT_IT:
                raise BatchError(
                    "This run is being carried out here already, in another place of this "
                    "notebook or program. Wait for it, or stop it there first.",
                    id=self.run_id,
                    problem="taken",
                )
            self._runs.take(self.run_id)
            _AT_IT.add(self.run_id)
        self._status = RunStatus.RUNNING
        self._thread.start()
        steer(self, self._runs)

    def pause(self) -> None:
        """Ask no more; what the model is at is finished and kept."""
        self._is_paused = True
        self._arrived.put(_Wake())

    def resume(self) -> None:
        """Go on after a pause."""
        self._is_paused = False
        self._arrived.put(_Wake())

    def stop(self) -> None:
        """End the run; what the model is at is given up and waits again."""
        self._is_stopping = True
        self._arrived.put(_Wake())

    def use(self, model: Model) -> None:
        """Ask this model from now on instead, once the other has finished what it is at.

        It must be the same one, loaded with other settings.
        """
        self._new_model = model
        self._arrived.put(_Wake())

    def change(self, settings: dict[str, Any]) -> None:
        """Load the model with other settings and use it; if it cannot be, say so in the note."""
        try:
            if self._loaded_with is not None:
                self.use(self._loaded_with(settings))
        except GgufWidgetsError as error:
            self._warning = f"The settings were not changed: {error.message} It goes on as it was."

    def progress(self) -> Progress:
        """Return where it stands."""
        speeds = self._meter.speeds()
        counts = self._counts
        return Progress(
            status=self._status,
            counts=counts,
            num_running=len(self._flying),
            rows_per_s=speeds[0] if speeds else None,
            tok_per_s=speeds[1] if speeds else None,
            left_s=self._meter.left_s(counts.waiting),
            elapsed_s=self._meter.elapsed_s,
            note=self._note or self._warning,
        )

    # -- the runner's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        status, error = RunStatus.FINISHED, None
        try:
            for number in range(self._plan.num_models()):
                if not self._plan.is_done(number):
                    self._with_model(number)
        except _Stopped:
            status = RunStatus.STOPPED
        except GgufWidgetsError as caught:
            status, error = RunStatus.FAILED, caught
        except Exception as caught:  # noqa: BLE001 - the run says so, and its rows are kept
            _log.exception("A batch run met an error it did not expect")
            status = RunStatus.FAILED
            error = BatchError(f"The run met an error that it did not expect: {caught}")
            error.__cause__ = caught
        finally:
            self._meter.rest()
            for request in self._requests.values():
                request.stop()
            self._finish(status, error)

    def _finish(self, status: RunStatus, error: GgufWidgetsError | None) -> None:
        wire: WireError | None = to_wire(error) if error is not None else None
        try:
            self._save()
            self._runs.set_status(self.run_id, status, wire)
        except GgufWidgetsError as caught:
            status, error = RunStatus.FAILED, error or caught
        finally:  # whoever waits must not wait for ever, whatever went wrong
            self._status, self.error, self._note = status, error, ""
            with _AT_IT_LOCK:
                _AT_IT.discard(self.run_id)
            self.ended.set()
        self._tell(now=True)

    def _with_model(self, number: int) -> None:
        """Ask everything of one model."""
        self._say("The model is being loaded")
        model = self._loaded(number)
        self._say("")
        line = Line(self._plan.questions(number), self._tasks.deaths())
        while not line.done:
            self._ask_all(model, line)
            if self._new_model is not None:
                model, self._new_model = self._new_model, None

    def _loaded(self, number: int) -> Model:
        while True:
            if self._is_stopping:
                raise _Stopped
            try:
                return self._plan.model(number)
            except (WorkerDiedError, WorkerStartError) as error:  # while it was being loaded
                self._count_failed_start(error)
                time.sleep(_START_AGAIN_S)

    def _count_failed_start(self, error: WorkerError) -> None:
        """Give the model's process another chance, but not for ever."""
        self._num_failed_starts += 1
        if self._num_failed_starts >= _MOST_FAILED_STARTS:
            raise error

    def _ask_all(self, model: Model, line: Line) -> None:
        """Ask until nothing waits, or the model is to be loaded anew."""
        most = min(_MOST_AT_ONCE, 4 * (model.settings.n_seq_max or 1) + 8)
        while True:
            if self._is_stopping:
                self._give_up(line)
                raise _Stopped
            self._follow_pause()
            asks = not (self._is_paused or self._unsaved or self._new_model is not None)
            if asks:
                self._fill(model, line, most)
            is_idle = not self._flying and not self._unsaved
            if is_idle and (line.done or self._new_model is not None):
                return
            self._receive(line)
            self._tell()

    def _follow_pause(self) -> None:
        wanted = RunStatus.PAUSED if self._is_paused else RunStatus.RUNNING
        if wanted is not self._status:
            if wanted is RunStatus.PAUSED:
                self._meter.rest()
            with contextlib.suppress(StoreError):  # it is a note; what counts is saved below
                self._runs.set_status(self.run_id, wanted)
            self._status = wanted
            self._tell(now=True)
        if wanted is RunStatus.RUNNING:
            self._meter.go()

    def _fill(self, model: Model, line: Line, most: int) -> None:
        while len(self._flying) < most and time.monotonic() >= self._not_before:
            if self._is_stopping or self._is_paused:
                return
            item = line.next(len(self._flying))
            if item is None:
                return
            if isinstance(item, Known):
                self._unsaved.append((item.outcome, item.key))
                if len(self._unsaved) >= _MOST_AT_ONCE:
                    return
            elif not self._is_answered(item):
                self._send(model, item, line)

    def _is_answered(self, question: Question) -> bool:
        """Whether the same has been asked before, or is being asked."""
        leader = self._leaders.get(question.key)
        if not question.alike or leader is question:  # that one is asked again
            return False
        if leader is not None:
            self._followers.setdefault(question.key, []).append(question)
            return True
        known = self._tasks.answer_to(question.key)
        if known is not None:
            self._unsaved.append((copy_of(known, question.number), question.key))
            return True
        self._leaders[question.key] = question
        return False

    def _send(self, model: Model, question: Question, line: Line) -> None:
        number = question.number
        self._flying[number] = question
        try:
            self._requests[number] = model.submit(
                question.messages,
                lambda end: self._arrived.put((number, end)),
                priority="batch",
                **question.sampling,
            )
        except (WorkerDiedError, WorkerStartError) as error:  # so this was not asked
            del self._flying[number]
            line.put_back(question)
            self._count_failed_start(error)
            self._not_before = time.monotonic() + _START_AGAIN_S
        except GgufWidgetsError as error:
            self._arrived.put((number, error))

    def _receive(self, line: Line) -> None:
        """Take what has arrived, all of it at once, and keep it."""
        arrived = []
        with contextlib.suppress(queue.Empty):
            wait = 0.0 if self._unsaved else self._patience()
            arrived.append(self._arrived.get(timeout=wait) if wait else self._arrived.get_nowait())
            while True:
                arrived.append(self._arrived.get_nowait())
        lost: list[Question] = []
        num_tokens = 0
        before = len(self._unsaved)
        for item in arrived:
            if isinstance(item, _Wake):
                continue
            number, end = item
            question = self._flying.pop(number)
            self._requests.pop(number, None)
            if isinstance(end, WorkerDiedError):
                lost.append(question)
            elif isinstance(end, WorkerBusyError):
                line.put_back(question)
                self._not_before = time.monotonic() + float(end.details.get("retry_after_s", 1.0))
            elif isinstance(end, _STOPS_ALL):
                raise end
            elif isinstance(end, Reply) and end.finish_reason is FinishReason.ABORTED:
                line.put_back(question)
            else:
                if isinstance(end, Reply):
                    self._num_failed_starts = 0
                    num_tokens += end.usage.num_completion_tokens
                self._end(question, outcome_of(question, end, line.attempts(number)))
        if lost:
            self._bury(lost, line)
        self._meter.add(len(self._unsaved) - before, num_tokens)
        self._save()

    def _patience(self) -> float:
        late = self._not_before - time.monotonic()
        return min(_LOOK_S, late) if late > 0 else _LOOK_S

    def _end(self, question: Question, outcome: Outcome) -> None:
        self._unsaved.append((outcome, question.key))
        self._leaders.pop(question.key, None)
        for follower in self._followers.pop(question.key, ()):
            self._unsaved.append((copy_of(outcome, follower.number), follower.key))
        if outcome.status is TaskStatus.DONE:
            self._has_done = True
        self._failed_in_a_row = 0 if self._has_done else self._failed_in_a_row + 1
        if self._failed_in_a_row >= _ALL_FAIL and outcome.error is not None:
            self._save()
            raise BatchError(
                f"The first {self._failed_in_a_row} rows all failed, the last with: "
                f"{outcome.error['message']} The run was stopped, so that you can look at it. "
                "The other rows wait; retry_failed() asks all of them again.",
                kind=outcome.error["kind"],
            )

    def _bury(self, lost: list[Question], line: Line) -> None:
        """Find out what to do with those whose process died."""
        with contextlib.suppress(StoreError):  # then they are counted for this session only
            self._tasks.count_deaths(question.number for question in lost)
        self._say("The model's process ended and is started again")
        for question in line.died(lost):
            error = WorkerDiedError(
                f"The model's process died {line.deaths(question.number)} times while this row was "
                "in it, the last two times with this row alone. It is not asked again by itself; "
                "retry_failed() would.",
                deaths=line.deaths(question.number),
            )
            self._end(question, failure_of(question, error, line.attempts(question.number)))

    def _give_up(self, line: Line) -> None:
        """Take back what the model is at; what ends in this moment still counts."""
        end = time.monotonic() + _STOP_S
        for request in list(self._requests.values()):
            request.stop()
        while self._flying and time.monotonic() < end:
            self._receive(line)
        self._flying.clear()
        self._requests.clear()

    def _save(self) -> None:
        if not self._unsaved:
            return
        try:
            self._tasks.save(self._unsaved)
        except StoreError as error:
            passes = error.details.get("reason") in _PASSES
            if self._is_stopping or self.ended.is_set() or not passes:
                raise
            if not self._note:
                _log.warning("A batch run waits for the store: %s", error.message)
            self._say(f"{error.message} The run waits until it can be written to.")
            self._meter.rest()
            time.sleep(_STORE_AGAIN_S)
            return
        saved, self._unsaved = self._unsaved, []
        self._say("")
        self._count([outcome for outcome, _ in saved])
        self._on_ended([outcome for outcome, _ in saved])

    def _count(self, ended: Sequence[Outcome]) -> None:
        found = dict.fromkeys(TaskStatus, 0)
        for outcome in ended:
            found[outcome.status] += 1
        counts = self._counts
        self._counts = Counts(
            waiting=counts.waiting - len(ended),
            done=counts.done + found[TaskStatus.DONE],
            failed=counts.failed + found[TaskStatus.FAILED],
            skipped=counts.skipped + found[TaskStatus.SKIPPED],
        )

    def _say(self, note: str) -> None:
        if note != self._note:
            self._note = note
            self._tell(now=True)

    def _tell(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            self._on_change()
