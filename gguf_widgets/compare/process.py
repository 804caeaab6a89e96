"""A process of its own that carries out a comparison: it outlives the page, kernel and notebook.

Promises: when `start_process` returns, that process is at the comparison, or the error says why
not; it ends when the comparison has. It is stopped through the store (`Comparison.stop`), by any
process. Leaves to others: what it does (`__main__`), the comparison (`comparison`), processes
(`core.own_process*`).
"""

from __future__ import annotations

from typing import Final

from gguf_widgets.compare.records import Records
from gguf_widgets.compare.types import ComparisonStatus
from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.own_process import OwnProcess
from gguf_widgets.core.own_process_start import start_at_work
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["start_process"]

START_S: Final = 60.0  # to import, and to take it; models are loaded after that


def start_process(
    comparison_id: str, *, store: Store | None = None, timeout_s: float = START_S
) -> OwnProcess:
    """Start a process that carries out a comparison of the store, or goes on with it.

    Parameters
    ----------
    comparison_id : str
        Its id, or the beginning of it.
    store : Store, optional
        Default: this user's.
    timeout_s : float, default 60
        How long it may take until that process is at it.

    Raises
    ------
    InvalidValueError
        There is no such comparison, or the store is none that another process can open.
    BatchError
        Another process is at it (``details["problem"]`` is "taken"); the process did not start.
    """
    own = store if store is not None else default_store()
    if own.path is None:
        raise InvalidValueError(
            "This comparison is kept in memory only, where no other process sees it. Start it "
            "here, or set GGUF_WIDGETS_HOME to a folder that can be written to."
        )
    record = Records(own).find(comparison_id)
    if record.status is ComparisonStatus.RUNNING:
        raise BatchError(
            "Another process is at this comparison already. Wait for it, or stop it first.",
            id=record.id,
            problem="taken",
        )
    return start_at_work("gguf_widgets.compare", own.path, record.id, "comparison", timeout_s)
