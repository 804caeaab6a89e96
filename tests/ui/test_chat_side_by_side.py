"""Two chats of one model side by side, driven from Python while a page shows them. About 10 s."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import nbformat
import pytest
from playwright.sync_api import expect
from support.browser import LONG_MS, Watched
from support.servers import Home, Server, voila

OpenPage = Callable[..., Watched]

# In demo mode answers come at a speed at which one can read along, so both are under way for long.
CELL = """
import asyncio
import gguf_widgets as gw
import ipywidgets
from IPython.display import display

model = gw.load("demo", backend="scripted")
one, two = gw.ChatBox(model, height=380), gw.ChatBox(model, height=380)
go, said = ipywidgets.Button(description="Go"), ipywidgets.Label("nothing yet")
display(go, said, one, two)
events = []
one.chat.subscribe(lambda event: events.append(str(event.kind)))

async def ask():
    replies = await asyncio.gather(
        one.chat.asend("Tell me a long story"), two.chat.asend("Tell me a long story")
    )
    frame = one.chat.to_frame()
    same = [one.chat.messages[-1].content == replies[0].text, events.count("added") == 2]
    said.value = f"{frame['role'].tolist()} {all(same)} {events[-1]}"

loop = asyncio.get_running_loop()
go.on_click(lambda _: asyncio.run_coroutine_threadsafe(ask(), loop))
"""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = Home(tmp_path_factory.mktemp("beside"))
    path = home.folder / "beside.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)]), path)
    with voila(home, path) as server:
        yield server
    home.close()


def test_two_chats_stream_at_once_and_python_sees_what_the_page_shows(
    site: Server, open_page: OpenPage
) -> None:
    watched = open_page(site.url, height=1200)
    page = watched.page
    boxes = page.locator(".gw-chat")
    expect(boxes).to_have_count(2, timeout=LONG_MS)
    for box in (boxes.first, boxes.last):
        expect(box.locator('[data-gw="chat-empty"] button').first).to_be_visible()
    page.get_by_role("button", name="Go", exact=True).click()
    # Both at one moment: one function looks at both.
    page.wait_for_function(
        """() => {
          const boxes = [...document.querySelectorAll(".gw-chat")];
          const texts = boxes.map((box) => box.querySelector('[data-status="streaming"] .gw-body'));
          return texts.length === 2 && texts.every((text) => text?.textContent.length > 20);
        }""",
        timeout=LONG_MS,
    )
    said = page.locator(".widget-label", has_text="assistant")
    expect(said).to_have_text("['user', 'assistant'] True updated", timeout=2 * LONG_MS)
    for box in (boxes.first, boxes.last):
        answer = box.locator('[data-role="assistant"]')
        expect(answer).to_have_attribute("data-status", "complete")
        expect(box.locator('[data-role="user"] .gw-body')).to_have_text("Tell me a long story")
    watched.assert_clean()
