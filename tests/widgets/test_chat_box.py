"""`ChatBox` with a real conversation and a model that speaks prepared answers."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chat_fakes import FakeModel, Watcher
from support.chat_page import Page, shown_by

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.widgets import markdown
from gguf_widgets.widgets.chat_box import ChatBox

WAIT_S = 60.0  # for whatever depends on how busy the machine is


class Wire:
    """Takes what a widget sends in place of its page, and waits for what it needs."""

    def __init__(self, widget: ChatBox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.widget = widget
        self.sent: list[dict[str, Any]] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()
        monkeypatch.setattr(widget, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        with self._changed:
            self.sent.append(content)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def ask(self, kind: str, **content: Any) -> None:
        self.widget._on_page(self.widget, {"kind": kind, "mid": "x", **content}, [])

    def wait(self, found: Callable[[Page], bool]) -> Page:
        with self._changed:
            done = self._changed.wait_for(lambda: found(shown_by(self.sent)), WAIT_S)
            assert done, self.sent[-3:]
            return shown_by(self.sent)

    def wait_for(self, kind: str) -> dict[str, Any]:
        with self._changed:
            found = [content for content in self.sent if content["kind"] == kind]
            if not found:
                assert self._changed.wait_for(
                    lambda: self.sent[-1:] and self.sent[-1]["kind"] == kind, WAIT_S
                )
                found = self.sent[-1:]
            return found[-1]


@pytest.fixture
def chat(home: Path) -> Iterator[ChatInterface]:
    with ChatInterface() as chat:
        yield chat


@pytest.fixture
def wire(chat: ChatInterface, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    box = ChatBox(chat=chat)
    yield Wire(box, monkeypatch)
    box.close()


def test_without_a_model_the_words_come_back_and_the_page_says_why(wire: Wire) -> None:
    wire.ask("snapshot")
    page = wire.wait(lambda page: page.seq >= 0)
    assert page.state["model"] is None
    assert page.state["reason"] == "Choose a model first"
    wire.ask("send", text="Hello there")
    answer = wire.wait_for("answer")  # refused: the page still has the words, and shows them again
    assert (answer["mid"], answer["error"]["message"]) == ("x", "Choose a model first.")
    page = wire.wait(lambda page: bool(page.state["notice"]))
    assert page.messages == {}


def test_a_ping_is_answered_with_the_number_the_page_should_have(wire: Wire) -> None:
    wire.ask("ping")
    pong = wire.wait_for("pong")
    # Under no circumstances "id": ipykernel keeps every message of that key.
    assert pong == {"kind": "pong", "mid": "x", "seq": wire.widget._feed.seq}


def test_the_page_is_answered_off_the_callback_thread(wire: Wire) -> None:
    wire.ask("ping")
    wire.wait_for("pong")
    assert threading.current_thread().name not in wire.threads


def test_messages_nobody_knows_change_nothing(wire: Wire) -> None:
    for content in (None, 7, [], {}, {"kind": "nothing"}, {"kind": ["send"]}, {"kind": "send"}):
        wire.widget._on_page(wire.widget, content, [])
    wire.ask("ping")
    wire.wait_for("pong")


def test_only_an_answer_that_has_words_can_be_continued(chat: ChatInterface, wire: Wire) -> None:
    chat.model = model = FakeModel()
    wire.ask("snapshot")
    broken = RequestError("It broke off.")
    for words, end, status in (
        ([], None, "aborted"),
        (["Once "], None, "aborted"),
        ([], broken, "failed"),
        (["Once "], broken, "failed"),
    ):
        watcher = Watcher(chat)
        chat.start("Tell me a story")
        stream = model.next_stream()
        stream.say(*words, *([end] if end is not None else []))
        if words:
            watcher.wait_for(lambda event: event.text == "Once ")
        if end is None:
            chat.stop()
        watcher.wait_end()
        ended = chat.messages[-1].id
        page = wire.wait(lambda page: page.messages.get(ended, {}).get("status") == status)  # noqa: B023
        assert page.messages[ended]["canContinue"] is bool(words)


def test_a_chat_has_its_own_settings(chat: ChatInterface) -> None:
    with pytest.raises(InvalidValueError, match="a chat has its own"):
        ChatBox(chat=chat, temperature=0)


def test_closing_ends_the_thread_and_lets_go_of_the_chat(chat: ChatInterface) -> None:
    box = ChatBox(chat=chat)
    name = f"ChatBox-{box.model_id[:8]}"
    box._on_page(box, {"kind": "ping", "mid": "x"}, [])
    box.close()
    assert name not in {thread.name for thread in threading.enumerate()}
    gone = weakref.ref(box)
    del box
    gc.collect()
    assert gone() is None, "the chat must not keep a widget that was closed"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the prepared answers come as fast as they can; ask for it before the model."""
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")


@pytest.fixture
def model() -> Iterator[Model]:
    with ModelManager() as manager, manager.load("demo", backend="scripted") as model:
        yield model


def test_a_real_answer_streams_stops_and_comes_back(
    chat: ChatInterface, wire: Wire, model: Model
) -> None:
    wire.widget.model = model
    wire.ask("snapshot")
    wire.wait(lambda page: "no model runs" in page.state.get("hint", ""))
    wire.ask("send", text="Tell me a long story")
    page = wire.wait(lambda page: any(view["blocks"] for view in page.messages.values()))
    assert [view["role"] for view in page.messages.values()] == ["user", "assistant"]
    wire.ask("stop")
    page = wire.wait(lambda page: page.messages and not page.state["busy"])
    answer = list(page.messages.values())[-1]
    assert (answer["status"], answer["note"]) == ("aborted", "Stopped.")
    assert answer["blocks"] == markdown.to_blocks(chat.messages[-1].content)

    wire.ask("clear")
    page = wire.wait(lambda page: not page.messages and page.state["canUndo"])
    wire.ask("undo")
    page = wire.wait(lambda page: len(page.messages) == 2)
    assert list(page.messages.values())[-1]["blocks"] == answer["blocks"]

    wire.ask("again", message=answer["id"])
    page = wire.wait(lambda page: page.messages and answer["id"] not in page.messages)
    wire.ask("stop")
    wire.wait(lambda page: not page.state["busy"])


def test_a_new_widget_shows_the_conversation_from_the_store(
    chat: ChatInterface, wire: Wire, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.model = model
    chat.send("Hello")
    box = ChatBox(chat=ChatInterface(conversation_id=chat.conversation_id))
    again = Wire(box, monkeypatch)
    again.ask("snapshot")
    page = again.wait(lambda page: len(page.messages) == 2)
    assert next(view["text"] for view in page.messages.values()) == "Hello"
    box.close()
    box.chat.close()


def test_two_windows_on_one_conversation_lose_nothing_of_each_other(
    quick: None, chat: ChatInterface, wire: Wire, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.model = model
    chat.send("One")
    wire.ask("snapshot")
    box = ChatBox(chat=ChatInterface(model, conversation_id=chat.conversation_id))
    other = Wire(box, monkeypatch)
    other.ask("snapshot")
    other.wait(lambda page: len(page.messages) == 2)
    chat.send("Two")
    other.ask("ping")  # the page's heartbeat
    other.wait(lambda page: len(page.messages) == 4)
    chat.send("Three")
    other.ask("send", text="Four")  # before the next heartbeat
    other.wait(lambda page: len(page.messages) == 8 and not page.state["busy"])
    wire.ask("ping")
    wire.wait(lambda page: len(page.messages) == 8)
    asked = [view["text"] for view in shown_by(wire.sent).messages.values() if view["text"]]
    assert asked == ["One", "Two", "Three", "Four"]
    box.close()
    box.chat.close()
