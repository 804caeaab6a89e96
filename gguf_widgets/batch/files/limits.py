"""How much of a table's file is believed, and how faults are told.

Promises: every reader and writer of this folder keeps these limits, and says them when it refuses;
a list of faults is as long as a person reads, and says how many more there are. Leaves to others:
finding them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = [
    "MAX_COLUMNS",
    "MAX_EXCEL_CELL",
    "MAX_EXCEL_ROWS",
    "MAX_ITEM_CHARS",
    "MAX_PARSED_BYTES",
    "MAX_UNPACKED_BYTES",
    "Faults",
    "listed",
    "many",
]

MAX_COLUMNS: Final = 16_384
"""As many as Excel has."""

MAX_ITEM_CHARS: Final = 50_000_000
"""Of one line, one cell, or one item of a JSON file. No model reads a thousandth of it."""

MAX_PARSED_BYTES: Final = 200_000_000
"""Of a file that can only be read as a whole."""

MAX_UNPACKED_BYTES: Final = 2_000_000_000
"""Of all that is in an Excel file, unpacked."""

MAX_EXCEL_ROWS: Final = 1_048_576
MAX_EXCEL_CELL: Final = 32_767


class Faults:
    """Places with the same fault: the first few are told, all are counted.

    Parameters
    ----------
    limit : int, default 10
        How many are told.
    """

    def __init__(self, limit: int = 10) -> None:
        self._limit = limit
        self.count = 0
        self.first: list[str] = []

    def add(self, place: str) -> None:
        """Note one place."""
        self.count += 1
        if len(self.first) < self._limit:
            self.first.append(place)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more else "")


def many(count: int, one: str, several: str = "") -> str:
    """Return a count with its noun: "1 row", "3 rows"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Return names as a person reads them, the first few of many."""
    known = list(names)
    shown = ", ".join(repr(name) for name in known[:limit])
    return shown + (f" and {len(known) - limit:,} more" if len(known) > limit else "")
