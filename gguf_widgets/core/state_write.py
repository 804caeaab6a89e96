"""Putting a saved prefix on the disk, so that there is all of it or nothing.

Promises: it is written into a file of its own beside its place (``.NAME.PID-....part``), handed to
the disk, and only then given its name; whatever goes wrong, that file is removed, and one that a
killed process has left is removed the next time. A file that is not a saved prefix is never written
over, nor is a disk filled to its last megabytes. Leaves to others: what is in it (`state_file.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from gguf_widgets.core.errors import RequestCancelledError, StateFileError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.state_file import is_state_file, shown

__all__ = ["check_destination", "write_state"]

_CHUNK_BYTES: Final = 16 << 20

# Other programs need some of the disk, too.
_LEFT_FREE_BYTES: Final = 64 << 20


def check_destination(path: Path) -> None:
    """Refuse a place where a prefix cannot be saved, before anything is computed for it.

    Raises
    ------
    StateFileError
        "folder", "exists" or "unreadable".
    """
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - unlike Path.is_dir it never raises
        raise StateFileError(
            f"There is no folder {plain_text(str(folder), 200)} to save {shown(path)} in. Make it,"
            " or name another place.",
            problem="folder",
            path=str(path),
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StateFileError(
            f"You have no permission to write in {plain_text(str(folder), 200)}.",
            problem="folder",
            path=str(path),
        )
    if not _is_free(path) and not is_state_file(path):
        raise StateFileError(
            f"{shown(path)} is there already and is not a saved prefix, so it is not written over."
            " Name another file.",
            problem="exists",
            path=str(path),
        )


def write_state(path: Path, start: bytes, state: memoryview, cancelled: Callable[[], bool]) -> int:
    """Write a file that consists of `start` and `state`.

    Parameters
    ----------
    path : Path
        A saved prefix that is there is replaced.
    start : bytes
        What `state_file.pack` made.
    state : memoryview of bytes
    cancelled : callable
        Asked between two pieces; True takes everything back.

    Returns
    -------
    int
        The file's size.

    Raises
    ------
    StateFileError
        "space" or "write", and what `check_destination` raises.
    RequestCancelledError
        If `cancelled` said so.
    """
    size = len(start) + len(state)
    check_destination(path)
    part: Path | None = None
    try:
        _remove_leftovers(path)
        _check_space(path, size)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.{os.getpid()}-", suffix=".part", dir=path.parent
        )
        part = Path(name)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            _write_all(file.fileno(), memoryview(start), cancelled)
            _write_all(file.fileno(), state, cancelled)
            os.fsync(file.fileno())
        _give_name(part, path)
    except OSError as error:
        raise StateFileError(
            f"{shown(path)} could not be written: {error.strerror or error}.",
            problem="write",
            path=str(path),
        ) from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):  # it has its name now, or the disk is gone
                part.unlink(missing_ok=True)
    return size


def _is_free(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    except OSError as error:
        raise StateFileError(
            f"{shown(path)} cannot be looked at: {error.strerror or error}.",
            problem="unreadable",
            path=str(path),
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise StateFileError(
            f"{shown(path)} is there already and is not a plain file. Name another file.",
            problem="exists",
            path=str(path),
        )
    return False


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < size + _LEFT_FREE_BYTES:
        raise StateFileError(
            f"The prefix needs {format_bytes(size)} and the disk has {format_bytes(free)} free"
            f" ({format_bytes(_LEFT_FREE_BYTES)} of it stay free for others). Make room, or name a"
            " place on another disk.",
            problem="space",
            path=str(path),
            needed_bytes=size,
            free_bytes=free,
        )


def _write_all(descriptor: int, data: memoryview, cancelled: Callable[[], bool]) -> None:
    while data:
        if cancelled():
            raise RequestCancelledError("The prefix is not saved: nobody waits for it any more.")
        data = data[os.write(descriptor, data[:_CHUNK_BYTES]) :]


def _give_name(part: Path, path: Path) -> None:
    """Give the finished file its name; one that came there meanwhile is no more written over."""
    try:
        # Unlike renaming, this fails if there is a file of that name now.
        path.hardlink_to(part)
    except FileExistsError:
        check_destination(path)
        part.replace(path)
    except OSError:  # a file system without links
        check_destination(path)
        part.replace(path)
    # The name is safe only when its folder is; where a folder cannot be synced, the file is.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed has left of the same file."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"(\d+)-[a-z0-9_]+\.part")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not psutil.pid_exists(int(match[1])):
            with contextlib.suppress(OSError):  # on the next occasion
                other.unlink()
