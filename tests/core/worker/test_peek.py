"""Looking at workers and ending them from outside, in every state that they can be in."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest
from support.kernel import Kernel
from support.peer import Peer

from gguf_widgets.core.errors import GgufWidgetsError, ProtocolError, WorkerDiedError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import endpoint, peek, protocol, registry
from gguf_widgets.core.worker.handshake import program_name
from gguf_widgets.core.worker.peek import Ended
from gguf_widgets.core.worker.registry import Entry
from tests.core.conftest import wait_for

PATIENT_S = 40.0  # what takes milliseconds, on a busy machine

# The engine's first step begins, says so, and goes on when it is told to.
LONG_STEP = """
import pathlib, time
from gguf_widgets.core.engine.engine import Engine
home = pathlib.Path({home!r})
step = Engine.step
def long(self):
    (home / "stepping").touch()
    while not (home / "go").exists():
        time.sleep(0.01)
    return step(self)
Engine.step = long
"""

LONG_LOAD = """
import pathlib, time
from gguf_widgets.core.engine import scripted
home = pathlib.Path({home!r})
def open(cls, settings, on_progress):
    on_progress(0.4)
    (home / "loading").touch()
    while not (home / "go").exists() and on_progress(0.4):
        time.sleep(0.01)
    return cls(settings)
scripted.ScriptedBackend.open = classmethod(open)
"""


FOREIGN = Entry(
    name="old",
    host=platform.node(),
    pid=os.getpid(),
    started_at=psutil.Process().create_time(),
    protocol_version=protocol.PROTOCOL_VERSION,
    package_version="0",
    identity="x",
    model_path="x",
    backend="scripted",
    requested=LoadSettings(),
    effective=None,
    address=endpoint.Address(path="/nowhere"),
    log_path="",
)


def _entry() -> Entry:
    (entry,) = registry.list_processes()
    return entry


def _look() -> protocol.Status:
    return peek.look(_entry(), PATIENT_S)


def test_looking_shows_who_uses_it_and_is_no_client(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/emma/My work.ipynb")
    model = manager.load()
    for _ in range(5):
        status = _look()
    assert model.stats().num_clients == 1
    assert (status.state, status.num_requests, status.leaves_in_s) == ("ready", 0, None)
    (client,) = status.clients
    assert (client.program, client.pid) == ("notebook My work.ipynb", os.getpid())
    assert status.settings == model.settings
    stream = model.stream("Tell me a story")
    next(stream)
    status = _look()
    assert status.engine is not None
    assert status.engine.num_running == 1
    assert status.engine.num_cells >= status.engine.num_cells_used > 0
    assert [client.num_requests for client in status.clients] == [status.num_requests] == [1]
    stream.stop()


def test_looking_keeps_no_worker_alive(no_leaks: None, scripted: None) -> None:
    with ModelManager(keep_alive=1.5) as manager:
        manager.load()
    entry = _entry()
    left_s = []
    while registry.is_alive(entry):  # the test's own time limit ends it
        try:
            status = peek.look(entry, PATIENT_S)
        except OSError:
            continue  # it is leaving
        if status.state == "ready" and not status.clients:
            assert status.leaves_in_s is not None
            left_s.append(status.leaves_in_s)
        time.sleep(0.02)
    assert len(left_s) > 10
    assert left_s == sorted(left_s, reverse=True)


def test_a_worker_can_be_looked_at_while_it_loads_and_its_loading_be_ended(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(LONG_LOAD.format(home=str(home)))
    ends: list[BaseException] = []

    def load() -> None:
        try:
            manager.load()
        except GgufWidgetsError as error:
            ends.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    wait_for((home / "loading").exists, "it loads")
    status = _look()
    assert status.state == "loading"
    assert status.progress is not None
    assert status.progress.fraction == 0.4
    assert status.engine is None
    assert len(status.clients) == 1
    ending = peek.end(_entry(), "it was in the way")
    assert ending.how is Ended.ASKED
    assert ending.last is not None
    assert ending.last.state == "loading"
    thread.join(PATIENT_S)
    with pytest.raises(WorkerDiedError, match="it was in the way"):
        raise ends[0]


def test_a_worker_can_be_looked_at_while_a_step_of_its_engine_takes_long(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(LONG_STEP.format(home=str(home)))
    model = manager.load()
    stream = model.stream("Tell me a story")
    wait_for((home / "stepping").exists, "the step has begun")
    status = _look()  # or it would wait for ever
    assert status.engine is not None
    assert status.engine.num_waiting == 1
    assert status.engine_age_s > 0
    (home / "go").touch()
    assert next(stream).text
    wait_for(lambda: _look().engine_age_s == 0, "the figures are those of the moment")
    stream.stop()


def test_a_visitor_may_say_nothing_but_stop(manager: ModelManager) -> None:
    model = manager.load()
    for message in (
        protocol.GetStats(request_id="-1"),
        protocol.Leave(),
        protocol.Hello(protocol_version=protocol.PROTOCOL_VERSION, package_version="test"),
    ):
        with Peer() as peer:
            peer.send(
                protocol.Hello(
                    protocol_version=protocol.PROTOCOL_VERSION, package_version="test", peek=True
                )
            )
            assert isinstance(peer.receive(), protocol.Welcome)
            assert isinstance(peer.receive(), protocol.Status)
            peer.send(message)
            assert peer.receive() is None
    assert model.stats().num_clients == 1


def test_over_a_port_nobody_looks_without_the_secret(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_TRANSPORT", "tcp")
    manager.load()
    assert _look().state == "ready"
    monkeypatch.setattr(endpoint, "read_secret", lambda address: "0" * 64)
    with pytest.raises(ProtocolError, match="did not prove"):
        _look()


def test_a_worker_that_does_not_answer_is_seen_as_such_and_ended_by_force(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = manager.load()
    entry = _entry()
    os.kill(entry.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        peek.look(entry, 0.2)
    memory = peek.memory_of(entry)
    assert memory is not None
    assert memory.rss_bytes > 10_000_000
    if platform.system() == "Linux":
        assert memory.pss_bytes is not None
        assert 0 < memory.pss_bytes <= memory.rss_bytes
    monkeypatch.setattr(peek, "_ASKING_S", 0.2)
    ending = peek.end(entry, "it is stuck")
    assert (ending.how, ending.last) == (Ended.KILLED, None)
    assert peek.end(entry, "once more").how is Ended.GONE
    assert peek.memory_of(entry) is None
    assert registry.read(entry.name) is None
    wait_for(lambda: model.pid is None, "its client knows")
    assert model.chat("Hello", max_tokens=2).text


def test_a_worker_that_is_told_to_stop_and_does_not_is_ended_by_force(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
from gguf_widgets.core.worker.server import Server
Server.end = lambda self, reason, status=0: None
""")
    manager.load()
    ending = peek.end(_entry(), "now", polite_s=0.3)
    assert ending.how is Ended.KILLED
    assert ending.last is not None


def test_a_worker_of_another_version_or_without_its_socket_is_ended_by_a_signal(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.load()
    with monkeypatch.context() as context:
        context.setattr(protocol, "PROTOCOL_VERSION", protocol.PROTOCOL_VERSION + 1)
        with pytest.raises(ProtocolError, match="an older gguf-widgets"):
            _look()
        assert peek.end(_entry(), "too old").how is Ended.ASKED
    manager.close()
    manager.load()
    entry = _entry()
    endpoint.remove_files(entry.address)
    with pytest.raises(FileNotFoundError):
        _look()
    assert peek.end(entry, "lost").how is Ended.ASKED


def test_no_process_but_the_worker_is_ever_ended(no_leaks: None) -> None:
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        entry = msgspec.structs.replace(FOREIGN, pid=foreign.pid)  # once it was a worker's number
        registry.write(entry)
        assert peek.end(entry, "it is in the way").how is Ended.GONE
        assert not registry.entry_path("old").exists()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_an_answer_that_never_gets_complete_takes_no_longer_than_none(no_leaks: None) -> None:
    listener, address = endpoint.listen("slow")
    given_up = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall((60_000).to_bytes(4, "big"))
            while not given_up.wait(0.02):  # always a little more, so that no single read is slow
                connection.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    entry = msgspec.structs.replace(FOREIGN, name="slow", address=address)
    with pytest.raises(TimeoutError):
        peek.look(entry, 0.5)
    given_up.set()
    thread.join(PATIENT_S)
    listener.close()
    endpoint.remove_files(address)


@pytest.mark.parametrize(
    ("argv", "environment", "name"),
    [
        (["/usr/bin/gguf-widgets", "chat"], {}, "gguf-widgets"),
        (["/site-packages/gguf_widgets/__main__.py"], {}, "gguf_widgets"),
        (["night/label_reviews.py"], {}, "label_reviews.py"),
        (["-c"], {}, "python"),
        (["-"], {}, "python"),
        ([], {}, "python"),
        (["x" * 5000], {}, "x" * 200),
        (["kernel.py"], {"JPY_SESSION_NAME": "/a/My work.ipynb"}, "notebook My work.ipynb"),
        (["ipykernel_launcher.py"], {"SERVER_SOFTWARE": "voila/0.5"}, "a page of the dashboard"),
    ],
)  # fmt: skip
def test_a_program_says_what_it_is(
    argv: list[str], environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("JPY_SESSION_NAME", "SERVER_SOFTWARE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "argv", argv)
    assert program_name() == name


def test_an_entry_of_before_there_was_a_mark_for_leaving_can_be_read(
    manager: ModelManager,
) -> None:
    manager.load()
    entry = _entry()
    old = json.loads(registry.entry_path(entry.name).read_bytes())
    del old["leaving"]
    registry.entry_path(entry.name).write_bytes(msgspec.json.encode(old))
    assert registry.read(entry.name) == entry


def test_a_load_waits_for_the_memory_of_a_worker_that_leaves(
    manager: ModelManager, in_worker: Callable[[str], None], home: Path
) -> None:
    in_worker(f"""
import pathlib, time
from gguf_widgets.core.engine.engine import Engine
close = Engine.close
def slow(self):
    pathlib.Path({str(home)!r}, "closing").touch()
    time.sleep(0.7)
    close(self)
Engine.close = slow
""")
    kernel = Kernel()
    try:
        kernel.wait_started()
        kernel.do("load")
        old = _entry()
        kernel.kill()
        wait_for((home / "closing").exists, "it gives its memory back")
        assert _entry().leaving
        assert registry.list_workers() == []
        model = manager.load()
        assert not registry.is_alive(old)
        assert model.chat("Hello", max_tokens=2).text
    finally:
        kernel.kill()


def test_a_worker_that_leaves_and_never_gets_there_is_ended_by_the_next_who_loads(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf_widgets.core.worker import attach

    monkeypatch.setattr(attach, "LEAVING_TIMEOUT_S", 0.3)
    with ModelManager(keep_alive=60) as other:
        other.load()
    old = _entry()
    os.kill(old.pid, signal.SIGSTOP)
    registry.write(registry.as_leaving(old))
    begun = time.monotonic()
    assert manager.load().chat("Hello", max_tokens=2).text
    assert time.monotonic() - begun >= 0.3
    assert not registry.is_alive(old)
    assert registry.read(old.name) is None
