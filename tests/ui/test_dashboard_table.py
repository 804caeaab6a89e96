"""The dashboard's table: a run that outlives its page and kernel, and is seen from another page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Watched
from support.screen_check import faults_of
from support.servers import Home, dashboard, wait_until

from gguf_widgets.batch import files
from tests.ui.test_batch_table import Table, write_reviews

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
NUM_ROWS = 4000


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


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_run_goes_on_without_its_page_and_is_seen_and_steered_from_another(
    home: Home, open_page: OpenPage, tmp_path: Path, theme: str
) -> None:
    path = write_reviews(tmp_path / "reviews.csv", NUM_ROWS)
    with dashboard(home, "--theme", theme) as server:
        first = open_page(server.url)
        table = Table(first)
        first.gw("picker-load").first.click(timeout=LONG_MS)
        first.gw("picker-unload").first.wait_for(timeout=LONG_MS)
        first.gw("tab-table").click()
        table.wait_until_shown()
        assert photograph(first, f"table-empty-{theme}") == []
        table.choose(path)
        first.gw("batch-prompt").fill("Is this review positive or negative? {review}")
        table.answer("choice")
        first.gw("batch-choices").fill("positive\nnegative")
        expect(first.gw("batch-start")).to_be_enabled(timeout=LONG_MS)
        assert photograph(first, f"table-set-up-{theme}") == []
        first.gw("batch-start").click()
        run = first.gw("batch-run")
        expect(run).to_have_attribute("data-status", "running", timeout=LONG_MS)
        expect(first.gw("batch-words")).to_contain_text("It goes on when you close this page")
        runner = home.processes("gguf_widgets.batch")
        assert len(runner) == 1

        # The page goes, and so does its kernel; the run does not.
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
        assert photograph(second, f"table-at-work-{theme}") == []
        if run.get_attribute("data-status") == "paused":
            second.gw("batch-go-on").click()
        table.finish()
        expect(second.gw("batch-words")).to_contain_text(f"{NUM_ROWS:,} of {NUM_ROWS:,} done")
        wait_until(lambda: not home.processes("gguf_widgets.batch"), 30, "the runner's own end")
        assert photograph(second, f"table-done-{theme}") == []
        with second.page.expect_download() as download:
            second.gw("batch-download").click()
        saved = tmp_path / "result.csv"
        download.value.save_as(saved)
        frame = files.read(saved).to_frame()
        assert len(frame) == NUM_ROWS
        assert frame["status"].eq("done").all()
        assert set(frame["reply"]) <= {"positive", "negative"}
