"""A connection to a worker, from the notebook's side.

Promises: one thread owns the socket, so nobody else ever waits for it; every request gets exactly
one terminal message, also when the worker dies, stops answering or says goodbye; a request is taken
back when nobody holds its answer any more. Leaves to others: finding or starting the worker
(`attach`), starting it again (`link`), what a request means (`core.model`).

Nothing of the engine is imported here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from gguf_widgets.core.errors import (
    GgufWidgetsError,
    LoadCancelledError,
    ProtocolError,
    WorkerBusyError,
    WorkerDiedError,
    WorkerError,
    from_wire,
    to_wire,
)
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.types import Failed
from gguf_widgets.core.worker import framing, protocol, registry, spawn
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.score_messages import ScoreTaken

__all__ = ["Progress", "Sink", "WorkerClient"]

Progress = Callable[[float, str], object]
"""Takes how far the loading is (0 to 1) and a phrase; answering False stops the loading."""

# While something is expected, the worker is asked for a sign of life after this much silence ...
PING_AFTER_S = 5.0
# ... and given up after this much. Its loop answers at once even while the engine computes.
GIVE_UP_AFTER_S = 30.0

# What may wait to be sent; more means that the worker does not read.
_MAX_UNSENT_BYTES = 256 * 1024 * 1024
_RETRY_AFTER_S = 5.0

_RECEIVE_BYTES = 256 * 1024

_NEXT = "Your conversation is safe; the next message starts it again."


class Sink(Protocol):
    """Who gets the messages of one request; called on the client's thread, so it must be quick."""

    def deliver(self, message: Any) -> None:
        """Take the next message; the last one is of a class in `protocol.TERMINAL`."""


class _FutureSink:
    """Turns the one answer of a small request into a future."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def deliver(self, message: Any) -> None:
        if isinstance(message, Failed):
            self.future.set_exception(from_wire(message.error))
        else:
            self.future.set_result(message)


class WorkerClient:
    """A connection that has shaken hands; made by `handshake.connect`.

    Attributes
    ----------
    entry : Entry
    pid : int
    backend : str
    """

    _all: weakref.WeakSet[WorkerClient] = weakref.WeakSet()

    def __init__(
        self,
        connection: socket.socket,
        entry: Entry,
        welcome: protocol.Welcome,
        reader: framing.FrameReader,
        early: list[bytes],
    ) -> None:
        self.entry = entry
        self.pid = welcome.pid
        self.backend = welcome.backend
        self._client_id = welcome.client_id
        self._ids = itertools.count(1)
        self._connection = connection
        self._reader = reader
        self._early = early
        self._pending: dict[str, Sink] = {}
        self._lock = threading.Lock()  # of `_pending` and `_end`
        self._end: GgufWidgetsError | None = None
        # What other threads, and the garbage collector, leave for the thread that owns the socket.
        # SimpleQueue.put may be interrupted by itself, which a finalizer needs.
        self._commands: queue.SimpleQueue[bytes | protocol.Abort | None] = queue.SimpleQueue()
        self._unsent = bytearray()
        self._last_heard = time.monotonic()
        self._last_turn = self._last_heard
        self._last_ping = 0.0
        self._loading = threading.Condition()
        self._progress: protocol.LoadProgress | None = None
        self.ready: protocol.Ready | None = None
        self._goodbye: protocol.Goodbye | None = None
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        connection.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, name=f"gguf-widgets-client-{self.pid}", daemon=True
        )
        WorkerClient._all.add(self)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<WorkerClient of process {self.pid}, {'open' if self.alive else 'closed'}>"

    # --- any thread ---

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return self._end is None

    def wait_ready(self, on_progress: Progress | None = None) -> protocol.Ready:
        """Wait until the model is loaded.

        Raises
        ------
        ModelLoadError, ModelFileError, MissingDependencyError
            What the worker reports.
        LoadCancelledError
            If `on_progress` answered False.
        WorkerDiedError
            If the worker ends or says nothing for too long.
        """
        try:
            return self._wait_ready(on_progress)
        except BaseException:
            # The end of the connection is what tells a loading worker that nobody waits here any
            # more. One that is ready in this very moment is told that it is not wanted.
            if self.ready is None:
                self.close()
            else:
                self.leave()
            raise

    def submit(self, make: Callable[[str], Any], sink: Sink) -> str:
        """Send a request; `make` gets its id. Return the id.

        Raises
        ------
        WorkerError
            If the connection has ended; nothing was sent then.
        InvalidValueError
            If the request cannot be sent.
        WorkerBusyError
            If too much waits to be sent already.
        """
        if self._end is not None:  # before the lock: in a forked child nobody may release it
            raise _copy(self._end)
        request_id = f"{self._client_id}-{next(self._ids)}"
        frame = framing.encode(make(request_id))
        if len(self._unsent) > _MAX_UNSENT_BYTES:
            raise WorkerBusyError(
                f"{format_bytes(len(self._unsent))} wait to be sent to the model, which does not "
                f"take them; at most {format_bytes(_MAX_UNSENT_BYTES)} can wait. Try again later.",
                scope="connection",
                unit="bytes",
                open=len(self._unsent),
                limit=_MAX_UNSENT_BYTES,
                retry_after_s=_RETRY_AFTER_S,
            )
        with self._lock:
            if self._end is not None:
                raise _copy(self._end)
            self._pending[request_id] = sink
        self._put(frame)
        return request_id

    def call(self, make: Callable[[str], Any]) -> Future[Any]:
        """Send a request that has one answer; its error, if any, is the future's exception."""
        sink = _FutureSink()
        self.submit(make, sink)
        return sink.future

    def abort(self, request_id: str) -> None:
        """Take a request back; safe in a finalizer, and for a request that has ended."""
        if self._end is None:
            self._put(protocol.Abort(request_id=request_id))

    def score_taken(self, request_id: str, num_pieces: int = 1) -> None:
        """Let a request for scores go on: so many of its pieces have been taken."""
        if self._end is None:
            self._send(ScoreTaken(request_id=request_id, num_pieces=num_pieces))

    def leave(self, timeout_s: float = 10.0) -> bool:
        """Say that this process is done with the model, and wait for what comes of it.

        Returns
        -------
        bool
            Whether the worker ended, its memory given back, because nobody else uses it.
        """
        return self._say_goodbye(protocol.Leave(), timeout_s)

    def stop_worker(self, reason: str, timeout_s: float = 10.0) -> bool:
        """End the worker whoever uses it; return whether it is gone."""
        return self._say_goodbye(protocol.Stop(reason=reason), timeout_s)

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait for the end of a worker that has died or said goodbye; return whether it is gone."""
        self._thread.join(timeout_s)
        return spawn.wait_gone(self.entry, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """End this connection; open requests fail. May be called twice."""
        self._commands.put(None)
        self._wake()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    # --- inside, any thread ---

    def _wait_ready(self, on_progress: Progress | None) -> protocol.Ready:
        shown = None
        while True:
            with self._loading:
                if self.ready is None and self._end is None and self._progress is shown:
                    self._loading.wait(0.5)  # short, so that an interrupt gets through
                ready, end, progress = self.ready, self._end, self._progress
            if progress is not None and progress is not shown:
                shown = progress
                if (
                    on_progress is not None
                    and on_progress(progress.fraction, progress.phrase) is False
                ):
                    raise LoadCancelledError("The loading was stopped.", cancelled=True)
            if ready is not None:
                return ready
            if end is not None:
                raise _copy(end)

    def _say_goodbye(self, message: Any, timeout_s: float) -> bool:
        if self._end is None:
            self._send(message)
            self._thread.join(timeout_s)
            self.close()
        if self._goodbye is not None and not self._goodbye.ending:
            return False
        return spawn.wait_gone(self.entry, timeout_s)

    def _send(self, message: Any) -> None:
        self._put(framing.encode(message))

    def _put(self, command: bytes | protocol.Abort) -> None:
        self._commands.put(command)
        self._wake()

    def _wake(self) -> None:
        # A full pipe has woken the thread already; a closed one needs no waking.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")

    # --- the client's thread ---

    def _run(self) -> None:
        end: GgufWidgetsError
        try:
            end = self._serve()
        except (OSError, GgufWidgetsError) as error:
            end = error if isinstance(error, GgufWidgetsError) else self._how_it_ended()
        except BaseException as error:  # a fault of ours must not leave anybody waiting
            end = WorkerError(f"The connection to the model failed: {error!r}.")
            self._finish(end)
            raise
        self._finish(end)

    def _serve(self) -> GgufWidgetsError:
        """Move bytes both ways until the end; return why it ended."""
        for payload in self._early:
            self._receive(framing.decode_server_message(payload))
        self._early.clear()
        connection = self._connection
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(connection, selectors.EVENT_READ)
            wants_write = False
            while True:
                ready = {key.fileobj for key, _ in selector.select(self._patience())}
                if self._wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_read.recv(4096)
                if not self._take_commands():
                    return WorkerError("The connection to the model was closed.")
                self._send_unsent()
                if bool(self._unsent) != wants_write:
                    wants_write = not wants_write
                    interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_write else 0)
                    selector.modify(connection, interest)
                if connection in ready:
                    with contextlib.suppress(BlockingIOError):
                        data = connection.recv(_RECEIVE_BYTES)
                        if not data:
                            return self._how_it_ended()
                        self._last_heard = time.monotonic()
                        for payload in self._reader.feed(data):
                            self._receive(framing.decode_server_message(payload))
                self._check_life()

    def _send_unsent(self) -> None:
        if not self._unsent:
            return
        try:
            del self._unsent[: self._connection.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            # The worker has closed. Its goodbye may still be there to be read, then comes the end.
            self._unsent.clear()

    def _take_commands(self) -> bool:
        """Collect what is to be sent; return False when the connection is to be closed."""
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return True
            if command is None:
                return False
            # A finalizer leaves the message itself: encoding belongs in no finalizer.
            self._unsent += command if isinstance(command, bytes) else framing.encode(command)

    def _expects_something(self) -> bool:
        return bool(self._pending) or self.ready is None

    def _patience(self) -> float | None:
        return min(1.0, PING_AFTER_S / 2) if self._expects_something() else None

    def _check_life(self) -> None:
        now = time.monotonic()
        stalled = now - self._last_turn
        self._last_turn = now
        if not self._expects_something():
            self._last_heard = now
            return
        if stalled > 2.0:
            # It was this process that stood still (suspended, or long native code in a cell); what
            # the worker said meanwhile has not been read yet.
            self._last_heard = min(now, self._last_heard + stalled)
        silent = now - self._last_heard
        if silent > GIVE_UP_AFTER_S:
            raise WorkerDiedError(
                "The process that runs the model has not answered for "
                f"{silent:.0f} seconds, so it was given up. {_NEXT}",
                pid=self.pid,
            )
        if silent > PING_AFTER_S and now - self._last_ping > PING_AFTER_S:
            self._last_ping = now
            self._send(protocol.Ping(nonce=0))

    def _receive(self, message: Any) -> None:
        if isinstance(message, protocol.Pong):
            return
        if isinstance(message, protocol.LoadProgress):
            with self._loading:
                self._progress = message
                self._loading.notify_all()
        elif isinstance(message, protocol.Ready):
            with self._loading:
                self.ready = message
                self._loading.notify_all()
        elif isinstance(message, protocol.LoadFailed):
            raise from_wire(message.error)
        elif isinstance(message, protocol.Goodbye):
            self._goodbye = message
            with self._lock:
                # From now on nothing is sent here; what is open still gets its end.
                self._end = self._how_it_ended()
        elif isinstance(message, protocol.Welcome | protocol.Refused):
            raise ProtocolError("The worker shook hands twice.")
        else:
            with self._lock:
                if isinstance(message, protocol.TERMINAL):
                    sink = self._pending.pop(message.request_id, None)
                else:
                    sink = self._pending.get(message.request_id)
            if sink is not None:
                sink.deliver(message)

    def _how_it_ended(self) -> GgufWidgetsError:
        if self._goodbye is not None:
            return WorkerDiedError(
                f"The model was stopped: {self._goodbye.reason}. {_NEXT}", pid=self.pid
            )
        if self.ready is None:
            doing = "It ended while it was loading the model; nothing else is affected."
        else:
            doing = _NEXT
        error = spawn.died(self.pid, self.entry.log_path, doing)
        if not registry.is_alive(self.entry):
            registry.remove(self.entry)  # it could not do that itself
        return error

    def _finish(self, end: GgufWidgetsError) -> None:
        """Close the socket, then tell everyone who waits, each once."""
        for end_of_pipe in (self._connection, self._wake_read, self._wake_write):
            end_of_pipe.close()
        with self._lock:
            self._end = end = self._end or end
            pending = dict(self._pending)
            self._pending.clear()
        with self._loading:
            self._loading.notify_all()
        wire = to_wire(end)
        for request_id, sink in pending.items():
            sink.deliver(Failed(request_id=request_id, error=wire))


def _copy(error: GgufWidgetsError) -> GgufWidgetsError:
    # One exception object must not be raised in several threads: each would add its traceback.
    return from_wire(to_wire(error))


def _forget_in_child() -> None:
    """Close a forked child's copies of the sockets, so that it does not keep workers alive."""
    for client in list(WorkerClient._all):  # noqa: SLF001 - this module's own class
        client._end = WorkerError(  # noqa: SLF001
            "This connection belongs to the process that this one was forked from."
        )
        for end_of_pipe in (client._connection, client._wake_read, client._wake_write):  # noqa: SLF001
            end_of_pipe.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
