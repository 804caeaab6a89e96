"""The strings within limits, as automata.

Promises: `automaton` gives the strings that are written within limits, or that could possibly be
within them, for `loose` limits. A maximum that would make the automaton too large is lowered, never
raised: less is written then, and all of it is valid. Leaves to others: strings without a pattern,
format or exception, which need no automaton (`strings`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from gguf_widgets.core.engine.grammar import charset, formats, pattern, pattern_language
from gguf_widgets.core.engine.grammar.automaton import Automaton, build, words
from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.facets import TextLimits
from gguf_widgets.core.engine.grammar.limits import MAX_STATES

__all__ = ["Away", "automaton", "matches", "pattern_automaton", "unbounded"]

Away = TextLimits | frozenset[str]
"""Strings to keep away from: all within limits, or these."""


def matches(text: str, given: str, pointer: str, *, sure: bool) -> bool:
    """Say whether a text surely (or possibly) matches a pattern."""
    return pattern_automaton(given, pointer, sure=sure).accepts(text)


def unbounded(limits: TextLimits) -> TextLimits:
    """Return the same limits without a length."""
    return replace(limits, low=0, high=None)


@lru_cache(maxsize=32)
def automaton(limits: TextLimits, away: tuple[Away, ...] = ()) -> Automaton:
    """Return the strings within limits and outside others.

    Raises
    ------
    UnsupportedSchemaError
        If a pattern cannot be followed, or comes to too large an automaton.
    """
    where = _pointer(limits)
    make = Expressions()
    try:
        parts = [*_parts(make, limits), *(_outside(make, one) for one in away)]
        found = _built(make, make.both(parts))
        if limits.low or limits.high is not None:
            found = _cut(found, limits.low, limits.high)
    except TooLargeError:
        raise unsupported(
            where,
            f"it needs more than {MAX_STATES:,} states, which is the limit. Make the "
            f"pattern or its "
            "repetitions shorter, or leave minLength or maxLength out.",
            limit=MAX_STATES,
        ) from None
    return found


def _built(make: Expressions, wanted: Expression) -> Automaton:
    if wanted.kind == "leaf" and wanted.low == 0 and isinstance(wanted.steps, Automaton):
        return wanted.steps
    return build(make, wanted)


def _cut(found: Automaton, low: int, high: int | None) -> Automaton:
    longest = found.longest()
    if low == 0 and (high is None or (longest is not None and longest <= high)):
        return found
    if high is None or (longest is not None and longest <= high):
        return found.within(low, None)
    if high < low:
        return words(())
    try:
        return found.within(low, high)
    except TooLargeError:
        # Counting multiplies the states: count no further than there is room for.
        shorter = found.within(low, max(low, min(high, MAX_STATES // len(found.edges))))
        if shorter.is_empty:
            raise
        return shorter


def _outside(make: Expressions, away: Away) -> Expression:
    if isinstance(away, frozenset):
        return make.no(make.leaf(words(away)))
    length = make.loop(make.chars(charset.ANY), away.low, away.high)
    return make.no(make.both([*_parts(make, away), length]))


def _parts(make: Expressions, limits: TextLimits) -> Iterable[Expression]:
    for given, pointer, loose in limits.patterns:
        yield make.leaf(pattern_automaton(given, pointer, sure=not loose))
    for name, _, loose in limits.formats:
        found = None if loose else formats.automaton_of(name)
        longest = None if found is None else found.longest()
        if longest is not None and limits.high is not None and longest > limits.high:
            found = formats.automaton_of(name, counted=False)
        if found is not None:
            yield make.leaf(found)


def pattern_automaton(given: str, pointer: str, *, sure: bool) -> Automaton:
    """Return the texts that surely (or possibly) match a pattern.

    Raises
    ------
    UnsupportedSchemaError
    """
    try:
        return _pattern_automaton(given, sure)
    except pattern.PatternError as error:
        raise unsupported(
            pointer,
            f"the pattern {given[:200]!r} cannot be followed: {error}.",
            pattern=given[:200],
        ) from None
    except TooLargeError:
        raise unsupported(
            pointer,
            f"the pattern {given[:200]!r} needs more than {MAX_STATES:,} states, which is the "
            "limit. Make its repetitions shorter.",
            limit=MAX_STATES,
        ) from None


@lru_cache(maxsize=64)
def _pattern_automaton(given: str, sure: bool) -> Automaton:
    make = Expressions()
    return build(make, pattern_language.matching(make, pattern.parse(given), sure=sure))


def _pointer(limits: TextLimits) -> str:
    uses = (*limits.patterns, *limits.formats)
    return uses[0][1] if uses else ""
