"""Conversations and their messages, in the store.

Promises: a conversation is a tree of messages with one active leaf; what was read back equals what
was written; a message whose writer has died is settled as "interrupted" by whoever reads it next,
with what had arrived. Deleting only marks (`restore` undoes it) until `purge`. Leaves to others:
what a model is sent, titles, events (`core.chat`), connections (`store`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from gguf_widgets.core.chat_types import ChatMessage, Conversation, MessageStatus, well_formed
from gguf_widgets.core.errors import InvalidValueError, StoreError, WireError
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.json_values import from_json, member_of, struct_of, to_json
from gguf_widgets.core.store.store import BUSY_S, Store
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings, Usage

__all__ = ["Conversations", "new_id"]

_CONVERSATION = (
    "id, title, system, model_type, model_name, model, active_leaf_id, created_at, updated_at, "
    "pinned, deleted_at"
)
_MESSAGE = (
    "id, conversation_id, parent_id, role, content, status, created_at, finish_reason, usage, "
    "timings, error, model_name, model, sampling, seed"
)
_UPDATABLE = frozenset({"title", "system", "model_type", "model_name", "model", "pinned"})


def new_id() -> str:
    """Return a new id: 32 hexadecimal digits, unique over all machines."""
    return uuid.uuid4().hex


class Conversations:
    """The conversations of one store. Holds no state of its own; make as many as you like."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- conversations ----------------------------------------------------------------------------

    def create(
        self,
        *,
        title: str = "",
        system: str | None = None,
        model_type: str = "text",
        model_name: str | None = None,
        model: dict[str, Any] | None = None,
    ) -> Conversation:
        """Start an empty conversation and return it."""
        now = time.time()
        conversation = Conversation(
            id=new_id(),
            title=well_formed(title),
            system=well_formed(system) if system is not None else None,
            model_type=model_type,
            model_name=model_name,
            model=model,
            active_leaf_id=None,
            created_at=now,
            updated_at=now,
        )
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO conversation (id, title, system, model_type, model_name, model, "
                "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    conversation.id,
                    conversation.title,
                    conversation.system,
                    model_type,
                    model_name,
                    to_json(model),
                    now,
                    now,
                ),
            )
        return conversation

    def get(self, conversation_id: str) -> Conversation:
        """Return one conversation, deleted or not.

        Raises
        ------
        InvalidValueError
            There is none with this id.
        """
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {_CONVERSATION} FROM conversation WHERE id = ?",  # noqa: S608 - our names
                (conversation_id,),
            ).fetchone()
        if row is None:
            raise _missing(conversation_id)
        return _conversation(row)

    def recent(
        self, *, limit: int = 100, offset: int = 0, deleted: bool = False
    ) -> list[Conversation]:
        """Return conversations, pinned ones first, then the newest first.

        Parameters
        ----------
        limit, offset : int
            Which part of the list.
        deleted : bool, default False
            Return those that were deleted and can be restored, instead of the others.
        """
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_CONVERSATION} FROM conversation "  # noqa: S608 - our names
                f"WHERE deleted_at IS {'NOT ' if deleted else ''}NULL "
                "ORDER BY pinned DESC, updated_at DESC, num DESC LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
        return [_conversation(row) for row in rows]

    def latest(self) -> Conversation | None:
        """Return the conversation that was changed last, pinned or not; None if there is none."""
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {_CONVERSATION} FROM conversation "  # noqa: S608 - our names
                "WHERE deleted_at IS NULL ORDER BY updated_at DESC, num DESC LIMIT 1"
            ).fetchone()
        return _conversation(row) if row is not None else None

    def update(self, conversation_id: str, **changes: Any) -> None:
        """Change the title, system, model_type, model_name, model or pinned of a conversation."""
        unknown = set(changes) - _UPDATABLE
        if unknown:
            raise InvalidValueError(
                f"A conversation has no {', '.join(sorted(unknown))} to change. It has: "
                f"{', '.join(sorted(_UPDATABLE))}."
            )
        if not changes:
            return
        values = [_plain(value) for value in changes.values()]
        names = ", ".join(f"{name} = ?" for name in changes)
        self._change_one(conversation_id, names, values)

    def set_active_leaf(self, conversation_id: str, message_id: str | None) -> None:
        """Continue the conversation from another of its messages (None: from its start)."""
        if message_id is not None:
            found = self.message(message_id)
            if found is None or found.conversation_id != conversation_id:
                raise InvalidValueError(f"The conversation has no message {message_id!r}.")
        self._change_one(conversation_id, "active_leaf_id = ?", [message_id])

    def delete(self, conversation_id: str) -> None:
        """Mark a conversation as deleted; `restore` brings it back."""
        self._change_one(conversation_id, "deleted_at = ?", [time.time()], touch=False)

    def restore(self, conversation_id: str) -> None:
        """Bring a deleted conversation back."""
        self._change_one(conversation_id, "deleted_at = NULL", [], touch=False)

    def purge(self, *, older_than_s: float = 0.0) -> int:
        """Remove for good what was deleted at least so long ago; return how many."""
        with self.store.transaction() as connection:
            return connection.execute(
                "DELETE FROM conversation WHERE deleted_at <= ?", (time.time() - older_than_s,)
            ).rowcount

    def _change_one(
        self, conversation_id: str, assignments: str, values: Iterable[Any], *, touch: bool = True
    ) -> None:
        now = ", updated_at = ?" if touch else ""
        with self.store.transaction() as connection:
            changed = connection.execute(
                f"UPDATE conversation SET {assignments}{now} WHERE id = ?",  # noqa: S608 - our names
                (*values, *((time.time(),) if touch else ()), conversation_id),
            ).rowcount
        if not changed:
            raise _missing(conversation_id)

    # -- messages ---------------------------------------------------------------------------------

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
                    **_columns(message),
                    "owner": owner if streaming else None,
                    "updated_at": message.created_at,
                }
                connection.execute(
                    f"INSERT INTO message ({', '.join(columns)}) "  # noqa: S608 - our names
                    f"VALUES ({', '.join('?' * len(columns))})",
                    tuple(columns.values()),
                )
                connection.execute(
                    # Whoever goes on with a conversation that was deleted meanwhile wants it back.
                    "UPDATE conversation SET active_leaf_id = ?, updated_at = ?, "
                    "deleted_at = NULL WHERE id = ?",
                    (message.id, message.created_at, message.conversation_id),
                )

    def save_progress(self, message_id: str, content: str, *, wait_s: float = BUSY_S) -> None:
        """Keep what has arrived of a message that is being written."""
        with self.store.transaction(wait_s=wait_s) as connection:
            connection.execute(
                "UPDATE message SET content = ?, updated_at = ? WHERE id = ?",
                (well_formed(content), time.time(), message_id),
            )

    def save(self, message: ChatMessage) -> None:
        """Keep the new state of a message that is in the store.

        Raises
        ------
        StoreError
            It is not in the store any more.
        """
        streaming = message.status is MessageStatus.STREAMING
        columns = _columns(message)
        names = ", ".join(f"{name} = ?" for name in columns)
        now = time.time()
        with self.store.transaction() as connection:
            changed = connection.execute(
                f"UPDATE message SET {names}, updated_at = ?"  # noqa: S608 - our names
                f"{'' if streaming else ', owner = NULL'} WHERE id = ?",
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

    def message(self, message_id: str) -> ChatMessage | None:
        """Return one message, or None."""
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {_MESSAGE} FROM message WHERE id = ?",  # noqa: S608 - our names
                (message_id,),
            ).fetchone()
        return _message(row) if row is not None else None

    def path(self, conversation_id: str, leaf_id: str | None = None) -> list[ChatMessage]:
        """Return the messages from the first to a leaf (default: the active one)."""
        self.settle(conversation_id)
        with self.store.reading() as connection:
            if leaf_id is None:
                row = connection.execute(
                    "SELECT active_leaf_id FROM conversation WHERE id = ?", (conversation_id,)
                ).fetchone()
                if row is None:
                    raise _missing(conversation_id)
                (leaf_id,) = row
            # UNION, not UNION ALL: a circle in a damaged file ends instead of going round.
            rows = connection.execute(
                "WITH RECURSIVE line (id) AS ("  # noqa: S608 - our names
                " SELECT id FROM message WHERE id = ? AND conversation_id = ?"
                " UNION SELECT message.parent_id FROM message JOIN line ON message.id = line.id"
                "  WHERE message.parent_id IS NOT NULL) "
                f"SELECT {_MESSAGE} FROM message "
                "WHERE id IN (SELECT id FROM line)",
                (leaf_id, conversation_id),
            ).fetchall()
        by_id = {message.id: message for message in map(_message, rows)}
        line: list[ChatMessage] = []
        while leaf_id in by_id:
            message = by_id.pop(leaf_id)
            line.append(message)
            leaf_id = message.parent_id
        return line[::-1]

    def all_messages(self, conversation_id: str) -> list[ChatMessage]:
        """Return every message of the tree, in the order they were made."""
        self.settle(conversation_id)
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_MESSAGE} FROM message "  # noqa: S608 - our names
                "WHERE conversation_id = ? ORDER BY num",
                (conversation_id,),
            ).fetchall()
        return [_message(row) for row in rows]

    def settle(self, conversation_id: str) -> int:
        """Mark messages whose writer has died as "interrupted"; return how many there were."""
        with self.store.reading() as connection:
            open_ones = connection.execute(
                "SELECT id, owner, updated_at FROM message "
                "WHERE conversation_id = ? AND status = 'streaming'",
                (conversation_id,),
            ).fetchall()
        dead = [
            (message_id, owner)
            for message_id, owner, updated_at in open_ones
            if not owners.is_alive(from_json(owner), updated_at)
        ]
        if not dead:
            return 0
        error = to_json(
            WireError(
                kind=StoreError.__name__,
                message="The program that wrote this answer ended in the middle of it. What had "
                "arrived is kept.",
                details={"reason": "interrupted"},
            )
        )
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


def _in_conversation(connection: Any, message: ChatMessage) -> bool:
    if message.parent_id is None:
        return True
    found = connection.execute(
        "SELECT 1 FROM message WHERE id = ? AND conversation_id = ?",
        (message.parent_id, message.conversation_id),
    ).fetchone()
    return found is not None


def _missing(conversation_id: str) -> InvalidValueError:
    return InvalidValueError(
        f"There is no conversation {conversation_id!r} in the store. It may have been removed.",
        conversation_id=conversation_id,
    )


# -- rows and values -------------------------------------------------------------------------------


def _columns(message: ChatMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": well_formed(message.content),
        "status": message.status.value,
        "created_at": message.created_at,
        "finish_reason": message.finish_reason.value if message.finish_reason else None,
        "usage": to_json(message.usage),
        "timings": to_json(message.timings),
        "error": to_json(message.error),
        "model_name": _plain(message.model_name),
        "model": to_json(message.model),
        "sampling": to_json(message.sampling),
        "seed": message.seed,
    }


def _message(row: tuple[Any, ...]) -> ChatMessage:
    value = dict(zip(_MESSAGE.split(", "), row, strict=True))
    value["status"] = member_of(MessageStatus, value["status"]) or MessageStatus.COMPLETE
    value["finish_reason"] = member_of(FinishReason, value["finish_reason"])
    value["usage"] = struct_of(Usage, value["usage"])
    value["timings"] = struct_of(Timings, value["timings"])
    value["sampling"] = struct_of(SamplingSettings, value["sampling"])
    value["error"] = from_json(value["error"])
    value["model"] = from_json(value["model"])
    return ChatMessage(**value)


def _conversation(row: tuple[Any, ...]) -> Conversation:
    value = dict(zip(_CONVERSATION.split(", "), row, strict=True))
    value["model"] = from_json(value["model"])
    value["pinned"] = bool(value["pinned"])
    return Conversation(**value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    return to_json(value) if isinstance(value, dict) else value
