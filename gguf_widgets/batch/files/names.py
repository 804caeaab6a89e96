"""The names of columns: from a first row, or made where there are none.

Promises: every column has a name, and no two the same one; what was changed is told; two columns of
one name are refused unless the caller asks for numbers behind them. Leaves to others: where names
are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from gguf_widgets.batch.files.limits import MAX_COLUMNS, Faults, listed
from gguf_widgets.core.errors import TableFileError

__all__ = ["MAX_NAME_CHARS", "check_width", "clean_names", "made_up", "unique_names"]

MAX_NAME_CHARS: Final = 500
"""Of a column's name; a longer one is no name."""


def made_up(number: int) -> str:
    """Return the name of the column at this place (from 1) if it has none."""
    return f"column_{number}"


def clean_names(cells: Iterable[object], notes: list[str]) -> list[str]:
    """Return names from the cells of a first row: on one line, without spaces around them."""
    names, changed, unnamed = [], Faults(5), Faults(5)
    for number, cell in enumerate(cells, 1):
        given = "" if cell is None else str(cell)
        name = "".join(c if c.isprintable() else " " for c in given.replace("\ufeff", ""))
        name = " ".join(name.split())
        if len(name) > MAX_NAME_CHARS:
            name = name[: MAX_NAME_CHARS - 1] + "…"
        if not name:
            name = made_up(number)
            unnamed.add(repr(name))
        elif name != given.strip():
            changed.add(repr(name))
        names.append(name)
    if unnamed:
        notes.append(f"Columns without a name are called by their place: {unnamed}.")
    if changed:
        notes.append(f"Names of columns were put on one line: {changed}.")
    return names


def check_width(num_columns: int, shown: str) -> None:
    """Refuse a table that is too wide.

    Raises
    ------
    TableFileError
        "too_wide".
    """
    if num_columns > MAX_COLUMNS:
        raise TableFileError(
            f"{shown} has more than {MAX_COLUMNS:,} columns, which is the most that is read. It may"
            " be turned on its side: exchange rows and columns in a spreadsheet program.",
            problem="too_wide",
            limit=MAX_COLUMNS,
        )


def unique_names(
    names: Sequence[str], duplicates: str, problems: list[str], notes: list[str]
) -> tuple[str, ...]:
    """Return names of which no two are the same.

    Parameters
    ----------
    names : sequence of str
    duplicates : {"refuse", "number"}
        "number" puts "_2", "_3", ... behind the later ones, "refuse" does the same (the preview
        needs names) and adds a problem.
    """
    counts = Counter(names)
    if len(counts) == len(names):
        return tuple(names)
    double = [name for name, count in counts.items() if count > 1]
    taken, result = set(names), []
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        unique, number = name, seen[name]
        while number > 1 and unique in taken:
            unique = f"{name}_{number}"
            number += 1
        taken.add(unique)
        result.append(unique)
    if duplicates == "number":
        notes.append(f"Several columns are called {listed(double)}; the later ones have numbers.")
    else:
        places = "; ".join(
            f"{name!r} is the name of columns "
            + " and ".join(str(i) for i, other in enumerate(names, 1) if other == name)
            for name in double[:5]
        )
        problems.append(
            f"Two columns cannot have one name: {places}. Rename them, or give"
            ' duplicates="number" to put numbers behind the later ones.'
        )
    return tuple(result)
