"""A conversation as HTML: a page of its own, and a piece for a notebook's output.

Promises: one file that needs nothing else, runs nothing and asks nobody: no script, no address, a
policy that forbids both (`CSP`), images only as data of four known kinds; every text is escaped or
came out of the renderer, which sanitises. Readable in light and dark, on paper and at 320 px.
Leaves to others: Markdown (`rendering`), the words (`words`), the look (page.css).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from gguf_widgets.core.chat.export import words
from gguf_widgets.core.chat.export.rendering import Render, escaped, renderer
from gguf_widgets.core.chat.export.tree import Tree, line_of
from gguf_widgets.core.chat.types import Attachment, ChatMessage

__all__ = ["NOTEBOOK_MESSAGES", "fragment", "page"]

NOTEBOOK_MESSAGES: Final = 200  # in one output of a notebook; the page has all

# Of images, in a page and in a notebook's output: a file may name one image a million times.
_PAGE_BYTES: Final = 256 << 20
_NOTEBOOK_BYTES: Final = 3 << 20

_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def page(tree: Tree, render: Render | None = None) -> str:
    """Return the path on screen as an HTML file.

    Parameters
    ----------
    tree : Tree
    render : callable, optional
        Markdown to sanitised HTML; default: `rendering.renderer`.
    """
    line = line_of(tree)
    title = escaped(words.title_of(tree))
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    csp = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    facts = "".join(f"<p>{escaped(text)}</p>" for text in words.head_of(tree, line))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{csp}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n"
        f'<body class="gw-talk-page">\n<main class="gw-talk">\n'
        f'<header><h1 dir="auto">{title}</h1>{facts}</header>\n'
        f"{_system(tree)}{_messages(line, tree, render or renderer(), whole=True)}\n"
        "</main>\n</body>\n</html>\n"
    )


def fragment(tree: Tree, render: Render | None = None) -> str:
    """Return the end of the path on screen as a piece of HTML with its style, for a notebook."""
    line = line_of(tree)
    shown = line[-NOTEBOOK_MESSAGES:]
    title = escaped(words.title_of(tree))
    notes = []
    if len(shown) < len(line):
        notes.append(
            f"{len(line) - len(shown):,} earlier messages are not shown here; "
            'chat.export("html") has them all.'
        )
    if not line:
        notes.append("No message yet.")
    told = "".join(f'<p class="gw-talk-note">{escaped(text)}</p>' for text in notes)
    return (
        f'<style>{_style()}</style><section class="gw-talk" aria-label="{title}">'
        f'<p class="gw-talk-title" dir="auto"><strong>{title}</strong></p>{told}'
        f"{_messages(shown, tree, render or renderer(), whole=False)}</section>"
    )


@cache
def _style() -> str:
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    # It stands inside <style>: nothing in it may end that, and the fingerprint is of all of it.
    return style.replace("</", "<\\/")


def _system(tree: Tree) -> str:
    if not tree.conversation.system:
        return ""
    return _folded("What the model was told first", _text(tree.conversation.system))


class _Room:
    """How many bytes of images there is still room for."""

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes

    def takes(self, data: bytes) -> bool:
        """Say whether one more has room, and give it that."""
        has_room = len(data) <= self.left
        self.left -= len(data) if has_room else 0
        return has_room


def _messages(line: Sequence[ChatMessage], tree: Tree, render: Render, *, whole: bool) -> str:
    room = _Room(_PAGE_BYTES if whole else _NOTEBOOK_BYTES)
    return "\n".join(_article(message, tree, render, room, whole=whole) for message in line)


def _article(message: ChatMessage, tree: Tree, render: Render, room: _Room, *, whole: bool) -> str:
    own = message.role == "user"
    name = escaped(words.who(message))
    time = escaped(words.moment(message.created_at))
    parts = [f'<p class="gw-talk-who"><strong>{name}</strong> <span>{time}</span></p>']
    if left_out := words.left_out_words(message):
        parts.append(_note(left_out))
        if message.summary:
            parts.append(_folded("The summary that was sent instead", _text(message.summary)))
    for part in words.parts_of(message):
        if own:
            parts.append(_text(part.text))
        elif part.is_thinking:
            title = words.thinking_title(message)
            parts.append(_folded(title, f'<div class="gw-talk-body">{render(part.text)}</div>'))
        else:
            parts.append(f'<div class="gw-talk-body">{render(part.text)}</div>')
    parts += [_attachment(one, tree, room, whole=whole) for one in message.attachments]
    for call in message.tool_calls:
        called, outcome = words.call_words(call)
        parts.append(_folded(f"Tool: {called}", f"<pre>{escaped(outcome)}</pre>"))
    if end := words.end_words(message):
        parts.append(f'<p class="gw-talk-end">{escaped(end)}</p>')
    if facts := " · ".join(words.facts_of(message)):
        parts.append(_note(facts))
    role = "user" if own else "model"
    return f'<article class="gw-talk-{role}">{"".join(parts)}</article>'


def _attachment(attachment: Attachment, tree: Tree, room: _Room, *, whole: bool) -> str:
    told = words.attachment_words(attachment)
    data = tree.files.get(attachment.sha256)
    is_shown = attachment.kind == "image" and attachment.mime in _IMAGES and data is not None
    if is_shown and data is not None and not room.takes(data):
        told = f"{told}. Not shown: there are too many large images here."
    elif is_shown and data is not None:
        source = f"data:{attachment.mime};base64,{base64.b64encode(data).decode('ascii')}"
        image = f'<img src="{source}" alt="{escaped(attachment.name)}">'
        return f"<figure>{image}<figcaption>{escaped(told)}</figcaption></figure>"
    if whole and attachment.text:
        return _folded(f"Attached: {told}", f"<pre>{escaped(attachment.text)}</pre>")
    return _note(f"Attached: {told}")


def _text(text: str) -> str:
    return f'<div class="gw-talk-text" dir="auto">{escaped(text)}</div>'


def _note(text: str) -> str:
    return f'<p class="gw-talk-note" dir="auto">{escaped(text)}</p>'


def _folded(title: str, inner: str) -> str:
    return f"<details><summary>{escaped(title)}</summary>{inner}</details>"
