"""Full-text search: what is found, in which order, from which file, and by which hostile query."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_widgets.core import config
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store import cleaning
from gguf_widgets.core.store.conversations import Conversations, new_id
from gguf_widgets.core.store.store import Store, default_store


@pytest.fixture
def conversations(home: Path) -> Iterator[Conversations]:
    with Store() as store:
        yield Conversations(store)


def add(
    conversations: Conversations,
    content: str,
    *,
    title: str = "",
    to: str | None = None,
    **more: Any,
) -> ChatMessage:
    fields: dict[str, Any] = {"role": "user", "status": MessageStatus.COMPLETE, **more}
    message = ChatMessage(
        id=new_id(),
        conversation_id=to or conversations.create(title=title).id,
        parent_id=None,
        content=content,
        created_at=time.time(),
        **fields,
    )
    conversations.add(message)
    return message


def titles(conversations: Conversations, query: str) -> list[str]:
    return [found.conversation.title for found in conversations.search(query)]


def marked(found: Any) -> str:
    return "".join(f"[{text}]" if hit else text for text, hit in found.snippet)


@pytest.mark.parametrize(
    ("query", "snippet"),
    [
        ("cafe", "Le [café] est fermé"),
        ("CAFÉ ferme ", "Le [café] est [fermé]"),
        ("fer", "Le café est [fermé]"),  # while it is being typed
        ("fer ", None),  # a whole word, and there is no such word
        ('"est fermé"', "Le café [est fermé]"),
        ('"fermé est"', None),
        ("学习", "机器[学习]很有趣"),
        ("机器学习", "[机器学习]很有趣"),
        ("器 趣", "机[器]学习很有[趣]"),
        ("学机", None),
        ("トウ", "[トウ]キョウは大きい"),
        ("สวัสดี", "[สวัสดี]ชาวโลก"),
        ("모델", "[모델]을 고르세요"),
        ("=>", "map(x [=>] x + 1)"),
        ("map =>", "[map](x => x + 1)"),
        ("don't", "Please [don't]"),
        ("GPU模", "我的[GPU模]型"),
        ("gpu 模型", "我的[GPU]模型"),
        ("c++", "I like [C]++ a lot"),
        ("vitamin++", None),
    ],
)
def test_words_are_found_as_people_write_them(
    conversations: Conversations, query: str, snippet: str | None
) -> None:
    for text in (
        "Le café est fermé",
        "机器学习很有趣",
        "トウキョウは大きい",
        "สวัสดีชาวโลก",
        "모델을 고르세요",
        "map(x => x + 1)",
        "Please don't",
        "我的GPU模型",
        "I like C++ a lot",
    ):
        add(conversations, text)
    assert [marked(found) for found in conversations.search(query)] == (
        [] if snippet is None else [snippet]
    )


def test_titles_come_first_and_each_conversation_once(conversations: Conversations) -> None:
    often = add(conversations, "apple one", title="a")
    newest = add(conversations, "apple two", to=often.conversation_id)
    named = add(conversations, "nothing here", title="An Apple a day")
    add(conversations, "apple three", title="b")
    first, second, third = conversations.search("apple")
    assert (first.conversation.id, first.message_id, first.in_title) == (
        named.conversation_id,
        None,
        True,
    )
    assert marked(first) == "An [Apple] a day"
    assert second.conversation.title == "b"
    assert (third.message_id, third.num_messages) == (newest.id, 2)
    assert [f.conversation.title for f in conversations.search("apple", limit=1, offset=2)] == ["a"]
    conversations.update(named.conversation_id, title="Pears")
    assert titles(conversations, "apple") == ["b", "a"]
    assert titles(conversations, "pear") == ["Pears"]
    conversations.delete(third.conversation.id)
    assert titles(conversations, "apple") == ["b"]
    conversations.restore(third.conversation.id)
    assert len(titles(conversations, "apple")) == 2


def test_an_answer_is_found_from_its_end_on_and_only_as_it_ended(
    conversations: Conversations,
) -> None:
    answer = add(conversations, "", title="t", role="assistant", status=MessageStatus.STREAMING)
    conversations.save_progress(answer.id, "only halfway")
    assert titles(conversations, "halfway") == []
    done = msgspec.structs.replace(answer, content="finally", status=MessageStatus.COMPLETE)
    conversations.save(done)
    assert titles(conversations, "finally") == ["t"]
    conversations.save(msgspec.structs.replace(done, content="changed"))
    assert titles(conversations, "finally") == []
    assert titles(conversations, "changed") == ["t"]


WORDS = ["apple", "Äpfel", "模型", "ключ", "x1", "ab"]


def test_a_random_life_is_searched_as_if_everything_was_read(conversations: Conversations) -> None:
    dice = random.Random(5)  # noqa: S311 - a test's dice
    known: dict[str, dict[str, str]] = {}  # conversation -> its messages' texts
    deleted: set[str] = set()
    for _ in range(300):
        what = dice.random()
        text = " ".join(dice.choices(WORDS, k=3))
        if what < 0.3 or not known:
            message = add(conversations, text, title=dice.choice(WORDS))
            known[message.conversation_id] = {message.id: text}
        elif what < 0.6:
            chosen = dice.choice(list(known))
            message = add(conversations, text, to=chosen)
            known[chosen][message.id] = text
            deleted.discard(chosen)
        elif what < 0.75:
            chosen = dice.choice(list(known))
            message = conversations.tree(chosen)[0]
            conversations.save(msgspec.structs.replace(message, content=text))
            known[chosen][message.id] = text
        elif what < 0.85:
            chosen = dice.choice(list(known))
            conversations.delete(chosen)
            deleted.add(chosen)
        elif what < 0.9:
            conversations.purge()  # their row numbers are used again
            known = {one: texts for one, texts in known.items() if one not in deleted}
            deleted.clear()
        else:
            word = dice.choice(WORDS)
            found = {one.conversation.id: one for one in conversations.search(f"{word} ")}
            for one, texts in known.items():
                holding = [number for number, text in texts.items() if word in text.split()]
                title = conversations.get(one).title
                expected = one not in deleted and (holding or title == word)
                assert (one in found) == bool(expected)
                if one in found:
                    assert found[one].num_messages == len(holding)
                    assert found[one].in_title == (title == word)
                    assert (found[one].message_id in holding) == bool(holding)
            assert found.keys() <= known.keys()


@given(
    st.text(max_size=30)
    | st.text(st.sampled_from("\"'*()^:-+ ANDORNEAR{}\0\ud800\\%_模a "), max_size=30)
)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_text_is_a_query(conversations: Conversations, query: str) -> None:
    if not conversations.recent():
        add(conversations, "a AND b OR NEAR(模型) * \" ' %_ \\", title="(title) ^ AND")
    for found in conversations.search(query):
        assert found.conversation.id
        assert all(text for text, _ in found.snippet)
    with pytest.raises(InvalidValueError, match="must be a text, not int"):
        conversations.search(3)  # type: ignore[arg-type]


def test_huge_and_hostile_texts_are_kept_whole_and_found(conversations: Conversations) -> None:
    add(conversations, "needle " + "x" * 5_000_000, title="paste")
    add(conversations, "学" * 2_000_000 + "习", title="long")
    add(conversations, "nul \0 behind", title="nul")
    add(conversations, "half \ud83d sign", title="half")
    assert titles(conversations, "needle") == ["paste"]
    assert titles(conversations, "学学学") == ["long"]
    assert titles(conversations, "学") == ["long"]
    assert titles(conversations, "学习学") == []
    assert titles(conversations, "behind") == ["nul"]
    assert titles(conversations, "half sign") == ["half"]
    assert all(len(text) < 1000 for f in conversations.search("needle") for text, _ in f.snippet)
    assert titles(conversations, "needle " * 100_000) == ["paste"]


def test_a_file_of_the_version_before_is_brought_over_and_searched(home: Path) -> None:
    packed = Path(__file__).with_name("store_form_2.sqlite3.gz")  # as that version wrote it
    config.store_path().write_bytes(gzip.decompress(packed.read_bytes()))
    with Store() as store:
        conversations = Conversations(store)
        assert [notice.text for notice in store.notices()] == ["told"]
        found = conversations.search("cafe ouvre")
        assert found == []
        (found_one,) = conversations.search("café ferm")
        assert marked(found_one) == "Le [café] est [fermé]."
        conversation = found_one.conversation
        assert [m.content for m in conversations.path(conversation.id)] == [
            "When does the Café open?",
            "Le café est fermé.",
            "And in English?",
            "Better: at nine.",
        ]
        assert len(conversations.tree(conversation.id)) == 5
        (answer,) = (m for m in conversations.tree(conversation.id) if "neuf" in m.content)
        assert answer.sampling is not None
        assert (answer.seed, answer.sampling.stop, answer.system) == (7, ("END",), None)
        assert (answer.attachments, answer.tool_calls, answer.edited) == ((), (), False)
        assert conversations.tokens(answer.id) is None
        assert titles(conversations, "学习 LEARN") == ["什么是机器学习\uff1f machine learning"]
        assert titles(conversations, "deleted") == []
        (deleted,) = conversations.recent(deleted=True)
        conversations.restore(deleted.id)
        assert titles(conversations, "deleted") == ["A deleted one"]
        add(conversations, "new words", to=deleted.id)
        assert len(conversations.search("new words")) == 1


def test_what_was_deleted_a_month_ago_goes_when_the_store_is_opened(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store() as store:
        conversations = Conversations(store)
        old, young = (conversations.create(title=title) for title in ("old", "young"))
        sha256 = conversations.keep_file(b"chosen, and never sent", "text/plain")
        now = time.time()
        for conversation, days in ((old, 31), (young, 28)):
            monkeypatch.setattr(time, "time", lambda days=days: now - days * 24 * 3600)
            conversations.delete(conversation.id)
        monkeypatch.undo()
        assert conversations.file(sha256)
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(home))
    with default_store() as store:
        conversations = Conversations(store)
        assert [c.title for c in conversations.recent(deleted=True)] == ["young"]
        with pytest.raises(InvalidValueError, match="not in the store"):
            conversations.file(sha256)
        # Nothing to do, and nothing that can be done: both are quiet.
        assert cleaning.clean(store) == 0
    assert cleaning.clean(store) == 0
