"""What is found, kept and cut, slot by slot; `test_histories` mixes it all."""

from __future__ import annotations

import pytest
from support.tiny_projector import picture

from gguf_widgets.core.engine.backend import Memory, MemoryKind
from gguf_widgets.core.engine.kv_cache import NOTHING, KVCache, Match
from gguf_widgets.core.engine.positions import Positions
from gguf_widgets.core.engine.scripted import ScriptedBackend
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import ImageSpan, LoadSettings

WINDOW = 8
TOKENS = [number % 50 + 1 for number in range(40)]


class Windowed:
    """A cache whose slots remember from a position on that a test chooses; at first, from 0."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend(LoadSettings(n_ctx=256, n_batch=64, n_seq_max=2))
        self.backend.memory = Memory(MemoryKind.WINDOW, n_slots=4, n_outputs=4, window=WINDOW)
        self.first: dict[int, int] = {}
        whole = self.backend.seq_pos_min
        self.backend.seq_pos_min = lambda slot: max(whole(slot), self.first.get(slot, 0))
        self.cache = KVCache(self.backend, 256)

    def keep(self, tokens: list[int]) -> int:
        """Compute these tokens in a slot of their own and keep them."""
        slot = self.hold(tokens)
        self.cache.release(slot, tokens)
        return slot

    def hold(self, tokens: list[int]) -> int:
        """Compute these tokens in a slot of their own."""
        slot, cached = self.cache.acquire(tokens)
        assert cached == 0
        self.backend._store([(token, at, slot) for at, token in enumerate(tokens)])
        self.cache.grow(slot, len(tokens))
        return slot


@pytest.fixture
def it() -> Windowed:
    return Windowed()


def test_a_match_needs_the_window_before_it_and_no_more(it):
    slot = it.keep(TOKENS)
    # The token at 40 looks at itself and the 7 before it: 33 to 39.
    it.first[slot] = 33
    assert it.cache.find([*TOKENS, 60]) == Match(slot, 40)
    assert it.cache.find([*TOKENS[:39], 60]) == NOTHING
    it.first[slot] = 34
    assert it.cache.find([*TOKENS, 60]) == NOTHING


def test_less_that_is_whole_is_found_behind_more_that_is_not(it):
    other = it.keep([*TOKENS[:20], 60])
    slot = it.keep(TOKENS)
    it.first[slot] = 38
    assert it.cache.find([*TOKENS, 60]) == Match(other, 20)


def test_what_turns_out_incomplete_when_it_is_taken_over_is_computed_again(it):
    slot = it.keep(TOKENS)
    target, _ = it.cache.acquire([60])
    it.first[target] = 38
    free = it.cache.num_free_cells
    assert it.cache.take_over(slot, target, 40) == 0
    assert it.backend.seq_pos_max(target) == -1
    assert it.cache.num_free_cells == free == 256 - it.backend.num_cells


def test_a_cut_needs_the_window_before_it(it):
    slot = it.keep(TOKENS)
    again, cached = it.cache.acquire([*TOKENS, 60], it.cache.find([*TOKENS, 60]))
    assert (again, cached) == (slot, 40)
    it.first[slot] = 23
    assert it.cache.cut(slot, 30) == 30
    assert it.cache.cut(slot, 29) == 0
    assert it.cache.num_free_cells == 256


@pytest.mark.parametrize("lengths", [(40, 20), (20, 40), (40, 40)])
def test_what_another_kept_slot_holds_as_well_is_not_kept_twice(it, lengths):
    for length in lengths:
        it.keep(TOKENS[:length])
    assert len(it.cache._kept) == 1
    assert it.cache.num_kept_cells == 40
    assert it.cache.find([*TOKENS, 60]).length == 40


@pytest.mark.parametrize("other", [[*TOKENS[:20], 60], [60]])
def test_what_is_no_beginning_of_another_is_kept_beside_it(it, other):
    it.keep(other)
    it.keep(TOKENS)
    assert it.cache.num_kept_cells == 40 + len(other)


def test_what_is_only_about_to_be_computed_covers_nothing(it):
    it.keep(TOKENS[:20])
    slots = [it.cache.acquire([*TOKENS, number])[0] for number in (1, 2)]
    assert it.cache.num_kept_cells == 20
    it.cache.release(slots[0], ())
    again = it.hold(TOKENS[:20])
    it.cache.release(again, TOKENS[:20])
    assert it.cache.find([*TOKENS, 60]).length == 20


def test_what_was_of_use_leaves_last(it):
    first, second = it.keep([1] * 20), it.keep([2] * 20)
    it.cache.take_over(first, it.cache.acquire([60])[0], 10)
    it.cache.evict()
    assert it.cache.find([1] * 30).length == 20
    assert it.cache.find([2] * 30) == NOTHING
    assert second != first


def test_only_slots_that_run_are_leaders(it):
    it.keep(TOKENS)
    busy, _ = it.cache.acquire([*TOKENS[:10], 60])
    assert it.cache.leaders(TOKENS, 9) == [(busy, 10)]
    assert it.cache.leaders(TOKENS, 10) == []


def test_a_move_that_goes_wrong_leaves_no_positions_behind(it, monkeypatch):
    it.keep(TOKENS)
    span = ImageSpan(start=2, num_tokens=20, num_positions=5, image=Image(picture()))
    moving, _ = it.cache.acquire([9] * 40, NOTHING, Positions([span]))
    put = it.backend.state_seq_set
    monkeypatch.setattr(it.backend, "state_seq_set", lambda slot, state: False)
    it.backend._store([(9, at, moving) for at in range(20)])
    it.cache.grow(moving, 20)
    assert it.cache.move_down(moving) == moving
    monkeypatch.setattr(it.backend, "state_seq_set", put)
    other = [number + 1 for number in TOKENS]

    def load(slot):
        it.backend._store([(token, at, slot) for at, token in enumerate(other)])
        return True

    it.cache.adopt(other, load)
    assert it.cache.find([*other, 1]).length == len(other)
