"""Looking at a table before anything is done with it.

Promises: what was found of a file (format, encoding, delimiter, names, sheets), how sure that is,
what is wrong with it and in which line, and its first rows; a file with faulty rows is shown with
the faults, not refused; a large file is looked at in its beginning, and that is said. Leaves to
others: the screen, the whole file (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import Kind, dtype_of
from gguf_widgets.batch.files.limits import many
from gguf_widgets.batch.files.opening import open_reader
from gguf_widgets.batch.files.read_excel import ExcelReader
from gguf_widgets.batch.files.source import Source, TableSource
from gguf_widgets.batch.files.table import Duplicates, Options, Ragged, Row, Table
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import format_bytes

__all__ = ["TableInfo", "look"]

# Up to this size a file is looked at to its end: a second or two.
_WHOLE_BYTES: Final = 16 << 20
_PART_ROWS: Final = 20_000

# A preview is for the eye: behind so many characters it ends.
_PREVIEW_CHARS: Final = 2_000_000

# What is packed is longer, by so many powers of two, and Excel's cells take longer to read, too.
_PACKED_SHIFT: Final = 5


class TableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a table found.

    Attributes
    ----------
    name : str
    format : Format
    size_bytes : int
        Of the file, as it lies on the disk.
    packed : bool
        Whether it is packed with gzip.
    columns : tuple of str
    kinds : tuple of Kind
        What the values of each column are, as far as was looked.
    dtypes : tuple of str
        The pandas dtypes they would have.
    num_rows : int or None
        None if the file is too large to be counted at a glance; then `about_rows` is an estimate.
    about_rows : int or None
    complete : bool
        Whether all of it was looked at.
    problems : tuple of str
        Why `read` would refuse it; empty if it would not.
    notes : tuple of str
        What was guessed, found or would be done.
    encoding, delimiter, quote : str or None
        Of a text; a delimiter "" says that each line is one cell.
    header : bool or None
        Whether names were found in the first row.
    sheet : str or None
    sheets : tuple of str
        Of an Excel file.
    column : str or None
        The one with the longest texts, which is what a prompt is most often about; or the one
        asked for.
    rows : tuple of tuple
        The first rows, in the order of `columns`.
    """

    name: str
    format: Format
    size_bytes: int
    packed: bool
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    dtypes: tuple[str, ...]
    num_rows: int | None
    about_rows: int | None
    complete: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    encoding: str | None
    delimiter: str | None
    quote: str | None
    header: bool | None
    sheet: str | None
    sheets: tuple[str, ...]
    column: str | None
    rows: tuple[Row, ...]

    def values(self) -> list[Any]:
        """Return what the preview's rows have in the chosen column."""
        if self.column is None:
            return []
        place = self.columns.index(self.column)
        return [row[place] for row in self.rows]

    def describe(self) -> str:
        """Return what was found as one line: "CSV, utf-8, comma, 3 columns, 200 rows"."""
        names = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", " ": "space"}
        count = f"{self.num_rows:,} rows" if self.num_rows is not None else "rows not counted"
        if self.num_rows is None and self.about_rows is not None:
            count = f"about {self.about_rows:,} rows"
        parts = [
            self.format.value.capitalize() if self.format is Format.EXCEL else self.format.upper(),
            format_bytes(self.size_bytes) + (", packed" if self.packed else ""),
            self.encoding,
            f"parted by {names.get(self.delimiter, repr(self.delimiter))}"
            if self.delimiter
            else "",
            f"sheet {self.sheet!r}" if self.sheet else "",
            f"{len(self.columns):,} column{'' if len(self.columns) == 1 else 's'}",
            "1 row" if self.num_rows == 1 else count,
        ]
        return ", ".join(part for part in parts if part)


def look(
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
    column: str | None = None,
    num_rows: int = 20,
) -> TableInfo:
    """Look at a table: what it is, what is wrong with it, its first rows.

    Parameters
    ----------
    source, name, format, encoding, delimiter, quote, header, sheet, ragged, duplicates, types
        As of `reading.read`: give what was found wrongly, and look again.
    column : str, optional
        The column to be shown by `TableInfo.values`.
    num_rows : int, default 20
        How many rows the preview has, 0 to 1,000; fewer where cells are very long, which is told.

    Raises
    ------
    TableFileError
        It is no table at all, or cannot be read.
    InvalidValueError, MissingDependencyError
        As `reading.read`.
    """
    if not 0 <= num_rows <= 1000:
        raise InvalidValueError(
            f"num_rows is {num_rows}; a preview has from 0 to 1,000 rows.", name="num_rows"
        )
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
    reader = open_reader(opened, options, preview=True)
    packed = opened.packed or isinstance(reader, ExcelReader)
    large = opened.size > (_WHOLE_BYTES >> _PACKED_SHIFT if packed else _WHOLE_BYTES)
    table = reader.survey(_PART_ROWS if large else None)
    rows = _first_rows(reader, table, num_rows)
    if len(rows) < min(num_rows, table.num_rows or num_rows) and not table.problems:
        table.notes.append(
            f"The preview ends after {many(len(rows), 'row')}, because their cells are very long."
        )
    if column is not None and column not in table.columns:
        raise InvalidValueError(
            f"There is no column {column!r:.60}; columns are {', '.join(table.columns[:20])}.",
            name="column",
        )
    notes = list(table.notes)
    if not table.complete and not table.problems:
        notes.append(
            f"The file is large: its first {_PART_ROWS:,} rows were looked at. All of it is checked"
            " before it is used."
        )
    return TableInfo(
        name=opened.name,
        format=table.format,
        size_bytes=opened.size,
        packed=opened.packed,
        columns=table.columns,
        kinds=table.kinds,
        dtypes=tuple(
            dtype_of(kind, missing)
            for kind, missing in zip(table.kinds, table.missing, strict=True)
        ),
        num_rows=table.num_rows,
        about_rows=table.num_rows or _estimate(opened, table),
        complete=table.complete,
        problems=tuple(table.problems),
        notes=tuple(notes),
        encoding=table.encoding,
        delimiter=table.delimiter,
        quote=table.quote,
        header=table.header,
        sheet=table.sheet,
        sheets=table.sheets,
        column=column or _longest(table, rows),
        rows=tuple(rows),
    )


def _first_rows(reader: Any, table: Table, num_rows: int) -> list[Row]:
    rows: list[Row] = []
    room = _PREVIEW_CHARS
    source = reader.rows(table)
    try:
        while len(rows) < num_rows and room > 0 and (row := next(source, None)) is not None:
            rows.append(row)
            room -= sum(len(cell) for cell in row if isinstance(cell, str | bytes))
    except TableFileError as error:
        # The fault is among the problems already, unless it is one of another kind.
        if not table.problems:
            table.problems.append(error.message)
    finally:
        source.close()
    return rows


def _estimate(source: Source, table: Table) -> int | None:
    """Return how many rows there may be, from the length of the first lines."""
    if table.claimed is not None:
        return max(0, table.claimed - bool(table.header)) or None
    rows, lines = table.looked
    if not rows or not lines or source.packed:
        return None
    head = source.head(1 << 20)
    ends = head.count(b"\n") or head.count(b"\r")
    return round(source.size * ends / len(head) * rows / lines) if ends else None


def _longest(table: Table, rows: Sequence[Row]) -> str | None:
    """Return the column whose texts are the longest; without texts, the first."""
    if not table.columns:
        return None
    lengths = [
        sum(len(row[place]) for row in rows if isinstance(row[place], str))
        for place in range(len(table.columns))
    ]
    return table.columns[lengths.index(max(lengths))]
