"""Looking inside an answer, with the demo model: on a page that Voila serves, and the keys in
JupyterLab, which has a use of its own for them. About 30 s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import nbformat
import pytest
from playwright.sync_api import Locator, expect
from support.axe import serious_faults
from support.browser import Chat, Watched
from support.lab_page import run_cell
from support.screen_check import faults_of
from support.servers import Home, Server, lab, voila

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import Message

OpenPage = Callable[..., Watched]

SYSTEM = "You tell stories."
QUESTION = "Tell me a story about Emma 😀"
BOX = f"""
import gguf_widgets as gw
gw.ChatBox(gw.load("demo"), system={SYSTEM!r}, temperature=0, max_tokens=60, height=700)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("inside"))
    path = home.folder / "inside.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(BOX)]), path)
    with voila(home, path) as server:
        yield server
    home.close()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab with a notebook of two cells."""
    home = Home(tmp_path_factory.mktemp("notebook"))
    folder = home.folder / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in (BOX.strip(), "1 + 1")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    written = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(written, folder / "inside.ipynb")
    with lab(home, folder) as server:
        yield server
    home.close()


def part(answer: Locator, hook: str) -> Locator:
    return answer.locator(f'[data-gw="{hook}"]')


def text_of(tokens: Locator) -> str:
    """Return what tokens show, without the signs for what cannot be seen."""
    shown = "".join(tokens.all_text_contents())
    return shown.replace("↵\n", "↵").replace("↵", "\n").replace("⋯", "")


def test_an_answer_is_looked_into_and_gone_on_with_from_the_keyboard(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url)
    page = watched.page
    chat = Chat(watched)
    chat.wait_until_shown()
    answer = chat.ask("Tell me a story about Emma.")
    chat.wait_for_status(answer, "complete")
    said = answer.locator(".gw-body").inner_text()
    expect(part(answer, "inside-short")).to_contain_text("tokens/s")

    part(answer, "inside-look").focus()
    page.keyboard.press("Enter")
    tokens = part(answer, "inside-list").locator('[role="option"]')
    expect(tokens.first).to_be_visible()
    expect(answer.locator(".gw-body")).to_be_hidden()
    assert text_of(tokens).strip() == said.strip()
    assert faults_of(page, '[data-gw="inside"]') == []

    # One stop for Tab, arrows go from token to token, Enter opens, Esc closes.
    tokens.first.focus()
    page.keyboard.press("Tab")
    assert not tokens.first.evaluate(
        "(token) => token.parentElement.contains(document.activeElement)"
    )
    page.keyboard.press("Shift+Tab")
    expect(tokens.first).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    expect(tokens.nth(1)).to_be_focused()
    panel = part(answer, "inside-panel")
    expect(panel).to_be_hidden()
    page.keyboard.press("Enter")
    expect(panel).to_contain_text("token 2 of")
    page.keyboard.press("ArrowRight")
    expect(panel).to_contain_text("token 3 of")
    page.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(tokens.last).not_to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "option"

    # Where the model was least sure, something else is put in the token's place.
    part(answer, "inside-least").press("Enter")
    expect(part(answer, "inside-token-words")).to_contain_text("%")
    place = int(part(answer, "inside-list").locator(".gw-tok-chosen").get_attribute("data-i") or "")
    assert faults_of(page, '[data-gw="inside-panel"]') == []
    assert serious_faults(page, '[data-gw="inside"]') == []
    before = text_of(part(answer, "inside-list").locator(f'[role="option"]:nth-child(-n+{place})'))
    other = part(panel, "inside-branch").first
    wanted = re.search("“(.*)”", other.get_attribute("aria-label") or "")
    assert wanted is not None
    old = answer.get_attribute("data-id")
    other.focus()
    page.keyboard.press("Enter")
    branch = page.locator(f'[data-gw="chat-message"][data-role="assistant"]:not([data-id="{old}"])')
    chat.wait_for_status(branch, "complete")
    begins = before + wanted[1].replace("␣", " ").replace("↵", "\n")
    told = branch.locator(".gw-body").inner_text()
    assert told.startswith(begins.strip())
    assert told != said
    expect(part(branch, "chat-branch")).to_contain_text("2 of 2")
    # The branch has the tokens of its beginning, too.
    part(branch, "inside-look").click()
    shown = part(branch, "inside-list").locator('[role="option"]')
    expect(shown.first).to_be_visible()
    assert text_of(shown).strip() == told.strip()
    watched.assert_clean()


def test_what_the_model_read_its_numbers_and_the_same_again(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url, width=800)
    page = watched.page
    chat = Chat(watched)
    chat.wait_until_shown()
    answer = chat.ask(QUESTION)
    chat.wait_for_status(answer, "complete")
    said = answer.locator(".gw-body").inner_text()
    page.locator('[data-gw="inside-all"]').click()
    expect(part(answer, "inside-list")).to_be_visible()

    part(answer, "inside-numbers-fold").locator("summary").click()
    numbers = part(answer, "inside-numbers")
    for words in ("Why it ended", "Seed", "temperature 0, max_tokens 60", "demo"):
        expect(numbers).to_contain_text(words)

    part(answer, "inside-read").locator("summary").click()
    read = part(answer, "inside-prompt")
    expect(read.locator(".gw-ptok-control").first).to_be_visible()
    messages = [Message(role="system", content=SYSTEM), Message(role="user", content=QUESTION)]
    manager = ModelManager(keep_alive=0)
    rendered = manager.load("demo").render(messages)
    manager.close()
    assert text_of(read.locator(".gw-ptok")) == rendered
    assert read.locator(".gw-part-label").all_text_contents() == [
        "template", "system prompt", "template", "you", "template",
    ]  # fmt: skip
    assert text_of(read.locator('[data-kind="system"] .gw-ptok')) == SYSTEM
    assert text_of(read.locator('[data-kind="user"] .gw-ptok')) == QUESTION
    assert faults_of(page, '[data-gw="inside"]') == []

    part(answer, "inside-repeat").click()
    result = watched.gw("inside-result", kind="same")
    expect(result).to_contain_text("The same answer, to the last of")
    again = chat.answers().last
    expect(part(again, "chat-branch")).to_contain_text("2 of 2")
    # All answers are looked into, so this one is, too; the text comes back when that ends.
    expect(part(again, "inside-list")).to_be_visible()
    page.locator('[data-gw="inside-all"]').click()
    expect(again.locator(".gw-body")).to_have_text(said)
    watched.assert_clean()


def test_in_jupyterlab_the_keys_on_a_token_are_the_tokens(
    notebook: Server, open_page: OpenPage
) -> None:
    watched = open_page(notebook.url.split("/lab")[0] + "/lab/tree/inside.ipynb")
    page = watched.page
    run_cell(watched, 0)
    chat = Chat(watched)
    chat.wait_until_shown()
    answer = chat.ask("Tell me a story about Emma.")
    chat.wait_for_status(answer, "complete")
    part(answer, "inside-look").focus()
    page.keyboard.press("Enter")
    tokens = part(answer, "inside-list").locator('[role="option"]')
    expect(tokens.first).to_be_visible()
    tokens.first.focus()
    panel = part(answer, "inside-panel")
    # Elsewhere in a notebook these cut a cell, delete one, add one, and choose another.
    for key in ("x", "d", "d", "a", "ArrowDown", "ArrowUp", "Home", "ArrowRight"):
        page.keyboard.press(key)
    expect(tokens.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(panel).to_contain_text("token 2 of")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(tokens.nth(1)).to_be_focused()
    expect(page.locator(".jp-NotebookPanel .jp-CodeCell")).to_have_count(2)
    part(answer, "inside-least").press("Enter")
    expect(panel).to_be_visible()  # with the buttons of this token
    expect(part(answer, "inside-least")).to_be_focused()
    part(panel, "inside-branch").first.press("Enter")
    expect(part(chat.answers().last, "chat-branch")).to_contain_text("2 of 2")
    expect(page.locator(".jp-NotebookPanel .jp-CodeCell")).to_have_count(2)
