"""What to do with a store file that is broken: keep a copy, never throw anything away.

Promises: the broken file and its journal are renamed, never deleted; two processes that find it
at the same moment do it once; after it was marked, the next opening checks the whole file.
Leaves to others: opening the new file and telling the person.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["is_marked", "mark", "only_one", "set_aside", "unmark"]

_LOCK_WAIT_S = 20.0


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time go on, for at most 20 s each.

    The lock is that of an empty SQLite file: the same on every system, and it ends with its
    process.
    """
    lock = sqlite3.connect(
        path.with_name(path.name + ".lock"), timeout=_LOCK_WAIT_S, isolation_level=None
    )
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        lock.close()


def set_aside(path: Path) -> Path:
    """Rename the file and its journals to a name with the time in it; return the new name."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    kept = path.with_name(f"{path.stem}.damaged-{stamp}{path.suffix}")
    count = 1
    while kept.exists():
        count += 1
        kept = path.with_name(f"{path.stem}.damaged-{stamp}-{count}{path.suffix}")
    # The journals first: a new file must never meet an old one's journal.
    for ending in ("-wal", "-shm", "-journal"):
        journal = path.with_name(path.name + ending)
        with contextlib.suppress(FileNotFoundError):
            journal.rename(kept.with_name(kept.name + ending))
    path.rename(kept)
    unmark(path)
    return kept


def mark(path: Path) -> None:
    """Leave a note that the file was found broken in the middle of its use.

    On a disk that cannot be written this does nothing: the error that led here is shown anyway.
    """
    with contextlib.suppress(OSError):
        _mark_path(path).touch()


def unmark(path: Path) -> None:
    """Take the note away."""
    _mark_path(path).unlink(missing_ok=True)


def is_marked(path: Path) -> bool:
    """Return whether the note is there."""
    return _mark_path(path).exists()


def _mark_path(path: Path) -> Path:
    return path.with_name(path.name + ".check")
