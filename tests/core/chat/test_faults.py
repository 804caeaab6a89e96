"""What went wrong once in a chat: two windows, a store that fails, stops between rounds. 4 s."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, Watcher, said
from support.tool_fakes import WritingModel

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.errors import (
    RequestError,
    StoreError,
    UnsupportedByModelError,
)
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.tools import tool
from gguf_widgets.core.types import TemplateFacts

LOCKED = StoreError("The file is in use.", reason="locked")


def until(found: Callable[[], Any], what: str = "") -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return value


def a_call(name: str, **arguments: Any) -> str:
    inner = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{inner}\n</tool_call>"


def calls_of(messages: list[ChatMessage]) -> list[ToolCall]:
    return [call for message in messages for call in message.tool_calls]


@contextlib.contextmanager
def unwritable(chat: ChatInterface) -> Iterator[None]:
    """Let nothing be written of the chat's messages."""

    def fail(*args: Any, **keywords: Any) -> None:
        raise LOCKED

    with pytest.MonkeyPatch.context() as patch:
        for name in ("save", "save_progress", "keep_tokens"):
            patch.setattr(chat._conversations, name, fail)
        yield


class Gated:
    """A tool for each city that waits until the test lets it go."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.gates: dict[str, threading.Event] = {}

    def gate(self, city: str) -> threading.Event:
        return self.gates.setdefault(city, threading.Event())

    def weather(self, city: str) -> str:
        """Say how the weather is."""
        self.ran.append(city)
        assert self.gate(city).wait(3 * WAIT_S)
        return f"sun in {city}"


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def tool_chat(store: Store) -> Iterator[Callable[..., ChatInterface]]:
    made: list[ChatInterface] = []

    def one(*script: Any, **options: Any) -> ChatInterface:
        model = options.pop("model", None) or WritingModel(*script)
        made.append(ChatInterface(model, store=store, **options))
        return made[-1]

    yield one
    for chat in made:
        chat.close()
        chat.model.close()


TWO = f"{a_call('weather', city='Bern')}\n{a_call('weather', city='Basel')}"


# -- a store that could not be written at an answer's end ------------------------------------------


def test_an_answer_that_could_not_be_kept_holds_up_no_other_conversation(
    make_chat: Any, store: Store
) -> None:
    chat = make_chat(FakeModel(["lost"], ["found"]))
    with unwritable(chat):
        chat.send("Hi")
    gone = chat.conversation_id
    chat.clear()
    Conversations(store).delete(gone)
    Conversations(store).purge()
    assert chat.send("A new one").text == "found"


def test_an_answer_that_could_not_be_kept_is_there_when_its_branch_is_shown_again(
    make_chat: Any, store: Store
) -> None:
    chat = make_chat(FakeModel(["one"], ["two"], ["three"], ["four"]))
    chat.send("Hi")
    first = chat.messages[-1].id
    watcher = Watcher(chat)
    with unwritable(chat):
        second = chat.regenerate().id
        watcher.wait_end()
        chat.show_branch(first)
        chat.show_branch(second)
        assert said(chat)[-1] == ("assistant", "two", "complete")
        here = chat.conversation_id
        chat.clear()
        chat.open(here)
        assert said(chat)[-1] == ("assistant", "two", "complete")
    chat.clear()
    chat.open(here)  # now it can be kept
    assert chat.send("More").text == "three"
    kept = Conversations(store).message(second)
    assert kept is not None
    assert (kept.content, kept.status) == ("two", MessageStatus.COMPLETE)


def test_closing_keeps_what_could_not_be_kept_before(make_chat: Any, store: Store) -> None:
    chat = make_chat(FakeModel(["the end"]))
    with unwritable(chat):
        chat.send("Hi")
    answer = chat.messages[-1].id
    chat.close()
    kept = Conversations(store).message(answer)
    assert kept is not None
    assert (kept.content, kept.status) == ("the end", MessageStatus.COMPLETE)


def test_what_could_not_be_kept_first_never_replaces_what_came_after(
    tool_chat: Callable[..., ChatInterface], gated: Gated, store: Store
) -> None:
    chat = tool_chat(a_call("weather", city="Bern"), "Sunny.", tools=[gated.weather])
    chat.tool_loop.ask_here()
    gated.gate("Bern").set()
    with unwritable(chat):
        chat.start("How?")
        (call,) = until(lambda: not chat.busy and chat.tool_loop.open_calls())
    chat.approve(call.id)
    until(lambda: not chat.busy and chat.messages[-1].content == "Sunny.")
    (kept,) = calls_of(Conversations(store).tree(chat.conversation_id))
    assert (kept.status, kept.result) == ("done", "sun in Bern")


def test_repeating_ends_where_nothing_can_be_written_any_more(make_chat: Any) -> None:
    model = FakeModel(["one"], ["one"])
    chat = make_chat(model)
    chat.send("Hi")

    def fail(*args: Any, **keywords: Any) -> None:
        raise LOCKED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat._conversations, "save", fail)
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(chat.repeat()), daemon=True)
        thread.start()
        thread.join(WAIT_S)
        assert [one.same for one in found] == [True]


# -- two windows -----------------------------------------------------------------------------------


def test_two_windows_at_the_calls_of_one_answer_lose_no_result(
    tool_chat: Callable[..., ChatInterface], gated: Gated, store: Store
) -> None:
    one = tool_chat(TWO, "Sunny.", "Sunny.", tools=[gated.weather])
    one.tool_loop.ask_here()
    one.start("How?")
    bern, basel = until(lambda: not one.busy and one.tool_loop.open_calls())
    other = tool_chat(
        TWO, "Sunny.", "Sunny.", tools=[gated.weather], conversation_id=one.conversation_id
    )
    other.tool_loop.ask_here()
    one.approve(bern.id)
    until(lambda: gated.ran == ["Bern"])
    other.approve(basel.id)
    until(lambda: gated.ran == ["Bern", "Basel"])
    gated.gate("Bern").set()
    until(lambda: not one.busy)
    gated.gate("Basel").set()
    until(lambda: not other.busy and other.messages[-1].content == "Sunny.")
    tree = Conversations(store).tree(one.conversation_id)
    assert [(c.status, c.result) for c in calls_of(tree)] == [
        ("done", "sun in Bern"),
        ("done", "sun in Basel"),
    ]
    assert len(tree) == 3  # the model has gone on once


def test_writing_something_else_declines_no_call_that_another_window_has_run(
    tool_chat: Callable[..., ChatInterface], gated: Gated, store: Store
) -> None:
    one = tool_chat(a_call("weather", city="Bern"), "Sunny.", tools=[gated.weather])
    one.tool_loop.ask_here()
    gated.gate("Bern").set()
    one.start("How?")
    (call,) = until(lambda: not one.busy and one.tool_loop.open_calls())
    other = tool_chat("Else.", tools=[gated.weather], conversation_id=one.conversation_id)
    one.approve(call.id)
    until(lambda: not one.busy and one.messages[-1].content == "Sunny.")
    assert [c.status for c in calls_of(other.messages)] == ["waiting"]  # it has not heard of it
    other.send("Something else")
    (kept,) = calls_of(Conversations(store).tree(one.conversation_id))
    assert (kept.status, kept.result) == ("done", "sun in Bern")
    assert [c.status for c in calls_of(other.messages)] == ["done"]


def test_a_call_that_runs_in_another_window_is_neither_run_again_nor_declined(
    tool_chat: Callable[..., ChatInterface], gated: Gated, store: Store
) -> None:
    one = tool_chat(a_call("weather", city="Bern"), "Sunny.", tools=[gated.weather])
    one.tool_loop.ask_here()
    one.start("How?")
    (call,) = until(lambda: not one.busy and one.tool_loop.open_calls())
    one.approve(call.id)
    until(lambda: gated.ran == ["Bern"])
    # A page that is loaded again: a program of its own, while the one before still runs the tool.
    other = tool_chat("Else.", tools=[gated.weather], conversation_id=one.conversation_id)
    other.tool_loop.ask_here()
    for answer in (other.approve, other.decline):
        with pytest.raises(RequestError, match="runs in another window"):
            answer(call.id)
    assert other.send("Something else").text == "Else."
    gated.gate("Bern").set()
    until(lambda: not one.busy and one.messages[-1].content == "Sunny.")
    (kept,) = calls_of(Conversations(store).tree(one.conversation_id))
    assert (kept.status, kept.result, gated.ran) == ("done", "sun in Bern", ["Bern"])


# -- stopping and leaving between the rounds of tools ----------------------------------------------


def test_calls_of_a_branch_that_was_left_while_a_tool_ran_can_be_answered_later(
    tool_chat: Callable[..., ChatInterface], gated: Gated
) -> None:
    chat = tool_chat("First.", tools=[tool(gated.weather, approve=False)])
    chat.send("Hi")
    first = chat.messages[-1].id
    chat.model.script = (TWO, "Sunny.")
    second = chat.regenerate().id
    until(lambda: gated.ran == ["Bern"])
    chat.show_branch(first)
    gated.gate("Bern").set()
    gated.gate("Basel").set()
    until(lambda: not chat.busy)
    chat.show_branch(second)
    (call,) = chat.tool_loop.open_calls()
    chat.approve(call.id)
    until(lambda: not chat.busy and chat.messages[-1].content == "Sunny.")
    assert gated.ran == ["Bern", "Basel"]


def test_undo_stops_the_tool_of_what_it_takes_back(
    tool_chat: Callable[..., ChatInterface], gated: Gated
) -> None:
    chat = tool_chat("First.", tools=[tool(gated.weather, approve=False)])
    chat.send("Hi")
    chat.model.script = (a_call("weather", city="Bern"), "Sunny.")
    chat.regenerate()
    until(lambda: gated.ran == ["Bern"])
    assert chat.undo() == "answering again"
    until(lambda: not chat.busy, "the tool was not stopped")
    assert chat.messages[-1].content == "First."
    gated.gate("Bern").set()


def test_stop_between_a_tools_result_and_the_next_answer_is_heard(
    tool_chat: Callable[..., ChatInterface], gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tool_chat(
        a_call("weather", city="Bern"), "Sunny.", tools=[tool(gated.weather, approve=False)]
    )
    gated.gate("Bern").set()
    host = chat.tool_loop._host
    original = host.answer_after
    asked: list[bool] = []

    def stopped_just_now(*args: Any, **keywords: Any) -> Any:
        if not asked:
            asked.append(True)
            chat.stop()
        return original(*args, **keywords)

    monkeypatch.setattr(host, "answer_after", stopped_just_now)
    watcher = Watcher(chat)
    chat.start("How?")
    until(lambda: asked and not chat.busy)
    assert [c.status for c in calls_of(chat.messages)] == ["done"]
    assert len(chat.messages) == 2
    assert not [event.text for event in watcher.events if event.kind.value == "notice"]
    chat.tool_loop.go_on()
    until(lambda: not chat.busy and chat.messages[-1].content == "Sunny.")


def test_stop_that_comes_as_the_answer_ends_runs_no_tool(
    tool_chat: Callable[..., ChatInterface], gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tool_chat(
        a_call("weather", city="Bern"), "Sunny.", tools=[tool(gated.weather, approve=False)]
    )
    original = chat._saver.finish

    def finish(*args: Any) -> None:
        chat.stop()  # the answer is complete, and nobody has been told yet
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(chat._saver, "finish", finish)
        chat.send("How?")
    assert (gated.ran, chat.busy) == ([], False)
    (call,) = chat.tool_loop.open_calls()
    gated.gate("Bern").set()
    chat.approve(call.id)
    until(lambda: not chat.busy and chat.messages[-1].content == "Sunny.")


def test_closing_as_an_answer_ends_in_calls_leaves_nobody_waiting(
    tool_chat: Callable[..., ChatInterface], gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tool_chat(a_call("weather", city="Bern"), tools=[tool(gated.weather, approve=False)])
    original = chat._saver.finish
    closed = threading.Event()

    def finish(*args: Any) -> None:
        threading.Thread(target=lambda: (chat.close(), closed.set())).start()
        until(lambda: chat.tool_loop._closed)
        original(*args)

    monkeypatch.setattr(chat._saver, "finish", finish)
    done = threading.Event()

    def send() -> None:
        chat.send("How?")
        done.set()

    threading.Thread(target=send, daemon=True).start()
    assert done.wait(15)
    assert closed.wait(WAIT_S)
    assert gated.ran == []


def test_cancelling_asend_stops_the_answer_after_the_tools(
    tool_chat: Callable[..., ChatInterface], gated: Gated
) -> None:
    chat = tool_chat(
        a_call("weather", city="Bern"),
        "Sunny. " * 50,
        tools=[tool(gated.weather, approve=False)],
    )

    async def main() -> None:
        task = asyncio.create_task(chat.asend("How?"))
        while gated.ran != ["Bern"]:
            await asyncio.sleep(0.005)
        chat.model.gate = threading.Event()  # the second answer writes nothing by itself
        gated.gate("Bern").set()
        while len(chat.messages) < 3:
            await asyncio.sleep(0.005)
        answer = chat._answer
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert answer is not None
        assert answer._stopped
        chat.model.gate.set()

    asyncio.run(main())
    until(lambda: not chat.busy)
    assert chat.messages[-1].status is MessageStatus.ABORTED


def test_a_turn_that_was_left_waiting_is_not_ended_by_another_message(
    tool_chat: Callable[..., ChatInterface], gated: Gated
) -> None:
    """Its reply is its own answer, and not the one to the other message."""
    chat = tool_chat("First.", tools=[gated.weather])
    chat.send("Hi")
    first = chat.messages[-1].id
    chat.tool_loop.ask_here()
    chat.model.script = (a_call("weather", city="Bern"),)
    replies: list[str] = []
    thread = threading.Thread(target=lambda: replies.append(chat.send("How?").text), daemon=True)
    thread.start()
    until(lambda: not chat.busy and chat.tool_loop.open_calls())
    chat.show_branch(first)  # nothing there to show but the whole line: the newest leaf
    chat.regenerate(first)
    until(lambda: not chat.busy)
    thread.join(WAIT_S)
    assert replies == [""]


def test_a_thinking_model_that_is_given_the_first_words_can_call_tools(
    tool_chat: Callable[..., ChatInterface], gated: Gated
) -> None:
    call = a_call("weather", city="Bern")
    chat = tool_chat(f"Sure. {call}", "Sunny.", tools=[tool(gated.weather, approve=False)])
    chat.model.template_facts = TemplateFacts(
        opens_thinking=True, thinking_open="<think>", thinking_variable="enable_thinking"
    )
    gated.gate("Bern").set()
    assert chat.send("How?", begin="Sure.").text == "Sunny."
    assert gated.ran == ["Bern"]


# -- whatever goes wrong, an answer ends -----------------------------------------------------------


@pytest.mark.parametrize("where", ["template_facts", "prompt_tokens"])
def test_an_answer_never_fails_for_what_is_noted_of_it(make_chat: Any, where: str) -> None:
    class Broken(FakeModel):
        if where == "template_facts":

            @property
            def template_facts(self) -> Any:
                raise RuntimeError("a fault")

        else:

            def prompt_tokens(self, *args: Any, **keywords: Any) -> Any:
                raise RuntimeError("a fault")

    chat = make_chat(Broken(["well"]))
    assert chat.send("Hi").text == "well"


def test_a_message_whose_image_the_model_cannot_read_does_not_spoil_the_next(
    make_chat: Any,
) -> None:
    from PIL import Image

    refused = UnsupportedByModelError("This model cannot see images.")
    chat = make_chat(FakeModel([refused], ["Hello."]))
    with pytest.raises(UnsupportedByModelError):
        chat.send("What is this?", attachments=[Image.new("RGB", (8, 8), "red")])
    assert chat.send("Then just say hello").text == "Hello."
    assert not any("parts" in one for one in chat.model.streams[-1].messages)
    assert chat.snapshot().left_out == [m.id for m in chat.messages[:2]]


# -- a store that can be read and not written ------------------------------------------------------


def test_a_conversation_with_an_interrupted_answer_opens_where_nothing_can_be_written(
    make_chat: Any, store: Store
) -> None:
    chat = make_chat(FakeModel(["a"]))
    chat.send("Hi")
    here = chat.conversation_id
    with store.transaction() as connection:
        connection.execute(
            "UPDATE message SET status = 'streaming', owner = '{}' WHERE role = 'assistant'"
        )
    with store.reading() as connection:
        connection.execute("PRAGMA query_only = ON")
    try:
        again = make_chat(conversation_id=here)
        assert said(again)[-1] == ("assistant", "a", "interrupted")
        (_, answer) = Conversations(store).tree(here)
        assert answer.error is not None
        assert answer.error["details"]["reason"] == "interrupted"
    finally:
        with store.reading() as connection:
            connection.execute("PRAGMA query_only = OFF")
    again = make_chat(FakeModel(["b"]), conversation_id=here)
    assert again.send("More").text == "b"
    with store.reading() as connection:
        found = connection.execute("SELECT status FROM message ORDER BY num").fetchall()
    assert [one for (one,) in found] == ["complete", "interrupted", "complete", "complete"]


def test_a_stop_just_when_the_next_answer_was_begun_stops_that_one(
    tool_chat: Callable[..., ChatInterface], gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = tool_chat(
        a_call("weather", city="Bern"),
        "Sunny. " * 50,
        tools=[tool(gated.weather, approve=False)],
    )
    chat.start("How?")
    until(lambda: gated.ran == ["Bern"])
    chat.model.gate = threading.Event()  # the second answer writes nothing by itself
    host = chat.tool_loop._host
    begin = host.answer_after

    def begin_and_stop(*arguments: Any) -> Any:
        answer = begin(*arguments)
        chat.tool_loop.stop()  # whoever cancels a turn knows its answers so far, and stops the loop
        return answer

    monkeypatch.setattr(host, "answer_after", begin_and_stop)
    gated.gate("Bern").set()
    until(lambda: len(chat.messages) == 3 and not chat.busy)
    assert chat.messages[-1].status is MessageStatus.ABORTED
    chat.model.gate.set()
