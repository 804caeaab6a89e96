"""One vector from those of a text's tokens.

Promises: the same vector, up to rounding, whether a text comes whole or in pieces; unit length if
that is asked for. Leaves to others: the tokens' vectors (`embedding_backend.py`).

Pooling is done here and not by llama.cpp, because that pools only what one micro-batch holds: a
long text would have to be computed in one go, while everybody who streams waits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.types import Pooling

__all__ = ["Pooler"]

Rows = NDArray[np.float32]


class Pooler:
    """Takes the tokens' vectors of one text, in order.

    Parameters
    ----------
    pooling : Pooling
    n_embd : int
    """

    def __init__(self, pooling: Pooling, n_embd: int) -> None:
        self._pooling = pooling
        self._sum = np.zeros(n_embd, np.float64)
        self._count = 0

    def add(self, rows: Rows) -> None:
        """Take the next tokens' rows in; they are not kept."""
        if self._pooling is Pooling.MEAN:
            self._sum += rows.sum(axis=0, dtype=np.float64)
        elif self._pooling is Pooling.LAST:
            self._sum[:] = rows[-1]
        elif not self._count:
            self._sum[:] = rows[0]
        self._count += len(rows)

    def vector(self, *, normalize: bool) -> Rows:
        """Return the text's vector; one of zeros alone cannot be normalized and stays as it is."""
        result = self._sum / self._count if self._pooling is Pooling.MEAN else self._sum
        if normalize:
            length = float(np.linalg.norm(result))
            if length > 0:
                result = result / length
        return result.astype(np.float32)
