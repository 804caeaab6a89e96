"""What a `ModelUploader` tells its pages, and a page that sends as the widget's own does.

Not a test and no fixture: import it as ``from support.uploader_page import Page, Wire``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.core.upload.session import PIECE_BYTES, WINDOW
from gguf_widgets.widgets.model_uploader import ModelUploader

WAIT_S = 60.0  # for whatever depends on how busy the machine is
HEAD = 65536


class Wire:
    """What a widget sends to its pages, and a way to wait for it."""

    def __init__(self, uploader: ModelUploader, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uploader = uploader
        self.sent: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        monkeypatch.setattr(uploader, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        with self.changed:
            self.sent.append(content)
            self.changed.notify_all()

    def wait(self, found: Callable[[dict[str, Any]], Any], since: int = 0) -> dict[str, Any]:
        """Return the first message that `found` likes."""
        end = time.monotonic() + WAIT_S
        with self.changed:
            while True:
                for message in self.sent[since:]:
                    if found(message):
                        return message
                assert self.changed.wait(end - time.monotonic()), self.sent[-10:]


class Page:
    """A page that sends as the widget's own does: a window of pieces, sent again when told so."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.wire = wire
        self.name = name
        self.number = 0
        self.upload: dict[str, Any] = {}
        self.session = ""

    def post(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> str:
        self.number += 1
        message = {"kind": kind, "mid": f"{self.name}{self.number:04}", "page": self.name}
        self.wire.uploader._on_page(self.wire.uploader, {**message, **content}, buffers or [])
        return str((message | content)["mid"])

    def ask(self, kind: str, buffers: list[Any] | None = None, **content: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        since = len(self.wire.sent)
        mid = self.post(kind, buffers, **content)
        return self.wire.wait(lambda one: one["kind"] == "answer" and one["mid"] == mid, since)

    def begin(self, path: Path, **more: Any) -> dict[str, Any]:
        with path.open("rb") as file:
            head = file.read(HEAD)
        told = {"name": path.name, "size": path.stat().st_size, "lastModified": 1_700_000_000_000}
        answer = self.ask("begin", [head], **{**told, **more})
        if "upload" in answer:
            self.upload, self.session = answer["upload"], answer["mid"]
        return answer

    def piece(self, data: bytes, seq: int, offset: int) -> None:
        self.post("piece", [memoryview(data)], session=self.session, seq=seq, offset=offset)

    def messages(self, since: int = 0) -> list[dict[str, Any]]:
        return [
            one["message"]
            for one in self.wire.sent[since:]
            if one["kind"] == "session" and one["session"] == self.session
        ]

    def hear(self, *types: str, since: int = 0) -> dict[str, Any]:
        """Wait for a message of this page's session."""
        return self.wire.wait(
            lambda one: (
                one["kind"] == "session"
                and one["session"] == self.session
                and one["message"]["type"] in types
            ),
            since,
        )["message"]

    def send_all(self, path: Path, until: int | None = None) -> dict[str, Any]:
        """Send the file with a window; return the last message of the session."""
        data = path.read_bytes()[:until]
        at, seq, read = self.upload["send_from"], 100, len(self.messages())
        flight: set[int] = set()
        end = time.monotonic() + WAIT_S
        while True:
            while at < len(data) and len(flight) < WINDOW:
                seq += 1
                flight.add(seq)
                self.piece(data[at : at + PIECE_BYTES], seq, at)
                at += len(data[at : at + PIECE_BYTES])
            if until is not None and at == len(data) and not flight:
                return {"type": "sent"}
            with self.wire.changed:
                new = self.messages()[read:]
                if not new:
                    assert self.wire.changed.wait(end - time.monotonic()), self.messages()
                    continue
            read += len(new)
            for message in new:
                kind = message["type"]
                if kind == "ack":
                    flight.discard(message["seq"])
                elif kind == "again":
                    at, flight = message["offset"], set()
                elif kind == "wait":
                    at, flight = len(data), {0}  # nothing until "again"
                elif kind != "checking":
                    return message
