"""What llama.cpp's memories do, as far as the engine counts on it.

These hold the library to what `kv_cache.py` and `engine.py` take for granted. Where one fails with
another version of llama.cpp, the engine has to be looked at before the test is.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.reference import EXACT, exact_bound
from support.tiny_engine import ask, prompt, run
from support.tiny_models import HYBRID, KINDS, RECURRENT, WINDOW, WINDOWED

from gguf_widgets.core.engine.backend import DecodeStatus, MemoryKind
from gguf_widgets.core.engine.kv_cache import KVCache
from gguf_widgets.core.types import Priority

STATES = (*RECURRENT, *HYBRID)
CELLS = [kind for kind in KINDS if kind not in STATES]

PROMPT, MORE = prompt(100), prompt(5, seed=1)


class Slots:
    """A backend whose slots are fed by hand."""

    def __init__(self, backend, reference, bound) -> None:
        self.backend = backend
        self._reference = reference
        self._bound = bound

    def decode(self, *parts: tuple[int, list[int], int]) -> int:
        """Compute parts of slots, each (slot, tokens, first position), in one batch."""
        batch, row = self.backend.batch, 0
        self._last = {}
        for slot, tokens, start in parts:
            for position, token in enumerate(tokens, start):
                batch.tokens[row], batch.positions[row] = token, position
                batch.seq_ids[row], batch.logits[row] = slot, 0
                row += 1
            batch.logits[row - 1] = 1
            self._last[slot] = row - 1
        return self.backend.decode(row)

    def positions(self, slot: int) -> tuple[int, int]:
        return self.backend.seq_pos_min(slot), self.backend.seq_pos_max(slot)

    def is_after(self, slot: int, tokens: list[int]) -> bool:
        """Say whether a slot's last row has the logits that come after these tokens."""
        (row,) = self._reference.logits(tokens, [])
        expected = row.astype(np.float64) - np.logaddexp.reduce(row.astype(np.float64))
        _, top = self.backend.logprobs(self._last[slot], 0, 20)
        return all(abs(expected[token] - value) <= self._bound for token, value in top)


@pytest.fixture
def slots(open_engine, reference_for):
    def open_slots(kind, **load) -> Slots:
        engine = open_engine(kind, **({"n_ctx": 512, "n_seq_max": 8} | EXACT | load))
        return Slots(engine.backend, reference_for(engine, kind), exact_bound(kind))

    return open_slots


@pytest.mark.parametrize("kind", KINDS)
def test_each_model_has_the_kind_of_memory_that_it_is_made_for(open_engine, kind):
    memory = open_engine(kind).backend.memory
    expected = MemoryKind.RECURRENT if kind in STATES else MemoryKind.ATTENTION
    assert memory.kind is (MemoryKind.WINDOW if kind == "gemma3" else expected)
    assert memory.window == WINDOW or kind != "gemma3"


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_shared_and_cut_anywhere(slots, kind):
    it = slots(kind)
    assert it.decode((0, PROMPT, 0)) == DecodeStatus.OK
    it.backend.seq_cp(0, 1, 0, 60)
    assert it.positions(1) == (0, 59)
    it.backend.seq_cp(0, 2, 0, 100)
    assert it.backend.seq_rm(2, 80)
    assert it.positions(2) == (0, 79)
    # More of what a slot has already is added to what is there.
    it.backend.seq_cp(0, 1, 60, 70)
    assert it.positions(1) == (0, 69)
    assert it.decode((0, MORE, 100), (1, MORE, 70), (2, MORE, 80)) == DecodeStatus.OK
    assert it.is_after(0, PROMPT + MORE)
    assert it.is_after(1, PROMPT[:70] + MORE)
    assert it.is_after(2, PROMPT[:80] + MORE)
    # What one lets go of, the others keep.
    assert it.backend.seq_rm(0, 0)
    assert it.positions(0) == (-1, -1)
    assert it.decode((1, MORE, 75)) == DecodeStatus.OK
    assert it.is_after(1, PROMPT[:70] + MORE + MORE)


@pytest.mark.parametrize("kind", STATES)
def test_a_state_is_copied_whole_and_never_cut(slots, kind):
    it = slots(kind)
    assert it.decode((0, PROMPT, 0)) == DecodeStatus.OK
    assert it.positions(0) == (99, 99)
    it.backend.seq_cp(0, 1, 0, 100)
    it.backend.seq_cp(0, 2, 0, 100)
    assert it.positions(2) == (99, 99)
    assert not it.backend.seq_rm(1, 60)
    assert not it.backend.seq_rm(1, 99)
    assert it.positions(1) == (99, 99)
    # Copies go on each by itself, also in one batch.
    assert it.decode((0, MORE, 100), (1, MORE[1:], 100)) == DecodeStatus.OK
    assert it.is_after(0, PROMPT + MORE)
    assert it.is_after(1, PROMPT + MORE[1:])
    assert it.backend.seq_rm(0, 0)
    assert it.positions(0) == (-1, -1)
    assert it.decode((2, MORE[2:], 100), (1, MORE, 104)) == DecodeStatus.OK
    assert it.is_after(2, PROMPT + MORE[2:])
    assert it.is_after(1, PROMPT + MORE[1:] + MORE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_does_not_follow_on_is_refused_and_changes_nothing(slots, kind):
    it = slots(kind)
    assert it.decode((0, PROMPT, 0)) == DecodeStatus.OK
    before = it.positions(0)
    for start in (50, 99, 101):
        assert it.decode((0, MORE, start)) == DecodeStatus.INVALID
        assert it.positions(0) == before
    assert it.decode((0, MORE, 100)) == DecodeStatus.OK
    assert it.is_after(0, PROMPT + MORE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in RECURRENT])
def test_a_batch_without_room_changes_nothing(slots, kind):
    it = slots(kind, n_ctx=256)
    assert it.decode((0, PROMPT, 0)) == DecodeStatus.OK
    assert it.decode((1, prompt(200, seed=2), 0)) == DecodeStatus.NO_ROOM
    assert it.positions(1) == (-1, -1)
    assert it.decode((0, MORE, 100)) == DecodeStatus.OK
    assert it.is_after(0, PROMPT + MORE)


@pytest.mark.parametrize("kind", KINDS)
def test_after_an_abort_a_slot_can_be_emptied_and_its_neighbours_are_whole(slots, kind):
    """A state that was broken off may claim any position: the engine empties it."""
    it = slots(kind, n_batch=256, n_ubatch=16)
    assert it.decode((0, PROMPT, 0)) == DecodeStatus.OK
    it.backend.seq_cp(0, 1, 0, 100)
    it.backend.interrupt()
    assert it.decode((1, prompt(150, seed=3), 100)) == DecodeStatus.ABORTED
    it.backend.clear_interrupt()
    if kind in STATES:
        assert not it.backend.seq_rm(1, 100)
    else:
        assert it.backend.seq_rm(1, 100)
        assert it.positions(1) == (0, 99)
        assert it.decode((1, MORE, 100)) == DecodeStatus.OK
        assert it.is_after(1, PROMPT + MORE)
    assert it.backend.seq_rm(1, 0)
    assert it.positions(1) == (-1, -1)
    assert it.decode((1, PROMPT, 0), (0, MORE, 100)) == DecodeStatus.OK
    assert it.is_after(1, PROMPT)
    assert it.is_after(0, PROMPT + MORE)


def test_a_window_lets_go_of_positions_while_cells_are_free_and_tells(slots):
    """Cells out of the window are given to others first come, first served."""
    it = slots("gemma3", n_ctx=256)
    it.decode((0, PROMPT, 0))
    it.decode((1, PROMPT[:50], 0))
    it.decode((2, PROMPT[50:], 0))
    it.backend.seq_rm(1, 0)
    it.decode((3, prompt(80, seed=4), 0))
    assert it.positions(2) == (50 - WINDOW + 1, 49)
    # Cutting it does not fail, nor does going on from there; but that is wrong.
    it.backend.seq_cp(2, 4, 0, 40)
    assert it.positions(4) == (50 - WINDOW + 1, 39)
    assert it.decode((4, MORE, 40)) == DecodeStatus.OK
    assert not it.is_after(4, PROMPT[50:90] + MORE)
    # All of it can be continued.
    assert it.decode((2, MORE, 50)) == DecodeStatus.OK
    assert it.is_after(2, PROMPT[50:] + MORE)


def test_batches_longer_than_a_micro_batch_do_not_lose_the_window(slots):
    """llama.cpp forgets cells that are shared when it computes such a batch in several parts."""
    it = slots("gemma3", n_ctx=256, n_batch=64, n_ubatch=16)
    own = prompt(66, seed=8)
    it.decode((0, PROMPT[:64], 0))
    it.decode((1, MORE, 0))
    it.backend.seq_cp(0, 3, 0, 40)
    it.decode((1, MORE[:1], 5), (2, prompt(49, seed=9), 0), (3, own[:14], 40))
    assert it.is_after(3, PROMPT[:40] + own[:14])
    it.backend.seq_rm(2, 0)
    it.decode((1, MORE[:1], 6), (3, own[14:], 54))
    assert it.is_after(3, PROMPT[:40] + own)


def test_beside_running_states_a_window_gets_one_prompt_a_batch(open_engine):
    """A batch of unequal parts would be computed in several pieces, as above."""
    engine = open_engine("lfm2", n_batch=64, n_ubatch=16)
    assert engine.settings.n_ubatch == 64
    decode, batch, shapes = engine.backend.decode, engine.backend.batch, []

    def decode_and_note(num_tokens: int) -> int:
        counts = np.bincount(batch.seq_ids[:num_tokens])
        shapes.append(sorted(counts[counts > 0].tolist()))
        return decode(num_tokens)

    engine.backend.decode = decode_and_note
    for n in range(4):
        ask(engine, f"r{n}", prompt(20 + 30 * n, seed=n), max_tokens=30)
    run(engine)
    assert all(len(shape) == 1 or set(shape) == {1} for shape in shapes)
    assert max(map(len, shapes)) == 4  # replies go on side by side
    first = [len(shape) == 1 for shape in shapes]
    assert first.index(False) < len(first) - first[::-1].index(True)  # and prompts in between


def test_what_a_slot_takes_over_piece_by_piece_has_no_hole(slots):
    """Part of a prompt is there, the rest comes from a slot whose window has moved on."""
    it = slots("gemma3", n_ctx=256)
    cache = KVCache(it.backend, 256)

    def fill(tokens: list[int]) -> int:
        slot, _ = cache.acquire(tokens)
        assert it.decode((slot, tokens, 0)) == DecodeStatus.OK
        cache.grow(slot, len(tokens))
        return slot

    fill(PROMPT)
    leaves = fill(PROMPT[:50])
    source = fill(PROMPT[50:])
    cache.release(leaves)
    fill(prompt(80, seed=4))
    assert it.positions(source) == (50 - WINDOW + 1, 49)
    target = fill(PROMPT[50:60])
    held = cache.take_over(source, target, 50)
    assert held in (10, 50)
    kept = cache.cut(target, 40) if held == 50 else held
    assert it.decode((target, MORE, kept)) == DecodeStatus.OK
    assert it.is_after(target, PROMPT[50 : 50 + kept] + MORE)


@pytest.mark.parametrize("kind", WINDOWED)
def test_the_engine_takes_over_nothing_from_a_window_that_has_let_go(
    open_engine, reference_for, kind
):
    engine = open_engine(kind, **EXACT)
    reference = reference_for(engine, kind)
    limits = {"stays": 20, "leaves": 20, "kept": 1, "fills": 1}
    prompts = {"stays": PROMPT, "leaves": prompt(40, seed=5)}
    for name in prompts:
        ask(engine, name, prompts[name], priority=Priority.BATCH, max_tokens=limits[name])

    def each_step(step: int) -> None:
        if step == 1:
            prompts["kept"] = prompt(50, seed=6)
            ask(engine, "kept", prompts["kept"], max_tokens=1)
        if step == 2:  # the cells before those of "kept" are free now, but too few
            engine.abort("leaves")
            prompts["fills"] = prompt(70, seed=7)
            ask(engine, "fills", prompts["fills"], max_tokens=1)

    replies = run(engine, each_step)
    if kind == "gemma3":
        first = [engine.backend.seq_pos_min(slot) for slot in range(engine.backend.memory.n_slots)]
        assert max(first) == 50 - WINDOW + 1, "nothing was let go of: the test tests nothing"
    for kept in (50, 40):
        name = f"again{kept}"
        prompts[name] = prompts["kept"][:kept] + prompt(4, seed=kept)
        ask(engine, name, prompts[name])
        replies |= run(engine)
        assert replies[name].usage.num_cached_tokens == (50 if kept == 50 else 0)
    for name, tokens in prompts.items():
        reference.judge(
            tokens, replies[name], bound=exact_bound(kind), max_tokens=limits.get(name, 8)
        )
