"""Writing CSV, TSV, JSON, JSONL and plain lines.

Promises: rows are written as they come; what is written reads back as the same values, as far as
the format can hold them; a row that plain lines cannot hold is refused with its number. Leaves to
others: values (`values`), the file's name (`new_file`).

CSV
---
Cells are quoted where they have to be (RFC 4180), and where a space at their start could be taken
for the delimiter's; None is an empty cell, and so is an empty text: CSV has one way to say both.
Rows end with a line feed.

A cell such as ``=HYPERLINK(...)``, written by a model, is run as a formula when a person opens the
file in a spreadsheet program. Still cells are written as they are: a CSV is read by programs first,
replies often begin with "-", and a mark in front of them would be a fault there. They are counted
and told. ``for_excel`` is for the other case: it puts an apostrophe in front of such texts (as
OWASP advises), and the byte order mark by which Excel knows UTF-8. The Excel format needs neither.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final

from gguf_widgets.batch.files.limits import many
from gguf_widgets.batch.files.table import Row
from gguf_widgets.batch.files.values import Changes, flat_text, json_ready
from gguf_widgets.core.errors import InvalidValueError, TableFileError

__all__ = ["write_delimited", "write_json", "write_json_lines", "write_lines"]

# csv quotes what holds the delimiter, a quote or a line feed; of these it does not know.
_QUOTE_TOO: Final = re.compile(r"\r|\A[ \ufeff]")
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")


def write_delimited(
    file: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Row],
    changes: Changes,
    *,
    delimiter: str,
    encoding: str,
    for_excel: bool,
) -> tuple[int, list[str]]:
    """Write cells; return how many rows, and what a person should know."""
    text = io.TextIOWrapper(file, "utf-8-sig" if for_excel else encoding, newline="")
    as_needed = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    all_quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    count = formulas = 0

    def write(cells: list[str]) -> None:
        writer = all_quoted if any(map(_QUOTE_TOO.search, cells)) else as_needed
        writer.writerow(cells)

    try:
        guarded = [f"'{name}" if for_excel and _FORMULA.match(name) else name for name in columns]
        write(guarded)
        for count, row in enumerate(rows, 1):
            cells = []
            for value, name in zip(row, columns, strict=True):
                cell = value if type(value) is str else flat_text(value, count, name, changes)
                # Numbers are no formulas, whatever their sign.
                if cell and isinstance(value, str | list | dict) and _FORMULA.match(cell):
                    formulas += 1
                    cell = f"'{cell}" if for_excel else cell
                cells.append(cell)
            write(cells)
        text.flush()
    except UnicodeEncodeError as error:
        raise TableFileError(
            f"Row {count:,} holds {error.object[error.start]!r}, which {encoding} does not have."
            ' Give encoding="utf-8", which has everything.',
            problem="encoding",
            row=count,
        ) from error
    finally:
        text.detach()
    return count, _about_formulas(formulas, for_excel)


def _about_formulas(count: int, for_excel: bool) -> list[str]:
    if not count:
        return []
    note = (
        f"{many(count, 'cell')} {'begins' if count == 1 else 'begin'} with =, +, - or @, which a"
        " spreadsheet program runs as a formula"
    )
    if for_excel:
        return [f"{note}; an apostrophe was put in front."]
    return [f"{note}. To open the table there, write it as Excel, or with for_excel=True."]


def write_json_lines(
    file: IO[bytes], columns: Sequence[str], rows: Iterable[Row], changes: Changes
) -> int:
    """Write one object a line; return how many."""
    count = 0
    for count, row in enumerate(rows, 1):
        file.write(_object(columns, row, count, changes) + b"\n")
    return count


def write_json(
    file: IO[bytes], columns: Sequence[str], rows: Iterable[Row], changes: Changes
) -> int:
    """Write a list of objects, one a line; return how many."""
    count = 0
    file.write(b"[")
    for count, row in enumerate(rows, 1):
        file.write((b"\n" if count == 1 else b",\n") + _object(columns, row, count, changes))
    file.write(b"\n]\n" if count else b"]\n")
    return count


def _object(columns: Sequence[str], row: Row, number: int, changes: Changes) -> bytes:
    values: dict[str, Any] = {
        name: json_ready(value, number, name, changes)
        for name, value in zip(columns, row, strict=True)
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


def write_lines(
    file: IO[bytes], columns: Sequence[str], rows: Iterable[Row], changes: Changes, *, encoding: str
) -> int:
    """Write one row a line; return how many."""
    if len(columns) != 1:
        raise InvalidValueError(
            f"A text file has one column, and this table has {len(columns):,}. Give"
            " columns=[one of them], or write it as CSV.",
            name="columns",
        )
    text = io.TextIOWrapper(file, encoding, newline="")
    count = 0
    try:
        for count, (value,) in enumerate(rows, 1):
            line = flat_text(value, count, columns[0], changes)
            if not line.strip() or "\n" in line or "\r" in line:
                what = "is empty" if not line.strip() else "has several lines"
                raise TableFileError(
                    f"Row {count:,} {what}, and a text file has one row on each line. Write the"
                    " table as CSV or JSONL.",
                    problem="value",
                    row=count,
                )
            text.write(line + "\n")
        text.flush()
    except UnicodeEncodeError as error:
        raise TableFileError(
            f"Row {count:,} holds {error.object[error.start]!r}, which {encoding} does not have."
            ' Give encoding="utf-8", which has everything.',
            problem="encoding",
            row=count,
        ) from error
    finally:
        text.detach()
    return count
