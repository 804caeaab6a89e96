"""Pictures of the library's screens in every look, and what must hold of each of them.

Each is kept as a picture in ``artifacts/screens``, to be looked at; what a program can judge
(`support.screen_check`) is judged here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Watched
from support.gguf_writer import Typed
from support.model_bytes import model_bytes
from support.screen_check import faults_of
from support.servers import Home, dashboard
from support.upload_files import write_letter, write_model
from support.upload_line import Line

OpenPage = Callable[..., Watched]

SCREENS = Path(__file__).parent / "artifacts" / "screens"
MB = 1_000_000
PANEL = ".gw-dash-panel"
WIDTHS = (1280, 800)
MAKERS = ("Aspen", "Birch", "Cedar", "Dogwood", "Elm", "Fir")


def write_models(home: Home, number: int) -> None:
    """Put that many models into the models folder: names and kinds as people have them."""
    for i in range(number):
        maker, billions = MAKERS[i % len(MAKERS)], 1 + i // len(MAKERS)
        name = f"{maker} {billions}B Instruct"
        template = "{% if tools %}{{ tools }}{% endif %}<think>{{ messages[0].content }}"
        changes = {
            "general__name": Typed("string", name),
            "general__license": Typed("string", "apache-2.0"),
            "general__author": Typed("string", f"{maker} Labs"),
            "llama__context_length": Typed("uint32", 4096 << (i % 4)),
        }
        if i % 3 == 0:
            changes["tokenizer__chat_template"] = Typed("string", template)
        path = home.models / f"{name.replace(' ', '-').lower()}-q4_k_m.gguf"
        path.write_bytes(model_bytes(60_000 + 1000 * i, seed=i, **changes))


class Screens:
    """One page of the dashboard, photographed in both widths."""

    def __init__(self, watched: Watched, theme: str) -> None:
        self.watched = watched
        self.page = watched.page
        self._theme = theme
        self.faults: list[str] = []

    def take(self, name: str) -> None:
        """Keep a picture in each width, and note what is wrong with it."""
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 800})
            toggle = self.watched.gw("panel-toggle")
            folds = toggle.is_visible()
            if folds and toggle.get_attribute("aria-expanded") == "false":
                toggle.click()
            self.page.wait_for_timeout(300)  # the last movement takes at most 150 ms
            SCREENS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENS / f"{name}-{self._theme}-{width}.png")
            found = faults_of(self.page, PANEL)
            self.faults += [f"{name}, {self._theme}, {width}: {fault}" for fault in found]
            if folds:
                self.watched.gw("panel-close").click()
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 800})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_models_and_uploads_in_every_look(theme: str, tmp_path: Path, open_page: OpenPage) -> None:
    home = Home(tmp_path / "person")
    try:
        with (
            dashboard(home, "--theme", theme) as server,
            Line(server.url, bytes_per_s=4 * MB) as line,
        ):
            line.bytes_per_s = None
            watched = open_page(line.url)
            screens = Screens(watched, theme)
            rows = watched.gw("picker-row")
            expect(rows).to_have_count(1, timeout=LONG_MS)  # the demo, which is always there
            # Who has no other is shown where to get one.
            expect(watched.gw("panel-download")).to_have_attribute("open", "", timeout=LONG_MS)
            screens.take("picker-0-models")
            watched.gw("panel-download").locator("summary").first.click()

            write_models(home, 1)
            expect(rows).to_have_count(2, timeout=LONG_MS)
            screens.take("picker-1-model")

            write_models(home, 30)
            (home.models / "broken.gguf").write_bytes(b"GGUF but no more than that")
            expect(rows).to_have_count(32, timeout=LONG_MS)
            screens.take("picker-30-models")
            watched.gw("picker-find").fill("broken")
            expect(rows.and_(watched.page.locator(":visible"))).to_have_count(1)
            screens.take("picker-a-file-that-is-no-use")
            watched.gw("picker-find").fill("cedar 2b")
            watched.page.locator('[data-gw="picker-info"]:visible').click()
            expect(watched.gw("picker-load-context")).to_be_visible(timeout=LONG_MS)
            screens.take("picker-about-a-model")
            watched.gw("picker-find").fill("no such model")
            screens.take("picker-nothing-found")
            watched.gw("picker-find").fill("")

            watched.gw("panel-upload").locator("summary").first.click()
            drop = watched.gw("upload-drop")
            expect(drop).to_contain_text("room for", timeout=LONG_MS)
            screens.take("upload-empty")
            line.bytes_per_s = 4 * MB
            for path in (
                write_model(tmp_path / "a-model-of-mine.gguf", 300 * MB),
                write_letter(tmp_path / "a-letter.gguf"),
            ):
                with watched.page.expect_file_chooser() as chooser:
                    drop.click()
                chooser.value.set_files(path)
            refused = watched.gw("upload-row", name="a-letter.gguf")
            expect(refused).to_have_attribute("data-state", "refused", timeout=LONG_MS)
            under_way = watched.gw("upload-row", name="a-model-of-mine.gguf")
            expect(under_way).to_contain_text("left", timeout=LONG_MS)
            screens.take("upload-under-way-and-refused")
            under_way.scroll_into_view_if_needed()
            refused.scroll_into_view_if_needed()
            screens.take("upload-refused")
            assert screens.faults == [], "\n".join(screens.faults)
    finally:
        home.close()
