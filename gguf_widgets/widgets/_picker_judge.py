"""Judges in the background which models fit, for the list that is shown.

Promises: the list never waits for it; what is known is told a few times a second; a newer list ends
the work on an older one; it ends with the widget. Leaves to others: the judging (`ModelEntry.fit`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from gguf_widgets.core.library import ModelEntry

__all__ = ["Judge"]

_TELL_EVERY_S = 0.4


class Judge:
    """One widget's judge.

    Parameters
    ----------
    tell : callable
        Called in the judging thread when there is something new to show.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._stop = threading.Event()

    def start(self, entries: Sequence[ModelEntry]) -> None:
        """Judge these from now on, and no others; entries that are judged cost nothing."""
        self._stop.set()
        self._stop = threading.Event()
        todo = [
            entry
            for entry in entries
            if entry.info is not None and entry.machine.judged(entry.path) is None
        ]
        if todo:
            thread = threading.Thread(
                target=self._run, args=(todo, self._stop), name="ModelPicker-judge", daemon=True
            )
            thread.start()

    def close(self) -> None:
        """End the work."""
        self._stop.set()

    def _run(self, todo: Sequence[ModelEntry], stop: threading.Event) -> None:
        told = time.monotonic()
        for entry in todo:
            if stop.is_set():
                return
            _ = entry.fit  # it is kept with the list
            if time.monotonic() - told >= _TELL_EVERY_S:
                told = time.monotonic()
                self._tell()
        if not stop.is_set():
            self._tell()
