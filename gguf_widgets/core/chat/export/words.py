"""What the readable exports say about a message, in words; the same in each of them.

Promises: one place for who said it, when, how it ended, what it was given and what was left out;
all of it plain text. Leaves to others: the marks around it (Markdown, HTML), thinking inside a text
(`core.thinking`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gguf_widgets.core.chat.export.tree import Tree, is_time
from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.format import format_bytes, format_duration, format_rate
from gguf_widgets.core.thinking import split_thinking
from gguf_widgets.core.types import FinishReason

__all__ = [
    "Part",
    "attachment_words",
    "call_words",
    "end_words",
    "facts_of",
    "head_of",
    "left_out_words",
    "moment",
    "parts_of",
    "thinking_title",
    "title_of",
    "who",
]

_UNTITLED = "Conversation"


class Part(NamedTuple):
    """A stretch of an answer: what it thought, or what it said."""

    is_thinking: bool
    text: str


def title_of(tree: Tree) -> str:
    """Return the conversation's title, or a word for one without."""
    return tree.conversation.title.strip() or _UNTITLED


def head_of(tree: Tree, line: Sequence[ChatMessage]) -> list[str]:
    """Return what stands above the conversation, one sentence or fact each."""
    told = [f"{_count(len(line), 'message')}, begun {moment(tree.conversation.created_at)}"]
    models = list(dict.fromkeys(m.model_name for m in line if m.model_name))
    if models:
        told.append(f"{'Models' if len(models) > 1 else 'Model'}: {', '.join(models)}")
    hidden = len(tree.messages) - len(line)
    if hidden:
        others = (
            "1 message of another branch is"
            if hidden == 1
            else (f"{hidden:,} messages of other branches are")
        )
        told.append(f"Only the branch on screen is shown here. {others} in the JSON export.")
    return told


def who(message: ChatMessage) -> str:
    """Return who wrote a message."""
    if message.role == "user":
        return "You"
    return message.model_name or "The model"


def moment(seconds: float) -> str:
    """Return a time as this computer's clock shows it: "2026-03-31 14:05"."""
    if not is_time(seconds):
        return "at an unknown time"
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OSError, OverflowError, ValueError):  # some systems' clocks know only some years
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def parts_of(message: ChatMessage) -> list[Part]:
    """Return an answer's thinking and text, in order, as it was written."""
    if message.role == "user":
        return [Part(False, message.content)]
    return [
        Part(part.is_thinking, part.text)
        for part in split_thinking(message.content)
        if part.text.strip()
    ]


def thinking_title(message: ChatMessage) -> str:
    """Return what the folded part is called."""
    if message.thinking_s is None:
        return "Thinking"
    return f"Thinking, {format_duration(message.thinking_s)}"


def end_words(message: ChatMessage) -> str:
    """Return how an answer ended where that is not by itself, or ""."""
    if message.status is MessageStatus.FAILED:
        reason = message.error["message"] if message.error else ""
        return f"This answer failed. {reason}".strip()
    if message.status is MessageStatus.ABORTED:
        return "Stopped before its end."
    if message.status is MessageStatus.INTERRUPTED:
        return "Not finished: the program that wrote it ended."
    if message.status is MessageStatus.STREAMING:
        return "Not finished: it was being written when this was exported."
    if message.finish_reason is FinishReason.LENGTH:
        return "Cut off: the longest answer allowed was reached, or the context was full."
    return ""


def left_out_words(message: ChatMessage) -> str:
    """Return what of the conversation the model did not see for this answer, or ""."""
    told = []
    if message.left_out:
        count = _count(len(message.left_out), "earlier message")
        were = "was" if len(message.left_out) == 1 else "were"
        instead = " A summary was sent instead." if message.summary else ""
        told.append(f"{count} {were} not sent for this answer: the context was full.{instead}")
    if message.num_unseen_images:
        count = _count(message.num_unseen_images, "earlier image")
        were = "was" if message.num_unseen_images == 1 else "were"
        told.append(f"{count} {were} not sent for this answer: its model cannot see images.")
    return " ".join(told)


def facts_of(message: ChatMessage) -> list[str]:
    """Return an answer's figures: tokens, times, seed, settings that differ from the usual."""
    facts = []
    if message.usage is not None:
        given, new = message.num_given_tokens, message.usage.num_completion_tokens
        facts.append(_count(given + new, "token") + (f", {new:,} of them new" if given else ""))
    timings = message.timings
    if timings is not None and timings.decode_tok_per_s is not None:
        facts.append(format_rate(timings.decode_tok_per_s))
    if timings is not None and timings.ttft_s is not None:
        facts.append(f"first word after {format_duration(timings.ttft_s)}")
    if message.sampling is not None and message.sampling.temperature is not None:
        facts.append(f"temperature {message.sampling.temperature:g}")
    if message.seed is not None:
        facts.append(f"seed {message.seed}")
    if message.edited:
        facts.append("edited by a person")
    return facts


def attachment_words(attachment: Attachment) -> str:
    """Return a file's name, size and what should be known about it."""
    words = f"{attachment.name} ({format_bytes(attachment.size_bytes)})"
    return f"{words}. {attachment.note}" if attachment.note else words


def call_words(call: ToolCall) -> tuple[str, str]:
    """Return a tool's call as it would be written in Python, and what came of it."""
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, default=str)}"
        for name, value in call.arguments.items()
    )
    outcome = {
        "waiting": "Not called yet.",
        "running": "It was running when this was exported.",
        "declined": "You did not allow it.",
    }.get(call.status)
    if outcome is None:
        outcome = f"It failed: {call.error}" if call.error is not None else (call.result or "")
    return f"{call.name}({arguments})", outcome


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
