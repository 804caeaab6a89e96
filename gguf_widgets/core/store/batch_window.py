"""What a table on screen asks of a batch run: which rows, in which order, and a window of them.

Promises: quick with 100,000 rows; a selection stays what it was while the run goes on, so that
rows do not move under the reader's eyes, and what a window shows is always as it is now; a person's
edits count in place of what the model gave. A selection takes four bytes a row, and a window takes
what it shows; orders and conditions are kept for the next selection (`batch_window_kept`). Leaves
to others:
saving (`batch_tasks`), finding (`batch_window_search`), how a value is shown
(`batch_window_shown`), what charts show (`batch_window_figures`), the table on screen (the
widgets).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from gguf_widgets.core.errors import InvalidValueError, WireError
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import MAX_TASKS, SHIFT, RunTasks
from gguf_widgets.core.store.batch_types import RunStatus, Shape, Task, TaskStatus
from gguf_widgets.core.store.batch_window_columns import VALUES, Columns, blocks, marks
from gguf_widgets.core.store.batch_window_figures import (
    MAX_LABELS,
    Figures,
    count_labels,
    count_values,
    figures_of,
)
from gguf_widgets.core.store.batch_window_kept import Kept, Wanted
from gguf_widgets.core.store.batch_window_search import Search, WindowQuery, wanted_orders
from gguf_widgets.core.store.batch_window_shown import as_output, cut
from gguf_widgets.core.store.batch_window_words import words_of
from gguf_widgets.core.store.json_values import from_json
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, Usage

__all__ = ["MAX_PAGE", "BatchWindow", "Selection", "WholeTask", "WindowQuery", "WindowRow"]

MAX_PAGE: Final = 1000  # rows of one window


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that a query found, in order.

    Attributes
    ----------
    num_rows : int
    token : str
        Another one when the query is another one, or its result may have changed.
    numbers : sequence of int
        The tasks.
    """

    num_rows: int
    token: str
    numbers: Any

    def position(self, number: int) -> int | None:
        """Return where a task stands; None if it was not found."""
        if isinstance(self.numbers, range):
            return self.numbers.index(number) if number in self.numbers else None
        found = np.flatnonzero(self.numbers == number)
        return int(found[0]) if len(found) else None


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One task in a window.

    Attributes
    ----------
    number : int
        The task's.
    row, prompt, model, sample : int
        Its place, each from 0.
    status : str
        "done", "failed", "skipped" or "waiting".
    values : dict
        The table's columns by name, as they are shown.
    outputs : dict
        The result's columns by name; those of its own prompt.
    cut : tuple of str
        The columns whose text is longer than what is here, which then ends with "…".
    certainty : float or None
    error : str or None
    edited : bool
    """

    number: int
    row: int
    prompt: int
    model: int
    sample: int
    status: str
    values: dict[str, Any]
    outputs: dict[str, Any]
    cut: tuple[str, ...] = ()
    certainty: float | None = None
    error: str | None = None
    edited: bool = False


class WholeTask(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one task; what it has none of is None.

    Attributes
    ----------
    inputs : dict
        The table's columns by name, as they are shown, whole.
    text : str or None
        The reply as the model wrote it.
    values : dict or None
        What was read from it, by the result's columns; `edit` is what a person put in its place.
    """

    number: int
    row: int
    prompt: int
    model: int
    sample: int
    status: str
    inputs: dict[str, Any]
    text: str | None = None
    values: dict[str, Any] | None = None
    edit: dict[str, Any] | None = None
    probabilities: dict[str, float] | None = None
    certainty: float | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: WireError | None = None
    attempts: int = 0
    seed: int | None = None
    finish_reason: FinishReason | None = None
    ended_at: float | None = None


class BatchWindow:
    """Looks at one run for a table on screen.

    Parameters
    ----------
    store : Store
    run_id : str

    Raises
    ------
    InvalidValueError
        There is no such run.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._tasks = RunTasks(store, run_id)
        run = BatchRuns(store).get(run_id)
        with store.reading() as connection:
            (num,) = connection.execute(
                "SELECT num FROM batch_run WHERE id = ?", (run_id,)
            ).fetchone()
        self._num = int(num)
        self._base = self._num << SHIFT
        self._columns = Columns(run, self._base)
        self.columns = self._columns.names
        self._kept = Kept()
        self._last: tuple[WindowQuery, int, Selection] | None = None

    # -- which rows -------------------------------------------------------------------------------

    def changes(self) -> int:
        """Return a number that grows whenever a row, a result or an edit is added or removed."""
        with self.store.reading() as connection:
            return self._now(connection)[0]

    def select(self, query: WindowQuery | None = None) -> Selection:
        """Find the tasks of a query.

        Raises
        ------
        InvalidValueError
            There is no such status; there are too many words; there is no such run any more.
        """
        query = query if query is not None else WindowQuery()
        if query.status is not None and query.status not in {one.value for one in TaskStatus}:
            raise InvalidValueError(
                f"There is no status {query.status!r:.40}: a row is waiting, done, failed or "
                "skipped.",
                name="status",
            )
        words = words_of(query.words)
        with self.store.reading() as connection:
            changes, shape = self._now(connection)
            if self._last is not None and self._last[:2] == (query, changes):
                return self._last[2]
            numbers = Search(self._columns, connection, self._num, shape, self._kept, changes).find(
                query, words
            )
            self._prepare(connection, shape, changes)
        token = f"{changes}.{msgspec.json.encode(query).hex()}"
        selection = Selection(num_rows=len(numbers), token=token, numbers=numbers)
        self._last = (query, changes, selection)
        return selection

    # -- a window of them -------------------------------------------------------------------------

    def page(self, selection: Selection, start: int, stop: int) -> list[WindowRow]:
        """Return a window of a selection, each row as it is now.

        Parameters
        ----------
        selection : Selection
        start, stop : int
            Positions in it, the last one not included; what is beyond it is left out.

        Raises
        ------
        InvalidValueError
            That is more than 1,000 rows.
        """
        start, stop = max(0, start), min(max(0, stop), selection.num_rows)
        if stop - start > MAX_PAGE:
            raise InvalidValueError(
                f"{stop - start:,} rows are too many for one window; at most {MAX_PAGE:,} are "
                "given at once.",
                limit=MAX_PAGE,
            )
        numbers = [int(number) for number in selection.numbers[start:stop]]
        with self.store.reading() as connection:
            _, shape = self._now(connection)
            places = {number: shape.place(number) for number in numbers}
            inputs = self._inputs(connection, sorted({place[0] for place in places.values()}))
            ended = self._ended(connection, sorted(numbers))
        return [
            self._row(number, places[number], inputs.get(places[number][0]), ended.get(number))
            for number in numbers
        ]

    def whole(self, number: int) -> WholeTask:
        """Return everything about one task.

        Raises
        ------
        InvalidValueError
            The run has no such task.
        """
        with self.store.reading() as connection:
            _, shape = self._now(connection)
            if not 0 <= number < shape.num_tasks:
                raise InvalidValueError(
                    f"There is no row {number}; the run has {shape.num_tasks:,}, from 0.",
                    number=number,
                )
            place = shape.place(number)
            data = self._tasks.rows(place[0], place[0] + 1)
            task = self._tasks.tasks(number, number + 1).get(number)
        inputs = self._columns.shown(data[0]) if data else {}
        where: dict[str, Any] = dict(zip(("row", "prompt", "model", "sample"), place, strict=True))
        if task is None:
            return WholeTask(number=number, status=TaskStatus.WAITING.value, inputs=inputs, **where)
        return self._whole(task, inputs, where)

    def label_counts(self, column: str) -> dict[Any, int]:
        """Count the values of a column of the result, or of the table, the most frequent first.

        Parameters
        ----------
        column : str
            Of the result, in the tasks that are done; or else of the table. At most the 1,000 most
            frequent ones are returned; what is missing is not counted.
        """
        with self.store.reading() as connection:
            if column in self.columns:
                return count_values(connection, self._columns, self._base, column)
        counts: Counter[Any] = Counter()
        for one in self.label_counts_by_model(column):
            counts.update(one)
        return dict(counts.most_common(MAX_LABELS))

    def label_counts_by_model(self, column: str) -> list[dict[Any, int]]:
        """Count the values of a column of the result, as `label_counts` does, for each model."""
        with self.store.reading() as connection:
            _, shape = self._now(connection)
            return count_labels(connection, self._columns, self._base, shape, column)

    def figures(self, columns: Sequence[str] = ()) -> Figures:
        """Return the numbers of the tasks that are done: times, tokens, and columns of numbers.

        Parameters
        ----------
        columns : sequence of str
            Of the result.
        """
        with self.store.reading() as connection:
            _, shape = self._now(connection)
            return figures_of(connection, self._columns, self._base, shape, columns)

    # -- inside -----------------------------------------------------------------------------------

    def _prepare(self, connection: sqlite3.Connection, shape: Shape, changes: int) -> None:
        """Have the orders made that a person may ask for next, unless the run still goes on."""
        (status,) = connection.execute(
            "SELECT status FROM batch_run WHERE num = ?", (self._num,)
        ).fetchone()
        if self.store.path is None or status in (RunStatus.RUNNING, RunStatus.PAUSED):
            return
        num = self._num  # not the window itself, which may go meanwhile

        def is_now(other: sqlite3.Connection) -> bool:
            asked = "SELECT changes FROM batch_run WHERE num = ?"
            return bool(other.execute(asked, (num,)).fetchone() == (changes,))

        def wanted() -> Iterator[Wanted]:
            outputs = self._columns.outputs(connection, shape)
            return wanted_orders(self._columns, num, shape, outputs, changes)

        self._kept.prepare(self.store.path, shape.num_tasks, changes, is_now, wanted)

    def _now(self, connection: sqlite3.Connection) -> tuple[int, Shape]:
        row = connection.execute(
            "SELECT changes, num_rows, num_prompts, num_models, num_samples FROM batch_run "
            "WHERE id = ?",
            (self.run_id,),
        ).fetchone()
        if row is None:
            raise InvalidValueError(
                "This batch run is not in the store any more. It may have been removed.",
                id=self.run_id,
            )
        return int(row[0]), Shape(
            num_rows=row[1], num_prompts=row[2], num_models=row[3], num_samples=row[4]
        )

    def _stretch(self) -> tuple[int, int]:
        return self._base, self._base + MAX_TASKS

    def _inputs(
        self, connection: sqlite3.Connection, rows: Sequence[int]
    ) -> dict[int, tuple[dict[str, Any], list[str]]]:
        found = {}
        for block in blocks([self._base + row for row in rows]):
            # One at a time: a cell may have megabytes, and only its beginning is kept.
            for num, data in connection.execute(
                "SELECT num, data FROM batch_row "  # noqa: S608 - only marks
                f"WHERE num IN ({marks(block)})",
                block,
            ):
                found[num - self._base] = _cut_all(self._columns.shown(data))
        return found

    def _ended(
        self, connection: sqlite3.Connection, numbers: Sequence[int]
    ) -> dict[int, tuple[str, dict[str, Any], float | None, str | None, bool]]:
        found = {}
        for block in blocks([self._base + number for number in numbers]):
            for num, status, values, certainty, error, edited in connection.execute(
                f"SELECT num, status, {VALUES}, certainty, error, edit IS NOT NULL "  # noqa: S608
                f"FROM batch_task WHERE num IN ({marks(block)})",
                block,
            ):
                wire = from_json(error)
                message = wire.get("message") if isinstance(wire, dict) else None
                found[num - self._base] = (
                    status,
                    from_json(values) or {},
                    certainty,
                    message,
                    bool(edited),
                )
        return found

    def _row(
        self,
        number: int,
        place: tuple[int, int, int, int],
        inputs: tuple[dict[str, Any], list[str]] | None,
        ended: tuple[str, dict[str, Any], float | None, str | None, bool] | None,
    ) -> WindowRow:
        values, are_cut = inputs if inputs is not None else ({}, [])
        row, prompt, model, sample = place
        status, read, certainty, error, edited = ended or (
            TaskStatus.WAITING.value,
            {},
            None,
            None,
            False,
        )
        outputs, also_cut = _cut_all(
            {
                self._columns.output_name(prompt, name): as_output(value)
                for name, value in read.items()
            }
        )
        return WindowRow(
            number=number,
            row=row,
            prompt=prompt,
            model=model,
            sample=sample,
            status=status,
            values=values,
            outputs=outputs,
            cut=(*are_cut, *also_cut),
            certainty=certainty,
            error=error,
            edited=edited,
        )

    def _whole(self, task: Task, inputs: dict[str, Any], place: dict[str, Any]) -> WholeTask:
        outcome = task.outcome

        def named(values: dict[str, Any] | None) -> dict[str, Any] | None:
            if values is None:
                return None
            return {
                self._columns.output_name(task.prompt, name): value
                for name, value in values.items()
            }

        return WholeTask(
            number=outcome.number,
            status=outcome.status.value,
            inputs=inputs,
            text=outcome.text,
            values=named(outcome.values),
            edit=named(task.edit),
            probabilities=outcome.probabilities,
            certainty=outcome.certainty,
            usage=outcome.usage,
            timings=outcome.timings,
            error=outcome.error,
            attempts=outcome.attempts,
            seed=outcome.seed,
            finish_reason=outcome.finish_reason,
            ended_at=task.ended_at,
            **place,
        )


def _cut_all(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    short, are_cut = {}, []
    for name, value in values.items():
        short[name], is_cut = cut(value)
        if is_cut:
            are_cut.append(name)
    return short, are_cut
