"""A machine's own part of a run: it has the model ready, asks it, and keeps what it answers.

Promises: `exchange` is all that the run calls, and it never waits longer than it is told to; the
model is the very file that the run is about, also when its process has to be started again; when
the run lets go, or has not been heard of for a while, the model is given up, and its process ends
unless somebody else uses it. If this process is killed, the model's sees its connection close and
ends, too. Leaves to others: what is asked, and what becomes of it (`runner`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import gguf_widgets
from gguf_widgets.batch.cluster.messages import (
    PROTOCOL,
    Answered,
    Asking,
    Fault,
    Identity,
    Job,
    Letter,
    Report,
    decode,
    encode,
)
from gguf_widgets.batch.cluster.model_file import find, is_same
from gguf_widgets.core.config import runtime_dir
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    ModelFileError,
    WorkerDiedError,
    WorkerError,
    WorkerStartError,
    to_wire,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.model_submit import Submitted
from gguf_widgets.core.types import Reply

__all__ = ["exchange", "identify"]

_log = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 10.0  # of the model's process, when this one is killed
_MOST_WAIT_S: Final = 30.0
_LEASE_S: Final = (2.0, 600.0)
_MOST_FAILED_STARTS: Final = 5
_START_AGAIN_S: Final = 1.0
_GATHER_S: Final = 0.01  # what ends at about the same time travels together
_MOST_ANSWERS: Final = 512
_MOST_ANSWER_BYTES: Final = 4 << 20
_MOST_STATIONS: Final = 64

_STATIONS: Final[dict[str, Station]] = {}
_LOCK: Final = threading.Lock()


def identify(name: str = "") -> bytes:
    """Return who this machine is, as an `Identity`."""
    user = str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    who = "\0".join((platform.node(), user, str(runtime_dir())))
    return encode(
        Identity(
            version=gguf_widgets.__version__,
            protocol=PROTOCOL,
            machine=hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()[:16],
            host=platform.node(),
            name=name,
            pid=os.getpid(),
        )
    )


def exchange(data: bytes) -> bytes:
    """Take a `Letter` and return a `Report`.

    Raises
    ------
    ProtocolError
        It is no letter.
    """
    letter = decode(data, Letter)
    with _LOCK:
        station = _STATIONS.get(letter.station)
        if station is None and letter.job is not None and not letter.close:
            if len(_STATIONS) >= _MOST_STATIONS:
                raise WorkerError(
                    f"{len(_STATIONS)} runs are at this machine already; that is the most.",
                    limit=_MOST_STATIONS,
                )
            station = _STATIONS[letter.station] = Station(letter.station, letter.job)
    if station is None:
        return encode(Report(state="unknown"))
    return encode(station.take(letter))


class Station:
    """One run at this machine.

    Parameters
    ----------
    token : str
    job : Job
    """

    def __init__(self, token: str, job: Job) -> None:
        self.token = token
        self._job = job
        self._lease_s = min(max(job.lease_s, _LEASE_S[0]), _LEASE_S[1])
        self._heard = time.monotonic()
        self._changed = threading.Condition()
        self._num_changes = self._num_told = 0
        self._state: Any = "loading"
        self._phrase, self._fraction = "Looking for the model's file", 0.0
        self._error: GgufWidgetsError | None = None
        self._closed = threading.Event()
        self._waiting: queue.SimpleQueue[Asking | None] = queue.SimpleQueue()
        self._asked: dict[int, Submitted | None] = {}
        self._answered: deque[Answered] = deque()
        self._model: Model | None = None
        self._path: Path | None = None
        self._start("work", self._work)
        self._start("lease", self._watch)

    def take(self, letter: Letter) -> Report:
        """Do what a letter says and return what there is to tell, waiting for it if asked to."""
        self._heard = time.monotonic()
        if letter.close:
            self.close()
            return self._report()
        with self._changed:
            for asking in letter.ask:
                self._asked[asking.number] = None
        for asking in letter.ask:
            self._waiting.put(asking)
        for number in letter.stop:
            self._stop(number)
        if letter.wait_s > 0:
            self._wait(min(letter.wait_s, _MOST_WAIT_S))
            self._heard = time.monotonic()
        return self._report()

    def close(self) -> None:
        """Give the model up; what is under way is taken back."""
        self._closed.set()
        self._waiting.put(None)
        with _LOCK:
            _STATIONS.pop(self.token, None)
        self._tell()

    # -- inside: any thread -----------------------------------------------------------------------

    def _start(self, what: str, target: Any) -> None:
        threading.Thread(
            target=target, name=f"gguf-widgets-cluster-{what}-{self.token[:8]}", daemon=True
        ).start()

    def _tell(self) -> None:
        with self._changed:
            self._num_changes += 1
            self._changed.notify_all()

    def _wait(self, limit_s: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._answered or self._num_changes != self._num_told or self._closed.is_set()
                ),
                limit_s,
            )
        self._closed.wait(_GATHER_S)

    def _report(self) -> Report:
        answered: list[Answered] = []
        state = self._state  # before the error, which is there first
        with self._changed:
            size = 0
            while self._answered and len(answered) < _MOST_ANSWERS and size < _MOST_ANSWER_BYTES:
                answered.append(self._answered.popleft())
                size += len(encode(answered[-1]))
            more, error = bool(self._answered), self._error
            self._num_told = self._num_changes
        model = self._model
        return Report(
            state=state,
            phrase=self._phrase,
            fraction=self._fraction,
            room=2 * (model.settings.n_seq_max or 1) + 4 if model is not None else 0,
            answered=answered,
            has_more=more,
            error=_fault(error) if error is not None else None,
        )

    def _stop(self, number: int) -> None:
        with self._changed:
            asked = self._asked.pop(number, None)
        if asked is not None:
            asked.stop()  # its end still comes
        # One that has not been asked yet is left out by `_work`, since it is not in `_asked`.

    def _end(self, number: int, end: Reply | GgufWidgetsError) -> None:
        if isinstance(end, Reply):
            answer = Answered(number=number, reply=end)
        else:
            answer = Answered(number=number, error=_fault(end))
        with self._changed:
            self._asked.pop(number, None)
            self._answered.append(answer)
            self._num_changes += 1
            self._changed.notify_all()

    # -- inside: threads of the station -----------------------------------------------------------

    def _watch(self) -> None:
        """Close when the run has not been heard of for too long."""
        while not self._closed.wait(min(1.0, self._lease_s / 4)):
            if time.monotonic() - self._heard > self._lease_s:
                _log.warning(
                    "Run %s has not been heard of for %.0f s: its model is given up here",
                    self._job.run_id[:8],
                    self._lease_s,
                )
                self.close()

    def _work(self) -> None:
        """Have the model ready and ask it, until the end."""
        with ModelManager(keep_alive=KEEP_ALIVE_S) as manager:
            try:
                self._model = model = self._loaded(manager)
                self._state, self._phrase = "ready", ""
                self._tell()
                self._ask_all(model)
            except GgufWidgetsError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - the run is told
                _log.exception("A machine of a cluster met an error it did not expect")
                self._fail(WorkerError(f"The machine met an error it did not expect: {error!r}"))
            finally:
                for asked in list(self._asked.values()):
                    if asked is not None:
                        asked.stop()
                if self._model is not None:
                    self._model.unload()  # its process ends, unless somebody else uses it

    def _fail(self, error: GgufWidgetsError) -> None:
        if self._closed.is_set():
            return
        _log.warning("This machine takes no part in run %s: %s", self._job.run_id[:8], error)
        self._error, self._state = error, "failed"
        self._tell()

    def _loaded(self, manager: ModelManager) -> Model:
        job = self._job
        self._path = find(job.model, say=self._say, cancel=self._closed.is_set)
        settings = dict(job.settings)
        adapters = [
            (str(find(file, say=self._say, cancel=self._closed.is_set)), scale)
            for file, scale in job.adapters
        ]
        if adapters:
            settings["lora"] = adapters
        if job.companion is not None:
            settings["mmproj"] = str(find(job.companion, cancel=self._closed.is_set))
        if job.chat_template is not None:
            settings["chat_template"] = job.chat_template
        num_failed = 0
        while True:
            try:
                self._model = manager.load(
                    self._path, backend=job.backend, on_progress=self._progress, **settings
                )
            except (WorkerDiedError, WorkerStartError):
                num_failed += 1
                if num_failed == _MOST_FAILED_STARTS or self._closed.wait(_START_AGAIN_S):
                    raise
            else:
                self._check_again()  # it may have been replaced while it was loaded
                return self._model

    def _say(self, phrase: str, fraction: float) -> None:
        if phrase != self._phrase or fraction - self._fraction >= 0.01 or fraction < self._fraction:
            self._phrase, self._fraction = phrase, fraction
            self._tell()

    def _progress(self, fraction: float, phrase: str) -> bool:
        self._say(phrase, fraction)
        return not self._closed.is_set()

    def _check_again(self) -> None:
        """Raise `ModelFileError` if the file is another one by now."""
        seen: list[str] = []
        if self._path is not None and not is_same(self._job.model, self._path, seen=seen):
            what = seen[0] if seen else f"there is no file at {self._path} any more"
            raise ModelFileError(
                f"The model's file on this machine was replaced: {what}.", path=str(self._path)
            )

    def _ask_all(self, model: Model) -> None:
        num_failed_starts = 0
        while not self._closed.is_set():
            asking = self._waiting.get()
            while asking is not None and not self._closed.is_set():
                if asking.number not in self._asked:
                    self._given_back(asking.number)
                    break
                if model.pid is None:  # its process is started again, from this file
                    self._check_again()
                try:
                    self._ask(model, asking)
                    num_failed_starts = 0
                    break
                except (WorkerDiedError, WorkerStartError):
                    num_failed_starts += 1
                    if num_failed_starts >= _MOST_FAILED_STARTS:
                        raise
                    self._closed.wait(_START_AGAIN_S)

    def _ask(self, model: Model, asking: Asking) -> None:
        number = asking.number
        try:
            submitted = model.submit(
                asking.messages,
                lambda end: self._end(number, end),
                priority="batch",
                **asking.sampling.to_dict(),
            )
        except (WorkerDiedError, WorkerStartError):
            raise
        except GgufWidgetsError as error:
            self._end(number, error)
            return
        with self._changed:
            if number in self._asked:  # not answered, nor stopped, in this moment
                self._asked[number] = submitted
                return
        submitted.stop()

    def _given_back(self, number: int) -> None:
        """Tell of a question that was taken back before it was asked: nothing came of it."""
        with self._changed:
            self._answered.append(Answered(number=number))
            self._num_changes += 1
            self._changed.notify_all()


def _fault(error: GgufWidgetsError) -> Fault:
    wire = to_wire(error)
    details: dict[str, Any] = {}
    for name, value in wire["details"].items():
        with contextlib.suppress(TypeError):  # whatever cannot travel is left out; the words are
            encode(Fault(kind="", message="", details={name: value}))
            details[name] = value
    return Fault(kind=wire["kind"], message=wire["message"], details=details)
