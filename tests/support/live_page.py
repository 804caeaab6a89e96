"""The live charts on a watched page, as a person uses them, and a monitor played beside them.

Not a test and no fixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, expect
from support.browser import LONG_MS, Watched
from support.servers import REPOSITORY, wait_until

# The notebook's own thread does what the test writes into files, and makes five points a second.
_NOTEBOOK = f"""
import sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from support.live_monitor import *
import gguf_widgets as gw

monitor = PlayedMonitor(time.time() - 300)
plays = False
BEGIN
folder = Path({{folder!r}})

def act():
    global plays
    number = 300
    while True:
        for path in sorted(folder.glob("*.py")):
            exec(path.read_text(), globals())
            path.unlink()
        if plays:
            monitor.work(number)
            number += 1
        time.sleep(0.2)

threading.Thread(target=act, daemon=True).start()
charts = gw.LiveCharts(monitor)
charts
"""

AT_WORK = """
for i in range(300):
    monitor.work(i)
    if i % 10 == 5:
        monitor.answer(ttft_s=0.2 + i / 1000, itl_p50_s=0.03, itl_p95_s=0.04, itl_p99_s=0.07,
            num_prompt_tokens=512, num_completion_tokens=60, decode_tok_per_s=31.0)
plays = True
"""


class Played:
    """A folder of things that the page's kernel shall do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self._number = 0

    def notebook(self, begin: str = "") -> Any:
        """Make a notebook with the charts; `begin` is what happened before."""
        text = _NOTEBOOK.replace("{folder!r}", repr(str(self.folder))).replace("BEGIN", begin)
        metadata = {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
        cell = nbformat.v4.new_code_cell(text.strip())
        return nbformat.v4.new_notebook(cells=[cell], metadata=metadata)

    def do(self, code: str) -> None:
        """Have the kernel do something, and wait until it has."""
        self._number += 1
        path = self.folder / f"{self._number:04}.py"
        path.with_suffix(".new").write_text(code, encoding="utf-8")
        path.with_suffix(".new").rename(path)
        wait_until(lambda: not path.exists(), 60, f"the kernel does: {code[:60]}")


class Charts:
    """The charts on a watched page."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page

    def wait_until_drawn(self, key: str = "writing") -> None:
        """Wait until a chart is drawn, which it is when it is seen."""
        self.chart(key).scroll_into_view_if_needed()
        self.chart(key).locator(".main-svg").first.wait_for(timeout=LONG_MS)

    def chart(self, key: str) -> Locator:
        return self.watched.gw("live-chart", key=key)

    def words(self, key: str) -> Locator:
        return self.chart(key).locator('[data-gw="live-chart-words"]')

    def tile(self, name: str) -> Locator:
        return self.watched.gw("live-tile", name=name).locator(".gw-lc-value")

    def window(self, value: str) -> Locator:
        return self.watched.gw("live-window", value=value)

    def drawn(self, key: str, number: int = 0) -> dict[str, Any]:
        """Return what plotly.js has of a chart's line: its points, and the time that is shown."""
        found: dict[str, Any] = (
            self.chart(key)
            .locator(".gw-chart")
            .evaluate(
                """(chart, number) => ({
              x: Array.from(chart.data[number].x),
              y: Array.from(chart.data[number].y, (y) => Number.isNaN(y) ? null : y),
              range: chart._fullLayout.xaxis.range.map((at) =>
                Date.parse(String(at).replace(" ", "T") + "Z")),
              gaps: chart.data[number].connectgaps,
            })""",
                number,
            )
        )
        return found

    def span_s(self, key: str = "writing") -> float:
        """Return how many seconds a chart shows."""
        low, high = self.drawn(key)["range"]
        return float(high - low) / 1000

    def expect_span(self, least_s: float, most_s: float, key: str = "writing") -> None:
        self.chart(key).scroll_into_view_if_needed()  # only what is seen is drawn
        what = f"charts of {least_s:g} to {most_s:g} s"
        wait_until(lambda: least_s <= self.span_s(key) <= most_s, 60, what)

    def drag(self, key: str, low: float, high: float) -> None:
        """Draw over a part of a chart with the mouse, from one share of its width to another."""
        self.chart(key).scroll_into_view_if_needed()
        box = self.chart(key).locator(".nsewdrag").first.bounding_box()
        assert box is not None
        y = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + low * box["width"], y)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + (low + high) / 2 * box["width"], y, steps=4)
        self.page.mouse.move(box["x"] + high * box["width"], y, steps=4)
        self.page.mouse.up()

    def moves(self) -> bool:
        """Return whether the charts go along with what comes."""
        self.chart("writing").scroll_into_view_if_needed()
        before = self.drawn("writing")["range"][1]
        self.page.wait_for_timeout(1500)
        return bool(self.drawn("writing")["range"][1] > before)

    def expect_words(self, key: str, words: Any) -> None:
        expect(self.words(key)).to_have_text(words)
