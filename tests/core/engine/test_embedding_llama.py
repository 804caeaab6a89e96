"""Vectors on real llama.cpp: they are those of llama.cpp's own pooling, whatever runs beside them.

Where flash attention is off, ours and theirs differ in the last digits only (1e-5 of a vector of
length 1); with it, attention is computed in F16, and what shares a batch shows in the fourth digit.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import llama_cpp as lib
import numpy as np
import pytest
from support.tiny_embedding import write_bert, write_decoder, write_t5_encoder
from support.tiny_model import write_tiny_model
from support.tiny_models import write_model

from gguf_widgets.core.engine.embedding import EmbedRequest
from gguf_widgets.core.engine.engine import Engine
from gguf_widgets.core.engine.llama import embedding as llama_embedding
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.errors import (
    ContextOverflowError,
    GgufWidgetsError,
    ModelLoadError,
    NotEnoughMemoryError,
    UnsupportedByModelError,
)
from gguf_widgets.core.types import (
    Finished,
    GenerateRequest,
    LoadSettings,
    Pooling,
    SamplingSettings,
)

TEXTS = [
    "hello world",
    "the cat and the dog",
    "a",
    "query: what is the world? (42) hello, hello; the end of it all!",
    "passage: the dog",
]
NATIVE = {"mean": 1, "cls": 2, "last": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": write_bert(folder / "bert.gguf"),
        "bert cls": write_bert(folder / "bert-cls.gguf", pooling="cls"),
        "long bert": write_bert(folder / "long-bert.gguf", n_ctx_train=2048),
        "t5": write_t5_encoder(folder / "t5.gguf"),
        "decoder": write_decoder(folder / "decoder.gguf", pooling="last", add_eos=True),
        "both ways": write_decoder(folder / "both.gguf", pooling="mean", causal=False),
        "llama": write_decoder(folder / "llama.gguf", n_ctx_train=4096),
        "gemma2": write_tiny_model(folder / "gemma2.gguf", architecture="gemma2"),
        "mamba": write_tiny_model(folder / "mamba.gguf", architecture="mamba"),
        "jamba": write_model(folder / "jamba.gguf", "jamba"),
    }


@pytest.fixture
def open_engine(models):
    engines = []

    def open_it(name, **load) -> Engine:
        load = {"n_threads": 1, "flash_attn": False} | load
        engine = Engine(open_backend("llama.cpp", models[name], LoadSettings(**load)))
        engines.append(engine)
        return engine

    yield open_it
    for engine in engines:
        engine.close()


def start(engine, texts, name="e", **more):
    answers = []
    tokens = engine.embedding.tokenize(texts)
    engine.embedding.add(
        EmbedRequest(request_id=name, client_id=name, texts=tokens, deliver=answers.append, **more)
    )
    return answers


def embed(engine, texts, **more):
    answers = start(engine, texts, **more)
    while engine.embedding.has_work:
        engine.step()
    if isinstance(answers[0], GgufWidgetsError):
        raise answers[0]
    return answers[0]


def by_llama_cpp(path, texts, pooling, n_tokens=512) -> np.ndarray:
    """Compute one text at a time with llama.cpp's own pooling, as its examples do."""
    params = lib.llama_model_default_params()
    model = lib.llama_model_load_from_file(str(path).encode(), params)
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = n_tokens
    params.n_threads = params.n_threads_batch = 1
    params.embeddings = True
    params.pooling_type = NATIVE[pooling]
    params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lib.llama_init_from_model(model, params)
    vocabulary = lib.llama_model_get_vocab(model)
    n_embd = lib.llama_model_n_embd_out(model)
    run = lib.llama_encode if lib.llama_model_has_encoder(model) else lib.llama_decode
    rows = []
    for text in texts:
        room = (ctypes.c_int32 * n_tokens)()
        count = lib.llama_tokenize(
            vocabulary, text.encode(), len(text.encode()), room, n_tokens, True, False
        )
        assert count > 0
        if memory := lib.llama_get_memory(context):
            lib.llama_memory_clear(memory, True)
        assert run(context, lib.llama_batch_get_one(room, count)) == 0
        pointer = lib.llama_get_embeddings_seq(context, 0)
        row = np.ctypeslib.as_array(pointer, (n_embd,)).astype(np.float64)
        rows.append(row / np.linalg.norm(row))
    lib.llama_free(context)
    lib.llama_model_free(model)
    return np.array(rows)


@pytest.mark.parametrize(
    ("name", "poolings"),
    [
        ("bert", ["mean", "cls", "last"]),
        ("t5", ["mean", "cls", "last"]),
        ("decoder", ["mean", "last"]),
        ("both ways", ["mean", "cls", "last"]),
        ("llama", ["mean", "last"]),
        ("gemma2", ["mean", "last"]),
        ("mamba", ["mean", "last"]),
        ("jamba", ["mean", "last"]),
    ],
)
def test_vectors_are_those_of_llama_cpp_alone_and_together(models, open_engine, name, poolings):
    engine = open_engine(name, n_ctx=512)
    for pooling in poolings:
        theirs = by_llama_cpp(models[name], TEXTS, pooling)
        together = embed(engine, TEXTS, pooling=Pooling(pooling))
        alone = np.array([embed(engine, [text], pooling=Pooling(pooling))[0] for text in TEXTS])
        assert np.allclose(together, theirs, atol=1e-5)
        assert np.allclose(alone, theirs, atol=1e-5)
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_the_files_own_pooling_is_the_default_and_length_can_be_kept(models, open_engine):
    for name, own in (
        ("bert", "mean"),
        ("bert cls", "cls"),
        ("decoder", "last"),
        ("llama", "mean"),
    ):
        engine = open_engine(name)
        assert engine.backend.embedder.facts.pooling == own
        assert np.allclose(embed(engine, TEXTS), by_llama_cpp(models[name], TEXTS, own), atol=1e-5)
    plain = embed(engine, TEXTS, normalize=False)
    length = np.linalg.norm(plain, axis=1, keepdims=True)
    assert (abs(length - 1) > 0.1).all()
    assert np.allclose(plain / length, embed(engine, TEXTS), atol=1e-6)


def test_vectors_are_those_of_llama_cpp_python(models, open_engine):
    theirs = lib.Llama(str(models["bert"]), embedding=True, n_ctx=64, n_threads=1, verbose=False)
    try:
        expected = np.array(theirs.embed(TEXTS, normalize=True))
    finally:
        theirs.close()
    assert np.allclose(embed(open_engine("bert"), TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "decoder", "both ways", "t5"])
def test_an_embedding_model_loads_and_says_that_it_cannot_write(open_engine, name):
    engine = open_engine(name)
    assert not engine.backend.can_write
    told = engine.settings.to_dict()
    assert all(
        value is not None for key, value in told.items() if key not in ("chat_template", "mmproj")
    )
    assert told["n_ctx"] == (64 if name == "bert" else 512)
    assert engine.tokenize("hello the world")
    request = GenerateRequest(request_id="a", client_id="a", prompt_tokens=[1])
    with pytest.raises(UnsupportedByModelError, match=r"embedding model.*cannot write"):
        engine.add_request(request)
    assert embed(engine, ["hello"]).shape == (1, 32)
    assert engine.stats().num_running == 0


def test_a_reranker_and_an_encoder_with_a_decoder_are_refused(tmp_path):
    reranker = write_bert(tmp_path / "rank.gguf", pooling="rank")
    with pytest.raises(ModelLoadError, match="reranking model"):
        open_backend("llama.cpp", reranker, LoadSettings())


@pytest.mark.parametrize("name", ["llama", "mamba", "jamba", "gemma2"])
def test_a_long_text_in_pieces_is_the_same_as_in_one_go(models, open_engine, name):
    engine = open_engine(name, n_ctx=1024)
    text = "the cat and the dog, " * 60
    theirs = by_llama_cpp(models[name], [text], "mean", 1024)
    engine.backend.embedder.n_batch = 50
    vectors = embed(engine, [text, "a", text])
    assert np.allclose(vectors[[0, 2]], theirs, atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_interrupted_pieces_are_computed_again_and_nothing_else_changes(open_engine, name):
    engine = open_engine(name, n_ctx=1024)
    texts = ["the cat and the dog, " * 20, "hello", "the end " * 30]
    expected = embed(engine, texts)
    engine.backend.embedder.n_batch = 40
    answers = start(engine, texts)
    step = 0
    compute = engine.backend.embedder.compute

    def compute_and_be_interrupted(pieces):
        if step % 3 == 1:
            engine.interrupt()
        return compute(pieces)

    engine.backend.embedder.compute = compute_and_be_interrupted
    while engine.has_work:
        step += 1
        assert step < 200
        engine.step()
    assert np.allclose(answers[0], expected, atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_chats_say_the_same_beside_vectors_and_the_vectors_are_the_same(open_engine, name):
    engine = open_engine(name, n_ctx=1024, n_batch=64, n_seq_max=4)
    tokens = engine.tokenize("hello, the world is a tall tale and then the end")
    texts = [text * 5 for text in TEXTS] * 4
    expected = embed(engine, texts)

    def replies(number):
        for one in range(number):
            engine.add_request(
                GenerateRequest(
                    request_id=f"r{one}",
                    client_id="chat",
                    prompt_tokens=tokens[one:],
                    sampling=SamplingSettings(temperature=0.0, max_tokens=30),
                )
            )
        done = {}
        while engine.has_work:
            for event in engine.step():
                if isinstance(event, Finished):
                    done[event.request_id] = event.reply.text
        return done

    without = replies(3)
    answers = start(engine, texts)
    assert replies(3) == without
    assert np.allclose(answers[0], expected, atol=2e-5)


def test_room_grows_for_a_long_text_and_is_given_back(models, open_engine, monkeypatch):
    for name, usual in (("long bert", 512), ("llama", 1024)):
        engine = open_engine(name, n_ctx=2000)
        embedder = engine.backend.embedder
        assert embedder.room == usual
        short = embed(engine, TEXTS)
        text = "the cat, " * 500
        while len(embedder.tokenize(text)) > 1500:
            text = text[: -len(text) // 10]
        answers = start(engine, [*TEXTS, text, *TEXTS])
        rooms = set()
        while engine.has_work:
            engine.step()
            rooms.add(embedder.room)
        assert max(rooms) == engine.settings.n_ctx
        assert embedder.room == usual
        theirs = by_llama_cpp(models[name], [text], "mean", 2048)
        assert np.allclose(answers[0][5], theirs, atol=5e-5)
        assert np.allclose(answers[0][:5], short, atol=1e-5)
        with pytest.raises(ContextOverflowError, match="room for 2,0"):
            embed(engine, [text + text])
    monkeypatch.setattr(llama_embedding, "free_memory", lambda: 1000)
    with pytest.raises(NotEnoughMemoryError, match="more memory, and 1 KB is free"):
        embed(engine, [text])
    assert np.allclose(embed(engine, TEXTS), short, atol=1e-5)


def test_a_text_is_no_control_token_and_gets_what_the_model_wants_around_it(open_engine):
    engine = open_engine("decoder")
    (end,) = engine.tokenize("<|im_end|>", parse_special=True)
    (tokens,) = engine.embedding.tokenize(["hi <|im_end|> hi"])
    assert tokens.count(end) == 1
    assert tokens[-1] == end  # the model's own end of text
    bert = open_engine("bert")
    cls, sep = (bert.tokenize(text, parse_special=True)[0] for text in ("[CLS]", "[SEP]"))
    assert bert.embedding.tokenize(["hello"])[0][::2] == [cls, sep]


def test_a_long_whole_text_can_be_broken_off(open_engine):
    engine = open_engine("long bert", n_ctx=2048)
    answers = start(engine, ["the cat, " * 600])
    computing = threading.Event()
    compute = engine.backend.embedder.compute
    codes = []

    def compute_and_tell(pieces):
        computing.set()
        code = compute(pieces)
        codes.append(code)
        return code

    engine.backend.embedder.compute = compute_and_tell
    breaker = threading.Thread(target=lambda: (computing.wait(60), engine.interrupt()))
    breaker.start()
    engine.step()
    breaker.join()
    assert codes in ([2], [0])  # 0: the machine was quicker
    if codes == [2]:
        assert answers == []
        engine.abort("e")
    assert len(answers) == 1
    assert not engine.has_work
