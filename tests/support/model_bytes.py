"""Model files of exactly any size: a true header, random bytes behind it.

Not a test and no fixture: import it as ``from support.model_bytes import model_bytes``.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from support.gguf_writer import Tensor, Typed, header_bytes, model_entries

__all__ = ["head_of", "model_bytes", "model_header", "sha256_of", "write_model"]

_BLOCK = 1 << 20


def model_header(size: int, *, num_header_bytes: int = 0, **changes: Typed) -> bytes:
    """Return the header of a model whose file has `size` bytes.

    Parameters
    ----------
    size : int
        At least some 2,000 more than the header.
    num_header_bytes : int, default 0
        So much longer than it need be.
    changes
        As for `gguf_writer.model_entries`.
    """
    entries = model_entries(**changes)
    if num_header_bytes:
        entries["test.filler"] = Typed("string", "x" * num_header_bytes)
    count = (size - num_header_bytes - 2000) // 4
    header, _ = header_bytes(
        entries.items(),
        [Tensor("token_embd.weight", (64, 4)), Tensor("blk.0.attn_q.weight", (count - 256,))],
    )
    assert len(header) < size
    return header


def model_bytes(size: int, *, seed: int = 0, num_header_bytes: int = 0, **changes: Typed) -> bytes:
    """Return a whole model file of `size` bytes."""
    header = model_header(size, num_header_bytes=num_header_bytes, **changes)
    rng = random.Random(seed)  # noqa: S311 - it keeps no secret
    return header + rng.randbytes(size - len(header))


def write_model(path: Path, size: int, *, seed: int = 0) -> str:
    """Write such a file without ever holding it, and return its SHA-256."""
    rng = random.Random(seed)  # noqa: S311 - it keeps no secret
    digest = hashlib.sha256()
    block = model_header(size)
    left = size
    with path.open("wb") as file:
        while left:
            block = block[:left]
            file.write(block)
            digest.update(block)
            left -= len(block)
            block = rng.randbytes(_BLOCK)
    return digest.hexdigest()


def head_of(data: bytes) -> bytes:
    """Return what `UploadStore.begin` wants of a file."""
    return data[: 1 << 16]


def sha256_of(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
