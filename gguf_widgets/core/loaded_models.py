"""The models that a process has loaded, as a list that shows what they are doing.

Promises: it is a list of `Model`; shown, it asks each model's worker at that moment, for a bounded
time, without starting or keeping any. Leaves to others: the workers of other programs (`workers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.model import Model
from gguf_widgets.core.tables import as_html, as_text
from gguf_widgets.core.worker.link import WorkerLink
from gguf_widgets.core.worker_facts import Worker
from gguf_widgets.core.workers import WorkerList, cells_of, look_at

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LoadedModels"]

_ANSWER_TIMEOUT_S = 1.0

_NONE_LOADED = "No model is loaded here. Load one with gguf_widgets.load(...)."

_STOPPED = "stopped; your next request starts it again"


class LoadedModels(list[Model]):
    """Models as a list that shows itself as a table: workers, clients, sequences, cells, memory.

    Parameters
    ----------
    models : iterable of (Model, WorkerLink)
    """

    _HEADINGS: Final = tuple(
        heading for heading in WorkerList.HEADINGS if heading not in ("Backend", "Leaves")
    )

    def __init__(self, models: Iterable[tuple[Model, WorkerLink]] = ()) -> None:
        pairs = list(models)
        super().__init__(model for model, _ in pairs)
        self._links = {id(model): link for model, link in pairs}

    def __repr__(self) -> str:
        return as_text(self._HEADINGS, self._rows()) if self else _NONE_LOADED

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        if not self:
            return f"<p>{_NONE_LOADED}</p>"
        return as_html(self._HEADINGS, self._rows(), WorkerList.TOOLTIPS)

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame, one row a model; its columns are the fields of `Worker`.

        `model` is the name it was loaded by here. A model whose worker has ended has the state
        "stopped".
        """
        import pandas as pd

        columns = [*Worker.__struct_fields__, "num_clients"]
        rows = []
        for model, worker in self._looked():
            facts: dict[str, Any] = {"state": "stopped", "path": str(model.path)}
            if worker is not None:
                facts = {**worker.to_dict(), "users": worker.users}
            rows.append({**facts, "model": model.name})
        return pd.DataFrame(rows, columns=columns)

    def _looked(self) -> list[tuple[Model, Worker | None]]:
        """Return each model with what its worker says just now; None while there is no worker."""
        entries = {}
        for model in self:
            link = self._links.get(id(model))
            entry = link.entry if link is not None else None
            if entry is not None:
                entries[id(model)] = entry
        distinct = {entry.name: entry for entry in entries.values()}
        answers = {w.name: w for w in look_at(list(distinct.values()), _ANSWER_TIMEOUT_S)}
        return [
            (model, answers.get(entries[id(model)].name) if id(model) in entries else None)
            for model in self
        ]

    def _rows(self) -> list[Sequence[str]]:
        rows: list[Sequence[str]] = []
        for model, worker in self._looked():
            if worker is None:
                state = _STOPPED if model.loaded else "unloaded"
                rows.append((model.name, state, *["-"] * (len(self._HEADINGS) - 2)))
                continue
            cells = dict(zip(WorkerList.HEADINGS, cells_of(worker), strict=True))
            cells["Model"] = model.name
            rows.append([cells[heading] for heading in self._HEADINGS])
        return rows
