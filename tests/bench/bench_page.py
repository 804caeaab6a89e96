"""How soon a page is ready, and how soon an answer's first text is painted in a real browser.

    python tests/bench/bench_page.py [--rounds 20] [--quick]

Ready: from the address to what can be used, for the dashboard (its list of models) and for a page
with a `ChatBox` alone, beside an empty Voila page (a heading made with ipywidgets); each is opened
in turn. First text: from Enter in the chat to the frame with the answer's first words, less the
engine's own time to first token, which is noted with each answer. The demo model answers, so that
little of it is computing.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, sync_playwright

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from bench.harness import options, read_options  # noqa: E402 - the path comes first
from bench.results import Finding, Results  # noqa: E402
from support.browser import LONG_MS, Chat, Watched, launch  # noqa: E402
from support.servers import Home, Server, dashboard  # noqa: E402

GOAL_READY, GOAL_MS = 1.5, 60.0
EMPTY, CHAT, DASHBOARD = "an empty Voila page", "a chat alone", "the dashboard"
SERVE = (
    "import sys; from pathlib import Path;"
    "from gguf_widgets.dashboard.app import DashboardOptions, serve;"
    "serve(DashboardOptions(notebook=Path(sys.argv[1]), open_browser=False, port=0))"
)
CELLS = {
    EMPTY: "import ipywidgets\n\nipywidgets.HTML('<h1 data-gw=\"empty\">Hello</h1>')",
    CHAT: (
        "import gguf_widgets as gw\n\n"
        "gw.ChatBox(gw.load('demo', n_threads=1), temperature=0, max_tokens=12)"
    ),
}
READY = {
    EMPTY: '[data-gw="empty"]',
    CHAT: '[data-gw="chat-empty"]:visible',
    DASHBOARD: '[data-gw="picker-row"]:visible',
}

# When Enter was pressed, and when the frame with the first words of answer number `wanted` had been
# painted: a frame is looked at before it is painted; the message comes after it is.
WATCH = """() => {
  const notes = (window.gwNotes = {});
  const after = new MessageChannel();
  after.port1.onmessage = () => { notes.painted = performance.now(); };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter") notes.pressed = performance.now();
  }, true);
  new MutationObserver(() => {
    if (!notes.pressed || notes.seen) return;
    const answers = document.querySelectorAll('[data-gw="chat-message"][data-role="assistant"]');
    const body = answers[notes.wanted]?.querySelector(".gw-body");
    if (!body?.textContent.trim()) return;
    notes.seen = true;
    requestAnimationFrame(() => after.port2.postMessage(0));
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""
BEGIN = "(wanted) => Object.assign(gwNotes, { wanted, pressed: 0, painted: 0, seen: false })"


@contextlib.contextmanager
def servers(home: Home) -> Iterator[dict[str, str]]:
    """Serve the pages; give their addresses."""
    with contextlib.ExitStack() as stack:
        urls = {}
        for number, (name, code) in enumerate(CELLS.items()):
            path = home.folder / f"{number}.ipynb"
            cell = nbformat.v4.new_code_cell(code)
            nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
            served = Server(home, ["-c", SERVE, str(path)], "Open http")
            urls[name] = stack.enter_context(served).url
        urls[DASHBOARD] = stack.enter_context(dashboard(home)).url
        yield urls


def open_page(browser: Browser, name: str, url: str) -> tuple[Watched, float]:
    """Open a page; return it, and the seconds until it could be used."""
    watched = Watched(browser, viewport={"width": 1280, "height": 800})
    start = time.perf_counter()
    watched.page.goto(url, wait_until="commit")
    watched.page.locator(READY[name]).first.wait_for(timeout=LONG_MS)
    return watched, time.perf_counter() - start


def time_ready(browser: Browser, urls: dict[str, str], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(-1, rounds):
        for name, url in urls.items():
            watched, seconds = open_page(browser, name, url)
            watched.close()
            if number >= 0:  # the first is not measured: files come from the disk then
                taken[name].append(seconds)
    return taken


def time_first_text(browser: Browser, home: Home, url: str, rounds: int) -> list[float]:
    """Return milliseconds from Enter to painted text, less the engine's own."""
    import gguf_widgets as gw

    watched, _ = open_page(browser, CHAT, url)
    chat, page, clocks = Chat(watched), watched.page, []
    page.evaluate(WATCH)
    for number in range(rounds):
        chat.input.fill(f"Hello {number}, where is Emma?")
        page.locator('[data-gw="chat-send"]:enabled').wait_for(timeout=LONG_MS)
        time.sleep(0.3)  # a person has read it over: what is asked while one types is answered
        page.evaluate(BEGIN, number)
        chat.input.press("Enter")
        page.wait_for_function("gwNotes.painted > 0", timeout=LONG_MS)
        clocks.append(float(page.evaluate("gwNotes.painted - gwNotes.pressed")))
        chat.wait_for_status(chat.answers().nth(number), "complete")
    watched.close()
    os.environ["GGUF_WIDGETS_HOME"] = str(home.data)
    kept = gw.ChatInterface()
    kept.open_latest()
    timings = [one.timings for one in kept.messages if one.role == "assistant"]
    kept.close()
    own = [one.ttft_s * 1e3 for one in timings if one is not None and one.ttft_s is not None]
    return [clock - ttft for clock, ttft in zip(clocks, own, strict=True)]


def main() -> int:
    chosen = read_options(options(__doc__, rounds=20))
    if chosen.tiny or chosen.quick:
        chosen.rounds = min(chosen.rounds, 2 if chosen.tiny else 6)
    num_opened = 1 if chosen.tiny else max(3, chosen.rounds // 3)
    conditions = f"the demo model in Chromium, {chosen.rounds} messages, {num_opened} openings each"
    results = Results("page", chosen, conditions)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        try:
            with servers(home) as urls, sync_playwright() as playwright:
                browser = launch(playwright)
                ready = time_ready(browser, urls, num_opened)
                first = time_first_text(browser, home, urls[CHAT], chosen.rounds)
                browser.close()
        finally:
            home.close()

    for name, seconds in ready.items():
        print(f"{name:24} ready in {statistics.median(seconds):5.2f} s")
    empty = statistics.median(ready[EMPTY])
    for name, goal in ((DASHBOARD, GOAL_READY), (CHAT, None)):
        ratio = statistics.median(a / b for a, b in zip(ready[name], ready[EMPTY], strict=True))
        results.add(
            Finding(
                what=f"{name} is ready",
                ours=f"{statistics.median(ready[name]):.2f} s",
                peer=f"{EMPTY} {empty:.2f} s",
                reading=f"{ratio:.2f} times as long",
                ratio=ratio,
                goal=goal,
                less_is_better=True,
            )
        )
    median = statistics.median(first)
    print(f"first text: {', '.join(f'{one:.0f}' for one in first)} ms")
    results.add(
        Finding(
            what="from Send to the first text painted, beyond the engine's own time",
            ours=f"{median:.0f} ms",
            reading=f"{median:.0f} ms",
            ratio=median,
            goal=GOAL_MS,
            less_is_better=True,
        )
    )
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
