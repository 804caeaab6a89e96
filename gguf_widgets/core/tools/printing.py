"""What one thread prints, caught without touching what the others print.

Promises: while `Printed` is entered, ``print`` and writes to ``sys.stdout`` and ``sys.stderr`` of
that thread go to it, at most `MAX_PRINTED` characters with a word when more came; every other
thread's go where they went before. When nobody is caught any more, ``sys.stdout`` is what it was.
Leaves to others: threads that the thread starts itself, and native code that writes to the file.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Self

__all__ = ["MAX_PRINTED", "Printed"]

MAX_PRINTED = 100_000
_STREAMS = ("stdout", "stderr")

_lock = threading.RLock()
_caught: dict[int, Printed] = {}
_routers: dict[str, _Router] = {}


class Printed:
    """Catches what the thread prints that enters it; `text` may be read by any thread."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._thread: int | None = None

    @property
    def text(self) -> str:
        """What has been printed so far."""
        with _lock:
            text = "".join(self._pieces)
            more = self._length - len(text)
        return f"{text}\n[{more:,} more characters were printed]" if more else text

    def write(self, text: str) -> None:
        """Take what was printed."""
        with _lock:
            kept = text[: max(0, MAX_PRINTED - self._length)]
            self._length += len(text)
            if kept:
                self._pieces.append(kept)

    def __enter__(self) -> Self:
        with _lock:
            self._thread = threading.get_ident()
            _caught[self._thread] = self
            for name in _STREAMS:
                if not isinstance(getattr(sys, name), _Router):
                    _routers[name] = _Router(getattr(sys, name))
                    setattr(sys, name, _routers[name])
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Catch no more; any thread may call this, for one that will not come back."""
        with _lock:
            if self._thread is None or _caught.get(self._thread) is not self:
                return
            del _caught[self._thread]
            if _caught:
                return
            for name in _STREAMS:
                router = _routers.pop(name, None)
                # Somebody may have put another in its place meanwhile; then that one stays.
                if router is not None and getattr(sys, name) is router:
                    setattr(sys, name, router.behind)


class _Router:
    """Stands for a stream: sends what a caught thread writes to its `Printed`."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind

    def write(self, text: str) -> int:
        catcher = _caught.get(threading.get_ident())
        if catcher is not None:
            catcher.write(str(text))
            return len(text)
        return int(self.behind.write(text) or 0) if self.behind is not None else len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self.behind is not None and threading.get_ident() not in _caught:
            self.behind.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)
