"""The steps that bring a store file to the newest form; append only.

Promises: each step runs in one transaction, once, in order, whichever process comes first; a file
that a newer version of this program wrote is refused and not changed, and neither is a database of
another program. Leaves to others: connections and damaged files (`store`).

Rules for whoever adds a step: never change one that was released; say why it exists; end each at a
form in which the step before it could still have been read by a person with the `sqlite3` shell.
The number of steps that were taken is SQLite's ``user_version``.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from gguf_widgets.core.errors import StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Migration", "migrate"]

APPLICATION_ID = 0x67675764  # "ggWd", in the file's header, where `file` and we can see it


class Migration(NamedTuple):
    """One step: why it exists, and its statements."""

    reason: str
    statements: tuple[str, ...]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        "The first form: conversations as trees of messages, preferences, and notices to show.",
        (
            # `num` is there because full-text search needs a row number that VACUUM leaves alone.
            # `active_leaf_id` is where the conversation is continued; going from it to its parents
            # gives the messages on screen. `deleted_at` is what makes deleting undoable.
            """
            CREATE TABLE conversation (
                num INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                title TEXT NOT NULL DEFAULT '',
                system TEXT,
                model_type TEXT NOT NULL DEFAULT 'text',
                model_name TEXT,
                model TEXT,                            -- JSON: path, size, quantization, backend
                active_leaf_id TEXT
                    REFERENCES message (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
                created_at REAL NOT NULL,              -- seconds since 1970, UTC
                updated_at REAL NOT NULL,
                pinned INTEGER NOT NULL DEFAULT 0,
                deleted_at REAL,
                extra TEXT NOT NULL DEFAULT '{}'       -- JSON, for what later versions add
            )
            """,
            # `parent_id` does not cascade: 1,000 answers in a row would pass SQLite's depth limit.
            # `owner` names the process that is writing a message whose status is 'streaming', so
            # that a message left behind by a dead process can be told from one still being written.
            """
            CREATE TABLE message (
                num INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                conversation_id TEXT NOT NULL
                    REFERENCES conversation (id) ON DELETE CASCADE,
                parent_id TEXT
                    REFERENCES message (id) DEFERRABLE INITIALLY DEFERRED,
                role TEXT NOT NULL,
                content TEXT NOT NULL,
                status TEXT NOT NULL,
                finish_reason TEXT,
                usage TEXT,                            -- JSON, as are the four that follow
                timings TEXT,
                sampling TEXT,
                error TEXT,
                model TEXT,
                model_name TEXT,
                seed INTEGER,
                owner TEXT,                            -- JSON: host, pid, start time of the process
                created_at REAL NOT NULL,
                updated_at REAL NOT NULL,
                extra TEXT NOT NULL DEFAULT '{}'
            )
            """,
            "CREATE INDEX message_by_conversation ON message (conversation_id, num)",
            "CREATE INDEX message_by_parent ON message (parent_id)",
            """
            CREATE INDEX message_being_written ON message (conversation_id)
                WHERE status = 'streaming'
            """,
            "CREATE INDEX conversation_by_time ON conversation (pinned, updated_at)",
            """
            CREATE TABLE preference (
                key TEXT PRIMARY KEY,
                value TEXT NOT NULL,                   -- JSON
                updated_at REAL NOT NULL
            )
            """,
            """
            CREATE TABLE notice (
                num INTEGER PRIMARY KEY,
                text TEXT NOT NULL,
                created_at REAL NOT NULL
            )
            """,
        ),
    ),
)


def migrate(connection: sqlite3.Connection, path: str) -> int:
    """Bring the file behind `connection` to the newest form and return how many steps it took.

    Parameters
    ----------
    connection : sqlite3.Connection
        In autocommit mode (``isolation_level=None``).
    path : str
        For the messages.

    Raises
    ------
    StoreError
        The file was written by a newer version of this program, or is another program's. It is
        left as it was.
    """
    # A read that sees one moment: another process may be making the tables right now.
    connection.execute("BEGIN DEFERRED")
    try:
        version = _version(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if version == len(MIGRATIONS):
        return 0
    taken = 0
    while True:
        # IMMEDIATE, and the version read again inside: another process may have been quicker.
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection, path)
            if version < len(MIGRATIONS):
                for statement in MIGRATIONS[version].statements:
                    connection.execute(statement)
                # PRAGMA takes no parameters; both numbers are ours.
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
                taken += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if version >= len(MIGRATIONS) - 1:
            return taken


def _version(connection: sqlite3.Connection, path: str) -> int:
    """Return how many steps the file has taken; refuse a newer file and another program's."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application or version or tables:
            raise StoreError(
                f"{path} is a database of another program, so it was left as it is. Move it "
                "away, or set GGUF_WIDGETS_HOME to another folder.",
                path=path,
                reason="foreign",
            )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} is from a newer version of gguf-widgets (its form is {version}; this "
            f"version knows {len(MIGRATIONS)}). It was left as it is. Install the newer "
            "gguf-widgets, or point GGUF_WIDGETS_HOME at another folder.",
            path=path,
            reason="newer",
            version=version,
            limit=len(MIGRATIONS),
        )
    return int(version)
