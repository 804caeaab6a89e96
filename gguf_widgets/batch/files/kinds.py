"""What the values of a column are: texts, whole numbers, numbers, booleans, dates, times.

Promises: a column of texts (CSV, pasted cells) has another kind only if *every* cell that is not
empty is of it, in the one spelling that comes back as it went; everything else stays text, letter
by letter. Leaves to others: finding the cells.

What counts as what, in a column of texts
-----------------------------------------
========  ==========================================================================================
integer   ``0``, ``-7``, ``42``, of 64 bits. Not ``007``, ``+49``, ``1,000``: these are numbers of
          houses, telephones and accounts as often as not, and would not come back as they were.
number    ``1.50``, ``.5``, ``-3``, ``1e-05``, ``inf``. Not ``12E3``, which is a part's number more
          often than a number: an exponent needs its sign, as every program writes it.
boolean   ``true`` and ``false``, in any case. Not ``yes``, ``1``, ``t``.
date      ``2026-11-27``. Not ``27.11.2026`` or ``11/27/2026``: nobody can know which is the month.
datetime  ``2026-11-27 21:10``, with or without ``T``, seconds, fractions, ``Z`` or ``+01:00``; all
          with an offset or none of them.
========  ==========================================================================================

An empty cell is missing (None) in every column. The words other programs write for it (``NA``,
``NaN``, ``null``, ...) are missing in a column whose other cells are numbers, booleans or dates; in
a column of texts they are text, where "NA" may be Namibia and "None" an answer.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError

__all__ = [
    "CONVERTERS",
    "MISSING_WORDS",
    "Kind",
    "TextGuess",
    "ValueGuess",
    "cell_bits",
    "dtype_of",
    "kind_named",
]


class Kind(StrEnum):
    """What all values of a column are, None apart."""

    EMPTY = "empty"  # there are none
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    AWARE = "datetime with offset"
    BYTES = "bytes"
    MIXED = "mixed"  # several kinds, or lists and objects


MISSING_WORDS: Final = frozenset(
    ("NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "NaT", "<NA>", "null", "NULL", "None")
)

_INT, _FLOAT, _BOOL, _DATE, _TIME, _AWARE = 1, 2, 4, 8, 16, 32
_ALL: Final = 63
_BITS: Final = (
    (_INT, Kind.INTEGER),
    (_FLOAT, Kind.NUMBER),
    (_BOOL, Kind.BOOLEAN),
    (_DATE, Kind.DATE),
    (_TIME, Kind.DATETIME),
    (_AWARE, Kind.AWARE),
)
_INTEGER_RE: Final = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER_RE: Final = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-][0-9]+)?|\.[0-9]+|inf)"
)
_DATE_RE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME_RE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})?"
)
_LONGEST: Final = 330  # the digits of the largest float written out, and some room


def cell_bits(cell: str) -> int:
    """Return the kinds that a cell (not empty) may have, as a set of bits; 0 is text."""
    text = cell.strip() if cell[0] == " " or cell[-1] == " " else cell
    if not text or len(text) > _LONGEST:
        return 0
    first = text[0]
    if first in "-.0123456789i":
        if _INTEGER_RE.fullmatch(text):
            value = int(text)
            if not -(2**63) <= value < 2**63:
                return 0  # as a float it would lose digits
            return _INT | _FLOAT if abs(value) <= 2**53 else _INT
        if _NUMBER_RE.fullmatch(text):
            return _FLOAT if _is_float(text) else 0
        return _date_bits(text)
    return _BOOL if first in "tTfF" and text.lower() in ("true", "false") else 0


def _is_float(text: str) -> bool:
    if "." not in text and "e" not in text.lower() and "inf" not in text:
        return False  # a whole number that is too long: it would lose digits
    return text.endswith("inf") or math.isfinite(float(text))


def _date_bits(text: str) -> int:
    try:
        if _DATE_RE.fullmatch(text):
            dt.date.fromisoformat(text)
            return _DATE
        if match := _TIME_RE.fullmatch(text):
            dt.datetime.fromisoformat(text)
            return _AWARE if match[1] else _TIME
    except ValueError:  # the 30th of February
        pass
    return 0


_INTEGER_QUICK: Final = re.compile(r"-?[1-9][0-9]{0,14}").fullmatch
_NUMBER_QUICK: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,99})\.[0-9]{1,99}").fullmatch


def _date_quick(cell: str) -> bool:
    return _date_bits(cell) == _DATE


_QUICK: Final[Mapping[int, Callable[[str], object]]] = {
    _INT | _FLOAT: _INTEGER_QUICK,
    _FLOAT: _NUMBER_QUICK,
    _DATE: _date_quick,
    _BOOL: frozenset(("true", "false", "True", "False", "TRUE", "FALSE")).__contains__,
}


class TextGuess:
    """Finds the kind of a column of texts, cell by cell.

    Attributes
    ----------
    bits : int
        What it can still be; 0 is text, and then nothing more need be fed.
    """

    __slots__ = ("bits", "seen", "words")

    def __init__(self) -> None:
        self.bits = _ALL
        self.seen = False
        self.words: Counter[str] = Counter()

    def feed(self, cell: str) -> None:
        """Take the next cell, which is not empty."""
        # Most cells are like those before them: one quick test, which only says yes if it is sure.
        quick = _QUICK.get(self.bits)
        if quick is not None and quick(cell):
            return
        if cell in MISSING_WORDS:
            self.words[cell] += 1
            return
        self.seen = True
        self.bits &= cell_bits(cell)

    def can_be(self, kind: Kind) -> bool:
        """Say whether all cells so far can be read as this kind; as text they always can."""
        return (
            kind is Kind.TEXT
            or not self.seen
            or any(self.bits & bit for bit, known in _BITS if known is kind)
        )

    @property
    def kind(self) -> Kind:
        """What the column is, as far as it has been seen."""
        if self.seen:
            for bit, kind in _BITS:
                if self.bits & bit:
                    return kind
            return Kind.TEXT
        return Kind.TEXT if self.words else Kind.EMPTY


def _maybe(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def converted(cell: str) -> Any:
        if not cell:
            return None
        try:
            return convert(cell)
        except ValueError:
            if cell in MISSING_WORDS:
                return None
            return convert(cell.strip())

    return converted


def _number(cell: str) -> float | None:
    value = float(cell)
    return None if math.isnan(value) else value  # "nan" is a missing word


def _boolean(cell: str) -> bool:
    text = cell.lower()
    if text not in ("true", "false"):
        raise ValueError(f"{cell!r:.40} is neither true nor false")
    return text == "true"


CONVERTERS: Final[Mapping[Kind, Callable[[str], Any]]] = {
    Kind.INTEGER: _maybe(int),
    Kind.NUMBER: _maybe(_number),
    Kind.BOOLEAN: _maybe(_boolean),
    Kind.DATE: _maybe(dt.date.fromisoformat),
    Kind.DATETIME: _maybe(dt.datetime.fromisoformat),
    Kind.AWARE: _maybe(dt.datetime.fromisoformat),
}
"""What turns a cell of a column of that kind into its value."""


class ValueGuess:
    """Finds the kind of a column of Python values, value by value."""

    __slots__ = ("missing", "types")

    def __init__(self) -> None:
        self.types: set[Kind] = set()
        self.missing = False

    def feed(self, value: Any) -> None:
        """Take the next value."""
        if value is None:
            self.missing = True
        else:
            self.types.add(_kind_of(value))

    @property
    def kind(self) -> Kind:
        """What the column is, as far as it has been seen."""
        if not self.types:
            return Kind.EMPTY
        if len(self.types) == 1:
            return next(iter(self.types))
        return Kind.NUMBER if self.types == {Kind.INTEGER, Kind.NUMBER} else Kind.MIXED


_KINDS: Final = (
    # A bool is an int, a datetime a date: the narrower first.
    (bool, Kind.BOOLEAN),
    (str, Kind.TEXT),
    (float, Kind.NUMBER),
    (dt.date, Kind.DATE),
    (bytes, Kind.BYTES),
)


_EXACT: Final[dict[type, Kind]] = {
    str: Kind.TEXT,
    float: Kind.NUMBER,
    bool: Kind.BOOLEAN,
    list: Kind.MIXED,
    dict: Kind.MIXED,
}


def _kind_of(value: Any) -> Kind:
    if (known := _EXACT.get(type(value))) is not None:
        return known
    if isinstance(value, dt.datetime):
        return Kind.DATETIME if value.tzinfo is None else Kind.AWARE
    for python_type, kind in _KINDS:
        if isinstance(value, python_type):
            return kind
    if isinstance(value, int):
        return Kind.INTEGER if -(2**63) <= value < 2**63 else Kind.MIXED
    return Kind.MIXED


_DTYPES: Final = {
    Kind.TEXT: ("string", "string"),
    Kind.INTEGER: ("int64", "Int64"),
    Kind.NUMBER: ("float64", "float64"),
    Kind.BOOLEAN: ("bool", "boolean"),
    Kind.DATE: ("datetime64[us]", "datetime64[us]"),
    Kind.DATETIME: ("datetime64[us]", "datetime64[us]"),
    Kind.AWARE: ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}


def dtype_of(kind: Kind, missing: bool) -> str:
    """Return the pandas dtype for a column; `missing` says whether values are missing in it."""
    return _DTYPES.get(kind, ("object", "object"))[missing]


def kind_named(name: str) -> Kind:
    """Return the kind a caller asked for: one that a text can be turned into.

    Raises
    ------
    InvalidValueError
        There is none of that name.
    """
    known = (Kind.TEXT, *CONVERTERS)
    for kind in known:
        if str(name) == kind.value:
            return kind
    raise InvalidValueError(
        f"A column can be read as {', '.join(known)}; not as {name!r:.60}.", name="types"
    )
