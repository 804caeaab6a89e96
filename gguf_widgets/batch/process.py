"""A process of its own that carries out one run: it outlives the page, the kernel and the notebook.

Promises: when `start_process` returns, that process is at the run, or the error says why not; two
that start at once for the same run are told apart by the store, and one of them is refused; the
process ends when the run has. It is steered through the store (`steering`), by any process. Leaves
to others: what it does (`__main__`), the run (`run`), processes (`core.own_process*`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.own_process import OwnProcess
from gguf_widgets.core.own_process_start import start_at_work
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["RunnerProcess", "start_process"]

START_S: Final = 60.0  # to import, and to take the run; the model is loaded after that


class RunnerProcess:
    """A process that was started here to carry out a run.

    Attributes
    ----------
    run_id : str
    pid : int
    log_path : Path
    """

    def __init__(self, run_id: str, process: OwnProcess) -> None:
        self.run_id = run_id
        self.pid: int = process.pid
        self.log_path: Path = process.log_path
        self._process = process

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end.

        Returns
        -------
        int or None
            The exit status. 0: the run has finished, or was stopped. 1: it could not go on; it says
            why itself. A negative number is the signal that ended the process. None: it still runs.
        """
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End the process at once; the run can be gone on with."""
        self._process.kill()

    def __repr__(self) -> str:
        state = "at it" if self.is_alive else "ended"
        return f"<RunnerProcess {self.pid} for run {self.run_id[:8]}: {state}>"


def start_process(
    run_id: str, *, store: Store | None = None, timeout_s: float = START_S
) -> RunnerProcess:
    """Start a process that carries out a run of the store, or goes on with it.

    Parameters
    ----------
    run_id : str
        Its id, or the beginning of it.
    store : Store, optional
        Where the run is; default: this user's.
    timeout_s : float, default 60
        How long it may take until that process is at the run; its model is loaded after that.

    Raises
    ------
    InvalidValueError
        There is no such run, or the store is none that another process can open.
    BatchError
        Another process is at it (``details["problem"]`` is "taken"); the process did not start.
    """
    own = store if store is not None else default_store()
    if own.path is None:
        raise InvalidValueError(
            "This run is kept in memory only, where no other process sees it. Start it without "
            "own_process, or set GGUF_WIDGETS_HOME to a folder that can be written to."
        )
    run = BatchRuns(own).find(run_id)
    if run.status in (RunStatus.RUNNING, RunStatus.PAUSED):
        raise BatchError(
            "Another process is at this run already. Wait for it, or stop it first.",
            id=run.id,
            problem="taken",
        )
    process = start_at_work("gguf_widgets.batch", own.path, run.id, "run", timeout_s)
    return RunnerProcess(run.id, process)
