"""Which rows of a batch the chunks of a plan get.

Promises: each chunk's rows stand in the order of its tokens. Where slots have cells of their own,
the rows are ordered so that llama.cpp computes them in as few goes as it can: it takes together
what follows slot by slot without a gap, and from each slot as many rows as the shortest one has
(`llama_batch_allocr::split_equal`, 0.3.36). So the first rows of all come slot by slot, which lets
all the replies go on in one go; then the rest of each prompt, from the highest slot down so that a
longer prompt is not cut to the length of a shorter one; neighbours of the same length together.
Leaves to others: which chunks there are (`scheduler.py`), what is written into the rows
(`engine.py`), that running slots are neighbours (`placement.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gguf_widgets.core.engine.scheduler import Chunk

__all__ = ["Rows", "arrange"]


class Rows(NamedTuple):
    """The rows of one chunk: its first one, and where the others begin."""

    first: int
    rest: int

    def row(self, index: int) -> int:
        """Return the row of the batch in which the chunk's row `index` stands."""
        return self.rest + index - 1 if index else self.first


def arrange(chunks: Sequence[Chunk], *, own_cells: bool) -> list[Rows]:
    """Return the rows of each chunk.

    Parameters
    ----------
    chunks : sequence of Chunk
        Of different sequences.
    own_cells : bool
        Whether each slot has cells of its own; otherwise any order is as good.
    """
    if own_cells and len(chunks) > 1:
        return _by_slot(chunks)
    rows, start = [], 0
    for chunk in chunks:
        rows.append(Rows(start, start + 1))
        start += chunk.num_rows
    return rows


def _by_slot(chunks: Sequence[Chunk]) -> list[Rows]:
    order = sorted(range(len(chunks)), key=lambda index: chunks[index].sequence.slot)
    firsts = {index: row for row, index in enumerate(order)}
    goes_on = any(chunk.num_rows == 1 for chunk in chunks)  # some reply, in a go with all firsts
    start = len(order) if goes_on else 0
    result: dict[int, Rows] = {}
    for group in reversed(_alike(chunks, order)):
        for index in group:
            rows = Rows(firsts[index], start) if goes_on else Rows(start, start + 1)
            result[index] = rows
            start = rows.rest + chunks[index].num_rows - 1
    return [result[index] for index in range(len(chunks))]


def _alike(chunks: Sequence[Chunk], order: Sequence[int]) -> list[list[int]]:
    """Divide chunks, in the order of their slots, into neighbours of the same length."""
    groups: list[list[int]] = []
    for index in order:
        if groups:
            last = chunks[groups[-1][-1]]
            follows = chunks[index].sequence.slot == last.sequence.slot + 1
            if follows and chunks[index].num_rows == last.num_rows:
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups
