"""Conversations in the store.

Promises: what was read back equals what was written, messages included (`conversation_messages`).
Deleting only marks (`restore` undoes it) until `purge`. Leaves to others: what a model is sent,
titles, events (`core.chat.interface`), connections (`store`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gguf_widgets.core.chat.types import ChatMessage, Conversation, MessageStatus, well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store import conversation_files
from gguf_widgets.core.store.conversation_messages import Messages, missing
from gguf_widgets.core.store.conversation_rows import CONVERSATION, conversation_of, plain
from gguf_widgets.core.store.conversation_search import Found, search
from gguf_widgets.core.store.json_values import to_json
from gguf_widgets.core.store.search_index import catch_up
from gguf_widgets.core.store.store import BUSY_S

__all__ = ["Conversations", "Found", "new_id"]

_UPDATABLE = frozenset({"title", "system", "model_type", "model_name", "model", "pinned"})


def new_id() -> str:
    """Return a new id: 32 hexadecimal digits, unique over all machines."""
    return uuid.uuid4().hex


class Conversations(Messages):
    """The conversations of one store. Holds no state of its own; make as many as you like."""

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
        self._insert(conversation)
        return conversation

    def _insert(self, conversation: Conversation) -> None:
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO conversation (id, title, system, model_type, model_name, model, "
                "created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    conversation.id,
                    plain(conversation.title),
                    plain(conversation.system),
                    conversation.model_type,
                    plain(conversation.model_name),
                    to_json(conversation.model),
                    conversation.created_at,
                    conversation.updated_at,
                ),
            )

    def get(self, conversation_id: str) -> Conversation:
        """Return one conversation, deleted or not.

        Raises
        ------
        InvalidValueError
            There is none with this id.
        """
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {CONVERSATION} FROM conversation WHERE id = ?",  # noqa: S608 - our names
                (conversation_id,),
            ).fetchone()
        if row is None:
            raise missing(conversation_id)
        return conversation_of(row)

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
                f"SELECT {CONVERSATION} FROM conversation "  # noqa: S608 - our names
                f"WHERE deleted_at IS {'NOT ' if deleted else ''}NULL "
                "ORDER BY pinned DESC, updated_at DESC, num DESC LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
        return [conversation_of(row) for row in rows]

    def latest(self) -> Conversation | None:
        """Return the conversation that was changed last, pinned or not; None if there is none."""
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {CONVERSATION} FROM conversation "  # noqa: S608 - our names
                "WHERE deleted_at IS NULL ORDER BY updated_at DESC, num DESC LIMIT 1"
            ).fetchone()
        return conversation_of(row) if row is not None else None

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
        values = [plain(value) for value in changes.values()]
        names = ", ".join(f"{name} = ?" for name in changes)
        # A new name or a pin is no news: the conversation keeps its place among the others.
        touch = not changes.keys() <= {"title", "pinned"}
        self._change_one(conversation_id, names, values, touch=touch)

    def set_active_leaf(self, conversation_id: str, message_id: str | None) -> None:
        """Continue the conversation from another of its messages (None: from its start)."""
        if message_id is not None:
            found = self.message(message_id)
            if found is None or found.conversation_id != conversation_id:
                raise InvalidValueError(f"The conversation has no message {message_id!r}.")
        # Looking at another branch says nothing new: the list keeps its order.
        self._change_one(conversation_id, "active_leaf_id = ?", [message_id], touch=False)

    def delete(self, conversation_id: str) -> None:
        """Mark a conversation as deleted; `restore` brings it back."""
        self._change_one(conversation_id, "deleted_at = ?", [time.time()], touch=False)

    def restore(self, conversation_id: str) -> None:
        """Bring a deleted conversation back."""
        self._change_one(conversation_id, "deleted_at = NULL", [], touch=False)

    def purge(self, *, older_than_s: float = 0.0, wait_s: float = BUSY_S) -> int:
        """Remove for good what was deleted at least so long ago; return how many.

        Their messages, files and tokens go with them, and files that no message ever named.
        """
        with self.store.transaction(wait_s=wait_s) as connection:
            removed = connection.execute(
                "DELETE FROM conversation WHERE deleted_at <= ?", (time.time() - older_than_s,)
            ).rowcount
            conversation_files.drop_unused(self.store)
            return removed

    def search(self, query: str, limit: int = 50, offset: int = 0) -> list[Found]:
        """Return the conversations in which all words of `query` are found, deleted ones left out.

        Parameters
        ----------
        query : str
            Words, in any order; all must be in one message, or in the title. The last one is found
            by its beginning unless a space follows it. "Words in quotes" must be side by side.
            Anything else a person may type is looked for as it stands. Of more than 1,000
            characters or 32 words, those count.
        limit, offset : int
            Which part of the list: first those whose title holds the words, each part the newest
            first. Of a long message, only the first 200,000 characters can be relied on; an answer
            is found when it has ended.
        """
        return search(self.store, query, limit, offset)

    def catch_up(self, limit_s: float = 1.0) -> int:
        """Get what is new ready for searching; return how many messages are still to do.

        `search` does it by itself, for at most a second: only after an older version's store was
        brought over, or thousands of messages were imported, is there so much that some is left for
        the next time.
        """
        return catch_up(self.store, limit_s)

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
            raise missing(conversation_id)

    def import_tree(
        self,
        conversation: Conversation,
        messages: Sequence[ChatMessage],
        files: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> Conversation:
        """Add a whole conversation at once, and return it as it was kept.

        Parameters
        ----------
        conversation : Conversation
            With an id that is not in the store yet.
        messages : sequence of ChatMessage
            With new ids, parents before their children. One that says it is being written becomes
            "interrupted": nobody writes it here.
        files : mapping, optional
            Kind (mime) and bytes of attachments by their SHA-256.

        Raises
        ------
        InvalidValueError
            An id is taken, a parent is missing, or a file is not what its digest says. Nothing is
            kept then.
        """
        with self.store.transaction() as connection:
            known = connection.execute(
                "SELECT 1 FROM conversation WHERE id = ?", (conversation.id,)
            ).fetchone()
            if known is not None:
                raise InvalidValueError(
                    f"The store has a conversation {conversation.id!r:.80} already.",
                    conversation_id=conversation.id,
                )
            self._insert(conversation)
            for sha256, (mime, data) in (files or {}).items():
                if self.keep_file(data, mime) != sha256:
                    raise InvalidValueError(
                        f"The file {sha256!r:.80} is not what its digest says. What it came from "
                        "is damaged.",
                        sha256=sha256,
                    )
            self.add(*self._checked(conversation, messages))
            connection.execute(
                "UPDATE conversation SET active_leaf_id = ?, updated_at = ?, pinned = ? "
                "WHERE id = ?",
                (
                    conversation.active_leaf_id,
                    conversation.updated_at,
                    conversation.pinned,
                    conversation.id,
                ),
            )
        return self.get(conversation.id)

    def _checked(
        self, conversation: Conversation, messages: Sequence[ChatMessage]
    ) -> Iterator[ChatMessage]:
        """Yield the messages of a tree that comes from outside, each where it belongs."""
        ids: set[str] = set()
        for message in messages:
            if message.conversation_id != conversation.id or (
                message.parent_id is not None and message.parent_id not in ids
            ):
                raise InvalidValueError(
                    f"The message {message.id!r:.80} does not belong to the conversation, or comes "
                    "before the message that it follows.",
                    message_id=message.id,
                )
            if message.id in ids or self.message(message.id) is not None:
                raise InvalidValueError(
                    f"There is a message {message.id!r:.80} already.", message_id=message.id
                )
            ids.add(message.id)
            streaming = message.status is MessageStatus.STREAMING
            yield (
                msgspec.structs.replace(message, status=MessageStatus.INTERRUPTED)
                if streaming
                else message
            )
        if conversation.active_leaf_id is not None and conversation.active_leaf_id not in ids:
            raise InvalidValueError(
                "The conversation goes on from a message that is not in it: "
                f"{conversation.active_leaf_id!r:.80}.",
                message_id=conversation.active_leaf_id,
            )
