"""The rows of a batch of vectors: parts of images, each on its sequence's slot.

Promises: each row has its token's vector and the positions that the model wants for it. Leaves to
others: which rows there are (`scheduler.py`, `batch_rows.py`), the vectors (`image_turns.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gguf_widgets.core.engine.batch_rows import Rows
from gguf_widgets.core.engine.image_turns import ImageTurns
from gguf_widgets.core.engine.scheduler import Chunk
from gguf_widgets.core.engine.vision import Vision

__all__ = ["fill_images"]


def fill_images(
    vision: Vision, turns: ImageTurns, chunks: Sequence[Chunk], places: Sequence[Rows]
) -> int:
    """Fill a vision's batch; return how many rows there are.

    Parameters
    ----------
    vision : Vision
    turns : ImageTurns
    chunks : sequence of Chunk
        Each within one part of an image.
    places : sequence of Rows
        The rows of each.
    """
    batch = vision.batch
    num_rows = sum(chunk.num_tokens for chunk in chunks)
    positions = batch.positions[: vision.n_pos * num_rows].reshape(vision.n_pos, num_rows)
    for (sequence, start, count, _), rows in zip(chunks, places, strict=True):
        span = sequence.next_image
        if span is None or not span.start <= start <= start + count <= span.end:
            raise AssertionError("a chunk of an image is not within it")
        index = np.r_[rows.first, rows.rest : rows.rest + count - 1]
        offset = start - span.start
        part = turns.part_of(sequence, span)
        batch.vectors[index] = part.vectors[offset : offset + count]
        batch.seq_ids[index] = sequence.slot
        batch.logits[index] = 0
        batch.logits[rows.row(count - 1)] = start + count == len(sequence.tokens)
        first = span.start if sequence.positions is None else sequence.positions.at(span.start)
        positions[:, index] = part.positions(first, offset, offset + count)
    return num_rows
