"""The figures of a run's rows that charts are made of: labels counted, numbers as arrays.

Promises: a person's edits count in place of what the model gave; labels are counted by SQL, and
numbers come as arrays of eight bytes each, in blocks, so that 100,000 rows take a tenth of a second
or two and little memory. Leaves to others: bins and charts (the widgets), windows
(`batch_window`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from gguf_widgets.core.store.batch_tasks import MAX_TASKS
from gguf_widgets.core.store.batch_types import Shape
from gguf_widgets.core.store.batch_window_columns import Columns
from gguf_widgets.core.store.batch_window_shown import shown

__all__ = ["MAX_LABELS", "Figures", "count_labels", "count_values", "figures_of"]

MAX_LABELS: Final = 1000
_BLOCK: Final = 20_000


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of the tasks that are done, each an array with one entry a task.

    Attributes
    ----------
    models : array of int
        Which model was asked.
    seconds : array of float
        How long the model was at it, without the time that it waited its turn; NaN where it was
        not asked because the same had been.
    prompt_tokens, reply_tokens : array of float
        NaN likewise.
    columns : dict of str to array of float
        Of columns of the result; NaN where there is no number.
    """

    models: Any
    seconds: Any
    prompt_tokens: Any
    reply_tokens: Any
    columns: dict[str, Any]


def figures_of(
    connection: sqlite3.Connection,
    columns: Columns,
    base: int,
    shape: Shape,
    names: Sequence[str],
) -> Figures:
    """Return the numbers of a run.

    Parameters
    ----------
    connection, columns, base, shape
        Of the run.
    names : sequence of str
        Columns of the result that hold numbers.
    """
    place, values = _model_of(base, shape)
    wanted = [
        place,
        "total_s - json_extract(timings, '$.queue_s')",
        "CASE WHEN timings IS NOT NULL THEN num_prompt_tokens END",
        "CASE WHEN timings IS NOT NULL THEN num_completion_tokens END",
    ]
    for name in names:
        source, own = columns.of_task(name, shape)
        # What is no number, in a reply that was cut off, would be read as 0.
        kind, more = columns.of_task(name, shape, "json_type")
        wanted.append(f"CASE WHEN {kind} IN ('integer', 'real') THEN {source} END")
        values += [*more, *own]
    cursor = connection.execute(
        f"SELECT {', '.join(wanted)} FROM batch_task "  # noqa: S608 - our names
        "WHERE num >= ? AND num < ? AND status = 'done'",
        (*values, base, base + MAX_TASKS),
    )
    blocks = [np.empty((0, len(wanted)))]
    while block := cursor.fetchmany(_BLOCK):
        blocks.append(np.array(block, dtype=np.float64))
    found = np.concatenate(blocks)
    return Figures(
        models=found[:, 0].astype(np.int64),
        seconds=found[:, 1],
        prompt_tokens=found[:, 2],
        reply_tokens=found[:, 3],
        columns={name: found[:, 4 + i] for i, name in enumerate(names)},
    )


def count_labels(
    connection: sqlite3.Connection, columns: Columns, base: int, shape: Shape, name: str
) -> list[dict[Any, int]]:
    """Count the values of a column of the result, for each model, the most frequent first.

    Of each model the 1,000 most frequent ones are returned; what is missing is not counted.
    """
    source, values = columns.of_task(name, shape)
    # Of true and 1, which SQL does not tell apart, the type is asked as well.
    kind, more = columns.of_task(name, shape, "json_type")
    place, where = _model_of(base, shape)
    found = connection.execute(
        f"SELECT {source}, {kind}, {place}, count(*) "  # noqa: S608 - our names
        "FROM batch_task WHERE num >= ? AND num < ? AND status = 'done' "
        "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1 LIMIT ?",
        (
            *values,
            *more,
            *where,
            *(base, base + MAX_TASKS),
            (MAX_LABELS + 1) * shape.num_models,
        ),
    )
    counts: list[dict[Any, int]] = [{} for _ in range(shape.num_models)]
    for value, own, model, count in found:
        label = bool(value) if own in ("true", "false") else value
        own_counts = counts[model]
        if label is not None and (label in own_counts or len(own_counts) < MAX_LABELS):
            own_counts[label] = own_counts.get(label, 0) + count
    return counts


def _model_of(base: int, shape: Shape) -> tuple[str, list[Any]]:
    """Return SQL for the number of a task's model, and its values."""
    if shape.num_models == 1:
        return "0", []
    return "(num - ?) / ? % ?", [base, shape.num_samples, shape.num_models]


def count_values(
    connection: sqlite3.Connection, columns: Columns, base: int, name: str
) -> dict[Any, int]:
    """Count the values of a column of the table, the most frequent first, at most 1,000."""
    source, values = columns.of_row(name)
    found = connection.execute(
        f"SELECT {source}, count(*) FROM batch_row "  # noqa: S608 - our names
        "WHERE num >= ? AND num < ? GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT ?",
        (*values, base, base + MAX_TASKS, MAX_LABELS + 1),
    ).fetchall()
    known = [(shown(_read(value)), count) for value, count in found if value is not None]
    return dict(known[:MAX_LABELS])


def _read(value: Any) -> Any:
    """Return a cell that SQL extracted: lists and dicts come as text."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
