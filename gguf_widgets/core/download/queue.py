"""Downloads in the background: a few at a time, the others in a row.

Promises: each call returns at once (only `leftovers`, `go_on` and `remove` look at the disk); what
was asked for twice is one download; a stop keeps what arrived, `cancel` removes it, and a model
that is whole is never removed; when the interpreter ends, what is under way is stopped as by a
pause. Leaves to others: the download itself (`gguf_widgets.core.download.download`), showing it.

Examples
--------
>>> from gguf_widgets.core.download.queue import shared_queue
>>> queue = shared_queue()
>>> job_id = queue.add("hf:owner/repo:Q4_K_M")  # doctest: +SKIP
>>> queue.wait(job_id).path  # doctest: +SKIP
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from typing import Any, Final, Literal

from gguf_widgets.core.config import expanded, models_dir
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.jobs import DownloadJob
from gguf_widgets.core.download.left import Leftover, is_of, put_together
from gguf_widgets.core.download.names import parse_name
from gguf_widgets.core.download.progress import Progress
from gguf_widgets.core.download.tasks import (
    After,
    Task,
    TaskList,
    carry_out,
    key_of,
    remove_files,
    size_of_files,
)
from gguf_widgets.core.errors import DownloadError, GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import plain_text

__all__ = ["MOST_AT_ONCE", "MOST_DOWNLOADS", "DownloadQueue", "shared_queue"]

MOST_AT_ONCE: Final = 2
MOST_DOWNLOADS: Final = 100
"""That are not finished; so many wait at most."""

_CLOSING_S: Final = 5.0
_log = logging.getLogger(__name__)

Observer = Callable[[DownloadJob], object]


class DownloadQueue:
    """Carries out downloads in threads of its own.

    Parameters
    ----------
    at_once : int, default 1
        How many are fetched at the same time, 1 or 2: more of them share the same line.
    patience : Patience, optional
        How long to wait for servers.

    Raises
    ------
    InvalidValueError
        For another number.
    """

    def __init__(self, *, at_once: int = 1, patience: Patience | None = None) -> None:
        self._at_once = _checked_number(at_once)
        self._patience = patience
        self._tasks = TaskList()
        self._observers: list[Observer] = []
        self._closed = False
        self._changed = threading.Condition()
        _queues.add(self)

    @property
    def at_once(self) -> int:
        """How many are fetched at the same time, 1 or 2; a change counts from now on."""
        return self._at_once

    @at_once.setter
    def at_once(self, number: int) -> None:
        with self._changed:
            self._at_once = _checked_number(number)
            told = self._start_next()
        self._tell(*told)

    # --- asking for models ---

    def add(
        self,
        name: str,
        *,
        sha256: str | None = None,
        revision: str | None = None,
        newer: Literal["tell", "ignore", "get"] = "tell",
        to: str | os.PathLike[str] | None = None,
    ) -> str:
        """Put a download in the row; the same one again goes on where it is.

        Parameters are those of `gguf_widgets.core.download.download`.

        Returns
        -------
        str
            Its id. What is on its way already, or was stopped, keeps the id it has.

        Raises
        ------
        InvalidValueError
            For a name or a checksum that cannot be right, for another checksum than the download
            on its way has, if `MOST_DOWNLOADS` wait already, or after `close`.
        """
        from gguf_widgets.core.download.from_web import checked_sha256

        parsed = parse_name(name)
        options: dict[str, Any] = {
            "sha256": checked_sha256(sha256),
            "revision": revision,
            "newer": newer,
            "to": None if to is None else str(expanded(to)),
        }
        if newer not in ("tell", "ignore", "get"):
            raise InvalidValueError(f'newer is {newer!r}; it must be "tell", "ignore" or "get".')
        key = (key_of(parsed), options["to"], revision)
        with self._changed:
            self._refuse_closed()
            task = self._tasks.with_key(key)
            if task is None:
                num = sum(one.state != "done" for one in self._tasks)
                if num >= MOST_DOWNLOADS:
                    raise InvalidValueError(
                        f"{num} downloads are listed already; {MOST_DOWNLOADS} is the most. Wait "
                        "until some have ended, or remove some.",
                        limit=MOST_DOWNLOADS,
                    )
                task = Task(uuid.uuid4().hex[:16], parsed, key, options)
                self._tasks.append(task)
            elif task.state in ("waiting", "running", "stopping"):
                if options["sha256"] not in (None, task.options["sha256"]):
                    raise InvalidValueError(
                        f'"{plain_text(str(parsed), 120)}" is on its way already, without this '
                        "checksum. Stop it first, then ask for it again."
                    )
                if task.state == "stopping":
                    task.after = "again"
                return task.id
            else:
                task.options = options
                self._tasks.put_last(task)
            told = [*self._tasks.forget_oldest(), task, *self._start_next()]
        self._tell(*told)
        return task.id

    # --- looking ---

    def jobs(self) -> list[DownloadJob]:
        """Return all downloads: those under way and those that wait in the order of their turns."""
        with self._changed:
            return [self._tasks.view(task) for task in self._tasks]

    def job(self, job_id: str) -> DownloadJob:
        """Return one download.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown".
        """
        with self._changed:
            return self._tasks.view(self._tasks.get(job_id))

    def wait(self, job_id: str, timeout_s: float | None = None) -> DownloadJob:
        """Wait until a download is finished, has failed or was stopped, and return it.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown" if there is none, or it was removed meanwhile.
        TimeoutError
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while not (job := self._tasks.view(self._tasks.get(job_id))).is_ended:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"{job.name} has not ended within {timeout_s:g} s.")
                self._changed.wait(left)
            return job

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have a function called with each download that changes; return how to end that.

        It is called in the threads that download, for one of them at most ten times a second and at
        each turn of events; it should return quickly. What it raises is logged.
        """
        with self._changed:
            self._observers.append(observer)

        def end() -> None:
            with self._changed, contextlib.suppress(ValueError):  # ended twice
                self._observers.remove(observer)

        return end

    # --- steering ---

    def pause(self, job_id: str) -> None:
        """Stop a download within a second; what arrived is kept. One that has ended stays as it is.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown".
        """
        self._stop(job_id, "pause")

    def resume(self, job_id: str) -> None:
        """Have a download that was stopped, or that failed, take its turn again.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown".
        InvalidValueError
            After `close`.
        """
        with self._changed:
            self._refuse_closed()
            task = self._tasks.get(job_id)
            if task.state == "stopping":
                task.after = "again"
            elif task.state in ("paused", "failed"):
                self._tasks.put_last(task)
            told = [task, *self._start_next()]
        self._tell(*told)

    def cancel(self, job_id: str) -> None:
        """Give a download up: remove what arrived of it, and take it out of the list.

        One that is whole by then stays: as a finished download it is only taken out of the list.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown"; "disk" if what arrived could not be removed; "in_use" if
            another program is fetching it now.
        """
        self._stop(job_id, "discard")

    def dismiss(self, job_id: str) -> None:
        """Take a download that has ended out of the list; what arrived of it stays on the disk.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown"; "in_use" if it has not ended: stop it first.
        """
        with self._changed:
            task = self._tasks.get(job_id)
            if not self._tasks.view(task).is_ended:
                raise DownloadError(
                    f'"{task.name}" is on its way. Stop it first.', problem="in_use"
                )
            self._tasks.take_out(task)
            self._changed.notify_all()
        self._tell(task)

    def close(self, timeout_s: float = _CLOSING_S) -> None:
        """Stop all, keep what arrived, and wait for that; nothing can be added any more."""
        with self._changed:
            self._closed = True
            threads = [task.thread for task in self._tasks if task.thread is not None]
            for task in self._tasks:
                if task.state == "waiting":
                    task.state = "paused"
                elif task.state == "running":
                    task.state, task.after = "stopping", "pause"
                task.stop.set()
        end = time.monotonic() + timeout_s
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    # --- what was left ---

    def leftovers(self) -> list[Leftover]:
        """Return what was begun earlier and is no download of this queue; it looks at the disk.

        Another program may be fetching one of them right now.
        """
        from gguf_widgets.core.download.leftovers import unfinished_in

        models = models_dir()
        with self._changed:
            unfinished = [task for task in self._tasks if task.state != "done"]
            own = [(task.parsed, tuple(task.seen)) for task in unfinished]
        found = put_together(unfinished_in(models), models)
        return [
            left
            for left in found
            if not any(is_of(left.files[0], parsed, seen, models) for parsed, seen in own)
        ]

    def go_on(self, key: str) -> str:
        """Put what was left in the row again; return the id of its download.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown"; "not_found" if it cannot go on by its name.
        InvalidValueError
            See `add`.
        """
        left = self._leftover(key)
        if left.hindrance:
            raise DownloadError(left.hindrance, problem="not_found")
        # One that was to replace what is here goes on with that.
        newer: Literal["tell", "get"] = "get" if left.files[0].path.exists() else "tell"
        return self.add(left.name, sha256=left.sha256, newer=newer)

    def remove(self, key: str) -> None:
        """Remove what was left of a model from the disk.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown", "disk", or "in_use" if another program is fetching it.
        """
        remove_files(self._leftover(key).files, models_dir())

    def _leftover(self, key: str) -> Leftover:
        for left in self.leftovers():
            if left.key == key:
                return left
        raise DownloadError(
            "That is not there any more: it was finished, or removed.", problem="unknown"
        )

    # --- inside ---

    def _refuse_closed(self) -> None:
        if self._closed:
            raise InvalidValueError("Downloads have been closed in this process; start it again.")

    def _start_next(self) -> list[Task]:
        """Start as many as may run, and return them; with the lock."""
        started: list[Task] = []
        while not self._closed and (task := self._tasks.next_to_run(self._at_once)):
            task.state = "running"
            task.thread = threading.Thread(
                target=self._run, args=(task,), name=f"gguf-widgets queue {task.id}", daemon=True
            )
            task.thread.start()
            started.append(task)
        self._changed.notify_all()
        return started

    def _tell(self, *tasks: Task) -> None:
        with self._changed:
            views = [self._tasks.view(task) for task in tasks]
            observers = list(self._observers)
        for view in views:
            for observer in observers:
                try:
                    observer(view)
                except Exception:  # noqa: BLE001 - it is not this download's fault; it is logged
                    _log.exception("An observer of the downloads failed")

    def _stop(self, job_id: str, after: After) -> None:
        """Stop a download, or what is left of one, and do with it what is asked for."""
        with self._changed:
            task = self._tasks.get(job_id)
            if task.state == "waiting":
                task.state = "paused"
            elif task.state in ("running", "stopping"):
                task.state, task.after = "stopping", after
                task.stop.set()
            elif task.state == "done" and after == "discard":
                self._tasks.take_out(task)
            is_idle = task.state in ("paused", "failed")
            self._changed.notify_all()
        if is_idle and after == "discard":
            self._discard(task)
        else:
            self._tell(task)

    def _discard(self, task: Task) -> None:
        """Remove what arrived of a task that has ended, then the task."""
        try:
            remove_files(task.unfinished_files(), models_dir())
        except GgufWidgetsError as error:
            with self._changed:
                task.state, task.error = "failed", error
            self._tell(task)
            raise
        with self._changed:
            if task.state in ("paused", "failed"):  # or it was asked for again meanwhile
                self._tasks.take_out(task)
                self._changed.notify_all()
        self._tell(task)

    def _run(self, task: Task) -> None:
        """Carry out one download; in its own thread."""
        try:
            self._attempt(task)
            self._tell(task)  # before the next one is heard of
        finally:
            with self._changed:
                if task.thread is threading.current_thread():  # or it has begun again already
                    task.thread = None
                told = self._start_next()
            self._tell(*told)

    def _attempt(self, task: Task) -> None:
        def on_progress(progress: Progress) -> None:
            with self._changed:
                task.hear(progress)
            self._tell(task)

        def on_note(sentence: str) -> None:
            with self._changed:
                task.note(plain_text(sentence, 1000))
            self._tell(task)

        fetched = carry_out(task, on_progress, on_note, self._patience)
        if not isinstance(fetched, GgufWidgetsError):
            size = size_of_files((*fetched.files, fetched.companion))
            with self._changed:
                task.state, task.path, task.origin = "done", fetched.path, fetched.origin
                task.size_bytes, task.kept_bytes, task.error = size, 0, None
            return
        error = fetched
        kept = sum(one.received_bytes for one in task.unfinished_files())
        with self._changed:
            task.kept_bytes = kept
            was_stopped = task.state == "stopping" and error.details.get("problem") == "cancelled"
            after = task.after
            task.state = "paused" if was_stopped or after == "discard" else "failed"
            task.error = None if was_stopped else error
            if after == "again" and not self._closed:
                self._tasks.put_last(task)
        if after == "discard":
            with contextlib.suppress(GgufWidgetsError):  # the task says so by itself
                self._discard(task)


def _checked_number(at_once: int) -> int:
    if isinstance(at_once, bool) or at_once not in range(1, MOST_AT_ONCE + 1):
        raise InvalidValueError(
            f"at_once is {at_once!r}; it must be from 1 to {MOST_AT_ONCE}.", value=str(at_once)
        )
    return at_once


_queues: weakref.WeakSet[DownloadQueue] = weakref.WeakSet()
_shared: dict[str, DownloadQueue] = {}
_shared_lock = threading.Lock()


def shared_queue() -> DownloadQueue:
    """Return the queue that everybody in this process shares for the models folder of now."""
    key = os.path.realpath(models_dir())
    with _shared_lock:
        queue = _shared.get(key)
        if queue is None:
            queue = _shared[key] = DownloadQueue()
        return queue


@atexit.register
def _close_all() -> None:
    """Stop what is under way before the interpreter takes its parts away."""
    for queue in list(_queues):
        queue.close()
