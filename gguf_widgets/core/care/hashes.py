"""The SHA-256 of files, and what one may be compared with.

Promises: a hash is remembered with the state of its file (its number on the disk, size and time),
so that it is found again after a rename and counts for nothing once the file has been written to;
what stands beside or in the name of a file is believed only if it has the form of a hash. Leaves to
others: what a difference means (`verify`).

Hugging Face's cache calls a file (``blobs/HASH``) by the SHA-256 of its content, Ollama
(``blobs/sha256-HASH``), too; a ``NAME.sha256`` beside a file is what ``sha256sum`` prints.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Final, NamedTuple

import filelock
import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.care.journal import read_json, write_json
from gguf_widgets.core.errors import FileChangeError, InvalidValueError

__all__ = ["Known", "checked_hash", "known_hashes", "remember_hash"]

_MOST: Final = 5000
_LONGEST_CHECKSUM_FILE: Final = 1 << 16
_LOCK_TIMEOUT_S: Final = 5.0
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
# As sha256sum and its like print it, for text, for binary, and in BSD's form.
_LINE: Final = re.compile(r"\\?([0-9a-fA-F]{64})(?:[ \t]+[ *]?(.*))?")
_BSD_LINE: Final = re.compile(r"SHA256 ?\((.*)\) ?= ?([0-9a-fA-F]{64})")


class Known(NamedTuple):
    """A hash that a file should have, and who says so, for a sentence."""

    sha256: str
    source: str


class _Remembered(msgspec.Struct, frozen=True):
    sha256: str
    source: str
    at: float


class _Memory(msgspec.Struct):
    version: int = 1
    hashes: dict[str, _Remembered] = {}


def checked_hash(text: str) -> str:
    """Return a SHA-256 as it is compared: 64 small hexadecimal digits.

    Parameters
    ----------
    text : str
        Also with "sha256:" in front.

    Raises
    ------
    InvalidValueError
        If it is none.
    """
    bare = text.strip()
    for prefix in ("sha256:", "sha256-"):
        if bare.lower().startswith(prefix):
            bare = bare[len(prefix) :]
    if _HASH.fullmatch(bare) is None:
        raise InvalidValueError(
            f"A SHA-256 has 64 digits from 0 to 9 and a to f; this is none: {text.strip()[:80]!r}."
        )
    return bare.lower()


def known_hashes(path: Path) -> list[Known]:
    """Return every hash that a file should have, as far as anybody has said."""
    found = []
    named = _from_name(path)
    if named is not None:
        found.append(named)
    beside = _from_file_beside(path)
    if beside is not None:
        found.append(Known(beside, f'the file "{path.name}.sha256" beside it'))
    key = _key(path)
    remembered = _read().hashes.get(key) if key is not None else None
    if remembered is not None and _HASH.fullmatch(remembered.sha256):
        found.append(Known(remembered.sha256.lower(), remembered.source))
    return found


def remember_hash(path: str | os.PathLike[str], sha256: str, source: str = "") -> bool:
    """Remember a file's hash for later checks; return whether that was possible.

    Parameters
    ----------
    path : str or path-like
        The file as it is now: a hash counts only until it is changed.
    sha256 : str
    source : str, optional
        Who says so, for a sentence: "the download". Default: an earlier check, with its day.
    """
    file = config.expanded(path)
    key = _key(file)
    if key is None:
        return False
    said = source or f"an earlier check ({time.strftime('%Y-%m-%d')})"
    try:
        config.ensure(_path().parent)
        with filelock.FileLock(f"{_path()}.lock", timeout=_LOCK_TIMEOUT_S, thread_local=False):
            memory = _read()
            # The latest last, so that the oldest are dropped.
            memory.hashes.pop(key, None)
            memory.hashes[key] = _Remembered(checked_hash(sha256), said, time.time())
            for old in list(memory.hashes)[: max(0, len(memory.hashes) - _MOST)]:
                del memory.hashes[old]
            write_json(_path(), memory)
    except (FileChangeError, filelock.Timeout, OSError):
        return False
    return True


def _path() -> Path:
    return config.data_dir() / "hashes.json"


def _read() -> _Memory:
    memory = read_json(_path(), _Memory)
    return memory if memory is not None and memory.version == 1 else _Memory()


def _key(path: Path) -> str | None:
    """Return what tells this state of this file from all others; None where nothing does."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    # Not its path, so that it may be renamed; not its device, whose number changes between starts.
    return f"{status.st_ino}:{status.st_size}:{status.st_mtime_ns}" if status.st_ino else None


def _from_name(path: Path) -> Known | None:
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    if real.parent.name != "blobs":
        return None
    name = real.name
    if match := re.fullmatch(r"sha256[-:]([0-9a-f]{64})", name):
        return Known(match[1], "its name in Ollama's folder")
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return Known(name, "its name in Hugging Face's cache")
    return None


def _from_file_beside(path: Path) -> str | None:
    beside = path.with_name(f"{path.name}.sha256")
    try:
        if not beside.is_file() or beside.stat().st_size > _LONGEST_CHECKSUM_FILE:
            return None
        text = beside.read_text("utf-8", errors="replace")
    except (OSError, ValueError):
        return None
    named: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if match := _BSD_LINE.fullmatch(line):
            named[match[1]] = match[2].lower()
        elif match := _LINE.fullmatch(line):
            named[match[2] or ""] = match[1].lower()
    own = named.get(path.name)
    if own is not None:
        return own
    # The only one in the file: it was written before the model was renamed, or without a name.
    values = set(named.values())
    return values.pop() if len(values) == 1 else None
