"""The line between a browser and a server, in the test's hands: slow, cut, or led to another one.

Not a test and no fixture. A plain relay of TCP connections on a port of this machine. What goes up
(from the browser) is counted and can be slowed down, so that a cut comes where the test wants it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_BLOCK = 1 << 16


class Line:
    """A relay to a server's address; use it as a context manager.

    Parameters
    ----------
    url : str
        The server's own address.
    bytes_per_s : float, optional
        How much goes up in a second, over all connections.
    """

    def __init__(self, url: str, bytes_per_s: float | None = None) -> None:
        self._parts = urlsplit(url)
        self._target = self._parts.port
        self.bytes_per_s = bytes_per_s
        self.num_up = 0
        self._next = 0.0  # when the next block may go up
        self._is_cut = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The server's address as the browser is to use it."""
        port = self._listener.getsockname()[1]
        return urlunsplit(self._parts._replace(netloc=f"localhost:{port}"))

    def lead_to(self, url: str) -> None:
        """Let new connections go to another server."""
        self._target = urlsplit(url).port

    def cut(self) -> None:
        """Cut every connection, and let none through until `mend`."""
        with self._lock:
            self._is_cut = True
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                return
            far.settimeout(None)
            with far:
                with self._lock:
                    if self._is_cut:
                        return
                    self._open |= {near, far}
                down = threading.Thread(target=self._pump, args=(far, near, False), daemon=True)
                down.start()
                self._pump(near, far, True)
                down.join()
                with self._lock:
                    self._open -= {near, far}

    def _pump(self, source: socket.socket, sink: socket.socket, goes_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BLOCK):
                if goes_up:
                    self._slow_down(len(data))
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _slow_down(self, num_bytes: int) -> None:
        with self._lock:
            self.num_up += num_bytes
            now = time.monotonic()
            self._next = max(self._next, now)
            wait = self._next - now
            if self.bytes_per_s:
                self._next += num_bytes / self.bytes_per_s
        time.sleep(wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cut()
        self._listener.close()
