"""Speeds that were measured earlier, as a list that shows itself.

Promises: the newest first; each row stands beside the one before it that measured the same in the
same way. Leaves to others: keeping (`kept`), comparing (`compare`).
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gguf_widgets.core.bench import table
from gguf_widgets.core.bench.compare import change_of
from gguf_widgets.core.bench.kept import KeptRows
from gguf_widgets.core.bench.row import BenchRow
from gguf_widgets.core.figures import make_figure

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BenchHistory"]

_NOTHING = 'No speed has been measured here yet. To begin: gguf_widgets.bench("demo")'


class BenchHistory(list[BenchRow]):
    """Measured speeds, the newest first; made by `gguf_widgets.bench_history`.

    Parameters
    ----------
    rows : list of BenchRow
        The newest first.
    kept : KeptRows
        Where they are kept.
    """

    def __init__(self, rows: list[BenchRow], kept: KeptRows) -> None:
        super().__init__(
            msgspec.structs.replace(row, change=change_of(row, rows[number + 1 :]))
            for number, row in enumerate(rows)
        )
        self._kept = kept

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a DataFrame: the columns of `BenchResult.to_frame`."""
        import pandas as pd

        return pd.DataFrame([row.to_dict() for row in self])

    def figure(self, **options: Any) -> Any:
        """Draw the speeds over time, a line for each model and test; a Plotly figure."""
        return make_figure("bench.history", list(self), **options)

    def delete(self) -> int:
        """Forget the rows of this list, for good, and return how many were there."""
        num = self._kept.delete(list(self))
        self.clear()
        return num

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Write a file: .csv, .json or .md; return where it is. Errors as `BenchResult.save`."""
        makers = {
            "csv": lambda: table.as_csv(self),
            "json": lambda: table.as_json(self),
            "md": lambda: table.as_markdown(self, dates=True),
        }
        return table.save(path, lambda form: makers[form](), replace=replace)

    def __repr__(self) -> str:
        return table.as_text(self, dates=True) if self else _NOTHING

    def _repr_html_(self) -> str:
        return table.as_html(self, dates=True) if self else f"<p>{html.escape(_NOTHING)}</p>"
