"""How far a long piece of work is: plain numbers, and the time that is left.

Promises: whoever watches is told at most some ten times a second, and always of the end; the time
left comes from the speed so far and is None until that says something. Leaves to others: showing
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gguf_widgets.core.errors import FileChangeError

__all__ = ["Cancelled", "OnProgress", "Progress", "Watch"]

_EVERY_S: Final = 0.1
# Before that, the speed is an accident.
_SETTLED_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes
    ----------
    stage : str
        What is being done: "hash", "copy", "convert", "write".
    done, total : int
        In `unit`.
    unit : str
        "bytes" or "tensors".
    elapsed_s : float
    left_s : float or None
        The time that it will still take; None while that cannot be told.
    """

    stage: str
    done: int
    total: int
    unit: str
    elapsed_s: float
    left_s: float | None

    @property
    def fraction(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 1.0


OnProgress = Callable[[Progress], None]
Cancelled = Callable[[], bool]


class Watch:
    """Tells of one piece of work, and stops it when that is asked for.

    Parameters
    ----------
    stage : str
    total : int
    unit : str, default "bytes"
    on_progress : callable, optional
    cancelled : callable, optional
        Asked at each step; True stops the work.
    """

    def __init__(
        self,
        stage: str,
        total: int,
        *,
        unit: str = "bytes",
        on_progress: OnProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> None:
        self.done = 0
        self._stage, self._total, self._unit = stage, total, unit
        self._on_progress, self._cancelled = on_progress, cancelled
        self._began = time.monotonic()
        self._told = -1.0

    def add(self, amount: int) -> None:
        """Count what has been done."""
        self.at(self.done + amount)

    def at(self, done: int, weight: float | None = None) -> None:
        """Say how much is done.

        Parameters
        ----------
        done : int
        weight : float, optional
            The share of the work that this is, from 0 to 1, where the unit is a poor measure of it.

        Raises
        ------
        FileChangeError
            "cancelled", if it was asked to stop.
        """
        self.check()
        self.done = done
        elapsed = time.monotonic() - self._began
        if self._on_progress is None:
            return
        if done < self._total and self._told >= 0 and elapsed - self._told < _EVERY_S:
            return
        self._told = elapsed
        share = weight if weight is not None else (done / self._total if self._total else 1.0)
        left = None
        if done >= self._total:
            left = 0.0
        elif share > 0 and elapsed >= _SETTLED_S:
            left = elapsed * (1.0 - share) / share
        self._on_progress(Progress(self._stage, done, self._total, self._unit, elapsed, left))

    def check(self) -> None:
        """Stop here if that was asked for.

        Raises
        ------
        FileChangeError
            "cancelled".
        """
        if self._cancelled is not None and self._cancelled():
            raise FileChangeError("It was stopped, and nothing was changed.", problem="cancelled")
