"""Take the README's pictures: ``python tests/ui/make_screenshots.py``, with the demo model.

They are photographs of the running program: a real server, a real browser, real replies.
"""

from __future__ import annotations

import csv
import random
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.browser import Watched, launch  # noqa: E402 - the path comes first
from support.servers import Home, Server, dashboard, lab  # noqa: E402

from gguf_widgets.core.care import convert  # noqa: E402
from gguf_widgets.demo import demo_model_path  # noqa: E402
from gguf_widgets.demo.sentences import sentiment  # noqa: E402

IMAGES = REPOSITORY / "notebooks" / "images"
QUESTIONS = (
    "Hello! What can you do?",
    'Read this order as JSON: "Hello, I am Maria Lopez and I want 3 red lamps sent to Berlin."',
    "Tell me a story about Emma.",
)


def ask(watched: Watched, question: str) -> None:
    """Send a question and wait for the end of its answer."""
    number = watched.gw("chat-message", role="assistant").count()
    box = watched.gw("chat-input")
    box.fill(question)
    box.press("Enter")
    answer = watched.gw("chat-message", role="assistant").nth(number)
    answer.and_(watched.page.locator('[data-status="complete"]')).wait_for(timeout=60_000)


def load_demo(watched: Watched) -> None:
    """Load the bundled model and wait until the chat is ready."""
    watched.gw("picker-load").first.wait_for(timeout=60_000)
    watched.gw("picker-load").first.click()
    watched.gw("picker-unload").first.wait_for(timeout=60_000)


def photograph(watched: Watched, name: str) -> None:
    """Keep a picture once the page has come to rest."""
    watched.page.wait_for_timeout(600)  # the last movement, at most 150 ms, and fonts
    watched.page.screenshot(path=IMAGES / f"{name}.png")


def dashboard_pictures(server: Server, launcher: object, theme: str) -> None:
    """The dashboard, empty and with a conversation, and narrow."""
    wide = Watched(launcher, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
    wide.page.goto(server.url)
    load_demo(wide)
    wide.gw("panel-download").locator("summary").first.click()  # it shows a folder of this machine
    for question in QUESTIONS:
        ask(wide, question)
    photograph(wide, f"dashboard-{theme}")
    inside_picture(wide, theme)
    wide.page.set_viewport_size({"width": 800, "height": 800})
    photograph(wide, f"dashboard-{theme}-narrow")
    wide.page.set_viewport_size({"width": 1280, "height": 800})
    table_picture(wide, server.home.folder / "reviews.csv", theme)
    speed_picture(wide, theme)
    convert(demo_model_path(), "Q4_0", requantize=True, folder=server.home.models)
    compare_picture(wide, theme)
    wide.close()


def inside_picture(watched: Watched, theme: str) -> None:
    """A look inside the last answer, with one of its words chosen, beside all conversations."""
    watched.gw("library-button").click()
    answer = watched.gw("chat-message", role="assistant").last
    answer.locator('[data-gw="inside-look"]').click()
    watched.gw("inside-least").last.click()
    answer.evaluate("e => e.scrollIntoView()")
    photograph(watched, f"chat-inside-{theme}")
    answer.locator('[data-gw="inside-look"]').click()
    watched.gw("library-close").click()


def table_picture(watched: Watched, path: Path, theme: str) -> None:
    """The dashboard's table with some reviews labelled."""
    draw = random.Random(7)  # noqa: S311 - which reviews, no secret
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review"])
        rows.writerows([sentiment.review(draw, "held_out")[0]] for _ in range(200))
    watched.gw("tab-table").click()
    with watched.page.expect_file_chooser() as chooser:
        watched.gw("batch-choose").click()
    chooser.value.set_files(path)
    watched.gw("batch-prompt").fill("Is this review positive, negative or neutral? {review}")
    watched.gw("batch-answer-choice").locator("xpath=..").click()
    watched.gw("batch-choices").fill("positive\nnegative\nneutral")
    watched.gw("batch-start").click()
    watched.gw("batch-words").get_by_text("Finished").wait_for(timeout=60_000)
    watched.page.get_by_text("Least certain first").click()
    photograph(watched, f"table-{theme}")


def speed_picture(watched: Watched, theme: str) -> None:
    """The charts of the last minute, with stories that are written while they are drawn."""
    watched.gw("tab-chat").click()
    for _ in range(4):
        ask(watched, "Tell me a story about Emma.")
        watched.page.wait_for_timeout(3000)
    watched.gw("tab-speed").click()
    watched.gw("live-window", value="60").click()
    watched.page.wait_for_timeout(3000)  # until it has drawn some points more
    photograph(watched, f"speed-{theme}")


def compare_picture(watched: Watched, theme: str) -> None:
    """Two sizes of the demo model side by side, and where their answers part."""
    watched.page.set_viewport_size({"width": 1280, "height": 1160})
    watched.gw("tab-compare").click()
    watched.gw("comparison-refresh").click(timeout=60_000)
    second = watched.gw("comparison-model").nth(1)
    second.locator("option", has_text="Q4_0").wait_for(state="attached", timeout=60_000)
    second.select_option(second.locator("option", has_text="Q4_0").get_attribute("value"))
    watched.gw("comparison-prompt").fill("Tell me a story about Emma.")
    watched.gw("comparison-prompt").press("Enter")
    watched.gw("comparison-part").first.click(timeout=60_000)
    watched.gw("comparison-split").wait_for(timeout=60_000)
    photograph(watched, f"compare-{theme}")


def lab_picture(home: Home, launcher: object) -> None:
    """The first tutorial's chat box in JupyterLab."""
    folder = home.folder / "notebooks"
    shutil.copytree(REPOSITORY / "notebooks", folder, ignore=shutil.ignore_patterns("images"))
    with lab(home, folder) as server:
        page = Watched(launcher, viewport={"width": 1280, "height": 800})  # type: ignore[arg-type]
        address = server.url.split("/lab")[0]
        page.page.goto(f"{address}/lab/tree/01_first_chat.ipynb")
        page.page.get_by_text("| Idle").wait_for(timeout=60_000)  # in the status bar
        page.page.get_by_role("menuitem", name="Run", exact=True).click()
        page.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.gw("chat-input").wait_for(timeout=90_000)
        ask(page, "Tell me a story about Emma.")
        page.gw("chat-message", role="user").last.evaluate("e => e.scrollIntoView()")
        photograph(page, "lab-light")
        page.close()


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = launch(playwright)
        for theme in ("light", "dark"):
            home = Home(Path(folder) / theme)
            try:
                with dashboard(home, "--theme", theme) as server:
                    dashboard_pictures(server, browser, theme)
                if theme == "light":
                    lab_picture(home, browser)
            finally:
                home.close()
        browser.close()


if __name__ == "__main__":
    main()
