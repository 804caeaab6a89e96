"""One client, as the worker sees it: bytes in, messages out.

Promises: a client that sends garbage loses its own connection and nothing else; one that reads
slowly is sent less often, with its text merged, and is read less often too, so that what the
worker keeps for it stays bounded; the worker never waits for it. Leaves to others: what the
messages cause (`server`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol, cast

from gguf_widgets.core.errors import InvalidValueError, ProtocolError, to_wire
from gguf_widgets.core.types import Failed
from gguf_widgets.core.worker import endpoint, framing, protocol
from gguf_widgets.core.worker.outbox import Outbox

__all__ = ["ClientConnection", "Service"]

_log = logging.getLogger(__name__)

# A client that has connected and says nothing is not kept; nor is one that only looks.
_HELLO_TIMEOUT_S = 10.0

# More than this many messages waiting: the client is not read until it has caught up.
_PAUSE_READING_AT = 512

# Messages are joined up to about this size before they are handed to the socket.
_WRITE_BYTES = 32 * 1024


class Service(Protocol):
    """What a connection needs from the server."""

    def hello(self, connection: ClientConnection, message: protocol.Hello) -> None:
        """Answer the first message: welcome the client, or refuse it."""

    def handle(self, connection: ClientConnection, message: protocol.ClientMessage) -> None:
        """Do what a message of a welcomed client asks."""

    def gone(self, connection: ClientConnection) -> None:
        """Forget a welcomed client whose connection has ended."""


class ClientConnection(asyncio.Protocol):
    """The asyncio side of one connection; every method runs on the server's loop.

    Attributes
    ----------
    client_id : str or None
        Set by the server when it welcomes the client.
    keep_alive_s : float or None
        How long the worker should stay if this client is the last to leave.
    message_bytes : int
        The size of the message that is being handled.
    pid, program : int, str
        Who it says it is.
    connected_at : float
    """

    def __init__(self, service: Service) -> None:
        self.client_id: str | None = None
        self.keep_alive_s: float | None = None
        self.message_bytes = 0
        self.program = ""
        self.pid = 0
        self.connected_at = time.monotonic()
        self._service = service
        self._reader = framing.FrameReader(framing.MAX_HELLO_BYTES)
        self._outbox = Outbox()
        self._transport: asyncio.Transport | None = None
        self._may_write = True
        self._reading = True
        self._flush_planned = False
        self._closing = False
        self._is_visitor = False
        self._loop = asyncio.get_running_loop()
        self._hello_timer: asyncio.TimerHandle | None = None

    # --- asyncio calls these ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who it is, and expect a Hello soon."""
        self._transport = cast("asyncio.Transport", transport)
        if not endpoint.peer_is_this_user(transport.get_extra_info("socket")):
            _log.warning("a connection of another user was closed")
            self.drop()
            return
        self._hello_timer = self._loop.call_later(_HELLO_TIMEOUT_S, self.drop)

    def data_received(self, data: bytes) -> None:
        """Handle every message that is now complete; garbage ends the connection."""
        try:
            for payload in self._reader.feed(data):
                if self._closing:
                    return
                self._payload(payload)
        except ProtocolError as error:
            _log.warning("client %s: %s", self.client_id or "(new)", error)
            self.drop()
        except Exception:  # noqa: BLE001 - logged, and its sender loses the connection
            # A fault of ours, met by one client's message, must not reach the others.
            _log.exception("client %s: its message failed", self.client_id)
            self.drop()

    def eof_received(self) -> bool:
        """Close our side too: half a connection is of no use."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the server once, whichever side closed."""
        self._closing = True
        self._stop_hello_timer()
        self._transport = None
        if self.client_id is not None:
            self._service.gone(self)
            self.client_id = None

    def pause_writing(self) -> None:
        """Keep what comes: the client reads more slowly than it is sent to."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Send what was kept."""
        self._may_write = True
        self._flush()

    # --- the server calls these ---

    def welcome(self, client_id: str, message: protocol.Welcome) -> None:
        """Accept the client under this id."""
        self.client_id = client_id
        self._stop_hello_timer()
        self._reader.limit = framing.MAX_MESSAGE_BYTES
        self.send(message)

    def receive_visitor(self, message: protocol.Welcome) -> None:
        """Accept somebody who only looks, for a short time; all they may say is Stop."""
        self._is_visitor = True
        self.send(message)

    def send(self, message: Any) -> None:
        """Send a message as soon as the client takes it."""
        if self._closing:
            return
        self._outbox.push(message)
        if not self._flush_planned and self._may_write:
            # Everything that one turn of the loop produces goes out in one write.
            self._flush_planned = True
            self._loop.call_soon(self._flush)
        if len(self._outbox) > _PAUSE_READING_AT and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def close(self) -> None:
        """Send what waits, then close; for a client that does not read, `drop` comes later."""
        if self._transport is not None and not self._closing:
            self._may_write = True
            self._flush()
            self._closing = True
            self._transport.close()

    def drop(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- inside ---

    def _payload(self, payload: bytes) -> None:
        self.message_bytes = len(payload)
        try:
            message = framing.decode_client_message(payload)
        except ProtocolError as error:
            request_id = framing.request_id_of(payload)
            if self.client_id is None or request_id is None:
                raise
            # Well-framed, answerable and unknown: a client newer than this worker, perhaps.
            self.send(Failed(request_id=request_id, error=to_wire(error)))
            return
        may_ask = self.client_id is not None
        if may_ask or (self._is_visitor and isinstance(message, protocol.Stop)):
            self._service.handle(self, message)
        elif isinstance(message, protocol.Hello) and not self._is_visitor:
            self._service.hello(self, message)
        else:
            raise ProtocolError("The first message was not a Hello.")

    def _flush(self) -> None:
        self._flush_planned = False
        transport = self._transport
        if transport is None or self._closing:
            return
        chunk = bytearray()
        while self._outbox and self._may_write:
            message = self._outbox.pop()
            try:
                chunk += framing.encode(message)
            except InvalidValueError as error:
                # An answer that cannot be sent is still answered, with the reason.
                request_id = getattr(message, "request_id", None)
                _log.error("cannot send a %s: %s", type(message).__name__, error)
                if request_id is None:
                    continue
                chunk += framing.encode(Failed(request_id=request_id, error=to_wire(error)))
            if len(chunk) > _WRITE_BYTES:
                transport.write(bytes(chunk))  # may call pause_writing
                chunk.clear()
        if chunk:
            transport.write(bytes(chunk))
        if not self._reading and len(self._outbox) < _PAUSE_READING_AT // 2:
            self._reading = True
            transport.resume_reading()

    def _stop_hello_timer(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None
