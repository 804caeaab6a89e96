"""The dashboard in a real browser, served by Voila: the whole path, with the real demo model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Chat, Watched, growing, watch_answers
from support.servers import Home, Server, dashboard, voila, wait_until

OpenPage = Callable[..., Watched]

# The dashboard with a model that cannot end its answer: its end tokens are forbidden, and its
# context is far longer than it was trained for. About 20 seconds of text on a quick machine.
ENDLESS = """
import gguf_widgets as gw
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.demo import demo_model_path

path = str(demo_model_path())
Preferences().set(LAST_MODEL, {"path": path, "settings": {"n_ctx": 32768}})
vocabulary = gw.read_header(path).metadata["tokenizer.ggml.token_type"].values()
CONTROL = 3
never = {token: float("-inf") for token, kind in enumerate(vocabulary) if kind == CONTROL}
dashboard = gw.Dashboard()
dashboard.chat.chat.sampling = {"logit_bias": never, "seed": 1}
dashboard
"""


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("person"))
    yield home
    home.close()


@pytest.fixture(scope="module")
def site(person: Home) -> Iterator[Server]:
    """What ``gguf-widgets dashboard`` serves."""
    with dashboard(person) as server:
        yield server


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same page, with a model whose answers do not end."""
    home = Home(tmp_path_factory.mktemp("endless"))
    path = home.folder / "endless.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ENDLESS)])
    nbformat.write(notebook, path)
    with voila(home, path) as server:
        yield server
    home.close()


def test_a_visitor_loads_the_demo_model_talks_with_it_and_finds_the_talk_again(
    site: Server, person: Home, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    chat = Chat(watched)
    chat.load_demo()
    assert watched.page.title() == "gguf-widgets"

    answer = chat.ask("Hello")
    assert chat.wait_for_status(answer, "complete") == "complete"
    said = answer.locator(".gw-body").inner_text()
    assert said.strip()
    expect(watched.gw("chat-stats")).to_contain_text("tokens/s")

    watched.page.reload(wait_until="commit")
    answer = chat.answers().first
    answer.wait_for(timeout=LONG_MS)
    assert chat.questions() == ["Hello"]
    assert answer.locator(".gw-body").inner_text() == said
    # The model still runs, and the new page has joined it by itself.
    watched.gw("picker-unload").wait_for(timeout=LONG_MS)
    chat.wait_for_status(chat.ask("Thank you"), "complete")
    assert len(person.workers()) == 1
    wait_until(lambda: len(person.kernels()) == 1, 60, "the first page's kernel ends")

    # What was asked goes to the table; what is marked of it becomes a column.
    chat.wait_for_status(chat.ask('Good or bad? The soup was cold. As {"label": ...}'), "complete")
    question = watched.page.locator('[data-gw="chat-message"][data-role="user"] .gw-body').last
    question.evaluate(
        "(body) => { const text = body.firstChild, start = text.data.indexOf('The soup');"
        "getSelection().setBaseAndExtent(text, start, text, start + 19); }"
    )
    watched.gw("chat-over-table").click()
    expect(watched.gw("tab-table")).to_have_attribute("aria-selected", "true")
    expect(watched.gw("tab-table")).to_be_focused()
    prompt = watched.gw("batch-prompt")
    expect(prompt).to_have_value('Good or bad? {text} As {{"label": ...}}')
    expect(watched.gw("chat-over-table")).to_be_hidden()
    watched.gw("tab-chat").click()
    expect(watched.gw("chat-over-table")).to_be_visible()
    watched.assert_clean()


def test_text_arrives_in_steps_stop_ends_it_at_once_and_a_reload_shows_it_again(
    endless: Server, open_page: OpenPage
) -> None:
    watched = open_page(endless.url)
    chat = Chat(watched)
    chat.load_demo()
    record = chat.assert_stop_is_prompt(lambda: chat.ask("Tell me a story"))
    assert growing(record["lengths"]) >= 3
    assert record["statuses"] == ["streaming", "aborted"]
    stopped = chat.answers().last
    said = stopped.locator(".gw-body").inner_text()
    assert said.strip()

    # It is really over: nothing is added to it while the next answer is written.
    chat.stop_while_it_writes(lambda: chat.ask("Tell me another one"))
    talk = chat.questions()
    assert talk[-2:] == ["Tell me a story", "Tell me another one"]
    stopped = chat.answers().nth(len(talk) - 2)
    assert stopped.locator(".gw-body").inner_text() == said

    watched.page.reload(wait_until="commit")
    stopped.wait_for(timeout=LONG_MS)
    assert chat.questions() == talk
    assert stopped.locator(".gw-body").inner_text() == said
    assert stopped.get_attribute("data-status") == "aborted"
    watched.assert_clean()


def test_a_killed_worker_is_told_in_the_message_and_the_next_message_works(
    endless: Server, open_page: OpenPage
) -> None:
    watched = open_page(endless.url)
    chat = Chat(watched)
    watched.gw("picker-row", name="demo").wait_for(timeout=LONG_MS)
    if not watched.gw("picker-unload").is_visible():  # the test before this one has loaded it
        chat.load_demo()
    watched.gw("chat-clear").click()
    kernels = endless.home.kernels()
    watch_answers(watched.page)
    answer = chat.ask("Tell me a story")
    watched.page.wait_for_function("gwRecord.lengths.length >= 3", timeout=LONG_MS)
    for worker in endless.home.workers():
        worker.kill()
    assert chat.wait_for_status(answer, "failed") == "failed"
    assert answer.locator('[data-gw="chat-error"]').inner_text().strip()
    assert answer.locator(".gw-body").inner_text().strip()  # what had arrived is kept
    assert [kernel.pid for kernel in endless.home.kernels()] == [one.pid for one in kernels]

    _, record = chat.stop_while_it_writes(lambda: chat.ask("Go on"))
    assert growing(record["lengths"]) >= 3
    assert record["statuses"][-1] == "aborted"
    watched.assert_clean()


def test_a_killed_kernel_is_said_on_the_page_and_a_reload_brings_everything_back(
    site: Server, person: Home, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    chat = Chat(watched)
    chat.wait_until_shown()
    before = chat.questions()
    expect(watched.gw("gw-disconnected")).to_have_count(0)
    for kernel in person.kernels():
        kernel.kill()
    psutil.wait_procs(person.kernels(), timeout=60)
    watched.gw("gw-disconnected").first.wait_for(timeout=LONG_MS)
    watched.page.reload(wait_until="commit")
    chat.wait_until_shown()
    expect(watched.gw("gw-disconnected")).to_have_count(0)
    assert chat.questions() == before
    assert watched.hosts == {"localhost"}


def test_a_bad_file_shows_its_reason_and_the_others_still_load(
    site: Server, person: Home, open_page: OpenPage
) -> None:
    (person.models / "letter.gguf").write_text("Dear Emma, this is no model. " * 50)
    (person.models / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(20))
    try:
        watched = open_page(site.url)
        for name in ("letter", "cut"):
            row = watched.gw("picker-row", name=name)
            row.wait_for(timeout=LONG_MS)
            assert row.get_attribute("data-usable") == "false"
            assert len(row.locator('[data-gw="picker-error"]').inner_text()) > 20
            expect(row.locator('[data-gw="picker-load"]')).to_have_count(0)
        demo = watched.gw("picker-row", name="demo")
        assert demo.get_attribute("data-usable") == "true"
        watched.assert_clean()
    finally:
        for path in list(person.models.iterdir()):
            path.unlink()


def test_keyboard_and_a_narrow_page(site: Server, open_page: OpenPage) -> None:
    watched = open_page(site.url, width=800)
    chat = Chat(watched)
    chat.input.wait_for(timeout=LONG_MS)
    # The panel is folded away behind its button.
    row = watched.gw("picker-row", name="demo")
    expect(row).to_be_hidden()
    watched.gw("panel-toggle").click()
    expect(row).to_be_visible()
    watched.page.keyboard.press("Escape")
    expect(row).to_be_hidden()
    if watched.gw("picker-unload").count() == 0:  # no test before this one has loaded it
        watched.gw("panel-toggle").click()
        chat.load_demo()
        expect(row).to_be_hidden()

    watched.gw("chat-clear").click()
    expect(watched.gw("chat-message")).to_have_count(0)
    chat.input.click()
    watched.page.keyboard.type("One line")
    watched.page.keyboard.press("Shift+Enter")
    watched.page.keyboard.type("and another")
    expect(chat.input).to_have_value("One line\nand another")
    expect(watched.gw("chat-message")).to_have_count(0)
    watched.page.keyboard.press("Enter")
    chat.wait_for_status(chat.answers().first, "complete")
    assert chat.questions() == ["One line\nand another"]
    expect(chat.input).to_have_value("")
    # Nothing is wider than the page.
    overflow = watched.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0
    watched.assert_clean()


def test_demo_mode_says_so_and_answers_in_the_dark(tmp_path: Path, open_page: OpenPage) -> None:
    home = Home(tmp_path / "person", GGUF_WIDGETS_BACKEND="scripted")
    try:
        with dashboard(home, "--theme", "dark") as server:
            watched = open_page(server.url)
            chat = Chat(watched)
            banner = watched.gw("demo-banner")
            banner.wait_for(timeout=LONG_MS)
            assert "demo mode" in banner.inner_text().lower()
            chat.load_demo()
            answer = chat.ask("Hello")
            chat.wait_for_status(answer, "complete")
            assert "demo mode" in answer.inner_text().lower()
            colour = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
            red, green, blue = (int(part) for part in colour.strip("rgba()").split(",")[:3])
            assert max(red, green, blue) < 100
            watched.assert_clean()
    finally:
        home.close()
