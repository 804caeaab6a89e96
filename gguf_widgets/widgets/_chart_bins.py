"""Numbers in bins, so that a chart of a million of them is a few dozen bars.

Promises: every number is in one bin, or, where there are a few that lie far beyond all others, in
the last one, which says "or more"; bins begin and end at round numbers, and whole numbers get bins
of their own while there are few different ones. Leaves to others: where the numbers come from, and
drawing.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import numpy as np

__all__ = ["Bins", "bins_of"]

_ABOUT: Final = 24  # bins
_FAR: Final = 3.0  # so many times as far as 99% of all lies what is put into the last bin
_ENOUGH: Final = 50  # numbers, before any of them is said to lie far away
_LARGEST: Final = 1e150  # so that no difference of two is infinite
_FINEST: Final = 1e-300  # a bin; much below it there are no powers of ten


class Bins(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram.

    Attributes
    ----------
    start, step : float
        The i-th bin goes from ``start + i * step`` to ``start + (i + 1) * step``.
    counts : list of list of int
        By group, then by bin.
    has_more : bool
        The last bin has all that is above its beginning.
    is_single : bool
        Each bin is one whole number.
    num : int
        How many numbers there are; those that are missing are not counted.
    least, median, high, most, mean : float
        `high` is what 95% are not above.
    """

    start: float
    step: float
    counts: list[list[int]]
    has_more: bool
    is_single: bool
    num: int
    least: float
    median: float
    high: float
    most: float
    mean: float

    @property
    def edges(self) -> list[float]:
        """Where each bin begins, and where the last one ends."""
        return [
            _round(self.start + i * self.step, self.step) for i in range(len(self.counts[0]) + 1)
        ]


def bins_of(
    values: Any, groups: Any = None, *, num_groups: int = 1, whole: bool = False
) -> Bins | None:
    """Put numbers into bins.

    Parameters
    ----------
    values : array of float
        NaN is a number that is missing.
    groups : array of int, optional
        To which of the groups each belongs.
    num_groups : int
    whole : bool
        They are whole numbers.

    Returns
    -------
    Bins or None
        None if there is no number.
    """
    given = np.asarray(values, dtype=np.float64)
    known = np.isfinite(given)
    numbers = np.clip(given[known], -_LARGEST, _LARGEST)
    if not len(numbers):
        return None
    own = np.zeros(len(numbers), np.int64) if groups is None else np.asarray(groups)[known]
    low, high = float(numbers.min()), float(numbers.max())
    median, most_of, top = (float(one) for one in np.quantile(numbers, [0.5, 0.95, 0.99]))
    is_far = len(numbers) >= _ENOUGH and top > low and high - low > _FAR * (top - low)
    end = top if is_far else high
    step = _step(low, end, whole=whole)
    start = math.floor(low / step + 1e-9) * step
    num_bins = int((end - start) / step + 1e-9) + 1 + is_far
    places = np.floor((numbers - start) / step + 1e-9)
    places = np.clip(places, 0, num_bins - 1).astype(np.int64)
    counts = np.bincount(own.astype(np.int64) * num_bins + places, minlength=num_groups * num_bins)
    return Bins(
        start=start,
        step=step,
        counts=counts.reshape(num_groups, num_bins).tolist(),
        has_more=bool(is_far),
        is_single=whole and step == 1,
        num=len(numbers),
        least=low,
        median=median,
        high=most_of,
        most=high,
        mean=float(numbers.mean()),
    )


def _step(low: float, high: float, *, whole: bool) -> float:
    """Return a round width: 1, 2 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        span = abs(low) or 1.0
    rough = max(span / _ABOUT, _FINEST)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= rough * 0.999)
    return max(1.0, round(step)) if whole else step


def _round(value: float, step: float) -> float:
    """Return an edge without the dust of binary fractions."""
    digits = max(0, 1 - math.floor(math.log10(step)))
    return round(value, digits) if digits < 300 else value
