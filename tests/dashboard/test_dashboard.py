"""`Dashboard`: what it puts together, what it remembers, and what it says on top."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.core import config, demo_mode
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import CHAT_SETTINGS, LAST_CONVERSATION, Preferences
from gguf_widgets.core.store.store import default_store
from gguf_widgets.dashboard.dashboard import Dashboard

WAIT_S = 60.0  # for whatever depends on how busy the machine is


class Page:
    """Takes what a dashboard sends in place of its page."""

    def __init__(self, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dashboard = dashboard
        self.state: dict[str, Any] = {}
        self.status: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        monkeypatch.setattr(dashboard, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        with self._changed:
            if content["kind"] == "state":
                self.state = content["state"]
            self.status = content.get("status", self.status)
            self._changed.notify_all()

    def ask(self, kind: str, **content: Any) -> None:
        self.dashboard._on_page(self.dashboard, {"kind": kind, "mid": "x", **content}, [])

    def wait(self, found: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(found, WAIT_S), (self.state, self.status)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")


@pytest.fixture
def open_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Page]]:
    opened: list[Dashboard] = []
    managers: list[ModelManager] = []

    def open_one() -> Page:
        managers.append(ModelManager())
        opened.append(Dashboard(managers[-1]))
        page = Page(opened[-1], monkeypatch)
        page.ask("snapshot")
        page.wait(lambda: page.state)
        return page

    yield open_one
    for dashboard in opened:
        dashboard.close()
        dashboard.chat.chat.close()
    for manager in managers:
        for model in manager.loaded():
            model.unload()
        manager.close()
    default_store(or_memory=True).close()


@pytest.mark.usefixtures("scripted")
def test_the_model_of_the_picker_answers_in_the_chat_and_both_come_back(
    open_one: Callable[[], Page],
) -> None:
    page = open_one()
    assert page.state["status"][0]["value"] == "No model loaded"
    model = page.dashboard.picker.load("demo")
    assert page.dashboard.model is model
    assert page.dashboard.chat.model is model
    page.wait(lambda: page.state["loaded"])
    assert page.state["status"][0]["value"] == "demo · demo mode"
    assert "of memory" in page.state["status"][1]["value"]
    page.dashboard.chat.chat.send("Hello")
    conversation = page.dashboard.chat.chat.conversation_id
    page.ask("ping")  # comes after the note of the conversation
    page.wait(lambda: page.status)

    again = open_one()
    assert again.dashboard.chat.chat.conversation_id == conversation
    assert [m.role for m in again.dashboard.chat.chat.messages] == ["user", "assistant"]
    # The worker still runs for the first dashboard, so the second joins it by itself.
    again.wait(lambda: again.state["loaded"])

    again.dashboard.chat.chat.clear()
    again.status = []
    again.ask("ping")
    again.wait(lambda: again.status)
    assert open_one().dashboard.chat.chat.messages == [], "a new conversation stays new"


def test_a_conversation_that_is_gone_is_no_fault(open_one: Callable[[], Page]) -> None:
    Preferences(default_store()).set(LAST_CONVERSATION, "no-such-conversation")
    page = open_one()
    assert page.dashboard.chat.chat.messages == []
    assert page.state["notices"] == []


def test_settings_made_before_the_first_message_are_found_again(
    open_one: Callable[[], Page],
) -> None:
    page = open_one()
    chat = page.dashboard.chat.chat
    chat.change_settings(lambda settings: settings.change(top_k=3))
    chat.system = "Be brief."
    page.status = []
    page.ask("ping")
    page.wait(lambda: page.status)
    again = open_one().dashboard.chat.chat
    assert (again.sampling.top_k, again.system) == (3, "Be brief.")
    for broken in ({"preset": {"title": "x", "telepathy": 1}}, 5):
        Preferences(default_store()).set(CHAT_SETTINGS, broken)
        other = open_one().dashboard.chat.chat
        assert other.sampling.top_k == 40
        assert "could not be used" in other.snapshot().notices[0]


def test_demo_mode_is_said_with_the_line_to_type(
    open_one: Callable[[], Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_one().state["banner"] is None
    monkeypatch.setattr(demo_mode, "_is_findable", lambda: False)
    banner = open_one().state["banner"]
    assert banner["text"].startswith("Demo mode: answers are prepared, no model runs.")
    assert banner["command"] == demo_mode.install_line()
    assert banner["command"] not in banner["text"]


def test_a_damaged_store_is_said_until_it_is_closed(
    open_one: Callable[[], Page], home: Path
) -> None:
    config.store_path().write_bytes(b"this was a database once" * 500)
    page = open_one()
    assert len(page.state["notices"]) == 1
    assert "damaged" in page.state["notices"][0]
    page.ask("dismiss")
    page.ask("snapshot")
    page.wait(lambda: page.state["notices"] == [])


def test_a_store_that_cannot_be_opened_leaves_a_page_that_works(
    open_one: Callable[[], Page], home: Path
) -> None:
    config.store_path().mkdir()
    page = open_one()
    assert "only while this page is open" in page.state["notices"][0]
    assert page.dashboard.chat.chat.messages == []


def test_closing_ends_every_thread(open_one: Callable[[], Page]) -> None:
    page = open_one()
    page.dashboard.close()
    ours = ("Dashboard-", "ChatBox-", "ModelPicker-")
    # The short-lived ones, which load or look for graphics cards, end by themselves soon after.
    for thread in threading.enumerate():
        if thread.name.startswith(ours):
            thread.join(WAIT_S)
            assert not thread.is_alive(), thread.name
