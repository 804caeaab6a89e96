"""Long work on model files that a picker's page watches: what is under way, and how far it is.

Promises: one check and one conversion at a time, and what comes meanwhile waits for its turn; a
model has one job at most; a page is told of each change at once and of progress a few times a
second; every job can be stopped, and all of them end with the widget. Leaves to others: the work
itself (`core.care`) and the words of what came of it (`_picker_care_words`).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.errors import FileChangeError, GgufWidgetsError
from gguf_widgets.core.format import format_bytes, format_duration, format_rate
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._words import as_known

__all__ = ["Job", "Jobs"]

Content = dict[str, Any]
Kind = Literal["check", "convert", "remove", "restore"]
State = Literal["waiting", "working", "stopping", "done", "failed", "stopped"]

# Three jobs can be under way: together they stay below ten messages a second.
_TELL_EVERY_S: Final = 0.4
_ACTIVE: Final = ("waiting", "working", "stopping")
# A stopped job asks for that after each piece of its work.
_END_TIMEOUT_S: Final = 10.0

_VERBS: Final[dict[Kind, str]] = {
    "check": "being checked",
    "convert": "being copied to a smaller size",
    "remove": "being moved to the trash",
    "restore": "being put back",
}
_PHRASES: Final[dict[Kind, str]] = {
    "check": "Reading the file",
    "convert": "Getting ready",
    "remove": "Copying to the trash, which is on another disk",
    "restore": "Copying back from the trash, which is on another disk",
}
_WAITS: Final[dict[Kind, str]] = {
    "check": "Waits until another file is checked",
    "convert": "Waits until another smaller copy is ready",
    "remove": "Waits",
    "restore": "Waits",
}
# Before that a speed is an accident.
_SETTLED_S: Final = 1.0
# From here on a new file is complete and is being made safe on the disk.
_NEARLY: Final = 0.985

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


@dataclass(eq=False)
class Job:
    """One piece of long work.

    Attributes
    ----------
    key : str
        The model's path, or "trash:" and the id of what is in the trash.
    kind : {"check", "convert", "remove", "restore"}
    about : str
        What it makes or reads, for a sentence.
    """

    key: str
    kind: Kind
    about: str = ""
    state: State = "waiting"
    progress: Progress | None = None
    result: Content | None = None
    error: Content | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    stop: threading.Event = field(default_factory=threading.Event)
    told_at: float = 0.0

    @property
    def is_active(self) -> bool:
        """Whether it waits for its turn or is under way."""
        return self.state in _ACTIVE

    def view(self) -> Content:
        """Return it as the page shows it."""
        progress = self.progress
        return {
            "key": self.key,
            "number": self.number,
            "kind": self.kind,
            "state": self.state,
            "about": self.about,
            "phrase": self._phrase(),
            "fraction": None if progress is None else min(1.0, progress.fraction),
            "amount": "" if progress is None else _amount(progress),
            "speed": "" if progress is None else _speed(progress),
            "left": "" if progress is None else _left(progress),
            "result": self.result,
            "error": self.error,
        }

    def _phrase(self) -> str:
        if self.state == "waiting":
            return _WAITS[self.kind]
        if self.state == "stopping":
            return "Stopping"
        if self.kind == "convert" and self.progress is not None:
            whole = self.progress.fraction >= _NEARLY
            return "Making sure that it is safe on the disk" if whole else "Writing the copy"
        return _PHRASES[self.kind]


class Jobs:
    """One picker's jobs, by model.

    Parameters
    ----------
    send : callable
        Takes a message for the page; called from several threads.
    changed : callable
        Called when a job has ended or is gone from the list.
    """

    def __init__(self, send: Callable[[Content], object], changed: Callable[[], object]) -> None:
        self._send, self._changed = send, changed
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._closed = False
        self._lanes = {
            kind: Actor(f"ModelPicker-{kind}", self._run) for kind in ("check", "convert")
        }

    def of(self, key: str) -> Job | None:
        """Return a model's job, also one that has ended and is still shown."""
        with self._lock:
            return self._jobs.get(key)

    def views(self) -> list[Content]:
        """Return all of them as the page shows them."""
        with self._lock:
            jobs = list(self._jobs.values())
        return [job.view() for job in jobs]

    def refuse_if_active(self, key: str) -> None:
        """Refuse to do something to a model that a job is at.

        Raises
        ------
        FileChangeError
            "at_work".
        """
        job = self.of(key)
        if job is not None and job.is_active:
            raise _at_work(job)

    def begin(self, job: Job) -> None:
        """Put it on the list, for whoever does its work in a thread of their own.

        Raises
        ------
        FileChangeError
            "at_work": the model has another one.
        """
        with self._lock:
            there = self._jobs.get(job.key)
            if there is not None and there.is_active:
                raise _at_work(there)
            self._jobs[job.key] = job
            if self._closed:
                job.stop.set()

    def start(self, job: Job, work: Callable[[Job], Content]) -> None:
        """Do it in the background when it is its turn.

        Parameters
        ----------
        job : Job
            A check or a conversion.
        work : callable
            Does it and returns what the page shows of the result; reports by `report` and stops by
            `job.stop`.

        Raises
        ------
        FileChangeError
            "at_work": the model has another one.
        """
        self.begin(job)
        self._tell(job)
        self._lanes[job.kind].post((job, work))

    def report(self, job: Job, progress: Progress) -> None:
        """Note how far it is, and tell the page of it now and then."""
        job.progress = progress
        now = time.monotonic()
        if now - job.told_at >= _TELL_EVERY_S:
            job.told_at = now
            self._tell(job)

    def stop(self, key: str) -> None:
        """Stop it; without one nothing happens."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or not job.is_active:
                return
            job.stop.set()
            # One that still waits is not at anything that would have to be brought to an end.
            job.state = "stopped" if job.state == "waiting" else "stopping"
        self._tell(job)

    def end(self, job: Job) -> None:
        """Take it off the list."""
        with self._lock:
            if self._jobs.get(job.key) is job:
                del self._jobs[job.key]
        if job.told_at or not job.is_active:  # else no page has ever seen it
            self._changed()

    def dismiss(self, key: str) -> None:
        """Take one off the list that has ended."""
        job = self.of(key)
        if job is not None and not job.is_active:
            self.end(job)

    def rename(self, old: str, new: str) -> None:
        """Follow a model that has another path now."""
        with self._lock:
            job = self._jobs.pop(old, None)
            if job is not None:
                job.key = new
                self._jobs[new] = job

    def forget(self, listed: Collection[str]) -> None:
        """Forget what came of jobs on models that are not listed any more."""
        with self._lock:
            for key, job in list(self._jobs.items()):
                if not job.is_active and key not in listed:
                    del self._jobs[key]

    def close(self) -> None:
        """Stop all of them and wait until they have ended."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stop.set()
        for lane in self._lanes.values():
            lane.close(_END_TIMEOUT_S)

    # -- inside -----------------------------------------------------------------------------------

    def _run(self, item: tuple[Job, Callable[[Job], Content]]) -> None:
        job, work = item
        with self._lock:
            if job.state != "waiting":  # it was stopped before its turn came
                return
            job.state = "working"
        self._tell(job)
        try:
            job.result = work(job)
            job.state = "done"
        except Exception as error:  # noqa: BLE001 - whatever it is, the row shows it
            self._fail(job, error)
        job.progress = None
        self._tell(job)
        self._changed()

    def _fail(self, job: Job, error: Exception) -> None:
        if isinstance(error, FileChangeError) and error.details.get("problem") == "cancelled":
            job.state = "stopped"
            return
        if not isinstance(error, GgufWidgetsError):
            _log.exception("A %s met an error it did not expect", job.kind)
        known = as_known(error)
        job.error = {"text": known.message, "problem": str(known.details.get("problem", ""))}
        job.state = "failed"

    def _tell(self, job: Job) -> None:
        if self.of(job.key) is job:  # else another one has its place
            self._send({"kind": "job", "job": job.view()})


def _at_work(job: Job) -> FileChangeError:
    return FileChangeError(
        f"This model is {_VERBS[job.kind]} just now. Wait until that is done, or stop it.",
        problem="at_work",
    )


def _amount(progress: Progress) -> str:
    """Return how much is done; a number and its unit stay on one line."""
    # A new file's size is an estimate until it is written, so that it is said to be one.
    about = "about " if progress.stage == "convert" else ""
    amount = f"{_size(progress.done)} of {about}{_size(progress.total)}"
    return amount if progress.unit == "bytes" else ""


def _size(num_bytes: int) -> str:
    return format_bytes(num_bytes).replace(" ", "\u00a0")


def _speed(progress: Progress) -> str:
    if progress.elapsed_s < _SETTLED_S or not progress.done or progress.unit != "bytes":
        return ""
    return format_rate(progress.done / progress.elapsed_s, "bytes").replace(" ", "\u00a0")


def _left(progress: Progress) -> str:
    if not progress.left_s or progress.fraction >= _NEARLY:
        return ""
    left = progress.left_s
    words = f"{max(1, round(left))} s" if left < 60 else format_duration(left)
    return f"about {words} left"
