"""From what a person passes to `Model.chat` to messages that can be sent.

Promises: a str is one user message; everything else is checked and refused by its place and reason.
Leaves to others: what a chat template makes of the messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import Message

__all__ = ["ROLES", "Conversation", "check_text", "to_messages"]

ROLES = ("system", "developer", "user", "assistant", "tool")

Conversation = str | Sequence[Message | Mapping[str, str]]
"""What `Model.chat` and `Model.stream` take."""


def to_messages(conversation: Conversation) -> list[Message]:
    """Return the messages of a conversation.

    Raises
    ------
    InvalidValueError
        For no messages, an unknown role or key, or content that is no text.
    """
    if isinstance(conversation, str):
        check_text(conversation, "The message")
        return [Message(role="user", content=conversation)]
    if isinstance(conversation, Mapping | bytes) or not isinstance(conversation, Sequence):
        raise InvalidValueError(
            "A conversation is a text or a list of messages such as "
            '{"role": "user", "content": "Hello"}; '
            f"this is a {type(conversation).__name__}."
        )
    if not conversation:
        raise InvalidValueError("The conversation is empty: there is nothing to answer.")
    return [_message(number, item) for number, item in enumerate(conversation, 1)]


def _message(number: int, item: Any) -> Message:
    where = f"Message {number}"
    if not isinstance(item, Mapping):
        raise InvalidValueError(
            f"{where} is a {type(item).__name__}; it must be a dict with role and content."
        )
    unknown = [key for key in item if key not in ("role", "content")]
    if unknown or len(item) != 2:
        given = ", ".join(repr(key) for key in item) or "nothing"
        raise InvalidValueError(f"{where} must have role and content, and it has {given}.")
    role, content = item["role"], item["content"]
    if role not in ROLES:
        raise InvalidValueError(
            f"{where} has the role {role!r}; it can be {', '.join(ROLES)}.", role=str(role)
        )
    check_text(content, f"The content of message {number}")
    return Message(role=role, content=content)


def check_text(text: Any, what: str) -> None:
    """Raise `InvalidValueError` unless `text` is text that can be sent."""
    if not isinstance(text, str):
        raise InvalidValueError(f"{what} is a {type(text).__name__}; it must be text (str).")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"{what} holds half a character (U+{ord(text[error.start]):04X} at position "
            f"{error.start}), which no model can read. Remove it, or replace it with the character "
            "that was meant.",
            position=error.start,
        ) from error
