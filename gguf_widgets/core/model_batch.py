"""`Model.map`: a model asked about every row of a table.

Promises: it hands everything on to the package's own public name, which is found when it is first
used: a model that is only talked with does without tables. Leaves to others: all the work.
"""

from __future__ import annotations

from typing import Any

import gguf_widgets

__all__ = ["BatchMethods"]


class BatchMethods:
    """What a `Model` can do with a table."""

    def map(self, table: Any, prompt: Any, *, progress: bool | None = None, **how: Any) -> Any:
        """Ask about every row of a table and wait for the end; an interrupt keeps what is done.

        Parameters
        ----------
        table : DataFrame, Series, list of texts, list of dicts, dict of lists
        prompt : str, list of messages, or dict of these
            With the table's columns in it: ``"Label this review: {review}"``.
        progress : bool, optional
            Show how far it is. Default: where somebody can see it.
        **how
            ``schema``, ``system``, ``n``, ``missing``, ``syntax``, ``title``, and fields of
            `SamplingSettings`; see `BatchProcessor.prepare`. ``executor``, a Dask client, has many
            machines answer; see `batch.cluster`.

        Returns
        -------
        BatchRun
            Finished; ``.to_frame()`` is the table with the new columns.

        Raises
        ------
        InvalidValueError
            Something of this cannot be; no row was asked then.
        BatchError
            The run could not go on; what is done is kept, and `gguf_widgets.resume` goes on.

        Examples
        --------
        >>> model.map(df, "Good or bad? {review}", schema=["good", "bad"])  # doctest: +SKIP
        """
        model: Any = self  # it is one
        return gguf_widgets.BatchProcessor(model).run(table, prompt, progress=progress, **how)
