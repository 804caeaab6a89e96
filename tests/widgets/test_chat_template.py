"""A conversation that becomes a template for a table (2 s), without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.chat_fakes import FakeModel

import gguf_widgets as gw
from gguf_widgets.batch.template import Template
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.widgets._chat_template import cell_of, marked_template
from gguf_widgets.widgets.batch_table import BatchTable
from gguf_widgets.widgets.chat_box import ChatBox

ASKED = "Good or bad? 🍲 The soup was cold."


@pytest.fixture
def box(home: Path) -> Iterator[ChatBox]:
    box = ChatBox(FakeModel(["Hi"], ["Bad"]), system='Answer as {"label": ...}', temperature=0.5)
    yield box
    box.close()
    box.chat.close()


@pytest.fixture
def model(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
    with ModelManager() as manager, manager.load("demo", backend="scripted") as model:
        yield model


def talk(box: ChatBox) -> None:
    box.chat.send("Hello")
    box.chat.send(ASKED)


def click(box: ChatBox, monkeypatch: pytest.MonkeyPatch, marked: Any = None) -> dict[str, Any]:
    """Press the button as a page does; return what the page is told."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(box, "send", lambda content, _buffers=None: sent.append(content))
    box._work(({"kind": "over_table", "mid": "x", "marked": marked}, []))
    (answer,) = sent
    assert answer.pop("kind") == "answer"
    assert answer.pop("mid") == "x"
    return answer


def test_a_template_is_what_the_model_was_sent_with_the_last_message(box: ChatBox) -> None:
    with pytest.raises(InvalidValueError, match="Write one first"):
        box.to_template()
    talk(box)
    assert box.to_template(review="The soup was cold.") == [
        {"role": "system", "content": 'Answer as {{"label": ...}}'},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Good or bad? 🍲 {review}"},
    ]
    asked = Template.parse(box.to_template()).render({})
    assert asked == box.chat.model.streams[-1].messages
    with pytest.raises(InvalidValueError, match="no part of the last message"):
        box.to_template(review="The fish")
    with pytest.raises(InvalidValueError, match="overlap"):
        box.to_template(one="The soup", other="soup was")


def test_what_is_marked_on_the_page_becomes_a_column(box: ChatBox) -> None:
    talk(box)
    asked = box.chat.messages[-2]
    # As a browser counts: the bowl is two.
    mark = {"message": asked.id, "start": 16, "end": 35}
    assert marked_template(box.chat, mark)[-1]["content"] == "Good or bad? 🍲 {text}"
    bad: list[Any] = [None, 7, {}, mark | {"message": "gone"}, mark | {"start": 40}]
    bad += [mark | {"end": None}, mark | {"start": 15, "end": 16}, mark | {"start": -1}]
    for marked in bad:
        assert marked_template(box.chat, marked)[-1]["content"] == ASKED


def test_a_mark_is_found_where_two_messages_are_sent_as_one(home: Path) -> None:
    with ChatInterface(FakeModel([RequestError("No answer.")], ["Bad"])) as chat:
        with pytest.raises(RequestError):
            chat.send("First part.")
        chat.send("Soup is bad.")
        mark = {"message": chat.messages[-2].id, "start": 0, "end": 5}
        assert [one["content"] for one in marked_template(chat, mark)] == [
            "First part.\n\n{text} is bad."
        ]


def test_the_cell_repeats_the_question_with_its_settings(box: ChatBox, model: Model) -> None:
    talk(box)
    box.chat.model = model
    box.chat.sampling = {"temperature": 0.5, "max_tokens": 9, "seed": 3, "grammar": 'root ::= "a"'}
    text, left = cell_of(box.chat, box.to_template())
    assert text.startswith("# Put {column} where the text of a row is to stand.\n")
    assert left == ["grammar"]
    text, _ = cell_of(box.chat, box.to_template(review="The soup was cold."))
    df = pd.DataFrame({"review": ["Nice.", "Bad."]})
    names: dict[str, Any] = {"df": df}
    exec(text.replace("gw.load('demo')", "model_here"), {"model_here": model, **names}, names)  # noqa: S102
    spec = names["run"].spec
    assert spec.sampling == {"temperature": 0.5, "max_tokens": 9, "seed": 3}
    assert spec.prompts[0].template.messages == box.to_template(review="The soup was cold.")
    assert names["run"].counts.done == 2
    if names.get("model") is not None:  # the cell has loaded one of its own
        names["model"].unload()


def test_the_button_shows_the_cell_or_fills_the_table(
    box: ChatBox, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Write one first" in click(box, monkeypatch)["error"]["message"]
    talk(box)
    assert "model.map(" in click(box, monkeypatch)["cell"]

    box.table = BatchTable(model)
    box.chat.sampling = {"temperature": 0.25, "max_tokens": 7, "top_p": 0.5}
    assert click(box, monkeypatch) == {"is_there": True}
    draft = box.table._set_up.draft
    assert (draft.prompt, draft.system) == (ASKED, 'Answer as {{"label": ...}}')
    assert [(one.role, one.content) for one in draft.turns] == [
        ("user", "Hello"),
        ("assistant", "Hi"),
    ]
    assert (draft.temperature, draft.max_tokens) == ("0.25", "7")
    words = box.table._parts()["draft"]["words"]
    assert "It was used with the model" in words
    assert "The temperature is 0.25, as it was." in words
    assert "no place for it here: top_p." in words
    box.table.close()


def test_the_dashboards_chat_has_the_dashboards_table(home: Path) -> None:
    dashboard = gw.Dashboard()
    assert dashboard.chat.table is dashboard.table
    dashboard.close()
