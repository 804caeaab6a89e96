"""The bundled model file: what is in it, that its tokens are right, and that it really answers."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from gguf_widgets.demo import demo_model_path
from gguf_widgets.demo.chatml import TEMPLATE, render
from gguf_widgets.demo.evaluate import Answerer, measure
from gguf_widgets.demo.sentences.base import Conversation, Turn
from gguf_widgets.demo.sentences.conversations import conversation

NEEDS_LLAMA = "llama-cpp-python is not installed, so the demo model cannot be run"


@pytest.fixture(scope="module")
def header() -> Any:
    gguf = pytest.importorskip("gguf", reason="the gguf package reads the file for this test")
    return gguf.GGUFReader(demo_model_path())


@pytest.fixture(scope="module")
def answerer() -> Iterator[Answerer]:
    pytest.importorskip("llama_cpp", reason=NEEDS_LLAMA)
    loaded = Answerer(threads=1)  # on a busy machine two threads mostly wait for each other
    yield loaded
    loaded.llama.close()


def value(header: Any, key: str) -> Any:
    return header.fields[key].contents()


def texts(count: int) -> list[str]:
    rng = Random(12)  # noqa: S311 - sentences, not secrets
    made = [render(conversation(rng, rng.choice(("train", "held_out")))) for _ in range(count)]
    letters = (
        "abz ABZ  \n\t.,!?\"'{}[]():;0123456789+-*/=<>_#@ é ß ñ 日本 한 😀 ½ ² ٣ — \u00a0\u3000"
    )
    return made + ["".join(rng.choices(letters, k=rng.randint(1, 40))) for _ in range(count)]


def test_the_file_is_small_and_says_what_it_is(header: Any) -> None:
    assert demo_model_path().stat().st_size <= 6_000_000
    assert value(header, "general.architecture") == "llama"
    assert value(header, "general.name") == "gguf-widgets demo"
    assert value(header, "general.author") == "gguf-widgets"
    assert value(header, "general.license") == "mit"
    assert value(header, "general.file_type") == 7  # mostly Q8_0
    assert "demo" in value(header, "general.description")
    assert value(header, "tokenizer.chat_template") == TEMPLATE
    assert value(header, "llama.context_length") == 1024


def test_the_file_has_two_to_four_million_parameters_in_q8(header: Any) -> None:
    assert 2_000_000 <= sum(int(tensor.n_elements) for tensor in header.tensors) <= 4_000_000
    assert {tensor.tensor_type.name for tensor in header.tensors} == {"Q8_0", "F32"}


def test_control_tokens(header: Any) -> None:
    tokens = value(header, "tokenizer.ggml.tokens")
    assert tokens[value(header, "tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    assert tokens[value(header, "tokenizer.ggml.eot_token_id")] == "<|im_end|>"
    assert value(header, "tokenizer.ggml.add_bos_token") is False
    kinds = value(header, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    assert control == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_the_chat_template_gives_the_text_of_the_training() -> None:
    jinja2 = pytest.importorskip("jinja2")
    talk = Conversation("", (Turn("Hi", "Hello!"), Turn("2+2", "2 + 2 = 4")), "Be brief.")
    messages = [{"role": "system", "content": "Be brief."}]
    for turn in talk.turns:
        messages += [
            {"role": "user", "content": turn.user},
            {"role": "assistant", "content": turn.answer},
        ]
    template = jinja2.Template(TEMPLATE)
    assert template.render(messages=messages) == render(talk)
    asked = template.render(messages=messages[:2], add_generation_prompt=True)
    assert render(talk).startswith(asked)
    assert asked.endswith("<|im_start|>assistant\n")


def test_llama_cpp_gives_the_tokens_of_the_training(header: Any, answerer: Answerer) -> None:
    from gguf_widgets.demo import tokenizer

    tokens = value(header, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in value(header, "tokenizer.ggml.merges")]
    trained = tokenizer.assemble({token: i for i, token in enumerate(tokens)}, merges)
    for text in texts(1000):
        ours = answerer.llama.tokenize(text.encode(), add_bos=False, special=True)
        assert ours == trained.encode(text).ids, text


def test_text_comes_back_from_its_tokens(answerer: Answerer) -> None:
    for text in texts(200):
        tokens = answerer.llama.tokenize(text.encode(), add_bos=False, special=True)
        assert answerer.llama.detokenize(tokens, special=True).decode() == text


# What was measured (see the model card), less a margin for few questions.
FLOORS = {
    "sentiment, in the words of the tutorials": 0.72,
    "order JSON, in the words of the tutorials": 0.75,
    "sums, numbers up to 20": 0.44,
    "second turn: the person's name": 0.82,
    "says that it does not know": 0.74,
}


@pytest.mark.parametrize(("kind", "floor"), FLOORS.items())
def test_it_answers_what_it_never_saw(answerer: Answerer, kind: str, floor: float) -> None:
    (score,) = measure(answerer, 32, seed=5, kinds=[kind])
    assert score.share >= floor, score.wrong[:3]


@pytest.mark.parametrize("question", ["hi", "Who are you?", "what can you do?", "hello there!"])
def test_it_says_what_it_is(answerer: Answerer, question: str) -> None:
    reply = answerer.ask(question)
    assert "demo model" in reply or "I can label a review" in reply


def test_it_says_how_to_get_a_bigger_model(answerer: Answerer) -> None:
    assert "models folder" in answerer.ask("How do I get a bigger model?")


def test_it_tells_a_story_of_the_person_asked_for(answerer: Answerer) -> None:
    reply = answerer.ask("Tell me a story about Emma.")
    assert reply.count("Emma") >= 2
    assert reply.count(".") == 4
