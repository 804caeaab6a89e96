"""A conversation as the messages of OpenAI's chat format.

Promises: the path on screen as programs take it: the system prompt, texts, images as data URLs,
calls of tools with their results as messages of their own; thinking in a field of its own
(``reasoning_content``, as several servers name it). Leaves to others: branches and figures, which
that format has no place for (`json_form` has), reading it (`foreign`).
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final, NamedTuple

from gguf_widgets.core.chat.attach import as_prompt
from gguf_widgets.core.chat.export import words
from gguf_widgets.core.chat.export.tree import Tree, line_of
from gguf_widgets.core.chat.types import ChatMessage, ToolCall
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes

__all__ = ["OpenAiMessages", "openai_messages", "to_json", "to_jsonl"]


_MAX_IMAGE_BYTES: Final = 512 << 20


class OpenAiMessages(NamedTuple):
    """The messages, and in words what could not be put into them."""

    messages: list[dict[str, Any]]
    notes: list[str]


def openai_messages(tree: Tree) -> OpenAiMessages:
    """Return the path on screen as messages.

    Raises
    ------
    InvalidValueError
        Its images together are too large.
    """
    notes: list[str] = []
    messages: list[dict[str, Any]] = []
    if tree.conversation.system:
        messages.append({"role": "system", "content": tree.conversation.system})
    empty = num_bytes = 0
    for message in line_of(tree):
        if message.role == "user":
            num_bytes += sum(len(tree.files.get(one.sha256, b"")) for one in message.attachments)
            if num_bytes > _MAX_IMAGE_BYTES:
                raise InvalidValueError(
                    f"The images together are more than {format_bytes(_MAX_IMAGE_BYTES)}, each "
                    "written out where it was sent. Export as JSON, which holds each once.",
                    limit=_MAX_IMAGE_BYTES,
                )
            messages.append({"role": "user", "content": _user_content(message, tree, notes)})
        elif message.content or message.tool_calls:
            messages += _answer(message)
        else:
            empty += 1
    if empty:
        notes.append(f"{empty:,} answer{'s' if empty > 1 else ''} without a word left out.")
    return OpenAiMessages(messages, notes)


def to_json(tree: Tree) -> tuple[str, list[str]]:
    """Return ``{"messages": [...]}``, laid out for reading, and notes."""
    messages, notes = openai_messages(tree)
    return json.dumps({"messages": messages}, ensure_ascii=False, indent=2) + "\n", notes


def to_jsonl(tree: Tree) -> tuple[str, list[str]]:
    """Return ``{"messages": [...]}`` on one line, as files with many conversations have it."""
    messages, notes = openai_messages(tree)
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n", notes


def _user_content(message: ChatMessage, tree: Tree, notes: list[str]) -> Any:
    texts = [one for one in message.attachments if one.kind != "image"]
    images = [one for one in message.attachments if one.kind == "image"]
    attached = as_prompt(texts)
    content = f"{attached}\n\n{message.content}" if attached else message.content
    parts: list[dict[str, Any]] = []
    for image in images:
        data = tree.files.get(image.sha256)
        if data is None:
            notes.append(f"The image “{image.name}” is not kept any more, so it is left out.")
            continue
        url = f"data:{image.mime};base64,{base64.b64encode(data).decode('ascii')}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [*parts, {"type": "text", "text": content}] if parts else content


def _answer(message: ChatMessage) -> list[dict[str, Any]]:
    parts = words.parts_of(message)
    thinking = "\n\n".join(part.text.strip("\n") for part in parts if part.is_thinking)
    text = "".join(part.text for part in parts if not part.is_thinking).strip("\n")
    said: dict[str, Any] = {
        "role": "assistant",
        "content": text if thinking else message.content,
    }
    if thinking:
        said["reasoning_content"] = thinking
    if not message.tool_calls:
        return [said]
    said["tool_calls"] = [_call(call) for call in message.tool_calls]
    return [said, *(_result(call) for call in message.tool_calls)]


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _result(call: ToolCall) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call.id, "content": words.call_words(call)[1]}
