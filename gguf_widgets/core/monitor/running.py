"""Batch runs in the store, of any process: those under way, and what came of each.

Promises: a run that a process of its own, another notebook or this one carries out is seen alike;
a run whose process has died counts as none that is under way. Leaves to others: carrying runs out
(`gguf_widgets.batch`), which writes these tables (`core.store.batch_runs`).
"""

from __future__ import annotations

import platform
from typing import Any, Final, NamedTuple

from gguf_widgets.core.monitor.values import RunMetrics
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import SHIFT
from gguf_widgets.core.store.batch_types import Run
from gguf_widgets.core.store.json_values import from_json
from gguf_widgets.core.store.store import Store

__all__ = ["RunWatch", "RunningRun", "run_metrics"]

_MOST_RUNS: Final = 1000


class RunningRun(NamedTuple):
    """A run under way; `pid` is None if its process is on another machine."""

    run_id: str
    title: str
    pid: int | None
    rows_per_s: float | None


class RunWatch:
    """Looks at the runs under way in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def measure(self, _clock: float) -> tuple[RunningRun, ...]:
        """Return the runs that some process is at.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        # Not through `BatchRuns`, which reads what each run is to do as well, every second.
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT id, title, owner, progress, updated_at FROM batch_run "
                "WHERE status IN ('running', 'paused') AND deleted_at IS NULL"
            ).fetchall()
        found = []
        for run_id, title, owner_text, progress_text, updated_at in rows:
            owner = from_json(owner_text)
            if not owners.is_alive(owner, updated_at):
                continue
            here = isinstance(owner, dict) and owner.get("host") == platform.node()
            progress = from_json(progress_text)
            speed = progress.get("rows_per_s") if isinstance(progress, dict) else None
            found.append(
                RunningRun(
                    run_id,
                    title,
                    int(owner["pid"]) if here else None,
                    float(speed) if isinstance(speed, int | float) else None,
                )
            )
        return tuple(found)


def run_metrics(
    store: Store,
    *,
    since: float | None = None,
    until: float | None = None,
    model: str | None = None,
) -> list[RunMetrics]:
    """Return what came of the runs that were under way in a stretch of time, the oldest first.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    found = []
    for run in reversed(BatchRuns(store).recent(limit=_MOST_RUNS)):
        last = run.ended_at if run.ended_at is not None else run.updated_at
        if (since is not None and last < since) or (until is not None and run.created_at > until):
            continue
        names = _models_of(run)
        if model is None or model in names:
            found.append(_metrics(store, run, names))
    return found


def _models_of(run: Run) -> list[str]:
    models = run.spec.get("models")
    named = models if isinstance(models, list) else []
    return [str(one["name"]) for one in named if isinstance(one, dict) and "name" in one]


# The union of the spans in which a row was computed: a span adds what lies behind the latest end of
# those that began before it. A row that took over an equal one's answer (no attempts) cost nothing.
_FIGURES: Final = """
    WITH span AS (
        SELECT ended_at - coalesce(total_s, 0) AS began, ended_at AS ended
        FROM batch_task
        WHERE num >= :low AND num < :high AND total_s IS NOT NULL
    ), following AS (
        SELECT began, ended, max(ended) OVER (
            ORDER BY began, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS known
        FROM span
    )
    SELECT
        (SELECT coalesce(sum(max(0, ended - max(began, coalesce(known, began)))), 0)
            FROM following),
        coalesce(sum(status = 'done'), 0),
        coalesce(sum(status = 'failed'), 0),
        coalesce(sum(status = 'skipped'), 0),
        coalesce(sum(num_prompt_tokens) FILTER (WHERE attempts > 0), 0),
        coalesce(sum(num_cached_tokens) FILTER (WHERE attempts > 0), 0),
        coalesce(sum(num_completion_tokens) FILTER (WHERE attempts > 0), 0)
    FROM batch_task WHERE num >= :low AND num < :high
"""


def _metrics(store: Store, run: Run, names: list[str]) -> RunMetrics:
    with store.reading() as connection:
        (num,) = connection.execute("SELECT num FROM batch_run WHERE id = ?", (run.id,)).fetchone()
        row: tuple[Any, ...] = connection.execute(
            _FIGURES, {"low": num << SHIFT, "high": (num + 1) << SHIFT}
        ).fetchone()
    busy_s, num_done, num_failed, num_skipped, num_prompt, num_cached, num_completion = row
    num_asked = num_done + num_failed
    return RunMetrics(
        run_id=run.id,
        title=run.title,
        models=", ".join(names),
        status=run.status.value,
        created_at=run.created_at,
        ended_at=run.ended_at,
        num_rows=run.shape.num_tasks,
        num_done=num_done,
        num_failed=num_failed,
        num_skipped=num_skipped,
        busy_s=float(busy_s),
        rows_per_min=60 * num_asked / busy_s if busy_s > 0 else None,
        tok_per_s=num_completion / busy_s if busy_s > 0 else None,
        error_rate=num_failed / num_asked if num_asked else None,
        num_prompt_tokens=num_prompt,
        num_cached_tokens=num_cached,
        num_completion_tokens=num_completion,
    )
