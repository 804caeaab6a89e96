"""The panel of conversations without a browser: what the page asks and what it is told.

About 2 s.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel

from gguf_widgets.core.chat.export import import_data
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store import conversation_search, search_index
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets import _chat_library_files as files
from gguf_widgets.widgets._chat_library_list import MOST_ROWS, ConversationList
from gguf_widgets.widgets.chat_box import ChatBox


class LibraryPage:
    """A page that asks one thing after the other and waits for each answer."""

    def __init__(self, box: ChatBox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box, self.mid = box, 0
        self.answers: dict[str, tuple[dict[str, Any], list[bytes]]] = {}
        self._changed = threading.Condition()
        monkeypatch.setattr(box, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        with self._changed:
            if content.get("kind") == "answer":
                self.answers[content["mid"]] = (content, buffers or [])
                self._changed.notify_all()

    def try_(self, kind: str, buffers: list[bytes] = [], **content: Any) -> Any:  # noqa: B006
        self.mid += 1
        mid = str(self.mid)
        asked = {"kind": f"library-{kind}", "mid": mid, "page": "p", **content}
        self.box._on_page(self.box, asked, buffers)
        with self._changed:
            assert self._changed.wait_for(lambda: mid in self.answers, WAIT_S), kind
            return self.answers[mid]

    def ask(self, kind: str, **content: Any) -> dict[str, Any]:
        answer, _ = self.try_(kind, **content)
        assert "error" not in answer, answer
        return answer

    def fault(self, kind: str, **content: Any) -> str:
        answer, _ = self.try_(kind, **content)
        return str(answer["error"]["message"])

    def titles(self, **content: Any) -> list[str]:
        return [row["title"] for row in self.ask("rows", **content)["rows"]]


@pytest.fixture
def store(tmp_path: Any) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite3") as one:
        yield one


@pytest.fixture
def open_box(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LibraryPage]]:
    boxes: list[ChatBox] = []

    def make(model: FakeModel | None = None) -> LibraryPage:
        boxes.append(ChatBox(chat=ChatInterface(model, store=store)))
        return LibraryPage(boxes[-1], monkeypatch)

    yield make
    for box in boxes:
        box.chat.close()
        box.close()


def add(store: Store, *titles: str, text: str = "Hello") -> list[str]:
    """Put conversations into the store, the first one newest, and return their ids."""
    items = [
        {"title": title, "messages": [{"role": "user", "content": text}]}
        for title in reversed(titles)
    ]
    made = [import_data(store, json.dumps(one)).conversations[0].id for one in items]
    return made[::-1]


def test_rows_come_in_windows_pinned_ones_first(
    store: Store, open_box: Callable[..., LibraryPage]
) -> None:
    ids = add(store, *(f"Talk {i}" for i in range(120)))
    page = open_box()
    page.ask("pin", conversation=ids[100], pinned=True)
    first = page.ask("rows", offset=0, limit=50)
    assert [row["title"] for row in first["rows"]][:3] == ["Talk 100", "Talk 0", "Talk 1"]
    assert (len(first["rows"]), first["more"]) == (50, True)
    last = page.ask("rows", offset=100, limit=50)
    assert (len(last["rows"]), last["more"]) == (20, False)
    for bad in ({"limit": MOST_ROWS + 1}, {"offset": -1}, {"limit": "x"}, {"offset": True}):
        assert "two whole numbers" in page.fault("rows", **bad)


def test_a_new_name_and_a_pin_leave_the_order_alone(
    store: Store, open_box: Callable[..., LibraryPage]
) -> None:
    first, second = add(store, "First", "Second")
    page = open_box()
    page.ask("rename", conversation=second, title="  A   new\nname ")
    assert page.titles() == ["First", "A new name"]
    page.ask("open", conversation=first)
    page.ask("rename", conversation=first, title="On screen")
    assert page.box.chat.title == "On screen"
    assert page.titles() == ["On screen", "A new name"]
    assert "Write a name" in page.fault("rename", conversation=first, title="  ")
    assert "at most 200" in page.fault("rename", conversation=first, title="x" * 201)
    assert "named no conversation" in page.fault("rename", title="x")
    assert "There is no conversation 'gone'" in page.fault("pin", conversation="gone", pinned=True)


def test_what_was_deleted_comes_back_where_it_was(
    store: Store, open_box: Callable[..., LibraryPage]
) -> None:
    first, second = add(store, "First", "Second")
    page = open_box()
    page.ask("open", conversation=first)
    assert page.ask("delete", conversation=first)["wasShown"] is True
    assert page.box.chat.conversation_id is None
    assert page.titles() == ["Second"]
    assert page.titles(deleted=True) == ["First"]
    assert "Restore it first" in page.fault("open", conversation=first)
    page.ask("restore", conversation=first, show=True)
    assert page.box.chat.conversation_id == first
    assert page.box.chat.can_undo == ""  # it is not offered a second time
    assert page.ask("delete", conversation=second)["wasShown"] is False
    page.ask("restore", conversation=second)
    assert page.titles() == ["First", "Second"]
    page.ask("delete", conversation=second)
    assert page.ask("purge")["count"] == 1
    assert page.titles(deleted=True) == []


def test_a_found_message_is_shown_on_its_branch(
    store: Store, open_box: Callable[..., LibraryPage]
) -> None:
    model = FakeModel(["A pear."], ["A walrus."], ["A lamp."])
    page = open_box(model)
    chat = page.box.chat
    chat.send("Tell me a word")
    chat.regenerate()
    wait_until_idle(chat)
    other = chat.messages[-1]
    chat.show_branch(chat.branches(other.id)[0])
    assert chat.messages[-1].content == "A pear."
    (row,) = page.ask("find", query="walr")["rows"]
    assert row["snippet"] == [["A ", False], ["walrus", True], [".", False]]
    assert row["message"] == other.id
    page.ask("new")
    assert chat.messages == []
    page.ask("open", conversation=row["id"], message=row["message"])
    assert chat.messages[-1].content == "A walrus."
    assert "no message of this" in page.fault("open", conversation=row["id"], message="nobody")
    for hostile in ('"', "a OR", "NEAR(", "*", "'; DROP TABLE message; --", "\0", "(" * 500):
        page.ask("find", query=hostile)
    assert "at most 1,000" in page.fault("find", query="x" * 1001)


def wait_until_idle(chat: ChatInterface) -> None:
    ended = threading.Event()
    with_end = chat.subscribe(lambda _event: None if chat.busy else ended.set())
    assert not chat.busy or ended.wait(WAIT_S)
    with_end()


def test_a_look_tells_what_other_windows_change_and_nothing_else(store: Store) -> None:
    first, _second = add(store, "First", "Second")
    assert store.path is not None
    with Store(store.path) as other:
        here, there = ConversationList(store), Conversations(other)
        seen = [here.look()]

        def changed() -> bool:
            seen.append(here.look())
            return seen[-1] != seen[-2]

        assert not changed()
        there.update(first, title="First!")
        assert changed()
        there.update(first, pinned=True)
        assert changed()
        there.delete(first)
        assert changed()
        there.restore(first)
        assert changed()
        message = there.tree(first)[0]
        there.save_progress(message.id, "Hello and more")
        assert not changed()  # its text is not on the list
        add(other, "Third")
        assert changed()
        Conversations(store).update(first, title="By this process")
        assert changed()
        assert not changed()


def test_an_answer_that_is_being_written_is_marked_until_its_end(
    store: Store, open_box: Callable[..., LibraryPage]
) -> None:
    model = FakeModel()
    writing, page = open_box(model), open_box()
    writing.box.chat.start("Hello")
    stream = model.next_stream()
    stream.say("Once ")
    before = page.ask("look")["version"]
    assert [row["running"] for row in page.ask("rows")["rows"]] == [True]
    stream.say("upon", None)
    wait_until_idle(writing.box.chat)
    assert page.ask("look")["version"] != before
    assert [row["running"] for row in page.ask("rows")["rows"]] == [False]


def fetched(page: LibraryPage, file: dict[str, Any]) -> bytes:
    data = b""
    while len(data) < file["size"]:
        _, buffers = page.try_("piece", key=file["key"], offset=len(data))
        data += buffers[0]
    return data


def sent(page: LibraryPage, data: bytes, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for offset in range(0, len(data), files.PIECE_BYTES):
        piece = data[offset : offset + files.PIECE_BYTES]
        about = {"key": "k", "offset": offset, "size": len(data), **more}
        answer, _ = page.try_("import", [piece], **about)
    return answer


def test_a_conversation_goes_out_and_comes_in_piece_by_piece(
    store: Store, open_box: Callable[..., LibraryPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIECE_BYTES", 500)
    (one,) = add(store, "A / strange: name", text="**Hi** <b>")
    page = open_box()
    file = page.ask("export", conversation=one, format="json")["file"]
    assert (file["name"], file["notes"]) == ("A strange name.json", [])
    data = fetched(page, file)
    assert json.loads(data)["messages"][0]["content"] == "**Hi** <b>"
    assert "not kept any more" in page.fault("piece", key=file["key"], offset=0)
    answer = sent(page, data)
    assert (answer["count"], answer["notes"]) == (1, [])
    assert page.titles() == ["A / strange: name", "A / strange: name"]
    html = page.ask("export", conversation=one, format="html")["file"]
    assert b"**Hi** &lt;b&gt;" in fetched(page, html)
    assert "cannot be exported as 'exe'" in page.fault("export", conversation=one, format="exe")


def test_what_a_page_sends_is_checked(store: Store, open_box: Callable[..., LibraryPage]) -> None:
    page = open_box()
    ok = {"key": "k", "offset": 0, "size": 10}
    for wrong, said in (
        ({"size": 10**12}, "at most 200 MB"),
        ({"size": 0}, "empty"),
        ({"size": "x"}, "unknown size"),
        ({"offset": 5}, "went missing"),
        ({"offset": None}, "cannot be told"),
        ({"key": None}, "cannot be told"),
        ({"size": 2}, "went missing"),
    ):
        answer, _ = page.try_("import", [b"12345"], **{**ok, **wrong})
        assert said in answer["error"]["message"], wrong
    answer, _ = page.try_("import", [], **ok)
    assert "went missing" in answer["error"]["message"]
    for offset in (3, 6):  # a part of it again, and with a hole before it
        assert page.try_("import", [b"12345"], **ok)[0].get("more") is True
        answer, _ = page.try_("import", [b"12345"], **{**ok, "offset": offset})
        assert "went missing" in answer["error"]["message"], offset
    assert "no JSON" in sent(page, b"Hello there")["error"]["message"]
    assert Conversations(store).recent() == []


def test_files_that_no_page_fetches_are_let_go() -> None:
    outgoing = files.Outgoing()
    keys = [outgoing.keep(bytes([n]) * 10) for n in range(3)]
    assert [outgoing.piece(key, 0) for key in keys[1:]] == [b"\x01" * 10, b"\x02" * 10]
    with pytest.raises(InvalidValueError, match="not kept any more"):
        outgoing.piece(keys[0], 0)


def test_a_search_that_has_not_looked_through_everything_says_how_much_is_left(
    store: Store, open_box: Callable[..., LibraryPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Conversations(store)
    for number in range(250):
        kept.create(title=f"Lamp {number}")
    # As with years of messages, when the time for one search is up after a step.
    monkeypatch.setattr(
        conversation_search, "catch_up", lambda store: search_index.catch_up(store, 0.0)
    )
    page = open_box()
    left, num_found = [], []
    while not left or left[-1] > 0:
        answer = page.ask("find", query="lamp", offset=0, limit=MOST_ROWS)
        left.append(answer["left"])
        num_found.append(len(answer["rows"]))
        assert len(left) < 10
    assert left[0] > 0
    assert left == sorted(left, reverse=True)
    assert num_found[0] < len(page.ask("find", query="lamp", offset=0, limit=MOST_ROWS)["rows"])
