"""Starting a process of our own for a piece of work in the store, and hearing whether it is at it.

Promises: when `start_at_work` returns, that process has taken the work, or the error says why not:
its own, or that it ended without a word, or took too long (it is ended then). Leaves to others: the
process (`own_process`), the other side of this (`own_process_work`), whether somebody else is at
the work (whoever starts it).
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import msgspec

from gguf_widgets.core.errors import BatchError, GgufWidgetsError, from_wire
from gguf_widgets.core.own_process import OwnProcess

__all__ = ["start_at_work"]


def start_at_work(
    module: str, store_path: str | os.PathLike[str], work_id: str, what: str, timeout_s: float
) -> OwnProcess:
    """Start a process that takes up a piece of work of the store.

    Parameters
    ----------
    module : str
        What ``python -m`` runs; it calls `own_process_work.carry_out`.
    store_path : path-like
    work_id : str
        Its whole id.
    what : str
        What the work is called, in the messages and in the log's name: "run".
    timeout_s : float
        How long it may take until that process is at it.

    Raises
    ------
    BatchError
        The process did not start (``details["problem"]`` is "not_started").
    GgufWidgetsError
        What the process said why it could not begin.
    """
    try:
        process = OwnProcess(module, [f"--store={store_path}", work_id], what)
    except OSError as error:
        raise BatchError(
            f"The process for this {what} could not be started: {error}.", problem="not_started"
        ) from error
    said = process.first_line(timeout_s)
    if said is None:
        process.kill()
        raise BatchError(
            f"The process for this {what} was not at it after {timeout_s:g} s, so it was ended. Its"
            f" log: {process.log_path}",
            id=work_id,
            problem="not_started",
        )
    _check(said, process, work_id, what)
    return process


def _check(said: bytes, process: OwnProcess, work_id: str, what: str) -> None:
    """Raise what the process said is wrong, or that it ended without a word."""
    try:
        answer: dict[str, Any] = msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {}
    if answer.get("at_it"):
        return
    process.wait(5.0)
    wire = answer.get("error")
    if isinstance(wire, dict):
        error: GgufWidgetsError | None = None
        with contextlib.suppress(KeyError, TypeError):
            error = from_wire(wire)  # type: ignore[arg-type]
        if error is not None:
            raise error
    words = " / ".join(process.last_words())
    raise BatchError(
        f"The process for this {what} ended before it was at it"
        f"{f'; its last words: {words}' if words else ''}. Its log: {process.log_path}",
        id=work_id,
        problem="not_started",
    )
