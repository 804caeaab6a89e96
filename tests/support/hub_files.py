"""Model files for a hub to deliver, and what is left of them on the disk.

Not a test and no fixture. The files are sound and small, and their weights are noise, so that any
damage on the way shows.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

from support.gguf_writer import (
    F32,
    MODEL_TENSORS,
    Q8_0,
    Tensor,
    Typed,
    gguf_bytes,
    header_bytes,
    model_entries,
)


def model_file(
    num_bytes: int = 3_000_000, *, seed: int = 0, eight_bits: bool = False, **changes: Typed
) -> bytes:
    """Return a sound model of about that size; its weights are noise, so that any damage shows.

    With `eight_bits` it is the same model in another version, of a little over a quarter the size.
    """
    rows = max(1, num_bytes // (4 * 256))
    large = Tensor("blk.1.ffn_up.weight", (256, rows), F32)
    if eight_bits:
        large = large._replace(type_id=Q8_0, num_bytes=rows * 256 // 32 * 34)
    tensors = [*MODEL_TENSORS, large]
    return _filled(model_entries(**changes).items(), tensors, seed)


def split_files(name: str, count: int, *, seed: int = 0) -> dict[str, bytes]:
    """Return a model in several files: ``name-00001-of-0000N.gguf`` and so on."""
    files = {}
    for number in range(count):
        about = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", count),
            "split.tensors.count": Typed("int32", count + 2),
        }
        entries = dict(about) if number else model_entries() | about
        tensors = [Tensor(f"blk.{number}.ffn_up.weight", (256, 400), F32)]
        tensors = tensors if number else [*MODEL_TENSORS[:2], *tensors]
        data = _filled(entries.items(), tensors, seed + number)
        files[f"{name}-{number + 1:05}-of-{count:05}.gguf"] = data
    return files


def projector_file() -> bytes:
    """Return a companion for images (mmproj)."""
    entries = {
        "general.architecture": Typed("string", "clip"),
        "general.type": Typed("string", "mmproj"),
    }
    return gguf_bytes(entries.items(), [Tensor("v.patch_embd.weight", (64, 64))])


def _filled(entries: Any, tensors: list[Tensor], seed: int) -> bytes:
    header, num_bytes = header_bytes(entries, tensors)
    noise = random.Random(seed).randbytes(num_bytes)  # noqa: S311 - no secret
    return header + b"\0" * (-len(header) % 32) + noise


def files_below(folder: Path) -> set[str]:
    """Return all files below a folder by their relative paths, the downloads' records left out."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".json")
    }


def git_sha1(data: bytes) -> str:
    """Return git's own checksum of a file, which the hub has for what it keeps without LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
