"""Tools in a chat: allowed, declined, for good, errors, a reload; by keyboard in JupyterLab. 30 s.

Their model is one that writes what this test says (`support.tool_fakes`), in the kernel itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.axe import serious_faults
from support.browser import Chat, Watched
from support.lab_page import run_cell
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila

OpenPage = Callable[..., Watched]

BOX = f"""
import json, sys, time
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.tool_fakes import WritingModel
import gguf_widgets as gw

def call(name, **arguments):
    inner = json.dumps({{"name": name, "arguments": arguments}})
    return "<tool_call>\\n" + inner + "\\n</tool_call>"

def write(messages):
    last = messages[-1]
    if last["role"] == "tool":
        return "The tool says: " + last["content"][:60]
    name, _, rest = last["content"].partition(" ")
    if name == "two":
        both = (call("weather", city=city) for city in ("Bern", "Chur"))
        return "I look at both.\\n" + "\\n".join(both)
    if name == "long":
        more = {{f"more{{n}}": n for n in range(120)}}
        return call("weather", city="a city " * 1200 + "THE END", **more)
    return "I look.\\n" + call(name, city=rest)

def weather(city: str) -> str:
    '''Say how the weather is.'''
    print("looking at", city)
    return "sun in " + city + "\\n" + "x" * 9000

def news(city: str) -> str:
    '''Say what is new.'''
    if city == "hang":
        time.sleep(600)
    raise ValueError("no news from <b>" + city + "</b>")

box = gw.ChatBox(WritingModel(write), tools=[weather, news], height=620)
box.chat.open_latest()
box
"""
HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.exe"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("tools"))
    path = home.folder / "tools.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BOX)]), path)
    with voila(home, path) as server:
        yield server
    home.close()


def part(card: Locator, hook: str) -> Locator:
    return card.locator(f'[data-gw="{hook}"]')


def test_calls_are_shown_and_run_only_when_they_are_allowed(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page, chat = watched.page, Chat(watched)
    chat.wait_until_shown()
    cards, live = watched.gw("tool-card"), watched.gw("tool-live")

    # Allowed from the keyboard; the focus goes with what there is to decide.
    chat.ask("weather Bern")
    expect(cards).to_have_count(1)
    expect(part(cards.first, "tool-state")).to_have_text("Waits for you")
    expect(part(cards.first, "tool-arguments")).to_have_text("cityBern")
    expect(watched.gw("tool-waiting")).to_contain_text("The model wants to use: weather")
    expect(live).to_have_text("The model wants to use weather. Allow or decline.")
    expect(chat.input).to_be_focused()  # nothing has taken the person's place
    assert faults_of(page, ".gw-chat") == []
    assert serious_faults(page, ".gw-tool-list, .gw-tool-waiting") == []
    watched.gw("tool-go").press("Enter")
    expect(part(cards.first, "tool-allow")).to_be_focused()
    page.keyboard.press("Enter")
    expect(part(cards.first, "tool-state")).to_contain_text("Done in")
    expect(chat.answers().last).to_contain_text("The tool says: sun in Bern")
    expect(cards.first.locator("summary")).to_be_focused()
    expect(watched.gw("tool-waiting")).to_be_hidden()
    expect(live).to_contain_text("weather: Done")
    page.keyboard.press("Enter")
    expect(part(cards.first, "tool-printed")).to_contain_text("looking at Bern")
    result = part(cards.first, "tool-result")
    expect(result).to_contain_text("sun in Bern")
    expect(cards.first).to_contain_text("The model was given 8,000 of these 9,012 characters")
    part(cards.first, "tool-all-result").click()
    expect(result.locator("pre")).to_have_text("sun in Bern\n" + "x" * 9000)
    assert faults_of(page, ".gw-chat") == []
    assert serious_faults(page, ".gw-tool-list") == []

    # Two at once, for good; a third is not asked about any more.
    chat.ask("two")
    expect(cards).to_have_count(3)
    part(cards.nth(1), "tool-always").click()
    expect(part(cards.nth(2), "tool-state")).to_contain_text("Done in")
    expect(chat.answers().last).to_contain_text("The tool says")
    chat.ask("weather Basel")
    expect(cards).to_have_count(4)
    expect(part(cards.nth(3), "tool-state")).to_contain_text("Done in")
    expect(part(cards.nth(3), "tool-allow")).to_be_hidden()

    # Declined, and what a model wrote to deceive stands there as what it is.
    chat.ask(f"news {HOSTILE}")
    expect(cards).to_have_count(5)
    expect(part(cards.nth(4), "tool-arguments")).to_have_text(
        "city<img src=x onerror=alert(1)>[U+202E]gnp.exe"
    )
    assert page.locator(".gw-tool img").count() == 0
    part(cards.nth(4), "tool-decline").click()
    expect(part(cards.nth(4), "tool-state")).to_have_text("Declined")
    expect(chat.answers().last).to_contain_text("The tool says: The user declined this call")

    # An error is shown, and goes to the model.
    chat.ask("news Bern")
    expect(cards).to_have_count(6)
    part(cards.nth(5), "tool-allow").click()
    expect(part(cards.nth(5), "tool-error")).to_contain_text(
        "ValueError: no news from <b>Bern</b> (line"
    )
    expect(chat.answers().last).to_contain_text("The tool says: Error: ValueError")

    # Stop, while one hangs; then the model can be told to go on.
    chat.ask("news hang")
    expect(cards).to_have_count(7)
    part(cards.nth(6), "tool-allow").click()
    expect(part(cards.nth(6), "tool-state")).to_have_text("Runs")
    chat.stop.click()
    expect(part(cards.nth(6), "tool-error")).to_contain_text("You stopped it")
    watched.gw("tool-go-on").click()
    expect(chat.answers().last).to_contain_text("The tool says: Error: You stopped it")
    watched.assert_clean()


def test_a_reload_in_the_middle_shows_the_waiting_call_again(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url, width=400)
    page, chat = watched.page, Chat(watched)
    chat.wait_until_shown()
    chat.ask("weather Genf")
    waiting = page.locator('[data-gw="tool-card"][data-state="waiting"]')
    expect(waiting).to_have_count(1)
    assert faults_of(page, ".gw-chat") == []
    page.reload(wait_until="commit")
    chat.wait_until_shown()
    expect(waiting).to_have_count(1)
    expect(part(waiting, "tool-arguments")).to_have_text("cityGenf")
    # What does not name a call that waits is refused, whoever sends it.
    part(waiting, "tool-allow").dblclick()  # one yes, however often it is pressed
    expect(chat.answers().last).to_contain_text("The tool says: sun in Genf")
    expect(waiting).to_have_count(0)
    # Something written instead of an answer to the question declines the call.
    chat.ask("news Genf")
    expect(waiting).to_have_count(1)
    chat.ask("weather Bern")
    expect(page.locator('[data-gw="tool-card"][data-state="declined"]').last).to_be_visible()
    watched.assert_clean()


def test_all_that_would_run_can_be_seen_before_it_is_allowed(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page, chat = watched.page, Chat(watched)
    chat.wait_until_shown()
    cards = watched.gw("tool-card")
    chat.ask("long")
    arguments = part(cards.last, "tool-arguments")
    expect(arguments).to_contain_text("21 more are not shown")
    expect(arguments).not_to_contain_text("THE END")
    more = part(cards.last, "tool-all-argument")
    expect(more).to_have_text(["Show 407 more characters", "Show all arguments"])
    assert faults_of(page, ".gw-chat") == []
    assert serious_faults(page, ".gw-tool-list") == []
    more.first.press("Enter")
    expect(arguments.locator("dd").first).to_contain_text("a city THE END")
    expect(arguments.locator("dd").first).to_be_focused()
    expect(more).to_have_text(["Show all arguments"])
    more.first.click()
    expect(arguments).to_contain_text('"more119": 119')
    part(cards.last, "tool-decline").click()
    expect(part(cards.last, "tool-state")).to_have_text("Declined")
    expect(chat.answers().last).to_contain_text("The tool says: The user declined this call")
    watched.assert_clean()


def test_in_jupyterlab_a_call_is_decided_by_keyboard_and_the_notebook_stays(
    tmp_path: Path, open_page: OpenPage
) -> None:
    home = Home(tmp_path / "person")
    folder = home.folder / "notebooks"
    folder.mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in (BOX.strip(), "1 + 1")]
    written = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(written, folder / "tools.ipynb")
    try:
        with lab(home, folder) as server:
            watched = open_page(server.url.split("/lab")[0] + "/lab/tree/tools.ipynb")
            run_cell(watched, 0)
            page, chat = watched.page, Chat(watched)
            chat.wait_until_shown()
            card = watched.gw("tool-card").last
            chat.ask("weather Bern")
            expect(part(card, "tool-state")).to_have_text("Waits for you")
            watched.gw("tool-go").focus()
            page.keyboard.press("Enter")
            expect(part(card, "tool-allow")).to_be_focused()
            for key in ("d", "d", "x", "a", "b", "m", "ArrowDown"):  # the notebook's own
                page.keyboard.press(key)
            expect(page.locator(".jp-NotebookPanel .jp-Cell")).to_have_count(2)
            page.keyboard.press("Tab")
            page.keyboard.press("Tab")
            expect(part(card, "tool-decline")).to_be_focused()
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Enter")
            expect(part(card, "tool-state")).to_contain_text("Done in")
            expect(chat.answers().last).to_contain_text("The tool says: sun in Bern")
            expect(card.locator("summary")).to_be_focused()
            page.keyboard.press("Enter")
            expect(part(card, "tool-result")).to_contain_text("sun in Bern")
            expect(page.locator(".jp-NotebookPanel .jp-Cell")).to_have_count(2)
            watched.assert_clean()
    finally:
        home.close()
