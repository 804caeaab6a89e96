"""GGUF files written byte by byte, so that a test can get any one of them wrong.

Not a test and no fixture: import it as ``from support.gguf_writer import gguf_bytes``. It shares
nothing with the reader that it is there to test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

TYPES = {
    "uint8": (0, "B"),
    "int8": (1, "b"),
    "uint16": (2, "H"),
    "int16": (3, "h"),
    "uint32": (4, "I"),
    "int32": (5, "i"),
    "float32": (6, "f"),
    "bool": (7, "?"),
    "string": (8, ""),
    "array": (9, ""),
    "uint64": (10, "Q"),
    "int64": (11, "q"),
    "float64": (12, "d"),
}
F32, F16, Q8_0 = 0, 1, 8


class Typed(NamedTuple):
    """A metadata value: of an array the value is (item type, items)."""

    type: str
    value: Any


class Tensor(NamedTuple):
    """A tensor; `offset` None is where the one before it ends, `data` None is zeros."""

    name: str
    shape: tuple[int, ...] = (4,)
    type_id: int = F32
    num_bytes: int | None = None
    offset: int | None = None


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def payload(value: Typed) -> bytes:
    if value.type == "string":
        return text(value.value)
    if value.type == "array":
        kind, items = value.value
        body = b"".join(payload(Typed(kind, item)) for item in items)
        return struct.pack("<IQ", TYPES[kind][0], len(items)) + body
    return struct.pack("<" + TYPES[value.type][1], value.value)


def entry(key: str | bytes, value: Typed) -> bytes:
    return text(key) + struct.pack("<I", TYPES[value.type][0]) + payload(value)


def header_bytes(
    entries: Iterable[tuple[str | bytes, Typed]],
    tensors: Sequence[Tensor] = (),
    *,
    version: int = 3,
    alignment: int = 32,
) -> tuple[bytes, int]:
    """Return the header and how many bytes of tensor data belong behind its padding."""
    entries = list(entries)
    out = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(entries))]
    out += [entry(key, value) for key, value in entries]
    end = 0
    for tensor in tensors:
        offset = -(-end // alignment) * alignment if tensor.offset is None else tensor.offset
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        out.append(text(tensor.name) + shape + struct.pack("<IQ", tensor.type_id, offset))
        end = offset + (
            4 * _product(tensor.shape) if tensor.num_bytes is None else tensor.num_bytes
        )
    return b"".join(out), end


def gguf_bytes(
    entries: Iterable[tuple[str | bytes, Typed]],
    tensors: Sequence[Tensor] = (),
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """Return a whole file: header, padding, and zeros for the tensors."""
    header, num_bytes = header_bytes(entries, tensors, version=version, alignment=alignment)
    if not tensors:
        return header
    return header + b"\0" * (-len(header) % alignment) + b"\0" * num_bytes


def model_entries(architecture: str = "llama", **changes: Typed) -> dict[str, Typed]:
    """Return the entries of a small sound model; a change's key has "__" for "."."""
    entries = {
        "general.architecture": Typed("string", architecture),
        "general.name": Typed("string", "Small test model"),
        f"{architecture}.context_length": Typed("uint32", 2048),
        f"{architecture}.embedding_length": Typed("uint32", 64),
        f"{architecture}.block_count": Typed("uint32", 2),
        f"{architecture}.feed_forward_length": Typed("uint32", 128),
        f"{architecture}.attention.head_count": Typed("uint32", 4),
        f"{architecture}.attention.head_count_kv": Typed("uint32", 2),
        "tokenizer.ggml.tokens": Typed("array", ("string", ["<s>", "a", "b", "ab"])),
        "tokenizer.ggml.scores": Typed("array", ("float32", [0.0, -1.0, -2.0, -3.0])),
        "tokenizer.ggml.bos_token_id": Typed("uint32", 0),
        "tokenizer.ggml.add_bos_token": Typed("bool", True),
        "tokenizer.chat_template": Typed("string", "{{ messages[0].content }}"),
    }
    entries.update({key.replace("__", "."): value for key, value in changes.items()})
    return entries


MODEL_TENSORS = (
    Tensor("token_embd.weight", (64, 4)),
    Tensor("output_norm.weight", (64,)),
    Tensor("blk.0.attn_q.weight", (64, 64), Q8_0, 64 * 2 * 34),
)


def model_bytes(**changes: Typed) -> bytes:
    """Return a small sound model file."""
    return gguf_bytes(model_entries(**changes).items(), MODEL_TENSORS)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
