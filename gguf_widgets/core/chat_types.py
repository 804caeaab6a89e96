"""What a conversation is made of, as plain data.

Promises: immutable values, the same in the store, in `ChatInterface` and for its observers; text
that can be stored and sent (`well_formed`). Leaves to others: every behaviour (`chat`), keeping
them (`store.conversations`), showing them (the widgets).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from gguf_widgets.core.errors import InvalidValueError, WireError
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings, Usage

__all__ = [
    "ChatEvent",
    "ChatMessage",
    "ChatSnapshot",
    "ContextUse",
    "Conversation",
    "EventKind",
    "MessageStatus",
    "Phase",
    "checked_text",
    "title_from",
    "well_formed",
]

_TITLE_LENGTH = 60


class MessageStatus(StrEnum):
    """Where a message stands."""

    COMPLETE = "complete"
    STREAMING = "streaming"  # it is being written at this moment
    ABORTED = "aborted"  # a person stopped it; what had arrived is kept
    FAILED = "failed"  # `error` says why; what had arrived is kept
    INTERRUPTED = "interrupted"  # the program that wrote it ended; what had arrived is kept


class Phase(StrEnum):
    """What the model is doing for an answer that is not finished."""

    WAITING = "waiting"  # asked, nothing heard yet
    READING = "reading"  # it computes the prompt
    WRITING = "writing"


class EventKind(StrEnum):
    """What happened; see `ChatEvent`."""

    ADDED = "added"
    DELTA = "delta"
    PROGRESS = "progress"
    UPDATED = "updated"
    RESET = "reset"
    MODEL = "model"
    NOTICE = "notice"


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation.

    Parameters
    ----------
    id, conversation_id : str
    parent_id : str or None
        The message this one follows; None for a first one. Several messages may share a parent:
        a conversation is a tree.
    role : str
        "user" or "assistant" (later also "tool").
    content : str
        For an answer being written, what has arrived so far.
    status : MessageStatus
    finish_reason : FinishReason or None
    usage, timings : Usage, Timings or None
        The answer's token counts and times.
    error : dict or None
        ``kind``, ``message`` and ``details`` of what went wrong; `errors.from_wire` makes the
        exception of it.
    created_at : float
        Seconds since 1970, UTC.
    model_name : str or None
        The model that answered.
    model : dict or None
        What identifies it: path, size in bytes, quantization, backend, its load settings.
    sampling : SamplingSettings or None
        What was asked for.
    seed : int or None
        The seed that was used, also when none was asked for.
    """

    id: str
    conversation_id: str
    parent_id: str | None
    role: str
    content: str
    status: MessageStatus
    created_at: float
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: WireError | None = None
    model_name: str | None = None
    model: dict[str, Any] | None = None
    sampling: SamplingSettings | None = None
    seed: int | None = None

    @property
    def created(self) -> datetime:
        """When it was made, in UTC."""
        return datetime.fromtimestamp(self.created_at, UTC)


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation without its messages.

    `active_leaf_id` is the message it is continued from; `deleted_at` is set on one that was
    deleted and can still be brought back; `model` is as in `ChatMessage`.
    """

    id: str
    title: str
    system: str | None
    model_type: str
    model_name: str | None
    model: dict[str, Any] | None
    active_leaf_id: str | None
    created_at: float
    updated_at: float
    pinned: bool = False
    deleted_at: float | None = None


class ChatEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a `ChatInterface`, for its observers.

    ==========  ====================================================================================
    kind        meaning
    ==========  ====================================================================================
    "added"     `message` was added at the end
    "delta"     `text` was added to the end of the message `message_id`; `num_completion_tokens`
                counts its tokens so far
    "progress"  `phase` of the message `message_id`; while "reading", `num_done` of `num_total`
                tokens of the prompt have been computed
    "updated"   `message` replaces the one with its id (its end, or its error)
    "reset"     another conversation, or a new one: take everything from `snapshot()`
    "model"     the model, the system prompt, the model type or the sampling settings changed
    "notice"    `text` should be shown to the person
    ==========  ====================================================================================

    `seq` counts the events of one `ChatInterface`; a page that took a snapshot ignores events up to
    the snapshot's `seq`.
    """

    kind: EventKind
    seq: int
    message: ChatMessage | None = None
    message_id: str | None = None
    text: str = ""
    phase: Phase | None = None
    num_done: int | None = None
    num_total: int | None = None
    num_completion_tokens: int | None = None


class ContextUse(NamedTuple):
    """Tokens of the context in use, and how many there are (None without a model)."""

    used: int
    available: int | None


class ChatSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a new page needs to show a chat, as of event number `seq`.

    `left_out` names the messages that are shown but not sent to the model (an answer that failed,
    and a message that could not be read by the model).
    """

    seq: int
    conversation_id: str | None
    title: str
    messages: list[ChatMessage]
    busy: bool
    phase: Phase | None
    num_done: int | None
    num_total: int | None
    context: ContextUse
    model_name: str | None
    model_type: str
    system: str | None
    sampling: SamplingSettings
    left_out: list[str]
    notices: list[str]


def well_formed(text: str) -> str:
    """Return `text` as every part can carry it: half characters become U+FFFD.

    A "lone surrogate" is half of a character outside the basic plane; pasted text may hold one, and
    neither UTF-8, JSON nor SQLite can.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two halves that belong together become the character they make.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def checked_text(text: str) -> str:
    """Return a person's message as it is kept and sent; raise `InvalidValueError` if it is none."""
    if not isinstance(text, str):
        raise InvalidValueError(f"A message must be a text, not {type(text).__name__}.")
    if not text.strip():
        raise InvalidValueError("The message is empty. Write something first.")
    return well_formed(text)


def title_from(text: str) -> str:
    """Return the beginning of a first message on one line, at most 60 characters."""
    words = " ".join(text[: 20 * _TITLE_LENGTH].split())
    if len(words) <= _TITLE_LENGTH:
        return words
    cut = words[: _TITLE_LENGTH - 1]
    at_word = cut.rsplit(" ", 1)[0]
    # Not at a word's end when that would leave next to nothing.
    return (at_word if len(at_word) > _TITLE_LENGTH // 2 else cut).rstrip() + "…"
