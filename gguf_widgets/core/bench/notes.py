"""What is to be known of a table of speeds, in a few sentences, however many rows it has.

Promises: each row that was stopped, disturbed, or whose repetitions differ too much is named with
its figure, under one sentence for all of a kind; a clear difference from an earlier measurement has
a sentence of its own. Leaves to others: what is said of a row by itself (`row`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gguf_widgets.core.bench import statistics
from gguf_widgets.core.bench.row import SPREAD_LIMIT, BenchRow

__all__ = ["notes_of"]

_MOST_NAMED: Final = 12


def notes_of(rows: Sequence[BenchRow]) -> list[str]:
    """Return the sentences; none if all is well."""
    notes = [f"{row.label}: {row.notes[0]}" for row in rows if not row.is_whole]
    busy = [row for row in rows if row.was_busy]
    if busy:
        num = busy[0].num_processors
        cores = f"{num} core" if num == 1 else f"{num} cores"
        named = _named([(row, f"{row.other_cores:.1f}") for row in busy])
        notes.append(
            f"Other programs used the machine's {cores} meanwhile, so these are slower than they "
            f"could be (cores in use by others): {named}."
        )
    uneven = [(row, statistics.spread(row.samples) or 0.0) for row in rows]
    uneven = [(row, spread) for row, spread in uneven if spread > SPREAD_LIMIT]
    if uneven:
        named = _named([(row, f"{spread:.0%}") for row, spread in uneven])
        notes.append(
            "The repetitions differ too much (standard deviation, in percent of the mean): "
            f"{named}. Something may have disturbed them: measure again when the machine is quiet."
        )
    compared = [(row, row.change) for row in rows if row.change is not None]
    notes += [
        f"{row.label}: {change.words}."
        for row, change in compared
        if change.verdict in ("faster", "slower")
    ]
    unclear = [(row, "") for row, change in compared if change.verdict == "unclear"]
    if unclear:
        notes.append(
            "Too uncertain to say whether these are faster or slower than before: "
            f"{_named(unclear)}."
        )
    left_out = [(row, "") for row, change in compared if change.verdict == "none"]
    if left_out:
        notes.append(
            "Not compared with earlier ones, because one or the other was disturbed, stopped, or "
            f"has a single repetition: {_named(left_out)}."
        )
    return notes


def _named(rows: Sequence[tuple[BenchRow, str]]) -> str:
    named = [f"{row.label} ({told})" if told else row.label for row, told in rows[:_MOST_NAMED]]
    more = len(rows) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")
