"""Reading a table's file: typed rows, one at a time.

Promises: rows come in memory for a few of them, whatever the size of the file (`json_items` and
`read_excel` say what of JSON and Excel has to be held); each is a dict from column to a Python
value of the column's kind, None where it is missing; what is wrong with the file is told before the
first row, with line numbers, and what was done about it is in `RowSource.notes`; a file that
changes meanwhile is noticed. Leaves to others: the formats (`read_delimited`, ...), the kinds
(`kinds`), writing (`writing`).

CSV, TSV, JSON, JSONL and TXT are read twice: once to see what each column is, how many rows there
are and whether all of them are sound, once for the rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import importlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import Kind, dtype_of
from gguf_widgets.batch.files.opening import open_reader
from gguf_widgets.batch.files.source import Source, TableSource
from gguf_widgets.batch.files.table import Duplicates, Options, Ragged, Reader, Row, Table
from gguf_widgets.core.errors import TableFileError

__all__ = ["RowSource", "read"]


def read(
    source: TableSource,
    *,
    name: str = "",
    format: Format | str | None = None,  # noqa: A002 - the word people look for
    encoding: str | None = None,
    delimiter: str | None = None,
    quote: str | bool | None = True,
    header: bool | int | None = None,
    sheet: str | int | None = None,
    ragged: Ragged = "refuse",
    duplicates: Duplicates = "refuse",
    types: Literal["auto", "text"] | Mapping[str, str] = "auto",
) -> RowSource:
    """Open a table to read its rows.

    Parameters
    ----------
    source : str, path, bytes or Pasted
        A path (``.gz`` is unpacked on the way), the bytes of a file, or ``Pasted(text)``.
    name : str, optional
        What bytes are called; the ending says the format where the content does not.
    format : {"csv", "tsv", "json", "jsonl", "txt", "excel", "parquet", "openai"}, optional
        Found by content, then by name, unless it is said.
    encoding : str, optional
        Of a text: found (see `encoding`) unless it is said.
    delimiter : str, optional
        One character; found among tab, semicolon, bar and comma.
    quote : str or None, optional
        What stands around cells that hold delimiters; None if quotes are plain text.
    header : bool or int, optional
        Whether the first row holds the columns' names, or the number of the line (of Excel: the
        row) that does; found unless it is said. Columns without names are "column_1", ...
    sheet : str or int, optional
        Of an Excel file: its name or its number from 1. The first that is not hidden.
    ragged : {"refuse", "fill", "skip"}
        What becomes of a CSV whose rows have different numbers of cells: it is refused with the
        numbers of the lines; cells that are not there are missing, and those too many get columns
        of their own; such rows are left out. `RowSource.notes` says which.
    duplicates : {"refuse", "number"}
        What becomes of two columns of one name.
    types : {"auto", "text"} or dict of str to str
        "text" leaves the cells of a CSV as they are; a dict names the kind of some columns: "text",
        "integer", "number", "boolean", "date", "datetime".

    Raises
    ------
    TableFileError
        The file cannot be read, or something in it has to be decided first: the message says what,
        where, and how to go on; ``details["problems"]`` lists all of it.
    InvalidValueError
        An argument is none of those it can be.
    MissingDependencyError
        Excel and Parquet need a package that is not installed.
    """
    options = Options.of(
        format=format,
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        header=header,
        sheet=sheet,
        ragged=ragged,
        duplicates=duplicates,
        types=types,
    )
    opened = Source(source, name)
    reader = open_reader(opened, options)
    table = reader.survey(None)
    if table.problems:
        first, *others = table.problems
        more = f" (There is more: {' '.join(others)})" if others else ""
        raise TableFileError(
            f"{opened.shown} is not read: {first}{more}",
            problem="rows",
            problems=list(table.problems),
        )
    return RowSource(opened, reader, table)


class RowSource:
    r"""The rows of a table; it can be read any number of times.

    Iterating gives a dict for each row; `tuples` gives the values alone.

    Examples
    --------
    >>> from gguf_widgets.batch.files.source import Pasted
    >>> rows = read(Pasted("name\tage\nAnn\t31\nBo\t\n"))
    >>> rows.columns, rows.num_rows, list(rows)
    (('name', 'age'), 2, [{'name': 'Ann', 'age': 31}, {'name': 'Bo', 'age': None}])
    """

    def __init__(self, source: Source, reader: Reader, table: Table) -> None:
        self._source = source
        self._reader = reader
        self._table = table

    @property
    def name(self) -> str:
        """The file's name."""
        return self._source.name

    @property
    def folder(self) -> Path | None:
        """Where the file is; None for what is no file."""
        path = self._source.path
        return None if path is None else path.parent

    @property
    def format(self) -> Format:
        """What the file is."""
        return self._table.format

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, in order; no two the same."""
        return self._table.columns

    @property
    def kinds(self) -> dict[str, Kind]:
        """What the values of each column are."""
        return dict(zip(self._table.columns, self._table.kinds, strict=True))

    @property
    def dtypes(self) -> dict[str, str]:
        """The pandas dtype of each column: "Int64" where whole numbers are missing, "int64" else.

        A date is "datetime64[us]" there: pandas has none without a time.
        """
        table = self._table
        return {
            name: dtype_of(kind, missing)
            for name, kind, missing in zip(table.columns, table.kinds, table.missing, strict=True)
        }

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        assert self._table.num_rows is not None  # noqa: S101 - all of it was surveyed
        return self._table.num_rows

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found or done that a person should know, one sentence or two each."""
        return tuple(self._table.notes)

    @property
    def table(self) -> Table:
        """All that is known of it: encoding, delimiter, sheet, ...; a copy."""
        return dataclasses.replace(self._table)

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        columns = self.columns
        for values in self.tuples():
            yield dict(zip(columns, values, strict=True))

    def tuples(self) -> Generator[Row]:
        """Read the rows as tuples, in the order of `columns`.

        Raises
        ------
        TableFileError
            The file has changed since it was opened, or cannot be read any more.
        """
        self._source.unchanged()
        count = 0
        with contextlib.closing(self._reader.rows(self._table)) as rows:
            for row in rows:
                count += 1
                yield row
        self._source.unchanged()
        if count != self.num_rows:
            raise TableFileError(
                f"{self._source.shown} gave {count:,} rows and had {self.num_rows:,} when it was"
                " opened. It may have been changed meanwhile.",
                problem="changed",
            )

    def to_frame(self) -> Any:
        """Return the table as a pandas DataFrame, with the dtypes of `dtypes`.

        All of it is in memory then; `tuples` needs no more than a row.
        """
        pandas = needs.pandas()
        columns: list[list[Any]] = [[] for _ in self.columns]
        for row in self.tuples():
            for cells, value in zip(columns, row, strict=True):
                cells.append(value)
        return pandas.DataFrame(
            {
                name: _series(pandas, cells, dtype)
                for (name, dtype), cells in zip(self.dtypes.items(), columns, strict=True)
            }
        )

    def __repr__(self) -> str:
        return (
            f"<RowSource {self.name!r}: {self.format}, {self.num_rows:,} rows of"
            f" {len(self.columns):,} columns>"
        )


def _series(pandas: Any, cells: list[Any], dtype: str) -> Any:
    if not dtype.startswith("datetime64"):
        return pandas.Series(cells, dtype=dtype)
    # By way of NumPy: pandas' own conversions may go through nanoseconds, in which there is no year
    # before 1678 or after 2262.
    numpy = importlib.import_module("numpy")
    aware = dtype.endswith("UTC]")
    if aware:
        cells = [
            None if cell is None else cell.astimezone(dt.UTC).replace(tzinfo=None) for cell in cells
        ]
    gap = numpy.datetime64("NaT")
    values = numpy.array([gap if cell is None else cell for cell in cells], "datetime64[us]")
    series = pandas.Series(values)
    return series.dt.tz_localize("UTC") if aware else series
