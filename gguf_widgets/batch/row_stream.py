"""A run's rows as they end, for an event loop.

Promises: each comes once, those that had ended before first, and then the end; the run may be
carried out by this process or by another. Leaves to others: the iteration (`run`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import decoded, row_of
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, Run

__all__ = ["RowStream", "row_as_dict"]


class RowStream:
    """Made in the loop that reads it; `heard` and `look` may be called in any thread.

    Parameters
    ----------
    tasks : RunTasks
    in_hand : callable
        Whether some process is at the run.

    Attributes
    ----------
    arrived : asyncio.Queue
        Of the numbers; None is the end.
    """

    def __init__(self, tasks: RunTasks, in_hand: Callable[[], bool]) -> None:
        self.arrived: asyncio.Queue[int | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._tasks, self._in_hand = tasks, in_hand
        self._told: set[int] = set()
        self._lock = threading.Lock()

    def heard(self, ended: Sequence[Outcome]) -> None:
        """Take what the runner of this process tells."""
        self._tell(outcome.number for outcome in ended)

    def look(self, *, is_here: bool) -> None:
        """Take what is in the store, unless the runner of this process tells it; see the end."""
        is_over = not self._in_hand()  # asked first: what ends after this is told later
        if not is_here:
            self._tell(self._tasks.ended())
        if is_over:
            self._post([None])

    def _tell(self, numbers: Iterable[int]) -> None:
        with self._lock:
            new = [number for number in numbers if number not in self._told]
            self._told.update(new)
        self._post(new)

    def _post(self, items: Sequence[int | None]) -> None:
        def put() -> None:
            for item in items:
                self.arrived.put_nowait(item)

        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits there
            self._loop.call_soon_threadsafe(put)


def row_as_dict(run: Run, spec: Spec, tasks: RunTasks, number: int) -> dict[str, Any]:
    """Return a task that has ended: the table's columns, the new ones, and the row's number."""
    row, prompt, model, sample = run.shape.place(number)
    names = [str(decoded(column["name"])) for column in run.columns if not column.get("index")]
    (data,) = tasks.rows(row, row + 1)
    task = tasks.tasks(number, number + 1)[number]
    found = {"row": row, **row_of(names, data)}
    if run.shape.num_models > 1:
        found["model"] = spec.models[model].name
    if run.shape.num_samples > 1:
        found["sample"] = sample
    asked = spec.prompts[prompt]
    for name, value in (task.values or {}).items():
        found[asked.column(name)] = value
    found["status"] = task.outcome.status.value
    if task.outcome.error is not None:
        found["error"] = task.outcome.error["message"]
    return found
