"""The processes that run models on this machine, for whichever program of this user.

Promises: looking takes a bounded time whatever the workers do, keeps none of them alive and counts
as no client; one that does not answer is listed as such. Leaves to others: what is known of one
(`worker_facts`), asking it (`worker.peek`), the models of this process (`manager`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gguf_widgets.core.errors import ProtocolError
from gguf_widgets.core.format import format_bytes, format_count, format_duration
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.tables import as_html, as_text
from gguf_widgets.core.worker import peek, protocol, registry
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker_facts import Worker, listed, users_of
from gguf_widgets.demo import demo_model_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["WorkerList", "cells_of", "look_at", "matching", "model_name", "workers"]

# A worker answers in milliseconds; this is for a machine that is busy.
ANSWER_TIMEOUT_S = 2.0

# A step that takes longer is worth a word: it may be a hang.
_LONG_STEP_S = 5.0

_STATES = {
    "stuck": "does not answer",
    "lost": "cannot be reached",
    "failed": "did not load",
}

_NONE_RUNS = (
    "No model is running. Load one, with gguf_widgets.load(...) in a notebook or with "
    '"gguf-widgets chat" in a terminal, and it is listed here.'
)


class WorkerList(list[Worker]):
    """Workers as a list that shows itself as a table."""

    HEADINGS: Final = (
        "Model", "State", "Backend", "Process", "Clients", "Running", "Waiting", "Cells", "Memory",
        "Share", "Up for", "Leaves", "Used by",
    )  # fmt: skip
    TOOLTIPS: Final = {
        "Clients": "Programs that use it",
        "Running": "Sequences that are being computed",
        "Waiting": "Sequences that wait for their turn",
        "Cells": "Places in the KV cache: of running sequences, out of all",
        "Memory": "Resident memory (RSS), the mapped weights included",
        "Share": "Proportional share (PSS): what several processes map counts in parts",
        "Leaves": "When it ends by itself if nobody comes",
    }

    def __repr__(self) -> str:
        if not self:
            return _NONE_RUNS
        return as_text(self.HEADINGS, (cells_of(worker) for worker in self))

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        if not self:
            return f"<p>{_NONE_RUNS}</p>"
        return as_html(self.HEADINGS, (cells_of(worker) for worker in self), self.TOOLTIPS)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return JSON's own types, one dict a worker."""
        return [worker.to_dict() for worker in self]

    def to_frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame, one row a worker; its columns are the fields of `Worker`."""
        import pandas as pd

        columns = [*Worker.__struct_fields__, "num_clients"]
        rows = [{**worker.to_dict(), "users": worker.users} for worker in self]
        return pd.DataFrame(rows, columns=columns)


def workers(timeout_s: float = ANSWER_TIMEOUT_S) -> WorkerList:
    """Return every process of yours on this machine that runs a model, the oldest first.

    Parameters
    ----------
    timeout_s : float, default 2
        How long to wait for answers, for all together.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.workers()  # doctest: +SKIP
    Model  State  Backend    Process  Clients  Running  Waiting  Cells        Memory ...
    demo   ready  llama.cpp  4711     2        1        0        96 of 2,048  61 MB  ...
    """
    return look_at(registry.list_processes(), timeout_s)


def look_at(entries: Sequence[Entry], timeout_s: float = ANSWER_TIMEOUT_S) -> WorkerList:
    """Ask these workers, all at once, what they are doing; those that have gone are left out."""
    found: dict[str, Worker | None] = {}

    def ask(entry: Entry) -> None:
        found[entry.name] = _look(entry, timeout_s)

    threads = [
        threading.Thread(target=ask, args=(entry,), name="gguf-widgets-look", daemon=True)
        for entry in entries
    ]
    for thread in threads:
        thread.start()
    # A little more than each has by itself: to give up takes a moment, too.
    deadline = time.monotonic() + timeout_s + 0.5
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    answers = [found.get(entry.name, _unknown(entry, "stuck")) for entry in entries]
    return WorkerList(worker for worker in answers if worker is not None)


def matching(running: Sequence[Worker], text: str) -> list[Worker]:
    """Return the workers that a person means by this: a process, a name, a model or its file."""
    text = text.strip()
    for meant in (
        [worker for worker in running if text == str(worker.pid)],
        [worker for worker in running if text in (worker.name, worker.model)],
        [worker for worker in running if text.casefold() == worker.model.casefold()],
        [worker for worker in running if _same_file(text, worker.path)],
    ):
        if meant:
            return meant
    return []


def cells_of(worker: Worker) -> tuple[str, ...]:
    """Return a worker's row of the table; what is not known is a dash."""

    def shown(value: float | None, form: Any = "{:,}".format) -> str:
        return "-" if value is None else str(form(value))

    state = _STATES.get(worker.state, worker.state)
    if worker.progress is not None:
        state += f", {worker.progress:.0%}"
    if worker.figures_age_s is not None and worker.figures_age_s > _LONG_STEP_S:
        state += f", {format_duration(worker.figures_age_s)} in one step"
    cells = "-"
    if worker.num_cells is not None:
        cells = f"{shown(worker.num_cells_used)} of {format_count(worker.num_cells)}"
    leaves = shown(worker.leaves_in_s, lambda seconds: f"in {format_duration(round(seconds))}")
    if worker.users:
        leaves = "not while it is used"
    return (
        worker.model,
        state,
        worker.backend,
        str(worker.pid),
        shown(worker.num_clients),
        shown(worker.num_running),
        shown(worker.num_waiting),
        cells,
        shown(worker.rss_bytes, format_bytes),
        shown(worker.pss_bytes, format_bytes),
        format_duration(worker.uptime_s),
        leaves,
        listed(worker.users) if worker.users else ("-" if worker.users is None else "nobody"),
    )


def model_name(path: str) -> str:
    """Return what to call the model in this file."""
    file = Path(path)
    if file == demo_model_path():
        return "demo"
    part = split_name(file)
    return part.stem if part is not None else file.stem


# --- inside ---


def _look(entry: Entry, timeout_s: float) -> Worker | None:
    """Ask one worker; None if it has gone."""
    if entry.leaving:
        return _with_memory(_unknown(entry, "leaving"), entry)
    try:
        status = peek.look(entry, timeout_s)
    except TimeoutError:
        worker = _unknown(entry, "stuck")
    except ProtocolError:
        worker = _unknown(entry, "other version")
    except OSError:
        # It has left just now, or it lives on without its socket until nobody uses it.
        latest = registry.read(entry.name)
        leaving = latest is not None and latest.leaving
        worker = _unknown(entry, "leaving" if leaving else "lost")
    else:
        worker = _known(entry, status)
    return _with_memory(worker, entry)


def _with_memory(worker: Worker, entry: Entry) -> Worker | None:
    memory = peek.memory_of(entry)
    if memory is None:
        return None
    return msgspec.structs.replace(worker, rss_bytes=memory.rss_bytes, pss_bytes=memory.pss_bytes)


def _unknown(entry: Entry, state: str) -> Worker:
    """Return what the registry alone says."""
    return Worker(
        name=entry.name,
        model=model_name(entry.model_path),
        path=entry.model_path,
        pid=entry.pid,
        backend=entry.backend,
        state=state,
        n_ctx=entry.effective.n_ctx if entry.effective is not None else None,
        uptime_s=max(0.0, time.time() - entry.started_at),
    )


def _known(entry: Entry, status: protocol.Status) -> Worker:
    settings, engine = status.settings, status.engine
    worker = msgspec.structs.replace(
        _unknown(entry, status.state),
        progress=status.progress.fraction if status.progress is not None else None,
        n_ctx=settings.n_ctx if settings is not None else None,
        users=users_of(status),
        num_requests=status.num_requests,
        uptime_s=status.uptime_s,
        leaves_in_s=status.leaves_in_s,
    )
    if engine is None:
        return worker
    return msgspec.structs.replace(
        worker,
        num_running=engine.num_running,
        num_waiting=engine.num_waiting,
        num_cells_used=engine.num_cells_used,
        num_cells_kept=engine.num_cells_kept,
        num_cells=engine.num_cells,
        figures_age_s=status.engine_age_s,
    )


def _same_file(text: str, path: str) -> bool:
    try:
        return Path(text).samefile(path)
    except (OSError, ValueError):
        return text == path
