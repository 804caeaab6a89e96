"""An image companion is judged by its header before llama.cpp, which trusts it, sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gguf_writer import Tensor, Typed, gguf_bytes, model_bytes

from gguf_widgets.core.errors import MalformedHeaderError, MmprojFileError, ModelFileError
from gguf_widgets.core.gguf import check_is_projector, read_header

U32 = "uint32"
GOOD: dict[str, Typed] = {
    "general.architecture": Typed("string", "clip"),
    "general.type": Typed("string", "mmproj"),
    "general.name": Typed("string", "An eye"),
    "clip.has_vision_encoder": Typed("bool", True),
    "clip.projector_type": Typed("string", "mlp"),
    "clip.vision.projection_dim": Typed(U32, 64),
    "clip.vision.block_count": Typed(U32, 2),
    "clip.vision.embedding_length": Typed(U32, 32),
    "clip.vision.attention.head_count": Typed(U32, 4),
    "clip.vision.image_size": Typed(U32, 56),
    "clip.vision.patch_size": Typed(U32, 14),
}
TENSORS = (
    Tensor("v.blk.0.ln1.weight", (32,)),
    Tensor("v.blk.1.ln2.weight", (32,)),
    Tensor("mm.0.weight", (32, 64)),
)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that judges a companion with some entries changed, beside a model."""
    model = tmp_path / "model.gguf"
    model.write_bytes(model_bytes())

    def it(tensors: tuple[Tensor, ...] = TENSORS, **changes: Typed | None) -> Any:
        entries = {**GOOD, **{key.replace("__", "."): v for key, v in changes.items()}}
        path = tmp_path / "mmproj.gguf"
        path.write_bytes(gguf_bytes([(k, v) for k, v in entries.items() if v], tensors))
        return check_is_projector(read_header(path), read_header(model))

    return it


def test_one_that_belongs_to_the_model(judge: Callable[..., Any]) -> None:
    found = judge()
    assert (found.name, found.kind, found.num_blocks) == ("An eye", "mlp", 2)
    assert found.size_bytes > 0
    assert found.compute_bytes > 2**24
    # Where it does not say its width, its last tensors do; and where it says the encoder's own.
    assert judge(clip__vision__projection_dim=None).kind == "mlp"
    assert judge(clip__vision__projection_dim=Typed(U32, 32)).kind == "mlp"
    assert judge(clip__has_vision_encoder=None).kind == "mlp"
    # Some have no blocks, and some say how wide a head is.
    none = {"clip__vision__block_count": Typed(U32, 0)}
    none["clip__vision__attention__head_count"] = Typed(U32, 0)
    assert judge(TENSORS[2:], **none).num_blocks == 0
    odd = {"clip__vision__attention__head_count": Typed(U32, 5)}
    assert judge(**odd, clip__vision__attention__head_dim=Typed(U32, 8)).num_blocks == 2
    mixed = {"clip__projector_type": None, "clip__vision__projector_type": Typed("string", "x")}
    assert judge(**mixed).kind == "x"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general__architecture": Typed("string", "llama")}, "'llama'"),
        ({"clip__has_vision_encoder": Typed("bool", False)}, "no encoder for images"),
        (
            {"clip__has_vision_encoder": None, "clip__has_audio_encoder": Typed("bool", True)},
            "for sound",
        ),
        ({"clip__projector_type": None}, "which kind"),
        ({"clip__projector_type": Typed("string", "hunyuanvl")}, "cannot do that yet"),
        ({"clip__projector_type": Typed("string", "gemma3")}, "gemma3 models"),
        ({"clip__projector_type": Typed("string", "qwen2vl_merger")}, "qwen2vl models"),
        ({"clip__vision__block_count": None}, "says nothing"),
        ({"clip__vision__block_count": Typed(U32, 0)}, "0 blocks only"),
        ({"clip__vision__embedding_length": Typed(U32, 0)}, "says 0"),
        ({"clip__vision__block_count": Typed(U32, 100_000)}, "100,000"),
        ({"clip__vision__block_count": Typed(U32, 1)}, "1 blocks only"),
        ({"clip__vision__embedding_length": Typed(U32, 36)}, "36 wide by its numbers"),
        ({"tensors": (Tensor("v.blk.0.ln1.weight", ()), *TENSORS[1:])}, "and 1 by its tensor"),
        ({"clip__vision__attention__head_count": Typed(U32, 5)}, "does not divide"),
        ({"clip__vision__image_size": Typed(U32, 2**31 - 1)}, "image_size"),
        ({"clip__vision__patch_size": Typed(U32, 0)}, "patch_size"),
        ({"clip__vision__patch_size": Typed(U32, 57)}, "larger"),
        (
            {"clip__vision__projection_dim": Typed(U32, 128), "tensors": TENSORS[:2]},
            "128 numbers.*64 wide",
        ),
    ],
)
def test_one_that_does_not(judge: Callable[..., Any], changes: dict[str, Any], words: str) -> None:
    with pytest.raises(MmprojFileError, match=words) as caught:
        judge(**changes)
    assert '"mmproj.gguf" cannot be used as an image companion' in caught.value.message


def test_numbers_that_are_none(judge: Callable[..., Any]) -> None:
    for value in (Typed("string", "4"), Typed("float32", 4.0), Typed("int32", -4)):
        with pytest.raises(MalformedHeaderError):
            judge(clip__vision__block_count=value)


def test_any_damage_is_told_as_one_of_the_file(judge: Callable[..., Any], tmp_path: Path) -> None:
    judge()
    path, model = tmp_path / "mmproj.gguf", read_header(tmp_path / "model.gguf")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            check_is_projector(read_header(path), model)
        except ModelFileError:
            continue
