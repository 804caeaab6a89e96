"""A table's rows survive the store: values, types, names and index."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.batch.files import Pasted, read
from gguf_widgets.batch.table_rows import Table, decoded, encoded, frame_of, row_of
from gguf_widgets.core.errors import InvalidValueError, RowError, TableFileError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(st.characters()),  # half characters, too
    st.binary(max_size=20),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.times(),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def through(frame: pd.DataFrame) -> pd.DataFrame:
    table = Table.of(frame)
    kept = json.loads(json.dumps(table.columns, allow_nan=False))
    rows = [json.dumps(json.loads(row)) for row in table.as_json()]
    back: pd.DataFrame = frame_of(kept, rows)
    return back


@given(NESTED)
def test_any_value_is_read_as_it_was_kept(value: Any) -> None:
    text = json.dumps(encoded(value), allow_nan=False)
    assert decoded(json.loads(text)) == value


@given(st.dictionaries(st.sampled_from(["$time", "$dict", "$bytes", "a"]), st.text()))
def test_a_dict_that_looks_like_one_of_our_marks_is_only_a_dict(value: dict[str, str]) -> None:
    assert decoded(encoded(value)) == value


@given(st.lists(st.tuples(st.integers(-9, 9), st.floats(), st.text(), st.booleans()), min_size=1))
def test_a_frame_is_the_same_again(rows: list[Any]) -> None:
    frame = pd.DataFrame(rows, columns=["n", "x", "text", "yes"])
    pd.testing.assert_frame_equal(through(frame), frame)


def test_every_kind_of_column_and_index_comes_back() -> None:
    frame = pd.DataFrame(
        {
            "small": np.array([1, 2, 3], dtype="int8"),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "text": pd.array(["a", None, ""], dtype="string"),
            "when": pd.to_datetime(
                ["2026-01-01 12:00:00.123456789", None, "1999-12-31 00:00:00.5"]
            ),
            "there": pd.to_datetime(["2026-01-01", "2026-06-01", None]).tz_localize(
                "Europe/Berlin"
            ),
            "span": pd.to_timedelta([1, None, 10**15], unit="ns"),
            "size": pd.Categorical(["L", "S", None], categories=["S", "M", "L"], ordered=True),
            "rank": pd.Categorical([3, 1, 3], categories=[1, 2, 3]),
            "x": [math.inf, -math.inf, math.nan],
            "mixed": [1, "one", None],
            "nested": [{"a": [1, {"$time": "no"}]}, [], np.array([1.5, 2.5]).tolist()],
            "exact": [decimal.Decimal("1.10"), None, decimal.Decimal("-0")],
            7: ["a column whose name is a number", "b", "c"],
        },
        index=pd.Index(["twice", "twice", None], name="who"),
    )
    back = through(frame)
    pd.testing.assert_frame_equal(back, frame)
    assert back["nested"].tolist() == frame["nested"].tolist()
    levels = pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", None])
    pd.testing.assert_frame_equal(through(frame.set_index(levels)), frame.set_index(levels))


def test_what_a_template_gets_is_the_row_by_name_without_the_index() -> None:
    frame = pd.DataFrame({"a": [1], 2: ["b"], "when": [pd.Timestamp("2026-01-02")]}, index=[99])
    table = Table.of(frame)
    (row,) = table.as_json()
    assert row_of(table.names, row) == {"a": 1, "2": "b", "when": pd.Timestamp("2026-01-02")}


@pytest.mark.parametrize(
    ("table", "names", "num"),
    [
        (["a", "b"], ["text"], 2),
        (pd.Series(["a", "b"]), ["text"], 2),
        (pd.Series(["a"], name="review"), ["review"], 1),
        ([{"a": 1}, {"b": 2}], ["a", "b"], 2),
        ({"a": [1, 2], "b": [3, 4]}, ["a", "b"], 2),
    ],
)
def test_what_people_have_at_hand_is_a_table(table: Any, names: list[str], num: int) -> None:
    made = Table.of(table)
    assert made.names == names
    assert made.num_rows == num == len(list(made.as_json()))


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([], "it has no row"),
        (pd.DataFrame({"a": []}), "it has no row"),
        (pd.DataFrame(index=[1, 2]), "it has no column"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), 'Several columns are called "a"'),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), 'Several columns are called "1"'),
        ([1, 2], "a list of int"),
        (7, "The table is a int"),
        ({"a": [1, 2], "b": [3]}, "lists of one length"),
    ],
)
def test_what_is_no_table_is_refused_in_words(table: Any, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Table.of(table)


def test_a_file_is_a_table_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('id;review;day;score\n007;"good; really";2026-01-02;1.5\n008;bad;2026-02-03;\n')
    for source in (path, str(path), read(path)):
        table = Table.of(source)
        assert table.names == ["id", "review", "day", "score"]
        kept = json.loads(json.dumps(table.columns))
        frame = frame_of(kept, list(table.as_json()))
        assert frame["id"].tolist() == ["007", "008"]
        assert frame["day"].dtype == "datetime64[us]"
        assert frame["score"].tolist()[0] == 1.5
        assert frame["score"].isna().tolist() == [False, True]
        assert frame.index.tolist() == [0, 1]
    pasted = Table.of(Pasted("name\tage\nAnn\t31\nBo\t4\n"))
    assert [json.loads(row) for row in pasted.as_json()] == [["Ann", 31, 0], ["Bo", 4, 1]]
    with pytest.raises(TableFileError, match="nothing"):
        Table.of(tmp_path / "nothing.csv")
    (tmp_path / "empty.csv").write_text("a,b\n")
    with pytest.raises(TableFileError, match="no rows below them"):
        Table.of(tmp_path / "empty.csv")


def test_a_value_that_cannot_be_kept_is_refused_with_its_place() -> None:
    table = Table.of(pd.DataFrame({"a": ["fine", object()]}))
    with pytest.raises(RowError, match='Row 2, column "a" holds a object') as caught:
        list(table.as_json())
    assert caught.value.details == {"row": 2, "column": "a"}
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(RowError, match="nested more than 50 deep"):
        list(Table.of(pd.DataFrame({"a": [deep]})).as_json())


def test_numpys_scalars_are_plain_numbers() -> None:
    values = [
        np.int64(3),
        np.float32(0.5),
        np.bool_(True),
        np.datetime64("2026-01-01"),
        np.str_("a"),
    ]
    assert [encoded(value) for value in values] == [
        3,
        0.5,
        True,
        {"$time": "2026-01-01T00:00:00"},
        "a",
    ]
    assert encoded(dt.timedelta(seconds=1)) == {"$span": 10**9}
