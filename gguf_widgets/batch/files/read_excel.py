"""Excel files (.xlsx).

Promises: rows come one at a time, from one sheet, named or the first that is not hidden; whatever a
file says of its size, no more cells are made than it has, but for a bounded number; empty rows and
columns are left out and counted; a formula counts as the value that was saved with it, and one
without (of a file that no spreadsheet program has computed) is told; an error such as #DIV/0! is
missing, and told. A date is a date where its cell is shown without a time. Leaves to others: the
archive (`excel_zip`), the sheet's XML (openpyxl).

Memory: openpyxl keeps the texts that several cells share; everything else streams.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import re
from collections.abc import Generator, Iterator
from typing import IO, Any, Final

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.dialect import has_header
from gguf_widgets.batch.files.excel_zip import BROKEN, check_archive, formulas_in, unescaped
from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import Kind, ValueGuess
from gguf_widgets.batch.files.limits import MAX_EXCEL_ROWS, Faults, many
from gguf_widgets.batch.files.names import check_width, clean_names, made_up, unique_names
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Options, Row, Table
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, TableFileError

__all__ = ["ExcelReader"]

_SAMPLE_ROWS: Final = 100

# A sheet may be mostly gaps; one that is nothing else, millions of them, is a trap.
_MAX_GAPS: Final = 20_000_000

_AS_THEY_ARE: Final = frozenset((type(None), int, float, bool))

Record = tuple[int, list[Any]]


class ExcelReader:
    """Reads one sheet of an Excel file.

    Parameters
    ----------
    source : Source
    options : Options
    """

    def __init__(self, source: Source, options: Options) -> None:
        self._source = source
        self._options = options
        self._first_row = 1  # in which the rows begin, below the names
        self._places: list[int] = []  # the sheet's columns that hold anything, from 0
        self._errors = Faults(5)
        self._sheet = ""
        with self._faults(), source.open_raw() as file:
            check_archive(file, source.shown)
            self._has_formulas = formulas_in(file)

    def survey(self, limit: int | None) -> Table:
        """Look at the table; see `table.Reader`."""
        table = Table(format=Format.EXCEL)
        # One opening for all of it: that alone may take a pass over the sheet.
        with self._faults(), self._workbook() as book:
            self._choose(book, table)
            names = self._find_names(table, book)
            self._errors = Faults(5)
            guesses, num_rows, num_empty = self._find_kinds(table, book, len(names), limit)
        self._conclude(table, names, guesses)
        table.num_rows = num_rows if table.complete else None
        if table.complete and not num_rows:
            raise TableFileError(
                f"The sheet {self._sheet!r} of {self._source.shown} holds no rows.", problem="empty"
            )
        if num_empty:
            table.notes.append(f"{many(num_empty, 'empty row')} left out.")
        if self._errors:
            table.notes.append(
                f"{many(self._errors.count, 'cell')} of the sheet hold an error and count as"
                f" missing: {self._errors}."
            )
        self._tell_formulas(table, limit)
        return table

    def rows(self, table: Table) -> Generator[Row]:
        """Hand out the rows; see `table.Reader`."""
        places = self._places
        floats = [kind is Kind.NUMBER for kind in table.kinds]
        self._errors = Faults(0)
        with self._faults(), self._workbook() as book:
            for number, values in self._records(book):
                if number < self._first_row or not values:
                    continue
                width = len(values)
                cells = [values[place] if place < width else None for place in places]
                yield tuple(
                    [
                        float(cell) if is_float and cell is not None else cell
                        for cell, is_float in zip(cells, floats, strict=True)
                    ]
                )

    def _find_kinds(
        self, table: Table, book: Any, width: int, limit: int | None
    ) -> tuple[list[ValueGuess], int, int]:
        """Read the rows once: what each column is, how many rows there are, how many are empty."""
        guesses = [ValueGuess() for _ in range(width)]
        num_rows = num_empty = empty_before = 0
        for number, values in self._records(book):
            if number < self._first_row:
                continue
            if limit is not None and num_rows >= limit:
                table.complete = False
                break
            if not values:
                empty_before += 1
                continue
            # Empty rows below the last one that is filled are no rows at all.
            num_empty, empty_before = num_empty + empty_before, 0
            num_rows += 1
            while len(guesses) < len(values):
                check_width(len(guesses) + 1, self._source.shown)
                guesses.append(ValueGuess())
                guesses[-1].missing = num_rows > 1
            for place, guess in enumerate(guesses):
                guess.feed(values[place] if place < len(values) else None)
        return guesses, num_rows, num_empty

    @contextlib.contextmanager
    def _faults(self) -> Generator[None]:
        try:
            yield
        except GgufWidgetsError:
            raise
        except BROKEN as error:
            raise TableFileError(
                f"{self._source.shown} is a damaged Excel file ({type(error).__name__}:"
                f" {str(error) or 'no more is known'}). Save it again in a spreadsheet program.",
                problem="damaged",
            ) from error

    @contextlib.contextmanager
    def _workbook(self, *, computed: bool = True) -> Generator[Any]:
        with self._source.open_raw() as file:
            book = self._load(file, computed)
            try:
                yield book
            finally:
                book.close()

    def _load(self, file: IO[bytes], computed: bool) -> Any:
        return needs.openpyxl().load_workbook(
            file, read_only=True, data_only=computed, keep_links=False
        )

    def _choose(self, book: Any, table: Table) -> None:
        sheets = list(book.worksheets)
        table.sheets = tuple(sheet.title for sheet in sheets)
        if not sheets:
            raise TableFileError(f"{self._source.shown} has no sheet of cells.", problem="empty")
        wanted = self._options.sheet
        if wanted is None:
            shown = [sheet for sheet in sheets if sheet.sheet_state == "visible"] or sheets
            chosen = shown[0]
            if len(sheets) > 1:
                table.notes.append(
                    f"The file has {many(len(sheets), 'sheet')}; this is {chosen.title!r}. Choose"
                    " another by its name."
                )
        elif isinstance(wanted, int) and 1 <= wanted <= len(sheets):
            chosen = sheets[wanted - 1]
        elif wanted in table.sheets:
            chosen = sheets[table.sheets.index(str(wanted))]
        else:
            raise InvalidValueError(
                f"{self._source.shown} has no sheet {wanted!r:.60}. Its sheets are"
                f" {', '.join(table.sheets[:20])}; sheet is a name or a number from 1.",
                name="sheet",
            )
        self._sheet = table.sheet = chosen.title
        table.claimed = chosen.max_row

    def _records(self, book: Any) -> Iterator[Record]:
        """Read the sheet's rows with their numbers, each up to its last cell that is filled."""
        gaps = filled = 0
        for number, cells in self._cells(book):
            values = [self._value(cell) for cell in cells]
            empty = values.count(None)
            filled += len(values) - empty
            gaps += empty
            if gaps > _MAX_GAPS and gaps > 50 * filled:
                raise TableFileError(
                    f"The sheet {self._sheet!r} of {self._source.shown} has {gaps:,} empty cells"
                    f" before row {number:,} and {filled:,} that are filled, so it is not read."
                    " Copy the filled part into a new sheet.",
                    problem="bomb",
                )
            while values and values[-1] is None:
                values.pop()
            yield number, values

    def _cells(self, book: Any) -> Iterator[tuple[int, Any]]:
        sheet = book[self._sheet]
        sheet.reset_dimensions()  # what the file says of them may be anything
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number > MAX_EXCEL_ROWS:
                raise TableFileError(
                    f"{self._source.shown} has a row beyond {MAX_EXCEL_ROWS:,}, which is the last"
                    " one that Excel has.",
                    problem="damaged",
                )
            yield number, cells

    def _value(self, cell: Any) -> Any:
        value = cell.value
        if type(value) in _AS_THEY_ARE:
            return value
        if isinstance(value, str):
            if cell.data_type == "e":
                self._errors.add(f"{cell.coordinate} ({value})")
                return None
            return unescaped(value) or None
        if isinstance(value, dt.datetime):
            midnight = value.time() == dt.time()
            return value.date() if midnight and not _shows_time(cell.number_format) else value
        if isinstance(value, dt.time | dt.timedelta):
            return str(value)
        return value

    def _find_names(self, table: Table, book: Any) -> list[str]:
        wanted = self._options.header
        filled = (record for record in self._records(book) if record[1])
        if not isinstance(wanted, bool) and wanted:
            filled = (record for record in filled if record[0] >= wanted)
        sample = list(itertools.islice(filled, _SAMPLE_ROWS))
        if not sample:
            raise TableFileError(
                f"The sheet {self._sheet!r} of {self._source.shown} is empty.", problem="empty"
            )
        texts = [["" if value is None else str(value) for value in row] for _, row in sample]
        header = has_header(texts) if wanted is None else bool(wanted)
        table.header = header
        number, first = sample[0]
        self._first_row = number + header
        if not header and wanted is None:
            table.notes.append(
                "The first row was taken for data, not for the columns' names; give header=True if"
                " it holds names."
            )
        check_width(len(first), self._source.shown)
        # Whether a column without a name is there at all is seen when all rows have been.
        return ["" if value is None else str(value) for value in first] if header else []

    def _conclude(self, table: Table, names: list[str], guesses: list[ValueGuess]) -> None:
        width = max(len(names), len(guesses))
        names = names + [""] * (width - len(names))
        self._places = [
            place
            for place in range(width)
            if names[place].strip() or guesses[place].kind is not Kind.EMPTY
        ]
        if table.header:
            kept = clean_names([names[place] for place in self._places], table.notes)
        else:
            kept = [made_up(number) for number in range(1, len(self._places) + 1)]
        left = len([place for place in range(width) if place not in set(self._places)])
        if left:
            table.notes.append(f"{many(left, 'empty column')} left out.")
        table.columns = unique_names(kept, self._options.duplicates, table.problems, table.notes)
        table.kinds = tuple(guesses[place].kind for place in self._places)
        table.missing = tuple(guesses[place].missing for place in self._places)

    def _tell_formulas(self, table: Table, limit: int | None) -> None:
        """Count formulas without a saved value: openpyxl hands out None for them."""
        if not self._has_formulas:
            return
        empty = Faults(5)
        with self._faults(), self._workbook() as values, self._workbook(computed=False) as book:
            pairs = zip(self._cells(values), self._cells(book), strict=False)
            for (_, computed), (_, written) in itertools.islice(pairs, limit):
                for value, cell in zip(computed, written, strict=False):
                    if value.value is None and getattr(cell, "data_type", "") == "f":
                        empty.add(cell.coordinate)
        if empty:
            table.notes.append(
                f"{many(empty.count, 'formula')} of the sheet {self._sheet!r} came without a value"
                f" and {'counts' if empty.count == 1 else 'count'} as missing: {empty}. Open the"
                " file in a spreadsheet program and save it there, which computes them."
            )


def _shows_time(number_format: str) -> bool:
    # Without what is quoted, escaped or in brackets, h and s only ever stand for hours and seconds.
    plain = re.sub(r'"[^"]*"|\\.|\[[^\]]*\]|_.', "", number_format or "")
    return bool(re.search(r"[hs]", plain, re.IGNORECASE))
