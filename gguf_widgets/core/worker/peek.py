"""Looking at a worker from outside, and ending one.

Promises: looking is over within the time given, makes no client of the looker and keeps no worker
alive; ending asks politely, then uses force, and never reaches a process that is not this worker.
Leaves to others: which worker (`registry`), the words for people (`core.workers`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

import psutil

from gguf_widgets.core.errors import ProtocolError
from gguf_widgets.core.worker import framing, protocol, registry, spawn
from gguf_widgets.core.worker.handshake import Greeted, greet, receive
from gguf_widgets.core.worker.registry import Entry

__all__ = ["Ended", "Ending", "Memory", "end", "look", "memory_of"]

# A worker that was asked to end has its own bound (see `server`), a little below this one.
POLITE_S = 8.0
_ASKING_S = 2.0


@dataclass(frozen=True)
class Memory:
    """Bytes of a process in memory: all that it uses, and its share of it (None: unknown).

    The share counts what several processes map (the weights of a file, for one) in equal parts.
    """

    rss_bytes: int
    pss_bytes: int | None


def look(entry: Entry, timeout_s: float) -> protocol.Status:
    """Return what a worker is doing.

    Raises
    ------
    OSError
        If it does not answer in time, or cannot be reached.
    ProtocolError
        If it is of another version.
    """
    deadline = time.monotonic() + timeout_s
    greeted = greet(entry, timeout_s=timeout_s, peek=True)
    with greeted.socket:
        return _status(greeted, deadline)


def _status(greeted: Greeted, deadline: float) -> protocol.Status:
    payloads = greeted.early or receive(greeted.socket, greeted.reader, deadline)
    message = framing.decode_server_message(payloads[0])
    if not isinstance(message, protocol.Status):
        raise ProtocolError(f"The worker answered with a {type(message).__name__}.")
    return message


def memory_of(entry: Entry) -> Memory | None:
    """Return the memory of a worker's process, also of one that is stuck; None if it is gone."""
    process = registry.process_of(entry)
    if process is None:
        return None
    try:
        rss = process.memory_info().rss
    except psutil.Error:
        return None
    try:
        pss = getattr(process.memory_full_info(), "pss", None)
    except (psutil.Error, OSError):
        pss = None  # the system does not tell
    return Memory(rss, pss)


class Ended(StrEnum):
    """How a worker came to its end."""

    ASKED = "asked"  # it was asked to, and did
    KILLED = "killed"  # it did not answer, or not end in time
    GONE = "gone"  # it had ended already
    ALIVE = "alive"  # nothing helped


@dataclass(frozen=True)
class Ending:
    """What `end` did; `last` is what the worker was doing, if it answered."""

    how: Ended
    last: protocol.Status | None


def end(entry: Entry, reason: str, *, polite_s: float = POLITE_S) -> Ending:
    """End a worker whoever uses it; `reason` is shown to those.

    Returns when its process is gone, or has resisted everything.
    """
    if not registry.is_alive(entry):
        registry.remove(entry)
        return Ending(Ended.GONE, None)
    asked, last = _ask_to_stop(entry, reason)
    if asked and spawn.wait_gone(entry, polite_s):
        return Ending(Ended.ASKED, last)
    spawn.kill(entry)
    if registry.is_alive(entry):
        return Ending(Ended.ALIVE, last)
    registry.remove(entry)  # it could not do that itself
    return Ending(Ended.KILLED, last)


def _ask_to_stop(entry: Entry, reason: str) -> tuple[bool, protocol.Status | None]:
    """Return whether the worker could be asked, and what it was doing if it said."""
    deadline = time.monotonic() + _ASKING_S
    try:
        greeted = greet(entry, timeout_s=_ASKING_S, peek=True)
        with greeted.socket:
            status = _status(greeted, deadline)
            greeted.socket.sendall(framing.encode(protocol.Stop(reason=reason)))
    except TimeoutError:
        return False, None  # it is stuck
    except (OSError, ProtocolError):
        # Of another version, or its socket was taken away, or it is leaving: a signal is as polite.
        return spawn.terminate(entry), None
    return True, status
