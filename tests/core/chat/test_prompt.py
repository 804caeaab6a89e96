"""What of a conversation the model is sent: files, images, thinking, calls of tools."""

from __future__ import annotations

from typing import Any

import pytest
from support.chat_fakes import FakeModel
from support.tiny_projector import picture

from gguf_widgets.core.chat import attach as chat_attach
from gguf_widgets.core.chat.prompt import num_unseen_images, prompt_for
from gguf_widgets.core.chat.read import prompt_of
from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.errors import InvalidValueError, UnsupportedByModelError
from gguf_widgets.core.images import cannot_see
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import ImagePart, TextPart


def message(role: str, content: str, **more: Any) -> ChatMessage:
    fields: dict[str, Any] = {"status": MessageStatus.COMPLETE, **more}
    return ChatMessage(
        id=content or "empty",
        conversation_id="c",
        parent_id=None,
        role=role,
        content=content,
        created_at=0.0,
        **fields,
    )


def attachment(kind: str, text: str | None = None) -> Attachment:
    return Attachment(
        id="a", kind=kind, name=f"it.{kind}", mime="x/y", size_bytes=1, sha256="5ha", text=text
    )


def test_files_come_before_the_words_and_images_as_they_are() -> None:
    asked = message("user", "What is it?", attachments=(attachment("text", "Milk"),))
    (sent,) = prompt_for([asked], None).messages
    assert sent["content"].endswith("\n\nWhat is it?")
    assert "Milk" in sent["content"]
    assert "parts" not in sent
    both = (attachment("image"), attachment("text", "Milk"), attachment("image"))
    line = [message("user", "Look", attachments=both), message("user", "Again")]
    (joined,) = prompt_for(line, None, lambda sha256: sha256.encode()).messages
    image = ImagePart(data=b"5ha")
    assert joined["parts"][:2] == [image, image]
    texts = [part.text for part in joined["parts"] if isinstance(part, TextPart)]
    assert "".join(texts) == joined["content"]
    assert texts[0].startswith("Attached file")
    assert texts[-1] == "Again"


def test_thoughts_are_not_sent_again_and_an_answer_of_nothing_else_is_left_out() -> None:
    line = [
        message("user", "1"),
        message("assistant", "<think>\nhm\n</think>\n\nYes"),
        message("user", "2"),
        message("assistant", "so far", record={"opens_thinking": True}),
        message("user", "3"),
        message("assistant", "half</think>whole", record={"opens_thinking": True}),
    ]
    sent, left_out = prompt_for(line, "S")
    assert [(m["role"], m["content"]) for m in sent] == [
        ("system", "S"),
        ("user", "1"),
        ("assistant", "Yes"),
        ("user", "2\n\n3"),
        ("assistant", "whole"),
    ]
    assert left_out == ["so far"]


def test_calls_go_with_their_results_and_nothing_is_joined_to_them() -> None:
    call = ToolCall(id="1", name="add", arguments={"a": 1}, status="done", result="2")
    refused = ToolCall(id="2", name="rm", arguments={}, status="declined")
    line = [
        message("user", "Add"),
        message("assistant", "", tool_calls=(call, refused)),
        message("assistant", "It is 2."),
    ]
    sent, left_out = prompt_for(line, None)
    assert [m["role"] for m in sent] == ["user", "assistant", "tool", "tool", "assistant"]
    assert sent[1]["tool_calls"] == [
        {"id": "1", "name": "add", "arguments": {"a": 1}},
        {"id": "2", "name": "rm", "arguments": {}},
    ]
    assert (sent[2]["content"], sent[2]["tool_call_id"], sent[2]["name"]) == ("2", "1", "add")
    assert sent[3]["content"]
    assert left_out == []


def test_files_are_kept_and_sent_with_the_message_and_its_edits(
    make_chat: Any, store: Store
) -> None:
    model = FakeModel(["a"], ["b"], ["c"])
    chat = make_chat(model)
    chat.send("Read", attachments=b"first words of a file")
    (kept,) = chat.messages[0].attachments
    assert Conversations(store).file(kept.sha256) == b"first words of a file"
    assert "first words" in model.streams[0].messages[0]["content"]
    chat.edit(chat.messages[0].id, "Read again")
    chat._answer and chat._answer.join(60)
    assert "first words" in model.streams[1].messages[0]["content"]
    chat.edit(chat.messages[0].id, "Without", attachments=[])
    chat._answer and chat._answer.join(60)
    assert model.streams[2].messages[0]["content"] == "Without"
    assert [
        len(m.attachments) for m in Conversations(store).children(None, chat.conversation_id)
    ] == [*(1, 1, 0)]
    gone = attachment("image")
    with pytest.raises(InvalidValueError, match="attach it again"):
        chat.start("Look", attachments=[gone])
    assert chat_attach.attach(b"x")[0].kind == "text"


def test_earlier_images_are_only_told_to_a_model_that_cannot_see() -> None:
    images = (attachment("image"), attachment("text", "Milk"), attachment("image"))
    asked = message("user", "Look", attachments=images)
    answer = message("assistant", "A cat.")
    tool = message("assistant", "", tool_calls=(ToolCall(id="1", name="t", arguments={}),))
    files = str.encode
    for line, unseen in (
        ([asked], 0),
        ([asked, tool], 0),
        ([asked, answer], 2),
        ([asked, answer, message("user", "And now?")], 2),
        ([asked, answer, message("user", "This?", attachments=images[:1])], 2),
    ):
        assert num_unseen_images(line) == unseen
        sent = prompt_for(line, None, files, sees=False).messages
        assert ("parts" in sent[0]) is (unseen == 0)
        assert sent[0]["content"].count("[An image, “it.image”") == unseen
        assert "Milk" in sent[0]["content"]
        assert sent[0]["content"].endswith("Look")
        assert prompt_for(line, None, files).messages[0]["parts"]  # one that sees is shown them all
    assert "parts" in sent[-1]


class Blind(FakeModel):
    """One that refuses images, as a real one does."""

    sees_images = False

    def stream(self, messages: list[Any], **more: Any) -> Any:
        if any("parts" in one for one in messages):
            raise cannot_see()
        return super().stream(messages, **more)


def test_after_a_change_to_a_model_that_cannot_see_the_conversation_goes_on(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["A cat."]))
    chat.send("What is it?", attachments=[picture(1, 40, 30)])
    chat.model = Blind(["I cannot see it."], ["Really."])
    chat.send("And what colour?")
    told = chat.model.streams[0].messages[0]["content"]
    assert told.startswith("[An image, “image”")
    assert [m.num_unseen_images for m in chat.messages] == [0, 0, 0, 1]
    # What is shown as read is what was read then, whatever the model can now.
    then = prompt_of(chat, chat.messages[-1].id).messages
    assert then == chat.model.streams[0].messages
    # A question with an image of its own fails in words; the one after it works again.
    with pytest.raises(UnsupportedByModelError, match="cannot see"):
        chat.send("And this?", attachments=[picture(1, 40, 30)])
    assert chat.send("Go on without").text == "Really."
    assert chat.messages[-1].num_unseen_images == 1
    chat.model = FakeModel(["A black one."])
    chat.send("Now?")
    assert chat.messages[-1].num_unseen_images == 0
    assert "parts" in chat.model.streams[0].messages[0]
