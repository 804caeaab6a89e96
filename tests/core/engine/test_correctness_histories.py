"""Random histories on real tiny models: whatever happens, each reply is llama.cpp's own."""

from __future__ import annotations

import pytest
from support.reference import EXACT, exact_bound
from support.tiny_histories import play

HISTORIES = [("llama", 8), ("deepseek2", 4), ("gemma3", 4), ("mamba", 4), ("jamba", 4), ("lfm2", 4)]


@pytest.mark.parametrize(("kind", "how_many"), HISTORIES)
@pytest.mark.parametrize(
    "load",
    [
        {"n_ctx": 256, "n_seq_max": 3, "n_batch": 24},
        {"n_ctx": 256, "n_seq_max": 6, "n_batch": 64, "n_ubatch": 16, "n_draft": 4},
        {"n_ctx": 256, "n_seq_max": 3, "n_batch": 24, "kv_unified": False},
        {"n_ctx": 256, "n_seq_max": 8, "n_batch": 64, "n_ubatch": 32, "kv_unified": False}
        | {"n_draft": 4},
    ],
    ids=["few slots", "few cells", "few slots with own cells", "own cells and guesses"],
)
def test_whatever_happens(open_engine, reference_for, kind, how_many, load):
    engine = open_engine(kind, **EXACT, **load)
    if engine.settings.n_draft:
        engine._drafts.length = lambda num_decoding: 4  # whether or not it pays
    reference = reference_for(engine, kind)
    for seed in range(how_many):
        play(engine, reference, exact_bound(kind), seed)
    engine.clear_cache()
    assert engine.stats().num_cells_kept == 0
    slots = range(engine.backend.memory.n_slots)
    assert [engine.backend.seq_pos_max(slot) for slot in slots] == [-1 for _ in slots]
