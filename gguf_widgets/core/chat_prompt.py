"""What of a conversation the model is sent.

Promises: one pure function; the messages are in order and no two neighbours have the same role, as
many chat templates demand. Leaves to others: turning messages into tokens (the engine), and
conversations that are too long (an error of the engine, shown in the chat).

The rules
---------
- The system prompt comes first, if there is one.
- An answer that is complete, was stopped or was interrupted is sent as far as it had come: it is
  what the person saw the model say. An empty one is left out.
- An answer that failed is left out.
- A person's message whose answer failed *because of the message* (it did not fit, or the template
  refused it) is left out too, or every later message would fail for the same reason.
- Where that leaves two messages of one role side by side, they become one, with an empty line
  between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gguf_widgets.core.chat_types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import ChatTemplateError, ContextOverflowError
from gguf_widgets.core.types import Message

__all__ = ["Prompt", "prompt_for"]

_FAULT_OF_THE_MESSAGE = {ContextOverflowError.__name__, ChatTemplateError.__name__}


class Prompt(NamedTuple):
    """The messages to send, and the ids of those that are shown but not sent."""

    messages: list[Message]
    left_out: list[str]


def prompt_for(messages: Sequence[ChatMessage], system: str | None) -> Prompt:
    """Return what the model is sent for a line of messages, oldest first."""
    left_out: list[str] = []
    sent: list[Message] = []
    if system:
        sent.append(Message(role="system", content=system))
    for index, message in enumerate(messages):
        answer = messages[index + 1] if index + 1 < len(messages) else None
        if not message.content or _failed(message) or _spoiled(message, answer):
            # A message that is empty because it is only just being written is not "left out".
            if message.status is not MessageStatus.STREAMING:
                left_out.append(message.id)
        elif sent and sent[-1]["role"] == message.role:
            joined = f"{sent[-1]['content']}\n\n{message.content}"
            sent[-1] = Message(role=message.role, content=joined)
        else:
            sent.append(Message(role=message.role, content=message.content))
    return Prompt(sent, left_out)


def _failed(message: ChatMessage) -> bool:
    return message.role == "assistant" and message.status is MessageStatus.FAILED


def _spoiled(message: ChatMessage, answer: ChatMessage | None) -> bool:
    return (
        message.role == "user"
        and answer is not None
        and _failed(answer)
        and answer.error is not None
        and answer.error["kind"] in _FAULT_OF_THE_MESSAGE
    )
