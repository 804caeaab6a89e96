"""An answer that is stopped, by whatever means: no text is lost and no chat waits for ever."""

from __future__ import annotations

import _thread
import asyncio
import threading
import time
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, FakeStream, Watcher, said

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatEvent, EventKind, MessageStatus
from gguf_widgets.core.errors import RequestError
from gguf_widgets.core.types import FinishReason


def test_stop_keeps_what_had_arrived_and_the_model_sees_it_next(make_chat: Any) -> None:
    model = FakeModel()
    chat = make_chat(model)
    watcher = Watcher(chat)
    chat.start("Tell me a story")
    model.next_stream().say("Once ")
    watcher.wait_for(lambda event: event.text == "Once ")
    chat.stop()
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED
    assert end.message.finish_reason is FinishReason.ABORTED
    assert not chat.busy
    chat.stop()  # nothing runs: nothing happens
    model.script = [["upon a time"]]
    chat.send("Go on")
    assert [m["content"] for m in model.streams[-1].messages] == [
        "Tell me a story",
        "Once ",
        "Go on",
    ]


def test_stop_before_the_model_has_begun(make_chat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    gate = threading.Event()
    original = model.stream

    def slow(messages: list[Any], **sampling: Any) -> FakeStream:
        assert gate.wait(WAIT_S)
        return original(messages, **sampling)

    monkeypatch.setattr(model, "stream", slow)
    chat = make_chat(model)
    watcher = Watcher(chat)
    chat.start("Hi")
    chat.stop()
    gate.set()
    end = watcher.wait_end()
    assert end.message is not None
    assert (end.message.status, end.message.content) == (MessageStatus.ABORTED, "")


def test_stream_yields_the_pieces_and_closing_it_stops(make_chat: Any) -> None:
    model = FakeModel(["a", "b"])
    chat = make_chat(model)
    pieces = chat.stream("Hi")
    assert [str(piece) for piece in pieces] == ["a", "b"]
    assert pieces.reply.text == "ab"
    watcher = Watcher(chat)
    pieces = chat.stream("Hi")
    model.next_stream()
    model.next_stream().say("c")
    assert next(pieces).text == "c"
    del pieces
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED
    model.script = [["x", RequestError("It cannot be decoded.")]]
    with pytest.raises(RequestError, match="decoded"):
        list(chat.stream("Hi"))


def test_a_forgotten_stream_may_be_collected_in_the_middle_of_anything(make_chat: Any) -> None:
    model = FakeModel()
    chat = make_chat(model)
    pieces = [chat.stream("Hi")]
    model.next_stream()
    answer = chat._answer

    def collect() -> None:
        with answer._lock:  # where the collector may come
            pieces.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert answer.join(WAIT_S)
    assert said(chat)[1] == ("assistant", "", "aborted")


def test_asend_and_its_cancellation(make_chat: Any) -> None:
    model = FakeModel(["quick"])
    chat = make_chat(model)
    watcher = Watcher(chat)

    async def talk() -> None:
        assert (await chat.asend("Hi")).text == "quick"
        watcher.events.clear()
        task = asyncio.create_task(chat.asend("Long"))
        await asyncio.to_thread(model.next_stream)
        await asyncio.to_thread(model.next_stream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(talk())
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED


def test_an_interrupt_while_waiting_stops_the_answer(make_chat: Any) -> None:
    model = FakeModel()
    chat = make_chat(model)

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.DELTA:
            _thread.interrupt_main()

    chat.subscribe(press_stop)
    begun = threading.Thread(target=lambda: model.next_stream().say("Once "))
    begun.start()
    with pytest.raises(KeyboardInterrupt):
        chat.send("Tell me a story")
    begun.join(WAIT_S)
    assert not chat.busy
    assert said(chat)[1] == ("assistant", "Once ", "aborted")


def test_an_interrupt_while_the_answer_begins_stops_it(make_chat: Any) -> None:
    chat = make_chat(FakeModel())

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.ADDED and event.message and event.message.role == "assistant":
            _thread.interrupt_main()

    chat.subscribe(press_stop)
    with pytest.raises(KeyboardInterrupt):
        chat.send("Tell me a story")
    assert not chat.busy


class InterruptedLock:
    """A lock after whose release an interrupt comes, as Python lets it come just there.

    It comes once, when an answer has been made and not begun.
    """

    def __init__(self, chat: ChatInterface) -> None:
        self._chat = chat
        self._lock = chat._lock
        self._pressed = False

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._lock.__exit__(*exc)
        if not self._pressed and self._chat._answer is not None:
            self._pressed = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["start", "regenerate"])
def test_an_interrupt_just_before_the_answer_is_begun_leaves_no_chat_that_waits_for_ever(
    make_chat: Any, how: str
) -> None:
    model = FakeModel(["A"])
    chat = make_chat(model)
    chat.send("Hi")
    watcher = Watcher(chat)
    chat._lock = InterruptedLock(chat)
    with pytest.raises(KeyboardInterrupt):
        chat.start("And?") if how == "start" else chat.regenerate()
    chat.stop()
    watcher.wait_end()
    assert not chat.busy
    model.script = [["B"]]
    assert chat.send("Go on").text == "B"


def test_an_interrupt_while_an_answer_is_begun_anew_leaves_it_running(make_chat: Any) -> None:
    model = FakeModel(["A"], ["B"])
    chat = make_chat(model)
    chat.send("Hi")
    watcher = Watcher(chat)

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.RESET:
            raise KeyboardInterrupt

    chat.subscribe(press_stop)
    with pytest.raises(KeyboardInterrupt):
        chat.regenerate()
    watcher.wait_end()
    assert said(chat) == [("user", "Hi", "complete"), ("assistant", "B", "complete")]


def test_closing_leaves_no_thread_behind(make_chat: Any) -> None:
    model = FakeModel()
    chat = make_chat(model)
    chat.start("Hi")
    model.next_stream()
    before = time.monotonic()
    chat.close()
    assert time.monotonic() - before < 5
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("gguf-widgets-answer")]
