"""The run's end of one machine: questions go there, answers come back one by one.

Promises: a `places.Place`; each question that was asked has exactly one end, also when the machine
is lost: what it was at counts as lost with the model's process, what it had not been sent as given
back. What it answers is checked: its form, and that it was asked. One thread a machine; it ends
when the machine is lost or let go of. Leaves to others: which machines there are (`machines`), how
letters travel (`dask_client`).
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gguf_widgets.batch.cluster.checking import check_reply, error_of
from gguf_widgets.batch.cluster.dask_client import DaskClient, NoAnswerError, Sent
from gguf_widgets.batch.cluster.messages import (
    MAX_BYTES,
    Answered,
    Asking,
    Identity,
    Job,
    Letter,
    Report,
    decode,
    encode,
)
from gguf_widgets.batch.places import Asked, End, GivenBack, OnEnd
from gguf_widgets.batch.question import Question
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    ModelUnloadedError,
    ProtocolError,
    WorkerDiedError,
    WorkerStartError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.types import SamplingSettings

__all__ = ["Machine"]

_log = logging.getLogger(__name__)

WAIT_S: Final = 5.0  # that a letter waits at the machine for something to tell
SILENT_S: Final = 45.0  # without an answer beyond that, and the machine is taken for lost
_CLOSE_S: Final = 8.0
_LOOK_S: Final = 0.5
_GATHER_S: Final = 0.002  # what is asked at about the same time travels together
_LETTER_BYTES: Final = 1 << 20
_MOST_ROOM: Final = 512
# If a question ends so, it is the machine that cannot, and others can.
_ITS_FAULT: Final = (
    MissingDependencyError,
    ModelFileError,
    ModelLoadError,
    ModelUnloadedError,
    ProtocolError,
    WorkerStartError,
)


_OnItsWay = tuple[Sent, float]  # since when


class _Open:
    """A question that this machine has; a `places.Asked`."""

    def __init__(self, machine: Machine, number: int, on_end: OnEnd) -> None:
        self._machine, self._number = machine, number
        self.on_end = on_end
        self.is_sent = False

    def stop(self) -> None:
        self._machine.take_back(self._number)


class Machine:
    """One machine of a cluster, from when it is told of the run.

    Parameters
    ----------
    dask : DaskClient
    address : str
        Of the Dask worker that speaks for it.
    identity : Identity
    job : Job
    on_change : callable
        Called, in any thread, when its state has changed; it must return at once.

    Attributes
    ----------
    name : str
        Of this part of the run at this machine; drawn by lot.
    state : str
        "loading", "ready", "refused" (it cannot take part: `reason`), "lost" or "closed".
    """

    def __init__(
        self,
        dask: DaskClient,
        address: str,
        identity: Identity,
        job: Job,
        *,
        on_change: Callable[[], object],
    ) -> None:
        self.address, self.identity = address, identity
        self.name = secrets.token_hex(16)
        self.state = "loading"
        self.phrase, self.fraction, self.reason = "", 0.0, ""
        self._dask, self._job, self._on_change = dask, job, on_change
        self._room = 0
        self._lock = threading.Lock()
        self._open: dict[int, _Open] = {}
        self._to_send: deque[tuple[int, bytes, Asking]] = deque()
        self._to_stop: list[int] = []
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._quick: _OnItsWay | None = None  # a letter that is answered at once
        self._slow: _OnItsWay | None = None  # one that waits for something to tell
        self._is_closing = False
        self._lost_for = ""
        self._thread = threading.Thread(
            target=self._run, name=f"gguf-widgets-cluster-{address}", daemon=True
        )
        self._thread.start()

    # -- any thread -------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """What to call it, for a person."""
        return plain_text(f"{self.identity.host} ({self.address})", 120)

    @property
    def room(self) -> int:
        """How many questions it may have at a time."""
        return self._room

    def ask(self, question: Question, on_end: OnEnd) -> Asked:
        """Ask without waiting; see `places.Place`."""
        asking = Asking(
            number=question.number,
            messages=to_messages(question.messages),  # refuses what cannot be written
            sampling=SamplingSettings.from_keywords(**question.sampling),
        )
        data = encode(asking)
        if len(data) > MAX_BYTES // 2:
            raise InvalidValueError(
                f"This row's prompt has {format_bytes(len(data))}; at most "
                f"{format_bytes(MAX_BYTES // 2)} can be sent to a machine.",
                limit=MAX_BYTES // 2,
            )
        entry = _Open(self, question.number, on_end)
        with self._lock:
            has_ended = self.state != "ready"
            if not has_ended:
                self._open[question.number] = entry
                self._to_send.append((question.number, data, asking))
        if has_ended:
            on_end(GivenBack())
        self._woken.put(None)
        return entry

    def take_back(self, number: int) -> None:
        """Stop a question; its end is still told."""
        with self._lock:
            entry = self._open.get(number)
            if entry is not None and entry.is_sent:
                self._to_stop.append(number)
                entry = None
            elif entry is not None:
                del self._open[number]
                self._to_send = deque(one for one in self._to_send if one[0] != number)
        if entry is not None:
            entry.on_end(GivenBack())
        self._woken.put(None)

    def lose(self, why: str) -> None:
        """Say that the machine has gone."""
        self._lost_for = why
        self._woken.put(None)

    def close(self) -> None:
        """Ask it to end; see `join`."""
        self._is_closing = True
        self._woken.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_s)

    # -- its thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        state, reason = "lost", ""
        try:
            state = self._talk()
        except NoAnswerError as error:
            reason = str(error)
        except GgufWidgetsError as error:
            state, reason = "refused", error.message
        except Exception as error:  # noqa: BLE001 - the run goes on without it
            _log.exception("The connection to a machine met an error it did not expect")
            reason = f"{type(error).__name__}: {error}"
        self._end(state, reason)
        self._say_goodbye(_CLOSE_S if state == "closed" else _LOOK_S)

    def _talk(self) -> str:
        """Send letters and take reports until the machine is let go of, or it raises."""
        self._quick = self._send(self._letter(first=True), waits=False)
        while True:
            if self._lost_for:
                raise NoAnswerError(self._lost_for)
            if self._is_closing:
                return "closed"
            self._quick, had_more = self._take(self._quick, 0.0)
            self._slow, has_more = self._take(self._slow, WAIT_S)
            is_due = self._to_send or self._to_stop or had_more or has_more
            if self._quick is None and is_due:
                self._quick = self._send(self._letter(), waits=False)
            if self._slow is None and (self._quick is None or self.state != "loading"):
                self._slow = self._send(Letter(station=self.name, wait_s=WAIT_S), waits=True)
            with contextlib.suppress(queue.Empty):
                self._woken.get(timeout=_LOOK_S)
                time.sleep(_GATHER_S)
                while True:
                    self._woken.get_nowait()

    def _letter(self, *, first: bool = False) -> Letter:
        ask: list[Asking] = []
        size = 0
        with self._lock:
            while self._to_send and (not ask or size + len(self._to_send[0][1]) <= _LETTER_BYTES):
                number, data, asking = self._to_send.popleft()
                self._open[number].is_sent = True
                ask.append(asking)
                size += len(data)
            stop, self._to_stop = self._to_stop, []
        return Letter(station=self.name, job=self._job if first else None, ask=ask, stop=stop)

    def _send(self, letter: Letter, *, waits: bool) -> _OnItsWay:
        sent = self._dask.send(self.address, encode(letter), waits=waits)
        sent.when_done(lambda: self._woken.put(None))
        return sent, time.monotonic()

    def _take(self, sent: _OnItsWay | None, waits_s: float) -> tuple[_OnItsWay | None, bool]:
        """Take the report of a letter if it has come; return the letter if not."""
        if sent is None:
            return None, False
        if not sent[0].is_done:
            silent = time.monotonic() - sent[1] - waits_s
            if silent > SILENT_S:
                raise NoAnswerError(f"It has not answered for {silent + waits_s:.0f} seconds.")
            return sent, False
        report = decode(sent[0].result(), Report)
        self._heed(report)
        return None, report.has_more

    def _heed(self, report: Report) -> None:
        fault: GgufWidgetsError | None = None
        for answered in report.answered:
            try:
                self._answered(answered)
            except GgufWidgetsError as error:  # the others in this report are answered all the same
                fault = fault or error
        if fault is not None:
            raise fault
        if report.state == "unknown":
            raise NoAnswerError("It was started again, or has waited for this run too long.")
        if report.error is not None or report.state == "failed":
            raise self._error_of(report)
        self._room = min(max(self._room, report.room, 1), _MOST_ROOM)
        # Of two letters, the one that was answered first may come last.
        state = "ready" if "ready" in (report.state, self.state) else "loading"
        phrase = plain_text(report.phrase, 120)
        if (state, phrase, report.fraction) != (self.state, self.phrase, self.fraction):
            self.state, self.phrase = state, phrase
            self.fraction = min(max(0.0, report.fraction), 1.0)
            self._on_change()

    def _error_of(self, report: Report) -> GgufWidgetsError:
        if report.error is None:
            return ProtocolError("It failed and did not say why.")
        return error_of(report.error)

    def _answered(self, answered: Answered) -> None:
        with self._lock:
            entry = self._open.get(answered.number)
            is_asked = entry is not None and entry.is_sent
            if is_asked:
                del self._open[answered.number]
        if entry is None or not is_asked:  # one that waits to be sent still has its end to come
            raise ProtocolError(f"It answered what it was not asked: row {answered.number}.")
        end: End = GivenBack()
        fault: GgufWidgetsError | None = None
        if answered.error is not None:
            error = error_of(answered.error)
            fault = error if isinstance(error, _ITS_FAULT) else None
            end = end if fault is not None else error
        elif answered.reply is not None:
            try:
                check_reply(answered.reply)
                end = answered.reply
            except ProtocolError as error:
                fault = error
        entry.on_end(end)
        if fault is not None:
            raise fault

    def _end(self, state: str, reason: str) -> None:
        """Tell the end of all that is open here."""
        # A scheduler that is gone says nothing of the machines, nor of their rows.
        is_its_own = state != "closed" and self._dask.state == "running"
        with self._lock:
            self.state, self.reason, self._room = state, reason, 0
            left, self._open = list(self._open.values()), {}
            self._to_send.clear()
        for entry in left:
            if entry.is_sent and is_its_own:
                entry.on_end(WorkerDiedError(f"The machine {self.label} was lost: {reason}"))
            else:
                entry.on_end(GivenBack())
        if state in ("lost", "refused"):
            _log.warning("The machine %s takes no part any more: %s", self.label, reason)
        self._on_change()

    def _say_goodbye(self, patience_s: float) -> None:
        """Have the machine give the model up; if it does not hear, its lease ends."""
        sent = [one[0] for one in (self._quick, self._slow) if one is not None]
        if not self._lost_for and self._dask.state == "running":
            with contextlib.suppress(NoAnswerError):
                letter = encode(Letter(station=self.name, close=True))
                sent.append(self._dask.send(self.address, letter, waits=False))
                sent[-1].when_done(lambda: self._woken.put(None))
            end = time.monotonic() + patience_s  # the others have their answer then, too
            while not all(one.is_done for one in sent) and time.monotonic() < end:
                with contextlib.suppress(queue.Empty):
                    self._woken.get(timeout=_LOOK_S)
        for one in sent:
            one.drop()
