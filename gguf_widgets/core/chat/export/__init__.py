"""Conversations out of the store as files of several forms, and back in.

`export_chat`, `save_chat` and `load_chat` are what `ChatInterface` offers; `html_of` is how one
shows itself in a notebook. The pieces: `tree` (all of one conversation), `formats` (the forms by
name), `reading` and `keeping` (back in), and a file for each form.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gguf_widgets.core.chat.export import html_form
from gguf_widgets.core.chat.export.formats import FORMATS, Exported, export, format_for
from gguf_widgets.core.chat.export.home import without_home
from gguf_widgets.core.chat.export.keeping import (
    Imported,
    import_data,
    import_file,
    write_whole,
)
from gguf_widgets.core.chat.export.rendering import Render, use_renderer
from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.types import Conversation
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store, default_store

if TYPE_CHECKING:
    from gguf_widgets.core.chat.interface import ChatInterface

__all__ = [
    "FORMATS",
    "Exported",
    "Imported",
    "export",
    "export_chat",
    "html_of",
    "import_data",
    "import_file",
    "load_chat",
    "save_chat",
    "use_renderer",
]


def export_chat(
    chat: ChatInterface,
    format: str = "json",  # noqa: A002 - the public keyword
    *,
    tokens: bool = True,
) -> str:
    """Return the conversation as a text.

    Parameters
    ----------
    chat : ChatInterface
    format : {"json", "markdown", "html", "text", "openai", "openai-jsonl"}
        JSON holds everything and can be imported again; the others hold the branch on screen.
    tokens : bool, default True
        Whether JSON holds the kept tokens with their alternatives, too.

    Raises
    ------
    InvalidValueError
        There is no message yet, or no such form.
    StoreError
    """
    return _exported(chat, format, tokens=tokens).text


def save_chat(
    chat: ChatInterface,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the public keyword
    *,
    tokens: bool = True,
) -> Path:
    """Write the conversation into a file, and return where.

    Parameters
    ----------
    chat : ChatInterface
    path : str or path-like
        A file that is there already is replaced.
    format : str, optional
        As in `export_chat`; default: what the path's ending says.
    tokens : bool, default True
        As in `export_chat`.

    Raises
    ------
    InvalidValueError
        There is no message yet, no such form, or the file cannot be written.
    StoreError
    """
    target = Path(path).expanduser()
    write_whole(target, _exported(chat, format or format_for(target), tokens=tokens).text)
    return target


def load_chat(path: str | os.PathLike[str], store: Store | None = None) -> Conversation:
    """Take the conversations of a file into the store and return the first of them.

    Raises
    ------
    InvalidValueError
        The file is of no form known here; nothing was taken in.
    StoreError
    """
    return import_file(store or default_store(), path).conversations[0]


def html_of(chat: ChatInterface, render: Render | None = None, *, files: bool = True) -> str:
    """Return the conversation as a piece of HTML, as a notebook shows it.

    Parameters
    ----------
    chat : ChatInterface
    render : callable, optional
        Markdown to sanitised HTML; default: `rendering.renderer`.
    files : bool, default True
        With the images that were sent; otherwise they are named.
    """
    messages = chat.messages
    conversation = Conversation(
        id=chat.conversation_id or "",
        title=chat.title,
        system=chat.system,
        model_type=chat.model_type,
        model_name=None,
        model=None,
        active_leaf_id=messages[-1].id if messages else None,
        created_at=messages[0].created_at if messages else 0.0,
        updated_at=messages[-1].created_at if messages else 0.0,
    )
    data: dict[str, bytes] = {}
    kept = Conversations(chat.store)
    shown = messages[-html_form.NOTEBOOK_MESSAGES :] if files else []
    for one in (one for message in shown for one in message.attachments):
        try:
            if one.kind == "image" and one.sha256 not in data:
                data[one.sha256] = kept.file(one.sha256)
        except GgufWidgetsError:  # its name is shown all the same
            continue
    tree = Tree(conversation=conversation, messages=messages, files=data)
    return html_form.fragment(without_home(tree), render)


def _exported(chat: ChatInterface, name: str, *, tokens: bool) -> Exported:
    if chat.conversation_id is None:
        raise InvalidValueError("There is no message yet, so there is nothing to export.")
    conversations = Conversations(chat.store)
    return export(conversations, chat.conversation_id, name, tokens=tokens, newest=chat.messages)
