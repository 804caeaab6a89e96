"""JSON and JSONL.

Promises: one row for each object of a list, or of each line; the columns are all names that occur,
in the order in which they first do; a row without a name has None there; values come as they are in
the file (a date is text: JSON has none), NaN is None. Lists and lines are read one row at a time.
Leaves to others: text and items (`json_items`).

A file that is one object is understood where its layout is a table's: a list of rows under one of
its names (``{"data": [...]}``), a list for each column, what pandas writes (``orient`` "columns",
"split"), or a single row. It is read as a whole then.
"""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final

from gguf_widgets.batch.files.formats import Format
from gguf_widgets.batch.files.json_items import (
    Item,
    array_items,
    line_items,
    make_decoder,
    whole,
)
from gguf_widgets.batch.files.kinds import ValueGuess
from gguf_widgets.batch.files.limits import Faults, listed, many
from gguf_widgets.batch.files.names import MAX_NAME_CHARS, check_width, made_up
from gguf_widgets.batch.files.read_lines import TEXT_COLUMN
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Row, Table
from gguf_widgets.core.errors import TableFileError

__all__ = ["JsonReader"]

_HALF: Final = re.compile("[\ud800-\udfff]")
_MAY_BE_HALF: Final = (str, list, dict)

# The faults after which what stands before them can still be shown.
_SHOWN: Final = ("json", "encoding", "too_long", "row")


class JsonReader:
    """Reads one text of JSON values.

    Parameters
    ----------
    source : Source
    encoding : str
    table_format : {Format.JSON, Format.JSONL}
    is_object : bool
        Whether a JSON file is one object, so that it has to be read as a whole.
    notes : list of str
        What was found out on the way here.
    """

    def __init__(
        self,
        source: Source,
        encoding: str,
        table_format: Format,
        is_object: bool,
        notes: list[str],
    ) -> None:
        self._source = source
        self._encoding = encoding
        self._format = table_format
        self._notes = notes
        self._word = "line" if table_format is Format.JSONL else "item"
        self._rows: list[dict[str, Any]] | None = None
        self._halves = 0
        if is_object and table_format is Format.JSON:
            value = whole(source, encoding, make_decoder(strict=True))
            self._rows = _rows_of(value, source, self._notes)

    def survey(self, limit: int | None) -> Table:
        """Look at the table; see `table.Reader`."""
        table = Table(format=self._format, encoding=self._encoding, notes=list(self._notes))
        guesses: dict[str, ValueGuess] = {}
        present: dict[str, int] = {}
        num_rows = last = self._halves = 0
        try:
            with contextlib.closing(self._items(strict=True)) as items:
                for place, value in items:
                    if limit is not None and num_rows >= limit:
                        table.complete = False
                        break
                    row = self._row(place, value)
                    num_rows, last = num_rows + 1, place
                    for name, cell in row.items():
                        guess = guesses.get(name)
                        if guess is None:
                            check_width(len(guesses) + 1, self._source.shown)
                            self._check_name(name, place)
                            guess = guesses[name] = ValueGuess()
                            present[name] = 0
                        guess.feed(cell)
                        present[name] += 1
        except TableFileError as error:
            if error.details.get("problem") not in _SHOWN or not num_rows:
                raise
            table.problems.append(error.message)
            table.complete = False
        if table.complete and (not num_rows or not guesses):
            raise TableFileError(f"{self._source.shown} holds no rows.", problem="empty")
        table.num_rows = num_rows if table.complete else None
        table.looked = (num_rows, last if self._format is Format.JSONL else 0)
        table.columns = tuple(guesses)
        table.kinds = tuple(guess.kind for guess in guesses.values())
        table.missing = tuple(
            guess.missing or present[name] < num_rows for name, guess in guesses.items()
        )
        self._tell_gaps(table, present, num_rows)
        if self._halves:
            table.notes.append(f"{many(self._halves, 'cell')} with halves of characters: \ufffd.")
        return table

    def rows(self, table: Table) -> Generator[Row]:
        """Hand out the rows; see `table.Reader`."""
        columns = table.columns
        with contextlib.closing(self._items(strict=False)) as items:
            for place, value in items:
                get: Callable[[str], Any] = self._row(place, value).get
                yield tuple([get(name) for name in columns])

    def _items(self, *, strict: bool) -> Generator[Item]:
        if self._rows is not None:
            yield from enumerate(self._rows, 1)
        elif self._format is Format.JSONL:
            yield from line_items(self._source, self._encoding, make_decoder(strict))
        else:
            yield from array_items(self._source, self._encoding, make_decoder(strict))

    def _row(self, place: int, value: Any) -> dict[str, Any]:
        # Halves of characters, which JSON can write and no store can hold, are seen as U+FFFD.
        if isinstance(value, dict):
            for name, cell in value.items():
                if type(cell) in _MAY_BE_HALF and (whole := _whole(cell)) is not cell:
                    value[name] = whole
                    self._halves += 1
            return value
        if isinstance(value, list):
            return {made_up(number): _whole(cell) for number, cell in enumerate(value, 1)}
        if isinstance(value, str | int | float):
            return {TEXT_COLUMN: _whole(value)}
        raise TableFileError(
            f"{self._source.shown} cannot be read as a table: {self._word} {place:,} is empty"
            " (null), and each has to be a row: an object with a name for each cell.",
            problem="row",
        )

    def _check_name(self, name: str, place: int) -> None:
        if len(name) > MAX_NAME_CHARS:
            raise TableFileError(
                f"{self._source.shown} cannot be read as a table: a name in {self._word}"
                f" {place:,} has {len(name):,} characters, and the name of a column has at most"
                f" {MAX_NAME_CHARS}.",
                problem="row",
            )
        if _HALF.search(name):
            raise TableFileError(
                f"{self._source.shown} cannot be read as a table: a name in {self._word}"
                f" {place:,} holds half a character ({name!r:.60}).",
                problem="row",
            )

    def _tell_gaps(self, table: Table, present: dict[str, int], num_rows: int) -> None:
        gaps = Faults(5)
        for name, count in present.items():
            if count < num_rows:
                gaps.add(f"{name!r:.80} in {many(num_rows - count, 'row')}")
        if gaps:
            table.notes.append(f"Not every row has every name; missing are {gaps}.")


def _whole(value: Any) -> Any:
    """Return a value without halves of characters; the same one if it has none."""
    if isinstance(value, str):
        if value.isascii() or not _HALF.search(value):
            return value
        # Two halves that belong together become one character.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        parts = [_whole(part) for part in value]
        return parts if any(map(operator.is_not, parts, value)) else value
    if isinstance(value, dict):
        known = {_whole(name): _whole(part) for name, part in value.items()}
        same = all(known.get(name) is part for name, part in value.items())
        return value if same else known
    return value


def _rows_of(value: Any, source: Source, notes: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a file that is one object."""
    if not isinstance(value, dict):
        return [{TEXT_COLUMN: value}]
    lists = {name: part for name, part in value.items() if isinstance(part, list)}
    tables = [name for name, part in lists.items() if part and isinstance(part[0], dict)]
    if {"columns", "data"} <= lists.keys() and _all(lists["data"], list):
        names = [str(name) for name in lists["columns"]]
        if all(len(row) == len(names) for row in lists["data"]):
            return [dict(zip(names, row, strict=True)) for row in lists["data"]]
    if len(tables) == 1 and _all(lists[tables[0]], dict):
        others = [name for name in value if name != tables[0]]
        left = f" {listed(others)} was left out." if others else ""
        notes.append(f"The rows are those under {tables[0]!r:.80}.{left}")
        rows: list[dict[str, Any]] = lists[tables[0]]
        return rows
    if value and len(lists) == len(value):
        lengths = {name: len(part) for name, part in lists.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name!r:.40} {length:,}" for name, length in lengths.items())
            raise TableFileError(
                f"{source.shown} holds columns of different lengths: {shown:.400}.", problem="row"
            )
        return _across(value, range(next(iter(lengths.values()))))
    if value and _all(value.values(), dict):
        keys = list(next(iter(value.values())))
        if keys and all(part.keys() == set(keys) for part in value.values()):
            notes.append("The file names its columns first, as pandas does; its rows are across.")
            return _across(value, keys)
    notes.append("The file is one object, taken for one row.")
    return [value] if value else []


def _all(values: Iterable[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _across(columns: dict[str, Any], keys: Iterable[Any]) -> list[dict[str, Any]]:
    return [{name: cells[key] for name, cells in columns.items()} for key in keys]
