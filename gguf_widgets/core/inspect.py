"""A model file's header as text for people and as data for programs.

Promises: everything from the file comes out on one line and cut to a sensible length, so that a
hostile file cannot move the terminal's cursor; the data is plain JSON. Leaves to others: reading
(`gguf`), printing (`cli`).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

from gguf_widgets.core.errors import ModelFileError
from gguf_widgets.core.fit import estimate
from gguf_widgets.core.format import format_bytes, format_count, plain_text
from gguf_widgets.core.gguf import GgufArray, GgufHeader, GgufText, check_is_model
from gguf_widgets.core.types import LoadSettings, ModelInfo

__all__ = ["about", "describe", "tensor_types", "to_json"]

_LONGEST_TEXT: Final = 10_000
_LONGEST_FACT: Final = 300


def describe(header: GgufHeader) -> str:
    """Return what a header says, as lines of text for people.

    Raises
    ------
    MalformedHeaderError
        If a number in the header cannot be used.
    """
    info = header.info()
    facts = about(header)
    behind = [label for label, _ in facts].index("Parameters") + 1
    rows = [
        *facts[:behind],
        ("Exact number", _exactly(info.num_parameters)),
        *facts[behind:],
        ("File", plain_text(str(header.path), 300)),
        ("GGUF version", str(header.version)),
        ("Attention heads", _heads(info)),
        ("Chat template", _template_line(header)),
        ("Memory needed", _memory_line(header)),
        ("Can be loaded", _verdict(header) or "yes, as far as the header tells"),
    ]
    shown = [(label, text) for label, text in rows if text]
    width = max(len(label) for label, _ in shown)
    lines = [f"{label:<{width}}  {text}" for label, text in shown]
    if header.tensors:
        lines += ["", f"{len(header.tensors):,} tensors:"]
        lines += [
            f"  {kind:<8}  {number:>6,}  {format_count(elements):>7} numbers"
            f"  {format_bytes(size):>9}"
            for kind, number, elements, size in tensor_types(header)
        ]
    return "\n".join(lines)


def about(header: GgufHeader) -> list[tuple[str, str]]:
    """Return what a model is, as (what it is about, the fact), in the order to be shown.

    Each is one line; what the file does not say is left out. Addresses are texts: nobody has
    checked where they lead.

    Raises
    ------
    MalformedHeaderError
        If a number in the header cannot be used.
    """
    info = header.info()
    experts = f", {info.num_experts:,} experts" if info.num_experts else ""
    size = format_bytes(info.size_bytes)
    parameters = format_count(info.num_parameters) if info.num_parameters else "none"
    inside = f", {info.n_layer:,} layers of {info.n_embd:,}" if info.n_layer else ""
    rows = [
        ("Name", info.name),
        ("Description", info.description),
        ("Author", info.author),
        ("Licence", info.license),
        ("Address", info.url),
        ("Parameters", f"{parameters}{experts}"),
        ("Number format", info.quantization),
        ("Size", f"{size} in {info.num_files} files" if info.num_files > 1 else size),
        ("Context", f"{info.n_ctx_train:,} tokens in training" if info.n_ctx_train else ""),
        ("Architecture", f"{info.architecture}{inside}"),
        ("Vocabulary", f"{info.n_vocab:,} tokens" if info.n_vocab else ""),
    ]
    return [(label, plain_text(text, _LONGEST_FACT)) for label, text in rows if text]


def to_json(header: GgufHeader) -> dict[str, Any]:
    """Return what a header says, as plain JSON data.

    Lists in the header are given by their type and length; texts of more than 10,000 characters are
    cut; numbers that JSON does not have (NaN, infinity) become texts.

    Raises
    ------
    MalformedHeaderError
        If a number in the header cannot be used.
    """
    return {
        **header.info().to_dict(),
        "gguf_version": header.version,
        "alignment": header.alignment,
        "files": [str(path) for path in header.parts],
        "refused": _verdict(header),
        "metadata": {key: _json_value(value) for key, value in header.metadata.items()},
        "tensor_types": [
            {"type": kind, "tensors": number, "elements": elements, "bytes": size}
            for kind, number, elements, size in tensor_types(header)
        ],
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "type": tensor.type,
                "offset": tensor.offset,
                "bytes": tensor.size,
                "file": tensor.part,
            }
            for tensor in header.tensors
        ],
    }


def _exactly(num_parameters: int) -> str:
    exact = f"{num_parameters:,}"
    return "" if exact == format_count(num_parameters) else exact


def _heads(info: ModelInfo) -> str:
    return f"{info.n_head}, of keys and values {info.n_head_kv}" if info.n_head else ""


def _verdict(header: GgufHeader) -> str | None:
    """Return why this file cannot be loaded as a model; None if nothing speaks against it."""
    try:
        check_is_model(header)
    except ModelFileError as error:
        return error.message
    return None


def _template_line(header: GgufHeader) -> str:
    template = header.chat_template
    if template is not None:
        return f"yes ({len(template):,} characters)"
    if isinstance(header.metadata.get("tokenizer.chat_template"), GgufText):
        return "too long to be used"
    return "none"


def _memory_line(header: GgufHeader) -> str | None:
    if _verdict(header) is not None:
        return None
    settings = LoadSettings(n_ctx=min(4096, max(16, header.info().n_ctx_train)))
    need = estimate(header, settings)
    return f"about {format_bytes(need.total_bytes)} with a context of {settings.n_ctx:,} tokens"


def tensor_types(header: GgufHeader) -> list[tuple[str, int, int, int]]:
    """Return (type, tensors, numbers, bytes) for each tensor type, the largest part first."""
    tensors: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in header.tensors:
        tensors[tensor.type] += 1
        elements[tensor.type] += tensor.num_elements
        sizes[tensor.type] += tensor.size or 0
    order = sorted(tensors, key=lambda kind: (-elements[kind], kind))
    return [(kind, tensors[kind], elements[kind], sizes[kind]) for kind in order]


def _json_value(value: object) -> Any:
    if isinstance(value, GgufArray):
        return {"list_of": value.item_type, "length": len(value)}
    if isinstance(value, GgufText):
        return {"text_bytes": len(value)}
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + "…"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
