"""Writing a message in a real browser, in Voila, with the real demo model and its eye. About 60 s.

One dashboard for all, whose model has a context of 512 tokens, so that it is soon full.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect
from support import pdf_files
from support.browser import LONG_MS, Chat, Watched
from support.screen_check import faults_of
from support.servers import Home, Server, voila

from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.demo.vision import figures

SMALL = """
import gguf_widgets as gw
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.demo import demo_model_path

about = {"path": str(demo_model_path()), "settings": {"n_ctx": 512}}
Preferences().set(LAST_MODEL, about)
dashboard = gw.Dashboard()
dashboard.chat.chat.sampling = {"temperature": 0, "max_tokens": 40}
dashboard
"""
DRAWN = figures.drawing(Random(3), "star", "red")  # noqa: S311 - no secret
STAR = figures.png_bytes(figures.render(DRAWN, 120, 120))
STORY = "Tell me a story about Emma and the old radio in the attic. " * 2


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("person"))
    yield home
    home.close()


@pytest.fixture(scope="module")
def site(person: Home) -> Iterator[Server]:
    path = person.folder / "small.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SMALL)])
    nbformat.write(notebook, path)
    with voila(person, path) as server:
        yield server


class Writing:
    """The place to type, as a person uses it."""

    def __init__(self, watched: Watched, person: Home) -> None:
        self.watched, self.page, self.gw = watched, watched.page, watched.gw
        self.chat = Chat(watched)
        self.input = self.chat.input
        self.home = person

    def begin(self) -> None:
        """Load the model if it is not there yet, and begin a new conversation, with no draft."""
        self.chat.wait_until_shown()
        loaded = self.gw("picker-row", name="demo").locator('[data-gw="picker-unload"]')
        if not loaded.count():
            self.chat.load_demo()
        self.gw("chat-meter").wait_for(timeout=LONG_MS)
        if self.gw("chat-clear").is_enabled():
            self.gw("chat-clear").click()
            self.gw("chat-empty").wait_for(timeout=LONG_MS)

    def clean(self) -> None:
        """Take away what a test before has left."""
        self.page.keyboard.press("Escape")
        self.input.fill("")
        while self.gw("chat-file").count():
            self.gw("chat-file-remove").first.click()

    def choose(self, *files: tuple[str, bytes]) -> None:
        self.gw("chat-file-input").set_input_files(
            [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
        )

    def chip(self, name: str) -> Locator:
        return self.gw("chat-file").filter(has_text=name)

    def wait_ready(self, name: str) -> Locator:
        self.gw("chat-file", state="ready").filter(has_text=name).wait_for(timeout=LONG_MS)
        return self.chip(name)

    def hand_over(self, kind: str, name: str, data: bytes, mime: str) -> None:
        """Paste or drop a file as the browser would say it."""
        self.page.evaluate(
            """([kind, name, data, mime]) => {
              const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
              const what = new DataTransfer();
              what.items.add(new File([bytes], name, {type: mime}));
              const place = document.querySelector('[data-gw="chat-input"]');
              const how = {bubbles: true, cancelable: true};
              const event = kind === "paste"
                ? new ClipboardEvent("paste", {...how, clipboardData: what})
                : new DragEvent(kind, {...how, dataTransfer: what});
              place.dispatchEvent(event);
            }""",
            [kind, name, base64.b64encode(data).decode(), mime],
        )

    def paste_text(self, text: str) -> None:
        """Paste as Ctrl+V does: the event, then the text."""
        self.input.focus()
        self.page.evaluate(
            """(text) => {
              const what = new DataTransfer();
              what.setData("text/plain", text);
              const place = document.querySelector('[data-gw="chat-input"]');
              const how = {bubbles: true, cancelable: true, clipboardData: what};
              const event = new ClipboardEvent("paste", how);
              if (place.dispatchEvent(event)) document.execCommand("insertText", false, text);
            }""",
            text,
        )

    def send(self) -> Locator:
        """Press Enter; return the answer when it has ended."""
        number = self.chat.answers().count()
        self.input.press("Enter")
        answer = self.chat.answers().nth(number)
        answer.wait_for(timeout=LONG_MS)
        self.chat.wait_for_status(answer, "complete", "failed", "aborted")
        return answer

    def stored(self) -> list[ChatMessage]:
        with Store(self.home.data / "store.sqlite3") as store:
            conversations = Conversations(store)
            latest = conversations.latest()
            assert latest is not None
            return conversations.path(latest.id)


@pytest.fixture(scope="module")
def page_for_all(site: Server, person: Home, browser: Browser) -> Iterator[Writing]:
    watched = Watched(browser, viewport={"width": 1280, "height": 800})
    watched.page.set_default_timeout(LONG_MS)
    watched.page.goto(site.url, wait_until="commit")
    yield Writing(watched, person)
    watched.close()


@pytest.fixture
def writing(page_for_all: Writing) -> Iterator[Writing]:
    """The page in a new conversation."""
    page_for_all.begin()
    page_for_all.clean()
    yield page_for_all
    page_for_all.watched.assert_clean()


def test_files_are_chosen_dropped_and_pasted_and_go_out_with_the_message(writing: Writing) -> None:
    gw, page = writing.gw, writing.page
    writing.choose(("notes.txt", b"Buy milk.\n"), ("report.docx", b"PK\x03\x04" + b"x" * 99))
    long = "a name that is far too long to be shown whole on a chip of that width.txt"
    writing.choose((long, b"x"))
    writing.wait_ready(long[:20])
    assert faults_of(page, ".gw-chat") == []
    writing.chip(long[:20]).locator('[data-gw="chat-file-remove"]').click()
    writing.hand_over("dragenter", "paper.pdf", b"", "application/pdf")
    expect(page.get_by_text("Drop files to attach them")).to_be_visible()
    writing.hand_over("drop", "paper.pdf", pdf_files.good("A page."), "application/pdf")
    expect(page.get_by_text("Drop files to attach them")).to_be_hidden()
    writing.hand_over("paste", "image.png", STAR, "image/png")
    for name in ("notes.txt", "paper.pdf", "Pasted image.png"):
        expect(writing.wait_ready(name)).to_contain_text("token")
    expect(writing.chip("report.docx")).to_contain_text("a Word document")
    expect(writing.chip("Pasted image.png").locator("img")).to_have_js_property("naturalWidth", 120)
    assert faults_of(page, ".gw-chat") == []

    # Nothing is sent in silence without a file that is shown.
    writing.input.fill("What is this?")
    writing.input.press("Enter")
    expect(page.get_by_text("“report.docx” could not be attached. Remove it")).to_be_visible()
    writing.chip("report.docx").locator('[data-gw="chat-file-remove"]').click()
    expect(gw("chat-file")).to_have_count(3)

    # What is in a file, before it is sent and after.
    writing.chip("paper.pdf").locator('[data-gw="chat-file-open"]').click()
    expect(gw("chat-file-view")).to_contain_text("A page.")
    page.keyboard.press("Escape")
    expect(gw("chat-file-view")).to_have_count(0)
    expect(writing.chip("paper.pdf").locator('[data-gw="chat-file-open"]')).to_be_focused()
    writing.input.focus()
    writing.send()
    expect(gw("chat-file")).to_have_count(0)
    asked = writing.stored()[-2]
    assert [one.name for one in asked.attachments] == ["notes.txt", "paper.pdf", "Pasted image.png"]
    assert asked.content == "What is this?"
    gw("chat-sent-file").filter(has_text="notes.txt").click()
    expect(gw("chat-file-view")).to_contain_text("Buy milk.")
    gw("chat-sent-file").filter(has_text="Pasted image.png").click()
    expect(gw("chat-file-view").locator("img")).to_have_js_property("naturalWidth", 120)
    assert faults_of(page, ".gw-chat") == []


def test_the_model_names_the_figure_in_a_picture(writing: Writing) -> None:
    writing.choose(("figure.png", STAR))
    expect(writing.wait_ready("figure.png")).to_contain_text("17 tokens")
    writing.input.fill("What is in the picture?")
    answer = writing.send()
    expect(answer.locator(".gw-body")).to_contain_text("star")
    expect(answer.locator(".gw-body")).to_contain_text("red")


def test_a_large_file_comes_in_pieces_and_can_be_cancelled(writing: Writing) -> None:
    large = ("All work and no play. " * 300_000).encode()
    writing.choose(("large.txt", large))
    writing.chip("large.txt").locator('[data-gw="chat-file-remove"]').click()
    expect(writing.gw("chat-file")).to_have_count(0)
    writing.choose(("large.txt", large))
    expect(writing.wait_ready("large.txt")).to_contain_text("6.6 MB")
    writing.input.fill("Sum it up.")
    writing.input.press("Enter")
    question = writing.gw("chat-full")
    expect(question).to_contain_text("The message alone is too long")
    expect(question.get_by_role("button")).to_have_text(["Close"])
    writing.gw("chat-full-close").click()
    expect(writing.input).to_have_value("Sum it up.")
    expect(writing.gw("chat-file")).to_have_count(1)
    assert writing.chat.answers().count() == 0


def test_a_long_paste_may_become_a_file(writing: Writing) -> None:
    gw = writing.gw
    writing.input.fill("Look: ")
    writing.input.press("End")
    text = "One line of many.\n" * 300
    writing.paste_text(text)
    expect(gw("chat-paste-offer")).to_contain_text("5,400 characters")
    gw("chat-paste-attach").click()
    expect(writing.input).to_have_value("Look: ")
    writing.wait_ready("Pasted text.txt")
    # One that would make the page stand still is never put into the field.
    writing.paste_text("x" * 5_000_000)
    expect(writing.input).to_have_value("Look: ")
    writing.wait_ready("Pasted text 2.txt")


def test_a_reload_keeps_the_draft(writing: Writing) -> None:
    gw, page = writing.gw, writing.page
    writing.choose(("notes.txt", b"Buy milk."))
    writing.wait_ready("notes.txt")
    writing.input.fill("What should I buy?")
    gw("chat-begin-open").click()
    gw("chat-begin").fill("You should")
    page.wait_for_timeout(500)
    page.reload(wait_until="commit")
    expect(writing.input).to_have_value("What should I buy?", timeout=LONG_MS)
    expect(gw("chat-begin")).to_have_value("You should")
    writing.wait_ready("notes.txt")
    # What was sent is no draft any more.
    writing.begin()
    writing.input.focus()
    answer = writing.send()
    assert answer.locator(".gw-body").inner_text().startswith("You should")
    stored = writing.stored()
    assert (stored[-1].begin, stored[-2].attachments[0].name) == ("You should", "notes.txt")
    page.reload(wait_until="commit")
    writing.chat.wait_until_shown()
    expect(writing.input).to_have_value("")
    expect(gw("chat-file")).to_have_count(0)


def fill_up(writing: Writing) -> None:
    """Talk until the next message does not fit."""
    for number in range(20):
        writing.input.fill(f"{number}. {STORY}")
        writing.page.wait_for_timeout(450)
        before = writing.chat.answers().count()
        writing.input.press("Enter")
        answered = writing.chat.answers().nth(before)
        answered.or_(
            writing.gw("chat-full").and_(writing.page.locator(":visible"))
        ).first.wait_for()
        if writing.gw("chat-full").is_visible():
            return
        writing.chat.wait_for_status(answered, "complete", "failed")
    raise AssertionError("It never became full")


def test_a_full_context_asks_and_each_choice_does_what_it_says(writing: Writing) -> None:
    gw, page = writing.gw, writing.page
    fill_up(writing)
    question = gw("chat-full")
    expect(question).to_contain_text("could go on without the")
    assert faults_of(page, ".gw-chat") == []
    number = writing.chat.answers().count()
    page.keyboard.press("Escape")  # do not send
    expect(question).to_be_hidden()
    expect(writing.input).to_be_focused()
    assert writing.chat.answers().count() == number

    writing.input.press("Enter")
    gw("chat-full-summarize").click()
    answer = writing.chat.answers().nth(number)
    answer.wait_for(timeout=LONG_MS)
    assert writing.chat.wait_for_status(answer, "complete", "failed") == "complete"
    kept = writing.stored()[-1]
    assert kept.left_out
    assert kept.summary
    expect(answer.locator('[data-gw="chat-left-out"]')).to_be_visible()

    # From now on it says what will happen, and asks no more, until that is taken back.
    writing.input.fill(STORY * 2)
    expect(gw("chat-ask-again")).to_be_visible(timeout=LONG_MS)
    gw("chat-ask-again").click()
    expect(gw("chat-ask-again")).to_be_hidden()
    writing.input.press("Enter")
    expect(question).to_be_visible()
    gw("chat-full-drop_oldest").click()
    answer = writing.chat.answers().nth(number + 1)
    answer.wait_for(timeout=LONG_MS)
    assert writing.chat.wait_for_status(answer, "complete", "failed") == "complete"
    kept = writing.stored()[-1]
    assert kept.left_out
    assert kept.summary is None


def test_the_meter_tells_its_parts_by_keyboard_and_while_one_types(writing: Writing) -> None:
    gw, page = writing.gw, writing.page
    empty = gw("chat-meter").get_attribute("aria-label")
    writing.input.fill("Some words that fill the context a little.")
    expect(gw("chat-meter")).not_to_have_attribute("aria-label", empty or "")
    assert "of 512 tokens" in (gw("chat-meter").get_attribute("aria-label") or "")
    gw("chat-send").focus()
    page.keyboard.press("Tab")
    expect(gw("chat-meter")).to_be_focused()
    legend = page.get_by_role("tooltip").filter(has_text="Left for the answer")
    expect(legend).to_be_visible()
    expect(legend).to_contain_text("This message")
    assert faults_of(page, ".gw-chat") == []


def test_prompt_templates_by_keyboard(writing: Writing, tmp_path: Path) -> None:
    gw, page = writing.gw, writing.page
    writing.input.fill("The soup was cold.")
    gw("chat-prompts-open").focus()
    page.keyboard.press("Enter")
    expect(gw("chat-prompt-search")).to_be_focused()
    page.keyboard.type("translate")
    expect(gw("chat-prompt")).to_have_count(1)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    blanks = gw("chat-prompt-blank")
    expect(blanks.nth(0)).to_be_focused()
    expect(blanks.nth(1)).to_have_value("The soup was cold.")
    page.keyboard.type("French")
    page.keyboard.press("Control+Enter")
    expect(writing.input).to_be_focused()
    expect(writing.input).to_have_value(
        "Translate this text into French. Keep the tone and the layout. Write only the"
        " translation.\n\nThe soup was cold."
    )
    # One of one's own: made, shared, deleted, brought back.
    writing.input.fill("")
    gw("chat-prompts-open").click()
    gw("chat-prompt-new").click()
    gw("chat-prompt-name").fill("Rhyme")
    gw("chat-prompt-text").fill('Rhyme on {word} as {{"json"}}')
    gw("chat-prompt-save").click()
    expect(gw("chat-prompt", name="Rhyme")).to_be_focused()
    assert faults_of(page, ".gw-chat") == []
    with page.expect_download() as download:
        gw("chat-prompt-export").click()
    shared = tmp_path / "shared.json"
    download.value.save_as(shared)
    assert json.loads(shared.read_text("utf-8"))["templates"][0]["name"] == "Rhyme"
    gw("chat-prompt", name="Rhyme").click()
    gw("chat-prompt-delete").click()
    expect(gw("chat-prompt", name="Rhyme")).to_have_count(0)
    gw("chat-prompt-undo").click()
    gw("chat-prompt", name="Rhyme").click()
    gw("chat-prompt-blank").fill("moon")
    gw("chat-prompt-use").click()
    expect(writing.input).to_have_value('Rhyme on moon as {"json"}')
    # Esc goes back one step at a time, and to the button in the end.
    gw("chat-prompts-open").click()
    gw("chat-prompt", name="Rhyme").click()
    page.keyboard.press("Escape")
    expect(gw("chat-prompt", name="Rhyme")).to_be_focused()
    page.keyboard.press("Escape")
    expect(gw("chat-prompts")).to_be_hidden()
    expect(gw("chat-prompts-open")).to_be_focused()


def test_arrow_up_edits_the_last_message(writing: Writing) -> None:
    writing.input.fill("Hello")
    writing.send()
    writing.input.press("ArrowUp")
    field = writing.page.locator('[data-gw="chat-edit-field"]:visible')
    expect(field).to_be_focused()
    expect(field).to_have_value("Hello")
