"""The queue of texts that become vectors, on an embedder that checks what it is told."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.engine.embedding import EmbeddingQueue, EmbedRequest
from gguf_widgets.core.engine.embedding_backend import EmbedderFacts, Piece
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.scripted import ScriptedBackend
from gguf_widgets.core.errors import (
    ContextOverflowError,
    DecodeError,
    GgufWidgetsError,
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import (
    GenerateRequest,
    LoadSettings,
    Pooling,
    SamplingSettings,
    TextDelta,
)

N_EMBD = 3


def rows_of(tokens: Sequence[int]) -> np.ndarray[Any, Any]:
    """Each token's vector: what it is, where it is, and all that went before it."""
    before = np.cumsum([(token + 1) * (place + 1) for place, token in enumerate(tokens)])
    places = np.arange(1, len(tokens) + 1)
    return np.stack([np.asarray(tokens) + 1.0, places, before], axis=1).astype(np.float32)


class FakeEmbedder:
    """Vectors that come out right only if each slot holds what it should."""

    def __init__(self, *, is_causal=True, n_ctx=40, n_batch=8, n_slots=3, room=16, can_cut=True):
        self.facts = EmbedderFacts(N_EMBD, n_ctx, Pooling.MEAN, is_causal)
        self.n_slots, self.n_batch = n_slots, n_batch
        self.room = self.usual_room = room
        self.can_cut = can_cut
        self.slots: list[list[int]] = [[] for _ in range(n_slots)]
        self.rows = np.zeros((0, N_EMBD), np.float32)
        self.interrupted = self.closed = False
        self.answers: list[int] = []  # what the next computes answer instead of doing their work
        self.poison: int | None = None  # a token that no compute survives
        self.batches: list[list[Piece]] = []
        self.refuses_over = n_ctx

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) for letter in text.strip()]

    def grow(self, num_tokens: int) -> None:
        assert not any(self.slots), "grown while texts are under way"
        if num_tokens > self.refuses_over:
            raise NotEnoughMemoryError("too long")
        self.room = max(self.room, num_tokens)

    def compute(self, pieces: Sequence[Piece]) -> int:
        self.batches.append(list(pieces))
        num_tokens = sum(len(piece.tokens) for piece in pieces)
        assert pieces
        assert all(piece.tokens for piece in pieces)
        assert len({piece.slot for piece in pieces}) == len(pieces)
        assert num_tokens <= self.n_batch or (len(pieces) == 1 and not self.facts.is_causal)
        for piece in pieces:
            assert len(self.slots[piece.slot]) == piece.start
            assert self.facts.is_causal or piece.start == 0, "a text that has to be whole came late"
        if self.answers:
            code = self.answers.pop(0)
            for piece in pieces[: code == 2]:  # interrupted half way
                self.slots[piece.slot] += piece.tokens
            return code
        if self.poison is not None and any(self.poison in piece.tokens for piece in pieces):
            return DecodeStatus.FAILED
        if self.interrupted:
            return DecodeStatus.ABORTED
        rows = []
        for piece in pieces:
            self.slots[piece.slot] += piece.tokens
            rows.append(rows_of(self.slots[piece.slot])[piece.start :])
        self.rows = np.concatenate(rows)
        used = sum(map(len, self.slots))
        assert used <= self.room or not self.facts.is_causal
        return DecodeStatus.OK

    def vectors(self, num_tokens: int) -> np.ndarray[Any, Any]:
        assert len(self.rows) == num_tokens
        return self.rows

    def forget(self, slot: int, start: int = 0) -> bool:
        if start and not self.can_cut:
            return False
        del self.slots[slot][start:]
        return True

    def rest(self) -> None:
        assert not any(self.slots)
        self.room = self.usual_room

    def interrupt(self) -> None:
        self.interrupted = True

    def clear_interrupt(self) -> None:
        self.interrupted = False

    def close(self) -> None:
        self.closed = True


class Answers(dict[str, Any]):
    """The answer of each request; a second one is a fault."""

    def request(self, name: str, texts: list[list[int]], client: str = "", **more) -> EmbedRequest:
        def deliver(answer: Any) -> None:
            assert name not in self, f"{name} was answered twice"
            self[name] = answer

        return EmbedRequest(
            request_id=name, client_id=client or name, texts=texts, deliver=deliver, **more
        )


def run(queue: EmbeddingQueue, limit: int = 10_000) -> int:
    steps = 0
    while queue.has_work:
        steps += 1
        assert steps < limit, "the queue does not come to an end"
        queue.step(busy=False)
    return steps


def expected(tokens: list[int], pooling: Pooling, normalize: bool) -> np.ndarray[Any, Any]:
    rows = rows_of(tokens).astype(np.float64)
    vector = {
        Pooling.MEAN: rows.mean(axis=0),
        Pooling.LAST: rows[-1],
        Pooling.CLS: rows[0],
    }[pooling]
    return vector / np.linalg.norm(vector) if normalize else vector


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_each_request_gets_one_answer_and_it_is_right(seed):
    draw = random.Random(seed)  # noqa: S311 - no secret
    causal = draw.random() < 0.6
    embedder = FakeEmbedder(
        is_causal=causal,
        n_batch=draw.choice([1, 4, 8]) if causal else 8,
        n_slots=draw.choice([1, 2, 5]),
        can_cut=draw.random() < 0.7,
    )
    queue = EmbeddingQueue(embedder)
    answers, requests, taken_back = Answers(), {}, set()
    for _ in range(150):
        dice = draw.random()
        if dice < 0.25:
            name = f"r{len(requests)}"
            texts = [
                [draw.randrange(99) for _ in range(draw.choice([1, 2, 7, 15, 40]))]
                for _ in range(draw.choice([0, 1, 1, 3, 9]))
            ]
            pooling = draw.choice([None, *embedder.facts.poolings])
            requests[name] = answers.request(
                name, texts, client=draw.choice("abc"), pooling=pooling,
                normalize=draw.random() < 0.5,
            )  # fmt: skip
            queue.add(requests[name])
        elif dice < 0.3 and requests:
            name = draw.choice(list(requests))
            if queue.abort(name):
                taken_back.add(name)
        elif dice < 0.35:
            queue.interrupt()
        elif dice < 0.45:
            # Two failures in a row could fall on one text alone, and it would be given up.
            embedder.answers.append(draw.choice([2, 2, 1, -1, -2]))
        else:
            queue.step(busy=draw.random() < 0.5)
    embedder.answers.clear()
    run(queue)
    assert set(answers) == set(requests)
    for name, request in requests.items():
        answer = answers[name]
        if isinstance(answer, GgufWidgetsError):
            told = RequestCancelledError if name in taken_back else DecodeError
            assert isinstance(answer, told)
            continue
        assert name not in taken_back
        assert answer.shape == (len(request.texts), N_EMBD)
        assert answer.dtype == np.float32
        for tokens, row in zip(request.texts, answer, strict=True):
            pooling = request.pooling or Pooling.MEAN
            assert np.allclose(row, expected(tokens, pooling, request.normalize), rtol=1e-5)
    assert embedder.slots == [[]] * embedder.n_slots
    assert embedder.room == embedder.usual_room
    assert queue.num_open == 0


def test_a_text_at_fault_costs_its_own_request_only_and_is_named():
    embedder = FakeEmbedder()
    queue, answers = EmbeddingQueue(embedder), Answers()
    embedder.poison = 77
    queue.add(answers.request("good", [[1, 2], [3]]))
    queue.add(answers.request("bad", [[4], [5, 77], [6]], first_index=100))
    queue.add(answers.request("also good", [[7]]))
    run(queue)
    assert isinstance(answers["bad"], DecodeError)
    assert answers["bad"].details == {"index": 101, "status": "failed"}
    assert answers["good"].shape == (2, N_EMBD)
    assert answers["also good"].shape == (1, N_EMBD)


def test_a_short_request_is_not_held_up_by_a_long_one():
    embedder = FakeEmbedder(n_slots=2)
    for other in ("the same client", "another"):
        queue, answers = EmbeddingQueue(embedder), Answers()
        queue.add(answers.request("long", [[1] * 8] * 100, client="the same client"))
        for _ in range(3):
            queue.step(busy=False)
        queue.add(answers.request("short", [[2, 3]], client=other))
        steps = 0
        while "short" not in answers:
            queue.step(busy=False)
            steps += 1
        assert steps <= 3
        run(queue)


def test_clients_get_the_same_number_of_texts_however_many_requests_they_have():
    embedder = FakeEmbedder(n_slots=1)
    queue, answers = EmbeddingQueue(embedder), Answers()
    for number in range(5):
        queue.add(answers.request(f"a{number}", [[1] * 8] * 4, client="a"))
    queue.add(answers.request("b", [[2] * 8] * 10, client="b"))
    for _ in range(20):
        queue.step(busy=False)
    firsts = [batch[0].tokens[0] for batch in embedder.batches]
    assert firsts.count(1) == firsts.count(2) == 10


def test_an_empty_list_and_what_is_refused():
    queue, answers = EmbeddingQueue(FakeEmbedder()), Answers()
    queue.add(answers.request("none", []))
    assert answers["none"].shape == (0, N_EMBD)
    assert not queue.has_work
    for texts in (["a", "", "b"], ["a", "  "]):
        with pytest.raises(InvalidValueError, match="index 8 is empty") as caught:
            queue.tokenize(texts, first_index=7)
        assert caught.value.details == {"index": 8}
    with pytest.raises(
        ContextOverflowError, match=r"index 5 is 41 tokens long.*room for 40"
    ) as long:
        queue.tokenize(["x" * 40, "x" * 41], first_index=4)
    assert long.value.details == {"index": 5, "n_tokens": 41, "n_ctx": 40, "excess": 1}
    with pytest.raises(InvalidValueError, match="'mean' or 'last'"):
        queue.add(answers.request("cls", [[1]], pooling=Pooling.CLS))
    with pytest.raises(UnsupportedByModelError, match="no vectors"):
        EmbeddingQueue(None).add(answers.request("demo", [[1]]))
    both_ways = EmbeddingQueue(FakeEmbedder(is_causal=False))
    both_ways.add(answers.request("cls", [[1, 2]], pooling=Pooling.CLS))
    run(both_ways)
    assert np.allclose(answers["cls"][0], expected([1, 2], Pooling.CLS, True))


def test_a_text_too_large_for_the_memory_is_refused_and_the_others_go_on():
    embedder = FakeEmbedder(is_causal=False)
    embedder.refuses_over = 20
    queue, answers = EmbeddingQueue(embedder), Answers()
    queue.add(answers.request("large", [[1] * 19, [1] * 30]))
    queue.add(answers.request("small", [[2]] * 5))
    run(queue)
    assert isinstance(answers["large"], NotEnoughMemoryError)
    assert answers["small"].shape == (5, N_EMBD)


def test_numbers_that_are_none_are_an_error():
    embedder = FakeEmbedder()
    queue, answers = EmbeddingQueue(embedder), Answers()
    queue.add(answers.request("a", [[1], [2]]))
    embedder.vectors = lambda n: np.full((n, N_EMBD), np.nan, np.float32)
    queue.step(busy=False)
    assert isinstance(answers["a"], DecodeError)
    assert "index 0" in answers["a"].message
    assert embedder.slots == [[]] * embedder.n_slots


def test_chats_and_vectors_share_an_engine_and_both_get_on():
    embedder = FakeEmbedder(n_batch=512, n_ctx=4000, room=4000)
    settings = LoadSettings(n_ctx=512, n_batch=64, n_seq_max=4)
    engine = Engine(ScriptedBackend(settings, lambda *_: ord("x"), embedder=embedder))
    answers = Answers()
    sampling = SamplingSettings(max_tokens=60)
    engine.add_request(
        GenerateRequest(
            request_id="chat", client_id="chat", prompt_tokens=[1, 2], sampling=sampling
        )
    )
    engine.step()
    engine.embedding.add(answers.request("many", [[1] * 300] * 100))
    texts = 0
    for step in range(1, 40):
        texts += sum(isinstance(event, TextDelta) for event in engine.step())
        assert texts >= step - 1  # one token a step, as without
        assert len(embedder.batches) == step
        assert sum(len(piece.tokens) for piece in embedder.batches[-1]) >= 16
    assert engine.abort("many")
    assert isinstance(answers["many"], RequestCancelledError)
    while engine.has_work:
        engine.step()
    engine.embedding.add(answers.request("late", [[1]], client="gone"))
    assert engine.abort_client("gone") == 1
    engine.close()
    assert embedder.closed


def test_interrupts_break_off_batches_and_can_hold_up_nobody_for_ever():
    embedder = FakeEmbedder(is_causal=False, n_ctx=4000, room=4000)
    queue, answers = EmbeddingQueue(embedder), Answers()
    compute = embedder.compute
    interrupts = 0

    def compute_and_be_interrupted(pieces: Sequence[Piece]) -> int:
        nonlocal interrupts
        interrupts += 1
        queue.interrupt()
        return compute(pieces)

    embedder.compute = compute_and_be_interrupted
    queue.add(answers.request("a", [[1, 2, 3], [4]]))
    queue.interrupt()  # in vain, before the batch
    assert run(queue) == 4  # three times; then it is let come to its end
    assert interrupts == 4
    assert np.allclose(answers["a"][0], expected([1, 2, 3], Pooling.MEAN, True))
    assert not embedder.interrupted
