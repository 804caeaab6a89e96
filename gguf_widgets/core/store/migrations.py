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
from gguf_widgets.core.store import search_tables

__all__ = ["APPLICATION_ID", "MIGRATIONS", "Migration", "migrate"]

APPLICATION_ID = 0x67675764  # "ggWd", in the file's header, where `file` and we can see it

_TRIGRAMS_SINCE = (3, 34, 0)


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
    Migration(
        "Batch runs: what is asked of a table's rows, the rows, and what came of each.",
        (
            """
            CREATE TABLE batch_run (
                num INTEGER PRIMARY KEY,               -- below 2**31, see the next two tables
                id TEXT NOT NULL UNIQUE,
                title TEXT NOT NULL DEFAULT '',
                status TEXT NOT NULL,
                spec TEXT NOT NULL,                    -- JSON: prompts, output, sampling, models
                columns TEXT NOT NULL,                 -- JSON: the table's columns and their types
                num_rows INTEGER NOT NULL DEFAULT 0,
                num_prompts INTEGER NOT NULL,
                num_models INTEGER NOT NULL,
                num_samples INTEGER NOT NULL,
                complete INTEGER NOT NULL DEFAULT 0,   -- 1: all rows of the table are here
                error TEXT,                            -- JSON
                owner TEXT,                            -- JSON: the process that is at it
                wish TEXT,                             -- JSON: what that process is asked to do
                progress TEXT,                         -- JSON: how fast it is, as it says itself
                changes INTEGER NOT NULL DEFAULT 0,    -- grows with each change to rows and tasks
                created_at REAL NOT NULL,              -- seconds since 1970, UTC
                updated_at REAL NOT NULL,
                ended_at REAL,
                deleted_at REAL,
                extra TEXT NOT NULL DEFAULT '{}'
            )
            """,
            "CREATE INDEX batch_run_by_time ON batch_run (created_at)",
            # A row's `num` is the run's times 2**32, plus its place in the table: so that a window
            # of rows is one stretch of the file, and no second index is needed.
            """
            CREATE TABLE batch_row (
                num INTEGER PRIMARY KEY,
                data TEXT NOT NULL                     -- JSON: a list of its values
            )
            """,
            # Only what has ended is here, so a task that is not here waits: a process that is
            # killed leaves nothing behind that would have to be put right. `num` is the run's times
            # 2**32, plus the task's number: no task can be here twice.
            """
            CREATE TABLE batch_task (
                num INTEGER PRIMARY KEY,
                run_num INTEGER NOT NULL,
                key BLOB NOT NULL,                     -- the same for the same question
                status TEXT NOT NULL,
                attempts INTEGER NOT NULL,
                text TEXT,
                "values" TEXT,                         -- JSON, as are edit and error
                edit TEXT,
                error TEXT,
                finish_reason TEXT,
                num_prompt_tokens INTEGER,
                num_cached_tokens INTEGER,
                num_completion_tokens INTEGER,
                timings TEXT,                          -- JSON
                total_s REAL,                          -- as in timings, to sort by
                seed INTEGER,
                probabilities TEXT,                    -- JSON
                certainty REAL,
                ended_at REAL NOT NULL
            )
            """,
            "CREATE INDEX batch_task_by_status ON batch_task (run_num, status)",
            "CREATE INDEX batch_task_by_certainty ON batch_task (run_num, certainty)",
            "CREATE INDEX batch_task_by_time ON batch_task (run_num, total_s)",
            "CREATE INDEX batch_task_by_tokens ON batch_task (run_num, num_completion_tokens)",
            "CREATE INDEX batch_task_by_key ON batch_task (key, run_num) WHERE status = 'done'",
            # How often the model's process died while a task was in it, and not more often than
            # that is it tried.
            """
            CREATE TABLE batch_death (
                num INTEGER PRIMARY KEY,
                deaths INTEGER NOT NULL
            )
            """,
        ),
    ),
    Migration(
        "Search in conversations, files sent with messages, and the tokens of answers.",
        (
            # The bytes of attachments: once each, however many messages name them. They go with
            # the last message that does.
            """
            CREATE TABLE chat_file (
                sha256 TEXT PRIMARY KEY,               -- of the bytes, in hexadecimal digits
                mime TEXT NOT NULL,
                data BLOB NOT NULL,
                created_at REAL NOT NULL               -- seconds since 1970, UTC
            )
            """,
            """
            CREATE TABLE message_file (
                message_id TEXT NOT NULL
                    REFERENCES message (id) ON DELETE CASCADE,
                sha256 TEXT NOT NULL
                    REFERENCES chat_file (sha256),
                PRIMARY KEY (message_id, sha256)
            ) WITHOUT ROWID
            """,
            "CREATE INDEX message_file_by_file ON message_file (sha256)",
            """
            CREATE TRIGGER chat_file_unused AFTER DELETE ON message_file
                WHEN NOT EXISTS (SELECT 1 FROM message_file WHERE sha256 = old.sha256)
            BEGIN
                DELETE FROM chat_file WHERE sha256 = old.sha256;
            END
            """,
            # The tokens of an answer with their alternatives: far bigger than its text, and only
            # looked at when somebody asks. zlib of msgpack, see `token_blob`.
            """
            CREATE TABLE message_token (
                message_id TEXT PRIMARY KEY
                    REFERENCES message (id) ON DELETE CASCADE,
                data BLOB NOT NULL
            )
            """,
            *search_tables.STATEMENTS,
        ),
    ),
    Migration(
        "What requests and the machine did, measured speeds, comparisons, and experiments.",
        (
            # One row for each program that watches, from its start to its end.
            """
            CREATE TABLE monitor_session (
                id TEXT PRIMARY KEY,
                started_at REAL NOT NULL,              -- seconds since 1970, UTC
                ended_at REAL,                         -- NULL while it runs, or if it was killed
                program TEXT NOT NULL DEFAULT '',
                data TEXT NOT NULL DEFAULT '{}'        -- JSON: the machine, versions, the interval
            )
            """,
            """
            CREATE TABLE request_metric (
                num INTEGER PRIMARY KEY,
                session_id TEXT NOT NULL
                    REFERENCES monitor_session (id) ON DELETE CASCADE,
                ended_at REAL NOT NULL,
                model TEXT NOT NULL,
                run_id TEXT,                           -- of the batch run that asked, if one did
                finish_reason TEXT NOT NULL,           -- 'error' if it failed
                data TEXT NOT NULL                     -- JSON: see `monitor.definitions`
            )
            """,
            "CREATE INDEX request_metric_by_time ON request_metric (ended_at)",
            "CREATE INDEX request_metric_by_session ON request_metric (session_id)",
            """
            CREATE TABLE machine_sample (
                num INTEGER PRIMARY KEY,
                session_id TEXT NOT NULL
                    REFERENCES monitor_session (id) ON DELETE CASCADE,
                at REAL NOT NULL,
                data TEXT NOT NULL                     -- JSON: see `monitor.definitions`
            )
            """,
            "CREATE INDEX machine_sample_by_time ON machine_sample (at)",
            "CREATE INDEX machine_sample_by_session ON machine_sample (session_id)",
            # `machine` is a digest of what decides speed: speeds of two machines are never mixed.
            """
            CREATE TABLE bench_result (
                num INTEGER PRIMARY KEY,
                bench_id TEXT NOT NULL,                -- those that were measured together
                at REAL NOT NULL,
                machine TEXT NOT NULL,
                model TEXT NOT NULL,
                test TEXT NOT NULL,                    -- 'pp512', 'tg128', 'tg128 @ d4096', ...
                data TEXT NOT NULL                     -- JSON
            )
            """,
            "CREATE INDEX bench_result_by_machine ON bench_result (machine, model, test, at)",
            # The sides' answers are batch runs of their own; here is what makes them one thing.
            """
            CREATE TABLE comparison (
                num INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                title TEXT NOT NULL DEFAULT '',
                created_at REAL NOT NULL,
                updated_at REAL NOT NULL,
                ended_at REAL,
                status TEXT NOT NULL,
                error TEXT,                            -- JSON
                owner TEXT,                            -- JSON: the process that is at it
                wish TEXT,                             -- 'stop': what that process is asked to do
                changes INTEGER NOT NULL DEFAULT 0,    -- grows with each change to scores and votes
                num_prompts INTEGER NOT NULL,
                data TEXT NOT NULL                     -- JSON: sides, columns, settings, notes
            )
            """,
            "CREATE INDEX comparison_by_time ON comparison (created_at)",
            # The person's table and what is right for each row. Each side's run has the columns
            # that it asks with; a side whose model cannot be loaded has no run, and may have one
            # tomorrow. `num` is the comparison's times 2**32, plus the row's place.
            """
            CREATE TABLE comparison_prompt (
                num INTEGER PRIMARY KEY,
                data TEXT NOT NULL,                    -- JSON: a list of the row's values
                reference TEXT                         -- JSON
            )
            """,
            """
            CREATE TABLE comparison_score (
                comparison_id TEXT NOT NULL
                    REFERENCES comparison (id) ON DELETE CASCADE,
                prompt INTEGER NOT NULL,
                side INTEGER NOT NULL,
                score TEXT NOT NULL,                   -- the scoring's name
                value REAL,                            -- NULL: it could not be told
                data TEXT NOT NULL DEFAULT '{}',       -- JSON: why
                PRIMARY KEY (comparison_id, prompt, side, score)
            ) WITHOUT ROWID
            """,
            # One vote for each prompt and pair of sides; voting again changes it.
            """
            CREATE TABLE comparison_vote (
                comparison_id TEXT NOT NULL
                    REFERENCES comparison (id) ON DELETE CASCADE,
                prompt INTEGER NOT NULL,
                first_side INTEGER NOT NULL,           -- the smaller of the two numbers
                second_side INTEGER NOT NULL,
                choice TEXT NOT NULL,                  -- 'first', 'second', 'both', 'neither'
                at REAL NOT NULL,
                data TEXT NOT NULL DEFAULT '{}',       -- JSON: which stood left, who voted
                PRIMARY KEY (comparison_id, prompt, first_side, second_side)
            ) WITHOUT ROWID
            """,
            """
            CREATE TABLE experiment (
                num INTEGER PRIMARY KEY,
                id TEXT NOT NULL UNIQUE,
                title TEXT NOT NULL DEFAULT '',
                created_at REAL NOT NULL,
                data TEXT NOT NULL                     -- JSON: see `experiments.record`
            )
            """,
            """
            CREATE TABLE experiment_item (
                experiment_id TEXT NOT NULL
                    REFERENCES experiment (id) ON DELETE CASCADE,
                num INTEGER NOT NULL,
                data TEXT NOT NULL,                    -- JSON
                PRIMARY KEY (experiment_id, num)
            ) WITHOUT ROWID
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
    _require_search(connection, path)
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


def _require_search(connection: sqlite3.Connection, path: str) -> None:
    """Refuse an SQLite without what the tables for searching need, before anything is changed."""
    (known,) = connection.execute(
        "SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'"
    ).fetchone()
    if not known or sqlite3.sqlite_version_info < _TRIGRAMS_SINCE:
        raise StoreError(
            f"The SQLite of this Python ({sqlite3.sqlite_version}) cannot search texts: it needs "
            "version 3.34 or newer with FTS5. Use a newer Python, from python.org or conda-forge.",
            path=path,
            reason="other",
            version=sqlite3.sqlite_version,
        )


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
