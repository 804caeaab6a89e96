"""What must hold of any screen of ours: nothing cut off, nothing out of reach, nothing too faint.

Not a test and no fixture. The page itself is asked, so that what is measured is what is drawn.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

__all__ = ["faults_of"]

# WCAG 2.2, 1.4.3 "Contrast (Minimum)": 4.5 to 1 for text of this size. What cannot be used just now
# (a disabled button, the half that waits) is left out there, too.
_LOOK = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def faults_of(page: Page, root: str) -> list[str]:
    """Return what is wrong with what is shown inside the elements that `root` selects.

    Looked for: a page that scrolls sideways; text and controls that stick out, have no size, or are
    cut with no way to read them; controls without a name; text with a contrast below 4.5 to 1.
    """
    found: list[str] = page.evaluate(_LOOK, root)
    return found
