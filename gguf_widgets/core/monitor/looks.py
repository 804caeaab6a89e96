"""Looking at something again and again, at a bounded cost, whatever becomes of it.

Promises: a look is taken no more often than its share of a processor core allows, and what was
found last is told in between; a look that fails gives what stands for "not known" and leaves words
that say why; it is tried again later and later. Leaves to others: what is looked at.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from gguf_widgets.core.errors import GgufWidgetsError

__all__ = ["Budget", "Look"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_LONGEST_PAUSE_S: Final = 60.0


class Budget:
    """Says when something may be done again, by what it has cost.

    One time that costs much more than the others (the first, a busy machine) puts nothing off.

    Parameters
    ----------
    share : float
        Of one processor core, 0 to 1.
    every_s : float, default 0
        The shortest time between two.
    """

    def __init__(self, share: float, every_s: float = 0.0) -> None:
        self._share, self._every_s = share, every_s
        self._last_cost_s = 0.0
        self._not_before = float("-inf")

    def is_due(self, clock: float) -> bool:
        """Say whether it may be done now."""
        return clock >= self._not_before

    def spent(self, clock: float, cost_s: float) -> None:
        """Note what it has cost: seconds of processor time, begun at `clock`."""
        usual_s, self._last_cost_s = min(cost_s, self._last_cost_s), cost_s
        self._not_before = clock + max(self._every_s, usual_s / self._share)


class Look(Generic[_T]):
    """One thing that is looked at.

    Parameters
    ----------
    measure : callable
        Gets the moment, in seconds of the steady clock; what it raises makes the thing unknown.
    unknown : object
        What is told then.
    words : str
        What a person calls it: "the use of the disks".
    share, every_s : float
        As for `Budget`.

    Attributes
    ----------
    problem : str
        Why it is not known: a sentence; "" if it is.
    """

    def __init__(
        self,
        measure: Callable[[float], _T],
        unknown: _T,
        words: str,
        *,
        share: float = 0.001,
        every_s: float = 0.0,
    ) -> None:
        self._measure, self._unknown, self._words = measure, unknown, words
        self._budget = Budget(share, every_s)
        self._found = unknown
        self._pause_s = 1.0
        self._not_before = float("-inf")
        self.problem = ""

    def take(self, clock: float) -> _T:
        """Return what there is to see: now if that is due, else what was seen last."""
        if clock < self._not_before or not self._budget.is_due(clock):
            return self._found
        began = time.thread_time()
        try:
            self._found = self._measure(clock)
        except Exception as error:  # noqa: BLE001 - whatever one system does, the rest is measured
            self._fail(clock, error)
        else:
            self.problem, self._pause_s = "", 1.0
        self._budget.spent(clock, time.thread_time() - began)
        return self._found

    def _fail(self, clock: float, error: Exception) -> None:
        self._found = self._unknown
        self._not_before = clock + self._pause_s
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        text = error.message if isinstance(error, GgufWidgetsError) else str(error)
        problem = f"Your system does not tell {self._words}: {text or type(error).__name__}"
        if not self.problem:
            _log.info("%s", problem, exc_info=error)
        self.problem = problem if problem.endswith(".") else f"{problem}."
