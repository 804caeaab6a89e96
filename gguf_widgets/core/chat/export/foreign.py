"""Conversations in OpenAI's chat format, as programs send and keep them, read into trees.

Promises: a line of messages becomes a conversation with the same texts, images (where their bytes
are in the file) and calls of tools; what has no place here is told in the tree's notes, never
dropped in silence; what is none of these forms is refused with the number of the message. Leaves to
others: finding out which form a file has and its limits (`reading`), ids (`tree.with_new_ids`).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.attach import attach
from gguf_widgets.core.chat.attach_kinds import kind_of
from gguf_widgets.core.chat.export.checking import MAX_CALLS
from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.types import (
    Attachment,
    ChatMessage,
    Conversation,
    MessageStatus,
    ToolCall,
    title_from,
)
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.store.conversations import new_id

__all__ = ["Builder", "is_messages", "noted", "read_messages", "with_thinking"]

_NO_RESULT: Final = "No result of this call is in the file."
_TITLE_CHARS: Final = 300


def is_messages(document: Any) -> bool:
    """Say whether parsed JSON looks like a list of messages."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(one, dict) and "role" in one for one in document)
    )


def read_messages(given: Sequence[Any], *, title: Any = None) -> Tree:
    """Return a line of OpenAI messages as a tree.

    Raises
    ------
    InvalidValueError
        One of them is no message.
    """
    builder = Builder()
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict):
            raise InvalidValueError(
                f"Message {number:,} is {type(one).__name__}, not an object with a role."
            )
        builder.take(number, one)
    return builder.tree(title)


class Builder:
    """Puts a conversation together, one message after the other."""

    def __init__(self) -> None:
        now = time.time()
        self.conversation_id, self._now = new_id(), now
        self.messages: list[ChatMessage] = []
        self.files: dict[str, bytes] = {}
        self.lost: Counter[str] = Counter()
        self._system: list[str] = []
        self._calls: dict[str, int] = {}  # the id of a call, and the place of its message

    def take(self, number: int, given: dict[str, Any]) -> None:
        """Add one message."""
        role, where = given.get("role"), f"Message {number:,}"
        if role in ("system", "developer"):
            text = self._text(given.get("content"), where)
            if self.messages and text:
                self.lost["a system message in the middle of a conversation"] += 1
            elif text:
                self._system.append(text)
        elif role == "user":
            text, attachments = self._parts(given.get("content"), where)
            self._add("user", text, attachments=attachments)
        elif role == "assistant":
            self._answer(given, where)
        elif role in ("tool", "function"):
            self._result(given, where)
        else:
            raise InvalidValueError(
                f"{where} has the role {role!r:.40}. It can be system, developer, user, assistant "
                "or tool."
            )

    def tree(self, title: Any = None) -> Tree:
        """Return what was put together."""
        messages = self.messages
        first = next((one.content for one in messages if one.role == "user"), "")
        named = title if isinstance(title, str) and title.strip() else title_from(first)
        conversation = Conversation(
            id=self.conversation_id,
            title=" ".join(named.split())[:_TITLE_CHARS],
            system="\n\n".join(self._system) or None,
            model_type="text",
            model_name=None,
            model=None,
            active_leaf_id=messages[-1].id if messages else None,
            created_at=self._now,
            updated_at=self._now,
        )
        return Tree(
            conversation=conversation,
            messages=[_without_open_calls(message) for message in messages],
            files=self.files,
            notes=noted(self.lost),
        )

    def _add(self, role: str, content: str, **more: Any) -> None:
        last = self.messages[-1].id if self.messages else None
        message = ChatMessage(
            id=new_id(),
            conversation_id=self.conversation_id,
            parent_id=last,
            role=role,
            content=content,
            status=MessageStatus.COMPLETE,
            created_at=self._now,
            **more,
        )
        self.messages.append(message)

    def _answer(self, given: dict[str, Any], where: str) -> None:
        text = self._text(given.get("content"), where)
        thinking = given.get("reasoning_content") or given.get("reasoning")
        if isinstance(thinking, str) and thinking.strip():
            text = with_thinking(thinking, text)
        calls = given.get("tool_calls") or []
        if not isinstance(calls, list):
            raise InvalidValueError(f"{where}: tool_calls is {type(calls).__name__}, not a list.")
        if len(calls) > MAX_CALLS:
            raise InvalidValueError(f"{where} has more than {MAX_CALLS} calls of tools.")
        read = tuple(_call(one, where) for one in calls)
        name = given.get("model")
        self._add(
            "assistant",
            text,
            tool_calls=read,
            model_name=name[:200] if isinstance(name, str) and name else None,
        )
        self._calls |= {call.id: len(self.messages) - 1 for call in read}

    def _result(self, given: dict[str, Any], where: str) -> None:
        text = self._text(given.get("content"), where)
        key = given.get("tool_call_id")
        place = self._calls.get(key) if isinstance(key, str) else None
        if place is None:
            self.lost["a result of a tool that nobody had called"] += 1
            return
        message = self.messages[place]
        calls = tuple(
            msgspec.structs.replace(call, status="done", result=text) if call.id == key else call
            for call in message.tool_calls
        )
        self.messages[place] = msgspec.structs.replace(message, tool_calls=calls)

    def _text(self, content: Any, where: str) -> str:
        text, attachments = self._parts(content, where)
        if attachments:
            self.lost["an image in a message that is not a person's"] += len(attachments)
        return text

    def _parts(self, content: Any, where: str) -> tuple[str, tuple[Attachment, ...]]:
        if content is None:
            return "", ()
        if isinstance(content, str):
            return content, ()
        if not isinstance(content, list):
            raise InvalidValueError(
                f"{where}: its content is {type(content).__name__}, not a text or a list of parts."
            )
        texts: list[str] = []
        images: list[Attachment] = []
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if isinstance(part, str):
                texts.append(part)
            elif kind in ("text", "input_text", "output_text", "refusal"):
                text = part.get("text", part.get("refusal"))
                if not isinstance(text, str):
                    raise InvalidValueError(f"{where}: a part of it has no text.")
                texts.append(text)
            elif kind in ("image_url", "input_image"):
                if (image := self._image(part.get("image_url"))) is not None:
                    images.append(image)
            else:
                self.lost[f"a part of the kind {kind!r:.40}"] += 1
        return "\n\n".join(texts), tuple(images)

    def _image(self, given: Any) -> Attachment | None:
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str) or not url.startswith("data:"):
            self.lost["an image that is only an address"] += 1
            return None
        head, _, body = url.partition(",")
        try:
            if not head.endswith(";base64"):
                body = ""  # which is no image
            given_data = base64.b64decode(body, validate=True)
            # Judged first: a PDF in the place of each image would be read for a minute.
            if kind_of(given_data, "image") != "image":
                self.lost["an image that is none"] += 1
                return None
            attachment, data = attach(given_data, name="image")
        except (GgufWidgetsError, ValueError, binascii.Error):
            self.lost["an image that cannot be read"] += 1
            return None
        self.files[attachment.sha256] = data
        return attachment


def with_thinking(thinking: str, text: str) -> str:
    """Return an answer that begins with what it thought, as models write it."""
    # A closing mark within the thoughts would end them too early.
    inner = thinking.replace("</think>", "</ think>").strip("\n")
    return f"<think>\n{inner}\n</think>\n\n{text}"


def noted(lost: Counter[str]) -> tuple[str, ...]:
    """Return what was left out, in words."""
    if not lost:
        return ()
    parts = [what if count == 1 else f"{what} ({count:,} times)" for what, count in lost.items()]
    more = f" and {len(parts) - 8} other kinds" if len(parts) > 8 else ""
    return (f"Left out: {'; '.join(parts[:8])}{more}.",)


def _call(given: Any, where: str) -> ToolCall:
    function = given.get("function") if isinstance(given, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(given, dict) or not isinstance(function, dict) or not isinstance(name, str):
        raise InvalidValueError(f"{where}: a call of a tool has no function with a name.")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {"text": arguments}
    if not isinstance(arguments, dict):
        arguments = {} if arguments is None else {"value": arguments}
    key = given.get("id")
    return ToolCall(
        id=key if isinstance(key, str) and key else new_id(),
        name=name[:200],
        arguments=arguments,
        status="waiting",
        result=None,
        error=None,
        total_s=None,
    )


def _without_open_calls(message: ChatMessage) -> ChatMessage:
    if all(call.status == "done" for call in message.tool_calls):
        return message
    calls = tuple(
        call
        if call.status == "done"
        else msgspec.structs.replace(call, status="failed", error=_NO_RESULT)
        for call in message.tool_calls
    )
    return msgspec.structs.replace(message, tool_calls=calls)
