"""Scores over a raw socket: what a client may ask, and what it takes at its own pace. About 6 s."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.peer import Peer
from support.tiny_embedding import write_bert, write_decoder

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Failed, Finished, ImagePart, Message
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.prompt import Prompt
from gguf_widgets.core.worker.score_messages import (
    MAX_SCORE_TOP,
    PIECES_AHEAD,
    GetVocabulary,
    Score,
    ScoreBegun,
    Scored,
    ScorePiece,
    ScoreTaken,
    VocabularyTold,
)
from tests.core.conftest import wait_for

TOKENS = [5 + number % 200 for number in range(1500)]


@pytest.fixture
def llama(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelManager]:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


@pytest.fixture
def model(llama: ModelManager, tmp_path: Path) -> Model:
    return llama.load(write_decoder(tmp_path / "writer.gguf"), n_ctx=512, n_batch=32)


@pytest.fixture
def peer(model: Model) -> Iterator[Peer]:
    with Peer() as peer:
        assert isinstance(peer.hello(), protocol.Welcome)
        yield peer


def says_nothing_more(peer: Peer) -> bool:
    return not peer.inbox and not select.select([peer.socket], [], [], 0.3)[0]


def read(peer: Peer, name: str) -> list[ScorePiece]:
    """Read to the end, each piece taken at once."""
    pieces = []
    while not isinstance(message := peer.receive(), Scored):
        assert isinstance(message, ScorePiece)
        pieces.append(message)
        peer.send(ScoreTaken(request_id=name))
    return pieces


def test_no_more_pieces_come_than_have_been_taken(model: Model, peer: Peer) -> None:
    name = f"{peer.id}-1"
    peer.send(Score(request_id=name, tokens=TOKENS, full=True, top=2, halves=False))
    begun = peer.receive()
    assert isinstance(begun, ScoreBegun)
    assert np.frombuffer(begun.tokens, "<i4").tolist() == TOKENS
    assert begun.num_scored == len(TOKENS) - 1
    pieces = [peer.receive() for _ in range(PIECES_AHEAD)]
    assert all(isinstance(piece, ScorePiece) for piece in pieces)
    assert says_nothing_more(peer)
    # The worker is free for others meanwhile, and for this one, too.
    assert model.chat("hello", max_tokens=5).usage.num_completion_tokens
    assert len(model.score("hello world").logprobs)
    peer.send(protocol.Ping(nonce=1))
    assert peer.receive() == protocol.Pong(nonce=1)
    # Taking a million at once is taking those that there are.
    peer.send(ScoreTaken(request_id=name, num_pieces=10**9))
    pieces += [peer.receive() for _ in range(PIECES_AHEAD)]
    assert says_nothing_more(peer)
    peer.send(ScoreTaken(request_id=name, num_pieces=-(10**9)))
    peer.send(ScoreTaken(request_id=f"{peer.id}-77"))
    assert says_nothing_more(peer)
    peer.send(ScoreTaken(request_id=name))
    pieces += read(peer, name)
    places = [piece.first + number for piece in pieces for number in range(piece.count)]
    assert places == list(range(1, len(TOKENS)))
    told: dict[int, str] = {}
    for piece in pieces:
        assert len(piece.logprobs) == 4 * piece.count
        assert len(piece.full) == 4 * piece.count * begun.n_vocab
        assert not told.keys() & dict(piece.texts).keys(), "a token's text was told twice"
        told |= dict(piece.texts)
        tops = np.frombuffer(piece.top_tokens, "<i4").reshape(piece.count, piece.num_top)
        assert set(tops.ravel().tolist()) <= told.keys()
    assert set(TOKENS[1:]) <= told.keys()


def test_what_nobody_reads_any_more_is_not_computed(model: Model, peer: Peer) -> None:
    for number in range(3):
        name = f"{peer.id}-{number}"
        peer.send(Score(request_id=name, tokens=TOKENS, full=True))
        assert isinstance(peer.receive(), ScoreBegun)
    wait_for(lambda: model.stats().num_requests == 3, "all three are open")
    peer.send(protocol.Abort(request_id=f"{peer.id}-1"))
    while not isinstance(message := peer.receive(), Failed):
        assert isinstance(message, ScorePiece)
    assert message.request_id == f"{peer.id}-1"
    assert message.error["kind"] == "RequestCancelledError"
    peer.hang_up()
    wait_for(lambda: model.stats().num_requests == 0, "nothing is left open")


def test_another_clients_pieces_cannot_be_taken(model: Model, peer: Peer) -> None:
    name = f"{peer.id}-1"
    peer.send(Score(request_id=name, tokens=TOKENS, full=True))
    for _ in range(1 + PIECES_AHEAD):
        peer.receive()
    with Peer() as other:
        assert isinstance(other.hello(), protocol.Welcome)
        other.send(ScoreTaken(request_id=name, num_pieces=2))
        other.send(protocol.Ping(nonce=1))
        assert other.receive() == protocol.Pong(nonce=1)
    assert says_nothing_more(peer)


def test_a_request_that_cannot_be_is_answered_in_words(peer: Peer) -> None:
    picture = [ImagePart(b"no image")]
    seen = Prompt(messages=[Message(role="user", content="", parts=picture)])
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "InvalidValueError", "one of both"),
        ({"text": "a", "tokens": [1]}, "InvalidValueError", "one of both"),
        ({"text": ""}, "InvalidValueError", "empty"),
        ({"tokens": []}, "InvalidValueError", "empty"),
        ({"tokens": [1]}, "InvalidValueError", "single token"),
        ({"tokens": [1, -1]}, "InvalidValueError", "-1"),
        ({"tokens": [1, 2**40]}, "InvalidValueError", "1099511627776"),
        ({"text": "a b", "top": -1}, "InvalidValueError", "from 0 to 1,000"),
        ({"text": "a b", "top": MAX_SCORE_TOP + 1}, "InvalidValueError", "top is 1001"),
        ({"text": "a b", "n_window": 7}, "InvalidValueError", "from 8 to 512"),
        ({"text": "a b", "n_window": 513}, "InvalidValueError", "from 8 to 512"),
        ({"text": "a b", "halves": True}, "InvalidValueError", "at least as long"),
        (
            {"text": "a b", "halves": True, "before": Prompt(text="x")},
            "InvalidValueError",
            "stands alone",
        ),
        ({"text": "a b", "before": Prompt()}, "InvalidValueError", "one of text, tokens"),
        ({"text": "a b", "before": Prompt(tokens=[10**6])}, "InvalidValueError", "1000000"),
        ({"text": "a b", "before": seen}, "UnsupportedByModelError", "images"),
        ({"tokens": [1] * 4_000_001}, "ContextOverflowError", "4,000,001"),
    ]
    for number, (fields, kind, words) in enumerate(cases):
        peer.send(Score(request_id=f"{peer.id}-{number}", **fields))
        (failed,) = peer.until_terminal()
        assert isinstance(failed, Failed)
        assert (failed.error["kind"], words) == (kind, words)
        assert words in failed.error["message"]
    peer.send(GetVocabulary(request_id=f"{peer.id}-99"))
    (told,) = peer.until_terminal()
    assert isinstance(told, VocabularyTold)
    assert told.facts.n_vocab > 200


def test_a_reply_goes_on_while_a_text_is_scored(model: Model, peer: Peer) -> None:
    """Both come to their ends, and neither waits for the other's."""
    name = f"{peer.id}-1"
    peer.send(Score(request_id=name, tokens=TOKENS * 4))
    reply = peer.generate(2, max_tokens=60, min_tokens=60, logprobs=0)
    order: list[str] = []
    while {"Scored", "Finished"} - set(order):
        message = peer.receive()
        assert not isinstance(message, Failed), message.error
        order.append(type(message).__name__)
        if isinstance(message, ScorePiece):
            peer.send(ScoreTaken(request_id=name))
        if isinstance(message, Finished):
            assert message.request_id == reply
    first, last = order.index("ScorePiece"), order.index("Scored")
    assert "TextDelta" in order[first:last]


@pytest.mark.parametrize(("write", "words"), [(write_bert, "embedding model"), (None, "Demo mode")])
def test_a_model_that_has_no_scores_says_so(
    llama: ModelManager,
    tmp_path: Path,
    write: Callable[[Path], Path] | None,
    words: str,
) -> None:
    if write is None:
        llama.load(backend="scripted")
    else:
        llama.load(write(tmp_path / "other.gguf"))
    with Peer() as peer:
        assert isinstance(peer.hello(), protocol.Welcome)
        peer.send(Score(request_id=f"{peer.id}-1", text="hello there"))
        (failed,) = peer.until_terminal()
        assert isinstance(failed, Failed)
        assert failed.error["kind"] == "UnsupportedByModelError"
        assert words in failed.error["message"]
        peer.send(GetVocabulary(request_id=f"{peer.id}-2"))
        assert isinstance(peer.until_terminal()[0], VocabularyTold)
