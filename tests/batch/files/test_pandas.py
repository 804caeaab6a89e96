"""Other programs, with pandas for all of them: it reads what is written here, and the reverse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gguf_widgets.batch.files import look, read, write


def _frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": ["plain", 'with "quotes", a comma; a bar |', "two\nlines", "é漢😀 =1+1"],
            "whole": [1, -2, 3, 10**12],
            "score": [0.1, 2.0, -1e-7, 1 / 3],
            "flag": [True, False, True, True],
            "day": pd.to_datetime(["2026-01-02", "1999-12-31", "2026-01-02", "2030-06-15"]),
        }
    )


def _dated(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(day=pd.to_datetime(frame["day"]))  # JSON has no dates


@pytest.mark.parametrize(
    ("ending", "their_reader"),
    [
        ("csv", lambda path: pd.read_csv(path, parse_dates=["day"])),
        ("csv.gz", lambda path: pd.read_csv(path, parse_dates=["day"])),
        ("tsv", lambda path: pd.read_csv(path, sep="\t", parse_dates=["day"])),
        ("json", lambda path: _dated(pd.read_json(path, dtype=False, precise_float=True))),
        (
            "jsonl",
            lambda path: _dated(pd.read_json(path, lines=True, dtype=False, precise_float=True)),
        ),
        ("xlsx", pd.read_excel),
        ("parquet", pd.read_parquet),
    ],
)
def test_what_is_written_here_pandas_reads(
    ending: str, their_reader: Callable[[Path], pd.DataFrame], tmp_path: Path
) -> None:
    frame = _frame()
    write(tmp_path / f"t.{ending}", frame)
    pd.testing.assert_frame_equal(
        their_reader(tmp_path / f"t.{ending}"), frame, check_dtype=False, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("name", "their_writer"),
    [
        ("t.csv", lambda frame, path: frame.to_csv(path, index=False)),
        ("t.csv.gz", lambda frame, path: frame.to_csv(path, index=False)),
        ("t.csv", lambda frame, path: frame.to_csv(path, index=False, sep=";", encoding="utf-16")),
        ("t.tsv", lambda frame, path: frame.to_csv(path, index=False, sep="\t")),
        ("t.csv", lambda frame, path: frame.to_csv(path, index=False, quoting=1)),
        (
            "t.csv",
            lambda frame, path: frame.to_csv(path, index=False, doublequote=False, escapechar="\\"),
        ),
        ("t.xlsx", lambda frame, path: frame.to_excel(path, index=False)),
        ("t.parquet", lambda frame, path: frame.to_parquet(path)),
    ],
)
def test_what_pandas_writes_is_read_without_being_told_how(
    name: str, their_writer: Callable[[Any, Path], None], tmp_path: Path
) -> None:
    frame = _frame()
    their_writer(frame, tmp_path / name)
    assert not look(tmp_path / name).problems
    source = read(tmp_path / name)
    pd.testing.assert_frame_equal(
        source.to_frame(), frame, check_dtype=False, check_column_type=False, rtol=0, atol=0
    )
    kinds = [str(dtype) for dtype in source.dtypes.values()]
    assert kinds == ["string", "int64", "float64", "bool", "datetime64[us]"]


def test_the_index_that_pandas_writes_without_a_name_is_a_column(tmp_path: Path) -> None:
    pd.DataFrame({"a": ["x", "y"]}).to_csv(tmp_path / "t.csv")
    source = read(tmp_path / "t.csv")
    assert source.columns == ("column_1", "a")
    assert list(source.tuples()) == [(0, "x"), (1, "y")]
