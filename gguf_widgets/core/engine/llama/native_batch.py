"""A native batch whose arrays are NumPy's own memory.

Promises: filling the arrays fills the batch, nothing is allocated or copied for a token. Leaves to
others: what goes into them.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp as lib
import numpy as np

from gguf_widgets.core.engine.backend import BatchArrays

__all__ = ["NativeBatch"]


class NativeBatch:
    """A `llama_batch` over some arrays, in which each token belongs to one sequence.

    Parameters
    ----------
    arrays : BatchArrays
    """

    def __init__(self, arrays: BatchArrays) -> None:
        self.arrays = arrays  # the addresses below are theirs
        count = len(arrays.tokens)
        self._ones = np.ones(count, np.int32)
        addresses = arrays.seq_ids.ctypes.data + 4 * np.arange(count, dtype=np.uint64)
        self._seq_id_pointers = addresses.astype(np.uintp)
        int32 = ctypes.POINTER(ctypes.c_int32)
        self._native = lib.llama_batch(
            n_tokens=0,
            token=arrays.tokens.ctypes.data_as(int32),
            embd=None,
            pos=arrays.positions.ctypes.data_as(int32),
            n_seq_id=self._ones.ctypes.data_as(int32),
            seq_id=self._seq_id_pointers.ctypes.data_as(ctypes.POINTER(int32)),
            logits=arrays.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def first(self, num_tokens: int) -> Any:
        """Return the native batch of the first `num_tokens` rows."""
        self._native.n_tokens = num_tokens
        return self._native
