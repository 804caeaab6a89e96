"""Our own form of a conversation: JSON that holds all of it.

Promises
--------
- Lossless: every message of every branch with every field, attachments with their bytes and, if
  wanted, the kept tokens. Reading what was written gives an equal tree.
- The file says its form (`FORMAT`, `VERSION`). One of a later version is refused by name and not
  guessed at; a field that is not known here is told.
- Two kinds of fingerprints tell what was changed after the export: one of each message, one of the
  whole. They are no signature: whoever changes a file can make new ones. An answer whose
  fingerprint does not fit is marked as edited.

Leaves to others: what a tree may be (`tree.checked`), limits on what is read (`reading`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from typing import Any, Final, TypeVar

import msgspec

from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.types import ChatMessage, Conversation
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.settings import current_names
from gguf_widgets.core.store.json_values import to_json
from gguf_widgets.core.store.token_blob import KeptTokens
from gguf_widgets.core.types import SamplingSettings, Timings, Usage

__all__ = ["FORMAT", "VERSION", "is_ours", "read", "write"]

FORMAT: Final = "gguf-widgets-conversation"
VERSION: Final = 1

_DIGEST: Final = "digest"
_KNOWN: Final = frozenset(
    {
        "format",
        "version",
        "exported_at",
        "conversation",
        "messages",
        "files",
        "tokens",
        "settings",
        _DIGEST,
    }
)

# These refuse a field that they do not know.
_STRICT: Final[dict[str, type[msgspec.Struct]]] = {
    "sampling": SamplingSettings,
    "usage": Usage,
    "timings": Timings,
}

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def write(tree: Tree) -> str:
    """Return the whole tree as JSON."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "exported_at": time.time(),
        "conversation": _plain(tree.conversation),
        "settings": tree.settings,
        "messages": [],
        "files": {
            name: base64.b64encode(data).decode("ascii") for name, data in tree.files.items()
        },
        "tokens": {name: _plain(tokens) for name, tokens in tree.tokens.items()},
    }
    for message in tree.messages:
        view = _plain(message)
        document["messages"].append({**view, _DIGEST: _digest(view)})
    document[_DIGEST] = _digest(document)
    return _laid_out(document)


def is_ours(document: Any) -> bool:
    """Say whether parsed JSON claims to be of this form."""
    return isinstance(document, dict) and document.get("format") == FORMAT


def read(document: dict[str, Any]) -> Tree:
    """Return the tree in a parsed document; `tree.checked` is still to be done.

    Raises
    ------
    InvalidValueError
        It is of a later version, or not of this form.
    """
    _check_version(document.get("version"))
    given = document.get("messages")
    if not isinstance(given, list):
        raise InvalidValueError("The file holds no list of messages.")
    lost: set[str] = set(document) - _KNOWN
    conversation = _struct(Conversation, document.get("conversation"), "The conversation", lost)
    changed: list[bool] = []
    messages = [_message(number, one, changed, lost) for number, one in enumerate(given, 1)]
    notes = [*_altered(document, messages, changed), *_unknown(lost)]
    return Tree(
        conversation=conversation,
        messages=messages,
        files=_files(document.get("files", {})),
        tokens=_tokens(document.get("tokens", {})),
        settings=settings if isinstance(settings := document.get("settings"), dict) else None,
        notes=tuple(notes),
    )


def _check_version(version: Any) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidValueError(f"The file's version is {version!r:.40}; it should be a number.")
    if version > VERSION:
        raise InvalidValueError(
            f"This file is from a newer version of gguf-widgets (its form is {version}; this "
            f"version knows {VERSION}). Nothing was taken in. Install the newer gguf-widgets, or "
            "export the conversation as OpenAI messages there.",
            version=version,
            limit=VERSION,
        )


def _message(number: int, given: Any, changed: list[bool], lost: set[str]) -> ChatMessage:
    if not isinstance(given, dict):
        raise InvalidValueError(f"Message {number:,} is {type(given).__name__}, not an object.")
    fields = {name: value for name, value in given.items() if name != _DIGEST}
    known = {**fields, **_known_parts(fields, lost)}
    message = _struct(ChatMessage, known, f"Message {number:,}", lost)
    if message.sampling is not None:
        try:
            message.sampling.check()
        except GgufWidgetsError as error:
            raise InvalidValueError(f"Message {number:,} cannot be read: {error}") from error
    is_changed = given.get(_DIGEST) != _digest(fields)
    changed.append(is_changed)
    if is_changed and message.role == "assistant":
        return msgspec.structs.replace(message, edited=True)
    return message


def _known_parts(fields: dict[str, Any], lost: set[str]) -> dict[str, Any]:
    """Return settings and figures without what a later version has added to them."""
    known = {}
    for name, kind in _STRICT.items():
        part = fields.get(name)
        if isinstance(part, dict):
            part = current_names(part) if kind is SamplingSettings else part
            known[name] = {key: part[key] for key in part if key in kind.__struct_fields__}
            lost |= {f"{name}.{key}" for key in part.keys() - known[name].keys()}
    return known


def _altered(
    document: dict[str, Any], messages: list[ChatMessage], changed: list[bool]
) -> list[str]:
    """Return what the fingerprints tell, in words."""
    whole = {name: value for name, value in document.items() if name != _DIGEST}
    if document.get(_DIGEST) == _digest(whole) and not any(changed):
        return []
    answers = sum(
        was and message.role == "assistant" for was, message in zip(changed, messages, strict=True)
    )
    own = sum(changed) - answers
    parts = []
    if answers:
        parts.append(f"{_count(answers, 'answer')}, marked as edited")
    if own:
        parts.append(f"{_count(own, 'message')} of yours")
    what = " and ".join(parts) or "something other than the texts"
    return [f"This file was changed after it was exported: {what}."]


def _unknown(lost: set[str]) -> list[str]:
    if not lost:
        return []
    names = ", ".join(sorted(f"{name:.40}" for name in lost)[:8])
    more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
    return [f"Left out, because this version does not know it: {names}{more}."]


def _files(given: Any) -> dict[str, bytes]:
    if not isinstance(given, dict):
        raise InvalidValueError("The attached files are not given by name.")
    files = {}
    for name, text in given.items():
        try:
            files[name] = base64.b64decode(text, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise InvalidValueError(f"The attached file {name:.20} is damaged: {error}.") from error
    return files


def _tokens(given: Any) -> dict[str, KeptTokens]:
    try:
        return msgspec.convert(given, dict[str, KeptTokens], strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidValueError(f"The kept tokens cannot be read: {error}.") from error


def _struct(kind: type[_Struct], given: Any, where: str, lost: set[str]) -> _Struct:
    if not isinstance(given, dict):
        raise InvalidValueError(f"{where} is not an object with named values.")
    lost |= {str(name) for name in given} - set(kind.__struct_fields__)
    try:
        # Not strict: "-inf" is a number here, and JSON's keys are texts.
        return msgspec.convert(given, kind, strict=False)
    except (msgspec.ValidationError, GgufWidgetsError, RecursionError) as error:
        raise InvalidValueError(f"{where} cannot be read: {error}") from error


def _laid_out(document: dict[str, Any]) -> str:
    """Return JSON that a person can look through: what is long and not for reading is on one line.

    It is plain ASCII, and so the same in a program that takes it for some other encoding.
    """
    lines = []
    for name, value in document.items():
        is_read = name in ("conversation", "messages")
        text = json.dumps(value, allow_nan=False, indent=1 if is_read else None)
        lines.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(value: Any) -> Any:
    return json.loads(to_json(value) or "null")


def _digest(value: Any) -> str:
    """Return the fingerprint of plain JSON values, whatever the order and the spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
