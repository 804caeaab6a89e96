"""The chat for whoever reads from right to left, in the dark, or without motion; and what stops.

Copying, directions, motion, contrast in the dark, and Stop while the model looks at an image or a
program is asked about a tool. In Voila, with answers that this test writes. About 20 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.axe import serious_faults
from support.browser import Chat, Watched
from support.screen_check import faults_of
from support.servers import Home, Server, voila
from support.tiny_projector import picture

OpenPage = Callable[..., Watched]

CODE = "def add(a, b):\n    return a + b  # <sum>"
HEBREW = "שלום, מה שלומך היום?"
ANSWER = f"Hello there.\n\n{HEBREW}\n\n```python\n{CODE}\n```\n"

BOX = f"""
import json, sys, threading, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import ipywidgets
from support.chat_fakes import FakeModel
from support.tool_fakes import WritingModel
import gguf_widgets as gw
from gguf_widgets.core.types import ImageProgress

class Seeing(FakeModel):
    sees_images = True

    def stream(self, messages, begin_with=None, **sampling):
        stream = super().stream(messages, begin_with, **sampling)
        asked = messages[-1]
        stream.image_progress = None
        if "parts" in asked:  # it never comes to the end of looking
            stream.image_progress = ImageProgress(
                request_id="r", number=1, num_images=2, fraction=0.42
            )
        elif "slowly" in asked["content"]:
            stream.say("It comes")
        else:
            stream.say({ANSWER!r}, None)
        return stream

class Blind(Seeing):
    sees_images = False
    name = "blind"

def weather(city: str) -> str:
    "Say how the weather is."
    return "sun"

call = json.dumps({{"name": "weather", "arguments": {{"city": "Bern"}}}})
asking = gw.ChatInterface(
    WritingModel("<tool_call>\\n" + call + "\\n</tool_call>"),
    tools=[weather],
    approve=lambda call: threading.Event().wait(),
)
box = gw.ChatBox(Seeing(), height=640)
change = ipywidgets.Button(description="Change the model")
change.on_click(lambda _: setattr(box, "model", Blind()))
ipywidgets.VBox([change, box, gw.ChatBox(chat=asking, height=480)])
"""

MOVING = """
() => document.getAnimations()
  .filter((one) => one.playState === "running" && one.effect?.target?.closest(".gw-chat"))
  .map((one) => one.effect.target.className)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("everyone"))
    path = home.folder / "everyone.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BOX)]), path)
    with voila(home, path, "dark") as server:
        yield server
    home.close()


class First(Chat):
    """The first of the page's two chats."""

    def __init__(self, watched: Watched, number: int = 0) -> None:
        super().__init__(watched)
        self.root = watched.page.locator(".gw-chat").nth(number)
        self.input = self.part("chat-input")
        self.stop = self.part("chat-stop")

    def part(self, hook: str) -> Locator:
        return self.root.locator(f'[data-gw="{hook}"]')

    def answers(self) -> Locator:
        return self.root.locator('[data-gw="chat-message"][data-role="assistant"]')

    def ask(self, text: str) -> Locator:
        number = self.answers().count()
        self.input.fill(text)
        self.root.locator('[data-gw="chat-send"]:enabled').wait_for()
        self.input.press("Enter")
        answer = self.answers().nth(number)
        answer.wait_for()
        return answer


def test_copying_directions_and_contrast_in_the_dark(site: Server, open_page: OpenPage) -> None:
    watched = open_page(site.url, permissions=["clipboard-read", "clipboard-write"])
    page, chat = watched.page, First(watched)
    answer = chat.ask(HEBREW)
    chat.wait_for_status(answer, "complete")

    def copied() -> str:
        return str(page.evaluate("navigator.clipboard.readText()"))

    copy = answer.get_by_role("button", name="Copy this code")
    copy.press("Enter")
    expect(answer.get_by_role("button", name="Copied")).to_be_focused()
    assert copied().rstrip("\n") == CODE
    expect(copy).to_be_focused()  # it is what it was again
    # Where a page may not reach the clipboard (plain http), the old way moves no focus.
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    copy.press("Enter")
    expect(answer.get_by_role("button", name="Copied")).to_be_focused()
    answer.locator('[data-gw="chat-copy"]').click()
    page.wait_for_function(
        "async (whole) => (await navigator.clipboard.readText()) === whole", arg=ANSWER
    )

    # Each paragraph goes where its own words go; code is always read from the left.
    directions = page.evaluate(
        """() => {
          const of = (e) => getComputedStyle(e).direction;
          const paragraphs = [...document.querySelectorAll('[data-role="assistant"] .gw-body p')];
          return [
            ...paragraphs.map(of),
            of(document.querySelector('[data-role="assistant"] .gw-code pre')),
            of(document.querySelector('[data-role="user"] .gw-body')),
          ];
        }"""
    )
    assert directions == ["ltr", "rtl", "ltr", "rtl"]

    found = {}
    for hook in ("inside-all", "library-button", "chat-settings", "chat-prompts-open"):
        chat.part(hook).click()
        page.wait_for_timeout(300)  # the last movement takes at most 150 ms
        found[hook] = faults_of(page, ".gw-chat") + serious_faults(page, ".gw-chat")
    assert {name: faults for name, faults in found.items() if faults} == {}
    watched.assert_clean()


def test_nothing_moves_for_whoever_wants_no_motion(site: Server, open_page: OpenPage) -> None:
    watched = open_page(site.url)
    page, chat = watched.page, First(watched)
    answer = chat.ask("Tell it slowly")
    expect(answer).to_contain_text("It comes")
    assert page.evaluate(MOVING) != []  # the mark that more comes
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(MOVING) == []
    chat.part("chat-settings").click()
    expect(chat.part("settings")).to_be_visible()
    assert page.evaluate(MOVING) == []
    page.keyboard.press("Escape")
    chat.stop.click()
    chat.wait_for_status(answer, "aborted")


def test_stop_while_it_looks_at_an_image_and_what_a_model_that_cannot_see_is_told(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page, chat = watched.page, First(watched)
    files = [
        {"name": f"{n}.png", "mimeType": "image/png", "buffer": picture(n, 40, 30)} for n in (1, 2)
    ]
    chat.part("chat-file-input").set_input_files(files)  # type: ignore[arg-type]
    expect(chat.root.locator('[data-gw="chat-file"][data-state="ready"]')).to_have_count(2)
    answer = chat.ask("What is it?")
    expect(chat.root.locator(".gw-working")).to_have_text("Looking at image 1 of 2: 42%")
    page.keyboard.press("Escape")
    chat.wait_for_status(answer, "aborted")
    expect(answer).to_contain_text("Stopped.")
    expect(answer.locator('[data-gw="chat-continue"]')).to_be_hidden()  # there are no words
    expect(chat.input).to_be_focused()

    page.get_by_role("button", name="Change the model").click()
    expect(chat.root.locator(".gw-title")).to_have_text("blind")
    for question in ("And its colour?", "Really?"):
        chat.wait_for_status(chat.ask(question), "complete")
    told = chat.part("chat-left-out")
    expect(told.filter(visible=True)).to_have_text(
        ["This model cannot see images: the 2 earlier images are left out from here on."]
    )
    watched.assert_clean()


def test_stop_while_a_program_is_asked_about_a_tool(site: Server, open_page: OpenPage) -> None:
    watched = open_page(site.url)
    chat = First(watched, 1)
    chat.ask("How is the weather?")
    state = chat.part("tool-state")
    expect(state).to_have_text("Waits for your program's word")
    chat.stop.click()
    expect(state).to_have_text("Waits for you")
    expect(chat.stop).to_be_hidden()
    chat.part("tool-decline").click()
    expect(state).to_have_text("Declined")
    watched.assert_clean()
