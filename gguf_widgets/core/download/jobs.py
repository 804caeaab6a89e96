"""What is known of one download of a queue at one moment.

Promises: plain facts that do not change any more once they were handed out, and no secret among
them. Leaves to others: carrying it out (`queue`), the words (the widgets).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, Literal

from gguf_widgets.core.download.progress import Progress
from gguf_widgets.core.errors import GgufWidgetsError

__all__ = ["ENDED", "DownloadJob", "JobState"]

JobState = Literal["waiting", "running", "stopping", "paused", "done", "failed", "removed"]

ENDED: Final[tuple[JobState, ...]] = ("paused", "done", "failed", "removed")
"""The states in which nothing happens by itself any more."""


_NOTHING_YET: Final = Progress("asking")


@dataclasses.dataclass(frozen=True, slots=True)
class DownloadJob:
    """One download of a `DownloadQueue`, as it stands.

    Attributes
    ----------
    id : str
    name : str
        What it was asked for by; of an address without its query, which may hold a secret.
    state : {"waiting", "running", "stopping", "paused", "done", "failed", "removed"}
        "waiting" for its turn; "stopping" takes a second at most; "removed" is told once, of a
        download that is no longer in the queue.
    place : int
        How many are before it, while it waits.
    progress : Progress
        Of the last attempt; its phase is "asking" before there was one.
    kept_bytes : int
        What lies on the disk of it, looked at when it last stopped.
    notes : tuple of str
        What the person should know, of the last attempt.
    error : GgufWidgetsError or None
        Why it failed.
    path : Path or None
        The file to load, once it is "done".
    size_bytes : int or None
        Of all files of the finished model.
    origin : {"", "fetched", "here", "cache"}
        Of a model that is done: whether it was fetched, or was here already.
    has_checksum : bool
        Whether the person gave a checksum for it.
    """

    id: str
    name: str
    state: JobState
    place: int = 0
    progress: Progress = _NOTHING_YET
    kept_bytes: int = 0
    notes: tuple[str, ...] = ()
    error: GgufWidgetsError | None = None
    path: Path | None = None
    size_bytes: int | None = None
    origin: Literal["", "fetched", "here", "cache"] = ""
    has_checksum: bool = False

    @property
    def is_ended(self) -> bool:
        """Whether nothing happens by itself any more."""
        return self.state in ENDED
