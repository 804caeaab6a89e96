"""Many requests from one thread: each is sent at once, and its end is told.

Promises: what is told is told once, a reply or an error; a request can be taken back at any moment.
Leaves to others: the requests that a person waits for (`text_stream`), how many there should be at
once (whoever asks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gguf_widgets.core.errors import GgufWidgetsError, from_wire
from gguf_widgets.core.request_events import Tap
from gguf_widgets.core.types import Failed, Finished, Reply
from gguf_widgets.core.worker.client import WorkerClient

__all__ = ["OnEnd", "Submitted"]

OnEnd = Callable[[Reply | GgufWidgetsError], None]
"""Called with the end of a request, in a thread that has other things to do: return at once."""


class Submitted:
    """A request that is on its way; made by `Model.submit`.

    Parameters
    ----------
    client : WorkerClient
    make : callable
        Makes the request from its id.
    on_end : callable
    tap : Tap, optional
        Hears the messages on their way here.
    """

    def __init__(
        self,
        client: WorkerClient,
        make: Callable[[str], Any],
        on_end: OnEnd,
        tap: Tap | None = None,
    ) -> None:
        self._client = client
        self._on_end: OnEnd | None = on_end
        sink = self if tap is None else tap.before(self, client)
        self.request_id = client.submit(make, sink)
        if tap is not None:
            tap.sent(self.request_id)

    def deliver(self, message: Any) -> None:
        """Take a message of the worker."""
        end: Reply | GgufWidgetsError
        if isinstance(message, Finished):
            end = message.reply
        elif isinstance(message, Failed):
            end = from_wire(message.error)
        else:
            return
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(end)

    def stop(self) -> None:
        """Ask the model to stop; the end still comes ("aborted"). Any thread may call this."""
        self._client.abort(self.request_id)
