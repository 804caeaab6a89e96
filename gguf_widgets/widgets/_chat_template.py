"""A conversation as a template for a table, and the cell that runs it.

Promises: what a model was sent with the last message of the person stays word for word what it was,
with a column only where one was asked for; what the conversation was asked with comes along, and
what cannot is named. Leaves to others: braces (`batch.template_literal`), the table's form
(`batch_table`), the panel that shows the cell (static/_chat_table.js).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.batch.template_literal import Mark, as_template
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.prompt import prompt_for
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Message, SamplingSettings
from gguf_widgets.widgets._batch_code import code_of

__all__ = ["COLUMN", "cell_of", "changed_sampling", "marked_template", "template_of"]

COLUMN: Final = "text"  # what a part that was marked on the page is called
_NO_MESSAGE: Final = "There is no message of yours in this conversation. Write one first."


def template_of(chat: ChatInterface, columns: Mapping[str, str] | None = None) -> list[Message]:
    """Return a conversation as a template: all that came before the last message, and that.

    Parameters
    ----------
    chat : ChatInterface
    columns : mapping, optional
        Columns by name, and the part of the last message in whose place each comes.

    Raises
    ------
    InvalidValueError
        There is no message; a part is not in the last one, or two overlap; a name does not do.
    """
    messages = _sent(chat)
    text = messages[-1]["content"]
    marks: list[Mark] = []
    for column, part in (columns or {}).items():
        if not isinstance(part, str) or not part or part not in text:
            raise InvalidValueError(
                f"The column {column!r:.60} is to stand for {part!r:.60}, which is no part of the "
                f"last message: {text!r:.200}.",
                column=column,
            )
        start = text.find(part)
        while start >= 0:
            marks.append(Mark(start, start + len(part), column))
            start = text.find(part, start + len(part))
    marks.sort()
    for one, other in itertools.pairwise(marks):
        if other.start < one.end:
            raise InvalidValueError(
                f"The columns {one.column!r:.60} and {other.column!r:.60} stand for parts of the "
                "last message that overlap. Take parts that do not.",
                columns=[one.column, other.column],
            )
    return as_template(messages, marks)


def marked_template(chat: ChatInterface, marked: Any) -> list[Message]:
    """Return the template of a conversation of which a part was marked on the page.

    Parameters
    ----------
    chat : ChatInterface
    marked : dict or None
        ``message``, its id, and ``start`` and ``end`` in what a browser counts (UTF-16); what does
        not fit the last message (it has changed meanwhile) marks nothing.
    """
    messages = _sent(chat)
    asked = next(message for message in reversed(chat.messages) if message.role == "user")
    if not isinstance(marked, dict) or marked.get("message") != asked.id:
        return as_template(messages)
    start, end = marked.get("start"), marked.get("end")
    units = asked.content.encode("utf-16-le", "surrogatepass")
    if not isinstance(start, int) or not isinstance(end, int) or not 0 <= start < end:
        return as_template(messages)
    before = units[: 2 * start].decode("utf-16-le", "ignore")
    part = units[2 * start : 2 * end].decode("utf-16-le", "ignore")
    # A double click marks the blank after a word as well.
    begin = len(before) + len(part) - len(part.lstrip())
    part = part.strip()
    # Two messages with no answer between them are sent as one.
    begin += len(messages[-1]["content"]) - len(asked.content)
    marks = [Mark(begin, begin + len(part), COLUMN)] if part else []
    return as_template(messages, marks)


def changed_sampling(chat: ChatInterface) -> dict[str, Any]:
    """Return how a conversation is asked: the temperature, and what differs from the standard."""
    standard = SamplingSettings().to_dict()
    given = chat.sampling.to_dict()
    return {
        name: value
        for name, value in given.items()
        if name == "temperature" or value != standard.get(name)
    }


def cell_of(chat: ChatInterface, template: list[Message]) -> tuple[str, list[str]]:
    """Return the cell that asks a template of every row, and the settings that it cannot have.

    Parameters
    ----------
    chat : ChatInterface
        Its model and its settings are taken.
    template : list of Message
        As `template_of` makes it.
    """
    sampling = changed_sampling(chat)
    schema = sampling.pop("schema", None)
    left = ["grammar"] if sampling.pop("grammar", None) is not None else []
    parsed = Template.parse(template)
    spec = Spec((Prompt(parsed, Output.parse(schema)),), (_model_of(chat),), sampling)
    column = "{{ column }}" if parsed.syntax == "jinja" else "{column}"
    note = "" if parsed.columns else f"# Put {column} where the text of a row is to stand.\n"
    return note + code_of(spec, list(parsed.columns)), left


def _sent(chat: ChatInterface) -> list[Message]:
    """Return what a model is sent with the last message of the person."""
    messages = chat.messages
    last = max((i for i, one in enumerate(messages) if one.role == "user"), default=-1)
    if last < 0:
        raise InvalidValueError(_NO_MESSAGE)
    return prompt_for(messages[: last + 1], chat.system).messages


def _model_of(chat: ChatInterface) -> ModelRef:
    """Return the model of a conversation: the one it has, or the one that answered last."""
    model = chat.model
    if isinstance(model, Model):
        return ModelRef.of(model)
    if model is not None:
        return ModelRef(model.name, model.info.path, "")
    for message in reversed(chat.messages):
        if message.model is not None and message.model_name:
            return ModelRef(message.model_name, str(message.model.get("path", "")), "")
    return ModelRef("demo", "demo", "")
