"""Conversations of other programs: their forms are read, nonsense is refused in words.

About 2 s.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from support.tiny_projector import picture

from gguf_widgets.core.chat.export import import_data, reading
from gguf_widgets.core.chat.export.reading import read_trees
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def said(tree: Any) -> list[tuple[str, str]]:
    return [(one.role, one.content) for one in tree.messages]


LINE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."},
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(LINE),
        json.dumps({"messages": LINE}),
        json.dumps([{"messages": LINE}]),
        json.dumps({"messages": LINE}) + "\n",
        "\n".join(json.dumps(one) for one in LINE),
        "\ufeff" + json.dumps(LINE),
    ],
)
def test_openai_messages_in_each_of_their_forms(text: str) -> None:
    for data in (text, text.encode("utf-8"), text.encode("utf-16")):
        (tree,) = read_trees(data)
        assert tree.conversation.system == "Be brief."
        assert tree.conversation.title == "Hello"
        assert said(tree) == [("user", "Hello"), ("assistant", "Hi.")]
        assert tree.messages[1].parent_id == tree.messages[0].id


def test_lines_are_conversations() -> None:
    lines = "\n\n".join(json.dumps({"messages": LINE[1:]}) for _ in range(3))
    assert [said(tree) for tree in read_trees(lines)] == [
        [("user", "Hello"), ("assistant", "Hi.")] for _ in range(3)
    ]


def test_images_tools_and_thinking_are_taken_over() -> None:
    data = picture(1, 56, 56)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    (tree,) = read_trees(
        json.dumps(
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                        {"type": "input_audio", "input_audio": {}},
                    ],
                },
                {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
                {"role": "tool", "tool_call_id": "unknown", "content": "4"},
                {"role": "assistant", "content": "Three.", "reasoning_content": "1 and 2"},
            ]
        )
    )
    asked, called, answer = tree.messages
    assert [one.kind for one in asked.attachments] == ["image"]
    assert tree.files[asked.attachments[0].sha256] == data
    first, second = called.tool_calls
    assert (first.name, first.arguments, first.status, first.result) == (
        "add", {"a": 1}, "done", "3",
    )  # fmt: skip
    assert (second.status, second.error) == ("failed", "No result of this call is in the file.")
    assert answer.content == "<think>\n1 and 2\n</think>\n\nThree."
    (note,) = tree.notes
    assert "an image that is only an address" in note
    assert "'input_audio'" in note
    assert "nobody had called" in note


def node(name: str, parent: str | None, role: str = "", text: str = "", **more: Any) -> Any:
    message = {
        "id": name,
        "author": {"role": role},
        "create_time": 1_700_000_000.5,
        "content": {"content_type": "text", "parts": [text]},
        "status": "finished_successfully",
        "weight": 1.0,
        "recipient": "all",
        "metadata": {"model_slug": "gpt-4o"} if role == "assistant" else {},
        **more,
    }
    return {"id": name, "parent": parent, "children": [], "message": message if role else None}


def chatgpt(*nodes: Any, current: str) -> dict[str, Any]:
    return {
        "title": "Sums",
        "create_time": 1_700_000_000.0,
        "update_time": 1_700_000_100.0,
        "mapping": {one["id"]: one for one in nodes},
        "current_node": current,
        "conversation_id": "x",
    }


def test_a_conversation_of_chatgpt_with_branches_hidden_nodes_thoughts_and_tools() -> None:
    code = {"content_type": "code", "language": "python", "text": "1+2"}
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "Sum", "content": "1 and 2"}]}
    pointer = {"content_type": "image_asset_pointer"}
    image = {"content_type": "multimodal_text", "parts": [pointer, "What?"]}
    document = chatgpt(
        node("root", None),
        node("sys", "root", "system", "", weight=0),
        node("u1", "sys", "user", content=image),
        node("t1", "u1", "assistant", content=thoughts),
        node("a1", "t1", "assistant", content=code, recipient="python"),
        node("r1", "a1", "tool", content={"content_type": "execution_output", "text": "3"}),
        node("a2", "r1", "assistant", "Three."),
        node("b2", "r1", "assistant", "It is three."),
        node("h", "a2", "user", "secret", metadata={"is_visually_hidden_from_conversation": True}),
        node("u2", "h", "user", "Thanks"),
        current="u2",
    )
    trees = read_trees(json.dumps([document, chatgpt(node("root", None), current="root")]))
    (tree,) = trees  # the empty one is nothing to keep
    assert tree.conversation.title == "Sums"
    assert tree.conversation.model_name == "gpt-4o"
    by_text = {one.content or "call": one for one in tree.messages}
    assert set(by_text) == {
        "What?", "<think>\nSum\n\n1 and 2\n</think>\n\n", "Three.", "It is three.", "Thanks",
    }  # fmt: skip
    call = by_text["<think>\nSum\n\n1 and 2\n</think>\n\n"]
    assert (call.tool_calls[0].arguments, call.tool_calls[0].result) == ({"input": "1+2"}, "3")
    assert by_text["Three."].parent_id == by_text["It is three."].parent_id == call.id
    assert by_text["Thanks"].parent_id == by_text["Three."].id
    assert tree.conversation.active_leaf_id == by_text["Thanks"].id
    assert by_text["Three."].created_at == 1_700_000_000.5
    assert "an image, which is not in conversations.json" in tree.notes[0]


LOOP = chatgpt(node("a", "b", "user", "x"), node("b", "a", "user", "y"), current="a")


@pytest.mark.parametrize(
    ("data", "said_so"),
    [
        (b"", "empty"),
        (b"   \n", "empty"),
        (b"PK\x03\x04....", "ZIP archive"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a text file"),
        (b"Hello", "no JSON"),
        (b'{"role": "user"}', "of no form that is known"),
        (b"[1, 2]", "Conversation 1 of 2: .*of no form that is known"),
        (b"[]", "no message in this file"),
        (b"[NaN]", "NaN is no number"),
        (b'{"messages": []}', "no message in this file"),
        (b'{"messages": [7]}', "Message 1 is int"),
        (b'[{"role": "narrator", "content": "x"}]', "role 'narrator'"),
        (b'[{"role": ["user"], "content": "x"}]', "has the role"),
        (b'[{"role": "user", "content": {"a": 1}}]', "its content is dict"),
        (b'[{"role": "user", "content": [{"type": "text"}]}]', "has no text"),
        (b'[{"role": "assistant", "tool_calls": {"a": 1}}]', "tool_calls is dict"),
        (b'[{"role": "assistant", "tool_calls": [{}]}]', "no function with a name"),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n{"mess', "Line 2 of this file"),
        (b'{"mapping": {"a": 7}}', "The node 'a' is int"),
        (b'{"mapping": {"a": {"parent": 7}}}', "a parent that is no id"),
        (b'{"mapping": {"a": {"parent": null, "message": {}}}}', "has no author"),
        (json.dumps(LOOP).encode(), "round in a circle"),
        (b"[" * 200_000, "nested too deeply|no JSON"),
        (b'{"a":' * 200_000, "nested too deeply|no JSON"),
        (b"[" + b"1," * 21_000_000 + b"1]", "about 21,000,001 values"),
        (b'[{"role": "user", "content": "' + b"x" * 300_000_000 + b'"}]', "at most 268 MB"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_nonsense_is_refused_in_words_and_quickly(data: bytes, said_so: str) -> None:
    with Store.in_memory() as store:
        with pytest.raises(InvalidValueError, match=said_so):
            import_data(store, data)
        assert Conversations(store).recent() == []


def test_a_million_messages_are_refused() -> None:
    one = '{"role":"user","content":"x"}'
    text = "[" + ",".join([one] * (reading.MAX_TOTAL_MESSAGES + 1)) + "]"
    with pytest.raises(InvalidValueError, match="at most 200,000"):
        read_trees(text)


def test_of_many_conversations_all_come_in_or_none() -> None:
    good, bad = {"messages": LINE}, {"messages": [{"role": "narrator"}]}
    with Store.in_memory() as store:
        with pytest.raises(InvalidValueError, match=r"Conversation 3 of 3: .*Nothing was taken"):
            import_data(store, json.dumps([good, good, bad]))
        assert Conversations(store).recent() == []
        found = import_data(store, json.dumps([good] * 30))
        assert len(found.conversations) == len(Conversations(store).recent()) == 30


def test_a_fault_of_the_store_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Conversations.import_tree
    seen: list[str] = []

    def failing(self: Conversations, *arguments: Any) -> Any:
        seen.append("")
        if len(seen) == 3:
            raise RuntimeError("the disk is full")
        return whole(self, *arguments)

    monkeypatch.setattr(Conversations, "import_tree", failing)
    with Store.in_memory() as store:
        with pytest.raises(RuntimeError):
            import_data(store, json.dumps([{"messages": LINE}] * 4))
        assert Conversations(store).recent() == []


def test_half_characters_and_control_characters_do_no_harm() -> None:
    text = '[{"role": "user", "content": "a\\ud800b\\u0000c", "\\udfff": 1}]'
    with Store.in_memory() as store:
        (kept,) = import_data(store, text).conversations
        (message,) = Conversations(store).tree(kept.id)
    assert message.content == "a\ufffdb\0c"


def test_times_that_cannot_be_are_those_of_the_conversation() -> None:
    document = chatgpt(
        node("u", None, "user", "x", create_time=1e300),
        node("v", "u", "assistant", "y", create_time="soon"),
        current="nobody",
    )
    (tree,) = read_trees(json.dumps(document))
    assert {one.created_at for one in tree.messages} == {1_700_000_000.0}
    assert tree.conversation.active_leaf_id == tree.messages[-1].id
    del document["create_time"]
    (tree,) = read_trees(json.dumps(document))
    assert abs(tree.messages[0].created_at - time.time()) < 3600
