"""CSV, TSV and pasted cells.

Promises: rows come one at a time, in memory for one row; each column has the kind that all of its
cells have (`kinds`), found by reading the file once before the first row is handed on; a row with
another number of cells than there are columns is told with its line, and kept, filled or left out
as the caller says, never dropped in silence; line numbers count lines of the file, as an editor
does, also where cells hold ends of lines. Leaves to others: encoding (`source`), delimiter and
quotes (`dialect`).
"""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from gguf_widgets.batch.files.dialect import Dialect, has_header, named_by_first_line
from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.kinds import CONVERTERS, Kind, TextGuess
from gguf_widgets.batch.files.limits import Faults, many
from gguf_widgets.batch.files.names import check_width, clean_names, made_up, unique_names
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Options, Row, Table
from gguf_widgets.core.errors import TableFileError

__all__ = ["DelimitedReader"]

_SAMPLE_ROWS: Final = 300

Record = tuple[int, list[str]]


class DelimitedReader:
    """Reads one text of parted cells.

    Parameters
    ----------
    source : Source
    options : Options
    encoding : str
    dialect : Dialect
    notes : list of str
        What was found out on the way here.
    """

    def __init__(
        self, source: Source, options: Options, encoding: str, dialect: Dialect, notes: list[str]
    ) -> None:
        self._source = source
        self._options = options
        self._encoding = encoding
        self._dialect = dialect
        self._notes = notes
        self._skip = 0  # records before the first row, titles and names
        self._width = 0

    def survey(self, limit: int | None) -> Table:
        """Look at the table; see `table.Reader`."""
        table = Table(
            format=Format.TSV if self._dialect.delimiter == "\t" else Format.CSV,
            encoding=self._encoding,
            delimiter=self._dialect.delimiter,
            quote=self._dialect.quote,
            notes=list(self._notes),
        )
        self._skip = 0
        records = self._records()
        try:
            self._find_columns(table, records)
            self._find_kinds(table, limit)
        except TableFileError as error:
            # What stands before the fault can be shown, so it is a problem and not the end.
            if error.details.get("problem") not in ("quotes", "encoding", "too_long"):
                raise
            table.problems.append(error.message)
            table.complete = False
        finally:
            records.close()
        return table

    def rows(self, table: Table) -> Generator[Row]:
        """Hand out the rows; see `table.Reader`."""
        converters = [CONVERTERS.get(kind) for kind in table.kinds]
        plain = not any(converters)
        width = len(table.columns)
        fill = self._options.ragged == "fill"
        records = self._records()
        try:
            for line, cells in itertools.islice(records, self._skip, None):
                if len(cells) != width:
                    even = self._trimmed(cells)
                    # Uneven ones were told by `survey`, which refused or was asked to skip them.
                    if even is None or (len(even) != self._width and not fill):
                        continue
                    cells = even + [""] * (width - len(even))  # noqa: PLW2901 - the same row
                if plain:
                    yield tuple([cell or None for cell in cells])
                else:
                    yield self._typed(line, cells, converters)
        finally:
            records.close()

    def _typed(
        self,
        line: int,
        cells: list[str],
        converters: list[Callable[[str], Any] | None],
    ) -> Row:
        try:
            return tuple(
                [
                    (cell or None) if convert is None else convert(cell)
                    for cell, convert in zip(cells, converters, strict=True)
                ]
            )
        except ValueError as error:
            raise TableFileError(
                f"Line {line:,} of {self._source.name_in_text} holds something that is not of its"
                f" column's kind ({error}).",
                problem="kind",
                line=line,
            ) from error

    def _records(self) -> Generator[Record]:
        """Read the records with the line each begins in; empty lines are none."""
        lines = self._source.lines(self._encoding)
        try:
            first = next(lines, "")
            before = 0
            if named_by_first_line(first):
                before, first = 1, next(lines, "")
            reader = self._dialect.reader(itertools.chain([first] if first else [], lines))
            start = before + 1
            while True:
                try:
                    cells = next(reader, None)
                except csv.Error as error:
                    raise self._fault(error, start, before + reader.line_num) from error
                if cells is None:
                    return
                if cells:
                    yield start, cells
                start = before + reader.line_num + 1
        finally:
            lines.close()

    def _fault(self, error: csv.Error, first: int, last: int) -> TableFileError:
        what = str(error)
        quote = self._dialect.quote
        if "unexpected end" in what or "field larger" in what:
            said = f"A cell in line {first:,} begins with {quote!r}, which is never closed"
            if "field larger" in what:
                said = f"A cell that begins in line {first:,} is too long ({what})"
        elif "expected after" in what:
            begun = f" (it begins in line {first:,})" if first < last else ""
            said = f"In line {last:,} a cell goes on after its closing {quote!r}{begun}"
        else:
            said = f"Line {last:,} cannot be read: {what}"
        return TableFileError(
            f"{said}. Double the quotes inside cells in the file, or give quote=None if quotes are"
            " plain text in it.",
            problem="quotes",
            line=first,
        )

    def _find_columns(self, table: Table, records: Iterator[Record]) -> None:
        """Find where the names are, and what they are."""
        wanted = self._options.header
        sample: list[Record] = []
        if not isinstance(wanted, bool) and wanted:
            # A line's number: what stands before it is no part of the table.
            for record in records:
                if record[0] >= wanted:
                    sample.append(record)
                    break
                self._skip += 1
            if not sample:
                raise TableFileError(
                    f"header says that line {wanted:,} holds the names, and"
                    f" {self._source.name_in_text} has fewer lines.",
                    problem="header",
                )
            if self._skip:
                table.notes.append(
                    f"{many(self._skip, 'row')} above the names in line {sample[0][0]:,}"
                    f" {'was' if self._skip == 1 else 'were'} left out, as asked."
                )
        try:
            for record in itertools.islice(records, _SAMPLE_ROWS):
                sample.append(record)  # noqa: PERF402 - kept when a later one fails
        except TableFileError:
            if not any(cell.strip() for _, cells in sample for cell in cells):
                raise
        blank = not any(cell.strip() for _, cells in sample for cell in cells)
        if blank and len(sample) < _SAMPLE_ROWS:
            raise TableFileError(f"{self._source.shown} holds no rows.", problem="empty")
        check_width(len(sample[0][1]), self._source.shown)
        header = bool(wanted)
        if wanted is None:
            # One pasted row is data; of a file with one row nobody can know.
            alone = len(sample) == 1 and self._source.pasted
            header = not alone and has_header([cells for _, cells in sample])
        table.header = header
        first = sample[0][1]
        if header:
            self._skip += 1
            names = clean_names(first, table.notes)
        else:
            width = _usual_width([cells for _, cells in sample])
            names = [made_up(number) for number in range(1, width + 1)]
            if wanted is None:
                table.notes.append(
                    "The first row was taken for data, not for the columns' names; give"
                    " header=True if it holds names."
                )
        check_width(len(names), self._source.shown)
        table.columns = unique_names(names, self._options.duplicates, table.problems, table.notes)
        self._width = len(names)

    def _find_kinds(self, table: Table, limit: int | None) -> None:
        """Read the rows once: what each column is, and which rows are uneven."""
        width = self._width
        widest = width
        guesses = [TextGuess() for _ in range(width)]
        active = list(range(width))
        missing = bytearray(width)
        uneven, emptied, num_rows, line = Faults(), 0, 0, 0
        fill = self._options.ragged == "fill"
        records = self._records()
        try:
            for line, cells in itertools.islice(records, self._skip, None):
                if limit is not None and num_rows >= limit:
                    table.complete = False
                    break
                if len(cells) != width:
                    even = self._trimmed(cells)
                    emptied += even is None or len(even) != len(cells)
                    if even is None:
                        continue
                    if len(even) != width:
                        uneven.add(f"{line:,} ({many(len(even), 'cell')})")
                        if not fill:
                            continue
                    if len(even) > widest:
                        check_width(len(even), self._source.shown)
                        more = range(widest, len(even))
                        guesses += [TextGuess() for _ in more]
                        active += more
                        missing += bytes([num_rows > 0]) * len(more)
                        widest = len(even)
                    cells = even  # noqa: PLW2901 - the same row
                if len(cells) < widest:
                    cells = cells + [""] * (widest - len(cells))  # noqa: PLW2901 - the same row
                num_rows += 1
                settled = False
                for place in active:
                    if cell := cells[place]:
                        guess = guesses[place]
                        guess.feed(cell)
                        settled = settled or not guess.bits
                if settled:  # a text among them: nothing more need be known of that column
                    active = [place for place in active if guesses[place].bits]
                if not all(cells):
                    for place, cell in enumerate(cells):
                        if not cell:
                            missing[place] = True
        finally:
            records.close()
            self._conclude(table, guesses, missing, widest)
            table.num_rows = num_rows if table.complete else None
            table.looked = (num_rows, line)
        self._tell_uneven(table, uneven, emptied, widest)
        if table.complete and not num_rows and not table.problems:
            table.problems.append(
                "There are names of columns and no rows below them. If the first row is data, give"
                " header=False."
            )

    def _conclude(
        self, table: Table, guesses: list[TextGuess], missing: bytearray, widest: int
    ) -> None:
        names = list(table.columns)
        names += [made_up(number) for number in range(len(names) + 1, widest + 1)]
        if len(names) > len(table.columns):
            table.columns = unique_names(names, "number", table.problems, table.notes)
        wanted = self._options.wanted(table.columns)
        kinds, gaps, words = [], [], Faults(5)
        for place, guess in enumerate(guesses):
            kind = wanted.get(place, guess.kind)
            if kind in CONVERTERS and guess.words:
                found = ", ".join(
                    f"{word!r} in {many(n, 'row')}" for word, n in guess.words.items()
                )
                words.add(f"{found} of {table.columns[place]!r:.60}")
                missing[place] = True
            if place in wanted and not guess.can_be(kind):
                table.problems.append(
                    f"Column {table.columns[place]!r} is to be read as {kind}, and not all of its"
                    " cells are of that kind."
                )
                kind = Kind.TEXT
            kinds.append(Kind.TEXT if kind is Kind.EMPTY else kind)
            gaps.append(bool(missing[place]))
        if words:
            table.notes.append(
                f"In columns of numbers, booleans or dates these count as missing: {words}."
            )
        table.kinds, table.missing = tuple(kinds), tuple(gaps)

    def _tell_uneven(self, table: Table, uneven: Faults, emptied: int, widest: int) -> None:
        if emptied:
            table.notes.append(
                f"{many(emptied, 'row')} ended in empty cells beyond the last column, or held"
                " nothing else; these were left out."
            )
        if not uneven:
            return
        places = f"line{'s' if uneven.count > 1 else ''} {uneven}"
        columns = many(self._width, "column")
        if self._options.ragged == "fill":
            wider = widest - self._width
            more = f"; {many(wider, 'column')} took in the cells too many" if wider else ""
            table.notes.append(
                f"{many(uneven.count, 'row')} had another number of cells than the {columns}:"
                f" {places}. Cells that were not there are missing{more}."
            )
        elif self._options.ragged == "skip":
            table.notes.append(
                f"{many(uneven.count, 'row')} with another number of cells than the {columns}"
                f" {'was' if uneven.count == 1 else 'were'} left out, as asked: {places}."
            )
        else:
            table.problems.append(
                f"{many(uneven.count, 'row')} {'has' if uneven.count == 1 else 'have'} another"
                f" number of cells than the {columns}: {places}. Correct the file, or give"
                ' ragged="fill" to keep what is there, or ragged="skip" to leave these rows out.'
                + self._hint(table, uneven)
            )

    def _hint(self, table: Table, uneven: Faults) -> str:
        """Say where the names may be, if most rows have more cells than what was taken for them."""
        if not table.header or uneven.count * 2 < table.looked[0] + uneven.count:
            return ""
        with contextlib.closing(self._records()) as records:
            sample = list(itertools.islice(records, self._skip, self._skip + _SAMPLE_ROWS))
        usual = _usual_width([cells for _, cells in sample])
        line = next((line for line, cells in sample if len(cells) == usual), None)
        if line is None or usual <= self._width:
            return ""
        return f" If the columns' names are in line {line:,}, give header={line}."

    def _trimmed(self, cells: list[str]) -> list[str] | None:
        """Return a row without the empty cells beyond the last column; None if nothing is left."""
        if len(cells) > self._width and not any(cells[self._width :]):
            cells = cells[: self._width]
        if self._width > 1 and len(cells) == 1 and not cells[0].strip(" \t"):
            return None  # a line of spaces
        return cells


def _usual_width(rows: list[list[str]]) -> int:
    widths = [len(cells) for cells in rows]
    return max(sorted(set(widths), reverse=True), key=widths.count)
