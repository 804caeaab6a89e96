"""Which process is writing a message, and whether it is still alive.

Promises: a message that is being written names its process by machine, process id and start time,
so that a dead writer is told from a living one even when the id was given out again. Leaves to
others: what happens to a message whose writer is gone.

A process on another machine (a shared home folder) cannot be asked. Its message counts as being
written for `SILENCE_S` after it last grew.
"""

from __future__ import annotations

import functools
import os
import platform
import time
from typing import Any

import msgspec

__all__ = ["SILENCE_S", "Owner", "is_alive", "this_process"]

SILENCE_S = 600.0

# Linux tells start times in ticks since boot; the moment of boot, which psutil adds, moves by a
# second when the clock is set.
_START_TOLERANCE_S = 2.0


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """One process: the machine it runs on, its id there, and when it began (seconds, UTC)."""

    host: str
    pid: int
    started_at: float


def this_process() -> Owner:
    """Return this process; right also after a fork."""
    return _describe(os.getpid())


@functools.lru_cache(maxsize=1)
def _describe(pid: int) -> Owner:
    import psutil  # 20 ms that a program which never chats need not spend

    return Owner(host=platform.node(), pid=pid, started_at=psutil.Process(pid).create_time())


def is_alive(owner: Any, last_written_at: float) -> bool:
    """Return whether the process that `owner` names still runs.

    Parameters
    ----------
    owner : object
        An `Owner` as plain data, as the store keeps it. Anything else counts as dead.
    last_written_at : float
        Seconds since 1970, UTC; used for a process on another machine.
    """
    try:
        known = msgspec.convert(owner, Owner)
    except msgspec.ValidationError:
        return False
    if known.host != platform.node():
        return time.time() - last_written_at < SILENCE_S
    import psutil  # as above

    try:
        process = psutil.Process(known.pid)
        # A zombie has ended; only its parent has not asked yet.
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and abs(process.create_time() - known.started_at) <= _START_TOLERANCE_S
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        # It exists and is somebody else's: our own processes can always be looked at.
        return False
