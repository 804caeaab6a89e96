"""Conversations from a file into a store, all of them or none; and a conversation into a file.

Promises: what is taken in is new: nothing that is there already is changed, and the same file twice
makes two conversations; it is one transaction, so that no half of a file is ever found; a file is
written whole or not at all. Leaves to others: forms and limits (`reading`, `formats`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gguf_widgets.core.chat.export.reading import MAX_BYTES, read_trees
from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.types import Conversation
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.store.conversation_files import keep_tokens
from gguf_widgets.core.store.conversation_settings import keep_settings
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store

__all__ = ["Imported", "import_data", "import_file", "write_whole"]

_SHOWN_NOTES = 6


class Imported(NamedTuple):
    """What came out of a file.

    `notes` say in words what should be known: what was left out, what had been changed.
    """

    conversations: list[Conversation]
    notes: list[str]


def import_data(store: Store, data: bytes | str) -> Imported:
    """Take every conversation of a file in.

    Parameters
    ----------
    store : Store
    data : bytes or str
        The file: see `reading` for its forms.

    Raises
    ------
    InvalidValueError
        It is of no form known here, too large, or holds what cannot be. Nothing was taken in.
    StoreError
        The store cannot be written. Nothing was taken in.
    """
    trees = read_trees(data)
    conversations = Conversations(store)
    with store.transaction():
        kept = [_kept(conversations, tree) for tree in trees]
    return Imported(kept, _notes(trees))


def import_file(store: Store, path: str | os.PathLike[str]) -> Imported:
    """Take every conversation of a file on this computer in; see `import_data`.

    Raises
    ------
    InvalidValueError
        There is no such file, it cannot be read, or see `import_data`.
    """
    file = Path(path).expanduser()
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InvalidValueError(
                f"{file} has {format_bytes(size)}; at most {format_bytes(MAX_BYTES)} can be taken "
                "in at once. Split it.",
                path=str(file),
                limit=MAX_BYTES,
            )
        if not file.is_file():
            raise InvalidValueError(f"{file} is no file.", path=str(file))
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidValueError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InvalidValueError(f"{file} cannot be read: {reason}.", path=str(file)) from error
    return import_data(store, data)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that nobody ever finds half of it; one that is there is replaced.

    Raises
    ------
    InvalidValueError
        It cannot be written.
    """
    new = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}.part"
    try:
        new.write_bytes(text.encode("utf-8", "replace"))
        new.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        with contextlib.suppress(OSError, ValueError):
            new.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise InvalidValueError(
            f"{path} cannot be written: {reason}. Choose another folder or name.",
            path=str(path),
        ) from error


def _kept(conversations: Conversations, tree: Tree) -> Conversation:
    kinds = {one.sha256: one.mime for message in tree.messages for one in message.attachments}
    files = {name: (kinds[name], data) for name, data in tree.files.items() if name in kinds}
    made = conversations.import_tree(tree.conversation, tree.messages, files)
    for message_id, tokens in tree.tokens.items():
        keep_tokens(conversations.store, message_id, tokens)
    if tree.settings:
        keep_settings(conversations.store, made.id, tree.settings)
    return made


def _notes(trees: Sequence[Tree]) -> list[str]:
    several = len(trees) > 1
    notes = [
        f"“{tree.conversation.title:.60}”: {note}" if several else note
        for tree in trees
        for note in tree.notes
    ]
    if len(notes) <= _SHOWN_NOTES:
        return notes
    return [*notes[:_SHOWN_NOTES], f"And {len(notes) - _SHOWN_NOTES:,} more such remarks."]
