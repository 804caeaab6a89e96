"""Finding a worker for a model, or starting one.

Promises: of any number of programs that want the same model at the same moment one starts a worker
and the others join it; what is left of a dead worker is cleared away, and one that does not answer
is replaced. Leaves to others: waiting for the loading (`client.wait_ready`), judging the file
(whoever makes the spec).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from gguf_widgets.core.errors import (
    GgufWidgetsError,
    ProtocolError,
    WorkerStartError,
)
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import protocol, registry, spawn
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.handshake import connect
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.spec import WorkerSpec, file_identity

__all__ = ["find_or_start"]

# A worker answers a Hello at once, also while it loads or computes; this is for a machine that
# swaps. After it the worker counts as stuck and is ended.
ANSWER_TIMEOUT_S = 10.0

# A worker that leaves has a bound of its own, a little below this one.
LEAVING_TIMEOUT_S = 8.0

# From starting the process until it listens: importing a few modules.
START_TIMEOUT_S = 40.0


def find_or_start(
    path: str,
    backend: str,
    requested: LoadSettings,
    prepare: Callable[[], WorkerSpec],
    *,
    keep_alive_s: float,
) -> WorkerClient:
    """Return a connection to the worker for this file and these settings.

    Parameters
    ----------
    path : str
    backend : str
    requested : LoadSettings
        Without a chat template.
    prepare : callable
        Judges the file and the memory and returns the spec; called only if a worker has to be
        started, since joining one costs no memory.
    keep_alive_s : float

    Raises
    ------
    WorkerStartError
        If no worker could be started.
    GgufWidgetsError
        What `prepare` raises.
    """
    identity = file_identity(path, backend, requested.other_files)
    with registry.lock(identity):
        for entry in registry.matching(identity, requested):
            client = _join(entry, keep_alive_s)
            if client is not None:
                return client
        registry.sweep()
        _let_leave()
        return _start(prepare(), identity, keep_alive_s)


def _join(entry: Entry, keep_alive_s: float) -> WorkerClient | None:
    """Return a connection to this worker, or None if another one is needed."""
    if entry.protocol_version != protocol.PROTOCOL_VERSION:
        return None  # of another version: it keeps its own clients
    try:
        return connect(entry, keep_alive_s=keep_alive_s, timeout_s=ANSWER_TIMEOUT_S)
    except TimeoutError:
        spawn.kill(entry)
        registry.remove(entry)
    except OSError:
        # It has begun to leave just now, and its entry says so; or something has taken its socket
        # away, and it ends by itself, since it finds itself unlisted.
        found = registry.read(entry.name)
        if found is None or not found.leaving:
            registry.remove(entry)
    except ProtocolError:
        registry.remove(entry)  # not the worker that the entry promises
    return None


def _let_leave() -> None:
    """Wait for the memory of workers that are leaving, which a new one may need.

    One that does not get to its end is in nobody's service any more: it is ended.
    """
    deadline = time.monotonic() + LEAVING_TIMEOUT_S
    for entry in registry.list_processes():
        if entry.leaving and not spawn.wait_gone(entry, max(0.0, deadline - time.monotonic())):
            spawn.kill(entry)
            registry.remove(entry)


def _start(spec: WorkerSpec, identity: str, keep_alive_s: float) -> WorkerClient:
    name = f"{identity}-{secrets.token_hex(3)}"
    process = spawn.start(spec, name, identity, keep_alive_s)
    try:
        entry = _wait_for_entry(process, name)
        return connect(entry, keep_alive_s=keep_alive_s, timeout_s=ANSWER_TIMEOUT_S)
    except BaseException as error:
        process.kill()
        if isinstance(error, OSError) and not isinstance(error, GgufWidgetsError):
            raise spawn.did_not_start(process, process.wait(2.0)) from error
        raise


def _wait_for_entry(process: spawn.WorkerProcess, name: str) -> Entry:
    deadline = time.monotonic() + START_TIMEOUT_S
    while (entry := registry.read(name)) is None:
        status = process.wait(0.01)
        if status is not None:
            raise spawn.did_not_start(process, status)
        if time.monotonic() > deadline:
            raise WorkerStartError(
                f"The process that runs the model was not ready after {START_TIMEOUT_S:.0f} "
                "seconds, so it was ended. The machine may be too busy; try again."
            )
    return entry
