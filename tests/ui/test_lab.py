"""The chat box in a real JupyterLab notebook: streaming, Stop, keyboard, reload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import nbformat
import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Chat, Watched, growing
from support.lab_page import cell, prompt, reload, run_cell, save
from support.servers import Home, Server, lab

OpenPage = Callable[..., Watched]

SHOW = """
import gguf_widgets as gw

model = gw.load("demo", n_ctx=32768)
vocabulary = gw.read_header(model.info.path).metadata["tokenizer.ggml.token_type"].values()
CONTROL = 3
never = {token: float("-inf") for token, kind in enumerate(vocabulary) if kind == CONTROL}
chat = gw.ChatInterface(model, logit_bias=never, seed=1)
gw.ChatBox(chat=chat)
"""
BLOCK = 'print(chat.send("Tell me a long story").finish_reason)'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("person"))
    folder = home.folder / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (SHOW, BLOCK)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "chat.ipynb")
    with lab(home, folder) as server:
        yield server
    home.close()


def test_the_chat_box_streams_stops_keeps_its_keys_and_comes_back(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url.split("/lab")[0] + "/lab/tree/chat.ipynb")
    page = watched.page
    run_cell(watched, 0)
    chat = Chat(watched)
    chat.input.wait_for(timeout=LONG_MS)
    expect(prompt(watched, 0)).to_have_text(re.compile(r"\[1\]"), timeout=LONG_MS)

    # Shift+Enter begins a new line; in JupyterLab it would run the cell and lose the widget.
    chat.input.click()
    page.keyboard.type("Tell me")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("a story")
    expect(chat.input).to_have_value("Tell me\na story")
    expect(prompt(watched, 0)).to_have_text(re.compile(r"\[1\]"))
    # Ctrl+Z is about what was typed here, and takes back nothing of the notebook.
    cell(watched, 1).locator(".cm-content").click()
    page.keyboard.press("End")
    page.keyboard.type("  # edited")
    chat.input.click()
    page.keyboard.type("!")
    page.keyboard.press("Control+z")
    expect(chat.input).not_to_have_value("Tell me\na story!")
    expect(cell(watched, 1).locator(".cm-content")).to_contain_text("# edited")

    record = chat.assert_stop_is_prompt(lambda: chat.ask("Tell me\na story"))
    assert growing(record["lengths"]) >= 3
    assert record["statuses"] == ["streaming", "aborted"]
    said = chat.answers().last.locator(".gw-body").inner_text()
    number = chat.answers().count() - 1

    # Stop also works while a cell of the notebook waits for the answer.
    def run_and_wait() -> None:
        before = chat.answers().count()
        run_cell(watched, 1)
        chat.answers().nth(before).wait_for(timeout=LONG_MS)

    chat.assert_stop_is_prompt(run_and_wait)
    expect(cell(watched, 1).locator(".jp-OutputArea-output")).to_have_text(
        re.compile("aborted"), timeout=LONG_MS
    )

    # There is no table here, so the cell that runs this over one is shown.
    watched.gw("chat-over-table").click()
    expect(watched.gw("chat-cell")).to_contain_text("run = model.map(")
    expect(watched.gw("chat-cell-copy")).to_be_focused()
    page.keyboard.press("Escape")
    expect(watched.gw("chat-cell")).to_be_hidden()
    expect(watched.gw("chat-over-table")).to_be_focused()

    # A reload of the page: the kernel lives on, and the box shows the conversation again.
    talk = chat.questions()
    assert talk[-1] == "Tell me a long story"
    last = chat.answers().nth(len(talk) - 1)
    save(watched, 1)
    reload(watched, last)
    assert chat.questions() == talk
    assert chat.answers().nth(number).locator(".gw-body").inner_text() == said
    watched.assert_clean()
