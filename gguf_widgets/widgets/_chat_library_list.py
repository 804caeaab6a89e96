"""The list of conversations as the page asks for it: a window of rows, what is found, what changed.

Promises: an answer holds at most `MOST_ROWS` rows, however many there are; what the page asks is
checked; `look` costs next to nothing while nothing has changed, and finds what any window, program
or cell has changed: names, pins, deletions, new messages, answers being written. Leaves to others:
finding (`core.store`), groups and times of day (the page knows the person's clock).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

from gguf_widgets.core.chat.types import Conversation
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations, Found
from gguf_widgets.core.store.store import Store

__all__ = ["MOST_ROWS", "ConversationList"]

MOST_ROWS: Final = 200  # in one answer; the page asks for 50 at a time, and again for what it has
_MAX_QUERY = 1_000
_MAX_OFFSET = 10_000_000
_MAX_TITLE = 300  # of a row: the whole one is in the chat


class ConversationList:
    """The conversations of one store, for one chat box."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept = Conversations(store)
        self._versions: tuple[int, int] | None = None
        self._version = ""
        self._had_running = False

    def rows(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return rows of the list, or of what was deleted.

        Parameters
        ----------
        content : dict
            ``deleted`` (bool), ``offset`` and ``limit``.

        Raises
        ------
        InvalidValueError
            The page asked for something that is not there.
        """
        offset, limit = _window(content)
        version = self.look()
        found = self._kept.recent(
            limit=limit + 1, offset=offset, deleted=content.get("deleted") is True
        )
        running = self._running()
        return {
            "rows": [_row(one, running) for one in found[:limit]],
            "more": len(found) > limit,
            "version": version,
        }

    def found(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return conversations that hold what is searched for.

        Parameters
        ----------
        content : dict
            ``query``, ``offset`` and ``limit``.

        Raises
        ------
        InvalidValueError
            The page asked for something that is not there.
        """
        query = content.get("query")
        if not isinstance(query, str) or len(query) > _MAX_QUERY:
            raise InvalidValueError(
                f"What is searched for is a text of at most {_MAX_QUERY:,} characters."
            )
        offset, limit = _window(content)
        version = self.look()
        found = self._kept.search(query, limit=limit + 1, offset=offset)
        running = self._running()
        return {
            "rows": [_found_row(one, running) for one in found[:limit]],
            "more": len(found) > limit,
            "version": version,
            # Messages that the search does not know yet: an older version's, or many new ones.
            "left": self._kept.catch_up(0.0),
        }

    def look(self) -> str:
        """Return a text that differs whenever the list may look different."""
        with self.store.reading() as connection:
            # What others wrote changes the first number, what this process wrote the second.
            (others,) = connection.execute("PRAGMA data_version").fetchone()
            versions = (int(others), connection.total_changes)
            # Whether a program that was writing has died, the file does not tell.
            if versions == self._versions and not self._had_running:
                return self._version
            digest = hashlib.sha256()
            for row in connection.execute(
                "SELECT id, title, pinned, model_name, updated_at, deleted_at FROM conversation "
                "ORDER BY num"
            ):
                digest.update(repr(row).encode("utf-8", "replace"))
        running = sorted(self._running())
        for one in running:
            digest.update(one.encode("utf-8", "replace"))
        self._had_running = bool(running)
        self._versions, self._version = versions, digest.hexdigest()[:16]
        return self._version

    def _running(self) -> set[str]:
        """Return the conversations in which an answer is being written."""
        with self.store.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT conversation_id FROM message WHERE status = 'streaming'"
            ).fetchall()
        ids = {str(one) for (one,) in rows}
        for one in ids:
            self._kept.settle(one)  # whose program has died is not being written
        return {one for one in ids if self._is_written(one)}

    def _is_written(self, conversation_id: str) -> bool:
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT 1 FROM message WHERE conversation_id = ? AND status = 'streaming'",
                (conversation_id,),
            ).fetchone()
        return found is not None


def _window(content: dict[str, Any]) -> tuple[int, int]:
    offset, limit = content.get("offset", 0), content.get("limit", 50)
    for value, most in ((offset, _MAX_OFFSET), (limit, MOST_ROWS)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise InvalidValueError(
                f"Conversations are asked for by two whole numbers, at most {MOST_ROWS} at a time."
            )
    return offset, limit


def _row(one: Conversation, running: Iterable[str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "title": one.title[:_MAX_TITLE],
        "model": one.model_name or "",
        "at": one.updated_at,
        "deletedAt": one.deleted_at,
        "pinned": one.pinned,
        "running": one.id in running,
    }


def _found_row(found: Found, running: Iterable[str]) -> dict[str, Any]:
    return {
        **_row(found.conversation, running),
        "message": found.message_id,
        "snippet": [[text, hit] for text, hit in found.snippet],
        "count": found.num_messages,
    }
