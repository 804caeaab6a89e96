"""Conversations with tools: asking, yeses, limits, stops, restarts. 6 seconds."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from support.tool_fakes import WritingModel

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.tool_yes import MAX_UNANSWERED
from gguf_widgets.core.chat.types import ChatMessage, EventKind, ToolCall
from gguf_widgets.core.errors import InvalidValueError, RequestError, StoreError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.tools import ToolBox, tool
from gguf_widgets.core.tools.describing import NO_MORE

WAIT_S = 30.0


def a_call(name: str = "weather", **arguments: Any) -> str:
    inner = json.dumps({"name": name, "arguments": arguments or {"city": "Bern"}})
    return f"<tool_call>\n{inner}\n</tool_call>"


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def weather(ran: list[Any]) -> Callable[..., str]:
    def weather(city: str) -> str:
        """Say how the weather is."""
        ran.append(city)
        print("looking at", city)  # noqa: T201 - caught, and shown with the call
        return f"sun in {city}"

    return weather


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(":memory:") as opened:
        yield opened


@pytest.fixture
def chat_with(store: Store) -> Iterator[Callable[..., ChatInterface]]:
    made: list[ChatInterface] = []

    def one(*script: str, **options: Any) -> ChatInterface:
        model = options.pop("model", None) or WritingModel(*script)
        made.append(ChatInterface(model, store=options.pop("store", store), **options))
        return made[-1]

    yield one
    for chat in made:
        chat.close()
        if isinstance(chat.model, WritingModel):
            chat.model.close()


def until(found: Callable[[], Any], what: str = "") -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return value


def calls_of(chat: ChatInterface) -> list[ToolCall]:
    return [call for message in chat.messages for call in message.tool_calls]


def line(chat: ChatInterface) -> list[tuple[str, str, list[str]]]:
    return [(m.role, m.content, [c.status for c in m.tool_calls]) for m in chat.messages]


def test_a_safe_tool_runs_by_itself_and_the_reply_is_the_one_after_its_result(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    chat = chat_with(f"I look.\n{a_call()}", "It is sunny.", tools=[tool(weather, approve=False)])
    told: list[str] = []
    chat.subscribe(lambda event: told.append(event.kind.value))
    reply = chat.send("How is Bern?", seed=3)
    assert reply.text == "It is sunny."
    assert line(chat) == [
        ("user", "How is Bern?", []),
        ("assistant", "I look.\n", ["done"]),
        ("assistant", "It is sunny.", []),
    ]
    (call,) = calls_of(chat)
    assert (call.result, call.printed, call.error) == ("sun in Bern", "looking at Bern\n", None)
    assert call.total_s is not None
    asked, answer, last = chat.messages
    assert (answer.parent_id, last.parent_id) == (asked.id, answer.id)
    assert last.sampling is not None
    assert last.sampling.seed == 3  # the settings of the turn
    assert not chat.busy
    sent = chat.model.asked[-1]["messages"]
    assert [m["role"] for m in sent][-3:] == ["user", "assistant", "tool"]
    assert sent[-1]["content"] == "sun in Bern"
    assert told.count("added") == 3
    # The next message goes on as ever, and the whole is in the store.
    again = ChatInterface(chat.model, store=chat.store, conversation_id=chat.conversation_id)
    assert again.messages == chat.messages
    again.close()


def test_without_anybody_to_ask_a_call_is_declined_in_words(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    chat = chat_with(a_call(), "I cannot know.", tools=[weather])
    assert chat.send("How is Bern?").text == "I cannot know."
    (call,) = calls_of(chat)
    assert call.status == "declined"
    assert "approve=False" in (call.error or "")
    assert ran == []
    assert "declined this call" in chat.model.asked[-1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("said", "ran_for"),
    [(True, ["Bern", "Bern"]), ("always", ["Bern", "Bern"]), (False, []), ("no", []), (1, [])],
)
def test_a_program_says_yes_or_no(
    chat_with: Callable[..., ChatInterface],
    weather: Any,
    ran: list[Any],
    said: object,
    ran_for: list[str],
) -> None:
    asked: list[ToolCall] = []

    def approve(call: ToolCall) -> object:
        asked.append(call)
        return said

    chat = chat_with(a_call(), a_call(), "Done.", tools=[weather], approve=approve)
    assert chat.send("How is Bern?").text == "Done."
    assert ran == ran_for
    assert [one.arguments for one in asked][:1] == [{"city": "Bern"}]
    assert len(asked) == (1 if said == "always" else 2)


def test_a_program_that_fails_to_answer_says_no(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    chat = chat_with(a_call(), "Done.", tools=[weather], approve=lambda call: 1 / 0)
    chat.send("How?")
    (call,) = calls_of(chat)
    assert (call.status, ran) == ("declined", [])
    assert "ZeroDivisionError" in (call.error or "")
    with pytest.raises(InvalidValueError, match="approve"):
        chat_with("", tools=[weather], approve="yes")


def test_a_person_allows_declines_and_allows_for_good(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    two = f"{a_call()}\n{a_call(city='Basel')}"
    chat = chat_with(two, "", a_call(city="Chur"), "Done.", tools=[weather])
    chat.tool_loop.ask_here()
    chat.start("How?")
    until(lambda: len(chat.tool_loop.open_calls()) == 2 and not chat.busy)
    assert ran == []
    first, second = calls_of(chat)
    assert [first.status, second.status] == ["waiting", "waiting"]
    chat.decline(first.id)
    assert ran == []
    with pytest.raises(InvalidValueError, match="not waiting any more"):
        chat.approve(first.id)
    chat.approve(second.id, always=True)
    until(lambda: not chat.busy and chat.messages[-1].content == "Done.")
    assert ran == ["Basel", "Chur"]  # the third was not asked about
    assert [c.status for c in calls_of(chat)] == ["declined", "done", "done"]
    # A yes for good is this conversation's.
    chat.clear()
    chat.model.script = (a_call(),)
    chat.start("How?")
    until(chat.tool_loop.open_calls)
    assert not chat.busy
    for wrong in ("", "x", second.id, None):
        with pytest.raises(InvalidValueError):
            chat.approve(wrong)  # type: ignore[arg-type]
    assert ran == ["Basel", "Chur"]


def test_one_yes_for_good_lets_the_other_waiting_calls_of_that_tool_run(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    chat = chat_with(f"{a_call()}\n{a_call(city='Basel')}", "Done.", tools=[weather])
    chat.tool_loop.ask_here()
    chat.start("How?")
    until(lambda: len(chat.tool_loop.open_calls()) == 2)
    chat.approve(calls_of(chat)[0].id, always=True)
    until(lambda: chat.messages[-1].content == "Done.")
    assert ran == ["Bern", "Basel"]


def test_whoever_waits_in_python_gets_the_last_reply_and_all_the_text(
    chat_with: Callable[..., ChatInterface], weather: Any
) -> None:
    safe = tool(weather, approve=False)
    chat = chat_with(f"One. {a_call()}", f"Two. {a_call()}", "Three.", tools=[safe])
    with chat.stream("How?") as stream:
        assert "".join(delta.text for delta in stream) == "One. Two. Three."
    assert stream.reply is not None
    assert stream.reply.text == "Three."
    chat.clear()
    assert asyncio.run(chat.asend("How?")).text == "Three."


def test_errors_hanging_and_leaving_go_back_as_text(
    chat_with: Callable[..., ChatInterface],
) -> None:
    let_go = threading.Event()

    @tool(approve=False)
    def fails(kind: str) -> str:
        """Fail."""
        if kind == "exit":
            raise SystemExit(2)
        if kind == "hang":
            let_go.wait(WAIT_S)
        raise ValueError("no such city")

    kinds = ["raise", "exit", "hang"]
    script = [a_call("fails", kind=kind) for kind in kinds]
    box = ToolBox([fails], timeout_s=0.05)
    chat = chat_with(*script, a_call("fails", other=1), "Sorry.", tools=box)
    assert chat.send("Do it.").text == "Sorry."
    let_go.set()
    raised, left, hung, wrong = calls_of(chat)
    assert {call.status for call in calls_of(chat)} == {"failed"}
    assert "ValueError: no such city" in (raised.error or "")
    assert "SystemExit: 2" in (left.error or "")
    assert "did not come back within 50 ms" in (hung.error or "")
    assert "no parameter 'other'" in (wrong.error or "")
    told = [m for m in chat.model.asked[-1]["messages"] if m["role"] == "tool"]
    assert told[0]["content"] == f"Error: {raised.error}"
    assert "Traceback" not in str(told)


def test_a_limit_of_rounds_ends_the_asking(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    box = ToolBox([tool(weather, approve=False)], max_rounds=3)
    chat = chat_with(a_call(), a_call(), a_call(), "Enough.", tools=box)
    assert chat.send("How?").text == "Enough."
    assert len(ran) == 3
    last = chat.model.asked[-1]["messages"]
    assert NO_MORE in last[-1]["content"]
    assert not any("<tools>" in m["content"] for m in last)
    assert any("3 times in a row" in notice for notice in chat.snapshot().notices)
    # The next message may ask again.
    chat.model.script = ("", "", "", a_call(), "Again.")
    assert chat.send("And now?").text == "Again."
    assert len(ran) == 4


def test_stop_ends_a_hanging_call_at_once_and_the_model_can_go_on(
    chat_with: Callable[..., ChatInterface],
) -> None:
    let_go, begun = threading.Event(), threading.Event()

    @tool(approve=False)
    def hangs() -> str:
        """Hang."""
        begun.set()
        let_go.wait(WAIT_S)
        return "late"

    chat = chat_with('<tool_call>\n{"name": "hangs", "arguments": {}}\n</tool_call>', "On.",
                     tools=[hangs])  # fmt: skip
    chat.start("Do it.")
    assert begun.wait(WAIT_S)
    assert chat.busy
    with pytest.raises(RequestError, match="tool is still running"):
        chat.start("Something else")
    chat.stop()
    until(lambda: not chat.busy)
    let_go.set()
    (call,) = calls_of(chat)
    assert call.status == "failed"
    assert "You stopped it" in (call.error or "")
    assert len(chat.messages) == 2  # nothing was asked after it
    assert chat.tool_loop.may_go_on
    chat.tool_loop.go_on()
    until(lambda: chat.messages[-1].content == "On." and not chat.busy)
    assert not chat.tool_loop.may_go_on


def test_an_interrupt_while_it_waits_stops_the_turn(
    chat_with: Callable[..., ChatInterface], weather: Any
) -> None:
    chat = chat_with(a_call(), "Done.", tools=[weather])
    chat.tool_loop.ask_here()
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(chat.send("How?")))
    thread.start()
    until(chat.tool_loop.open_calls)
    assert not ended
    chat.stop()
    thread.join(WAIT_S)
    assert ended[0].text == ""
    assert calls_of(chat)[0].status == "waiting"


def test_something_else_instead_declines_what_waits(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    chat = chat_with(a_call(), "Fine.", tools=[weather])
    chat.tool_loop.ask_here()
    chat.start("How?")
    until(chat.tool_loop.open_calls)
    assert chat.send("Never mind.").text == "Fine."
    (call,) = calls_of(chat)
    assert (call.status, ran) == ("declined", [])
    assert [m.role for m in chat.messages] == ["user", "assistant", "user", "assistant"]


def test_a_restart_in_the_middle_shows_the_waiting_call_again(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    model = WritingModel(a_call(), "Done.")
    before = chat_with(model=model, tools=[weather])
    before.tool_loop.ask_here()
    before.start("How?")
    until(before.tool_loop.open_calls)
    after = chat_with(model=model, conversation_id=before.conversation_id)
    (call,) = after.tool_loop.open_calls()
    with pytest.raises(InvalidValueError, match="not here any more"):
        after.approve(call.id)
    after.tools = [weather]
    after.approve(call.id)
    until(lambda: after.messages[-1].content == "Done.")
    assert ran == ["Bern"]
    # The other window still shows the call; its yes runs nothing a second time.
    with pytest.raises(RequestError, match="another window"):
        before.approve(call.id)
    assert ran == ["Bern"]
    assert calls_of(before)[0].status == "done"


def test_one_that_ran_when_the_program_ended_has_to_be_allowed_again(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any], store: Store
) -> None:
    model = WritingModel(a_call(), "Done.")
    before = chat_with(model=model, tools=[weather])
    before.tool_loop.ask_here()
    before.start("How?")
    until(before.tool_loop.open_calls)
    message = before.messages[-1]
    running = msgspec.structs.replace(message.tool_calls[0], status="running", always=True)
    Conversations(store).save(msgspec.structs.replace(message, tool_calls=(running,)))
    after = chat_with(model=model, conversation_id=before.conversation_id, tools=[weather])
    assert not after.busy
    assert ran == []
    after.approve(running.id)
    until(lambda: after.messages[-1].content == "Done.")
    assert ran == ["Bern"]


def test_leaving_the_conversation_while_a_tool_runs(
    chat_with: Callable[..., ChatInterface], store: Store
) -> None:
    let_go, begun = threading.Event(), threading.Event()

    @tool(approve=False)
    def slow() -> str:
        """Take long."""
        begun.set()
        let_go.wait(WAIT_S)
        return "late"

    chat = chat_with('<tool_call>\n{"name": "slow", "arguments": {}}\n</tool_call>', tools=[slow])
    chat.start("Do it.")
    assert begun.wait(WAIT_S)
    left = chat.conversation_id
    chat.clear()
    until(lambda: not chat.busy)
    let_go.set()
    assert chat.messages == []
    assert left is not None
    chat.open(left)
    assert "You stopped it" in (calls_of(chat)[0].error or "")


def test_a_store_that_fails_runs_nothing(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    chat = chat_with(a_call(), "Done.", tools=[weather])
    chat.tool_loop.ask_here()
    chat.start("How?")
    (call,) = until(chat.tool_loop.open_calls)
    until(lambda: not chat.busy)
    real = chat._conversations.save

    def full(message: ChatMessage, **more: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(chat._conversations, "save", full)
    chat.approve(call.id)
    until(lambda: any("disk is full" in one for one in chat.snapshot().notices))
    until(lambda: not chat.busy)
    assert ran == []
    monkeypatch.setattr(chat._conversations, "save", real)
    chat.approve(call.id)
    until(lambda: chat.messages[-1].content == "Done.")
    assert ran == ["Bern"]


def test_observers_are_told_without_a_lock(
    chat_with: Callable[..., ChatInterface], weather: Any
) -> None:
    chat = chat_with(a_call(), "Done.", tools=[weather])
    chat.tool_loop.ask_here()
    stuck: list[EventKind] = []

    def look(event: Any) -> None:
        other = threading.Thread(target=chat.snapshot)
        other.start()
        other.join(WAIT_S / 3)
        if other.is_alive():
            stuck.append(event.kind)

    chat.subscribe(look)
    chat.start("How?")
    (call,) = until(chat.tool_loop.open_calls)
    until(lambda: not chat.busy)
    chat.approve(call.id)
    until(lambda: chat.messages[-1].content == "Done." and not chat.busy)
    assert stuck == []


def test_a_call_that_runs_can_neither_be_allowed_again_nor_declined(
    chat_with: Callable[..., ChatInterface], ran: list[Any]
) -> None:
    may_end = threading.Event()

    def slow(city: str) -> str:
        """Take long."""
        ran.append(city)
        may_end.wait(WAIT_S)
        return "came back"

    chat = chat_with(a_call("slow"), "Done.", tools=[slow])
    leave = chat.tool_loop.ask_here()
    chat.start("Go")
    (call,) = until(chat.tool_loop.open_calls, "the call")
    until(lambda: not chat.busy)
    chat.approve(call.id)
    until(lambda: ran, "the call runs")
    for word in (chat.approve, chat.decline):
        with pytest.raises(InvalidValueError, match="not waiting any more"):
            word(call.id)
    may_end.set()
    until(lambda: chat.messages[-1].content == "Done.")
    assert (ran, calls_of(chat)[0].status) == (["Bern"], "done")
    leave()


def test_a_call_that_two_programs_allow_in_one_moment_runs_once(
    chat_with: Callable[..., ChatInterface],
    store: Store,
    weather: Any,
    ran: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both have looked, and found it waiting; then both would run it."""
    one = chat_with(a_call(), "Done.", tools=[weather])
    leave = one.tool_loop.ask_here()
    one.start("Go")
    (call,) = until(one.tool_loop.open_calls, "the call")
    until(lambda: not one.busy)
    other = chat_with("Late.", tools=[weather], conversation_id=one.conversation_id)
    monkeypatch.setattr(other.tool_loop, "_refresh", lambda _message, _call: None)
    one.approve(call.id)
    until(lambda: one.messages[-1].content == "Done." and not one.busy)
    other.approve(call.id)
    until(lambda: not other.busy and not other.tool_loop.running)
    assert ran == ["Bern"]
    assert calls_of(other)[0].status == "done"  # what the one has made of it is shown
    leave()


def test_stop_ends_the_waiting_for_an_approver_that_never_answers(
    chat_with: Callable[..., ChatInterface], weather: Any, ran: list[Any]
) -> None:
    let_go, asked = threading.Event(), threading.Semaphore(0)

    def approve(call: ToolCall) -> object:
        asked.release()
        return let_go.wait(WAIT_S)

    chat = chat_with(a_call(), "Done.", tools=[weather], approve=approve)
    chat.start("How is Bern?")
    (call,) = until(chat.tool_loop.open_calls, "the call")
    for number in range(MAX_UNANSWERED):  # the call still waits, and can be asked about again
        assert asked.acquire(timeout=WAIT_S)
        until(lambda: chat.tool_loop.asking_id == call.id, "the program is asked")
        assert chat.busy
        chat.stop()
        until(lambda: not chat.busy, f"stop number {number} has ended it")
        assert (calls_of(chat)[0].status, chat.tool_loop.asking_id) == ("waiting", None)
        chat.approve(call.id)
    # So many threads are enough: it is refused in words, and the model goes on.
    until(lambda: chat.messages[-1].content == "Done." and not chat.busy)
    assert calls_of(chat)[0].status == "declined"
    assert "have not come back" in (calls_of(chat)[0].error or "")
    let_go.set()  # what they say now counts for nothing
    until(lambda: not _threads_named("gguf-widgets-approve"), "the questions have ended")
    assert ran == []


def _threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_chat_dropped_while_its_tool_runs_leaves_no_call_that_runs_for_ever(
    chat_with: Callable[..., ChatInterface], store: Store, ran: list[Any]
) -> None:
    may_end = threading.Event()

    def slow(city: str) -> str:
        """Take long."""
        ran.append(city)
        may_end.wait(WAIT_S)
        return "came back"

    first = chat_with(a_call("slow"), tools=[slow])
    leave = first.tool_loop.ask_here()
    first.start("Go")
    (call,) = until(first.tool_loop.open_calls, "the call")
    until(lambda: not first.busy)
    leave()
    conversation_id = first.conversation_id
    # A chat of its own allows it, as after a restart, and is dropped without a word.
    dropped = ChatInterface(
        WritingModel("On."), tools=[slow], conversation_id=conversation_id, store=store
    )
    dropped.approve(call.id)
    until(lambda: ran, "the call runs")
    gone, loop = weakref.ref(dropped), dropped.tool_loop
    del dropped
    gc.collect()
    assert gone() is None
    other = chat_with("Done.", tools=[slow], conversation_id=conversation_id)
    with pytest.raises(RequestError, match="another window"):
        other.decline(call.id)  # it does run
    may_end.set()
    (message,) = (m for m in other.messages if m.tool_calls)
    kept = Conversations(store)
    until(lambda: not kept.is_held(message.id), "nobody holds it any more")
    loop.stop()  # as an iterator does that is collected with it: there is nothing to stop
    other.clear()
    other.open(str(conversation_id))
    assert (calls_of(other)[0].status, calls_of(other)[0].result) == ("done", "came back")
    other.tool_loop.go_on()
    until(lambda: other.messages[-1].content == "Done.")
