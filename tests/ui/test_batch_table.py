"""The batch table in a real browser: set up, at work, looked through, downloaded, reloaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Watched
from support.lab_page import reload, run_cell, save
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila, wait_until
from support.tiny_projector import picture

from gguf_widgets.batch import files

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
EMPTY = """
import gguf_widgets as gw
from gguf_widgets.widgets.batch_table import BatchTable

BatchTable(gw.load("demo"))
"""
LARGE = """
import gguf_widgets as gw
from gguf_widgets.widgets.batch_table import BatchTable

model = gw.load("demo")
numbers = range(100_000)
rows = {"text": [f"row number {i}" for i in numbers], "half": [i % 2 for i in numbers]}
BatchTable(model, run=gw.BatchProcessor(model).prepare(rows, "Repeat: {text}"))
"""
MIDDLE = """
import gguf_widgets as gw
from gguf_widgets.widgets.batch_table import BatchTable

table = BatchTable(gw.load("demo"), [f"Tell me story number {i}" for i in range(6000)])
table
"""
PROMPT = "Is this review positive, negative or neutral? {review}"
LABELS = ("positive", "negative", "neutral")
TEXTS = ("The food was great.", "I hated the soup.", "It was a good evening.", "Never again.")


def notebook(folder: Path, source: str) -> Path:
    cell = nbformat.v4.new_code_cell(source.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "table.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


def serve(home: Home, source: str, theme: str = "light") -> Server:
    path = notebook(home.folder, source)
    return voila(home, path, theme)


def write_reviews(path: Path, count: int, long_row: int | None = None) -> Path:
    """Write a CSV; one of its rows is far too long for the model."""
    lines = ["review,stars"]
    for i in range(count):
        text = "word " * 3000 if i == long_row else f"{TEXTS[i % 4]} Visit {i}."
        lines.append(f'"{text}",{i % 5}')
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_pictures(home: Path) -> Path:
    """Write a CSV that names two pictures of a person's, and one that a page may not see."""
    (home / "photos").mkdir()
    for name, seed in (("table.png", 1), ("chair.png", 2)):
        (home / "photos" / name).write_bytes(picture(seed, 480, 320))
    secret = home.parent / "secret.png"
    secret.write_bytes(picture(3))
    lines = ["photo,what", "table.png,A table", "chair.png,A chair", f"{secret},A secret"]
    path = home / "pictures.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class Table:
    """The widget on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched, self.page, self.gw = watched, watched.page, watched.gw

    def wait_until_shown(self) -> None:
        self.gw("batch-choose").wait_for(timeout=LONG_MS)

    def choose(self, path: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.gw("batch-choose").click()
        chooser.value.set_files(path)
        expect(self.gw("batch-table-name")).to_have_text(path.name, timeout=LONG_MS)

    def answer(self, kind: str) -> None:
        radio = self.gw(f"batch-answer-{kind}")
        # By its label, as a person: the radio lies, unseen, over it, and only the label is looked
        # at before it is clicked (whether it has come to rest, whether anything covers it).
        radio.locator("xpath=..").click()
        expect(radio).to_be_checked()

    def finish(self) -> None:
        expect(self.gw("batch-words")).to_contain_text("Finished", timeout=4 * LONG_MS)

    def row(self, number: int) -> Locator:
        return self.gw("batch-row", number=str(number))

    def expect_picture(self, place: str) -> None:
        """Wait for one picture that is really drawn."""
        shown = self.gw(place).locator('[data-gw="batch-picture"]')
        expect(shown).to_have_count(1)
        expect(shown).to_have_js_property("naturalWidth", 480)
        expect(shown).to_have_attribute("src", re.compile("^data:image/png;base64,"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def test_a_csv_from_the_mistake_in_the_prompt_to_the_downloaded_file(
    home: Home, open_page: OpenPage, tmp_path: Path
) -> None:
    count = 6000
    path = write_reviews(tmp_path / "reviews.csv", count, long_row=3)
    with serve(home, EMPTY) as server:
        table = Table(open_page(server.url))
        page, gw = table.page, table.gw
        table.wait_until_shown()
        expect(gw("batch-start")).to_be_disabled()
        expect(gw("batch-reason")).to_have_text("Choose a table first")
        table.choose(path)

        # A mistake is told while typing, and mended with a click.
        gw("batch-prompt").click()
        page.keyboard.type("Is this review positive, negative or neutral? {reviw}")
        expect(gw("batch-fault-prompt")).to_contain_text('did you mean "review"?')
        expect(gw("batch-prompt")).to_have_attribute("aria-invalid", "true")
        gw("batch-fix").click()
        expect(gw("batch-prompt")).to_have_value(PROMPT)
        expect(gw("batch-preview")).to_contain_text("neutral? The food was great. Visit 0.")
        expect(gw("batch-tokens")).to_contain_text(re.compile(r"^\d+ tokens of "))
        gw("batch-row-after").click()
        expect(gw("batch-preview")).to_contain_text("I hated the soup. Visit 1.")
        # A column's button puts it where the cursor is.
        gw("batch-prompt").press("End")
        gw("batch-chip", name="stars").click()
        expect(gw("batch-prompt")).to_have_value(PROMPT + "{stars}")
        for _ in "{stars}":
            page.keyboard.press("Backspace")

        table.answer("choice")
        expect(gw("batch-fault-answer")).to_contain_text("at least two choices")
        gw("batch-choices").fill("\n".join(LABELS))
        expect(gw("batch-start")).to_be_enabled()
        gw("batch-check").click()
        found = gw("batch-check-found")
        expect(found).to_contain_text("6,000 rows", timeout=LONG_MS)
        expect(found).to_contain_text("Will take")
        expect(found).to_contain_text("1 row does not fit into")

        gw("batch-start").click()
        gw("batch-pause").click(timeout=LONG_MS)
        expect(gw("batch-run")).to_have_attribute("data-status", "paused")
        expect(gw("batch-go-on")).to_be_focused()  # in place of the button that has gone
        gw("batch-go-on").click()
        table.finish()
        expect(gw("batch-words")).to_contain_text("1 failed")

        # The rows: chosen, searched, sorted, opened, edited.
        gw("batch-tab", value="failed").click()
        expect(gw("batch-row")).to_have_count(1)
        gw("batch-row").click()
        expect(gw("batch-why")).to_contain_text("context")
        gw("batch-retry").click()
        table.finish()
        expect(gw("batch-words")).to_contain_text("1 failed")
        gw("batch-row-close").click()
        expect(gw("batch-detail")).to_be_hidden()
        gw("batch-tab", value="").click()
        expect(gw("batch-found")).to_have_text("")
        gw("batch-search").fill("visit 1177.")
        expect(gw("batch-found")).to_have_text("1 row found")
        expect(gw("batch-row")).to_have_attribute("data-number", "1177")
        gw("batch-search").fill("")
        expect(gw("batch-found")).to_have_text("")
        label = gw("batch-label").first.get_attribute("data-name") or ""
        gw("batch-label").first.click()
        expect(gw("batch-where")).to_contain_text(label)
        gw("batch-where").click()
        gw("batch-unsure").click()
        expect(gw("batch-unsure")).to_have_attribute("aria-pressed", "true")
        gw("batch-unsure").click()
        expect(gw("batch-row").first).to_have_attribute("data-number", "0")  # in their own order

        gw("batch-grid").focus()
        for _ in range(3):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(gw("batch-detail")).to_contain_text("Row 3")
        expect(gw("batch-detail")).to_contain_text("It was a good evening. Visit 2.")
        given = gw("batch-value").inner_text()
        other = next(one for one in LABELS if one != given)
        gw("batch-edit").click()
        gw("batch-edit-field").select_option(other)
        gw("batch-edit-keep").click()
        expect(gw("batch-original")).to_contain_text(given)
        expect(table.row(2)).to_contain_text(other)
        page.keyboard.press("Escape")
        expect(gw("batch-detail")).to_be_hidden()
        expect(gw("batch-grid")).to_be_focused()

        with page.expect_download(timeout=LONG_MS) as download:
            gw("batch-download").click()
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
        rows = list(files.read(saved))
        assert len(rows) == count
        assert [row["stars"] for row in rows] == [i % 5 for i in range(count)]
        assert rows[2]["reply"] == other
        assert [i for i, row in enumerate(rows) if row["status"] == "failed"] == [3]
        assert {row["reply"] for row in rows} - {None} <= set(LABELS)
        gw("batch-code").click()
        expect(gw("batch-code-text")).to_contain_text("model.map(")

        # A page of its own later finds the run, with its form and its table.
        again = Table(open_page(server.url))
        again.wait_until_shown()
        again.gw("batch-earlier").locator("summary").click()
        again.gw("batch-open").click()
        expect(again.gw("batch-progress")).to_have_attribute("aria-valuenow", "100")
        again.gw("batch-set-up").click()
        expect(again.gw("batch-prompt")).to_have_value(PROMPT, timeout=LONG_MS)
        expect(again.gw("batch-table-name")).to_contain_text("Table of")
        table.watched.assert_clean()
        again.watched.assert_clean()


def test_a_hundred_thousand_rows_are_a_window(home: Home, open_page: OpenPage) -> None:
    with serve(home, LARGE) as server:
        table = Table(open_page(server.url))
        page, gw = table.page, table.gw
        expect(table.row(0)).to_be_visible(timeout=2 * LONG_MS)
        nodes = gw("batch-grid").locator("*").count()
        gw("batch-grid").focus()
        page.keyboard.press("End")
        expect(table.row(99_999)).to_contain_text("row number 99999")
        gw("batch-grid").evaluate("(grid) => { grid.scrollTop = grid.scrollHeight / 2; }")
        expect(gw("batch-row", number="50000")).to_be_visible()
        gw("batch-search").fill("number 4321")
        expect(gw("batch-found")).to_have_text("20 rows found")
        gw("batch-search").fill("")
        gw("batch-sort").filter(has_text="half").click()
        expect(gw("batch-row").nth(1)).to_have_attribute("data-number", "2")
        assert gw("batch-row").count() < 60
        assert gw("batch-grid").locator("*").count() < nodes + 200
        table.watched.assert_clean()


def test_a_reload_in_the_middle_finds_the_run_at_work(home: Home, open_page: OpenPage) -> None:
    folder = home.folder / "notebooks"
    folder.mkdir()
    notebook(folder, MIDDLE)
    with lab(home, folder) as server:
        watched = open_page(server.url.split("/lab")[0] + "/lab/tree/table.ipynb")
        table = Table(watched)
        page, gw = table.page, table.gw
        run_cell(watched)
        gw("batch-prompt").wait_for(timeout=2 * LONG_MS)
        # Shift+Enter is a new line; in JupyterLab it would run the cell and lose the widget.
        gw("batch-prompt").click()
        page.keyboard.type("{text}")
        page.keyboard.press("Shift+Enter")
        page.keyboard.type("Go on.")
        expect(gw("batch-prompt")).to_have_value("{text}\nGo on.")
        expect(gw("batch-preview")).to_contain_text("Tell me story number 0")
        save(watched)  # so that the page knows of the widget when it is back
        gw("batch-start").click()
        run = gw("batch-run")
        expect(run).to_have_attribute("data-status", "running", timeout=LONG_MS)

        reload(watched, run)
        before = int(gw("batch-progress").get_attribute("aria-valuenow") or 0)
        assert run.get_attribute("data-status") == "running"
        wait_until(
            lambda: int(gw("batch-progress").get_attribute("aria-valuenow") or 0) > before,
            60,
            "the bar moves after the reload",
        )
        gw("batch-stop").click()
        expect(run).to_have_attribute("data-status", "stopped", timeout=LONG_MS)
        expect(gw("batch-words")).to_contain_text("the rest can go on")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_in_every_look(
    theme: str, home: Home, open_page: OpenPage, tmp_path: Path
) -> None:
    path = write_reviews(tmp_path / "reviews.csv", 60, long_row=3)
    bad = tmp_path / "ragged.csv"
    bad.write_text("review,stars\nGood,1\nBad\nFine,3\n", encoding="utf-8")
    faults: list[str] = []
    with serve(home, EMPTY, theme) as server:
        table = Table(open_page(server.url))
        page, gw = table.page, table.gw
        table.wait_until_shown()

        def take(name: str) -> None:
            page.mouse.move(0, 0)
            SCREENS.mkdir(parents=True, exist_ok=True)
            for width in (1280, 760, 400):
                page.set_viewport_size({"width": width, "height": 2000})
                page.wait_for_timeout(300)  # the last movement takes at most 150 ms
                shot = SCREENS / f"batch-{name}-{theme}-{width}.png"
                page.locator(".gw-batch").screenshot(path=shot)
                found = faults_of(page, ".gw-batch")
                faults.extend(f"{name}, {theme}, {width}: {fault}" for fault in found)
            page.set_viewport_size({"width": 1280, "height": 900})

        take("empty")
        with page.expect_file_chooser() as chooser:
            gw("batch-choose").click()
        chooser.value.set_files(bad)
        gw("batch-ragged").wait_for(timeout=LONG_MS)
        take("faulty-file")
        gw("batch-ragged").select_option("skip")
        expect(gw("batch-source")).to_contain_text("2 rows", timeout=LONG_MS)
        gw("batch-change").click()
        table.choose(path)
        gw("batch-read-settings").locator("summary").click()
        gw("batch-encoding").select_option("utf-16")
        expect(gw("batch-refused")).to_contain_text("It is read as before.")
        take("read-settings")
        gw("batch-header").focus()
        gw("batch-header").select_option("no")
        expect(gw("batch-chip", name="column_1")).to_be_visible()
        expect(gw("batch-header")).to_be_focused()
        gw("batch-header").select_option("")
        gw("batch-read-settings").locator("summary").click()
        gw("batch-prompt").fill("Label {reviews}")
        gw("batch-fix").wait_for(timeout=LONG_MS)
        take("mistake")
        gw("batch-prompt").fill(PROMPT)
        page.get_by_text("More settings").click()
        gw("batch-turns").locator("summary").click()
        gw("batch-add-turn").click()
        expect(gw("batch-turn")).to_be_focused()
        take("turns")
        page.get_by_role("button", name="Remove this message").click()
        expect(gw("batch-add-turn")).to_be_focused()
        table.answer("columns")
        gw("batch-column-name").fill("label")
        gw("batch-column-kind").select_option("choice")
        gw("batch-add-column").click()
        take("several-columns")
        table.answer("number")
        take("number")
        table.answer("choice")
        gw("batch-choices").fill("\n".join(LABELS))
        gw("batch-check").click()
        expect(gw("batch-check-found")).to_contain_text("Will take", timeout=LONG_MS)
        take("checked")
        gw("batch-start").click()
        table.finish()
        expect(gw("batch-chart").first.locator(".barlayer .point path")).to_have_count(3)
        take("done")
        gw("batch-tab", value="failed").click()
        expect(gw("batch-row")).to_have_count(1)
        gw("batch-row").click()
        gw("batch-why").wait_for()
        take("failed-row")
        gw("batch-tab", value="").click()
        expect(gw("batch-row", number="1")).to_be_visible()
        table.row(0).click()
        expect(gw("batch-detail")).to_contain_text("Row 1")
        take("row")
        gw("batch-edit").click()
        take("edit")
        page.keyboard.press("Escape")
        gw("batch-search").fill("nothing like this")
        gw("batch-nothing").wait_for()
        take("nothing-found")
        gw("batch-code").click()
        gw("batch-code-text").wait_for()
        gw("batch-new").click()
        gw("batch-earlier").locator("summary").click()
        gw("batch-open").wait_for()
        take("earlier")
        gw("batch-rename").click()
        expect(gw("batch-title-field")).to_be_focused()
        take("rename")
        page.keyboard.press("Escape")
        expect(gw("batch-rename")).to_be_focused()
        gw("batch-rename").click()
        gw("batch-title-field").fill("Another title")
        page.keyboard.press("Enter")
        expect(gw("batch-open")).to_contain_text("Another title")
        gw("batch-delete").click()
        expect(gw("batch-open")).to_have_count(0)
        take("deleted")
        gw("batch-restore").click()
        expect(gw("batch-open")).to_contain_text("Another title")
        look_at_pictures(table, home, take)
        table.watched.assert_clean()
    assert faults == []


def look_at_pictures(table: Table, home: Home, take: Callable[[str], None]) -> None:
    """Choose a column with pictures, and see them in the prompt and in a row of the run."""
    gw = table.gw
    gw("batch-change").click()
    table.choose(write_pictures(home.folder))
    expect(gw("batch-images-hint")).to_contain_text("“photo” seems to hold pictures")
    gw("batch-images").locator("summary").click()
    gw("batch-prompt").fill("{photo}\nWhat do you see here? It may be: {what}")
    take("pictures-suggested")
    gw("batch-image-column", name="photo").click()
    expect(gw("batch-image-column", name="photo")).to_be_focused()
    expect(gw("batch-image-column", name="photo")).to_have_attribute("aria-pressed", "true")
    # The file is not in the home folder itself: it is said where it was looked for.
    expect(gw("batch-preview")).to_contain_text("There is no image file")
    expect(gw("batch-images-where")).to_contain_text(str(home.folder))
    gw("batch-images-folder").fill(str(home.folder.parent))
    expect(gw("batch-fault-imagesFolder")).to_contain_text("is outside of the folders")
    take("pictures-outside")
    gw("batch-images-folder").fill(str(home.folder / "photos"))
    table.expect_picture("batch-preview")
    expect(gw("batch-tokens")).to_contain_text(re.compile(r"^\d+ tokens of "))
    take("pictures")
    gw("batch-row-after").click()
    expect(gw("batch-preview")).to_contain_text("A chair")
    table.expect_picture("batch-preview")
    gw("batch-row-after").click()
    expect(gw("batch-preview")).to_contain_text("is in no folder that images may be taken from")
    take("pictures-unseen")
    gw("batch-start").click()
    table.finish()
    expect(gw("batch-words")).to_contain_text("2 of 3 done, 1 failed")
    table.row(0).click()
    expect(gw("batch-detail")).to_contain_text("Row 1")
    table.expect_picture("batch-detail")
    take("pictures-row")
    gw("batch-set-up").click()
    expect(gw("batch-images-folder")).to_have_value(str(home.folder / "photos"))
