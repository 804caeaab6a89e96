"""How a made-up hub, its delivery and a plain web server answer one request, faults included.

Not a test and no fixture: `hub_server` has the servers, this is what is said on their connections.
It speaks what huggingface_hub (2.4: ``hf_api.py``, ``file_download.py``) asks for: ``/api/models``
with its search, ``/api/models/{repo}`` with and without ``/revision/`` and ``blobs``,
``/api/models/{repo}/tree/``, and ``/{repo}/resolve/{revision}/{path}``, which for a large file
answers with X-Repo-Commit, X-Linked-Etag, X-Linked-Size and leads to another host for the bytes.
Refusals carry X-Error-Code as the hub's do.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_faults import Asked, FakeRepo, Fault
from support.hub_files import git_sha1

if TYPE_CHECKING:
    from support.hub_server import Server

_MODIFIED = "Wed, 04 Nov 2026 10:00:00 GMT"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

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
