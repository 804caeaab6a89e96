"""What one alternative of a schema asks of a value, type by type.

Promises: `Facets` are facts only, and joining two gives what satisfies both; nothing is decided and
nothing is lost. Leaves to others: where they come from (`keywords`, `expand`), what they allow
(`judge`), and what is written for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

from gguf_widgets.core.engine.grammar.document import Node
from gguf_widgets.core.engine.grammar.numbers import NumberLimits, exact

__all__ = ["ALL_TYPES", "ArrayLayer", "Facets", "ObjectLayer", "TextLimits", "canonical"]

ALL_TYPES = frozenset(("null", "boolean", "number", "string", "object", "array"))


def canonical(value: Any) -> Any:
    """Return what is equal for two JSON values exactly when JSON Schema calls them equal."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, int | float | Decimal):
        return ("number", exact(value))
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, list):
        return ("array", tuple(canonical(item) for item in value))
    return ("object", frozenset((key, canonical(item)) for key, item in value.items()))


@dataclass(frozen=True)
class TextLimits:
    """What strings may be.

    Attributes
    ----------
    low, high : int, int or None
        Their length, in characters.
    patterns : tuple of (str, str, bool)
        Each with its pointer, and whether it is read loosely.
    formats : tuple of (str, str, bool)
        The same.
    """

    low: int = 0
    high: int | None = None
    patterns: tuple[tuple[str, str, bool], ...] = ()
    formats: tuple[tuple[str, str, bool], ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether every string is allowed."""
        return self == TextLimits()

    def joined(self, other: TextLimits) -> TextLimits:
        """Return the limits of both."""
        return TextLimits(
            max(self.low, other.low),
            _least(self.high, other.high),
            _together(self.patterns, other.patterns),
            _together(self.formats, other.formats),
        )


@dataclass(frozen=True, eq=False)
class ObjectLayer:
    """What one schema says about the properties of objects.

    Attributes
    ----------
    names : mapping of str to Node
    patterns : tuple of (str, str, Node)
        The pattern, its pointer, and what the properties with such names must be.
    additional : Node or None
        What all others must be; None if nothing is said.
    loose : bool
    scope : frozenset of Node
        The schema itself and those through which it applies; set when it is reached.
    """

    names: Mapping[str, Node]
    patterns: tuple[tuple[str, str, Node], ...]
    additional: Node | None
    loose: bool
    scope: frozenset[Node] = frozenset()


@dataclass(frozen=True, eq=False)
class ArrayLayer:
    """What one schema says about the items of arrays: the first ones, and the rest."""

    first: tuple[Node, ...]
    rest: Node | None
    loose: bool
    scope: frozenset[Node] = frozenset()


@dataclass(frozen=True, eq=False)
class Facets:
    """What one alternative asks for. Where nothing is said about a type, all of it is allowed.

    Attributes
    ----------
    types : frozenset of str
    mentioned : frozenset of str
        The types that a keyword is about; what is written keeps to them if none is named outright.
    is_typed : bool
        Whether they are named outright.
    booleans : frozenset of bool
        Those that are allowed.
    number : NumberLimits
    not_numbers : tuple of NumberLimits
        Numbers to keep away from.
    text : TextLimits
    not_texts : tuple of TextLimits or frozenset of str
        Strings to keep away from.
    values : tuple or None
        The only values there are.
    layers : tuple of ObjectLayer
    required, asked : tuple of str
        Names that an object must have; those of `asked` come from what is read loosely.
    forbidden : frozenset of str
        Names that an object must not have.
    names : tuple of Node
        What the names themselves must be.
    not_properties : tuple of (str, Node)
        What the property of a name must not be, as negated nodes.
    unseen_properties, unseen_items : tuple of (Node, Node)
        Of a schema, what must hold for all that neither it nor what applies through it speaks of.
    low_properties, high_properties : int, int or None
    arrays : tuple of ArrayLayer
    low_items, high_items : int, int or None
    unique : bool
    nots : tuple of Node
        What the whole value must not be.
    """

    types: frozenset[str] = ALL_TYPES
    mentioned: frozenset[str] = frozenset()
    is_typed: bool = False
    booleans: frozenset[bool] = frozenset((True, False))
    number: NumberLimits = field(default_factory=NumberLimits)
    not_numbers: tuple[NumberLimits, ...] = ()
    text: TextLimits = field(default_factory=TextLimits)
    not_texts: tuple[TextLimits | frozenset[str], ...] = ()
    values: tuple[Any, ...] | None = None
    layers: tuple[ObjectLayer, ...] = ()
    required: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    forbidden: frozenset[str] = frozenset()
    names: tuple[Node, ...] = ()
    not_properties: tuple[tuple[str, Node], ...] = ()
    unseen_properties: tuple[tuple[Node, Node], ...] = ()
    unseen_items: tuple[tuple[Node, Node], ...] = ()
    low_properties: int = 0
    high_properties: int | None = None
    arrays: tuple[ArrayLayer, ...] = ()
    low_items: int = 0
    high_items: int | None = None
    unique: bool = False
    nots: tuple[Node, ...] = ()

    def joined(self, other: Facets) -> Facets:
        """Return what satisfies both."""
        values = self.values if other.values is None else other.values
        if self.values is not None and other.values is not None:
            known = other.value_keys
            values = tuple(value for value in self.values if canonical(value) in known)
        return Facets(
            types=self.types & other.types,
            mentioned=self.mentioned | other.mentioned,
            is_typed=self.is_typed or other.is_typed,
            booleans=self.booleans & other.booleans,
            number=self.number.joined(other.number),
            not_numbers=self.not_numbers + other.not_numbers,
            text=self.text.joined(other.text),
            not_texts=self.not_texts + other.not_texts,
            values=values,
            layers=self.layers + other.layers,
            required=_together(self.required, other.required),
            asked=_together(self.asked, other.asked),
            forbidden=self.forbidden | other.forbidden,
            names=_together(self.names, other.names),
            not_properties=self.not_properties + other.not_properties,
            unseen_properties=_together(self.unseen_properties, other.unseen_properties),
            unseen_items=_together(self.unseen_items, other.unseen_items),
            low_properties=max(self.low_properties, other.low_properties),
            high_properties=_least(self.high_properties, other.high_properties),
            arrays=self.arrays + other.arrays,
            low_items=max(self.low_items, other.low_items),
            high_items=_least(self.high_items, other.high_items),
            unique=self.unique or other.unique,
            nots=_together(self.nots, other.nots),
        )

    def reached(self, scope: frozenset[Node]) -> Facets:
        """Return the same, as it applies through other schemas."""
        return replace(
            self,
            layers=tuple(replace(layer, scope=scope) for layer in self.layers),
            arrays=tuple(replace(layer, scope=scope) for layer in self.arrays),
        )

    def without(self, *types: str) -> Facets:
        """Return the same without some of its types."""
        return replace(self, types=self.types - set(types))

    @cached_property
    def value_keys(self) -> frozenset[Any]:
        """What `canonical` makes of the values."""
        return frozenset(canonical(value) for value in self.values or ())

    @property
    def written_types(self) -> frozenset[str]:
        """The types that are written: those named, or else those that a keyword is about."""
        if self.is_typed or not self.mentioned:
            return self.types
        return self.types & self.mentioned

    @property
    def is_open_object(self) -> bool:
        """Whether what is written may have properties that no schema names.

        Where properties are named and nothing is said about others, none are written.
        """
        layers = [layer for layer in self.layers if not layer.loose]
        return any(layer.additional or layer.patterns for layer in layers) or not any(
            layer.names for layer in layers
        )

    @property
    def declared(self) -> tuple[str, ...]:
        """The names that are written, in the order in which they stand."""
        found: dict[str, None] = {}
        for layer in self.layers:
            if not layer.loose:
                found.update(dict.fromkeys(layer.names))
        found.update(dict.fromkeys(self.required))
        return tuple(found)


def _together(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return one + tuple(item for item in other if item not in one) if other else one


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
