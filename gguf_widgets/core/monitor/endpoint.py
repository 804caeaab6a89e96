"""A small web server that shows a text at ``/metrics``, for Prometheus and its like.

Promises: it is off until it is started; unless told otherwise only this machine reaches it; it
answers reading and nothing else, to names of this machine only, a few at a time, each within
seconds; it ends within seconds, whoever is connected. Leaves to others: the text (`exposition`).
There is no password: who may reach the address may read the figures, and the names of models.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from gguf_widgets.core.errors import InvalidValueError, ServerStartError
from gguf_widgets.core.monitor.exposition import CONTENT_TYPE

__all__ = ["Endpoint"]

_PATH: Final = "/metrics"
_PATIENCE_S: Final = 5.0
_LONGEST_S: Final = 15.0
_MOST_AT_ONCE: Final = 8

_log = logging.getLogger(__name__)


class Endpoint:
    """The server; it runs in threads of its own until `close`.

    Parameters
    ----------
    text : callable
        Makes the text; called for each reader, in a thread of its own.
    host : str
    port : int
        0: any that is free.

    Attributes
    ----------
    address : str
        What to tell Prometheus: ``http://127.0.0.1:PORT/metrics``.

    Raises
    ------
    InvalidValueError
        The port is none.
    ServerStartError
        The address is taken, or is not this machine's.
    """

    def __init__(self, text: Callable[[], str], host: str, port: int) -> None:
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise InvalidValueError(
                f"port is {port!r}; it must be from 0 (any that is free) to 65535.", value=port
            )
        if not isinstance(host, str) or not host:
            raise InvalidValueError(
                f'host is {host!r}; give an address of this machine: "127.0.0.1".', value=str(host)
            )
        try:
            self._server = _Server((host, port), text)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ServerStartError(
                f"The figures cannot be served at {host}, port {port}: {reason}. Choose another "
                "port, or 0 for any that is free.",
                host=host,
                port=port,
            ) from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._server.server_address[1]}{_PATH}"
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.5},
            name="gguf-widgets-monitor-endpoint",
            daemon=True,
        )
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_PATIENCE_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # After an end the port can be had again at once; on Windows this means something else.
    allow_reuse_address = os.name != "nt"
    request_queue_size = 16

    def __init__(self, address: tuple[str, int], text: Callable[[], str]) -> None:
        self.text = text
        self._room = threading.BoundedSemaphore(_MOST_AT_ONCE)
        self._open: set[socket.socket] = set()
        host = address[0]
        if ":" in host:
            self.address_family = socket.AF_INET6
        # Only a server for this machine alone knows by what names it is called.
        self.only_local = _is_local(host)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the network for this machine's name and may wait long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._gone(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Each single wait is bounded; somebody who sends a letter every second is as well.
        end = threading.Timer(_LONGEST_S, _cut, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._gone(request)

    def server_close(self) -> None:
        super().server_close()
        for request in list(self._open):
            _cut(request)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        _log.info("A reader of the figures at %s went away", client_address, exc_info=True)

    def _gone(self, request: Any) -> None:
        self._open.discard(request)
        self._room.release()


class _Handler(BaseHTTPRequestHandler):
    server_version = "gguf-widgets"
    sys_version = ""
    timeout: ClassVar[float] = _PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with the figures."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without them."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        # A page of some other site that calls itself by a name which leads here must not read this.
        if self.server.only_local and not _is_local(_name_of(self.headers.get("Host", ""))):
            self.send_error(403, "This address answers to this machine only")
            return
        if self.path.partition("?")[0] != _PATH:
            self.send_error(404, f"The figures are at {_PATH}")
            return
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, template: str, *values: Any) -> None:
        _log.debug("Figures: %s", template % values)


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        request.shutdown(socket.SHUT_RDWR)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    return host.rpartition(":")[0] if host.count(":") == 1 else host
