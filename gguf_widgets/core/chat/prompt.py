"""What of a conversation the model is sent.

Promises: one function without effects; the messages are in order, and no two neighbours have the
same role, as many chat templates demand. Leaves to others: turning messages into tokens (the
engine), and conversations that are too long (`context`).

The rules
---------
- The system prompt comes first, if there is one.
- Files go before the words that they were sent with: texts as text, images as they are.
- To a model that cannot see, the images of earlier messages go as a line that says that one was
  there (`num_unseen_images` counts them). Those of the question to be answered go as they are, and
  the model refuses them in words: the question may be about them.
- An answer that is complete, was stopped or was interrupted is sent as far as it had come: it is
  what the person saw the model say. What it thought before is left out, as the templates of
  thinking models do. An empty one is left out.
- An answer that failed is left out.
- A person's message whose answer failed *because of the message* (it did not fit, the template
  refused it, or the model cannot see its images) is left out too, or every later message would fail
  for the same reason.
- Where that leaves two messages of one role side by side, they become one, with an empty line
  between.
- An answer that ended in calls of tools is sent with them, and each result as a message of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gguf_widgets.core.chat.attach import as_prompt
from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus
from gguf_widgets.core.errors import (
    ChatTemplateError,
    ContextOverflowError,
    ImageError,
    InvalidValueError,
    UnsupportedByModelError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.thinking import strip_thinking
from gguf_widgets.core.tools import for_model
from gguf_widgets.core.types import ImagePart, Message, TextPart, ToolRequest

__all__ = ["Prompt", "left_out_of", "num_unseen_images", "prompt_for"]

_FAULT_OF_THE_MESSAGE = {ContextOverflowError.__name__, ChatTemplateError.__name__}
_FAULT_OF_ITS_IMAGES = {ImageError.__name__, UnsupportedByModelError.__name__}

_MAX_IMAGE_BYTES = 64 << 20  # more than one message to the model's process holds

_IMAGE = "image"  # the kind of attachment that is no text


class Prompt(NamedTuple):
    """The messages to send, and the ids of those that are shown but not sent."""

    messages: list[Message]
    left_out: list[str]


def prompt_for(
    messages: Sequence[ChatMessage],
    system: str | None,
    files: Callable[[str], bytes] | None = None,
    *,
    sees: bool = True,
) -> Prompt:
    """Return what the model is sent for a line of messages, oldest first.

    Parameters
    ----------
    messages : sequence of ChatMessage
    system : str or None
    files : callable, optional
        Returns the bytes of an image for its SHA-256. Without it images are left out: for whoever
        only looks at the texts.
    sees : bool, default True
        Whether the model can see images.

    Raises
    ------
    InvalidValueError
        The images together are more than a model's process can be sent at once.
    """
    sent: list[Message] = []
    if system:
        sent.append(Message(role="system", content=system))
    left_out = left_out_of(messages)
    gone = set(left_out)
    files = _bounded(files) if files is not None else None
    unseen = set() if sees else _unseen(messages)
    for message in messages:
        if message.id in gone or (not message.content and not message.tool_calls):
            continue
        for part in _sent_of(message, files, unseen=message.id in unseen):
            if sent and sent[-1]["role"] == part["role"] and not _stands_alone(sent[-1], part):
                sent[-1] = _joined(sent[-1], part)
            else:
                sent.append(part)
    return Prompt(sent, left_out)


def num_unseen_images(messages: Sequence[ChatMessage]) -> int:
    """Count the images of a line of messages that a model that cannot see is sent as a word."""
    gone = {*left_out_of(messages)}
    unseen = _unseen(messages) - gone
    return sum(len(_images_of(message)) for message in messages if message.id in unseen)


def _unseen(messages: Sequence[ChatMessage]) -> set[str]:
    """Return the ids of the messages whose images are not of the question to be answered."""
    with_images = {message.id for message in messages if _has_images(message)}
    for message in reversed(messages):
        if message.role == "user":
            return with_images - {message.id}
        if not message.tool_calls:
            break  # it has its answer: no question is open
    return with_images


def left_out_of(messages: Sequence[ChatMessage]) -> list[str]:
    """Return the ids of the messages that are shown but not sent."""
    left_out: list[str] = []
    for index, message in enumerate(messages):
        answer = messages[index + 1] if index + 1 < len(messages) else None
        if message.status is MessageStatus.STREAMING:
            continue  # it is only just being written
        if _failed(message) or _spoiled(message, answer) or _is_empty(message):
            left_out.append(message.id)
    return left_out


def _failed(message: ChatMessage) -> bool:
    return message.role == "assistant" and message.status is MessageStatus.FAILED


def _spoiled(message: ChatMessage, answer: ChatMessage | None) -> bool:
    return (
        message.role == "user"
        and answer is not None
        and _failed(answer)
        and answer.error is not None
        and (
            answer.error["kind"] in _FAULT_OF_THE_MESSAGE
            or (answer.error["kind"] in _FAULT_OF_ITS_IMAGES and _has_images(message))
        )
    )


def _has_images(message: ChatMessage) -> bool:
    return any(attachment.kind == _IMAGE for attachment in message.attachments)


def _images_of(message: ChatMessage) -> list[Attachment]:
    return [attachment for attachment in message.attachments if attachment.kind == _IMAGE]


def _is_empty(message: ChatMessage) -> bool:
    if message.tool_calls or not message.content:
        return not message.tool_calls
    # This is asked of every message many times a second: most need no reading.
    if message.role != "assistant" or not _may_hold_thinking(message):
        return False
    return not _text_of(message)


def _may_hold_thinking(message: ChatMessage) -> bool:
    return (
        message.thinking_s is not None
        or _opens_thinking(message)
        # Of an answer from before its thinking was timed, or from elsewhere.
        or not message.content.lstrip()[:1].isalnum()
        or message.content.startswith("analysis")
    )


def _opens_thinking(message: ChatMessage) -> bool:
    return bool((message.record or {}).get("opens_thinking"))


def _text_of(message: ChatMessage) -> str:
    if message.role != "assistant":
        texts = as_prompt(message.attachments) if message.attachments else ""
        return f"{texts}\n\n{message.content}" if texts else message.content
    return _without_thinking(message.content, _opens_thinking(message))


@functools.lru_cache(maxsize=1024)
def _without_thinking(text: str, opened: bool) -> str:
    return strip_thinking(text, opened=opened)


def _sent_of(
    message: ChatMessage, files: Callable[[str], bytes] | None, *, unseen: bool = False
) -> list[Message]:
    """Return what a message becomes: itself, and the results of its calls."""
    sent = Message(role=message.role, content=_text_of(message))
    images = _images_of(message)
    if images and unseen:
        words = [f"[An image, “{plain_text(one.name, 80)}”, that cannot be shown here]"
                 for one in images]  # fmt: skip
        sent["content"] = "\n".join([*words, sent["content"]])
    elif images and files is not None:
        sent["parts"] = [
            *(ImagePart(data=files(image.sha256)) for image in images),
            TextPart(text=sent["content"]),
        ]
    if not message.tool_calls:
        return [sent]
    sent["tool_calls"] = [
        ToolRequest(id=call.id, name=call.name, arguments=call.arguments)
        for call in message.tool_calls
    ]
    results = [
        Message(role="tool", content=for_model(call), tool_call_id=call.id, name=call.name)
        for call in message.tool_calls
    ]
    return [sent, *results]


def _bounded(files: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """Return what reads each image once, and no more of them than can be sent."""
    kept: dict[str, bytes] = {}
    sent = 0

    def read(sha256: str) -> bytes:
        nonlocal sent
        if sha256 not in kept:
            kept[sha256] = files(sha256)
        sent += len(kept[sha256])
        if sent > _MAX_IMAGE_BYTES:
            raise InvalidValueError(
                f"The images of this conversation are more than {format_bytes(_MAX_IMAGE_BYTES)}"
                " together, which is more than the model can be sent at once. Start a new"
                " conversation, with fewer or smaller images.",
                limit=_MAX_IMAGE_BYTES,
            )
        return kept[sha256]

    return read


def _stands_alone(before: Message, after: Message) -> bool:
    """Whether two messages of one role must not become one: calls, and their results."""
    return after["role"] == "tool" or "tool_calls" in before or "tool_calls" in after


def _joined(before: Message, after: Message) -> Message:
    joined = Message(role=before["role"], content=f"{before['content']}\n\n{after['content']}")
    if "parts" in before or "parts" in after:
        first = before.get("parts") or [TextPart(text=before["content"])]
        second = after.get("parts") or [TextPart(text=after["content"])]
        joined["parts"] = [*first, TextPart(text="\n\n"), *second]
    return joined
