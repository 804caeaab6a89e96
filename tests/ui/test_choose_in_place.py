"""Choosing a file that is on this machine already, in a real browser, with the keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Watched
from support.lab_page import run_cell
from support.library_homes import model_file, put
from support.screen_check import faults_of
from support.servers import Home, Server, dashboard, lab, wait_until

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
ALONE = (
    "import sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0,"
    "theme=sys.argv[2]))"
)
HOSTILE = "evil\u202efugg<img src=x onerror=alert(1)>.gguf"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    put(home.folder / "Downloads/good.gguf", model_file("A good model"))
    put(home.folder / "Downloads/letter.gguf", "Dear Emma, this is no model.")
    put(home.folder / "Downloads" / HOSTILE, model_file("Hostile"))
    put(home.folder / "Downloads/more/deep.gguf", model_file("Deep"))
    (home.folder / "Downloads/fol\u202eder").mkdir()
    for name in ("Documents", "Music"):
        (home.folder / name).mkdir()
    (home.folder / "Downloads/away").symlink_to("/etc")
    yield home
    home.close()


class Panel:
    """The panel on a watched page."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page
        self.field = watched.gw("browse-filter")
        self.found = watched.gw("browse-found")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def row(self, name: str) -> Locator:
        return self.watched.gw("browse-row").filter(
            has=self.page.locator(".gw-br-name", has_text=name)
        )

    def active(self) -> Locator:
        return self.page.locator('[data-gw="browse-row"][aria-selected="true"]')

    def is_in(self, *crumbs: str) -> None:
        expect(self.watched.gw("browse-crumb")).to_have_text(list(crumbs))

    def tab_to(self, target: Locator) -> None:
        """Press Tab until something has the focus; what cannot be reached fails."""
        for _ in range(40):
            if target.evaluate("e => e === document.activeElement"):
                return
            self.press("Tab")
        raise AssertionError("The keyboard does not reach it")


def test_in_the_dashboard_a_file_is_found_judged_used_and_taken_off_by_keyboard(
    home: Home, open_page: OpenPage
) -> None:
    good = home.folder / "Downloads/good.gguf"
    before = good.stat()
    with dashboard(home) as server:
        watched = open_page(server.url)
        panel = Panel(watched)
        upload = watched.gw("panel-upload").locator("summary").first
        upload.wait_for()
        upload.focus()
        panel.press("Enter")
        opener = watched.gw("browse-open")
        panel.tab_to(opener)
        panel.press("Enter")
        panel.is_in("Home folder")
        expect(panel.field).to_be_focused()
        expect(opener).to_have_attribute("aria-expanded", "true")

        # Type, Enter; the focus stays, the filter is empty again; Backspace goes up.
        panel.press(*"down")
        expect(watched.gw("browse-row")).to_have_count(1)
        panel.press("Enter")
        panel.is_in("Home folder", "Downloads")
        expect(panel.field).to_be_focused()
        expect(panel.field).to_have_value("")
        panel.press("Backspace")
        panel.is_in("Home folder")
        panel.press(*"down", "Enter")
        panel.is_in("Home folder", "Downloads")
        expect(watched.gw("browse-counts")).to_contain_text(
            "2 folders, 3 model files; 1 link out of the allowed folders left out"
        )

        # A name that would turn the line around is text, and so is what looks like HTML.
        hostile = panel.row("evil fugg<img src=x")
        expect(hostile).to_have_count(1)
        expect(hostile.locator("img")).to_have_count(0)
        titles = watched.page.evaluate(
            "[...document.querySelectorAll('.gw-br [title]')].map((e) => e.title)"
        )
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", "".join(titles))

        # What is no model says so, and cannot be used.
        height = watched.gw("browse-list").bounding_box()
        panel.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown")
        expect(panel.active()).to_have_attribute("data-name", "letter.gguf")
        expect(panel.field).to_have_attribute(
            "aria-activedescendant", panel.active().get_attribute("id") or "?"
        )
        panel.press("Enter")
        expect(panel.found).to_contain_text("is not a GGUF model file")
        expect(watched.gw("browse-use")).to_have_count(0)
        panel.press("ArrowUp", "Enter")
        expect(panel.found).to_contain_text("A good model")
        expect(panel.found).to_contain_text("parameters")
        expect(watched.gw("browse-fit")).to_have_text(re.compile("^Fits"))
        expect(panel.field).to_be_focused()
        now = watched.gw("browse-list").bounding_box()
        assert height is not None
        assert now is not None
        assert now["height"] == height["height"]

        # Used in place: it is in the picker, and nothing was copied or changed.
        panel.tab_to(watched.gw("browse-use"))
        panel.press("Enter")
        expect(watched.gw("browse-done")).to_contain_text("in the list of models now")
        expect(panel.field).to_be_focused()
        watched.gw("picker-row", name="good").wait_for(timeout=LONG_MS)
        expect(panel.row("good.gguf")).to_contain_text("in the list")
        assert list(home.models.rglob("*.gguf")) == []

        # Off the list again: nothing is deleted, and that is said.
        panel.press("Escape")
        expect(watched.gw("browse-panel")).to_be_hidden()
        expect(opener).to_be_focused()
        panel.tab_to(watched.gw("browse-added").locator("summary"))
        panel.press("Enter")
        expect(watched.gw("browse-added")).to_contain_text("deletes nothing")
        panel.tab_to(watched.gw("browse-remove").first)
        panel.press("Enter")
        expect(watched.gw("browse-added-said")).to_contain_text("Nothing was deleted")
        expect(watched.gw("picker-row", name="good")).to_have_count(0)
        after = good.stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        watched.assert_clean()


def test_in_jupyterlab_a_pasted_path_and_a_whole_folder_survive_a_reload(
    home: Home, open_page: OpenPage
) -> None:
    folder = home.folder / "notebooks"
    folder.mkdir()
    source = (
        "import gguf_widgets as gw\nuploader = gw.ModelUploader()\n"
        "uploader.observe(lambda change: open('finished', 'w').write(change.new), 'finished')\n"
        "uploader"
    )
    cell = nbformat.v4.new_code_cell(source)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(book, folder / "choose.ipynb")
    with lab(home, folder) as server:
        address = server.url.split("/lab")[0] + "/lab/tree/choose.ipynb"
        watched = open_page(address)
        panel = Panel(watched)

        run_cell(watched)
        watched.gw("browse-open").wait_for(timeout=LONG_MS)
        watched.gw("browse-open").focus()
        panel.press("Enter")
        panel.is_in("Home folder")

        # JupyterLab's own shortcuts do not take the keys.
        field = watched.gw("browse-path")
        panel.tab_to(field)
        for text, said in (
            ("/etc/passwd", "outside of the folders in which you may look here"),
            ("Downloads/good.gguf", "whole path"),
            (str(home.folder / "Downloads/nothing.gguf"), 'There is no "nothing.gguf"'),
            (str(home.folder / "Downloads/away/passwd"), "outside of the folders"),
        ):
            panel.press("ControlOrMeta+a")
            watched.page.keyboard.insert_text(text)
            panel.press("Enter")
            expect(watched.gw("browse-problem")).to_contain_text(said)
            expect(field).to_be_focused()
        panel.press("ControlOrMeta+a")
        watched.page.keyboard.insert_text(f'"{home.folder}/Downloads/good.gguf"')
        panel.press("Enter")
        expect(panel.found).to_contain_text("A good model")
        expect(watched.gw("browse-problem")).to_be_empty()
        field.fill(str(home.folder / "Downloads/letter.gguf"))
        watched.gw("browse-go").click()
        expect(panel.found).to_contain_text("is not a GGUF model file")
        field.fill(f"file://{home.folder}/Downloads/good.gguf")
        watched.gw("browse-go").click()
        expect(panel.found).to_contain_text("A good model")
        watched.gw("browse-use").focus()
        panel.press("Enter")
        noted = folder / "finished"
        wait_until(noted.exists, 60, "`finished` is set")
        wait_until(lambda: noted.read_text().endswith("good.gguf"), 60, "it says which file")

        # A whole folder, by its path; then the page is loaded again.
        panel.tab_to(field)
        panel.press("ControlOrMeta+a")
        watched.page.keyboard.insert_text(f"{home.folder}/Downloads/more")
        panel.press("Enter")
        panel.is_in("Home folder", "Downloads", "more")
        watched.gw("browse-add").focus()
        panel.press("Enter")
        expect(watched.gw("browse-add")).to_have_text("This folder is looked through")
        expect(watched.gw("browse-add")).to_be_disabled()
        expect(panel.field).to_be_focused()

        watched.page.reload(wait_until="commit")
        run_cell(watched)
        watched.gw("browse-open").wait_for(timeout=LONG_MS)
        watched.gw("browse-added").locator("summary").click()
        expect(watched.gw("browse-added-row")).to_have_count(2)
        for name in ("good.gguf", "more"):
            row = watched.gw("browse-added-row", name=name)
            row.locator('[data-gw="browse-remove"]').click()
            expect(row).to_have_count(0)
        expect(watched.gw("browse-added-said")).to_contain_text("Nothing was deleted")
        assert (home.folder / "Downloads/more/deep.gguf").exists()
        watched.assert_clean()


def test_where_other_machines_are_served_only_what_was_allowed_is_shown(
    home: Home, open_page: OpenPage
) -> None:
    for number in range(600):
        put(home.folder / f"Downloads/many/m{number}.gguf", b"")
    (home.folder / "Downloads/.old").mkdir()
    token = "made-up"  # noqa: S105
    for more, is_shown in (((), False), (("--browse", str(home.folder / "Downloads")), True)):
        with dashboard(home, "--ip", "0.0.0.0", "--token", token, *more) as server:  # noqa: S104
            watched = open_page(f"{server.url.split('?')[0]}?token={token}")
            upload = watched.gw("panel-upload").locator("summary").first
            upload.click(timeout=LONG_MS)
            expect(watched.gw("upload-drop")).to_contain_text("room for", timeout=LONG_MS)
            opener = watched.gw("browse-open")
            if not is_shown:
                expect(opener).to_be_hidden()
                continue
            opener.click()
            panel = Panel(watched)
            panel.is_in("Downloads")
            expect(watched.gw("browse-place")).to_have_count(1)
            panel.field.press("Backspace")
            watched.gw("browse-path").fill(str(home.folder))
            watched.gw("browse-go").click()
            expect(watched.gw("browse-problem")).to_contain_text("outside of the folders")
            panel.is_in("Downloads")

            # A huge folder: the page has only a part of it, and typing finds the rest.
            panel.row("many").click()
            panel.is_in("Downloads", "many")
            counts = watched.gw("browse-counts")
            expect(counts).to_contain_text("0 folders, 500 model files; 100 not shown")
            panel.field.press_sequentially("597")
            expect(counts).to_have_text("0 folders, 1 model file.")
            expect(panel.active()).to_have_attribute("data-name", "m597.gguf")
            panel.field.fill("")
            expect(counts).to_contain_text("500 model files; 100 not shown")
            panel.field.press("PageDown")
            expect(panel.active()).to_have_attribute("data-name", "m7.gguf")
            expect(panel.active()).to_be_in_viewport()

            # By mouse: back by the crumb, and what is hidden on demand.
            watched.gw("browse-crumb").first.click()
            panel.is_in("Downloads")
            expect(panel.row(".old")).to_have_count(0)
            watched.gw("browse-hidden").click()
            expect(panel.row(".old")).to_have_count(1)
            watched.gw("browse-close").click()
            expect(watched.gw("browse-panel")).to_be_hidden()
            watched.assert_clean()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_in_every_look_nothing_is_cut_out_of_reach_or_too_faint(
    home: Home, open_page: OpenPage, theme: str
) -> None:
    put(home.folder / f"Downloads/{'a-name-that-is-much-too-long-for-any-row-' * 4}.gguf", b"GGUF")
    book = home.folder / "alone.ipynb"
    cell = nbformat.v4.new_code_cell("import gguf_widgets as gw\ngw.ModelUploader()")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), book)
    servers = {
        "panel": lambda: dashboard(home, "--theme", theme),
        "alone": lambda: Server(home, ["-c", ALONE, str(book), theme], "Open http"),
    }
    faults = []
    for place, start in servers.items():
        with start() as server:
            watched = open_page(server.url, width=1280 if place == "panel" else 752, height=1000)
            if place == "panel":
                watched.gw("panel-upload").locator("summary").first.click(timeout=LONG_MS)
            panel = Panel(watched)
            watched.gw("browse-open").click(timeout=LONG_MS)
            panel.row("Downloads").click()

            def look(name: str, watched: Watched = watched, place: str = place) -> None:
                watched.page.wait_for_timeout(300)  # the last movement takes at most 150 ms
                watched.keep_screenshot(SCREENS / f"browse-{name}-{place}-{theme}.png")
                found = faults_of(watched.page, ".gw-upload")
                faults.extend(f"{name}, {place}, {theme}: {fault}" for fault in found)

            panel.row("letter.gguf").click()
            expect(panel.found).to_contain_text("is not a GGUF model file")
            look("no-model")
            panel.row("good.gguf").click()
            expect(watched.gw("browse-fit")).to_have_text(re.compile("^Fits"))
            look("a-model")
            watched.gw("browse-use").click()
            expect(watched.gw("browse-done")).to_contain_text("in the list of models")
            if place == "panel":
                watched.gw("browse-add").click()
                expect(watched.gw("browse-add")).to_be_disabled()
            watched.gw("browse-path").fill("/etc/passwd")
            watched.gw("browse-go").click()
            expect(watched.gw("browse-problem")).to_contain_text("outside")
            watched.gw("browse-added").locator("summary").click()
            look("added")
            watched.assert_clean()
    assert faults == [], "\n".join(faults)
