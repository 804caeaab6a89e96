"""Rows of the tables `conversation` and `message`, and the values they stand for.

Promises: what was written is read unchanged; a field that cannot be read is logged and takes its
standard value. Leaves to others: every statement (`conversations`).
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from gguf_widgets.core.chat.types import (
    Attachment,
    ChatMessage,
    Conversation,
    MessageStatus,
    ToolCall,
    well_formed,
)
from gguf_widgets.core.store.json_values import from_json, member_of, struct_of, to_json
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings, Usage

__all__ = ["CONVERSATION", "MESSAGE", "columns_of", "conversation_of", "message_of", "plain"]

CONVERSATION = (
    "id, title, system, model_type, model_name, model, active_leaf_id, created_at, updated_at, "
    "pinned, deleted_at"
)
MESSAGE = (
    "id, conversation_id, parent_id, role, content, status, created_at, finish_reason, usage, "
    "timings, error, model_name, model, sampling, seed, extra"
)

_log = logging.getLogger(__name__)


class _Extra(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a message has beyond its columns: the column `extra`."""

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


_EXTRA_FIELDS = _Extra.__struct_fields__


def columns_of(message: ChatMessage) -> dict[str, Any]:
    """Return the columns of a message and their values."""
    extra = _Extra(**{name: getattr(message, name) for name in _EXTRA_FIELDS})
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": well_formed(message.content),
        "status": message.status.value,
        "created_at": message.created_at,
        "finish_reason": message.finish_reason.value if message.finish_reason else None,
        "usage": to_json(message.usage),
        "timings": to_json(message.timings),
        "error": to_json(message.error),
        "model_name": plain(message.model_name),
        "model": to_json(message.model),
        "sampling": to_json(message.sampling),
        "seed": message.seed,
        "extra": to_json(extra),
    }


def message_of(row: tuple[Any, ...]) -> ChatMessage:
    """Return the message that the columns `MESSAGE` say."""
    value = dict(zip(MESSAGE.split(", "), row, strict=True))
    value["status"] = member_of(MessageStatus, value["status"]) or MessageStatus.COMPLETE
    value["finish_reason"] = member_of(FinishReason, value["finish_reason"])
    value["usage"] = struct_of(Usage, value["usage"])
    value["timings"] = struct_of(Timings, value["timings"])
    value["sampling"] = struct_of(SamplingSettings, value["sampling"])
    value["error"] = from_json(value["error"])
    value["model"] = from_json(value["model"])
    value.update(_extra(value.pop("extra"), value["id"]))
    return ChatMessage(**value)


def _extra(text: str, message_id: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    try:
        # Fields that are not known here are left out by `convert`.
        extra = msgspec.convert(from_json(text), _Extra, strict=False)
    except msgspec.ValidationError as error:
        _log.warning("Details of the message %s cannot be read: %s", message_id, error)
        return {}
    return {name: getattr(extra, name) for name in _EXTRA_FIELDS}


def conversation_of(row: tuple[Any, ...]) -> Conversation:
    """Return the conversation that the columns `CONVERSATION` say."""
    value = dict(zip(CONVERSATION.split(", "), row, strict=True))
    value["model"] = from_json(value["model"])
    value["pinned"] = bool(value["pinned"])
    return Conversation(**value)


def plain(value: Any) -> Any:
    """Return a value as SQLite takes it."""
    if isinstance(value, str):
        return well_formed(value)
    return to_json(value) if isinstance(value, dict) else value
