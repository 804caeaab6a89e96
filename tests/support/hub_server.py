"""A model hub, what delivers its files, and a plain web server: real sockets, real faults.

Not a test and no fixture. What they say is in `hub_answers`.

    with HubServer() as hub:
        hub.add("owner/repo", {"tiny-Q4_K_M.gguf": data})
        hub.fault(where="cdn", cut_after=1000)      # the next answer of that kind, once
        hub.requests                                 # all that was asked, in order
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.server
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Self

from support.hub_answers import Handler
from support.hub_faults import Asked, FakeRepo, Fault
from support.hub_files import files_below, git_sha1, model_file, projector_file, split_files

__all__ = [
    "Asked",
    "FakeRepo",
    "Fault",
    "HubServer",
    "Server",
    "files_below",
    "git_sha1",
    "http_date",
    "model_file",
    "projector_file",
    "split_files",
]


class HubServer:
    """The hub, its delivery and a web server; use it as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.pages: dict[str, bytes] = {}
        self.page_headers: dict[str, dict[str, str]] = {}
        self.requests: list[Asked] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._servers = {name: Server(self, name) for name in ("hub", "cdn", "web")}
        self.url = self._servers["hub"].url
        self.cdn_url = self._servers["cdn"].url
        self.web_url = self._servers["web"].url

    def __enter__(self) -> Self:
        for server in self._servers.values():
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.stop()

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> FakeRepo:
        self.repos[name] = FakeRepo(files, **options)
        return self.repos[name]

    def page(self, path: str, data: bytes, **headers: str) -> str:
        """Put a file on the web server, and return its address."""
        self.pages[path] = data
        self.page_headers[path] = {k.replace("_", "-"): v for k, v in headers.items()}
        return f"{self.web_url}{path}"

    def over_tls(self, certificate: Path, key: Path) -> str:
        """Have the web server answer over TLS as well, and return where."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        secure = self._servers["tls"] = Server(self, "web", context)
        secure.start()
        return f"https://localhost:{secure.server_address[1]}"

    def fault(self, **options: Any) -> Fault:
        fault = Fault(**options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def hang_up(self) -> None:
        """End all connections, those that hang as well."""
        for server in self._servers.values():
            server.hang_up()

    def mend(self) -> None:
        """Take all faults back."""
        with self._lock:
            self._faults.clear()

    def take_fault(self, where: str, path: str) -> Fault:
        with self._lock:
            for fault in self._faults:
                if fault.where == where and fault.match in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return Fault(where)

    def asked(self, where: str, match: str = "", method: str = "GET") -> list[Asked]:
        return [
            one
            for one in self.requests
            if one.where == where and match in one.path and one.method == method
        ]

    def blob(self, digest: str) -> bytes | None:
        return next(
            (
                data
                for repo in self.repos.values()
                for data in repo.files.values()
                if hashlib.sha256(data).hexdigest() == digest
            ),
            None,
        )


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, name: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._tls = tls
        self.hub = hub
        self.name = name
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._open: set[socket.socket] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[Any, Any]:
        request, address = super().get_request()
        if self._tls is not None:
            # The handshake is left to the thread of the request.
            request = self._tls.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        return request, address

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients go away in the middle of an answer all the time here."""


def http_date(seconds_from_now: float) -> str:
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)
