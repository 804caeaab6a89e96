"""The batch runs of this process, for whoever listens: experiments.

Promises: each run that is begun here, or gone on with, is told, before its first row is asked; also
one that a process of its own or other machines carry out. A listener that fails is written to the
log and disturbs nobody. Leaves to others: what is done with it (`gguf_widgets.experiments`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf_widgets.batch.run import BatchRun

__all__ = ["Listener", "subscribe", "tell_started"]

Listener = Callable[["BatchRun"], None]
"""Called in the thread that begins the run: it must return at once."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()
# Replaced and never changed: whoever tells something needs no lock.
_listeners: tuple[Listener, ...] = ()


def subscribe(listener: Listener) -> Callable[[], None]:
    """Have a listener called with each run that begins from now on; call the answer to end that."""
    global _listeners  # noqa: PLW0603 - one for the process

    # A thing of its own, so that one who subscribed twice can end each.
    def call(run: BatchRun) -> None:
        listener(run)

    with _lock:
        _listeners = (*_listeners, call)

    def unsubscribe() -> None:
        global _listeners  # noqa: PLW0603 - as above
        with _lock:
            _listeners = tuple(known for known in _listeners if known is not call)

    return unsubscribe


def tell_started(run: BatchRun) -> None:
    """Say that a run begins."""
    for listener in _listeners:
        try:
            listener(run)
        except Exception:  # noqa: BLE001 - whatever it is, the run is not to suffer from it
            _log.exception("Somebody who listens to batch runs failed, and hears the next one")
