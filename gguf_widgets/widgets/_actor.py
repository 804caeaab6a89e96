"""One thread per widget that does its work in order.

Promises: what the page and the core report is put in a queue and returns at once, so that no
callback ever blocks the kernel; one thread takes it from there, so a widget's state needs no lock;
an unexpected error is logged and handed over, and the thread goes on. Leaves to others: what is
done with each item.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Actor"]

_log = logging.getLogger(__name__)

_END = object()


class Actor:
    """A queue and the thread that empties it; the thread starts with the first item.

    Parameters
    ----------
    name : str
        The thread's name.
    handle : callable
        Called with each item, in order.
    tick : callable, optional
        Called after each item and whenever the time it asked for has passed; returns in how many
        seconds it wants to be called again at the latest, or None for "not before the next item".
    failed : callable, optional
        Called with an exception that came out of `handle` or `tick`.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Any], None],
        tick: Callable[[], float | None] = lambda: None,
        failed: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self._name = name
        self._handle = handle
        self._tick = tick
        self._failed = failed
        self._items: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def post(self, item: object) -> None:
        """Add an item; returns at once. After `close` it is dropped."""
        with self._lock:
            if self._closed:
                return
            self._items.put(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread after the item it is at and wait for that, at most `timeout_s`."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._items.put(_END)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self) -> None:
        wait: float | None = None
        while not self._closed:
            try:
                item = self._items.get(timeout=wait)
            except queue.Empty:
                item = None
            if item is _END:
                return
            if item is not None:
                self._guarded(self._handle, item)
            # A tick that fails is called again with the next item, not in a circle.
            wait = self._guarded(self._tick)

    def _guarded(self, function: Callable[..., float | None], *arguments: object) -> float | None:
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - a widget outlives a fault; it is logged and shown
            _log.exception("%s met an error it did not expect", self._name)
            self._failed(error)
            return None
