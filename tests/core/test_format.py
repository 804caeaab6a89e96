"""Numbers read the same everywhere, at every size, and never fail."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core import format as fmt

any_number = st.floats(allow_nan=True, allow_infinity=True)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(fmt).failed == 0


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (999_499, "999 KB"),
        (999_500, "1 MB"),
        (99_940_000, "99.9 MB"),
        (99_960_000, "100 MB"),
        (10**15, "1 PB"),
    ],
)
def test_sizes_change_unit_where_rounding_does(num_bytes: int, text: str) -> None:
    assert fmt.format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (86_399.9, "1 d"),
        (-2, "-2.0 s"),
    ],
)
def test_times_change_unit_where_rounding_does(seconds: float, text: str) -> None:
    assert fmt.format_duration(seconds) == text


@given(any_number)
def test_every_number_gets_a_short_text(value: float) -> None:
    for text in (fmt.format_bytes(value), fmt.format_count(value), fmt.format_duration(value)):
        assert text
        if not math.isfinite(value):
            assert text == "unknown"
        elif abs(value) < 1e12:
            assert len(text) <= 16


@given(st.text(), st.integers(2, 100))
def test_text_from_outside_is_one_short_printable_line(text: str, limit: int) -> None:
    shown = fmt.plain_text(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
