"""Cells that hold nothing: what counts as one, and what a batch run does about it.

Promises: one answer, everywhere, to "is this cell missing?", for what Python, NumPy and pandas use;
nothing is filled in or left out unless the caller chose it; whoever is refused is told how many
rows, which columns, the first of the rows and what can be chosen instead. Leaves to others: which
columns a prompt uses (`Template.columns_used`) and putting values into it (`Template.render`).

What counts as missing: None, NaN (of a float, a NumPy number or a Decimal), NaT, ``pandas.NA`` and
``numpy.ma.masked``. What does not: an empty text, a text of spaces, the text "nan", an empty list,
zero, infinity. Only the columns that the prompt uses count.

The rules a caller can choose from
----------------------------------
``"refuse"``
    The run is not begun. The default: nothing goes to a model that nobody looked at.
``"skip"``
    Such a row is not asked; its status is "skipped", with the reason.
``"empty"``
    Nothing is written where the value would be. In a Jinja template the value is ``none``, which
    prints as nothing, so that ``{% if note %}`` and ``{{ note or "no note" }}`` work.
``{"with": "unknown"}``
    This text is written instead, as it is: a format such as ``:.2f`` is not applied to it. In a
    Jinja template the value is this text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["REFUSE", "MissingCount", "MissingRule", "is_missing", "missing_columns"]

Action = Literal["refuse", "skip", "empty", "with"]

_NUM_SHOWN = 5  # rows that a message names

_CHOICES = (
    '"refuse" (do not begin), "skip" (leave such rows out), "empty" (write nothing in its place) '
    'or {"with": "unknown"} (write this text in its place)'
)


def is_missing(value: Any) -> bool:
    """Return whether a cell holds nothing.

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing([])
    (True, True, False, False)
    """
    if value is None:
        return True
    if type(value) is str:  # by far the most common
        return False
    if isinstance(value, str | int):
        return False
    if isinstance(value, float | complex):
        return value != value  # NaN is what differs from itself
    if isinstance(value, Decimal):
        return value.is_nan()  # comparing a signalling NaN would raise
    # Asked of the modules only if somebody has loaded them: a value cannot be theirs otherwise.
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return True
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if value is numpy.ma.masked:
            return True
        if isinstance(value, numpy.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, numpy.inexact | numpy.datetime64 | numpy.timedelta64):
            return bool(value != value)  # as above; NaT does, too
    return False


def missing_columns(row: Mapping[str, Any], columns: Iterable[str]) -> tuple[str, ...]:
    """Return those of `columns` that hold nothing in this row, in their order."""
    return tuple(name for name in columns if is_missing(row.get(name)))


@dataclass(frozen=True, slots=True)
class MissingRule:
    """What is done where a cell that the prompt uses holds nothing.

    Attributes
    ----------
    action : {"refuse", "skip", "empty", "with"}
    text : str
        What is written instead; only for "with".
    """

    action: Action = "refuse"
    text: str = ""

    @classmethod
    def parse(cls, value: Any) -> MissingRule:
        """Return the rule that a caller named.

        Parameters
        ----------
        value : {"refuse", "skip", "empty"}, {"with": str} or MissingRule

        Raises
        ------
        InvalidValueError
            For anything else.
        """
        if isinstance(value, MissingRule):
            return value
        if value in ("refuse", "skip", "empty"):
            return cls(value)
        if isinstance(value, Mapping) and list(value) == ["with"]:
            text = value["with"]
            if isinstance(text, str):
                return cls("with", text)
            raise InvalidValueError(
                f'missing={{"with": {text!r:.80}}} must hold the text to write in place of a '
                f"missing value, and this is a {type(text).__name__}. Put it into quotes.",
                value=repr(text)[:80],
            )
        raise InvalidValueError(
            f"missing={value!r:.80} is not one of the ways to treat a missing value: {_CHOICES}.",
            value=repr(value)[:80],
        )

    def to_json(self) -> str | dict[str, str]:
        """Return the rule as `parse` takes it: plain JSON, for the store and the hash."""
        return {"with": self.text} if self.action == "with" else self.action

    def reason_to_skip(self, row: Mapping[str, Any], columns: Iterable[str]) -> str | None:
        """Return why this row is not asked, in words, or None if it is.

        Only the rule "skip" leaves rows out.
        """
        if self.action != "skip":
            return None
        names = missing_columns(row, columns)
        return _reason(names) if names else None


REFUSE = MissingRule()
"""The rule that holds where none was chosen."""


@dataclass
class MissingCount:
    """Counts rows with missing values while they stream by, so that a table need not fit in memory.

    Parameters
    ----------
    columns : tuple of str
        The columns that the prompt uses.

    Attributes
    ----------
    num_rows : int
        Rows seen.
    num_missing : int
        Rows in which at least one of the columns holds nothing.
    by_column : dict of str to int
        For each column with missing values: in how many rows.
    first_rows : list of str
        The first few of these rows, as they were named.
    """

    columns: tuple[str, ...]
    num_rows: int = 0
    num_missing: int = 0
    by_column: dict[str, int] = field(default_factory=dict)
    first_rows: list[str] = field(default_factory=list)

    def add(self, name: Any, row: Mapping[str, Any]) -> tuple[str, ...]:
        """Look at one row; return its columns that hold nothing.

        Parameters
        ----------
        name : int or str
            What the row is called in messages: its number, or its label in the index.
        row : mapping
            Its values by column.
        """
        self.num_rows += 1
        names = missing_columns(row, self.columns)
        if names:
            self.num_missing += 1
            for column in names:
                self.by_column[column] = self.by_column.get(column, 0) + 1
            if len(self.first_rows) < _NUM_SHOWN:
                self.first_rows.append(str(name))
        return names

    def check(self, rule: MissingRule) -> None:
        """Raise if there are missing values and nothing was chosen to be done about them.

        Raises
        ------
        InvalidValueError
            With `num_missing`, `by_column` and `first_rows` in its details.
        """
        if rule.action != "refuse" or not self.num_missing:
            return
        columns = ", ".join(
            f'"{name}" ({_rows(number)})' for name, number in self.by_column.items()
        )
        first = ", ".join(self.first_rows)
        more = self.num_missing - len(self.first_rows)
        have = "has" if self.num_missing == 1 else "have"
        a_column = "a column" if len(self.by_column) == 1 else "columns"
        raise InvalidValueError(
            f"{self.num_missing:,} of {_rows(self.num_rows)} {have} no value in {a_column} that "
            f"the prompt uses: {columns}. "
            f"{'The row' if self.num_missing == 1 else 'The rows'}: {first}"
            f"{f' and {more:,} more' if more else ''}. "
            f"Say what to do with them: missing= {_CHOICES}; or fill them in the table first.",
            num_missing=self.num_missing,
            num_rows=self.num_rows,
            by_column=dict(self.by_column),
            first_rows=list(self.first_rows),
        )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _reason(names: tuple[str, ...]) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    return f"no value in {'column' if len(names) == 1 else 'columns'} {columns}"
