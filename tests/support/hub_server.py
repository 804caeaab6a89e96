"""A model hub, what delivers its files, and a plain web server: real sockets, real faults.

Not a test and no fixture. It speaks what huggingface_hub (2.4: ``hf_api.py``, ``file_download.py``)
asks for: ``/api/models`` with its search, ``/api/models/{repo}`` with and without ``/revision/``
and ``blobs``, ``/api/models/{repo}/tree/``, and ``/{repo}/resolve/{revision}/{path}``, which for a
large file answers with X-Repo-Commit, X-Linked-Etag, X-Linked-Size and leads to another host for
the bytes. Refusals carry X-Error-Code as the hub's do.

    with HubServer() as hub:
        hub.add("owner/repo", {"tiny-Q4_K_M.gguf": data})
        hub.fault(where="cdn", cut_after=1000)      # the next answer of that kind, once
        hub.requests                                 # all that was asked, in order
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import hashlib
import http.server
import json
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from support.gguf_writer import (
    F32,
    MODEL_TENSORS,
    Q8_0,
    Tensor,
    Typed,
    gguf_bytes,
    header_bytes,
    model_entries,
)

_MODIFIED = "Wed, 04 Nov 2026 10:00:00 GMT"


def model_file(
    num_bytes: int = 3_000_000, *, seed: int = 0, eight_bits: bool = False, **changes: Typed
) -> bytes:
    """Return a sound model of about that size; its weights are noise, so that any damage shows.

    With `eight_bits` it is the same model in another version, of a little over a quarter the size.
    """
    rows = max(1, num_bytes // (4 * 256))
    large = Tensor("blk.1.ffn_up.weight", (256, rows), F32)
    if eight_bits:
        large = large._replace(type_id=Q8_0, num_bytes=rows * 256 // 32 * 34)
    tensors = [*MODEL_TENSORS, large]
    return _filled(model_entries(**changes).items(), tensors, seed)


def split_files(name: str, count: int, *, seed: int = 0) -> dict[str, bytes]:
    """Return a model in several files: ``name-00001-of-0000N.gguf`` and so on."""
    files = {}
    for number in range(count):
        about = {
            "split.no": Typed("uint16", number),
            "split.count": Typed("uint16", count),
            "split.tensors.count": Typed("int32", count + 2),
        }
        entries = dict(about) if number else model_entries() | about
        tensors = [Tensor(f"blk.{number}.ffn_up.weight", (256, 400), F32)]
        tensors = tensors if number else [*MODEL_TENSORS[:2], *tensors]
        data = _filled(entries.items(), tensors, seed + number)
        files[f"{name}-{number + 1:05}-of-{count:05}.gguf"] = data
    return files


def projector_file() -> bytes:
    """Return a companion for images (mmproj)."""
    entries = {
        "general.architecture": Typed("string", "clip"),
        "general.type": Typed("string", "mmproj"),
    }
    return gguf_bytes(entries.items(), [Tensor("v.patch_embd.weight", (64, 64))])


def _filled(entries: Any, tensors: list[Tensor], seed: int) -> bytes:
    header, num_bytes = header_bytes(entries, tensors)
    noise = random.Random(seed).randbytes(num_bytes)  # noqa: S311 - no secret
    return header + b"\0" * (-len(header) % 32) + noise


@dataclasses.dataclass
class Fault:
    """How some answers differ from what they should be; the first that matches is used.

    Attributes
    ----------
    where : {"api", "resolve", "cdn", "web"}
    match : str
        A part of the path.
    times : int
        How many answers.
    status, headers : optional
        Answer with this, and nothing else.
    location : str, optional
        Lead there.
    cut_after : int, optional
        Close the connection after so many bytes of the body.
    stall_s : float
        Before closing, or before the first byte.
    content : bytes, optional
        Send this as the file.
    total : int, optional
        Lie about the whole length, in each header that has it.
    chunked : bool
        Announce no length.
    no_ranges, no_validators : bool
    etag : str, optional
    ignore_if_range : bool
    shift : int
        Answer with bytes from so much later in the file than was asked for.
    pace_s : float
        Wait so long between two pieces of 16 KiB.
    """

    where: str = "cdn"
    match: str = ""
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    location: str | None = None
    cut_after: int | None = None
    stall_s: float = 0.0
    content: bytes | None = None
    total: int | None = None
    chunked: bool = False
    no_ranges: bool = False
    no_validators: bool = False
    etag: str | None = None
    ignore_if_range: bool = False
    shift: int = 0
    pace_s: float = 0.0


@dataclasses.dataclass
class FakeRepo:
    """A repository of the hub."""

    files: dict[str, bytes]
    license: str = "apache-2.0"
    gated: str | bool = False
    token: str | None = None
    small: frozenset[str] = frozenset()
    lies: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for path, data in sorted(self.files.items()):
            digest.update(path.encode() + hashlib.sha256(data).digest())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    where: str
    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The hub, its delivery and a web server; use it as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, FakeRepo] = {}
        self.pages: dict[str, bytes] = {}
        self.page_headers: dict[str, dict[str, str]] = {}
        self.requests: list[Asked] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._servers = {name: _Server(self, name) for name in ("hub", "cdn", "web")}
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
        secure = self._servers["tls"] = _Server(self, "web", context)
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


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, name: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
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


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        where = self.server.name
        if where == "hub":
            where = "api" if path.startswith("/api/") else "resolve"
        headers = {key.lower(): value for key, value in self.headers.items()}
        hub.requests.append(Asked(where, self.command, self.path, headers))
        fault = hub.take_fault(where, self.path)
        if fault.status is not None or fault.location is not None:
            more = dict(fault.headers)
            if fault.location is not None:
                more["Location"] = fault.location
            if fault.stall_s:
                time.sleep(fault.stall_s)
            self._plain(fault.status or 302, b"", more)
        elif where == "api":
            self._api(path, headers, fault)
        elif where == "resolve":
            self._resolve(path, headers, fault)
        elif where == "cdn":
            data = hub.blob(path.rpartition("/")[2])
            self._send_or_404(data, f'"{path.rpartition("/")[2]}"', fault, {})
        else:
            data = hub.pages.get(path)
            etag = (
                f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
                if data is not None
                else ""
            )
            self._send_or_404(data, etag, fault, hub.page_headers.get(path, {}))

    # --- the hub ---

    def _api(self, path: str, headers: dict[str, str], fault: Fault) -> None:
        hub = self.server.hub
        if path == "/api/models":
            query = parse_qs(urlsplit(self.path).query)
            words = query.get("search", [""])[0].lower()
            limit = int(query.get("limit", ["1000"])[0])
            found = [
                self._summary(name, repo)
                for name, repo in hub.repos.items()
                if words in name.lower()
                and (query.get("filter") != ["gguf"] or any(".gguf" in p for p in repo.files))
            ]
            self._json(found[:limit], fault)
            return
        match = re.fullmatch(
            r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<rev>[^/]+))?", path
        )
        repo = self._allowed(match["repo"] if match else "", headers, reading=False)
        if match is None or repo is None:
            return
        if match["rev"] not in (None, "main", repo.commit):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {match['rev']}")
        elif match["what"] == "tree":
            self._json([self._entry(repo, p, "path", "oid") for p in repo.files], fault)
        else:
            spelled = next(key for key, one in hub.repos.items() if one is repo)
            answer = self._summary(spelled, repo)
            answer["siblings"] = [
                self._entry(repo, p, "rfilename", "blobId") for p in sorted(repo.files)
            ]
            self._json(answer, fault)

    def _summary(self, name: str, repo: FakeRepo) -> dict[str, Any]:
        return {
            "_id": "0" * 24,
            "id": name,
            "modelId": name,
            "sha": repo.commit,
            "gated": repo.gated,
            "private": False,
            "downloads": 1234,
            "likes": 5,
            "tags": ["gguf", f"license:{repo.license}"],
            "cardData": {"license": repo.license},
        }

    def _entry(self, repo: FakeRepo, path: str, name_key: str, id_key: str) -> dict[str, Any]:
        data = repo.files[path]
        git = git_sha1(data)
        entry: dict[str, Any] = {name_key: path, "size": len(data), id_key: git, "type": "file"}
        if path not in repo.small:
            digest = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"sha256": digest, "oid": digest, "size": len(data), "pointerSize": 133}
        lie = repo.lies.get(path, {})
        entry |= {k: v for k, v in lie.items() if k in entry and k != "sha256"}
        if "lfs" in entry:
            entry["lfs"] |= {k: v for k, v in lie.items() if k in entry["lfs"]}
        return entry

    def _allowed(self, name: str, headers: dict[str, str], *, reading: bool) -> FakeRepo | None:
        by_name = {key.casefold(): repo for key, repo in self.server.hub.repos.items()}
        repo = by_name.get(name.casefold())
        has_token = repo is not None and headers.get("authorization") == f"Bearer {repo.token}"
        if repo is None:
            self._refuse(404 if headers.get("authorization") else 401, "RepoNotFound", "Not found")
        elif repo.gated and reading and not has_token:
            self._refuse(403 if headers.get("authorization") else 401, "GatedRepo", "Restricted")
            repo = None
        elif repo.token and not repo.gated and not has_token:
            self._refuse(401, "RepoNotFound", "Repository not found")
            repo = None
        return repo

    def _resolve(self, path: str, headers: dict[str, str], fault: Fault) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo = self._allowed(match[1] if match else "", headers, reading=True)
        if match is None or repo is None:
            return
        data = repo.files.get(match[3])
        if match[2] not in ("main", repo.commit):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        elif data is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif match[3] in repo.small:
            git = git_sha1(data)
            self._send_or_404(data, f'"{git}"', fault, {"X-Repo-Commit": repo.commit})
        else:
            digest = hashlib.sha256(data).hexdigest()
            self._plain(
                302,
                b"",
                {
                    "Location": f"{self.server.hub.cdn_url}/repos/{digest}?signature=secret",
                    "X-Repo-Commit": repo.commit,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(data)),
                },
            )

    # --- answers ---

    def _json(self, value: Any, fault: Fault) -> None:
        body = fault.content if fault.content is not None else json.dumps(value).encode()
        if fault.stall_s:
            time.sleep(fault.stall_s)
        self._plain(200, body, {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._plain(status, json.dumps({"error": message}).encode(), headers)

    def _plain(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_or_404(
        self, data: bytes | None, etag: str, fault: Fault, more: Mapping[str, str]
    ) -> None:
        if data is None:
            self._plain(404, b"nothing here", {})
            return
        data = data if fault.content is None else fault.content
        if fault.content is not None:
            etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        etag = etag if fault.etag is None else fault.etag
        more = {"Content-Type": "application/octet-stream"} | dict(more)
        if not fault.no_validators:
            more = {"ETag": etag, "Last-Modified": _MODIFIED} | more
        span = self._range(len(data), etag, fault)
        if span is None:
            self._plain(416, b"", {"Content-Range": f"bytes */{len(data)}"} | more)
            return
        first, last, partial = span
        body = data[first : last + 1]
        total = len(data) if fault.total is None else fault.total
        self.send_response(206 if partial else 200)
        for name, value in more.items():
            self.send_header(name, value)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        if fault.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = len(body) if partial or fault.total is None else fault.total
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self._body(body, fault)
        if fault.total is not None and not partial:
            self.close_connection = True

    def _range(self, size: int, etag: str, fault: Fault) -> tuple[int, int, bool] | None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        guard = self.headers.get("If-Range")
        modified = self.server.hub.page_headers.get(urlsplit(self.path).path, {}).get(
            "Last-Modified", _MODIFIED
        )
        stale = guard is not None and guard not in (etag, modified) and not fault.ignore_if_range
        if wanted is None or fault.no_ranges or stale:
            return 0, size - 1, False
        first = int(wanted[1]) + fault.shift
        last = min(size - 1, int(wanted[2]) if wanted[2] else size - 1)
        return None if first >= size else (first, last, True)

    def _body(self, body: bytes, fault: Fault) -> None:
        cut = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        step = 1 << 14
        for start in range(0, cut, step):
            piece = body[start : min(start + step, cut)]
            if fault.chunked:
                piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
            self.wfile.write(piece)
            if fault.pace_s:
                time.sleep(fault.pace_s)
        if fault.cut_after is not None:
            if fault.stall_s:
                time.sleep(fault.stall_s)
            # A reset, not a polite end: what a lost connection looks like.
            linger = struct.pack("ii", 1, 0) if fault.cut_after % 2 else struct.pack("ii", 0, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif fault.chunked:
            self.wfile.write(b"0\r\n\r\n")


def files_below(folder: Path) -> set[str]:
    """Return all files below a folder by their relative paths, the downloads' records left out."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".json")
    }


def git_sha1(data: bytes) -> str:
    """Return git's own checksum of a file, which the hub has for what it keeps without LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def http_date(seconds_from_now: float) -> str:
    return email.utils.formatdate(time.time() + seconds_from_now, usegmt=True)
