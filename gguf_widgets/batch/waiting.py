"""Waiting for the end of a run.

Promises: an interrupt gets through on every system, and a time limit holds. Leaves to others: what
is waited for (`runner`), what an interrupt stops (`run`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gguf_widgets.batch.runner import Runner

__all__ = ["late", "wait_for_runner", "wait_until_not"]

_SLICE_S: Final = 0.2


def wait_for_runner(
    runner: Runner, timeout_s: float | None, on_interrupt: Callable[[], object]
) -> None:
    """Wait until a runner of this process has ended; raise what it could not go on for.

    Raises
    ------
    GgufWidgetsError
        The runner's error.
    TimeoutError
        It has not ended.
    """
    left = timeout_s
    try:
        while not runner.ended.wait(_SLICE_S if left is None else min(_SLICE_S, left)):
            if left is not None:
                left -= _SLICE_S
                if left <= 0:
                    raise late(timeout_s)
    except KeyboardInterrupt:
        on_interrupt()
        raise
    if runner.error is not None:
        raise runner.error


def wait_until_not(condition: Callable[[], bool], timeout_s: float | None) -> bool:
    """Wait until a condition does not hold any more; return whether that came to be."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while condition():
        if end is not None and time.monotonic() >= end:
            return False
        time.sleep(_SLICE_S)
    return True


def late(timeout_s: float | None) -> TimeoutError:
    """Return the error for a run that has not ended in time."""
    return TimeoutError(f"The run has not ended in {timeout_s:g} s; it goes on.")
