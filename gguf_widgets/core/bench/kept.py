"""Measured speeds in the store.

Promises: what `add` has returned from is kept, and is found again by the machine, the model's file
(under whatever name) and the test; a row that cannot be read is left out and logged, never fatal.
Leaves to others: whether two may be compared (`compare`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gguf_widgets.core.bench.row import BenchRow
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.json_values import struct_of, to_json
from gguf_widgets.core.store.store import Store

__all__ = ["MOST", "KeptRows"]

MOST: Final = 10_000
"""So many rows are read at most."""


class KeptRows:
    """The measured speeds of one store. Holds no state of its own; make as many as you like."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, row: BenchRow) -> None:
        """Keep a row.

        Raises
        ------
        StoreError
        """
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO bench_result (bench_id, at, machine, model, test, data) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    row.bench_id,
                    row.at,
                    row.machine.digest,
                    row.model.digest,
                    row.test.name,
                    to_json(row),
                ),
            )

    def earlier(self, row: BenchRow, *, limit: int = 50) -> list[BenchRow]:
        """Return rows of the same machine, model and test that were kept before, the newest first.

        Those of the same measurement are not among them.
        """
        return self._read(
            "machine = ? AND model = ? AND test = ? AND bench_id != ?",
            (row.machine.digest, row.model.digest, row.test.name, row.bench_id),
            limit,
        )

    def rows(
        self,
        *,
        machine: str | None = None,
        test: str | None = None,
        bench_id: str | None = None,
        since: float | None = None,
        limit: int = MOST,
    ) -> list[BenchRow]:
        """Return what is kept, the newest first; each condition that is not None counts."""
        conditions, values = ["1"], []
        for column, value in (("machine = ?", machine), ("test = ?", test),
                              ("bench_id = ?", bench_id), ("at >= ?", since)):  # fmt: skip
            if value is not None:
                conditions.append(column)
                values.append(value)
        return self._read(" AND ".join(conditions), values, limit)

    def delete(self, rows: Sequence[BenchRow]) -> int:
        """Forget these rows and return how many were there."""
        num = 0
        with self.store.transaction() as connection:
            for row in rows:
                done = connection.execute(
                    "DELETE FROM bench_result WHERE bench_id = ? AND at = ? AND model = ? "
                    "AND test = ?",
                    (row.bench_id, row.at, row.model.digest, row.test.name),
                )
                num += done.rowcount
        return num

    def _read(self, where: str, values: Sequence[Any], limit: int) -> list[BenchRow]:
        if not 1 <= limit <= MOST:
            raise InvalidValueError(
                f"limit is {limit}; it must be from 1 to {MOST:,}.", value=limit, limit=MOST
            )
        with self.store.reading() as connection:
            # The order of keeping: the clock may have been set back meanwhile.
            found = connection.execute(
                f"SELECT data FROM bench_result WHERE {where} "  # noqa: S608 - our own words
                "ORDER BY num DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
        rows = (struct_of(BenchRow, text) for (text,) in found)
        return [row for row in rows if row is not None]
