"""The properties of an object: which, in which order, how many.

Promises: properties stand in the order in which the schema names them, those that are not required
may be left out, and others come last. No name comes twice where that could matter: names that a
schema names are never written as others, and of the others only one counts towards minProperties,
because two of them might be the same. Leaves to others: the values (`compile`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.engine.grammar.expand import Goal
from gguf_widgets.core.engine.grammar.facets import Facets
from gguf_widgets.core.engine.grammar.judge import Judge
from gguf_widgets.core.engine.grammar.rules import Alternative, Ref, Text
from gguf_widgets.core.engine.grammar.sequences import State, Step
from gguf_widgets.core.engine.grammar.writing import json_text

__all__ = ["ObjectPlan", "Region", "label_of", "regions"]

_MOST_PATTERNS = 4
# With a maximum, the properties are counted; so many may come besides those that are named.
_MOST_OTHERS = 100


@dataclass(frozen=True)
class Region:
    """Names that no schema names, and what their values must be.

    Attributes
    ----------
    inside, outside : tuple of (str, str)
        Patterns, with their pointers, that the names match, and that they do not.
    goal : Goal
    """

    inside: tuple[tuple[str, str], ...]
    outside: tuple[tuple[str, str], ...]
    goal: Goal


def regions(facets: Facets, pointer: str) -> Iterator[Region]:
    """Yield the kinds of names that an object may have besides those that are named.

    Raises
    ------
    UnsupportedSchemaError
        For too many patterns at once.
    """
    if not facets.is_open_object:
        return
    patterns = tuple(
        dict.fromkeys(
            (given, where) for layer in facets.layers for given, where, _ in layer.patterns
        )
    )
    if len(patterns) > _MOST_PATTERNS:
        raise unsupported(
            f"{pointer}/patternProperties",
            f"{len(patterns)} patterns for names at once; {_MOST_PATTERNS} is the limit.",
            limit=_MOST_PATTERNS,
        )
    for inside in chain.from_iterable(
        combinations(patterns, count) for count in range(len(patterns) + 1)
    ):
        goal = set()
        for layer in facets.layers:
            matched = [node for given, where, node in layer.patterns if (given, where) in inside]
            goal.update(matched)
            if not matched and layer.additional is not None:
                goal.add(layer.additional)
        for schema, node in facets.unseen_properties:
            if not any(
                schema in layer.scope
                and (
                    layer.additional is not None
                    or any((given, where) in inside for given, where, _ in layer.patterns)
                )
                for layer in facets.layers
            ):
                goal.add(node)
        yield Region(inside, tuple(one for one in patterns if one not in inside), frozenset(goal))


def label_of(name: str) -> Alternative:
    """Return a property's name as it is written."""
    return (Text(json_text(name) + ":"),)


class ObjectPlan:
    """The steps through one object; a state is a place, and what has been counted.

    Parameters
    ----------
    facets : Facets
    judge : Judge
    value : callable
        Returns the rule for a goal.
    others : sequence of (Ref, Goal)
        The rules for names that are not named, and what their values must be.
    """

    start: State = (0, 0, 0, 0)

    def __init__(
        self,
        facets: Facets,
        judge: Judge,
        value: Callable[[Goal], Ref],
        others: Sequence[tuple[Ref, Goal]],
    ) -> None:
        self._named: list[tuple[Alternative, Ref, bool]] = []
        for name in facets.declared:
            goal = judge.property_goal(facets, name)
            if goal is not None:
                self._named.append((label_of(name), value(goal), name in facets.required))
        self._others = [((key,), value(goal)) for key, goal in others]
        self._low = facets.low_properties
        self._high = facets.high_properties
        if self._high is not None:
            self._high = min(self._high, len(self._named) + _MOST_OTHERS * bool(others))
        # From here on everything that is named may be left out.
        self._last_required = max(
            (place for place, (_, _, required) in enumerate(self._named) if required), default=-1
        )

    @property
    def most_different(self) -> int:
        """How many properties can be had that are surely different."""
        return len(self._named) + bool(self._others)

    def steps(self, state: State) -> tuple[list[Step], bool]:
        """See `sequences.Plan`."""
        place, low, high, other = state
        found = []
        if self._high is None or high < self._high:
            for number in range(place, len(self._named)):
                label, value, required = self._named[number]
                following = (number + 1, self._counted(low), self._raised(high), other)
                found.append(Step(label, value, following))
                if required:
                    break
            if place > self._last_required:
                counted = low if other else self._counted(low)
                following = (len(self._named), counted, self._raised(high), 1)
                found += [Step(label, value, following) for label, value in self._others]
        return found, place > self._last_required and low >= self._low

    def _counted(self, low: int) -> int:
        return min(low + 1, self._low)

    def _raised(self, high: int) -> int:
        return 0 if self._high is None else high + 1
