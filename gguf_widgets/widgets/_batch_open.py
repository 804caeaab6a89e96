"""The run that a batch table shows: its rows, its counts, and how it stands.

Promises: whatever changes a row changes the `version`, so that a page knows when to ask for its
rows, and for charts, again. Leaves to others: rows (`_batch_result`), charts (`_batch_charts`),
words (`_batch_words`), what is done with the run (`_batch_acts`).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.table_rows import decoded
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_charts import Charts
from gguf_widgets.widgets._batch_pictures import Pictures
from gguf_widgets.widgets._batch_result import Result, columns_view
from gguf_widgets.widgets._batch_words import progress_view, run_words

__all__ = ["OpenRun"]


class OpenRun:
    """A run on the screen.

    Parameters
    ----------
    run : BatchRun
    store : Store
    pictures : Pictures
        The widget's, for the prompts of its rows.

    Attributes
    ----------
    result : Result
    charts : Charts
    inputs : list of str
        The table's own columns.
    """

    def __init__(self, run: BatchRun, store: Store, pictures: Pictures) -> None:
        self.run = run
        record = BatchRuns(store).get(run.id)
        self.inputs = [str(decoded(c["name"])) for c in record.columns if not c.get("index")]
        self.result = Result(run, store, self.inputs, pictures)
        self.charts = Charts(run, store)
        # Where a row is asked several things, it is answers that are counted.
        self._noun = "rows" if record.shape.per_row == 1 else "answers"
        self._columns = columns_view(run, self.inputs)

    def parts(self) -> dict[str, Any]:
        """Return what the pages show of it."""
        run = self.run
        progress = run.progress
        status, counts = progress.status, progress.counts
        version = self.result.changes()
        is_here = run.is_here
        return {
            "run": {
                "id": run.id,
                "title": run.title,
                "status": status.value,
                "words": run_words(status, counts, run.error, is_here=is_here),
                "isHere": is_here,
                "canChange": len(run.spec.models) == 1,
                "numRows": run.num_rows,
                "noun": self._noun,
                "columns": self._columns,
            },
            "progress": progress_view(progress, self._noun),
            "version": version,
        }
