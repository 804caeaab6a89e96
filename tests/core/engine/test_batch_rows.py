"""Rows of a batch: each chunk's in order, and with own cells in as few goes as can be."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.engine.batch_rows import arrange
from gguf_widgets.core.engine.scheduler import Chunk

SLOTS = st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True)


def chunks_of(lengths: dict[int, int]) -> list[Chunk]:
    return [Chunk(SimpleNamespace(slot=slot), 0, count) for slot, count in lengths.items()]


def slots_by_row(lengths: dict[int, int], *, own_cells: bool) -> list[int]:
    """Return the slot of each row, having checked that each chunk's rows are in order."""
    chunks = chunks_of(lengths)
    found: dict[int, int] = {}
    for chunk, rows in zip(chunks, arrange(chunks, own_cells=own_cells), strict=True):
        numbers = [rows.row(index) for index in range(chunk.num_rows)]
        assert numbers == sorted(numbers)
        assert found.keys().isdisjoint(numbers)
        found |= dict.fromkeys(numbers, chunk.sequence.slot)
    assert found.keys() == set(range(sum(lengths.values())))
    return [found[row] for row in range(len(found))]


def goes(slots: list[int], n_ubatch: int = 512) -> list[dict[int, int]]:
    """Divide rows as llama.cpp 0.3.36 does where slots have caches of their own.

    It goes over what is left and takes each slot that follows on the last one taken, then of each
    as many rows as the shortest has left (llama_batch_allocr::split_equal, `sequential`).
    """
    left: dict[int, int] = defaultdict(int)
    for slot in slots:
        left[slot] += 1
    result = []
    while left:
        taken: list[int] = []
        for slot in slots:
            if slot in left and slot not in taken and (not taken or slot == taken[-1] + 1):
                taken.append(slot)
        count = min(*(left[slot] for slot in taken), n_ubatch // len(taken))
        result.append(dict.fromkeys(taken, count))
        for slot in taken:
            left[slot] -= count
            if not left[slot]:
                del left[slot]
    return result


@given(slots=SLOTS, data=st.data(), own_cells=st.booleans())
def test_every_row_belongs_to_one_chunk_and_each_chunk_is_in_order(slots, data, own_cells):
    lengths = {slot: data.draw(st.integers(1, 5)) for slot in slots}
    slots_by_row(lengths, own_cells=own_cells)


@given(start=st.integers(0, 9), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_neighbours_go_on_together_and_no_prompt_is_cut_to_pieces(start, lengths):
    taken = goes(slots_by_row(dict(enumerate(lengths, start)), own_cells=True))
    writing = 1 in lengths
    if writing:
        assert taken[0] == dict.fromkeys(range(start, start + len(lengths)), 1)
        lengths = [length - 1 for length in lengths]
    # Then each run of neighbours of the same length, if not several of them at once.
    runs = sum(
        bool(length) and (index == 0 or lengths[index - 1] != length)
        for index, length in enumerate(lengths)
    )
    assert len(taken) <= writing + runs


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ({0: 1, 1: 1, 2: 1}, [{0: 1, 1: 1, 2: 1}]),
        ({2: 1, 0: 1, 1: 1}, [{0: 1, 1: 1, 2: 1}]),  # in whatever order they were planned
        ({0: 1, 1: 64, 2: 1}, [{0: 1, 1: 1, 2: 1}, {1: 63}]),
        ({0: 64, 1: 64, 2: 64}, [{0: 64, 1: 64, 2: 64}]),
        ({0: 40, 1: 64, 2: 50}, [{2: 50}, {1: 64}, {0: 40}]),  # none is cut to another's length
        ({0: 1, 3: 1}, [{0: 1}, {3: 1}]),
    ],
)
def test_examples(lengths, expected):
    assert goes(slots_by_row(lengths, own_cells=True)) == expected


def test_with_shared_cells_the_plan_is_kept():
    assert slots_by_row({4: 2, 0: 1, 1: 3}, own_cells=False) == [4, 4, 0, 1, 1, 1]
