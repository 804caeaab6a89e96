"""A session's own time, which no change of the machine's clock breaks.

Promises: a moment of `time.perf_counter` has one time of day; within a session times never go back,
and differences are true. When the machine slept, or its clock was set forward, the times follow;
when it was set back they do not, until the session ends, and a note says by how much they differ.
Leaves to others: showing the note.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gguf_widgets.core.format import format_duration

__all__ = ["Timeline"]

# Clocks are steered by fractions of this; more is somebody setting one, or a machine that slept.
JUMP_S: Final = 2.0


class Timeline:
    """Times of day for moments of the steady clock.

    Parameters
    ----------
    wall : callable
        Seconds since 1970, UTC.
    clock : callable
        Seconds that pass steadily.

    Attributes
    ----------
    note : str
        What a person should know of these times; mostly "".
    num_jumps : int
        How often the machine's clock was found to have jumped.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._wall, self.clock = wall, clock
        self._offset = wall() - clock()
        self._behind_s = 0.0
        self.note = ""
        self.num_jumps = 0

    def at(self, clock: float) -> float:
        """Return the time of day of a moment of the steady clock, in whole microseconds.

        A float holds no more of such a number, and so a time that is read somewhere can be asked
        for again.
        """
        return round(clock + self._offset, 6)

    def now(self) -> float:
        """Return the time of day, after a look at the machine's clock."""
        clock = self.clock()
        wall = self._wall()
        ahead = wall - self.at(clock)
        if ahead > JUMP_S:
            self._offset += ahead
            self.num_jumps += 1
            self._behind_s = 0.0
            self.note = ""
        elif ahead < -JUMP_S:
            if abs(ahead + self._behind_s) > JUMP_S:
                self.num_jumps += 1
                self._behind_s = -ahead
                when = datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M")
                self.note = (
                    f"This machine's clock was set back at {when} UTC. The times of this session "
                    f"are {format_duration(self._behind_s)} ahead of it until the session ends, so "
                    "that they stay in order; durations and speeds are right."
                )
        elif self._behind_s:
            self._behind_s, self.note = 0.0, ""
        return self.at(clock)
