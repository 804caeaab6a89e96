"""Steps with files that other programs may be touching at the same moment.

Promises: reading one takes bounded memory and never waits (a named pipe is no file); giving a file
a name never writes over another one; what is said to be safe is on the disk. Leaves to others: what
the files are for (`core.care.moves`, `core.download.record`, `core.library.small_file`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final

__all__ = ["give_name", "read_bounded", "sync_folder"]

# What link() says where a file system, or the system's policy, has no second names.
_NO_LINKS: Final = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.EMLINK,
    getattr(errno, "ENOTSUP", errno.EPERM),
    getattr(errno, "EOPNOTSUPP", errno.EPERM),
)


def read_bounded(path: Path, limit: int) -> bytes:
    """Return what is in a plain file of at most `limit` bytes.

    Raises
    ------
    OSError
        It cannot be read, is no plain file, or is longer.
    """
    # Not Path.open: a named pipe must not make us wait for whoever writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, "it is no file name") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is longer than {limit:,} bytes")
    return data


def give_name(source: Path, target: Path) -> None:
    """Give a file another name on the same disk, which no other file may have.

    Where the disk has no second names (FAT, some network folders) the file is renamed after a look
    whether the name is free: only a program that makes a file of that very name within those
    microseconds would lose it.

    Raises
    ------
    FileExistsError
        There is something of that name; a link to nothing counts.
    OSError
    """
    # Windows' own rename refuses to write over a file. A link cannot be linked everywhere.
    if os.name != "nt" and not source.is_symlink():
        try:
            # Unlike renaming, this fails if a file of that name has come there just now.
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            if source.parent != target.parent:
                # The new name has to be safe before the old one goes: they are in two folders.
                sync_folder(target.parent)
            source.unlink()
            return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe; where a folder cannot be synced, nothing can be done."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
