"""Whether whoever uses the keyboard sees where the focus is: each focus ring, whole.

Not a test and no fixture.
"""

from __future__ import annotations

from playwright.sync_api import Page

# A ring may be an outline, a shadow, or that of a frame around the element (":focus-within").
_LOOK = """
(root) => {
  const found = new Set();
  const shown = 'button, a[href], input, select, textarea, summary, [tabindex]';
  const named = (e) => e.dataset.gw || String(e.className) || e.tagName.toLowerCase();
  const ringOf = (e) => {
    const style = getComputedStyle(e);
    const width = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
    return [width, width ? width + parseFloat(style.outlineOffset) : 0, style.boxShadow !== "none"];
  };
  for (const element of document.querySelectorAll(root + " :is(" + shown + ")")) {
    if (element.disabled || element.tabIndex < 0 || !element.offsetParent) continue;
    element.focus();
    if (document.activeElement !== element) continue;
    const around = [element];
    for (let e = element.parentElement; e && !e.matches(root); e = e.parentElement) around.push(e);
    const own = ["radio", "checkbox", "range"].includes(element.type);
    const ring = around.slice(0, 4).find((e) => ringOf(e)[0] || ringOf(e)[2]);
    if (!ring) {
      if (!own) found.add(`${named(element)} has no ring`);
      continue;
    }
    const grow = ringOf(ring)[1];
    const box = ring.getBoundingClientRect();
    for (let e = ring.parentElement; grow > 0 && e && e.closest(root); e = e.parentElement) {
      const { overflowX, overflowY } = getComputedStyle(e);
      if (overflowX === "visible" && overflowY === "visible") continue;
      const out = e.getBoundingClientRect();
      const [left, top] = [out.left + e.clientLeft, out.top + e.clientTop];
      const [right, bottom] = [left + e.clientWidth, top + e.clientHeight];
      // What is scrolled out of sight has no ring to be seen.
      if (box.left < left || box.right > right || box.top < top || box.bottom > bottom) break;
      const sideways = box.left - grow < left - 0.5 || box.right + grow > right + 0.5;
      const scrolls = e.scrollHeight > e.clientHeight + 1;
      const upright = box.top - grow < top - 0.5 || box.bottom + grow > bottom + 0.5;
      if (sideways || (upright && !scrolls)) found.add(`the ring of ${named(element)} is cut off`);
    }
  }
  return [...found];
}
"""


def rings_not_seen(page: Page, root: str) -> list[str]:
    """Give the focus to everything within `root`; return what shows that not at all, or in part."""
    page.keyboard.press("Tab")  # from now on the page shows rings
    found: list[str] = page.evaluate(_LOOK, root)
    return found
