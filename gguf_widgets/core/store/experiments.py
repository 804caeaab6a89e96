"""Experiments in the store: what was recorded, item by item.

Promises: an item is kept entirely or not at all, in the order of its number, and keeping it again
puts the newer one in its place; the newest experiments come first. Leaves to others: what an
experiment and its items say (`gguf_widgets.experiments`), which are JSON here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.json_values import from_json
from gguf_widgets.core.store.store import Store

__all__ = ["KeptExperiment", "KeptExperiments"]

_ROW = (
    "id, title, created_at, data, "
    "(SELECT count(*) FROM experiment_item WHERE experiment_id = experiment.id)"
)


class KeptExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment in the store, without its items.

    Attributes
    ----------
    id : str
    title : str
    created_at : float
        Seconds since 1970, UTC.
    data : dict
        What it says besides its items.
    num_items : int
    """

    id: str
    title: str
    created_at: float
    data: dict[str, Any]
    num_items: int


class KeptExperiments:
    """The experiments of one store.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def save(
        self,
        experiment_id: str,
        title: str,
        created_at: float,
        data: str,
        items: Mapping[int, str],
    ) -> None:
        """Keep an experiment, new or changed, and some of its items.

        Parameters
        ----------
        experiment_id, title, created_at
        data : str
            JSON.
        items : dict of int to str
            JSON by number; those that are left out stay as they are.

        Raises
        ------
        StoreError
        """
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO experiment (id, title, created_at, data) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET title = excluded.title, data = excluded.data",
                (experiment_id, title, created_at, data),
            )
            connection.executemany(
                "INSERT INTO experiment_item (experiment_id, num, data) VALUES (?, ?, ?) "
                "ON CONFLICT (experiment_id, num) DO UPDATE SET data = excluded.data",
                [(experiment_id, number, item) for number, item in items.items()],
            )

    def recent(self, *, limit: int = 100) -> list[KeptExperiment]:
        """Return experiments, the newest first."""
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_ROW} FROM experiment "  # noqa: S608 - our names
                "ORDER BY created_at DESC, num DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [_kept(row) for row in rows]

    def find(self, beginning: str) -> KeptExperiment:
        """Return the experiment whose id begins like this.

        Raises
        ------
        InvalidValueError
            There is none, or there are several.
        """
        if not beginning or not all(letter in "0123456789abcdef" for letter in beginning):
            raise _no_such(beginning)
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_ROW} FROM experiment "  # noqa: S608 - our names
                "WHERE id >= ? AND id < ? LIMIT 2",
                (beginning, beginning + "g"),
            ).fetchall()
        if not rows:
            raise _no_such(beginning)
        if len(rows) > 1:
            raise InvalidValueError(
                f"Several experiments have an id that begins with {beginning!r}. Give more of it."
            )
        return _kept(rows[0])

    def items(self, experiment_id: str) -> list[str]:
        """Return an experiment's items in order, each as JSON."""
        with self.store.reading() as connection:
            rows = connection.execute(
                "SELECT data FROM experiment_item WHERE experiment_id = ? ORDER BY num",
                (experiment_id,),
            ).fetchall()
        return [data for (data,) in rows]

    def delete(self, experiment_id: str) -> bool:
        """Remove an experiment; return whether there was one. Its batch runs stay."""
        with self.store.transaction() as connection:
            connection.execute(
                "DELETE FROM experiment_item WHERE experiment_id = ?", (experiment_id,)
            )
            return bool(
                connection.execute("DELETE FROM experiment WHERE id = ?", (experiment_id,)).rowcount
            )


def _kept(row: tuple[Any, ...]) -> KeptExperiment:
    data = from_json(row[3])
    return KeptExperiment(
        id=row[0],
        title=row[1],
        created_at=row[2],
        data=data if isinstance(data, dict) else {},
        num_items=row[4],
    )


def _no_such(experiment_id: str) -> InvalidValueError:
    return InvalidValueError(
        f"There is no experiment {experiment_id!r:.80} in the store. It may have been removed.",
        id=experiment_id[:80],
    )
