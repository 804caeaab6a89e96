"""Numbers within bounds: no text of another number, and a text for each number that has one."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.core.engine.grammar.automaton import Automaton, build
from gguf_widgets.core.engine.grammar.expression import Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.numbers import NumberLimits, written, written_widely

BOUNDS = [
    "0",
    "1",
    "-1",
    "5",
    "-17",
    "3.5",
    "-2.25",
    "0.1",
    "100",
    "-100",
    "0.001",
    "59.99",
    "1e20",
]
STEPS = [
    "1",
    "2",
    "3",
    "5",
    "7",
    "10",
    "60",
    "0.5",
    "0.25",
    "0.1",
    "0.01",
    "0.05",
    "1.5",
    "1000",
    "12",
]
FRACTIONS = ["", ".0", ".5", ".25", ".1", ".01", ".10", ".99", ".05", ".001"]
TEXTS = [f"{sign}{whole}{tail}" for sign in ("", "-") for whole in range(125) for tail in FRACTIONS]
TEXTS += ["00", "1e5", "999999999999999999", "1234567890123456789", "0.00000000000001", "-01", "1."]
SHAPE = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")

BOUND = st.one_of(st.none(), st.sampled_from(BOUNDS).map(Decimal))
LIMITS = st.builds(
    lambda low, low_open, high, high_open, step: NumberLimits(
        low, low is not None and low_open, high, high is not None and high_open, step
    ),
    BOUND,
    st.booleans(),
    BOUND,
    st.booleans(),
    st.one_of(st.none(), st.sampled_from(STEPS).map(Decimal)),
)  # fmt: skip


def automaton(limits: NumberLimits, language=written) -> Automaton:
    make = Expressions()
    return build(make, language(make, limits))


def places(text: str) -> int:
    return len(text.partition(".")[2])


@settings(max_examples=100)
@given(LIMITS)
def test_what_is_written_is_within_the_limits_and_what_is_within_can_be_written(limits) -> None:
    if limits.is_open:
        return
    found = automaton(limits)
    step_places = None if limits.step is None else max(0, -int(limits.step.as_tuple().exponent))
    for text in TEXTS:
        number = Decimal(text) if SHAPE.fullmatch(text) else None
        is_within = number is not None and limits.allows(number)
        if found.accepts(text):
            assert is_within, text
        elif is_within and not (number == 0 and text.startswith("-")):
            # Whole numbers have no point, others up to 15 digits, multiples the places of the step.
            digits = len(text.lstrip("-").replace(".", ""))
            most = 18 if limits.step is not None and not step_places else 15
            assert digits > most or (step_places is not None and places(text) > step_places), text
    assert found.is_empty == limits.is_impossible


@settings(max_examples=40)
@given(LIMITS)
def test_keeping_away_meets_every_way_to_write_a_number(limits) -> None:
    if limits.step == 1000:
        return  # each remainder of 0.1 would be a state
    found = automaton(limits, written_widely)
    for text in TEXTS:
        if SHAPE.fullmatch(text) and not (Decimal(text) == 0 and text.startswith("-")):
            assert found.accepts(text) == limits.allows(Decimal(text)), text


@settings(max_examples=60)
@given(LIMITS, LIMITS)
def test_limits_joined_allow_what_both_allow(one: NumberLimits, other: NumberLimits) -> None:
    joined = one.joined(other)
    for text in TEXTS[::7]:
        if SHAPE.fullmatch(text):
            number = Decimal(text)
            assert joined.allows(number) == (one.allows(number) and other.allows(number))


def test_the_ends_of_large_bounds_are_exact() -> None:
    ends = NumberLimits(Decimal(-(2**63)), False, Decimal(2**64), True, Decimal(1))
    found = automaton(ends)
    for number in (-(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 2**63, 0, 10**18, 99 * 10**18):
        assert found.accepts(str(number)) == ends.allows(Decimal(number)), number


def test_what_floating_point_cannot_tell_apart_is_not_written() -> None:
    # Text that reads as exactly the bound, once it is a double, is not "greater than" it.
    found = automaton(NumberLimits(low=Decimal("0.1"), low_open=True, high=Decimal(1)))
    assert not found.accepts("0.10000000000000001")
    assert found.accepts("0.10000000000001")
    assert float("0.10000000000001") > 0.1


def test_a_step_that_needs_too_many_remainders_is_too_large() -> None:
    assert automaton(NumberLimits(step=Decimal(1_000_000))).accepts("3000000")
    with pytest.raises(TooLargeError):
        automaton(NumberLimits(step=Decimal(123_457)))
