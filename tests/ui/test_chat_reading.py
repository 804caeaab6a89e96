"""Reading answers in a real browser: long ones stay smooth, hostile ones stay inert.

About 60 s for the long answer (40 s of it are 8,000 tokens at 200 tokens/s) and 30 s for each page
of hostile outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import pytest
from playwright.sync_api import Page, expect
from support.browser import LONG_MS, Chat, Watched
from support.lab_page import run_cell
from support.servers import REPOSITORY, Home, Server, lab, voila

OpenPage = Callable[..., Watched]

ARTIFACTS = Path(__file__).parent / "artifacts"
NUM_TOKENS = 8_000
ADDRESS = "http://127.0.0.1:9/a/long/way?to=it"


def long_answer() -> str:
    """Return an answer of 8,000 bytes, which are the scripted backend's tokens.

    Every line has a number of its own, so that one that is lost is found.
    """
    numbers = iter(range(10_000))

    def lines(form: str, count: int) -> str:
        return "".join(form.format(f"n{next(numbers):04}") + "\n" for _ in range(count))

    parts = [
        "<think>\n" + lines("A thought {} about it.", 40) + "</think>\n",
        f"# The answer\n\nSee [a place]({ADDRESS}) and [another](ftp://x.example/f).\n\n",
        lines("Some *words* {} and **more**, $x_1^2$ too.\n", 20),
        lines("- item {} of a list", 40),
        "\n$$\n\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}\n$$\n\n",
        "```python\n" + lines("print('{}', 1 + 2)  # code", 90) + "```\n\n",
        "| one | two |\n|---|---|\n" + lines("| {} | *x* |", 40) + "\n",
    ]
    text = "".join(parts)
    while len(text) < NUM_TOKENS - 40:
        text += lines("And {} at the end.\n", 1)
    return text.ljust(NUM_TOKENS - 4, ".") + "end."


LONG = long_answer()
# The demo mode's worker is a process of its own; this gives it the long answer as its only one.
SITE = """
from gguf_widgets.core.engine import demo_replies

ANSWER = {text!r}
demo_replies.answer = lambda text: ANSWER
"""
SHOW_LONG = """
import gguf_widgets as gw

model = gw.load("demo", n_ctx=10240)
box = gw.ChatBox(model, height=640)
box.chat.open_latest()  # after a reload of the page
box
"""

# Notes in the page: when frames came, and which nodes were made while the answer was written.
NOTES = """
(() => {
  const notes = (window.gwNotes = { frames: [], made: 0, batches: 0 });
  let last = performance.now();
  const frame = (now) => {
    notes.frames.push(now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  new MutationObserver((list) => {
    let made = 0;
    for (const { target, addedNodes } of list) {
      if (!(target instanceof Element) || !target.closest(".gw-body")) continue;
      for (const node of addedNodes) if (node instanceof Element) made += 1;
    }
    notes.made += made;
    notes.batches += made > 0;
  }).observe(document.body, { subtree: true, childList: true });
})();
"""


@pytest.fixture(scope="module")
def long_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("long")
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(text=LONG), "utf-8")
    home = Home(
        folder / "person",
        GGUF_WIDGETS_BACKEND="scripted",
        GGUF_WIDGETS_DEMO_PACE="200",
        PYTHONPATH=f"{site}:{REPOSITORY}",
    )
    path = home.folder / "long.ipynb"
    cells = [nbformat.v4.new_code_cell(SHOW_LONG)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with voila(home, path) as server:
        yield server
    home.close()


def numbers_in(text: str) -> list[str]:
    return re.findall(r"n\d{4}", text)


def heap_bytes(page: Page, client: Any) -> int:
    """Return the page's memory after a collection."""
    client.send("HeapProfiler.collectGarbage")
    return int(client.send("Runtime.getHeapUsage")["usedSize"])


def test_a_long_answer_streams_smoothly_and_is_read_while_it_comes(
    long_site: Server, open_page: OpenPage
) -> None:
    watched = open_page(long_site.url)
    page, chat = watched.page, Chat(watched)
    chat.input.wait_for(timeout=LONG_MS)
    client = page.context.new_cdp_session(page)
    page.evaluate(NOTES)
    answer = chat.ask("Go on")

    # Thinking: folded, and as the person leaves it while more comes.
    fold = watched.gw("chat-thinking")
    expect(fold).to_contain_text("Thinking…")
    thoughts = answer.locator(".gw-thoughts")
    expect(thoughts).to_be_hidden()
    fold.focus()
    page.keyboard.press("Enter")
    expect(thoughts).to_contain_text("n0005")
    expect(fold).to_contain_text(re.compile(r"\d s"))
    expect(fold).to_contain_text(re.compile(r"Thought for \d+ s"))
    expect(thoughts).to_be_visible()
    expect(answer.locator(".gw-body")).to_contain_text("n0045")
    before = heap_bytes(page, client)

    # Reading further up: the list stays where it is, and the way back is offered.
    scroller = page.locator(".gw-scroll")
    expect(answer.locator(".gw-body")).to_contain_text("n0070")
    page.wait_for_function(
        "() => { const s = document.querySelector('.gw-scroll');"
        " return s.scrollHeight - s.scrollTop - s.clientHeight < 48; }"
    )
    scroller.hover()
    page.mouse.wheel(0, -400)
    expect(page.locator(".gw-jump")).to_be_visible()
    top = scroller.evaluate("(element) => element.scrollTop")
    chat.input.fill("typed meanwhile")
    expect(answer.locator(".gw-body")).to_contain_text("n0110")
    assert scroller.evaluate("(element) => element.scrollTop") == top
    expect(chat.input).to_have_value("typed meanwhile")
    page.locator(".gw-jump").click()

    chat.wait_for_status(answer, "complete")
    body = answer.locator(".gw-body")
    after = heap_bytes(page, client)
    notes = page.evaluate("gwNotes")
    text = body.evaluate("(element) => element.textContent")
    assert numbers_in(text) == numbers_in(LONG)
    assert text.rstrip().endswith("end.")
    expect(thoughts).to_be_visible()
    # One code block and one table, though they came in parts; the formulas are drawn.
    assert (body.locator(".gw-code pre").count(), body.locator("table").count()) == (1, 1)
    assert numbers_in(body.locator(".gw-code pre").inner_text())[0] == "n0100"
    assert body.locator("math").count() == 21
    # Only what changed was drawn: a few nodes with each update, however long the answer was.
    assert notes["made"] < 6 * notes["batches"]
    assert after - before < 8_000_000, (before, after)

    frames = sorted(notes["frames"])
    ARTIFACTS.mkdir(exist_ok=True)
    record = {
        "tokens": NUM_TOKENS,
        "frames": len(frames),
        "frame_ms_median": frames[len(frames) // 2],
        "frame_ms_95": frames[int(len(frames) * 0.95)],
        "frame_ms_99": frames[int(len(frames) * 0.99)],
        "frame_ms_longest": frames[-1],
        "frames_over_50_ms": sum(frame > 50 for frame in frames),
        "nodes_made": notes["made"],
        "updates": notes["batches"],
        "heap_bytes_early": before,
        "heap_bytes_end": after,
    }
    (ARTIFACTS / "chat-long-answer.json").write_text(json.dumps(record, indent=1), "utf-8")

    check_links(watched, chat)

    # The same from the store, drawn in one go.
    page.reload(wait_until="commit")
    again = chat.answers().first
    again.wait_for(timeout=LONG_MS)
    expect(watched.gw("chat-thinking")).to_contain_text("Thought")
    expect(again.locator(".gw-thoughts")).to_be_hidden()
    assert again.locator(".gw-body").evaluate("(e) => [...e.querySelectorAll('.gw-block')].length")
    assert numbers_in(again.evaluate("(element) => element.textContent")) == numbers_in(LONG)
    watched.assert_clean()


def check_links(watched: Watched, chat: Chat) -> None:
    """A link leads nowhere before the person was asked, and some never."""
    page, ask = watched.page, watched.gw("chat-link-ask")
    link, odd = (chat.answers().first.locator(".gw-body .gw-link").nth(n) for n in (0, 1))
    opened: list[str] = []
    page.context.on("page", lambda page: opened.append(page.url))
    link.focus()
    page.keyboard.press("Enter")
    expect(ask).to_contain_text(ADDRESS)
    page.keyboard.press("Escape")
    expect(ask).to_have_count(0)
    expect(link).to_be_focused()
    odd.click()
    expect(ask).to_contain_text("ftp://x.example/f")
    expect(watched.gw("chat-link-open")).to_have_count(0)
    page.keyboard.press("Escape")
    assert opened == []
    link.click()
    with page.context.expect_page() as new:
        watched.gw("chat-link-open").click()
    assert new.value.evaluate("window.opener") is None
    new.value.close()
    expect(ask).to_have_count(0)


# Each message holds many outputs; those that would swallow what follows have one of their own.
SHOW_HOSTILE = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from support.chat_fakes import FakeModel
from support.hostile_outputs import OUTPUTS, SLOW_OUTPUTS
import gguf_widgets as gw

alone = [text for text in OUTPUTS if any(mark in text.lower() for mark in ("```", "~~~", "think"))]
others = [text for text in OUTPUTS if text not in alone]
texts = ["\\n\\n".join(others[at : at + 25]) for at in range(0, len(others), 25)] + alone
texts += [SLOW_OUTPUTS[name] for name in ("100,000 nested quotes", "one line of 1 MB", "formulas")]

def in_pieces(text):
    size = max(200, len(text) // 8)
    return [text[at : at + size] for at in range(0, len(text), size)]

box = gw.ChatBox(FakeModel(*map(in_pieces, texts)), height=640)

def go_on():
    while not box.chat.messages or box.chat.busy:
        time.sleep(0.1)
    for number in range(1, len(texts)):
        box.chat.send(f"{{number}} of {{len(texts)}}")
    box.chat.model.script.append(["All were written."])
    box.chat.send("The end")

threading.Thread(target=go_on, daemon=True).start()
box
"""
WATCH = """
(() => {
  window.alert = window.confirm = window.prompt = window.print = () => { window.__pwned = 9; };
})()
"""


def hostile_notebook(folder: Path) -> Path:
    code = SHOW_HOSTILE.format(tests=str(REPOSITORY / "tests"))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(code.strip())]
    path = folder / "hostile.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def assert_nothing_happens(watched: Watched, chat: Chat) -> None:
    page = watched.page
    asked: list[str] = []
    happened: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.resource_type} {request.url}"))
    page.on(
        "dialog", lambda dialog: (happened.append(f"dialog {dialog.message}"), dialog.dismiss())
    )
    page.on("download", lambda download: happened.append(f"download {download.url}"))
    page.on("framenavigated", lambda frame: happened.append(f"navigated to {frame.url}"))
    page.on("frameattached", lambda frame: happened.append(f"frame {frame.url}"))
    page.context.on("page", lambda page: happened.append(f"window {page.url}"))
    page.evaluate(WATCH)
    chat.ask("Go on")
    last = chat.answers().last
    expect(last.locator(".gw-body")).to_have_text("All were written.", timeout=3 * LONG_MS)
    chat.wait_for_status(last, "complete")
    assert chat.answers().count() > 60

    bodies = page.locator(".gw-body")
    # What a person, or a style that animates, could set off.
    tags = bodies.evaluate_all(
        """(bodies) => {
          const tags = new Set(), names = new Set();
          for (const body of bodies) for (const element of body.querySelectorAll("*")) {
            if (element.closest(".gw-code-head, summary")) continue; // the page's own
            tags.add(element.localName);
            for (const name of element.getAttributeNames()) names.add(name);
            for (const kind of ["mouseover", "focus", "toggle", "load", "error"]) {
              element.dispatchEvent(new Event(kind));
            }
          }
          return { tags: [...tags], names: [...names] };
        }"""
    )
    for tag in ("script", "style", "iframe", "object", "embed", "link", "meta", "base", "form"):
        assert tag not in tags["tags"]
    for tag in ("input", "img", "svg", "a", "template", "video", "annotation-xml", "maction"):
        assert tag not in tags["tags"]
    assert not [name for name in tags["names"] if name.startswith("on")]
    for name in ("href", "src", "srcdoc", "style", "id", "name", "action", "xlink:href"):
        assert name not in tags["names"]
    # The page still does what it did, and knows nothing of what was written.
    chat.input.fill("still here")
    expect(chat.input).to_have_value("still here")
    assert page.evaluate("window.__pwned") is None
    assert (
        page.evaluate("document.querySelector('#document, #body, [name=getElementById]')") is None
    )
    assert happened == []
    kinds = ("image", "media", "font", "stylesheet", "script", "document", "manifest", "ping")
    for line in asked:
        kind, url = line.split(" ", 1)
        parts = urlsplit(url)
        assert parts.hostname in ("localhost", "127.0.0.1"), line
        assert kind not in kinds or "/static/" in parts.path, line
    watched.assert_clean()


def test_nothing_that_a_model_writes_happens_in_voila(tmp_path: Path, open_page: OpenPage) -> None:
    home = Home(tmp_path / "person")
    path = hostile_notebook(home.folder)
    try:
        with voila(home, path) as server:
            watched = open_page(server.url)
            chat = Chat(watched)
            chat.input.wait_for(timeout=LONG_MS)
            assert_nothing_happens(watched, chat)
    finally:
        home.close()


def test_nothing_that_a_model_writes_happens_in_jupyterlab(
    tmp_path: Path, open_page: OpenPage
) -> None:
    home = Home(tmp_path / "person")
    folder = home.folder / "notebooks"
    folder.mkdir()
    hostile_notebook(folder)
    try:
        with lab(home, folder) as server:
            watched = open_page(server.url.split("/lab")[0] + "/lab/tree/hostile.ipynb")
            run_cell(watched, 0)
            chat = Chat(watched)
            chat.input.wait_for(timeout=LONG_MS)
            assert_nothing_happens(watched, chat)
    finally:
        home.close()
