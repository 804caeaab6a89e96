"""The tools' cards without a browser: what the page is sent, and what it may ask. 2 seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tool_fakes import WritingModel

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._chat_tools import ToolsPart, visible

WAIT_S = 30.0


class Host:
    def __init__(self, chat: ChatInterface) -> None:
        self.chat = chat
        self.model = chat.model

    def touch(self) -> None: ...


@pytest.fixture
def part() -> Iterator[ToolsPart]:
    inner = json.dumps({"name": "look", "arguments": {"where": "a\u202eb", "many": [1, {"x": 2}]}})

    def look(where: str, many: list[Any]) -> str:
        """Look."""
        return "y" * 20_000

    model = WritingModel(f"<tool_call>\n{inner}\n</tool_call>", "Done.")
    with Store(":memory:") as store, ChatInterface(model, tools=[look], store=store) as chat:
        yield ToolsPart(Host(chat))  # type: ignore[arg-type]
    model.close()


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return value


def ask(part: ToolsPart, kind: str, **content: Any) -> Any:
    return part.ACTIONS[kind](part, content, [])


def cards(part: ToolsPart) -> list[dict[str, Any]]:
    shot = part.host.chat.snapshot()
    return [card for m in shot.messages for card in part.view(m, shot).get("tools", [])]


def test_a_card_says_what_would_run_and_only_a_waiting_calls_id_lets_it(part: ToolsPart) -> None:
    chat = part.host.chat
    ask(part, "tool-here")
    chat.start("Look.")
    until(lambda: chat.tool_loop.open_calls() and not chat.busy)
    (card,) = cards(part)
    assert (card["state"], card["asks"], card["canAllow"]) == ("waiting", True, True)
    assert card["arguments"] == [
        ["where", "a[U+202E]b", 0, "where"],
        ["many", '[\n  1,\n  {\n    "x": 2\n  }\n]', 0, "many"],
    ]
    state = part.state(chat.snapshot())
    assert state == {"waiting": [{"id": card["id"], "name": "look"}], "canGoOn": False}
    for wrong in ({}, {"call": 5}, {"call": ""}, {"call": "x"}, {"call": "x" * 500}):
        for kind in ("tool-allow", "tool-decline", "tool-whole"):
            with pytest.raises(GgufWidgetsError):
                ask(part, kind, **wrong)
    assert cards(part)[0]["state"] == "waiting"

    ask(part, "tool-allow", call=card["id"], always="yes")  # only true is true
    until(lambda: chat.messages[-1].content == "Done." and not chat.busy)
    (card,) = cards(part)
    assert card["state"] == "done"
    assert not card["asks"]
    assert (len(card["result"]), card["resultMore"]) == (8_000, 12_000)
    assert card["note"].startswith("The model was given 8,000 of these 20,000 characters")
    assert ask(part, "tool-whole", call=card["id"], which="result") == {"text": "y" * 20_000}
    with pytest.raises(GgufWidgetsError):
        ask(part, "tool-whole", call=card["id"], which="error")
    with pytest.raises(GgufWidgetsError):
        ask(part, "tool-allow", call=card["id"])
    assert not chat.messages[1].tool_calls[0].always


def test_before_a_page_is_there_nobody_is_asked_and_after_it_nobody_any_more(
    part: ToolsPart,
) -> None:
    chat = part.host.chat
    assert chat.send("Look.").text == "Done."
    assert chat.messages[1].tool_calls[0].status == "declined"
    ask(part, "tool-here")
    part.close()
    chat.clear()
    assert chat.send("Look.").text == "Done."
    assert chat.messages[1].tool_calls[0].status == "declined"


def test_without_its_function_a_waiting_call_can_only_be_declined(part: ToolsPart) -> None:
    chat = part.host.chat
    ask(part, "tool-here")
    chat.start("Look.")
    until(lambda: chat.tool_loop.open_calls() and not chat.busy)
    chat.tools = None
    (card,) = cards(part)
    assert (card["state"], card["canAllow"], card["asks"]) == ("missing", False, True)
    ask(part, "tool-decline", call=card["id"])
    until(lambda: chat.messages[-1].content == "Done.")
    assert cards(part)[0]["words"] == "Declined"


def test_all_of_a_calls_arguments_can_be_seen_before_it_is_allowed(part: ToolsPart) -> None:
    """What a person says yes to is not only what a card has room for."""
    code = "print('harmless')\n" * 1_000 + "remove_everything()"
    more = {f"more{n}": n for n in range(150)} | {"last": "\u202eend"}
    call = ToolCall(id="abc", name="look", arguments={"code": code, "which": "x", **more})
    message = ChatMessage(
        id="m", conversation_id="c", parent_id=None, role="assistant", content="",
        status=MessageStatus.COMPLETE, created_at=1.0, tool_calls=(call,),
    )  # fmt: skip
    shot = part.host.chat.snapshot()
    (card,) = part.view(message, msgspec.structs.replace(shot, messages=[message]))["tools"]
    assert card["arguments"][0][2:] == [len(code) - 8_000, "code"]
    assert "remove_everything" not in card["arguments"][0][1]
    assert card["more"] == 53
    part.host.chat._messages.append(message)
    whole = ask(part, "tool-whole", call="abc", which="argument", name="code")["text"]
    assert whole == code
    every = ask(part, "tool-whole", call="abc", which="arguments")["text"]
    assert "remove_everything()" in every
    assert every.endswith('"last": "[U+202E]end"\n}')
    for wrong in ({"which": "argument"}, {"which": "argument", "name": ["code"]}, {"which": []}):
        with pytest.raises(GgufWidgetsError):
            ask(part, "tool-whole", call="abc", **wrong)


@given(st.text())
def test_nothing_is_hidden_in_what_is_shown(text: str) -> None:
    shown = visible(text)
    assert not any(
        one in shown for one in "\x00\x1b\r\u202a\u202e\u2066\u2069\u200e\u200f\ufeff\u2028"
    )
    assert visible(text, 10) == visible(text[:10]) or "…" in visible(text, 10)
