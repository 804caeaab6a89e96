"""A conversation and its store: opened again, whatever fails, and shared with other programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, Watcher, said

from gguf_widgets.core.chat import saver
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import EventKind, MessageStatus
from gguf_widgets.core.errors import InvalidValueError, RequestError, StoreError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store


def test_clear_begins_anew_and_the_old_one_can_be_opened(make_chat: Any, store: Store) -> None:
    model = FakeModel(["A1"])
    chat = make_chat(model)
    watcher = Watcher(chat)
    chat.send("First")
    first = chat.conversation_id
    chat.start("Second")
    model.next_stream()
    stream = model.next_stream()
    stream.say("half")
    watcher.wait_for(lambda event: event.text == "half")
    stopped = chat._answer
    chat.clear()
    assert stopped.join(WAIT_S)  # it ends by itself, whatever is shown here meanwhile
    assert (chat.messages, chat.busy, chat.conversation_id) == ([], False, None)
    chat.model = FakeModel(["B1"])
    assert chat.send("Elsewhere").text == "B1"
    assert chat.conversation_id != first
    # The stopped answer was kept where it belongs, and its end did not show up here.
    chat.open(first)
    assert said(chat)[2:] == [("user", "Second", "complete"), ("assistant", "half", "aborted")]
    assert [c.title for c in Conversations(store).recent()] == ["Elsewhere", "First"]
    with pytest.raises(InvalidValueError, match="no conversation 'nope'"):
        chat.open("nope")
    assert len(chat.messages) == 4


def test_open_latest(make_chat: Any) -> None:
    assert not make_chat().open_latest()
    chat = make_chat(FakeModel(["A"]))
    chat.send("Hello")
    later = make_chat()
    assert later.open_latest()
    assert later.messages == chat.messages


def test_a_store_that_fails_during_an_answer_does_not_break_it(
    make_chat: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel()
    chat = make_chat(model)
    watcher = Watcher(chat)
    answer = chat.start("Hi")
    full = StoreError("The disk is full.", reason="full")

    def fail(*args: Any, **keywords: Any) -> None:
        raise full

    conversations = chat._saver._conversations
    monkeypatch.setattr(conversations, "save_progress", fail)
    monkeypatch.setattr(conversations, "save", fail)
    model.next_stream().say("some ", "text", None)
    watcher.wait_end()
    assert said(chat)[1] == ("assistant", "some text", "complete")
    notices = [event.text for event in watcher.events if event.kind is EventKind.NOTICE]
    assert notices == ["This answer is not saved yet. The disk is full."]
    assert chat.snapshot().notices == notices
    # Nothing new is sent while the old cannot be kept; then both are.
    model.script = [["more"]]
    with pytest.raises(StoreError, match="full"):
        chat.send("Next")
    assert len(chat.messages) == 2
    monkeypatch.undo()
    chat.send("Next")
    kept = Conversations(store).message(answer.id)
    assert kept is not None
    assert (kept.content, kept.status) == ("some text", MessageStatus.COMPLETE)


def test_what_could_not_be_saved_is_tried_again_by_itself(
    make_chat: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saver, "_AGAIN_AFTER_S", (0.01,))
    model = FakeModel()
    chat = make_chat(model)
    watcher = Watcher(chat)
    answer = chat.start("Hi")
    tries = threading.Semaphore(0)
    conversations = chat._saver._conversations

    def fail(*args: Any, **keywords: Any) -> None:
        tries.release()
        raise StoreError("The disk is full.", reason="full")

    with monkeypatch.context() as context:
        context.setattr(conversations, "save", fail)
        model.next_stream().say("some text", None)
        watcher.wait_end()
        for _ in range(4):  # the first, and what it does by itself
            assert tries.acquire(timeout=WAIT_S)
        assert chat.snapshot().notices == ["This answer is not saved yet. The disk is full."]
        chat.clear()  # leaving it does not make that untrue
        assert chat.snapshot().notices == ["This answer is not saved yet. The disk is full."]
    # Nobody does anything, and it is there; the notice goes, and whoever shows it is told.
    watcher.wait_for(lambda event: event.kind is EventKind.MODEL)
    kept = Conversations(store).message(answer.id)
    assert kept is not None
    assert (kept.content, kept.status) == ("some text", MessageStatus.COMPLETE)
    assert chat.snapshot().notices == []


def test_a_notice_is_shown_until_the_next_message(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["a"], ["b"]))
    chat._notice("Something was left undone.")
    assert chat.snapshot().notices == ["Something was left undone."]
    chat.send("Hi")
    assert chat.snapshot().notices == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_keeping_an_answer_does_not_end_the_conversation(
    make_chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make_chat(FakeModel(["a"], ["b"]))

    def fail(*args: Any, **keywords: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as context:
        context.setattr(chat._saver._conversations, "save", fail)
        assert chat.send("Hi").text == "a"
    assert said(chat)[1] == ("assistant", "a", "complete")
    assert chat.send("Again").text == "b"


def test_a_conversation_removed_meanwhile_is_an_error_and_a_new_one_works(
    make_chat: Any, store: Store
) -> None:
    chat = make_chat(FakeModel(["a"], ["b"]))
    chat.send("Hi")
    Conversations(store).delete(chat.conversation_id)
    Conversations(store).purge()
    with pytest.raises(StoreError, match="not in the store any more"):
        chat.send("Still there?")
    assert len(chat.messages) == 2
    chat.clear()
    assert chat.send("Hi again").text == "b"


def test_half_characters_and_long_texts_are_carried(make_chat: Any, store: Store) -> None:
    model = FakeModel(["ok \x00 fine"], ["ok"])
    chat = make_chat(model)
    chat.send("half \ud83d, whole \ud83d\ude00, nul \x00")
    expected = "half \ufffd, whole \U0001f600, nul \x00"
    assert model.streams[0].messages[0]["content"] == expected
    chat.send("x" * 5_000_000)
    again = make_chat(conversation_id=chat.conversation_id)
    assert [len(m.content) for m in again.messages] == [len(expected), 9, 5_000_000, 2]
    assert again.messages[0].content == expected


def test_infinite_biases_come_back_from_the_store(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["x"]), logit_bias={5: float("-inf")}, stop=("END",))
    chat.send("Hi")
    again = make_chat(conversation_id=chat.conversation_id)
    assert again.messages[1].sampling == chat.sampling


# -- other processes -------------------------------------------------------------------------------

# A program that gets the first half of an answer and then waits for the rest, which never comes.
HALF = """
import sys, threading
sys.path.insert(0, {folder!r})
from support.chat_fakes import FakeModel
from gguf_widgets.core.chat import saver
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.store.conversations import Conversations
model = FakeModel()
chat = ChatInterface(model)
answer = chat.start("Hello from another program")
model.next_stream().say("Half")
while not Conversations(chat.store).message(answer.id).content:
    threading.Event().wait(0.01)
print(chat.conversation_id, flush=True)
sys.stdin.readline()
model.streams[-1].say(" and half", None)
chat._answer and chat._answer.join(60)
"""


def start_half() -> tuple[subprocess.Popen[str], str]:
    code = HALF.format(folder=str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_an_answer_of_a_killed_program_is_interrupted_with_what_had_arrived(
    make_chat: Any, store: Store
) -> None:
    process, conversation_id = start_half()
    try:
        # Alive: it is being written, and nobody may write over it.
        chat = make_chat(FakeModel(["And on"]), conversation_id=conversation_id)
        assert said(chat)[1] == ("assistant", "Half", "streaming")
        with pytest.raises(RequestError, match="in another window"):
            chat.send("Me too")
        watcher = Watcher(chat)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
    # The open page hears of it by itself, and so does everybody who comes later.
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.INTERRUPTED
    assert end.message.error is not None
    assert "ended in the middle" in end.message.error["message"]
    assert said(make_chat(conversation_id=conversation_id))[1] == (
        "assistant",
        "Half",
        "interrupted",
    )
    chat.send("Go on")
    assert [m["content"] for m in chat.model.streams[0].messages] == [
        "Hello from another program",
        "Half",
        "Go on",
    ]


def test_an_answer_of_another_program_is_followed_to_its_end(make_chat: Any) -> None:
    process, conversation_id = start_half()
    try:
        chat = make_chat(FakeModel(), conversation_id=conversation_id)
        watcher = Watcher(chat)
        process.communicate("go\n", timeout=WAIT_S)
        end = watcher.wait_end()
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
    assert end.message is not None
    assert (end.message.content, end.message.status) == ("Half and half", MessageStatus.COMPLETE)
    assert said(chat)[1] == ("assistant", "Half and half", "complete")


def test_following_ends_when_its_store_or_its_chat_is_closed(make_chat: Any, store: Store) -> None:
    process, conversation_id = start_half()
    try:
        make_chat(FakeModel(), conversation_id=conversation_id)
        (follower,) = (t for t in threading.enumerate() if t.name == "gguf-widgets-follow")
        store.close()
        follower.join(WAIT_S)
        assert not follower.is_alive()
        with Store() as again:
            closed = ChatInterface(store=again)
            closed.close()
            closed.open(conversation_id)  # shown, but nobody would end the following
            assert said(closed)[1] == ("assistant", "Half", "streaming")
            assert all(t.name != "gguf-widgets-follow" for t in threading.enumerate())
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
