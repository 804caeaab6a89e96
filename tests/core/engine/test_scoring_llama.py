"""Scores on real llama.cpp: those of its own logits, for every kind of memory. About 2 s.

The reference is a context of its own for each window, computed in one batch, with room for the
logits of all its tokens; ours comes in batches of another size. All weights are F32, so what is
left between the two is rounding.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from support.tiny_embedding import RANK, adapter_deltas, write_adapter, write_bert, write_decoder
from support.tiny_model import write_tiny_model
from support.tiny_models import FAMILIES, write_model

from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.llama import scoring as llama_scoring
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.engine.score_windows import plan_windows
from gguf_widgets.core.engine.scoring import ScoreEnd, ScoreRequest, ScoreRows
from gguf_widgets.core.errors import (
    DecodeError,
    GgufWidgetsError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import Finished, GenerateRequest, LoadSettings, SamplingSettings

TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {kind: write_model(folder / f"{kind}.gguf", kind) for kind in FAMILIES}
    found["bert"] = write_bert(folder / "bert.gguf")
    found["adapted"] = write_decoder(folder / "decoder.gguf")
    found["adapter"] = write_adapter(folder / "adapter.gguf", adapter_deltas(1), alpha=8.0)
    found["spm"] = write_tiny_model(folder / "spm.gguf", vocabulary="spm")
    found["merged"] = write_decoder(
        folder / "merged.gguf", merged=[(adapter_deltas(1), 8.0 / RANK)]
    )
    return found


@pytest.fixture
def open_engine(models: dict[str, Path]) -> Iterator[Any]:
    engines = []

    def open_it(name: str, **load: Any) -> Engine:
        load = {"n_threads": 1, "flash_attn": False, "n_ctx": 512, "n_batch": 32} | load
        settings = LoadSettings.from_keywords(**load)
        engine = Engine(open_backend("llama.cpp", models[name], settings))
        engines.append(engine)
        return engine

    yield open_it
    for engine in engines:
        engine.close()


def tokens_for(engine: Engine, count: int, seed: int = 1) -> list[int]:
    draw = random.Random(seed)  # noqa: S311 - no secret
    return [draw.randrange(engine.backend.vocabulary.n_vocab) for _ in range(count)]


def request_for(engine: Engine, tokens: Sequence[int], n_window: int, **more: Any):
    answers: list[Any] = []
    halves = more.pop("halves", False)
    request = ScoreRequest(
        request_id=more.pop("name", "s"),
        client_id="c",
        tokens=tokens,
        windows=plan_windows(len(tokens), n_window, halves=halves),
        deliver=answers.append,
        **more,
    )
    engine.scoring.add(request)
    return request, answers


def finish(engine: Engine, request: ScoreRequest, answers: list[Any]) -> list[ScoreRows]:
    num_taken = 0
    while engine.has_work:
        engine.step()
        engine.scoring.more(request.request_id, len(answers) - num_taken)
        num_taken = len(answers)
    *rows, end = answers
    if isinstance(end, GgufWidgetsError):
        raise end
    assert end == ScoreEnd(sum(map(len, rows)))
    return rows


def raw_logprobs(path: Path, runs: list[list[int]]) -> list[np.ndarray[Any, Any]]:
    model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    found = []
    for run in runs:
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.swa_full = True
        context = lib.llama_init_from_model(model, params)
        batch = lib.llama_batch_init(512, 0, 1)
        for place, token in enumerate(run):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            batch.logits[place] = 1
        batch.n_tokens = len(run)
        assert lib.llama_decode(context, batch) == 0
        rows = np.array(np.ctypeslib.as_array(lib.llama_get_logits(context), (len(run), n_vocab)))
        rows = rows.astype(np.float64)
        found.append(rows - np.logaddexp.reduce(rows, axis=1)[:, None])
        lib.llama_batch_free(batch)
        lib.llama_free(context)
    lib.llama_model_free(model)
    return found


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_scores_are_those_of_the_raw_logits(models, open_engine, kind: str) -> None:
    engine = open_engine(kind)
    tokens = tokens_for(engine, 150)
    for halves in (False, True):
        request, answers = request_for(engine, tokens, 64, top=3, full=True, halves=halves)
        found = finish(engine, request, answers)
        raw = raw_logprobs(models[kind], [tokens[w.start : w.end] for w in request.windows])
        right = {
            place: row[place - 1 - window.start]
            for window, row in zip(request.windows, raw, strict=True)
            for place in range(window.first, window.end)
        }
        assert [r.first + n for r in found for n in range(len(r))] == list(right)
        for rows in found:
            assert rows.full is not None
            for number in range(len(rows)):
                row = right[rows.first + number]
                np.testing.assert_allclose(rows.full[number], row, rtol=0, atol=TOLERANCE)
                assert abs(rows.logprobs[number] - row[tokens[rows.first + number]]) < TOLERANCE
                top = rows.top_logprobs[number]
                np.testing.assert_allclose(top, -np.sort(-row)[:3], rtol=0, atol=TOLERANCE)
    scorer = engine.backend.scorer
    assert scorer is not None
    assert scorer.room == 0  # nothing is kept


@pytest.mark.parametrize("kind", FAMILIES)
def test_replies_are_not_touched_and_scores_agree_with_them(open_engine, kind: str) -> None:
    engine = open_engine(kind)
    prompt = tokens_for(engine, 40, seed=2)

    def ask(name: str, **more: Any) -> None:
        engine.add_request(
            GenerateRequest(
                request_id=name,
                client_id=name,
                prompt_tokens=prompt,
                sampling=SamplingSettings(temperature=0, max_tokens=24, logprobs=0, **more),
            )
        )

    def run() -> Any:
        events = []
        while engine.has_work:
            events += engine.step()
        return next(event.reply for event in events if isinstance(event, Finished))

    ask("alone")
    alone = run()
    request, answers = request_for(engine, tokens_for(engine, 300, seed=3), 128, credit=1000)
    ask("beside")
    beside = run()
    assert isinstance(answers[-1], ScoreEnd)
    assert [one.token for one in beside.logprobs] == [one.token for one in alone.logprobs]
    # What the model thought of its tokens while it wrote them is what it thinks of them now.
    written = [one.token for one in alone.logprobs]
    text = [*prompt, *written]
    request, answers = request_for(engine, text, 512, name="t", credit=1000)
    found = np.concatenate([rows.logprobs for rows in finish(engine, request, answers)])
    expected = [one.logprob for one in alone.logprobs]
    # The cache is F16: what is computed token by token differs a little more.
    np.testing.assert_allclose(found[len(prompt) - 1 :], expected, rtol=0, atol=10 * TOLERANCE)


def test_adapters_count(models, open_engine) -> None:
    def scores(engine: Engine) -> np.ndarray[Any, Any]:
        request, answers = request_for(engine, tokens, 64, credit=1000)
        return np.concatenate([rows.logprobs for rows in finish(engine, request, answers)])

    plain = open_engine("adapted")
    tokens = tokens_for(plain, 60)
    with_adapter = scores(open_engine("adapted", lora=str(models["adapter"])))
    merged = scores(open_engine("merged"))
    assert np.abs(with_adapter - scores(plain)).max() > 0.01
    np.testing.assert_allclose(with_adapter, merged, rtol=0, atol=5e-3)


def test_an_embedding_model_says_that_it_has_none(open_engine) -> None:
    engine = open_engine("bert")
    with pytest.raises(UnsupportedByModelError, match="embedding model"):
        request_for(engine, [1, 2, 3], 16)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_an_error_in_words(
    models, tmp_path: Path, number: float
) -> None:
    data = models["adapted"].read_bytes()
    ones = np.ones(64, np.float32).tobytes()  # a norm
    place = data.rindex(ones)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data[:place] + np.float32(number).tobytes() + data[place + 4 :])
    engine = Engine(open_backend("llama.cpp", broken, LoadSettings(n_ctx=256, n_threads=1)))
    try:
        request, answers = request_for(engine, [5] * 30, 64)
        with pytest.raises(DecodeError, match="damaged") as caught:
            finish(engine, request, answers)
        assert caught.value.details["position"] >= 1
        assert engine.backend.scorer.room == 0
    finally:
        engine.close()


def test_memory_that_is_not_there_is_asked_for_in_words(open_engine, monkeypatch) -> None:
    engine = open_engine("llama")
    monkeypatch.setattr(llama_scoring, "free_memory", lambda: 1000)
    request, answers = request_for(engine, tokens_for(engine, 100), 64)
    with pytest.raises(NotEnoughMemoryError, match="n_window") as caught:
        finish(engine, request, answers)
    assert caught.value.details["free_bytes"] == 1000
    assert caught.value.details["needed_bytes"] > 1000
    monkeypatch.undo()
    request, answers = request_for(engine, tokens_for(engine, 100), 64)
    assert sum(map(len, finish(engine, request, answers))) == 99


@pytest.mark.parametrize("kind", ["llama", "jamba"])
def test_an_abort_in_the_middle_of_a_batch_ends_it_and_the_next_is_right(
    models, open_engine, kind: str
) -> None:
    engine = open_engine(kind, n_batch=512)
    tokens = tokens_for(engine, 400)
    _, answers = request_for(engine, tokens, 512, name="gone")
    _, others = request_for(engine, tokens, 512, name="other", credit=1000)
    engine.interrupt()  # as whoever hands in an abort does
    timer = threading.Timer(0.005, engine.interrupt)
    timer.start()
    engine.step()
    assert engine.abort("gone")
    assert isinstance(answers[-1], RequestCancelledError)
    while engine.has_work:
        engine.step()
    timer.join()
    found = np.concatenate([rows.logprobs for rows in others[:-1]])
    (raw,) = raw_logprobs(models[kind], [tokens])
    right = raw[np.arange(399), tokens[1:]]
    np.testing.assert_allclose(found, right, rtol=0, atol=TOLERANCE)


def test_a_vocabulary_is_known_by_its_digest(open_engine) -> None:
    one, same, other = (open_engine(kind).backend for kind in ("llama", "gemma3", "spm"))
    assert one.vocabulary_digest() == same.vocabulary_digest()
    assert one.vocabulary_digest() != other.vocabulary_digest()
    assert len(one.vocabulary_digest()) == 64
