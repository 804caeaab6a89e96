"""Replies that go on from a beginning: on llama.cpp with the demo model, and in demo mode.

About 10 s together.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.chat_template_families_1 import QWQ
from support.tiny_model import write_tiny_model
from support.tiny_projector import picture

import gguf_widgets as gw
from gguf_widgets.core.engine.open import open_backend
from gguf_widgets.core.engine.prompt import ControlTexts, PromptPart
from gguf_widgets.core.errors import ContextOverflowError, GgufWidgetsError, InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import FinishReason, LoadSettings, PromptToken, Reply, TextDelta

STORY = "Tell me a story about Emma."
ORDER = "Read the order as JSON: two red apples for Emma"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name", "count"],
}


@pytest.fixture
def real(no_leaks: None) -> Iterator[Model]:
    """Give the demo model on llama.cpp."""
    manager = ModelManager(keep_alive=0)
    yield manager.load("demo", n_threads=1)
    manager.close()


@pytest.fixture
def prepared(manager: ModelManager) -> Model:
    """Give the demo mode, whose tokens are bytes."""
    return manager.load(n_ctx=4096)


def test_a_reply_cut_anywhere_goes_on_as_it_was_and_its_prefix_is_taken_over(real: Model) -> None:
    whole = real.chat(STORY, temperature=0, logprobs=2)
    written = whole.logprobs or []
    ids = [one.token for one in written]
    assert len(ids) > 40
    for cut in (1, 2, *range(7, len(ids), 11), len(ids) - 1, len(ids)):
        reply = real.chat(STORY, temperature=0, logprobs=2, begin_with=ids[:cut])
        assert (reply.text, reply.finish_reason) == (whole.text, FinishReason.STOP), cut
        assert reply.usage.num_completion_tokens == len(ids) - cut
        assert reply.usage.num_prompt_tokens == whole.usage.num_prompt_tokens + cut
        assert reply.usage.num_cached_tokens == reply.usage.num_prompt_tokens - 1
        assert [one.token for one in reply.logprobs or []] == ids[cut:]
    # One of the other tokens instead, and on from there.
    other = next(one for one in written[5].top if one.token != ids[5])
    branch = real.chat(STORY, temperature=0, begin_with=[*ids[:5], other.token])
    before = "".join(one.text for one in written[:5])
    assert branch.text.startswith(before + other.text)
    assert branch.text != whole.text
    assert branch.usage.num_cached_tokens >= whole.usage.num_prompt_tokens + 5


def test_a_reply_that_begins_inside_its_thoughts_goes_on_as_it_was(real: Model) -> None:
    real.use_chat_template(QWQ.template)
    assert real.template_facts.opens_thinking
    assert real.render(STORY).endswith("<|im_start|>assistant\n<think>\n")
    whole = real.chat(STORY, temperature=0, logprobs=0, max_tokens=30)
    ids = [one.token for one in whole.logprobs or []]
    for cut in (1, 11, 29):
        reply = real.chat(STORY, temperature=0, begin_with=ids[:cut], max_tokens=30 - cut)
        assert reply.text == whole.text
        assert reply.usage.num_cached_tokens >= reply.usage.num_prompt_tokens - 1


def test_words_to_begin_with_are_plain_text_and_part_of_the_reply(real: Model) -> None:
    with real.stream(STORY, begin_with="Once upon <|im_end|> a", temperature=0, max_tokens=5) as s:
        deltas = list(s)
    assert deltas[0].text.startswith("Once upon <|im_end|> a")
    assert "".join(one.text for one in deltas) == s.reply.text
    assert s.reply.usage.num_completion_tokens == 5
    assert s.reply.finish_reason is FinishReason.LENGTH
    shown = real.prompt_tokens(STORY, begin_with="Once upon <|im_end|> a")
    text = "".join(one.text for one in shown)
    assert text == real.render(STORY, begin_with="Once upon <|im_end|> a")
    assert text == real.render(STORY) + "Once upon <|im_end|> a"
    assert [one.text for one in shown if one.is_control] == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>")
    ]
    assert s.reply.usage.num_prompt_tokens == len(shown)
    # As tokens they are what they are.
    (end,) = real.tokenize("<|im_end|>")
    assert real.prompt_tokens(STORY, begin_with=[end])[-1] == (PromptToken(end, "<|im_end|>", True))
    messages = [{"role": "user", "content": STORY}]
    counted = real.count_tokens(messages, begin_with="Once upon <|im_end|> a")
    assert counted == len(shown)


def test_a_schema_goes_on_from_the_words_and_refuses_what_does_not_fit(real: Model) -> None:
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 60}
    begin = '{"name": "Li'
    reply = real.chat(ORDER, schema=SCHEMA, begin_with=begin, **greedy)
    assert reply.text.startswith(begin)
    assert set(json.loads(reply.text)) == {"name", "count"}
    ids = real.tokenize(begin, parse_special=False)
    as_tokens = real.chat(ORDER, schema=SCHEMA, begin_with=ids, **greedy)
    assert set(json.loads(as_tokens.text)) == {"name", "count"}
    for bad, fits in (
        ('{"age"', '{"'),
        ("Sure: {", ""),
        ('{"name": "a", "count": 1} and', '"count": 1}'),
        ("{<|im_end|>", "{"),
        (ids[:2] + real.tokenize("<|im_end|>"), None),
    ):
        with pytest.raises(InvalidValueError, match="does not fit its schema or grammar") as caught:
            real.chat(ORDER, schema=SCHEMA, begin_with=bad, **greedy)
        if fits is not None:
            assert str(caught.value.details["fits"]).endswith(fits)
    # Where only what is generated has to follow it.
    free = real.chat(ORDER, schema=SCHEMA, begin_with="As JSON:\n", constrain_begin=False, **greedy)
    assert set(json.loads(free.text.removeprefix("As JSON:\n"))) == {"name", "count"}


def test_every_way_to_ask_takes_a_beginning(real: Model) -> None:
    settings: dict[str, Any] = {"begin_with": "Emma said", "temperature": 0, "max_tokens": 4}
    expected = real.chat(STORY, **settings).text
    assert expected.startswith("Emma said")
    assert [one.text for one in real.choices(STORY, 2, **settings)] == [expected] * 2

    async def ask() -> list[str]:
        pieces = [delta.text async for delta in real.astream(STORY, **settings)]
        return [(await real.achat(STORY, **settings)).text, "".join(pieces)]

    assert asyncio.run(ask()) == [expected] * 2
    ends: queue.SimpleQueue[Reply | GgufWidgetsError] = queue.SimpleQueue()
    real.submit(STORY, ends.put, **settings)
    assert str(ends.get(timeout=60)) == expected
    raw = real.complete(real.render(STORY), **settings)
    assert raw.text == expected
    assert asyncio.run(real.acomplete(real.render(STORY), **settings)).text == expected


def test_a_beginning_behind_an_image(real: Model) -> None:
    seen = gw.image(picture(3, 56, 56))
    asked = [{"role": "user", "content": [seen, "Which shape is this?"]}]
    shown = real.prompt_tokens(asked, begin_with="It is")
    (place,) = (one for one in shown if one.token == -1)
    num_tokens = real.count_tokens(asked, begin_with="It is") - len(shown) + 1
    assert place.text == f"[image 1: {num_tokens} tokens]"
    reply = real.chat(asked, begin_with="It is", temperature=0, max_tokens=4)
    assert reply.text.startswith("It is")
    with pytest.raises(InvalidValueError, match="Token 70000 does not exist"):
        real.chat(asked, begin_with=[70_000])


def test_a_beginning_that_cannot_be_is_refused_before_anything_is_computed(real: Model) -> None:
    for bad, words in (
        ([1, -5], "Entry 1 of begin_with is -5"),
        ([True], "Entry 0 of begin_with is True"),
        ([1.0], "Entry 0 of begin_with is 1.0"),
        ([2**31], "tokens are whole numbers"),
        ({"a": 1}, "this is a dict"),
        (b"Sure", "this is a bytes"),
        ("half \ud83d", "half a character"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            real.chat("Hi", begin_with=bad)
    with pytest.raises(InvalidValueError, match="Token 1536 does not exist"):
        real.chat("Hi", begin_with=[1536])
    with pytest.raises(ContextOverflowError):
        real.chat("Hi", begin_with=[20] * 2000)
    assert real.chat("Hi", begin_with="", temperature=0, max_tokens=2).text
    assert real.chat("Hi", begin_with=np.array([53]).tolist(), max_tokens=1).text.startswith("S")


def test_a_beginning_may_end_in_the_middle_of_a_character(prepared: Model) -> None:
    question = "grüße 🙂 日本"  # which the answer repeats
    whole = prepared.chat(question).text
    data = whole.encode()
    start = data.index("🙂".encode())
    for cut in [0, *range(start - 2, start + 14), len(data)]:
        with prepared.stream(question, begin_with=list(data[:cut])) as stream:
            deltas = [delta.text for delta in stream]
        assert stream.reply.text == "".join(deltas) == whole, cut
        assert stream.reply.usage.num_completion_tokens == len(data) - cut
    # What was only begun is not lost where the reply ends there.
    reply = prepared.chat(question, begin_with=list(data[: start + 2]), max_tokens=1)
    assert reply.text == data[:start].decode() + "\ufffd"


def test_stop_strings_are_looked_for_in_what_is_generated(prepared: Model) -> None:
    whole = prepared.chat("Help").text
    begin = whole[: whole.index("model") + 3]
    reply = prepared.chat("Help", begin_with=begin, stop=["demo", "model"])
    assert reply.stop_string == "model"
    assert reply.text == whole[: whole.index("model", len(begin))]
    # Demo mode answers behind other words.
    assert prepared.chat("Help", begin_with="Well, ").text == "Well, " + whole


def test_a_reply_stopped_before_its_first_word_is_what_it_was_to_begin_with(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "5")
    slow = manager.load()
    for begin, text in (("Well, ", "Well, "), (list("Wöll".encode()), "Wöll")):
        with slow.stream(STORY * 40, begin_with=begin) as stream:
            stream.stop()
            deltas: list[TextDelta] = list(stream)
        assert stream.reply.finish_reason is FinishReason.ABORTED
        assert stream.reply.text == "".join(delta.text for delta in deltas)
        assert stream.reply.text.startswith(text)


@pytest.mark.parametrize("vocabulary", ["bpe", "spm"])
def test_bytes_are_cut_into_tokens_that_are_exactly_these(tmp_path: Any, vocabulary: str) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", vocabulary=vocabulary)
    backend = open_backend("llama.cpp", path, LoadSettings(n_ctx=64, n_threads=1))
    try:
        for text in ("hello, the", " a", "the <s> end", "日本🙂", '{"the": 1}'):
            for data in (text.encode(), text.encode()[1:], text.encode()[:-1]):
                tokens = backend._vocabulary.cut(data)
                assert tokens is not None
                assert b"".join(map(backend.token_to_piece, tokens)) == data
    finally:
        backend.close()


def test_a_persons_text_becomes_no_control_token_with_what_is_before_it() -> None:
    control = ControlTexts(("<|end|>", "<s>"))
    assert control.followed([PromptPart("a\n")], "b") == [PromptPart("a\nb")]
    assert control.followed([PromptPart("a<|e")], "nd|>b") == [PromptPart("a<|e"), ("nd|>b", True)]
    assert control.followed([PromptPart("a")], "<s>b") == [("a", True), ("<s>", False), ("b", True)]
    assert control.followed([PromptPart("<s>", False)], "b") == [("<s>", False), ("b", True)]
