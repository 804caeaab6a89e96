"""Parquet files.

Promises: rows come in batches of a bounded size, whatever the size of the file's own groups;
columns have the kinds the file gives them; lists and structures come as Python's lists and dicts.
Leaves to others: the format (pyarrow).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, Final

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.excel_zip import BROKEN
from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import Kind
from gguf_widgets.batch.files.names import check_width, made_up, unique_names
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Options, Row, Table
from gguf_widgets.core.errors import GgufWidgetsError, TableFileError

__all__ = ["ParquetReader"]

_BATCH_BYTES: Final = 8 << 20
_MAX_BATCH_ROWS: Final = 4096


class ParquetReader:
    """Reads one Parquet file.

    Parameters
    ----------
    source : Source
    options : Options
    """

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options

    def survey(self, limit: int | None) -> Table:  # noqa: ARG002 - the file's end tells all
        """Look at the table; see `table.Reader`."""
        table = Table(format=Format.PARQUET)
        with self._opened() as file:
            schema, facts = file.schema_arrow, file.metadata
            check_width(len(schema.names), self._source.shown)
            names = [name or made_up(number) for number, name in enumerate(schema.names, 1)]
            table.columns = unique_names(
                names, self._options.duplicates, table.problems, table.notes
            )
            table.kinds = tuple(_kind(field.type) for field in schema)
            nulls = _nulls(facts)
            table.missing = tuple(nulls.get(name, 1) > 0 for name in schema.names)
            table.num_rows = facts.num_rows
        if not table.num_rows or not table.columns:
            raise TableFileError(f"{self._source.shown} holds no rows.", problem="empty")
        if others := [
            f"{name!r} ({field.type})"
            for name, field, kind in zip(table.columns, schema, table.kinds, strict=True)
            if kind is Kind.BYTES
        ]:
            table.notes.append(f"Bytes, not text, are in {', '.join(others[:5])}.")
        return table

    def rows(self, table: Table) -> Generator[Row]:
        """Hand out the rows; see `table.Reader`."""
        with self._opened() as file:
            facts = file.metadata
            whole = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
            each = max(1, whole // max(1, facts.num_rows))
            batches = file.iter_batches(
                batch_size=max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // each)), use_threads=False
            )
            for batch in batches:
                columns = [_values(column) for column in batch.columns]
                if columns:
                    yield from zip(*columns, strict=True)
        del table

    @contextlib.contextmanager
    def _opened(self) -> Generator[Any]:
        parquet, arrow = needs.parquet(), needs.pyarrow()
        try:
            with self._source.open_raw() as raw:
                # A buffer: else the library reads a whole group's column at once.
                file = parquet.ParquetFile(raw, buffer_size=1 << 18, pre_buffer=False)
                try:
                    yield file
                finally:
                    file.close()
        except GgufWidgetsError:
            raise
        except (*BROKEN, arrow.ArrowException) as error:
            raise TableFileError(
                f"{self._source.shown} is a damaged Parquet file, or of a kind that pyarrow does"
                f" not read ({str(error).splitlines()[0] if str(error) else error!r}).",
                problem="damaged",
            ) from error


def _kind(arrow_type: Any) -> Kind:
    types = needs.pyarrow().types
    if types.is_dictionary(arrow_type):
        arrow_type = arrow_type.value_type
    if types.is_timestamp(arrow_type):
        return Kind.DATETIME if arrow_type.tz is None else Kind.AWARE
    for test, kind in (
        (types.is_null, Kind.EMPTY),
        (types.is_boolean, Kind.BOOLEAN),
        (types.is_uint64, Kind.MIXED),  # beyond the integers of 64 bits with a sign
        (types.is_integer, Kind.INTEGER),
        (types.is_floating, Kind.NUMBER),
        (types.is_date, Kind.DATE),
        (_is_text, Kind.TEXT),
        (_is_bytes, Kind.BYTES),
    ):
        if test(arrow_type):
            return kind
    return Kind.MIXED


def _is_text(arrow_type: Any) -> bool:
    types = needs.pyarrow().types
    return bool(
        types.is_string(arrow_type)
        or types.is_large_string(arrow_type)
        or types.is_string_view(arrow_type)
    )


def _is_bytes(arrow_type: Any) -> bool:
    types = needs.pyarrow().types
    return bool(
        types.is_binary(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
        or types.is_binary_view(arrow_type)
    )


def _nulls(facts: Any) -> dict[str, int]:
    """Return how many values are missing in each column, where the file says so."""
    found: dict[str, int] = {}
    unknown: set[str] = set()
    for i in range(facts.num_row_groups):
        group = facts.row_group(i)
        for j in range(group.num_columns):
            column = group.column(j)
            name, statistics = column.path_in_schema, column.statistics
            if statistics is None or not statistics.has_null_count:
                unknown.add(name)
            else:
                found[name] = found.get(name, 0) + statistics.null_count
    return {name: count for name, count in found.items() if name not in unknown}


def _values(column: Any) -> list[Any]:
    arrow = needs.pyarrow()
    kind = column.type
    if arrow.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's times have microseconds; the few that have more come as pandas' own.
        with contextlib.suppress(arrow.ArrowInvalid):
            column = column.cast(arrow.timestamp("us", kind.tz))
    values: list[Any] = column.to_pylist()
    if arrow.types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    return values
