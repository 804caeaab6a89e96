"""A conversation: what the model is sent, what is refused, and what an error leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
from support.chat_fakes import FakeModel, Watcher, said

from gguf_widgets.core.chat.types import title_from
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    RequestError,
    WorkerDiedError,
)
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, SamplingSettings, Usage


def test_a_conversation_is_sent_whole_and_found_again(make_chat: Any, store: Store) -> None:
    model = FakeModel(["Hel", "lo"], ["Fine"])
    chat = make_chat(model, system="Be brief.", temperature=0, seed=3)
    reply = chat.send("Hi  there\nfriend")
    assert (reply.text, reply.seed) == ("Hello", 7)
    chat.send("How are you?", max_tokens=5)
    assert model.streams[1].messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi  there\nfriend"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How are you?"},
    ]
    assert model.streams[1].sampling["max_tokens"] == 5
    assert all(stream.closed for stream in model.streams)
    assert chat.title == "Hi there friend"
    assert chat.context_used == (41, 512)

    again = make_chat(conversation_id=chat.conversation_id)
    assert again.messages == chat.messages
    assert (again.title, again.system) == ("Hi there friend", "Be brief.")
    answer = again.messages[3]
    assert answer.sampling == SamplingSettings(temperature=0, seed=3, max_tokens=5)
    assert (answer.seed, answer.finish_reason) == (7, FinishReason.STOP)
    assert answer.model_name == "fake"
    assert answer.model is not None
    assert answer.model["settings"]["n_ctx"] == 512
    assert answer.usage == Usage(num_prompt_tokens=40, num_completion_tokens=1)


def test_death_in_the_middle_keeps_the_text_and_the_next_message_works(
    make_chat: Any, store: Store
) -> None:
    died = WorkerDiedError("The model's process ended (signal 9).", signal=9)
    model = FakeModel(["Half an "], ["Whole"])
    model.script[0].append(died)
    chat = make_chat(model)
    with pytest.raises(WorkerDiedError, match="signal 9") as caught:
        chat.send("First")
    assert caught.value.details == {"signal": 9}
    assert said(chat) == [("user", "First", "complete"), ("assistant", "Half an ", "failed")]
    failed = chat.messages[1]
    assert failed.error is not None
    assert failed.error["kind"] == "WorkerDiedError"
    assert failed.finish_reason is FinishReason.ERROR
    assert Conversations(store).message(failed.id) == failed
    assert chat.snapshot().left_out == [failed.id]
    assert chat.send("Second").text == "Whole"
    # What failed is not put into the model's mouth; the two questions became one turn.
    assert model.streams[1].messages == [{"role": "user", "content": "First\n\nSecond"}]


def test_a_message_that_does_not_fit_is_shown_and_does_not_spoil_the_next(make_chat: Any) -> None:
    too_long = ContextOverflowError("It has 900 tokens; there is room for 512.", over=388)
    model = FakeModel([too_long], ["Short answer"])
    chat = make_chat(model)
    with pytest.raises(ContextOverflowError):
        chat.send("very long " * 1000)
    asked, failed = chat.messages
    assert asked.content == "very long " * 1000
    assert failed.error is not None
    assert failed.error["details"] == {"over": 388}
    assert chat.snapshot().left_out == [asked.id, failed.id]
    chat.send("Short")
    assert model.streams[1].messages == [{"role": "user", "content": "Short"}]


def test_an_error_nobody_expected_is_shown_and_logged(
    make_chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chat = make_chat(FakeModel([ZeroDivisionError("oops")], ["fine"]))
    with pytest.raises(RequestError, match="ZeroDivisionError: oops"):
        chat.send("Hi")
    assert "not expected" in caplog.text
    assert chat.send("Again").text == "fine"


def test_what_cannot_be_sent_changes_nothing(make_chat: Any, store: Store) -> None:
    chat = make_chat()
    with pytest.raises(RequestError, match="Choose a model first"):
        chat.send("Hi")
    chat.model = FakeModel()
    for text, words in [("", "empty"), (" \n", "empty"), (3, "must be a text, not int")]:
        with pytest.raises(InvalidValueError, match=words):
            chat.start(text)
    with pytest.raises(InvalidValueError, match="temperature is 9"):
        chat.start("Hi", temperature=9)
    with pytest.raises(InvalidValueError, match="Did you mean 'temperature'"):
        chat.start("Hi", temprature=1)
    assert chat.messages == []
    assert Conversations(store).recent() == []
    chat.close()
    with pytest.raises(RequestError, match="was closed"):
        chat.start("Hi")


def test_settings_are_checked_before_they_count(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["x"]), model_type="code", top_k=7)
    assert (chat.sampling.temperature, chat.sampling.top_k) == (0.2, 7)
    assert "programming" in chat.system
    with pytest.raises(InvalidValueError, match="Did you mean 'code'"):
        make_chat(model_type="coda")
    with pytest.raises(InvalidValueError, match="must be a text"):
        chat.system = 3
    with pytest.raises(InvalidValueError):
        chat.sampling = {"temperature": float("nan")}
    assert chat.sampling.temperature == 0.2
    chat.sampling = {"temperature": 1, "stop": "END"}
    assert chat.sampling.stop == ("END",)
    assert (chat.sampling.temperature, chat.sampling.top_p) == (1.0, 0.9)
    chat.sampling = SamplingSettings(temperature=0.5)
    chat.model_type = "text"
    assert chat.sampling == SamplingSettings(temperature=0.5)
    assert chat.system is None
    chat.model_type = "code"
    chat.system = ""
    assert chat.system is None
    chat.send("Hi")
    assert chat.model.streams[0].messages == [{"role": "user", "content": "Hi"}]


def test_what_is_said_for_a_conversation_that_is_opened_counts_more_than_what_was_kept(
    make_chat: Any,
) -> None:
    kept = make_chat(FakeModel(["x"]), model_type="code", top_k=7)
    kept.send("Hi")
    opened = {"conversation_id": kept.conversation_id}
    again = make_chat(**opened)
    assert (again.model_type, again.sampling.top_k) == ("code", 7)
    other = make_chat(**opened, model_type="text", temperature=0.1)
    assert (other.model_type, other.system) == ("text", None)
    assert (other.sampling.top_k, other.sampling.temperature) == (7, 0.1)
    assert make_chat(**opened).model_type == "text"  # and is kept with it from then on
    with pytest.raises(InvalidValueError, match="no model_type"):
        make_chat(**opened, model_type="coda")


def test_regenerate_makes_a_branch_and_keeps_the_old_answer(make_chat: Any, store: Store) -> None:
    model = FakeModel(["A"], ["B"], ["better A"])
    chat = make_chat(model)
    chat.send("one")
    chat.send("two")
    first, old = chat.messages[0], chat.messages[1]
    watcher = Watcher(chat)
    chat.regenerate(old.id, temperature=1.5)
    watcher.wait_end()
    assert [m.content for m in chat.messages] == ["one", "better A"]
    assert model.streams[2].messages == [{"role": "user", "content": "one"}]
    assert chat.messages[1].sampling.temperature == 1.5
    conversations = Conversations(store)
    everything = conversations.tree(chat.conversation_id)
    assert [m.content for m in everything] == ["one", "A", "two", "B", "better A"]
    assert [m.parent_id for m in everything] == [
        None,
        first.id,
        old.id,
        everything[2].id,
        first.id,
    ]
    assert conversations.path(chat.conversation_id, everything[3].id)[-1].content == "B"
    with pytest.raises(InvalidValueError, match="is no answer"):
        chat.regenerate(first.id)


def test_titles() -> None:
    assert title_from("  Hello \n\n world ") == "Hello world"
    long = "word " * 50
    assert title_from(long).startswith("word word")
    assert title_from(long).endswith("word…")
    assert len(title_from("x" * 1000)) == 60
    assert title_from("x" * 1000).endswith("…")


def test_to_frame(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["a"], [RequestError("No.")]))
    chat.send("Hi")
    with pytest.raises(RequestError):
        chat.send("Again")
    frame = chat.to_frame()
    assert list(frame["role"]) == ["user", "assistant", "user", "assistant"]
    assert list(frame["error"].fillna("")) == ["", "", "", "No."]
    assert frame["num_completion_tokens"].tolist()[1] == 1
    assert frame["num_completion_tokens"].isna().tolist() == [True, False, True, True]
    assert str(frame["created"].dtype) == "datetime64[ns, UTC]"
    assert make_chat().to_frame().empty
