"""The forms for reading and for programs: all that is on screen is in them, and nothing runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import msgspec
import pytest
from support.tiny_projector import picture

from gguf_widgets.core.chat.export import formats, html_form
from gguf_widgets.core.chat.export.formats import FORMATS
from gguf_widgets.core.chat.export.reading import read_trees
from gguf_widgets.core.chat.export.tree import Tree, line_of
from gguf_widgets.core.chat.types import Attachment, MessageStatus, ToolCall
from gguf_widgets.core.types import FinishReason, SamplingSettings, Timings, Usage

PICTURE = picture(3, 56, 56)


def attachment(kind: str, name: str, data: bytes, **more: Any) -> Attachment:
    return Attachment(
        id=name,
        kind=kind,
        name=name,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        **more,
    )


def rich_tree() -> Tree:
    """Return a conversation with one of everything that an export has to say something about."""
    (tree,) = read_trees(
        json.dumps(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is *this*?"},
                {"role": "assistant", "content": "<think>\nIt is red.\n</think>\n\nA **circle**."},
                {"role": "user", "content": "And 1+2?"},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "c", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}]},
                {"role": "tool", "tool_call_id": "c", "content": "3"},
                {"role": "assistant", "content": "```python\nprint(3)"},
                {"role": "user", "content": "Another branch"},
            ]
        )
    )  # fmt: skip
    first, answer, second, called, cut, other = tree.messages
    change = msgspec.structs.replace
    messages = [
        change(
            first,
            attachments=(
                attachment("image", "red.png", PICTURE, mime="image/png"),
                attachment("text", "notes.txt", b"Buy milk.", mime="text/plain", text="Buy milk."),
            ),
        ),
        change(
            answer,
            model_name="demo",
            usage=Usage(num_prompt_tokens=9, num_completion_tokens=12),
            timings=Timings(
                queue_s=0, prefill_s=0.1, decode_s=1, ttft_s=0.1, total_s=1.1, decode_tok_per_s=11
            ),
            sampling=SamplingSettings(temperature=0.5),
            seed=7,
            thinking_s=2.5,
        ),
        second,
        called,
        change(
            cut,
            finish_reason=FinishReason.LENGTH,
            left_out=(first.id, answer.id),
            summary="They looked at a circle.",
        ),
        change(other, parent_id=first.id),
    ]
    messages.append(
        change(
            cut,
            id="failed",
            parent_id=cut.id,
            content="",
            status=MessageStatus.FAILED,
            finish_reason=None,
            left_out=(),
            summary=None,
            error={"kind": "DecodeError", "message": "It <broke>.", "details": {}},
        )
    )
    return change(
        tree,
        conversation=change(tree.conversation, active_leaf_id="failed", title="A *red* circle"),
        messages=messages,
        files={hashlib.sha256(PICTURE).hexdigest(): PICTURE},
    )


@pytest.mark.parametrize("name", ["markdown", "html", "text"])
def test_what_is_on_screen_is_in_it(name: str) -> None:
    text, notes = FORMATS[name].write(rich_tree())
    assert notes == []
    for words in (
        "circle",
        "Be brief.",
        "Thinking, 2.5 s",
        "It is red.",
        "red.png",
        "12 tokens",
        "seed 7",
        "demo",
        "Cut off",
        "2 earlier messages were not sent",
        "This answer failed. It",
        "1 message of another branch is in the JSON export.",
    ):
        assert words in text.replace("\\", ""), words
    assert "Another branch" not in text
    if name == "html":
        assert "It &lt;broke&gt;." in text
        assert base64.b64encode(PICTURE).decode() in text
    # The code block that the answer left open does not take in what follows.
    if name == "markdown":
        assert text.index("print(3)\n```\n") < text.index("**Cut off")
        assert "Tool: `add(a=1, b=2)`\n\n```\n3\n```" in text


def test_markdown_is_never_left_open() -> None:
    from gguf_widgets.core.chat.export.markdown_form import _block, _code, _ended

    assert _ended("a\n````\nb\n```") == "a\n````\nb\n```\n````"
    assert _ended("a\n```x`\nb") == "a\n```x`\nb"  # code within a line
    assert _ended("~~~\nb\n~~~") == "~~~\nb\n~~~"
    assert _ended("a <!-- b") == "a &lt;!-- b"
    assert _ended("a <!-- b --> c") == "a <!-- b --> c"
    assert _block("a ``` b") == "````\na ``` b\n````"
    assert _code("a `b`") == "`` a `b` ``"


def test_openai_messages_come_back_as_they_went() -> None:
    tree = rich_tree()
    text, notes = FORMATS["openai"].write(tree)
    assert notes == ["1 answer without a word left out."]
    messages = json.loads(text)["messages"]
    assert [one["role"] for one in messages] == [
        "system", "user", "assistant", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    image, words = messages[1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert "Buy milk." in words["text"]
    assert messages[2] == {
        "role": "assistant", "content": "A **circle**.", "reasoning_content": "It is red.",
    }  # fmt: skip
    assert json.loads(messages[4]["tool_calls"][0]["function"]["arguments"]) == {"a": 1, "b": 2}
    assert messages[5] == {"role": "tool", "tool_call_id": "c", "content": "3"}
    (again,) = read_trees(text)
    assert again.notes == ()
    assert again.messages[0].attachments[0].sha256 == hashlib.sha256(PICTURE).hexdigest()
    line = [one for one in line_of(tree) if one.status is not MessageStatus.FAILED]
    assert [one.content for one in again.messages][1:] == [one.content for one in line][1:]
    (line_text, _) = FORMATS["openai-jsonl"].write(tree)
    assert line_text.count("\n") == 1
    assert json.loads(line_text) == json.loads(text)


def test_a_page_forbids_all_that_it_does_not_hold() -> None:
    page = html_form.page(rich_tree(), lambda text: f"<p>{len(text)}</p>")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"<script|javascript:|https?://|\son\w+=|<link|style=", page)


def test_a_picture_of_another_kind_is_only_named() -> None:
    tree = rich_tree()
    data = b"<svg onload='alert(1)'/>"
    evil = attachment("image", '"><b>x.svg', data, mime="image/svg+xml")
    messages = [msgspec.structs.replace(tree.messages[0], attachments=(evil,)), *tree.messages[1:]]
    page = html_form.page(
        msgspec.structs.replace(tree, messages=messages, files={evil.sha256: data}),
        lambda text: "",
    )
    assert "<img" not in page
    assert "&quot;&gt;&lt;b&gt;x.svg" in page


def test_a_long_conversation_shows_its_end_in_a_notebook() -> None:
    lines = [{"role": "user", "content": f"line {i}."} for i in range(300)]
    (tree,) = read_trees(json.dumps(lines))
    piece = html_form.fragment(tree)
    assert "line 299." in piece
    assert "line 99." not in piece
    assert "100 earlier messages are not shown here" in piece


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("What is 1/2?", "What is 1 2"),
        ("../../etc/passwd", "etc passwd"),
        ("CON", "CON conversation"),
        ("日本語", "日本語"),
        ("\0\u202e", "conversation"),
        ("", "conversation"),
    ],
)
def test_a_file_may_have_its_name_everywhere(title: str, stem: str) -> None:
    assert formats.file_stem(title) == stem


def test_tool_calls_of_every_outcome_have_words() -> None:
    from gguf_widgets.core.chat.export.words import call_words

    def told(**more: Any) -> str:
        return call_words(ToolCall(id="c", name="f", arguments={}, **more))[1]

    assert told(status="declined") == "You did not allow it."
    assert told(status="failed", error="No.") == "It failed: No."
    assert told(status="done", result="3") == "3"
    assert told(status="waiting") == "Not called yet."


def test_no_control_character_goes_into_a_page() -> None:
    """A browser would drop some; a terminal acts on others, where the file is looked at there."""
    tree = rich_tree()
    title = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x2028, 0xFEFF]))
    conversation = msgspec.structs.replace(tree.conversation, title=f"a{title}b")
    text, _ = FORMATS["html"].write(msgspec.structs.replace(tree, conversation=conversation))
    assert not [
        c for c in text if ord(c) in (*range(9), *range(11, 32), *range(0x7F, 0xA0), 0xFEFF)
    ]
    assert "<title>a" in text
