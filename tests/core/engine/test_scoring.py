"""The queue of texts that are scored, on a scorer that checks what it is told. About 2 s."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from gguf_widgets.core.engine import scoring
from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.score_windows import Window, plan_windows
from gguf_widgets.core.engine.scoring import ScoreEnd, ScoreRequest, ScoreRows, ScoringQueue
from gguf_widgets.core.engine.scripted import ScriptedBackend
from gguf_widgets.core.errors import (
    DecodeError,
    GgufWidgetsError,
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import GenerateRequest, LoadSettings, SamplingSettings, TextDelta

N_VOCAB = 7


def logits_after(tokens: Sequence[int]) -> np.ndarray[Any, Any]:
    """What this model says after some tokens: all of them count, and their order."""
    seed = 0
    for token in tokens:
        seed = (seed * 31 + token + 1) % 1_000_003
    return np.random.default_rng(seed).normal(0, 3, N_VOCAB).astype(np.float32)


class FakeScorer:
    """Logits that come out right only if the memory holds what it should."""

    def __init__(self, *, n_ctx=64, n_batch=8, n_outputs=4, can_cut=True):
        self.n_vocab, self.n_ctx = N_VOCAB, n_ctx
        self.n_batch, self.n_outputs = n_batch, n_outputs
        self.room = 0
        self.can_cut = can_cut
        self.memory: list[int] = []
        self.rows: list[np.ndarray[Any, Any]] = []
        self.answers: list[int] = []  # what the next computes answer instead of doing their work
        self.interrupted = self.closed = False
        self.sizes: list[int] = []
        self.poison: int | None = None  # after this token the numbers are none
        self.refuses_over = n_ctx
        self.num_rests = 0

    def grow(self, num_tokens: int) -> None:
        assert not self.memory, "grown while a text is under way"
        if num_tokens > self.refuses_over:
            raise NotEnoughMemoryError("too long")
        self.room = max(self.room, num_tokens)

    def compute(self, start: int, tokens: Sequence[int], first_output: int) -> int:
        assert start == len(self.memory)
        assert 0 < len(tokens) <= self.n_batch
        assert len(tokens) - first_output <= self.n_outputs
        assert start + len(tokens) <= self.room
        self.sizes.append(len(tokens))
        if self.answers:
            code = self.answers.pop(0)
            self.memory += tokens[: len(tokens) // 2 if code == 2 else 0]
            return code
        if self.interrupted:
            return DecodeStatus.ABORTED
        self.rows = []
        for number, token in enumerate(tokens):
            self.memory.append(token)
            row = logits_after(self.memory)
            if token == self.poison:
                row[3] = np.nan
            if number >= first_output:
                self.rows.append(row)
        return DecodeStatus.OK

    def logits(self, num_outputs: int) -> np.ndarray[Any, Any]:
        assert num_outputs == len(self.rows)
        return np.array(self.rows)

    def forget(self, start: int = 0) -> bool:
        if start and not self.can_cut:
            return False
        del self.memory[start:]
        return True

    def rest(self) -> None:
        self.memory.clear()
        self.room = 0
        self.num_rests += 1

    def interrupt(self) -> None:
        self.interrupted = True

    def clear_interrupt(self) -> None:
        self.interrupted = False

    def close(self) -> None:
        self.closed = True


class Answers(dict[str, list[Any]]):
    """What came of each request: rows, then one end; anything after it is a fault."""

    def request(
        self,
        name: str,
        tokens: Sequence[int],
        n_window=16,
        client="",
        halves=False,
        first=1,
        **more,
    ) -> ScoreRequest:
        self[name] = []

        def deliver(answer: Any) -> None:
            assert all(isinstance(one, ScoreRows) for one in self[name]), f"{name}: after its end"
            self[name].append(answer)

        return ScoreRequest(
            request_id=name,
            client_id=client or name,
            tokens=tokens,
            windows=plan_windows(len(tokens), n_window, halves=halves, first=first),
            deliver=deliver,
            **more,
        )

    def ended(self, name: str) -> bool:
        return bool(self[name]) and not isinstance(self[name][-1], ScoreRows)


def expected(request: ScoreRequest) -> dict[int, np.ndarray[Any, Any]]:
    """The distribution at each scored place, from the tokens alone."""
    found = {}
    for window in request.windows:
        for place in range(window.first, window.end):
            before = list(request.tokens[window.start : place])
            if window.start and request.bos >= 0:
                before[0] = request.bos
            row = logits_after(before).astype(np.float64)
            found[place] = row - np.logaddexp.reduce(row)
    return found


def check(request: ScoreRequest, answers: list[Any]) -> None:
    right = expected(request)
    *pieces, end = answers
    assert end == ScoreEnd(len(right))
    places = []
    for rows in pieces:
        assert len(rows) > 0
        for number in range(len(rows)):
            place = rows.first + number
            places.append(place)
            row = right[place]
            assert rows.logprobs[number] == pytest.approx(row[request.tokens[place]], abs=1e-5)
            best = np.argsort(-row, kind="stable")[: request.top]
            assert rows.top_tokens[number].tolist() == best.tolist()
            np.testing.assert_allclose(rows.top_logprobs[number], row[best], atol=1e-5)
            if request.full:
                np.testing.assert_allclose(rows.full[number], row, atol=1e-5)
            else:
                assert rows.full is None
    assert places == list(right)


def run(queue: ScoringQueue, answers: Answers, limit: int = 10_000) -> None:
    """Step until all have ended; each piece is taken as soon as it comes."""
    for _ in range(limit):
        if not queue.has_work:
            break
        before = {name: len(pieces) for name, pieces in answers.items()}
        queue.step(busy=False)
        for name, pieces in answers.items():
            queue.more(name, len(pieces) - before[name])
    assert not queue.num_open


@pytest.mark.parametrize("can_cut", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_the_scores_are_right_whatever_else_happens(seed: int, can_cut: bool) -> None:
    chance = random.Random(seed)  # noqa: S311
    scorer = FakeScorer(
        n_batch=chance.choice([4, 8, 16]), n_outputs=chance.choice([1, 3, 4]), can_cut=can_cut
    )
    queue, answers = ScoringQueue(scorer), Answers()
    requests: dict[str, ScoreRequest] = {}
    taken: dict[str, int] = {}
    aborted: set[str] = set()
    steps = 0
    while len(requests) < 8 or not all(map(answers.ended, requests)):
        steps += 1
        assert steps < 20_000
        if len(requests) < 8 and chance.random() < 0.3:
            name = f"r{len(requests)}"
            request = answers.request(
                name,
                [chance.randrange(N_VOCAB) for _ in range(chance.randint(2, 60))],
                n_window=chance.choice([8, 16, 24]),
                client=f"c{chance.randrange(3)}",
                top=chance.choice([0, 1, 3]),
                full=chance.random() < 0.5,
                bos=chance.choice([-1, 0]),
                credit=chance.choice([1, 2, 4]),
            )
            requests[name], taken[name] = request, 0
            queue.add(request)
        name = chance.choice(list(requests) or [""])
        if name and chance.random() < 0.5:  # a reader that takes some of what there is
            there = sum(isinstance(one, ScoreRows) for one in answers[name]) - taken[name]
            some = chance.randint(0, there)
            queue.more(name, some)
            taken[name] += some
        if name and chance.random() < 0.01 and not answers.ended(name):
            assert queue.abort(name)
            aborted.add(name)
        if chance.random() < 0.1:
            queue.interrupt()
        queue.step(busy=chance.random() < 0.5)
        for name, request in requests.items():
            open_pieces = sum(isinstance(one, ScoreRows) for one in answers[name]) - taken[name]
            assert open_pieces <= request.credit, "more pieces than the reader has room for"
    for name, request in requests.items():
        if name in aborted:
            assert isinstance(answers[name][-1], RequestCancelledError)
        else:
            check(request, answers[name])
    assert not queue.num_open
    assert not scorer.memory
    assert scorer.num_rests


def test_a_request_that_is_not_read_rests_and_holds_up_nobody() -> None:
    scorer = FakeScorer()
    queue, answers = ScoringQueue(scorer), Answers()
    slow = answers.request("slow", [1, 2, 3] * 10, n_window=32, credit=1)
    queue.add(slow)
    queue.step(busy=False)
    assert len(answers["slow"]) == 1
    assert not queue.has_work  # the engine's thread may sleep
    num_computed = len(scorer.sizes)
    queue.step(busy=False)
    assert len(scorer.sizes) == num_computed
    # Another one comes, in the middle of the slow one's window, and gets its scores.
    other = answers.request("other", [3, 2, 1] * 5)
    queue.add(other)
    while not answers.ended("other"):
        queue.step(busy=False)
    check(other, answers["other"])
    # The slow one goes on where it was, and no credit can be hoarded.
    queue.more("slow", 1_000_000)
    queue.step(busy=False)
    queue.step(busy=False)
    assert len(answers["slow"]) == 2
    queue.more("slow", -5)
    assert not queue.has_work
    queue.more("slow", 1)
    run(queue, answers)
    check(slow, answers["slow"])


def test_clients_take_turns_window_by_window() -> None:
    queue, answers = ScoringQueue(FakeScorer()), Answers()
    for name, client in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        queue.add(answers.request(name, [1] * 65, n_window=16, client=client))
    windows: list[str] = []
    while queue.has_work:
        before = {name: len(pieces) for name, pieces in answers.items()}
        queue.step(busy=False)
        for name, pieces in answers.items():
            if len(pieces) > before[name]:
                queue.more(name, len(pieces) - before[name])
                if not windows or windows[-1] != name:
                    windows.append(name)
    # b's only request has as many turns as both of a's together.
    assert windows[:8] == ["a1", "b1", "a2", "b1", "a1", "b1", "a2", "b1"]


def test_while_replies_are_written_batches_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(scoring, "perf_counter", lambda: clock[0])
    scorer = FakeScorer(n_ctx=4096, n_batch=512, n_outputs=512)
    compute = scorer.compute

    def slow(start: int, tokens: Sequence[int], first_output: int) -> int:
        clock[0] += 0.004 * len(tokens)  # 4 ms a token: 25 of them take a tenth of a second
        return compute(start, tokens, first_output)

    scorer.compute = slow  # type: ignore[method-assign]
    queue, answers = ScoringQueue(scorer), Answers()
    queue.add(answers.request("a", [1] * 1500, n_window=2048))
    for _ in range(20):
        queue.step(busy=True)
        queue.more("a", 1)
    assert max(scorer.sizes[2:]) <= 25
    run(queue, answers)
    assert max(scorer.sizes) > 400  # and with nobody else there, whole batches


def test_numbers_that_are_none_fail_one_request_and_name_the_place() -> None:
    scorer = FakeScorer()
    queue, answers = ScoringQueue(scorer), Answers()
    scorer.poison = 6
    bad = answers.request("bad", [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 6, 1, 2])
    good = answers.request("good", [0, 1, 2, 3, 4, 5, 5])
    queue.add(bad)
    queue.add(good)
    run(queue, answers)
    check(good, answers["good"])
    *pieces, error = answers["bad"]
    assert isinstance(error, DecodeError)
    assert error.details["position"] == 11
    assert sum(map(len, pieces)) < 11


@pytest.mark.parametrize("code", [DecodeStatus.FAILED, DecodeStatus.NO_ROOM, DecodeStatus.INVALID])
def test_a_batch_that_fails_costs_one_request(code: int) -> None:
    scorer = FakeScorer()
    queue, answers = ScoringQueue(scorer), Answers()
    queue.add(answers.request("a", [1] * 20))
    other = answers.request("b", [2] * 20)
    queue.add(other)
    scorer.answers = [code]
    run(queue, answers)
    assert isinstance(answers["a"][-1], DecodeError)
    assert answers["a"][-1].details["status"] == DecodeStatus(code).name.lower()
    check(other, answers["b"])


def test_memory_that_is_not_there_fails_the_one_that_needs_it() -> None:
    scorer = FakeScorer()
    scorer.refuses_over = 20
    queue, answers = ScoringQueue(scorer), Answers()
    queue.add(answers.request("long", [1] * 40, n_window=32))
    short = answers.request("short", [1] * 10)
    queue.add(short)
    run(queue, answers)
    assert isinstance(answers["long"][-1], NotEnoughMemoryError)
    check(short, answers["short"])


def test_one_that_is_broken_off_again_and_again_comes_to_its_end() -> None:
    scorer = FakeScorer(can_cut=False)
    queue, answers = ScoringQueue(scorer), Answers()
    request = answers.request("a", [1, 2] * 20, n_window=64)
    queue.add(request)
    for _ in range(200):
        if not queue.has_work:
            break
        queue.interrupt()
        queue.step(busy=False)
        queue.more("a", 1)
    check(request, answers["a"])


def test_what_cannot_be_carried_out_is_refused() -> None:
    queue, answers = ScoringQueue(FakeScorer()), Answers()
    queue.add(answers.request("a", [1] * 10))
    with pytest.raises(InvalidValueError, match="already under way"):
        queue.add(answers.request("a", [1] * 10))
    for window in (Window(0, 11, 1), Window(0, 5, 0), Window(3, 5, 5), Window(-1, 5, 1)):
        request = answers.request("b", [1] * 10)
        broken = ScoreRequest("b", "b", request.tokens, [window], request.deliver)
        with pytest.raises(InvalidValueError, match="is none of this text"):
            queue.add(broken)
    with pytest.raises(InvalidValueError, match="longer than 64"):
        queue.add(answers.request("c", [1] * 100, n_window=80))
    queue.add(answers.request("none", [1]))
    assert answers["none"] == [ScoreEnd(0)]
    with pytest.raises(UnsupportedByModelError, match="Demo mode"):
        ScoringQueue(None).add(answers.request("d", [1, 2]))
    with pytest.raises(UnsupportedByModelError, match="embedding model"):
        ScoringQueue(None, can_write=False).add(answers.request("d", [1, 2]))


def test_the_engine_scores_while_it_writes() -> None:
    scorer = FakeScorer(n_ctx=512)
    engine = Engine(ScriptedBackend(LoadSettings(n_ctx=512, n_batch=32), scorer=scorer))
    answers = Answers()
    engine.add_request(
        GenerateRequest(
            request_id="reply",
            client_id="a",
            prompt_tokens=list(b"Hello"),
            sampling=SamplingSettings(max_tokens=30),
        )
    )
    request = answers.request("scores", [1, 2, 3] * 100, n_window=64, client="b", full=True)
    engine.scoring.add(request)
    steps, texts = 0, 0
    while engine.has_work:
        steps += 1
        assert steps < 5000
        before = len(answers["scores"])
        texts += sum(isinstance(event, TextDelta) for event in engine.step())
        engine.scoring.more("scores", len(answers["scores"]) - before)
        if steps == 20:
            assert texts >= 15  # the reply goes on with each step
            assert answers["scores"]
    check(request, answers["scores"])
    # Aborts of a request and of a client find these, too.
    engine.scoring.add(answers.request("one", [1] * 9, client="x"))
    engine.scoring.add(answers.request("two", [1] * 9, client="y"))
    assert engine.abort("one")
    assert engine.abort_client("y") == 1
    for name in ("one", "two"):
        assert isinstance(answers[name][-1], GgufWidgetsError)
    assert not engine.has_work
    engine.close()
    assert scorer.closed
