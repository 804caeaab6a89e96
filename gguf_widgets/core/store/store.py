"""The store: one SQLite file that keeps what must outlive a notebook, a page and a crash.

The storage contract
--------------------
- What a method has returned from is in the file: another process sees it at once, and it outlives
  the death of this process. (After a power cut, the last moments may be missing; the file is
  whole.) Each `transaction` is kept entirely or not at all.
- Any number of processes and threads may use the same file at once. A writer waits at most
  `BUSY_S` for the others, then gets a `StoreError`. One `Store` holds one connection, used by one
  thread at a time; open one `Store` a process and share it (`default_store`).
- The form of the file only ever moves forward (`migrations`). A file of a newer version of this
  program, and a database of another program, are refused and left as they were.
- A damaged file is never deleted or written over: it is renamed, with the time in its new name, a
  new one is started, and a notice about it stays in the new file until somebody dismisses it
  (`notices`, `dismiss_notices`). The same holds for a file that was removed while in use.
- A disk that is full, read-only or locked gives a `StoreError` in words; nothing is dropped in
  silence.
- The file is made readable for its owner only: it holds private conversations.

Leaves to others: what the rows mean (`conversations`, `preferences`).
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store import damaged, explain
from gguf_widgets.core.store.migrations import migrate

__all__ = ["BUSY_S", "Notice", "Store", "default_store"]

BUSY_S = 5.0

_MEMORY = ":memory:"

# Up to this size the whole file is checked at every opening (4 to 6 ms a megabyte were measured);
# above it, only when it was found broken in use.
_ALWAYS_CHECKED_BYTES = 16 * 2**20

_log = logging.getLogger(__name__)


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to the store and that a person should be told."""

    num: int
    text: str
    created_at: float


class _Handle:
    """The connection and the lock around it, apart from `Store` so that a finalizer can hold it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.path: Path | None = None
        self.pid = os.getpid()
        self.file_id: tuple[int, int] | None = None

    def fits(self) -> bool:
        """Return whether the connection is this process's and its file still has its name."""
        return self.pid == os.getpid() and (
            self.path is None or self.file_id == _file_id(self.path)
        )

    def close(self) -> None:
        # Bounded: at the end of the interpreter a thread may have been stopped with the lock held.
        if not self.lock.acquire(timeout=BUSY_S):
            return
        try:
            if self.connection is not None:
                if self.fits():
                    self.connection.close()
                else:
                    _abandon(self.connection)
                self.connection = None
        finally:
            self.lock.release()


class Store:
    """An open store file.

    Parameters
    ----------
    path : Path or str, optional
        The file; it and its folder are made if they are not there. Default: `config.store_path()`.
        ":memory:" is a store that is gone when it is closed.

    Attributes
    ----------
    path : Path or None
        None for a store in memory.
    closed : bool

    Raises
    ------
    StoreError
        The file cannot be opened, or is not ours to change. ``details["reason"]`` is one of
        "locked", "read-only", "unreachable", "full", "disk", "newer", "foreign", "other".
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path: Path | None = None
        if path != _MEMORY:
            self.path = Path(path if path is not None else config.store_path()).absolute()
        self.closed = False
        self._handle = _Handle()
        # Also at the end of the interpreter; no connection is left to the garbage collector.
        self._finalizer = weakref.finalize(self, self._handle.close)
        self._connected()

    @classmethod
    def in_memory(cls, notice: str | None = None) -> Self:
        """Return a store that is gone when it is closed, with an optional `notice` to show."""
        store = cls(_MEMORY)
        if notice:
            store.add_notice(notice)
        return store

    # -- using it ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, *, wait_s: float = BUSY_S) -> Iterator[sqlite3.Connection]:
        """Give the connection for a block of writes that is kept entirely or not at all.

        Inside another transaction of the same thread the block becomes part of that one.

        Parameters
        ----------
        wait_s : float, default 5
            The longest wait, in seconds, for other threads, and again for other processes.

        Raises
        ------
        StoreError
            In words, for every error of SQLite inside the block.
        """
        with self._exclusive(wait_s, "IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for a block of reads that all see the same moment."""
        with self._exclusive(BUSY_S, "DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def _exclusive(self, wait_s: float, kind: str) -> Iterator[sqlite3.Connection]:
        if not self._handle.lock.acquire(timeout=wait_s):
            raise StoreError(
                f"{self._name} is busy with other work of this program; it did not become free "
                f"in {wait_s:g} s. Try again.",
                path=self._name,
                reason="locked",
            )
        try:
            connection = self._connected()
            try:
                nested = connection.in_transaction
                if nested:
                    yield connection
                    return
                connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
                connection.execute(f"BEGIN {kind}")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    # After an error SQLite may have rolled back by itself already.
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                if explain.is_damaged(error) and self.path is not None:
                    damaged.mark(self.path)
                raise explain.explain(error, self._name) from error
        finally:
            self._handle.lock.release()

    def notices(self) -> list[Notice]:
        """Return what a person should be told about the store, oldest first."""
        with self.reading() as connection:
            rows = connection.execute("SELECT num, text, created_at FROM notice ORDER BY num")
            return [Notice(num=num, text=text, created_at=at) for num, text, at in rows]

    def add_notice(self, text: str) -> None:
        """Keep a notice until it is dismissed, whichever process shows it."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO notice (text, created_at) VALUES (?, ?)", (text, time.time())
            )

    def dismiss_notices(self, up_to: int | None = None) -> None:
        """Forget the notices, or those with a number up to `up_to`."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM notice WHERE num <= ?", (up_to or 2**62,))

    def close(self) -> None:
        """Close the file; closing twice is fine, using it afterwards is a `StoreError`."""
        self.closed = True
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._name!r}{', closed' if self.closed else ''})"

    # -- opening it -------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return str(self.path) if self.path is not None else "the store in memory"

    def _connected(self) -> sqlite3.Connection:
        """Return the connection; open it anew after a fork or when the file was replaced."""
        if self.closed:
            raise StoreError(
                f"{self._name} was closed and cannot be used any more.", reason="closed"
            )
        handle = self._handle
        notice = None
        if handle.connection is not None:
            if handle.fits():
                return handle.connection
            # Forked, or somebody removed or replaced the file. Writing on would go to a file that
            # has no name any more, and be lost without a word.
            if handle.pid == os.getpid():
                notice = (
                    f"The file {self.path} was removed or replaced while it was in use. What was "
                    "in it before is no longer shown."
                )
            _abandon(handle.connection)
            handle.connection = None
        handle.connection = self._open()
        handle.path = self.path
        handle.pid = os.getpid()
        handle.file_id = _file_id(self.path) if self.path is not None else None
        if notice:
            _log.warning("%s", notice)
            self.add_notice(notice)
        return handle.connection

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            return _connect(_MEMORY, check=False)
        try:
            config.ensure(self.path.parent)
            _make_private(self.path)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be used: {error.strerror or error}. Check the permissions of "
                "its folder, or set GGUF_WIDGETS_HOME to a folder you may write to.",
                path=str(self.path),
                reason="unreachable",
            ) from error
        try:
            try:
                return self._open_checked()
            except _DamagedError:
                return self._replace()
        except sqlite3.Error as error:
            raise explain.explain(error, self._name) from error

    def _open_checked(self) -> sqlite3.Connection:
        path = self.path
        assert path is not None  # noqa: S101 - for the type checker; a store in memory has no file
        marked = damaged.is_marked(path)
        connection = _connect(str(path), check=marked or _size(path) <= _ALWAYS_CHECKED_BYTES)
        if marked:
            damaged.unmark(path)
        return connection

    def _replace(self) -> sqlite3.Connection:
        """Keep the broken file under another name, start a new one and leave a notice in it."""
        path = self.path
        assert path is not None  # noqa: S101 - as above
        with damaged.only_one(path):
            try:
                return self._open_checked()  # another process was quicker
            except _DamagedError as error:
                kept = damaged.set_aside(path)
                _make_private(path)
                connection = _connect(str(path), check=False)
                text = (
                    f"The file with your conversations and settings was damaged ({error}). It was "
                    f"kept as {kept}, and a new one was started."
                )
                _log.warning("%s", text)
                connection.execute(
                    "INSERT INTO notice (text, created_at) VALUES (?, ?)", (text, time.time())
                )
                return connection


def _abandon(connection: sqlite3.Connection) -> None:
    """Let go of a connection without closing it, for good.

    Closing deletes the journal *by its name*: that of the new file, if the old one was replaced,
    or the parent's, in a forked child. Both would lose what other processes wrote. So the memory
    and the file handle are given up until the process ends; it happens a few times at most.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


class _DamagedError(Exception):
    """The file is broken; the text says how SQLite put it."""


def _connect(path: str, *, check: bool) -> sqlite3.Connection:
    """Open, check and migrate one file.

    Raises
    ------
    _DamagedError
        The file is broken.
    StoreError
        It is not ours to change.
    sqlite3.Error
        Everything else.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        if check:
            _check(connection)
        # Before anything that writes: a newer version's file is refused untouched.
        migrate(connection, path)
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Text that came from a damaged or hostile file must not call functions from its schema.
        connection.execute("PRAGMA trusted_schema = OFF")
    except _DamagedError:
        _abandon(connection)  # another process may be replacing the file at this moment
        raise
    except sqlite3.Error as error:
        if explain.is_damaged(error):
            _abandon(connection)
            raise _DamagedError(str(error)) from error
        connection.close()
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _DamagedError(verdict)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side.

    SQLite does not wait for others here, so this does. A disk that cannot do it (some network
    drives) keeps the older journal: slower, and as safe.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not explain.is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _make_private(path: Path) -> None:
    """Make the file, empty, for its owner only; SQLite gives its journals the same rights."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# -- the one that a process shares -----------------------------------------------------------------

_default: Store | None = None
_default_lock = threading.Lock()


def default_store(*, or_memory: bool = False) -> Store:
    """Return this process's store at `config.store_path()`, opened at the first call.

    Parameters
    ----------
    or_memory : bool, default False
        If the file cannot be used, return a store in memory whose notice says why, so that a page
        still opens. It is tried again at the next call.

    Raises
    ------
    StoreError
        If the file cannot be used and `or_memory` is False.
    """
    global _default  # noqa: PLW0603 - the one place that owns it
    with _default_lock:
        path = config.store_path().absolute()
        if _default is not None and (_default.closed or _default.path != path):
            _default = None  # who still uses the old one keeps it; it closes with its last user
        if _default is None:
            try:
                _default = Store(path)
            except StoreError as error:
                if not or_memory:
                    raise
                return Store.in_memory(
                    f"{error.message} Until then, what you write is kept only while this page is "
                    "open."
                )
            from gguf_widgets.core.store.cleaning import clean  # it needs this file

            clean(_default)
        return _default
