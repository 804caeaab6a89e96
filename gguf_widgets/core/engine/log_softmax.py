"""From a row of logits to log probabilities, and to the likeliest tokens.

Promises: ``logprob(t) = logit(t) - log(sum(exp(logit)))``, computed without overflow. Leaves to
others: where the logits come from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["likeliest", "log_sum_exp"]

Row = np.ndarray[Any, np.dtype[np.float32]]

# The vocabulary is looked through in so many parts at once, for its likeliest tokens.
_PARTS = 64


def log_sum_exp(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ``log(sum(exp(row)))`` of each row.

    It is no number (NaN) for a row that holds NaN or an infinity above, and for one of which every
    logit is minus infinity: such a row says nothing about any token.
    """
    sums = np.empty(len(rows), np.float64)
    shifted = np.empty(rows.shape[1], np.float32)  # row by row, so that it stays in the cache
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for number, row in enumerate(rows):
            highest = row.max()
            np.subtract(row, highest, out=shifted)
            np.exp(shifted, out=shifted)
            # numpy adds up in pairs: with 150,000 numbers that is as good as double precision.
            sums[number] = float(highest) + np.log(np.float64(shifted.sum()))
    return sums


def likeliest(logits: Row, count: int) -> list[int]:
    """Return the `count` tokens with the highest logits, equal ones in order of their ids.

    Several times as quick as `argpartition` over all of a large vocabulary. It is cut into columns
    of `_PARTS` tokens; of their highest logits, the `count`-th is one that at least so many tokens
    reach. All that do are in the few columns that reach it, or left over at the end.
    """
    count = min(count, len(logits))
    width = len(logits) // _PARTS
    if width > count:
        end = width * _PARTS
        peaks = logits[:end].reshape(_PARTS, width).max(axis=0)
        columns = np.flatnonzero(peaks >= np.partition(peaks, -count)[-count])
        inside = np.add.outer(np.arange(0, end, width), columns).ravel()
        best = np.concatenate((inside, np.arange(end, len(logits))))
    else:
        best = np.arange(len(logits))
    found: list[int] = best[np.lexsort((best, -logits[best]))[:count]].tolist()
    return found
