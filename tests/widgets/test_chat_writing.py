"""The writing part of the chat without a page: what the page says, and what it is told. 3 s."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import pdf_files
from support.chat_fakes import Watcher
from support.tiny_projector import picture
from support.word_model import WordModel

from gguf_widgets.core.chat.attach import MAX_ATTACHMENTS, MAX_FILE_BYTES
from gguf_widgets.core.chat.context import ContextPlan
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError, UnsupportedByModelError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.widgets import _chat_writing_files
from gguf_widgets.widgets._chat_writing import WritingPart
from gguf_widgets.widgets._chat_writing_plan import plan_view

WAIT_S = 30.0


class Host:
    """The chat box, as far as a part sees it."""

    def __init__(self, chat: ChatInterface) -> None:
        self.chat = chat
        self.answers: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.changed = threading.Condition()

    @property
    def model(self) -> Any:
        return self.chat.model

    def touch(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def say(self, text: str) -> None:
        self.said.append(text)

    def tell(self, content: dict[str, Any], buffers: Any = None) -> None:
        raise AssertionError((content, buffers))

    def answer(self, asked: dict[str, Any], buffers: Any = None, **more: Any) -> None:
        with self.changed:
            self.answers.append({"mid": asked.get("mid"), "buffers": buffers, **more})
            self.changed.notify_all()

    def at_work(self, do: Callable[[], object], asked: Any = None) -> None:
        raise AssertionError((do, asked))


class Desk:
    """The part, and what a page would do with it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.part = WritingPart(host)

    def ask(self, kind: str, buffers: list[bytes] | None = None, **content: Any) -> Any:
        sent = {"kind": kind, "mid": kind, "page": "p", **content}
        return self.part.ACTIONS[kind](self.part, sent, buffers or [])

    @property
    def state(self) -> dict[str, Any]:
        return self.part.state(self.host.chat.snapshot())

    @property
    def files(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.state["files"]
        return found

    def wait(self, found: Callable[[], object]) -> None:
        end = time.monotonic() + WAIT_S
        while not found():
            assert time.monotonic() < end, (self.files, self.host.answers)
            with self.host.changed:
                self.host.changed.wait(0.02)

    def attach(self, data: bytes, name: str, piece: int = 1000) -> str:
        file_id: str = self.ask("writing-file", name=name, size=len(data))["id"]
        for at in range(0, len(data), piece):
            self.ask("writing-piece", [data[at : at + piece]], id=file_id, offset=at)
        self.wait(lambda: all(f["state"] in ("ready", "failed") for f in self.files))
        return file_id


@pytest.fixture
def chat(home: Path) -> Iterator[ChatInterface]:
    with ChatInterface(WordModel(200)) as chat:  # type: ignore[arg-type]
        yield chat


@pytest.fixture
def desk(chat: ChatInterface) -> Iterator[Desk]:
    desk = Desk(Host(chat))
    yield desk
    desk.part.close()


# -- files ---------------------------------------------------------------------------------------


def test_a_file_in_pieces_goes_out_with_the_message_and_is_gone_then(desk: Desk) -> None:
    file_id = desk.attach(b"Buy milk. " * 500, "../notes.txt")
    (shown,) = desk.files
    assert (shown["name"], shown["kind"], shown["state"], shown["size"]) == (
        "notes.txt",
        "text",
        "ready",
        "5 KB",
    )
    desk.wait(lambda: desk.files[0]["tokens"] == 1000 + 5)
    sent = {"text": "Read it.", "files": [file_id], "begin": "Yes"}
    keywords = desk.part.for_sending(sent)
    assert keywords["begin"] == "Yes"
    (attachment,) = keywords["attachments"]
    assert Conversations(desk.host.chat.store).file(attachment.sha256) == b"Buy milk. " * 500
    assert len(desk.files) == 1  # until it has really gone
    desk.part.sent(sent)
    assert desk.files == []


def test_what_was_not_ready_or_was_removed_is_not_sent_without_a_word(desk: Desk) -> None:
    failed = desk.attach(b"PK\x03\x04", "report.docx")
    assert "a Word document" in desk.files[0]["error"]
    with pytest.raises(InvalidValueError, match="not ready"):
        desk.part.for_sending({"files": [failed]})
    desk.ask("writing-remove", id=failed)
    with pytest.raises(InvalidValueError, match="was removed"):
        desk.part.for_sending({"files": [failed]})
    assert desk.part.for_sending({"files": []}) == {}
    for begin in ("x" * 5000, 7):
        with pytest.raises(InvalidValueError, match="start of the answer"):
            desk.part.for_sending({"begin": begin})


def test_pieces_that_do_not_fit_end_the_upload(desk: Desk) -> None:
    for offset, piece in ((5, b"x"), (0, b"x" * 11), (None, b"x"), ("0", b"x")):
        file_id = desk.ask("writing-file", name="a.txt", size=10)["id"]
        with pytest.raises(InvalidValueError, match="upload went wrong"):
            desk.ask("writing-piece", [piece], id=file_id, offset=offset)
        assert desk.files[-1]["state"] == "failed"
    with pytest.raises(InvalidValueError, match="was removed"):
        desk.ask("writing-piece", [b"x"], id="nobody", offset=0)


def test_sizes_and_numbers_are_bounded(desk: Desk) -> None:
    for size in (-1, 1.5, "7", None, True):
        with pytest.raises(InvalidValueError, match="how large"):
            desk.ask("writing-file", name="a.txt", size=size)
    with pytest.raises(InvalidValueError, match="at most 21 MB"):
        desk.ask("writing-file", name="a.txt", size=MAX_FILE_BYTES + 1)
    for _ in range(MAX_ATTACHMENTS):
        desk.ask("writing-file", name="a.txt", size=10)
    with pytest.raises(InvalidValueError, match=f"At most {MAX_ATTACHMENTS} files"):
        desk.ask("writing-file", name="a.txt", size=10)


def test_an_empty_file_is_told_to_be_empty(desk: Desk) -> None:
    desk.ask("writing-file", name="a.txt", size=0)
    desk.wait(lambda: desk.files[0]["state"] == "failed")
    assert "is empty" in desk.files[0]["error"]


def test_remove_ends_the_reading_and_its_progress_is_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def endless(_data: bytes, *, name: str, on_progress: Callable[[int, int], bool]) -> Any:
        page = 0
        while on_progress(page, 1000):
            page += 1
            time.sleep(0.005)
        ended.set()
        raise InvalidValueError(f"{name} was stopped")

    monkeypatch.setattr(_chat_writing_files, "attach", endless)
    file_id = desk.ask("writing-file", name="a.pdf", size=1)["id"]
    desk.ask("writing-piece", [b"x"], id=file_id, offset=0)
    desk.wait(lambda: desk.files[0]["progress"].endswith("of 1,000"))
    desk.ask("writing-remove", id=file_id)
    assert ended.wait(WAIT_S)
    assert desk.files == []


def test_a_page_that_is_loaded_again_gets_its_files_back(desk: Desk) -> None:
    desk.attach(b"Buy milk.", "notes.txt")
    sha256 = desk.files[0]["sha256"]
    desk.ask("writing-back", files=[{"name": "notes.txt", "sha256": sha256}])
    assert len(desk.files) == 1  # it was still there
    new = Desk(Host(desk.host.chat))  # as after a new kernel
    for files in ("x", [1], [{"name": "gone.txt", "sha256": "0" * 64}]):
        new.ask("writing-back", files=files)
    assert new.host.said == ["“gone.txt” is not attached any more. Attach it again."]
    new.ask("writing-back", files=[{"name": "notes.txt", "sha256": sha256}])
    new.wait(lambda: [f["state"] for f in new.files] == ["ready"])
    new.part.close()


def test_a_file_opens_before_and_after_it_is_sent(desk: Desk) -> None:
    text_id = desk.attach(b"word " * 50_000, "long.txt", piece=1 << 20)
    first = desk.ask("writing-draft", id=text_id)
    assert len(first["text"]) == 100_000
    rest = desk.ask("writing-draft", id=text_id, **{"from": 100_000})
    assert (first["text"] + rest["text"]).startswith("word word")
    assert rest["left"] == 50_000
    png = picture(1, 20, 20)
    image_id = desk.attach(png, "a.png")
    assert desk.ask("writing-draft", id=image_id) is None
    assert desk.host.answers[-1] | {"mid": ""} == {
        "mid": "",
        "buffers": [png],
        "mime": "image/png",
    }
    with pytest.raises(InvalidValueError, match="was removed"):
        desk.ask("writing-draft", id="nobody")
    with pytest.raises(InvalidValueError, match="not on screen"):
        desk.ask("writing-open", message="x", id=text_id)
    chat = desk.host.chat
    assert chat.model is not None
    chat.model.script = [["ok"]]  # type: ignore[attr-defined]
    chat.model.settings = chat.model.settings.replace(n_ctx=200_000)  # type: ignore[misc]
    files = desk.part.for_sending({"files": [text_id]})["attachments"]
    chat.send("Read it.", files)
    message = chat.messages[0]
    view = desk.part.view(message, chat.snapshot())["attachments"][0]
    assert view["name"] == "long.txt"
    assert desk.ask("writing-open", message=message.id, id=view["id"])["left"] == 150_000


# -- seeing --------------------------------------------------------------------------------------


def test_an_image_for_a_model_that_cannot_see_is_told_before_anything_is_sent(desk: Desk) -> None:
    image_id = desk.attach(picture(1, 20, 20), "a.png")
    assert "cannot see images" in desk.state["blind"]["words"]
    with pytest.raises(UnsupportedByModelError):
        desk.part.for_sending({"files": [image_id]})
    desk.ask("writing-remove", id=image_id)
    assert desk.state["blind"] is None


def test_a_companion_that_is_here_is_named_with_the_line_that_takes_it(home: Path) -> None:
    manager = ModelManager(keep_alive=0)
    try:
        model = manager.load("demo", mmproj=False, n_threads=1)
        with ChatInterface(model) as chat:
            desk = Desk(Host(chat))
            desk.attach(picture(1, 20, 20), "a.png")
            blind = desk.state["blind"]
            desk.part.close()
        assert blind["line"].startswith('gw.load("demo", mmproj="')
        assert "load the model again with it" in blind["words"]
    finally:
        manager.close()


# -- what still fits -----------------------------------------------------------------------------


def test_only_the_newest_question_is_worked_on_and_all_are_answered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    asked: list[str] = []
    real = desk.host.chat.context_plan

    def slow(text: str, *more: Any) -> ContextPlan:
        asked.append(text)
        assert go.wait(WAIT_S)
        return real(text, *more)

    monkeypatch.setattr(desk.host.chat, "context_plan", slow)
    for number in range(10):
        assert desk.ask("writing-plan", text=f"words {number}", mid=str(number)) is None
        if number == 0:
            desk.wait(lambda: asked)
    go.set()
    desk.wait(lambda: len(desk.host.answers) == 10)
    assert asked == ["words 0", "words 9"]
    by_mid = {answer["mid"]: answer for answer in desk.host.answers}
    assert [mid for mid, answer in by_mid.items() if not answer.get("stale")] == ["9"]
    assert by_mid["9"]["plan"]["used"] > 0
    with pytest.raises(InvalidValueError, match="Attach it as a file"):
        desk.ask("writing-plan", text="x" * 5_000_001)


def test_a_model_that_cannot_count_has_no_plan(desk: Desk) -> None:
    desk.host.chat.model = None
    desk.ask("writing-plan", text="words")
    desk.wait(lambda: desk.host.answers)
    assert desk.host.answers[0]["plan"] is None


def planned(used: int, left_out: int = 0, mode: str = "stop") -> dict[str, Any]:
    plan = ContextPlan(
        n_ctx=1000,
        system=0,
        history=used,
        attachments=0,
        message=0,
        begin=0,
        used=used,
        room=max(0, 1000 - used),
        wanted=200,
        fits=used <= 800,
        over=max(0, used - 800),
        left_out=tuple(map(str, range(left_out))),
        can_drop=left_out > 0,
    )

    class Chat:
        when_full = mode

    return plan_view(plan, Chat())


def test_the_words_say_what_will_happen() -> None:
    assert planned(500)["question"] == planned(500)["outcome"] == ""
    tight = planned(900, 2)
    assert "room for only 100 tokens" in tight["question"]
    assert "without the 2 oldest messages" in tight["question"]
    assert not tight["full"]
    full = planned(1200, 1)
    assert full["full"]
    assert "the model has room for 1,000" in full["question"]
    assert "the 1 oldest message." in full["question"]
    assert "too long. Shorten it" in planned(1200)["question"]
    assert planned(900, 2, "drop_oldest")["outcome"] == "The 2 oldest messages will be left out."
    assert "summed up by the model" in planned(900, 1, "summarize")["outcome"]
    assert [part["label"] for part in full["parts"]] == ["Conversation so far"]


def test_an_answer_that_did_not_fit_can_be_asked_for_again_with_a_choice(desk: Desk) -> None:
    chat = desk.host.chat
    model: Any = chat.model
    model.script = [["one"], ["two"]]
    for _ in range(2):
        chat.send("word " * 60, max_tokens=10)
    watcher = Watcher(chat)
    chat.start("word " * 90, max_tokens=10)
    watcher.wait_end()
    failed = chat.messages[-1]
    view = desk.part.view(failed, chat.snapshot())
    assert view["whatElse"] == ["drop_oldest", "summarize"]
    with pytest.raises(InvalidValueError, match="when_full can be"):
        desk.ask("writing-retry", message=failed.id, mode="x")
    model.script = [["three"]]
    watcher.events.clear()
    desk.ask("writing-retry", message=failed.id, mode="drop_oldest")
    watcher.wait_end()
    assert chat.messages[-1].content == "three"
    assert chat.messages[-1].left_out
    assert desk.part.view(chat.messages[-1], chat.snapshot())["whatElse"] == []


# -- prompt templates ----------------------------------------------------------------------------


def test_prompt_templates_over_the_wire(desk: Desk) -> None:
    names = {one["name"] for one in desk.ask("writing-prompts")["templates"]}
    assert {"Translate", "Summarize"} <= names
    values = {"language": "French", "text": "{language}"}
    filled = desk.ask("writing-prompt-fill", name="Translate", values=values)
    assert "into French" in filled["text"]
    assert filled["text"].endswith("{language}")
    for values in (None, {"language": "x"}, "x"):
        with pytest.raises(InvalidValueError, match="Fill in every blank"):
            desk.ask("writing-prompt-fill", name="Translate", values=values)
    saved = desk.ask("writing-prompt-save", name="Mine", text="On {x}", description="")
    assert saved["saved"] == "Mine"
    assert next(one for one in saved["templates"] if one["name"] == "Mine")["own"]
    assert desk.ask("writing-prompt-export") is None
    (data,) = desk.host.answers[-1]["buffers"]
    gone = desk.ask("writing-prompt-delete", name="Mine")["gone"]
    assert gone["text"] == "On {x}"
    words = desk.ask("writing-prompt-add", [memoryview(data)])["words"]
    assert words == "1 template was added."
    for broken in ([], [b"{}"], [io.BytesIO(b"x").getvalue()]):
        with pytest.raises(InvalidValueError):
            desk.ask("writing-prompt-add", broken)
    with pytest.raises(InvalidValueError, match="sent no text"):
        desk.ask("writing-prompt-save", name=5, text="x", description="")


def test_a_pdf_of_a_page_is_read_on_a_thread_of_its_own(desk: Desk) -> None:
    desk.attach(pdf_files.good("First.", "Second."), "a.pdf")
    assert desk.files[0]["kind"] == "pdf"
    assert desk.files[0]["note"] == ""
