"""The dashboard's table, from a CSV to the file with the answers.

The run outlives its page and kernel, is seen and steered from another page, its charts choose rows,
and a row that did not fit is done once the model has more room. One dashboard: about a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Watched
from support.screen_check import faults_of
from support.servers import Home, dashboard, wait_until

from gguf_widgets.batch import files
from tests.ui.test_batch_table import TEXTS, Table

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
NUM_ROWS = 4000
LONG_ROW = 3
LABELS = ("positive", "negative")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def photograph(watched: Watched, name: str) -> list[str]:
    """Keep a picture in both widths; return what is wrong with it."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    found = []
    for width in (800, 1280):
        watched.page.set_viewport_size({"width": width, "height": 800})
        watched.page.wait_for_timeout(300)
        watched.page.screenshot(path=SCREENS / f"dashboard-{name}-{width}.png")
        found += faults_of(watched.page, ".gw-batch")
    return found


def write_table(path: Path) -> list[str]:
    """Write a CSV, one of whose rows needs more room than the model has at first."""
    texts = [f"{TEXTS[i % 4]} Visit {i}." for i in range(NUM_ROWS)]
    texts[LONG_ROW] = "It was a good evening. " * 100
    pd.DataFrame({"review": texts, "stars": [i % 5 for i in range(NUM_ROWS)]}).to_csv(
        path, index=False
    )
    return texts


def load_with_context(watched: Watched, key: str) -> None:
    """Load the demo model with the context at one end of the slider."""
    watched.gw("picker-info").first.click(timeout=LONG_MS)
    watched.gw("picker-context").wait_for(timeout=LONG_MS)
    watched.gw("picker-context").press(key)
    button = watched.gw("picker-load-context")
    num_tokens = button.inner_text().removeprefix("Load with ").removesuffix(" tokens")
    button.click()
    # The status line says which model the dashboard's parts have now.
    stats = watched.gw("chat-stats").first
    expect(stats).to_contain_text(f"{num_tokens} tokens of context", timeout=LONG_MS)


def click_bar(watched: Watched, number: int) -> None:
    """Click the middle of a bar of the first chart."""
    bar = watched.gw("batch-chart").first.locator(".barlayer .point path").nth(number)
    box = bar.bounding_box()
    assert box is not None
    watched.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_from_a_csv_to_the_file_with_the_answers(
    home: Home, open_page: OpenPage, tmp_path: Path
) -> None:
    path = tmp_path / "reviews.csv"
    texts = write_table(path)
    with dashboard(home) as server:
        first = open_page(server.url)
        table = Table(first)
        load_with_context(first, "Home")
        first.gw("tab-table").click()
        table.wait_until_shown()
        assert photograph(first, "table-empty-light") == []
        table.choose(path)
        first.gw("batch-prompt").fill("Is this review positive or negative? {review}")
        table.answer("choice")
        first.gw("batch-choices").fill("\n".join(LABELS))
        expect(first.gw("batch-start")).to_be_enabled(timeout=LONG_MS)
        assert photograph(first, "table-set-up-light") == []
        first.gw("batch-start").click()
        run = first.gw("batch-run")
        expect(run).to_have_attribute("data-status", "running", timeout=LONG_MS)
        expect(first.gw("batch-words")).to_contain_text("It goes on when you close this page")
        expect(first.gw("batch-chart")).to_have_count(4)
        runner = home.processes("gguf_widgets.batch")
        assert len(runner) == 1

        # The page goes, and so does its kernel; the run does not.
        first.assert_clean()
        kernels = home.kernels()
        first.page.close()
        for kernel in kernels:
            kernel.kill()
        assert runner[0].is_running()

        second = open_page(server.url)
        table = Table(second)
        expect(second.gw("tab-table")).to_have_attribute("aria-selected", "true", timeout=LONG_MS)
        run = second.gw("batch-run")
        expect(run).to_be_visible(timeout=LONG_MS)
        if run.get_attribute("data-status") == "running":
            second.gw("batch-pause").click()
            expect(run).to_have_attribute(
                "data-status", re.compile("paused|finished"), timeout=LONG_MS
            )
        assert photograph(second, "table-at-work-light") == []
        if run.get_attribute("data-status") == "paused":
            second.gw("batch-at-once").select_option("16")
            second.gw("batch-go-on").click()
        table.finish()
        expect(second.gw("batch-words")).to_contain_text(f"{NUM_ROWS - 1:,} of {NUM_ROWS:,} done")
        wait_until(lambda: not home.processes("gguf_widgets.batch"), 30, "the runner's own end")

        # A bar of the chart chooses its rows, as the button of the label does.
        label = second.gw("batch-label", name="negative")
        expect(label).to_have_text(re.compile(r"negative[\d,]+"))
        chart = second.gw("batch-chart").first
        expect(chart.locator(".barlayer .point path")).to_have_count(2)
        expect(chart.locator(".bartext").nth(1)).to_have_text(label.inner_text().split("\n")[-1])
        click_bar(second, 1)
        expect(label).to_have_attribute("aria-pressed", "true")
        found = second.gw("batch-found")
        wait_until(  # the labels are counted anew a moment after the last row
            lambda: found.inner_text() == f"{label.inner_text().split()[-1]} rows found",
            60,
            "the rows of the label are found",
        )
        assert photograph(second, "table-filtered-light") == []
        label.click()
        expect(second.gw("batch-found")).to_have_text("")

        # The row that did not fit: the model gets more room, and it is asked again.
        second.gw("batch-tab", value="failed").click()
        expect(second.gw("batch-row")).to_have_count(1)
        second.gw("batch-row").click()
        expect(second.gw("batch-why")).to_contain_text("context")
        load_with_context(second, "End")
        expect(second.gw("batch-retry")).to_be_enabled(timeout=LONG_MS)
        second.gw("batch-retry").click()
        expect(second.gw("batch-words")).to_have_text(
            f"Finished: {NUM_ROWS:,} of {NUM_ROWS:,} done.", timeout=2 * LONG_MS
        )
        second.gw("batch-tab", value="").click()
        expect(table.row(LONG_ROW)).to_have_attribute("data-status", "done")
        assert photograph(second, "table-done-light") == []

        with second.page.expect_download() as download:
            second.gw("batch-download").click()
        saved = tmp_path / "result.csv"
        download.value.save_as(saved)
        frame = files.read(saved).to_frame()
        assert [one.strip() for one in frame["review"]] == [one.strip() for one in texts]
        assert frame["stars"].tolist() == [i % 5 for i in range(NUM_ROWS)]
        assert frame["status"].eq("done").all()
        counts = frame["reply"].value_counts()
        assert set(counts.index) == set(LABELS)
        assert label.inner_text().split("\n")[-1] == f"{counts['negative']:,}"
        second.assert_clean()

    with dashboard(home, "--theme", "dark") as server:
        third = open_page(server.url)
        Table(third).wait_until_shown()
        assert photograph(third, "table-empty-dark") == []
        third.gw("batch-earlier").locator("summary").click()
        third.gw("batch-open").click()
        expect(third.gw("batch-chart")).to_have_count(4)
        expect(third.gw("batch-chart").first.locator(".barlayer .point path")).to_have_count(2)
        assert photograph(third, "table-done-dark") == []
        third.assert_clean()
