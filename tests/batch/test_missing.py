"""What counts as a missing cell, and what is said and done about it."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.batch.missing import (
    REFUSE,
    MissingCount,
    MissingRule,
    is_missing,
    missing_columns,
)
from gguf_widgets.core.errors import InvalidValueError

MISSING = [
    None,
    float("nan"),
    np.float32("nan"),
    np.array(np.nan),
    np.datetime64("NaT"),
    np.timedelta64("NaT"),
    np.ma.masked,
    pd.NA,
    pd.NaT,
    Decimal("NaN"),
    Decimal("sNaN"),
    complex("nan"),
]
THERE = [
    "",
    " ",
    "nan",
    "None",
    [],
    {},
    0,
    0.0,
    False,
    float("inf"),
    b"",
    np.array([np.nan]),
    [None],
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_holds_nothing_is_missing(value):
    assert is_missing(value) is True


@pytest.mark.parametrize("value", THERE, ids=repr)
def test_what_holds_something_is_not(value):
    assert is_missing(value) is False


@given(
    st.one_of(
        st.lists(st.none() | st.integers() | st.floats() | st.text() | st.booleans()),
        st.lists(st.floats()),
        st.lists(st.none() | st.text()),
    )
)
def test_a_column_has_the_gaps_that_pandas_sees_in_it(values):
    column = pd.Series(values)
    assert [is_missing(value) for value in column] == column.isna().tolist()


def test_asking_loads_neither_numpy_nor_pandas():
    program = (
        "import sys; from gguf_widgets.batch.missing import is_missing; "
        "assert is_missing(None) and not is_missing([1]); "
        "assert not {'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("value", ["refuse", "skip", "empty", {"with": ""}, {"with": "unknown"}])
def test_a_rule_can_be_kept_and_read_again(value):
    rule = MissingRule.parse(value)
    assert rule.to_json() == value
    assert MissingRule.parse(rule.to_json()) == MissingRule.parse(rule) == rule


def test_without_a_choice_nothing_is_filled_in():
    assert MissingRule.parse("refuse") == MissingRule() == REFUSE


@pytest.mark.parametrize("value", ["drop", "", None, {}, {"with": "a", "or": "b"}, 3, ["skip"]])
def test_any_other_rule_is_refused_with_the_choices(value):
    with pytest.raises(InvalidValueError, match=r'missing=.* "refuse".* "skip".* "empty".*with'):
        MissingRule.parse(value)


@pytest.mark.parametrize("text", [None, 3, float("nan")])
def test_what_is_written_instead_must_be_text(text):
    with pytest.raises(InvalidValueError, match="Put it into quotes"):
        MissingRule.parse({"with": text})


def test_only_the_columns_that_are_used_count():
    row = {"review": "good", "note": None, "score": float("nan")}
    assert missing_columns(row, ["review"]) == ()
    assert missing_columns(row, ["score", "review", "note"]) == ("score", "note")


def test_only_the_rule_skip_leaves_a_row_out_and_says_why():
    row = {"note": None, "score": pd.NA, "review": "x"}
    skip = MissingRule.parse("skip")
    assert skip.reason_to_skip(row, ["note"]) == 'no value in column "note"'
    assert skip.reason_to_skip(row, ["note", "score"]) == 'no value in columns "note", "score"'
    assert skip.reason_to_skip(row, ["review"]) is None
    assert MissingRule.parse("empty").reason_to_skip(row, ["note"]) is None


def count_of(rows, columns):
    count = MissingCount(columns)
    for number, row in enumerate(rows, 1):
        count.add(number, row)
    return count


def test_a_refusal_names_rows_columns_and_choices():
    rows = [{"a": None if n % 10 == 0 else n, "b": None if n == 30 else 1} for n in range(1, 201)]
    with pytest.raises(InvalidValueError) as caught:
        count_of(rows, ("a", "b", "c")).check(REFUSE)
    # "c" is in no row, so each of them lacks it.
    assert caught.value.details["num_missing"] == 200

    with pytest.raises(InvalidValueError) as caught:
        count_of(rows, ("a", "b")).check(REFUSE)
    assert caught.value.message == (
        '20 of 200 rows have no value in columns that the prompt uses: "a" (20 rows), "b" (1 row). '
        "The rows: 10, 20, 30, 40, 50 and 15 more. Say what to do with them: missing= "
        '"refuse" (do not begin), "skip" (leave such rows out), "empty" (write nothing in its '
        'place) or {"with": "unknown"} (write this text in its place); or fill them in the table '
        "first."
    )
    assert caught.value.details == {
        "num_missing": 20,
        "num_rows": 200,
        "by_column": {"a": 20, "b": 1},
        "first_rows": ["10", "20", "30", "40", "50"],
    }


def test_one_row_is_told_in_the_singular():
    with pytest.raises(InvalidValueError, match=r"^1 of 2 rows has no value in a column that .*"):
        count_of([{"a": 1}, {"a": None}], ("a",)).check(REFUSE)


@pytest.mark.parametrize("rule", ["skip", "empty", {"with": "x"}])
def test_whoever_chose_is_not_refused(rule):
    count_of([{"a": None}], ("a",)).check(MissingRule.parse(rule))


def test_a_table_without_gaps_is_not_refused():
    count = count_of([{"a": 1, "b": None}], ("a",))
    count.check(REFUSE)
    assert (count.num_rows, count.num_missing, count.by_column) == (1, 0, {})
