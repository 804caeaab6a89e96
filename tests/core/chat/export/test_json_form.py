"""Our own form: nothing is lost, later versions are refused, what was changed is told.

About 3 s.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from support.chat_trees import trees, without_ids

from gguf_widgets.core.chat.export import import_data, json_form
from gguf_widgets.core.chat.export.formats import export
from gguf_widgets.core.chat.export.keeping import import_file
from gguf_widgets.core.chat.export.reading import read_trees
from gguf_widgets.core.chat.export.tree import Tree, checked, gather
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store


@pytest.fixture(scope="module")
def store() -> Any:
    with Store.in_memory() as one:
        yield one


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=trees())
def test_reading_what_was_written_gives_an_equal_tree(tree: Tree) -> None:
    (read,) = read_trees(json_form.write(tree))
    assert read.notes == ()
    assert without_ids(read) == without_ids(tree)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(tree=trees())
def test_a_store_gives_out_what_it_took_in(store: Store, tree: Tree) -> None:
    """A file imported, exported from the store and imported again holds the same."""
    conversations = Conversations(store)
    first = import_data(store, json_form.write(tree)).conversations[0]
    assert first.active_leaf_id is not None
    kept = gather(conversations, first.id, tokens=True)
    assert without_ids(kept) == without_ids(tree)
    again = import_data(store, export(conversations, first.id).text)
    assert again.notes == []
    assert again.conversations[0].id != first.id
    second = gather(conversations, again.conversations[0].id, tokens=True)
    assert without_ids(second) == without_ids(tree)


def small_tree() -> Tree:
    text = json.dumps(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]}
    )
    return read_trees(text)[0]


def test_a_file_of_a_later_version_is_refused_by_name(store: Store) -> None:
    document = json.loads(json_form.write(small_tree()))
    document["version"] = 99
    with pytest.raises(InvalidValueError, match=r"newer version.*its form is 99") as caught:
        import_data(store, json.dumps(document))
    assert caught.value.details["version"] == 99


def test_what_was_changed_by_hand_is_told_and_marked() -> None:
    document = json.loads(json_form.write(small_tree()))
    document["messages"][1]["content"] = "No."
    (read,) = read_trees(json.dumps(document))
    assert read.notes == (
        "This file was changed after it was exported: 1 answer, marked as edited.",
    )
    assert [message.edited for message in read.messages] == [False, True]
    document = json.loads(json_form.write(small_tree()))
    document["messages"][0]["content"] = "Hello"
    document["conversation"]["title"] = "Other"
    (read,) = read_trees(json.dumps(document))
    assert read.notes == ("This file was changed after it was exported: 1 message of yours.",)
    document = json.loads(json_form.write(small_tree()))
    document["conversation"]["title"] = "Other"
    del document["digest"]
    (read,) = read_trees(json.dumps(document))
    assert "something other than the texts" in read.notes[0]


def test_laying_the_file_out_anew_is_no_change() -> None:
    text = json_form.write(small_tree())
    (read,) = read_trees(json.dumps(json.loads(text), sort_keys=True, indent=8))
    assert read.notes == ()


def test_fields_that_are_not_known_are_told() -> None:
    document = json.loads(json_form.write(small_tree()))
    document["messages"][0]["mood"] = "sunny"
    document["messages"][1]["usage"] = {"num_prompt_tokens": 1, "num_dreams": 2}
    (read,) = read_trees(json.dumps(document))
    assert any("does not know it: mood, usage.num_dreams." in note for note in read.notes)


def message(**changes: Any) -> dict[str, Any]:
    plain = json.loads(json_form.write(small_tree()))["messages"][0]
    return {**plain, "parent_id": None, **changes}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([message(id="a"), message(id="a")], "same id, 'a'"),
        ([message(id="a", parent_id="b"), message(id="b", parent_id="a")], "round in a circle"),
        ([message(id="a", parent_id="a")], "round in a circle"),
        ([message(id="a", parent_id="nobody")], "follows the message 'nobody'"),
        ([message(id="")], "has no id"),
        ([message(role="narrator")], "neither you nor a model"),
        ([message(created_at=1e300)], "a time that cannot be"),
        ([message(created_at="soon")], "Message 1 cannot be read"),
        ([message(content=7)], "Message 1 cannot be read"),
        ([message(sampling={"temperature": -5})], "Message 1 cannot be read"),
        ([message(usage={"num_prompt_tokens": "x"})], "Message 1 cannot be read"),
        ([message(tool_calls=[{"id": 1}])], "Message 1 cannot be read"),
        ([message(status="asleep")], "Message 1 cannot be read"),
        (["Hello"], "Message 1 is str, not an object"),
        ("Hello", "no list of messages"),
        ([], "no message in this file"),
    ],
)
def test_what_is_no_conversation_is_refused_in_words(
    store: Store, messages: Any, said: str
) -> None:
    document = {**json.loads(json_form.write(small_tree())), "messages": messages}
    before = Conversations(store).recent(limit=1000)
    with pytest.raises(InvalidValueError, match=said):
        import_data(store, json.dumps(document))
    assert Conversations(store).recent(limit=1000) == before


def test_a_file_whose_bytes_are_damaged_is_refused() -> None:
    document = json.loads(json_form.write(small_tree()))
    document["files"] = {"0" * 64: "QQ=="}
    with pytest.raises(InvalidValueError, match="fingerprint"):
        read_trees(json.dumps(document))
    document["files"] = {"0" * 64: "not base64!"}
    with pytest.raises(InvalidValueError, match="is damaged"):
        read_trees(json.dumps(document))


def test_messages_in_any_order_are_put_in_order_and_open_answers_are_closed() -> None:
    tree = small_tree()
    first, second = tree.messages
    open_one = ChatMessage(
        id="x",
        conversation_id=first.conversation_id,
        parent_id=second.id,
        role="assistant",
        content="Once upon",
        status=MessageStatus.STREAMING,
        created_at=1.0,
    )
    mixed = Tree(conversation=tree.conversation, messages=[open_one, second, first])
    found = checked(mixed).messages
    assert [one.id for one in found] == [first.id, second.id, "x"]
    assert found[-1].status is MessageStatus.INTERRUPTED


def test_a_deep_line_of_messages_costs_no_recursion() -> None:
    document = json.loads(json_form.write(small_tree()))
    plain = message()
    document["messages"] = [
        {**plain, "id": f"m{i}", "parent_id": f"m{i - 1}" if i else None} for i in range(5000)
    ]
    document["messages"].reverse()
    (read,) = read_trees(json.dumps(document))
    assert len(read.messages) == 5000


def test_a_file_that_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="cannot be read"):
        import_file(store, tmp_path / "nothing.json")
    with pytest.raises(InvalidValueError, match="is no file"):
        import_file(store, tmp_path)
