"""What a chat's next message is sent with: a preset, changes on top, kept with it. About 1 s."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.chat_fakes import FakeModel, Watcher

from gguf_widgets.core.chat.settings import ChatSettings
from gguf_widgets.core.chat.types import EventKind
from gguf_widgets.core.errors import InvalidValueError, StoreError
from gguf_widgets.core.presets import MODEL_TYPES
from gguf_widgets.core.presets_own import Presets
from gguf_widgets.core.store.conversation_settings import keep_settings, kept_settings
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import SamplingSettings


def test_changes_are_known_and_can_be_taken_back(store: Store) -> None:
    settings = ChatSettings("code", None, {"top_k": 7}, store)
    assert settings.changes == {"top_k": 7}
    settings.change(temperature=0.2, top_k=9, stop=("END",))
    assert settings.changes == {"top_k": 9, "stop": ("END",)}  # 0.2 is the preset's own
    settings.change(temperature=1.0)
    settings.reset("temperature", "stop")
    assert settings.changes == {"top_k": 9}
    assert settings.sampling.temperature == 0.2

    before = settings.to_dict()
    for refused in ({"temperature": 9}, {"top_kk": 1}, {"min_tokens": 5, "max_tokens": 3}):
        with pytest.raises(InvalidValueError):
            settings.change(**refused)
    with pytest.raises(InvalidValueError, match="no setting called 'top_kk'"):
        settings.reset("top_kk")
    assert settings.to_dict() == before

    settings.system, settings.style = "Be brief.", "plain"
    settings.reset()
    assert (settings.changes, settings.system, settings.style) == ({}, "Be brief.", "plain")
    settings.reset_all()
    assert (settings.system, settings.style) == (MODEL_TYPES["code"].system, "markdown")


def test_another_preset_keeps_the_changes_or_replaces_them(store: Store) -> None:
    Presets(store).add("Poet", system="Rhyme.", sampling={"temperature": 1.5}, style="plain")
    settings = ChatSettings("text", "Mine", {"top_k": 7}, store)
    settings.model_type = "poet"
    assert (settings.system, settings.sampling.temperature) == ("Mine", 1.5)
    assert (settings.sampling.top_k, settings.style) == (7, "plain")
    settings.use("Poet")
    assert (settings.system, settings.changes) == ("Rhyme.", {})
    settings.system = ""
    assert settings.system is None
    for name in ("nobody", 5, "focused"):
        with pytest.raises(InvalidValueError, match="no model_type"):
            settings.use(name)  # type: ignore[arg-type]
    for style in ("loud", 5, ["plain"]):
        with pytest.raises(InvalidValueError, match="it can be markdown, plain, code"):
            settings.style = style  # type: ignore[assignment]
    assert settings.style == "plain"


def test_the_whole_is_data_that_brings_it_back(store: Store) -> None:
    presets = Presets(store)
    presets.add("Poet", system="Rhyme.", sampling={"temperature": 1.5})
    settings = ChatSettings("poet", "Mine", {"logit_bias": {3: float("-inf")}, "seed": 4}, store)
    settings.style = "code"
    kept = json.loads(json.dumps(settings.to_dict(), allow_nan=False))

    other = ChatSettings("text", None, {}, store)
    other.restore(kept)
    assert other.to_dict() == settings.to_dict()
    assert other.sampling == settings.sampling
    # A preset that was changed meanwhile counts as it is now; one that is gone as it was.
    presets.add("Poet", system="Rhyme.", sampling={"temperature": 0.9}, replace=True)
    other.restore(kept)
    assert other.sampling.temperature == 0.9
    presets.delete("poet")
    other.restore(kept)
    assert (other.preset.title, other.sampling.temperature) == ("Poet", 1.5)

    before = other.to_dict()
    for broken in (
        {},
        {**kept, "preset": {"title": "x", "telepathy": 1}},
        {**kept, "sampling": {"telepathy": 1}},
        {**kept, "system": 5},
        {**kept, "style": 5},
    ):
        with pytest.raises(InvalidValueError):
            other.restore(broken)
        assert other.to_dict() == before

    assert ChatSettings("text", None, {}, store).to_preset("T").sampling == {}
    again = settings.to_preset("Again", "What it is for")
    assert again.settings() == settings.sampling
    assert (again.system, again.style, again.description) == ("Mine", "code", "What it is for")


def test_a_preset_for_images_is_taken_and_says_what_the_model_cannot(store: Store) -> None:
    settings = ChatSettings("multimodal", None, {}, store)
    blind, seeing = FakeModel(), FakeModel()
    seeing.sees_images = True  # type: ignore[attr-defined]
    assert "fake does not" in settings.remark(blind)
    assert settings.remark(seeing) == settings.remark(None) == ""
    settings.use("text")
    assert settings.remark(blind) == ""


def test_such_a_preset_is_told_of_when_it_is_used(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["a"], ["b"], ["c"]), model_type="multimodal")
    watcher = Watcher(chat)
    for text in ("one", "two"):
        chat.send(text)
    told = [event.text for event in watcher.events if event.kind is EventKind.NOTICE]
    assert len(told) == 1
    assert "does not" in told[0]
    chat.model_type = "text"
    chat.send("three")
    assert len([event for event in watcher.events if event.kind is EventKind.NOTICE]) == 1


# -- in a conversation -----------------------------------------------------------------------------


def test_they_count_for_the_next_message_are_recorded_and_stay(
    make_chat: Any, store: Store
) -> None:
    Presets(store).add("Poet", system="Rhyme.", sampling={"temperature": 1.5})
    model = FakeModel(["a"], ["b"], ["c"])
    chat = make_chat(model)
    chat.change_settings(lambda settings: settings.change(top_k=3))
    chat.send("one")
    assert chat.messages[-1].sampling == SamplingSettings(top_k=3)
    watcher = Watcher(chat)
    chat.change_settings(lambda settings: settings.use("Poet"))
    chat.change_settings(lambda settings: settings.change(stop=("END",)))
    chat.style = "plain"
    assert [event.kind for event in watcher.events] == [EventKind.MODEL] * 3
    # Also without another message: a new window finds them.
    again = make_chat(model, conversation_id=chat.conversation_id)
    assert again.settings.to_dict() == chat.settings.to_dict()
    assert (again.model_type, again.system, again.style) == ("poet", "Rhyme.", "plain")
    again.send("two")
    answer = again.messages[-1]
    assert answer.sampling == SamplingSettings(temperature=1.5, stop=("END",))
    assert (answer.model_type, answer.system) == ("poet", "Rhyme.")
    assert model.streams[-1].messages[0] == {"role": "system", "content": "Rhyme."}

    # What is given in so many words counts more than what was kept.
    third = make_chat(model, conversation_id=chat.conversation_id, temperature=0, system="")
    assert third.sampling == SamplingSettings(temperature=0, stop=("END",))
    assert third.system is None
    # A new conversation goes on with them; it is kept with it from its first message.
    again.clear()
    again.send("three")
    assert make_chat(conversation_id=again.conversation_id).sampling.stop == ("END",)


def test_settings_that_cannot_be_used_or_kept_are_told(
    make_chat: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(FakeModel(["a"]), system="Be brief.", top_k=3)
    chat.send("one")
    keep_settings(store, chat.conversation_id, {"preset": {"title": "x", "telepathy": 1}})
    again = make_chat(conversation_id=chat.conversation_id)
    assert any("telepathy" in notice for notice in again.snapshot().notices)
    assert again.system == "Be brief."  # the conversation itself knows it

    def full(*_arguments: object) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr("gguf_widgets.core.chat.settings_held.keep_settings", full)
    chat.change_settings(lambda settings: settings.change(top_k=8))
    assert chat.sampling.top_k == 8
    assert "The disk is full." in chat.snapshot().notices[-1]


def test_they_go_with_the_conversation_and_leave_what_else_is_there(store: Store) -> None:
    conversations = Conversations(store)
    one = conversations.create(title="x")
    with store.transaction() as connection:
        connection.execute("UPDATE conversation SET extra = '{\"other\": 1}'")
    assert kept_settings(store, one.id) is None
    keep_settings(store, one.id, {"a": [1]})
    assert kept_settings(store, one.id) == {"a": [1]}
    assert conversations.get(one.id).updated_at == one.updated_at
    with store.reading() as connection:
        extra = connection.execute("SELECT extra FROM conversation").fetchone()[0]
    assert json.loads(extra) == {"other": 1, "settings": {"a": [1]}}
    assert kept_settings(store, "nobody") is None
    with pytest.raises(InvalidValueError, match="no conversation"):
        keep_settings(store, "nobody", {})
