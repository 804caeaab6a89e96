"""CSV, TSV and lines: types, faults with their lines, odd contents."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.files import Kind, Pasted, look, read
from gguf_widgets.batch.files.limits import MAX_ITEM_CHARS
from gguf_widgets.core.errors import InvalidValueError, TableFileError


def _column(*cells: str) -> tuple[Kind, list[Any]]:
    source = read(("x\n" + "\n".join(cells) + "\n").encode(), name="t.csv", header=True)
    return source.kinds["x"], [row["x"] for row in source]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-20", "0"], Kind.INTEGER, [1, -20, 0]),
        (["1", "2.50", "-.5", "1e-05"], Kind.NUMBER, [1.0, 2.5, -0.5, 1e-05]),
        (["00123", "00124"], Kind.TEXT, ["00123", "00124"]),
        (["1", "2", "03"], Kind.TEXT, ["1", "2", "03"]),
        (["+4930123"], Kind.TEXT, ["+4930123"]),
        (["12E3", "45E1"], Kind.TEXT, ["12E3", "45E1"]),
        (["1,5"], Kind.TEXT, ["1,5"]),
        (["1_000"], Kind.TEXT, ["1_000"]),
        (["١٢"], Kind.TEXT, ["١٢"]),  # digits to Python
        (["9223372036854775807"], Kind.INTEGER, [2**63 - 1]),
        (["9223372036854775808"], Kind.TEXT, ["9223372036854775808"]),
        (["9007199254740993", "1.5"], Kind.TEXT, ["9007199254740993", "1.5"]),
        (["1" + "0" * 400 + ".0"], Kind.TEXT, ["1" + "0" * 400 + ".0"]),
        (["True", "false"], Kind.BOOLEAN, [True, False]),
        (["yes", "no"], Kind.TEXT, ["yes", "no"]),
        (["2026-01-02"], Kind.DATE, [dt.date(2026, 1, 2)]),
        (["2026-02-30"], Kind.TEXT, ["2026-02-30"]),
        (["01/02/2026"], Kind.TEXT, ["01/02/2026"]),
        (["2026-01-02 03:04"], Kind.DATETIME, [dt.datetime(2026, 1, 2, 3, 4)]),  # noqa: DTZ001
        (["2026-01-02T03:04:05Z"], Kind.AWARE, [dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)]),
        (["2026-01-02T03:04Z", "2026-01-02T03:04"], Kind.TEXT, None),
        (["1", '""', "NA", "nan"], Kind.INTEGER, [1, None, None, None]),
        (["true", "None"], Kind.BOOLEAN, [True, None]),
        (["2.5", "NaN"], Kind.NUMBER, [2.5, None]),
        (["2026-01-02", "NaT"], Kind.DATE, [dt.date(2026, 1, 2), None]),
        (["NA", "DE", "null"], Kind.TEXT, ["NA", "DE", "null"]),
        (["NA", "None"], Kind.TEXT, ["NA", "None"]),
        ([" 1", "2 "], Kind.INTEGER, [1, 2]),
    ],
)
def test_a_column_has_the_kind_that_all_its_cells_have(
    cells: list[str], kind: Kind, values: list[Any] | None
) -> None:
    quoted = [f'"{cell}"' if "," in cell else cell for cell in cells]
    assert _column(*quoted) == (kind, cells if values is None else values)


def test_words_for_nothing_are_told_where_they_count() -> None:
    source = read(b"n,country\n1,NA\nNA,DE\n", name="t.csv")
    assert list(source.tuples()) == [(1, "NA"), (None, "DE")]
    assert source.notes == (
        "In columns of numbers, booleans or dates these count as missing: 'NA' in 1 row of 'n'.",
    )


def test_kinds_can_be_said() -> None:
    data = b"zip,n\n123,1\n456,2\n"
    assert list(read(data, name="t.csv", types="text").tuples()) == [("123", "1"), ("456", "2")]
    assert next(iter(read(data, name="t.csv", types={"zip": "text"}))) == {"zip": "123", "n": 1}
    numbers = read(data, name="t.csv", types={"n": "number"})
    assert [type(row["n"]) for row in numbers] == [float, float]
    with pytest.raises(TableFileError, match="Column 'zip' is to be read as date"):
        read(data, name="t.csv", types={"zip": "date"})
    with pytest.raises(InvalidValueError, match="types names a column 'no'"):
        read(data, name="t.csv", types={"no": "text"})


def test_a_frame_has_the_dtypes_that_were_told() -> None:
    source = read(
        b"i,j,f,b,c,d,t,a,s\n"
        b"1,1,1.5,true,true,1066-10-14,2026-01-02 03:04,2026-01-02 03:04Z,x\n"
        b"2,,,false,,,,,\n",
        name="t.csv",
    )
    frame = source.to_frame()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == source.dtypes
    assert list(source.dtypes.values()) == [
        *("int64", "Int64", "float64", "bool", "boolean", "datetime64[us]", "datetime64[us]"),
        *("datetime64[us, UTC]", "string"),
    ]
    assert frame["d"][0] == pd.Timestamp("1066-10-14")
    assert frame["a"][0] == pd.Timestamp("2026-01-02 03:04Z")
    late = read(b"t\n9999-12-31 23:59:59+01:00\n", name="t.csv").to_frame()
    assert late["t"][0].isoformat() == "9999-12-31T22:59:59+00:00"
    assert frame.iloc[1, 1:].isna().tolist() == [True, True, False, True, True, True, True, True]


_RAGGED = 'a,b\n1,"two\nlines"\n2,x,y\n3\n4,z\n\n5,v,\n'


def test_ragged_rows_are_refused_with_the_lines_an_editor_shows() -> None:
    with pytest.raises(TableFileError) as refused:
        read(_RAGGED.encode(), name="t.csv")
    (problem,) = refused.value.details["problems"]
    assert problem.startswith(
        "2 rows have another number of cells than the 2 columns: lines 4 (3 cells), 5 (1 cell)."
    )
    assert problem in refused.value.message
    shown = look(_RAGGED.encode(), name="t.csv")
    assert shown.problems == (problem,)
    assert (4, "z") in shown.rows


def test_ragged_rows_can_be_kept_or_left_out_and_that_is_told() -> None:
    filled = read(_RAGGED.encode(), name="t.csv", ragged="fill")
    assert list(filled.tuples()) == [
        (1, "two\nlines", None),
        (2, "x", "y"),
        (3, None, None),
        (4, "z", None),
        (5, "v", None),
    ]
    assert filled.columns == ("a", "b", "column_3")
    assert "lines 4 (3 cells), 5 (1 cell)" in filled.notes[-1]
    skipped = read(_RAGGED.encode(), name="t.csv", ragged="skip")
    assert [row[0] for row in skipped.tuples()] == [1, 4, 5]
    assert "left out, as asked: lines 4 (3 cells), 5 (1 cell)" in skipped.notes[-1]


def test_a_thousand_ragged_rows_are_counted_and_a_few_are_named() -> None:
    with pytest.raises(TableFileError, match=r"1,000 rows .* and 990 more") as refused:
        read(b"a,b\n" + b"1,2\n" * 2000 + b"1\n" * 1000, name="t.csv")
    assert len(refused.value.message) < 600


def test_titles_above_the_names_are_told_and_can_be_passed_over() -> None:
    data = b"Report of May\n\na,b,c\n1,2,3\n4,5,6\n"
    with pytest.raises(TableFileError, match="names are in line 3, give header=3"):
        read(data, name="t.csv")
    source = read(data, name="t.csv", header=3)
    assert source.columns == ("a", "b", "c")
    assert list(source.tuples()) == [(1, 2, 3), (4, 5, 6)]
    with pytest.raises(TableFileError, match="line 9 holds the names"):
        read(data, name="t.csv", header=9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('a,b\n1,"x"\n2,"y" z\n3,"w"\n', "In line 3 a cell goes on after its closing"),
        ('a,b\n1,"x"\n2,"y\n3,"w"\n4,"z"\n', r"In line 4 .* \(it begins in line 3\)"),
        ('a,b\n1,"x"\n2,"y\n3,w\n', "A cell in line 3 begins with '\"', which is never closed"),
    ],
)
def test_a_quote_that_breaks_a_row_is_told_with_its_line(text: str, says: str) -> None:
    with pytest.raises(TableFileError, match=says):
        read(text.encode(), name="t.csv")
    info = look(text.encode(), name="t.csv")
    assert re.search(says, info.problems[0])
    assert info.rows[0] == (1, "x")
    as_text = read(text.encode(), name="t.csv", quote=None)
    assert as_text.num_rows == text.count("\n") - 1


def test_names_that_come_twice_are_refused_unless_numbered() -> None:
    data = b"a,b,a,a_2,\n1,2,3,4,5\n"
    with pytest.raises(TableFileError, match="'a' is the name of columns 1 and 3"):
        read(data, name="t.csv")
    source = read(data, name="t.csv", duplicates="number")
    assert source.columns == ("a", "b", "a_3", "a_2", "column_5")
    assert any("by their place: 'column_5'" in note for note in source.notes)


def test_names_without_rows_are_no_table() -> None:
    assert look(b"a,b\n", name="t.csv").problems
    with pytest.raises(TableFileError, match="no rows below them"):
        read(b"a,b\n", name="t.csv")
    assert list(read(b"a,b\n", name="t.csv", header=False).tuples()) == [("a", "b")]


def test_a_cell_of_ten_megabytes_is_read_whatever_other_code_has_set() -> None:
    before = csv.field_size_limit(1000)
    try:
        big = "é" * 5_000_000
        source = read(f'a,b\n1,"{big}"\n'.encode(), name="t.csv")
        assert [len(row["b"]) for row in source] == [5_000_000]
    finally:
        csv.field_size_limit(before)


def test_a_line_without_an_end_is_refused_before_memory_is_full(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.write(b"a,b\n1,2\n")
        file.write(b"x" * (MAX_ITEM_CHARS + 1000))
    with pytest.raises(TableFileError, match=r"Line 3 .* longer than 50,000,000 characters"):
        read(path)


def test_emoji_right_to_left_text_and_zeros_come_through() -> None:
    cells = ["😀👩‍👩‍👧", "שלום עולם", "\u202eabc", "nul\x00inside", "tab\tinside", "e\u0301"]
    data = "\n".join(["text", *cells]).encode()
    assert [row["text"] for row in read(data, name="t.csv", delimiter=",")] == cells


def test_the_byte_that_is_not_utf8_is_told_with_its_line() -> None:
    data = b"a,b\n" + b"1,x\n" * 4000 + b"2,\xff\n"
    with pytest.raises(TableFileError, match="not utf-8 in line 4,002: it holds the byte 0xff"):
        read(data, name="t.csv", encoding="utf-8")


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a\n1\n2\n")
    source = read(path)
    assert len(list(source)) == 2
    path.write_text("a\n1\n2\n3\n")
    with pytest.raises(TableFileError, match="has changed"):
        list(source)


def test_lines_are_rows_and_empty_ones_are_counted() -> None:
    source = read(b"one \n\n\n two\nthree", name="t.txt")
    assert [row["text"] for row in source] == ["one ", " two", "three"]
    assert source.notes == ("2 lines are empty and were left out.",)
    assert read(Pasted("a,b\nc,d,e\n"), format="txt").num_rows == 2


def _strict(text: str, *, spaced: bool) -> list[list[str]]:
    lines = io.StringIO(text, newline="")
    return [row for row in csv.reader(lines, strict=True, skipinitialspace=spaced) if row]


@settings(max_examples=300)
@given(text=st.text('ab,"\n\r; é', min_size=1, max_size=60))
def test_no_row_is_lost(text: str) -> None:
    try:
        source = read(
            text.encode(),
            delimiter=",",
            quote='"',
            header=False,
            ragged="fill",
            types="text",
        )
    except TableFileError as error:
        if error.details["problem"] == "empty":
            assert not set(text) & set("abé;")
        else:
            with pytest.raises(csv.Error):
                _strict(text, spaced=False)
        return
    widest = len(source.columns)
    spaced = any("The space behind" in note for note in source.notes)
    expected = [
        tuple(cell or None for cell in row + [""] * (widest - len(row)))
        for row in _strict(text, spaced=spaced)
    ]
    # What was cut off beyond the last column was empty.
    assert not any(any(row[widest:]) for row in expected)
    # A line of spaces alone is no row of several cells.
    found = [row for row in source.tuples() if "".join(filter(None, row)).strip(" ")]
    assert found == [row[:widest] for row in expected if "".join(filter(None, row)).strip(" ")]


def test_the_same_rows_can_be_read_again_and_reading_can_be_left() -> None:
    source = read(b"a\n1\n2\n3\n", name="t.csv")
    first = iter(source)
    assert next(first) == {"a": 1}
    del first  # a file left open would be a ResourceWarning, which is an error here
    assert len(source) == len(list(source)) == len(list(source)) == 3
