"""Writing Excel files.

Promises: a text is a text, also where it begins with "=" or looks like an error, so that nothing a
model wrote is ever run; what Excel cannot hold is refused (a row or a cell too many or too long) or
written as text and told (a date before 1900, a time with an offset, a number of more than 15
digits); memory does not grow with the rows. Leaves to others: the file's XML (openpyxl), values
(`values`).
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.excel_zip import escaped
from gguf_widgets.batch.files.limits import MAX_EXCEL_CELL, MAX_EXCEL_ROWS
from gguf_widgets.batch.files.table import Row
from gguf_widgets.batch.files.values import Changes, flat_text
from gguf_widgets.core.errors import TableFileError

__all__ = ["check_excel_size", "write_excel"]

# Excel counts a 29th of February 1900 that never was; behind it all programs agree.
_FIRST_DATE: Final = dt.date(1900, 3, 1)

# Excel keeps 15 digits of a number.
_MAX_WHOLE: Final = 10**15


def check_excel_size(num_rows: int | None) -> None:
    """Refuse a table that has more rows than a sheet, before anything is written.

    Raises
    ------
    TableFileError
        "too_long".
    """
    if num_rows is not None and num_rows >= MAX_EXCEL_ROWS:
        raise TableFileError(
            f"The table has {num_rows:,} rows, and an Excel sheet holds {MAX_EXCEL_ROWS - 1:,}"
            " below its names. Write it as CSV or Parquet.",
            problem="too_long",
            limit=MAX_EXCEL_ROWS - 1,
        )


def write_excel(
    file: IO[bytes], columns: Sequence[str], rows: Iterable[Row], changes: Changes
) -> int:
    """Write one sheet; return how many rows."""
    book = needs.openpyxl().Workbook(write_only=True)
    sheet = book.create_sheet("Table")
    sheet.freeze_panes = "A2"
    count = 0
    try:
        sheet.append([_text_cell(sheet, name, 0, name, bold=True) for name in columns])
        for count, row in enumerate(rows, 1):
            if count >= MAX_EXCEL_ROWS:
                check_excel_size(count)
            sheet.append(
                [
                    _cell(sheet, value, count, name, changes)
                    for value, name in zip(row, columns, strict=True)
                ]
            )
    except BaseException:
        # The sheet's XML is in a temporary file of its own, which closing the sheet takes along.
        sheet.close()
        book.close()
        raise
    book.save(file)
    return count


def _cell(sheet: Any, value: Any, row: int, column: str, changes: Changes) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text_cell(sheet, value, row, column) if value else None
    if isinstance(value, int):
        if abs(value) < _MAX_WHOLE:
            return value
        changes.add("Whole numbers of more than 15 digits were written as text", row, column)
    elif isinstance(value, float):
        if math.isfinite(value):
            return _number(sheet, value)
        changes.add("Excel has no infinite numbers; they were written as text", row, column)
    elif isinstance(value, dt.datetime):
        if value.tzinfo is None and value.date() >= _FIRST_DATE:
            if value.microsecond % 1000:
                changes.add("Times were cut to thousandths of a second", row, column)
                value = value.replace(microsecond=value.microsecond // 1000 * 1000)
            return _dated_cell(sheet, value, "yyyy-mm-dd hh:mm:ss")
        changes.add("Times with an offset or before 1900 were written as text", row, column)
    elif isinstance(value, dt.date):
        if value >= _FIRST_DATE:
            return _dated_cell(sheet, value, "yyyy-mm-dd")
        changes.add("Dates before March 1900 were written as text", row, column)
    elif isinstance(value, decimal.Decimal) and value.is_finite():
        number = float(value)
        if decimal.Decimal(repr(number)) == value:
            return _number(sheet, number)
        changes.add("Decimals of more than 15 digits were written as text", row, column)
    return _text_cell(sheet, flat_text(value, row, column, changes), row, column)


def _number(sheet: Any, value: float) -> Any:
    if float(f"{value:.16g}") == value:  # what the library writes
        return value
    cell = needs.openpyxl().cell.WriteOnlyCell(sheet, repr(value))
    cell.data_type = "n"
    return cell


def _dated_cell(sheet: Any, value: dt.date, number_format: str) -> Any:
    cell = needs.openpyxl().cell.WriteOnlyCell(sheet, value)
    cell.number_format = number_format
    return cell


def _text_cell(sheet: Any, text: str, row: int, column: str, *, bold: bool = False) -> Any:
    openpyxl = needs.openpyxl()
    stored = escaped(text)
    # Excel counts UTF-16 units; the library would cut what is longer without a word.
    length = max(len(stored), len(text) + sum(ord(c) > 0xFFFF for c in text))
    if length > MAX_EXCEL_CELL:
        where = f"Row {row:,} of {column!r:.60}" if row else f"The name {column!r:.60}"
        raise TableFileError(
            f"{where} has {length:,} characters, and a cell in Excel holds {MAX_EXCEL_CELL:,}."
            " Write the table as CSV, JSONL or Parquet.",
            problem="too_long",
            row=row,
            column=column,
            limit=MAX_EXCEL_CELL,
        )
    cell = openpyxl.cell.WriteOnlyCell(sheet, stored)
    cell.data_type = "s"  # the library has taken "=..." for a formula, "#N/A" for an error
    if bold:
        cell.font = openpyxl.styles.Font(bold=True)
    return cell
