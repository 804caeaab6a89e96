"""From what a person passes to `Model.chat` to messages that can be sent.

Promises: a str is one user message; everything else is checked and refused by its place and reason;
an image is one that can be sent, and comes from no address of the net; the arguments of a tool's
call are plain JSON.
Leaves to others: what a chat template makes of the messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gguf_widgets.core.errors import ImageError, InvalidValueError
from gguf_widgets.core.images import Image, image
from gguf_widgets.core.types import ImagePart, Message, TextPart, ToolRequest

__all__ = ["ROLES", "Conversation", "check_text", "to_messages"]

ROLES = ("system", "developer", "user", "assistant", "tool")

Conversation = str | Sequence[Message | Mapping[str, Any]]
"""What `Model.chat` and `Model.stream` take.

A message's content is a text, or a list of texts and images (`images.image`); OpenAI's parts,
``{"type": "text", ...}`` and ``{"type": "image_url", ...}``, are taken, too.

An answer in which the model asked for tools has ``tool_calls``: a list of ``{"id": ..., "name":
..., "arguments": {...}}``, or OpenAI's ``{"id": ..., "type": "function", "function": {...}}``; its
content may be empty or None. What a tool gave is a message of the role "tool", whose content is a
text and whose ``tool_call_id`` and ``name`` say which call it answers. An answer may also have
``reasoning_content``, the thoughts before it, for the templates that want these back.
"""

_MAX_CALLS = 128


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
    if "parts" in item and {"role", "content"} <= set(item):
        # It went through here before.
        item = {k: v for k, v in item.items() if k != "parts"} | {"content": item["parts"]}
    role = item.get("role")
    more = _MORE_KEYS.get(role, ()) if isinstance(role, str) else ()
    needed = {"role", "content"} - ({"content"} if item.get("tool_calls") else set())
    if not needed <= set(item) <= {"role", "content", *more}:
        given = ", ".join(repr(key) for key in item) or "nothing"
        also = f" (and may have {', '.join(more)})" if more else ""
        raise InvalidValueError(f"{where} must have role and content{also}, and it has {given}.")
    if role not in ROLES:
        raise InvalidValueError(
            f"{where} has the role {role!r}; it can be {', '.join(ROLES)}.", role=str(role)
        )
    content = item.get("content")
    if role == "tool":
        return _result(number, item)
    if role == "assistant" and (item.get("tool_calls") or "reasoning_content" in item):
        return _answer(number, item)
    if isinstance(content, list | tuple):
        return _with_parts(role, [_part(number, n, one) for n, one in enumerate(content, 1)])
    check_text(content, f"The content of message {number}")
    return Message(role=role, content=content)


_MORE_KEYS = {
    "assistant": ("tool_calls", "reasoning_content"),
    "tool": ("tool_call_id", "name"),
}


def _result(number: int, item: Mapping[str, Any]) -> Message:
    """Return what a tool gave."""
    content = item["content"]
    if isinstance(content, list | tuple):
        parts = [_part(number, n, one) for n, one in enumerate(content, 1)]
        if any(isinstance(part, ImagePart) for part in parts):
            raise InvalidValueError(
                f"Message {number} is what a tool gave, and holds an image; it can hold text only."
            )
        content = _with_parts("tool", parts)["content"]
    check_text(content, f"The content of message {number}")
    message = Message(role="tool", content=content)
    call_id, name = item.get("tool_call_id"), item.get("name")
    if call_id is not None:
        check_text(call_id, f"The tool_call_id of message {number}")
        message["tool_call_id"] = call_id
    if name is not None:
        check_text(name, f"The name in message {number}")
        message["name"] = name
    return message


def _answer(number: int, item: Mapping[str, Any]) -> Message:
    """Return an answer with the calls of tools, or with thoughts."""
    calls, content = item.get("tool_calls") or (), item.get("content")
    if not isinstance(calls, list | tuple) or len(calls) > _MAX_CALLS:
        raise InvalidValueError(
            f"The tool_calls of message {number} must be a list of at most {_MAX_CALLS} calls."
        )
    if isinstance(content, list | tuple):
        parts = [_part(number, n, one) for n, one in enumerate(content, 1)]
        message = _with_parts("assistant", parts)
    else:
        content = "" if content is None else content
        check_text(content, f"The content of message {number}")
        message = Message(role="assistant", content=content)
    if calls:
        message["tool_calls"] = [_call(number, place, call) for place, call in enumerate(calls, 1)]
    thoughts = item.get("reasoning_content")
    if thoughts is not None:
        check_text(thoughts, f"The reasoning_content of message {number}")
        message["reasoning_content"] = thoughts
    return message


def _call(number: int, place: int, item: Any) -> ToolRequest:
    where = f"Call {place} of message {number}"
    if not isinstance(item, Mapping):
        raise InvalidValueError(f"{where} is a {type(item).__name__}; it must be a dict.")
    inner = item.get("function", item)
    if not isinstance(inner, Mapping):
        raise InvalidValueError(f"{where} has a function that is no dict.")
    name: Any = inner.get("name")
    arguments: Any = inner.get("arguments", {})
    check_text(name, f"The name in call {place} of message {number}")
    if not name:
        raise InvalidValueError(f"{where} names no tool.")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise InvalidValueError(f"{where} has arguments that are no JSON: {error}.") from error
    if not isinstance(arguments, Mapping):
        raise InvalidValueError(
            f"{where} has arguments that are a {type(arguments).__name__}; they must be a dict."
        )
    try:
        text = json.dumps(dict(arguments), allow_nan=False)
        plain = json.loads(text, parse_int=_carried)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"{where} has arguments that JSON cannot hold: {error}.") from error
    call_id = item.get("id") or f"call_{number}_{place}"
    check_text(call_id, f"The id of call {place} of message {number}")
    return ToolRequest(id=call_id, name=name, arguments=plain)


def _carried(digits: str) -> int | str:
    """Return a whole number of a call's arguments; one over 64 bits goes as its digits, as text."""
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else digits


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
