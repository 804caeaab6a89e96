"""From what a person passes to `Model.chat` to messages that can be sent.

Promises: a str is one user message; everything else is checked and refused by its place and reason;
an image is one that can be sent, and comes from no address of the net.
Leaves to others: what a chat template makes of the messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.core.errors import ImageError, InvalidValueError
from gguf_widgets.core.images import Image, image
from gguf_widgets.core.types import ImagePart, Message, TextPart

__all__ = ["ROLES", "Conversation", "check_text", "to_messages"]

ROLES = ("system", "developer", "user", "assistant", "tool")

Conversation = str | Sequence[Message | Mapping[str, Any]]
"""What `Model.chat` and `Model.stream` take.

A message's content is a text, or a list of texts and images (`images.image`); OpenAI's parts,
``{"type": "text", ...}`` and ``{"type": "image_url", ...}``, are taken, too.
"""


def to_messages(conversation: Conversation) -> list[Message]:
    """Return the messages of a conversation.

    Raises
    ------
    InvalidValueError
        For no messages, an unknown role or key, or content that is no text.
    ImageError
        For an image that cannot be sent.
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
    if "parts" in item and set(item) == {"role", "content", "parts"}:
        item = {"role": item["role"], "content": item["parts"]}  # it went through here before
    unknown = [key for key in item if key not in ("role", "content")]
    if unknown or len(item) != 2:
        given = ", ".join(repr(key) for key in item) or "nothing"
        raise InvalidValueError(f"{where} must have role and content, and it has {given}.")
    role, content = item["role"], item["content"]
    if role not in ROLES:
        raise InvalidValueError(
            f"{where} has the role {role!r}; it can be {', '.join(ROLES)}.", role=str(role)
        )
    if isinstance(content, list | tuple):
        return _with_parts(role, [_part(number, n, one) for n, one in enumerate(content, 1)])
    check_text(content, f"The content of message {number}")
    return Message(role=role, content=content)


def _with_parts(role: str, parts: list[TextPart | ImagePart]) -> Message:
    text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    if any(isinstance(part, ImagePart) for part in parts):
        return Message(role=role, content=text, parts=parts)
    return Message(role=role, content=text)


def _part(number: int, place: int, item: Any) -> TextPart | ImagePart:
    """Return a part of a message's content."""
    where = f"Part {place} of message {number}"
    if isinstance(item, str):
        check_text(item, where)
        return TextPart(item)
    if isinstance(item, TextPart):
        check_text(item.text, where)
        return item
    if isinstance(item, Image):
        return ImagePart(item.data)
    if isinstance(item, ImagePart):
        return ImagePart(image(item.data).data)
    kind = item.get("type") if isinstance(item, Mapping) else None
    if kind == "text":
        check_text(item.get("text"), where)
        return TextPart(item["text"])
    if kind == "image_url":
        return ImagePart(_from_address(where, item.get("image_url")).data)
    raise InvalidValueError(
        f"{where} is {item!r:.60}; it can be a text, an image (gguf_widgets.image(...)),"
        ' {"type": "text", "text": ...} or {"type": "image_url", "image_url": {"url": ...}}.'
    )


def _from_address(where: str, given: Any) -> Image:
    url = given.get("url") if isinstance(given, Mapping) else given
    if not isinstance(url, str):
        raise InvalidValueError(f'{where} has no "url" that is a text.')
    if not url[:5].lower() == "data:":
        # A file's name here would let whoever wrote the conversation read this machine's files.
        raise ImageError(
            f"{where} has the image's address {url[:100]!r}: only data: addresses are taken, with"
            " the image in them; nothing is fetched from the net. For a file:"
            " gguf_widgets.image(path).",
            problem="remote",
        )
    return image(url)


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
