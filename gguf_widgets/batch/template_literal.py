"""Plain messages as a template: whatever looks like a column in them stays the text that it is.

Promises: what `as_template` returns is read by `Template.parse` as the same messages again, with
columns only where they were asked for; a text without braces stays as it is. Leaves to others: the
two syntaxes (`template`).

A text with braces is a format, with each brace doubled, as long as nothing in it then looks like
Jinja; or else it is Jinja, with what Jinja would read put between ``{% raw %}`` and
``{% endraw %}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.types import Message

__all__ = ["Mark", "as_template"]

# What Jinja would read, or ask whether a column is meant, from its brace on; and the line ends that
# it would make others of.
_FOR_JINJA = re.compile(r"\{(?=[{%#\r]|\Z|-?\s*[^\W\d]|[^\s\"'{}][^{}\r\n]*\})\{*[^{}\r\n]*\}*|\r")
_END, _END_BEFORE_LINE = "{% endraw %}", "{% endraw +%}"  # with a plus, the line end stays
_INDENT = re.compile(r"(?:\A|\n)[ \t]+\Z")
_WORD = re.compile(r"[^\W\d]\w*")


class Mark(NamedTuple):
    """A part of the last message in whose place a column comes: positions in it, from 0."""

    start: int
    end: int
    column: str


def as_template(messages: Sequence[Message], marks: Sequence[Mark] = ()) -> list[Message]:
    """Return messages as a template.

    Parameters
    ----------
    messages : sequence of Message
        Plain ones, as a model is sent them.
    marks : sequence of Mark, optional
        In order, none over another.

    Raises
    ------
    InvalidValueError
        There is no message; they are too long for a template; no template can name a column.
    """
    if not messages:
        raise InvalidValueError("There is no message to make a template of.")
    columns = [mark.column for mark in marks]
    pieces = [[message["content"]] for message in messages]
    pieces[-1] = _cut(messages[-1]["content"], marks)
    # Values that no text has, to see that each stands where it should.
    values = {column: f"\0{number}\0" for number, column in enumerate(columns)}
    filled = [values[column] for column in columns]
    wanted = [_joined(piece, filled) for piece in pieces]
    refused: GgufWidgetsError | None = None
    for is_jinja in (False, True):
        if is_jinja:
            names = [_in_jinja(column) for column in columns]
            texts = [_as_jinja(piece, names) for piece in pieces]
        else:
            names = [f"{{{column}}}" for column in columns]
            texts = [_joined([_doubled(text) for text in piece], names) for piece in pieces]
        made = [
            Message(role=message["role"], content=text)
            for message, text in zip(messages, texts, strict=True)
        ]
        try:
            template = Template.parse(made)
            if set(template.columns) != set(columns) or template.whole_row:
                continue
            if [message["content"] for message in template.render(values)] == wanted:
                return made
        except GgufWidgetsError as error:
            refused = error
    if refused is not None and (not columns or "limit" in refused.details):
        raise refused
    raise InvalidValueError(
        f"No template can have {', '.join(map(repr, columns))[:200]} as a column in this text. "
        "Choose another name for it.",
        columns=columns,
    ) from refused


def _cut(text: str, marks: Sequence[Mark]) -> list[str]:
    """Return what stands around the marks: one piece more than there are marks."""
    pieces, position = [], 0
    for mark in marks:
        pieces.append(text[position : mark.start])
        position = mark.end
    return [*pieces, text[position:]]


def _joined(pieces: Sequence[str], between: Sequence[str]) -> str:
    text = pieces[0]
    for name, piece in zip(between, pieces[1:], strict=False):
        text += name + piece
    return text


def _doubled(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _in_jinja(column: str) -> str:
    return (
        f"{{{{ {column} }}}}" if _WORD.fullmatch(column) else f"{{{{ row[{json.dumps(column)}] }}}}"
    )


def _as_jinja(pieces: Sequence[str], names: Sequence[str]) -> str:
    made: list[str] = []
    for number, piece in enumerate(pieces):
        if number:
            made.append(names[number - 1])
        position = 0
        for match in _FOR_JINJA.finditer(piece):
            made.append(piece[position : match.start()])
            position = match.end()
            if match[0] == "\r":
                made.append('{{ "\\r" }}')
                continue
            # The end of such a block cannot stand in it: there, each brace has a block of its own.
            is_end = "endraw" in match[0]
            parts = re.split(r"(?<=\{)|(?=\{)", match[0]) if is_end else [match[0]]
            for part in parts:
                made.append(part if is_end and part != "{" else _raw(part, "".join(made[-2:])))
            if piece.startswith("\n", position) and made[-1].endswith(_END):
                made[-1] = made[-1].removesuffix(_END) + _END_BEFORE_LINE
        made.append(piece[position:])
    return "".join(made)


def _raw(text: str, before: str) -> str:
    # With a plus, the blanks at the beginning of a line stay.
    begin = "{%+ raw %}" if _INDENT.search(before) else "{% raw %}"
    return f"{begin}{text}{_END}"
