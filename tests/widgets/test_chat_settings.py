"""The settings panel with a real conversation and a page that is played. About 3 s."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chat_fakes import FakeModel
from support.gguf_writer import Typed, model_bytes

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.presets import MODEL_TYPES
from gguf_widgets.core.presets_file import write_presets
from gguf_widgets.core.presets_own import Presets
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import SamplingSettings
from gguf_widgets.widgets._chat_settings import SettingsPart


class Host:
    """The box around the part, and its page: what is to be done later is done when it asks."""

    def __init__(self, chat: ChatInterface) -> None:
        self.chat = chat
        self.said: list[str] = []
        self.later: list[tuple[Callable[[], object], Any]] = []
        self.part = SettingsPart(self)

    @property
    def model(self) -> Any:
        return self.chat.model

    def touch(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    def tell(self, content: Any, buffers: Any = None) -> None:
        raise AssertionError("the part has nothing to tell")

    def answer(self, asked: Any, buffers: Any = None, **more: Any) -> None:
        raise AssertionError("the part answers in other ways")

    def at_work(self, do: Callable[[], object], asked: Any = None) -> None:
        self.later.append((do, asked))

    def ask(self, kind: str, **content: Any) -> Any:
        before = self.state["version"]
        answer = self.part.ACTIONS[f"settings-{kind}"](self.part, content, [])
        if answer is None:
            ((do, asked),) = self.later
            self.later.clear()
            assert asked == content
            answer = do()
        # The page waits for a state at least as new as the answer to what it changed.
        after = self.state["version"]
        assert answer.pop("version", before) == after
        return answer

    def refused(self, kind: str, **content: Any) -> str:
        try:
            self.ask(kind, **content)
        except GgufWidgetsError as error:
            self.later.clear()
            return error.message
        raise AssertionError("it was taken")

    @property
    def state(self) -> dict[str, Any]:
        found = self.part.state(self.chat.snapshot())
        if self.later:
            for do, _ in self.later:
                do()
            self.later.clear()
            found = self.part.state(self.chat.snapshot())
        told: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
        return told


@pytest.fixture
def host(store: Store) -> Iterator[Host]:
    chat = ChatInterface(FakeModel(["a"], ["b"]), store=store)
    yield Host(chat)
    chat.close()


def test_what_is_set_counts_is_marked_and_can_be_taken_back(host: Host) -> None:
    host.ask("set", values={"temperature": 0.2, "stop": ["END"], "logit_bias": {"3": "-inf"}})
    state = host.state
    assert set(state["changed"]) == {"temperature", "stop", "logit_bias"}
    assert state["values"]["logit_bias"] == {"3": "-inf"}
    assert (state["values"]["temperature"], state["standard"]["temperature"]) == (0.2, 0.8)
    assert host.chat.sampling.logit_bias == {3: -math.inf}
    for values, words in [
        ({"temperature": 9}, "from 0.0 to 5.0"),
        ({"temperature": "warm"}, 'is "warm"'),
        ({"telepathy": 1}, '"telepathy"'),
        (5, "not a number"),
        ({"max_tokens": 5, "min_tokens": 9}, "cannot be larger"),
    ]:
        assert words in host.refused("set", values=values)
    assert host.state == state
    host.ask("reset", name="stop")
    assert set(host.state["changed"]) == {"temperature", "logit_bias"}
    host.ask("set", values={"temperature": 0})
    assert "always taken" in host.state["remarks"]["top_p"]

    host.ask("system", text="Be brief.")
    host.ask("style", style="plain")
    assert "loud" in host.refused("style", style="loud")
    assert "must be a text" in host.refused("system", text=5)
    before = host.chat.settings.to_dict()
    host.ask("reset")
    assert (host.state["changed"], host.state["system"], host.state["style"]) == (
        [],
        "",
        "markdown",
    )
    assert host.state["undo"] == "Everything was reset."
    host.ask("undo")
    assert host.chat.settings.to_dict() == before
    assert host.state["undo"] == ""

    host.chat.send("Hello")
    assert host.chat.messages[-1].sampling == SamplingSettings(
        temperature=0, logit_bias={3: -math.inf}
    )
    assert host.chat.messages[-1].system == "Be brief."


def test_presets_and_creativity(host: Host) -> None:
    assert (host.state["preset"], host.state["creativity"]) == ("text", "balanced")
    host.ask("creative", name="creative")
    assert (host.state["creativity"], host.state["undo"]) == ("creative", "")
    host.ask("set", values={"temperature": 1.1})
    assert host.state["creativity"] == ""
    host.ask("use", preset="code")
    state = host.state
    assert (state["preset"], state["creativity"], state["changed"]) == ("code", "focused", [])
    assert state["system"] == MODEL_TYPES["code"].system
    assert 'this is "Code"' in state["undo"]
    host.ask("undo")
    assert (host.state["preset"], host.state["values"]["temperature"]) == ("text", 1.1)
    assert "There is no model_type" in host.refused("use", preset="nobody")
    assert "It can be focused" in host.refused("creative", name="code")

    # The preset's own system prompt, typed again, is no change; an empty one is.
    host.ask("use", preset="code")
    host.ask("system", text=MODEL_TYPES["code"].system)
    assert host.chat.settings.own_system is None
    host.ask("system", text="")
    assert (host.state["system"], host.chat.system) == ("", None)

    host.ask("use", preset="multimodal")
    assert "does not" in host.state["remark"]
    assert host.said[-1] == host.state["remark"]
    host.said.clear()
    host.part.sent({})
    assert host.said == [host.state["remark"]]
    host.ask("use", preset="text")
    assert host.said[-1] == host.state["remark"] == ""
    host.part.sent({})
    assert len(host.said) == 2


def test_own_presets_are_saved_changed_renamed_deleted_and_undone(host: Host, store: Store) -> None:
    host.ask("set", values={"temperature": 0.3, "stop": ["END"]})
    host.ask("system", text="Ask first.")
    saved = host.ask("save", title="My tutor", description="Asks.")
    assert saved == {"name": "my-tutor", "title": "My tutor"}
    state = host.state
    assert (state["preset"], state["changed"]) == ("my-tutor", [])
    assert state["presets"][-1] == {
        "name": "my-tutor",
        "title": "My tutor",
        "description": "Asks.",
        "own": True,
    }
    assert "already" in host.refused("save", title="MY tutor")
    assert "already" in host.refused("save", title="Text", replace=True)
    assert "title is missing" in host.refused("save", title="  ")

    host.ask("set", values={"top_k": 5})
    host.ask("update")
    assert Presets(store).get("my-tutor").sampling["top_k"] == 5
    assert host.state["changed"] == []
    host.ask("undo")
    assert "top_k" not in Presets(store).get("my-tutor").sampling
    assert host.state["changed"] == ["top_k"]

    assert host.ask("rename", name="my-tutor", title="Professor") == {"title": "Professor"}
    assert host.state["about"]["title"] == "Professor"
    assert host.state["changed"] == ["top_k"]
    assert "belongs to the program" in host.refused("rename", name="code", title="x")

    host.ask("delete", name="my-tutor")
    assert [one["name"] for one in host.state["presets"]] == list(MODEL_TYPES)
    assert host.state["about"]["title"] == "Professor"  # the chat goes on with it
    assert host.chat.sampling.temperature == 0.3
    host.ask("undo")
    assert host.state["presets"][-1]["title"] == "Professor"
    assert "reload" in host.refused("delete", name=5).lower()


def test_files_are_shared_judged_and_taken_as_the_person_decides(host: Host, store: Store) -> None:
    presets = Presets(store)
    presets.add("Mine", system="mine")
    shared = host.ask("share", name="mine")
    assert shared["fileName"] == "Mine.preset.json"
    theirs = [
        presets.get("mine"),
        *(MODEL_TYPES["code"],),
        *(presets.add(title) for title in ("New", "Not this")),
    ]
    text = write_presets(theirs)
    for name in ("new", "not-this"):
        presets.delete(name)
    presets.add("Mine", system="changed since", replace=True)
    found = host.ask("read", text=text)["presets"]
    told = [(one["title"], one["clash"], one["canReplace"]) for one in found]
    assert told == [
        ("Mine", True, True),
        ("Code", True, False),
        ("New", False, False),
        ("Not this", False, False),
    ]
    assert [one.title for one in presets.own()] == ["Mine"]  # reading keeps nothing
    assert "already" in host.refused("take", text=text, choices={})
    assert presets.get("Mine").system == "changed since"
    choices = {"Mine": "replace", "Code": "both", "Not this": "skip"}
    taken = host.ask("take", text=text, choices=choices)
    assert taken == {"added": ["Mine", "Code (2)", "New"], "left": ["Not this"]}
    assert presets.get("Mine").system == "mine"
    assert host.ask("take", text=text, choices={**choices, "New": "both"})["added"] == [
        "Mine",
        "Code (3)",
        "New (2)",
    ]
    assert "not JSON" in host.refused("read", text="{")
    assert "no file" in host.refused("read", text=None)


def test_what_the_maker_recommends_is_shown_and_used_on_request(
    host: Host, tmp_path: Path, store: Store
) -> None:
    assert "could not be read" in host.state["recommended"]["fault"]  # /m/fake.gguf is not there
    path = tmp_path / "made.gguf"
    path.write_bytes(
        model_bytes(
            general__sampling__temp=Typed("float32", 0.6),
            general__sampling__top_p=Typed("float32", 9.0),
        )
    )
    model = FakeModel(["a"])
    model.info = model.info.replace(path=str(path))
    host.chat.model = model
    told = host.state["recommended"]
    assert told["items"] == [{"name": "temperature", "title": "Variety", "value": 0.6}]
    assert "top_p is 9.0" in told["notes"][0]
    assert (told["used"], told["fault"]) == (False, "")
    host.ask("maker")
    assert host.state["recommended"]["used"]
    assert host.chat.sampling.temperature == 0.6
    host.ask("undo")
    assert host.chat.sampling.temperature == 0.8
    host.chat.model = None
    assert host.state["recommended"]["items"] == []
    assert "recommends nothing" in host.refused("maker")


def test_the_form_of_the_answer_is_judged_before_it_counts(host: Host) -> None:
    parts = [{"name": "city", "kind": "text", "choices": [], "required": True}]
    form = {"kind": "form", "parts": parts, "schema": "", "grammar": ""}
    told = host.ask("answer", answer=form)
    assert told["judged"] is False  # a fake model has no engine
    assert json.loads(told["schema"])["properties"] == {"city": {"type": "string"}}
    state = host.state
    assert state["answer"] == form
    assert set(state["changed"]) == {"schema"}
    assert host.chat.sampling.schema["properties"] == {"city": {"type": "string"}}
    assert "Part 1 has no name" in host.refused("answer", answer={**form, "parts": [{}]})
    host.ask("set", values={"stop": ["x"], "max_tokens": 9})
    assert {"stop", "max_tokens"} <= host.state["remarks"].keys()
    assert "ignore_eos" in host.refused("set", values={"ignore_eos": True})
    # What was filled in stays while there is no form.
    host.ask("answer", answer={**form, "kind": "off"})
    assert (host.state["answer"]["parts"], host.chat.sampling.schema) == (parts, None)
    host.ask("reset", name="stop")
    host.ask("set", values={"ignore_eos": True})
    assert "ignore_eos" in host.refused("answer", answer=form)
    # One that was set from Python is shown as the form that it is.
    host.chat.sampling = {"schema": {"type": "object"}}
    assert host.state["answer"]["kind"] == "json"
    host.ask("reset", name="answer")
    assert host.chat.sampling.schema is None


def test_words_need_a_model(host: Host) -> None:
    assert "Choose a model first" in host.refused("tokens", text="a")


def test_the_state_is_not_made_anew_for_every_token(host: Host, store: Store) -> None:
    assert host.state
    first = host.part.state(host.chat.snapshot())
    Presets(store).add("From another window")
    assert host.part.state(host.chat.snapshot()) is first
    host.ask("open")  # the panel was opened
    assert host.state["presets"][-1]["title"] == "From another window"
    fields = host.ask("open")["fields"]
    json.dumps(fields, allow_nan=False)


def test_one_that_cannot_be_used_here_is_named_and_can_be_removed(host: Host, store: Store) -> None:
    from gguf_widgets.core.preferences import PRESETS, Preferences

    Preferences(store).set(PRESETS, {"later": {"title": "Later", "telepathy": 1}})
    host.ask("open")
    ((one,),) = (host.state["unusable"],)
    assert (one["name"], '"telepathy"' in one["why"]) == ("later", True)
    host.ask("delete", name="later")
    assert host.state["unusable"] == []
    host.ask("undo")
    assert [one["name"] for one in host.state["unusable"]] == ["later"]
    with pytest.raises(InvalidValueError, match="telepathy"):
        host.chat.model_type = "later"
