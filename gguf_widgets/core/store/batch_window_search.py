"""Finds the tasks of a batch run that a table on screen asks for, and puts them in order.

Promises: one pass of SQLite over the run for each condition, and one for the order, whatever the
table holds. Leaves to others: where a column lies (`batch_window_columns`), what a word is
(`batch_window_words`), what is shown of a task (`batch_window`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.store.batch_tasks import MAX_TASKS, SHIFT
from gguf_widgets.core.store.batch_types import Shape, TaskStatus
from gguf_widgets.core.store.batch_window_columns import (
    VALUES,
    Columns,
    blocks,
    condition,
    lowered,
    marks,
)
from gguf_widgets.core.store.batch_window_shown import as_output
from gguf_widgets.core.store.batch_window_words import Word
from gguf_widgets.core.store.json_values import from_json

__all__ = ["Orders", "Search", "WindowQuery"]

# What is sorted by and is no column of the table or of the result; each has an index.
_FACTS: Final = ("certainty", "total_s", "num_completion_tokens")
_SAMPLE: Final = 200
_FEW: Final = 2000  # so many are looked at one by one more quickly than by a pass over all
_KEPT_ORDERS: Final = 4  # each four bytes a row

_Mask = NDArray[np.bool_]
_Numbers = NDArray[np.int64]
_Status = Literal["done", "failed", "skipped", "waiting"]


class WindowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows, and in which order.

    Attributes
    ----------
    status : {"done", "failed", "skipped", "waiting"} or None
    words : str
        Each of them has to be in the row: in a value of the table, in the reply, or in what was
        read from it.
    where : dict
        Columns, of the table or of the result, and what they have to be; None is missing.
    sort : str, default "row"
        "row", "certainty", "total_s", "num_completion_tokens", or a column of the table or of the
        result. A column of the table that is called like one of the first four is reached as
        "=name". Numbers come before texts, and what is missing comes last, in either direction.
    descending : bool
    """

    status: _Status | None = None
    words: str = ""
    where: dict[str, Any] = msgspec.field(default_factory=dict)
    sort: str = "row"
    descending: bool = False


class Orders:
    """The last orders by a column: they take a while, and are asked for again with each filter."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Any] = {}

    def get(self, state: tuple[Any, ...]) -> Any:
        """Return the order for a column and a state of the run; None if it is not known."""
        return self._kept.get(state)

    def put(self, state: tuple[Any, ...], order: Any) -> Any:
        """Keep an order in place of the oldest, and return it."""
        while len(self._kept) >= _KEPT_ORDERS:
            del self._kept[next(iter(self._kept))]
        self._kept[state] = order
        return order


class Search:
    """One query to one moment of the store.

    Parameters
    ----------
    columns : Columns
    connection : sqlite3.Connection
        In a transaction.
    num : int
        The run's.
    shape : Shape
    orders : Orders
        Of earlier searches.
    changes : int
        The run's state, which `orders` are right for.
    """

    def __init__(
        self,
        columns: Columns,
        connection: sqlite3.Connection,
        num: int,
        shape: Shape,
        orders: Orders,
        changes: int,
    ) -> None:
        self._columns, self._sql, self._shape = columns, connection, shape
        self._orders, self._changes = orders, changes
        self._num, self._base = num, num << SHIFT
        self._stretch = (self._base, self._base + MAX_TASKS)

    def find(self, query: WindowQuery, words: Sequence[Word]) -> Any:
        """Return the numbers of the tasks that a query finds, in order: a range, or an array."""
        mask: _Mask | None = None
        for name, value in query.where.items():
            mask = _both(mask, self._where(name, value))
        if query.status is not None:
            mask = _both(mask, self._with_status(query.status))
        for word in words:
            mask = self._with_word(word, mask)
        order = self._order(query.sort, descending=query.descending)
        if mask is None:
            if order is None:
                numbers = range(self._shape.num_tasks)
                return numbers[::-1] if query.descending else numbers
            return order
        if order is None:
            found = np.flatnonzero(mask)
            return (found[::-1] if query.descending else found).astype(np.uint32)
        return order[mask[order]]

    # -- which ------------------------------------------------------------------------------------

    def _with_status(self, status: str) -> _Mask:
        if status == TaskStatus.WAITING.value:
            return ~self._tasks("SELECT num FROM batch_task WHERE num >= ? AND num < ?", ())
        return self._mask(
            self._numbers(
                "SELECT num FROM batch_task WHERE run_num = ? AND status = ?", (self._num, status)
            )
        )

    def _where(self, column: str, value: Any) -> _Mask:
        if column in self._columns.names:
            source, values = self._columns.of_row(column)
            test, more = condition(source, values, value)
            return self._rows(
                "SELECT num FROM batch_row WHERE num >= ? AND num < ? "  # noqa: S608 - our names
                f"AND {test}",
                more,
            )
        source, values = self._columns.of_task(column, self._shape)
        test, more = condition(source, values, value)
        found = self._tasks(
            "SELECT num FROM batch_task WHERE num >= ? AND num < ? "  # noqa: S608 - our names
            f"AND {test}",
            more,
        )
        if value is not None:
            return found
        # Whatever has no result yet has no value either.
        return found | ~self._tasks("SELECT num FROM batch_task WHERE num >= ? AND num < ?", ())

    def _with_word(self, word: Word, among: _Mask | None) -> _Mask:
        """Return those of some tasks that have a word in them."""
        if among is not None and (few := np.flatnonzero(among)).size <= _FEW:
            rows = np.unique(few // self._shape.per_row)
            found = self._spread(self._rows_with(word, rows))
            return (found | self._mask(self._tasks_with(word, few))) & among
        rows, doubtful_rows = self._word_in_rows(word)
        tasks, doubtful_tasks = self._word_in_tasks(word)
        found = self._spread(rows) | self._mask(tasks)
        # Only where nothing else decides is the text itself looked at.
        if doubtful_tasks.size:
            asked = self._still_asked(self._mask(doubtful_tasks), found, among)
            found |= self._mask(self._tasks_with(word, asked))
        if doubtful_rows.size:
            asked = self._still_asked(self._spread(doubtful_rows), found, among)
            found |= self._spread(self._rows_with(word, np.unique(asked // self._shape.per_row)))
        return found if among is None else found & among

    def _still_asked(self, doubtful: _Mask, found: _Mask, among: _Mask | None) -> _Numbers:
        asked = doubtful & ~found
        return np.flatnonzero(asked if among is None else asked & among)

    def _rows_with(self, word: Word, rows: _Numbers) -> _Numbers:
        """Return those of some rows that have the word in a value that is shown."""
        sure = []
        for block in blocks([self._base + int(row) for row in rows]):
            for num, data in self._sql.execute(
                f"SELECT num, data FROM batch_row WHERE num IN ({marks(block)})",  # noqa: S608
                block,
            ):
                if word.is_in(self._columns.shown(data).values()):
                    sure.append(num)
        return self._relative(sure, len(sure))

    def _tasks_with(self, word: Word, numbers: _Numbers) -> _Numbers:
        """Return those of some tasks that have the word in their reply or what was read from it."""
        sure = []
        for block in blocks([self._base + int(number) for number in numbers]):
            for num, text, data in self._sql.execute(
                f"SELECT num, text, {VALUES} FROM batch_task "  # noqa: S608 - our names
                f"WHERE num IN ({marks(block)})",
                block,
            ):
                values = [as_output(value) for value in (from_json(data) or {}).values()]
                if word.is_in([text, *values]):
                    sure.append(num)
        return self._relative(sure, len(sure))

    def _word_in_rows(self, word: Word) -> tuple[_Numbers, _Numbers]:
        # Of the row's place in the table, which is not shown, only digits can be a part.
        data = self._columns.data if set(word.text) <= set("0123456789-]") else "data"
        met, values = word.in_json(data)
        doubt, more = ("1", []) if self._columns.has_others else word.doubt("data")
        if self._columns.has_marks and doubt != "1":
            doubt = f"CASE WHEN instr(data, '{{\"$') THEN 1 ELSE {doubt} END"
        return self._told_apart("batch_row", met, values, doubt, more)

    def _word_in_tasks(self, word: Word) -> tuple[_Numbers, _Numbers]:
        in_text, text_values = word.in_text("text")
        # The names of the columns stand in each row's JSON; those with the word in them are taken
        # out, each as a whole, which no value can look like: its quotes would be escaped.
        keys = [key for key in self._keys() if word.is_plain and word.could_be_in(key)]
        source = VALUES
        for _ in keys:
            source = f"replace({source}, ?, '')"
        in_values, like_values = word.in_json(source)
        placed = [json.dumps(key) + ": " for key in keys]
        each = [value for one in like_values for value in (*placed, one)]
        doubt, more = word.doubt(VALUES)
        if doubt != "0":
            doubt, more = f"CASE WHEN {in_text} THEN 0 ELSE {doubt} END", [*text_values, *more]
        return self._told_apart(
            "batch_task", f"({in_text} OR {in_values})", [*text_values, *each], doubt, more
        )

    def _told_apart(
        self, table: str, met: str, values: Sequence[Any], doubt: str, more: Sequence[Any]
    ) -> tuple[_Numbers, _Numbers]:
        """Return what meets a condition for sure, and what has to be looked at."""
        # One number a row is read much quicker than two.
        number = "num" if doubt == "0" else f"CASE WHEN {doubt} THEN -num ELSE num END"
        found = self._sql.execute(
            f"SELECT {number} FROM {table} WHERE num >= ? AND num < ? AND {met}",  # noqa: S608
            (*([] if doubt == "0" else more), *self._stretch, *values),
        )
        nums = np.fromiter((num for (num,) in found), np.int64)
        return nums[nums > 0] - self._base, -nums[nums < 0] - self._base

    def _keys(self) -> list[str]:
        found = self._sql.execute(
            f"SELECT DISTINCT key FROM (SELECT {VALUES} AS read FROM batch_task "  # noqa: S608
            'WHERE num >= ? AND num < ? AND "values" IS NOT NULL LIMIT ?), json_each(read)',
            (*self._stretch, _SAMPLE),
        ).fetchall()
        return [key for (key,) in found]

    # -- in which order ---------------------------------------------------------------------------

    def _order(self, sort: str, *, descending: bool) -> Any:
        """Return all tasks in order; None for that of the table."""
        if sort == "row":
            return None
        way = "DESC" if descending else "ASC"
        if sort in _FACTS:
            found = self._numbers(
                f"SELECT num FROM batch_task WHERE run_num = ? AND {sort} IS NOT NULL "  # noqa: S608
                f"ORDER BY {sort} {way}, num",
                (self._num,),
            )
            return self._and_the_rest(found)
        column = sort[1:] if sort.startswith("=") and sort not in self._columns.names else sort
        # The table's own values stay as they are, once all are there.
        is_own = column in self._columns.names
        state = (column, way, self._shape.num_rows if is_own else self._changes, is_own)
        if (known := self._orders.get(state)) is None:
            known = self._orders.put(state, self._by_column(column, way))
        return known

    def _by_column(self, column: str, way: str) -> Any:
        if column in self._columns.names:
            source, values = self._columns.of_row(column)
            source = self._columns.sortable(column, source)
            rows = self._numbers(
                "SELECT num FROM batch_row WHERE num >= ? AND num < ? "  # noqa: S608 - our names
                f"ORDER BY {source} {way} NULLS LAST, num",
                (*self._stretch, *values),
            )
            inner = np.arange(self._shape.per_row)
            return (rows[:, None] * self._shape.per_row + inner).ravel().astype(np.uint32)
        source, values = self._columns.of_task(column, self._shape)
        found = self._numbers(
            f"SELECT num FROM (SELECT num, {lowered(source)} AS value FROM batch_task "  # noqa: S608
            f"WHERE num >= ? AND num < ?) WHERE value IS NOT NULL ORDER BY value {way}, num",
            (*values, *self._stretch),
        )
        return self._and_the_rest(found)

    def _and_the_rest(self, found: _Numbers) -> Any:
        if len(found) < self._shape.num_tasks:
            found = np.concatenate([found, np.flatnonzero(~self._mask(found))])
        return found.astype(np.uint32)

    # -- numbers ----------------------------------------------------------------------------------

    def _numbers(self, sql: str, values: Sequence[Any]) -> _Numbers:
        found = self._sql.execute(sql, tuple(values))
        return self._relative((num for (num,) in found), -1)

    def _relative(self, nums: Iterable[int], count: int) -> _Numbers:
        return np.fromiter(nums, np.int64, count) - self._base

    def _tasks(self, sql: str, more: Sequence[Any]) -> _Mask:
        return self._mask(self._numbers(sql, (*self._stretch, *more)))

    def _rows(self, sql: str, more: Sequence[Any]) -> _Mask:
        return self._spread(self._numbers(sql, (*self._stretch, *more)))

    def _mask(self, numbers: _Numbers) -> _Mask:
        mask = np.zeros(self._shape.num_tasks, dtype=bool)
        mask[numbers] = True
        return mask

    def _spread(self, rows: _Numbers) -> _Mask:
        mask = np.zeros(self._shape.num_rows, dtype=bool)
        mask[rows] = True
        return np.repeat(mask, self._shape.per_row)


def _both(one: _Mask | None, other: _Mask) -> _Mask:
    return other if one is None else one & other
