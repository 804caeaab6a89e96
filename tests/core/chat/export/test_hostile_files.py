"""Files that were made to do harm: refused in words, or harmless once they are in. 3 seconds."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

import pytest
from support.chat_fakes import FakeModel, Watcher, said
from support.hostile_conversations import document, hostile_texts

from gguf_widgets.core.chat import prompt
from gguf_widgets.core.chat.export import (
    FORMATS,
    export,
    html_form,
    html_of,
    import_data,
    openai_form,
)
from gguf_widgets.core.chat.export.reading import read_trees
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import MessageStatus
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store


def test_every_hostile_value_is_refused_in_words_or_can_be_read_shown_and_exported() -> None:
    taken = refused = 0
    with Store.in_memory() as store:
        kept = Conversations(store)
        for what, text in hostile_texts():
            try:
                (made,) = import_data(store, text).conversations
            except InvalidValueError:
                refused += 1
                continue
            taken += 1
            try:
                for form in FORMATS:
                    export(kept, made.id, form).text.encode()
                import_data(store, export(kept, made.id).text)
                chat = ChatInterface(None, store=store, conversation_id=made.id)
                chat.to_frame()
                html_of(chat)
                chat.close()
            except Exception as error:
                raise AssertionError(what) from error
    assert taken > 100
    assert refused > 300


def test_a_yes_to_one_call_never_runs_another_with_its_id() -> None:
    """A file may give two calls one id, one harmless: what is allowed is the one that was shown."""
    ran: list[str] = []

    def add(a: int) -> str:
        """Add."""
        ran.append(f"add {a}")
        return "1"

    def wipe(path: str) -> str:
        """Wipe."""
        ran.append(f"wipe {path}")
        return "gone"

    given = document()
    call = given["messages"][1]["tool_calls"][0] | {"status": "waiting", "result": None}
    given["messages"][1]["tool_calls"] = [
        {**call, "id": "same"},
        {**call, "id": "same", "name": "wipe", "arguments": {"path": "/"}},
        {**call, "id": "", "name": "wipe", "arguments": {"path": "/"}},
        {**call, "id": "x" * 101, "name": "wipe", "arguments": {"path": "/"}},
    ]
    with Store.in_memory() as store:
        (made,) = import_data(store, json.dumps(given)).conversations
        with ChatInterface(
            FakeModel(), store=store, conversation_id=made.id, tools=[add, wipe]
        ) as chat:
            calls = chat.messages[-1].tool_calls
            assert len({one.id for one in calls}) == 4
            assert all(0 < len(one.id) <= 100 for one in calls)
            watcher = Watcher(chat)
            chat.approve(calls[0].id)
            watcher.wait_for(
                lambda event: (
                    event.message is not None and event.message.tool_calls[0].status == "done"
                )
            )
            # "always" in a file is nobody's word.
            assert [one.status for one in chat.messages[-1].tool_calls] == [
                "done", "waiting", "waiting", "waiting",
            ]  # fmt: skip
    assert ran == ["add 1"]


@pytest.mark.parametrize("data", [None, b"<svg onload=alert(1)>", b"\x89PNG but no more"])
def test_a_conversation_whose_image_is_gone_or_none_can_go_on(data: bytes | None) -> None:
    given = document()
    digest = hashlib.sha256(data or b"").hexdigest()
    given["files"] = {} if data is None else {digest: base64.b64encode(data).decode()}
    given["messages"][0]["attachments"][0]["sha256"] = digest
    given["messages"][1] |= {"error": None, "tool_calls": []}
    with Store.in_memory() as store:
        imported = import_data(store, json.dumps(given))
        assert any("not in this file" in note for note in imported.notes)
        model = FakeModel(["Yes."])
        with ChatInterface(
            model, store=store, conversation_id=imported.conversations[0].id
        ) as chat:
            assert "not there any more" in chat.messages[0].attachments[0].note
            chat.send("And now?")
            assert said(chat)[-1] == ("assistant", "Yes.", str(MessageStatus.COMPLETE))
            assert "was an image" in str(model.streams[-1].messages)


def test_a_pdf_in_the_place_of_an_image_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each could keep its reader busy for a minute, and a file may have thousands."""

    def read_pdf(*_arguments: object) -> None:
        raise AssertionError("a PDF was read")

    monkeypatch.setattr("gguf_widgets.core.chat.attach.read_pdf", read_pdf)
    url = "data:image/png;base64," + base64.b64encode(b"%PDF-1.7\n...").decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "See"}, part, part]}]
    with Store.in_memory() as store:
        assert import_data(store, json.dumps(messages)).notes == [
            "Left out: an image that is none (2 times)."
        ]


def test_an_error_of_the_tree_is_raised_by_nothing_in_a_files_error() -> None:
    """Whatever an error's details are called, it can be made again."""
    from gguf_widgets.core.errors import from_wire

    details = {"message": "x", "self": 1, "cls": 2}
    error = from_wire({"kind": "StoreError", "message": "m", "details": details})
    assert isinstance(error, GgufWidgetsError)
    assert (error.message, error.details) == ("m", details)


def node(name: str, parent: str | None, role: str, content: dict[str, Any]) -> dict[str, Any]:
    message = {"author": {"role": role}, "content": content}
    return {"id": name, "parent": parent, "message": message}


def test_thoughts_that_many_answers_follow_do_not_unfold_without_end() -> None:
    """A few megabytes would become terabytes: each answer begins with what was thought before."""
    thought = {"content_type": "thoughts", "thoughts": [{"content": "x" * 1_000_000}]}
    mapping = {"t": node("t", None, "assistant", thought)}
    for number in range(2_000):
        said_so = {"content_type": "text", "parts": ["y"]}
        mapping[f"a{number}"] = node(f"a{number}", "t", "assistant", said_so)
    with pytest.raises(InvalidValueError, match="follow the same thoughts"):
        read_trees(json.dumps({"mapping": mapping}))


@pytest.mark.parametrize("role", ["assistant", "tool", "system"])
def test_many_small_pieces_are_put_together_once(role: str) -> None:
    """Joined one by one they would be copied as often as there are pieces: 150 times as long."""

    def read(num_pieces: int) -> float:
        said_so = {"content_type": "text", "parts": ["Hello"]}
        call = node("0", None, "assistant", said_so)
        call["message"]["recipient"] = "python"
        mapping = {} if role == "system" else {"0": call}
        words = "z" * (30_000_000 // num_pieces)
        piece: dict[str, Any] = {"content_type": "text", "parts": [words]}
        if role == "assistant":
            piece = {"content_type": "thoughts", "thoughts": [{"content": words}]}
        for number in range(1, num_pieces + 1):
            before = str(number - 1) if mapping else None
            mapping[str(number)] = node(str(number), before, role, piece)
        mapping["end"] = node("end", str(num_pieces), "assistant", said_so)
        text = json.dumps({"mapping": mapping})
        begun = time.process_time()
        (tree,) = read_trees(text)
        taken = time.process_time() - begun
        parts = [tree.conversation.system or ""]
        parts += [m.content for m in tree.messages]
        parts += [call.result or "" for m in tree.messages for call in m.tool_calls]
        assert sum(part.count("z") for part in parts) == 30_000_000
        return taken

    assert read(30_000) < 40 * read(10)


def test_one_image_that_is_named_without_end_is_not_written_out_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = document()
    image = given["messages"][0]["attachments"][0]
    given["messages"][0]["attachments"] = [{**image, "id": str(n)} for n in range(1_001)]
    with pytest.raises(InvalidValueError, match="more than 1,000 attached files"):
        read_trees(json.dumps(given))
    given["messages"][0]["attachments"].pop()
    (tree,) = read_trees(json.dumps(given))
    size = len(next(iter(tree.files.values())))
    monkeypatch.setattr(html_form, "_PAGE_BYTES", 5 * size)
    monkeypatch.setattr(html_form, "_NOTEBOOK_BYTES", 3 * size)
    for made, shown in ((html_form.page(tree), 5), (html_form.fragment(tree), 3)):
        assert made.count("<img ") == shown
        assert made.count("too many large images") == 1_000 - shown
    monkeypatch.setattr(openai_form, "_MAX_IMAGE_BYTES", 5 * size)
    with pytest.raises(InvalidValueError, match="images together are more"):
        openai_form.to_json(tree)
    monkeypatch.setattr(prompt, "_MAX_IMAGE_BYTES", 5 * size)
    read: list[str] = []

    def file(sha256: str) -> bytes:
        read.append(sha256)
        return tree.files[sha256]

    with pytest.raises(InvalidValueError, match="at once"):
        prompt.prompt_for(tree.messages, None, file)
    assert len(read) == 1
