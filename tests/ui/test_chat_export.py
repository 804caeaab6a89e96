"""Conversations without a page of ours: as a file in the browser, and in an exported notebook.

About 20 s on a busy machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest
from playwright.sync_api import expect
from support import hostile_outputs
from support.browser import Watched
from support.screen_check import faults_of

from gguf_widgets.core.chat.export import html_form, import_data
from gguf_widgets.core.chat.export.reading import read_trees
from gguf_widgets.core.chat.export.tree import Tree
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import Attachment, ToolCall
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._chat_notebook import rendered

OpenPage = Callable[..., Watched]


def hostile_tree() -> Tree:
    """Return a conversation in which every text there can be is hostile, each at every place."""
    messages: list[dict[str, str]] = []
    for output in hostile_outputs.OUTPUTS:
        text = output.encode("utf-8", "replace").decode()
        messages += [
            {"role": "user", "content": text},
            {"role": "assistant", "content": f"<think>\n{text}\n</think>\n\n{text}"},
        ]
    (tree,) = read_trees(json.dumps(messages))
    texts = [one.content for one in tree.messages if one.role == "user"]
    changed = []
    for number, message in enumerate(tree.messages):
        text = texts[number % len(texts)]
        call = ToolCall(id=text, name=text, arguments={text: text}, status="done", result=text)
        file = Attachment(
            id=text, kind="text", name=text, mime=text, size_bytes=1, sha256=text, text=text,
            note=text,
        )  # fmt: skip
        more: dict[str, Any] = {"model_name": text, "summary": text, "left_out": (text,)}
        if message.role == "user":
            more = {"attachments": (file,)}
        elif number % 4 == 1:
            more |= {
                "tool_calls": (call,),
                "status": "failed",
                "error": {"kind": text, "message": text, "details": {}},
            }
        changed.append(msgspec.structs.replace(message, **more))
    conversation = msgspec.structs.replace(
        tree.conversation, title=" ".join(texts)[:5000], system="\n".join(texts)
    )
    return msgspec.structs.replace(tree, conversation=conversation, messages=changed)


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return html_form.page(hostile_tree(), rendered)


@pytest.mark.parametrize("has_policy", [True, False], ids=["as written", "without its policy"])
def test_a_page_of_hostile_texts_runs_and_asks_nothing(
    open_page: OpenPage, tmp_path: Path, hostile_page: str, has_policy: bool
) -> None:
    text = hostile_page
    if not has_policy:  # what was sanitised must do by itself
        text, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
        assert count == 1
    file = tmp_path / "chat.html"
    file.write_text(text, encoding="utf-8")
    watched = open_page("about:blank")
    asked: list[str] = []
    watched.page.on("request", lambda request: asked.append(request.url))
    watched.page.goto(file.as_uri(), wait_until="load")
    count = len(hostile_outputs.OUTPUTS)
    expect(watched.page.locator("article")).to_have_count(2 * count)
    watched.page.evaluate(
        "document.querySelectorAll('details').forEach((one) => (one.open = true))"
    )
    watched.page.evaluate("document.querySelectorAll('.gw-talk *').forEach((one) => one.click?.())")
    watched.page.mouse.move(600, 400)
    watched.page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert watched.page.evaluate("window.__pwned") is None
    assert watched.page.url == file.as_uri()
    assert asked == [file.as_uri()]
    assert watched.complaints == []  # not even an attempt that the policy forbade
    names = watched.page.evaluate(
        "[...new Set([...document.querySelectorAll('.gw-talk *')].flatMap((one) =>"
        " one.getAttributeNames()))]"
    )
    assert not [name for name in names if name.startswith("on") or name in ("href", "style", "id")]
    assert watched.page.evaluate("document.querySelectorAll('article article').length") == 0


TALK = [
    {"role": "user", "content": "What is 1 + 2?"},
    {
        "role": "assistant",
        "content": "<think>\nAdd them.\n</think>\n\nIt is **three**.\n\n| a | b |\n|---|---|\n"
        "| 1 | 2 |\n\n```python\nprint(1 + 2)  # three\n```",
    },
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_conversation_is_read_in_an_exported_notebook(
    open_page: OpenPage, tmp_path: Path, theme: str
) -> None:
    from nbconvert import HTMLExporter

    with Store.in_memory() as store:
        kept = import_data(store, json.dumps(TALK)).conversations[0]
        chat = ChatInterface(conversation_id=kept.id, store=store)
        data = {"text/html": chat._repr_html_(), "text/plain": repr(chat)}
        chat.close()
    output = nbformat.v4.new_output("execute_result", data=data)
    cell = nbformat.v4.new_code_cell("chat", outputs=[output])
    text, _ = HTMLExporter(theme=theme).from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    file = tmp_path / "notebook.html"
    file.write_text(text, encoding="utf-8")
    watched = open_page("about:blank", width=800)
    watched.page.route("http*://**", lambda route: route.abort())
    watched.page.goto(file.as_uri())
    talk = watched.page.locator(".gw-talk")
    expect(talk).to_contain_text("It is three.")
    expect(talk.locator("strong", has_text="three")).to_be_visible()
    expect(talk.locator("td").first).to_have_text("1")
    expect(talk.locator("summary")).to_have_text("Thinking")
    assert faults_of(watched.page, ".gw-talk") == []
    watched.keep_screenshot(Path(__file__).parent / "artifacts" / f"exported-notebook-{theme}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_read_in_light_and_dark_and_at_every_width(
    open_page: OpenPage, tmp_path: Path, scheme: str
) -> None:
    (tree,) = read_trees(json.dumps(TALK))
    file = tmp_path / "chat.html"
    file.write_text(html_form.page(tree, rendered), encoding="utf-8")
    for width in (1280, 400):
        watched = open_page(file.as_uri(), width=width, color_scheme=scheme)
        expect(watched.page.locator("h1")).to_have_text("What is 1 + 2?")
        assert faults_of(watched.page, ".gw-talk") == []
        background = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") is (scheme == "light")
        watched.keep_screenshot(
            Path(__file__).parent / "artifacts" / f"exported-page-{scheme}-{width}.png"
        )
