"""What is written for strings and for numbers, all alternatives of a place together.

Promises: alternatives become one automaton where that is possible, so that llama.cpp follows one
reading of a text and not one for each of them. Leaves to others: how automata become rules
(`writing`), the languages themselves (`texts`, `numbers`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gguf_widgets.core.engine.grammar import charset, numbers, texts
from gguf_widgets.core.engine.grammar.automaton import Automaton, build, words
from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.facets import TextLimits
from gguf_widgets.core.engine.grammar.limits import MAX_REPEATS, MAX_STATES
from gguf_widgets.core.engine.grammar.numbers import NumberLimits
from gguf_widgets.core.engine.grammar.rules import Ref
from gguf_widgets.core.engine.grammar.writing import Writer

__all__ = ["Numbers", "Strings", "number_ways", "string_ways"]

# Longer counts stay counts; as automata they would need a state for each character.
_COUNTED = 300


@dataclass(frozen=True)
class Strings:
    """One alternative for strings: limits, what to keep away from, and where they stand."""

    limits: TextLimits
    away: tuple[texts.Away, ...]
    pointer: str

    @property
    def is_count(self) -> bool:
        """Whether only the length matters."""
        return not (self.limits.patterns or self.limits.formats or self.away)


@dataclass(frozen=True)
class Numbers:
    """One alternative for numbers: limits, what to keep away from, and where they stand."""

    limits: NumberLimits
    away: tuple[NumberLimits, ...]
    pointer: str


def string_ways(writer: Writer, ways: Sequence[Strings], listed: Sequence[str]) -> list[Ref]:
    """Return rules for strings of any of these alternatives, or among those that are listed."""
    for way in ways:
        if way.limits.low > MAX_REPEATS:
            raise unsupported(
                way.pointer,
                f"a string of at least {way.limits.low:,} characters; {MAX_REPEATS:,} is the "
                f"limit.",
                limit=MAX_REPEATS,
            )
    if any(way.is_count and way.limits.is_open for way in ways):
        return [writer.string]
    counts = _merged([way.limits for way in ways if way.is_count])
    automata = [texts.automaton(way.limits, way.away) for way in ways if not way.is_count]
    if listed:
        automata.append(words(listed))
    automata = [one for one in automata if not one.is_empty]
    if not automata:
        return [writer.counted_string(low, high) for low, high in counts]
    short = [(low, high) for low, high in counts if (high or low) <= _COUNTED]
    try:
        joined = [_union(automata, short)]
    except TooLargeError:
        joined, short = automata, []
    return [
        *(writer.string_of(one, "string") for one in joined),
        *(writer.counted_string(*count) for count in counts if count not in short),
    ]


def _merged(limits: Sequence[TextLimits]) -> list[tuple[int, int | None]]:
    """Join lengths that overlap or touch."""
    found: list[tuple[int, int | None]] = []
    for low, high in sorted(((one.low, one.high) for one in limits), key=lambda one: one[0]):
        if high is not None and high < low:
            continue
        if found and ((last := found[-1][1]) is None or low <= last + 1):
            longest = None if last is None or high is None else max(last, high)
            found[-1] = (found[-1][0], longest)
        else:
            found.append((low, high))
    return found


def _union(automata: Sequence[Automaton], counts: Sequence[tuple[int, int | None]]) -> Automaton:
    if len(automata) == 1 and not counts:
        return automata[0]
    make = Expressions()
    any_char = make.chars(charset.ANY)
    parts = [make.leaf(one) for one in automata]
    parts += [make.loop(any_char, low, high) for low, high in counts]
    return build(make, make.either(parts))


def number_ways(writer: Writer, ways: Sequence[Numbers], listed: Sequence[str]) -> list[Ref]:
    """Return rules for numbers of any of these alternatives, or among those that are listed."""
    hint = "integer" if ways and all(way.limits.step == 1 for way in ways) else "number"
    automata = [_number_automaton(way) for way in ways]
    if listed:
        automata.append(words(listed))
    automata = [one for one in automata if not one.is_empty]
    if not automata:
        return []
    # Otherwise they are followed side by side, which is slower and just as right.
    with contextlib.suppress(TooLargeError):
        automata = [_union(automata, ())]
    return [writer.text_of(one, hint) for one in automata]


def _number_automaton(way: Numbers) -> Automaton:
    try:
        return _written(way.limits, way.away)
    except TooLargeError:
        raise unsupported(
            way.pointer,
            "its bounds or multipleOf have too many digits to be followed one by one"
            f" (more than {MAX_STATES:,} states).",
            limit=MAX_STATES,
        ) from None


@lru_cache(maxsize=64)
def _written(limits: NumberLimits, away: tuple[NumberLimits, ...]) -> Automaton:
    make = Expressions()
    parts: list[Expression] = [numbers.written(make, limits)]
    if away and limits.is_open:
        # 5, 5.0 and 5e0 are the same number: without exponents they can be told apart.
        wide = NumberLimits(low=numbers.exact(-(10**15)), high=numbers.exact(10**15))
        parts = [numbers.written(make, wide)]
    parts += [make.no(numbers.written_widely(make, one)) for one in away]
    return build(make, make.both(parts))
