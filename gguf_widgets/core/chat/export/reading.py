"""A file with conversations, of any form known here, read and judged before anything is kept.

Promises: the file's size, its number of values, conversations and messages are bounded and its
depth costs nothing but an error; it is of one of the forms below or refused in words; either all of
it is returned, every tree checked and under new ids, or nothing.

=======================================  ===========================================================
form                                     how it is known
=======================================  ===========================================================
our own JSON                             ``"format": "gguf-widgets-conversation"``
OpenAI messages                          a list of messages, ``{"messages": [...]}``, or a list or
                                         lines (JSONL) of either
ChatGPT's ``conversations.json``         ``mapping``: one conversation or a list of them
=======================================  ===========================================================

Leaves to others: the forms (`json_form`, `foreign`, `chatgpt_form`), the store (`keeping`).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from gguf_widgets.core.chat.export import chatgpt_form, foreign, json_form
from gguf_widgets.core.chat.export.tree import Tree, check_count, checked, with_new_ids
from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.json_outside import no_constant

__all__ = ["MAX_BYTES", "MAX_CONVERSATIONS", "MAX_TOTAL_MESSAGES", "MAX_VALUES", "read_trees"]

MAX_BYTES: Final = 256 << 20
MAX_VALUES: Final = 20_000_000
MAX_CONVERSATIONS: Final = 20_000
MAX_TOTAL_MESSAGES: Final = 500_000

# Half a character, written as an escape: neither the store nor UTF-8 can hold one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_trees(data: bytes | str) -> list[Tree]:
    """Return the conversations of a file, checked and under new ids.

    Raises
    ------
    InvalidValueError
        It is too large, of no form known here, or holds what cannot be. ``details["number"]`` says
        in which of several conversations.
    """
    try:
        trees = _read(_decoded(data))
    except RecursionError as error:
        raise InvalidValueError(
            "This file is nested too deeply: lists within lists, hundreds of times. A conversation "
            "is not."
        ) from error
    total = sum(len(tree.messages) for tree in trees)
    if total > MAX_TOTAL_MESSAGES:
        raise InvalidValueError(
            f"This file has {total:,} messages; at most {MAX_TOTAL_MESSAGES:,} can be taken in at "
            "once. Split it.",
            limit=MAX_TOTAL_MESSAGES,
        )
    if not total:
        raise InvalidValueError("There is no message in this file.")
    return [with_new_ids(tree) for tree in trees]


def _decoded(data: bytes | str) -> str:
    size = len(data)
    if size > MAX_BYTES:
        raise InvalidValueError(
            f"This file has {format_bytes(size)}; at most {format_bytes(MAX_BYTES)} can be taken "
            "in at once. Split it.",
            limit=MAX_BYTES,
        )
    if isinstance(data, bytes):
        if data[:4] == b"PK\x03\x04":
            raise InvalidValueError(
                "This is a ZIP archive. Unpack it and choose the file conversations.json in it."
            )
        try:
            text = data.decode(json.detect_encoding(data))
        except UnicodeDecodeError as error:
            raise InvalidValueError("This is not a text file, so it is no conversation.") from error
    else:
        text = data
    values = text.count(",") + text.count("[") + text.count("{")
    if values > MAX_VALUES:
        raise InvalidValueError(
            f"This file holds about {values:,} values; at most {MAX_VALUES:,} can be taken in at "
            "once. Split it, or export without the tokens.",
            limit=MAX_VALUES,
        )
    return text.removeprefix("\ufeff")


def _read(text: str) -> list[Tree]:
    documents = _conversations_in(_parsed(text))
    if len(documents) > MAX_CONVERSATIONS:
        raise InvalidValueError(
            f"This file has {len(documents):,} conversations; at most {MAX_CONVERSATIONS:,} can be "
            "taken in at once. Split it.",
            limit=MAX_CONVERSATIONS,
        )
    trees = []
    for number, document in enumerate(documents, 1):
        try:
            trees.append(checked(_tree(document)))
        except InvalidValueError as error:
            if len(documents) == 1:
                raise
            raise InvalidValueError(
                f"Conversation {number:,} of {len(documents):,}: {error.message} Nothing was taken "
                "in.",
                **{**error.details, "number": number},
            ) from error
    # One without a message is nothing to keep; such exports have some.
    return [tree for tree in trees if tree.messages] if len(trees) > 1 else trees


def _conversations_in(document: Any) -> list[Any]:
    """Return each conversation of a parsed file."""
    if isinstance(document, list) and not foreign.is_messages(document):
        return document
    return [document]


def _tree(document: Any) -> Tree:
    held = document
    if isinstance(document, dict):
        held = document.get("messages", document.get("mapping"))
    if isinstance(held, list | dict):
        check_count(len(held))  # before each of them is read
    if json_form.is_ours(document):
        return json_form.read(document)
    if chatgpt_form.is_chatgpt(document):
        return chatgpt_form.read(document)
    if isinstance(document, dict) and isinstance(document.get("messages"), list):
        return foreign.read_messages(document["messages"], title=document.get("title"))
    if foreign.is_messages(document):
        return foreign.read_messages(document)
    raise InvalidValueError(
        "This is JSON, but of no form that is known here. Known are: this program's own, OpenAI "
        "messages (a list of role and content, or an object with messages), and ChatGPT's "
        "conversations.json."
    )


def _parsed(text: str) -> Any:
    if not text.strip():
        raise InvalidValueError("This file is empty.")
    try:
        document = json.loads(text, parse_constant=no_constant)
    except ValueError as error:
        document = _lines(text, error)
    return _whole(document) if _HALF.search(text) else document


def _lines(text: str, error: ValueError) -> Any:
    """Return JSON lines: conversations, one a line, or the messages of one."""
    rows = [row for row in text.split("\n") if row.strip()]
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(json.loads(row, parse_constant=no_constant))
        except ValueError as fault:
            if number == 1:
                raise InvalidValueError(
                    f"No conversation can be read from this file: it is no JSON ({error}). What can"
                    " be read back are exports as JSON or OpenAI messages, and ChatGPT's"
                    " conversations.json; Markdown, web pages and plain text are for reading."
                ) from error
            raise InvalidValueError(f"Line {number:,} of this file is no JSON: {fault}.") from fault
    return found


def _whole(value: Any) -> Any:
    """Return JSON values with half characters replaced."""
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {well_formed(name): _whole(one) for name, one in value.items()}
    return value
