"""The rows of one batch run in the store, and what came of each.

Promises: a task that has ended is here once, whatever was killed when; what is not here waits.
Leaves to others: the runs themselves (`batch_runs`), what a task is asked and how a reply is read
(`gguf_widgets.batch`), connections (`store`).
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.store.batch_types import Counts, Outcome, Shape, Task, TaskStatus
from gguf_widgets.core.store.json_values import from_json, member_of, struct_of, to_json
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, TokenLogprob, Usage

__all__ = ["MAX_TASKS", "SHIFT", "RunTasks", "no_such_run"]

_log = logging.getLogger(__name__)

MAX_TASKS: Final = 2**31
SHIFT: Final = 32  # a run's number stands so far to the left in the numbers of its rows and tasks
_LOGPROBS: Final = "$logprobs"  # among the probabilities
_AT_ONCE: Final = 2000  # rows in one transaction: some tens of milliseconds
_CHARS_AT_ONCE: Final = 16_000_000  # of rows: an image may be in each
_FIRST_ROWS: Final = 16

_TASK = (
    'num, key, status, attempts, text, "values", edit, error, finish_reason, num_prompt_tokens, '
    "num_cached_tokens, num_completion_tokens, timings, total_s, seed, probabilities, certainty, "
    "ended_at"
)


class RunTasks:
    """The rows and tasks of one run.

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
        self.store = store
        self.run_id = run_id
        with store.reading() as connection:
            row = connection.execute(
                "SELECT num, num_prompts, num_models, num_samples FROM batch_run WHERE id = ?",
                (run_id,),
            ).fetchone()
        if row is None:
            raise no_such_run(run_id)
        self._num = int(row[0])
        self._base = self._num << SHIFT
        self._shape = Shape(num_prompts=row[1], num_models=row[2], num_samples=row[3])

    def add_rows(self, rows: Iterable[str], *, last: bool = True) -> int:
        """Add rows, each as JSON, behind those that are there; return how many there are then.

        Parameters
        ----------
        last : bool, default True
            These are the last of the table: the run can begin.

        Raises
        ------
        BatchError
            The table is complete already, or would have too many tasks.
        """
        source = iter(rows)
        while True:
            block, is_all = _next_block(source)
            with self.store.transaction() as connection:
                num_rows, complete = self._rows_now(connection)
                if complete:
                    raise BatchError(
                        "All rows of this run are there already; more cannot be added.",
                        id=self.run_id,
                    )
                total, per_row = num_rows + len(block), self._shape.per_row
                if total * per_row > MAX_TASKS:
                    raise BatchError(
                        f"{total:,} rows with {per_row:,} replies each are too many; "
                        f"at most {MAX_TASKS:,} replies can be asked for in one run. Divide the "
                        "table.",
                        limit=MAX_TASKS,
                    )
                base = self._base + num_rows
                connection.executemany(
                    "INSERT INTO batch_row (num, data) VALUES (?, ?)",
                    [(base + i, data) for i, data in enumerate(block)],
                )
                ends = last and is_all
                connection.execute(
                    "UPDATE batch_run SET num_rows = ?, complete = ?, updated_at = ?, "
                    "changes = changes + 1 WHERE id = ?",
                    (total, ends, time.time(), self.run_id),
                )
            if is_all:
                return total

    def rows(self, start: int, stop: int) -> list[str]:
        """Return the rows of a stretch of the table, each as JSON, in order."""
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT data FROM batch_row WHERE num >= ? AND num < ? ORDER BY num",
                self._stretch(start, stop),
            ).fetchall()
        return [data for (data,) in found]

    def each_row(self, start: int, stop: int) -> Iterator[str]:
        """Yield the rows of a stretch, each as JSON, in order; of long ones few are in memory."""
        at_once = _FIRST_ROWS
        while block := self.rows(start, min(start + at_once, stop)):
            yield from block
            start += len(block)
            is_long = sum(map(len, block)) > _CHARS_AT_ONCE // 2
            at_once = max(1, at_once // 2) if is_long else min(2 * at_once, _AT_ONCE)

    # -- what came of them ------------------------------------------------------------------------

    def save(self, ended: Sequence[tuple[Outcome, str]]) -> int:
        """Keep what came of tasks, each with its key, all or none; return how many were new.

        One that is here already stays as it is.
        """
        now = time.time()
        columns = _TASK.replace("edit, ", "")
        marks = ", ".join("?" * (1 + len(columns.split(", "))))
        with self.store.transaction() as connection:
            self._count_change(connection)
            return sum(
                connection.execute(
                    f"INSERT INTO batch_task (run_num, {columns}) VALUES ({marks}) "  # noqa: S608 - our names
                    "ON CONFLICT DO NOTHING",
                    (self._num, self._base + outcome.number, *_columns(outcome, key, now)),
                ).rowcount
                for outcome, key in ended
            )

    def ended(self) -> Iterator[int]:
        """Yield the numbers of the tasks that have ended, in order."""
        after, end = self._base - 1, self._base + MAX_TASKS
        while True:  # in blocks, so that others can write in between
            with self.store.reading() as connection:
                block = connection.execute(
                    "SELECT num FROM batch_task WHERE num > ? AND num < ? ORDER BY num LIMIT 50000",
                    (after, end),
                ).fetchall()
            yield from (num - self._base for (num,) in block)
            if not block:
                return
            after = block[-1][0]

    def tasks(self, start: int, stop: int) -> dict[int, Task]:
        """Return what has ended of a stretch of tasks, by number."""
        with self.store.reading() as connection:
            found = connection.execute(
                f"SELECT {_TASK} FROM batch_task "  # noqa: S608 - our names
                "WHERE num >= ? AND num < ? ORDER BY num",
                self._stretch(start, stop),
            ).fetchall()
        read = [_task(row, self._base, self._shape) for row in found]
        return {task.outcome.number: task for task in read}

    def answer_to(self, key: str) -> Outcome | None:
        """Return the outcome of a task of this run that was asked the very same; or None."""
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {_TASK} FROM batch_task "  # noqa: S608 - our names
                "WHERE key = ? AND run_num = ? AND status = 'done' LIMIT 1",
                (bytes.fromhex(key), self._num),
            ).fetchone()
        return None if row is None else _task(row, self._base, self._shape).outcome

    def counts(self) -> Counts:
        """Return how many tasks stand where."""
        with self.store.reading() as connection:
            num_rows, _ = self._rows_now(connection)
            found = dict(
                connection.execute(
                    "SELECT status, count(*) FROM batch_task WHERE run_num = ? GROUP BY status",
                    (self._num,),
                ).fetchall()
            )
        ended = {status: found.get(status, 0) for status in ("done", "failed", "skipped")}
        waiting = num_rows * self._shape.per_row - sum(ended.values())
        return Counts(**ended, waiting=waiting)

    def edit(self, number: int, values: dict[str, Any] | None) -> None:
        """Put other values in place of what was read; None takes the edit back.

        Raises
        ------
        BatchError
            The task has not ended.
        """
        with self.store.transaction() as connection:
            self._count_change(connection)
            changed = connection.execute(
                "UPDATE batch_task SET edit = ? WHERE num = ?",
                (to_json(values), self._base + number),
            ).rowcount
        if not changed:
            raise BatchError("This row has no result yet that could be changed.", number=number)

    def forget(self, which: TaskStatus | Iterable[int]) -> int:
        """Let tasks wait again that had ended: all of a status, or these; return how many.

        What had come of them is gone, edits and counted deaths too.
        """
        with self.store.transaction() as connection:
            self._count_change(connection)
            if isinstance(which, TaskStatus):
                nums = connection.execute(
                    "SELECT num FROM batch_task WHERE run_num = ? AND status = ?",
                    (self._num, which.value),
                ).fetchall()
            else:
                nums = [(self._base + number,) for number in which if 0 <= number < MAX_TASKS]
            connection.executemany("DELETE FROM batch_death WHERE num = ?", nums)
            return connection.executemany("DELETE FROM batch_task WHERE num = ?", nums).rowcount

    # -- deaths of the model's process ------------------------------------------------------------

    def deaths(self) -> dict[int, int]:
        """Return how often the model's process died with a task in it, by the task's number."""
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT num, deaths FROM batch_death WHERE num >= ? AND num < ?",
                self._stretch(0, MAX_TASKS),
            ).fetchall()
        return {num - self._base: deaths for num, deaths in found}

    def count_deaths(self, numbers: Iterable[int]) -> None:
        """Note that the model's process died with these in it."""
        with self.store.transaction() as connection:
            connection.executemany(
                "INSERT INTO batch_death (num, deaths) VALUES (?, 1) "
                "ON CONFLICT (num) DO UPDATE SET deaths = deaths + 1",
                [(self._base + number,) for number in numbers],
            )

    # -- inside -----------------------------------------------------------------------------------

    def _stretch(self, start: int, stop: int) -> tuple[int, int]:
        return self._base + max(0, start), self._base + min(max(0, stop), MAX_TASKS)

    def _count_change(self, connection: sqlite3.Connection) -> None:
        """Let whoever shows the run see that something is new."""
        connection.execute("UPDATE batch_run SET changes = changes + 1 WHERE num = ?", (self._num,))

    def _rows_now(self, connection: sqlite3.Connection) -> tuple[int, bool]:
        row = connection.execute(
            "SELECT num_rows, complete FROM batch_run WHERE num = ?", (self._num,)
        ).fetchone()
        if row is None:  # purged meanwhile
            raise no_such_run(self.run_id)
        return int(row[0]), bool(row[1])


def _next_block(source: Iterator[str]) -> tuple[list[str], bool]:
    """Return the next few rows, and whether these are all."""
    block: list[str] = []
    num_chars = 0
    for data in source:
        block.append(data)
        num_chars += len(data)
        if len(block) >= _AT_ONCE or num_chars >= _CHARS_AT_ONCE:
            return block, False
    return block, True


def no_such_run(run_id: str) -> InvalidValueError:
    """Return the error for a run that is not in the store."""
    return InvalidValueError(
        f"There is no batch run {run_id!r} in the store. It may have been removed.", id=run_id
    )


def _chances(outcome: Outcome) -> dict[str, Any] | None:
    if outcome.logprobs is None:
        return outcome.probabilities
    return {**(outcome.probabilities or {}), _LOGPROBS: outcome.logprobs}


def _logprobs(kept: Any) -> list[TokenLogprob] | None:
    try:
        # Not strict: "-inf" is a number here.
        return None if kept is None else msgspec.convert(kept, list[TokenLogprob], strict=False)
    except msgspec.ValidationError as error:
        _log.warning("The store holds log probabilities that cannot be read: %s", error)
        return None


def _columns(outcome: Outcome, key: str, now: float) -> tuple[Any, ...]:
    usage = outcome.usage
    return (
        bytes.fromhex(key),
        outcome.status.value,
        outcome.attempts,
        None if outcome.text is None else well_formed(outcome.text),
        to_json(outcome.values),
        to_json(outcome.error),
        outcome.finish_reason.value if outcome.finish_reason else None,
        usage.num_prompt_tokens if usage else None,
        usage.num_cached_tokens if usage else None,
        usage.num_completion_tokens if usage else None,
        to_json(outcome.timings),
        outcome.timings.total_s if outcome.timings else None,
        outcome.seed,
        to_json(_chances(outcome)),
        outcome.certainty,
        now,
    )


def _task(row: tuple[Any, ...], base: int, shape: Shape) -> Task:
    names = _TASK.replace('"', "").split(", ")
    value = dict(zip(names, row, strict=True))
    number = value["num"] - base
    place = shape.place(number)
    chances = from_json(value["probabilities"])
    # They share a column: no task has choices and keeps its tokens.
    logprobs = chances.pop(_LOGPROBS, None) if isinstance(chances, dict) else None
    usage = None
    if value["num_prompt_tokens"] is not None:
        usage = Usage(
            num_prompt_tokens=value["num_prompt_tokens"],
            num_cached_tokens=value["num_cached_tokens"] or 0,
            num_completion_tokens=value["num_completion_tokens"] or 0,
        )
    return Task(
        row=place[0],
        prompt=place[1],
        model=place[2],
        sample=place[3],
        key=value["key"].hex(),
        edit=from_json(value["edit"]),
        ended_at=value["ended_at"],
        outcome=Outcome(
            number=number,
            status=member_of(TaskStatus, value["status"]) or TaskStatus.FAILED,
            attempts=value["attempts"],
            text=value["text"],
            values=from_json(value["values"]),
            error=from_json(value["error"]),
            finish_reason=member_of(FinishReason, value["finish_reason"]),
            usage=usage,
            timings=struct_of(Timings, value["timings"]),
            seed=value["seed"],
            probabilities=chances or None,
            certainty=value["certainty"],
            logprobs=_logprobs(logprobs),
        ),
    )
