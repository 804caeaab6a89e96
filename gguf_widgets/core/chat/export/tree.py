"""A conversation taken out of the store, or about to be put into one: all of it, as plain values.

Promises: `gather` takes everything of one conversation, of one moment; `checked` lets through only
what is a tree (each parent known, no circle, no id twice) and puts parents before their children;
`with_new_ids` gives a copy that meets nothing that is in a store already. Leaves to others: how it
is written and read (the other files here), the store.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.export.checking import check_fields, check_tokens, check_values
from gguf_widgets.core.chat.types import (
    Attachment,
    ChatMessage,
    Conversation,
    MessageStatus,
    ToolCall,
)
from gguf_widgets.core.errors import ImageError, InvalidValueError, StoreError
from gguf_widgets.core.images import Image
from gguf_widgets.core.store.conversation_settings import kept_settings
from gguf_widgets.core.store.conversations import Conversations, new_id
from gguf_widgets.core.store.token_blob import KeptTokens
from gguf_widgets.core.tools.call_format import new_call_id

__all__ = [
    "MAX_MESSAGES",
    "Tree",
    "checked",
    "gather",
    "is_time",
    "line_of",
    "time_or",
    "with_new_ids",
]

MAX_MESSAGES: Final = 200_000  # of one conversation; a long life with one has a few thousand
_MAX_TITLE: Final = 10_000
_MAX_CALL_ID: Final = 100
_MAX_TEXT: Final = 50_000_000
_LAST_TIME: Final = 253_402_300_799.0  # the end of the year 9999, the last that `datetime` knows


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation with everything that belongs to it.

    Parameters
    ----------
    conversation : Conversation
    messages : list of ChatMessage
        All of them, parents before their children.
    files : dict
        The bytes of attachments, by their SHA-256 (64 hexadecimal digits).
    tokens : dict
        The kept tokens of answers, with their alternatives, by the message's id.
    settings : dict or None
        What its next message is sent with (`store.conversation_settings`).
    notes : tuple of str
        What a person should know about how it was read, in words.
    """

    conversation: Conversation
    messages: list[ChatMessage]
    files: dict[str, bytes] = {}
    tokens: dict[str, KeptTokens] = {}
    settings: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def gather(
    conversations: Conversations,
    conversation_id: str,
    *,
    tokens: bool = False,
    files: bool = True,
) -> Tree:
    """Take a conversation out of the store.

    Parameters
    ----------
    conversations : Conversations
    conversation_id : str
    tokens : bool, default False
        With the kept tokens and their alternatives: some hundred bytes a token.
    files : bool, default True
        With the bytes of attachments.

    Raises
    ------
    InvalidValueError
        There is no such conversation.
    StoreError
    """
    with conversations.store.reading():  # all of it as of one moment
        return _gathered(conversations, conversation_id, tokens=tokens, files=files)


def _gathered(
    conversations: Conversations, conversation_id: str, *, tokens: bool, files: bool
) -> Tree:
    conversation = conversations.get(conversation_id)
    messages = conversations.tree(conversation_id)
    notes: list[str] = []
    kept: dict[str, bytes] = {}
    for attachment in (one for message in messages for one in message.attachments):
        if not files or attachment.sha256 in kept:
            continue
        try:
            kept[attachment.sha256] = conversations.file(attachment.sha256)
        except (InvalidValueError, StoreError):
            notes.append(f"The file “{attachment.name}” is not kept any more, so it is left out.")
    found: dict[str, KeptTokens] = {}
    for message in messages if tokens else ():
        if message.role == "assistant" and (of_it := conversations.kept_tokens(message.id)):
            found[message.id] = of_it
    return Tree(
        conversation=conversation,
        messages=_parents_first(messages),
        files=kept,
        tokens=found,
        settings=kept_settings(conversations.store, conversation_id),
        notes=tuple(notes),
    )


def line_of(tree: Tree) -> list[ChatMessage]:
    """Return the messages on screen: from the first to the one that the conversation goes on from.

    Where that one is not known, it is the newest.
    """
    by_id = {message.id: message for message in tree.messages}
    here = tree.conversation.active_leaf_id
    if here not in by_id:
        here = tree.messages[-1].id if tree.messages else None
    line: list[ChatMessage] = []
    while here is not None and here in by_id:
        message = by_id.pop(here)  # each once, whatever the file says
        line.append(message)
        here = message.parent_id
    return line[::-1]


def checked(tree: Tree) -> Tree:
    """Return a tree that came from a file, in order; refuse what is none.

    An answer that was being written when the file was made is "interrupted" from now on. An image
    whose bytes are not in the file, or are no image, becomes a text that says so: with it no model
    could be asked to go on.

    Raises
    ------
    InvalidValueError
        Two messages with one id, a parent that is not there, a circle, a role, a time, a length or
        a number that cannot be.
    """
    messages = tree.messages
    _check_conversation(tree.conversation)
    check_values("The settings", tree.settings)
    check_count(len(messages))
    by_id: dict[str, ChatMessage] = {}
    for message in messages:
        if message.id in by_id:
            raise InvalidValueError(f"Two messages have the same id, {message.id!r:.80}.")
        by_id[message.id] = message
    for number, message in enumerate(messages, 1):
        _check(number, message, by_id)
    ordered = _parents_first(messages)
    if len(ordered) != len(messages):
        raise InvalidValueError(
            "The messages go round in a circle: one of them follows, over others, itself."
        )
    _check_files(tree)
    for tokens in tree.tokens.values():
        check_tokens(tokens)
    gone = _gone_images(tree)
    leaf = tree.conversation.active_leaf_id
    if leaf not in by_id:
        leaf = ordered[-1].id if ordered else None
    return msgspec.structs.replace(
        tree,
        conversation=msgspec.structs.replace(tree.conversation, active_leaf_id=leaf),
        messages=[_settled(message, gone) for message in ordered],
        notes=(*tree.notes, *_words_of_gone(ordered, gone)),
    )


def check_count(number: int) -> None:
    """Refuse more messages in one conversation than can be taken in."""
    if number > MAX_MESSAGES:
        raise InvalidValueError(
            f"A conversation of this file has {number:,} messages; at most {MAX_MESSAGES:,} can be "
            "taken in at once.",
            limit=MAX_MESSAGES,
        )


def with_new_ids(tree: Tree) -> Tree:
    """Return a copy under new ids, not deleted; everything in it points to its new neighbours."""
    names = {message.id: new_id() for message in tree.messages}
    conversation_id = new_id()
    calls: set[str] = set()
    leaf = tree.conversation.active_leaf_id
    messages = [
        msgspec.structs.replace(
            message,
            id=names[message.id],
            conversation_id=conversation_id,
            parent_id=None if message.parent_id is None else names[message.parent_id],
            tool_calls=tuple(_with_own_id(call, calls) for call in message.tool_calls),
            # A message that is not in the file was not sent all the same: its mark stays.
            left_out=tuple(names.get(one, one) for one in message.left_out),
        )
        for message in tree.messages
    ]
    return msgspec.structs.replace(
        tree,
        conversation=msgspec.structs.replace(
            tree.conversation,
            id=conversation_id,
            active_leaf_id=None if leaf is None else names.get(leaf),
            deleted_at=None,
        ),
        messages=messages,
        tokens={names[key]: tokens for key, tokens in tree.tokens.items() if key in names},
    )


def _with_own_id(call: ToolCall, taken: set[str]) -> ToolCall:
    """Return a call with an id that no other has: a person says yes to a call by its id."""
    if not 0 < len(call.id) <= _MAX_CALL_ID or call.id in taken:
        call = msgspec.structs.replace(call, id=new_call_id())
    taken.add(call.id)
    return call


def is_time(value: Any) -> bool:
    """Say whether a value is a moment that can be shown: seconds since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= _LAST_TIME


def time_or(value: Any, instead: float) -> float:
    """Return a moment, or another one if it is none."""
    return float(value) if is_time(value) else instead


def _check_conversation(conversation: Conversation) -> None:
    if len(conversation.title) > _MAX_TITLE:
        raise InvalidValueError(
            f"The title has {len(conversation.title):,} characters; at most {_MAX_TITLE:,} are "
            "allowed.",
            limit=_MAX_TITLE,
        )
    for value in (conversation.created_at, conversation.updated_at):
        if not is_time(value):
            raise InvalidValueError(f"The conversation has a time that cannot be: {value!r:.40}.")
    check_values("The conversation's model", conversation.model)


def _check(number: int, message: ChatMessage, known: dict[str, ChatMessage]) -> None:
    where = f"Message {number:,}"
    if not message.id:
        raise InvalidValueError(f"{where} has no id.")
    if message.role not in ("user", "assistant"):
        raise InvalidValueError(f"{where} is from {message.role!r:.40}: neither you nor a model.")
    if message.parent_id is not None and message.parent_id not in known:
        raise InvalidValueError(
            f"{where} follows the message {message.parent_id!r:.80}, which is not in the file."
        )
    if len(message.content) > _MAX_TEXT:
        raise InvalidValueError(
            f"{where} has {len(message.content):,} characters; at most {_MAX_TEXT:,} are allowed.",
            limit=_MAX_TEXT,
        )
    if not is_time(message.created_at):
        raise InvalidValueError(f"{where} has a time that cannot be: {message.created_at!r:.40}.")
    check_fields(where, message)


def _check_files(tree: Tree) -> None:
    for name, data in tree.files.items():
        if hashlib.sha256(data).hexdigest() != name:
            raise InvalidValueError(
                f"An attached file is damaged: its fingerprint is not {name[:16]}…, as the file "
                "says. Export the conversation once more.",
                sha256=name,
            )


def _gone_images(tree: Tree) -> set[str]:
    """Return the fingerprints of images that cannot be sent: not in the file, or no images."""
    wanted = {one.sha256 for m in tree.messages for one in m.attachments if one.kind == "image"}
    return {one for one in wanted if one not in tree.files or not _is_image(tree.files[one])}


def _is_image(data: bytes) -> bool:
    try:
        Image(data)
    except ImageError:
        return False
    return True


def _words_of_gone(messages: list[ChatMessage], gone: set[str]) -> list[str]:
    count = sum(
        one.kind == "image" and one.sha256 in gone for m in messages for one in m.attachments
    )
    if not count:
        return []
    images = "An image is" if count == 1 else f"{count:,} images are"
    return [f"{images} not in this file, or cannot be read: only the name is shown."]


def _settled(message: ChatMessage, gone: set[str]) -> ChatMessage:
    if any(one.sha256 in gone for one in message.attachments):
        attachments = tuple(_without_image(one, gone) for one in message.attachments)
        message = msgspec.structs.replace(message, attachments=attachments)
    if message.status is not MessageStatus.STREAMING:
        return message
    return msgspec.structs.replace(message, status=MessageStatus.INTERRUPTED)


def _without_image(one: Attachment, gone: set[str]) -> Attachment:
    if one.kind != "image" or one.sha256 not in gone:
        return one
    return msgspec.structs.replace(
        one,
        kind="text",
        mime="text/plain",
        text="(This was an image, which is not there any more.)",
        num_tokens=None,
        note="The image is not there any more; the model is told so.",
    )


def _parents_first(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Return the messages so that each comes after its parent; those in a circle are left out.

    Their order is kept wherever it already is so.
    """
    waiting: dict[str, list[ChatMessage]] = {}
    known = {message.id for message in messages}
    placed: set[str] = set()
    ordered: list[ChatMessage] = []
    for message in messages:
        parent = message.parent_id
        if parent is not None and parent in known and parent not in placed:
            waiting.setdefault(parent, []).append(message)
            continue
        free = [message]
        while free:
            one = free.pop()
            ordered.append(one)
            placed.add(one.id)
            free += reversed(waiting.pop(one.id, []))
    return ordered
