"""What a conversation is made of, as plain data.

Promises: immutable values, the same in the store, in `ChatInterface` and for its observers; text
that can be stored and sent (`well_formed`). Leaves to others: every behaviour (`interface`),
keeping them (`store.conversations`), showing them (the widgets).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from gguf_widgets.core.errors import InvalidValueError, WireError
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings, Usage

__all__ = [
    "Attachment",
    "ChatEvent",
    "ChatMessage",
    "ChatSnapshot",
    "ContextUse",
    "Conversation",
    "EventKind",
    "MessageStatus",
    "Phase",
    "ToolCall",
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
    SUMMARIZING = "summarizing"  # it sums up earlier messages that have no room any more
    LOOKING = "looking"  # it reads an image
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


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a person sent with a message.

    Its bytes are in the store under `sha256`, their digest in hexadecimal digits.

    Parameters
    ----------
    id : str
    kind : {"text", "pdf", "image"}
    name : str
        As the person's machine calls it, without a folder.
    mime : str
    size_bytes : int
    sha256 : str
    text : str or None
        What the model is sent of a text or PDF.
    num_tokens : int or None
        How long that is; None if it was not counted.
    note : str
        What the person should know of it ("3 of 40 pages hold no text").
    """

    id: str
    kind: str
    name: str
    mime: str
    size_bytes: int
    sha256: str
    text: str | None = None
    num_tokens: int | None = None
    note: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a tool that an answer ended in, and what came of it.

    Parameters
    ----------
    id : str
    name : str
    arguments : dict
    status : {"waiting", "running", "done", "failed", "declined"}
        "waiting": the person has not said yet whether it may run.
    result, error : str or None
        What the model is told of it.
    total_s : float or None
        How long it ran, in seconds.
    always : bool
        Whether the person allowed this tool for good with it.
    printed : str
        What it printed; the person sees it, the model does not.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    status: str = "waiting"
    result: str | None = None
    error: str | None = None
    total_s: float | None = None
    always: bool = False
    printed: str = ""


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation.

    Parameters
    ----------
    id, conversation_id : str
    parent_id : str or None
        The message this one follows; None for a first one. Several messages may share a parent:
        a conversation is a tree.
    role : str
        "user" or "assistant". An answer may follow an answer: one that ended in calls of tools.
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
    system, model_type : str or None
        The system prompt and the preset an answer was written with.
    begin : str
        The words an answer was told to begin with; they are the beginning of `content`.
    thinking_s : float or None
        How long the model thought before its answer, in seconds, if it did.
    attachments : tuple of Attachment
        Files that were sent with a person's message.
    tool_calls : tuple of ToolCall
        The calls an answer ended in. What the model makes of their results is the next message.
    left_out : tuple of str
        Ids of the earlier messages that were not sent because the context was full.
    summary : str or None
        What was sent in their place.
    edited : bool
        Whether a person wrote or changed an answer's text.
    record : dict or None
        What else is needed to repeat an answer, see `record`.
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
    system: str | None = None
    model_type: str | None = None
    begin: str = ""
    thinking_s: float | None = None
    attachments: tuple[Attachment, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    left_out: tuple[str, ...] = ()
    summary: str | None = None
    edited: bool = False
    record: dict[str, Any] | None = None

    @property
    def created(self) -> datetime:
        """When it was made, in UTC."""
        return datetime.fromtimestamp(self.created_at, UTC)

    @property
    def num_given_tokens(self) -> int:
        """How many of an answer's tokens are those of the version that it goes on from.

        They come before the `usage.num_completion_tokens` that were written for it.
        """
        given = (self.record or {}).get("begin_tokens")
        return len(given) if isinstance(given, list | tuple) else 0

    @property
    def num_unseen_images(self) -> int:
        """How many images of earlier messages an answer was written without seeing them."""
        number = (self.record or {}).get("images_left_out")
        return number if isinstance(number, int) and number > 0 else 0


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
    "progress"  `phase` of the message `message_id`; `num_done` of `num_total` tokens of the prompt
                ("reading"), images ("looking", with the `fraction` of this one) or steps
                ("summarizing") are done
    "updated"   `message` replaces the one with its id (its end, or its error)
    "reset"     other messages are on screen: another conversation, a new one or another branch;
                take everything from `snapshot()`
    "model"     the model, the system prompt, the model type, the sampling settings or another
                setting of the chat changed, or the title, the pin, or what can be undone
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
    fraction: float | None = None
    num_completion_tokens: int | None = None


class ContextUse(NamedTuple):
    """Tokens of the context in use, and how many there are (None without a model)."""

    used: int
    available: int | None


class ChatSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a new page needs to show a chat, as of event number `seq`.

    `left_out` names the messages that are shown but not sent to the model (an answer that failed,
    and a message that could not be read by the model). `branches` says of each message that has
    siblings the how-manieth of how many it is, counted from 1. `can_undo` says in words what `undo`
    takes back, "" if there is nothing.
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
    fraction: float | None = None
    branches: dict[str, tuple[int, int]] = {}
    can_undo: str = ""
    pinned: bool = False
    when_full: str = "stop"
    style: str = "markdown"


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
