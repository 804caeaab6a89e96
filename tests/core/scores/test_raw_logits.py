"""Perplexity, KL divergence and divergence of the demo model in F16, Q8_0 and Q4_0.

They are compared with what an independent program makes of llama.cpp's raw logits: its own `Llama`
object with `logits_all`, in a process of its own, in double precision (`raw_scores`). Where both
compute a text in batches of the same size, they agree to `TOLERANCE`, what single precision leaves.
In batches of another size llama.cpp adds up in another order, and rounds what goes into quantised
weights to 8 bits: there, single log probabilities differ by up to `BATCH_TOLERANCE`.

About 6 s.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.raw_scores import raw_scores

import gguf_widgets as gw
from gguf_widgets.core import manager as managers
from gguf_widgets.core.care import convert
from gguf_widgets.core.errors import NotEnoughMemoryError
from gguf_widgets.core.scores import kl_divergence as kl_module
from gguf_widgets.core.scores.alignment import first_split
from gguf_widgets.core.scores.kl_divergence import same_vocabulary
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import wait_for

FORMS = ("F16", "Q8_0", "Q4_0")
WINDOW = 128
QUESTION = "Tell me a story about Emma."
NUM_REPLY = 40
LOAD: dict[str, Any] = {"n_ctx": 1024, "n_batch": 512, "n_ubatch": 512, "flash_attn": False}

# Of a log probability.
TOLERANCE = 2e-5
BATCH_TOLERANCE = 0.1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three files: the bundled one, and what our own conversion makes of it."""
    folder = tmp_path_factory.mktemp("demo")
    bundled = Path(shutil.copy(demo_model_path(), folder / "demo-Q8_0.gguf"))
    found = {"Q8_0": bundled}
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("GGUF_WIDGETS_HOME", str(home))
        patch.setenv("GGUF_WIDGETS_SOURCES", "none")
        for form in ("F16", "Q4_0"):
            found[form] = convert(bundled, form, requantize=True, folder=folder).path
    return found


@pytest.fixture(scope="module")
def models(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("GGUF_WIDGETS_HOME", str(home))
        patch.setenv("GGUF_WIDGETS_SOURCES", "none")
        patch.delenv("GGUF_WIDGETS_BACKEND", raising=False)
        with gw.ModelManager(keep_alive=0) as manager:
            yield {form: manager.load(files[form], n_threads=1, **LOAD) for form in FORMS}


@pytest.fixture(scope="module")
def text(models: dict) -> str:
    """A text that the model half knows: stories of its own."""
    model = models["F16"]
    told = [
        model.chat(f"Tell me a story about {name}.", temperature=0.9, seed=seed).text
        for seed, name in enumerate(("Emma", "a fox", "Ben", "a bird", "the sea", "Anna"))
    ]
    return " ".join(told)


@pytest.fixture(scope="module")
def raw(models: dict, files: dict[str, Path], text: str, tmp_path_factory) -> dict:
    """What llama.cpp itself says: of each window, and of a greedy reply."""
    tokens = models["F16"].tokenize(text, add_special=True, parse_special=False)
    runs = [tokens[i : i + WINDOW] for i in range(0, len(tokens) - WINDOW + 1, WINDOW)]
    assert len(runs) >= 3
    prompt = [one.token for one in models["F16"].prompt_tokens(QUESTION)]
    # Without the last token of each: nothing is asked about what would follow it.
    questions = {
        "windows": [run[:-1] for run in runs],
        "all": [tokens[:-1]],
        "reply": {"prompt": prompt, "n": NUM_REPLY},
    }
    folder = tmp_path_factory.mktemp("raw")
    return {form: raw_scores(files[form], questions, folder) for form in FORMS} | {"tokens": tokens}


def halves(raw: dict, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The distributions that llama.cpp's tool would look at, and the tokens that follow."""
    rows, targets = [], []
    for number, found in enumerate(raw[form]["windows"]):
        window = raw["tokens"][number * WINDOW : (number + 1) * WINDOW]
        for place in range(WINDOW // 2, WINDOW - 1):  # llama.cpp, perplexity.cpp: `first`
            rows.append(found[place])
            targets.append(window[place + 1])
    return np.array(rows), np.array(targets)


@pytest.mark.parametrize("form", FORMS)
def test_the_perplexity_is_that_of_the_raw_logits(models, raw, text, form: str) -> None:
    rows, targets = halves(raw, form)
    expected = rows[np.arange(len(rows)), targets]
    found = models[form].score(text, windows="halves", n_window=WINDOW, top=3)
    assert found.tokens == raw["tokens"]
    assert found.num_scored == len(expected)
    np.testing.assert_allclose(found.logprobs, expected, rtol=0, atol=TOLERANCE)
    told = gw.perplexity(models[form], text, windows="halves", n_window=WINDOW)
    assert told.value == pytest.approx(math.exp(-expected.mean()), rel=1e-5)
    error = expected.std(ddof=1) / math.sqrt(len(expected))
    assert told.error == pytest.approx(told.value * error, rel=1e-4)
    for top, row in zip(found.top, rows, strict=True):
        assert [one.logprob for one in top] == pytest.approx(-np.sort(-row)[:3], abs=TOLERANCE)
        assert all(abs(row[one.token] - one.logprob) < TOLERANCE for one in top)


@pytest.mark.parametrize("form", FORMS)
def test_every_token_has_the_score_that_a_whole_context_gives_it(models, raw, text, form) -> None:
    tokens = raw["tokens"]
    expected = raw[form]["all"][0][np.arange(len(tokens) - 1), tokens[1:]]
    found = models[form].score(text)
    assert found.num_windows == 1
    assert found.positions.tolist() == list(range(1, len(tokens)))
    np.testing.assert_allclose(found.logprobs, expected, rtol=0, atol=TOLERANCE)
    # A part of it, after the rest, is the same.
    part = models[form].score(tokens[100:120], after=tokens[:100])
    np.testing.assert_allclose(part.logprobs, expected[99:119], rtol=0, atol=BATCH_TOLERANCE)


@pytest.mark.parametrize("form", ["Q8_0", "Q4_0"])
def test_the_kl_divergence_is_that_of_the_raw_logits(models, raw, text, form: str) -> None:
    p, targets = halves(raw, "F16")
    q, _ = halves(raw, form)
    expected = (np.exp(p) * (p - q)).sum(axis=1)
    same = p.argmax(axis=1) == q.argmax(axis=1)
    found = gw.kl_divergence(models["F16"], models[form], text, windows="halves", n_window=WINDOW)
    assert found.num_scored == len(expected)
    np.testing.assert_allclose(found.kl, expected, rtol=1e-3, atol=1e-6)
    assert found.mean == pytest.approx(expected.mean(), rel=1e-4)
    assert found.median == pytest.approx(np.median(expected), rel=1e-3)
    assert found.p99 == pytest.approx(np.quantile(expected, 0.99), rel=1e-3)
    assert found.maximum == pytest.approx(expected.max(), rel=1e-3)
    assert found.same_top_places.tolist() == same.tolist()
    places = np.arange(len(targets))
    ratio = (p[places, targets] - q[places, targets]).mean()
    assert found.ln_ppl_ratio == pytest.approx(ratio, abs=1e-5)


def test_a_worse_quantisation_is_further_away(models, text: str) -> None:
    q8 = gw.kl_divergence(models["F16"], models["Q8_0"], text)
    q4 = gw.kl_divergence(models["F16"], models["Q4_0"], text)
    assert 0 < q8.mean < q4.mean / 10
    assert q8.same_top > q4.same_top
    itself = gw.kl_divergence(models["Q4_0"], models["Q4_0"], text)
    assert itself.mean == pytest.approx(0.0, abs=1e-9)
    assert itself.same_top == 1.0


@pytest.mark.parametrize("form", ["Q8_0", "Q4_0"])
def test_replies_part_where_the_raw_logits_part(models, raw, form: str) -> None:
    p, q = raw["F16"]["reply"][0], raw[form]["reply"][0]
    apart = p.argmax(axis=1) != q.argmax(axis=1)
    found = gw.divergence(models["F16"], models[form], QUESTION, max_tokens=NUM_REPLY, top=4)
    if not apart.any():
        assert found.split is None
        assert found.identical
        return
    index = int(apart.argmax())
    assert found.split is not None
    assert (found.split.by, found.split.a.index, found.split.b.index) == ("tokens", index, index)
    one, other = found.split.a, found.split.b
    assert (one.token, other.token) == (int(p[index].argmax()), int(q[index].argmax()))
    assert one.logprob == pytest.approx(p[index][one.token], abs=TOLERANCE)
    assert other.logprob == pytest.approx(q[index][other.token], abs=TOLERANCE)
    assert one.other_logprob == pytest.approx(p[index][other.token], abs=BATCH_TOLERANCE)
    assert other.other_logprob == pytest.approx(q[index][one.token], abs=BATCH_TOLERANCE)
    assert {c.token for c in one.top} == set(np.argsort(-p[index])[:4].tolist())
    assert found.num_common_tokens == index
    assert found.a.text.startswith(found.common_text)
    assert "part at token" in str(found)


def test_the_chance_of_an_end_is_told_where_one_reply_ends(models, raw) -> None:
    model = models["Q8_0"]
    asked = "What is the capital of France?"
    reply = model.chat(asked, temperature=0, logprobs=5)
    longer = model.chat(asked, temperature=0, logprobs=5, min_tokens=20, max_tokens=20)
    assert first_split(reply, reply, same_tokens=True) is None
    split = first_split(reply, longer, same_tokens=True)
    assert split is not None
    assert split.a.ended
    found = gw.divergence(model, model, asked, b_sampling={"min_tokens": 20}, max_tokens=20)
    assert found.split is not None
    side, other = found.split.a, found.split.b
    assert side.ended
    assert side.probability is not None
    assert side.probability > 0.5  # it took the likeliest: to end
    assert other.other_probability == pytest.approx(side.probability, abs=0.05)
    assert other.logprob == pytest.approx(side.other_logprob, abs=BATCH_TOLERANCE)
    assert "ends" in str(found)


def test_models_are_loaded_by_name_one_after_the_other_if_memory_does_not_hold_both(
    models, files, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gw.kl_divergence(models["F16"], models["Q4_0"], text)
    files_made, make = [], tempfile.TemporaryFile

    def temporary_file(**keywords):
        files_made.append(make(**keywords))
        return files_made[-1]

    monkeypatch.setattr(kl_module.tempfile, "TemporaryFile", temporary_file)
    sent = {"n_threads": 1, **LOAD}
    default = managers.default_manager()
    real, loads = default.load, []

    def load(name, **settings):
        loads.append((name, len(default.loaded())))
        if default.loaded():
            raise NotEnoughMemoryError("it does not fit beside the other one")
        return real(name, **settings)

    monkeypatch.setattr(default, "load", load)
    shares: list[float] = []

    def progress(share: float, phrase: str) -> None:
        assert phrase
        shares.append(share)

    found = gw.kl_divergence(files["F16"], files["Q4_0"], text, load=sent, progress=progress)
    assert [beside for _, beside in loads] == [0, 1, 0]
    assert not default.loaded()
    assert [file.closed for file in files_made] == [True]
    np.testing.assert_allclose(found.kl, expected.kl, rtol=0, atol=1e-9)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # What is too long for the file is refused with the numbers; a stop leaves nothing behind.
    with pytest.raises(gw.errors.InvalidValueError, match="at most") as caught:
        gw.kl_divergence(files["F16"], files["Q4_0"], text, load=sent, max_file_bytes=100_000)
    assert caught.value.details["most_tokens"] == 100_000 // (4 * 1536)
    with pytest.raises(gw.errors.RequestCancelledError):
        gw.kl_divergence(files["F16"], files["Q4_0"], text, load=sent, progress=lambda *_: False)
    assert not default.loaded()
    assert [file.closed for file in files_made] == [True] * 3
    # One that somebody holds is never unloaded for this.
    held = real(files["F16"], **sent)
    with pytest.raises(NotEnoughMemoryError):
        gw.kl_divergence(held, files["Q4_0"], text, load=sent)
    assert held.loaded
    held.unload()


def test_one_vocabulary_is_told_from_another(models) -> None:
    assert same_vocabulary(models["F16"], models["Q4_0"])
    facts = [model.vocabulary() for model in models.values()]
    assert all(one == facts[0] for one in facts)
    assert facts[0].n_vocab == 1536
    assert facts[0].ends


def test_replies_are_compared_one_model_after_the_other_if_memory_does_not_hold_both(
    models, files, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = managers.default_manager()
    real, loads = default.load, []

    def load(name, **settings):
        loads.append((Path(name).stem, len(default.loaded())))
        if default.loaded():
            raise NotEnoughMemoryError("it does not fit beside the other one")
        return real(name, **settings)

    monkeypatch.setattr(default, "load", load)
    sent = {"n_threads": 1, **LOAD}
    found = gw.divergence(files["F16"], files["Q4_0"], QUESTION, load=sent, max_tokens=NUM_REPLY)
    assert loads == [
        ("demo-F16", 0), ("demo-Q4_0", 1), ("demo-Q4_0", 0), ("demo-F16", 0),
    ]  # fmt: skip
    assert not default.loaded()
    expected = gw.divergence(models["F16"], models["Q4_0"], QUESTION, max_tokens=NUM_REPLY)
    assert expected.split is not None
    assert found.split is not None
    assert found.a.text == expected.a.text
    assert found.split.a.token == expected.split.a.token
    assert found.split.a.other_logprob == pytest.approx(expected.split.a.other_logprob, abs=1e-4)
    assert found.split.b.other_logprob == pytest.approx(expected.split.b.other_logprob, abs=1e-4)


def test_a_comparison_of_replies_can_be_stopped_while_one_is_written(models) -> None:
    heard: list[float] = []

    def stop(share: float, phrase: str) -> bool:
        assert "answering" in phrase
        heard.append(share)
        return len(heard) < 4

    with pytest.raises(gw.errors.RequestCancelledError):
        gw.divergence(models["F16"], models["Q8_0"], QUESTION, progress=stop)
    assert len(heard) == 4
    assert heard == sorted(heard)
    wait_for(lambda: models["F16"].stats().num_requests == 0, "nothing is left open")
