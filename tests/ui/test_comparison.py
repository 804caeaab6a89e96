"""The comparison view in a real browser: read along, many prompts, votes by keyboard, hostile text.

Pictures of what is looked at are kept in ``artifacts/screens``. About two minutes.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect
from support.axe import serious_faults
from support.browser import LONG_MS, Watched
from support.focus_rings import rings_not_seen
from support.hostile_outputs import OUTPUTS
from support.lab_page import reload, run_cell, save
from support.screen_check import faults_of
from support.servers import Home, dashboard, lab, voila, wait_until

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
ROOT = '[data-gw="comparison"]'
NUM_ROWS = 1500
STORY = "Tell me a story about Emma."
ASK = "Is this review positive or negative? {review}"
REVIEWS = (
    ("The food was great.", "positive"),
    ("I hated the soup.", "negative"),
    ("It was a good evening.", "positive"),
    ("Never again.", "negative"),
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def photograph(watched: Watched, name: str, widths: tuple[int, ...] = (400, 800, 1280)) -> None:
    """Keep a picture in each width; nothing may stick out, be cut or be too faint."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    for width in widths:
        watched.page.set_viewport_size({"width": width, "height": 1000})
        watched.page.wait_for_timeout(300)
        watched.page.screenshot(path=SCREENS / f"comparison-{name}-{width}.png")
        assert faults_of(watched.page, ROOT) == [], f"{name} at {width}"


def write_reviews(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "label"])
        rows.writerows(
            (f"{text} Visit {i}.", label)
            for i, (text, label) in zip(range(count), itertools.cycle(REVIEWS), strict=False)
        )
    return path


def notebook(folder: Path, source: str) -> Path:
    cell = nbformat.v4.new_code_cell(source.strip())
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "compare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel}), path)
    return path


def open_tab(watched: Watched) -> None:
    watched.gw("tab-compare").click(timeout=LONG_MS)
    watched.gw("comparison-model").first.wait_for(timeout=LONG_MS)
    expect(watched.gw("comparison-memory")).not_to_be_empty()


def choose_reviews(watched: Watched, path: Path) -> None:
    watched.gw("comparison-mode", mode="many").locator("xpath=..").click()
    with watched.page.expect_file_chooser() as chooser:
        watched.gw("comparison-choose").click()
    chooser.value.set_files(path)
    expect(watched.gw("comparison-table-name")).to_have_text(path.name)


def finish(watched: Watched) -> None:
    work = watched.gw("comparison-work")
    expect(work).to_have_attribute("data-status", "finished", timeout=4 * LONG_MS)
    expect(watched.gw("comparison-differences").locator("li").first).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_one_prompt_is_read_along_and_where_the_answers_part_is_shown(
    home: Home, open_page: OpenPage, theme: str
) -> None:
    with dashboard(home, "--theme", theme) as server:
        watched = open_page(server.url)
        page = watched.page
        open_tab(watched)
        expect(watched.gw("comparison-only")).to_contain_text("one model on this computer")
        expect(watched.gw("comparison-ask")).to_be_disabled()
        photograph(watched, f"empty-{theme}")
        if theme == "light":
            assert serious_faults(page, ROOT) == []

        # A setting that cannot be is told at its field, and nothing can be asked meanwhile.
        watched.gw("comparison-settings", number="0").click()
        prompt = watched.gw("comparison-prompt")
        prompt.fill(STORY)
        watched.gw("comparison-temperature", number="0").fill("hot")
        expect(watched.gw("comparison-side", number="0")).to_contain_text("“hot” is not a number")
        expect(watched.gw("comparison-reason")).to_have_text("Mend what is marked first")
        photograph(watched, f"fault-{theme}", (400, 1280))
        watched.gw("comparison-temperature", number="0").fill("")
        expect(watched.gw("comparison-ask")).to_be_enabled()
        watched.gw("comparison-settings", number="0").click()

        prompt.press("Enter")
        expect(watched.gw("comparison-answer", status="done")).to_have_count(2)
        for number in "01":
            figures = watched.gw("comparison-answer", number=number).locator(
                '[data-gw="comparison-answer-figures"]'
            )
            expect(figures).to_contain_text("tokens/s")
        before = watched.gw("comparison-answer").first.bounding_box()
        watched.gw("comparison-part").click()
        expect(watched.gw("comparison-mark")).to_have_count(2)
        expect(watched.gw("comparison-split-words")).to_contain_text("part at token")
        expect(watched.gw("comparison-chance", own="true")).to_have_count(2)
        expect(watched.gw("comparison-chance", other="true")).to_have_count(2)
        after = watched.gw("comparison-answer").first.bounding_box()
        assert before is not None
        assert after is not None
        assert before["height"] == after["height"], "sizes stay"
        mark = watched.gw("comparison-mark").first
        mark.click()
        expect(mark).to_have_attribute("aria-expanded", "false")
        expect(watched.gw("comparison-chance", own="true").first).to_be_hidden()
        mark.press("Enter")
        photograph(watched, f"split-{theme}")
        if theme == "light":
            assert serious_faults(page, ROOT) == []
        watched.gw("comparison-split-close").click()
        expect(watched.gw("comparison-split")).to_have_count(0)
        expect(watched.gw("comparison-part")).to_be_focused()

        # A third side; all in a row; Esc ends them.
        watched.gw("comparison-add").click()
        expect(watched.gw("comparison-model", number="2")).to_be_focused()
        expect(watched.gw("comparison-reason")).to_have_text("")
        watched.gw("comparison-order").select_option("turns")
        watched.gw("comparison-max").fill("900")
        watched.gw("comparison-temperature", number="2").fill("1.5")
        prompt.fill("Tell me a very long story.")
        prompt.press("Enter")
        expect(watched.gw("comparison-ask-stop")).to_be_visible()
        prompt.press("Escape")
        expect(watched.gw("comparison-ask")).to_be_visible()
        expect(watched.gw("comparison-answer")).to_have_count(3)
        watched.gw("comparison-remove", number="1").click()
        expect(watched.gw("comparison-side")).to_have_count(2)
        watched.assert_clean()

        # The page goes, and its kernel: what was set up, and the last answers, are there again.
        page.reload()
        expect(watched.gw("comparison-prompt")).to_have_value("Tell me a very long story.")
        expect(watched.gw("comparison-note")).to_contain_text("answers of your last question")
        expect(watched.gw("comparison-answer")).to_have_count(3)
        watched.gw("comparison-unload").wait_for(state="hidden")


def test_many_prompts_go_on_without_the_page_and_are_looked_at_and_voted_on(
    home: Home, open_page: OpenPage, tmp_path: Path
) -> None:
    with dashboard(home) as server:
        first = open_page(server.url)
        open_tab(first)
        choose_reviews(first, write_reviews(home.folder / "reviews.csv", NUM_ROWS))
        first.gw("comparison-reference").select_option("label")
        expect(first.gw("comparison-score", name="exact")).to_be_checked()
        first.gw("comparison-template").fill(ASK)
        first.gw("comparison-temperature", number="1").evaluate(
            "e => e.closest('details').open = true"
        )
        first.gw("comparison-temperature", number="1").fill("2")
        first.gw("comparison-many-max").fill("12")
        expect(first.gw("comparison-start")).to_be_enabled()
        photograph(first, "many-light")
        assert rings_not_seen(first.page, ROOT) == []
        assert serious_faults(first.page, ROOT) == []
        first.gw("comparison-start").click()
        work = first.gw("comparison-work")
        expect(work).to_have_attribute("data-status", "running")
        expect(first.gw("comparison-words")).to_contain_text("goes on when you close this page")
        runner = home.processes("gguf_widgets.compare")
        assert len(runner) == 1
        first.assert_clean()
        kernels = home.kernels()
        first.page.close()
        for kernel in kernels:
            kernel.kill()
        assert runner[0].is_running()

        second = open_page(server.url)
        expect(second.gw("tab-compare")).to_have_attribute("aria-selected", "true")
        work = second.gw("comparison-work")
        setup = second.gw("comparison-setup")
        second.page.locator(ROOT).and_(second.page.locator(":visible")).wait_for(timeout=LONG_MS)
        second.page.wait_for_function(
            '(names) => names.some((one) => document.querySelector(`[data-gw="${one}"]`)?.'
            "checkVisibility())",
            arg=["comparison-setup", "comparison-work"],
        )
        if setup.is_visible():  # it has ended meanwhile
            second.gw("comparison-earlier").locator("summary").click()
            second.gw("comparison-open").first.click()
        expect(work).to_be_visible()
        if work.get_attribute("data-status") == "running":
            second.gw("comparison-stop").click()
            expect(work).to_have_attribute("data-status", re.compile("stopped|finished"))
            photograph(second, "stopped-light")
            if second.gw("comparison-go-on").is_visible():
                second.gw("comparison-go-on").click()
        finish(second)
        expect(second.gw("comparison-figures")).to_contain_text(
            f"{2 * NUM_ROWS:,} of {2 * NUM_ROWS:,} answers"
        )
        wait_until(lambda: not home.processes("gguf_widgets.compare"), 30, "the runner's own end")
        second.gw("comparison-pictures").locator("summary").click()
        chart = second.gw("comparison-chart")
        expect(chart.locator(".scatterlayer .trace")).to_have_count(2)
        photograph(second, "done-light")
        assert serious_faults(second.page, ROOT) == []
        assert rings_not_seen(second.page, ROOT) == []
        second.gw("comparison-figure", kind="differences").click()
        expect(chart.locator("svg").first).to_contain_text("demo minus")
        second.gw("comparison-figure", kind="votes").click()
        expect(second.gw("comparison-figure-error")).to_contain_text("Nobody has voted")
        second.gw("comparison-pictures").locator("summary").click()

        # A prompt, with the keyboard alone.
        rows = second.gw("comparison-rows")
        rows.focus()
        for key in ("ArrowDown", "End", "Home", "ArrowDown"):
            rows.press(key)
        rows.press("Enter")
        detail = second.gw("comparison-row-detail")
        expect(detail).to_contain_text("Prompt 2")
        expect(detail).to_contain_text("Right: negative")
        expect(second.gw("comparison-row-answer")).to_have_count(2)
        second.gw("comparison-row-part").click()
        expect(second.gw("comparison-split-words")).to_be_visible()
        photograph(second, "prompt-light", (400, 1280))
        assert serious_faults(second.page, ROOT) == []
        second.page.keyboard.press("Escape")
        expect(detail).to_be_hidden()
        expect(rows).to_be_focused()

        # Votes, with the keyboard alone; nothing says whose answer it is.
        second.gw("comparison-vote-open").click()
        voting = second.gw("comparison-voting")
        expect(voting).to_be_focused()
        expect(second.gw("comparison-vote-count")).to_contain_text(", 0 with a vote")
        assert "temperature" not in voting.inner_text()
        assert not second.gw("comparison-differences").is_visible()
        photograph(second, "vote-light")
        assert serious_faults(second.page, ROOT) == []
        voting.focus()
        for done, key in enumerate("12301", start=1):
            second.page.keyboard.press(key)
            # What is pressed before the next pair is seen does not count for it.
            shown = re.compile(rf"Pair {done + 1} of \d+, {done} with a vote")
            expect(second.gw("comparison-vote-count")).to_contain_text(shown)
        second.page.keyboard.press("ArrowLeft")
        expect(second.gw("comparison-vote", choice="a")).to_have_attribute("aria-pressed", "true")
        second.gw("comparison-vote-reveal").click()
        result = second.gw("comparison-vote-result")
        expect(result).to_contain_text("Not enough data to tell")
        expect(result).to_contain_text("temperature 2")
        photograph(second, "voted-light")
        second.page.keyboard.press("Escape")
        expect(voting).to_be_hidden()
        expect(second.gw("comparison-vote-open")).to_be_focused()
        expect(second.gw("comparison-differences")).to_contain_text("Your votes:")

        for ending in ("csv", "json", "ipynb"):
            with second.page.expect_download() as download:
                second.gw("comparison-download", format=ending).click()
            saved = tmp_path / f"kept.{ending}"
            download.value.save_as(saved)
            assert download.value.suggested_filename == f"reviews csv.{ending}"
        with (tmp_path / "kept.csv").open(encoding="utf-8-sig", newline="") as file:
            assert len(list(csv.reader(file))) == NUM_ROWS + 1
        assert len(json.loads((tmp_path / "kept.json").read_bytes())["rows"]) == NUM_ROWS
        second.gw("comparison-new").click()
        expect(second.gw("comparison-template")).to_have_value(ASK)
        second.assert_clean()

    with dashboard(home, "--theme", "dark") as server:
        third = open_page(server.url)
        open_tab(third)
        third.gw("comparison-earlier").locator("summary").click()
        third.gw("comparison-open").click()
        third.gw("comparison-pictures").locator("summary").click()
        expect(third.gw("comparison-chart").locator(".scatterlayer .trace")).to_have_count(2)
        photograph(third, "done-dark")
        third.gw("comparison-vote-open").click()
        expect(third.gw("comparison-vote-count")).to_contain_text(", 5 with a vote")
        photograph(third, "vote-dark")
        third.assert_clean()


HOSTILE = """
from gguf_widgets.core.store.store import default_store
from gguf_widgets.widgets.comparison_view import ComparisonView
from tests.compare.made_up import made_up
from tests.support.hostile_outputs import OUTPUTS

texts = OUTPUTS[::6]
made = made_up(
    default_store(),
    {"<img src=x onerror=alert(1)>": texts, "</script>": texts[::-1]},
    prompts=[{"prompt": text} for text in texts],
)
made.title = "<b>Title</b> & <script>1</script>"
ComparisonView(comparison=made)
"""


def test_what_a_model_wrote_runs_nothing_loads_nothing_and_leads_nowhere(
    home: Home, open_page: OpenPage
) -> None:
    texts = OUTPUTS[::6]
    with voila(home, notebook(home.folder, HOSTILE)) as server:
        watched = open_page(server.url, height=1000)
        page = watched.page
        page.add_init_script("window.alert = () => { window.__pwned = 1; }")
        page.reload()
        finish(watched)
        expect(watched.gw("comparison-title")).to_have_text("<b>Title</b> & <script>1</script>")
        box = watched.page.locator(ROOT).bounding_box()
        rows = watched.gw("comparison-rows")
        rows.focus()
        for number in range(len(texts)):
            rows.press("ArrowDown")
            rows.press("Enter")
            expect(watched.gw("comparison-row-detail").locator("h4")).to_have_text(
                f"Prompt {number + 1}"
            )
            if number % 10 == 0:
                assert faults_of(page, '[data-gw="comparison-row-detail"]') == []
        rows.press("End")
        watched.gw("comparison-row-close").click()
        now = watched.page.locator(ROOT).bounding_box()
        assert box is not None
        assert now is not None
        sizes = [(one["x"], one["width"], one["height"]) for one in (box, now)]
        assert sizes[0] == sizes[1], "nothing moves the page or makes it wider"
        watched.gw("comparison-vote-open").click()
        # The one in the middle is the same on both sides, and left out.
        for number in range(1, len(texts)):
            expect(watched.gw("comparison-vote-count")).to_contain_text(f"Pair {number} of")
            page.keyboard.press("ArrowRight")
        watched.gw("comparison-vote-result").wait_for()
        assert page.evaluate("window.__pwned") is None
        watched.assert_clean()


LAB = """
import gguf_widgets as gw

view = gw.ComparisonView(["demo", gw.compare.Side("demo", sampling={"temperature": 1, "seed": 3})])
view
"""
VOTES = """
from gguf_widgets.core.store.store import default_store
from tests.compare.made_up import made_up

view.comparison = made_up(default_store(), {"One": ["a", "b", "c"], "Two": ["x", "y", "z"]})
"""


def test_in_jupyterlab_keys_are_the_widgets_and_a_reload_finds_everything(
    home: Home, open_page: OpenPage
) -> None:
    path = notebook(home.folder / "work", LAB)
    book = nbformat.read(path, as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(VOTES.strip()))
    nbformat.write(book, path)
    with lab(home, path.parent) as server:
        watched = open_page(f"{server.url.split('/lab')[0]}/lab/tree/{path.name}", height=1200)
        page = watched.page
        run_cell(watched)
        prompt = watched.gw("comparison-prompt")
        prompt.wait_for(timeout=2 * LONG_MS)
        prompt.fill("Tell me")
        prompt.press("Shift+Enter")
        prompt.press_sequentially("a story about Emma.")
        expect(prompt).to_have_value("Tell me\na story about Emma.")
        prompt.press("Enter")
        expect(watched.gw("comparison-answer", status="done")).to_have_count(2)
        assert faults_of(page, ROOT) == []
        SCREENS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENS / "comparison-lab.png")
        text = watched.gw("comparison-answer").first.locator(".gw-body").inner_text()
        save(watched)
        reload(watched, watched.gw("comparison-answer").first)
        expect(watched.gw("comparison-answer").first.locator(".gw-body")).to_have_text(text)
        expect(prompt).to_have_value("Tell me\na story about Emma.")
        # "0, 0" restarts a kernel in JupyterLab, and "1" makes a cell a heading.
        run_cell(watched, 1, done=True)
        watched.gw("comparison-vote-open").click()
        expect(watched.gw("comparison-vote-count")).to_contain_text("Pair 1 of 3")
        for key in "001":
            page.keyboard.press(key)
            page.wait_for_timeout(150)
        expect(watched.gw("comparison-vote-result")).to_contain_text("3 votes")
        assert page.locator(".jp-Dialog").count() == 0
        assert page.locator(".jp-NotebookPanel .jp-CodeCell").count() == 2
