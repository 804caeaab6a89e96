"""The fields of a message that came from a file, judged before any of it is kept.

Promises: what passes can be kept, shown, exported and sent: numbers that are numbers and fit 64
bits, states and kinds that there are, values nested no deeper than every part can follow. What does
not is refused with the message's number and the field. Leaves to others: the tree (`tree`), forms.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.attach_text import MAX_TEXT_CHARS
from gguf_widgets.core.chat.types import Attachment, ChatMessage, ToolCall
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.json_outside import plain

__all__ = ["MAX_CALLS", "check_fields", "check_tokens", "check_values"]

_KINDS: Final = ("text", "pdf", "image")
_STATES: Final = ("waiting", "running", "done", "failed", "declined")
_MOST: Final = 2**53  # of a count: more than that no JSON reader keeps exactly
MAX_CALLS: Final = 128  # what a model can be sent of one message
_MOST_FILES: Final = 1_000
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def check_fields(where: str, message: ChatMessage) -> None:
    """Refuse a message with a field that cannot be.

    Raises
    ------
    InvalidValueError
    """
    _check_numbers(where, message.usage, message.timings)
    _check_time(where, "thinking_s", message.thinking_s)
    if message.seed is not None:
        _check_count(where, "seed", message.seed)
    for name in ("error", "model", "record"):
        check_values(f"{where}: {name}", getattr(message, name))
    if message.sampling is not None:
        check_values(f"{where}: schema", message.sampling.schema)
    if len(message.attachments) > _MOST_FILES:
        raise InvalidValueError(f"{where} has more than {_MOST_FILES:,} attached files.")
    for attachment in message.attachments:
        _check_attachment(where, attachment)
    if len(message.tool_calls) > MAX_CALLS:
        raise InvalidValueError(f"{where} has more than {MAX_CALLS} calls of tools.")
    for call in message.tool_calls:
        _check_call(where, call)


def check_values(where: str, values: Any) -> None:
    """Refuse values of JSON that are nested too deeply, or hold a number that is none.

    Raises
    ------
    InvalidValueError
    """
    try:
        plain(values)
    except ValueError as error:
        raise InvalidValueError(f"{where} cannot be taken in: {error}.") from error


def check_tokens(tokens: Any) -> None:
    """Refuse kept tokens with numbers that no vocabulary has.

    Parameters
    ----------
    tokens : KeptTokens

    Raises
    ------
    InvalidValueError
    """
    for one in tokens.tokens:
        for token in (one, *one.top):
            if not -1 <= token.token < 2**32:
                raise InvalidValueError(
                    f"A kept token has the number {token.token!r:.40}, which no model has."
                )
    if not 0 <= tokens.num_given <= len(tokens.tokens):
        raise InvalidValueError("The kept tokens of an answer are counted wrongly.")


def _check_attachment(where: str, one: Attachment) -> None:
    if one.kind not in _KINDS:
        raise InvalidValueError(f"{where} has an attached file of the kind {one.kind!r:.40}.")
    if not _DIGEST.fullmatch(one.sha256):
        raise InvalidValueError(f"{where} has an attached file without a fingerprint (sha256).")
    _check_count(where, "size_bytes", one.size_bytes)
    if one.num_tokens is not None:
        _check_count(where, "num_tokens", one.num_tokens)
    if len(one.text or "") > MAX_TEXT_CHARS:
        raise InvalidValueError(
            f"{where} has an attached text of {len(one.text or ''):,} characters; at most "
            f"{MAX_TEXT_CHARS:,} can be taken in.",
            limit=MAX_TEXT_CHARS,
        )


def _check_call(where: str, call: ToolCall) -> None:
    if not call.name:
        raise InvalidValueError(f"{where} has a call of a tool that names none.")
    if call.status not in _STATES:
        raise InvalidValueError(f"{where} has a call of a tool in the state {call.status!r:.40}.")
    _check_time(where, "total_s", call.total_s)
    check_values(f"{where}: the arguments of {call.name:.60}", call.arguments)


def _check_numbers(where: str, *parts: msgspec.Struct | None) -> None:
    for part in parts:
        for name in part.__struct_fields__ if part is not None else ():
            value = getattr(part, name)
            if isinstance(value, float):
                _check_time(where, name, value)
            elif isinstance(value, int):
                _check_count(where, name, value)


def _check_time(where: str, name: str, value: float | None) -> None:
    if value is not None and not math.isfinite(value):
        raise InvalidValueError(f"{where}: {name} is {value}, which is no time.", name=name)


def _check_count(where: str, name: str, value: int) -> None:
    if not 0 <= value <= _MOST:
        shown = "a number" if abs(value) > 10**30 else f"{value:,}"
        raise InvalidValueError(f"{where}: {name} is {shown}; it can be 0 to {_MOST:,}.", name=name)
