"""Bringing the indexes of full-text search up to date.

Promises: `catch_up` takes up what was noted as changed, in steps that hold up nobody for long;
whoever writes a message waits for no index. Leaves to others: what is noted (`search_tables`),
asking (`conversation_search`).
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time

from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.store import Store

__all__ = ["SEARCHED_CHARS", "catch_up", "is_unspaced", "without_marks"]

# Of a longer message, only the beginning is in the indexes: a pasted book must cost no minute.
SEARCHED_CHARS = 200_000


# Characters of writing without spaces between words: Thai and Lao, Burmese, Khmer, then Chinese,
# Japanese and Korean (which has spaces, and ends its words in many ways).
_UNSPACED_CHARS = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3040-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_UNSPACED = re.compile(f"{_UNSPACED_CHARS}+")

# A blank of no width, put where such writing meets a word of another one ("GPU" in Chinese): for
# the index of words it ends a word, and for the eye it is not there.
_BREAK = "\u200b"

_STEP = 100
_LOCK_WAIT_S = 1.0

_log = logging.getLogger(__name__)


def is_unspaced(text: str) -> bool:
    """Return whether `text` has a character of writing without spaces between words."""
    return _UNSPACED.search(text) is not None


def without_marks(text: str) -> str:
    """Return a text from an index as it was written."""
    return text.replace(_BREAK, "")


def _in_words(text: str) -> str:
    """Return a text as the index of words takes it."""
    return _UNSPACED.sub(rf"{_BREAK}\g<0>{_BREAK}", text)


def catch_up(store: Store, limit_s: float = 1.0) -> int:
    """Bring the indexes up to date; return how many messages and titles are left for the next time.

    Parameters
    ----------
    store : Store
    limit_s : float
        No new step is begun after so many seconds: there may be years of conversations when an
        older version's store is searched for the first time. The newest come first.
    """
    ends = time.monotonic() + limit_s
    try:
        while _step(store) and time.monotonic() < ends:
            pass
    except StoreError as error:
        if error.details.get("reason") not in {"locked", "read-only", "full"}:
            raise
        # Searching goes on with what the indexes know.
        _log.warning("The newest messages cannot be searched yet: %s", error.message)
    with store.reading() as connection:
        (left,) = connection.execute(
            "SELECT (SELECT count(*) FROM message_unsearched) "
            "+ (SELECT count(*) FROM conversation_unsearched)"
        ).fetchone()
    return int(left)


def _step(store: Store) -> bool:
    """Take up some changes; return whether there may be more."""
    with store.reading() as connection:
        if not (_noted(connection, "message") or _noted(connection, "conversation")):
            return False
    with store.transaction(wait_s=_LOCK_WAIT_S) as connection:
        # Again: another process may have been quicker.
        messages = _noted(connection, "message")
        for change in messages:
            connection.execute("DELETE FROM message_words WHERE rowid = ?", change)
            connection.execute("DELETE FROM message_pieces WHERE rowid = ?", change)
            connection.execute("DELETE FROM message_unsearched WHERE num = ?", change)
            row = connection.execute(
                "SELECT content FROM message WHERE num = ? AND status <> 'streaming'", change
            ).fetchone()
            if row is None:
                continue
            text = row[0][:SEARCHED_CHARS]
            connection.execute(
                "INSERT INTO message_words (rowid, content) VALUES (?, ?)",
                (*change, _in_words(text)),
            )
            if is_unspaced(text):
                connection.execute(
                    "INSERT INTO message_pieces (rowid, content) VALUES (?, ?)", (*change, text)
                )
        conversations = _noted(connection, "conversation")
        for change in conversations:
            connection.execute("DELETE FROM conversation_words WHERE rowid = ?", change)
            connection.execute("DELETE FROM conversation_unsearched WHERE num = ?", change)
            row = connection.execute(
                "SELECT title FROM conversation WHERE num = ?", change
            ).fetchone()
            if row is not None:
                connection.execute(
                    "INSERT INTO conversation_words (rowid, title) VALUES (?, ?)",
                    (*change, _in_words(row[0])),
                )
    return _STEP in (len(messages), len(conversations))


def _noted(connection: sqlite3.Connection, kind: str) -> list[tuple[int]]:
    return connection.execute(
        f"SELECT num FROM {kind}_unsearched ORDER BY num DESC LIMIT ?",  # noqa: S608 - one of our two
        (_STEP,),
    ).fetchall()
