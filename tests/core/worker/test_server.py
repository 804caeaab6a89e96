"""A real worker against peers of every kind, over a raw socket."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.peer import STORY, Peer

from gguf_widgets.core.errors import from_wire
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    SamplingSettings,
    TextDelta,
)
from gguf_widgets.core.worker import endpoint, framing, protocol, registry
from gguf_widgets.core.worker.proof import proof_of
from gguf_widgets.core.worker.protocol import Prompt
from tests.core.conftest import wait_for


@pytest.fixture
def slowly(scripted: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is to be open when something happens to it: a story takes over a minute."""
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")


@pytest.fixture
def model(manager: ModelManager) -> Model:
    return manager.load()


@pytest.fixture
def peer(model: Model) -> Iterator[Peer]:
    with Peer() as peer:
        assert isinstance(peer.hello(), protocol.Welcome)
        yield peer


def test_a_request_is_answered_in_order_and_ends_once(peer: Peer) -> None:
    request_id = peer.generate(max_tokens=40)
    *deltas, finished = peer.until_terminal()
    assert isinstance(finished, Finished)
    assert finished.request_id == request_id
    texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
    assert "".join(texts) == finished.reply.text
    assert finished.reply.finish_reason is FinishReason.LENGTH
    peer.send(protocol.Ping(nonce=5))
    assert peer.receive() == protocol.Pong(nonce=5)


def test_a_request_that_cannot_be_is_answered_and_the_next_one_works(peer: Peer) -> None:
    def generate(prompt: Prompt) -> Callable[[str], Any]:
        return lambda request_id: protocol.Generate(
            request_id=request_id, prompt=prompt, sampling=SamplingSettings()
        )

    bad_template = Prompt(messages=STORY.messages, chat_template="{{ nothing.at.all }}")
    cases: list[tuple[Callable[[str], Any], str, str]] = [
        (generate(Prompt()), "InvalidValueError", "one of text, tokens"),
        (generate(Prompt(messages=[])), "InvalidValueError", "conversation is empty"),
        (generate(Prompt(tokens=[])), "InvalidValueError", "empty"),
        (generate(Prompt(tokens=[-5])), "InvalidValueError", "-5"),
        (generate(Prompt(tokens=[2**40])), "InvalidValueError", "1099511627776"),
        (generate(Prompt(tokens=[1] * 10_000)), "ContextOverflowError", "10,000"),
        (generate(bad_template), "ChatTemplateError", "template"),
        (
            lambda request_id: protocol.Generate(
                request_id=request_id, prompt=STORY, sampling=SamplingSettings(top_p=7)
            ),
            "InvalidValueError",
            "top_p is 7",
        ),
        (
            lambda request_id: protocol.Detokenize(request_id=request_id, tokens=[10**9]),
            "InvalidValueError",
            "1000000000",
        ),
    ]
    for number, (make, kind, words) in enumerate(cases):
        peer.send(make(f"{peer.id}-{number}"))
        (failed,) = peer.until_terminal()
        assert isinstance(failed, Failed)
        assert failed.error["kind"] == kind
        assert words in failed.error["message"]
    peer.generate(99, max_tokens=3)
    assert isinstance(peer.until_terminal()[-1], Finished)


@pytest.mark.usefixtures("slowly")
def test_a_foreign_or_doubled_request_id_is_refused_without_touching_the_first(
    peer: Peer,
) -> None:
    with Peer() as other:
        other.hello()
        mine = peer.generate(prompt=Prompt(text="long"), max_tokens=5000)
        other.send(protocol.Abort(request_id=mine))  # somebody else's: ignored
        other.send(protocol.Tokenize(request_id=mine, text="x"))
        (failed,) = other.until_terminal()
        assert "begins with the client's own id" in failed.error["message"]
        peer.send(protocol.Tokenize(request_id=mine, text="x"))
        messages = peer.until_terminal()
        assert isinstance(messages[-1], Failed)
        assert "in use" in messages[-1].error["message"]
        peer.send(protocol.Abort(request_id=mine))
        assert isinstance(peer.until_terminal()[-1], Finished)


def test_a_message_of_a_later_version_is_answered_by_an_error(peer: Peer) -> None:
    payload = msgspec.msgpack.encode({"type": "Embed", "request_id": f"{peer.id}-9"})
    peer.socket.sendall(len(payload).to_bytes(4, "big") + payload)
    (failed,) = peer.until_terminal()
    assert failed.request_id == f"{peer.id}-9"
    assert failed.error["kind"] == "ProtocolError"
    peer.generate(max_tokens=3)
    assert isinstance(peer.until_terminal()[-1], Finished)


def test_another_protocol_version_is_told_so_in_words(model: Model) -> None:
    with Peer() as peer:
        refused = peer.hello(protocol_version=protocol.PROTOCOL_VERSION + 1)
        assert isinstance(refused, protocol.Refused)
        assert "a newer gguf-widgets" in refused.error["message"]
        assert "restart that notebook" in str(from_wire(refused.error))
        assert peer.receive() is None


def test_whoever_does_not_begin_with_a_short_hello_is_cut_off(model: Model) -> None:
    strangers = [
        framing.encode(protocol.Stop(reason="I said so")),
        (framing.MAX_HELLO_BYTES + 1).to_bytes(4, "big"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"",
    ]
    for data in strangers:
        with Peer() as peer:
            peer.socket.sendall(data)
            peer.socket.shutdown(socket.SHUT_WR)
            assert peer.receive() is None
    assert model.chat("Hello").text


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=60,
)
@given(
    data=st.binary(min_size=1, max_size=200),
    welcomed=st.booleans(),
    framed=st.booleans(),
)
def test_garbage_costs_the_sender_its_connection_and_nobody_else_anything(
    model: Model, data: bytes, welcomed: bool, framed: bool
) -> None:
    with Peer() as peer:
        if welcomed:
            peer.hello()
        payload = len(data).to_bytes(4, "big") + data if framed else data
        peer.socket.sendall(payload)
        peer.socket.shutdown(socket.SHUT_WR)
        while peer.receive() is not None:
            pass
    assert model.tokenize("ab") == [97, 98]


def test_a_client_that_does_not_read_slows_nobody_and_gets_everything_in_the_end(
    model: Model,
) -> None:
    with Peer(receive_buffer=4096) as slow:
        slow.hello()
        num = 60
        for number in range(num):
            slow.generate(number, max_tokens=1500)
        # The others go on while nobody reads there.
        assert model.chat("Hello").finish_reason is FinishReason.STOP
        wait_for(lambda: model.stats().num_requests == 0, "all is computed", 80)
        before = model.stats().rss_bytes
        assert before < 300 * 2**20
        texts: dict[str, str] = {}
        deltas = 0
        ended = set()
        while len(ended) < num:
            message = slow.receive()
            assert message is not None
            if isinstance(message, TextDelta):
                deltas += 1
                texts[message.request_id] = texts.get(message.request_id, "") + message.text
            elif isinstance(message, Finished):
                assert message.request_id not in ended
                ended.add(message.request_id)
                assert texts[message.request_id] == message.reply.text
        # What waited was merged: far fewer messages than the 90,000 tokens.
        assert deltas < num * 1500 / 4


@pytest.mark.usefixtures("slowly")
def test_a_client_that_goes_away_takes_its_requests_with_it(model: Model) -> None:
    with Peer() as peer:
        peer.hello()
        for number in range(12):  # more than run at once
            peer.generate(number, prompt=Prompt(text="Tell me a story"), max_tokens=100_000)
        wait_for(lambda: model.stats().engine.num_running == 8, "as many run as can")
        wait_for(lambda: model.stats().num_requests == 12, "the others wait")

    def nothing_is_open() -> bool:
        stats = model.stats()
        engine = stats.engine
        return (stats.num_requests, engine.num_running, engine.num_waiting) == (0, 0, 0)

    wait_for(nothing_is_open, "its requests have gone with it")
    stats = model.stats()
    assert stats.engine.num_cells_used == 0
    assert stats.num_clients == 1


def test_too_many_open_requests_are_refused_and_the_open_ones_go_on(peer: Peer) -> None:
    for number in range(1025):
        peer.generate(number, max_tokens=1)
    failed = finished = 0
    for _ in range(1025):
        last = peer.until_terminal()[-1]
        failed += isinstance(last, Failed) and last.error["kind"] == "WorkerBusyError"
        finished += isinstance(last, Finished)
    assert finished >= 1024
    assert failed + finished == 1025


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_socket_is_private(model: Model) -> None:
    (entry,) = registry.list_workers()
    assert entry.address.path is not None
    path = Path(entry.address.path)
    assert _mode(path) == _mode(registry.entry_path(entry.name)) == 0o600
    assert _mode(path.parent) == 0o700


def test_without_unix_sockets_a_port_and_a_secret_do_the_same(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_TRANSPORT", "tcp")
    model = manager.load()
    assert model.chat("Hello", max_tokens=4).text
    (entry,) = registry.list_workers()
    assert entry.address.path is None
    assert entry.address.secret_path is not None
    assert _mode(Path(entry.address.secret_path)) == 0o600
    with Peer() as peer:
        refused = peer.hello(nonce="1", proof="0" * 64)
        assert isinstance(refused, protocol.Refused)
        assert "belongs to this user" in refused.error["message"]
    with Peer() as peer:
        secret = endpoint.read_secret(entry.address)
        answer = peer.hello(nonce="1", proof=proof_of(secret, "client", "1"))
        assert answer.proof == proof_of(secret, "worker", "1")
    assert ModelManager().is_running()
