"""Many numbers out of SQLite at once.

Promises: one step of SQLite returns them all, so that Python neither makes an object of each nor
stops for each one to see whether another thread wants to go on: a hundred thousand take a few
milliseconds, also while other threads work. Leaves to others: which numbers (`batch_window_search`,
`batch_window_find`).

They travel as one text, in characters beyond the first plane: two for a number below 2**31, fifteen
bits and sixteen, and one for a code below 2**16.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Numbers", "all_codes", "codes_of", "numbers_of"]

Numbers = NDArray[np.int64]

_FIRST: Final = 0x10000
_MOST_IN_A_DIGIT: Final = 9


def numbers_of(
    connection: sqlite3.Connection, source: str, values: Sequence[Any], base: int
) -> Numbers:
    """Return ``num - base`` of each row of a query.

    Parameters
    ----------
    connection : sqlite3.Connection
    source : str
        SQL that selects ``num``; its order is kept.
    values : sequence
        What is bound in it.
    base : int
    """
    units = _units(
        connection,
        f"SELECT group_concat({_two_of('num')}, '') FROM ({source})",  # noqa: S608 - our SQL
        (base, base, *values),
    )
    return _joined(units.reshape(-1, 2))


def codes_of(
    connection: sqlite3.Connection, source: str, values: Sequence[Any], base: int
) -> tuple[Numbers, NDArray[np.uint32]]:
    """Return ``num - base`` and ``code`` of each row of a query whose code is not 0.

    Parameters
    ----------
    connection : sqlite3.Connection
    source : str
        SQL that selects ``num`` and ``code``.
    values : sequence
    base : int
    """
    # With a limit the code is worked out once; SQLite would put it into both places else.
    units = _units(
        connection,
        f"SELECT group_concat({_two_of('num')} || char({_FIRST} + code), '') "  # noqa: S608 - ours
        f"FROM ({source} LIMIT -1) WHERE code",
        (base, base, *values),
    ).reshape(-1, 3)
    return _joined(units[:, :2]), units[:, 2]


def all_codes(
    connection: sqlite3.Connection, table: str, code: str, values: Sequence[Any], most: int
) -> NDArray[np.uint32]:
    """Return a code for each row of a table between two numbers, in order.

    Parameters
    ----------
    connection : sqlite3.Connection
    table : str
        It has a ``num``, which is its key.
    code : str
        SQL of a whole number from 0.
    values : sequence
        What is bound in it, and then the two numbers, the second one not included.
    most : int
        The highest that a code can be.
    """
    is_digit = most <= _MOST_IN_A_DIGIT
    text = code if is_digit else f"char({_FIRST} + {code})"
    (found,) = connection.execute(
        f"SELECT group_concat({text}, '') FROM {table} WHERE num >= ? AND num < ?",  # noqa: S608
        tuple(values),
    ).fetchone()
    if is_digit:
        digits = np.frombuffer((found or "").encode("ascii"), np.uint8)
        return digits.astype(np.uint32) - ord("0")
    return _read(found)


def _two_of(number: str) -> str:
    return f"char({_FIRST} + (({number} - ?) >> 15), {_FIRST} + (({number} - ?) & 32767))"


def _units(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> NDArray[np.uint32]:
    (found,) = connection.execute(sql, tuple(values)).fetchone()
    return _read(found)


def _read(text: str | None) -> NDArray[np.uint32]:
    return np.frombuffer((text or "").encode("utf-32-le"), "<u4").astype(np.uint32) - _FIRST


def _joined(pairs: NDArray[np.uint32]) -> Numbers:
    return (pairs[:, 0].astype(np.int64) << 15) | pairs[:, 1]
