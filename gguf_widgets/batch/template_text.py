"""How a cell of a table becomes text in a prompt.

Promises: the text depends on the value alone, never on its neighbours, on the library it came from
or on what the other rows hold; what has no sensible text is refused in words that say what to do.
Leaves to others: missing values (`missing`), formats such as ``:.2f`` (`template_format`).

The rules
---------
=====================  =============================================================================
value                  text
=====================  =============================================================================
text                   as it is
True, False            ``True``, ``False``: as the table shows them
whole number           its digits; NumPy's numbers are written as Python's
other number           the shortest digits that mean it. A float that is whole is written without
                       ``.0``: pandas turns a column of whole numbers with one gap in it into
                       floats, and 3 must not become 3.0 for that. ``{rating:.1f}`` writes it again
date and time          ISO: ``2026-03-01 14:30:00``. At midnight, without a time zone, the date
                       alone: pandas knows no dates, only times at midnight
length of time         ``1 day, 2:00:00``
list, dict, array      JSON, by the same rules inside; what is missing in it is ``null``
Enum member            its value
anything else          what ``str()`` says, if its type has a way to say it
=====================  =============================================================================

Bytes, functions, tables, pictures and objects that would read ``<Thing object at 0x7f...>`` are
refused.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from typing import Any

from gguf_widgets.batch.missing import is_missing

__all__ = ["MAX_BITS", "MAX_CHARS", "NoTextError", "json_ready", "plain", "text_of"]

MAX_CHARS = 8 * 1024 * 1024  # of one prompt; a context of a million tokens holds half of that
MAX_BITS = 4096  # of a whole number: 1,233 digits
_MAX_EXPONENT = 1000  # of a Decimal: 1E+999999999 would become a text of as many digits
_MAX_DEPTH = 50  # of lists in lists
_MAX_ITEMS = 1_000_000  # of one cell, all lists in it together


class NoTextError(ValueError):
    """A value cannot be written into a prompt; its message goes on from "the column"."""


def text_of(value: Any) -> str:
    """Return a value as it stands in a prompt.

    Raises
    ------
    NoTextError
        If it has no text: bytes, a function, a list that holds itself, ...

    Examples
    --------
    >>> text_of(3.0), text_of(0.1), text_of(True), text_of(["a", 2.0])
    ('3', '0.1', 'True', '["a", 2]')
    """
    if type(value) is str:
        return value
    value = plain(value)
    if type(value) is str:
        return value
    if value is None:
        return ""
    if type(value) is float:
        return _float(value)
    if isinstance(value, bool | int | Decimal):
        return str(value)
    if isinstance(value, dict | list | tuple | range):
        return json.dumps(json_ready(value), ensure_ascii=False)
    return _time(value)


def plain(value: Any) -> Any:
    """Return a value as one of few types, so that a template meets nothing it could misuse.

    What comes out is None, bool, int, float, str, Decimal, a date, time or timedelta, or lists and
    dicts (with text keys) of these; in a list, what is missing is None.

    Raises
    ------
    NoTextError
        As `text_of`.
    """
    return _Plain().of(value, 0)


class _Plain:
    def __init__(self) -> None:
        self.num_items = 0

    def of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if depth and is_missing(value):
            return None
        if isinstance(value, Enum):
            return self.of(value.value, depth + 1)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return _whole(int(value))
        if isinstance(value, float):
            return float(value)
        if isinstance(value, Decimal):
            if value.is_finite() and abs(value.adjusted()) > _MAX_EXPONENT:
                raise NoTextError("holds a number with more than a thousand digits")
            return value
        if isinstance(value, dt.date | dt.time | dt.timedelta):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            raise NoTextError(
                f"holds bytes ({len(value):,}), not text. Turn it into text first, such as "
                'value.decode("utf-8"); a picture for a vision model goes into an image column'
            )
        if isinstance(value, Mapping):
            self._enter(len(value), depth)
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, AbstractSet):
            # A set has no order of its own, and the same cell must give the same prompt.
            items = [self.of(item, depth + 1) for item in value]
            self._enter(len(items), depth)
            return sorted(items, key=lambda item: (type(item).__name__, text_of(item)))
        if isinstance(value, list | tuple | deque | range):
            self._enter(len(value), depth)
            return [self.of(item, depth + 1) for item in value]
        if hasattr(value, "dtype") and hasattr(value, "tolist"):
            return self._of_numpy(value, depth)
        if callable(value) or _has_no_text(value):
            raise NoTextError(
                f"holds a value of type {type(value).__name__}, which has no text of its own. Turn "
                "it into text in the table first"
            )
        return str(value)

    def _of_numpy(self, value: Any, depth: int) -> Any:
        kind = getattr(value.dtype, "kind", "O")
        if getattr(value, "ndim", 1) > 0:
            self._enter(value.size, depth)
            if kind == "f" and value.dtype.itemsize < 8:
                return [self.of(item, depth + 1) for item in value]  # see below: 0.1
            if kind in "mM":
                return [self.of(item, depth + 1) for item in value]
            return self.of(value.tolist(), depth)
        if kind == "f":
            # The shortest digits at its own precision: 0.1, not 0.10000000149011612.
            return float(str(value[()]))
        if kind == "M":
            return _python_time(value)
        if kind == "m":
            return value.astype("timedelta64[us]").item()
        return self.of(value.item(), depth + 1)

    def _enter(self, num_items: int, depth: int) -> None:
        self.num_items += num_items
        if depth >= _MAX_DEPTH:
            raise NoTextError(
                f"holds lists in lists, more than {_MAX_DEPTH} deep, or a list that holds itself"
            )
        if self.num_items > _MAX_ITEMS:
            raise NoTextError(f"holds a list of more than {_MAX_ITEMS:,} values")

    def _key(self, key: Any) -> str:
        return text_of(self.of(key, 1))


def _has_no_text(value: Any) -> bool:
    says: Any = type(value).__str__
    return says is object.__str__


def _whole(value: int) -> int:
    if value.bit_length() > MAX_BITS:
        raise NoTextError("holds a number with more than a thousand digits")
    return value


def _python_time(value: Any) -> Any:
    python = value.astype("datetime64[us]").item()
    if isinstance(python, dt.date):  # a datetime is one, too
        return python
    return str(value)  # a year that Python's dates do not reach


def _float(value: float) -> str:
    text = repr(value).removesuffix(".0")
    return "0" if text == "-0" else text


def _time(value: Any) -> str:
    if isinstance(value, dt.datetime):
        # pandas.Timestamp may also carry nanoseconds.
        if value.tzinfo is None and value.time() == dt.time(0) and not _nanoseconds(value):
            return value.date().isoformat()
        return value.isoformat(sep=" ")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta) and not _nanoseconds(value):
        return str(dt.timedelta(value.days, value.seconds, value.microseconds))
    return str(value)


def _nanoseconds(value: Any) -> int:
    return int(getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0))


def json_ready(value: Any) -> Any:
    """Return what `plain` made as JSON's own types, by the same rules as `text_of`."""
    if isinstance(value, dict):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [json_ready(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None if math.isnan(value) else _float(value)  # JSON has no infinity
        return int(value) if _float(value).lstrip("-").isdigit() else value
    if isinstance(value, Decimal):
        number = float(value)
        # As a number where that loses no digit, as text where it would.
        exact = math.isfinite(number) and Decimal(repr(number)) == value
        return json_ready(number) if exact else str(value)
    if value is None or isinstance(value, str | bool | int):
        return value
    return _time(value)
