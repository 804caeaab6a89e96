"""What the tool loop does with its chat: reading it, changing a message, telling of it.

Promises: a change is in the chat and in the store before anybody is told; observers are told
without any lock held, in the order in which things happened. Leaves to others: what is changed, and
when (`tools`).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from gguf_widgets.core.chat.tool_turn import call_of, with_call
from gguf_widgets.core.chat.types import ChatEvent, ChatMessage, EventKind
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.conversations import Conversations

__all__ = ["ToolHost"]


class ToolHost:
    """A `ChatInterface` as its tools see it; it does not keep the chat alive.

    Parameters
    ----------
    chat : ChatInterface
    """

    def __init__(self, chat: Any) -> None:
        self._alive = weakref.ref(chat)
        self._chat = weakref.proxy(chat)
        self._conversations: Conversations = chat._conversations  # noqa: SLF001 - as below
        self._lock = chat._lock  # noqa: SLF001 - this class is a part of the chat, here and below
        self._depth = 0
        self._pending: list[ChatEvent] = []

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the chat and its lock; what happened meanwhile is told after it is free.

        One that is here at its beginning is here until its end. Of one that nobody holds any more
        only the lock is held: reading it is a `ReferenceError` then.
        """
        chat = self._alive()
        told: list[ChatEvent] = []
        try:
            with self._lock:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                    if not self._depth:
                        told, self._pending = self._pending, []
        finally:
            if chat is not None:
                for event in told:
                    chat._observers.tell(event)  # noqa: SLF001

    def keep_unseen(self, message_id: str, call_id: str, changes: Mapping[str, Any]) -> None:
        """Change a call in the store alone, for a chat that is gone.

        Raises
        ------
        StoreError
            It cannot be written.
        """
        with self._conversations.store.transaction():
            kept = self._conversations.message(message_id)
            if kept is not None and call_of(kept, call_id) is not None:
                self._conversations.save(with_call(kept, call_id, **changes))

    @property
    def messages(self) -> list[ChatMessage]:
        """The messages on screen, oldest first."""
        shown: list[ChatMessage] = self._chat._messages  # noqa: SLF001
        return shown

    @property
    def is_writing(self) -> bool:
        """Whether an answer is being written."""
        return self._chat._answer is not None  # noqa: SLF001

    def newest(self, message_id: str) -> ChatMessage | None:
        """Return a message as the store has it, or is to have it as soon as it can be written.

        None if it is not there, or the store cannot be read.
        """
        try:
            return self._chat._saver.waiting(message_id) or self.kept(message_id)  # noqa: SLF001
        except StoreError:
            return None

    def kept(self, message_id: str) -> ChatMessage | None:
        """Return a message as the store has it."""
        message: ChatMessage | None = self._chat._conversations.message(message_id)  # noqa: SLF001
        return message

    def transaction(self) -> Any:
        """Return a transaction of the store: kept whole or not at all."""
        return self._chat.store.transaction()

    def change(self, message: ChatMessage) -> None:
        """Keep a message and show it; with the lock held.

        A store that cannot be written holds nothing up: the chat says so and tries again later.
        """
        self._chat._saver.finish(message)  # noqa: SLF001
        self.show(message)

    def write(self, message: ChatMessage, *, claims: bool = False) -> None:
        """Keep a message or raise `StoreError`; with the lock held.

        `claims` says that a call of it runs here from now on.
        """
        self._chat._saver.write(message, claims=claims)  # noqa: SLF001

    def is_held(self, message_id: str) -> bool:
        """Return whether a living program runs a call of a message."""
        held: bool = self._chat._conversations.is_held(message_id)  # noqa: SLF001
        return held

    def show(self, message: ChatMessage) -> None:
        """Put a message in place of the one with its id; with the lock held."""
        if any(one.id == message.id for one in self.messages):
            self._chat._replace(message)
            self._note(EventKind.UPDATED, message=message, message_id=message.id)

    def settings_changed(self) -> None:
        """Tell that what the next message is sent with has changed."""
        with self.held():
            self._note(EventKind.MODEL)

    def notice(self, text: str) -> None:
        """Show a line to the person; without the lock."""
        self._chat._notice(text)  # noqa: SLF001

    def answer_after(self, message: ChatMessage, deltas: Any = None) -> Any:
        """Let the model go on after a message, with the settings it was written with.

        Raises
        ------
        GgufWidgetsError
            It cannot: no model, an answer is being written, the store.
        """
        sampling: Mapping[str, Any] = message.sampling.to_dict() if message.sampling else {}
        return self._chat._answer_after(message, sampling, deltas)  # noqa: SLF001

    def _note(self, kind: EventKind, **fields: Any) -> None:
        self._pending.append(self._chat._observers.number(kind, **fields))  # noqa: SLF001
