"""Looking through a run of 100,000 rows in a page, beside one of 100 rows.

    python tests/bench/bench_table.py [--rows 100000] [--times 20] [--quick]

`BatchTable` in a Voila page in Chromium shows a finished run. Each thing that a person does with
the rows is done 20 times: scroll anywhere, filter by status and by value, search, sort. The clock
is the page's own: from the click, the key or the scroll until the rows that are right, and no
others, have been painted. What is right is worked out beside it from the store. What the kernel
computes for each of them is told as well; with `--busy` it is judged in place of the clock, which
on such a machine is mostly other programs' time. The page's memory is that of its JavaScript after
a collection, before and after all that.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from playwright.sync_api import Browser, expect, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402
from bench.table_run import FREQUENT, RARE, fill  # noqa: E402
from support.browser import LONG_MS, Watched, launch  # noqa: E402
from support.servers import Home, Server  # noqa: E402

from gguf_widgets.core.store.batch_window import BatchWindow, WindowQuery  # noqa: E402
from gguf_widgets.core.store.store import Store  # noqa: E402

FEW = 100
MOST_MS = 100
ROW_PX = 32
PAUSE_MS = 100  # nobody is quicker at the next thing
SERVE = (
    "import sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0))"
)
# A frame is looked at before it is painted; the message comes after it is.
MEASURE = """
([kind, argument, total, first]) => new Promise((resolve, reject) => {
  const grid = document.querySelector('[data-gw="batch-grid"]');
  const isShown = () => {
    const rows = [...grid.querySelectorAll('[data-gw="batch-row"]')];
    if (grid.getAttribute("aria-rowcount") !== String(total + 1)) return false;
    if (total === 0) return rows.length === 0;
    return rows[0]?.dataset.number === String(first) && rows.every((row) => row.dataset.number);
  };
  if (isShown()) return resolve(-1);
  const one = (selector) => document.querySelector(selector) ?? reject(new Error(`no ${selector}`));
  const acts = {
    scroll: () => { grid.scrollTop = argument; },
    click: () => one(argument).click(),
    search: () => {
      const field = one('[data-gw="batch-search"]');
      field.value = argument;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    },
  };
  const channel = new MessageChannel();
  const start = performance.now();
  channel.port1.onmessage = () => resolve(performance.now() - start);
  acts[kind]();
  const look = () => {
    if (isShown()) channel.port2.postMessage(null);
    else if (performance.now() - start > 20000) reject(new Error(`never: ${kind} ${argument}`));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})
"""


class Act(NamedTuple):
    """One thing to do, and the query that it leaves."""

    kind: str
    argument: Any
    query: WindowQuery


class Looking:
    """A page with a run, and the same run beside it."""

    def __init__(self, browser: Browser, url: str, store: Store, run_id: str, home: Home) -> None:
        self._url = url
        others = home.kernels()
        self._window = BatchWindow(store, run_id)
        self._watched = Watched(browser, viewport={"width": 1280, "height": 900})
        self.page = self._watched.page
        self._devtools = self._watched.context.new_cdp_session(self.page)
        self.open()
        (self._kernel,) = (kernel for kernel in home.kernels() if kernel not in others)

    def open(self) -> None:
        """Open the page, also once more, until rows are seen."""
        self.page.goto(self._url, wait_until="commit")
        expect(self._watched.gw("batch-row").first).to_have_attribute(
            "data-number", "0", timeout=LONG_MS
        )

    def do(self, act: Act) -> float | None:
        """Do something; return the milliseconds until it was painted, None if it was before."""
        found = self._window.select(act.query)
        at = act.argument // ROW_PX if act.kind == "scroll" else 0
        first = int(found.numbers[at]) if found.num_rows else -1
        self.page.wait_for_timeout(PAUSE_MS)
        took = self.page.evaluate(MEASURE, [act.kind, act.argument, found.num_rows, first])
        return None if took < 0 else float(took)

    def kernel_s(self) -> float:
        """Return the processors' time that the kernel has used, in seconds."""
        times = self._kernel.cpu_times()
        return float(times.user + times.system)

    def num_rows(self) -> int:
        """Return how many rows there are."""
        return self._window.select().num_rows

    def memory_mb(self) -> float:
        """Return the memory of the page's JavaScript after a collection."""
        for _ in range(2):
            self._devtools.send("HeapProfiler.collectGarbage")
        return float(self._devtools.send("Runtime.getHeapUsage")["usedSize"]) / 1e6

    def close(self) -> None:
        """Close the page."""
        self._watched.close()


@contextlib.contextmanager
def both(folder: Path, num_rows: int, num_few: int) -> Iterator[tuple[Looking, Looking]]:
    """Open a page for the many rows, and one for the few."""
    home = Home(folder / "home")
    with contextlib.ExitStack() as stack:
        stack.callback(home.close)
        store = stack.enter_context(Store(home.data / "store.sqlite3"))
        browser = launch(stack.enter_context(sync_playwright()))
        stack.callback(browser.close)
        opened = []
        for number in (num_rows, num_few):
            run_id = fill(store, number)
            path = folder / f"{number}.ipynb"
            cell = nbformat.v4.new_code_cell(
                f"import gguf_widgets as gw\n\ngw.BatchTable(run={run_id!r})"
            )
            kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
            notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernel})
            nbformat.write(notebook, path)
            server = stack.enter_context(Server(home, ["-c", SERVE, str(path)], "Open http"))
            opened.append(Looking(browser, server.url, store, run_id, home))
            stack.callback(opened[-1].close)
        yield opened[0], opened[1]


def sort_by(column: str) -> str:
    """Return where to click to sort."""
    return f'[data-gw="batch-sort"][data-id="{column}"]'


def programme(num_rows: int, times: int) -> dict[str, list[Act]]:
    """Return what is done, by name; no query comes twice where it can be another one."""
    rng = random.Random(num_rows)  # noqa: S311 - it keeps no secret
    plain = WindowQuery()
    acts: dict[str, list[Act]] = {}
    last = max(1, num_rows - 40) * ROW_PX
    acts["scroll anywhere"] = [
        Act("scroll", rng.randrange(last) // ROW_PX * ROW_PX, plain) for _ in range(times)
    ]
    acts["back to the top"] = [Act("scroll", 0, plain)]
    statuses = ["done", "failed", ""]
    acts["filter by status"] = [
        Act("click", f'[data-gw="batch-tab"][data-value="{one}"]', WindowQuery(status=one or None))  # type: ignore[arg-type]
        for one in (statuses * times)[: times // 3 * 3 or 3]
    ]
    values = []
    for i in range(times // 2 or 1):
        name = ["good", "bad", "mixed"][i % 3]
        click = f'[data-gw="batch-label"][data-name="{name}"]'
        values += [
            Act("click", click, WindowQuery(where={"reply": name})),
            Act("click", click, plain),
        ]
    acts["filter by value"] = values
    several = [" ".join(rng.sample(FREQUENT, 3)) for _ in range(times)]
    for name, words in (
        ("search a rare word", RARE[:times]),
        ("search a frequent word", FREQUENT[:times]),
        ("search several words", several),
    ):
        acts[name] = [Act("search", one, WindowQuery(words=one)) for one in words]
    acts["an empty search"] = [Act("search", "", plain)]
    for name, columns in (
        ("sort by a text", ["review", "who"]),
        ("sort by a number", ["price", "stars"]),
    ):
        acts[name] = []
        for i in range(times):
            column, descending = columns[i // 2 % 2], i % 2 == 1
            query = WindowQuery(sort=column, descending=descending)
            acts[name].append(Act("click", sort_by(column), query))
    acts["the table's order"] = [Act("click", sort_by("row"), plain)]
    acts["least certain first"] = [
        Act("click", '[data-gw="batch-unsure"]', plain if i % 2 else WindowQuery(sort="certainty"))
        for i in range(times // 2 * 2)
    ]
    return acts


class Taken(NamedTuple):
    """The milliseconds that each of some acts took, and what the kernel computed for one."""

    clock: list[float]
    kernel: float

    def __str__(self) -> str:
        middle, worst = statistics.median(self.clock), max(self.clock)
        return f"{middle:.0f} ms, worst {worst:.0f} ms (kernel: {self.kernel:.0f} ms)"


def measured(looking: Looking, times: int) -> dict[str, Taken]:
    """Do it all; return what it took by name."""
    taken = {}
    for name, acts in programme(looking.num_rows(), times).items():
        before = looking.kernel_s()
        clock = [took for act in acts if (took := looking.do(act)) is not None]
        if len(clock) > 1:
            looking.page.wait_for_timeout(PAUSE_MS)  # what comes after an answer
            kernel = (looking.kernel_s() - before) * 1000 / len(clock)
            taken[name] = Taken(clock, kernel)
    return taken


def main() -> int:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the larger run")
    parser.add_argument("--times", type=int, default=20, help="how often each thing is done")
    chosen: argparse.Namespace = read_options(parser)
    num_few = FEW
    if chosen.quick:
        chosen.times = min(chosen.times, 6)
    if chosen.tiny:
        chosen.rows, chosen.times, num_few = 300, 4, 80
    conditions = f"{chosen.rows:,} rows beside {num_few:,}, each {chosen.times} times, in Chromium"
    results = Results("table", chosen, conditions)
    with (
        tempfile.TemporaryDirectory() as temporary,
        both(Path(temporary), chosen.rows, num_few) as (many, few),
    ):
        # Right after the page is open, before anything could be made ready.
        first = many.do(Act("click", sort_by("review"), WindowQuery(sort="review")))
        many.do(Act("click", sort_by("row"), WindowQuery()))
        looked = []
        for looking in (many, few):
            measured(looking, 2)  # what is made when it is first needed
            before = looking.memory_mb()
            taken = measured(looking, chosen.times)
            looked.append((taken, before, looking.memory_mb()))
    (taken, before, after), (others, few_before, few_after) = looked
    for name, times in taken.items():
        other = others[name]
        ratio = statistics.median(times.clock) / statistics.median(other.clock)
        results.add(
            Finding(
                what=name,
                ours=str(times),
                peer=f"{num_few:,} rows: {other}",
                reading=f"{times}; {ratio:.2f} times as long as with {num_few:,} rows",
                ratio=round(times.kernel if chosen.busy else max(times.clock), 1),
                goal=MOST_MS,
                less_is_better=True,
            )
        )
    results.add(
        Finding(
            what="the first sort, right after the page has opened",
            ours=f"{first or 0:.0f} ms",
            reading=f"{first or 0:.0f} ms",
        )
    )
    results.add(
        Finding(
            what="memory of the page's JavaScript, before and after all this",
            ours=f"{before:.1f} and {after:.1f} MB",
            peer=f"{num_few:,} rows: {few_before:.1f} and {few_after:.1f} MB",
            reading=f"it grew by {after - before:.1f} MB; {after / few_after:.2f} times that of "
            f"{num_few:,} rows",
            ratio=after / few_after,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
