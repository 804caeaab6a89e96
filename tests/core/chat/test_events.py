"""What a page is told of a conversation: events and snapshots that agree at every moment."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from support.chat_fakes import WAIT_S, FakeModel, Watcher

from gguf_widgets.core.chat.types import ChatEvent, EventKind, MessageStatus, Phase
from gguf_widgets.core.errors import RequestError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import PrefillProgress


def test_events_rebuild_what_the_messages_say(make_chat: Any) -> None:
    chat = make_chat(FakeModel(["one ", "two ", "three"]))
    watcher = Watcher(chat)
    chat.send("Count")
    kinds = [event.kind for event in watcher.events if event.kind is not EventKind.PROGRESS]
    assert kinds == ["added", "added", "delta", "delta", "delta", "updated"]
    assert "".join(e.text for e in watcher.events if e.kind is EventKind.DELTA) == "one two three"
    assert [e.seq for e in watcher.events] == list(range(1, len(watcher.events) + 1))
    assert watcher.events[-1].message == chat.messages[-1]
    assert chat.snapshot().seq == watcher.events[-1].seq
    phases = [e.phase for e in watcher.events if e.kind is EventKind.PROGRESS]
    assert phases[-1] is Phase.WRITING


def test_reading_the_prompt_is_reported_and_counts_as_context(make_chat: Any) -> None:
    model = FakeModel()
    chat = make_chat(model)
    watcher = Watcher(chat)
    assert chat.context_used == (0, 512)
    chat.start("A long text")
    stream = model.next_stream()
    stream.progress = PrefillProgress(request_id="r", num_done=32, num_total=100)
    event = watcher.wait_for(lambda event: event.phase is Phase.READING)
    assert (event.num_done, event.num_total) == (32, 100)
    shot = chat.snapshot()
    assert (shot.busy, shot.phase, shot.num_done, shot.num_total) == (True, "reading", 32, 100)
    stream.say("a", "b")
    watcher.wait_for(lambda event: event.text == "b")
    assert chat.context_used == (102, 512)
    stream.say(None)
    watcher.wait_end()
    assert chat.snapshot().phase is None


def test_a_snapshot_in_the_middle_has_what_arrived(make_chat: Any, store: Store) -> None:
    model = FakeModel()
    chat = make_chat(model)
    watcher = Watcher(chat)
    answer = chat.start("Go")
    assert (answer.status, answer.content) == (MessageStatus.STREAMING, "")
    model.next_stream().say("Once ", "upon")
    watcher.wait_for(lambda event: event.text == "upon")
    shot = chat.snapshot()
    assert [m.content for m in shot.messages] == ["Go", "Once upon"]
    assert shot.busy
    # The first piece is in the file at once; the rest follows within a quarter of a second.
    kept = Conversations(store).message(answer.id)
    assert kept is not None
    assert kept.content.startswith("Once ")
    with pytest.raises(RequestError, match="press Stop first"):
        chat.send("Too early")
    assert len(chat.messages) == 2
    chat.stop()
    watcher.wait_end()


def test_a_snapshot_holds_exactly_what_the_events_up_to_it_told(make_chat: Any) -> None:
    # A page takes a snapshot at any moment and goes on with the events after it: nothing may be
    # missing, and nothing come twice.
    model = FakeModel([f"{number} " for number in range(2000)])
    chat = make_chat(model)
    watcher = Watcher(chat)
    chat.start("Count")
    shots = [chat.snapshot()]
    while chat.busy:
        shots.append(chat.snapshot())
    watcher.wait_end()
    deltas = [event for event in watcher.events if event.kind is EventKind.DELTA]
    assert len(deltas) == 2000
    for shot in shots:
        told = "".join(event.text for event in deltas if event.seq <= shot.seq)
        assert shot.messages[1].content == told


def test_an_observer_that_raises_or_talks_back_breaks_nothing(
    make_chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chat = make_chat(FakeModel(["a", "b"]))
    seen: list[str] = []

    def bad(event: ChatEvent) -> None:
        raise ValueError("observer trouble")

    def nosy(event: ChatEvent) -> None:
        # A thread that needs the chat, waited for inside the observer: no lock may be held here.
        thread = threading.Thread(target=lambda: seen.append(chat.snapshot().title))
        thread.start()
        thread.join(WAIT_S)
        assert not thread.is_alive()

    chat.subscribe(bad)
    unsubscribe = chat.subscribe(nosy)
    with caplog.at_level(logging.ERROR):
        assert chat.send("Hi").text == "ab"
    assert "observer trouble" in caplog.text
    assert set(seen) == {"Hi"}
    unsubscribe()
    count = len(seen)
    chat.clear()
    assert len(seen) == count
