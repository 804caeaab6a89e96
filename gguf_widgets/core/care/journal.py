"""What is being moved just now, kept so that a killed process harms nothing.

Promises: before the first file moves, the whole plan is on the disk; one process at a time works on
it (the system frees the lock of a process that dies); whoever comes next undoes what a dead process
has left half done. Leaves to others: the moves themselves (`moves`), what the trash holds
(`removing`).

The folder is ``trash`` in the data folder::

    trash/.lock                   who is at work
    trash/renaming-ID.json        a rename under way: its moves
    trash/ID/record.json          something removed: see `records`
    trash/ID/...                  its files, under their own names
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import filelock
import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.care.moves import Move, carry_out, failed, undo
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.progress import Watch
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.plain_files import read_bounded, sync_folder

__all__ = [
    "carry_out_safely",
    "heal_renames",
    "locked",
    "new_id",
    "read_json",
    "write_json",
]

# Renames take milliseconds. Only a trash on another disk takes long, and then it is better to say
# so.
LOCK_TIMEOUT_S: Final = 30.0
_LONGEST_FILE: Final = 1 << 22
_PREFIX: Final = "renaming-"
_T = TypeVar("_T")


class _Renaming(msgspec.Struct, frozen=True):
    version: int
    moves: list[Move]


def new_id() -> str:
    """Return a name that sorts by time and that no other process gives."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def locked(timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[Path]:
    """Hold the right to move model files; yields the trash folder, which is there then.

    Raises
    ------
    FileChangeError
        "busy": another program holds it for too long; "permission", "space" or "write": the folder
        cannot be made.
    """
    try:
        folder = config.ensure(config.trash_dir(), private=True)
        # Not thread-local: two threads of one process exclude each other as well.
        held = filelock.FileLock(
            folder / ".lock", timeout=timeout_s, mode=0o600, thread_local=False
        )
        held.acquire(poll_interval=0.02)
    except filelock.Timeout as error:
        raise FileChangeError(
            "Another program of yours is moving model files, and has been for "
            f"{format_duration(timeout_s)}. Wait until it is done, then try again.",
            problem="busy",
        ) from error
    except NotImplementedError as error:
        raise FileChangeError(
            f"The disk of {plain_text(str(config.trash_dir()), 200)} cannot keep two programs "
            "apart (it has no file locks), so nothing is moved there. Set GGUF_WIDGETS_HOME to a "
            "folder on another disk.",
            problem="write",
        ) from error
    except OSError as error:
        raise failed(config.trash_dir(), error) from error
    try:
        yield folder
    finally:
        held.release()


def carry_out_safely(folder: Path, moves: Sequence[Move], watch: Watch | None = None) -> None:
    """Move all files or none, also if this process is killed meanwhile. The lock is held.

    Raises
    ------
    FileChangeError
        As `moves.carry_out`.
    """
    note = folder / f"{_PREFIX}{new_id()}.json"
    write_json(note, _Renaming(1, list(moves)))
    try:
        carry_out(moves, watch)
    except FileChangeError as error:
        if not error.details.get("left"):
            note.unlink(missing_ok=True)
        raise
    # From here on it has happened.
    with contextlib.suppress(OSError):
        note.unlink()


def heal_renames(folder: Path) -> None:
    """Take back what a dead process has left half renamed. The lock is held."""
    for note in sorted(folder.glob(f"{_PREFIX}*.json")):
        renaming = read_json(note, _Renaming)
        # A note is only a file, and a rename leaves a file in its folder.
        moves = [
            move
            for move in (renaming.moves if renaming is not None else [])
            if Path(move.source).parent == Path(move.target).parent
            and owner_of(move.source).is_ours
        ]
        # What cannot be put back now (a disk that is not there) is tried again the next time.
        if not undo(moves):
            with contextlib.suppress(OSError):
                note.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a file that is there as a whole or not at all.

    Raises
    ------
    FileChangeError
        "space", "permission" or "write".
    """
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0),
            0o600,
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise failed(path, error) from error


def read_json(path: Path, kind: type[_T]) -> _T | None:
    """Return what a file holds, or None if it is not there or not what it should be."""
    try:
        return msgspec.json.decode(read_bounded(path, _LONGEST_FILE), type=kind)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None
