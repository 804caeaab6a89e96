"""The forms in which a conversation can be taken out, by name.

Promises: each form of the table writes any conversation of a store; what it has no place for is
said in its notes or in the text itself; the person's home folder is "~" in it (`home`). Leaves
to others: each form's own file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gguf_widgets.core.chat.export import html_form, json_form, markdown_form, openai_form
from gguf_widgets.core.chat.export.home import NOTE, without_home
from gguf_widgets.core.chat.export.tree import Tree, gather
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations

__all__ = ["FORMATS", "Exported", "Format", "export", "file_stem", "format_for", "format_of"]

_NAME_CHARS = 60


class Exported(NamedTuple):
    """A conversation as a text.

    `name` is what a file of it may be called, on every system; `notes` say in words what is not in
    it.
    """

    text: str
    name: str
    mime: str
    notes: list[str]


class Format(NamedTuple):
    """One form: what a person calls it, the file's ending, and what writes it."""

    label: str
    detail: str
    ending: str
    mime: str
    write: Callable[[Tree], tuple[str, list[str]]]
    is_whole: bool = False  # with tokens, and all branches
    mark: str = ""  # in the file's name, where another form has the same ending


FORMATS: Final[dict[str, Format]] = {
    "json": Format(
        "JSON",
        "Everything: all branches, settings, figures, files, where the model's file lies."
        " Can be imported again",
        "json",
        "application/json",
        lambda tree: (json_form.write(tree), list(tree.notes)),
        is_whole=True,
    ),
    "markdown": Format(
        "Markdown",
        "The branch on screen, for notes and wikis",
        "md",
        "text/markdown",
        lambda tree: (markdown_form.markdown(tree), list(tree.notes)),
    ),
    "html": Format(
        "Web page (HTML)",
        "The branch on screen, to read, print and send; one file",
        "html",
        "text/html",
        lambda tree: (html_form.page(tree), list(tree.notes)),
    ),
    "text": Format(
        "Plain text",
        "The branch on screen",
        "txt",
        "text/plain",
        lambda tree: (markdown_form.plain_text(tree), list(tree.notes)),
    ),
    "openai": Format(
        "OpenAI messages (JSON)",
        "The branch on screen, for programs",
        "json",
        "application/json",
        openai_form.to_json,
        mark=" (OpenAI)",
    ),
    "openai-jsonl": Format(
        "OpenAI messages (JSONL)",
        "The same on one line, as for training",
        "jsonl",
        "application/jsonl",
        openai_form.to_jsonl,
    ),
}


def format_of(name: str) -> Format:
    """Return a form by its name.

    Raises
    ------
    InvalidValueError
        There is none of this name.
    """
    found = FORMATS.get(name)
    if found is None:
        raise InvalidValueError(
            f"A conversation cannot be exported as {name!r:.40}. Choose one of: "
            f"{', '.join(FORMATS)}."
        )
    return found


def export(
    conversations: Conversations,
    conversation_id: str,
    name: str = "json",
    *,
    tokens: bool = True,
    newest: Sequence[ChatMessage] = (),
) -> Exported:
    """Return a conversation of the store as a text.

    Parameters
    ----------
    conversations : Conversations
    conversation_id : str
    name : str, default "json"
        One of `FORMATS`.
    tokens : bool, default True
        Whether JSON holds the kept tokens with their alternatives, too.
    newest : sequence of ChatMessage
        Messages that are newer than what the store has of them (an answer being written).

    Raises
    ------
    InvalidValueError
        There is no such form or conversation.
    StoreError
    """
    form = format_of(name)
    tree = gather(conversations, conversation_id, tokens=tokens and form.is_whole)
    if newest:
        by_id = {message.id: message for message in newest}
        messages = [by_id.get(message.id, message) for message in tree.messages]
        tree = msgspec.structs.replace(tree, messages=messages)
    shared = without_home(tree)
    text, notes = form.write(shared)
    if shared is not tree and form.is_whole:
        notes = [*notes, NOTE]
    stem = f"{file_stem(tree.conversation.title)}{form.mark}"
    return Exported(text, f"{stem}.{form.ending}", form.mime, notes)


def file_stem(title: str) -> str:
    """Return a title as the name of a file that every system takes."""
    words = " ".join(re.sub(r"[^\w -]+", " ", title).split())[:_NAME_CHARS].strip(" -")
    # On Windows these are devices, whatever their ending.
    if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", words):
        words = f"{words} conversation"
    return words or "conversation"


def format_for(path: Path) -> str:
    """Return the form that a file's ending means.

    Raises
    ------
    InvalidValueError
        It means none.
    """
    ending = path.suffix.lower().removeprefix(".")
    wanted = {"htm": "html", "markdown": "md"}.get(ending, ending)
    for name, form in FORMATS.items():
        if form.ending == wanted:
            return name
    endings = ", ".join(dict.fromkeys(f".{form.ending}" for form in FORMATS.values()))
    raise InvalidValueError(
        f"{path.name!r:.80} has an ending that means no form of a conversation. Use one of "
        f"{endings}, or give the form: chat.save(path, format='text').",
        path=str(path),
    )
