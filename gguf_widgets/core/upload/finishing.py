"""From a complete part file to a model in the folder: the same file found, a name given.

Promises: no file is ever written over; the name appears in one step, with all of the file behind
it, after the file has been handed to the disk; killed at any moment, this leaves the part file or
the finished one, or both as two names of the same bytes. The same file is recognised by SHA-256 of
the whole of it, whatever its name. A file or a link that somebody put in the part's place meanwhile
gets no name. Leaves to others: when (`store`).

How far "never written over" goes on a disk without hard links says `core.plain_files.give_name`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core import plain_files
from gguf_widgets.core.errors import RequestCancelledError, UploadError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.plain_files import sync_folder
from gguf_widgets.core.upload.names import numbered, same_name

__all__ = [
    "HEAD_BYTES",
    "Same",
    "already_taken",
    "find_like",
    "find_same",
    "free_name",
    "give_name",
]

# What is compared, and sent, to recognise a file: enough for the start of its metadata.
HEAD_BYTES: Final = 1 << 16

_BLOCK_BYTES: Final = 1 << 20
# As deep and as wide as the library looks.
_MAX_DEPTH: Final = 6
_MAX_ENTRIES: Final = 20_000


def already_taken(models: Path, name: str) -> Path | None:
    """Return what has this name in the models folder, or one that some system takes for it."""
    wanted = same_name(name)
    exact = models / name
    if os.path.lexists(exact):
        return exact
    try:
        names = os.listdir(models)  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return None
    return next((models / one for one in names if same_name(one) == wanted), None)


def free_name(models: Path, name: str) -> str:
    """Return the name with the first number that nothing else has."""
    try:
        taken = {same_name(one) for one in os.listdir(models)}  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        taken = set()
    number = 2
    while same_name(numbered(name, number)) in taken:
        number += 1
    return numbered(name, number)


def taken_error(models: Path, name: str, there: Path) -> UploadError:
    """Return what to tell when the name is taken: what is there, and a free one."""
    suggestion = free_name(models, name)
    try:
        status = there.lstat()
        plain = stat.S_ISREG(status.st_mode)
        what = f"a file of {format_bytes(status.st_size)}" if plain else "something else"
        size = status.st_size if plain else None
    except OSError:
        what, size = "something that cannot be looked at", None
    return UploadError(
        f'There is already {what} called "{plain_text(there.name, 210)}" in the models folder, and'
        f' nothing is written over. Save this one as "{plain_text(suggestion, 210)}", or rename'
        " the other.",
        problem="exists",
        path=str(there),
        size=size,
        suggestion=suggestion,
    )


def find_like(models: Path, size: int, head: bytes) -> Path | None:
    """Return a file below the models folder of this size that begins with these bytes."""
    for path in _files_of(models, size):
        with contextlib.suppress(OSError), _open(path) as descriptor:
            if _read(descriptor, len(head)) == head:
                return path
    return None


class Same(NamedTuple):
    """A file with the same content, as it was when it was read."""

    path: Path
    identity: tuple[int, int, int, int]

    def is_still_there(self) -> bool:
        """Say whether it is the file that was read, and was not written to since."""
        try:
            return _identity(self.path.lstat()) == self.identity
        except OSError:
            return False


def find_same(
    models: Path, part: Path, size: int, sha256: str, cancelled: Callable[[], bool]
) -> Same | None:
    """Return a file below the models folder with the same content as a part file.

    A file is read whole only if its size, beginning and end agree, so nearly always only one that
    is the same indeed.

    Raises
    ------
    RequestCancelledError
    """
    try:
        with _open(part) as descriptor:
            ends = _ends(descriptor, size)
    except OSError:
        return None
    for path in _files_of(models, size):
        with contextlib.suppress(OSError), _open(path) as descriptor:
            before = _identity(os.fstat(descriptor))
            if _ends(descriptor, size) == ends and _digest(descriptor, cancelled) == sha256:
                return Same(path, before)
    return None


def give_name(part: Path, target: Path, is_it: Callable[[Path], bool]) -> None:
    """Give a part file, which is on the disk, its name.

    Parameters
    ----------
    part, target : Path
    is_it : callable
        Says whether a path is the very file that was checked.

    Raises
    ------
    FileExistsError
        There is something of that name.
    OSError
        Also if somebody has put another file, or a link, in the part's place.
    """
    if not is_it(part):
        raise OSError(errno.ESTALE, "another file has been put in its place")
    plain_files.give_name(part, target)
    sync_folder(target.parent)
    # In the moment between the two: the link itself has got the name then, not what it leads to.
    if target.is_symlink():
        target.unlink()
        raise OSError(errno.ESTALE, "a link has been put in its place")


def _files_of(models: Path, size: int) -> Iterator[Path]:
    """Go through the plain files of this size; hidden ones and links are left out."""
    waiting, left = [(models, 0)], _MAX_ENTRIES
    while waiting and left > 0:
        folder, depth = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # gone, or not ours to look into
        left -= len(entries)
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode) and depth < _MAX_DEPTH:
                waiting.append((Path(entry.path), depth + 1))
            elif stat.S_ISREG(status.st_mode) and status.st_size == size:
                yield Path(entry.path)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, num_bytes: int) -> bytes:
    blocks = []
    while num_bytes and (block := os.read(descriptor, min(num_bytes, _BLOCK_BYTES))):
        blocks.append(block)
        num_bytes -= len(block)
    return b"".join(blocks)


def _ends(descriptor: int, size: int) -> tuple[bytes, bytes]:
    first = _read(descriptor, HEAD_BYTES)
    os.lseek(descriptor, max(0, size - HEAD_BYTES), os.SEEK_SET)
    last = _read(descriptor, HEAD_BYTES)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return first, last


def _digest(descriptor: int, cancelled: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    while block := os.read(descriptor, _BLOCK_BYTES):
        if cancelled():
            raise RequestCancelledError("The file is not checked: the upload was stopped.")
        digest.update(block)
    return digest.hexdigest()
