"""The SHA-256 of model files, computed when it is asked for and remembered.

Promises: one memory for all who learn or need one: the list of models and its duplicates, uploads,
downloads, checks. A file is read once for it, and again only when it has changed; a hash of a file
that changed while it was read is never kept; progress is told and stopping takes a moment. Leaves
to others: who is the same as whom (`duplicates`), what else a file may be compared with
(`core.care.hashes`), and what a difference means (`core.care.checking`).

Two questions, which are not the same:

`Hashes.known`
    What it comes to now. Asked instead of reading it, so the slightest change counts: size, time,
    number on the disk, and the time of the last change to any of these (``ctime``), which nobody
    can set.
`remembered`
    What it came to once, and who said so. Asked by whoever has read it and wants to compare, so
    that a disk that loses a bit in silence, or a program that sets the time back, is found out.

A file is known by its number on the disk, size and time, not by its path, so it keeps its hash when
it is renamed. Renaming by this program keeps the first answer, too, and so does the trash
(`Followed`); a rename by another one costs one reading.

Kept in ``library/hashes.json`` in the data folder. Versions before 0.1 had two other files
(``hashes.json``, ``library/sha256.json``): they are not read, and a hash is computed again when it
is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import FileChangeError, InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_values import FileIdentity
from gguf_widgets.core.library.small_file import SmallFile

__all__ = [
    "Followed",
    "Hashes",
    "checked_hash",
    "joined_sha256",
    "remember_hash",
    "remember_read",
    "remembered",
    "sha256_of",
]

Progress = Callable[[int, int], object]
Cancel = Callable[[], bool]

_VERSION: Final = 1
_MAX_FILES: Final = 5000
_MAX_SOURCE: Final = 100
_CHUNK_BYTES: Final = 4 << 20
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


class _Kept(msgspec.Struct, frozen=True):
    """A hash, who said so, and the `ctime` (in ns) up to which it is sure to be true."""

    sha256: str
    source: str
    ctime_ns: int


class _File(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    hashes: dict[str, _Kept] = {}  # the oldest first


def _newer_half(content: _File) -> _File:
    pairs = list(content.hashes.items())
    return _File(hashes=dict(pairs[(len(pairs) + 1) // 2 :]))


_FILE: Final = SmallFile(
    "hashes.json", _File, version=_VERSION, max_bytes=4_000_000, shrink=_newer_half
)


class Hashes:
    """The hashes that are known already, read from the disk once."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] | None = None

    def known(self, path: Path) -> str:
        """Return the SHA-256 of a file if it is known and the file the same; else ""."""
        status = _status(path)
        kept = self._of(path, status)
        if kept is None or status is None or kept.ctime_ns != status.st_ctime_ns:
            return ""
        return kept.sha256

    def remembered(self, path: Path) -> tuple[str, str] | None:
        """Return the SHA-256 that a file of this number, size and time had, and who said so."""
        kept = self._of(path, _status(path))
        return (kept.sha256, kept.source) if kept is not None else None

    def _of(self, path: Path, status: os.stat_result | None) -> _Kept | None:
        if status is None:
            return None
        if self._kept is None:
            self._kept = _FILE.read().hashes
        kept = self._kept.get(_key(path, status))
        return kept if kept is not None and _is_sound(kept) else None


def remembered(path: Path) -> tuple[str, str] | None:
    """As `Hashes.remembered`, for one file."""
    return Hashes().remembered(path)


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


def remember_hash(
    path: str | os.PathLike[str],
    sha256: str,
    source: str = "",
    *,
    status: os.stat_result | None = None,
) -> bool:
    """Remember a file's hash for later checks; return whether that was possible.

    Parameters
    ----------
    path : str or path-like
    sha256 : str
    source : str, optional
        Who says so, for a sentence: "the download". Default: an earlier check, with its day.
    status : os.stat_result, optional
        Of the file as it was when the hash was taken: where it has changed since, nothing is
        remembered. Default: as it is now.

    Raises
    ------
    InvalidValueError
        `sha256` is none.
    """
    digest = checked_hash(sha256)
    file = config.expanded(path)
    now = _status(file)
    if now is None or (status is not None and FileIdentity.of(now) != FileIdentity.of(status)):
        return False
    said = source or f"an earlier check ({time.strftime('%Y-%m-%d')})"
    return _keep({_key(file, now): _Kept(digest, said[:_MAX_SOURCE], now.st_ctime_ns)})


def remember_read(path: Path, sha256: str, status: os.stat_result) -> bool:
    """Remember what a file came to that was read; whoever said something else of it is believed.

    Parameters
    ----------
    path : Path
    sha256 : str
    status : os.stat_result
        Of the file as it was when it had been read.
    """
    said = remembered(path)
    if said is not None and said[0] != sha256:
        return False  # it has lost a bit, and must not be taken for whole the next time
    return remember_hash(path, sha256, said[1] if said is not None else "", status=status)


class Followed:
    """Brings the hashes of files along to other names or another disk.

    Parameters
    ----------
    paths : sequence of Path
        The files before they are moved, as they are now.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        hashes = Hashes()
        self._kept = [
            (hashes._of(path, status := _status(path)), status)  # noqa: SLF001 - this module's own
            for path in paths
        ]

    def arrived(self, paths: Sequence[Path]) -> None:
        """Say where they are now, in the same order; what is not there is left out."""
        new = {}
        for (kept, before), path in zip(self._kept, paths, strict=True):
            status = _status(path)
            if kept is None or before is None or status is None:
                continue
            if (status.st_size, status.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                continue
            # What was not sure to be true before is not now, either.
            sure = status.st_ctime_ns if kept.ctime_ns == before.st_ctime_ns else kept.ctime_ns
            new[_key(path, status)] = _Kept(kept.sha256, kept.source, sure)
        if new:
            _keep(new)


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
    whole = stat.S_ISREG(after.st_mode) and done == before.st_size
    if FileIdentity.of(before) != FileIdentity.of(after) or not whole:
        raise _failed(path, "changed", "changed while it was read. Try again when it is complete.")
    found = digest.hexdigest()
    remember_read(path, found, after)
    return found


def joined_sha256(hashes: Sequence[str]) -> str:
    """Return one hash for the parts of a model: the part's own, or a SHA-256 over those of all."""
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _keep(new: dict[str, _Kept]) -> bool:
    def with_them(content: _File) -> _File:
        # The latest last, so that the oldest are dropped.
        others = [(key, kept) for key, kept in content.hashes.items() if key not in new]
        others = others[max(0, len(others) + len(new) - _MAX_FILES) :]
        return _File(hashes={**dict(others), **new})

    return _FILE.try_update(with_them)


def _is_sound(kept: _Kept) -> bool:
    return _HASH.fullmatch(kept.sha256) is not None and kept.sha256 == kept.sha256.lower()


def _key(path: Path, status: os.stat_result) -> str:
    """Return what tells this state of this file from all others."""
    # Not its path, so that it may be renamed; not its device, whose number changes between starts.
    number = str(status.st_ino) if status.st_ino else str(path)  # some disks have no numbers
    return f"{number}:{status.st_size}:{status.st_mtime_ns}"


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _failed(path: Path, problem: str, what: str) -> FileChangeError:
    return FileChangeError(
        f'"{plain_text(path.name, 100)}" {what}', path=str(path), problem=problem
    )
