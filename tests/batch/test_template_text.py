"""How a cell's value is written into a prompt."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.batch.template_text import NoTextError, plain, text_of


class Colour(enum.Enum):
    RED = "red"


class Quiet:
    pass


TEXTS = [
    ("héllo 🙂 שלום", "héllo 🙂 שלום"),
    ("", ""),
    (np.str_("x"), "x"),
    (True, "True"),
    (np.bool_(False), "False"),
    (3, "3"),
    (np.int8(-3), "-3"),
    (3.0, "3"),
    (-0.0, "0"),
    (0.1, "0.1"),
    (np.float32(0.1), "0.1"),
    (np.float16(0.1), "0.1"),
    (np.float64(2.5), "2.5"),
    (1e15, "1000000000000000"),
    (1e16, "1e+16"),
    (1e-7, "1e-07"),
    (float("inf"), "inf"),
    (Decimal("3.10"), "3.10"),
    (Colour.RED, "red"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (dt.date(2026, 3, 1), "2026-03-01"),
    (dt.datetime(2026, 3, 1, 14, 30), "2026-03-01 14:30:00"),  # noqa: DTZ001 - as tables have it
    (dt.time(14, 30), "14:30:00"),
    (dt.timedelta(days=1, hours=2), "1 day, 2:00:00"),
    (pd.Timestamp("2026-03-01"), "2026-03-01"),
    (pd.Timestamp("2026-03-01 14:30"), "2026-03-01 14:30:00"),
    (pd.Timestamp("2026-03-01", tz="UTC"), "2026-03-01 00:00:00+00:00"),
    (pd.Timestamp("2026-03-01 00:00:00.000000001"), "2026-03-01 00:00:00.000000001"),
    (pd.Timedelta("1 day 2 h"), "1 day, 2:00:00"),
    (np.datetime64("2026-03-01T14:30:00"), "2026-03-01 14:30:00"),
    (np.datetime64("2026-03-01"), "2026-03-01"),
    (pd.Period("2026-03"), "2026-03"),
    (["a", 2.0, None, float("nan"), True], '["a", 2, null, null, true]'),
    (("a", Decimal("1.5"), dt.date(2026, 3, 1)), '["a", 1.5, "2026-03-01"]'),
    ({"naïve": {"x": [1]}, 2: "b"}, '{"naïve": {"x": [1]}, "2": "b"}'),
    ({3, 1, 2}, "[1, 2, 3]"),
    (np.array([1.0, np.nan, 2.5]), "[1, null, 2.5]"),
    (np.array([0.1], dtype="float32"), "[0.1]"),
    (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
    (np.array(7), "7"),
    (np.array(["2026-03-01"], dtype="datetime64[ns]"), '["2026-03-01"]'),
    (pd.Series([1, 2]), "[1, 2]"),
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=lambda value: repr(value)[:40])
def test_a_value_has_one_text(value, text):
    assert text_of(value) == text


def test_a_gap_in_a_column_changes_none_of_the_other_texts():
    whole = pd.Series([1, 2, 3])
    with_a_gap = pd.Series([1, 2, None, 3]).dropna()
    assert whole.dtype != with_a_gap.dtype
    assert [text_of(value) for value in whole] == [text_of(value) for value in with_a_gap]


@given(st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_itself(number):
    assert float(text_of(number)) == number
    assert text_of(np.float64(number)) == text_of(float(number))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(JSON) | st.dictionaries(st.text(), JSON))
def test_lists_and_dicts_are_json(value):
    assert json.loads(text_of(value)) == value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"\x00\x01", r"bytes \(2\), not text. Turn it into text first"),
        (bytearray(b"x"), "image column"),
        (np.bytes_(b"x"), "bytes"),
        ([1, b"x"], "bytes"),
        (Quiet(), "type Quiet, which has no text of its own"),
        (len, "no text of its own"),
        (Quiet, "no text of its own"),
        (pd.DataFrame({"a": [1]}), "type DataFrame"),
        (10**2000, "more than a thousand digits"),
        (Decimal("1E+999999999"), "more than a thousand digits"),
        ([0] * 1_000_001, "more than 1,000,000 values"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_has_no_text_is_refused_with_the_reason(value, words):
    with pytest.raises(NoTextError, match=words):
        text_of(value)


def test_a_list_that_holds_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(NoTextError, match="a list that holds itself"):
        text_of(endless)


def test_what_a_template_gets_has_few_types_whatever_the_cell_held():
    cell = {
        "n": np.int64(3),
        "x": np.float32(0.1),
        "t": (np.str_("a"), Colour.RED),
        "array": np.array([1.5, np.nan]),
        Decimal("1.5"): pd.NA,
    }
    assert plain(cell) == {
        "n": 3,
        "x": 0.1,
        "t": ["a", "red"],
        "array": [1.5, None],
        "1.5": None,
    }
    assert {type(value) for value in plain(cell).values()} == {int, float, list, type(None)}
