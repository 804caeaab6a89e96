"""LoRA adapters: a model with them is the model that has the changes in its weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.tiny_embedding import RANK, adapter_deltas, write_adapter, write_bert, write_decoder

from gguf_widgets.core.engine.embedding import EmbedRequest
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.errors import AdapterFileError, InvalidValueError
from gguf_widgets.core.gguf import check_is_adapter, read_header
from gguf_widgets.core.types import (
    Finished,
    GenerateRequest,
    LoadSettings,
    Reply,
    SamplingSettings,
)

PROMPT = "hello, the world is a tall tale and then the end"
ALPHA = 8.0
ONE, TWO = adapter_deltas(1), adapter_deltas(2)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("lora")

    def factor(scale):
        return scale * ALPHA / RANK

    return {
        "base": write_decoder(folder / "base.gguf"),
        "one": write_adapter(folder / "one.gguf", ONE, alpha=ALPHA),
        "two": write_adapter(folder / "two.gguf", TWO, alpha=ALPHA),
        "no alpha": write_adapter(folder / "no-alpha.gguf", ONE, alpha=0.0),
        "with one": write_decoder(folder / "with-one.gguf", merged=[(ONE, factor(1))]),
        "with both": write_decoder(
            folder / "with-both.gguf", merged=[(ONE, factor(0.5)), (TWO, factor(-0.3))]
        ),
        "with one, no alpha": write_decoder(folder / "plain.gguf", merged=[(ONE, 1.0)]),
        "embedding": write_decoder(folder / "embedding.gguf", pooling="last"),
        "embedding with one": write_decoder(
            folder / "embedding-one.gguf", pooling="last", merged=[(ONE, factor(1))]
        ),
    }


@pytest.fixture
def open_engine(files):
    engines = []

    def open_it(name, lora=None) -> Engine:
        settings = LoadSettings.from_keywords(
            n_ctx=512,
            n_batch=64,
            n_seq_max=4,
            n_threads=1,
            flash_attn=False,
            lora={files[adapter]: scale for adapter, scale in (lora or {}).items()},
        )
        engine = Engine(open_backend("llama.cpp", files[name], settings))
        engines.append(engine)
        return engine

    yield open_it
    for engine in engines:
        engine.close()


def replies(engine, prompts) -> list[Reply]:
    for number, prompt in enumerate(prompts):
        engine.add_request(
            GenerateRequest(
                request_id=f"r{number}",
                client_id="c",
                prompt_tokens=engine.tokenize(prompt),
                sampling=SamplingSettings(temperature=0.0, max_tokens=24, logprobs=8),
            )
        )
    done = {}
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Finished):
                done[event.request_id] = event.reply
    return [done[f"r{number}"] for number in range(len(prompts))]


def chances(reply) -> np.ndarray:
    assert reply.logprobs
    return np.array([[one.logprob for one in token.top] for token in reply.logprobs])


def vectors(engine) -> np.ndarray:
    answers = []
    tokens = engine.embedding.tokenize([PROMPT, "the cat"])
    engine.embedding.add(EmbedRequest("e", "e", tokens, answers.append))
    while engine.has_work:
        engine.step()
    return answers[0]


@pytest.mark.parametrize(
    ("lora", "merged"),
    [
        ({"one": 1.0}, "with one"),
        ({"one": 0.5, "two": -0.3}, "with both"),
        ({"no alpha": 1.0}, "with one, no alpha"),
    ],
)
def test_a_model_with_adapters_says_what_the_merged_one_says(open_engine, lora, merged):
    prompts = [PROMPT, PROMPT + " of it", "a " + PROMPT, PROMPT]
    ours, theirs = open_engine("base", lora), open_engine(merged)
    base = replies(open_engine("base"), prompts)
    expected = replies(theirs, prompts)
    for _ in range(2):  # the second time from what the first has left in the cache
        for mine, right, plain in zip(replies(ours, prompts), expected, base, strict=True):
            assert mine.text == right.text != plain.text
            assert np.allclose(chances(mine), chances(right), atol=2e-3)
    assert np.allclose(vectors(ours), vectors(theirs), atol=1e-4)
    assert not np.allclose(vectors(ours), vectors(open_engine("base")), atol=1e-2)


def test_a_scale_of_zero_is_the_base_model_to_the_last_digit(open_engine):
    base, zero = open_engine("base"), open_engine("base", {"one": 0.0})
    (plain,), (mine,) = replies(base, [PROMPT]), replies(zero, [PROMPT])
    assert mine.text == plain.text
    assert (chances(mine) == chances(plain)).all()
    assert (vectors(zero) == vectors(base)).all()


def test_an_embedding_model_takes_an_adapter_too(open_engine):
    mine = vectors(open_engine("embedding", {"one": 1.0}))
    assert np.allclose(mine, vectors(open_engine("embedding with one")), atol=1e-4)
    assert not np.allclose(mine, vectors(open_engine("embedding")), atol=1e-2)


def test_settings_tell_the_adapters_and_saved_prefixes_know_them(files, open_engine):
    with_one = open_engine("base", {"one": 0.5})
    assert with_one.settings.lora == ((str(files["one"]), 0.5),)
    base = open_engine("base")
    assert base.settings.lora == ()
    formats = {
        engine.backend.state_format
        for engine in (base, with_one, open_engine("base", {"one": 0.6}))
    }
    assert len(formats) == 3


def test_a_header_tells_what_an_adapter_is(files):
    info = check_is_adapter(read_header(files["one"]), read_header(files["base"]))
    assert (info.name, info.rank, info.num_changed, info.num_ignored) == ("tiny adapter", 4, 5, 0)
    assert info.size_bytes == sum(a.nbytes + b.nbytes for a, b in ONE.values())
    assert info.note(0.5).endswith("is added with a scale of 0.5.")


def test_changed_norms_are_told_to_be_left_out(files, tmp_path):
    norm = {"blk.0.attn_norm.weight": np.ones(32, np.float32)}
    path = write_adapter(tmp_path / "norm.gguf", ONE, more=norm)
    info = check_is_adapter(read_header(path), read_header(files["base"]))
    assert "leaves out 1 changed norms" in info.note(1)
    open_backend("llama.cpp", files["base"], LoadSettings.from_keywords(lora=path)).close()


A, B = next(iter(ONE.values()))
Q = "blk.0.attn_q.weight"
REFUSED = {
    "another architecture": ({"architecture": "qwen2"}, "architecture 'qwen2', and.*is 'llama'"),
    "no adapter": ({"kind": "model"}, "says that it is 'model'"),
    "another kind of adapter": ({"sort": "ia3"}, "kind 'ia3', not a LoRA"),
    "an activated LoRA": ({"invocation": (1, 2)}, "an activated LoRA"),
    "half a pair": ({"without": f"{Q}.lora_b"}, rf'lacks the tensor "{re.escape(Q)}.lora_b"'),
    "something else": ({"more": {"x": A}}, 'holds the tensor "x"'),
    "nothing": ({"deltas": {}}, "changes nothing"),
    "a tensor that is not there": (
        {"deltas": {"blk.7.attn_q.weight": ONE[Q]}},
        'changes the tensor "blk.7.attn_q.weight", which "base.gguf" does not have',
    ),
    "other inputs": ({"deltas": {Q: (A[:, :31], ONE[Q][1])}}, r"\(31, 4\) and \(4, 32\)"),
    "other outputs": ({"deltas": {Q: (A, ONE[Q][1][:30])}}, r"model's own is \(32, 32\)"),
    "two ranks": ({"deltas": {Q: (A[:3], ONE[Q][1])}}, "made for another model"),
    "an alpha that is none": ({"alpha": float("nan")}, "alpha .* is no number: nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_adapter_for_this_model_is_refused_by_its_header(files, tmp_path, case):
    settings, match = REFUSED[case]
    deltas = {**settings}.pop("deltas", ONE)
    more = {name: value for name, value in settings.items() if name != "deltas"}
    path = write_adapter(tmp_path / "bad.gguf", deltas, **more)
    with pytest.raises(AdapterFileError, match=match) as caught:
        check_is_adapter(read_header(path), read_header(files["base"]))
    assert caught.value.message.startswith('"bad.gguf" cannot be used as an adapter')
    assert caught.value.details == {"path": str(path)}


def test_a_model_is_no_adapter_and_llama_cpps_own_refusal_is_told(files, tmp_path):
    for other in (files["with one"], write_bert(tmp_path / "bert.gguf")):
        with pytest.raises(AdapterFileError, match="is no adapter"):
            check_is_adapter(read_header(other), read_header(files["base"]))
        settings = LoadSettings.from_keywords(lora=other)
        with pytest.raises(AdapterFileError, match=r"general\.type to be 'adapter'"):
            open_backend("llama.cpp", files["base"], settings)


def test_adapters_can_be_named_in_several_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    full = str(tmp_path / "a.gguf")

    def lora(given):
        return LoadSettings.from_keywords(lora=given).lora

    for given in ("a.gguf", Path("a.gguf"), ["x/../a.gguf"], {"a.gguf": 1}, [(full, 1.0)]):
        assert lora(given) == ((full, 1.0),)
    for nothing in (None, [], {}, ()):
        assert lora(nothing) == ()
    both = {"b.gguf": 0.5, "a.gguf": 2}
    assert lora(both) == lora(dict(reversed(both.items())))
    assert hash(LoadSettings.from_keywords(lora=both))
    assert LoadSettings.from_keywords(lora=both).replace(n_ctx=64).lora == lora(both)
    for bad, match in (
        (3, "the path of an adapter"),
        (b"a.gguf", "the path of an adapter"),
        ({"a.gguf": "1"}, "scale is a number"),
        ({"a.gguf": True}, "scale is a number"),
        ({"a.gguf": float("nan")}, "must be from -100.0 to 100.0"),
        ({"a.gguf": 101}, "must be from -100.0 to 100.0"),
        (["a.gguf", full], "given twice"),
        ([f"{n}.gguf" for n in range(17)], "at most 16 adapters"),
        (["\udcff.gguf"], "no text"),
    ):
        with pytest.raises(InvalidValueError, match=match):
            lora(bad)
