"""SQLite's errors in words a person can act on.

Promises: every `sqlite3.Error` becomes a `StoreError` that says what happened, to which file, and
what to do, with ``reason`` in its details for programs. Leaves to others: trying again.
"""

from __future__ import annotations

import sqlite3

from gguf_widgets.core.errors import StoreError

__all__ = ["explain", "is_busy", "is_damaged"]

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}

_ELSEWHERE = "or point GGUF_WIDGETS_HOME at a folder you may write to."
_BROKEN = "Close this and start again: the file will be kept beside a new one."

_WORDS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("locked", "{path} is in use by another program and did not become free"),
    sqlite3.SQLITE_LOCKED: ("locked", "{path} is in use by another part of this program"),
    sqlite3.SQLITE_READONLY: ("read-only", "{path} can be read but not written"),
    sqlite3.SQLITE_PERM: ("read-only", "You have no permission to use {path}"),
    sqlite3.SQLITE_CANTOPEN: ("unreachable", "{path} cannot be opened"),
    sqlite3.SQLITE_FULL: ("full", "The disk that holds {path} is full"),
    sqlite3.SQLITE_IOERR: ("disk", "The disk that holds {path} reported a failure"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "{path} is damaged"),
    sqlite3.SQLITE_NOTADB: ("damaged", "{path} is not a database any more"),
    sqlite3.SQLITE_TOOBIG: ("too big", "A text is too long to be kept in {path}"),
}

_ADVICE = {
    "locked": "Try again; if it stays so, close other programs that have it open.",
    "read-only": f"Check the permissions of the file and its folder, {_ELSEWHERE}",
    "unreachable": f"Check that its folder exists and that you may write to it, {_ELSEWHERE}",
    "full": "Nothing new can be kept. Make room and try again.",
    "disk": "What you see now may not be kept. Check the disk.",
    "damaged": _BROKEN,
    "too big": "Make it shorter.",
}


def explain(error: sqlite3.Error, path: str) -> StoreError:
    """Return the `StoreError` that says in words what `error` means for the file at `path`."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    reason, words = _WORDS.get(_code(error), ("other", "{path} could not be read or written"))
    # `replace` and not `format`: a path may hold braces.
    sentences = f"{words.replace('{path}', path)}. {_ADVICE.get(reason, f'SQLite says: {error}.')}"
    return StoreError(sentences, path=path, reason=reason, sqlite=f"{name}: {error}")


def is_damaged(error: sqlite3.Error) -> bool:
    """Return whether `error` says that the file itself is broken."""
    return _code(error) in _DAMAGED


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether `error` says that somebody else is at work on the file."""
    return _code(error) in _BUSY


def _code(error: sqlite3.Error) -> int:
    # The low byte is the primary code; the rest tells variants apart. An error that the binding
    # itself raised has none: what it cannot read as a text was not written by this program.
    if isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" in str(error):
        return sqlite3.SQLITE_CORRUPT
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
