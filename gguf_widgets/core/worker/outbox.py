"""What waits to be sent to one client.

Promises: nothing is dropped and the order within a request is kept, however slowly the client
reads; text and progress that have not been sent yet are merged, so what waits grows with the text
itself and not with the number of messages. Leaves to others: when to send.
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.types import PrefillProgress, TextDelta, TokenLogprob
from gguf_widgets.core.worker.protocol import LoadProgress

__all__ = ["Outbox"]


class _Text:
    """The text of one request that waits."""

    __slots__ = ("logprobs", "num_completion_tokens", "parts")

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.num_completion_tokens = 0
        self.logprobs: list[TokenLogprob] = []


class Outbox:
    """An ordered queue of messages in which the text of one request stays one entry."""

    def __init__(self) -> None:
        # A dict keeps the order in which keys came, and finds what a new message merges with. A
        # delta never overtakes its request's earlier progress, nor a Finished its deltas, because
        # each kind's entry is made at its first message and only ever grows.
        self._items: dict[Any, Any] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._items)

    def push(self, message: Any) -> None:
        """Add a message, merging text and progress with what waits of the same request."""
        if isinstance(message, TextDelta):
            key = (TextDelta, message.request_id)
            waiting = self._items.get(key)
            if waiting is None:
                self._items[key] = waiting = _Text()
            waiting.parts.append(message.text)
            waiting.num_completion_tokens = message.num_completion_tokens
            waiting.logprobs += message.logprobs
        elif isinstance(message, PrefillProgress):
            self._items[PrefillProgress, message.request_id] = message
        elif isinstance(message, LoadProgress):
            self._items[LoadProgress] = message
        else:
            self._next += 1
            self._items[self._next] = message

    def pop(self) -> Any:
        """Take the oldest message.

        Raises
        ------
        LookupError
            If nothing waits.
        """
        if not self._items:
            raise LookupError("nothing waits to be sent")
        key = next(iter(self._items))
        item = self._items.pop(key)
        if isinstance(item, _Text):
            return TextDelta(
                request_id=key[1],
                text="".join(item.parts),
                num_completion_tokens=item.num_completion_tokens,
                logprobs=item.logprobs,
            )
        return item
