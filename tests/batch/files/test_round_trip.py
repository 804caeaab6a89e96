"""What is written reads back as it was: the property, for every format that can hold the values."""

from __future__ import annotations

import datetime as dt
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.files import read, write
from gguf_widgets.batch.files.limits import MAX_EXCEL_CELL
from gguf_widgets.batch.files.table import Row

# The file is written anew for each example, so one folder for all of them is no fault.
_many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Everything a cell may hold but halves of characters, with what formats trip over made frequent.
_texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\x00\x07\r\n\t,;|\"'\\ =+-@_x0041_é漢😀\u202e\u05d0\ufeff\u2028\x0b\x1f"),
    ),
    min_size=1,
    max_size=30,
)
_names = st.text(string.ascii_letters + "äé漢_ -.", min_size=1, max_size=12).map(
    lambda name: "n" + " ".join(name.split())
)
_integers = st.integers(-(2**63), 2**63 - 1)
_small = st.integers(-(10**14), 10**14)
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_dates = st.dates(dt.date(1900, 3, 1), dt.date(9999, 12, 31))
_times = st.datetimes(dt.datetime(1900, 3, 1), dt.datetime(9999, 12, 31))  # noqa: DTZ001 - naive
_aware = st.datetimes(
    dt.datetime(1971, 1, 1),  # noqa: DTZ001 - hypothesis wants it so
    dt.datetime(2200, 1, 1),  # noqa: DTZ001 - hypothesis wants it so
    timezones=st.sampled_from((dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=-30)))),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)

_PLAIN = {
    "text": _texts,
    "integer": _small,
    "number": _numbers,
    "boolean": st.booleans(),
    "date": _dates,
}


@st.composite
def _tables(
    draw: st.DrawFn, kinds: dict[str, st.SearchStrategy[Any]]
) -> tuple[list[str], list[str], list[Row]]:
    """Names, the kind of each column, and rows; each column has at least one value."""
    names = draw(st.lists(_names, min_size=1, max_size=4, unique=True))
    chosen = [draw(st.sampled_from(sorted(kinds))) for _ in names]
    rows = draw(
        st.lists(st.tuples(*[st.none() | kinds[kind] for kind in chosen]), min_size=1, max_size=8)
    )
    rows.append(tuple(draw(kinds[kind]) for kind in chosen))
    # A row of nothing at all is an empty row, which Excel and a CSV of one column do not have.
    return names, chosen, [row for row in rows if any(cell is not None for cell in row)]


def _same(left: list[Row], right: list[Row]) -> None:
    assert left == right
    # 1 == 1.0 == True, and a date is no datetime.
    assert [[type(cell) for cell in row] for row in left] == [
        [type(cell) for cell in row] for row in right
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@_many
@given(table=_tables({**_PLAIN, "integer": _integers, "datetime": _times, "aware": _aware}))
def test_cells_come_back(
    table: tuple[list[str], list[str], list[Row]], ending: str, encoding: str, tmp_path: Path
) -> None:
    names, kinds, rows = table
    path = tmp_path / f"table.{ending}"
    assert write(path, rows, columns=names, encoding=encoding).num_rows == len(rows)
    # A text may look like a number, and a few rows do not always show how they are parted.
    texts = {name: "text" for name, kind in zip(names, kinds, strict=True) if kind == "text"}
    back = read(
        path, header=True, delimiter="\t" if ending == "tsv" else ",", quote='"', types=texts
    )
    assert back.columns == tuple(names)
    assert back.num_rows == len(rows)
    _same(list(back.tuples()), rows)


@pytest.mark.parametrize("ending", ["json", "jsonl", "jsonl.gz"])
@_many
@given(
    table=_tables(
        {**_PLAIN, "date": st.integers(), "nested": _json.filter(lambda value: value is not None)}
    )
)
def test_json_comes_back(
    table: tuple[list[str], list[str], list[Row]], ending: str, tmp_path: Path
) -> None:
    names, _, rows = table
    path = tmp_path / f"table.{ending}"
    write(path, [dict(zip(names, row, strict=True)) for row in rows])
    _same(list(read(path).tuples()), rows)


# A mark at the very beginning of a file is the encoding's, and no letter.
_lines = _texts.filter(
    lambda text: text.strip() and not set(text) & set("\r\n") and text[0] != "\ufeff"
)


@_many
@given(lines=st.lists(_lines, min_size=1))
def test_lines_come_back(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    write(path, [(line,) for line in lines], columns=["reply"])
    assert [row["text"] for row in read(path, format="txt", encoding="utf-8")] == lines


@settings(_many, max_examples=40)
@given(
    table=_tables(
        {**_PLAIN, "datetime": _times.map(lambda time: time.replace(microsecond=123_000))}
    )
)
def test_a_sheet_comes_back(table: tuple[list[str], list[str], list[Row]], tmp_path: Path) -> None:
    names, kinds, rows = table
    path = tmp_path / "table.xlsx"
    assert write(path, rows, columns=names).notes == ()
    back = read(path, header=True)
    assert back.columns == tuple(names)
    # Excel has one kind of number: 2.0 is 2, and a column of such is one of whole numbers.
    whole = [kind == "number" for kind in kinds]
    rows = [
        tuple(
            float(cell) if is_number and cell is not None else cell
            for cell, is_number in zip(row, whole, strict=True)
        )
        for row in rows
    ]
    found = [
        tuple(
            float(cell) if is_number and cell is not None else cell
            for cell, is_number in zip(row, whole, strict=True)
        )
        for row in back.tuples()
    ]
    _same(found, rows)


def test_the_longest_cell_that_excel_has_comes_back_whole(tmp_path: Path) -> None:
    longest = "é" * (MAX_EXCEL_CELL - 2) + "😀"  # which counts as two
    write(tmp_path / "t.xlsx", [{"a": longest}])
    assert list(read(tmp_path / "t.xlsx")) == [{"a": longest}]


@settings(_many, max_examples=40)
@given(
    table=_tables(
        {
            **_PLAIN,
            "integer": _integers,
            "number": st.floats(allow_nan=False),
            "datetime": _times,
            "bytes": st.binary(max_size=20),
            "list": st.lists(st.integers(-9, 9), max_size=3),
        }
    )
)
def test_parquet_comes_back(table: tuple[list[str], list[str], list[Row]], tmp_path: Path) -> None:
    names, _, rows = table
    path = tmp_path / "table.parquet"
    write(path, rows, columns=names)
    _same(list(read(path).tuples()), rows)
