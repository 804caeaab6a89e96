"""What the list of models wants to know of a file, judged from its header alone.

Promises: the facts of a model, of a projector (mmproj), or why a file is neither; plain values that
can be kept between sessions. Leaves to others: keeping them (`cache`), and whether a claim
is true: a template can mention tools that the model was never trained to use.

How the capabilities are judged
-------------------------------
chat
    The file has a chat template (``tokenizer.chat_template``) that can be used.
tools
    The template uses a variable ``tools``: that is how applications hand tools to a template.
reasoning
    The template writes or cuts a thinking part: one of the marks that the known families use
    (``<think>``, ``[THINK]``, ``<|channel|>analysis`` and so on) or a variable that switches it
    (``enable_thinking``, ``thinking``, ``reasoning_effort``, ``reasoning_content``).
embeddings
    It is made for turning texts into vectors and does not write: it pools (``pooling_type`` mean,
    CLS or last), its tokens see each other both ways (``attention.causal`` is false), or it is an
    encoder (T5). That is the engine's own rule. Such a model has none of the three above.
vision, audio
    A projector is paired with it whose header says that it has an encoder for images or sound
    (``clip.has_vision_encoder``, ``clip.has_audio_encoder``); `projectors` pairs them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import ModelFileError, UnreadableFileError, from_wire, to_wire
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import GgufArray, GgufHeader, check_is_model, read_header
from gguf_widgets.core.types import ModelInfo

__all__ = ["CAPABILITIES", "Facts", "Projector", "read_facts"]

CAPABILITIES: Final = ("chat", "tools", "reasoning", "vision", "audio", "embeddings")

# What is inside {{ }} or {% %}: a word in the plain text of a template says nothing.
_CODE: Final = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_TOOLS: Final = re.compile(r"\btools\b")
_REASONING_CODE: Final = re.compile(
    r"\b(enable_thinking|thinking|reasoning_effort|reasoning_content|thinking_budget)\b"
)
_REASONING_MARKS: Final = (
    "<think>",
    "</think>",
    "[THINK]",
    "<|channel|>analysis",
    "<|START_THINKING|>",
    "<seed:think>",
    "<thinking>",
    "◁think▷",
)
_POOLS: Final = (1, 2, 3)  # llama.cpp's LLAMA_POOLING_TYPE_MEAN, _CLS, _LAST; 4 only ranks
_RANKS: Final = 4
_MAX_MM_SIZES: Final = 64


class Projector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a projector's header says of the model that it belongs to.

    Attributes
    ----------
    kinds : tuple of str
        llama.cpp's names of what it is ("gemma3", "qwen2.5vl_merger"): for images, for sound.
    width : int
        ``projection_dim``; 0 if it is not said.
    sizes : tuple of int
        The dimensions of its last tensors (``mm.*``): the model's width is one of them.
    vision, audio : bool
    """

    kinds: tuple[str, ...]
    width: int
    sizes: tuple[int, ...]
    vision: bool
    audio: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a file.

    Attributes
    ----------
    info : ModelInfo or None
        Of a model that can be used.
    failure : tuple or None
        Why it cannot: the error's class, message and details.
    capabilities : tuple of str
        Those of the file itself, in the order of `CAPABILITIES`.
    size_bytes : int
        All parts; 0 if the header cannot be read.
    fingerprint : str
        The same for files with the same header; "" if it cannot be read.
    names : tuple of str
        What the header calls the model and its family, for pairing.
    quantization : str
    projector : Projector or None
    """

    info: ModelInfo | None = None
    failure: tuple[str, str, dict[str, Any]] | None = None
    capabilities: tuple[str, ...] = ()
    size_bytes: int = 0
    fingerprint: str = ""
    names: tuple[str, ...] = ()
    quantization: str = ""
    projector: Projector | None = None

    def error(self) -> ModelFileError | None:
        """Return why it cannot be used, as a new object: raising one leaves no trace in another."""
        if self.failure is None:
            return None
        kind, message, said = self.failure
        details = {key: value for key, value in said.items() if key not in ("self", "message")}
        error = from_wire({"kind": kind, "message": message, "details": details})
        if isinstance(error, ModelFileError):
            return error
        return UnreadableFileError(message, **details)


def read_facts(path: Path) -> Facts:
    """Read a file's header and judge it; whatever is wrong with it becomes a part of the answer."""
    try:
        header = read_header(path)
    except ModelFileError as error:
        return Facts(failure=_failure(error))
    known = Facts(
        size_bytes=header.size_bytes,
        fingerprint=_fingerprint(header),
        names=_names(header),
        quantization=_quantization(header),
    )
    try:
        check_is_model(header)
        info = header.info()
    except ModelFileError as error:
        failure, projector = _failure(error), _projector(header)
        return msgspec.structs.replace(known, failure=failure, projector=projector)
    return msgspec.structs.replace(known, info=info, capabilities=_capabilities(header))


def _failure(error: ModelFileError) -> tuple[str, str, dict[str, Any]]:
    wire = to_wire(error)
    return (wire["kind"], wire["message"], wire["details"])


def _quantization(header: GgufHeader) -> str:
    """Return the number format, also of what is no model; "" where the header does not tell."""
    try:
        return header.info().quantization
    except ModelFileError:
        return ""


def _names(header: GgufHeader) -> tuple[str, ...]:
    keys = ("general.name", "general.basename", "general.base_model.0.name")
    found = (plain_text(header.text(key) or "", 200).strip() for key in keys)
    return tuple(dict.fromkeys(name for name in found if name))


def _fingerprint(header: GgufHeader) -> str:
    """Return a digest of the header: every key, number and text, and the table of tensors.

    Lists count by their type and length: reading the vocabularies of a folder of models again, only
    to tell files apart that differ in nothing else, would double the time of a look at it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(header.metadata.items()):
        said = f"{value.item_type} x {len(value)}" if isinstance(value, GgufArray) else repr(value)
        digest.update(f"{key}\0{said}\0".encode("utf-8", "surrogatepass"))
    for tensor in header.tensors:
        row = f"{tensor.name}\0{tensor.shape}\0{tensor.type_id}\0{tensor.offset}\0{tensor.part}\0"
        digest.update(row.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _capabilities(header: GgufHeader) -> tuple[str, ...]:
    arch = header.architecture
    pooling = header.metadata.get(f"{arch}.pooling_type")
    both_ways = header.metadata.get(f"{arch}.attention.causal") is False
    if pooling == _RANKS:
        return ()
    if arch == "t5encoder" or both_ways or pooling in _POOLS:
        return ("embeddings",)
    template = header.chat_template
    if template is None:
        return ()
    code = " ".join(_CODE.findall(template))
    found = ["chat"]
    if _TOOLS.search(code):
        found.append("tools")
    if _REASONING_CODE.search(code) or any(mark in template for mark in _REASONING_MARKS):
        found.append("reasoning")
    return tuple(found)


def _projector(header: GgufHeader) -> Projector | None:
    """Return what a projector is for; None if this is none."""
    if header.architecture != "clip" and header.text("general.type") != "mmproj":
        return None
    keys = ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")
    kinds = (header.text(key) for key in keys)
    widths = [
        value
        for key in ("clip.vision.projection_dim", "clip.audio.projection_dim")
        if isinstance(value := header.metadata.get(key), int) and 0 < value < 2**31
    ]
    sizes = {size for t in header.tensors if _is_last(t.name) for size in t.shape}
    audio = header.metadata.get("clip.has_audio_encoder") is True
    return Projector(
        kinds=tuple(plain_text(kind, 64) for kind in kinds if kind),
        width=widths[0] if widths else 0,
        sizes=tuple(sorted(size for size in sizes if size < 2**31)[:_MAX_MM_SIZES]),
        # The first projectors were for images only and did not say so.
        vision=header.metadata.get("clip.has_vision_encoder", not audio) is True,
        audio=audio,
    )


def _is_last(name: str) -> bool:
    return name.startswith(("mm.", "mm_", "resampler.", "a.mm", "v.mm"))
