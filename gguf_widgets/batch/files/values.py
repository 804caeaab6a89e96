"""Values on their way into a file.

Promises: whatever pandas, NumPy and pydantic hand out becomes one of Python's own plain values;
what is missing (None, NaN, NaT, pd.NA) is None; a value that no table file can hold is refused with
its row and column; what a format can hold only as something else is counted and told. Leaves to
others: the formats.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.batch.files.limits import Faults, many
from gguf_widgets.batch.files.table import Row
from gguf_widgets.core.errors import TableFileError

__all__ = ["Changes", "flat_text", "json_ready", "json_text", "plain_rows"]

_MAX_DEPTH: Final = 100


class Changes:
    """What was written as something else, by reason, with the first places."""

    def __init__(self) -> None:
        self._found: dict[str, Faults] = {}

    def add(self, reason: str, row: int, column: str) -> None:
        """Note one cell; `row` counts from 1."""
        self._found.setdefault(reason, Faults(3)).add(f"row {row:,} of {column!r:.60}")

    def add_column(self, reason: str, column: str) -> None:
        """Note one column, once."""
        faults = self._found.setdefault(reason, Faults(5))
        if repr(column)[:60] not in faults.first:
            faults.add(repr(column)[:60])

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each reason."""
        return tuple(
            f"{reason} ({many(faults.count, 'place')}: {faults})."
            for reason, faults in self._found.items()
        )


def plain_rows(columns: Sequence[str], rows: Iterable[Row], changes: Changes) -> Iterator[Row]:
    """Turn the values of all rows into plain ones.

    Raises
    ------
    TableFileError
        A value that no table can hold.
    """
    for number, row in enumerate(rows, 1):
        yield tuple(
            [
                value if type(value) in _EXACT else _plain(value, number, name, changes)
                for value, name in zip(row, columns, strict=True)
            ]
        )


# These are what they are. A float may be NaN, a text may hold half a character.
_EXACT: Final = frozenset((int, bool, type(None)))


def _plain(value: Any, row: int, column: str, changes: Changes, depth: int = 0) -> Any:
    if isinstance(value, str):
        return _whole_text(str(value), row, column, changes)
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, enum.Enum):
        return _plain(value.value, row, column, changes, depth)
    if isinstance(value, dt.datetime):
        return _datetime(value, row, column, changes)
    if isinstance(value, dt.timedelta):
        convert = getattr(value, "to_pytimedelta", None)
        return convert() if convert else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, dt.date | dt.time | bytes | type(None)):
        return value
    if isinstance(value, decimal.Decimal):
        return None if value.is_nan() else value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, uuid.UUID | os.PathLike):
        return str(value)
    if depth >= _MAX_DEPTH:
        raise TableFileError(
            f"Row {row:,} of {column!r:.60} holds lists or objects inside each other, more than"
            f" {_MAX_DEPTH} deep, which is not written.",
            problem="value",
        )
    return _nested(value, row, column, changes, depth)


def _nested(value: Any, row: int, column: str, changes: Changes, depth: int) -> Any:
    for name in ("model_dump", "tolist"):  # of pydantic's models; of NumPy's arrays and scalars
        convert = getattr(value, name, None)
        if callable(convert) and not isinstance(value, type):
            return _plain(convert(), row, column, changes, depth + 1)
    if isinstance(value, Mapping):
        return {
            str(key): _plain(part, row, column, changes, depth + 1) for key, part in value.items()
        }
    if isinstance(value, set | frozenset):
        changes.add("Sets were written as lists", row, column)
        value = sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return [_plain(part, row, column, changes, depth + 1) for part in value]
    raise TableFileError(
        f"Row {row:,} of {column!r:.60} holds a {type(value).__name__}, which no table's file can"
        " hold. Turn it into text, a number, a date, a list or a dict first.",
        problem="value",
        row=row,
        column=column,
    )


def _whole_text(text: str, row: int, column: str, changes: Changes) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        changes.add("Halves of characters were written as \ufffd", row, column)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _datetime(value: dt.datetime, row: int, column: str, changes: Changes) -> dt.datetime:
    convert = getattr(value, "to_pydatetime", None)
    if convert is None:
        return value
    if getattr(value, "nanosecond", 0):
        changes.add("Times were cut to millionths of a second", row, column)
    result: dt.datetime = convert(warn=False)
    return result


def json_ready(value: Any, row: int, column: str, changes: Changes) -> Any:
    """Return a plain value as JSON can hold it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        changes.add("JSON has no infinite numbers; they were written as text", row, column)
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: json_ready(part, row, column, changes) for key, part in value.items()}
    if isinstance(value, list):
        return [json_ready(part, row, column, changes) for part in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, decimal.Decimal) and value.is_finite():
        number = float(value)
        if decimal.Decimal(repr(number)) == value:
            return number
        changes.add("Decimals with more digits than a number has were written as text", row, column)
    return flat_text(value, row, column, changes)


def json_text(value: Any, row: int, column: str, changes: Changes) -> str:
    """Return a plain value as JSON."""
    return json.dumps(
        json_ready(value, row, column, changes), ensure_ascii=False, separators=(", ", ": ")
    )


def flat_text(value: Any, row: int, column: str, changes: Changes) -> str:
    """Return a plain value as the text of one cell; None is ""."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | decimal.Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        changes.add("Bytes were written as base64 text", row, column)
        return base64.b64encode(value).decode()
    if isinstance(value, dict | list):
        return json_text(value, row, column, changes)
    return str(value)
