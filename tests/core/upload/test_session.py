"""Uploads over messages, with a page that a test makes misbehave; no browser."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.model_bytes import head_of, model_bytes, sha256_of

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.upload import Upload, UploadSession, UploadStore, part
from gguf_widgets.core.upload import session as module
from gguf_widgets.core.upload.session import MOST_HELD, PIECE_BYTES, WINDOW

SIZE = 3_000_000
PIECE = 100_000
DATA = model_bytes(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()
LONG_S = 60.0
ENDS = ("done", "error", "paused", "cancelled")


class Page:
    """What the page's side does by the protocol, over a channel that may lose and reorder."""

    def __init__(
        self,
        store: UploadStore,
        upload: Upload,
        *,
        channel: Callable[[Any], list[Any]] | None = None,
        patience_s: float = 0.05,
    ) -> None:
        self.upload = upload
        self._channel = channel or (lambda piece: [piece])
        self._news = threading.Condition()
        self._said: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.session = UploadSession(store, upload, self._hear, patience_s=patience_s)

    def _hear(self, message: dict[str, Any]) -> None:
        with self._news:
            self._said.append(message)
            self._news.notify()

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        with self._news:
            if not self._news.wait_for(lambda: self._said, timeout_s):
                return None
            message = self._said.pop(0)
        self.messages.append(message)
        return message

    def send_all(self, data: bytes = DATA, *, until: int | None = None) -> dict[str, Any]:
        """Send everything and return the last message; or all before byte `until`, acknowledged."""
        offset, seq, open_seqs = self.upload.send_from, 0, set()
        last = until if until is not None else len(data)
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            while len(open_seqs) < WINDOW and offset < last:
                piece = data[offset : min(offset + PIECE, last)]
                for one in self._channel((seq, offset, piece)):
                    self.session.feed(*one)
                open_seqs.add(seq)
                offset, seq = offset + len(piece), seq + 1
            message = self.next_message(0.3)
            if message is None:
                if offset >= last or open_seqs:
                    self.session.ask()
            elif message["type"] == "ack":
                open_seqs.discard(message["seq"])
                if until is not None and message["offset"] == until:
                    return message
            elif message["type"] in ("again", "wait"):
                open_seqs.clear()
                offset = message["offset"] if message["type"] == "again" else last
            elif message["type"] in ENDS:
                return message
        raise AssertionError(f"Not finished in {LONG_S:g} s: {self.messages[-5:]}")


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "models")


def begin(store: UploadStore, data: bytes = DATA, name: str = "m.gguf", **more: Any) -> Upload:
    return store.begin(name, len(data), head_of(data), **more)


def test_pieces_in_order_are_answered_in_order_and_the_file_is_the_same(
    store: UploadStore,
) -> None:
    page = Page(store, begin(store))
    last = page.send_all()
    acks = [message for message in page.messages if message["type"] == "ack"]
    assert [ack["seq"] for ack in acks] == list(range(30))
    assert [ack["offset"] for ack in acks] == list(range(PIECE, SIZE + 1, PIECE))
    assert all("writer" not in ack["upload"] for ack in acks)
    assert (last["type"], last["upload"]["state"], last["upload"]["sha256"]) == (
        "done",
        "done",
        DIGEST,
    )
    assert sha256_of(Path(last["upload"]["path"])) == DIGEST
    assert page.session.join(LONG_S)
    assert page.session.is_ended
    page.session.feed(99, 0, b"x")  # late, and of no effect
    page.session.cancel()


def test_pieces_in_another_order_are_put_right_without_sending_them_again(
    store: UploadStore,
) -> None:
    upload = begin(store)
    page = Page(store, upload, patience_s=LONG_S)
    for number in (3, 1, 2, 0):
        offset = number * PIECE
        page.session.feed(number, offset, DATA[offset : offset + PIECE])
    answers = [page.next_message(LONG_S) for _ in range(4)]
    assert [answer and (answer["type"], answer["seq"]) for answer in answers] == [
        ("ack", 0),
        ("ack", 1),
        ("ack", 2),
        ("ack", 3),
    ]
    page.session.close()
    assert page.session.join(LONG_S)


@pytest.mark.parametrize("seed", range(6))
def test_a_channel_that_loses_repeats_and_reorders_ends_in_the_same_file(
    store: UploadStore, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - it keeps no secret
    kept: list[Any] = []

    def channel(piece: Any) -> list[Any]:
        kept.append(piece)
        out = []
        while kept and rng.random() < 0.7:
            one = kept.pop(rng.randrange(len(kept)))
            if rng.random() > 0.1:
                out += [one] * (2 if rng.random() < 0.2 else 1)
        return out

    page = Page(store, begin(store), channel=channel)
    last = page.send_all()
    assert (last["type"], last["upload"]["sha256"]) == ("done", DIGEST), last
    assert any(message["type"] == "again" for message in page.messages)
    assert page.session.join(LONG_S)


def test_a_sender_that_ignores_the_window_fills_no_memory_and_still_arrives(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, most = threading.Event(), [0]
    real = part.OpenPart.append

    def slow(self: Any, data: memoryview) -> None:
        assert stuck.wait(LONG_S)
        real(self, data)

    monkeypatch.setattr(part.OpenPart, "append", slow)
    page = Page(store, begin(store))
    for seq, offset in enumerate(range(0, SIZE, PIECE)):
        page.session.feed(seq, offset, DATA[offset : offset + PIECE])
        held = page.session._inbox.qsize() + len(page.session._early)
        most[0] = max(most[0], held)
    assert most[0] <= MOST_HELD
    stuck.set()
    assert page.send_all()["upload"]["sha256"] == DIGEST


@pytest.mark.parametrize("order", ["pause", "cancel", "close"])
def test_pause_cancel_and_a_closed_page_end_the_session(store: UploadStore, order: str) -> None:
    page = Page(store, begin(store))
    page.send_all(until=1_000_000)
    getattr(page.session, order)()
    assert page.session.join(LONG_S)
    if order == "cancel":
        assert page.next_message(LONG_S) == {"type": "cancelled", "upload": None}
        assert store.uploads() == []
        return
    (upload,) = store.uploads()
    assert (upload.offset, upload.owner) == (1_000_000, None)
    if order == "pause":
        message = page.next_message(LONG_S)
        assert message is not None
        assert (message["type"], message["upload"]["state"]) == ("paused", "paused")
        again = store.resume(upload.id, writer=page.upload.writer)
    else:
        again = begin(store)  # nobody has to insist
    assert Page(store, again).send_all()["upload"]["sha256"] == DIGEST


def test_one_waits_for_the_other_and_then_goes_on_by_itself(store: UploadStore) -> None:
    other = model_bytes(SIZE, seed=1)
    first, second = Page(store, begin(store)), Page(store, begin(store, other, "n.gguf"))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(second.send_all(other)))
    thread.start()
    first.send_all(until=2_000_000)
    end = time.monotonic() + LONG_S
    while not any(message["type"] == "wait" for message in second.messages):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert not any(message["type"] == "ack" for message in second.messages)
    first.upload = store.status(first.upload.id)
    assert first.send_all()["type"] == "done"
    thread.join(LONG_S)
    assert results[0]["upload"]["sha256"] == hashlib.sha256(other).hexdigest()
    assert {message["place"] for message in second.messages if message["type"] == "wait"} == {1}


def test_what_goes_wrong_is_one_message_and_the_end(store: UploadStore) -> None:
    # A file that changed.
    page = Page(store, begin(store))
    page.send_all(until=500_000)
    page.session.feed(50, 400_000, bytes(PIECE))
    message = page.next_message(LONG_S)
    assert message is not None
    assert (message["type"], message["details"]["problem"]) == ("error", "changed")
    assert page.session.join(LONG_S)
    # A piece that is too long for a message.
    page = Page(store, begin(store, take_over=True))
    page.session.feed(0, 500_000, bytes(PIECE_BYTES + 1))
    message = page.next_message(LONG_S)
    assert message is not None
    assert (message["type"], message["details"]["problem"]) == ("error", "too_long")
    # Another page takes over.
    page = Page(store, begin(store, take_over=True))
    begin(store, take_over=True)
    page.session.feed(0, 500_000, DATA[500_000:600_000])
    message = page.next_message(LONG_S)
    assert message is not None
    assert message["details"]["problem"] == "taken_over"
    # A name that was taken under way.
    page = Page(store, begin(store, take_over=True))
    (store.models / "m.gguf").write_bytes(b"somebody's")
    last = page.send_all()
    assert (last["type"], last["details"]["suggestion"]) == ("error", "m (2).gguf")
    page = Page(store, begin(store, writer=page.upload.writer, save_as="m (2).gguf"))
    assert page.send_all()["upload"]["path"].endswith("m (2).gguf")


def test_without_the_right_to_write_there_is_no_session(store: UploadStore) -> None:
    upload = store.status(begin(store).id)
    with pytest.raises(UploadError, match="without the right"):
        UploadSession(store, upload, print)


def test_a_way_back_that_breaks_ends_the_session_and_keeps_what_arrived(
    store: UploadStore, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("the comm is closed")

    upload = begin(store)
    session = UploadSession(store, upload, broken)
    session.feed(0, 0, DATA[:PIECE])
    assert session.join(LONG_S)
    assert "the comm is closed" in caplog.text
    assert (store.status(upload.id).offset, store.status(upload.id).owner) == (PIECE, None)
    assert module.WINDOW == 4
