"""What the form of an answer is, as the settings panel has it, and the schema it stands for.

Promises: what was filled in wrongly is told in words; a schema that was set from Python becomes a
form only if that form stands for the very same. Leaves to others: whether a model can keep to it
(`core.worker`, which has the engine), its look (static/_chat_settings_answer.js).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.widgets._schema_form import KINDS, Line, object_schema, parsed_schema

__all__ = ["AnswerForm", "AnswerPart", "form_of", "read_form", "sampling_of"]

_Short = Annotated[str, msgspec.Meta(max_length=2000)]
_Long = Annotated[str, msgspec.Meta(max_length=200_000)]

PartKind = Literal["text", "choice", "integer", "number", "yesno", "date", "texts"]


class AnswerPart(msgspec.Struct, frozen=True):
    """One part of an answer that is a form."""

    name: _Short = ""
    kind: PartKind = "text"
    choices: Annotated[tuple[_Short, ...], msgspec.Meta(max_length=1000)] = ()
    required: bool = True


class AnswerForm(msgspec.Struct, frozen=True):
    """What the model may write: anything, some JSON, a form, a schema, or a grammar's texts."""

    kind: Literal["off", "json", "form", "schema", "grammar"] = "off"
    parts: Annotated[tuple[AnswerPart, ...], msgspec.Meta(max_length=100)] = ()
    schema: _Long = ""
    grammar: _Long = ""


_ANY: Final = {"type": "object"}


def read_form(given: Any) -> AnswerForm:
    """Read what the page sent.

    Raises
    ------
    InvalidValueError
        It is no form.
    """
    try:
        return msgspec.convert(given, AnswerForm)
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"The form of the answer cannot be used: {error}.") from error


def sampling_of(form: AnswerForm) -> dict[str, Any]:
    """Return the sampling settings that a form stands for: both of them, one at most is set.

    Raises
    ------
    InvalidValueError
        Something of it is missing or wrong.
    """
    schema: Any = None
    grammar: str | None = None
    if form.kind == "json":
        schema = dict(_ANY)
    elif form.kind == "form":
        lines = (Line(one.name, one.kind, one.choices, one.required) for one in form.parts)
        schema = object_schema(lines, "part")
    elif form.kind == "schema":
        schema = parsed_schema(form.schema)
    elif form.kind == "grammar":
        if not form.grammar.strip():
            raise InvalidValueError('Write a grammar, such as root ::= "yes" | "no".')
        grammar = form.grammar
    return {"schema": schema, "grammar": grammar}


def form_of(sampling: SamplingSettings) -> AnswerForm:
    """Return the form that stands for the settings."""
    if sampling.grammar is not None:
        return AnswerForm(kind="grammar", grammar=sampling.grammar)
    if sampling.schema is None:
        return AnswerForm()
    if sampling.schema == _ANY:
        return AnswerForm(kind="json")
    text = json.dumps(sampling.schema, indent=2, ensure_ascii=False)
    form = AnswerForm(kind="form", parts=_parts_of(sampling.schema), schema=text)
    try:
        # In the same order, too: it is the order of the reply.
        if json.dumps(sampling_of(form)["schema"]) == json.dumps(sampling.schema):
            return form
    except InvalidValueError:
        pass  # no form makes the same, so it is shown as the schema that it is
    return AnswerForm(kind="schema", schema=text)


def _parts_of(schema: Any) -> tuple[AnswerPart, ...]:
    """Return a guess; whoever asks compares."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not isinstance(required, list):
        return ()
    kinds = {json.dumps(value, sort_keys=True): kind for kind, value in KINDS.items()}
    parts = []
    for name, value in properties.items():
        choices = value.get("enum") if isinstance(value, dict) else None
        is_choice = isinstance(choices, list) and all(isinstance(one, str) for one in choices)
        kind: Any = "choice" if is_choice else kinds.get(json.dumps(value, sort_keys=True), "text")
        chosen = tuple(choices) if is_choice and choices else ()
        parts.append(AnswerPart(name=name, kind=kind, choices=chosen, required=name in required))
    return tuple(parts)
