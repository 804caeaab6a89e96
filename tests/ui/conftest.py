"""Fixtures for the tests in a real browser: one browser a file, a watched page for each test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from support.browser import LONG_MS, Watched, launch

# Everything that is expected is waited for; only a failure waits for all of it.
expect.set_options(timeout=LONG_MS)

ARTIFACTS = Path(__file__).parent / "artifacts"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.ui)
            # A page that opens in 3 s takes 30 when all cores are busy with something else.
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each file: Playwright keeps an event loop in this thread, which others need."""
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and report.failed:
        # While the page is still open: the fixtures are taken down after this.
        for number, watched in enumerate(item.stash.get(_PAGES, [])):
            name = re.sub(r"\W+", "-", item.nodeid).strip("-")
            watched.keep_screenshot(ARTIFACTS / f"{name}-{number}.png")
    return report


_PAGES: pytest.StashKey[list[Watched]] = pytest.StashKey()


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Watched]]:
    """Open watched pages that are closed with the test; a failure keeps their picture."""
    pages = request.node.stash.setdefault(_PAGES, [])

    def open_one(url: str, width: int = 1280, height: int = 800, **context: Any) -> Watched:
        watched = Watched(browser, viewport={"width": width, "height": height}, **context)
        watched.page.set_default_timeout(LONG_MS)
        pages.append(watched)
        watched.page.goto(url, wait_until="commit")
        return watched

    yield open_one
    for watched in pages:
        watched.close()
