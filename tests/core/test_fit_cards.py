"""Graphics cards, made up: where layers go, what is judged, which settings are chosen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_writer import Tensor, Typed, header_bytes, model_entries

from gguf_widgets.core.devices import Device
from gguf_widgets.core.errors import NotEnoughMemoryError
from gguf_widgets.core.fit import check_fits, choose_settings, estimate, options
from gguf_widgets.core.fit_place import GPU_MARGIN_BYTES, MAIN, layer_places, usable_gpus
from gguf_widgets.core.gguf import GgufHeader, read_header
from gguf_widgets.core.types import LoadSettings

GB = 10**9
N_LAYER = 32
LAYER = GB // 8


def card(free_gb: float, number: int = 0, *, integrated: bool = False, total: int = 24) -> Device:
    return Device(
        name=f"CUDA{number}",
        description="Some card",
        kind="gpu",
        integrated=integrated,
        memory_free_bytes=int(free_gb * GB),
        memory_total_bytes=total * GB,
    )


CPU = Device(
    name="CPU", description="", kind="cpu", memory_free_bytes=GB, memory_total_bytes=2 * GB
)


@pytest.fixture
def model(tmp_path: Path) -> GgufHeader:
    """32 layers of 125 MB, an output of 250 MB, embeddings of 250 MB; a cache of 128 KB a token."""
    shape = {
        "llama__context_length": Typed("uint32", 32768),
        "llama__embedding_length": Typed("uint32", 4096),
        "llama__block_count": Typed("uint32", N_LAYER),
        "llama__feed_forward_length": Typed("uint32", 14336),
        "llama__attention__head_count": Typed("uint32", 32),
        "llama__attention__head_count_kv": Typed("uint32", 8),
    }
    tensors = [Tensor("token_embd.weight", (2 * LAYER // 4,))]
    tensors += [Tensor(f"blk.{i}.ffn_up.weight", (LAYER // 4,)) for i in range(N_LAYER)]
    tensors += [Tensor("output.weight", (2 * LAYER // 4,))]
    data, size = header_bytes(model_entries(**shape).items(), tensors)
    path = tmp_path / "model.gguf"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + size + 64)
    return read_header(path)


@given(
    n_layer=st.integers(1, 100),
    n_gpu_layers=st.integers(-1, 120),
    free=st.lists(st.integers(1, 80), min_size=1, max_size=4),
)
def test_layers_go_to_cards_from_the_last_in_shares_like_their_memory(
    n_layer: int, n_gpu_layers: int, free: list[int]
) -> None:
    gpus = [card(size, number) for number, size in enumerate(free)]
    places = layer_places(n_layer, n_gpu_layers, gpus)
    assert len(places) == n_layer + 1
    wanted = n_layer + 1 if n_gpu_layers < 0 else min(n_gpu_layers, n_layer + 1)
    assert sum(place != MAIN for place in places) == wanted
    assert all(one <= other for one, other in pairwise(places))  # MAIN first, then card by card
    for number, size in enumerate(free):
        assert abs(places.count(number) - wanted * size / sum(free)) <= 1


def test_a_card_of_its_own_goes_before_one_in_the_processor() -> None:
    own, shared = card(8), card(4, 1, integrated=True)
    assert usable_gpus([own, shared, CPU]) == (own,)
    assert usable_gpus([shared, CPU]) == (shared,)
    assert usable_gpus([CPU]) == ()


def test_what_is_on_a_card_is_not_in_main_memory(model: GgufHeader) -> None:
    settings = LoadSettings(n_ctx=4096, n_seq_max=8)
    cells = 4096 * 128 * 1024
    alone = estimate(model, settings)
    assert alone.gpu_bytes == ()
    assert alone.main_bytes == alone.total_bytes
    assert alone.weights_bytes == (N_LAYER + 4) * LAYER

    whole = estimate(model, settings, gpus=[card(24)])
    on_card = dict(whole.gpu_bytes)["CUDA0"]
    assert on_card > (N_LAYER + 2) * LAYER + cells  # and a buffer for results
    assert whole.main_bytes < alone.total_bytes - (N_LAYER + 2) * LAYER - cells + GB // 10
    assert whole.main_bytes + on_card == whole.total_bytes

    # Half of the layers, and the output: with them goes half of the cache.
    half = estimate(model, settings.replace(n_gpu_layers=17), gpus=[card(24)])
    assert dict(half.gpu_bytes)["CUDA0"] == pytest.approx(
        on_card - 16 * LAYER - cells // 2 + LAYER, rel=0.01
    )
    # A card inside the processor takes it all from main memory.
    shared = estimate(model, settings, gpus=[card(24, integrated=True)])
    assert shared.main_bytes == shared.total_bytes


def test_each_place_is_judged_by_itself(model: GgufHeader) -> None:
    settings = LoadSettings(n_ctx=4096)
    need = estimate(model, settings, gpus=[card(24)])
    on_card = dict(need.gpu_bytes)["CUDA0"] + GPU_MARGIN_BYTES
    enough = [card(on_card / GB + 0.001)]
    check_fits(model, settings, free_bytes=need.main_bytes, gpus=enough)
    with pytest.raises(NotEnoughMemoryError, match="of main memory, where 250 MB is free"):
        check_fits(model, settings, free_bytes=GB // 4, gpus=enough)
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_fits(model, settings, free_bytes=60 * GB, gpus=[card(3)])
    error = caught.value
    assert "4.9 GB on the graphics card CUDA0, where 2.6 GB is free." in error.message
    assert "16 of 33 layers on the graphics card (" in error.message
    assert [place["name"] for place in error.details["places"]] == ["main memory", "CUDA0"]
    # What a card does not tell cannot be judged.
    check_fits(model, settings, free_bytes=60 * GB, gpus=[card(0, total=0)])


def test_options_are_ranked_and_each_of_them_fits(model: GgufHeader) -> None:
    settings = LoadSettings(n_ctx=32768, flash_attn=False)
    gpus, free = [card(5)], 8 * GB
    found = options(model, settings, free_bytes=free, gpus=gpus)
    for option in found:
        need = check_fits(model, option.settings, free_bytes=free, gpus=gpus)
        assert (need.total_bytes, need.gpu_bytes) == (option.total_bytes, option.gpu_bytes)
        assert option.sentence.startswith("with ")
    changes = [option.changes for option in found]
    # With an eight-bit cache goes flash attention, without which llama.cpp has none.
    assert all(c["flash_attn"] is True for c in changes if "type_v" in c)
    # None is worse than an earlier one in everything.
    for number, later in enumerate(changes):
        for earlier in changes[:number]:
            if earlier.keys() <= later.keys():
                assert any(
                    name in earlier and later[name] > earlier[name]
                    for name in ("n_ctx", "n_gpu_layers")
                )
    few = [n for n, c in enumerate(changes) if c.get("n_gpu_layers", 99) < 17]
    short = [n for n, c in enumerate(changes) if "n_ctx" in c and "n_gpu_layers" not in c]
    assert max(short, default=0) < min(few, default=99)


@pytest.mark.parametrize(
    ("free_gb", "layers", "sequences", "n_batch", "words"),
    [
        (24, -1, 32, 2048, ()),
        (3, 13, 16, 512, ("13 of 33 layers are on the graphics card (Some card, 3 GB free)",)),
        (0.5, 0, 16, 512, ("No layers are on the graphics card (Some card)",)),
    ],
)
def test_as_many_layers_as_fit_are_put_on_the_card(
    model: GgufHeader,
    free_gb: float,
    layers: int,
    sequences: int,
    n_batch: int,
    words: tuple[str, ...],
) -> None:
    gpus = [card(free_gb)]
    chosen, notes = choose_settings(model, free_bytes=32 * GB, n_cores=4, gpus=gpus)
    assert (chosen.n_gpu_layers, chosen.n_seq_max, chosen.n_batch) == (layers, sequences, n_batch)
    assert [word for word in words if not any(word in note for note in notes)] == []
    assert bool(notes) == bool(words)
    check_fits(model, chosen, free_bytes=32 * GB, gpus=gpus)
    if layers > 0:
        more = chosen.replace(n_gpu_layers=layers + 3)
        with pytest.raises(NotEnoughMemoryError):
            check_fits(model, more, free_bytes=32 * GB, gpus=gpus)
    # What was asked for stays.
    asked = LoadSettings(n_gpu_layers=33, n_seq_max=3, n_batch=99)
    kept, _ = choose_settings(model, asked, free_bytes=32 * GB, n_cores=4, gpus=gpus)
    assert (kept.n_gpu_layers, kept.n_seq_max, kept.n_batch) == (33, 3, 99)
