"""Finds the tasks of a batch run that a table on screen asks for, and puts them in order.

Promises: one pass of SQLite over the run for each condition, and one for the order, whatever the
table holds; what was found out is kept, so that a further condition costs its own pass only. Leaves
to others: words (`batch_window_find`), where a column lies (`batch_window_columns`), what is kept
(`batch_window_kept`), what is shown of a task (`batch_window`).
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.store.batch_tasks import MAX_TASKS, SHIFT
from gguf_widgets.core.store.batch_types import Shape, TaskStatus
from gguf_widgets.core.store.batch_window_bulk import Numbers, numbers_of
from gguf_widgets.core.store.batch_window_columns import Columns, condition, lowered
from gguf_widgets.core.store.batch_window_find import WordSearch, replies_of
from gguf_widgets.core.store.batch_window_kept import Kept, Wanted
from gguf_widgets.core.store.batch_window_words import Word

__all__ = ["Search", "WindowQuery", "wanted_orders"]

# What is sorted by and is no column of the table or of the result; each has an index.
_FACTS: Final = ("certainty", "total_s", "num_completion_tokens")

_Mask = NDArray[np.bool_]
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
    kept : Kept
        Of earlier searches.
    changes : int
        The run's state, which goes with what is kept.
    """

    def __init__(
        self,
        columns: Columns,
        connection: sqlite3.Connection,
        num: int,
        shape: Shape,
        kept: Kept,
        changes: int,
    ) -> None:
        self._columns, self._sql, self._shape = columns, connection, shape
        self._kept, self._changes = kept, changes
        self._num, self._base = num, num << SHIFT
        self._stretch = (self._base, self._base + MAX_TASKS)

    def find(self, query: WindowQuery, words: Sequence[Word]) -> Any:
        """Return the numbers of the tasks that a query finds, in order: a range, or an array."""
        mask = self._chosen(query, words)
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

    def _chosen(self, query: WindowQuery, words: Sequence[Word]) -> _Mask | None:
        """Return which tasks fit, in whatever order; None for all."""
        mask: _Mask | None = None
        key: tuple[Any, ...]
        status = query.status
        if status is not None:
            key = ("status", status, self._changes)
            mask = self._kept.mask(key, lambda: self._with_status(status))
        for name, value in query.where.items():
            # True is 1 and 1.0 to Python, but not in JSON.
            key = ("where", name, type(value), repr(value), *self._state(name))
            fits = self._kept.mask(key, functools.partial(self._where, name, value))
            mask = fits if mask is None else mask & fits
        if words:
            # In another order they are the same.
            texts = tuple(word.text for word in words)
            key = ("words", texts, self._changes, status, repr(query.where))
            replies = self._kept.order(("replies", self._changes))
            search = WordSearch(self._columns, self._sql, self._base, self._shape, replies)
            before = mask
            mask = self._kept.mask(key, lambda: search.find(words, before))
        return mask

    def _state(self, column: str) -> tuple[int, bool]:
        return _state_of(column, self._columns, self._shape, self._changes)

    def _with_status(self, status: str) -> _Mask:
        if status == TaskStatus.WAITING.value:
            return ~self._ended()
        return self._mask(
            self._numbers(
                "SELECT num FROM batch_task WHERE run_num = ? AND status = ?", (self._num, status)
            )
        )

    def _ended(self) -> _Mask:
        return self._mask(
            self._numbers("SELECT num FROM batch_task WHERE num >= ? AND num < ?", self._stretch)
        )

    def _where(self, column: str, value: Any) -> _Mask:
        if column in self._columns.names:
            source, values = self._columns.of_row(column)
            test, more = condition(source, values, value)
            rows = self._numbers(
                "SELECT num FROM batch_row WHERE num >= ? AND num < ? "  # noqa: S608 - our names
                f"AND {test}",
                (*self._stretch, *more),
            )
            mask = np.zeros(self._shape.num_rows, dtype=bool)
            mask[rows] = True
            return np.repeat(mask, self._shape.per_row)
        source, values = self._columns.of_task(column, self._shape)
        test, more = condition(source, values, value)
        found = self._mask(
            self._numbers(
                "SELECT num FROM batch_task WHERE num >= ? AND num < ? "  # noqa: S608 - our names
                f"AND {test}",
                (*self._stretch, *more),
            )
        )
        # Whatever has no result yet has no value either.
        return found if value is not None else found | ~self._ended()

    # -- in which order ---------------------------------------------------------------------------

    def _order(self, sort: str, *, descending: bool) -> Any:
        """Return all tasks in order; None for that of the table."""
        if sort == "row":
            return None
        way = "DESC" if descending else "ASC"
        key: tuple[Any, ...]
        if sort in _FACTS:
            key = ("fact", sort, way, self._changes)
            if (known := self._kept.order(key)) is None:
                known = self._kept.put_order(key, self.by_fact(sort, way))
            return known
        column = sort[1:] if sort.startswith("=") and sort not in self._columns.names else sort
        key = ("column", column, way, *self._state(column))
        if (known := self._kept.order(key)) is None:
            known = self._kept.put_order(key, self.by_column(column, way))
        return known

    def by_column(self, column: str, way: str) -> Any:
        """Return all tasks in the order of a column; `way` is "ASC" or "DESC"."""
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
        # With a limit the value is worked out once; SQLite would put it into each place else.
        found = self._numbers(
            f"SELECT num FROM (SELECT num, {source} AS value FROM batch_task "  # noqa: S608 - ours
            "WHERE num >= ? AND num < ? LIMIT -1) WHERE value IS NOT NULL "
            f"ORDER BY {lowered('value')} {way}, num",
            (*values, *self._stretch),
        )
        return self._and_the_rest(found)

    def by_fact(self, fact: str, way: str) -> Any:
        """Return all tasks in the order of one of `_FACTS`."""
        return self._and_the_rest(
            self._numbers(
                f"SELECT num FROM batch_task WHERE run_num = ? AND {fact} IS NOT NULL "  # noqa: S608
                f"ORDER BY {fact} {way}, num",
                (self._num,),
            )
        )

    def _and_the_rest(self, found: Numbers) -> Any:
        if len(found) < self._shape.num_tasks:
            found = np.concatenate([found, np.flatnonzero(~self._mask(found))])
        return found.astype(np.uint32)

    # -- numbers ----------------------------------------------------------------------------------

    def _numbers(self, sql: str, values: Sequence[Any]) -> Numbers:
        return numbers_of(self._sql, sql, values, self._base)

    def _mask(self, numbers: Numbers) -> _Mask:
        mask = np.zeros(self._shape.num_tasks, dtype=bool)
        mask[numbers] = True
        return mask


def wanted_orders(
    columns: Columns, num: int, shape: Shape, outputs: Sequence[str], changes: int
) -> Iterator[Wanted]:
    """Return what a person may ask for, to be made beforehand: the result's orders first.

    Parameters
    ----------
    columns : Columns
    num : int
        The run's.
    shape : Shape
    outputs : sequence of str
        The result's columns.
    changes : int
        The run's state.
    """
    yield Wanted(("replies", changes), lambda sql: replies_of(sql, num << SHIFT))

    def by_fact(sql: sqlite3.Connection, fact: str, way: str) -> Any:
        return Search(columns, sql, num, shape, Kept(), changes).by_fact(fact, way)

    def by_column(sql: sqlite3.Connection, column: str, way: str) -> Any:
        return Search(columns, sql, num, shape, Kept(), changes).by_column(column, way)

    for way in ("ASC", "DESC"):
        for fact in _FACTS:
            make = functools.partial(by_fact, fact=fact, way=way)
            yield Wanted(("fact", fact, way, changes), make)
        for column in [*outputs, *columns.names]:
            make = functools.partial(by_column, column=column, way=way)
            key = ("column", column, way, *_state_of(column, columns, shape, changes))
            yield Wanted(key, make)


def _state_of(column: str, columns: Columns, shape: Shape, changes: int) -> tuple[int, bool]:
    """Return what the values of a column go with."""
    # The table's own stay as they are, once all are there.
    is_own = column in columns.names
    return (shape.num_rows if is_own else changes), is_own
