"""What charts cost a page: how soon the first one is drawn, and what travels for each new point.

    python tests/bench/bench_charts.py [--rounds 5] [--quick]

`LiveCharts`, with ten charts of a made-up monitor, beside as many of Plotly's own `FigureWidget`
with the same lines and points, each on a Voila page in Chromium, opened in turn. First plot: from
the address to a drawn chart. A point: the bytes that come over the page's websocket while points
are added to every line five times a second, for each time; a `FigureWidget` is given its new arrays
inside `batch_update`, as its documentation has it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, WebSocket, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402
from support.browser import LONG_MS, Watched, launch  # noqa: E402
from support.servers import REPOSITORY, Home, voila, wait_until  # noqa: E402

LIVE, FIGURES = "LiveCharts", "FigureWidget"
NUM_POINTS = 2000
DRAWN = {LIVE: ".gw-speed .main-svg", FIGURES: ".js-plotly-plot .main-svg"}

# Points are added while the file `go` is there, five times a second; their number is in `count`. A
# kernel does so once: it outlives its page for a while.
BEGIN = f"""
import sys, threading, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from support.live_monitor import PlayedMonitor, START
folder = Path(FOLDER)

def act(add):
    while not (folder / "go").exists():
        time.sleep(0.1)
    number = 0
    while (folder / "go").exists():
        add({NUM_POINTS} + number)
        number += 1
        (folder / "count").write_text(str(number))
        time.sleep(0.2)

monitor = PlayedMonitor(START, interval_s=0.2)
for number in range({NUM_POINTS}):
    monitor.work(number)
"""
CODES = {
    LIVE: """
import gguf_widgets as gw
threading.Thread(target=act, args=(monitor.work,), daemon=True).start()
gw.LiveCharts(monitor)
""",
    FIGURES: """
import ipywidgets
import numpy as np
import plotly.graph_objects as go
from gguf_widgets.widgets._live_series import CHARTS, fields, row

table = np.array([[point.at, *row(point, 0, 2)] for point in monitor.kept[monitor.session_id]])
places = {name: place + 1 for place, name in enumerate(fields(0))}
# Answers are drawn as dots: here too, of as many points as there are lines.
lines = [[places.get(line.field, 1) for line in chart.lines] for chart in CHARTS]
figures = [
    go.FigureWidget([go.Scatter(x=table[:, 0], y=table[:, place]) for place in one]).update_layout(
        height=170, margin={"l": 40, "r": 10, "t": 10, "b": 30}
    )
    for one in lines
]

def add(number):
    global table
    point = monitor.work(number)
    table = np.vstack([table[1:], [point.at, *row(point, 0, 2)]])
    for figure, one in zip(figures, lines):
        with figure.batch_update():
            for trace, place in zip(figure.data, one):
                trace.x, trace.y = table[:, 0], table[:, place]

threading.Thread(target=act, args=(add,), daemon=True).start()
ipywidgets.VBox(figures)
""",
}


class Wire:
    """Counts what comes over a page's websockets."""

    def __init__(self, watched: Watched) -> None:
        self.num_bytes = 0
        watched.page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._count)

    def _count(self, payload: bytes | str) -> None:
        self.num_bytes += len(payload)


@contextmanager
def pages(home: Home) -> Iterator[dict[str, tuple[str, Path]]]:
    """Serve the pages; give their addresses, and the folders that steer them."""
    with ExitStack() as stack:
        found = {}
        for number, (name, code) in enumerate(CODES.items()):
            folder = home.folder / f"steer-{number}"
            folder.mkdir()
            path = home.folder / f"charts-{number}.ipynb"
            begin = BEGIN.replace("FOLDER", repr(str(folder)))
            cell = nbformat.v4.new_code_cell((begin + code).strip())
            nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
            found[name] = (stack.enter_context(voila(home, path)).url, folder)
        yield found


def measure(browser: Browser, name: str, url: str, folder: Path, num: int) -> tuple[float, float]:
    """Open a page; return the seconds to the first plot, and the bytes for each added point."""
    watched = Watched(browser, viewport={"width": 1280, "height": 800})
    wire = Wire(watched)
    start = time.perf_counter()
    watched.page.goto(url, wait_until="commit")
    watched.page.locator(DRAWN[name]).first.wait_for(timeout=2 * LONG_MS)
    seconds = time.perf_counter() - start
    watched.page.wait_for_timeout(1000 if num < 50 else 3000)  # the others are drawn
    before = wire.num_bytes
    count = folder / "count"
    (folder / "go").touch()

    def added() -> int:
        watched.page.wait_for_timeout(100)  # frames are counted in the meantime
        return int(count.read_text() or 0) if count.exists() else 0

    wait_until(lambda: added() >= num, 240, f"{num} points are added")
    (folder / "go").unlink()
    watched.page.wait_for_timeout(1000 if num < 50 else 5000)  # what is on its way arrives
    told = (wire.num_bytes - before) / added()
    count.unlink()
    watched.close()
    return seconds, told


def main() -> int:
    chosen = read_options(options(__doc__, rounds=5))
    rounds = 1 if chosen.tiny else 2 if chosen.quick else chosen.rounds
    num = 10 if chosen.tiny else 50
    conditions = f"ten charts of {NUM_POINTS:,} points in Chromium, {rounds} openings each"
    results = Results("charts", chosen, conditions)
    taken: dict[str, list[tuple[float, float]]] = {LIVE: [], FIGURES: []}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        try:
            with pages(home) as served, sync_playwright() as playwright:
                browser = launch(playwright)
                for _ in range(rounds):
                    for name, (url, steered) in served.items():
                        taken[name].append(measure(browser, name, url, steered, num))
                browser.close()
        finally:
            home.close()
    plots = {name: [one[0] for one in found] for name, found in taken.items()}
    sizes = {name: [one[1] for one in found] for name, found in taken.items()}
    for name in taken:
        print(
            f"{name:14} first plot after {statistics.median(plots[name]):5.2f} s, "
            f"{statistics.median(sizes[name]):,.0f} bytes a point"
        )
    ratio = statistics.median(a / b for a, b in zip(plots[FIGURES], plots[LIVE], strict=True))
    results.add(
        Finding(
            what="the first of ten charts is drawn",
            ours=f"{statistics.median(plots[LIVE]):.2f} s",
            peer=f"{FIGURES} {statistics.median(plots[FIGURES]):.2f} s",
            reading=f"{ratio:.1f} times as soon",
            ratio=ratio,
        )
    )
    ratio = statistics.median(a / b for a, b in zip(sizes[FIGURES], sizes[LIVE], strict=True))
    results.add(
        Finding(
            what="bytes that travel for a new point of all charts",
            ours=f"{statistics.median(sizes[LIVE]):,.0f} bytes",
            peer=f"{FIGURES} {statistics.median(sizes[FIGURES]):,.0f} bytes",
            reading=f"{ratio:,.0f} times less",
            ratio=ratio,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
