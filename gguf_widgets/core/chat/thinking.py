"""How long a model thinks before it answers.

Promises: counts the time between pieces of text that belong to its thinking. Leaves to others: what
is thinking (`thinking`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gguf_widgets.core.thinking import ThinkingSplitter

__all__ = ["ThinkingTime", "thinking_is_over"]


class ThinkingTime:
    """The seconds of an answer's thinking, while it is being written.

    Parameters
    ----------
    opened : bool
        Whether the text begins inside thinking.
    clock : callable
        Seconds.
    """

    def __init__(
        self, *, opened: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._splitter = ThinkingSplitter(opened=opened)
        self._clock = clock
        self._is_inside = opened
        self._begun: float | None = None
        self._last = 0.0
        self._seconds = 0.0
        self._has_thought = False

    @property
    def seconds(self) -> float | None:
        """How long it has thought; None if it has not."""
        return self._seconds if self._has_thought else None

    def feed(self, text: str) -> None:
        """Take in a piece of text that has come just now."""
        now = self._clock()
        if self._begun is None:
            self._begun = self._last = now
        was_inside, restarts = self._is_inside, self._splitter.num_restarts
        self._splitter.feed(text)
        self._is_inside = self._splitter.is_thinking
        if self._splitter.num_restarts > restarts:
            # Only its end has told that all before it was thinking.
            self._seconds, self._has_thought = now - self._begun, True
        elif was_inside:
            self._seconds += now - self._last
        self._has_thought = self._has_thought or was_inside or self._is_inside
        self._last = now


def thinking_is_over(text: str, *, opened: bool = False) -> bool:
    """Return whether a text holds thinking that has ended."""
    splitter = ThinkingSplitter(opened=opened)
    splitter.feed(text)
    return not splitter.is_thinking and any(part.is_thinking for part in splitter.sections())
