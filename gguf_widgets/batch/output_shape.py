"""What a JSON schema's values look like as columns.

Promises: `shape_of` finds, for every schema that the engine follows, what its values are: an object
with known parts, or one column of a type. What it cannot tell for sure, a list, a value of several
types, an object without names or one that contains itself, is one column of Python objects, so
nothing of a value is lost. Leaves to others: what can be followed, and what is valid (the engine).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from gguf_widgets.batch.output_column import Scalar
from gguf_widgets.core.errors import UnsupportedSchemaError

__all__ = ["Leaf", "Parts", "Shape", "shape_of"]

_MAX_DEPTH = 64  # as the engine has it

_MAX_PARTS = 20_000  # with each reference followed wherever it stands

_FORMATS = {"date": "date", "date-time": "instant"}
# Which type is meant where none is said, as the engine takes it.
_ABOUT = {
    "object": ("properties", "additionalProperties", "patternProperties", "required"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


@dataclass(frozen=True)
class Leaf:
    """One column.

    Attributes
    ----------
    kind : str
        See `Column`; besides, "none" for what is always null, "anything" where nothing is said, and
        "mixed" for an object with known parts or something else.
    choices : tuple
    """

    kind: str
    choices: tuple[Scalar, ...] = ()


@dataclass(frozen=True)
class Parts:
    """An object whose parts have names.

    Attributes
    ----------
    parts : dict of str to shape
        None of them for an object without names.
    others : bool
        Whether it is said that there may be parts with other names.
    """

    parts: dict[str, Shape] = field(default_factory=dict)
    others: bool = False


Shape = Leaf | Parts

_OBJECT, _NONE, _ANYTHING, _MIXED = map(Leaf, ("object", "none", "anything", "mixed"))


def shape_of(schema: Mapping[str, Any] | bool) -> Shape:
    """Return what the values of a schema look like.

    Raises
    ------
    UnsupportedSchemaError
        If a `$ref` points nowhere.
    """
    found = _Reader(schema).shape(schema, ())
    return found if isinstance(found, Leaf) or found.parts else _OBJECT


class _Reader:
    def __init__(self, root: Mapping[str, Any] | bool) -> None:
        self.root = root
        self.num_parts = 0

    def shape(self, schema: Any, above: tuple[str, ...]) -> Shape:
        """Return the shape of one part; `above` are the references that lead to it."""
        self.num_parts += 1
        if self.num_parts > _MAX_PARTS:
            raise UnsupportedSchemaError(
                f"This JSON schema comes to more than {_MAX_PARTS:,} parts, which is the limit for"
                " a table. Ask for less at once.",
                limit=_MAX_PARTS,
            )
        if not isinstance(schema, dict) or len(above) > _MAX_DEPTH:
            return _OBJECT
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in above:
                return _OBJECT  # it contains itself
            target = self.target(reference)
            if target is None:
                return _OBJECT
            above = (*above, reference)
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return _both(self.shape(target, above), self.shape(rest, above))
        found = self.own(schema, above)
        for part in schema.get("allOf", ()):
            found = _both(found, self.shape(part, (*above, "")))
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list):
                ways = [self.shape(way, (*above, "")) for way in schema[keyword]]
                found = _both(found, _any(ways))
        for part in self.conditional(schema):
            if isinstance(found, Parts):
                found = _both(found, _names_of(self.shape(part, (*above, ""))))
            elif found == _ANYTHING:
                found = _MIXED
        return found

    def conditional(self, schema: dict[str, Any]) -> list[Any]:
        """Return the parts that hold sometimes: they may name more of an object."""
        found = [schema[keyword] for keyword in ("then", "else") if keyword in schema]
        for keyword in ("dependentSchemas", "dependencies"):
            if isinstance(schema.get(keyword), dict):
                found += schema[keyword].values()
        return [part for part in found if isinstance(part, dict)]

    def target(self, reference: str) -> Any:
        """Return what a reference inside the document points at; None if that is not followed."""
        if not reference.startswith("#") or reference[1:2] not in ("", "/"):
            return None  # by $anchor or $id: the engine can, and one column will do
        found: Any = self.root
        for key in unquote(reference[1:]).split("/")[1:]:
            name = key.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise UnsupportedSchemaError(
                    f"This JSON schema cannot be followed. The $ref {reference!r:.80} points at"
                    " nothing in it.",
                    pointer=reference,
                )
        return found

    def own(self, schema: dict[str, Any], above: tuple[str, ...]) -> Shape:
        """Return what a schema says by itself."""
        if "const" in schema:
            return _of_values([schema["const"]])
        if isinstance(schema.get("enum"), list):
            return _of_values(schema["enum"])
        given = schema.get("type")
        types = given if isinstance(given, list) else [given] if given is not None else []
        if not types:
            types = [
                kind for kind, words in _ABOUT.items() if any(word in schema for word in words)
            ]
            if schema.get("format") in _FORMATS:
                types = ["string"]
        # Nothing is said: whatever else holds decides.
        return _any([self.of_type(kind, schema, above) for kind in types]) if types else _ANYTHING

    def of_type(self, kind: Any, schema: dict[str, Any], above: tuple[str, ...]) -> Shape:
        if kind == "object":
            properties = schema.get("properties")
            others = schema.get("additionalProperties", False) is not False
            others = others or bool(schema.get("patternProperties"))
            if not isinstance(properties, dict) or not properties:
                return Parts({}, others)
            parts = {name: self.shape(part, (*above, "")) for name, part in properties.items()}
            for name in _also_named(schema):
                parts.setdefault(name, _ANYTHING)
            return Parts(parts, others)
        if kind == "string":
            return Leaf(_FORMATS.get(str(schema.get("format")), "text"))
        return {
            "integer": Leaf("integer"),
            "number": Leaf("number"),
            "boolean": Leaf("boolean"),
            "null": _NONE,
        }.get(str(kind), _OBJECT)


_NARROWEST_FIRST = (
    "category", "boolean", "date", "instant", "integer", "number", "text", "none", "object",
    "mixed", "anything",
)  # fmt: skip


def _also_named(schema: dict[str, Any]) -> list[str]:
    """Return the names that an object may have although nothing is said of what they hold."""
    found: list[Any] = []
    lists = [schema.get("required")]
    for keyword in ("dependentRequired", "dependentSchemas", "dependencies"):
        table = schema.get(keyword)
        if isinstance(table, dict):
            lists += [list(table), *table.values()]
    for one in lists:
        found += one if isinstance(one, list) else []
    return [name for name in found if isinstance(name, str)]


def _names_of(shape: Shape) -> Shape:
    """Return only the names of a shape's parts, of which anything may hold."""
    if isinstance(shape, Leaf):
        return _MIXED if shape == _MIXED else _ANYTHING
    return Parts({name: _names_of(part) for name, part in shape.parts.items()}, shape.others)


def _of_values(values: Iterable[Any]) -> Shape:
    listed = [one for one in values if one is not None]
    if not listed:
        return _NONE
    if all(isinstance(one, bool) for one in listed):
        return Leaf("boolean")
    if not all(isinstance(one, str | int | float) for one in listed):
        return _OBJECT
    different = {(isinstance(one, bool), one): one for one in listed}
    choices = tuple(different.values())
    # A column cannot tell True from 1.
    return Leaf("category", choices) if len(set(choices)) == len(choices) else _OBJECT


def _any(ways: list[Shape]) -> Shape:
    """Return what is one of several shapes; null is a missing value of any of them."""
    open_ways = [way for way in ways if way != _NONE]
    if not open_ways:
        return _NONE
    found = open_ways[0]
    for way in open_ways[1:]:
        found = _either(found, way)
    return found


def _either(one: Shape, other: Shape) -> Shape:
    if isinstance(one, Parts) and isinstance(other, Parts):
        parts = dict(one.parts)
        for name, part in other.parts.items():
            parts[name] = _any([parts[name], part]) if name in parts else part
        # The one without names may have any.
        unnamed = bool(one.parts) != bool(other.parts)
        return Parts(parts, one.others or other.others or unnamed)
    if isinstance(one, Parts) or isinstance(other, Parts) or _MIXED in (one, other):
        return _MIXED
    if one.kind == other.kind == "category":
        return _of_values([*one.choices, *other.choices])
    if one.kind == other.kind:
        return one
    return Leaf("number") if {one.kind, other.kind} == {"integer", "number"} else _OBJECT


def _both(one: Shape, other: Shape) -> Shape:
    """Return what must be both: the one that says more, or what both say of an object."""
    if isinstance(one, Parts) and isinstance(other, Parts):
        parts = dict(one.parts)
        for name, part in other.parts.items():
            parts[name] = _both(parts[name], part) if name in parts else part
        return Parts(parts, one.others or other.others)
    if isinstance(one, Parts):
        if other == _MIXED:
            return Parts(one.parts, others=True)
        return one if other in (_ANYTHING, _OBJECT) else _OBJECT
    if isinstance(other, Parts):
        return _both(other, one)
    return min((one, other), key=lambda leaf: _NARROWEST_FIRST.index(leaf.kind))
