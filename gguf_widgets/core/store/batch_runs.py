"""Batch runs in the store: what was asked of a table, and where each run stands.

Promises: one process at a time is at a run (`take`); if it dies, the run is read as "interrupted"
and can be taken by another. Any process can ask that one for something (`ask`) and see how far it
is (`progress`). Deleting only marks (`restore` undoes it) until `purge`. Leaves to
others: a run's rows and what came of them (`batch_tasks`), what is asked (`gguf_widgets.batch`),
connections (`store`).
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Final

from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import BatchError, InvalidValueError, WireError
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.batch_tasks import SHIFT, no_such_run
from gguf_widgets.core.store.batch_types import Run, RunStatus, RunWish, Shape
from gguf_widgets.core.store.json_values import from_json, member_of, to_json
from gguf_widgets.core.store.store import Store

__all__ = ["BatchRuns"]

_RUN = (
    "num, id, title, status, spec, columns, num_rows, num_prompts, num_models, num_samples, "
    "complete, error, owner, created_at, updated_at, ended_at, deleted_at"
)
# A process is at these; if it has died, they are "interrupted".
_OWNED: Final = (RunStatus.RUNNING, RunStatus.PAUSED)
_MOST_WISHES: Final = 50


class BatchRuns:
    """The batch runs of one store. Holds no state of its own; make as many as you like."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(
        self,
        spec: dict[str, Any],
        columns: list[dict[str, Any]],
        *,
        num_prompts: int = 1,
        num_models: int = 1,
        num_samples: int = 1,
        title: str = "",
    ) -> Run:
        """Note what is to be done, still without rows, and return it."""
        run_id, now = uuid.uuid4().hex, time.time()
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT INTO batch_run (id, title, status, spec, columns, num_prompts, num_models, "
                "num_samples, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run_id,
                    well_formed(title),
                    RunStatus.READY.value,
                    to_json(spec),
                    to_json(columns),
                    num_prompts,
                    num_models,
                    num_samples,
                    now,
                    now,
                ),
            )
        return self.get(run_id)

    def get(self, run_id: str) -> Run:
        """Return a run, deleted or not.

        Raises
        ------
        InvalidValueError
            There is none with this id.
        """
        with self.store.reading() as connection:
            return self._find(connection, run_id)

    def find(self, beginning: str) -> Run:
        """Return the run whose id begins like this.

        Raises
        ------
        InvalidValueError
            There is none, or there are several.
        """
        if not beginning or not all(letter in "0123456789abcdef" for letter in beginning):
            raise no_such_run(beginning)
        with self.store.reading() as connection:
            found = connection.execute(
                "SELECT id FROM batch_run WHERE id >= ? AND id < ? LIMIT 2",
                (beginning, beginning + "g"),
            ).fetchall()
        if not found:
            raise no_such_run(beginning)
        if len(found) > 1:
            raise InvalidValueError(
                f"Several runs have an id that begins with {beginning!r}. Give more of it."
            )
        return self.get(found[0][0])

    def recent(self, *, limit: int = 100, offset: int = 0, deleted: bool = False) -> list[Run]:
        """Return runs, the newest first; those that were deleted, if asked for, and no others."""
        with self.store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_RUN} FROM batch_run "  # noqa: S608 - our names
                f"WHERE deleted_at IS {'NOT ' if deleted else ''}NULL "
                "ORDER BY created_at DESC, num DESC LIMIT ? OFFSET ?",
                (limit, offset),
            ).fetchall()
        return [_run(row) for row in rows]

    def take(self, run_id: str, *, status: RunStatus = RunStatus.RUNNING) -> None:
        """Be the process that is at this run.

        Raises
        ------
        BatchError
            Another process is at it, or its rows are not all there.
        """
        me = to_json(owners.this_process())
        with self.store.transaction() as connection:
            run = self._find(connection, run_id)
            if not run.complete:
                raise BatchError(
                    "The rows of this run are not all in the store: whoever brought them was "
                    "interrupted. Start it again with the whole table.",
                    id=run_id,
                    problem="incomplete",
                )
            if run.status in _OWNED and self._owner(connection, run_id) != me:
                raise BatchError(
                    "Another notebook or page is at this run already. Wait for it, or stop it "
                    "there first.",
                    id=run_id,
                    problem="taken",
                )
            connection.execute(
                "UPDATE batch_run SET owner = ?, status = ?, error = NULL, ended_at = NULL, "
                "deleted_at = NULL, wish = NULL, progress = NULL, updated_at = ? WHERE id = ?",
                (me, status.value, time.time(), run_id),
            )

    def set_status(self, run_id: str, status: RunStatus, error: WireError | None = None) -> None:
        """Say where the run stands; a status that no process is at lets go of it."""
        now = time.time()
        kept = status in _OWNED
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE batch_run SET status = ?, error = ?, ended_at = ?, updated_at = ?, "
                "owner = CASE WHEN ? THEN owner END, wish = CASE WHEN ? THEN wish END, "
                "progress = CASE WHEN ? THEN progress END WHERE id = ?",
                (status.value, to_json(error), None if kept else now, now, *[kept] * 3, run_id),
            )

    def set_spec(self, run_id: str, spec: dict[str, Any]) -> None:
        """Put another description in place of a run's, such as with other settings of its model.

        Its rows and what came of them must still belong to it; whoever calls this sees to that.
        """
        self._change(run_id, "spec = ?", to_json(spec))

    # -- between the process that is at a run and all others --------------------------------------

    def ask(self, run_id: str, wish: RunWish, settings: dict[str, Any] | None = None) -> None:
        """Ask the process that is at a run for something; it looks twice a second.

        Parameters
        ----------
        run_id : str
        wish : RunWish
        settings : dict, optional
            With `RunWish.CHANGE`: the model's settings that are to be others.

        Raises
        ------
        BatchError
            No process is at it, or it does not look.
        InvalidValueError
            There is no such run.
        """
        with self.store.transaction() as connection:
            run = self._find(connection, run_id)
            if run.status not in _OWNED:
                raise BatchError(
                    "This run is not being carried out here, nor by another process. Start it with "
                    "resume().",
                    id=run_id,
                    problem="not_running",
                )
            waiting = _wishes(connection, run_id)
            if len(waiting) >= _MOST_WISHES and wish is not RunWish.STOP:
                raise BatchError(
                    f"The process that is at this run has not seen {len(waiting)} earlier wishes. "
                    "It may hang; stop() is still taken.",
                    id=run_id,
                    problem="deaf",
                )
            wishes = [*waiting, {"do": wish.value, "settings": settings or {}}]
            connection.execute(
                "UPDATE batch_run SET wish = ? WHERE id = ?", (to_json(wishes), run_id)
            )

    def take_wishes(self, run_id: str) -> list[tuple[RunWish, dict[str, Any]]]:
        """Return what this process is asked for, in order, each once."""
        with self.store.reading() as connection:
            if not _wishes(connection, run_id):
                return []
        with self.store.transaction() as connection:
            wishes = _wishes(connection, run_id)
            connection.execute("UPDATE batch_run SET wish = NULL WHERE id = ?", (run_id,))
        found = [(member_of(RunWish, one.get("do")), one.get("settings") or {}) for one in wishes]
        return [(wish, settings) for wish, settings in found if wish is not None]

    def put_progress(self, run_id: str, progress: dict[str, Any]) -> None:
        """Say how far this process is with a run, for all others to see."""
        with self.store.transaction() as connection:
            connection.execute(
                "UPDATE batch_run SET progress = ?, updated_at = ? "
                "WHERE id = ? AND owner IS NOT NULL",
                (to_json(progress), time.time(), run_id),
            )

    def progress(self, run_id: str) -> dict[str, Any] | None:
        """Return what the process that is at a run said last; None if it has not, or none is."""
        with self.store.reading() as connection:
            row = connection.execute(
                "SELECT progress FROM batch_run WHERE id = ?", (run_id,)
            ).fetchone()
        found = from_json(row[0]) if row is not None else None
        return found if isinstance(found, dict) else None

    # -- what a person does to it -----------------------------------------------------------------

    def rename(self, run_id: str, title: str) -> None:
        """Give a run another title."""
        self._change(run_id, "title = ?", well_formed(title))

    def delete(self, run_id: str) -> None:
        """Mark a run as deleted; `restore` brings it back."""
        self._change(run_id, "deleted_at = ?", time.time())

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back."""
        self._change(run_id, "deleted_at = ?", None)

    def purge(self, *, older_than_s: float = 0.0) -> int:
        """Remove for good what was deleted at least so long ago; return how many runs."""
        with self.store.transaction() as connection:
            gone = connection.execute(
                "SELECT num FROM batch_run WHERE deleted_at <= ?", (time.time() - older_than_s,)
            ).fetchall()
            for (num,) in gone:
                _remove(connection, num)
        return len(gone)

    def discard(self, run_id: str) -> None:
        """Remove a run for good, at once; one that is not there is no matter."""
        with self.store.transaction() as connection:
            for (num,) in connection.execute("SELECT num FROM batch_run WHERE id = ?", (run_id,)):
                _remove(connection, num)

    # -- inside -----------------------------------------------------------------------------------

    def _find(self, connection: Any, run_id: str) -> Run:
        row = connection.execute(
            f"SELECT {_RUN} FROM batch_run WHERE id = ?",  # noqa: S608 - our names
            (run_id,),
        ).fetchone()
        if row is None:
            raise no_such_run(run_id)
        return _run(row)

    def _owner(self, connection: Any, run_id: str) -> str | None:
        (owner,) = connection.execute(
            "SELECT owner FROM batch_run WHERE id = ?", (run_id,)
        ).fetchone()
        return None if owner is None else str(owner)

    def _change(self, run_id: str, assignment: str, value: Any) -> None:
        with self.store.transaction() as connection:
            changed = connection.execute(
                f"UPDATE batch_run SET {assignment} WHERE id = ?",  # noqa: S608 - our names
                (value, run_id),
            ).rowcount
        if not changed:
            raise no_such_run(run_id)


def _wishes(connection: Any, run_id: str) -> list[dict[str, Any]]:
    row = connection.execute("SELECT wish FROM batch_run WHERE id = ?", (run_id,)).fetchone()
    found = from_json(row[0]) if row is not None else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _remove(connection: Any, num: int) -> None:
    stretch = (num << SHIFT, (num + 1) << SHIFT)
    for table in ("batch_row", "batch_task", "batch_death"):
        connection.execute(
            f"DELETE FROM {table} WHERE num >= ? AND num < ?",  # noqa: S608 - our names
            stretch,
        )
    connection.execute("DELETE FROM batch_run WHERE num = ?", (num,))


def _run(row: tuple[Any, ...]) -> Run:
    value = dict(zip(_RUN.split(", "), row, strict=True))
    status = member_of(RunStatus, value["status"]) or RunStatus.STOPPED
    if status in _OWNED and not owners.is_alive(from_json(value["owner"]), value["updated_at"]):
        status = RunStatus.INTERRUPTED
    return Run(
        id=value["id"],
        title=value["title"],
        status=status,
        spec=from_json(value["spec"]) or {},
        columns=from_json(value["columns"]) or [],
        shape=Shape(
            num_rows=value["num_rows"],
            num_prompts=value["num_prompts"],
            num_models=value["num_models"],
            num_samples=value["num_samples"],
        ),
        complete=bool(value["complete"]),
        error=from_json(value["error"]),
        created_at=value["created_at"],
        updated_at=value["updated_at"],
        ended_at=value["ended_at"],
        deleted_at=value["deleted_at"],
    )
