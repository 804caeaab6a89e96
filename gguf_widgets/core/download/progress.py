"""How far a download is, and stopping it.

Promises: one `Progress` says all that a person wants to see, with its own sentence; a callback is
called at most ten times a second and once more at each turn of events; a stop is noticed within a
tenth of a second by every wait that goes through `Job`. Leaves to others: showing it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, format_duration, format_rate, plain_text

__all__ = ["Cancel", "Job", "OnNote", "OnProgress", "Phase", "Progress"]

Phase = Literal["asking", "waiting", "checking", "fetching", "judging", "done"]

_EVERY_S: Final = 0.1
_WINDOW_S: Final = 6.0  # over which the speed is measured


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is.

    Attributes
    ----------
    phase : {"asking", "waiting", "checking", "fetching", "judging", "done"}
        "asking" the server, "waiting" for it or for another program that fetches the same,
        "checking" what arrived earlier, "fetching", "judging" what arrived.
    file : str
        The file that is being fetched.
    file_number, num_files : int
        Which of how many, from 1.
    received_bytes : int
        Of all files together, what was there before included.
    total_bytes : int or None
        None if the server does not say.
    bytes_per_s : float or None
        Over the last seconds; None while it is not known.
    seconds_left : float or None
    """

    phase: Phase
    file: str = ""
    file_number: int = 1
    num_files: int = 1
    received_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_s: float | None = None
    seconds_left: float | None = None

    @property
    def fraction(self) -> float:
        """How much has arrived, from 0 to 1; 0 if the whole size is not known."""
        if not self.total_bytes:
            return 1.0 if self.phase == "done" else 0.0
        return min(1.0, self.received_bytes / self.total_bytes)

    def __str__(self) -> str:
        name = plain_text(self.file, 60)
        if self.phase == "asking":
            return "Asking what is there"
        if self.phase == "waiting":
            return f"Waiting for {name}" if name else "Waiting"
        if self.phase == "judging":
            return f"Checking {name}"
        which = f" (file {self.file_number} of {self.num_files})" if self.num_files > 1 else ""
        much = format_bytes(self.received_bytes)
        if self.total_bytes is not None:
            much += f" of {format_bytes(self.total_bytes)}"
        if self.phase == "checking":
            return f"{name}{which}: checking what is there already"
        if self.phase == "done":
            return f"{name}: {much}"
        parts = [much]
        if self.bytes_per_s is not None:
            parts.append(format_rate(self.bytes_per_s, "bytes"))
        if self.seconds_left is not None:
            parts.append(f"about {format_duration(self.seconds_left)} left")
        return f"{name}{which}: {', '.join(parts)}"


OnProgress = Callable[[Progress], object]
"""Called in the thread that downloads; answering False stops it."""

OnNote = Callable[[str], object]
"""Called with a sentence that the person should see."""

Cancel = threading.Event | Callable[[], bool]
"""An event that is set, or a function that answers True, when the download is to stop."""


class Job:
    """One download: whom to tell, and whether to stop.

    Parameters
    ----------
    on_progress, on_note, cancel : optional
    """

    def __init__(
        self,
        on_progress: OnProgress | None = None,
        on_note: OnNote | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.notes: list[str] = []
        self._on_progress = on_progress
        self._on_note = on_note
        self._cancel = cancel
        self._stopped = False
        self._now = Progress("asking")
        self._told_at = float("-inf")
        self._received = 0
        self._marks: deque[tuple[float, int]] = deque()

    @property
    def cancelled(self) -> bool:
        """Whether it is to stop."""
        if isinstance(self._cancel, threading.Event):
            return self._stopped or self._cancel.is_set()
        return self._stopped or (self._cancel is not None and bool(self._cancel()))

    def note(self, sentence: str) -> None:
        """Keep a sentence for the person, and say it."""
        self.notes.append(sentence)
        if self._on_note is not None:
            self._on_note(sentence)

    def turn(self, phase: Phase, **changes: str | int | None) -> None:
        """Say that something else begins."""
        if phase == "done" and self._now.total_bytes is not None:
            self._received = self._now.total_bytes  # what was here already counts as well
        self._now = dataclasses.replace(
            self._now,
            phase=phase,
            received_bytes=self._received,
            bytes_per_s=None,
            seconds_left=None,
            **changes,  # type: ignore[arg-type]
        )
        self._marks.clear()
        self._marks.append((time.monotonic(), self._received))
        self._tell()

    def at(self, received_bytes: int) -> None:
        """Say how much of all files has arrived, and raise if it is to stop."""
        self.check()
        self._received = received_bytes
        now = time.monotonic()
        if now - self._told_at < _EVERY_S and received_bytes != self._now.total_bytes:
            return
        self._marks.append((now, received_bytes))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        (then, before), total = self._marks[0], self._now.total_bytes
        speed = (received_bytes - before) / (now - then) if now - then >= 0.5 else None
        left = None
        if speed and total is not None:
            left = max(0.0, (total - received_bytes) / speed)
        self._now = dataclasses.replace(
            self._now, received_bytes=received_bytes, bytes_per_s=speed, seconds_left=left
        )
        self._tell()

    def check(self) -> None:
        """Raise if it is to stop.

        Raises
        ------
        DownloadError
            ``problem`` is "cancelled".
        """
        if self.cancelled:
            raise DownloadError(
                "The download was stopped. What had arrived is kept; ask for the same model again "
                "to go on from there.",
                problem="cancelled",
            )

    def sleep(self, seconds: float) -> None:
        """Wait, and raise as soon as it is to stop."""
        until = time.monotonic() + seconds
        while True:
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_EVERY_S, left))

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        if self._on_progress is not None and self._on_progress(self._now) is False:
            self._stopped = True
