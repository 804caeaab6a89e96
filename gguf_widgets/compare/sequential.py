"""Looking at the results while they come, without being fooled by looking often.

Promises: `clear_after` says that two sides differ wrongly in at most ``1 - confidence`` of all
comparisons of equal sides, however often it is asked and whenever the comparison ends; the interval
of `sequential_interval` holds the true mean at every moment at once. Leaves to others: intervals
after a fixed number of prompts (`statistics`), when to ask (`carrying`).

An ordinary test that is looked at after every prompt until it says "clear" finds a difference
sooner or later between sides that do not differ: with 200 prompts in a third of all cases. What is
used here instead bets on the differences: Waudby-Smith and Ramdas, "Estimating means of bounded
random variables by betting", Journal of the Royal Statistical Society B 86 (2024), the hedged
capital process with the predictable plug-in bets of their section 4. If the true mean is m, nobody
can win by betting against m: the capital K is a martingale that begins at 1, and Ville's inequality
says that it ever reaches ``1 / alpha`` with a probability of at most alpha. So a mean against which
so much was won is given up. The values must be bounded and, given those before, have the same mean:
scores from 0 to 1 of prompts in an order that has nothing to do with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.compare.statistics import CONFIDENCE, check_confidence
from gguf_widgets.compare.types import Interval
from gguf_widgets.core.errors import InvalidValueError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["clear_after", "sequential_interval"]

_BOLDNESS: Final = 0.5  # the share of the capital that one value can take away at most
_HALVINGS: Final = 40


def clear_after(
    values: Sequence[float] | NDArray[Any],
    *,
    bounds: tuple[float, float],
    confidence: float = CONFIDENCE,
) -> int | None:
    """Return after how many values it was clear that their true mean is not 0, or None.

    Parameters
    ----------
    values : sequence of float
        Paired differences, in the order in which they were decided on.
    bounds : (float, float)
        The least and greatest that a value can be; 0 lies between them.
    confidence : float, default 0.95

    Examples
    --------
    >>> clear_after([1.0] * 30, bounds=(-1, 1))
    10
    >>> clear_after([1.0, -1.0] * 30, bounds=(-1, 1)) is None
    True
    """
    import numpy as np

    bets = _Bets(values, bounds, confidence)
    won = np.maximum(*bets.log_capitals(bets.scaled(0.0)))
    first = np.flatnonzero(won >= bets.enough)
    return int(first[0]) + 1 if first.size else None


def sequential_interval(
    values: Sequence[float] | NDArray[Any],
    *,
    bounds: tuple[float, float],
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the mean and an interval that holds at every moment; wider than a fixed one.

    Parameters
    ----------
    values, bounds, confidence
        As for `clear_after`.

    Examples
    --------
    >>> found = sequential_interval([1.0] * 30, bounds=(-1, 1))
    >>> found.mean, found.low > 0
    (1.0, True)
    """
    import numpy as np

    bets = _Bets(values, bounds, confidence)
    if not bets.num:
        return Interval(mean=None, low=None, high=None, num=0, confidence=confidence)

    def is_out(mean: float, side: int) -> bool:
        return bool(bets.log_capitals(mean)[side].max() >= bets.enough)

    # What is won against a mean falls with the mean on one side and grows on the other, so what is
    # not given up is an interval.
    middle = float(np.clip(bets.data.mean(), 0.0, 1.0))
    low = _edge(0.0, middle, lambda mean: is_out(mean, 0))
    high = 1 - _edge(0.0, 1 - middle, lambda mean: is_out(1 - mean, 1))
    start, width = bounds[0], bounds[1] - bounds[0]
    return Interval(
        mean=start + width * float(bets.data.mean()),
        low=start + width * low,
        high=start + width * high,
        num=bets.num,
        confidence=confidence,
        method="sequential",
    )


def _edge(out: float, kept: float, is_out: Any) -> float:
    """Return the border between what is given up and what is kept, on the side of caution."""
    if not is_out(out):
        return out
    for _ in range(_HALVINGS):
        middle = (out + kept) / 2
        if is_out(middle):
            out = middle
        else:
            kept = middle
    return out


class _Bets:
    """Values scaled to 0 to 1, and the bets on each, made from those before it alone."""

    def __init__(
        self, values: Sequence[float] | NDArray[Any], bounds: tuple[float, float], confidence: float
    ) -> None:
        import numpy as np

        check_confidence(confidence)
        low, high = bounds
        data = np.asarray(values, dtype=np.float64)
        slack = 1e-9 * max(1.0, high - low)
        if not low < high or data.ndim != 1 or not np.isfinite(data).all():
            raise InvalidValueError("The values must be finite numbers, and the bounds low < high.")
        if data.size and (data.min() < low - slack or data.max() > high + slack):
            raise InvalidValueError(
                f"A value lies outside the bounds, {low:g} to {high:g}: the chance of a false "
                "alarm would not be what it is said to be.",
                low=low,
                high=high,
            )
        self._low, self._width = low, high - low
        self.data: NDArray[np.float64] = np.clip((data - low) / self._width, 0.0, 1.0)
        self.num = int(data.size)
        alpha = 1 - confidence
        self.enough = math.log(2 / alpha)  # half of the capital bets in each direction
        count = np.arange(1, self.num + 1)
        means = (0.5 + np.cumsum(self.data)) / (count + 1)
        spread = (0.25 + np.cumsum((self.data - means) ** 2)) / (count + 1)
        before = np.concatenate([[0.25], spread[:-1]]) if self.num else spread
        self._bets = np.sqrt(2 * math.log(2 / alpha) / (before * count * np.log(count + 1)))

    def scaled(self, value: float) -> float:
        return (value - self._low) / self._width

    def log_capitals(self, mean: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return, after each value, the logarithm of what betting above and below `mean` made."""
        import numpy as np

        away = self.data - mean
        up = np.minimum(self._bets, _BOLDNESS / max(mean, 1e-12))
        down = np.minimum(self._bets, _BOLDNESS / max(1 - mean, 1e-12))
        return np.cumsum(np.log1p(up * away)), np.cumsum(np.log1p(-down * away))
