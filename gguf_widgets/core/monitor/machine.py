"""What the machine as a whole does: processors, memory, disks.

Promises: figures are differences from one look to the next, so the first look has none. What a
system does not tell raises, for `looks` to put into words. Leaves to others: when (`sampler`).
"""

from __future__ import annotations

from typing import Any

import psutil

from gguf_widgets.core.fit_machine import free_memory

__all__ = ["Disks", "Processors", "free"]


def free(_clock: float) -> int | None:
    """Return the bytes of memory that are free for us."""
    return free_memory()


class Processors:
    """How busy all processors are, in percent of the whole machine."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def measure(self, _clock: float) -> float | None:
        """Return 0 to 100; None at the first look."""
        times: Any = psutil.cpu_times()
        # Linux counts the time of guests in user and nice already.
        twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        whole: float = sum(times) - twice
        busy: float = whole - times.idle - getattr(times, "iowait", 0.0)
        before, self._before = self._before, (whole, busy)
        if before is None or whole <= before[0]:
            return None
        return min(100.0, max(0.0, 100.0 * (busy - before[1]) / (whole - before[0])))


class Disks:
    """Bytes a second that all disks read and write."""

    def __init__(self) -> None:
        self._before: tuple[float, int, int] | None = None

    def measure(self, clock: float) -> tuple[float | None, float | None]:
        """Return what was read and written; None at the first look, and where a count began anew.

        Raises
        ------
        OSError
            There are no disks to be seen.
        """
        counts = psutil.disk_io_counters(nowrap=False)
        if counts is None:
            raise OSError("it shows no disks here")
        now = (clock, counts.read_bytes, counts.write_bytes)
        before, self._before = self._before, now
        if before is None or clock <= before[0]:
            return None, None
        passed = clock - before[0]
        read, written = ((now[at] - before[at]) / passed for at in (1, 2))
        return read if read >= 0 else None, written if written >= 0 else None
