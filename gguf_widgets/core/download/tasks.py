"""What a queue keeps of each of its downloads, and the row they stand in.

Promises: plain fields, all guarded by the queue's lock; the address with its secrets is in one of
them only. Leaves to others: everything that happens (`queue`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.jobs import DownloadJob, JobState
from gguf_widgets.core.download.left import is_of
from gguf_widgets.core.download.leftovers import Unfinished, unfinished_in
from gguf_widgets.core.download.names import HubName, UrlName
from gguf_widgets.core.download.progress import OnNote, OnProgress, Progress
from gguf_widgets.core.errors import DownloadError, GgufWidgetsError
from gguf_widgets.core.format import plain_text

if TYPE_CHECKING:
    from gguf_widgets.core.download.from_hub import Fetched

__all__ = [
    "After",
    "Key",
    "Task",
    "TaskList",
    "carry_out",
    "key_of",
    "remove_files",
    "size_of_files",
]

_log = logging.getLogger(__name__)
_MOST_FINISHED: Final = 50  # that are remembered; the oldest are forgotten first
_MOST_NOTES: Final = 20
_MOST_SEEN: Final = 2000  # names of files; a model has at most a thousand parts

After = Literal["pause", "discard", "again"]
"""What is to happen when a download that is told to stop has stopped."""

Key = tuple[str, str | None, str | None]


class Task:
    """A download of the queue; every field is guarded by the queue's lock.

    Parameters
    ----------
    task_id : str
    parsed : HubName or UrlName
    key : tuple
        What tells it from the others: see `key_of`, the folder, the revision.
    options : dict
        Of `gguf_widgets.core.download.download`.
    """

    def __init__(
        self,
        task_id: str,
        parsed: HubName | UrlName,
        key: Key,
        options: dict[str, Any],
    ) -> None:
        self.id = task_id
        self.parsed = parsed
        self.name = plain_text(str(parsed), 300)  # of an address without its query
        self.full_name = parsed.url if isinstance(parsed, UrlName) else str(parsed)
        self.key = key
        self.options = options
        self.thread: threading.Thread | None = None
        self.seen: dict[str, None] = {}  # the names of its files, as far as they were told
        self.kept_bytes = 0
        self.is_removed = False
        self.begin_anew()

    def begin_anew(self) -> None:
        """Wait for a turn."""
        self.state: JobState = "waiting"
        self.after: After = "pause"
        self.stop = threading.Event()
        self.progress = Progress("asking")
        self.notes: list[str] = []
        self.error: GgufWidgetsError | None = None
        self.path: Path | None = None
        self.size_bytes: int | None = None
        self.origin: Literal["", "fetched", "here", "cache"] = ""

    def hear(self, progress: Progress) -> None:
        """Keep how far it is."""
        self.progress = progress
        if progress.file and len(self.seen) < _MOST_SEEN:
            self.seen.setdefault(progress.file)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the person."""
        if sentence in self.notes or len(self.notes) > _MOST_NOTES:
            return
        full = len(self.notes) == _MOST_NOTES
        self.notes.append("There was more to say than is kept." if full else sentence)

    def view(self, place: int) -> DownloadJob:
        """Return it as others may see it."""
        return DownloadJob(
            id=self.id,
            name=self.name,
            state="removed" if self.is_removed else self.state,
            place=place,
            progress=self.progress,
            kept_bytes=self.kept_bytes,
            notes=tuple(self.notes),
            error=self.error,
            path=self.path,
            size_bytes=self.size_bytes,
            origin=self.origin,
            has_checksum=self.options["sha256"] is not None,
        )

    def unfinished_files(self) -> list[Unfinished]:
        """Return what lies on the disk of it, unfinished; the lock is not needed."""
        if self.options["to"] is not None:
            inside = unfinished_in(Path(self.options["to"]))
            return [one for one in inside if one.path.name in self.seen]
        models = models_dir()
        return [one for one in unfinished_in(models) if is_of(one, self.parsed, self.seen, models)]


class TaskList:
    """The downloads of a queue, those that wait in the order of their turns; used with its lock."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks.values()))

    def get(self, task_id: str) -> Task:
        """Return a task.

        Raises
        ------
        DownloadError
            ``problem`` is "unknown".
        """
        task = self._tasks.get(task_id)
        if task is None:
            raise DownloadError("There is no such download any more.", problem="unknown")
        return task

    def with_key(self, key: Key) -> Task | None:
        """Return the task that was asked for in the same words."""
        return next((task for task in self if task.key == key), None)

    def append(self, task: Task) -> None:
        """Add a task at the end."""
        self._tasks[task.id] = task

    def put_last(self, task: Task) -> None:
        """Have a task wait, after all others."""
        del self._tasks[task.id]
        self._tasks[task.id] = task
        task.begin_anew()

    def take_out(self, task: Task) -> None:
        """Take a task out."""
        self._tasks.pop(task.id, None)
        task.is_removed = True

    def forget_oldest(self) -> list[Task]:
        """Keep the number of finished downloads bounded; return those that were taken out."""
        done = [task for task in self if task.state == "done"]
        old = done[: max(0, len(done) - _MOST_FINISHED)]
        for task in old:
            self.take_out(task)
        return old

    def next_to_run(self, at_once: int) -> Task | None:
        """Return the one whose turn it is; None if enough are running, or none waits."""
        if sum(task.state in ("running", "stopping") for task in self) >= at_once:
            return None
        return next((task for task in self if task.state == "waiting"), None)

    def view(self, task: Task) -> DownloadJob:
        """Return a task as others may see it."""
        place = 0
        if task.state == "waiting":
            for one in self:
                if one is task:
                    break
                place += one.state in ("waiting", "running", "stopping")
        return task.view(place)


def carry_out(
    task: Task, on_progress: OnProgress, on_note: OnNote, patience: Patience | None
) -> Fetched | GgufWidgetsError:
    """Fetch what a task is about; return what came of it, or what went wrong."""
    from gguf_widgets.core import download

    try:
        return download.download(
            task.full_name,
            on_progress=on_progress,
            on_note=on_note,
            cancel=task.stop,
            patience=patience,
            **task.options,
        )
    except GgufWidgetsError as error:
        return error
    except Exception as error:  # noqa: BLE001 - it is logged, and shown with the download
        _log.exception("A download met an error it did not expect")
        return DownloadError(
            f"Something unexpected happened: {type(error).__name__}: {error}",
            problem="unexpected",
        )


def key_of(name: HubName | UrlName) -> str:
    """Return what two spellings of one name have in common."""
    if isinstance(name, UrlName):
        return name.url
    return f"{name.repo.casefold()}:{(name.quant or '').upper()}:{name.file or ''}"


def remove_files(files: Iterable[Unfinished], models: Path) -> None:
    """Remove what has arrived of some files.

    Raises
    ------
    DownloadError
    """
    from gguf_widgets.core.download import leftovers

    for one in files:
        folder = models if one.path.is_relative_to(models) else one.path.parent
        try:
            leftovers.discard(folder, str(one.path))
        except DownloadError as error:
            if error.details.get("problem") != "not_found":  # gone by itself: as it should be
                raise


def size_of_files(files: Iterable[Path | None]) -> int | None:
    """Return the size of files together; None if one of them is gone."""
    try:
        return sum(file.stat().st_size for file in files if file is not None)
    except OSError:
        return None
