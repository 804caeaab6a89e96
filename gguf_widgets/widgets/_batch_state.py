"""A widget's state, sent to its pages part by part.

Promises: a part is sent when it differs from what was sent last; at most ten messages a second;
each has a number, so that a page that missed one notices and asks for all of it. Leaves to others:
what the parts are (`batch_table`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["StateFeed"]

_EVERY_S: Final = 0.1


class StateFeed:
    """Sends what has changed.

    Parameters
    ----------
    send : callable
        Takes a message.
    parts : callable
        Returns the whole state now, as a dict of parts in plain data.
    """

    def __init__(
        self, send: Callable[[dict[str, Any]], object], parts: Callable[[], dict[str, Any]]
    ) -> None:
        self._send, self._parts = send, parts
        self._sent: dict[str, Any] = {}
        self._sent_at = float("-inf")
        self.seq = 0

    def reset(self) -> None:
        """Send all of it the next time: a page has come."""
        self._sent, self._sent_at = {}, float("-inf")

    def tick(self) -> float | None:
        """Send what has changed, unless that was done just now; say when to be called again."""
        early = self._sent_at + _EVERY_S - time.monotonic()
        if early > 0:
            return early
        parts = self._parts()
        changed = {
            name: part
            for name, part in parts.items()
            if name not in self._sent or self._sent[name] != part
        }
        if changed:
            is_whole = not self._sent
            self._sent = parts
            self._sent_at = time.monotonic()
            self.seq += 1
            self._send({"kind": "state", "seq": self.seq, "whole": is_whole, "parts": changed})
        return None
