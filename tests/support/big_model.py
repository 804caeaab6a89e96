"""A model file of 7 thousand million parameters' shape; its weights are a hole in the file."""

from __future__ import annotations

from pathlib import Path

from support.gguf_writer import Tensor, Typed, header_bytes, model_entries

__all__ = ["write_big_model"]


def write_big_model(path: Path, *, weights: int, **changes: Typed) -> Path:
    """Write it with so many bytes of weights, and return its path."""
    shape = {
        "llama__context_length": Typed("uint32", 32768),
        "llama__embedding_length": Typed("uint32", 4096),
        "llama__block_count": Typed("uint32", 32),
        "llama__feed_forward_length": Typed("uint32", 14336),
        "llama__attention__head_count": Typed("uint32", 32),
        "llama__attention__head_count_kv": Typed("uint32", 8),
    }
    entries = model_entries(**{**shape, **changes})
    data, size = header_bytes(entries.items(), [Tensor("w", (weights // 4,))])
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + size + 32)
    return path
