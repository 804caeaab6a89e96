"""Writing a table to a file.

Promises: rows are written as they come, in memory for a few of them; the file is there as a whole
or not at all (`new_file`); lists and dicts are JSON text where a format has no other way; what was
written as something else than it was is counted and told in `Written.notes`; what cannot be written
is refused with its row, and nothing is left behind. Leaves to others: formats (`write_text`,
`write_excel`, `write_parquet`), OpenAI's results (`openai_results`).
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from gguf_widgets.batch.files.dialect import Dialect
from gguf_widgets.batch.files.formats import Format, format_named, format_of_name
from gguf_widgets.batch.files.limits import listed
from gguf_widgets.batch.files.new_file import new_file
from gguf_widgets.batch.files.row_input import RowInput, rows_of
from gguf_widgets.batch.files.table import Row
from gguf_widgets.batch.files.values import Changes, plain_rows
from gguf_widgets.batch.files.write_excel import check_excel_size, write_excel
from gguf_widgets.batch.files.write_parquet import write_parquet
from gguf_widgets.batch.files.write_text import (
    write_delimited,
    write_json,
    write_json_lines,
    write_lines,
)
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.text_encoding import known_encoding

__all__ = ["Written", "write"]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A table that was written.

    Attributes
    ----------
    path : Path
    format : Format
    num_rows, num_bytes : int
    notes : tuple of str
        What a person should know: what could not be written as it was, and how it was.
    """

    path: Path
    format: Format
    num_rows: int
    num_bytes: int
    notes: tuple[str, ...] = ()


class _Cells(NamedTuple):
    """How the cells of a text are written."""

    delimiter: str | None
    encoding: str
    for_excel: bool


def write(
    path: str | os.PathLike[str],
    rows: Any,
    *,
    format: Format | str | None = None,  # noqa: A002 - the word people look for
    columns: Sequence[str] | None = None,
    index: bool | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    for_excel: bool = False,
) -> Written:
    """Write a table; a file that is there is replaced once the new one is whole.

    Parameters
    ----------
    path : str or path
        A text format with ".gz" behind its ending is packed.
    rows : DataFrame, RowSource, iterable of dict, or iterable of sequence
        Values are None, bool, int, float, str, dates and times, bytes, lists, dicts, and what
        pandas, NumPy and pydantic have in place of them. NaN and NaT are missing values.
    format : {"csv", "tsv", "json", "jsonl", "txt", "excel", "parquet"}, optional
        By the path's ending unless it is said.
    columns : sequence of str, optional
        The names, in order: needed for sequences; of the others it chooses and orders columns.
    index : bool, optional
        Whether a DataFrame's index is written; any but the plain 0, 1, 2, ... is.
    delimiter : str, optional
        Of CSV; a comma.
    encoding : str, default "utf-8"
        Of CSV, TSV and TXT; JSON is UTF-8.
    for_excel : bool, default False
        Makes a CSV that a spreadsheet program opens safely; see `write_text`.

    Raises
    ------
    TableFileError
        It cannot be written: a value no table can hold, more rows or longer cells than Excel has, a
        text file with several columns, the disk. What was there before is untouched.
    InvalidValueError
        An argument is none of those it can be.
    MissingDependencyError
        Excel and Parquet need a package that is not installed.
    """
    chosen = _format(path, format)
    given = rows_of(rows, columns, index, midnights=chosen is not Format.PARQUET)
    known = known_encoding(encoding)
    Dialect(delimiter or ",").check()
    if chosen is Format.EXCEL:
        check_excel_size(given.num_rows)
    packed = os.fspath(path).lower().endswith(".gz")
    if packed and chosen in (Format.EXCEL, Format.PARQUET):
        raise InvalidValueError(
            f"{chosen.value.capitalize()} is packed already; leave .gz out of the name.",
            name="path",
        )
    _check_options(chosen, delimiter, known, for_excel)
    changes = Changes()
    cells = _Cells(delimiter, known, for_excel)
    with new_file(path) as part:
        count, notes = _write(part, chosen, given, changes, cells, packed)
        size = part.stat().st_size
    return Written(
        path=Path(os.fspath(path)),
        format=chosen,
        num_rows=count,
        num_bytes=size,
        notes=(*given.notes, *notes, *changes.notes()),
    )


def _check_options(chosen: Format, delimiter: str | None, encoding: str, for_excel: bool) -> None:
    """Refuse an option that would be ignored."""
    for name, given, formats in (
        ("delimiter", delimiter is not None, (Format.CSV,)),
        ("encoding", encoding != "utf-8", (Format.CSV, Format.TSV, Format.TXT)),
        ("for_excel", for_excel, (Format.CSV, Format.TSV, Format.EXCEL)),
    ):
        if given and chosen not in formats:
            raise InvalidValueError(
                f"{name} is for {', '.join(formats)}, and this is written as {chosen}. Leave it"
                " out.",
                name=name,
            )
    if for_excel and encoding != "utf-8":
        raise InvalidValueError(
            "for_excel writes UTF-8 with the mark that Excel knows it by; leave encoding out.",
            name="encoding",
        )


def _format(path: str | os.PathLike[str], wanted: Format | str | None) -> Format:
    if wanted is not None:
        chosen = format_named(wanted)
    else:
        found = format_of_name(os.fspath(path))
        if found is None:
            raise InvalidValueError(
                f"{plain_text(Path(path).name, 80)!r} does not say by its ending what it is to be."
                " Known are .csv, .tsv, .json, .jsonl, .txt, .xlsx and .parquet; or give format=.",
                name="format",
            )
        chosen = found
    if chosen is Format.OPENAI:
        raise InvalidValueError(
            "Results in OpenAI's layout are written by openai_results.write_results.",
            name="format",
        )
    return chosen


def _write(
    part: Path,
    chosen: Format,
    given: RowInput,
    changes: Changes,
    cells: _Cells,
    packed: bool,
) -> tuple[int, list[str]]:
    columns = given.columns
    rows = plain_rows(columns, given.rows, changes)
    if chosen is Format.PARQUET:
        return write_parquet(part, columns, rows, changes), []
    with part.open("wb") as raw:
        if chosen is Format.EXCEL:
            return write_excel(raw, columns, rows, changes), []
        if not packed:
            return _write_text(raw, chosen, columns, rows, changes, cells)
        # No name and no time of its own, so that equal tables are equal files.
        with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packing:
            file = cast("IO[bytes]", packing)
            return _write_text(file, chosen, columns, rows, changes, cells)


def _write_text(
    file: IO[bytes],
    chosen: Format,
    columns: tuple[str, ...],
    rows: Iterator[Row],
    changes: Changes,
    cells: _Cells,
) -> tuple[int, list[str]]:
    if chosen is Format.JSON:
        return write_json(file, columns, rows, changes), []
    if chosen is Format.JSONL:
        return write_json_lines(file, columns, rows, changes), []
    if chosen is Format.TXT:
        return write_lines(file, columns, rows, changes, encoding=cells.encoding), []
    if bad := [name for name in columns if "\n" in name or "\r" in name]:
        raise TableFileError(
            f"The name of a column has several lines: {listed(bad)}. Rename it.", problem="columns"
        )
    return write_delimited(
        file,
        columns,
        rows,
        changes,
        delimiter=cells.delimiter or ("\t" if chosen is Format.TSV else ","),
        encoding=cells.encoding,
        for_excel=cells.for_excel,
    )
