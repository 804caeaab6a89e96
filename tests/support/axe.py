"""What a screen reader or a person without a mouse would stumble over, found by axe-core.

Not a test and no fixture: ``from support.axe import serious_faults``. The checker comes with the
package `axe-playwright-python`; nothing is fetched.
"""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

__all__ = ["serious_faults"]

_AXE = Axe()


def serious_faults(page: Page, selector: str) -> list[str]:
    """Return what axe finds serious or critical inside what `selector` selects, in a line each.

    All of its rules are asked, the best practices too.
    """
    found = _AXE.run(page, context=selector, options={"resultTypes": ["violations"]}).response
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
