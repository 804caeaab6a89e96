"""Finds the tasks of a batch run that have all of some words in them.

Promises: a word may be in the task's row of the table, in its reply, or in what was read from that;
one pass of SQLite over the rows tells which words each of them has, and one over the replies looks
only for those that are missing. Where the replies are known to be few different ones, as labels
are, and none of them has a word, the rows alone are looked at. What these passes cannot tell for
sure, because a word may stand in the JSON around a value, is looked at one by one. Leaves to
others: what a word is (`batch_window_words`), other conditions (`batch_window_search`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.store.batch_tasks import MAX_TASKS
from gguf_widgets.core.store.batch_types import Shape
from gguf_widgets.core.store.batch_window_bulk import Numbers, all_codes, codes_of, numbers_of
from gguf_widgets.core.store.batch_window_columns import VALUES, Columns, blocks, marks
from gguf_widgets.core.store.batch_window_shown import as_output
from gguf_widgets.core.store.batch_window_words import Word
from gguf_widgets.core.store.json_values import from_json

__all__ = ["Replies", "WordSearch", "replies_of"]

_SAMPLE: Final = 200
_FEW: Final = 2000  # so many are looked at one by one more quickly than by a pass over all
# Whether there is a backslash in JSON; LIKE is much quicker at finding it than instr is.
_HAS_ESCAPES: Final = "{} LIKE '%\\%'"
# Whether a row or task is one of those whose byte in a blob is 1.
_AMONG: Final = "substr(?, num - ? + 1, 1) = x'01'"
_MOST_REPLIES: Final = 200
_AT_ONCE: Final = 7  # words in one pass: two bits each in a code of at most sixteen

_Mask = NDArray[np.bool_]
_Codes = NDArray[np.uint32]
_Sql = tuple[str, list[Any]]


class Replies(NamedTuple):
    """The different replies of a run, each with what was read from it; None if they are many."""

    values: list[list[Any]] | None
    nbytes: int = 0

    def have(self, word: Word) -> bool:
        """Say whether a word may be in one of them."""
        return self.values is None or any(word.is_in(one) for one in self.values)


def replies_of(connection: sqlite3.Connection, base: int) -> Replies:
    """Return the different replies of a run."""
    found = connection.execute(
        f"SELECT DISTINCT text, {VALUES} FROM batch_task "  # noqa: S608 - our names
        "WHERE num >= ? AND num < ? LIMIT ?",
        (base, base + MAX_TASKS, _MOST_REPLIES + 1),
    ).fetchall()
    if len(found) > _MOST_REPLIES:
        return Replies(None)
    return Replies([_shown(text, data) for text, data in found])


def _shown(text: str | None, data: str | None) -> list[Any]:
    return [text, *(as_output(value) for value in (from_json(data) or {}).values())]


class WordSearch:
    """Looks for words at one moment of the store.

    Parameters
    ----------
    columns : Columns
    connection : sqlite3.Connection
        In a transaction.
    base : int
        The number of the run's first task.
    shape : Shape
    replies : Replies, optional
        Of this moment, if they are known.
    """

    def __init__(
        self,
        columns: Columns,
        connection: sqlite3.Connection,
        base: int,
        shape: Shape,
        replies: Replies | None = None,
    ) -> None:
        self._columns, self._sql, self._base, self._shape = columns, connection, base, shape
        self._replies = replies if replies is not None else Replies(None)
        self._stretch = (base, base + MAX_TASKS)

    def find(self, words: Sequence[Word], among: _Mask | None) -> _Mask:
        """Return those of some tasks that have each of the words in them."""
        left = np.ones(self._shape.num_tasks, dtype=bool) if among is None else among
        of_rows = [word for word in words if not self._replies.have(word)]
        if of_rows and np.count_nonzero(left) > _FEW:
            left = np.logical_and(left, self._spread(self._rows_with_all(of_rows)))
            words = [word for word in words if word not in of_rows]
        for i in range(0, len(words), _AT_ONCE):
            if np.count_nonzero(left) <= _FEW:
                left = self._one_by_one(words[i:], left)
                break
            left = self._in_passes(words[i : i + _AT_ONCE], left)
        return left

    def _one_by_one(self, words: Sequence[Word], left: _Mask) -> _Mask:
        for word in words:
            few = np.flatnonzero(left)
            found = self._spread(self._rows_with(word, np.unique(few // self._shape.per_row)))
            found |= self._mask(self._tasks_with(word, few[~found[few]]))
            left = np.logical_and(left, found)
        return left

    def _in_passes(self, words: Sequence[Word], among: _Mask) -> _Mask:
        """Return those of some tasks that have a few words in them."""
        num_words = len(words)
        every = (1 << num_words) - 1
        # The lower bits say which words are there for sure, those above which may be.
        codes = np.repeat(self._codes_of_rows(words, among), self._shape.per_row)
        asked = among & (codes & every != every)
        num_asked = np.count_nonzero(asked)
        if num_asked <= _FEW:
            sure: _Mask = among & ~asked
            return sure | self._one_by_one(words, asked)
        numbers, more = self._codes_of_tasks(words, asked)
        codes[numbers] |= more
        is_found = codes & every == every
        doubtful = among & ~is_found & ((codes | codes >> num_words) & every == every)
        for i, word in enumerate(words):
            unsure = np.flatnonzero(doubtful & (codes >> i & 1 == 0))
            if not len(unsure):
                continue
            found = self._spread(self._rows_with(word, np.unique(unsure // self._shape.per_row)))
            found |= self._mask(self._tasks_with(word, unsure[~found[unsure]]))
            doubtful[unsure] = found[unsure]
        found_all: _Mask = among & (is_found | doubtful)
        return found_all

    # -- in passes --------------------------------------------------------------------------------

    def _rows_with_all(self, words: Sequence[Word]) -> Numbers:
        """Return the rows that have all of some words."""
        tests: list[str] = []
        values: list[Any] = []
        for word in words:
            test, given = self._in_row(word)
            tests.append(test)
            values += given
        where = f"FROM batch_row WHERE num >= ? AND num < ? AND {' AND '.join(tests)}"
        always, always_values = self._doubts(words, escapes=False)
        sometimes, sometimes_values = self._doubts(words, escapes=True)
        if not sometimes:
            return numbers_of(
                self._sql, f"SELECT num {where}", (*self._stretch, *values), self._base
            )
        first = f"WHEN {always} THEN 2 " if always else ""
        rows, codes = codes_of(
            self._sql,
            f"SELECT num, CASE {first}WHEN {_HAS_ESCAPES.format('data')} AND ({sometimes}) THEN 2 "
            f"ELSE 1 END AS code {where}",
            (*always_values, *sometimes_values, *self._stretch, *values),
            self._base,
        )
        unsure = rows[codes == 2]
        for word in words:
            unsure = self._rows_with(word, unsure)
        return np.concatenate([rows[codes == 1], unsure])

    def _doubts(self, words: Sequence[Word], *, escapes: bool) -> tuple[str, list[str]]:
        """Return a condition that there is a doubt about one of some words; "" if there is none."""
        doubts = [self._doubt(word, escapes=escapes) for word in words]
        tests = " OR ".join(test for test, _ in doubts if test != "0")
        return tests, [value for _, values in doubts for value in values]

    def _in_row(self, word: Word, *, escapes: bool = True) -> _Sql:
        """Return a condition that a row may have a word in it."""
        met, values = word.in_json(self._data_for(word), escapes=escapes)
        if self._columns.has_marks:
            for mark in word.marks:
                met = f"({met} OR data LIKE '%{{\"{mark}\"%')"
        return met, list(values)

    def _data_for(self, word: Word) -> str:
        # Of the row's place in the table, which is not shown, only digits can be a part.
        return self._columns.data if set(word.text) <= set("0123456789-]") else "data"

    def _doubt(self, word: Word, *, escapes: bool = True) -> tuple[str, list[str]]:
        """Return a condition that a row may have been found for what is not shown of it."""
        if self._columns.has_others:
            return "1", []
        doubt, values = word.doubt("data", escapes=escapes)
        if self._columns.has_marks and doubt != "1":
            doubt = f"(data LIKE '%{{\"$%' OR {doubt})"
        return doubt, values

    def _codes_of_rows(self, words: Sequence[Word], among: _Mask) -> _Codes:
        def of_word(i: int, word: Word, escapes: bool) -> _Sql:
            met, values = self._in_row(word, escapes=escapes)
            doubt, more = self._doubt(word, escapes=escapes)
            return _code(met, doubt, 1 << i, 1 << (i + len(words))), [*values, *more]

        code, values = _sum_of(words, "data", of_word)
        is_sure = all(self._doubt(word)[0] == "0" for word in words)
        most = (1 << len(words) * (1 if is_sure else 2)) - 1
        rows = among.reshape(-1, self._shape.per_row).any(axis=1)
        if not rows.all():
            code, values = (
                f"CASE WHEN {_AMONG} THEN {code} ELSE 0 END",
                [
                    rows.tobytes(),
                    self._base,
                    *values,
                ],
            )
        codes = all_codes(self._sql, "batch_row", code, (*values, *self._stretch), most)
        # Rows that are just being added are not counted yet.
        whole = np.zeros(self._shape.num_rows, dtype=np.uint32)
        whole[: len(codes)] = codes[: len(whole)]
        return whole

    def _codes_of_tasks(self, words: Sequence[Word], asked: _Mask) -> tuple[Numbers, _Codes]:
        keys = self._keys()

        def of_word(i: int, word: Word, escapes: bool) -> _Sql:
            in_text, text_values = word.in_text("text")
            # The names of the columns stand in each row's JSON; those with the word in them are
            # taken out, each as a whole, which no value can look like: its quotes would be escaped.
            placed = [
                json.dumps(key) + ": " for key in keys if word.is_plain and word.could_be_in(key)
            ]
            source = VALUES
            for _ in placed:
                source = f"replace({source}, ?, '')"
            met, given = word.in_json(source, escapes=escapes)
            doubt, more = word.doubt(VALUES, escapes=escapes)
            sure, maybe = 1 << i, 1 << (i + len(words))
            code = f"CASE WHEN {in_text} THEN {sure} ELSE {_code(met, doubt, sure, maybe)} END"
            each = [value for one in given for value in (*placed, one)]
            return code, [*text_values, *each, *more]

        code, values = _sum_of(words, VALUES, of_word)
        only, chosen = "", []
        if not asked.all():
            only, chosen = f" AND {_AMONG}", [asked.tobytes(), self._base]
        return codes_of(
            self._sql,
            f"SELECT num, {code} AS code FROM batch_task "  # noqa: S608 - our names
            f"WHERE num >= ? AND num < ?{only}",
            (*values, *self._stretch, *chosen),
            self._base,
        )

    def _keys(self) -> list[str]:
        # All results of one prompt have the same; those of another one may be far behind them.
        inner = self._shape.num_models * self._shape.num_samples
        found: set[str] = set()
        for prompt in range(self._shape.num_prompts):
            keys = self._sql.execute(
                f"SELECT DISTINCT key FROM (SELECT {VALUES} AS read FROM batch_task "  # noqa: S608
                'WHERE num >= ? AND num < ? AND "values" IS NOT NULL AND (num - ?) / ? % ? = ? '
                "LIMIT ?), json_each(read)",
                (*self._stretch, self._base, inner, self._shape.num_prompts, prompt, _SAMPLE),
            )
            found.update(key for (key,) in keys)
        return sorted(found)

    # -- one by one -------------------------------------------------------------------------------

    def _rows_with(self, word: Word, rows: Numbers) -> Numbers:
        """Return those of some rows that have the word in a value that is shown."""
        sure = []
        for block in blocks([self._base + int(row) for row in rows]):
            for num, data in self._sql.execute(
                f"SELECT num, data FROM batch_row WHERE num IN ({marks(block)})",  # noqa: S608
                block,
            ):
                if word.is_in(self._columns.shown(data).values()):
                    sure.append(num)
        return np.array(sure, np.int64) - self._base

    def _tasks_with(self, word: Word, numbers: Numbers) -> Numbers:
        """Return those of some tasks that have the word in their reply or what was read from it."""
        sure = []
        for block in blocks([self._base + int(number) for number in numbers]):
            for num, text, data in self._sql.execute(
                f"SELECT num, text, {VALUES} FROM batch_task "  # noqa: S608 - our names
                f"WHERE num IN ({marks(block)})",
                block,
            ):
                if word.is_in(_shown(text, data)):
                    sure.append(num)
        return np.array(sure, np.int64) - self._base

    def _mask(self, numbers: Numbers) -> _Mask:
        mask = np.zeros(self._shape.num_tasks, dtype=bool)
        mask[numbers] = True
        return mask

    def _spread(self, rows: Numbers) -> _Mask:
        mask = np.zeros(self._shape.num_rows, dtype=bool)
        mask[rows] = True
        return np.repeat(mask, self._shape.per_row)


def _sum_of(words: Sequence[Word], column: str, of_word: Callable[[int, Word, bool], _Sql]) -> _Sql:
    """Return SQL of all the words' bits; whether there are escapes is looked at once for all."""

    def summed(escapes: bool) -> _Sql:
        parts = [of_word(i, word, escapes) for i, word in enumerate(words)]
        return " + ".join(code for code, _ in parts), [one for _, more in parts for one in more]

    code, values = summed(escapes=True)
    if not any(word.depends_on_escapes for word in words):
        return code, values
    plain, plain_values = summed(escapes=False)
    chosen = f"CASE WHEN {_HAS_ESCAPES.format(column)} THEN {code} ELSE {plain} END"
    return chosen, [*values, *plain_values]


def _code(met: str, doubt: str, sure: int, maybe: int) -> str:
    """Return SQL of a word's bit: that it is there for sure, that it may be, or none."""
    if doubt == "0":
        return f"CASE WHEN {met} THEN {sure} ELSE 0 END"
    if doubt == "1":
        return f"CASE WHEN {met} THEN {maybe} ELSE 0 END"
    return f"CASE WHEN {met} THEN CASE WHEN {doubt} THEN {maybe} ELSE {sure} END ELSE 0 END"
