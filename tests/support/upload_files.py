"""Files to upload, made on the disk: sound models of any size, and what is no model.

Not a test and no fixture. The bytes behind the header are random but the same for the same seed, so
that a piece that lands in the wrong place changes the hash.
"""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from pathlib import Path

from support.gguf_writer import F32, Tensor, header_bytes, model_entries

_BLOCK = 1 << 20


def write_model(path: Path, num_bytes: int, seed: int = 1) -> Path:
    """Write a sound GGUF file of about `num_bytes`: a small model with one large tensor."""
    columns = 1024
    rows = max(1, (num_bytes - 4096) // (4 * columns))
    header, size = header_bytes(
        model_entries().items(), [Tensor("token_embd.weight", (columns, rows), F32)]
    )
    header += b"\0" * (-len(header) % 32)
    block = random.Random(seed).randbytes(_BLOCK)  # noqa: S311 - any bytes do, if the same again
    with path.open("wb") as file:
        file.write(header)
        left = size
        for number in range(-(-size // _BLOCK)):
            # Each block is the same but for its number, which is quick and tells them apart.
            stamped = struct.pack("<Q", number) + block[8:]
            file.write(stamped[: min(left, _BLOCK)])
            left -= _BLOCK
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_letter(path: Path) -> Path:
    """Write a text that is no model, whatever its name says."""
    path.write_text("Dear Emma, this is no model, only a letter of many lines.\n" * 5000)
    return path


def write_png(path: Path) -> Path:
    """Write a small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(range(64)) for _ in range(64)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path
