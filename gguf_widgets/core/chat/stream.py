"""The text of one answer as an iterator, and of those that follow on the results of tools.

Promises: an iterator that was dropped stops its answer. Leaves to others: the answer
(`answer`).
"""

from __future__ import annotations

import contextlib
import queue
from typing import Self

from gguf_widgets.core.chat.answer import Answer
from gguf_widgets.core.chat.tools import ToolLoop
from gguf_widgets.core.types import Reply, TextDelta

__all__ = ["ChatStream"]


class ChatStream:
    """The text of one answer as it arrives; what `ChatInterface.stream` returns.

    Where the model asks for tools, the text of the answers after their results follows.

    Closing it before the end, by hand, by ``with`` or by dropping it, stops the answer; what had
    arrived is kept in the conversation.
    """

    def __init__(
        self, answer: Answer, deltas: queue.SimpleQueue[TextDelta | None], tools: ToolLoop
    ) -> None:
        self._first = answer
        self._tools = tools
        self._deltas = deltas
        self._over = False

    @property
    def _answer(self) -> Answer:
        """The newest answer."""
        last: Answer = self._tools.last_of(self._first)
        return last

    @property
    def reply(self) -> Reply | None:
        """What came of the last answer, once it has ended well."""
        if not self._tools.is_over(self._first):
            return None
        future = self._answer.future
        return future.result() if future.done() and future.exception() is None else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TextDelta:
        if self._over:
            raise StopIteration
        try:
            delta = self._next()
        except KeyboardInterrupt:
            self.close()
            raise
        if delta is None:
            self._over = True
            self._answer.result()  # raises what it failed with
            raise StopIteration
        return delta

    def _next(self) -> TextDelta | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._deltas.get(timeout=0.5)
            if self._tools.is_over(self._first) and self._deltas.empty():
                return None  # its thread ended without a last word

    def close(self) -> None:
        """Stop the answer if it has not ended."""
        self._over = True
        if not self._tools.is_over(self._first):
            self._tools.stop()
            self._answer.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
