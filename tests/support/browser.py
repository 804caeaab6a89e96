"""A real browser on a page of ours: what it shows, what it asked for, what went wrong.

Not a test and no fixture.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, Playwright

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
# For whatever depends on how busy the machine is; what a promise bounds is measured in the page.
LONG_MS = 60_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Console errors that are not ours and mean nothing, each with its reason.
HARMLESS = (
    # JupyterLab asks for the person's own overrides of a theme, which need not be there.
    "favicon.ico",
)

MISSING = (
    "The browser tests need Chromium and found none ({reason}). Install it with "
    "`apt-get install chromium` on Debian or Ubuntu, or with `python -m playwright install "
    "chromium`; `make test` does it by itself."
)


def launch(playwright: Playwright) -> Browser:
    """Start Chromium: the system's, else Playwright's own download."""
    given = os.environ.get("GGUF_WIDGETS_TEST_BROWSER")
    found = given or next((path for name in _NAMES if (path := shutil.which(name))), None)
    try:
        return playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise AssertionError(MISSING.format(reason=reason)) from error


class Watched:
    """A page, with everything it complained about and every host it asked."""

    def __init__(self, browser: Browser, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", lambda request: self._on_request(request.url))
        self.page.on("websocket", lambda socket: self._on_request(socket.url))

    def _on_console(self, message: Any) -> None:
        if message.type != "error":
            return
        text = f"{message.text} ({message.location.get('url', '')})"
        if not any(harmless in text for harmless in HARMLESS):
            self.complaints.append(text)

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about"):
            self.hosts.add(parts.hostname or "")

    def assert_clean(self) -> None:
        """Fail if the page logged an error, threw one, or asked another host than this machine."""
        assert self.complaints == []
        assert self.hosts <= {"localhost", "127.0.0.1"}

    def gw(self, hook: str, **data: str) -> Locator:
        """Find an element by its data-gw hook and more data attributes."""
        more = "".join(f'[data-{name}="{value}"]' for name, value in data.items())
        return self.page.locator(f'[data-gw="{hook}"]{more}')

    def keep_screenshot(self, path: Path) -> None:
        if self.page.is_closed():  # a test may close one on purpose
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)

    def close(self) -> None:
        self.context.close()


# Notes, in the page itself, how the last answer grows, and how long after a click on Stop its
# status changes. Measured there, so that neither the test's own process nor the wire is counted.
RECORDER = """
(() => {
  if (window.gwRecord) return;
  const record = (window.gwRecord = { clickedAt: null });
  let answers = -1;
  const look = () => {
    const all = document.querySelectorAll('[data-gw="chat-message"][data-role="assistant"]');
    const last = all[all.length - 1];
    if (!last) return;
    // What is noted is about one answer: the newest.
    if (all.length !== answers) Object.assign(record, { lengths: [], statuses: [], endedAt: null });
    answers = all.length;
    const status = last.dataset.status;
    const length = (last.querySelector(".gw-body") ?? last).textContent.length;
    if (record.lengths.at(-1) !== length) record.lengths.push(length);
    if (record.statuses.at(-1) !== status) record.statuses.push(status);
    if (record.clickedAt !== null && record.endedAt === null && status !== "streaming") {
      record.endedAt = performance.now();
    }
  };
  new MutationObserver(look).observe(document.documentElement, {
    subtree: true, childList: true, characterData: true,
    attributes: true, attributeFilter: ["data-status"],
  });
  addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest('[data-gw="chat-stop"]')) {
      record.clickedAt = performance.now();
    }
  }, true);
})();
"""


def watch_answers(page: Page) -> Callable[[], dict[str, Any]]:
    """Begin to note how answers grow; return a function that gives the notes so far."""
    page.evaluate(RECORDER)
    page.evaluate(
        "Object.assign(gwRecord, {lengths: [], statuses: [], clickedAt: null, endedAt: null})"
    )
    return lambda: page.evaluate("window.gwRecord")


class Chat:
    """The chat on a watched page, as a person uses it."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.page = watched.page
        self.input = watched.gw("chat-input")
        self.stop = watched.gw("chat-stop")

    def wait_until_shown(self) -> None:
        """Wait until the box shows what there is: messages, or that there are none yet."""
        shown = '[data-gw="chat-message"]:visible, [data-gw="chat-empty"]:visible'
        self.page.locator(shown).first.wait_for(timeout=LONG_MS)

    def load_demo(self) -> None:
        """Load the bundled model in the picker and wait until it is there."""
        row = self.watched.gw("picker-row", name="demo")
        row.locator('[data-gw="picker-load"]').click(timeout=LONG_MS)
        # On a narrow page the panel folds away as soon as the model is there.
        row.locator('[data-gw="picker-unload"]').wait_for(timeout=LONG_MS, state="attached")

    def ask(self, text: str) -> Locator:
        """Send a message and return its answer's element."""
        number = self.answers().count()
        self.input.fill(text)
        # The chat hears of a model a moment after the list does; Enter before that sends nothing.
        self.page.locator('[data-gw="chat-send"]:enabled').wait_for(timeout=LONG_MS)
        self.input.press("Enter")
        answer = self.answers().nth(number)
        answer.wait_for(timeout=LONG_MS)
        return answer

    def answers(self) -> Locator:
        return self.watched.gw("chat-message", role="assistant")

    def questions(self) -> list[str]:
        bodies = self.watched.gw("chat-message", role="user").locator(".gw-body")
        return bodies.all_text_contents()

    def wait_for_status(self, answer: Locator, *statuses: str) -> str:
        """Wait until an answer has one of these statuses; return which."""
        wanted = ", ".join(f'[data-status="{status}"]' for status in statuses)
        answer.and_(self.page.locator(wanted)).wait_for(timeout=LONG_MS)
        return answer.get_attribute("data-status") or ""

    def stop_while_it_writes(self, ask: Callable[[], object]) -> tuple[float, dict[str, Any]]:
        """Have an answer written, press Stop, and see how long it took to end.

        Returns
        -------
        float
            Seconds from the click to the change of the answer's status, measured in the page.
        dict
            What was noted of the answer: ``lengths``, ``statuses``.
        """
        notes = watch_answers(self.page)
        ask()
        self.page.wait_for_function("gwRecord.lengths.length >= 6", timeout=LONG_MS)
        self.stop.click()
        self.page.wait_for_function("gwRecord.endedAt !== null", timeout=LONG_MS)
        record = notes()
        return float(record["endedAt"] - record["clickedAt"]) / 1000, record

    def assert_stop_is_prompt(self, ask: Callable[[], object]) -> dict[str, Any]:
        """Assert that Stop ends an answer within a second; return the notes of the last answer.

        The second is one of this machine's own: where other programs take half of its processors,
        it may last two. Three tries, because they come and go.
        """
        slow: list[str] = []
        while True:
            took_s, record = self.stop_while_it_writes(ask)
            share = busy_factor()
            if took_s < 1.0 * share:
                return record
            slow.append(f"{took_s:.2f} s at a factor of {share:.1f}")
            assert len(slow) < 3, f"Stop took {', '.join(slow)}"


def busy_factor() -> float:
    """Return how much longer work takes now than on a machine that does nothing else; 1 is none."""
    wall, cpu = time.perf_counter(), time.process_time()
    while time.process_time() - cpu < 0.2:
        sum(range(1000))
    return max(1.0, (time.perf_counter() - wall) / (time.process_time() - cpu))


def growing(lengths: list[int]) -> int:
    """Return how many different lengths the text had, each greater than the one before."""
    steps, last = 0, 0
    for length in lengths:
        if length > last:
            steps, last = steps + 1, length
    return steps
