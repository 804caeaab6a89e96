"""What is kept is counted as llama.cpp itself counts it, for every kind of architecture."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from support.fit_models import ask
from support.fit_shapes import SHAPES
from support.gguf_writer import Typed, model_bytes
from support.tiny_model import write_tiny_model

from gguf_widgets.core.fit_estimate import Footprint
from gguf_widgets.core.fit_layers import memory_of
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.types import LoadSettings

needs_engine = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)

N_CTX = 32768
# With flash attention and without, which pads values; with one slot and several.
CONTEXTS = [
    {"n_ctx": N_CTX, "n_batch": 64, "n_ubatch": 64, "n_seq_max": slots, "flash_attn_type": flash}
    for flash, slots in ((1, 3), (0, 1))
]
# llama.cpp prints hundredths of a MiB, for up to three kinds of cache or state.
ROUNDED = 3 * 0.005 * 2**20


@needs_engine
def test_cells_and_states_are_those_that_llama_cpp_allocates(tmp_path: Path) -> None:
    answers = ask(tmp_path, SHAPES, CONTEXTS)
    assert answers.keys() == SHAPES.keys()
    wrong = []
    for name, sizes in answers.items():
        memory = memory_of(read_header(tmp_path / f"{name}.gguf"))
        for context, told in zip(CONTEXTS, sizes, strict=True):
            slots = int(context["n_seq_max"])
            cells = N_CTX * (slots if memory.cells_per_slot else 1)
            plain = not context["flash_attn_type"]
            numbers = sum(
                layer.keys + (layer.padded_values if plain else layer.values)
                for layer in memory.layers
            )
            states = memory.state * 4 * slots
            if (
                abs(told["cells"] - cells * numbers * 2) > ROUNDED
                or abs(told["states"] - states) > ROUNDED
            ):
                wrong.append((name, context, told, cells * numbers * 2, states))
        assert memory.sure, name
    assert wrong == []


@needs_engine
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "mamba"])
def test_as_many_slots_are_counted_as_the_engine_makes(architecture: str, tmp_path: Path) -> None:
    from gguf_widgets.core.engine.llama import LlamaBackend

    path = write_tiny_model(tmp_path / "tiny.gguf", architecture=architecture)
    settings = LoadSettings(n_ctx=512, n_seq_max=5, n_threads=1)
    backend = LlamaBackend(path, settings)
    try:
        assert Footprint(read_header(path)).n_slots(settings) == backend.memory.n_slots
    finally:
        backend.close()


def test_an_architecture_that_keeps_something_unknown_is_said_to_be_unsure(tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    path.write_bytes(model_bytes(llama__ssm__inner_size=Typed("uint32", 64)))
    header = read_header(path)
    assert not memory_of(header).sure
    assert "less certainty" in Footprint(header).estimate(LoadSettings()).notes[0]
    path.write_bytes(model_bytes())
    assert Footprint(read_header(path)).estimate(LoadSettings()).notes == ()
