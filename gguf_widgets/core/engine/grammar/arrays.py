"""The items of an array: what each must be, and how many.

Promises: items are counted exactly. Where only the first items are described and nothing is said
about the rest, there is no rest. Items that must differ are written only if all they can be is
known (an enum, for example), in the order in which it is listed. Leaves to others: the items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.engine.grammar.expand import Goal
from gguf_widgets.core.engine.grammar.facets import Facets
from gguf_widgets.core.engine.grammar.judge import Judge
from gguf_widgets.core.engine.grammar.limits import MAX_REPEATS
from gguf_widgets.core.engine.grammar.rules import Ref, Symbol, Text
from gguf_widgets.core.engine.grammar.sequences import State, Step
from gguf_widgets.core.engine.grammar.writing import Writer

__all__ = ["ArrayPlan", "DifferentPlan", "bounds", "repeated", "uniform_goal"]

# Beyond this, items are counted in blocks (`repeated`), or not at all.
_COUNTED = 300


def bounds(facets: Facets, pointer: str) -> tuple[int, int | None]:
    """Return how many items are written.

    Raises
    ------
    UnsupportedSchemaError
        For a minimum beyond the limit.
    """
    low, high = facets.low_items, facets.high_items
    if low > MAX_REPEATS:
        raise unsupported(
            f"{pointer}/minItems",
            f"at least {low:,} items; {MAX_REPEATS:,} is the limit.",
            limit=MAX_REPEATS,
        )
    described = _num_described(facets)
    if described and not any(layer.rest for layer in facets.arrays):
        high = max(described, low) if high is None else min(high, max(described, low))
    return low, high if high is None else min(high, MAX_REPEATS)


def uniform_goal(facets: Facets, judge: Judge) -> Goal | None:
    """Return what every item must be, or None if that depends on its place."""
    return None if _num_described(facets) else judge.item_goal(facets, 0)


def repeated(writer: Writer, item: Ref, low: int, high: int | None) -> Ref:
    """Return a rule for an array of items that are all alike."""
    rules = writer.rules
    more = rules.add("item", [(Text(","), writer.space, item)])
    ways = []
    if high is None or high > 0:
        rest = rules.repeated(more, max(low - 1, 0), None if high is None else high - 1)
        ways.append((item, *rest, writer.space, Text("]")))
    if low == 0:
        ways.append((Text("]"),))
    return rules.add("array", [(Text("["), writer.space, rules.add("items", ways))])


def _num_described(facets: Facets) -> int:
    return max((len(layer.first) for layer in facets.arrays), default=0)


class ArrayPlan:
    """The steps through an array; a state is how many items there are, as far as it matters."""

    start: State = (0,)

    def __init__(
        self, facets: Facets, judge: Judge, value: Callable[[Goal], Ref], pointer: str
    ) -> None:
        self._low, self._high = bounds(facets, pointer)
        described = _num_described(facets)
        self._last = max(described, self._low, self._high or 0)
        if self._last > _COUNTED + described:
            if max(described, self._low) > _COUNTED:
                raise unsupported(
                    pointer,
                    f"counting {self._last:,} items, and telling this array from others by "
                    f"them, is "
                    f"beyond the limit of {_COUNTED}.",
                    limit=_COUNTED,
                )
            self._high = self._last = _COUNTED
        self._values = [value(judge.item_goal(facets, place)) for place in range(described + 1)]

    def steps(self, state: State) -> tuple[list[Step], bool]:
        """See `sequences.Plan`."""
        (place,) = state
        found = []
        if self._high is None or place < self._high:
            value = self._values[min(place, len(self._values) - 1)]
            found.append(Step((), value, (min(place + 1, self._last),)))
        return found, place >= self._low


class DifferentPlan:
    """The steps through an array of different items; a state is the place in their list."""

    start: State = (0, 0)

    def __init__(self, items: Sequence[Symbol], low: int, high: int | None) -> None:
        self._items = items
        self._low = low
        self._high = len(items) if high is None else high

    def steps(self, state: State) -> tuple[list[Step], bool]:
        """See `sequences.Plan`."""
        place, count = state
        found = []
        if count < self._high:
            found = [
                Step((), self._items[number], (number + 1, count + 1))
                for number in range(place, len(self._items))
            ]
        return found, count >= self._low
