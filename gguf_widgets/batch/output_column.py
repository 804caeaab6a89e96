"""The columns of an output: their names and types, and how a table holds their values.

Promises: a value that `checked` has returned is plain JSON and of the column's type; `series` makes
a pandas Series of such values, whatever rows have none, and loses nothing: a value that somebody
put in by hand and that is no choice becomes one more category. Leaves to others: which columns
there are (`output_json` and its neighbours).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf_widgets.core.errors import InvalidValueError, OutputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "Scalar", "checked", "same", "series", "whole"]

Scalar = str | int | float | bool

_DTYPES = {
    "text": "string",
    "category": "category",
    "integer": "Int64",
    "number": "Float64",
    "boolean": "boolean",
    # Not nanoseconds, which end in the year 2262.
    "date": "datetime64[us]",
    "datetime": "datetime64[us]",
    "instant": "datetime64[us, UTC]",
    "object": "object",
}
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name : str
        Of a part of an object, with a dot: "address.city".
    kind : str
        "text", "category", "integer", "number", "boolean", "date", "datetime" (without a time
        zone), "instant" (with one; kept as UTC), or "object": lists and dicts as Python has them.
    choices : tuple
        A category's values, in the order in which they were declared.
    """

    name: str
    kind: str
    choices: tuple[Scalar, ...] = ()

    @property
    def dtype(self) -> str:
        """The pandas name of its type."""
        return _DTYPES[self.kind]


def checked(column: Column, value: Any) -> Any:
    """Return a value of a reply as the column keeps it; None stays None.

    Raises
    ------
    OutputError
        If it is not of the column's type.
    """
    if value is None:
        return None
    found = _CHECKS[column.kind](column, value)
    if found is None:
        raise OutputError(
            f"{column.name!r} is {_shown(value)}, which is not {_wanted(column)}.",
            column=column.name,
        )
    return found


def series(column: Column, values: Iterable[Any], index: Any = None) -> pd.Series[Any]:
    """Return a pandas Series of the column's type; None is a missing value.

    Raises
    ------
    InvalidValueError
        If a value is not of the column's type.
    """
    import pandas as pd

    listed = list(values)
    data: Any = listed
    dtype: Any = column.dtype
    if column.kind == "category":
        dtype = pd.CategoricalDtype(_categories(column, listed))
    elif dtype.startswith("datetime64"):
        data = [None if one is None else _moment(one) for one in listed]
    if column.kind == "object" and not listed:
        data = None
    try:
        found: pd.Series[Any] = pd.Series(data, index=index, dtype=dtype, name=column.name)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidValueError(
            f"The column {column.name!r} ({column.dtype}) cannot hold one of its values: {error}",
            column=column.name,
        ) from error
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same one: True is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def whole(value: Any) -> Any:
    r"""Return a JSON value that can be stored: JSON's ``"\ud800"`` is half a character.

    It becomes U+FFFD, the character for what cannot be read.
    """
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {whole(key): whole(one) for key, one in value.items()}
    return value


def _categories(column: Column, values: list[Any]) -> list[Any]:
    found = list(column.choices)
    for one in values:
        if one is not None and one not in found:
            found.append(one)
    return found


def _moment(value: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(value)
    return found if found.tzinfo is None else found.astimezone(dt.UTC)


# --- what each kind takes; None is "not that" ---


def _text(_column: Column, value: Any) -> Any:
    return whole(value) if isinstance(value, str) else None


def _category(column: Column, value: Any) -> Any:
    return next((one for one in column.choices if same(one, value)), None)


def _integer(_column: Column, value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None  # 2.0 is a whole number to JSON Schema
    return int(value) if -(2**63) <= value < 2**63 else None


def _number(_column: Column, value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _boolean(_column: Column, value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _date(_column: Column, value: Any) -> str | None:
    try:
        return dt.date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        return None


def _datetime(_column: Column, value: Any) -> str | None:
    return _time_as(value, zoned=False)


def _instant(_column: Column, value: Any) -> str | None:
    return _time_as(value, zoned=True)


def _time_as(value: Any, *, zoned: bool) -> str | None:
    try:
        found = dt.datetime.fromisoformat(value)
        if (found.tzinfo is not None) != zoned:
            return None
        # Near the year 1 or 9999 the time in UTC may not exist.
        return found.astimezone(dt.UTC).isoformat() if zoned else found.isoformat()
    except (TypeError, ValueError, OverflowError):
        return None


def _object(_column: Column, value: Any) -> Any:
    return whole(value)


_CHECKS = {
    "text": _text,
    "category": _category,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "instant": _instant,
    "object": _object,
}

_WORDS = {
    "text": "a text",
    "integer": "a whole number that a column can hold",
    "number": "a number",
    "boolean": "true or false",
    "date": "a day of the calendar, such as 2024-12-31",
    "datetime": "a day and a time without a time zone, such as 2024-12-31T18:30:00",
    "instant": "a day and a time with its time zone, such as 2024-12-31T18:30:00Z",
}


def _wanted(column: Column) -> str:
    if column.kind != "category":
        return _WORDS[column.kind]
    shown = ", ".join(map(repr, column.choices[:8]))
    more = len(column.choices) - 8
    return f"one of the choices {shown}" + (f" and {more:,} more" if more > 0 else "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
