"""The SHA-256 of model files, computed when it is asked for and remembered.

Promises: a file is read once for it, and again only when its size, times or inode change; a hash of
a file that changed while it was read is never returned; progress is told and stopping takes a
moment. What the Hugging Face cache and Ollama name a file by is its hash, for nothing; `fresh`
reads the file all the same. Leaves to others: who is the same as whom (`duplicates`).

Kept in ``library/sha256.json`` in the data folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_values import FileIdentity
from gguf_widgets.core.library.small_file import SmallFile

__all__ = ["Hashes", "joined_sha256", "sha256_of"]

Progress = Callable[[int, int], object]
Cancel = Callable[[], bool]

_VERSION: Final = 1
_MAX_FILES: Final = 4096
_CHUNK_BYTES: Final = 4 << 20
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

_State = tuple[int, int, int, int]


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    state: _State  # inode, size, mtime_ns, ctime_ns
    sha256: str


class _File(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    hashes: dict[str, _Kept] = {}  # by path, the oldest first


def _newer_half(content: _File) -> _File:
    pairs = list(content.hashes.items())
    return _File(hashes=dict(pairs[(len(pairs) + 1) // 2 :]))


_FILE: Final = SmallFile(
    "sha256.json", _File, version=_VERSION, max_bytes=4_000_000, shrink=_newer_half
)


class Hashes:
    """The hashes that are known already, read from the disk once."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] | None = None

    def known(self, path: Path) -> str:
        """Return the SHA-256 of a file if it is known and the file the same; else ""."""
        if self._kept is None:
            self._kept = _FILE.read().hashes
        kept = self._kept.get(str(path))
        if kept is None or not _SHA256.fullmatch(kept.sha256):
            return ""
        try:
            return kept.sha256 if _state(path.stat()) == kept.state else ""
        except OSError:
            return ""


def sha256_of(
    path: Path,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    fresh: bool = False,
) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Parameters
    ----------
    path : Path
    progress : callable, optional
        Called after every few MB with how many bytes are done and how many there are.
    cancel : callable, optional
        Asked as often; answering True stops it.
    fresh : bool, default False
        Read the file even if its hash is known.

    Raises
    ------
    FileChangeError
        ``details["problem"]`` is "unreadable", "changed" or "cancelled".
    """
    if not fresh:
        known = Hashes().known(path)
        if known:
            return known
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            digest, done = hashlib.sha256(), 0
            # No further than it was long: a file that grows as fast as it is read has no end.
            while done <= before.st_size and (chunk := file.read(_CHUNK_BYTES)):
                digest.update(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(min(done, before.st_size), before.st_size)
                if cancel is not None and cancel():
                    raise _failed(path, "cancelled", "was not read to its end: it was stopped.")
            after = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _failed(path, "unreadable", f"cannot be read: {reason}.") from error
    if FileIdentity.of(before) != FileIdentity.of(after) or done != before.st_size:
        raise _failed(path, "changed", "changed while it was read. Try again when it is complete.")
    found = digest.hexdigest()

    def with_it(content: _File) -> _File:
        others = [(k, v) for k, v in content.hashes.items() if k != str(path)]
        return _File(
            hashes={**dict(others[-(_MAX_FILES - 1) :]), str(path): _Kept(_state(after), found)}
        )

    _FILE.try_update(with_it)
    return found


def joined_sha256(hashes: Sequence[str]) -> str:
    """Return one hash for the parts of a model: the part's own, or a SHA-256 over those of all."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _state(status: os.stat_result) -> _State:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _failed(path: Path, problem: str, what: str) -> FileChangeError:
    return FileChangeError(
        f'"{plain_text(path.name, 100)}" {what}', path=str(path), problem=problem
    )
