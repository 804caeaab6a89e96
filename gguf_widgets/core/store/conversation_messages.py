"""The messages of conversations in the store, with their files and tokens.

Promises: a conversation is a tree of messages with one active leaf; what was read back equals what
was written; a message whose writer has died is settled as "interrupted" by whoever reads it next,
with what had arrived. Leaves to others: the conversations themselves (`conversations`, whose class
adds to this one), connections (`store`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gguf_widgets.core.chat.types import ChatMessage, MessageStatus, well_formed
from gguf_widgets.core.errors import InvalidValueError, StoreError, WireError
from gguf_widgets.core.store import conversation_files, owners
from gguf_widgets.core.store.conversation_rows import MESSAGE, columns_of, message_of
from gguf_widgets.core.store.json_values import from_json, to_json
from gguf_widgets.core.store.store import BUSY_S, Store
from gguf_widgets.core.store.token_blob import KeptTokens
from gguf_widgets.core.types import TokenLogprob

__all__ = ["Messages", "missing"]

_BROKEN_OFF = WireError(
    kind=StoreError.__name__,
    message="The program that wrote this answer ended in the middle of it. What had arrived is "
    "kept.",
    details={"reason": "interrupted"},
)

_log = logging.getLogger(__name__)


class Messages:
    """The part of `Conversations` that is about messages; see there."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, *messages: ChatMessage) -> None:
        """Add messages at once, in this order, and continue the conversation from the last.

        A message whose status is "streaming" is recorded as being written by this process.

        Raises
        ------
        StoreError
            A message's conversation or parent is not in the store.
        """
        owner = to_json(msgspec.to_builtins(owners.this_process()))
        with self.store.transaction() as connection:
            for message in messages:
                known = connection.execute(
                    "SELECT 1 FROM conversation WHERE id = ?", (message.conversation_id,)
                ).fetchone()
                if known is None or not _in_conversation(connection, message):
                    raise StoreError(
                        "This conversation is not in the store any more, so the message could not "
                        "be kept. Start a new conversation.",
                        reason="gone",
                        conversation_id=message.conversation_id,
                    )
                streaming = message.status is MessageStatus.STREAMING
                columns = {
                    **columns_of(message),
                    "owner": owner if streaming else None,
                    "updated_at": message.created_at,
                }
                connection.execute(
                    f"INSERT INTO message ({', '.join(columns)}) "  # noqa: S608 - our names
                    f"VALUES ({', '.join('?' * len(columns))})",
                    tuple(columns.values()),
                )
                digests = [attachment.sha256 for attachment in message.attachments]
                if digests:
                    conversation_files.name_files(self.store, message.id, digests)
                connection.execute(
                    # Whoever goes on with a conversation that was deleted meanwhile wants it back.
                    "UPDATE conversation SET active_leaf_id = ?, updated_at = ?, "
                    "deleted_at = NULL WHERE id = ?",
                    (message.id, message.created_at, message.conversation_id),
                )

    def save_progress(
        self,
        message_id: str,
        content: str,
        *,
        details: ChatMessage | None = None,
        wait_s: float = BUSY_S,
    ) -> None:
        """Keep what has arrived of a message that is being written; and of `details`, the rest."""
        now = time.time()
        with self.store.transaction(wait_s=wait_s) as connection:
            connection.execute(
                "UPDATE message SET content = ?, updated_at = ? WHERE id = ?",
                (well_formed(content), now, message_id),
            )
            if details is not None:
                connection.execute(
                    "UPDATE message SET extra = ? WHERE id = ?",
                    (columns_of(details)["extra"], message_id),
                )

    def save(self, message: ChatMessage, *, claims: bool = False) -> None:
        """Keep the new state of a message that is in the store.

        Parameters
        ----------
        message : ChatMessage
        claims : bool, default False
            Whether this process runs a call of it from now on; see `is_held`.

        Raises
        ------
        StoreError
            It is not in the store any more.
        """
        columns = columns_of(message)
        if claims:
            columns["owner"] = to_json(msgspec.to_builtins(owners.this_process()))
        elif message.status is not MessageStatus.STREAMING and not any(
            call.status == "running" for call in message.tool_calls
        ):
            columns["owner"] = None
        names = ", ".join(f"{name} = ?" for name in columns)
        now = time.time()
        with self.store.transaction() as connection:
            changed = connection.execute(
                f"UPDATE message SET {names}, updated_at = ? WHERE id = ?",  # noqa: S608 - our names
                (*columns.values(), now, message.id),
            ).rowcount
            connection.execute(
                "UPDATE conversation SET updated_at = ? WHERE id = ?",
                (now, message.conversation_id),
            )
        if not changed:
            raise StoreError(
                "This message is not in the store any more, so its new state could not be kept.",
                reason="gone",
                message_id=message.id,
            )

    def is_held(self, message_id: str) -> bool:
        """Return whether a living process writes the message, or runs a call of it."""
        with self.store.reading() as connection:
            row = connection.execute(
                "SELECT owner, updated_at FROM message WHERE id = ? AND owner IS NOT NULL",
                (message_id,),
            ).fetchone()
        return row is not None and owners.is_alive(from_json(row[0]), row[1])

    def message(self, message_id: str) -> ChatMessage | None:
        """Return one message, or None."""
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {MESSAGE} FROM message WHERE id = ?",  # noqa: S608 - our names
                (message_id,),
            ).fetchone()
        return message_of(row) if row is not None else None

    def path(self, conversation_id: str, leaf_id: str | None = None) -> list[ChatMessage]:
        """Return the messages from the first to a leaf (default: the active one)."""
        self.settle(conversation_id)
        with self.store.reading() as connection:
            if leaf_id is None:
                row = connection.execute(
                    "SELECT active_leaf_id FROM conversation WHERE id = ?", (conversation_id,)
                ).fetchone()
                if row is None:
                    raise missing(conversation_id)
                (leaf_id,) = row
            # UNION, not UNION ALL: a circle in a damaged file ends instead of going round.
            rows = connection.execute(
                "WITH RECURSIVE line (id) AS ("  # noqa: S608 - our names
                " SELECT id FROM message WHERE id = ? AND conversation_id = ?"
                " UNION SELECT message.parent_id FROM message JOIN line ON message.id = line.id"
                "  WHERE message.parent_id IS NOT NULL) "
                f"SELECT {MESSAGE} FROM message "
                "WHERE id IN (SELECT id FROM line)",
                (leaf_id, conversation_id),
            ).fetchall()
        by_id = {message.id: message for message in map(message_of, rows)}
        line: list[ChatMessage] = []
        while leaf_id in by_id:
            message = by_id.pop(leaf_id)
            line.append(message)
            leaf_id = message.parent_id
        return self._settled(line[::-1])

    def tree(self, conversation_id: str) -> list[ChatMessage]:
        """Return every message of the tree, in the order they were made."""
        self.settle(conversation_id)
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {MESSAGE} FROM message "  # noqa: S608 - our names
                "WHERE conversation_id = ? ORDER BY num",
                (conversation_id,),
            ).fetchall()
        return self._settled([message_of(row) for row in rows])

    def children(self, parent_id: str | None, conversation_id: str) -> list[ChatMessage]:
        """Return the messages that follow another (None: the first ones), oldest first."""
        self.settle(conversation_id)
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {MESSAGE} FROM message "  # noqa: S608 - our names
                "WHERE conversation_id = ? AND parent_id IS ? ORDER BY num",
                (conversation_id, parent_id),
            ).fetchall()
        return self._settled([message_of(row) for row in rows])

    def links(self, conversation_id: str) -> list[tuple[str, str | None]]:
        """Return the id of every message of the tree and of its parent, oldest first."""
        with self.store.reading() as connection:
            return connection.execute(
                "SELECT id, parent_id FROM message WHERE conversation_id = ? ORDER BY num",
                (conversation_id,),
            ).fetchall()

    # -- files and tokens -------------------------------------------------------------------------

    def keep_file(self, data: bytes, mime: str) -> str:
        """Keep the bytes of an attachment and return their digest (SHA-256, hexadecimal).

        They stay as long as a message names them, and at least a day.
        """
        return conversation_files.keep_file(self.store, data, mime)

    def file(self, sha256: str) -> bytes:
        """Return the bytes of an attachment.

        Raises
        ------
        InvalidValueError
            There is no such file.
        """
        return conversation_files.file_of(self.store, sha256)

    def keep_tokens(
        self,
        message_id: str,
        tokens: Sequence[TokenLogprob],
        *,
        num_given: int = 0,
        wait_s: float = BUSY_S,
    ) -> None:
        """Keep the tokens of an answer, of which the first `num_given` were given to the model."""
        kept = KeptTokens(tokens=list(tokens), num_given=num_given)
        conversation_files.keep_tokens(self.store, message_id, kept, wait_s=wait_s)

    def tokens(self, message_id: str) -> list[TokenLogprob] | None:
        """Return the tokens of an answer; None if none were recorded.

        Those of an answer that broke off may end before its text does.
        """
        kept = self.kept_tokens(message_id)
        return kept.tokens if kept is not None else None

    def kept_tokens(self, message_id: str) -> KeptTokens | None:
        """Return the same with how many were given."""
        return conversation_files.tokens_of(self.store, message_id)

    # -- writers that died ------------------------------------------------------------------------

    def settle(self, conversation_id: str) -> int:
        """Mark messages whose writer has died as "interrupted"; return how many were marked.

        Where nothing can be written now, none is: what can be read is shown in any case.
        """
        try:
            return self._mark_dead(conversation_id)
        except StoreError as error:
            if error.details.get("reason") not in {"locked", "read-only", "full"}:
                raise
            _log.info("An interrupted answer cannot be marked as such: %s", error)
            return 0

    def _mark_dead(self, conversation_id: str) -> int:
        dead = self._dead(conversation_id)
        if not dead:
            return 0
        error = to_json(_BROKEN_OFF)
        with self.store.transaction() as connection:
            return sum(
                # Again with the owner: it may have finished, or been taken up, since we looked.
                connection.execute(
                    "UPDATE message SET status = ?, error = ?, owner = NULL, updated_at = ? "
                    "WHERE id = ? AND status = 'streaming' AND owner IS ?",
                    (MessageStatus.INTERRUPTED.value, error, time.time(), message_id, owner),
                ).rowcount
                for message_id, owner in dead
            )

    def _dead(self, conversation_id: str) -> list[tuple[str, str | None]]:
        """Return the messages whose writer has died, each with its writer as it was kept."""
        with self.store.reading() as connection:
            open_ones = connection.execute(
                "SELECT id, owner, updated_at FROM message "
                "WHERE conversation_id = ? AND status = 'streaming'",
                (conversation_id,),
            ).fetchall()
        return [
            (message_id, owner)
            for message_id, owner, updated_at in open_ones
            if not owners.is_alive(from_json(owner), updated_at)
        ]

    def _settled(self, messages: list[ChatMessage]) -> list[ChatMessage]:
        """Return messages that were read, none of them as being written by a dead process."""
        if not any(message.status is MessageStatus.STREAMING for message in messages):
            return messages
        dead = {message_id for message_id, _ in self._dead(messages[0].conversation_id)}
        return [
            msgspec.structs.replace(one, status=MessageStatus.INTERRUPTED, error=_BROKEN_OFF)
            if one.id in dead
            else one
            for one in messages
        ]


def _in_conversation(connection: Any, message: ChatMessage) -> bool:
    if message.parent_id is None:
        return True
    found = connection.execute(
        "SELECT 1 FROM message WHERE id = ? AND conversation_id = ?",
        (message.parent_id, message.conversation_id),
    ).fetchone()
    return found is not None


def missing(conversation_id: str) -> InvalidValueError:
    """Return the error that says that there is no such conversation."""
    return InvalidValueError(
        f"There is no conversation {conversation_id!r} in the store. It may have been removed.",
        conversation_id=conversation_id,
    )
