"""What a person does with single messages, and the whole chat without a mouse. About 60 s."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect
from support.axe import serious_faults
from support.browser import Chat, Watched
from support.focus_rings import rings_not_seen
from support.lab_page import cell, run_cell
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila

OpenPage = Callable[..., Watched]

BOX = """
import gguf_widgets as gw
box = gw.ChatBox(gw.load("demo"), temperature=0, height=700)
box
"""
STORY = "Tell me a story about {}."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("acts"))
    path = home.folder / "acts.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BOX)]), path)
    with voila(home, path) as server:
        yield server
    home.close()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("notebook"))
    folder = home.folder / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in (BOX.strip(), "1 + 1")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(written, folder / "acts.ipynb")
    with lab(home, folder) as server:
        yield server
    home.close()


def part(message: Locator, hook: str) -> Locator:
    return message.locator(f'[data-gw="{hook}"]')


def own(watched: Watched) -> Locator:
    return watched.gw("chat-message", role="user").last


def ask(chat: Chat, text: str) -> Locator:
    answer = chat.ask(text)
    chat.wait_for_status(answer, "complete")
    return answer


def body(message: Locator) -> Locator:
    return message.locator(".gw-body")


def test_edit_answer_again_change_and_the_way_between_branches(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page = watched.page
    chat = Chat(watched)
    chat.wait_until_shown()
    first = body(ask(chat, STORY.format("Emma"))).inner_text()

    # Edit: Esc takes nothing over, Enter sends; both versions are there, and the focus has a place.
    part(own(watched), "chat-edit").focus()
    page.keyboard.press("Enter")
    field = part(own(watched), "chat-edit-field")
    expect(field).to_be_focused()
    expect(field).to_have_value(STORY.format("Emma"))
    assert faults_of(page, ".gw-chat") == []
    page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    expect(part(own(watched), "chat-edit")).to_be_focused()
    page.keyboard.press("Enter")
    field.fill(STORY.format("Ben"))
    page.keyboard.press("Enter")
    expect(body(own(watched))).to_have_text(STORY.format("Ben"))
    expect(body(chat.answers().last)).to_contain_text("Ben")
    expect(part(own(watched), "chat-branch")).to_contain_text("2 of 2")
    expect(chat.input).to_be_focused()
    chat.wait_for_status(chat.answers().last, "complete")

    # Between them, from the keyboard: the button in use keeps the focus, or hands it on.
    part(own(watched), "chat-branch-before").focus()
    page.keyboard.press("Enter")
    expect(body(own(watched))).to_have_text(STORY.format("Emma"))
    expect(body(chat.answers().last)).to_have_text(first)
    expect(part(own(watched), "chat-branch")).to_contain_text("1 of 2")
    expect(part(own(watched), "chat-branch-after")).to_be_focused()
    page.keyboard.press("Enter")
    expect(body(own(watched))).to_have_text(STORY.format("Ben"))
    expect(part(own(watched), "chat-branch-before")).to_be_focused()

    # Undo says what it takes back.
    undo = watched.gw("chat-undo")
    expect(undo).to_have_text(re.compile("^Undo ."))
    undo.click()
    expect(body(own(watched))).to_have_text(STORY.format("Emma"))

    # Answer again makes a version of the answer; changing it makes another, which says so.
    answer = chat.answers().last
    part(answer, "chat-again").click()
    expect(part(chat.answers().last, "chat-branch")).to_contain_text("2 of 2")
    chat.wait_for_status(chat.answers().last, "complete")
    part(chat.answers().last, "chat-edit").click()
    part(chat.answers().last, "chat-edit-field").fill("Emma was a **brave** girl")
    part(chat.answers().last, "chat-edit-send").click()
    expect(part(chat.answers().last, "chat-branch")).to_contain_text("3 of 3")
    expect(chat.answers().last.locator("strong")).to_have_text("brave")
    expect(chat.answers().last).to_contain_text("Changed by you")

    # The model goes on where it ends.
    part(chat.answers().last, "chat-continue").click()
    expect(part(chat.answers().last, "chat-branch")).to_contain_text("4 of 4")
    chat.wait_for_status(chat.answers().last, "complete")
    gone_on = body(chat.answers().last).inner_text()
    assert gone_on.startswith("Emma was a brave girl")
    assert len(gone_on) > len("Emma was a brave girl")
    watched.assert_clean()


def test_nothing_serious_is_found_by_axe_and_nothing_sticks_out(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page = watched.page
    chat = Chat(watched)
    chat.wait_until_shown()
    found = {"empty": serious_faults(page, ".gw-chat")}
    ask(chat, STORY.format("Emma"))
    part(own(watched), "chat-edit").click()
    found["edit"] = serious_faults(page, ".gw-chat")
    page.keyboard.press("Escape")
    for name in ("Look inside", "Conversations", "Settings"):
        button(page, name).click()
        page.wait_for_timeout(300)  # the last movement takes at most 150 ms
        found[name] = serious_faults(page, ".gw-chat") + faults_of(page, ".gw-chat")
    page.set_viewport_size({"width": 400, "height": 800})
    expect(page.locator(".gw-side-panel:visible")).to_have_count(1)  # there is room for one
    for name in ("Conversations", "Settings"):
        button(page, name).click()
        expect(page.locator(".gw-side-panel:visible")).to_have_count(1)
        page.wait_for_timeout(300)
        found[f"{name}, 400 px"] = serious_faults(page, ".gw-chat") + faults_of(page, ".gw-chat")
    page.keyboard.press("Escape")
    expect(page.locator(".gw-side-panel:visible")).to_have_count(0)
    expect(button(page, "Settings")).to_be_focused()
    found["400 px"] = serious_faults(page, ".gw-chat") + faults_of(page, ".gw-chat")
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_whoever_uses_the_keyboard_sees_where_the_focus_is(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page, chat = watched.page, Chat(watched)
    chat.wait_until_shown()
    found = {"empty": rings_not_seen(page, ".gw-chat")}
    answer = ask(chat, STORY.format("Emma"))
    part(answer, "inside-look").click()
    part(answer, "inside-list").locator(".gw-tok").first.click()
    expect(part(answer, "inside-panel")).to_be_visible()
    found["inside"] = rings_not_seen(page, ".gw-chat")
    for hook, shown in (
        ("library-button", "library-row"),
        ("chat-settings", "settings-preset"),
        ("chat-prompts-open", "chat-prompt"),
    ):
        watched.gw(hook).click()
        expect(watched.gw(shown).first).to_be_visible()
        found[hook] = rings_not_seen(page, ".gw-chat")
    page.set_viewport_size({"width": 400, "height": 800})
    expect(page.locator(".gw-side-panel:visible")).to_have_count(1)
    found["400 px"] = rings_not_seen(page, ".gw-chat")
    assert {name: faults for name, faults in found.items() if faults} == {}


def button(page: Page, name: str) -> Locator:
    named = re.compile(name, re.IGNORECASE)
    return page.locator(".gw-head").get_by_role("button", name=named).first


def test_in_jupyterlab_every_key_is_the_chats_and_nothing_of_the_notebook_goes(
    notebook: Server, open_page: OpenPage
) -> None:
    watched = open_page(notebook.url.split("/lab")[0] + "/lab/tree/acts.ipynb")
    page = watched.page
    run_cell(watched, 0)
    chat = Chat(watched)
    chat.wait_until_shown()
    ask(chat, STORY.format("Emma"))
    expect(chat.input).to_be_focused()

    # Keys that would cut, add, or change cells, on what is no field.
    for hook in ("chat-copy", "chat-edit"):
        part(own(watched), hook).focus()
        for key in ("x", "a", "b", "d", "d", "m", "z", "ArrowDown"):
            page.keyboard.press(key)
        expect(part(own(watched), hook)).to_be_focused()
    expect(page.locator(".jp-NotebookPanel .jp-CodeCell")).to_have_count(2)
    expect(page.locator(".jp-NotebookPanel .jp-Cell")).to_have_count(2)

    page.keyboard.press("Enter")
    field = part(own(watched), "chat-edit-field")
    expect(field).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type(STORY.format("Ben"))
    page.keyboard.press("Enter")
    expect(body(own(watched))).to_have_text(STORY.format("Ben"))
    chat.wait_for_status(chat.answers().last, "complete")
    part(own(watched), "chat-branch-before").focus()
    page.keyboard.press("Space")
    expect(body(own(watched))).to_have_text(STORY.format("Emma"))

    # From the place to type back through everything that there is, and none of it is a trap.
    chat.input.focus()
    seen = []
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        seen.append(page.evaluate("document.activeElement.dataset.gw ?? ''"))
        if not page.evaluate("Boolean(document.activeElement.closest('.gw-chat'))"):
            break
    assert {"chat-copy", "chat-edit", "chat-branch-after", "chat-again", "chat-clear"} <= set(seen)
    assert seen[-1] == ""
    assert cell(watched, 0).count() == 1
    # The panels: opened, used and closed; what closes hands the focus back.
    for hook, panel in (("chat-settings", "settings"), ("library-button", "library")):
        watched.gw(hook).focus()
        page.keyboard.press("Enter")
        expect(watched.gw(panel)).to_be_visible()
        for key in ("Tab", "x", "Tab", "b", "Shift+Tab"):
            page.keyboard.press(key)
        page.keyboard.press("Escape")
        expect(watched.gw(panel)).to_be_hidden()
        expect(watched.gw(hook)).to_be_focused()
    templates = page.get_by_role("button", name="Prompt templates")
    templates.focus()
    page.keyboard.press("Space")
    expect(watched.gw("chat-prompt-search")).to_be_focused()
    page.keyboard.type("translate")
    page.keyboard.press("Escape")
    expect(watched.gw("chat-prompt-search")).to_be_hidden()
    chat.input.focus()
    page.keyboard.press("ArrowUp")
    expect(part(own(watched), "chat-edit-field")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".jp-NotebookPanel .jp-Cell")).to_have_count(2)

    # With Ctrl, the notebook's keys are still its own.
    part(own(watched), "chat-copy").focus()
    page.keyboard.press("Control+s")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    watched.assert_clean()
