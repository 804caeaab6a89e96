"""When the tokens of a reply were sampled, and what their distances come to.

Promises: noting a token costs one reading of the clock and eight bytes (some 0.1 microseconds);
everything else is done once, at the reply's end. Leaves to others: which tokens count
(`writer.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["QUANTILES", "latencies", "quantile"]

QUANTILES = (0.5, 0.95, 0.99)


def latencies(times: array[float]) -> tuple[float | None, ...]:
    """Return the `QUANTILES` of the times between one token and the next; None if there is one.

    Parameters
    ----------
    times : array of float
        The clock's readings, one for each token, in order.
    """
    gaps = sorted(after - before for before, after in pairwise(times))
    return tuple(quantile(gaps, share) if gaps else None for share in QUANTILES)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that `share` of some numbers, in order, do not exceed.

    Between two of them it is interpolated linearly, as `numpy.quantile` does by default.
    """
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
