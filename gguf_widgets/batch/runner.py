"""Carries out a run: one thread asks, receives and keeps.

Promises: the model always has enough to do, and no more than that is on its way; where there are
several places, each gets its share; every answer is in the store before it is told of, and nobody
else writes there; a row that fails does not stop the run, and what would fail every row does; a
model's process that dies is started again and what was in it asked again (`line`); a store that
cannot be written to pauses the run and loses nothing; `pause` and `stop` work at any moment, `stop`
within seconds, also from other processes (`steering`). Leaves to others: what is asked
(`questions`, `alike`), where (`places`), which model (whoever makes it), what a person sees
(`run`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from gguf_widgets.batch.alike import Alike
from gguf_widgets.batch.flights import Flights
from gguf_widgets.batch.keeping import Keeping
from gguf_widgets.batch.line import Line
from gguf_widgets.batch.outcomes import failure_of, outcome_of
from gguf_widgets.batch.places import GivenBack, Place, Places
from gguf_widgets.batch.progress import Meter, Progress
from gguf_widgets.batch.question import Known, Question
from gguf_widgets.batch.steering import steer
from gguf_widgets.core import request_events
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
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, TaskStatus
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
# But for these: a request with an image, the others without; one with a schema of its own.
_OF_ONE: Final = ("no_mmproj", "ends_with_image")
_OWN_RULES: Final = (GrammarError, UnsupportedByModelError, UnsupportedSchemaError)
_ALL_FAIL: Final = 20  # so many failures before anything went well are no accident
_MOST_FAILED_STARTS: Final = 5  # of the model's process, one after another
_START_AGAIN_S: Final = 1.0
_STORE_AGAIN_S: Final = 2.0
_STOP_S: Final = 15.0
_TELL_S: Final = 0.1
_MOST_KNOWN: Final = 512  # that are saved at once

# The runs that this process carries out: the store tells only processes apart.
_AT_IT: Final[set[str]] = set()
_AT_IT_LOCK: Final = threading.Lock()


class Plan(Protocol):
    """What the runner needs to know of a run."""

    def num_models(self) -> int:
        """Return how many models there are."""

    def is_done(self, number: int) -> bool:
        """Say whether all tasks of a model have ended."""

    def places(
        self, number: int, on_change: Callable[[], object], is_stopped: Callable[[], bool]
    ) -> Places:
        """Return where a model is asked.

        `on_change` is called, in any thread, when there are others than before; `is_stopped` says
        whether nobody waits any more.
        """

    def questions(self, number: int) -> Iterable[Question | Known]:
        """Return what has not ended of a model's tasks, in the order to ask them."""


class _Stopped(Exception):  # noqa: N818 - no error: a person's wish
    """The run was asked to stop."""


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
    places_with : callable, optional
        Loads the run's model with other settings, for `change`.
    """

    def __init__(
        self,
        run_id: str,
        store: Store,
        plan: Plan,
        *,
        on_ended: Callable[[Sequence[Outcome]], None] = lambda _ended: None,
        on_change: Callable[[], object] = lambda: None,
        places_with: Callable[[dict[str, Any]], Places] | None = None,
    ) -> None:
        self.run_id = run_id
        self._runs, self._tasks = BatchRuns(store), RunTasks(store, run_id)
        self._plan = plan
        self._on_change = on_change
        self._places_with = places_with
        self._flights = Flights()
        self._alike = Alike(self._tasks)
        self._keeping = Keeping(self._tasks, on_ended)
        self._places: Places | None = None
        self._new_places: Places | None = None
        self._is_paused = self._is_stopping = False
        self._note = self._warning = ""
        self._failed_in_a_row = self._num_failed_starts = 0
        self._has_done = False
        self._told = 0.0
        self._meter = Meter()
        self._status = RunStatus.READY
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
        self.wake()

    def resume(self) -> None:
        """Go on after a pause."""
        self._is_paused = False
        self.wake()

    def stop(self) -> None:
        """End the run; what the model is at is given up and waits again."""
        self._is_stopping = True
        self.wake()

    def use(self, places: Places) -> None:
        """Ask there from now on instead, once the others have finished what they are at.

        It must be the same model, loaded with other settings.
        """
        self._new_places = places
        self.wake()

    def wake(self) -> None:
        """Have the runner look around: something is other than before."""
        self._flights.ends.put(None)

    def change(self, settings: dict[str, Any]) -> None:
        """Have the model with other settings and use it; if it cannot be, say so in the note."""
        try:
            if self._places_with is not None:
                self.use(self._places_with(settings))
        except GgufWidgetsError as error:
            self._warning = f"The settings were not changed: {error.message} It goes on as it was."

    def progress(self) -> Progress:
        """Return where it stands."""
        speeds = self._meter.speeds()
        counts, places = self._keeping.counts, self._places
        return Progress(
            status=self._status,
            counts=counts,
            num_running=len(self._flights),
            num_at_once=places.num_at_once if places is not None else None,
            rows_per_s=speeds[0] if speeds else None,
            tok_per_s=speeds[1] if speeds else None,
            left_s=self._meter.left_s(counts.waiting),
            elapsed_s=self._meter.elapsed_s,
            note=self._note or self._warning or (places.note if places is not None else ""),
        )

    # -- the runner's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        status, error = RunStatus.FINISHED, None
        request_events.RUN_ID.set(self.run_id)  # of this thread: whoever listens can tell whose
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
            self._flights.stop()
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
        self._places = self._loaded(number)
        try:
            self._say("")
            line = Line(self._plan.questions(number), self._tasks.deaths())
            while not line.done:
                self._ask_all(self._places, line)
                if self._new_places is not None:
                    self._places.close()
                    self._places, self._new_places = self._new_places, None
        finally:
            places, self._places = self._places, None
            places.close()

    def _loaded(self, number: int) -> Places:
        while True:
            if self._is_stopping:
                raise _Stopped
            try:
                return self._plan.places(number, self.wake, lambda: self._is_stopping)
            except (WorkerDiedError, WorkerStartError) as error:  # while it was being loaded
                self._count_failed_start(error)
                time.sleep(_START_AGAIN_S)
            except GgufWidgetsError:
                if self._is_stopping:  # so it was given up
                    raise _Stopped from None
                raise

    def _count_failed_start(self, error: WorkerError) -> None:
        """Give the model's process another chance, but not for ever."""
        self._num_failed_starts += 1
        if self._num_failed_starts >= _MOST_FAILED_STARTS:
            raise error

    def _ask_all(self, places: Places, line: Line) -> None:
        """Ask until nothing waits, or others are to be asked."""
        while True:
            if self._is_stopping:
                self._give_up(line)
                raise _Stopped
            self._follow_pause()
            current = places.current()
            line.keep_to(place.name for place in current)
            waits = bool(self._keeping.waiting)
            if not (self._is_paused or waits or self._new_places is not None):
                self._fill(current, line)
            is_idle = not self._flights and not self._keeping.waiting
            if is_idle and (line.done or self._new_places is not None):
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

    def _fill(self, places: Sequence[Place], line: Line) -> None:
        """Give each place enough to do, whoever has least for its room first."""
        able = list(places)
        while able and not (self._is_stopping or self._is_paused):
            place = min(able, key=self._flights.load_of)
            if self._flights.load_of(place) >= 1 or self._flights.is_left_alone(place):
                able.remove(place)
                continue
            item = line.next(place.name, self._flights.at(place))
            if item is None:
                able.remove(place)
                continue
            known = self._alike.is_answered(item) if isinstance(item, Question) else item.outcome
            if isinstance(known, Outcome):
                self._keeping.add([(known, item.key)])
                if len(self._keeping.waiting) >= _MOST_KNOWN:
                    return
            elif not known and isinstance(item, Question):
                self._send(place, item, line)

    def _send(self, place: Place, question: Question, line: Line) -> None:
        try:
            self._flights.begin(question, place)
        except (WorkerDiedError, WorkerStartError) as error:  # so this was not asked
            line.put_back(question)
            self._count_failed_start(error)
            self._flights.leave_alone(place.name, _START_AGAIN_S)

    def _receive(self, line: Line) -> None:
        """Take what has arrived, all of it at once, and keep it."""
        lost: dict[str, list[Question]] = {}
        num_tokens = 0
        before = len(self._keeping.waiting)
        for number, end in self._flights.take(wait=not self._keeping.waiting):
            question, place = self._flights.landed(number)
            if isinstance(end, WorkerDiedError):
                lost.setdefault(place, []).append(question)
            elif isinstance(end, WorkerBusyError):
                line.put_back(question)
                late = float(end.details.get("retry_after_s", 1.0))
                self._flights.leave_alone(place, late)
            elif isinstance(end, _STOPS_ALL) and not _is_of_one(question, end):
                raise end
            elif isinstance(end, GivenBack) or (
                isinstance(end, Reply) and end.finish_reason is FinishReason.ABORTED
            ):
                line.put_back(question)
            else:
                if isinstance(end, Reply):
                    self._num_failed_starts = 0
                    num_tokens += end.usage.num_completion_tokens
                self._end(question, outcome_of(question, end, line.attempts(number)))
        for place, questions in lost.items():
            self._bury(questions, place, line)
        self._meter.add(len(self._keeping.waiting) - before, num_tokens)
        self._save()

    def _end(self, question: Question, outcome: Outcome) -> None:
        self._keeping.add(self._alike.ended(question, outcome))
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

    def _bury(self, lost: list[Question], place: str, line: Line) -> None:
        """Find out what to do with those whose process died."""
        with contextlib.suppress(StoreError):  # then they are counted for this session only
            self._tasks.count_deaths(question.number for question in lost)
        self._say("The model's process ended; what was in it is asked again")
        for question in line.died(lost, place):
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
        self._flights.stop()
        while self._flights and time.monotonic() < end:
            self._receive(line)
        self._flights.forget()

    def _save(self) -> None:
        if not self._keeping.waiting:
            return
        may_wait = not (self._is_stopping or self.ended.is_set())
        error = self._keeping.save(may_wait=may_wait)
        if error is None:
            self._say("")
            return
        if not self._note:
            _log.warning("A batch run waits for the store: %s", error.message)
        self._say(f"{error.message} The run waits until it can be written to.")
        self._meter.rest()
        time.sleep(_STORE_AGAIN_S)

    def _say(self, note: str) -> None:
        if note != self._note:
            self._note = note
            self._tell(now=True)

    def _tell(self, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            self._on_change()


def _is_of_one(question: Question, error: GgufWidgetsError) -> bool:
    """Say whether what would mostly be the same for every row is this one's alone."""
    if error.details.get("problem") in _OF_ONE:
        return True
    return question.has_own_rules and isinstance(error, _OWN_RULES)
