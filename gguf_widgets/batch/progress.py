"""How far a run is, how fast, and about how long it still takes.

Promises: plain figures that a person or a program can show; speeds are those of the last half
minute, so that a pause or a slow beginning is forgotten; a time left is a range, from the speed of
late and that of all the time, and None while it would be a guess. Leaves to others: counting
(`runner`), words and colours (the widgets).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from gguf_widgets.core.format import format_count, format_duration
from gguf_widgets.core.store.batch_types import Counts, RunStatus

__all__ = ["Meter", "Progress", "speed_text"]

WINDOW_S: Final = 30.0
_ENOUGH: Final = 3  # rows that must have ended before a time left is told


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A run at one moment.

    Attributes
    ----------
    status : RunStatus
    counts : Counts
        Of tasks: with one prompt, model and sample a task is a row.
    num_running : int
        Tasks that the model is at.
    num_at_once : int or None
        How many the model computes side by side (n_seq_max); None where that is not known, or not
        one number.
    rows_per_s, tok_per_s : float or None
        Tasks ended, and tokens written, in each second of the last half minute; None while nothing
        is known.
    left_s : (float, float) or None
        The shortest and longest time that it probably still takes.
    elapsed_s : float
        How long it has been at it, without pauses, since it was started or resumed here.
    note : str
        What it waits for, or what it had to do; a sentence, mostly "".
    """

    status: RunStatus
    counts: Counts
    num_running: int = 0
    num_at_once: int | None = None
    rows_per_s: float | None = None
    tok_per_s: float | None = None
    left_s: tuple[float, float] | None = None
    elapsed_s: float = 0.0
    note: str = ""

    @property
    def fraction(self) -> float:
        """How much has ended, from 0 to 1."""
        return self.counts.ended / self.counts.total if self.counts.total else 1.0

    def __str__(self) -> str:
        counts = self.counts
        parts = [f"{counts.ended:,} of {counts.total:,} rows"]
        if counts.failed:
            parts.append(f"{counts.failed:,} failed")
        if counts.skipped:
            parts.append(f"{counts.skipped:,} skipped")
        if self.status is RunStatus.RUNNING:
            if self.rows_per_s:
                parts.append(f"{speed_text(self.rows_per_s)} rows/s")
            if self.tok_per_s:
                parts.append(f"{speed_text(self.tok_per_s)} tokens/s")
            if self.left_s is not None:
                parts.append(_left(self.left_s))
        else:
            parts.append(str(self.status.value))
        text = ", ".join(parts)
        return f"{text}. {self.note}" if self.note else text


class Meter:
    """Turns what has ended into speeds.

    Parameters
    ----------
    clock : callable
        Seconds; `time.monotonic`, or a test's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._elapsed = 0.0
        self._since: float | None = None
        self._num = 0
        self._num_tokens = 0
        self._marks: deque[tuple[float, int, int]] = deque()

    def go(self) -> None:
        """Time counts from now on."""
        if self._since is None:
            self._since = self._clock()
            self._marks.clear()
            self._marks.append((self.elapsed_s, self._num, self._num_tokens))

    def rest(self) -> None:
        """Time does not count: the run is paused, or waits for something that is not the model."""
        self._elapsed = self.elapsed_s
        self._since = None

    def add(self, num: int, num_tokens: int) -> None:
        """Count tasks that the model has ended."""
        now = self.elapsed_s
        self._num += num
        self._num_tokens += num_tokens
        self._marks.append((now, self._num, self._num_tokens))
        while len(self._marks) > 2 and self._marks[1][0] < now - WINDOW_S:
            self._marks.popleft()

    @property
    def elapsed_s(self) -> float:
        """How long it has been at it."""
        return self._elapsed + (0.0 if self._since is None else self._clock() - self._since)

    def speeds(self) -> tuple[float, float] | None:
        """Return tasks and tokens a second of late; None while nothing is known."""
        if not self._marks:
            return None
        at, num, num_tokens = self._marks[0]
        span = self.elapsed_s - at
        if span <= 0 or self._num == num:
            return None
        return (self._num - num) / span, (self._num_tokens - num_tokens) / span

    def left_s(self, num_waiting: int) -> tuple[float, float] | None:
        """Return how long so many tasks probably take: the least and the most, in seconds."""
        late = self.speeds()
        if late is None or self._num < _ENOUGH:
            return None
        whole = self._num / max(self.elapsed_s, 1e-9)
        times = sorted(num_waiting / speed for speed in (late[0], whole))
        # The fewer have been seen, the less is known: the middle half of a mean of so many.
        spread = min(0.5, 1 / self._num**0.5)
        return times[0] * (1 - spread), times[1] * (1 + spread)


def speed_text(value: float) -> str:
    """Return so many a second, with sensible digits."""
    if value >= 1000:
        return format_count(round(value))
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _left(span: tuple[float, float]) -> str:
    low, high = (format_duration(seconds) for seconds in span)
    if low == high or span[1] < 60:
        return f"about {high} left"
    return f"{low} to {high} left"
