"""Whether a GGUF file is an image companion (mmproj) that goes with a model, by the headers alone.

Promises: what passes has an encoder for images whose numbers can be true, and gives vectors of the
model's width to a model of the right family, so that llama.cpp, which stops the whole process where
some of these are wrong, has nothing to stop for; what does not is refused with both values. Leaves
to others: which of several belongs to a model (`library.projectors`), loading it (the worker).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gguf_widgets.core.errors import MmprojFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_header import GgufHeader

__all__ = ["ONLY_WITH", "ProjectorInfo", "check_is_projector"]

ONLY_WITH: Final[dict[str, tuple[str, ...]]] = {
    "qwen2vl_merger": ("qwen2vl",),
    "qwen2.5vl_merger": ("qwen2vl",),
    "qwen3vl_merger": ("qwen3vl", "qwen35", "qwen4"),
    "gemma3": ("gemma3",),
    "gemma3nv": ("gemma3n",),
    "llama4": ("llama4",),
}
"""Kinds whose positions or tokens only one family knows, and how its architectures begin; the names
are in llama.cpp's `clip-impl.h` and `llama-arch.cpp`."""

# What one image becomes depends on what stands before it in the prompt, which is not done here.
_NOT_DONE: Final = ("hunyuanvl", "deepseek4v")

_MOST_BLOCKS: Final = 512  # llama.cpp's own limit for a model
_MOST_PIXELS: Final = 16_384  # on a side
_MM: Final = ("mm.", "mm_", "resampler.", "v.mm", "adapter.")


@dataclass(frozen=True, slots=True)
class ProjectorInfo:
    """What is wanted of a projector.

    Attributes
    ----------
    name : str
    kind : str
        llama.cpp's name of what it is.
    num_blocks : int
        Layers of its encoder.
    size_bytes : int
    compute_bytes : int
        A generous guess of what encoding one image takes besides.
    """

    name: str
    kind: str
    num_blocks: int
    size_bytes: int
    compute_bytes: int


def check_is_projector(header: GgufHeader, model: GgufHeader) -> ProjectorInfo:
    """Raise unless the first is an image companion of the second, as far as headers can tell.

    Raises
    ------
    MmprojFileError
        Its message says what does not fit.
    MalformedHeaderError
        If one of its numbers is something else.
    """
    kind = _check_kind(header)
    numbers = {key: _number(header, key) for key in _LIMITS}
    n_embd, n_head = numbers["embedding_length"], numbers["attention.head_count"]
    own_heads = "clip.vision.attention.head_dim" in header.metadata
    if n_head and n_embd % n_head and not own_heads:
        raise _refused(
            header, f"has an encoder {n_embd} wide with {n_head} heads, which does not divide"
        )
    if numbers["patch_size"] > numbers["image_size"]:
        raise _refused(
            header,
            f"cuts images of {numbers['image_size']} pixels into pieces of"
            f" {numbers['patch_size']}, which are larger",
        )
    _check_blocks(header, numbers["block_count"], n_embd)
    _check_width(header, model)
    families = ONLY_WITH.get(kind)
    if families is not None and not model.architecture.startswith(families):
        raise _refused(
            header,
            f"is of the kind {plain_text(kind, 64)!r}, made for {' and '.join(families)} models,"
            f" and {shown(model.path)} is {plain_text(model.architecture, 64)!r}",
        )
    patches = (numbers["image_size"] // numbers["patch_size"]) ** 2
    return ProjectorInfo(
        name=header.name,
        kind=kind,
        num_blocks=numbers["block_count"],
        size_bytes=header.size_bytes,
        compute_bytes=_compute_bytes(patches, n_embd, n_head),
    )


def _check_kind(header: GgufHeader) -> str:
    if header.architecture != "clip":
        raise _refused(
            header,
            f"is of the architecture {plain_text(header.architecture or 'unknown', 64)!r}, and an"
            " image companion's is 'clip'",
        )
    sound = header.metadata.get("clip.has_audio_encoder") is True
    # The first projectors were for images only and did not say so.
    if header.metadata.get("clip.has_vision_encoder", not sound) is not True:
        raise _refused(header, "has no encoder for images (it may be one for sound)")
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type")
    if kind is None:
        raise _refused(header, "does not say of which kind it is (clip.projector_type)")
    if kind in _NOT_DONE:
        raise _refused(
            header,
            f"is of the kind {kind!r}, whose images depend on the text before them; this program"
            " cannot do that yet",
        )
    return kind


_LIMITS: Final = {
    "block_count": (0, _MOST_BLOCKS),  # some have no encoder to speak of, only a projector
    "embedding_length": (1, 1 << 16),
    "attention.head_count": (0, 1024),
    "image_size": (1, _MOST_PIXELS),
    "patch_size": (1, _MOST_PIXELS),
}


def _number(header: GgufHeader, key: str) -> int:
    low, high = _LIMITS[key]
    value = header.number(f"clip.vision.{key}")
    if value is None or not low <= value <= high:
        raise _refused(
            header,
            f"should say a number from {low} to {high:,} for clip.vision.{key}, and it says"
            f" {'nothing' if value is None else f'{value:,}'}",
        )
    return value


def _check_blocks(header: GgufHeader, num_blocks: int, n_embd: int) -> None:
    """Compare the norms that nearly every kind has with the numbers; llama.cpp trusts them."""
    for tensor in header.tensors:
        name = tensor.name.split(".")
        if name[:2] != ["v", "blk"] or len(name) != 5 or not name[2].isdecimal():
            continue
        if int(name[2]) >= num_blocks:
            raise _refused(
                header, f"has the tensor {plain_text(tensor.name)!r} and {num_blocks} blocks only"
            )
        if name[3] in ("ln1", "ln2") and tensor.shape[:1] != (n_embd,):
            raise _refused(
                header,
                f"is {n_embd} wide by its numbers and {(*tensor.shape, 1)[0]} by its tensor"
                f" {plain_text(tensor.name)!r}",
            )


def _check_width(header: GgufHeader, model: GgufHeader) -> None:
    wanted = model.number(f"{model.architecture}.embedding_length") or 0
    said = header.number("clip.vision.projection_dim") or 0
    # The first ones for LLaVA say the encoder's own width there; their last tensors tell the other.
    sizes = {size for t in header.tensors if t.name.startswith(_MM) for size in t.shape}
    if wanted != said and wanted not in sizes:
        raise _refused(
            header,
            f"gives vectors of {said or 'an unknown number of'} numbers, and"
            f" {shown(model.path)} is {wanted} wide: it belongs to another model",
        )


def _compute_bytes(patches: int, n_embd: int, n_head: int) -> int:
    # Attention's scores (where flash attention is off), and a dozen activations; floats.
    return 4 * (n_head * patches * patches + 12 * patches * n_embd) + (16 << 20)


def _refused(header: GgufHeader, why: str) -> MmprojFileError:
    return MmprojFileError(
        f"{shown(header.path)} cannot be used as an image companion (mmproj): it {why}.",
        path=str(header.path),
    )
