"""Steering a run from another process: the runner's end, and the end of those who look on.

Promises: what is asked of a run through the store reaches its runner within a second, whatever that
waits for; how far the run is goes to the store at most twice a second, and only while it changes;
a store that is busy or full disturbs neither. Leaves to others: carrying out (`runner`), the store
(`core.store.batch_runs`), processes (`process`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gguf_widgets.batch.progress import Progress
from gguf_widgets.core.errors import BatchError, StoreError, from_wire
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import Counts, Run, RunStatus, RunWish

if TYPE_CHECKING:
    from gguf_widgets.batch.runner import Runner

__all__ = ["IN_HAND", "Onlooker", "check_end", "progress_of", "steer"]

# Some process is at a run with one of these.
IN_HAND: Final = (RunStatus.RUNNING, RunStatus.PAUSED)
_EVERY_S: Final = 0.5


def steer(runner: Runner, runs: BatchRuns) -> None:
    """Let other processes steer and watch a runner, until it has ended; return at once."""
    threading.Thread(
        target=_steer,
        args=(runner, runs),
        name=f"gguf-widgets-batch-steering-{runner.run_id[:8]}",
        daemon=True,
    ).start()


def _steer(runner: Runner, runs: BatchRuns) -> None:
    last: dict[str, Any] | None = None
    while not runner.ended.wait(_EVERY_S):
        # What could not be read or written now is so half a second later; the runner itself says
        # what is wrong with the store.
        with contextlib.suppress(StoreError):
            for wish, settings in runs.take_wishes(runner.run_id):
                _heed(runner, wish, settings)
            told = _told(runner.progress())
            if told != last and not runner.ended.is_set():
                runs.put_progress(runner.run_id, told)
                last = told


def _heed(runner: Runner, wish: RunWish, settings: dict[str, Any]) -> None:
    if wish is RunWish.PAUSE:
        runner.pause()
    elif wish is RunWish.GO_ON:
        runner.resume()
    elif wish is RunWish.STOP:
        runner.stop()
    else:
        # Loading takes its time, and a stop must get through meanwhile.
        threading.Thread(
            target=runner.change,
            args=(settings,),
            name=f"gguf-widgets-batch-change-{runner.run_id[:8]}",
            daemon=True,
        ).start()


def _told(progress: Progress) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(progress)
    # These are in the store as they are, and would be out of date here.
    del told["status"], told["counts"]
    return told


def progress_of(status: RunStatus, counts: Counts, told: dict[str, Any] | None) -> Progress:
    """Return the progress of a run that another process carries out.

    Parameters
    ----------
    status, counts
        As the store has them now.
    told : dict or None
        What that process said last.
    """
    plain = Progress(status=status, counts=counts)
    if not told or status not in IN_HAND:
        return plain
    known = {name: value for name, value in told.items() if name in Progress.__struct_fields__}
    try:
        return msgspec.convert(
            {**known, "status": status.value, "counts": msgspec.to_builtins(counts)},
            Progress,
            strict=False,
        )
    except msgspec.ValidationError:  # another version's
        return plain


def check_end(run: Run) -> None:
    """Raise what is to be said of the end of a run that another process carried out.

    Raises
    ------
    GgufWidgetsError
        It could not go on.
    BatchError
        Its process ended before it.
    """
    if run.status is RunStatus.FAILED and run.error is not None:
        raise from_wire(run.error)
    if run.status is RunStatus.INTERRUPTED:
        raise BatchError(
            "The process that carried out this run has ended before it. What is done is kept; "
            "resume() goes on.",
            id=run.id,
            problem="interrupted",
        )


class Onlooker:
    """Calls somebody twice a second while another process is at a run, and once after its end.

    Parameters
    ----------
    in_hand : callable
        Whether another process is at it.
    call : callable
        Called in a thread of its own; returns whether somebody still listens.
    """

    def __init__(self, in_hand: Callable[[], bool], call: Callable[[], bool]) -> None:
        self._in_hand, self._call = in_hand, call
        self._lock = threading.Lock()
        self._is_at_it = False
        self._wake = threading.Event()

    def start(self) -> None:
        """Look on, if nobody does; it ends by itself."""
        with self._lock:
            if self._is_at_it:
                return
            self._is_at_it = True
            threading.Thread(
                target=self._look, name="gguf-widgets-batch-onlooker", daemon=True
            ).start()

    def _look(self) -> None:
        try:
            listened = True
            while listened and self._asked():
                listened = self._call()
                self._wake.wait(_EVERY_S)
            if listened:
                self._call()
        finally:
            with self._lock:
                self._is_at_it = False

    def _asked(self) -> bool:
        try:
            return self._in_hand()
        except StoreError:
            return True  # it is looked at again
