"""Intervals for means, for paired differences and for shares.

Promises: every interval says how many values it rests on and how it was made; where the data cannot
tell, an end is None instead of a number that looks sure; the same values give the same interval
(the draws have a fixed seed). Leaves to others: looking before the end (`sequential`), words
(`verdicts`).

How the intervals are made
--------------------------
A mean, and the mean of paired differences (both sides answered the same prompt, so the prompts'
own difficulty falls out): the **bias-corrected and accelerated bootstrap** (BCa; Efron 1987), since
scores are often lopsided (lengths, times) or take three values (right, wrong, no difference), and
a symmetric interval is wrong for both. A plain bootstrap interval of few values is too narrow, by
the factor sqrt((n - 1) / n) and by the normal in place of Student's distribution; so the quantiles
are widened by just that before they are corrected, as Hesterberg (2015, "What Teachers Should Know
About the Bootstrap") does for the percentile interval. tests/compare/test_statistics.py measures
the coverage on data whose truth is known.

Values that are all alike tell a bootstrap nothing: it would claim to be sure after two prompts. The
interval then is exact: with n equal values, the chance of any other value is at most
``1 - (alpha / 2) ** (1 / n)`` (Clopper and Pearson), and the ends are the means that are possible
if all others were at the bounds of the score. Without bounds nothing can be said (None).

A paired difference is only called clear if chance is a bad explanation for it, too: the interval is
stretched to 0 unless the **paired randomization test** (Fisher 1935: the sign of each difference is
drawn anew) rejects at the same level. Where two sides are equally good this test is right exactly,
however few prompts there are, and a bootstrap is not: after four wins and no loss its interval lies
above 0, which happens to one of eight pairs of equally good sides.

A share (of votes) has the **Wilson interval** (1927), a draw counting half.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gguf_widgets.compare.types import Interval
from gguf_widgets.core.errors import InvalidValueError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "check_confidence",
    "difference_interval",
    "mean_interval",
    "randomization_p",
    "student_quantile",
    "wilson",
]

CONFIDENCE: Final = 0.95
NUM_RESAMPLES: Final = 4000
NUM_FLIPS: Final = 9999
_ALL_FLIPS: Final = 13  # so many differences have 8,192 ways to flip: then all are looked at
_SEED: Final = 20_150_401
_AT_ONCE: Final = 4_000_000  # draws that are in memory together
_NORMAL: Final = NormalDist()


def mean_interval(
    values: Sequence[float] | NDArray[Any],
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return the mean of some values, and between what the true mean is.

    Parameters
    ----------
    values : sequence of float
        Independent of each other: scores of one side, or differences between two sides, one for
        each prompt.
    bounds : (float, float), optional
        The least and greatest that a value can be; the interval stays within.
    confidence : float, default 0.95
    num_resamples : int, default 4000

    Returns
    -------
    Interval

    Raises
    ------
    InvalidValueError
        A value is no number, or outside the bounds; the confidence is none.

    Examples
    --------
    >>> found = mean_interval([1, 0, 1, 1, 0, 1, 1, 1], bounds=(0, 1))
    >>> found.mean, found.low < 0.75 < found.high
    (0.75, True)
    """
    import numpy as np

    check_confidence(confidence)
    data = np.asarray(values, dtype=np.float64)
    _check_values(data, bounds)
    num = data.size
    if not num:
        return Interval(mean=None, low=None, high=None, num=0, confidence=confidence)
    mean = float(data.mean())
    if np.ptp(data) <= 1e-12 * max(1.0, abs(mean)):
        low, high = _alike(mean, num, bounds, confidence)
        method = "exact"
    else:
        low, high = _bca(data, confidence, num_resamples)
        method = "bootstrap"
        if bounds is not None:
            low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(mean=mean, low=low, high=high, num=num, confidence=confidence, method=method)


def difference_interval(
    differences: Sequence[float] | NDArray[Any],
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return the mean of paired differences with an interval that holds 0 unless it is clear.

    Parameters
    ----------
    differences : sequence of float
        One side's score minus the other's, for each prompt that both have answered.
    bounds : (float, float), optional
        The least and greatest that a difference can be.
    confidence : float, default 0.95
        Of two equally good sides at most ``1 - confidence`` are called different.
    num_resamples : int, default 4000

    Examples
    --------
    >>> four_wins = difference_interval([1, 1, 1, 1, *[0] * 26], bounds=(-1, 1))
    >>> four_wins.low
    0.0
    """
    found = mean_interval(
        differences, bounds=bounds, confidence=confidence, num_resamples=num_resamples
    )
    low, high = found.low, found.high
    if low is None or high is None or low <= 0 <= high:
        return found
    if randomization_p(differences) <= 1 - confidence:
        return found
    return msgspec.structs.replace(found, low=min(low, 0.0), high=max(high, 0.0))


def randomization_p(differences: Sequence[float] | NDArray[Any]) -> float:
    """Return how often a mean so far from 0 comes about if only the signs are chance.

    Returns
    -------
    float
        The two-sided p-value of the paired randomization test: exact for up to 13 differences that
        are not 0, else from 9,999 draws (the data themselves counted, so never 0).

    Examples
    --------
    >>> randomization_p([1, 1, 1, 1, 0, 0])
    0.125
    """
    import numpy as np

    data = np.asarray(differences, dtype=np.float64)
    sizes, total = np.abs(data[data != 0]), float(data.sum())
    if not sizes.size:
        return 1.0
    least = abs(total) - 1e-9 * float(sizes.sum())
    if sizes.size <= _ALL_FLIPS:
        ways = np.arange(2**sizes.size)[:, None] >> np.arange(sizes.size) & 1
        return float(np.mean(np.abs((2 * ways - 1) @ sizes) >= least))
    draw = np.random.default_rng(_SEED)
    num_as_far = 1
    at_once = max(1, _AT_ONCE // sizes.size)
    for start in range(0, NUM_FLIPS, at_once):
        rows = min(at_once, NUM_FLIPS - start)
        signs = draw.integers(0, 2, (rows, sizes.size), dtype=np.int8) * 2 - 1
        num_as_far += int(np.count_nonzero(np.abs(signs @ sizes) >= least))
    return num_as_far / (NUM_FLIPS + 1)


def _check_values(data: NDArray[np.float64], bounds: tuple[float, float] | None) -> None:
    import numpy as np

    if data.ndim != 1 or not np.isfinite(data).all():
        raise InvalidValueError("The values must be numbers in one row, none of them infinite.")
    slack = 1e-9
    if bounds is not None and data.size:
        least, most = float(data.min()), float(data.max())
        if least < bounds[0] - slack or most > bounds[1] + slack:
            raise InvalidValueError(
                f"The values go from {least:g} to {most:g}, and they can only be from "
                f"{bounds[0]:g} to {bounds[1]:g}.",
                low=bounds[0],
                high=bounds[1],
            )


def check_confidence(confidence: float) -> None:
    """Raise `InvalidValueError` for what is no confidence."""
    if not 0.5 <= confidence < 1:
        raise InvalidValueError(
            f"confidence is {confidence!r}; it must be from 0.5 to below 1, such as 0.95.",
            value=repr(confidence)[:40],
        )


def _alike(
    value: float, num: int, bounds: tuple[float, float] | None, confidence: float
) -> tuple[float | None, float | None]:
    """Return the interval for values that are all the same."""
    if bounds is None:
        return None, None
    other = 1 - ((1 - confidence) / 2) ** (1 / num)
    low, high = bounds
    return value + other * (low - value), value + other * (high - value)


def _bca(data: NDArray[np.float64], confidence: float, num_resamples: int) -> tuple[float, float]:
    import numpy as np

    num = data.size
    means = _resampled_means(data, num_resamples)
    mean = data.mean()
    # The share of resampled means below the mean, equal ones counting half: means of few distinct
    # values often are the mean itself.
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / 2
    bias = _NORMAL.inv_cdf(min(max(below / means.size, 1 / means.size), 1 - 1 / means.size))
    # The acceleration, by the jackknife; for a mean it is the skewness over 6 sqrt(n).
    deviations = data - mean
    spread = float(np.sqrt((deviations**2).sum()))
    acceleration = float((deviations**3).sum()) / (6 * spread**3)
    tail = (1 - confidence) / 2
    wide = math.sqrt(num / (num - 1)) * student_quantile(1 - tail, num - 1)
    ends = []
    for z in (-wide, wide):
        shifted = bias + z
        bent = 1 - acceleration * shifted
        # Beyond the pole of the correction there is only the end of what was drawn.
        level = _NORMAL.cdf(bias + shifted / bent) if bent > 0 else float(z > 0)
        ends.append(float(np.quantile(means, min(max(level, 0.0), 1.0))))
    return ends[0], ends[1]


def _resampled_means(data: NDArray[np.float64], num_resamples: int) -> NDArray[np.float64]:
    """Return means of as many values, drawn from the values with replacement."""
    import numpy as np

    draw = np.random.default_rng(_SEED)
    distinct, counts = np.unique(data, return_counts=True)
    if distinct.size <= 64:
        # How often each of a few values was drawn is multinomial: the same, and much quicker.
        drawn = draw.multinomial(data.size, counts / data.size, size=num_resamples)
        means: NDArray[np.float64] = (drawn @ distinct) / data.size
        return means
    at_once = max(1, _AT_ONCE // data.size)
    parts = []
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        parts.append(data[draw.integers(0, data.size, (rows, data.size))].mean(axis=1))
    return np.concatenate(parts)


def wilson(
    share: float, num: int, *, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Return Wilson's interval for a share of `num` independent trials; None of no trials.

    Examples
    --------
    >>> low, high = wilson(0.5, 20)
    >>> round(low, 3), round(high, 3)
    (0.299, 0.701)
    """
    check_confidence(confidence)
    if num <= 0:
        return None, None
    if not 0 <= share <= 1:
        raise InvalidValueError(f"A share is from 0 to 1, not {share!r}.")
    z = _NORMAL.inv_cdf(1 - (1 - confidence) / 2)
    square = z * z / num
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / num + square / (4 * num))
    return max(0.0, middle - half), min(1.0, middle + half)


@functools.lru_cache(maxsize=256)
def student_quantile(level: float, freedom: int) -> float:
    """Return a quantile of Student's distribution (Hill 1970, algorithm 396), to five digits.

    Parameters
    ----------
    level : float
        Above one half and below 1.
    freedom : int
        Degrees of freedom, at least 1.

    Examples
    --------
    >>> round(student_quantile(0.975, 4), 3)
    2.776
    """
    two_tails = 2 * (1 - level)
    if freedom == 1:
        return 1 / math.tan(two_tails * math.pi / 2)
    if freedom == 2:
        return math.sqrt(2 / (two_tails * (2 - two_tails)) - 2)
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * freedom
    y = (d * two_tails) ** (2 / freedom)
    if y > 0.05 + a:
        x = -_NORMAL.inv_cdf(1 - two_tails / 2)
        y = x * x
        if freedom < 5:
            c += 0.3 * (freedom - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        inner = 1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3)
        y = ((inner + 0.5 / (freedom + 4)) * y - 1) * (freedom + 1) / (freedom + 2) + 1 / y
    return math.sqrt(freedom * y)
