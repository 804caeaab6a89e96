"""What fits, what is left out where it does not, and what stands in its place.

The first half on a made-up model of which every word is a token; the second on the demo model and
its real template (one worker). About six seconds.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_fakes import FakeModel
from support.word_model import MARKS, WordModel

from gguf_widgets.core.chat.attach import attach, with_tokens
from gguf_widgets.core.chat.context import ContextPlan, plan, prepare
from gguf_widgets.core.chat.context_count import TokenCounter
from gguf_widgets.core.chat.context_summary import MAX_STEPS, summary_budget
from gguf_widgets.core.chat.prompt import prompt_for
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    RequestCancelledError,
    RequestError,
)
from gguf_widgets.core.types import SamplingSettings, TemplateFacts

numbers = itertools.count()


def message(role: str, num_words: int, **more: Any) -> ChatMessage:
    number = next(numbers)
    content = " ".join([f"w{number}"] * num_words)
    return ChatMessage(
        id=f"m{number}",
        conversation_id="c",
        parent_id=None,
        role=role,
        content=content,
        status=MessageStatus.COMPLETE,
        created_at=0.0,
        **more,
    )


def turns(*sizes: int, answers: int = 5) -> list[ChatMessage]:
    """Return a line that ends with a question: each size is a question's number of words."""
    line: list[ChatMessage] = []
    for size in sizes:
        line += [message("user", size), message("assistant", answers)]
    return line[:-1]


def sent(line: list[ChatMessage]) -> list[str]:
    return [one.content for one in line]


SETTINGS = SamplingSettings(max_tokens=10)

# -- what fits -----------------------------------------------------------------------------------


def test_a_short_conversation_is_sent_whole_without_asking_the_model_anything() -> None:
    model, line = WordModel(4096), turns(5, 5, 5)
    prepared = prepare(line, "Be nice.", model, SETTINGS)
    assert prepared == (prompt_for(line, "Be nice.").messages, (), None)
    assert model.asked == 0


def test_a_model_that_cannot_count_is_sent_everything() -> None:
    line = turns(5000)
    assert prepare(line, None, FakeModel(), SETTINGS).messages == prompt_for(line, None).messages


def test_stop_says_the_numbers_and_the_choices_and_sends_nothing() -> None:
    model, line = WordModel(100), turns(40, 40, 40)
    with pytest.raises(ContextOverflowError) as caught:
        prepare(line, "Be nice.", model, SETTINGS)
    details = caught.value.details
    used = model.count_tokens(prompt_for(line, "Be nice.").messages)
    assert details["n_ctx"] == 100
    assert details["num_prompt_tokens"] == used
    assert details["over"] == used + 1 - 100
    assert details["choices"] == ["drop_oldest", "summarize"]
    assert details["left_out"] == [one.id for one in line[:4]]
    assert f"{used:,} tokens" in caught.value.message
    assert model.streams == []


@pytest.mark.parametrize("when_full", ["stop", "drop_oldest", "summarize"])
def test_a_message_that_is_too_long_alone_is_refused_as_such(when_full: str) -> None:
    with pytest.raises(ContextOverflowError, match="This message is too long") as caught:
        prepare(turns(5, 300), None, WordModel(100), SETTINGS, when_full)
    assert caught.value.details["problem"] == "message"
    assert caught.value.details["choices"] == []


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="when_full is 'forget'"):
        prepare(turns(5), None, WordModel(100), SETTINGS, "forget")


# -- leaving out -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    n_ctx=st.integers(60, 400),
    system=st.sampled_from([None, "Be nice to me."]),
    begin=st.integers(0, 5),
)
def test_what_is_sent_fits_and_alternates_and_ends_with_the_question(
    sizes: list[int], n_ctx: int, system: str | None, begin: int
) -> None:
    model, line = WordModel(n_ctx), turns(*sizes)
    words = " ".join(["so"] * begin)
    alone = model.count_tokens(prompt_for(line[-1:], system).messages) + begin
    if alone + 1 > n_ctx:
        with pytest.raises(ContextOverflowError):
            prepare(line, system, model, SETTINGS, "drop_oldest", words)
        return
    prepared = prepare(line, system, model, SETTINGS, "drop_oldest", words)
    roles = [one["role"] for one in prepared.messages]
    assert roles[-1] == "user"
    assert (roles[0] == "system") == (system is not None)
    assert all(a != b for a, b in itertools.pairwise(roles))
    assert model.count_tokens(prepared.messages) + begin + 1 <= n_ctx
    # What is not sent is what is named, and it is the oldest.
    num_left_out = len(prepared.left_out)
    assert prepared.left_out == tuple(one.id for one in line[:num_left_out])
    assert prepared.messages == prompt_for(line[num_left_out:], system).messages
    if num_left_out:
        assert model.count_tokens(prompt_for(line, system).messages) + begin + 10 > n_ctx


def test_the_next_turns_go_on_from_the_same_beginning() -> None:
    model = WordModel(200)
    line = turns(*[20] * 8)
    first = prepare(line, None, model, SETTINGS, "drop_oldest")
    assert first.left_out
    for _ in range(2):
        line += [message("assistant", 5, left_out=first.left_out), message("user", 3)]
        again = prepare(line, None, model, SETTINGS, "drop_oldest")
        assert again.left_out == first.left_out
        assert again.messages[: len(first.messages)] == first.messages
    # A model with a larger context is sent everything again.
    assert prepare(line, None, WordModel(2000), SETTINGS, "drop_oldest").left_out == ()


def test_an_answer_that_ran_into_the_end_can_go_on_after_leaving_out() -> None:
    model, line = WordModel(120), turns(20, 20, 20)
    written = " ".join(["more"] * 35)
    assert prepare(line, None, model, SETTINGS).left_out == ()
    with pytest.raises(ContextOverflowError):
        prepare(line, None, model, SETTINGS, "stop", written)
    left = prepare(line, None, model, SETTINGS, "drop_oldest", written)
    assert len(left.left_out) == 2
    assert prepare(line, None, model, SETTINGS, "drop_oldest", [7] * 35) == left


def test_long_conversations_are_counted_once_and_not_with_each_letter() -> None:
    model = WordModel(8000)
    line = turns(*[40] * 100)[:-1]
    plan(line, None, model, SETTINGS, "a")
    before = model.asked
    for end in range(2, 12):
        plan(line, None, model, SETTINGS, "abcdefghijklmnop"[:end])
    assert model.asked - before <= 2 * 10


# -- summing up ------------------------------------------------------------------------------------


def test_a_summary_stands_where_the_oldest_were() -> None:
    model = WordModel(400, ["They spoke ", "of lamps."])
    line = turns(90, 90, 90, 90)
    progress: list[tuple[int, int]] = []
    prepared = prepare(
        line, "Be nice.", model, SETTINGS, "summarize", on_progress=lambda *at: progress.append(at)
    )
    assert prepared.summary == "They spoke of lamps."
    assert prepared.left_out == tuple(one.id for one in line[: len(prepared.left_out)])
    first, second = prepared.messages[:2]
    assert first == {"role": "system", "content": "Be nice."}
    assert second["role"] == "user"
    assert "They spoke of lamps." in second["content"]
    assert second["content"].endswith(line[len(prepared.left_out)].content)
    assert progress[0][0] == 0
    assert progress[-1] == (progress[-1][1], progress[-1][1])
    (question,) = model.streams[0].messages
    assert line[0].content in question["content"]
    assert line[-1].content not in question["content"]
    assert model.streams[0].sampling["max_tokens"] == summary_budget(400)


def test_it_is_made_once_and_then_only_goes_on() -> None:
    model = WordModel(400, ["First summary."], ["Second summary."])
    line = turns(90, 90, 90, 90)
    first = prepare(line, None, model, SETTINGS, "summarize")
    kept = message("assistant", 5, left_out=first.left_out, summary=first.summary)
    line += [kept, message("user", 4)]
    again = prepare(line, None, model, SETTINGS, "summarize")
    assert (again.summary, again.left_out) == ("First summary.", first.left_out)
    assert len(model.streams) == 1
    line += [message("assistant", 5, left_out=again.left_out, summary=again.summary)]
    line += turns(90, 60)
    last = prepare(line, None, model, SETTINGS, "summarize")
    assert last.summary == "Second summary."
    assert set(last.left_out) > set(first.left_out)
    (question,) = model.streams[1].messages
    assert "First summary." in question["content"]
    assert line[0].content not in question["content"]


def test_what_is_long_is_summed_up_in_pieces_that_fit() -> None:
    model = WordModel(160, *[[f"Part {n}."] for n in range(MAX_STEPS)])
    line = turns(100, 100, 100, 20)
    prepared = prepare(line, None, model, SETTINGS, "summarize")
    assert len(model.streams) > 3
    for stream in model.streams:
        assert model.count_tokens(stream.messages) + summary_budget(160) <= 160
    assert prepared.summary == f"Part {len(model.streams) - 1}."
    asked = " ".join(stream.messages[0]["content"] for stream in model.streams)
    for one in line[: len(prepared.left_out)]:
        assert asked.count(one.content.split()[0]) >= len(one.content.split())


def test_what_would_take_too_many_steps_is_refused_with_another_choice() -> None:
    model = WordModel(160)
    with pytest.raises(ContextOverflowError, match=f"at most {MAX_STEPS}") as caught:
        prepare(turns(4000, 20), None, model, SETTINGS, "summarize")
    assert caught.value.details["choices"] == ["drop_oldest"]
    assert model.streams == []
    with pytest.raises(ContextOverflowError, match="too small to sum up"):
        prepare(turns(60, 20), None, WordModel(70), SETTINGS, "summarize")


def test_stop_works_while_the_model_still_reads() -> None:
    model = WordModel(160)
    stop = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            prepare(turns(30, 30, 30, 30), None, model, SETTINGS, "summarize", stopped=stop.is_set)
        except RequestCancelledError as error:
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    stream = model.next_stream()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    assert len(failed) == 1
    assert stream.stopped.is_set()
    assert stream.closed


def test_a_model_that_writes_no_summary_is_told_of_and_nothing_is_sent() -> None:
    with pytest.raises(RequestError, match="wrote no summary"):
        prepare(turns(30, 30, 30, 30), None, WordModel(160, [" "]), SETTINGS, "summarize")


def test_a_summary_that_thinks_aloud_keeps_the_summary_alone() -> None:
    model = WordModel(400, ["<think>hm, hm</think>\n\nLamps."])
    assert prepare(turns(90, 90, 90, 90), None, model, SETTINGS, "summarize").summary == "Lamps."


@pytest.mark.parametrize("switch", ["thinking", None])
def test_a_model_that_always_thinks_first_sums_up_without_thoughts(switch: str | None) -> None:
    model = WordModel(400, ["Lamps", " only."])
    model.template_facts = TemplateFacts(
        opens_thinking=True, thinking_open="<think>", thinking_variable=switch
    )
    assert prepare(turns(90, 90, 90, 90), None, model, SETTINGS, "summarize").summary == (
        "Lamps only."
    )
    (stream,) = model.streams
    assert stream.sampling.get("template_variables") == ({switch: False} if switch else None)
    assert stream.begin == ("" if switch else "</think>\n\n")


# -- the plan ------------------------------------------------------------------------------------


def whole(found: ContextPlan) -> int:
    return found.system + found.history + found.attachments + found.message + found.begin


def test_the_plans_parts_are_the_whole_and_name_what_would_go() -> None:
    model = WordModel(100)
    line = [*turns(20, 20), message("assistant", 5)]
    file, _ = attach(b"one two three", name="a.txt")
    found = plan(line, "Be nice.", model, SETTINGS, "What now?", [file], "Well then")
    assert whole(found) == found.used
    draft = message("user", 0, attachments=(file,))
    assert found.begin == 2
    assert found.message == 2 + MARKS
    assert found.attachments == TokenCounter(model).text('Attached file "a.txt": ``` x y z ```')[0]
    assert not draft.content
    assert found.room == 100 - found.used
    assert (found.fits, found.left_out) == (True, ())
    long = plan(line, "Be nice.", model, SETTINGS, "word " * 40, [file])
    assert not long.fits
    assert long.over == long.used + long.wanted - 100
    assert long.can_drop
    assert long.left_out == prepare(
        [*line, draft.__class__(**_fields(draft) | {"content": "word " * 40})],
        "Be nice.", model, SETTINGS, "drop_oldest",
    ).left_out  # fmt: skip
    hopeless = plan(line, None, model, SETTINGS, "word " * 400)
    assert (hopeless.fits, hopeless.can_drop, hopeless.left_out) == (False, False, ())


def _fields(one: ChatMessage) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_an_empty_draft_and_an_empty_conversation_have_plans_too() -> None:
    model = WordModel(100)
    assert plan([], None, model, SETTINGS).used == 0
    found = plan([*turns(5), message("assistant", 5)], None, model, SETTINGS)
    assert (found.message, found.history) == (0, found.used)


# -- on the demo model, with its own template ------------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> Iterator[Any]:
    from gguf_widgets.core.manager import ModelManager

    manager = ModelManager(keep_alive=0)
    yield manager.load("demo", n_ctx=512, n_threads=1)
    manager.close()


STORY = "Tell me a story about Emma and the old radio in the attic of the house. " * 2


def told(num_turns: int) -> list[ChatMessage]:
    line = turns(*[1] * num_turns)
    return [
        type(one)(**_fields(one) | {"content": f"{number}. {STORY}"})
        for number, one in enumerate(line)
    ]


def test_the_plan_is_what_the_model_really_counts(demo: Any) -> None:
    line = [*told(2), message("assistant", 5)]
    found = plan(line, "Be brief.", demo, SETTINGS, "And then?", [], "Then")
    asked = message("user", 0)
    asked = type(asked)(**_fields(asked) | {"content": "And then?"})
    exact = demo.count_tokens(prompt_for([*line, asked], "Be brief.").messages)
    assert found.used == exact + len(demo.tokenize("Then", parse_special=False))
    assert whole(found) == found.used
    assert found.exact
    assert plan([], None, demo, SETTINGS).used == 0
    assert plan([], "Be brief.", demo, SETTINGS).system > 3
    usage = demo.chat(prompt_for([*line, asked], "Be brief.").messages, max_tokens=1).usage
    assert usage.num_prompt_tokens == exact


@pytest.mark.parametrize("when_full", ["drop_oldest", "summarize"])
def test_a_full_context_goes_on(demo: Any, when_full: str) -> None:
    line = told(12)
    with pytest.raises(ContextOverflowError):
        prepare(line, "Be brief.", demo, SETTINGS)
    prepared = prepare(line, "Be brief.", demo, SETTINGS, when_full)
    reply = demo.chat(prepared.messages, max_tokens=5, temperature=0)
    assert reply.usage.num_prompt_tokens <= 512 - 10
    assert prepared.left_out
    assert (prepared.summary is not None) == (when_full == "summarize")


def test_five_megabytes_are_judged_and_not_sent(demo: Any) -> None:
    huge = message("user", 0)
    huge = type(huge)(**_fields(huge) | {"content": "All work and no play. " * 240_000})
    with pytest.raises(ContextOverflowError, match="too long") as caught:
        prepare([huge], None, demo, SETTINGS)
    assert caught.value.details["num_prompt_tokens"] > 1_000_000
    file, data = attach(huge.content.encode(), name="a.txt")
    assert (with_tokens(file, data, demo).num_tokens or 0) > 1_000_000
