"""Keeping away from what a value must not be: `not`, the other alternatives of oneOf, `if`.

Promises: `Avoiding.narrowed` returns facets for which everything that is written is surely outside
all their `nots`, by showing that nothing can be in both, or by writing less: a type less, numbers
or strings cut out, an object that always has (or never has) a certain property. Where none of these
does it, the schema is refused with the part in question. Leaves to others: single values, which are
just tried (`judge`).
"""

from __future__ import annotations

from dataclasses import replace

from gguf_widgets.core.engine.grammar.document import Node, shown, unsupported
from gguf_widgets.core.engine.grammar.expand import Reading
from gguf_widgets.core.engine.grammar.facets import Facets
from gguf_widgets.core.engine.grammar.judge import Judge, type_of
from gguf_widgets.core.engine.grammar.numbers import NumberLimits, exact

__all__ = ["Avoiding"]


class Avoiding:
    """Narrows facets of one schema."""

    def __init__(self, reading: Reading, judge: Judge) -> None:
        self._reading = reading
        self._judge = judge

    def narrowed(self, facets: Facets) -> Facets:
        """Return facets of which everything that is written keeps away from their `nots`.

        Raises
        ------
        UnsupportedSchemaError
        """
        for node in facets.nots:
            unwanted = self._reading.alternatives(frozenset((node.positive().loosely(),)))
            for one in unwanted:
                facets = self._without(facets, one, node)
        return facets

    def _without(self, facets: Facets, unwanted: Facets, node: Node) -> Facets:
        if self._judge.apart(facets, unwanted):
            return facets
        for kind in sorted(facets.types):
            # Without the nots themselves, by which everything that is unwanted would seem to be
            # out.
            joint = replace(facets, nots=()).joined(unwanted)
            if kind not in joint.types or self._judge.void_type(joint, kind) is not None:
                continue
            facets = self._without_type(facets, unwanted, kind, node)
        return facets

    def _without_type(self, facets: Facets, unwanted: Facets, kind: str, node: Node) -> Facets:
        values = unwanted.values
        if kind == "null":
            return facets.without("null")
        if kind == "boolean":
            return self._without_booleans(facets, unwanted)
        if kind == "number":
            if values is None and unwanted.number.is_open:
                return facets.without("number")
            away: tuple[NumberLimits, ...] = (unwanted.number,)
            if values is not None:
                numbers = [exact(value) for value in values if type_of(value) == "number"]
                away = tuple(NumberLimits(low=number, high=number) for number in numbers)
            return replace(facets, not_numbers=facets.not_numbers + away)
        if kind == "string":
            if values is not None:
                listed = frozenset(value for value in values if isinstance(value, str))
                return replace(facets, not_texts=(*facets.not_texts, listed))
            if unwanted.text.formats:
                raise self._error(node, "what fits a format cannot be told from what does not")
            if unwanted.text.is_open:
                return facets.without("string")
            return replace(facets, not_texts=(*facets.not_texts, unwanted.text))
        if values is None and _says_nothing(unwanted, kind):
            return facets.without(kind)
        narrowed = self._without_objects(facets, unwanted) if kind == "object" else None
        if narrowed is None:
            raise self._error(node, f"{kind}s that fit it cannot be told from those that do not")
        return narrowed

    def _without_booleans(self, facets: Facets, unwanted: Facets) -> Facets:
        left = frozenset(
            value for value in facets.booleans if not self._judge.fits(unwanted, value, sure=False)
        )
        return replace(facets, booleans=left)

    def _without_objects(self, facets: Facets, unwanted: Facets) -> Facets | None:
        """Make one property decide, if there is one that can."""
        told: list[tuple[str, Node]] = []
        for name in facets.declared:
            ours = self._judge.property_goal(facets, name)
            theirs = self._judge.property_goal(unwanted, name, sure=False)
            if ours is None:
                continue
            if theirs is None or (theirs and self._judge.void(ours | theirs) is not None):
                # No value is right for both where it is present: it has to be there.
                return _requiring(facets, name)
            told += [(name, node) for node in theirs if len(theirs) == 1 and not node.negated]
        for name in unwanted.asked:
            if name not in facets.required:
                return replace(facets, forbidden=facets.forbidden | {name})
        for name, node in told:
            away = (name, replace(node, negated=True).strictly())
            facets = replace(facets, not_properties=(*facets.not_properties, away))
            return _requiring(facets, name)
        return None

    def _error(self, node: Node, why: str) -> Exception:
        return unsupported(
            node.pointer,
            f"a value must not be valid against this part ({shown(node.pointer)}), and {why}. "
            "For oneOf, give the alternatives a property with a different constant in each, or use "
            "anyOf.",
        )


def _requiring(facets: Facets, name: str) -> Facets:
    return replace(facets, required=tuple(dict.fromkeys((*facets.required, name))))


def _says_nothing(unwanted: Facets, kind: str) -> bool:
    """Say whether every value of a type fits."""
    if kind == "object":
        return not (
            unwanted.layers
            or unwanted.asked
            or unwanted.forbidden
            or unwanted.names
            or unwanted.low_properties
            or unwanted.high_properties is not None
        )
    return not (
        unwanted.arrays or unwanted.low_items or unwanted.high_items is not None or unwanted.unique
    )
