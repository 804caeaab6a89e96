"""Rows as a caller has them: a DataFrame, a `RowSource`, dicts, tuples.

Promises: one form for the writers: names, and tuples in their order, one at a time; a DataFrame's
index is written where it says something; nothing that a row holds beyond the names is dropped.
Leaves to others: the values (`values`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gguf_widgets.batch.files import needs
from gguf_widgets.batch.files.limits import listed
from gguf_widgets.batch.files.names import check_width
from gguf_widgets.batch.files.reading import RowSource
from gguf_widgets.batch.files.table import Row
from gguf_widgets.core.errors import InvalidValueError, TableFileError

__all__ = ["RowInput", "rows_of"]

_CHUNK_ROWS: Final = 1024


class RowInput(NamedTuple):
    """Names, rows, and how many there are if that is known."""

    columns: tuple[str, ...]
    rows: Iterator[Row]
    num_rows: int | None
    notes: tuple[str, ...] = ()


def rows_of(
    given: Any, columns: Sequence[str] | None, index: bool | None, *, midnights: bool
) -> RowInput:
    """Return rows in the form the writers take.

    Parameters
    ----------
    given : DataFrame, RowSource, iterable of dict, or iterable of sequence
    columns : sequence of str or None
        The names, in the order to be written; has to be given for sequences.
    index : bool or None
        Whether a DataFrame's index is written; None writes any but the plain 0, 1, 2, ...
    midnights : bool
        Whether a DataFrame's column of times that are all midnight is one of dates.

    Raises
    ------
    InvalidValueError
        It is none of these, or names are missing or come twice.
    """
    if type(given).__module__.partition(".")[0] == "pandas":
        if hasattr(given, "to_frame") and not hasattr(given, "columns"):
            given = given.to_frame(given.name if getattr(given, "name", None) else "value")
        result = _of_frame(given, columns, index, midnights)
    elif isinstance(given, RowSource):
        result = _of_source(given, columns)
    elif isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable):
        raise InvalidValueError(
            "rows are a DataFrame, a RowSource, or an iterable of dicts or of sequences; not a"
            f" {type(given).__name__}."
        )
    else:
        result = _of_iterable(given, columns)
    names = result.columns
    if not names:
        raise InvalidValueError("A table needs at least one column.", name="columns")
    if len(set(names)) < len(names):
        double = sorted({name for name in names if names.count(name) > 1})
        raise InvalidValueError(
            f"Two columns cannot have one name: {listed(double)}. Rename one of them.",
            name="columns",
        )
    check_width(len(names), "The table")
    return result


def _of_frame(
    frame: Any, columns: Sequence[str] | None, index: bool | None, midnights: bool
) -> RowInput:
    pandas = needs.pandas()
    notes: tuple[str, ...] = ()
    written = index
    if written is None:
        plain = isinstance(frame.index, pandas.RangeIndex) and frame.index.name is None
        written = not (plain and frame.index.start == 0 and frame.index.step == 1)
    if written:
        names = [
            name or ("index" if frame.index.nlevels == 1 else f"level_{level}")
            for level, name in enumerate(frame.index.names)
        ]
        clash = [name for name in names if name in frame.columns]
        if clash:
            raise InvalidValueError(
                f"The index is called {listed(map(str, clash))}, as a column is. Rename one, or"
                " give index=False to leave the index out.",
                name="index",
            )
        frame = frame.reset_index(names=names)
        if index is None:
            notes = (f"The index was written as {listed(map(str, names))}.",)
    labels = [_label(label) for label in frame.columns]
    if columns is not None:
        if unknown := [name for name in columns if name not in labels]:
            raise InvalidValueError(
                f"There is no column {listed(unknown)}; columns are {listed(labels, 20)}.",
                name="columns",
            )
        frame = frame.iloc[:, [labels.index(name) for name in columns]]
        labels = list(columns)
    dates = {place for place in range(len(labels)) if midnights and _only_dates(frame, place)}
    return RowInput(tuple(labels), _frame_rows(frame, dates), len(frame), notes)


def _label(label: Any) -> str:
    return (
        ".".join(str(part) for part in label if part != "")
        if isinstance(label, tuple)
        else str(label)
    )


def _only_dates(frame: Any, place: int) -> bool:
    values = frame.iloc[:, place]
    if str(values.dtype).partition("[")[0] != "datetime64" or "," in str(values.dtype):
        return False
    known = values.dropna()
    return bool(len(known)) and bool((known == known.dt.normalize()).all())


def _frame_rows(frame: Any, dates: set[int]) -> Iterator[Row]:
    for start in range(0, len(frame), _CHUNK_ROWS):
        part = frame.iloc[start : start + _CHUNK_ROWS]
        columns = []
        for place in range(part.shape[1]):
            values = part.iloc[:, place].tolist()
            if place in dates:
                # Not a number (NaT) has no date.
                values = [value.date() if value == value else None for value in values]
            columns.append(values)
        yield from zip(*columns, strict=True)


def _of_source(source: RowSource, columns: Sequence[str] | None) -> RowInput:
    if columns is None:
        return RowInput(source.columns, source.tuples(), source.num_rows)
    if unknown := [name for name in columns if name not in source.columns]:
        raise InvalidValueError(
            f"There is no column {listed(unknown)}; columns are {listed(source.columns, 20)}.",
            name="columns",
        )
    places = [source.columns.index(name) for name in columns]
    rows = (tuple([row[place] for place in places]) for row in source.tuples())
    return RowInput(tuple(columns), rows, source.num_rows)


def _of_iterable(given: Iterable[Any], columns: Sequence[str] | None) -> RowInput:
    count = len(given) if isinstance(given, Sequence) else None
    names = None if columns is None else tuple(str(name) for name in columns)
    if isinstance(given, Sequence) and names is None and all(isinstance(r, Mapping) for r in given):
        names = tuple(dict.fromkeys(str(name) for row in given for name in row))
    elif isinstance(given, Sequence) and names is not None:
        _check_known(given, names)
    rows = iter(given)
    first = next(rows, None)
    if first is None:
        return RowInput(names or (), iter(()), 0)
    rows = itertools.chain([first], rows)
    if isinstance(first, Mapping):
        chosen = columns is not None
        return _of_dicts(rows, names or tuple(map(str, first)), count, chosen=chosen)
    if names is None:
        raise InvalidValueError(
            "Rows that are sequences need the names of their columns: give columns=[...].",
            name="columns",
        )
    return RowInput(names, _sequence_rows(rows, names), count)


def _check_known(rows: Sequence[Any], names: tuple[str, ...]) -> None:
    """Refuse names that no row has, where all rows are here to be asked."""
    known = {name for row in rows if isinstance(row, Mapping) for name in row}
    if known and (unknown := [name for name in names if name not in known]):
        raise InvalidValueError(
            f"There is no column {listed(unknown)}; columns are {listed(map(str, known), 20)}.",
            name="columns",
        )


def _of_dicts(
    rows: Iterator[Any], names: tuple[str, ...], count: int | None, *, chosen: bool
) -> RowInput:
    def tuples() -> Iterator[Row]:
        known = set(names)
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise _other_kind(number, row)
            # Names that the caller chose leave others out; those of the first row must not.
            if not chosen and (extra := [name for name in row if name not in known]):
                raise TableFileError(
                    f"Row {number:,} has {listed(map(str, extra))}, which the rows before it have"
                    " not. Give columns=[...] with all names, in the order they are to be written.",
                    problem="columns",
                    row=number,
                )
            yield tuple([row.get(name) for name in names])

    return RowInput(names, tuples(), count)


def _sequence_rows(rows: Iterator[Any], names: tuple[str, ...]) -> Iterator[Row]:
    for number, row in enumerate(rows, 1):
        if isinstance(row, str | bytes | Mapping) or not isinstance(row, Sequence):
            raise _other_kind(number, row)
        if len(row) != len(names):
            raise TableFileError(
                f"Row {number:,} has {len(row):,} cells and there are {len(names):,} columns.",
                problem="columns",
                row=number,
            )
        yield tuple(row)


def _other_kind(number: int, row: Any) -> TableFileError:
    return TableFileError(
        f"Row {number:,} is a {type(row).__name__}, unlike the rows before it. All rows are dicts,"
        " or all are sequences.",
        problem="columns",
        row=number,
    )
