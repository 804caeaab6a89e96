"""JSON that follows a schema, as typed columns.

Promises: an object becomes one column for each of its parts, nested ones with a dot
("address.city"), and one called "(other)" for parts without a name of their own, if the schema lets
there be any; anything else becomes one column. A part that is left out or null is missing. Nothing
of a reply is dropped: what has no column is an error. Leaves to others: whether a reply is valid
against the schema (the engine, which writes no other).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf_widgets.batch.output_choice import MAX_CHOICES, BooleanKind, ChoiceKind, as_choices
from gguf_widgets.batch.output_column import Column, checked
from gguf_widgets.batch.output_kind import json_value
from gguf_widgets.batch.output_shape import Leaf, Shape, shape_of
from gguf_widgets.core.errors import InvalidValueError, OutputError, UnsupportedSchemaError

__all__ = ["MAX_COLUMNS", "OTHERS", "JsonKind", "from_schema"]

MAX_COLUMNS = 1_000
OTHERS = "(other)"

_REMARKS = {"$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated"} | {
    "description", "examples", "title",
}  # fmt: skip


@dataclass(frozen=True)
class JsonKind:
    """JSON that is valid against `schema`. Make it by `from_schema`."""

    name: str
    schema: dict[str, Any]

    kind = "json"
    choice_texts: tuple[str, ...] = ()

    @cached_property
    def shape(self) -> Shape:
        """What its values look like."""
        return shape_of(self.schema)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return tuple(_columns(self.shape, self.name, ""))

    @property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        return {"schema": self.schema}

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        value = json_value(text, complete=complete)
        found: dict[str, Any] = dict.fromkeys(column.name for column in self.columns)
        by_name = {column.name: column for column in self.columns}
        for name, part in _taken(self.shape, value, self.name, ""):
            found[name] = checked(by_name[name], part)
        return value, found

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {"schema": self.schema}

    def describe(self) -> str:
        """See `Kind.describe`."""
        if isinstance(self.shape, Leaf):
            return "JSON"
        names = [column.name for column in self.columns]
        more = len(names) - 6
        return "JSON with " + ", ".join(names[:6]) + (f" and {more:,} more" if more > 0 else "")


def from_schema(name: str, schema: dict[str, Any] | bool) -> JsonKind | ChoiceKind | BooleanKind:
    """Return the output of a JSON schema; a list of texts or numbers becomes choices.

    Raises
    ------
    InvalidValueError
        If no value is valid, or parts would become columns of the same name.
    """
    if schema is False:
        raise UnsupportedSchemaError(
            "This JSON schema cannot be followed. At the top: no value is valid against false."
        )
    if schema is True:
        schema = {}
    listed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if listed == []:
        raise UnsupportedSchemaError(
            "This JSON schema cannot be followed. At /enum: the list is empty, so no value is"
            " valid.",
            pointer="/enum",
        )
    if _is_plain_list(schema, listed):
        return as_choices(name, listed or ())
    if schema.get("type") == "boolean" and set(schema) <= _REMARKS | {"type"}:
        return BooleanKind(name)
    found = JsonKind(name, schema)
    _check_columns(found.columns)
    return found


def _is_plain_list(schema: dict[str, Any], listed: Any) -> bool:
    """Whether the values of a schema are texts, or numbers, and nothing else is said of them."""
    if not isinstance(listed, list) or not set(schema) <= _REMARKS | {"enum", "const", "type"}:
        return False
    if "enum" in schema and "const" in schema:
        return False
    kinds = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}
    wanted = kinds.get(str(schema["type"])) if "type" in schema else (str, int, float, bool)
    return (
        wanted is not None
        and all(type(one) in wanted for one in listed)
        # What only JSON tells apart, or choices cannot hold, stays JSON.
        and len(set(map(str, listed))) == len(listed)
        and len(set(listed)) == len(listed)
        and all(not isinstance(one, str) or one == one.strip() != "" for one in listed)
        and len(listed) <= MAX_CHOICES
    )


def _check_columns(columns: tuple[Column, ...]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise InvalidValueError(
            f"This schema would become {len(columns):,} columns, and {MAX_COLUMNS:,} is the limit."
            " Ask for less at once.",
            limit=MAX_COLUMNS,
        )
    name, count = Counter(column.name for column in columns).most_common(1)[0]
    if count > 1:
        raise InvalidValueError(
            f"Two parts of this schema would become the column {name!r}: a dot in a name reads like"
            " a part of a part. Rename one of them.",
            name=name,
        )
    if any(part == "" for column in columns for part in column.name.split(".")):
        raise InvalidValueError(
            "A part of this schema has an empty name, or one that begins or ends with a dot, and"
            " cannot become a column. Rename it."
        )


def _columns(shape: Shape, name: str, before: str) -> Iterator[Column]:
    if isinstance(shape, Leaf):
        kind = "object" if shape.kind in ("anything", "none", "mixed") else shape.kind
        yield Column(name, kind, shape.choices)
        return
    if not shape.parts:
        yield Column(name, "object")
        return
    for part, inside in shape.parts.items():
        full = before + part
        yield from _columns(inside, full, f"{full}.")
    if shape.others:
        yield Column(before + OTHERS, "object")


def _taken(shape: Shape, value: Any, name: str, before: str) -> Iterator[tuple[str, Any]]:
    """Yield what of a value belongs into which column."""
    if isinstance(shape, Leaf) or not shape.parts:
        yield name, value
        return
    if value is None:
        return
    if not isinstance(value, dict):
        where = before.removesuffix(".") or "The reply"
        raise OutputError(f"{where} is {value!r:.80}, and not an object.")
    others = {}
    for part, one in value.items():
        full = before + part
        if part in shape.parts:
            yield from _taken(shape.parts[part], one, full, f"{full}.")
        elif shape.others:
            others[part] = one
        else:
            raise OutputError(f"The reply has {full[:80]!r}, which the schema does not name.")
    if others:
        yield before + OTHERS, others
