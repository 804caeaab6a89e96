"""Requests are told of, each once, whatever becomes of them (1.5 s)."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from gguf_widgets.core import request_events
from gguf_widgets.core.errors import (
    ContextOverflowError,
    GgufWidgetsError,
    ModelUnloadedError,
    WorkerDiedError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.request_events import (
    Event,
    ModelLoaded,
    RequestEnded,
    RequestProgress,
    RequestStarted,
)
from gguf_widgets.core.types import FinishReason, Reply


def of(kind: type, events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


def test_each_request_is_told_begun_and_ended_once_in_order(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")  # so that it can be stopped on the way
    events: list[Event] = []
    end = request_events.subscribe(events.append)
    try:
        model = manager.load("demo")
        again = manager.load("demo")
        reply = model.chat("Tell me a story", max_tokens=12)
        # Who has the reply finds it told already: no waiting here.
        assert of(RequestEnded, events)[-1].reply == reply
        stream = model.stream("Tell me a story", max_tokens=300)
        next(stream)
        of(RequestStarted, events)[-1].stop()
        assert stream.result().finish_reason is FinishReason.ABORTED
        ended = threading.Event()
        answers: list[Reply | GgufWidgetsError] = []
        token = request_events.RUN_ID.set("a run")
        model.submit("Hello", lambda end: (answers.append(end), ended.set()), max_tokens=3)
        request_events.RUN_ID.reset(token)
        assert ended.wait(20)
        with pytest.raises(ContextOverflowError):
            model.chat("lamp " * 20_000)
        with model.stream("Tell me a story", max_tokens=300):
            pass  # left without a look: it is taken back
        model.unload()
        with pytest.raises(ModelUnloadedError):
            model.chat("Hello")
    finally:
        end()
    assert again is model
    first, second = of(ModelLoaded, events)
    assert (first.model, first.was_running, second.was_running) == (model, False, True)
    assert first.load_s > second.load_s >= 0

    started, endings = of(RequestStarted, events), of(RequestEnded, events)
    ids = [event.request_id for event in started]
    assert len(set(ids)) == len(ids) == 6
    assert sorted(ids) == sorted(event.request_id for event in endings)
    by_id = {event.request_id: event for event in endings}
    kinds = [by_id[name].error["kind"] if by_id[name].error else by_id[name].reply.finish_reason
             for name in ids]  # fmt: skip
    assert kinds[:4] == ["length", "aborted", "length", "ContextOverflowError"]
    assert kinds[4] in ("aborted", "RequestCancelledError")
    assert kinds[5] == "ModelUnloadedError"
    assert ids[5].startswith("unsent-")
    assert [by_id[name].run_id for name in ids] == [None, None, "a run", None, None, None]
    for name in ids:
        mine = [event for event in events if getattr(event, "request_id", None) == name]
        assert isinstance(mine[0], RequestStarted)
        assert isinstance(mine[-1], RequestEnded)
        assert all(isinstance(event, RequestProgress) for event in mine[1:-1])
        clocks = [event.clock for event in mine]
        assert clocks == sorted(clocks)
        assert mine[-1].started_clock == mine[0].clock
    counts = [
        event.num_completion_tokens
        for event in events
        if isinstance(event, RequestProgress) and event.request_id == ids[0]
        if event.num_completion_tokens is not None
    ]
    assert counts == sorted(counts)
    assert counts[-1] == reply.usage.num_completion_tokens
    assert by_id[ids[0]].first_text_clock is not None
    assert by_id[ids[2]].first_text_clock is None, "nobody reads a submitted request meanwhile"


def test_a_listener_that_fails_and_one_that_leaves_disturb_nobody(
    manager: ModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def fail(_event: Event) -> None:
        raise RuntimeError("a fault of the listener")

    ends = [request_events.subscribe(fail), request_events.subscribe(heard.append)]
    ends.append(request_events.subscribe(heard.append))  # twice: each can be ended
    model = manager.load("demo")
    assert model.chat("Hello", max_tokens=2).usage.num_completion_tokens == 2
    num = len(heard)
    assert num % 2 == 0
    assert "a fault of the listener" in caplog.text
    ends[2]()
    ends[2]()
    model.chat("Hello", max_tokens=2)
    assert len(of(RequestEnded, heard)) == 3
    ends[0]()
    ends[1]()
    num = len(heard)
    model.chat("Hello", max_tokens=2)
    assert len(heard) == num


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_request_whose_worker_is_killed_ends_and_the_next_says_how_long_the_start_took(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "1")
    events: list[Event] = []
    end = request_events.subscribe(events.append)
    try:
        model = manager.load("demo")
        stream = model.stream("Tell me a story")
        next(stream)
        assert model.pid is not None
        os.kill(model.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            stream.result()
        assert model.chat("Hello", max_tokens=2).text
    finally:
        end()
    lost, answered = of(RequestEnded, events)
    assert lost.error is not None
    assert lost.error["kind"] == "WorkerDiedError"
    assert answered.load_s > 10 * lost.load_s
    assert lost.request_id != answered.request_id
    assert lost.request_id.partition("/")[0] != answered.request_id.partition("/")[0]
