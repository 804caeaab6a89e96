"""When workers begin and end: real processes, and real kills."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    LoadCancelledError,
    ModelLoadError,
    WorkerDiedError,
    WorkerStartError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import attach, endpoint, protocol, registry
from gguf_widgets.core.worker.client import WorkerClient
from gguf_widgets.core.worker.registry import Entry
from tests.core.conftest import processes_of, wait_for

SLOW_LOAD = """
import time
from gguf_widgets.core.engine import scripted
def open(cls, settings, on_progress, end={end!r}):
    import pathlib
    home = pathlib.Path({home!r})
    for step in range(12_000):  # so slow that whoever joins later still sees it move
        (home / "loading").touch()
        if on_progress is not None and not on_progress(min(step / 1000, 0.99)):
            (home / "cancelled").touch()
            raise RuntimeError("cancelled")
        if (home / "go").exists():
            break
        time.sleep(0.01)
    exec(end)
    return cls(settings)
scripted.ScriptedBackend.open = classmethod(open)
"""


def _workers(home: Path) -> list[psutil.Process]:
    return processes_of(home, "gguf_widgets.core.worker")


def test_a_signal_ends_a_worker_in_order(manager: ModelManager) -> None:
    model = manager.load()
    stream = model.stream("Tell me a story")
    assert model.pid is not None
    os.kill(model.pid, signal.SIGTERM)
    with pytest.raises(WorkerDiedError, match="was told to"):
        for _ in stream:
            pass
    # Nothing of it is left, and the next message starts another one.
    assert model.chat("Hello", max_tokens=3).text


def test_a_worker_that_nobody_can_find_leaves_when_its_last_client_does(
    manager: ModelManager, home: Path
) -> None:
    with ModelManager(keep_alive=600) as other:
        model = other.load()
        (entry,) = registry.list_workers()
        registry.entry_path(entry.name).unlink()
        assert model.chat("Hello").text
    wait_for(lambda: not _workers(home), "the worker has left")


def test_a_worker_that_does_not_answer_is_replaced(
    manager: ModelManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelManager() as first:
        stuck = first.load().pid
        assert stuck is not None
        connect = attach.connect

        def impatient(entry: Entry, *, keep_alive_s: float, timeout_s: float) -> WorkerClient:
            timeout_s = 0.5 if entry.pid == stuck else timeout_s
            return connect(entry, keep_alive_s=keep_alive_s, timeout_s=timeout_s)

        monkeypatch.setattr(attach, "connect", impatient)
        os.kill(stuck, signal.SIGSTOP)
        model = manager.load()
    assert model.pid != stuck
    assert [p.pid for p in _workers(home)] == [model.pid]


def test_a_number_taken_over_by_another_process_is_not_taken_for_the_worker(
    no_leaks: None,
) -> None:
    listener, address = endpoint.listen("old")
    listener.close()
    entry = Entry(
        name="old",
        host=platform.node(),
        pid=os.getpid(),  # alive, but not the worker
        started_at=psutil.Process().create_time(),
        protocol_version=protocol.PROTOCOL_VERSION,
        package_version="0",
        identity="x",
        model_path="x",
        backend="scripted",
        requested=LoadSettings(),
        effective=None,
        address=address,
        log_path="",
    )
    registry.write(msgspec.structs.replace(entry, host="another one with the same home folder"))
    assert registry.list_workers() == []
    assert registry.read("old") is not None  # it is not ours to judge
    registry.write(entry)
    assert registry.list_workers() == []
    assert not registry.entry_path("old").exists()


def test_an_entry_that_cannot_be_read_is_passed_over(manager: ModelManager) -> None:
    folder = config.ensure(config.runtime_dir(), private=True)
    for name, data in (("a", b""), ("b", b"\xff{"), ("c", json.dumps({"pid": 1}).encode())):
        (folder / f"{name}.json").write_bytes(data)
    assert manager.load().loaded
    for name in "abc":
        (folder / f"{name}.json").unlink()


def test_a_worker_of_another_version_is_left_alone(
    manager: ModelManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelManager(keep_alive=0) as old:
        pid = old.load().pid
        (entry,) = registry.list_workers()
        changed = json.loads(registry.entry_path(entry.name).read_bytes())
        changed["protocol_version"] += 1
        registry.entry_path(entry.name).write_text(json.dumps(changed))
        model = manager.load()
        assert model.pid != pid
        assert len(_workers(home)) == 2


def test_the_lock_of_a_killed_process_is_free_again(no_leaks: None, home: Path) -> None:
    code = (
        "import sys\nfrom gguf_widgets.core.worker import registry\n"
        "with registry.lock('x'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    taken = threading.Event()

    def take() -> None:
        with registry.lock("x"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(0.2)
    holder.kill()
    holder.communicate()
    assert taken.wait(60)
    thread.join()


def test_everyone_who_waits_sees_the_progress_and_the_model(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=""))
    seen: list[list[float]] = [[], []]
    pids: list[int | None] = []
    managers = [manager, ModelManager(keep_alive=0)]

    def load(number: int) -> None:
        def progress(fraction: float, phrase: str) -> None:
            seen[number].append(fraction)

        pids.append(managers[number].load(on_progress=progress).pid)

    threads = [threading.Thread(target=load, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    wait_for(lambda: all(len(set(part)) > 3 for part in seen), "both see the progress")
    (home / "go").touch()
    for thread in threads:
        thread.join(60)
    assert (len(pids), len(set(pids))) == (2, 1)
    assert all(part == sorted(part) for part in seen)
    managers[1].close()


def test_a_loading_nobody_waits_for_any_more_is_stopped(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=""))
    with pytest.raises(LoadCancelledError):
        manager.load(on_progress=lambda fraction, phrase: fraction < 0.05)
    wait_for((home / "cancelled").exists, "the loading was told")
    wait_for(lambda: not _workers(home), "the worker has left")
    assert manager.loaded() == []


def test_a_loading_that_somebody_still_waits_for_goes_on(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=""))
    pids: list[int | None] = []
    patient = threading.Thread(target=lambda: pids.append(manager.load().pid))
    patient.start()
    wait_for((home / "loading").exists, "it loads")
    with ModelManager() as hasty, pytest.raises(LoadCancelledError):
        hasty.load(on_progress=lambda fraction, phrase: fraction < 0.05)
    (home / "go").touch()
    patient.join(60)
    assert pids
    assert not (home / "cancelled").exists()


def test_of_two_threads_that_load_the_one_that_gives_up_takes_nothing_from_the_other(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=""))
    waits = threading.Event()
    models: list[Model] = []

    def load() -> None:
        models.append(manager.load(on_progress=lambda *_: waits.set()))

    patient = threading.Thread(target=load)

    def hasty(fraction: float, phrase: str) -> bool:
        if fraction > 0 and not patient.ident:
            patient.start()
        return not waits.is_set()

    with pytest.raises(LoadCancelledError):
        manager.load(on_progress=hasty)
    (home / "go").touch()
    patient.join(100)
    assert manager.loaded() == models != []
    assert manager.load() is models[0]
    assert models[0].unload() is True  # nobody else is connected


def test_an_interrupt_while_loading_stops_the_loading(
    manager: ModelManager, home: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=""))

    def interrupt(fraction: float, phrase: str) -> None:
        if fraction > 0.05:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        manager.load(on_progress=interrupt)
    wait_for(lambda: not _workers(home), "the worker has left")


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        ("raise MemoryError('12 GB')", ModelLoadError, "MemoryError: 12 GB"),
        (
            "from gguf_widgets.core.errors import NotEnoughMemoryError as E; raise E('big', a=1)",
            ModelLoadError,
            "big",
        ),
        (
            "import sys, os; print('GGML_ASSERT(x) failed', file=sys.stderr); os.abort()",
            WorkerDiedError,
            r"crashed \(signal 6, SIGABRT\)\. Its last words: GGML_ASSERT\(x\) failed\..*loading",
        ),
        ("import os, signal; os.kill(os.getpid(), 11)", WorkerDiedError, "signal 11, SIGSEGV"),
        ("import os; os._exit(3)", WorkerDiedError, "exit status 3"),
    ],
)
def test_a_loading_that_fails_says_why_to_everyone(
    manager: ModelManager,
    home: Path,
    in_worker: Callable[[str], None],
    end: str,
    kind: type[Exception],
    words: str,
) -> None:
    in_worker(SLOW_LOAD.format(home=str(home), end=end))
    errors: list[BaseException] = []
    waiting = [threading.Event(), threading.Event()]

    def load(manager: ModelManager, mine: threading.Event) -> None:
        def progress(fraction: float, phrase: str) -> None:
            if fraction > 0:
                mine.set()

        try:
            manager.load(on_progress=progress)
        except GgufWidgetsError as error:
            errors.append(error)

    with ModelManager() as other:
        threads = [
            threading.Thread(target=load, args=arguments)
            for arguments in zip((manager, other), waiting, strict=True)
        ]
        for thread in threads:
            thread.start()
        assert all(event.wait(40) for event in waiting)
        (home / "go").touch()
        for thread in threads:
            thread.join(60)
    assert len(errors) == 2
    for error in errors:
        with pytest.raises(kind, match=words):
            raise error
    assert manager.loaded() == []


def test_a_worker_that_cannot_even_start_says_so_with_its_last_words(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker("raise SystemExit('the disk is on fire')")
    with pytest.raises(WorkerStartError, match="the disk is on fire"):
        manager.load()


def test_a_folder_for_sockets_that_is_not_private_is_refused(
    manager: ModelManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    link = home / "link"
    link.symlink_to(elsewhere)
    monkeypatch.setattr(config, "runtime_dir", lambda: link)
    with pytest.raises(WorkerStartError, match="is not a folder of yours"):
        manager.load()


def test_what_a_worker_killed_as_it_began_left_is_swept_away(manager: ModelManager) -> None:
    folder = endpoint.private_folder()
    for name, age_s in (("old.sock", 7200), ("old.secret", 7200), ("new.sock", 0)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)
    manager.load()
    assert [path.name for path in sorted(folder.glob("*.s*")) if path.stem in ("old", "new")] == [
        "new.sock"
    ]
    (folder / "new.sock").unlink()


def test_logs_of_old_workers_are_limited(manager: ModelManager) -> None:
    folder = config.ensure(config.log_dir())
    for number in range(30):
        (folder / f"worker-old{number:02}.log").touch()
    manager.load()
    assert len(list(folder.glob("worker-*.log"))) == 20


def test_a_file_where_the_socket_should_be_makes_the_worker_use_a_port(
    no_leaks: None, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = config.ensure(config.runtime_dir(), private=True)
    (folder / "taken.sock").mkdir()
    listener, address = endpoint.listen("taken")
    listener.close()
    assert listener.family in (socket.AF_INET, -1)
    assert address.port
    assert "using a loopback port" in capfd.readouterr().err
    endpoint.remove_files(address)
    (folder / "taken.sock").rmdir()


def test_relative_paths_of_the_environment_mean_in_the_worker_what_they_mean_here(
    no_leaks: None, scripted: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = home / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(
        "import pathlib, sys\nif 'gguf_widgets.core.worker' in sys.orig_argv:\n"
        f"    pathlib.Path({str(home / 'seen')!r}).touch()\n"
    )
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("PYTHONPATH", f"{home.name}/modules{os.pathsep}")
    monkeypatch.setenv("GGUF_WIDGETS_HOME", home.name)
    with ModelManager(keep_alive=0) as manager:
        assert manager.load().chat("Hello", max_tokens=3).text
        assert (home / "seen").exists()
        assert registry.list_workers()
    assert not (home / home.name).exists()
