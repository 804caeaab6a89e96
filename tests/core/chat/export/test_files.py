"""`ChatInterface.export`, `save` and `load_file`: what a person calls. About 1 s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.chat_fakes import FakeModel

from gguf_widgets.core.chat.export import FORMATS, export, html_of, import_data
from gguf_widgets.core.chat.export.home import NOTE, without_home
from gguf_widgets.core.chat.export.tree import gather
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import TokenLogprob
from tests.core.conftest import wait_for


@pytest.fixture
def chat() -> Iterator[ChatInterface]:
    with Store.in_memory() as store:
        one = ChatInterface(FakeModel(["A pear."], ["A lamp."]), store=store)
        yield one
        one.close()


def test_a_conversation_goes_into_a_file_and_comes_back(
    chat: ChatInterface, tmp_path: Path
) -> None:
    chat.send("Tell me a word")
    kept = Conversations(chat.store)
    answer = chat.messages[-1]
    kept.keep_tokens(answer.id, [TokenLogprob(1, "A", -0.5), TokenLogprob(2, " pear.", -0.1)])
    path = chat.save(tmp_path / "talk.json")
    with Store.in_memory() as other, ChatInterface.load_file(path, store=other) as loaded:
        assert [one.content for one in loaded.messages] == ["Tell me a word", "A pear."]
        assert loaded.title == chat.title
        assert loaded.messages[-1].seed == answer.seed
        assert loaded.tokens(loaded.messages[-1].id) == kept.tokens(answer.id)
    without = json.loads(chat.export("json", tokens=False))
    assert (without["tokens"], bool(json.loads(chat.export("json"))["tokens"])) == ({}, True)


def test_an_answer_that_is_being_written_is_exported_as_far_as_it_is(chat: ChatInterface) -> None:
    model = chat.model
    assert isinstance(model, FakeModel)
    model.script.clear()
    chat.start("Tell me a story")
    stream = model.next_stream()
    stream.say("Once upon")
    wait_for(lambda: chat.messages[-1].content, "the first words")
    assert "Once upon" in chat.export("markdown")
    assert "was being written" in chat.export("text")
    with Store.in_memory() as other:
        data = chat.export("json")
        (made,) = import_data(other, data).conversations
        tree = Conversations(other).tree(made.id)
        assert [str(one.status) for one in tree] == ["complete", "interrupted"]
    stream.say(None)


def test_the_ending_says_the_form_and_a_file_is_written_whole_or_not_at_all(
    chat: ChatInterface, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match="nothing to export"):
        chat.export("json")
    chat.send("Tell me a word")
    for ending, beginning in (
        ("json", '{\n"format"'),
        ("md", "# Tell me a word"),
        ("HTML", "<!DOCTYPE html>"),
        ("txt", "Tell me a word"),
        ("jsonl", '{"messages"'),
    ):
        assert chat.save(tmp_path / f"a.{ending}").read_text("utf-8").startswith(beginning)
    assert chat.save(tmp_path / "a", "openai").read_text("utf-8").startswith('{\n  "messages"')
    with pytest.raises(InvalidValueError, match="means no form"):
        chat.save(tmp_path / "a.docx")
    with pytest.raises(InvalidValueError, match="cannot be exported as 'pdf'"):
        chat.export("pdf")
    with pytest.raises(InvalidValueError, match="cannot be written"):
        chat.save(tmp_path / "nowhere" / "a.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InvalidValueError, match="cannot be written"):
        chat.save(tmp_path / "folder.json")
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(".part")]


def test_what_is_given_to_others_does_not_name_the_home_folder(
    chat: ChatInterface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every form, and the copy in a notebook; what a person wrote stays as it was written."""
    home = tmp_path / "ada.lovelace"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    model = chat.model
    assert isinstance(model, FakeModel)
    model.info = msgspec.structs.replace(model.info, path=f"{home}/models/fake.gguf")
    chat.send("Hello")
    beside = f"{home}.old/x {home}2 /mnt{home}"
    failed = RequestError(f"'{home}/models/fake.gguf' went away.", path=f"{home}/a", b=beside)
    model.script[:] = [[failed], ["Fine."]]
    with pytest.raises(RequestError):
        chat.send("Again")
    assert f"{home}/" in str(chat.messages)  # nothing is lost here
    for form in FORMATS:
        assert f"{home}/" not in chat.export(form), form
    assert f"{home}/" not in html_of(chat)
    document = json.loads(chat.export("json"))
    assert document["messages"][1]["model"]["path"] == "~/models/fake.gguf"
    assert document["messages"][3]["error"]["details"] == {"path": "~/a", "b": beside}
    made = export(Conversations(chat.store), str(chat.conversation_id), "json")
    assert made.notes == [NOTE]
    chat.send(f"In {home}/x")
    assert f"In {home}/x" in chat.export("text")
    with Store.in_memory() as other:
        (loaded,) = import_data(other, chat.export("json")).conversations
        tree = gather(Conversations(other), loaded.id)
    assert without_home(tree) is tree


def test_a_name_that_no_file_can_have_is_refused_in_words(chat: ChatInterface) -> None:
    chat.send("Tell me a word")
    for path in ("/", "a\0b.json"):
        with pytest.raises(InvalidValueError, match="cannot be written"):
            chat.save(path, "json")


def test_two_forms_of_one_conversation_have_two_names(chat: ChatInterface) -> None:
    chat.send("Tell me a word")
    assert chat.conversation_id is not None
    kept = Conversations(chat.store)
    names = [export(kept, chat.conversation_id, form).name for form in FORMATS]
    assert len(set(names)) == len(FORMATS)
    assert "Tell me a word.json" in names
