"""Intermediate results take what was predicted, for models of real widths."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from support.fit_models import ask
from support.fit_shapes import REAL

from gguf_widgets.core.fit_compute import graph_of
from gguf_widgets.core.fit_layers import memory_of
from gguf_widgets.core.gguf import read_header

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)

N_VOCAB = 128_256
# How far the prediction may be from what llama.cpp reserves, for any model and settings, and on
# average. It is meant to be on the safe side.
LEAST, MOST = 0.97, 1.35
LEAST_MEAN, MOST_MEAN = 1.0, 1.12


def context(
    n_ctx: int, n_ubatch: int, n_slots: int, num_outputs: int, *, flash: bool
) -> dict[str, Any]:
    return {
        "n_ctx": n_ctx,
        "n_batch": max(512, n_ubatch),
        "n_ubatch": n_ubatch,
        "n_seq_max": n_slots,
        "n_outputs_max": num_outputs,
        "flash_attn_type": int(flash),
    }


CONTEXTS = [
    context(8192, 512, 8, 8, flash=True),
    context(2048, 64, 8, 8, flash=True),
    context(2048, 128, 8, 64, flash=True),  # many logits: with a draft, they are the most
    context(32768, 512, 1, 1, flash=True),
    context(2048, 2048, 8, 8, flash=True),
    context(8192, 512, 8, 8, flash=False),
    context(2048, 512, 1, 1, flash=False),
]


def test_predictions_are_close_and_on_the_safe_side(tmp_path: Path) -> None:
    answers = ask(tmp_path, REAL, CONTEXTS, n_vocab=N_VOCAB)
    ratios: dict[tuple[str, int], float] = {}
    for name, sizes in answers.items():
        header = read_header(tmp_path / f"{name}.gguf")
        graph = graph_of(header, memory_of(header))
        for number, (options, told) in enumerate(zip(CONTEXTS, sizes, strict=True)):
            predicted = graph.compute_bytes(
                n_ubatch=options["n_ubatch"],
                n_ctx=options["n_ctx"],
                n_slots=options["n_seq_max"],
                num_outputs=options["n_outputs_max"],
                flash_attn=bool(options["flash_attn_type"]),
            )
            ratios[name, number] = predicted / told["compute"]
            # Logits are kept for every slot, whatever a batch may ask for.
            kept = graph.output_bytes(options["n_seq_max"])
            assert abs(kept - told["output"]) < 2**14, (name, options)
    wrong = {key: round(ratio, 2) for key, ratio in ratios.items() if not LEAST <= ratio <= MOST}
    assert wrong == {}
    assert LEAST_MEAN <= sum(ratios.values()) / len(ratios) <= MOST_MEAN


def test_slots_alone_cost_an_attention_model_nothing(tmp_path: Path) -> None:
    contexts = [context(8192, 512, slots, slots, flash=True) for slots in (1, 8, 32, 64)]
    shape = {"Llama-3.1-8B": REAL["Llama-3.1-8B"]}
    sizes = ask(tmp_path, shape, contexts, n_vocab=N_VOCAB)["Llama-3.1-8B"]
    assert len({size["compute"] for size in sizes}) == 1
