"""A notebook in JupyterLab, as a person uses it: cells are run, it is saved, its page reloaded.

Each of these has something that goes wrong on a busy machine without being a fault of ours; a
person would do it once more, and so do these. Not a test and no fixture.
"""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Watched


def cell(watched: Watched, number: int = 0) -> Locator:
    """Find a code cell of the notebook that is shown."""
    return watched.page.locator(".jp-NotebookPanel .jp-CodeCell").nth(number)


def prompt(watched: Watched, number: int = 0) -> Locator:
    """Find the number in brackets that a cell gets when it has run."""
    return cell(watched, number).locator(".jp-InputPrompt")


def run_cell(watched: Watched, number: int = 0, *, done: bool = False) -> None:
    """Run a cell with the keyboard; with `done`, wait until it has run.

    JupyterLab takes no key before it is ready, and when a kernel dies under it, it sometimes stays
    in "Connecting" for good; then the page is loaded again.
    """
    page, mark = watched.page, prompt(watched, number)
    for _ in range(6):
        cell(watched, number).wait_for(timeout=LONG_MS)
        try:
            expect(page.get_by_text("| Idle")).to_be_visible(timeout=30_000)  # in the status bar
            before = mark.inner_text()
            cell(watched, number).locator(".jp-InputArea-editor").click()
            page.keyboard.press("Control+Enter")
            expect(mark).not_to_have_text(before, timeout=10_000)
        except AssertionError:
            page.reload(wait_until="commit")
            continue
        if done:
            expect(mark).to_have_text(re.compile(r"\[\d+\]"), timeout=LONG_MS)
        return
    raise AssertionError(f"JupyterLab did not run cell {number}")


def save(watched: Watched, number: int = 0) -> None:
    """Save the notebook, so that the page knows of a cell's widget when it is loaded again."""
    cell(watched, number).locator(".jp-InputArea-editor").click()
    watched.page.keyboard.press("Control+s")
    expect(watched.page.locator(".jp-mod-dirty")).to_have_count(0, timeout=LONG_MS)


def reload(watched: Watched, shown: Locator) -> None:
    """Load the page again until `shown` is visible in the widget that the kernel still has.

    On a busy machine ipywidgets gives a widget up after two seconds; a person reloads once more.
    """
    lost = watched.page.get_by_text("Error displaying widget")
    for _ in range(4):
        watched.page.reload(wait_until="commit")
        shown.or_(lost).first.wait_for(timeout=2 * LONG_MS)
        if shown.is_visible():
            return
    raise AssertionError("after four reloads, the page still does not show the widget")
