"""What can be said for sure: is a value valid, can nothing be valid, can two parts never agree.

Promises: "void" means that no value at all satisfies something; "allows" with ``sure=True`` means
that everybody who checks will find the value valid, with ``sure=False`` that somebody might. Where
nothing is sure the answer is the careful one, so what rests on it is right. A strict part stands
for what is *written* for it, a loose one for all that may be valid: objects are written with the
properties that are declared, so such an object never satisfies a loose part that requires another.
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.engine.grammar import texts
from gguf_widgets.core.engine.grammar.document import Node, unsupported
from gguf_widgets.core.engine.grammar.expand import Goal, Reading
from gguf_widgets.core.engine.grammar.facets import Facets, ObjectLayer, canonical
from gguf_widgets.core.engine.grammar.limits import MAX_PROOFS
from gguf_widgets.core.engine.grammar.numbers import exact

__all__ = ["Judge", "type_of"]

# How far into required properties a proof goes that there can be no such value.
_PROOF_DEPTH = 12
# What looking for a text costs, in comparisons of other kinds.
_TEXT_PROOF = 20


def type_of(value: Any) -> str:
    """Return the type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


class Judge:
    """Judges parts of one schema."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._void: dict[Goal, str | None] = {}
        self._allows: dict[tuple[Goal, Any], bool] = {}
        self._constants: dict[Facets, dict[str, frozenset[Any]]] = {}
        self._num_proofs = 0

    # --- single values ---

    def allows(self, goal: Goal, value: Any, *, sure: bool) -> bool:
        """Say whether a value is valid against the parts of a goal."""
        parts = frozenset(node.strictly() if sure else node.loosely() for node in goal)
        # Lists and objects live as long as the schema; a text here may be a name just made.
        key = (parts, id(value) if isinstance(value, list | dict) else canonical(value))
        if key not in self._allows:
            self._allows[key] = any(
                self.fits(facets, value, sure=sure) for facets in self._reading.alternatives(parts)
            )
        return self._allows[key]

    def fits(self, facets: Facets, value: Any, *, sure: bool) -> bool:
        """Say whether a value is within facets; formats are remarks here."""
        kind = type_of(value)
        if kind not in facets.types:
            return False
        if facets.values is not None and canonical(value) not in facets.value_keys:
            return False
        fits = True
        if kind == "boolean":
            fits = value in facets.booleans
        elif kind == "number":
            number = exact(value)
            fits = facets.number.allows(number) and not any(
                away.allows(number) for away in facets.not_numbers
            )
        elif kind == "string":
            fits = self._text_fits(facets, value, sure=sure)
        elif kind == "object":
            fits = self._object_fits(facets, value, sure=sure)
        elif kind == "array":
            fits = self._array_fits(facets, value, sure=sure)
        return fits and not any(
            self.allows(frozenset((node.positive(),)), value, sure=not sure) for node in facets.nots
        )

    def _text_fits(self, facets: Facets, value: str, *, sure: bool) -> bool:
        limits = facets.text
        if len(value) < limits.low or (limits.high is not None and len(value) > limits.high):
            return False
        if any(isinstance(away, frozenset) and value in away for away in facets.not_texts):
            return False
        return all(
            texts.matches(value, given, pointer, sure=sure) for given, pointer, _ in limits.patterns
        )

    def _object_fits(self, facets: Facets, value: dict[str, Any], *, sure: bool) -> bool:
        if not facets.low_properties <= len(value) or (
            facets.high_properties is not None and len(value) > facets.high_properties
        ):
            return False
        if any(name not in value for name in facets.required + facets.asked):
            return False
        for name, child in value.items():
            goal = self.property_goal(facets, name, sure=sure)
            if goal is None or not self.allows(goal, child, sure=sure):
                return False
        return True

    def _array_fits(self, facets: Facets, value: list[Any], *, sure: bool) -> bool:
        if len(value) < facets.low_items or (
            facets.high_items is not None and len(value) > facets.high_items
        ):
            return False
        if facets.unique and len({canonical(item) for item in value}) < len(value):
            return False
        return all(
            self.allows(self.item_goal(facets, place), item, sure=sure)
            for place, item in enumerate(value)
        )

    # --- parts of objects and arrays ---

    def property_goal(self, facets: Facets, name: str, *, sure: bool = True) -> Goal | None:
        """Return what a property must be, or None if there can be none of that name."""
        if name in facets.forbidden:
            return None
        for node in facets.names:
            if not self.allows(frozenset((node,)), name, sure=sure and not node.loose):
                return None
        found = {node for other, node in facets.not_properties if other == name}
        for layer in facets.layers:
            found |= _layer_goal(layer, name, sure=sure)
        for schema, node in facets.unseen_properties:
            layers = (layer for layer in facets.layers if schema in layer.scope)
            if not any(_speaks_of(layer, name) for layer in layers):
                found.add(node)
        return frozenset(found)

    def item_goal(self, facets: Facets, place: int) -> Goal:
        """Return what an item must be."""
        found = set()
        for layer in facets.arrays:
            if place < len(layer.first):
                found.add(layer.first[place])
            elif layer.rest is not None:
                found.add(layer.rest)
        for schema, node in facets.unseen_items:
            layers = (layer for layer in facets.arrays if schema in layer.scope)
            if not any(layer.rest is not None or place < len(layer.first) for layer in layers):
                found.add(node)
        return frozenset(found)

    # --- no value at all ---

    def void(self, goal: Goal, depth: int = 0) -> str | None:
        """Say why no value can satisfy a goal, or None if that is not sure."""
        if goal in self._void:
            return self._void[goal]
        if depth > _PROOF_DEPTH:
            return None
        self._void[goal] = None  # a goal inside itself is not void because of itself
        reason: str | None = "nothing is allowed here"
        for facets in self._reading.alternatives(goal):
            reason = self.void_facets(facets, depth)
            if reason is None:
                break
        self._void[goal] = reason
        return reason

    def apart(self, ours: Facets, theirs: Facets) -> bool:
        """Say whether a constant in them tells two alternatives apart, which is quickly seen.

        With hundreds of alternatives, each pair of them is asked about.
        """
        self._spend(1)
        kinds = ours.types & theirs.types
        if kinds != {"object"} or ours.values is not None or theirs.values is not None:
            return not kinds
        mine, other = self._constants_of(ours), self._constants_of(theirs)
        return any(
            name in mine and name in other and mine[name].isdisjoint(other[name])
            for name in (*ours.required, *ours.asked)
        )

    def _constants_of(self, facets: Facets) -> dict[str, frozenset[Any]]:
        """Return the names of which a schema lists the values, with these."""
        found = self._constants.get(facets)
        if found is None:
            found = self._constants[facets] = {}
            for layer in facets.layers:
                for name, node in layer.names.items():
                    ways = self._reading.alternatives(frozenset((node,)))
                    if all(way.values is not None for way in ways):
                        listed = frozenset().union(*(way.value_keys for way in ways))
                        found[name] = found.get(name, listed) & listed
        return found

    def _spend(self, cost: int) -> None:
        self._num_proofs += cost
        if self._num_proofs > MAX_PROOFS:
            raise unsupported(
                "",
                f"telling its alternatives apart takes more than {MAX_PROOFS:,} comparisons, which "
                "is the limit. Use fewer, or anyOf in place of oneOf.",
                limit=MAX_PROOFS,
            )

    def void_facets(self, facets: Facets, depth: int = 0) -> str | None:
        """Say why no value can satisfy facets, or None if that is not sure."""
        self._spend(1)
        if not facets.types:
            return "its types exclude each other"
        if facets.values is not None:
            left = [value for value in facets.values if self.fits(facets, value, sure=False)]
            return None if left else "none of its values is allowed"
        reason = None
        for kind in sorted(facets.types):
            reason = self.void_type(facets, kind, depth)
            if reason is None:
                return None
        return reason

    def void_type(self, facets: Facets, kind: str, depth: int = 0) -> str | None:
        """Say why no value of one type can satisfy facets, or None if that is not sure."""
        if facets.values is not None:
            left = any(
                type_of(value) == kind and self.fits(facets, value, sure=False)
                for value in facets.values
            )
            return None if left else "none of its values is allowed"
        if kind == "boolean" and not facets.booleans:
            return "neither true nor false is allowed"
        if kind == "number" and facets.number.is_impossible:
            return "there is no number within its bounds"
        if kind == "string":
            return self._void_text(facets)
        if kind == "object":
            return self._void_object(facets, depth)
        if kind == "array":
            return self._void_array(facets, depth)
        return None

    def _void_text(self, facets: Facets) -> str | None:
        limits = facets.text
        if limits.high is not None and limits.low > limits.high:
            return f"minLength {limits.low} is more than maxLength {limits.high}"
        if limits.patterns or any(not loose for _, _, loose in limits.formats):
            self._spend(_TEXT_PROOF)
            # Only whether there is one at all: the length as such would be counted state by state.
            found = texts.automaton(texts.unbounded(limits))
            longest = found.longest()
            if found.is_empty or (longest is not None and longest < limits.low):
                return "no text fits its patterns and formats"
        return None

    def _void_object(self, facets: Facets, depth: int) -> str | None:
        if (
            facets.high_properties is not None
            and max(facets.low_properties, len({*facets.required, *facets.asked}))
            > facets.high_properties
        ):
            return "it must have more properties than it may have"
        declared = set(facets.declared)
        strict = any(not layer.loose for layer in facets.layers) or bool(facets.required)
        for name in (*facets.required, *facets.asked):
            if strict and name not in declared and not facets.is_open_object:
                return f"the property {name!r} is required, and it is never written"
            goal = self.property_goal(facets, name)
            if goal is None:
                return f"the property {name!r} is required and not allowed"
            if (reason := self.void(goal, depth + 1)) is not None:
                return f"the property {name!r} is required, and for it {reason}"
        if strict and not facets.is_open_object and facets.low_properties > len(declared):
            return "it must have more properties than it names"
        return None

    def _void_array(self, facets: Facets, depth: int) -> str | None:
        if facets.high_items is not None and facets.low_items > facets.high_items:
            return f"minItems {facets.low_items} is more than maxItems {facets.high_items}"
        longest = max((len(layer.first) for layer in facets.arrays), default=0)
        for place in range(min(facets.low_items, longest + 1)):
            if (reason := self.void(self.item_goal(facets, place), depth + 1)) is not None:
                return f"item {place} is required, and for it {reason}"
        return None


def _speaks_of(layer: ObjectLayer, name: str) -> bool:
    """Say whether a layer surely applies to the property of a name."""
    return (
        name in layer.names
        or layer.additional is not None
        or any(texts.matches(name, given, where, sure=True) for given, where, _ in layer.patterns)
    )


def _layer_goal(layer: ObjectLayer, name: str, *, sure: bool) -> set[Node]:
    """Return what one layer asks of a property; a strict layer asks more where it is unsure."""
    careful = sure and not layer.loose
    found = set()
    known = name in layer.names
    if known:
        found.add(layer.names[name])
    for given, pointer, node in layer.patterns:
        if texts.matches(name, given, pointer, sure=not careful):
            found.add(node)
        known = known or texts.matches(name, given, pointer, sure=careful)
    if not known and layer.additional is not None:
        found.add(layer.additional)
    return found
