"""Parquet files: types that are found as rows come, and files of other programs."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gguf_widgets.batch.files import Kind, look, read, write, write_parquet
from gguf_widgets.core.errors import TableFileError


@pytest.fixture
def groups_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_parquet, "_GROUP_ROWS", 2)


@pytest.mark.usefixtures("groups_of_two")
@pytest.mark.parametrize(
    ("values", "arrow_type", "back", "told"),
    [
        ([None] * 5 + ["late"], "string", None, False),
        ([1, 2, 3, 4.5], "double", [1.0, 2.0, 3.0, 4.5], False),
        ([1, 2, 2**60], "int64", None, False),
        ([2**60, 2, 1.5], "string", [str(2**60), "2", "1.5"], True),
        ([1, 2, "three", None, 4.5], "string", ["1", "2", "three", None, "4.5"], True),
        ([True, None, 7], "string", ["True", None, "7"], True),
        ([2**70, 2**71, 1], "string", [str(2**70), str(2**71), "1"], True),
        ([[1], [2, 3], None, []], "list<element: int64>", None, False),
        ([{"a": 1}, {"a": 2}, {"b": 1}], "string", ['{"a": 1}', '{"a": 2}', '{"b": 1}'], True),
        ([{}, {"a": 1}], "string", ["{}", '{"a": 1}'], True),
        ([dt.date(2026, 1, 2), None, "soon"], "string", ["2026-01-02", None, "soon"], True),
        ([b"\xff", None, b""], "binary", None, False),
        ([decimal.Decimal("1.50"), decimal.Decimal("2.25")], "decimal128(3, 2)", None, False),
        ([dt.time(3, 4)], "time64[us]", None, False),
    ],
)
def test_a_column_gets_the_narrowest_type_that_holds_all_of_it(
    values: list[Any], arrow_type: str, back: list[Any] | None, told: bool, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    written = write(
        path, ((number, value) for number, value in enumerate(values)), columns=["n", "v"]
    )
    assert written.num_rows == len(values)
    assert bool(written.notes) == told
    assert str(pq.read_schema(path).field("v").type) == arrow_type
    source = read(path)
    expected = list(enumerate(values if back is None else back))
    assert list(source.tuples()) == expected
    assert [type(row[1]) for row in source.tuples()] == [type(row[1]) for row in expected]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["home", "t.parquet"]


def test_files_of_pandas_keep_their_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", None], dtype="string"),
            "label": pd.Series(["x", "y"], dtype="category"),
            "whole": pd.Series([1, None], dtype="Int64"),
            "time": pd.to_datetime(["2026-01-02 03:04:05", None]),
            "zone": pd.to_datetime(["2026-01-02", None]).tz_localize("Europe/Paris"),
            "bytes": [b"\xff", b""],
            "nested": [[1, 2], []],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    source = read(tmp_path / "t.parquet")
    assert source.kinds == {
        "text": Kind.TEXT,
        "label": Kind.TEXT,
        "whole": Kind.INTEGER,
        "time": Kind.DATETIME,
        "zone": Kind.AWARE,
        "bytes": Kind.BYTES,
        "nested": Kind.MIXED,
    }
    first, second = source.tuples()
    assert first[:4] == ("a", "x", 1, dt.datetime(2026, 1, 2, 3, 4, 5))  # noqa: DTZ001
    assert first[4].isoformat() == "2026-01-02T00:00:00+01:00"
    assert second == (None, "y", None, None, None, b"", [])
    assert source.dtypes["whole"] == "Int64"
    assert source.notes == ("Bytes, not text, are in 'bytes' (binary).",)


def test_structures_maps_and_names_that_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table(
        [
            pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            pa.array([{"x": 1, "y": "z"}, {"x": None, "y": None}]),
            pa.array([2**63, 1], pa.uint64()),
        ],
        names=["m", "m", "u"],
    )
    pq.write_table(table, path)
    with pytest.raises(TableFileError, match="'m' is the name of columns 1 and 2"):
        read(path)
    source = read(path, duplicates="number")
    assert source.columns == ("m", "m_2", "u")
    assert list(source.tuples()) == [
        ({"k": 1}, {"x": 1, "y": "z"}, 2**63),
        (None, {"x": None, "y": None}, 1),
    ]
    assert source.to_frame()["u"][0] == 2**63


def test_an_empty_or_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write(path, [], columns=["a"])
    with pytest.raises(TableFileError, match="holds no rows"):
        read(path)
    write(path, [{"a": number, "b": "text"} for number in range(50)])
    data = path.read_bytes()
    for end in range(4, len(data), 61):
        with pytest.raises(TableFileError, match="damaged"):
            look(data[:end], name="t.parquet")
