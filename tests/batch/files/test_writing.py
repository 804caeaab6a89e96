"""Writing: whole or not at all, nothing dropped, what was changed is told."""

from __future__ import annotations

import datetime as dt
import enum
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest

from gguf_widgets.batch.files import Format, read, write
from gguf_widgets.core.errors import InvalidValueError, TableFileError

_ENDINGS = ["csv", "tsv", "json", "jsonl", "xlsx", "parquet", "csv.gz", "txt"]


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_fault_in_the_middle_leaves_what_was_there(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"a": f"text {number}"} for number in range(3000))
        raise KeyError("the caller's own")

    with pytest.raises(KeyError):
        write(path, rows())
    assert not path.exists()
    path.write_bytes(b"before")
    with pytest.raises(KeyError):
        write(path, rows())
    with pytest.raises(TableFileError, match=r"Row 2 of 'a' holds a object"):
        write(path, [{"a": "x"}, {"a": object()}])
    assert path.read_bytes() == b"before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", path.name]


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "xlsx", "parquet"])
def test_a_frame_comes_back(ending: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", "é漢😀", None], dtype="string"),
            "label": pd.Series(["x", "y", "x"], dtype="category"),
            "whole": pd.Series([1, None, 3], dtype="Int64"),
            "score": [0.5, float("nan"), 2.25],
            "flag": pd.Series([True, None, False], dtype="boolean"),
            "day": pd.to_datetime(["2026-01-02", None, "2026-01-04"]),
        }
    )
    written = write(tmp_path / f"t.{ending}", frame)
    assert (written.num_rows, written.notes) == (3, ())
    assert written.num_bytes == (tmp_path / f"t.{ending}").stat().st_size
    day: Any = [dt.date(2026, 1, 2), None, dt.date(2026, 1, 4)]
    if ending == "parquet":
        day = [None if one is None else dt.datetime.combine(one, dt.time()) for one in day]
    elif ending.startswith("json"):
        day = [None if one is None else one.isoformat() for one in day]
    assert list(read(tmp_path / f"t.{ending}").tuples()) == [
        ("a", "x", 1, 0.5, True, day[0]),
        ("é漢😀", "y", None, None, None, day[1]),
        (None, "x", 3, 2.25, False, day[2]),
    ]


def test_an_index_that_says_something_is_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"a": [1, 2]})
    assert write(path, frame).notes == ()
    assert path.read_text() == "a\n1\n2\n"
    written = write(path, frame.set_index(pd.Index(["x", "y"], name="key")))
    assert path.read_text() == "key,a\nx,1\ny,2\n"
    assert written.notes == ("The index was written as 'key'.",)
    write(path, frame[frame["a"] > 1])
    assert path.read_text() == "index,a\n1,2\n"
    write(path, frame[frame["a"] > 1], index=False)
    assert path.read_text() == "a\n2\n"
    levels = pd.MultiIndex.from_tuples([("p", 1), ("q", 2)])
    write(path, frame.set_index(levels))
    assert path.read_text() == "level_0,level_1,a\np,1,1\nq,2,2\n"
    with pytest.raises(InvalidValueError, match="index is called 'a'"):
        write(path, frame.set_index(pd.Index(["x", "y"], name="a")))
    two = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    write(path, two)
    assert path.read_text() == "a.x,a.y\n1,2\n"


def test_columns_are_chosen_and_unknown_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for rows in (pd.DataFrame({"a": [1], "b": [2]}), read(b"a,b\n1,2\n", name="x.csv")):
        write(path, rows, columns=["b", "a"])
        assert path.read_text() == "b,a\n2,1\n"
        with pytest.raises(InvalidValueError, match="no column 'c'"):
            write(path, rows, columns=["c"])


def test_rows_with_other_names_or_lengths_are_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows: list[Any] = [{"a": 1}, {"b": 2}]
    write(path, rows)
    assert path.read_text() == "a,b\n1,\n,2\n"
    with pytest.raises(TableFileError, match="Row 2 has 'b', which the rows before it"):
        write(path, iter(rows))
    with pytest.raises(TableFileError, match="Row 2 has 1 cells and there are 2 columns"):
        write(path, [(1, 2), (3,)], columns=["a", "b"])
    with pytest.raises(TableFileError, match="Row 2 is a tuple, unlike"):
        write(path, [{"a": 1}, (1,)])
    with pytest.raises(InvalidValueError, match="need the names"):
        write(path, [(1, 2)])
    with pytest.raises(InvalidValueError, match="Two columns cannot have one name: 'a'"):
        write(path, [(1, 2)], columns=["a", "a"])
    with pytest.raises(InvalidValueError, match="at least one column"):
        write(path, [])
    with pytest.raises(InvalidValueError, match="not a str"):
        write(path, "rows")
    assert path.read_text() == "a,b\n1,\n,2\n"


class _Colour(enum.Enum):
    RED = "red"


class _Label(pydantic.BaseModel):
    name: str
    parts: list[int]


def test_values_of_other_libraries_become_plain_ones(tmp_path: Path) -> None:
    row = {
        "np": np.int64(3),
        "float": np.float32(0.5),
        "array": np.array([1, 2]),
        "enum": _Colour.RED,
        "model": _Label(name="x", parts=[1]),
        "na": pd.NA,
        "nat": pd.NaT,
        "nan": np.nan,
        "time": pd.Timestamp("2026-01-02 03:04"),
        "set": {2, 1},
        "path": Path("a"),
    }
    written = write(tmp_path / "t.jsonl", [row])
    assert list(read(tmp_path / "t.jsonl")) == [
        {
            "np": 3,
            "float": 0.5,
            "array": [1, 2],
            "enum": "red",
            "model": {"name": "x", "parts": [1]},
            "na": None,
            "nat": None,
            "nan": None,
            "time": "2026-01-02T03:04:00",
            "set": [1, 2],
            "path": "a",
        }
    ]
    assert written.notes == ("Sets were written as lists (1 place: row 1 of 'set').",)


def test_what_a_format_cannot_hold_as_it_is_is_told(tmp_path: Path) -> None:
    row = {"bytes": b"\xff\x00", "half": "a\ud800b", "nested": {"é": [1, None]}}
    written = write(tmp_path / "t.csv", [row])
    assert list(read(tmp_path / "t.csv").tuples()) == [("/wA=", "a\ufffdb", '{"é": [1, null]}')]
    assert [note.split(" (")[0] for note in written.notes] == [
        "Halves of characters were written as \ufffd",
        "Bytes were written as base64 text",
    ]
    told = write(tmp_path / "t.json", [{"a": float("-inf")}]).notes
    assert "no infinite numbers" in told[0]
    assert list(read(tmp_path / "t.json")) == [{"a": "-Infinity"}]
    ns = write(tmp_path / "t.parquet", [{"a": pd.Timestamp("2026-01-02 03:04:05.123456789")}])
    assert "cut to millionths" in ns.notes[0]


def test_formulas_in_a_csv_are_told_and_can_be_made_harmless(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [("=1+1", -1), ("- a point", 2), ("plain", 3)]
    told = write(path, rows, columns=["a", "n"])
    assert path.read_text() == "a,n\n=1+1,-1\n- a point,2\nplain,3\n"
    assert told.notes[0].startswith("2 cells begin with =, +, - or @")
    safe = write(path, rows, columns=["a", "n"], for_excel=True)
    assert path.read_bytes().decode("utf-8-sig") == "a,n\n'=1+1,-1\n'- a point,2\nplain,3\n"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert "an apostrophe was put in front" in safe.notes[0]


def test_an_option_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    for ending, option in (
        ("json", {"delimiter": ";"}),
        ("parquet", {"encoding": "cp1252"}),
        ("jsonl", {"for_excel": True}),
        ("tsv", {"delimiter": ";"}),
    ):
        with pytest.raises(InvalidValueError, match=f"{next(iter(option))} is for"):
            write(tmp_path / f"t.{ending}", [{"a": 1}], **option)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="leave encoding out"):
        write(tmp_path / "t.csv", [{"a": 1}], for_excel=True, encoding="cp1252")
    write(tmp_path / "t.csv", [{"a": 1, "b": "x;y"}], delimiter=";")
    assert (tmp_path / "t.csv").read_text() == 'a;b\n1;"x;y"\n'


def test_lines_hold_one_column_of_single_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    write(path, [{"a": "one", "b": 1}, {"a": "two", "b": 2}], columns=["a"])
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(InvalidValueError, match="has one column, and this table has 2"):
        write(path, [(1, 2)], columns=["a", "b"])
    for bad, says in (("a\nb", "has several lines"), ("", "is empty"), (None, "is empty")):
        with pytest.raises(TableFileError, match=f"Row 2 {says}"):
            write(path, [("x",), (bad,)], columns=["a"])
    assert path.read_text() == "one\ntwo\n"


def test_an_encoding_without_a_letter_is_refused_with_the_row(tmp_path: Path) -> None:
    for ending in ("csv", "txt"):
        with pytest.raises(TableFileError, match="Row 2 holds '漢', which cp1252 does not have"):
            write(tmp_path / f"t.{ending}", [{"a": "é"}, {"a": "漢"}], encoding="cp1252")
    write(tmp_path / "t.csv", [{"a": "é"}], encoding="cp1252")
    assert (tmp_path / "t.csv").read_bytes() == b"a\n\xe9\n"


@pytest.mark.skipif(sys.platform == "win32", reason="rights of files are of POSIX")
def test_rights_and_links_stay_what_they_were(tmp_path: Path) -> None:
    path, link = tmp_path / "t.csv", tmp_path / "link.csv"
    path.touch()
    path.chmod(0o640)
    link.symlink_to(path)
    write(link, [{"a": 1}])
    assert link.is_symlink()
    assert path.read_text() == "a\n1\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    fresh = tmp_path / "fresh.csv"
    write(fresh, [{"a": 1}])
    plain = tmp_path / "plain"
    plain.touch()
    assert fresh.stat().st_mode == plain.stat().st_mode


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(TableFileError, match="There is no folder"):
        write(tmp_path / "none" / "t.csv", [{"a": 1}])
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(TableFileError, match="not a plain file"):
        write(tmp_path / "t.csv", [{"a": 1}])
    with pytest.raises(InvalidValueError, match="does not say by its ending"):
        write(tmp_path / "t.doc", [{"a": 1}])
    with pytest.raises(InvalidValueError, match=r"leave \.gz out"):
        write(tmp_path / "t.xlsx.gz", [{"a": 1}])
    assert write(tmp_path / "t.doc", [{"a": 1}], format="csv").format is Format.CSV


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TableFileError, match="could not be written: No space left"):
        write(tmp_path / "t.csv", [{"a": 1}])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_a_table_can_be_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a;b\n1;x\n")
    write(path, read(path))
    assert path.read_text() == "a,b\n1,x\n"


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    for ending in ("csv.gz", "parquet"):
        write(tmp_path / f"1.{ending}", [{"a": 1}])
        write(tmp_path / f"2.{ending}", [{"a": 1}])
        first, second = ((tmp_path / f"{n}.{ending}").read_bytes() for n in (1, 2))
        assert first == second
