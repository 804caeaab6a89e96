"""The panel of conversations in a real browser (Voila), and the copy of a chat in JupyterLab.

About 50 s on a quiet machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.axe import serious_faults
from support.browser import LONG_MS, Watched
from support.lab_page import run_cell, save
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila

from gguf_widgets.core.chat.export import import_data
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
# Its answers come when a test says so, and here none does: one goes on until it is stopped.
SOURCE = f"""
import sys
import gguf_widgets as gw

sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.chat_fakes import FakeModel

gw.ChatBox(FakeModel(), height=640)
"""
MANY = 5000


def fill(home: Home) -> None:
    """Put many conversations into a home's store: two pinned, some of each time, one long one."""
    items = [
        {
            "title": f"Talk number {i}",
            "messages": [
                {"role": "user", "content": f"What is {i}?"},
                {"role": "assistant", "content": f"It is number {i}."},
            ],
        }
        for i in range(MANY)
    ]
    long_one = [{"role": "user", "content": f"Line {i}. {'More words. ' * 20}"} for i in range(60)]
    long_one[7]["content"] = "Here hides a <b>walrus</b> in a <script>forest</script>."
    items.append({"title": "A long talk", "messages": long_one})
    with Store(home.data / "store.sqlite3") as store:
        import_data(store, json.dumps(items))
        now = time.time()
        with store.transaction() as connection:
            connection.execute(
                "UPDATE conversation SET updated_at = ? - (num - 1) * 3600.0 * 3", (now,)
            )
            connection.execute("UPDATE conversation SET pinned = 1 WHERE num IN (10, 20)")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    one = Home(tmp_path_factory.mktemp("library"))
    fill(one)
    yield one
    one.close()


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[Server]:
    cell = nbformat.v4.new_code_cell(SOURCE.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = home.folder / "chat.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    with voila(home, path) as one:
        yield one


class Library:
    """The panel on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched, self.page, self.gw = watched, watched.page, watched.gw

    def open(self) -> None:
        self.gw("library-button").click(timeout=LONG_MS)
        expect(self.gw("library-row").first).to_be_visible()

    def row(self, title: str) -> Locator:
        named = self.page.locator(".gw-lib-title").get_by_text(title, exact=True)
        return self.gw("library-row").filter(has=named)

    def focused(self) -> str:
        return str(self.page.evaluate("document.activeElement.textContent"))

    def search(self, words: str) -> None:
        self.gw("library-search").fill(words)

    def open_menu(self, title: str) -> None:
        self.row(title).hover()
        self.row(title).locator('[data-gw="library-more"]').click()

    def menu(self, title: str, entry: str) -> None:
        self.open_menu(title)
        self.gw(f"library-{entry}").click()


def test_many_conversations_with_the_keyboard(
    server: Server, home: Home, open_page: OpenPage, tmp_path: Path
) -> None:
    watched = open_page(server.url)
    library = Library(watched)
    page = watched.page
    library.open()
    groups = page.locator(".gw-lib-group")
    expect(groups).to_have_text(["Pinned", "Today", "Yesterday", "Last 7 days"])
    expect(watched.gw("library-row")).to_have_count(50)
    assert faults_of(page, ".gw-side-panel") == []
    assert serious_faults(page, ".gw-side-panel") == []
    watched.keep_screenshot(SCREENS / "chat-library-1280.png")
    expect(watched.gw("library-search")).to_be_focused()

    # Arrow keys, F2, Delete, Undo: the focus is where it was, and the order stays.
    page.keyboard.press("ArrowDown")
    assert library.focused().startswith("Talk number 9")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert library.focused().startswith("Talk number 0")
    page.keyboard.press("F2")
    page.keyboard.press("Control+a")
    page.keyboard.type("A new name")
    page.keyboard.press("Enter")
    assert library.focused().startswith("A new name")
    expect(library.row("A new name")).to_be_visible()
    page.keyboard.press("F2")
    page.keyboard.type("never kept")
    assert serious_faults(page, ".gw-side-panel") == []
    page.keyboard.press("Escape")
    assert library.focused().startswith("A new name")
    expect(watched.gw("library")).to_be_visible()  # Esc took the name back, and no more
    page.keyboard.press("Delete")
    expect(library.row("A new name")).to_have_count(0)
    assert library.focused().startswith("Talk number 1")
    watched.gw("library-act").click()  # Undo
    expect(library.row("A new name")).to_be_visible()
    expect(library.row("A new name").locator('[data-gw="library-open"]')).to_be_focused()

    # Enter opens it; it is marked, and its messages are there.
    page.keyboard.press("Enter")
    expect(watched.gw("chat-message")).to_have_count(2)
    expect(watched.gw("chat-message").first).to_contain_text("What is 0?")
    expect(library.row("A new name").locator("[aria-current]")).to_be_visible()

    # The window grows as one scrolls.
    page.locator(".gw-lib-scroll").evaluate("one => one.scrollTo(0, one.scrollHeight)")
    expect(watched.gw("library-row")).to_have_count(100)

    # What is found: in the middle of a long talk, as text, marked and in sight.
    library.search("walrus fore")
    hits = page.locator(".gw-lib-snippet mark")
    expect(hits).to_have_text(["walrus", "forest"])
    expect(page.locator(".gw-lib-snippet")).to_contain_text("<b>walrus</b> in a <script>forest")
    assert serious_faults(page, ".gw-side-panel") == []
    watched.keep_screenshot(SCREENS / "chat-library-search.png")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    marked = page.locator(".gw-lib-marked")
    expect(marked).to_contain_text("Here hides a <b>walrus</b>")
    expect(marked).to_be_in_viewport()
    library.search("nothing at all of this")
    expect(watched.gw("library-empty")).to_contain_text("Nothing was found")
    watched.gw("library-search").focus()
    page.keyboard.press("Escape")
    expect(watched.gw("library-row").first).to_be_visible()

    # Another program changes the store: this page shows it by itself.
    with Store(home.data / "store.sqlite3") as store:
        import_data(store, json.dumps([{"role": "user", "content": "From another window"}]))
        expect(library.row("From another window")).to_be_visible()
        (other,) = Conversations(store).search("From another window")
        Conversations(store).update(other.conversation.id, title="Renamed elsewhere")
        expect(library.row("Renamed elsewhere")).to_be_visible()

    # Out as a file, and in again.
    with page.expect_download() as download:
        library.open_menu("Renamed elsewhere")
        assert serious_faults(page, ".gw-side-panel") == []
        watched.gw("library-export-json").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "Renamed elsewhere.json"
    expect(watched.gw("library-words")).to_contain_text("Saved as")
    watched.gw("library-file").set_input_files(file)
    expect(watched.gw("library-words")).to_contain_text("1 conversation was taken in.")
    expect(library.row("Renamed elsewhere")).to_have_count(2)
    broken = tmp_path / "broken.json"
    broken.write_text("no JSON at all", encoding="utf-8")
    watched.gw("library-file").set_input_files(broken)
    expect(watched.gw("library-fault")).to_contain_text("it is no JSON")

    # The deleted ones, and back.
    library.row("Talk number 2").locator('[data-gw="library-open"]').focus()
    page.keyboard.press("Delete")
    watched.gw("library-deleted").click()
    expect(watched.gw("library-row")).to_have_count(1)
    library.menu("Talk number 2", "restore")
    expect(watched.gw("library-empty")).to_contain_text("Nothing was deleted")
    watched.gw("library-back").click()
    expect(library.row("Talk number 2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(watched.gw("library")).to_be_hidden()
    expect(watched.gw("library-button")).to_be_focused()
    watched.assert_clean()


def test_in_a_narrow_box_it_lies_over_the_chat(server: Server, open_page: OpenPage) -> None:
    watched = open_page(server.url, width=400, height=760)
    library = Library(watched)
    library.open()
    assert faults_of(watched.page, ".gw-chat") == []
    box = watched.gw("library").bounding_box()
    assert box is not None
    assert box["width"] <= 400
    library.menu("Talk number 3", "pin")
    expect(watched.page.locator('[data-group="Pinned"]')).to_contain_text("Talk number 3")
    assert library.focused().startswith("Talk number 3")  # also in its new group
    library.row("Talk number 3").locator('[data-gw="library-open"]').click()
    expect(watched.gw("library")).to_be_hidden()
    expect(watched.gw("chat-message").last).to_contain_text("It is number 3.")
    watched.assert_clean()


def test_an_answer_under_way_is_not_stopped_without_asking(
    server: Server, open_page: OpenPage
) -> None:
    watched = open_page(server.url)
    library = Library(watched)
    library.open()
    watched.page.locator(".gw-chat .gw-input").fill("Take your time")
    watched.page.keyboard.press("Enter")
    under_way = watched.gw("chat-message", role="assistant", status="streaming")
    expect(under_way).to_have_count(1)
    expect(library.row("Take your time")).to_contain_text("Being answered…")
    other = library.row("Talk number 5").locator('[data-gw="library-open"]')
    other.click()
    expect(watched.gw("library-words")).to_contain_text("Going on stops it")
    expect(under_way).to_have_count(1)
    watched.gw("library-act").click()
    expect(watched.gw("chat-message").last).to_contain_text("It is number 5.")
    expect(library.row("Take your time")).not_to_contain_text("Being answered…")
    library.row("Take your time").locator('[data-gw="library-open"]').click()
    expect(watched.gw("chat-message", role="assistant", status="aborted")).to_have_count(1)
    watched.assert_clean()


IN_LAB = """
import gguf_widgets as gw

gw.ChatBox(gw.load("demo"), height=640, temperature=0)
"""

END_SESSIONS = """
async () => {
  const token = document.cookie.match(/_xsrf=([^;]+)/)[1];
  for (const { id } of await (await fetch("/api/sessions")).json())
    await fetch(`/api/sessions/${id}`, { method: "DELETE", headers: { "X-XSRFToken": token } });
}
"""


def test_in_jupyterlab_keys_stay_in_the_panel_and_the_notebook_keeps_a_copy(
    open_page: OpenPage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = Home(tmp_path_factory.mktemp("lab-library"))
    items = [
        {"title": f"Talk number {i}", "messages": [{"role": "user", "content": "Hi"}]}
        for i in range(3)
    ]
    with Store(home.data / "store.sqlite3") as store:
        import_data(store, json.dumps(items))
    folder = home.folder / "notebooks"
    folder.mkdir()
    cell = nbformat.v4.new_code_cell(IN_LAB.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "chat.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    try:
        with lab(home, folder) as server:
            base = server.url.split("/lab")[0].rstrip("/")
            watched = open_page(f"{base}/lab/tree/chat.ipynb", height=900)
            page, library = watched.page, Library(watched)
            run_cell(watched, done=True)
            library.open()
            page.keyboard.press("ArrowDown")
            page.keyboard.press("F2")
            page.keyboard.type("a b d d x")  # as commands these make, cut and delete cells
            page.keyboard.press("Enter")
            page.keyboard.press("Delete")
            watched.gw("library-act").click()
            page.keyboard.press("Escape")
            watched.gw("chat-message").first.or_(watched.gw("chat-empty")).first.wait_for()
            page.locator(".gw-chat .gw-input").fill("Hello!")
            page.keyboard.press("Enter")
            answer = watched.gw("chat-message", role="assistant", status="complete")
            expect(answer).to_have_count(1)
            copy = page.locator(".gw-static")
            expect(copy).to_contain_text("demo model")
            expect(copy).to_be_hidden()
            expect(page.locator(".jp-NotebookPanel .jp-CodeCell")).to_have_count(1)
            save(watched)
            outputs = nbformat.read(path, 4).cells[0].outputs
            assert "demo model" in outputs[1].data["text/html"]
            # Another day: the notebook is opened, and no kernel knows the widget any more.
            page.evaluate(END_SESSIONS)
            page.reload(wait_until="commit")
            expect(copy).to_be_visible(timeout=LONG_MS)
            expect(copy).to_contain_text("demo model")
            # Jupyter does not end while it is starting a kernel.
            expect(page.get_by_text("| Idle")).to_be_visible(timeout=LONG_MS)
    finally:
        home.close()
