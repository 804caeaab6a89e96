"""How an answer begins: where tokens are in a text, thinking, and words for a thinking model."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_fakes import WAIT_S, FakeModel

from gguf_widgets.core.chat.alignment import starts_of
from gguf_widgets.core.chat.thinking import ThinkingTime
from gguf_widgets.core.types import TokenLogprob


def tokens_of(*texts: str) -> list[TokenLogprob]:
    return [TokenLogprob(number, text, -1.0) for number, text in enumerate(texts)]


@given(st.text(st.sampled_from("ab é\u4e2d\U0001f600\U0001f680"), max_size=12), st.data())
def test_tokens_are_found_in_their_text_wherever_its_bytes_are_cut(text: str, data: Any) -> None:
    text = f"x{text}"  # a blank at the beginning may be the vocabulary's own
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))) | {0, len(whole)})
    pieces = [whole[a:b].decode(errors="replace") for a, b in itertools.pairwise(cuts)]
    starts = starts_of(tokens_of(*pieces), text)
    assert starts is not None
    assert starts == sorted(starts)
    for piece, start in zip(pieces, starts, strict=False):
        # Which of several equal characters in a row it is may not be told apart.
        assert piece.startswith("\ufffd") or text.startswith(piece.partition("\ufffd")[0], start)
    if not any("\ufffd" in piece for piece in pieces):
        assert starts == [len(whole[:cut].decode()) for cut in cuts]
    assert starts[-1] == len(text)


@pytest.mark.parametrize(
    ("pieces", "text", "starts"),
    [
        (["Hel", "lo", " you"], "Hello you", [0, 3, 5, 9]),
        ([" Hello", " you"], "Hello you", [0, 5, 9]),
        (["a", "\ufffd", "\ufffd", "b"], "aéb", [0, 1, 1, 2, 3]),
        (["a", "\ufffd\ufffd", "\ufffd!"], "a中!", [0, 1, 1, 3]),
        (["a", "\ufffd"], "a\ufffd", [0, 1, 2]),
        (["a", "\ufffd"], "a", [0, 1, 1]),
        (["Hello", " END"], "Hello", None),  # it ended at a stop string
        (["Hello"], "Hello you", None),  # the rest was not recorded
        (["Hello"], "Hallo", None),
        ([], "", [0]),
        ([], "x", None),
    ],
)
def test_tokens_of_another_text_are_not_taken_for_its_own(
    pieces: list[str], text: str, starts: list[int] | None
) -> None:
    assert starts_of(tokens_of(*pieces), text) == starts


def test_a_text_made_to_be_ambiguous_is_quick() -> None:
    parts = tokens_of(*(["\ufffd", "a"] * 4000))
    assert starts_of(parts, "a" * 8001) is None


def test_the_time_of_thinking_is_that_between_its_pieces() -> None:
    def seconds(*pieces: tuple[float, str], opened: bool = False) -> float | None:
        times = iter([at for at, _ in pieces])
        time = ThinkingTime(opened=opened, clock=lambda: next(times))
        for _, piece in pieces:
            time.feed(piece)
        return time.seconds

    assert seconds((1, "Hello"), (9, " you")) is None
    assert seconds((1, "<think>\n"), (3, "hm"), (4, "\n</think>\n"), (20, "Hello")) == 3
    assert seconds((1, "hm"), (4, "</think>"), (20, "Hello"), opened=True) == 3
    assert seconds((1, "hm\n"), (4, "</think>\nHello"), (20, "you")) == 3
    assert seconds((1, "<think>\n"), (3, "stopped")) == 2


def test_words_for_a_thinking_model_are_for_after_its_thoughts(make_chat: Any) -> None:
    facts = SimpleNamespace(
        opens_thinking=True,
        has_thinking_switch=True,
        thinking_variable="enable_thinking",
        thinking_open="<think>",
    )
    model = FakeModel([" yes"], [" again"], [" on"], [" no"])
    model.template_facts = facts
    chat = make_chat(model)
    chat.send("Hi", begin="Well,")
    stream = model.streams[0]
    assert stream.begin_with == "Well,"
    assert stream.sampling["template_variables"] == {"enable_thinking": False}
    answer = chat.messages[1]
    assert (answer.content, answer.begin) == ("Well, yes", "Well,")
    # Going on, the template has to be told the same again.
    chat.continue_answer()
    chat._answer and chat._answer.join(60)
    assert model.streams[1].begin_with == "Well, yes"
    assert model.streams[1].sampling["template_variables"] == {"enable_thinking": False}
    facts.has_thinking_switch = False
    chat.send("And?", begin="So")
    assert model.streams[2].begin_with == "</think>\n\nSo"
    assert "template_variables" not in model.streams[2].sampling
    assert chat.messages[-1].content == "</think>\n\nSo on"
    chat.send("Without")
    assert model.streams[3].begin_with is None
    # What was thought is not sent again.
    sent = [m["content"] for m in model.streams[3].messages if m["role"] == "assistant"]
    assert sent == ["Well, yes again", "So on"]


def a_thinker(*script: list[str]) -> FakeModel:
    model = FakeModel(*script)
    model.template_facts = SimpleNamespace(
        opens_thinking=True,
        has_thinking_switch=True,
        thinking_variable="enable_thinking",
        thinking_open="<think>",
    )
    return model


def test_an_edited_answer_without_its_thoughts_is_an_answer(make_chat: Any) -> None:
    chat = make_chat(a_thinker(["hm\n</think>\n\n", "Bern"], ["ok"]))
    chat.send("What is the capital?")
    answer = chat.messages[-1]
    edited = chat.edit(answer.id, "Berne")
    assert edited.record is None  # it does not begin inside thinking, as the other one did
    chat.send("Thanks")
    assert [m["content"] for m in chat.model.streams[-1].messages][1] == "Berne"
    # With its thoughts it is as it was.
    chat.show_branch(answer.id)
    with_thoughts = chat.edit(answer.id, "hm, hm\n</think>\n\nBerne")
    assert with_thoughts.record == {"opens_thinking": True}


def test_what_a_thinking_model_has_not_thought_is_gone_on_with_as_an_answer(make_chat: Any) -> None:
    chat = make_chat(a_thinker(["hm\n</think>\n\nBern"], [" is", " it"], [", yes"]))
    chat.send("What is the capital?")
    chat.edit(chat.messages[-1].id, "Berne")
    chat.continue_answer()
    until_idle(chat)
    assert chat.model.streams[1].sampling["template_variables"] == {"enable_thinking": False}
    assert chat.messages[-1].content == "Berne is it"
    chat.edit(chat.messages[-1].id, "Berne it is")
    chat.continue_answer()
    until_idle(chat)
    assert chat.model.streams[2].sampling["template_variables"] == {"enable_thinking": False}
    assert chat.messages[-1].content == "Berne it is, yes"
    # An answer of a model that does not think, gone on with by one that does.
    chat = make_chat(FakeModel(["Hello"]))
    chat.send("Hi")
    chat.model = a_thinker([" you"])
    chat.model.info = msgspec.structs.replace(chat.model.info, path="/m/other.gguf")
    chat.continue_answer()
    until_idle(chat)
    assert chat.model.streams[0].sampling["template_variables"] == {"enable_thinking": False}
    assert chat.messages[-1].content == "Hello you"


def until_idle(chat: Any) -> None:
    answer = chat._answer
    if answer is not None:
        assert answer.join(WAIT_S)
