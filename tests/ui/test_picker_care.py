"""Looking after models in a real browser: every button, the keyboard alone, and a page reloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Dialog, Locator, expect
from support.browser import LONG_MS, Watched
from support.lab_page import cell, run_cell
from support.library_homes import Ollama, model_file
from support.servers import Home, Server, dashboard, lab, wait_until
from support.tiny_model import write_tiny_model

from tests.core.care.converting import MODULE, write_slow_model
from tests.ui.test_screens import Screens
from tests.ui.test_views import View, details, row, show_rows

OpenPage = Callable[..., Watched]

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


class Picker:
    """The list of models on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page
        self.gw = watched.gw

    def row(self, name: str) -> Locator:
        return self.gw("picker-row", name=name)

    def part(self, name: str, hook: str) -> Locator:
        return self.row(name).locator(f'[data-gw="{hook}"]')

    def open(self, name: str) -> None:
        """Open what is known of a model."""
        self.part(name, "picker-info").click()
        self.part(name, "picker-where").wait_for(timeout=LONG_MS)

    def press(self, name: str, hook: str) -> None:
        self.part(name, hook).click()

    def job(self, name: str, state: str) -> Locator:
        return self.part(name, "picker-job").and_(self.page.locator(f'[data-state="{state}"]'))

    def percent(self, name: str) -> int:
        value = self.part(name, "job-progress").get_attribute("aria-valuenow")
        return int(value or 0)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person", GGUF_WIDGETS_SOURCES="ollama")
    yield home
    home.close()


@pytest.fixture
def site(home: Home) -> Iterator[Server]:
    write_tiny_model(home.models / "tiny.gguf")
    with dashboard(home) as server:
        yield server


def names(home: Home) -> list[str]:
    return sorted(path.name for path in home.models.glob("*.gguf"))


def test_rename_says_what_is_wrong_and_gives_the_focus_back(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    picker = Picker(open_page(site.url))
    picker.open("tiny")
    rename, field = picker.part("tiny", "picker-rename"), picker.part("tiny", "rename-input")
    rename.click()
    expect(field).to_be_focused()
    assert field.evaluate("e => [e.value, e.selectionStart, e.selectionEnd]") == ["tiny", 0, 4]
    expect(picker.part("tiny", "rename-preview")).to_have_text(
        "Its file will be called “tiny.gguf”."
    )
    picker.page.keyboard.press("Escape")
    expect(field).to_have_count(0)
    expect(rename).to_be_focused()

    rename.click()
    error = picker.part("tiny", "rename-error")
    for bad, says in (("../../x", "path separator"), ("CON", "device"), ("x" * 300, "300 bytes")):
        field.fill(bad)
        field.press("Enter")
        expect(error).to_contain_text(says)
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
    (home.models / "taken.gguf").write_bytes((home.models / "tiny.gguf").read_bytes())
    field.fill("taken.gguf")
    expect(error).to_be_hidden()
    expect(picker.part("tiny", "rename-preview")).to_contain_text("“taken.gguf”")
    picker.press("tiny", "rename-save")
    picker.press("tiny", "rename-suggested")
    renamed = picker.part("taken (2)", "picker-rename")
    expect(renamed).to_be_focused(timeout=LONG_MS)
    expect(picker.part("taken (2)", "picker-where")).to_contain_text("taken (2).gguf")
    assert names(home) == ["taken (2).gguf", "taken.gguf"]
    picker.watched.assert_clean()


def test_remove_undo_and_the_trash(home: Home, site: Server, open_page: OpenPage) -> None:
    write_tiny_model(home.models / "other.gguf")
    picker = Picker(open_page(site.url))
    news, undo, trash = (
        picker.gw("picker-news"),
        picker.gw("picker-undo"),
        picker.gw("picker-trash"),
    )
    picker.row("tiny").wait_for(timeout=LONG_MS)
    expect(trash).to_be_hidden()
    for name in ("tiny", "other"):
        picker.open(name)
        picker.press(name, "picker-remove")
        expect(picker.row(name)).to_have_count(0)
        expect(news).to_contain_text(f"“{name}” is in the trash.")
        expect(undo).to_be_focused()
    assert names(home) == []
    # One after another; the row that is back has the focus.
    undo.press("Enter")
    expect(picker.part("other", "picker-info")).to_be_focused()
    expect(news).to_contain_text("“tiny” is in the trash.")
    undo.click()
    expect(picker.part("tiny", "picker-info")).to_be_focused()
    expect(news).to_be_hidden()
    expect(trash).to_be_hidden()
    assert names(home) == ["other.gguf", "tiny.gguf"]

    # From the fold at the end, where the name has been taken meanwhile.
    picker.open("tiny")
    picker.press("tiny", "picker-remove")
    expect(undo).to_be_focused()
    picker.gw("news-close").click()
    expect(news).to_be_hidden()
    write_tiny_model(home.models / "tiny.gguf", seed=1)
    trash.locator("summary").click()
    entry = picker.gw("trash-row", name="tiny")
    expect(entry).to_contain_text(re.compile(r"KB, removed today at \d\d:\d\d"))
    entry.locator('[data-gw="trash-restore"]').click()
    way = entry.locator('[data-gw="restore-suggested"]')
    expect(way).to_have_text("Put it back as “tiny (2)”")
    way.click()
    expect(picker.part("tiny (2)", "picker-info")).to_be_focused()
    assert names(home) == ["other.gguf", "tiny (2).gguf", "tiny.gguf"]

    # Deleted for good, after a question; Esc keeps it.
    picker.press("tiny (2)", "picker-info")
    picker.press("tiny (2)", "picker-remove")
    expect(undo).to_be_focused()
    if not trash.evaluate("e => e.open"):
        trash.locator("summary").click()
    empty, asks = picker.gw("trash-empty"), picker.gw("empty-ask")
    empty.click()
    expect(asks).to_contain_text(re.compile(r"Delete “tiny \(2\)” for good\? That gives \d+ KB"))
    expect(picker.gw("empty-no")).to_be_focused()
    picker.page.keyboard.press("Escape")
    expect(asks).to_have_count(0)
    expect(empty).to_be_focused()
    empty.click()
    picker.gw("empty-yes").click()
    expect(news).to_contain_text("1 model was deleted for good")
    expect(picker.gw("news-close")).to_be_focused()
    expect(trash).to_be_hidden()
    assert list((home.data / "trash").glob("*/*.gguf")) == []
    picker.watched.assert_clean()


def test_a_loaded_model_asks_before_it_is_renamed_or_removed(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    picker = Picker(open_page(site.url))
    picker.open("tiny")
    picker.press("tiny", "picker-load")
    picker.part("tiny", "picker-unload").wait_for(timeout=LONG_MS)
    picker.press("tiny", "picker-rename")
    picker.part("tiny", "rename-input").fill("mine")
    picker.part("tiny", "rename-input").press("Enter")
    expect(picker.part("tiny", "rename-ask")).to_contain_text("goes on under its old name")
    expect(picker.part("tiny", "rename-no")).to_be_focused()
    picker.press("tiny", "rename-yes")
    expect(picker.part("mine", "picker-unload")).to_be_visible()
    picker.press("mine", "picker-remove")
    asks = picker.part("mine", "remove-ask")
    expect(asks).to_contain_text("It is loaded. It will be unloaded first")
    picker.page.keyboard.press("Escape")
    expect(asks).to_have_count(0)
    expect(picker.part("mine", "picker-remove")).to_be_focused()
    assert names(home) == ["mine.gguf"]
    picker.press("mine", "picker-remove")
    picker.press("mine", "remove-yes")
    expect(picker.gw("picker-undo")).to_be_focused(timeout=LONG_MS)
    wait_until(lambda: not home.workers(), 30, "the model's process has ended")
    picker.gw("picker-undo").click()
    expect(picker.part("mine", "picker-load")).to_be_visible()
    picker.watched.assert_clean()


def test_check_with_the_right_and_the_wrong_hash_and_a_file_of_another_program(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    blob = Ollama(home.folder / ".ollama" / "models").add("qwen3:4b", model_file())
    digest = hashlib.sha256((home.models / "tiny.gguf").read_bytes()).hexdigest()
    (home.models / "bad.gguf").write_bytes((home.models / "tiny.gguf").read_bytes())
    (home.models / "bad.gguf.sha256").write_text(f"{'0' * 64}  bad.gguf\n")
    picker = Picker(open_page(site.url))
    picker.open("tiny")
    picker.press("tiny", "picker-check")
    result = picker.part("tiny", "job-result")
    expect(result).to_contain_text("The file looks whole", timeout=LONG_MS)
    expect(result).to_contain_text(digest)
    field, says = picker.part("tiny", "job-compare"), picker.part("tiny", "job-compared")
    field.fill(f"  SHA256:{digest.upper()} ")
    expect(says).to_have_text("It is the same: this is that file, to the last byte.")
    field.fill("1" * 64)
    expect(says).to_contain_text("It is not the same")
    expect(says).to_have_attribute("data-tone", "bad")
    field.fill("abc")
    expect(says).to_contain_text("64 digits")
    picker.press("tiny", "job-close")
    expect(result).to_be_hidden()
    picker.press("tiny", "picker-check")
    expect(result).to_contain_text("The file is whole", timeout=LONG_MS)
    picker.press("tiny", "picker-info")

    picker.open("bad")
    picker.press("bad", "picker-check")
    result = picker.part("bad", "job-result")
    expect(result).to_contain_text("This is not the file that it should be", timeout=LONG_MS)
    expect(result).to_have_attribute("data-tone", "bad")
    expect(result).to_contain_text("Download it or copy it again")
    picker.press("bad", "picker-info")

    picker.open("qwen3:4b")
    for hook in ("picker-rename", "picker-remove"):
        expect(picker.part("qwen3:4b", hook)).to_be_hidden()
    expect(picker.part("qwen3:4b", "picker-foreign")).to_contain_text("It belongs to Ollama.")
    expect(picker.part("qwen3:4b", "picker-where")).to_contain_text(str(blob))
    picker.press("qwen3:4b", "picker-check")
    result = picker.part("qwen3:4b", "job-result")
    expect(result).to_contain_text("what its name in Ollama's folder says", timeout=LONG_MS)
    picker.watched.assert_clean()


def test_a_file_that_cannot_be_used_has_only_what_makes_sense(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    (home.models / "letter.gguf").write_text("Dear Emma, this is no model. " * 50)
    picker = Picker(open_page(site.url))
    picker.open("letter")
    expect(picker.part("letter", "picker-convert")).to_be_hidden()
    expect(picker.part("letter", "picker-context")).to_be_hidden()
    expect(picker.part("letter", "picker-where")).to_contain_text("models folder")
    picker.press("letter", "picker-remove")
    expect(picker.gw("picker-undo")).to_be_focused()
    assert names(home) == ["tiny.gguf"]
    picker.watched.assert_clean()


@needs_llama
def test_a_smaller_copy_with_progress_stop_and_to_the_end(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    write_slow_model(home.models / "slow.gguf")
    picker = Picker(open_page(site.url))
    picker.open("slow")
    picker.press("slow", "picker-convert")
    sizes = picker.part("slow", "convert-size")
    expect(sizes.locator("input:checked")).to_have_value("Q4_K_M", timeout=LONG_MS)
    expect(sizes.locator("input:checked")).to_be_focused()
    expect(picker.part("slow", "convert-name")).to_have_value("slow-Q4_K_M")
    impossible = sizes.and_(picker.page.locator('[data-name="F32"]'))
    expect(impossible).to_be_hidden()
    picker.part("slow", "convert-more").locator("summary").click()
    expect(impossible).to_contain_text("Not possible: it is F32 already")
    expect(impossible.locator("input")).to_be_disabled()
    sizes.and_(picker.page.locator('[data-name="IQ3_S"]')).click()
    expect(picker.part("slow", "convert-name")).to_have_value("slow-IQ3_S")
    picker.part("slow", "convert-name").fill("a/b")
    picker.press("slow", "convert-go")
    form = picker.part("slow", "convert-form")
    expect(form).to_contain_text("path separator")
    picker.part("slow", "convert-name").fill("small one")
    picker.press("slow", "convert-go")
    expect(form).to_have_count(0)
    wait_until(lambda: picker.percent("slow") >= 10, 60, "the copy is under way")
    expect(picker.part("slow", "job-progress")).to_have_attribute(
        "aria-valuetext", re.compile(r"^\d+%, [\d.]+\sMB of about [\d.]+\sMB")
    )
    assert home.processes(MODULE)

    # With the details closed the row has a line and Stop still.
    picker.press("slow", "picker-info")
    expect(picker.part("slow", "picker-rename")).to_be_hidden()
    expect(picker.part("slow", "job-progress")).to_be_visible()
    stop = picker.part("slow", "job-stop")
    stop.focus()
    picker.page.keyboard.press("Enter")
    expect(picker.job("slow", "stopped")).to_contain_text("No copy was made: you stopped it")
    expect(picker.part("slow", "job-close")).to_be_focused()
    wait_until(lambda: not home.processes(MODULE), 30, "the converting process has ended")
    assert [path.name for path in home.models.iterdir() if path.suffix != ".gguf"] == []

    # To the end.
    picker.press("slow", "job-close")
    picker.open("slow")
    picker.press("slow", "picker-convert")
    sizes.and_(picker.page.locator('[data-name="Q8_0"]')).click()
    picker.press("slow", "convert-go")
    done = picker.job("slow", "done")
    expect(done).to_contain_text("“slow-Q8_0” is ready", timeout=LONG_MS)
    expect(done).to_contain_text(re.compile(r"33\.\d MB instead of 126 MB, 73% smaller"))
    picker.row("slow-Q8_0").wait_for(timeout=LONG_MS)
    picker.press("slow", "job-go")
    expect(picker.part("slow-Q8_0", "picker-info")).to_be_focused()
    assert names(home) == ["slow-Q8_0.gguf", "slow.gguf", "tiny.gguf"]
    picker.watched.assert_clean()


@needs_llama
def test_leaving_a_page_that_writes_a_copy_asks_and_a_killed_kernel_ends_it(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    write_slow_model(home.models / "slow.gguf")
    picker = Picker(open_page(site.url))
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    picker.page.on("dialog", stay)
    begin_slow_copy(picker)
    wait_until(lambda: picker.percent("slow") >= 5, 60, "the copy is under way")
    picker.page.evaluate("setTimeout(() => location.reload())")
    wait_until(lambda: picker.page.evaluate("1") and asked, 30, "the page asks before it is left")
    assert asked == ["beforeunload"]
    for kernel in home.kernels():
        kernel.kill()
    wait_until(lambda: not home.processes(MODULE), 30, "the converting process has ended")
    picker.gw("gw-disconnected").wait_for(timeout=LONG_MS)
    assert [path.name for path in home.models.iterdir() if path.suffix != ".gguf"] == []
    assert names(home) == ["slow.gguf", "tiny.gguf"]


def begin_slow_copy(picker: Picker) -> None:
    picker.open("slow")
    picker.press("slow", "picker-convert")
    picker.part("slow", "convert-more").locator("summary").click()
    sizes = picker.part("slow", "convert-size")
    sizes.and_(picker.page.locator('[data-name="IQ3_S"]')).click()
    picker.press("slow", "convert-go")


def test_all_of_it_with_the_keyboard_alone_on_a_narrow_page(
    home: Home, site: Server, open_page: OpenPage
) -> None:
    picker = Picker(open_page(site.url, width=800))
    page = picker.page
    picker.row("tiny").wait_for(timeout=LONG_MS, state="attached")
    picker.gw("panel-toggle").press("Enter")

    def tab_to(place: Locator, key: str = "Tab") -> None:
        for _ in range(60):
            if place.count() and place.evaluate("e => e === document.activeElement"):
                return
            page.keyboard.press(key)
        raise AssertionError(f"{place} cannot be reached with {key}")

    tab_to(picker.part("tiny", "picker-info"))
    page.keyboard.press("Enter")
    picker.part("tiny", "picker-where").wait_for(timeout=LONG_MS)
    tab_to(picker.part("tiny", "picker-rename"))
    page.keyboard.press("Enter")
    page.keyboard.type("renamed")
    page.keyboard.press("Enter")
    expect(picker.part("renamed", "picker-rename")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")  # closes the form, and not the panel
    expect(picker.part("renamed", "picker-rename")).to_be_focused()
    tab_to(picker.part("renamed", "picker-check"))
    page.keyboard.press("Enter")
    expect(picker.part("renamed", "job-result")).to_be_visible(timeout=LONG_MS)
    tab_to(picker.part("renamed", "job-close"))
    page.keyboard.press("Enter")
    expect(picker.part("renamed", "picker-info")).to_be_focused()
    tab_to(picker.part("renamed", "where-copy"))
    tab_to(picker.part("renamed", "picker-remove"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(picker.gw("picker-undo")).to_be_focused()
    tab_to(picker.gw("picker-trash").locator("summary"))
    page.keyboard.press("Enter")
    tab_to(picker.gw("trash-restore"))
    page.keyboard.press("Enter")
    expect(picker.part("renamed", "picker-info")).to_be_focused()
    page.keyboard.press("Escape")
    expect(picker.row("renamed")).to_be_hidden()  # now it is the panel that closes
    assert names(home) == ["renamed.gguf"]
    picker.watched.assert_clean()


@needs_llama
def test_in_jupyterlab_a_copy_under_way_comes_back_after_a_reload(
    home: Home, open_page: OpenPage
) -> None:
    write_slow_model(home.models / "slow.gguf")
    folder = home.folder / "notebooks"
    folder.mkdir()
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in ("import gguf_widgets as gw\npicker = gw.ModelPicker()\npicker", "picker")
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    note = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(note, folder / "models.ipynb")
    with lab(home, folder) as server:
        watched = open_page(server.url.split("/lab")[0] + "/lab/tree/models.ipynb")
        picker = Picker(watched)
        run_cell(watched, 0)
        cell(watched, 0).locator('[data-gw="picker-row"]').first.wait_for(timeout=LONG_MS)
        more = picker.gw("picker-more").or_(picker.gw("picker-empty"))
        if not more.evaluate("e => e.open"):
            more.locator("summary").click(timeout=LONG_MS)
        expect(more).to_contain_text("gw.ModelDownloader()")
        begin_slow_copy(picker)
        wait_until(lambda: picker.percent("slow") >= 10, 60, "the copy is under way")
        processes = home.processes(MODULE)
        for process in processes:
            process.suspend()  # so that the reload takes no longer than the copy
        before = picker.percent("slow")
        watched.page.reload(wait_until="commit")
        run_cell(watched, 1)
        cell(watched, 1).locator('[data-gw="picker-row"]').first.wait_for(timeout=LONG_MS)
        expect(picker.job("slow", "working").first).to_be_visible(timeout=LONG_MS)
        assert int(
            picker.part("slow", "job-progress").first.get_attribute("aria-valuenow") or 0
        ) in range(before, before + 10)
        for process in processes:
            process.resume()
        expect(picker.job("slow", "done").first).to_contain_text(
            "“slow-IQ3_S” is ready", timeout=2 * LONG_MS
        )
        assert names(home) == ["slow-IQ3_S.gguf", "slow.gguf"]


def test_a_question_that_nobody_answers_says_so(browser: Browser) -> None:
    page = browser.new_page()
    view = View(
        page, ("picker",)
    )  # of which nobody answers anything, the heartbeat's pings included
    show_rows(view, row())
    view.gw("picker-info").click()
    where = {
        "program": "This program",
        "path": "/m/demo.gguf",
        "label": "",
        "says": "",
        "how": "",
        "whose": "",
        "others": [],
        "can": ["rename", "remove"],
        "stem": "demo",
        "ending": ".gguf",
        "numMore": 0,
        "numParts": 1,
    }
    view.says("picker", kind="details", details={**details(), "where": where})
    view.gw("picker-remove").click()
    expect(view.gw("care-error")).to_contain_text("The connection to Python is gone")
    expect(view.gw("picker-remove")).to_be_focused()
    view.gw("picker-rename").press("Enter")
    page.keyboard.type("other")
    page.keyboard.press("Enter")
    expect(view.gw("rename-error")).to_contain_text("The connection to Python is gone")
    assert view.faults == []
    page.close()


@needs_llama
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_state_in_every_look(theme: str, home: Home, open_page: OpenPage) -> None:
    write_tiny_model(home.models / "tiny.gguf")
    write_slow_model(home.models / "slow.gguf")
    Ollama(home.folder / ".ollama" / "models").add("qwen3:4b", model_file())
    with dashboard(home, "--theme", theme) as server:
        watched = open_page(server.url)
        picker, screens = Picker(watched), Screens(watched, theme)
        picker.open("tiny")
        screens.take("care-actions")
        picker.press("tiny", "picker-rename")
        picker.part("tiny", "rename-input").fill("a/b")
        picker.press("tiny", "rename-save")
        expect(picker.part("tiny", "rename-error")).to_contain_text("path separator")
        screens.take("care-rename-refused")
        picker.press("tiny", "rename-cancel")
        picker.press("tiny", "picker-check")
        picker.part("tiny", "job-compare").fill("0" * 64, timeout=LONG_MS)
        screens.take("care-checked")
        picker.press("tiny", "picker-convert")
        picker.part("tiny", "convert-more").locator("summary").click(timeout=LONG_MS)
        screens.take("care-sizes")
        picker.press("tiny", "convert-go")
        expect(picker.job("tiny", "done")).to_contain_text("is ready", timeout=LONG_MS)
        screens.take("care-copied")
        picker.press("tiny", "picker-info")

        begin_slow_copy(picker)
        wait_until(lambda: picker.percent("slow") >= 5, 60, "the copy is under way")
        for process in home.processes(MODULE):
            process.suspend()
        picker.press("slow", "picker-remove")
        expect(picker.part("slow", "care-error")).to_contain_text("just now")
        screens.take("care-copying")
        picker.press("slow", "picker-info")
        screens.take("care-copying-closed")
        picker.press("slow", "job-stop")
        expect(picker.job("slow", "stopped")).to_be_visible()
        picker.press("slow", "job-close")

        picker.open("qwen3:4b")
        picker.part("qwen3:4b", "picker-where").scroll_into_view_if_needed()
        screens.take("care-of-another-program")
        picker.press("qwen3:4b", "picker-info")
        picker.open("slow")
        picker.press("slow", "picker-remove")
        expect(picker.gw("picker-undo")).to_be_focused()
        picker.press("tiny", "picker-load")
        picker.part("tiny", "picker-unload").wait_for(timeout=LONG_MS)
        picker.press("tiny", "picker-info")
        picker.press("tiny", "picker-remove")
        expect(picker.part("tiny", "remove-no")).to_be_focused()
        screens.take("care-asks-to-remove")
        picker.press("tiny", "remove-no")
        picker.press("tiny", "picker-info")
        picker.gw("picker-trash").locator("summary").click()
        picker.gw("trash-empty").click()
        screens.take("care-trash")
        assert screens.faults == [], "\n".join(screens.faults)
