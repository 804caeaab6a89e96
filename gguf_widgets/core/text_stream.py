"""A reply while it arrives, to be read in a loop or with ``async for``.

Promises: the texts of a stream joined are its reply's text; it ends once, with the reply or with
one error; one that is closed, left early or forgotten takes its request back, so the model does not
go on writing for nobody. Leaves to others: asking (`core.model`), the socket (`worker.client`).
"""

from __future__ import annotations

import asyncio
import queue
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from gguf_widgets.core.errors import InvalidValueError, WireError, WorkerDiedError, from_wire
from gguf_widgets.core.request_events import Tap
from gguf_widgets.core.types import (
    Failed,
    Finished,
    ImageProgress,
    PrefillProgress,
    Reply,
    TextDelta,
)
from gguf_widgets.core.worker.client import WorkerClient

__all__ = ["AsyncTextStream", "TextStream"]

# A wait is cut into pieces of this length, so that an interrupt gets through on every system and a
# connection that has ended is noticed.
_SLICE_S = 0.5


class _Inbox:
    """Where the client's thread puts the messages of one request.

    The client holds this and not the stream, so that a stream nobody holds can be collected.
    """

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.closed = False
        self.on_message: Callable[[], None] | None = None

    def deliver(self, message: Any) -> None:
        if not self.closed:
            self.messages.put(message)
        notify = self.on_message
        if notify is not None:
            notify()


class TextStream:
    """The pieces of a reply, in order; made by `Model.stream`.

    Parameters
    ----------
    client : WorkerClient
    make : callable
        Makes the request from its id.
    tap : Tap, optional
        Hears the messages on their way here.

    Attributes
    ----------
    request_id : str
    progress : PrefillProgress or None
        How much of the prompt has been computed; None before the first word of it.
    image_progress : ImageProgress or None
        How much of the image that was read last has been read.
    text : str
        What has been read so far, also after an error.

    Examples
    --------
    >>> with model.stream("Tell me a story about Emma.") as stream:  # doctest: +SKIP
    ...     for delta in stream:
    ...         print(delta, end="")
    >>> stream.reply.timings.ttft_s  # doctest: +SKIP
    """

    def __init__(
        self, client: WorkerClient, make: Callable[[str], Any], tap: Tap | None = None
    ) -> None:
        self.progress: PrefillProgress | None = None
        self.image_progress: ImageProgress | None = None
        self._texts: list[str] = []
        self._reply: Reply | None = None
        self._error: WireError | None = None
        self._client = client
        self._inbox = _Inbox()
        sink = self._inbox if tap is None else tap.before(self._inbox, client)
        self.request_id = client.submit(make, sink)
        if tap is not None:
            tap.sent(self.request_id)
        self._forgotten = weakref.finalize(self, _take_back, client, self.request_id, self._inbox)
        self._forgotten.atexit = False  # the connection's end says the same

    def __repr__(self) -> str:
        if self._reply is not None:
            state = f"ended ({self._reply.finish_reason})"
        elif self._error is not None:
            state = f"failed ({self._error['kind']})"
        else:
            state = "closed" if self._inbox.closed else "open"
        return f"<TextStream {self.request_id}, {state}, {len(self.text)} characters>"

    @property
    def text(self) -> str:
        """What has been read so far."""
        return "".join(self._texts)

    @property
    def ended(self) -> bool:
        """Whether the end has been read: the reply, or an error."""
        return self._reply is not None or self._error is not None

    @property
    def reply(self) -> Reply:
        """The whole reply, once the stream has been read to its end.

        Raises
        ------
        InvalidValueError
            Before the end.
        GgufWidgetsError
            The error that the stream ended with.
        """
        if self._error is not None:
            raise from_wire(self._error)
        if self._reply is None:
            raise InvalidValueError(
                "The reply is not complete yet. Read the stream to its end first, or call result()."
            )
        return self._reply

    def stop(self) -> None:
        """Ask the model to stop; what it had written still comes, then the end ("aborted").

        Any thread may call this.
        """
        if not self.ended:
            self._client.abort(self.request_id)

    def close(self) -> None:
        """Take the request back and read nothing more; after the end this does nothing."""
        self._forgotten()

    def result(self) -> Reply:
        """Read the rest and return the reply.

        An interrupt while this waits takes the request back.
        """
        try:
            for _ in self:
                pass
        except BaseException:
            self.close()
            raise
        return self.reply

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TextDelta:
        while not self.ended and not self._inbox.closed:
            delta = self._take(self._wait())
            if delta is not None:
                return delta
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- inside ---

    def _take(self, message: Any) -> TextDelta | None:
        """Take a message in; return it if it is text."""
        if isinstance(message, TextDelta):
            self._texts.append(message.text)
            return message
        if isinstance(message, PrefillProgress):
            self.progress = message
        elif isinstance(message, ImageProgress):
            self.image_progress = message
        elif isinstance(message, Finished):
            self._reply = message.reply
            self._forgotten.detach()
        elif isinstance(message, Failed):
            self._error = message.error
            self._forgotten.detach()
            raise from_wire(message.error)
        return None

    def _wait(self) -> Any:
        while True:
            try:
                return self._inbox.messages.get(timeout=_SLICE_S)
            except queue.Empty:
                self._check_connection()

    def _check_connection(self) -> None:
        # The client answers every request when it ends, so this is a second line of defence.
        if not self._client.alive and self._inbox.messages.empty():
            error = WorkerDiedError("The connection to the model ended without an answer.")
            self._error = {"kind": "WorkerDiedError", "message": error.message, "details": {}}
            raise error

    async def _wait_async(self) -> Any:
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()
        inbox = self._inbox

        def notify() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:  # the loop has ended; nobody waits there any more
                inbox.on_message = None

        inbox.on_message = notify
        try:
            while True:
                arrived.clear()
                try:
                    return inbox.messages.get_nowait()
                except queue.Empty:
                    pass
                try:
                    # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes
                    # in the moment when the event is set.
                    async with asyncio.timeout(_SLICE_S):
                        await arrived.wait()
                except TimeoutError:
                    self._check_connection()
        finally:
            inbox.on_message = None


class AsyncTextStream:
    """The same for ``async for``; made by `Model.astream`. The request is sent at the first step.

    Parameters
    ----------
    open_stream : callable
        Returns the stream; it may take long if the worker has to be started again, so it is called
        in another thread.
    """

    def __init__(self, open_stream: Callable[[], TextStream]) -> None:
        self._open = open_stream
        self._stream: TextStream | None = None
        self._closed = False

    @property
    def text(self) -> str:
        """What has been read so far."""
        return self._stream.text if self._stream is not None else ""

    @property
    def progress(self) -> PrefillProgress | None:
        """How much of the prompt has been computed; see `TextStream.progress`."""
        return self._stream.progress if self._stream is not None else None

    @property
    def image_progress(self) -> ImageProgress | None:
        """How much of an image has been read; see `TextStream.image_progress`."""
        return self._stream.image_progress if self._stream is not None else None

    @property
    def reply(self) -> Reply:
        """The whole reply, once the stream has been read to its end; see `TextStream.reply`."""
        if self._stream is None:
            raise InvalidValueError("The stream has not been read yet.")
        return self._stream.reply

    def stop(self) -> None:
        """Ask the model to stop; see `TextStream.stop`."""
        if self._stream is not None:
            self._stream.stop()

    async def aclose(self) -> None:
        """Take the request back and read nothing more."""
        self._closed = True
        if self._stream is not None:
            self._stream.close()

    async def result(self) -> Reply:
        """Read the rest and return the reply; a cancelled task takes the request back."""
        async with self:
            async for _ in self:
                pass
        return self.reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TextDelta:
        if self._stream is None and not self._closed:
            # If this task is cancelled meanwhile, nobody holds the stream: it takes itself back.
            self._stream = await asyncio.to_thread(self._open)
        stream = self._stream
        while stream is not None and not self._closed and not stream.ended:
            delta = stream._take(await stream._wait_async())  # noqa: SLF001 - two halves of one thing
            if delta is not None:
                return delta
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def _take_back(client: WorkerClient, request_id: str, inbox: _Inbox) -> None:
    """End a request nobody reads; the garbage collector calls this, so it only leaves a note."""
    inbox.closed = True
    client.abort(request_id)
