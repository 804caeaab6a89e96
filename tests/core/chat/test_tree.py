"""A conversation as a tree: whatever is done to it, nothing is lost, and the way back is exact."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, Watcher, said, token_of

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import ChatMessage, EventKind, MessageStatus
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store


def finish(chat: ChatInterface, message: ChatMessage) -> None:
    """Wait until an answer has ended."""
    answer = chat._answer
    if answer is not None and answer.message.id == message.id:
        assert answer.join(WAIT_S)


class Shadow:
    """What a conversation must hold, kept by simpler means than the chat's."""

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}  # in the order they were made
        self.texts: dict[str, str] = {}

    def take(self, messages: list[ChatMessage]) -> None:
        for message in messages:
            if message.id in self.texts:
                assert self.texts[message.id] == message.content, (
                    "what was written is never changed"
                )
                assert self.parents[message.id] == message.parent_id
            self.parents[message.id] = message.parent_id
            self.texts[message.id] = message.content

    def newest_below(self, top: str) -> str:
        def is_below(one: str | None) -> bool:
            while one is not None and one != top:
                one = self.parents[one]
            return one == top

        return [one for one in self.parents if is_below(one)][-1]


STEPS = [
    *("send", "send", "regenerate", "continue", "branch", "edit", "edit", "show", "show"),
    *("undo", "undo", "delete", "clear"),
]


@pytest.mark.parametrize("seed", range(4))
def test_a_random_walk_over_a_tree_loses_nothing_and_every_step_can_be_undone(
    make_chat: Any, store: Store, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test's dice
    model = FakeModel()
    chat: ChatInterface = make_chat(model)
    conversations = Conversations(store)
    shadows: dict[str, Shadow] = {}
    undoable: list[tuple[str, str | None, list[ChatMessage]]] = []
    number = 0

    def next_answer() -> None:
        nonlocal number
        number += 1
        model.script.append([f"answer{number} ", f"to {number}"])

    def check() -> None:
        messages = chat.messages
        for before, after in zip([None, *messages], messages, strict=False):
            assert after.parent_id == (before.id if before else None), "on screen is one line"
        if chat.conversation_id is None:
            assert messages == []
            return
        shadow = shadows.setdefault(chat.conversation_id, Shadow())
        shadow.take(messages)
        everything = conversations.tree(chat.conversation_id)
        assert {m.id: m.content for m in everything} == shadow.texts, "nothing is lost"
        shot = chat.snapshot()
        for message in messages:
            siblings = [one for one in shadow.parents if shadow.parents[one] == message.parent_id]
            assert chat.branches(message.id) == siblings
            place = (siblings.index(message.id) + 1, len(siblings))
            assert shot.branches.get(message.id, (1, 1)) == place
        # Whoever opens it now finds just this.
        with ChatInterface(store=store, conversation_id=chat.conversation_id) as again:
            assert again.messages == messages

    for _ in range(120):
        messages = chat.messages
        answers = [m for m in messages if m.role == "assistant"]
        before = (chat.conversation_id, messages)
        words = chat.can_undo
        step = dice.choice(STEPS)
        if step == "send":
            next_answer()
            chat.send(f"question {number}")
            undoable = [one for one in undoable if one[0] in ("clear", "delete")]
        elif step == "undo":
            done = chat.undo()
            assert done == words
            if not undoable:
                assert done == ""
                assert (chat.conversation_id, chat.messages) == before
            else:
                _, conversation_id, then = undoable.pop()
                assert (chat.conversation_id, chat.messages) == (conversation_id, then)
        elif step in ("clear", "delete"):
            if chat.conversation_id is not None:
                undoable = [one for one in undoable if one[0] == "delete"]
                undoable.append((step, *before))
            chat.clear() if step == "clear" else chat.delete()
        elif not answers:
            continue
        elif step == "show":
            shadow = shadows[messages[0].conversation_id]
            wanted = dice.choice(list(shadow.parents))
            chat.show_branch(wanted)
            assert chat.messages[-1].id == shadow.newest_below(wanted)
            assert wanted in [m.id for m in chat.messages]
        else:
            undoable.append(("branch", *before))
            chosen = dice.choice(messages if step == "edit" else answers)
            new_text = f"edited {len(shadows[chosen.conversation_id].texts)}"
            if step == "edit" and chosen.role == "assistant":
                edited = chat.edit(chosen.id, new_text)
                assert (edited.edited, chat.messages[-1]) == (True, edited)
            else:
                next_answer()
                if step == "edit":
                    answer = chat.edit(chosen.id, new_text)
                elif step == "regenerate":
                    answer = chat.regenerate(chosen.id)
                elif step == "continue":
                    answer = chat.continue_answer(chosen.id)
                    assert answer.content == answer.begin == chosen.content
                else:
                    tokens = chat.tokens(chosen.id)
                    if chosen.edited:
                        undoable.pop()
                        model.script.pop()
                        assert tokens is None
                        continue
                    assert tokens is not None
                    index = dice.randrange(len(tokens))
                    other = dice.choice(tokens[index].top)
                    answer = chat.branch_at(chosen.id, index, other.token)
                    start = "".join(token.text for token in tokens[:index])
                    assert answer.content == chosen.content[: chat.token_start(chosen.id)] + (
                        start + other.text
                    )
                finish(chat, answer)
                assert chat.messages[-1].id == answer.id
                assert chat.messages[-1].content.startswith(answer.begin)
                assert chat.messages[-1].content.endswith(f"to {number}")
                tokens = chat.tokens(answer.id)
                assert tokens is not None
                assert (
                    "".join(t.text for t in tokens)
                    == (chat.messages[-1].content[chat.token_start(answer.id) :])
                )
        check()
    assert max(len(shadow.texts) for shadow in shadows.values()) > 10


def test_continue_goes_by_tokens_where_they_are_this_models_and_by_words_where_not(
    make_chat: Any, store: Store
) -> None:
    model = FakeModel(["One ", "two"], [" three"], [" four"], [" more"], ["x"], [" y"])
    chat = make_chat(model, system="Count.", temperature=0)
    watcher = Watcher(chat)
    chat.send("Count")
    chat.system = "Other"
    finish(chat, chat.continue_answer())
    # A page that shows the deltas has each word once.
    text = "One two" + "".join(
        e.text for e in watcher.events if e.message_id == chat.messages[-1].id and e.text
    )
    assert text == chat.messages[-1].content == "One two three"
    assert model.streams[1].begin_with == [token_of("One "), token_of("two")]
    assert model.streams[1].messages[0] == {"role": "system", "content": "Count."}
    finish(chat, chat.continue_answer())
    assert model.streams[2].begin_with == [token_of(one) for one in ("One ", "two", " three")]
    longest = chat.messages[-1]
    assert (longest.content, longest.begin) == ("One two three four", "One two three")
    assert chat.token_start(longest.id) == 0
    assert [chat.snapshot().branches[longest.id]] == [(3, 3)]
    # Another file has other tokens.
    other = FakeModel([" more"], ["x"], [" y"])
    other.info = type(other.info)(**{**other.info.to_dict(), "path": "/m/other.gguf"})
    chat.model = other
    with pytest.raises(RequestError, match="those of fake"):
        chat.branch_at(longest.id, 0, token_of("two"))
    finish(chat, chat.continue_answer())
    assert other.streams[0].begin_with == "One two three four"
    by_words = chat.messages[-1]
    assert chat.token_start(by_words.id) == len("One two three four")
    # After words whose tokens nobody knows, it goes on by words, too.
    chat.branch_at(by_words.id, 0, token_of(" more"))
    finish(chat, chat.messages[-1])
    assert other.streams[1].begin_with == "One two three four more"
    chat.record_tokens = 0
    finish(chat, chat.continue_answer())
    assert "logprobs" not in {k for k, v in other.streams[2].sampling.items() if v is not None}
    assert chat.tokens(chat.messages[-1].id) is None
    with pytest.raises(InvalidValueError, match="were not recorded"):
        chat.branch_at(chat.messages[-1].id, 0, 1)


def test_what_cannot_be_branched_is_refused_in_words_and_changes_nothing(
    make_chat: Any, store: Store
) -> None:
    chat = make_chat(FakeModel(["answer"], []))
    for do in (chat.regenerate, chat.continue_answer):
        with pytest.raises(InvalidValueError, match="no answer to write again"):
            do()
    assert chat.undo() == ""
    chat.send("Hi")
    asked, answer = chat.messages
    before = Conversations(store).tree(chat.conversation_id)
    elsewhere = make_chat(FakeModel(["b"]))
    elsewhere.send("B")
    stranger = elsewhere.messages[1].id
    for do in (
        lambda: chat.edit(asked.id, "  "),
        lambda: chat.edit(answer.id, "x", temperature=1),
        lambda: chat.edit(stranger, "x"),
        lambda: chat.edit(asked.id, "x", temperature=99),
        lambda: chat.regenerate(asked.id),
        lambda: chat.regenerate(begin=3),
        lambda: chat.continue_answer(stranger),
        lambda: chat.branch_at(answer.id, 1, 5),
        lambda: chat.branch_at(answer.id, True, 5),
        lambda: chat.branch_at(answer.id, 0, -1),
        lambda: chat.branch_at(answer.id, 0, True),
        lambda: chat.show_branch(stranger),
        lambda: chat.branches("nope"),
        lambda: chat.token_start(stranger),
        lambda: chat.start("x", begin=3),
        lambda: setattr(chat, "title", "x" * 201),
        lambda: setattr(chat, "when_full", "burst"),
        lambda: setattr(chat, "record_tokens", 101),
    ):
        with pytest.raises(InvalidValueError):
            do()
    assert Conversations(store).tree(chat.conversation_id) == before
    assert (chat.messages, chat.can_undo, chat.busy) == ([asked, answer], "", False)
    finish(chat, chat.regenerate())
    with pytest.raises(InvalidValueError, match="no words to continue"):
        chat.continue_answer()


def test_undo_stops_the_answer_that_it_takes_back_and_keeps_what_had_arrived(
    make_chat: Any, store: Store
) -> None:
    model = FakeModel(["first"])
    chat = make_chat(model)
    chat.send("Hi")
    model.next_stream()
    before = chat.messages
    watcher = Watcher(chat)
    again = chat.regenerate()
    answer = chat._answer
    model.next_stream().say("second, as far as")
    watcher.wait_for(lambda event: bool(event.text))
    assert chat.can_undo == "answering again"
    assert chat.undo() == "answering again"
    assert (chat.messages, chat.busy, chat.can_undo) == (before, False, "")
    assert answer.join(WAIT_S)
    kept = Conversations(store).message(again.id)
    assert kept is not None
    assert (kept.content, kept.status) == ("second, as far as", MessageStatus.ABORTED)
    chat.show_branch(again.id)
    assert chat.messages[-1] == kept


def test_another_branch_can_be_looked_at_while_an_answer_is_written(make_chat: Any) -> None:
    model = FakeModel(["first"])
    chat = make_chat(model)
    chat.send("Hi")
    model.next_stream()
    first = chat.messages[1]
    watcher = Watcher(chat)
    again = chat.regenerate()
    stream = model.next_stream()
    stream.say("second")
    watcher.wait_for(lambda event: event.text == "second")
    chat.show_branch(first.id)
    assert (said(chat)[1][1], chat.busy) == ("first", True)
    with pytest.raises(RequestError, match="press Stop first"):
        chat.start("More")
    chat.show_branch(again.id)
    assert said(chat)[1] == ("assistant", "second", "streaming")
    chat.show_branch(first.id)
    stream.say(" time", None)
    watcher.wait_end()
    assert said(chat)[1][1] == "first"
    chat.show_branch(again.id)
    assert said(chat)[1] == ("assistant", "second time", "complete")


def test_two_chats_that_branch_one_conversation_at_once_lose_nothing(
    make_chat: Any, store: Store
) -> None:
    first = make_chat(FakeModel(["root answer"]))
    first.send("Hi")
    chats = [first, make_chat(FakeModel(), conversation_id=first.conversation_id)]
    rounds = 8
    failures: list[BaseException] = []

    def work(chat: ChatInterface, name: str) -> None:
        try:
            for number in range(rounds):
                chat.model.script.append([f"{name}{number}"])  # type: ignore[union-attr]
                if number % 2:
                    chat.send(f"{name} asks {number}")
                else:
                    finish(chat, chat.regenerate(chat.messages[1].id))
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(chat, name))
        for chat, name in zip(chats, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failures == []
    kept = [m.content for m in Conversations(store).tree(first.conversation_id)]
    expected = {f"{name}{number}" for name in "ab" for number in range(rounds)}
    assert expected <= set(kept)
    assert len(kept) == 2 + 2 * rounds + 2 * (rounds // 2)
    for chat in chats:
        places = chat.branches(chat.messages[1].id)
        assert len(places) == 1 + 2 * (rounds // 2)
        for one in places:
            chat.show_branch(one)
            assert one in [m.id for m in chat.messages]
    assert make_chat(conversation_id=first.conversation_id).messages == chats[-1].messages


def test_titles_pins_and_deletion_are_kept_and_taken_back(make_chat: Any, store: Store) -> None:
    conversations = Conversations(store)
    chat = make_chat(FakeModel(["a"], ["b"]))
    watcher = Watcher(chat)
    chat.pinned = True
    chat.send("A first question")
    chat.title = "  My \n title "
    assert watcher.events[-1].kind is EventKind.MODEL
    kept = conversations.get(chat.conversation_id)
    assert (kept.title, kept.pinned) == ("My title", True)
    chat.send("Another")
    assert chat.title == "My title"
    chat.title = ""
    assert conversations.get(chat.conversation_id).title == chat.title == "A first question"
    shot = chat.snapshot()
    chat.delete()
    assert (chat.messages, chat.conversation_id, chat.title) == ([], None, "")
    assert chat.can_undo == "deleting “A first question”"
    assert conversations.recent() == []
    chat.model.script.append(["c"])
    chat.send("Something else")
    assert chat.undo() == "deleting “A first question”"
    assert (chat.snapshot().messages, chat.title, chat.pinned) == (shot.messages, shot.title, True)
    chat.delete()
    conversations.purge()
    with pytest.raises(InvalidValueError, match="may have been removed"):
        chat.undo()
    assert chat.can_undo == ""


# A program in the middle of an answer that goes on from another one, with its tokens.
CRASH = """
import sys
sys.path.insert(0, {folder!r})
from support.chat_fakes import FakeModel
from gguf_widgets.core.chat import saver as chat_saver
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.store.conversations import Conversations
chat_saver.EVERY_S = chat_saver.TOKENS_EVERY_S = 0.0
model = FakeModel(["One ", "two"])
chat = ChatInterface(model)
chat.send("Count")
answer = chat.continue_answer()
model.next_stream(); stream = model.next_stream()
chat_saver._TOKENS_SHARE = 0
number = 0
while number < 50 or len(Conversations(chat.store).tokens(answer.id) or ()) < 40:
    number += 1
    stream.say(f" {{number}}")
print(chat.conversation_id, answer.id, flush=True)
while True:
    number += 1
    stream.say(f" {{number}}")
    if number % 50 == 0:
        sys.stdin.readline() if number > 5000 else None
"""


def test_a_kill_in_the_middle_of_an_answer_keeps_its_words_and_its_tokens(
    make_chat: Any, store: Store
) -> None:
    code = CRASH.format(folder=str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        conversation_id, answer_id = process.stdout.readline().split()
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
    chat = make_chat(FakeModel(["!"]), conversation_id=conversation_id)
    answer = chat.messages[-1]
    assert (answer.id, answer.status) == (answer_id, MessageStatus.INTERRUPTED)
    assert (answer.begin, answer.content[:12]) == ("One two", "One two 1 2 ")
    assert answer.record is not None  # what it was written with came in time, too
    tokens = chat.tokens(answer_id)
    assert tokens is not None
    told = "".join(token.text for token in tokens)
    assert answer.content.startswith(told) or told.startswith(answer.content)
    assert len(told) >= 40
    for token in tokens:
        token_of(token.text)  # this process's model has the same
    # It is gone on with: by its tokens only if they are all there.
    finish(chat, chat.continue_answer())
    begun_with = chat.model.streams[0].begin_with
    if told == answer.content:
        assert begun_with == [token.token for token in tokens]
    else:
        assert begun_with == answer.content
    assert chat.messages[-1].content == answer.content + "!"


def test_hostile_texts_are_kept_whole_in_every_branch(make_chat: Any, store: Store) -> None:
    chat = make_chat(FakeModel(["a \x00 b", "\ufffd"], ["ok"], ["ok"], ["ok"]))
    chat.send("half \ud83d, nul \x00")
    finish(chat, chat.continue_answer())
    assert chat.messages[-1].content == "a \x00 b\ufffdok"
    huge = "word " * 1_000_000
    finish(chat, chat.edit(chat.messages[0].id, huge + "\ud83d"))
    assert chat.messages[0].content == huge + "\ufffd"
    edited = chat.edit(chat.messages[1].id, huge)
    again = make_chat(conversation_id=chat.conversation_id)
    assert again.messages == chat.messages
    assert again.messages[1] == edited
    assert len(chat.title) <= 60
