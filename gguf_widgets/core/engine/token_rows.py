"""The rows of a batch of tokens.

Promises: each row has its token, the model's position of it, its slot, and whether the next token
will be asked for; nothing is allocated for a row. Leaves to others: which rows there are
(`scheduler.py`, `batch_rows.py`), batches of images (`image_rows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.backend import BatchArrays
from gguf_widgets.core.engine.batch_rows import Rows
from gguf_widgets.core.engine.scheduler import Chunk

__all__ = ["fill_tokens"]


def fill_tokens(
    batch: BatchArrays,
    counting: NDArray[np.int32],
    chunks: Sequence[Chunk],
    places: Sequence[Rows],
) -> int:
    """Fill a batch; return how many rows there are.

    Parameters
    ----------
    batch : BatchArrays
    counting : ndarray of int32
        0, 1, 2, ... up to the longest sequence there can be.
    chunks : sequence of Chunk
    places : sequence of Rows
        The rows of each.
    """
    num_rows = 0
    for (sequence, start, count, draft), rows in zip(chunks, places, strict=True):
        row, slot = rows.first, sequence.slot
        num_rows += count + len(draft)
        at = start if sequence.positions is None else sequence.positions.at(start)
        batch.tokens[row] = sequence.tokens[start]
        batch.positions[row] = at
        batch.seq_ids[row] = slot
        batch.logits[row] = 0
        if count > 1:
            row, end = rows.rest, rows.rest + count - 1
            batch.tokens[row:end] = sequence.tokens[start + 1 : start + count]
            batch.positions[row:end] = counting[at + 1 : at + count]
            batch.seq_ids[row:end] = slot
            batch.logits[row:end] = 0
        batch.logits[rows.row(count - 1)] = start + count == len(sequence.tokens)
        for index, token in enumerate(draft, count):
            row = rows.row(index)
            batch.tokens[row] = token
            batch.positions[row] = at + index
            batch.seq_ids[row] = slot
            batch.logits[row] = 1
    return num_rows
