"""The notebook's side of a connection: deaths, silences and forks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.record import Record, ask_for_story

from gguf_widgets.core.errors import InvalidValueError, WorkerDiedError, WorkerError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Failed
from gguf_widgets.core.worker import client as client_module
from gguf_widgets.core.worker import protocol, registry, spawn
from gguf_widgets.core.worker.client import WorkerClient
from tests.core.conftest import wait_for


@pytest.fixture
def model(manager: ModelManager, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")  # a story takes more than a minute
    return manager.load()


@pytest.fixture
def client(model: Model) -> WorkerClient:
    return model._link.client()


def _kill(client: WorkerClient) -> None:
    os.kill(client.pid, signal.SIGKILL)


def test_a_killed_worker_gives_each_open_request_exactly_one_error(client: WorkerClient) -> None:
    records = [ask_for_story(client) for _ in range(30)]  # some run, some wait
    assert records[0].first.wait(40)
    _kill(client)
    for record in records:
        assert record.last.wait(40)
    client.close()
    for record in records:
        end = record.the_end()
        assert isinstance(end, Failed)
        error = end.error
        assert error["kind"] == "WorkerDiedError"
        assert "was killed (signal 9)" in error["message"]
        assert "Your conversation is safe; the next message starts it again." in error["message"]
        assert error["details"]["signal"] == 9
        assert error["details"]["pid"] == client.pid
    with pytest.raises(WorkerDiedError, match="signal 9"):
        client.call(lambda request_id: protocol.GetStats(request_id=request_id))


def test_a_crash_is_told_with_its_signal_and_the_last_words_of_the_log(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
import os, sys
from gguf_widgets.core.engine.engine import Engine
def step(self):
    print("ggml.c:123: GGML_ASSERT(n > 0) failed", file=sys.stderr, flush=True)
    os.abort()
Engine.step = step
""")
    model = manager.load()
    with pytest.raises(WorkerDiedError) as caught:
        model.chat("Hello")
    assert "crashed (signal 6, SIGABRT)" in caught.value.message
    assert "Its last words: ggml.c:123: GGML_ASSERT(n > 0) failed." in caught.value.message
    assert caught.value.details["last_log_lines"] == ["ggml.c:123: GGML_ASSERT(n > 0) failed"]


def test_an_engine_that_raises_ends_its_requests_and_its_worker(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
from gguf_widgets.core.engine.engine import Engine
def step(self):
    raise ZeroDivisionError("of all things")
Engine.step = step
""")
    model = manager.load()
    first = model._link.client()
    records = [ask_for_story(first) for _ in range(3)]
    for record in records:
        assert record.last.wait(40)
        (failed,) = record.messages
        assert "ZeroDivisionError: of all things" in failed.error["message"]
    assert model.tokenize("a") == [97]  # by a new worker
    assert model.pid != first.pid


def test_a_worker_that_stands_still_is_given_up_after_a_while(
    client: WorkerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(client_module, "GIVE_UP_AFTER_S", 1.0)
    record = ask_for_story(client)
    assert record.first.wait(40)
    os.kill(client.pid, signal.SIGSTOP)
    try:
        assert record.last.wait(40)
    finally:
        os.kill(client.pid, signal.SIGKILL)
    assert "has not answered for" in record.messages[-1].error["message"]
    wait_for(lambda: not registry.list_workers(), "it is dead, and cleared away")


def test_a_long_computation_is_no_silence(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
import time
from gguf_widgets.core.engine.engine import Engine
step = Engine.step
def slow(self):
    if not getattr(self, "was_slow", False):
        self.was_slow = True
        time.sleep(6)
    return step(self)
Engine.step = slow
""")
    model = manager.load()
    # Only now: a busy machine may be slow to import what a worker needs. And long enough for a
    # process that waits for its turn to answer.
    monkeypatch.setattr(client_module, "PING_AFTER_S", 0.1)
    monkeypatch.setattr(client_module, "GIVE_UP_AFTER_S", 4.0)
    assert model.chat("Hello", max_tokens=3).text


def test_closing_ends_open_requests_once_and_can_be_done_twice(client: WorkerClient) -> None:
    record = ask_for_story(client)
    assert record.first.wait(40)
    client.close()
    client.close()
    assert [type(m) for m in record.messages if isinstance(m, protocol.TERMINAL)] == [Failed]
    assert not client.alive
    client.abort("c1-1")  # harmless
    assert repr(client).endswith("closed>")


def test_what_cannot_be_sent_is_refused_and_leaves_nothing_behind(client: WorkerClient) -> None:
    record = Record()
    with pytest.raises(InvalidValueError, match="half a character"):
        client.submit(lambda r: protocol.Tokenize(request_id=r, text="\ud800"), record)
    assert client._pending == {}
    future = client.call(lambda r: protocol.Tokenize(request_id=r, text="ok"))
    assert future.result(40).tokens == [111, 107]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_connection_open(model: Model) -> None:
    client = model._link.client()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Say whether the connection is unusable here, then live on while the parent leaves.
        os.close(reading)
        try:
            client.submit(lambda r: protocol.GetStats(request_id=r), Record())
            os.write(writing, b"usable")
        except WorkerError:
            os.write(writing, b"closed")
        signal.pause()
        os._exit(0)
    os.close(writing)
    try:
        assert os.read(reading, 100) == b"closed"
        assert model.chat("Hello", max_tokens=2).text  # the parent's is not disturbed
        assert model.unload() is True
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_model_works_in_a_forked_child_as_a_client_of_its_own(
    model: Model, manager: ModelManager
) -> None:
    stream = model.stream("Tell me a story")  # is open while the child is made
    next(stream)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answer = "failed"
        try:
            text = model.chat("Hello", max_tokens=5).text
            answer = f"{text} {model.stats().num_clients} {manager.load() is model} {model.pid}"
        finally:
            os.write(writing, answer.encode())
            signal.pause()
            os._exit(0)
    os.close(writing)
    try:
        assert os.read(reading, 100).decode() == f"Hello 2 True {model.pid}"
        assert next(stream).text
        assert model.stats().num_clients == 2
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    wait_for(lambda: model.stats().num_clients == 1, "the child has gone")
    stream.stop()


def test_the_client_brings_no_native_code_into_the_notebook() -> None:
    import subprocess

    code = (
        "import sys, gguf_widgets.core.manager\n"
        "bad = {m for m in sys.modules if m.split('.')[0] in ('llama_cpp', 'numpy', 'pandas',"
        " 'IPython', 'ipywidgets', 'jinja2') or m.startswith('gguf_widgets.core.engine')}\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_waiting_for_the_end_of_a_worker_is_over_when_it_is_gone(client: WorkerClient) -> None:
    _kill(client)
    assert client.wait_gone(40)
    wait_for(lambda: not client.alive, "the client knows")


def test_how_a_worker_ended_is_not_told_of_a_later_one_with_its_number(
    client: WorkerClient, tmp_path: Path
) -> None:
    pid, entry = client.pid, client.entry
    _kill(client)
    assert spawn.wait_gone(entry, 40)
    assert spawn.died(pid, entry.log_path, "").details["exit_status"] == -signal.SIGKILL
    assert spawn.died(pid, tmp_path / "worker-later.log", "").details["exit_status"] is None
    wait_for(lambda: not client.alive, "the client knows, and has cleared away")
