"""The run that a batch table shows: its rows, its counts, and how it stands.

Promises: whatever changes a row changes the `version`, so that a page knows when to ask for its
rows again; counting labels takes a share of the time only. Leaves to others: rows
(`_batch_result`), words (`_batch_words`), what is done with the run (`batch_table`).
"""

from __future__ import annotations

import time
from typing import Any, Final

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_result import Result, columns_view, is_under_way
from gguf_widgets.widgets._batch_words import progress_view, run_words

__all__ = ["OpenRun"]

_LABELS_S: Final = 1.5


class OpenRun:
    """A run on the screen.

    Parameters
    ----------
    run : BatchRun
    store : Store

    Attributes
    ----------
    result : Result
    inputs : list of str
        The table's own columns.
    """

    def __init__(self, run: BatchRun, store: Store) -> None:
        self.run = run
        record = BatchRuns(store).get(run.id)
        self.inputs = [str(decoded(c["name"])) for c in record.columns if not c.get("index")]
        self.result = Result(run, store, self.inputs)
        self._columns = columns_view(run, self.inputs)
        self._labels: list[dict[str, Any]] = []
        self._labels_at = (-1, float("-inf"))

    def parts(self) -> dict[str, Any]:
        """Return what the pages show of it."""
        run = self.run
        progress = run.progress
        status, counts = progress.status, progress.counts
        version = self.result.changes()
        counted, at = self._labels_at
        is_late = time.monotonic() - at > _LABELS_S or not is_under_way(status)
        if counted != version and is_late:
            self._labels = self.result.labels()
            self._labels_at = (version, time.monotonic())
        is_here = run.is_here
        return {
            "run": {
                "id": run.id,
                "title": run.title,
                "status": status.value,
                "words": run_words(status, counts, run.error, is_here=is_here),
                "isHere": is_here,
                "numRows": run.num_rows,
                "columns": self._columns,
            },
            "progress": progress_view(progress),
            "labels": self._labels,
            "version": version,
        }
