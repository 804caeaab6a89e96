from __future__ import annotations

import _thread
import asyncio
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from gguf_widgets.core.chat import ChatInterface
from gguf_widgets.core.chat_types import ChatEvent, EventKind, MessageStatus, Phase, title_from
from gguf_widgets.core.errors import (
    ContextOverflowError,
    InvalidValueError,
    RequestError,
    StoreError,
    WorkerDiedError,
)
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import (
    FinishReason,
    LoadSettings,
    ModelInfo,
    PrefillProgress,
    Reply,
    SamplingSettings,
    TextDelta,
    Timings,
    Usage,
)

WAIT_S = 60.0


class FakeStream:
    """An answer whose pieces the test puts in; an exception among them is raised."""

    def __init__(self, messages: list[Any], sampling: dict[str, Any]) -> None:
        self.messages, self.sampling = messages, sampling
        self.pieces: queue.Queue[str | Exception | None] = queue.Queue()
        self.progress: PrefillProgress | None = None
        self.reply: Reply | None = None
        self.stopped = threading.Event()
        self.closed = False

    def say(self, *pieces: str | Exception | None) -> None:
        for piece in pieces:
            self.pieces.put(piece)

    def stop(self) -> None:
        self.stopped.set()
        self.pieces.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True

    def __iter__(self) -> Iterator[TextDelta]:
        text: list[str] = []
        while True:
            piece = self.pieces.get(timeout=WAIT_S)
            if isinstance(piece, Exception):
                raise piece
            if piece is None:
                break
            text.append(piece)
            yield TextDelta(request_id="r", text=piece, num_completion_tokens=len(text))
        self.reply = Reply(
            text="".join(text),
            finish_reason=FinishReason.ABORTED if self.stopped.is_set() else FinishReason.STOP,
            usage=Usage(num_prompt_tokens=10 * len(self.messages), num_completion_tokens=len(text)),
            timings=Timings(queue_s=0, prefill_s=0.1, decode_s=0.2, ttft_s=0.1, total_s=0.3),
            seed=7,
        )


class FakeModel:
    """A model whose answers the test writes: from `script`, or by hand through `streams`."""

    name = "fake"

    def __init__(self, *script: list[str | Exception]) -> None:
        self.info = ModelInfo(
            path="/m/fake.gguf",
            name="fake",
            architecture="llama",
            size_bytes=1,
            num_parameters=1,
            quantization="Q8_0",
            n_ctx_train=512,
            n_vocab=10,
            n_layer=1,
            n_head=1,
            n_head_kv=1,
            n_embd=8,
        )
        self.settings = LoadSettings(n_ctx=512)
        self.script = list(script)
        self.streams: list[FakeStream] = []
        self.begun = threading.Semaphore(0)

    def stream(self, messages: list[Any], **sampling: Any) -> FakeStream:
        stream = FakeStream(messages, sampling)
        if self.script:
            stream.say(*self.script.pop(0), None)
        self.streams.append(stream)
        self.begun.release()
        return stream

    def next_stream(self) -> FakeStream:
        assert self.begun.acquire(timeout=WAIT_S)
        return self.streams[-1]


class Watcher:
    """Collects events and waits for one."""

    def __init__(self, chat: ChatInterface) -> None:
        self.events: list[ChatEvent] = []
        self._changed = threading.Condition()
        chat.subscribe(self._take)

    def _take(self, event: ChatEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, found: Callable[[ChatEvent], bool]) -> ChatEvent:
        def first() -> ChatEvent | None:
            return next((event for event in self.events if found(event)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: first() is not None, WAIT_S), self.events
            event = first()
        assert event is not None
        return event

    def wait_end(self) -> ChatEvent:
        return self.wait_for(lambda event: event.kind is EventKind.UPDATED)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store() as store:
        yield store


@pytest.fixture
def make(store: Store) -> Iterator[Callable[..., ChatInterface]]:
    made: list[ChatInterface] = []

    def make(*args: Any, **keywords: Any) -> ChatInterface:
        made.append(ChatInterface(*args, store=store, **keywords))
        return made[-1]

    yield make
    for chat in made:
        chat.close()


def said(chat: ChatInterface) -> list[tuple[str, str, str]]:
    return [(m.role, m.content, str(m.status)) for m in chat.messages]


def test_a_conversation_is_sent_whole_and_found_again(make: Any, store: Store) -> None:
    model = FakeModel(["Hel", "lo"], ["Fine"])
    chat = make(model, system="Be brief.", temperature=0, seed=3)
    reply = chat.send("Hi  there\nfriend")
    assert (reply.text, reply.seed) == ("Hello", 7)
    chat.send("How are you?", max_tokens=5)
    assert model.streams[1].messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi  there\nfriend"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "How are you?"},
    ]
    assert model.streams[1].sampling["max_tokens"] == 5
    assert all(stream.closed for stream in model.streams)
    assert chat.title == "Hi there friend"
    assert chat.context_used == (41, 512)

    again = make(conversation_id=chat.conversation_id)
    assert again.messages == chat.messages
    assert (again.title, again.system) == ("Hi there friend", "Be brief.")
    answer = again.messages[3]
    assert answer.sampling == SamplingSettings(temperature=0, seed=3, max_tokens=5)
    assert (answer.seed, answer.finish_reason) == (7, FinishReason.STOP)
    assert answer.model_name == "fake"
    assert answer.model is not None
    assert answer.model["settings"]["n_ctx"] == 512
    assert answer.usage == Usage(num_prompt_tokens=40, num_completion_tokens=1)


def test_events_rebuild_what_the_messages_say(make: Any) -> None:
    chat = make(FakeModel(["one ", "two ", "three"]))
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


def test_reading_the_prompt_is_reported_and_counts_as_context(make: Any) -> None:
    model = FakeModel()
    chat = make(model)
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


def test_a_snapshot_in_the_middle_has_what_arrived(make: Any, store: Store) -> None:
    model = FakeModel()
    chat = make(model)
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


def test_a_snapshot_holds_exactly_what_the_events_up_to_it_told(make: Any) -> None:
    # A page takes a snapshot at any moment and goes on with the events after it: nothing may be
    # missing, and nothing come twice.
    model = FakeModel([f"{number} " for number in range(2000)])
    chat = make(model)
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


def test_stop_keeps_what_had_arrived_and_the_model_sees_it_next(make: Any) -> None:
    model = FakeModel()
    chat = make(model)
    watcher = Watcher(chat)
    chat.start("Tell me a story")
    model.next_stream().say("Once ")
    watcher.wait_for(lambda event: event.text == "Once ")
    chat.stop()
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED
    assert end.message.finish_reason is FinishReason.ABORTED
    assert not chat.busy
    chat.stop()  # nothing runs: nothing happens
    model.script = [["upon a time"]]
    chat.send("Go on")
    assert [m["content"] for m in model.streams[-1].messages] == [
        "Tell me a story",
        "Once ",
        "Go on",
    ]


def test_stop_before_the_model_has_begun(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel()
    gate = threading.Event()
    original = model.stream

    def slow(messages: list[Any], **sampling: Any) -> FakeStream:
        assert gate.wait(WAIT_S)
        return original(messages, **sampling)

    monkeypatch.setattr(model, "stream", slow)
    chat = make(model)
    watcher = Watcher(chat)
    chat.start("Hi")
    chat.stop()
    gate.set()
    end = watcher.wait_end()
    assert end.message is not None
    assert (end.message.status, end.message.content) == (MessageStatus.ABORTED, "")


def test_death_in_the_middle_keeps_the_text_and_the_next_message_works(
    make: Any, store: Store
) -> None:
    died = WorkerDiedError("The model's process ended (signal 9).", signal=9)
    model = FakeModel(["Half an "], ["Whole"])
    model.script[0].append(died)
    chat = make(model)
    with pytest.raises(WorkerDiedError, match="signal 9") as caught:
        chat.send("First")
    assert caught.value.details == {"signal": 9}
    assert said(chat) == [("user", "First", "complete"), ("assistant", "Half an ", "failed")]
    failed = chat.messages[1]
    assert failed.error is not None
    assert failed.error["kind"] == "WorkerDiedError"
    assert failed.finish_reason is FinishReason.ERROR
    assert Conversations(store).message(failed.id) == failed
    assert chat.snapshot().left_out == [failed.id]
    assert chat.send("Second").text == "Whole"
    # What failed is not put into the model's mouth; the two questions became one turn.
    assert model.streams[1].messages == [{"role": "user", "content": "First\n\nSecond"}]


def test_a_message_that_does_not_fit_is_shown_and_does_not_spoil_the_next(make: Any) -> None:
    too_long = ContextOverflowError("It has 900 tokens; there is room for 512.", over=388)
    model = FakeModel([too_long], ["Short answer"])
    chat = make(model)
    with pytest.raises(ContextOverflowError):
        chat.send("very long " * 1000)
    asked, failed = chat.messages
    assert asked.content == "very long " * 1000
    assert failed.error is not None
    assert failed.error["details"] == {"over": 388}
    assert chat.snapshot().left_out == [asked.id, failed.id]
    chat.send("Short")
    assert model.streams[1].messages == [{"role": "user", "content": "Short"}]


def test_an_error_nobody_expected_is_shown_and_logged(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chat = make(FakeModel([ZeroDivisionError("oops")], ["fine"]))
    with pytest.raises(RequestError, match="ZeroDivisionError: oops"):
        chat.send("Hi")
    assert "not expected" in caplog.text
    assert chat.send("Again").text == "fine"


def test_what_cannot_be_sent_changes_nothing(make: Any, store: Store) -> None:
    chat = make()
    with pytest.raises(RequestError, match="Choose a model first"):
        chat.send("Hi")
    chat.model = FakeModel()
    for text, words in [("", "empty"), (" \n", "empty"), (3, "must be a text, not int")]:
        with pytest.raises(InvalidValueError, match=words):
            chat.start(text)
    with pytest.raises(InvalidValueError, match="temperature is 9"):
        chat.start("Hi", temperature=9)
    with pytest.raises(InvalidValueError, match="Did you mean 'temperature'"):
        chat.start("Hi", temprature=1)
    assert chat.messages == []
    assert Conversations(store).recent() == []
    chat.close()
    with pytest.raises(RequestError, match="was closed"):
        chat.start("Hi")


def test_settings_are_checked_before_they_count(make: Any) -> None:
    chat = make(FakeModel(["x"]), model_type="code", top_k=7)
    assert (chat.sampling.temperature, chat.sampling.top_k) == (0.2, 7)
    assert "programming" in chat.system
    with pytest.raises(InvalidValueError, match="vision model"):
        chat.model_type = "multimodal"
    with pytest.raises(InvalidValueError, match="Did you mean 'code'"):
        make(model_type="coda")
    with pytest.raises(InvalidValueError, match="must be a text"):
        chat.system = 3
    with pytest.raises(InvalidValueError):
        chat.sampling = {"temperature": float("nan")}
    assert chat.sampling.temperature == 0.2
    chat.sampling = {"temperature": 1, "stop": "END"}
    assert chat.sampling.stop == ("END",)
    assert (chat.sampling.temperature, chat.sampling.top_p) == (1.0, 0.9)
    chat.sampling = SamplingSettings(temperature=0.5)
    chat.model_type = "text"
    assert chat.sampling == SamplingSettings(temperature=0.5)
    assert chat.system is None
    chat.model_type = "code"
    chat.system = ""
    assert chat.system is None
    chat.send("Hi")
    assert chat.model.streams[0].messages == [{"role": "user", "content": "Hi"}]


def test_clear_begins_anew_and_the_old_one_can_be_opened(make: Any, store: Store) -> None:
    model = FakeModel(["A1"])
    chat = make(model)
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


def test_open_latest(make: Any) -> None:
    assert not make().open_latest()
    chat = make(FakeModel(["A"]))
    chat.send("Hello")
    later = make()
    assert later.open_latest()
    assert later.messages == chat.messages


def test_regenerate_makes_a_branch_and_keeps_the_old_answer(make: Any, store: Store) -> None:
    model = FakeModel(["A"], ["B"], ["better A"])
    chat = make(model)
    chat.send("one")
    chat.send("two")
    first, old = chat.messages[0], chat.messages[1]
    watcher = Watcher(chat)
    chat.regenerate(old.id, temperature=1.5)
    watcher.wait_end()
    assert [m.content for m in chat.messages] == ["one", "better A"]
    assert model.streams[2].messages == [{"role": "user", "content": "one"}]
    assert chat.messages[1].sampling.temperature == 1.5
    conversations = Conversations(store)
    everything = conversations.all_messages(chat.conversation_id)
    assert [m.content for m in everything] == ["one", "A", "two", "B", "better A"]
    assert [m.parent_id for m in everything] == [
        None,
        first.id,
        old.id,
        everything[2].id,
        first.id,
    ]
    assert conversations.path(chat.conversation_id, everything[3].id)[-1].content == "B"
    with pytest.raises(InvalidValueError, match="is no answer"):
        chat.regenerate(first.id)


def test_stream_yields_the_pieces_and_closing_it_stops(make: Any) -> None:
    model = FakeModel(["a", "b"])
    chat = make(model)
    pieces = chat.stream("Hi")
    assert [str(piece) for piece in pieces] == ["a", "b"]
    assert pieces.reply.text == "ab"
    watcher = Watcher(chat)
    pieces = chat.stream("Hi")
    model.next_stream()
    model.next_stream().say("c")
    assert next(pieces).text == "c"
    del pieces
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED
    model.script = [["x", RequestError("It cannot be decoded.")]]
    with pytest.raises(RequestError, match="decoded"):
        list(chat.stream("Hi"))


def test_a_forgotten_stream_may_be_collected_in_the_middle_of_anything(make: Any) -> None:
    model = FakeModel()
    chat = make(model)
    pieces = [chat.stream("Hi")]
    model.next_stream()
    answer = chat._answer

    def collect() -> None:
        with answer._lock:  # where the collector may come
            pieces.clear()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert answer.join(WAIT_S)
    assert said(chat)[1] == ("assistant", "", "aborted")


def test_asend_and_its_cancellation(make: Any) -> None:
    model = FakeModel(["quick"])
    chat = make(model)
    watcher = Watcher(chat)

    async def talk() -> None:
        assert (await chat.asend("Hi")).text == "quick"
        watcher.events.clear()
        task = asyncio.create_task(chat.asend("Long"))
        await asyncio.to_thread(model.next_stream)
        await asyncio.to_thread(model.next_stream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(talk())
    end = watcher.wait_end()
    assert end.message is not None
    assert end.message.status is MessageStatus.ABORTED


def test_an_interrupt_while_waiting_stops_the_answer(make: Any) -> None:
    model = FakeModel()
    chat = make(model)

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.DELTA:
            _thread.interrupt_main()

    chat.subscribe(press_stop)
    begun = threading.Thread(target=lambda: model.next_stream().say("Once "))
    begun.start()
    with pytest.raises(KeyboardInterrupt):
        chat.send("Tell me a story")
    begun.join(WAIT_S)
    assert not chat.busy
    assert said(chat)[1] == ("assistant", "Once ", "aborted")


def test_an_interrupt_while_the_answer_begins_stops_it(make: Any) -> None:
    chat = make(FakeModel())

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.ADDED and event.message and event.message.role == "assistant":
            _thread.interrupt_main()

    chat.subscribe(press_stop)
    with pytest.raises(KeyboardInterrupt):
        chat.send("Tell me a story")
    assert not chat.busy


class InterruptedLock:
    """A lock after whose first release an interrupt comes, as Python lets it come just there."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._pressed = False

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *exc: object) -> None:
        self._lock.__exit__(*exc)
        if not self._pressed:
            self._pressed = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["start", "regenerate"])
def test_an_interrupt_just_before_the_answer_is_begun_leaves_no_chat_that_waits_for_ever(
    make: Any, how: str
) -> None:
    model = FakeModel(["A"])
    chat = make(model)
    chat.send("Hi")
    watcher = Watcher(chat)
    chat._lock = InterruptedLock(chat._lock)
    with pytest.raises(KeyboardInterrupt):
        chat.start("And?") if how == "start" else chat.regenerate()
    chat.stop()
    watcher.wait_end()
    assert not chat.busy
    model.script = [["B"]]
    assert chat.send("Go on").text == "B"


def test_an_interrupt_while_an_answer_is_begun_anew_leaves_it_running(make: Any) -> None:
    model = FakeModel(["A"], ["B"])
    chat = make(model)
    chat.send("Hi")
    watcher = Watcher(chat)

    def press_stop(event: ChatEvent) -> None:
        if event.kind is EventKind.RESET:
            raise KeyboardInterrupt

    chat.subscribe(press_stop)
    with pytest.raises(KeyboardInterrupt):
        chat.regenerate()
    watcher.wait_end()
    assert said(chat) == [("user", "Hi", "complete"), ("assistant", "B", "complete")]


def test_an_observer_that_raises_or_talks_back_breaks_nothing(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    chat = make(FakeModel(["a", "b"]))
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


def test_a_store_that_fails_during_an_answer_does_not_break_it(
    make: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel()
    chat = make(model)
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


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_keeping_an_answer_does_not_end_the_conversation(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make(FakeModel(["a"], ["b"]))

    def fail(*args: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as context:
        context.setattr(chat._saver._conversations, "save", fail)
        assert chat.send("Hi").text == "a"
    assert said(chat)[1] == ("assistant", "a", "complete")
    assert chat.send("Again").text == "b"


def test_a_conversation_removed_meanwhile_is_an_error_and_a_new_one_works(
    make: Any, store: Store
) -> None:
    chat = make(FakeModel(["a"], ["b"]))
    chat.send("Hi")
    Conversations(store).delete(chat.conversation_id)
    Conversations(store).purge()
    with pytest.raises(StoreError, match="not in the store any more"):
        chat.send("Still there?")
    assert len(chat.messages) == 2
    chat.clear()
    assert chat.send("Hi again").text == "b"


def test_half_characters_and_long_texts_are_carried(make: Any, store: Store) -> None:
    model = FakeModel(["ok \x00 fine"], ["ok"])
    chat = make(model)
    chat.send("half \ud83d, whole \ud83d\ude00, nul \x00")
    expected = "half \ufffd, whole \U0001f600, nul \x00"
    assert model.streams[0].messages[0]["content"] == expected
    chat.send("x" * 5_000_000)
    again = make(conversation_id=chat.conversation_id)
    assert [len(m.content) for m in again.messages] == [len(expected), 9, 5_000_000, 2]
    assert again.messages[0].content == expected


def test_infinite_biases_come_back_from_the_store(make: Any) -> None:
    chat = make(FakeModel(["x"]), logit_bias={5: float("-inf")}, stop=("END",))
    chat.send("Hi")
    again = make(conversation_id=chat.conversation_id)
    assert again.messages[1].sampling == chat.sampling


def test_titles() -> None:
    assert title_from("  Hello \n\n world ") == "Hello world"
    long = "word " * 50
    assert title_from(long).startswith("word word")
    assert title_from(long).endswith("word…")
    assert len(title_from("x" * 1000)) == 60
    assert title_from("x" * 1000).endswith("…")


def test_to_frame(make: Any) -> None:
    chat = make(FakeModel(["a"], [RequestError("No.")]))
    chat.send("Hi")
    with pytest.raises(RequestError):
        chat.send("Again")
    frame = chat.to_frame()
    assert list(frame["role"]) == ["user", "assistant", "user", "assistant"]
    assert list(frame["error"].fillna("")) == ["", "", "", "No."]
    assert frame["num_completion_tokens"].tolist()[1] == 1
    assert frame["num_completion_tokens"].isna().tolist() == [True, False, True, True]
    assert str(frame["created"].dtype) == "datetime64[ns, UTC]"
    assert make().to_frame().empty


# -- other processes -------------------------------------------------------------------------------

# A program that gets the first half of an answer and then waits for the rest, which never comes.
HALF = """
import sys, threading
sys.path.insert(0, {folder!r})
from test_chat import ChatInterface, Conversations, FakeModel
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
    code = HALF.format(folder=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_an_answer_of_a_killed_program_is_interrupted_with_what_had_arrived(
    make: Any, store: Store
) -> None:
    process, conversation_id = start_half()
    try:
        # Alive: it is being written, and nobody may write over it.
        chat = make(FakeModel(["And on"]), conversation_id=conversation_id)
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
    assert said(make(conversation_id=conversation_id))[1] == ("assistant", "Half", "interrupted")
    chat.send("Go on")
    assert [m["content"] for m in chat.model.streams[0].messages] == [
        "Hello from another program",
        "Half",
        "Go on",
    ]


def test_an_answer_of_another_program_is_followed_to_its_end(make: Any) -> None:
    process, conversation_id = start_half()
    try:
        chat = make(FakeModel(), conversation_id=conversation_id)
        watcher = Watcher(chat)
        process.communicate("go\n", timeout=WAIT_S)
        end = watcher.wait_end()
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)
    assert end.message is not None
    assert (end.message.content, end.message.status) == ("Half and half", MessageStatus.COMPLETE)
    assert said(chat)[1] == ("assistant", "Half and half", "complete")


def test_following_ends_when_its_store_or_its_chat_is_closed(make: Any, store: Store) -> None:
    process, conversation_id = start_half()
    try:
        make(FakeModel(), conversation_id=conversation_id)
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


def test_closing_leaves_no_thread_behind(make: Any) -> None:
    model = FakeModel()
    chat = make(model)
    chat.start("Hi")
    model.next_stream()
    before = time.monotonic()
    chat.close()
    assert time.monotonic() - before < 5
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("gguf-widgets-answer")]
