"""What several repetitions say together, and whether two measurements differ.

Promises: an average and a standard deviation as llama-bench computes them (of tokens per second,
the deviation with n - 1); "faster" and "slower" are said only where repetitions and the usual
difference between two runs allow it, otherwise that it is the same, or cannot be told. Pure
functions. Leaves to others: which measurements may be compared at all (`compare`).

How two measurements are compared
---------------------------------
Of the logarithms of their tokens per second, because speeds differ by factors: the difference of
the two means, with Welch's interval at 99% for the spread of the repetitions. That spread alone
would be far too narrow: repetitions of one run share a process, its place in memory, and the
processor's temperature, so that two runs of the same thing differ by more than the repetitions
within either say (Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013). So a
second part is added in quadrature for the difference between runs: a standard deviation of
`RUN_TO_RUN` for each, or what earlier runs of the same test show, if that is more.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["RUN_TO_RUN", "WIDE", "Difference", "average", "deviation", "difference", "spread"]

RUN_TO_RUN: Final = 0.01
"""How much one and the same thing differs from run to run on a quiet machine, at least: 1%."""

WIDE: Final = 0.10
"""An interval that reaches further than this on either side tells nothing of interest."""

_Z: Final = 2.576  # of the normal distribution, 99%

_FEWEST_RUNS: Final = 4
# Half of the steps between normal values of deviation 1 are smaller than 0.6745 times root 2.
_MEDIAN_STEP: Final = 0.6745 * math.sqrt(2)

# Of Student's distribution, 99%, for 1, 2, ... degrees of freedom.
_T: Final = (
    63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169,
    3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845,
    2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771, 2.763, 2.756, 2.750,
)  # fmt: skip


class Difference(NamedTuple):
    """How much faster the second is: 0.12 is 12% faster; with the limits of the interval."""

    estimate: float
    low: float
    high: float

    @property
    def is_wide(self) -> bool:
        """Whether it could be much faster or much slower as well."""
        return self.high - self.low > 2 * WIDE

    @property
    def is_clear(self) -> bool:
        """Whether no difference is ruled out."""
        return self.low > 0 or self.high < 0


def average(values: Sequence[float]) -> float:
    """Return the mean; 0 of nothing."""
    return statistics.fmean(values) if values else 0.0


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1); None of fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def spread(values: Sequence[float]) -> float | None:
    """Return the standard deviation as a share of the mean; None of fewer than two values."""
    found, mean = deviation(values), average(values)
    return None if found is None or not mean else found / mean


def difference(
    before: Sequence[float], now: Sequence[float], earlier: Sequence[float] = ()
) -> Difference | None:
    """Compare two measurements by their repetitions.

    Parameters
    ----------
    before, now : sequence of float
        Tokens per second.
    earlier : sequence of float, optional
        The averages of other runs of the same test in the order of time, from which it is seen how
        much runs differ; four of them at least say something.

    Returns
    -------
    Difference or None
        None if one of them has a single repetition: that says nothing of the spread.
    """
    if len(before) < 2 or len(now) < 2 or min(*before, *now) <= 0:
        return None
    first, second = ([math.log(value) for value in values] for values in (before, now))
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    within = 0.0
    if sum(parts) > 0:
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
        )
        within = _student(freedom) * math.sqrt(sum(parts))
    runs = [math.log(value) for value in earlier if value > 0]
    half = math.hypot(within, _Z * math.sqrt(2) * max(RUN_TO_RUN, _between(runs)))
    middle = statistics.fmean(second) - statistics.fmean(first)
    # A spread this large says nothing at all; more would only overflow.
    half = min(half, 20.0)
    return Difference(*(math.expm1(value) for value in (middle, middle - half, middle + half)))


def _between(runs: Sequence[float]) -> float:
    """Return how much runs differ, from each to the next.

    By the median, so that one real change among them (another version of llama.cpp) counts little.
    """
    if len(runs) < _FEWEST_RUNS:
        return 0.0
    steps = [abs(after - before) for before, after in itertools.pairwise(runs)]
    return statistics.median(steps) / _MEDIAN_STEP


def _student(freedom: float) -> float:
    number = math.floor(freedom + 1e-9)
    return _T[max(1, number) - 1] if number <= len(_T) else _T[-1]
