from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus, ToolCall
from gguf_widgets.core.errors import InvalidValueError, StoreError, from_wire, to_wire
from gguf_widgets.core.store import owners, token_blob
from gguf_widgets.core.store.conversations import Conversations, new_id
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import (
    FinishReason,
    SamplingSettings,
    Timings,
    TokenChance,
    TokenLogprob,
    Usage,
)


@pytest.fixture
def conversations(home: Path) -> Iterator[Conversations]:
    with Store() as store:
        yield Conversations(store)


def message(conversation: str, parent: str | None, content: str = "x", **more: Any) -> ChatMessage:
    fields: dict[str, Any] = {"role": "user", "status": MessageStatus.COMPLETE, **more}
    return ChatMessage(
        id=new_id(),
        conversation_id=conversation,
        parent_id=parent,
        content=content,
        created_at=time.time(),
        **fields,
    )


NUMBERS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(codec="utf-8"))
PLAIN = st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.booleans() | st.none())
ATTACHMENTS = st.builds(
    Attachment,
    id=TEXT,
    kind=st.sampled_from(["text", "pdf", "image"]),
    name=TEXT,
    mime=TEXT,
    size_bytes=st.integers(0, 2**40),
    sha256=TEXT,
    text=st.none() | TEXT,
    num_tokens=st.none() | st.integers(0, 2**31),
    note=TEXT,
)
CALLS = st.builds(
    ToolCall,
    id=TEXT,
    name=TEXT,
    arguments=PLAIN,
    status=st.sampled_from(["waiting", "running", "done", "failed", "declined"]),
    result=st.none() | TEXT,
    error=st.none() | TEXT,
    total_s=st.none() | st.floats(0, 1e6),
    always=st.booleans(),
    printed=TEXT,
)
ANSWERS = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "tool"]),
        "content": TEXT,
        "status": st.sampled_from(MessageStatus),
        "finish_reason": st.none() | st.sampled_from(FinishReason),
        "usage": st.none()
        | st.builds(Usage, num_prompt_tokens=st.integers(0, 2**40), num_cached_tokens=st.just(3)),
        "timings": st.none()
        | st.builds(
            Timings,
            queue_s=NUMBERS,
            prefill_s=NUMBERS,
            decode_s=NUMBERS,
            ttft_s=st.none() | NUMBERS,
            total_s=NUMBERS,
        ),
        "error": st.none()
        | st.just(to_wire(StoreError("Full: é {x}.", path="/a", sizes=[1, 2.5, None]))),
        "model_name": st.none() | TEXT,
        "model": st.none() | st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.none()),
        "sampling": st.none()
        | st.builds(
            SamplingSettings,
            temperature=st.floats(0, 5),
            stop=st.lists(TEXT, max_size=3).map(tuple),
            logit_bias=st.dictionaries(st.integers(0, 10), NUMBERS, max_size=3),
        ),
        "seed": st.none() | st.integers(0, 2**32 - 2),
        "system": st.none() | TEXT,
        "model_type": st.none() | TEXT,
        "begin": TEXT,
        "thinking_s": st.none() | st.floats(0, 1e9),
        "attachments": st.lists(ATTACHMENTS, max_size=2).map(tuple),
        "tool_calls": st.lists(CALLS, max_size=2).map(tuple),
        "left_out": st.lists(TEXT, max_size=2).map(tuple),
        "summary": st.none() | TEXT,
        "edited": st.booleans(),
        "record": st.none() | PLAIN,
    }
)


@given(ANSWERS, ANSWERS)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_was_written_is_read(
    conversations: Conversations, first: dict[str, Any], second: dict[str, Any]
) -> None:
    conversation = conversations.create(title="t", system="s", model={"path": "/m"})
    one = message(conversation.id, None, **first)
    two = message(conversation.id, one.id, **second)
    conversations.add(one, two)
    assert conversations.path(conversation.id) == [one, two]
    changed = msgspec.structs.replace(two, content="new", status=MessageStatus.FAILED)
    conversations.save(changed)
    assert conversations.message(two.id) == changed
    read = conversations.get(conversation.id)
    assert read.active_leaf_id == two.id
    assert (read.title, read.system, read.model) == ("t", "s", {"path": "/m"})
    if one.error:
        assert from_wire(one.error).details == {"path": "/a", "sizes": [1, 2.5, None]}


def test_branches_and_their_leaves(conversations: Conversations) -> None:
    conversation = conversations.create()
    root = message(conversation.id, None, "root")
    left = message(conversation.id, root.id, "left")
    right = message(conversation.id, root.id, "right")
    below = message(conversation.id, left.id, "below left")
    conversations.add(root, left, below, right)
    assert [m.content for m in conversations.path(conversation.id)] == ["root", "right"]
    conversations.set_active_leaf(conversation.id, below.id)
    contents = [m.content for m in conversations.path(conversation.id)]
    assert contents == ["root", "left", "below left"]
    assert [m.content for m in conversations.tree(conversation.id)] == [
        *("root", "left", "below left", "right"),
    ]
    other = conversations.create()
    with pytest.raises(InvalidValueError, match="has no message"):
        conversations.set_active_leaf(other.id, below.id)
    with pytest.raises(StoreError, match="not in the store any more"):
        conversations.add(message(other.id, below.id, "in the wrong conversation"))
    conversations.set_active_leaf(conversation.id, None)
    assert conversations.path(conversation.id) == []


def test_a_conversation_of_thousands_of_messages_is_read_and_purged(
    conversations: Conversations,
) -> None:
    conversation = conversations.create()
    line: list[ChatMessage] = []
    for number in range(3000):
        line.append(message(conversation.id, line[-1].id if line else None, str(number)))
    conversations.add(*line)
    assert conversations.path(conversation.id) == line
    conversations.delete(conversation.id)
    assert conversations.purge() == 1
    assert conversations.message(line[5].id) is None


def test_lists_deletion_and_its_undoing(conversations: Conversations) -> None:
    ids = [conversations.create(title=str(number)).id for number in range(4)]
    conversations.update(ids[0], pinned=True)
    conversations.update(ids[1], title="again", system="other")
    conversations.update(ids[2], title="2")  # a new name is nothing new in it
    assert [c.title for c in conversations.recent()] == ["0", "again", "3", "2"]
    assert [c.title for c in conversations.recent(limit=1, offset=1)] == ["again"]
    latest = conversations.latest()
    assert latest is not None
    assert latest.title == "again"
    conversations.delete(ids[1])
    assert [c.title for c in conversations.recent()] == ["0", "3", "2"]
    assert [c.title for c in conversations.recent(deleted=True)] == ["again"]
    assert conversations.purge(older_than_s=3600) == 0
    conversations.restore(ids[1])
    assert len(conversations.recent()) == 4
    # A page that still has it open goes on with it: then it is wanted.
    conversations.delete(ids[2])
    conversations.add(message(ids[2], None))
    assert len(conversations.recent()) == 4
    with pytest.raises(InvalidValueError, match="no conversation 'x'"):
        conversations.update("x", title="t")
    with pytest.raises(InvalidValueError, match="no owner, titel to change"):
        conversations.update(ids[0], titel="t", owner=1)


def test_what_a_later_version_or_a_broken_hand_wrote_is_still_read(
    conversations: Conversations, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = conversations.create()
    sent = message(
        conversation.id,
        None,
        usage=Usage(num_prompt_tokens=3),
        sampling=SamplingSettings(logit_bias={3: -math.inf}),
    )
    conversations.add(sent)
    with conversations.store.transaction() as connection:
        connection.execute(
            "UPDATE message SET usage = ?, timings = '{', status = 'dreaming', sampling = '[1]'",
            (json.dumps({"num_prompt_tokens": 3, "num_draft_tokens": 9}),),
        )
    (read,) = conversations.path(conversation.id)
    assert read.usage == Usage(num_prompt_tokens=3)
    assert (read.timings, read.sampling, read.status) == (None, None, MessageStatus.COMPLETE)
    assert "unknown MessageStatus: 'dreaming'" in caplog.text


def set_owner(conversations: Conversations, owner: Any, updated_at: float) -> None:
    with conversations.store.transaction() as connection:
        connection.execute(
            "UPDATE message SET owner = ?, updated_at = ? WHERE status = 'streaming'",
            (json.dumps(owner), updated_at),
        )


def test_only_a_message_whose_writer_is_gone_is_settled(conversations: Conversations) -> None:
    conversation = conversations.create()
    sent = message(conversation.id, None, "half", status=MessageStatus.STREAMING)
    conversations.add(sent)

    def status() -> str:
        return str(conversations.path(conversation.id)[0].status)

    now = time.time()
    assert status() == "streaming"  # this process
    me = msgspec.to_builtins(owners.this_process())
    # Another machine cannot be asked: silence decides.
    set_owner(conversations, {**me, "host": "elsewhere"}, now)
    assert status() == "streaming"
    # A process that ended, and whose parent has not asked yet, is dead.
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        living = owners._describe.__wrapped__(child.pid)
        set_owner(conversations, msgspec.to_builtins(living), now)
        assert status() == "streaming"
        # The same number given to another process is another process.
        reused = {**msgspec.to_builtins(living), "started_at": living.started_at - 1000}
        assert not owners.is_alive(reused, now)
    finally:
        child.kill()
    while owners.is_alive(msgspec.to_builtins(living), now):
        time.sleep(0.01)
    assert status() == "interrupted"
    child.communicate()
    (settled,) = conversations.path(conversation.id)
    assert settled.content == "half"
    assert settled.error is not None
    assert conversations.settle(conversation.id) == 0


@pytest.mark.parametrize(
    ("owner", "age"),
    [
        (None, 0),
        ("nonsense", 0),
        ({"host": platform.node(), "pid": 2**31 - 1, "started_at": 0.0}, 0),
        ({"host": "elsewhere", "pid": 1, "started_at": 0.0}, owners.SILENCE_S + 1),
    ],
)
def test_owners_that_count_as_gone(owner: Any, age: float) -> None:
    assert not owners.is_alive(owner, time.time() - age)


# -- files, tokens and whole trees -----------------------------------------------------------------


def attached(sha256: str) -> tuple[Attachment, ...]:
    return (
        Attachment(
            id="a", kind="text", name="n.txt", mime="text/plain", size_bytes=3, sha256=sha256
        ),
    )


def test_a_file_stays_as_long_as_a_message_names_it(conversations: Conversations) -> None:
    sha256 = conversations.keep_file(b"one", "text/plain")
    assert conversations.keep_file(b"one", "text/plain") == sha256
    ids = [conversations.create().id for _ in range(2)]
    for number in ids:
        conversations.add(message(number, None, attachments=attached(sha256)))
    for number in ids:
        assert conversations.file(sha256) == b"one"
        conversations.delete(number)
        conversations.purge()
    with pytest.raises(InvalidValueError, match=r"not in the store\. It may have been removed"):
        conversations.file(sha256)


def test_tokens_are_kept_with_their_answer_and_a_broken_blob_is_none(
    conversations: Conversations, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = conversations.create()
    answer = message(conversation.id, None, role="assistant")
    conversations.add(answer)
    top = [TokenChance(1, "a", -0.1), TokenChance(2, "\ufffd", float("-inf"))]
    tokens = [TokenLogprob(1, "a", -0.1, top)] * 3
    assert conversations.tokens(answer.id) is None
    conversations.keep_tokens(answer.id, tokens, num_given=1)
    conversations.keep_tokens(answer.id, tokens, num_given=2)
    assert conversations.tokens(answer.id) == tokens
    kept = conversations.kept_tokens(answer.id)
    assert kept is not None
    assert kept.num_given == 2
    conversations.keep_tokens("gone", tokens)
    bomb = zlib.compress(b"\0" * (token_blob.MAX_BYTES + 10))
    for blob in (b"", b"junk", zlib.compress(b"junk"), token_blob.pack(kept)[:20], bomb):
        with conversations.store.transaction() as connection:
            connection.execute("UPDATE message_token SET data = ?", (blob,))
        assert conversations.tokens(answer.id) is None
    assert "cannot be read" in caplog.text


def test_a_whole_tree_comes_in_or_nothing_of_it(conversations: Conversations) -> None:
    conversation = msgspec.structs.replace(conversations.create(title="x"), id=new_id())
    data = b"a file"
    sha256 = hashlib.sha256(data).hexdigest()
    root = message(conversation.id, None, "root", attachments=attached(sha256))
    left = message(conversation.id, root.id, "left", role="assistant")
    right = message(
        conversation.id, root.id, "right", role="assistant", status=MessageStatus.STREAMING
    )
    whole = msgspec.structs.replace(conversation, active_leaf_id=left.id, pinned=True, title="In")
    files = {sha256: ("text/plain", data)}

    def refused(words: str, messages: list[ChatMessage], more: Any = files, **changes: Any) -> None:
        with pytest.raises(InvalidValueError, match=words):
            conversations.import_tree(
                msgspec.structs.replace(whole, **changes), messages, files=more
            )
        assert len(conversations.recent()) == num_before

    num_before = 1
    refused("before the message that it follows", [left, root, right])
    refused("already", [root, left, left])
    refused("not in it", [root, right])
    refused("not what its digest says", [root, left], {"0" * 64: ("text/plain", data)})
    refused("already", [root, left], id=conversations.recent()[0].id)
    kept = conversations.import_tree(whole, [root, left, right], files)
    assert (kept.title, kept.pinned, kept.active_leaf_id) == ("In", True, left.id)
    assert kept.updated_at == whole.updated_at
    assert conversations.path(kept.id) == [root, left]
    assert conversations.tree(kept.id)[2].status is MessageStatus.INTERRUPTED
    assert conversations.children(root.id, kept.id)[0] == left
    assert conversations.children(None, kept.id) == [root]
    assert conversations.file(sha256) == data
    num_before, again = 2, new_id()
    stranger = msgspec.structs.replace(root, conversation_id=again)
    refused("already", [stranger], id=again, active_leaf_id=None)
