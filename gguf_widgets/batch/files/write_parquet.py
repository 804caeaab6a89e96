"""Writing Parquet files.

Promises: rows are written in groups as they come, in memory for one group; a column has one type
for all of them, found as rows come: where a later row does not fit (the first thousand were None,
then comes a text), what is written already is written again with the wider type, from the file;
nothing is rounded or cut to fit: a column of several kinds becomes text, and that is told. Lists
and dicts are written as Parquet's own where they come back equal, else as JSON text. Leaves to
others: the format (pyarrow), values (`values`).
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.table import Row
from gguf_widgets.batch.files.values import Changes, flat_text

__all__ = ["write_parquet"]

_GROUP_ROWS: Final = 8192
_GROUP_CHARS: Final = 8_000_000

# The types of a column, besides Arrow's own of nested values.
_NONE, _BOOL, _INT, _BIG, _HUGE, _FLOAT = "none", "bool", "int", "big", "huge", "float"
_TEXT, _DATE, _TIME, _AWARE, _BYTES, _NESTED = "text", "date", "time", "aware", "bytes", "nested"


def write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Row], changes: Changes) -> int:
    """Write a file to a path that is there and empty; return how many rows.

    A second file beside it, of the same name with ".old" behind it, comes and goes where a column's
    type has to be widened.
    """
    sink = _Sink(path, columns, changes)
    count = 0
    try:
        for group in _groups(rows):
            sink.add(group, count)
            count += len(group)
        sink.finish()
    finally:
        sink.close()
    return count


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while True:
        group: list[Row] = []
        size = 0
        for row in itertools.islice(source, _GROUP_ROWS):
            group.append(row)
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if size > _GROUP_CHARS:
                break
        if not group:
            return
        yield group


class _Sink:
    """A file that grows, and its columns' types."""

    def __init__(self, path: Path, columns: Sequence[str], changes: Changes) -> None:
        self._arrow = needs.pyarrow()
        self._parquet = needs.parquet()
        self._path = path
        self._columns = columns
        self._changes = changes
        self._types: list[Any] = [_NONE] * len(columns)
        self._writer: Any = None
        self._file: Any = None

    def add(self, group: list[Row], before: int) -> None:
        """Write the next rows; `before` is how many there were."""
        values = [list(column) for column in zip(*group, strict=True)]
        types = [
            self._merged(old, self._type_of(cells, name), name)
            for old, cells, name in zip(self._types, values, self._columns, strict=True)
        ]
        if types != self._types and self._writer is not None:
            self._widen(types)
        self._types = types
        self._write(values, before)

    def finish(self) -> None:
        """Write the end; a table without rows has its names."""
        if self._writer is None:
            self._write([[] for _ in self._columns], 0)
        self._writer.close()
        self._writer = None

    def close(self) -> None:
        """Let go of the file."""
        if self._writer is not None:
            self._writer.close()
        if self._file is not None:
            self._file.close()
        self._old.unlink(missing_ok=True)

    @property
    def _old(self) -> Path:
        return self._path.with_name(f"{self._path.name}.old")

    def _write(self, values: list[list[Any]], before: int) -> None:
        arrays = [
            self._array(cells, kind, name, before)
            for cells, kind, name in zip(values, self._types, self._columns, strict=True)
        ]
        batch = self._arrow.record_batch(arrays, names=list(self._columns))
        if self._writer is None:
            self._file = self._path.open("wb")
            self._writer = self._parquet.ParquetWriter(self._file, batch.schema)
        self._writer.write_batch(batch)

    def _widen(self, types: list[Any]) -> None:
        """Write again what is there, with other types."""
        self._writer.close()
        self._file.close()
        self._writer = None
        self._path.replace(self._old)
        self._types = types
        count = 0
        with self._parquet.ParquetFile(self._old, buffer_size=1 << 18, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_GROUP_ROWS, use_threads=False):
                self._write([column.to_pylist() for column in batch.columns], count)
                count += batch.num_rows
        self._old.unlink()

    def _type_of(self, cells: list[Any], name: str) -> Any:
        kinds = {_kind(value) for value in cells if value is not None}
        found: Any = _NONE
        if kinds == {_NESTED}:
            found = self._nested_type(cells)
        else:
            for kind in sorted(kinds):
                found = _merge(found, kind)
        if found in (_TEXT, _HUGE, _NESTED) and kinds != {_TEXT}:
            self._tell(name)
            return _TEXT
        return found

    def _nested_type(self, cells: list[Any]) -> Any:
        """Return Arrow's type for lists and dicts if they come back as they are."""
        try:
            array = self._arrow.array(cells)
            same = array.to_pylist() == cells and not _has_empty_struct(self._arrow, array.type)
        except (self._arrow.ArrowException, OverflowError, TypeError, ValueError):
            return _TEXT
        return array.type if same else _TEXT

    def _merged(self, old: Any, new: Any, name: str) -> Any:
        merged = _merge(old, new)
        if merged == _TEXT and {old, new} - {_TEXT, _NONE}:
            self._tell(name)
        return merged

    def _tell(self, name: str) -> None:
        self._changes.add_column(
            "Columns whose values are of several kinds, or of one that Parquet cannot hold as it"
            " is, were written as text",
            name,
        )

    def _array(self, cells: list[Any], kind: Any, name: str, before: int) -> Any:
        arrow = self._arrow
        if kind == _TEXT:
            cells = [
                value
                if value is None or type(value) is str
                else flat_text(value, before + number, name, self._changes)
                for number, value in enumerate(cells, 1)
            ]
        elif kind == _FLOAT:
            cells = [None if value is None else float(value) for value in cells]
        return arrow.array(cells, type=self._arrow_type(kind))

    def _arrow_type(self, kind: Any) -> Any:
        arrow = self._arrow
        if not isinstance(kind, str):
            return kind
        make = {
            _NONE: arrow.null,
            _BOOL: arrow.bool_,
            _INT: arrow.int64,
            _BIG: arrow.int64,
            _FLOAT: arrow.float64,
            _TEXT: arrow.string,
            _DATE: arrow.date32,
            _TIME: lambda: arrow.timestamp("us"),
            _AWARE: lambda: arrow.timestamp("us", "UTC"),
            _BYTES: arrow.binary,
        }
        return make[kind]()


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        if abs(value) <= 2**53:
            return _INT
        return _BIG if -(2**63) <= value < 2**63 else _HUGE
    if isinstance(value, dt.datetime):
        return _TIME if value.tzinfo is None else _AWARE
    for kind, name in ((str, _TEXT), (float, _FLOAT), (dt.date, _DATE), (bytes, _BYTES)):
        if isinstance(value, kind):
            return name
    return _NESTED  # lists, dicts, and scalars that Arrow has a type of its own for


def _merge(one: Any, other: Any) -> Any:
    """Return the narrowest type that holds both without loss."""
    if one == other or other == _NONE:
        return one
    if one == _NONE:
        return other
    if {one, other} == {_INT, _BIG}:
        return _BIG
    if {one, other} == {_INT, _FLOAT}:
        return _FLOAT
    if not isinstance(one, str) and not isinstance(other, str):
        return _merge_nested(one, other) or _TEXT
    return _TEXT


def _merge_nested(one: Any, other: Any) -> Any:
    """Return the type of both where one has only gaps (empty lists) where the other has values."""
    arrow = needs.pyarrow()
    if one == other or arrow.types.is_null(other):
        return one
    if arrow.types.is_null(one):
        return other
    if arrow.types.is_list(one) and arrow.types.is_list(other):
        inner = _merge_nested(one.value_type, other.value_type)
        return inner and arrow.list_(inner)
    return None


def _has_empty_struct(arrow: Any, kind: Any) -> bool:
    """Say whether a type has a structure without fields, which Parquet cannot write."""
    if arrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(
            _has_empty_struct(arrow, kind.field(i).type) for i in range(kind.num_fields)
        )
    return bool(arrow.types.is_list(kind)) and _has_empty_struct(arrow, kind.value_type)
