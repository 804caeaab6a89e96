"""A JSON schema out of what a form has: names with kinds, or the schema as text.

Promises: what is missing or wrong is told in words that name the line of the form. Leaves to
others: the forms (`_batch_answer`, `_chat_settings_answer`), and what can be done with a schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["KINDS", "Line", "choices_of", "object_schema", "parsed_schema"]

KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "yesno": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "texts": {"type": "array", "items": {"type": "string"}},
}
"""What each kind is in a schema, but for "choice", which has its choices."""


class Line(NamedTuple):
    """One line of a form."""

    name: str
    kind: str
    choices: Sequence[str]
    required: bool = True


def object_schema(lines: Iterable[Line], what: str) -> dict[str, Any]:
    """Return the schema of an object with these parts, in their order.

    Parameters
    ----------
    lines : iterable of Line
    what : str
        What a person calls one: "column", "part".

    Raises
    ------
    InvalidValueError
        There is none; a name is missing or there twice; choices are missing.
    """
    properties: dict[str, Any] = {}
    required = []
    for number, line in enumerate(lines, 1):
        name = line.name.strip()
        if not name:
            raise InvalidValueError(f"{what.capitalize()} {number} has no name. Write one.")
        if name in properties:
            raise InvalidValueError(f'Two {what}s are called "{name:.60}". Rename one.')
        if line.kind == "choice":
            properties[name] = {"enum": choices_of(line.choices, f'the {what} "{name:.60}"')}
        else:
            properties[name] = dict(KINDS[line.kind])
        if line.required:
            required.append(name)
    if not properties:
        raise InvalidValueError(f"Add a {what}: an answer needs at least one.")
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def choices_of(given: Sequence[str], what: str) -> list[str]:
    """Return the choices of a field with one on each line; `what` has them.

    Raises
    ------
    InvalidValueError
        There are fewer than two, or one is there twice.
    """
    choices = [one.strip() for one in given if one.strip()]
    if len(choices) < 2:
        raise InvalidValueError(f"Write at least two choices for {what}, one on each line.")
    twice = next((one for one in choices if choices.count(one) > 1), None)
    if twice is not None:
        raise InvalidValueError(f'"{twice:.60}" is twice among the choices of {what}.')
    return choices


def parsed_schema(text: str) -> dict[str, Any]:
    """Return a schema that was written as JSON.

    Raises
    ------
    InvalidValueError
        It is no JSON, or no object.
    """
    if not text.strip():
        raise InvalidValueError('Write a JSON schema, such as {"type": "object", ...}.')
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = ""
        if isinstance(error, json.JSONDecodeError):
            where = f" (line {error.lineno}, column {error.colno}: {error.msg})"
        raise InvalidValueError(f"The schema is not JSON{where}.") from error
    if not isinstance(schema, dict):
        raise InvalidValueError("A JSON schema is an object in braces: { ... }.")
    return schema
