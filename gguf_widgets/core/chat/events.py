"""Telling observers what happens in a chat.

Promises: events are numbered in the order in which things happened; observers are called without
any lock held, so that one may wait for a thread that uses the chat; one that raises is logged and
the others still hear. Leaves to others: what the events mean (`types.ChatEvent`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from gguf_widgets.core.chat.types import ChatEvent, EventKind

__all__ = ["Observers"]

_log = logging.getLogger(__name__)


class Observers:
    """Those who want to know, and the number of the last event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[ChatEvent], None]] = []
        self.seq = 0

    def subscribe(self, callback: Callable[[ChatEvent], None]) -> Callable[[], None]:
        """Call `callback` with every event from now on; return what ends that."""
        with self._lock:
            self._callbacks.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def clear(self) -> None:
        """Let go of everybody."""
        with self._lock:
            self._callbacks.clear()

    def number(self, kind: EventKind, **fields: Any) -> ChatEvent:
        """Make an event and give it the next number.

        What it tells must become visible in the same moment: the caller holds the lock under which
        snapshots are taken.
        """
        with self._lock:
            self.seq += 1
            return ChatEvent(kind=kind, seq=self.seq, **fields)

    def tell(self, event: ChatEvent) -> None:
        """Call everybody, one after another; the caller holds no lock."""
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - whatever it is, the answer must go on
                _log.exception("An observer of a chat failed at the event %r", event.kind.value)
