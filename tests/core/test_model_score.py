"""Scores as a notebook asks for them, on real workers with tiny models. About 10 s."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.tiny_embedding import write_bert, write_decoder
from support.tiny_model import write_tiny_model

import gguf_widgets as gw
from gguf_widgets.core import model_score
from gguf_widgets.core.errors import (
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
    WorkerDiedError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.scores.divergence import divergence
from gguf_widgets.core.scores.kl_divergence import same_vocabulary
from tests.core.conftest import wait_for

TEXT = "the cat and the dog, hello world; " * 60


@pytest.fixture
def llama(no_leaks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelManager]:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "llama.cpp")
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


@pytest.fixture
def model(llama: ModelManager, tmp_path: Path) -> Model:
    return llama.load(write_decoder(tmp_path / "writer.gguf"), n_ctx=512, n_batch=32)


def _wait_until_idle(model: Model) -> None:
    wait_for(lambda: model.stats().num_requests == 0, "nothing is left open")


def test_scores_come_whole_or_in_pieces_and_are_the_same(model: Model) -> None:
    whole = model.score(TEXT, top=2, full=True, n_window=128)
    assert whole.num_scored == len(whole.tokens) - 1
    assert whole.full is not None
    np.testing.assert_allclose(np.exp(whole.full.astype(float)).sum(axis=1), 1, atol=1e-4)
    places = np.arange(whole.num_scored)
    chosen = [whole.tokens[place] for place in whole.positions]
    np.testing.assert_allclose(whole.full[places, chosen], whole.logprobs, atol=1e-5)
    assert whole.num_bytes == sum(len(whole.texts[token].encode()) for token in chosen)
    with model.stream_scores(TEXT, top=2, full=True, n_window=128) as stream:
        pieces = list(stream)
        assert stream.num_scored == stream.num_total
    assert len(pieces) > 10
    np.testing.assert_allclose(
        np.concatenate([rows.logprobs for rows in pieces]), whole.logprobs, atol=1e-4
    )
    # As tokens it is the same text, and any part can be scored after what comes before it.
    again = model.score(whole.tokens, n_window=128)
    np.testing.assert_allclose(again.logprobs, whole.logprobs, atol=1e-4)
    part = model.score(whole.tokens[50:60], after=whole.tokens[:50])
    assert part.num_before == 50
    assert part.positions.tolist() == list(range(50, 60))
    assert part.num_left_out == 0
    np.testing.assert_allclose(part.logprobs, whole.logprobs[49:59], atol=2e-3)
    alone = model.score(" dog", after="the cat and the")
    assert alone.texts[alone.tokens[-1]]
    answer = model.score("hello", after=[{"role": "user", "content": "Say hello."}])
    assert answer.num_before > 5
    assert _in_time(model.ascore("hello world")).num_scored == model.score("hello world").num_scored


def _in_time(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_what_is_left_early_or_forgotten_is_taken_back(model: Model) -> None:
    for leave in ("close", "forget", "break"):
        stream = model.stream_scores(TEXT * 4, full=True)
        next(stream)
        assert model.stats().num_requests == 1
        if leave == "close":
            stream.close()
            assert list(stream) == []
            with pytest.raises(RequestCancelledError):
                stream.result()
        elif leave == "break":
            with stream:
                for _ in stream:
                    break
        del stream
        gc.collect()
        _wait_until_idle(model)


def test_a_stop_and_a_cancelled_task_take_it_back(model: Model) -> None:
    shares: list[float] = []

    def stop(share: float, phrase: str) -> bool:
        assert phrase
        shares.append(share)
        return share < 0.3

    with pytest.raises(RequestCancelledError):
        model.score(TEXT, progress=stop)
    assert 0.3 <= shares[-1] < 1
    assert shares == sorted(shares)
    _wait_until_idle(model)

    async def cancelled() -> None:
        begun = threading.Event()

        def wait(*_: object) -> None:
            begun.set()

        task = asyncio.create_task(model.ascore(TEXT * 40, full=False, progress=wait))
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    _wait_until_idle(model)


def test_what_is_too_much_is_refused_with_the_way_that_works(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_score, "_MAX_FULL_BYTES", 100_000)
    with pytest.raises(NotEnoughMemoryError, match="stream_scores"):
        model.score(TEXT, full=True)
    _wait_until_idle(model)
    for keywords, words in (
        ({"windows": "some"}, "windows is 'some'"),
        ({"top": 2.5}, "top is 2.5"),
        ({"top": True}, "top is True"),
        ({"n_window": "8"}, "n_window is '8'"),
        ({"n_window": 10**12}, "from 8 to 512"),
        ({"after": 5}, "What stands before"),
        ({"after": []}, "empty"),
        ({"after": [{"role": "nobody", "content": "x"}]}, "role"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            model.score("hello there", **keywords)
    for text in (5, b"bytes", {"a": 1}, [1, "2"], [1, -2], [1, True], "", []):
        with pytest.raises(InvalidValueError):
            model.score(text)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="knows no 'temperature'"):
        _in_time(model.ascore("hello", temperature=1))


def test_a_death_is_told_and_the_next_call_starts_it_again(model: Model) -> None:
    import psutil

    stream = model.stream_scores(TEXT * 4, full=True)
    next(stream)
    psutil.Process(model.pid).kill()
    with pytest.raises(WorkerDiedError):
        for _ in stream:
            pass
    assert model.score("hello world").num_scored


def test_models_with_other_tokens_are_compared_by_text(
    llama: ModelManager, model: Model, tmp_path: Path
) -> None:
    other = llama.load(write_tiny_model(tmp_path / "spm.gguf", vocabulary="spm"), n_ctx=512)
    assert not same_vocabulary(model, other)
    with pytest.raises(InvalidValueError, match=r"different tokens.*gw\.divergence"):
        gw.kl_divergence(model, other, TEXT)
    found = divergence(model, other, "hello world", raw=True, max_tokens=8)
    assert found.split is not None
    assert found.split.by == "text"
    assert found.num_common_tokens is None
    for side in (found.split.a, found.split.b):
        assert side.probability is not None
        if side.other_logprob is not None:
            assert 0 <= (side.other_probability or 0) <= 1
    assert found.a.text[: found.split.char] == found.b.text[: found.split.char]
    # Each is told what it thought of the other's text.
    assert found.split.a.other_logprob is not None
    assert found.split.b.other_logprob is not None


def test_two_settings_of_one_model_part_and_demo_mode_goes_without_probabilities(
    llama: ModelManager, model: Model, tmp_path: Path
) -> None:
    same = divergence(model, model, "hello", max_tokens=12)
    assert same.identical
    assert same.split is None
    seeds = divergence(
        model, model, "hello", temperature=2.0, max_tokens=12, a_sampling={"seed": 1},
        b_sampling={"seed": 2},
    )  # fmt: skip
    assert seeds.split is not None
    assert seeds.split.by == "tokens"
    before = [one.token for one in model.prompt_tokens("hello")]
    common = [one.token for one in (seeds.a.logprobs or [])[: seeds.split.a.index]]
    other = seeds.split.b.token
    assert other is not None
    right = model.score([other], after=[*before, *common]).logprobs[0]
    assert seeds.split.a.other_logprob == pytest.approx(float(right), abs=1e-4)
    begun = divergence(
        model, model, "hello", begin_with="So", temperature=2.0, max_tokens=12,
        a_sampling={"seed": 1}, b_sampling={"seed": 2},
    )  # fmt: skip
    assert begun.split is not None
    assert begun.split.a.other_logprob is not None
    assert begun.common_text.startswith("So")
    with pytest.raises(InvalidValueError, match="top is 0"):
        divergence(model, model, "hello", top=0)
    with pytest.raises(InvalidValueError, match="it must be a model"):
        divergence(model, 5, "hello")  # type: ignore[arg-type]
    with pytest.raises(RequestCancelledError):
        divergence(model, model, "hello", progress=lambda *_: False)
    demo = llama.load(backend="scripted")
    found = divergence(demo, demo, "Hello", b_sampling={"max_tokens": 3, "stop": "o"})
    assert found.a.text != found.b.text
    assert demo.vocabulary().n_vocab == 260
    with pytest.raises(UnsupportedByModelError, match="Demo mode"):
        gw.perplexity(demo, TEXT)
    with pytest.raises(UnsupportedByModelError, match="embedding model"):
        llama.load(write_bert(tmp_path / "bert.gguf")).score("hello world")
