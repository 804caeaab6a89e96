"""A grammar as llama.cpp follows it: all readings of a text at once, each a stack of places.

Promises: `Machine` opens the rules on top of a stack as llama.cpp's `advance_stack` does, joins
equal stacks, and counts in how many ways each is come to, because llama.cpp joins them only after a
whole token. A stack that would be opened without end, or nearly, stops with `TooManyError`. Leaves
to others: what is too many (`ambiguity`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.gbnf import Grammar, Kind

__all__ = ["Machine", "Readings", "TooManyError"]

Readings = Counter[int]
"""Stacks, and in how many ways each is come to."""

# From one stack, so many others may be opened before a character is read.
_MOST_OPENED = 20_000


class TooManyError(Exception):
    """Opening the rules of one stack comes to too many."""

    def __init__(self, stacks: Iterable[int]) -> None:
        super().__init__()
        self.stacks = stacks


class Machine:
    """Stacks of places, each made once: a stack is a number, 0 the empty one.

    Attributes
    ----------
    elements : list of Element
        All elements of all rules; a place is a number here.
    work : int
        Steps done so far.
    """

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.elements = [
            element for rule in grammar.rules for way in rule.alternatives or () for element in way
        ]
        self.work = 0
        self._is_last: list[bool] = []
        self._starts: list[list[int]] = []
        for rule in grammar.rules:
            starts = []
            for way in rule.alternatives or ():
                starts.append(len(self._is_last) if way else -1)
                self._is_last += [place == len(way) - 1 for place in range(len(way))]
            self._starts.append(starts)
        self._stacks: list[tuple[int, int]] = [(-1, 0)]  # the place on top, and the stack below
        self._numbers: dict[tuple[int, int], int] = {}
        self._opened: dict[int, tuple[int, ...]] = {}

    def begin(self, rule: int) -> Readings:
        """Return the readings of the empty text at the beginning of a rule, each once."""
        found: Readings = Counter()
        for start in self._starts[rule]:
            found.update(dict.fromkeys(self._open(0 if start < 0 else self._push(start, 0)), 1))
        return found

    def after(self, readings: Readings, char: int) -> Readings:
        """Return the readings after one more character."""
        found: Readings = Counter()
        for stack, times in readings.items():
            self.work += 1
            place, below = self._stacks[stack]
            if place >= 0 and charset.contains(self.elements[place].charset, char):
                rest = below if self._is_last[place] else self._push(place + 1, below)
                for one in self._open(rest):
                    found[one] += times
                    self.work += 1
        return found

    def going_on(self, readings: Readings) -> Counter[Charset]:
        """Return with which characters the readings can go on, and how many of them."""
        found: Counter[Charset] = Counter()
        for stack, times in readings.items():
            place = self._stacks[stack][0]
            if place >= 0 and self.elements[place].kind is Kind.CHAR:
                found[self.elements[place].charset] += times
        return found

    def usual_place(self, stacks: Iterable[int]) -> int:
        """Return where in the grammar's text the rule is in which most of the stacks stand."""
        ((element, _),) = Counter(self._stacks[stack][0] for stack in stacks).most_common(1)
        for rule in self.grammar.rules:
            element -= sum(map(len, rule.alternatives or ()))
            if element < 0:
                return rule.place
        return 0

    def _open(self, stack: int) -> tuple[int, ...]:
        """Return the stacks that this one comes to when the rules on its top are opened."""
        known = self._opened.get(stack)
        if known is not None:
            return known
        found: dict[int, None] = {}
        seen: set[int] = set()
        waiting = [stack]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            if len(seen) > _MOST_OPENED:
                raise TooManyError(seen)
            self.work += 1
            place, below = self._stacks[one]
            if place < 0 or self.elements[place].kind is not Kind.RULE:
                found[one] = None
                continue
            rest = below if self._is_last[place] else self._push(place + 1, below)
            waiting += [
                rest if start < 0 else self._push(start, rest)
                for start in self._starts[self.elements[place].rule]
            ]
        self._opened[stack] = tuple(found)
        return self._opened[stack]

    def _push(self, place: int, below: int) -> int:
        number = self._numbers.get((place, below))
        if number is None:
            number = self._numbers[place, below] = len(self._stacks)
            self._stacks.append((place, below))
        return number
