"""The widget that fetches models, on a watched page, as a person uses it.

Not a test and no fixture.
"""

from __future__ import annotations

from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Watched
from support.servers import wait_until


class Downloader:
    """The widget on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page
        self.input = watched.gw("get-input")

    def wait_until_shown(self) -> None:
        expect(self.watched.gw("downloader")).to_contain_text(
            "Models are saved in", timeout=LONG_MS
        )

    def find(self, text: str) -> None:
        self.input.fill(text)
        self.input.press("Enter")

    def open(self, name: str) -> Locator:
        """Open a repository and return it."""
        repo = self.watched.gw("get-repo", name=name)
        repo.locator('[data-gw="get-open"]').click()
        repo.locator('[data-gw="get-version"]').first.wait_for(timeout=LONG_MS)
        return repo

    def fetch(self, quant: str) -> None:
        self.watched.gw("get-version", quant=quant).locator('[data-gw="get-download"]').click()

    def row(self, name: str) -> Locator:
        return self.watched.gw("get-row", name=name)

    def wait_for(self, name: str, *states: str) -> Locator:
        wanted = ", ".join(f'[data-state="{state}"]' for state in states)
        found = self.row(name).and_(self.page.locator(wanted))
        found.wait_for(timeout=2 * LONG_MS)
        return found

    def percent(self, name: str) -> int:
        bar = self.row(name).locator('[role="progressbar"]')
        return int(bar.get_attribute("aria-valuenow") or 0)

    def wait_past(self, name: str, percent: int) -> None:
        wait_until(lambda: self.percent(name) > percent, 60, f"{name} gets past {percent}%")

    def press(self, name: str, action: str) -> None:
        self.row(name).locator(f'[data-gw="get-{action}"]').click()

    def error(self, name: str) -> Locator:
        return self.row(name).locator('[data-gw="get-error"]')
