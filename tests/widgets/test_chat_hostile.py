"""What a page, a file or a model can do to a chat box: nothing but be refused in words. 4 seconds.

Each message to the page must be what the kernel can send: JSON without half characters and numbers
that are none. One that cannot be sent leaves the page as it was, for good.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, Watcher
from support.hostile_conversations import hostile_texts
from support.tool_fakes import WritingModel

from gguf_widgets.core.chat.export import import_data
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._chat_feed import ChatFeed
from gguf_widgets.widgets.chat_box import ChatBox


def sendable(content: object) -> None:
    """Do what the kernel does with a message."""
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


class Page:
    """Asks a box, and keeps what could not have been sent."""

    def __init__(self, box: ChatBox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box, self.answers, self.unsent = box, {}, []
        self._changed = threading.Condition()
        monkeypatch.setattr(box, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        del buffers
        try:
            sendable(content)
        except ValueError as error:
            self.unsent.append((error, content))
            raise
        with self._changed:
            if content["kind"] == "answer":
                self.answers[content["mid"]] = content
                self._changed.notify_all()

    def ask(self, kind: str, mid: str, content: dict[str, Any]) -> None:
        self.box._on_page(self.box, {**content, "kind": kind, "mid": mid}, [b"x"])

    def wait_for(self, mid: str) -> dict[str, Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self.answers, WAIT_S), mid
            return self.answers[mid]


@pytest.fixture
def store() -> Iterator[Store]:
    with Store.in_memory() as one:
        yield one


HOSTILE = [
    None, True, -1, 2**70, 1e308, float("inf"), float("nan"), "", "\ud800", "a\0b", "x" * 50_000,
    [], [[[]]], [None], {}, {"a": {"\udfff": 1}}, "__class__",
]  # fmt: skip
KEYS = (
    "answer", "begin", "call", "conversation", "file", "files", "format", "from", "id", "index",
    "key", "limit", "marked", "message", "mode", "name", "offset", "page", "preset", "query",
    "size", "start", "step", "text", "title", "token", "tokens", "values", "which",
)  # fmt: skip


def test_no_message_of_a_page_is_more_than_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every kind of message with nonsense in every place, and of another conversation."""
    with ChatInterface(FakeModel(["One."]), store=store) as other:
        other.send("Other")
        foreign = [other.messages[-1].id, other.conversation_id]
    with ChatInterface(FakeModel(["Two."]), store=store) as chat:
        chat.send("Hello")
        own = {"message": chat.messages[-1].id, "conversation": chat.conversation_id}
        box = ChatBox(chat=chat)
        page = Page(box, monkeypatch)
        kinds = [kind for part in box._parts for kind in part.ACTIONS]
        assert len(kinds) > 50
        # Those that begin an answer, or go to another conversation, are tried by themselves.
        skipped = {"again", "continue", "library-new", "inside-repeat", "library-purge"}
        asked = 0
        for kind in kinds:
            for key in KEYS if kind not in skipped else ():
                for value in (*HOSTILE, *(foreign if key == "message" else ())):
                    asked += 1
                    page.ask(kind, f"{kind} {key} {asked}", {**own, key: value})
        page.ask("ping", "end", {})
        page.ask("text", "last", {"message": "x"})
        page.wait_for("last")
        assert not page.unsent
        told = [record.exc_info for record in caplog.records if record.exc_info]
        assert not told, told[0]
        box.close()


def test_whatever_file_is_taken_in_its_conversation_can_be_shown(store: Store) -> None:
    shown = 0
    with ChatInterface(None, store=store) as chat:
        box = ChatBox(chat=chat)
        for what, text in hostile_texts():
            try:
                (made,) = import_data(store, text).conversations
            except InvalidValueError:
                continue
            chat.open(made.id)
            sent: list[Any] = []
            feed = ChatFeed(
                chat.snapshot, sent.append, box._surroundings, box._states, box._more_of
            )
            try:
                feed.send_snapshot()
                sendable(sent)
            except Exception as error:
                raise AssertionError(what) from error
            shown += 1
        box.close()
    assert shown > 100


@pytest.mark.parametrize(
    ("arguments", "is_call"),
    [
        (r'{"a": "\ud800", "\udfff": 1}', True),
        (f'{{"a": {10**40}}}', True),
        ('{"a": 1e999}', False),
        ('{"a": NaN}', False),
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", False),
    ],
)
def test_what_a_model_writes_as_a_call_can_be_shown_kept_and_gone_on_with(
    store: Store, arguments: str, is_call: bool
) -> None:
    def take(a: str) -> str:
        """Take anything."""
        return "taken"

    model = WritingModel(
        f'<tool_call>\n{{"name": "take", "arguments": {arguments}}}\n</tool_call>', "Done."
    )
    with ChatInterface(model, tools=[take], store=store) as chat:
        box = ChatBox(chat=chat)
        leave = chat.tool_loop.ask_here()
        watcher = Watcher(chat)
        chat.start("Go")
        watcher.wait_end()
        sent: list[Any] = []
        feed = ChatFeed(chat.snapshot, sent.append, box._surroundings, box._states, box._more_of)
        feed.send_snapshot()
        sendable(sent)
        message = chat.messages[-1]
        assert bool(message.tool_calls) is is_call
        assert is_call or "<tool_call>" in message.content
        assert str(message.status) == "complete"
        with ChatInterface(None, store=store, conversation_id=chat.conversation_id) as again:
            assert again.messages[-1] == message
        with pytest.raises(GgufWidgetsError):
            chat.approve("not this one")
        leave()
        box.close()
    model.close()
