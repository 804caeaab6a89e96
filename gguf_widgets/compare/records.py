"""Comparisons in the store: sides and settings, prompts, scores, votes.

Promises: one process at a time is at a comparison (`take`); if it dies, the comparison is read as
"interrupted" and can be taken by another; any process can ask that one to stop; what was saved is
in the file, a score or vote once. Leaves to others: the sides' answers (batch runs of their own),
what the values mean (`comparison`), connections and damaged files (`core.store.store`).
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.batch.table_rows import decoded, encoded
from gguf_widgets.compare.scoring import Score
from gguf_widgets.compare.types import Choice, ComparisonStatus, Vote
from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import BatchError, InvalidValueError, WireError
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.json_values import from_json, member_of, to_json
from gguf_widgets.core.store.store import Store

__all__ = ["Record", "Records"]

_SHIFT: Final = 32
_AT_ONCE: Final = 2000
_COLUMNS: Final = (
    "num, id, title, created_at, updated_at, ended_at, status, error, owner, changes, "
    "num_prompts, data"
)
# How votes are kept: told from the smaller side's number.
_KEPT_CHOICES: Final[dict[str, str]] = {
    "a": "first",
    "b": "second",
    "both": "both",
    "neither": "neither",
}
_TOLD_CHOICES: Final[dict[str, Choice]] = {
    "first": "a",
    "second": "b",
    "both": "both",
    "neither": "neither",
}


@dataclasses.dataclass(frozen=True)
class Record:
    """A comparison as the store has it.

    Attributes
    ----------
    data : dict
        Sides, columns, settings, notes: what `comparison` makes of it.
    changes : int
        Grows with each change to its scores and votes.
    is_mine : bool
        Whether this very process is at it.
    """

    num: int
    id: str
    title: str
    created_at: float
    updated_at: float
    ended_at: float | None
    status: ComparisonStatus
    error: WireError | None
    changes: int
    num_prompts: int
    data: dict[str, Any]
    is_mine: bool


class Records:
    """The comparisons of one store. Holds no state of its own; make as many as you like."""

    def __init__(self, store: Store) -> None:
        self.store = store

    # -- a comparison -----------------------------------------------------------------------------

    def create(
        self,
        data: dict[str, Any],
        rows: Sequence[str],
        references: Sequence[Any] | None,
        *,
        title: str,
        comparison_id: str | None = None,
    ) -> Record:
        """Keep a comparison and its prompts, all or nothing, and return it."""
        made, now = comparison_id or uuid.uuid4().hex, time.time()
        with self.store.transaction() as connection:
            num = connection.execute(
                "INSERT INTO comparison (id, title, created_at, updated_at, status, num_prompts, "
                "data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    made,
                    well_formed(title),
                    now,
                    now,
                    ComparisonStatus.READY.value,
                    len(rows),
                    to_json(data),
                ),
            ).lastrowid
            base = int(num or 0) << _SHIFT
            kept = references if references is not None else [None] * len(rows)
            connection.executemany(
                "INSERT INTO comparison_prompt (num, data, reference) VALUES (?, ?, ?)",
                (
                    (base + i, row, to_json(encoded(reference)))
                    for i, (row, reference) in enumerate(zip(rows, kept, strict=True))
                ),
            )
        return self.get(made)

    def get(self, comparison_id: str) -> Record:
        """Return a comparison.

        Raises
        ------
        InvalidValueError
            There is none with this id.
        """
        with self.store.reading() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM comparison WHERE id = ?",  # noqa: S608 - our names
                (comparison_id,),
            ).fetchone()
        if row is None:
            raise _none_such(comparison_id)
        return _record(row)

    def find(self, beginning: str) -> Record:
        """Return the comparison whose id begins like this.

        Raises
        ------
        InvalidValueError
            There is none, or there are several.
        """
        if not isinstance(beginning, str) or not beginning or not set(beginning) <= set(_HEX):
            raise _none_such(beginning)
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT id FROM comparison WHERE id >= ? AND id < ? LIMIT 2",
                (beginning, beginning + "g"),
            ).fetchall()
        if not found:
            raise _none_such(beginning)
        if len(found) > 1:
            raise InvalidValueError(
                f"Several comparisons have an id that begins with {beginning!r}. Give more of it."
            )
        return self.get(found[0][0])

    def recent(self, *, limit: int = 100) -> list[Record]:
        """Return comparisons, the newest first."""
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM comparison "  # noqa: S608 - our names
                "ORDER BY created_at DESC, num DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [_record(row) for row in rows]

    def take(self, comparison_id: str) -> None:
        """Be the process that is at this comparison.

        Raises
        ------
        BatchError
            Another process is at it.
        """
        record = self.get(comparison_id)
        with self.store.transaction() as connection:
            (status, owner, updated_at) = connection.execute(
                "SELECT status, owner, updated_at FROM comparison WHERE id = ?", (comparison_id,)
            ).fetchone()
            is_running = status == ComparisonStatus.RUNNING.value
            me = to_json(owners.this_process())
            if is_running and owner != me and owners.is_alive(from_json(owner), updated_at):
                raise BatchError(
                    "Another notebook or page is at this comparison already. Wait for it, or stop "
                    "it there first.",
                    id=record.id,
                    problem="taken",
                )
            connection.execute(
                "UPDATE comparison SET owner = ?, status = ?, error = NULL, ended_at = NULL, "
                "wish = NULL, updated_at = ? WHERE id = ?",
                (me, ComparisonStatus.RUNNING.value, time.time(), comparison_id),
            )

    def let_go(
        self, comparison_id: str, status: ComparisonStatus, error: WireError | None = None
    ) -> None:
        """Say where it stands now that this process is no more at it."""
        now = time.time()
        self._change(
            comparison_id,
            "status = ?, error = ?, ended_at = ?, updated_at = ?, owner = NULL, wish = NULL, "
            "changes = changes + 1",
            (status.value, to_json(error), now, now),
        )

    def put_data(self, comparison_id: str, data: Mapping[str, Any]) -> None:
        """Keep sides, settings and notes as they are now."""
        self._change(
            comparison_id,
            "data = ?, updated_at = ?, changes = changes + 1",
            (to_json(dict(data)), time.time()),
        )

    def rename(self, comparison_id: str, title: str) -> None:
        """Give it another title."""
        self._change(comparison_id, "title = ?", (well_formed(title),))

    def ask_to_stop(self, comparison_id: str) -> None:
        """Ask the process that is at it to stop; it looks twice a second."""
        self._change(comparison_id, "wish = 'stop'", ())

    def is_asked_to_stop(self, comparison_id: str) -> bool:
        """Say whether somebody asked this process to stop."""
        with self.store.reading() as connection:
            row = connection.execute(
                "SELECT wish FROM comparison WHERE id = ?", (comparison_id,)
            ).fetchone()
        return row is not None and row[0] == "stop"

    def discard(self, comparison_id: str) -> None:
        """Remove it for good; its sides' runs stay where they are."""
        with self.store.transaction() as connection:
            row = connection.execute(
                "SELECT num FROM comparison WHERE id = ?", (comparison_id,)
            ).fetchone()
            if row is None:
                return
            base = int(row[0]) << _SHIFT
            connection.execute(
                "DELETE FROM comparison_prompt WHERE num >= ? AND num < ?",
                (base, base + (1 << _SHIFT)),
            )
            connection.execute("DELETE FROM comparison WHERE id = ?", (comparison_id,))

    # -- prompts ----------------------------------------------------------------------------------

    def prompts(self, record: Record, start: int, stop: int) -> list[tuple[str, Any]]:
        """Return a stretch of the table: each row as JSON, and what is right for it."""
        base = record.num << _SHIFT
        first, last = max(0, start), min(stop, record.num_prompts)
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT data, reference FROM comparison_prompt WHERE num >= ? AND num < ? "
                "ORDER BY num",
                (base + first, base + last),
            ).fetchall()
        return [(data, decoded(from_json(reference))) for data, reference in found]

    def put_references(self, record: Record, references: Sequence[Any]) -> None:
        """Put these in place of what was said to be right."""
        base = record.num << _SHIFT
        with self.store.transaction() as connection:
            connection.executemany(
                "UPDATE comparison_prompt SET reference = ? WHERE num = ?",
                ((to_json(encoded(one)), base + i) for i, one in enumerate(references)),
            )
            _count_change(connection, record.id)

    # -- scores -----------------------------------------------------------------------------------

    def save_scores(
        self, comparison_id: str, scores: Iterable[tuple[int, int, str, Score]]
    ) -> None:
        """Keep scores: prompt, side, the scoring's name, and what came of it."""
        rows = [
            (comparison_id, prompt, side, name, score.value, to_json(score.why) or "{}")
            for prompt, side, name, score in scores
        ]
        for start in range(0, len(rows), _AT_ONCE):
            with self.store.transaction() as connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO comparison_score "
                    "(comparison_id, prompt, side, score, value, data) VALUES (?, ?, ?, ?, ?, ?)",
                    rows[start : start + _AT_ONCE],
                )
                _count_change(connection, comparison_id)

    def scores(
        self, comparison_id: str, start: int = 0, stop: int = 1 << 31, *, name: str | None = None
    ) -> list[tuple[int, int, str, float | None, dict[str, Any]]]:
        """Return the scores of a stretch of prompts: prompt, side, name, value, and why."""
        which = "" if name is None else " AND score = ?"
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT prompt, side, score, value, data FROM comparison_score "  # noqa: S608 - ours
                f"WHERE comparison_id = ? AND prompt >= ? AND prompt < ?{which}",
                (comparison_id, start, stop, *([] if name is None else [name])),
            ).fetchall()
        return [
            (prompt, side, score, value, found_why if isinstance(found_why, dict) else {})
            for prompt, side, score, value, why in found
            for found_why in (from_json(why),)
        ]

    def score_values(self, comparison_id: str, name: str) -> list[tuple[int, int, float | None]]:
        """Return prompt, side and value of one scoring: all that figures need."""
        with self.store.reading() as connection:
            return connection.execute(
                "SELECT prompt, side, value FROM comparison_score "
                "WHERE comparison_id = ? AND score = ?",
                (comparison_id, name),
            ).fetchall()

    def forget_scores(self, comparison_id: str, names: Iterable[str]) -> None:
        """Forget what came of these scorings."""
        with self.store.transaction() as connection:
            for name in names:
                connection.execute(
                    "DELETE FROM comparison_score WHERE comparison_id = ? AND score = ?",
                    (comparison_id, name),
                )
            _count_change(connection, comparison_id)

    # -- votes ------------------------------------------------------------------------------------

    def vote(self, comparison_id: str, prompt: int, a: int, b: int, choice: Choice | None) -> None:
        """Keep a vote on two sides, in place of an earlier one; None takes it back.

        `a` stood first; `choice` refers to `a` and `b` as they are given here.
        """
        first, second = min(a, b), max(a, b)
        if a > b and choice in ("a", "b"):
            choice = "b" if choice == "a" else "a"
        with self.store.transaction() as connection:
            if choice is None:
                connection.execute(
                    "DELETE FROM comparison_vote WHERE comparison_id = ? AND prompt = ? "
                    "AND first_side = ? AND second_side = ?",
                    (comparison_id, prompt, first, second),
                )
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO comparison_vote (comparison_id, prompt, first_side, "
                    "second_side, choice, at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        comparison_id,
                        prompt,
                        first,
                        second,
                        _KEPT_CHOICES[choice],
                        time.time(),
                        to_json({"left": a}),
                    ),
                )
            _count_change(connection, comparison_id)

    def votes(self, comparison_id: str) -> list[Vote]:
        """Return the votes, in the order of prompts and sides."""
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT prompt, first_side, second_side, choice, at FROM comparison_vote "
                "WHERE comparison_id = ? ORDER BY prompt, first_side, second_side",
                (comparison_id,),
            ).fetchall()
        return [
            Vote(prompt=prompt, a=first, b=second, choice=_TOLD_CHOICES[choice], at=at)
            for prompt, first, second, choice, at in found
            if choice in _TOLD_CHOICES
        ]

    # -- inside -----------------------------------------------------------------------------------

    def _change(self, comparison_id: str, assignment: str, values: tuple[Any, ...]) -> None:
        with self.store.transaction() as connection:
            changed = connection.execute(
                f"UPDATE comparison SET {assignment} WHERE id = ?",  # noqa: S608 - our names
                (*values, comparison_id),
            ).rowcount
        if not changed:
            raise _none_such(comparison_id)


_HEX: Final = "0123456789abcdef"


def _count_change(connection: Any, comparison_id: str) -> None:
    connection.execute("UPDATE comparison SET changes = changes + 1 WHERE id = ?", (comparison_id,))


def _none_such(comparison_id: Any) -> InvalidValueError:
    return InvalidValueError(
        f"There is no comparison {comparison_id!r:.60} in the store. It may have been removed.",
        id=str(comparison_id)[:60],
    )


def _record(row: tuple[Any, ...]) -> Record:
    value = dict(zip(_COLUMNS.split(", "), row, strict=True))
    status = member_of(ComparisonStatus, value["status"]) or ComparisonStatus.STOPPED
    owner = from_json(value["owner"])
    if status is ComparisonStatus.RUNNING and not owners.is_alive(owner, value["updated_at"]):
        status = ComparisonStatus.INTERRUPTED
    data = from_json(value["data"])
    return Record(
        num=value["num"],
        id=value["id"],
        title=value["title"],
        created_at=value["created_at"],
        updated_at=value["updated_at"],
        ended_at=value["ended_at"],
        status=status,
        error=from_json(value["error"]),
        changes=value["changes"],
        num_prompts=value["num_prompts"],
        data=data if isinstance(data, dict) else {},
        is_mine=value["owner"] is not None and value["owner"] == to_json(owners.this_process()),
    )
