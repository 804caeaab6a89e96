"""Several kernels, each a real process, and one worker for all of them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.kernel import Kernel

from gguf_widgets.core import config
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.worker import registry
from tests.core.conftest import processes_of, wait_for


def _workers(home: Path) -> list[psutil.Process]:
    return processes_of(home, "gguf_widgets.core.worker")


@pytest.fixture
def kernels(no_leaks: None, scripted: None) -> Iterator[Callable[..., list[Kernel]]]:
    made: list[Kernel] = []

    def make(number: int = 1, **options: float) -> list[Kernel]:
        new = [Kernel(**options) for _ in range(number)]
        made.extend(new)
        for kernel in new:
            kernel.wait_started()
        return new

    yield make
    for kernel in made:
        kernel.kill()


def _leave_nothing() -> None:
    """The plain case."""


def _leave_a_killed_worker() -> None:
    """Its starter is gone, too, so nobody has cleared its files away."""
    (pid,) = _leave_an_idle_worker()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not _alive(pid), "it is dead")
    assert list(config.runtime_dir().glob("*.json"))
    (config.runtime_dir() / "odd.json").write_bytes(b"\xff{")  # and one that cannot be read


def _leave_a_stopped_worker() -> None:
    (pid,) = _leave_an_idle_worker()
    os.kill(pid, signal.SIGSTOP)


def _leave_a_worker_without_a_socket() -> None:
    _leave_an_idle_worker()
    (entry,) = registry.list_workers()
    assert entry.address.path is not None
    Path(entry.address.path).unlink()


def _leave_an_idle_worker() -> list[int]:
    starter = Kernel(keep_alive=60)
    starter.wait_started()
    pid = int(starter.do("load"))
    starter.kill()
    return [pid]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_kernels_that_load_at_the_same_instant_end_in_one_healthy_worker(
    kernels: Callable[..., list[Kernel]], home: Path
) -> None:
    many = kernels(3, answer_timeout_s=1.5)
    for leave in (
        _leave_nothing,
        _leave_a_killed_worker,
        _leave_a_stopped_worker,
        _leave_a_worker_without_a_socket,
    ):
        leave()
        for kernel in many:
            kernel.write("load")
        pids = {kernel.read() for kernel in many}
        assert len(pids) == 1, (leave, pids)
        assert all(kernel.do("chat") for kernel in many)
        wait_for(lambda: len(_workers(home)) == 1, "whatever was there has gone")
        assert {str(process.pid) for process in _workers(home)} == pids, leave
        assert sorted(kernel.do("unload") for kernel in many) == ["False", "False", "True"]
    (config.runtime_dir() / "odd.json").unlink()


def test_a_killed_kernels_requests_are_aborted_and_its_worker_stays_for_the_others(
    kernels: Callable[..., list[Kernel]], manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "10")
    (kernel,) = kernels()
    pid = kernel.do("load")
    model = manager.load()
    assert str(model.pid) == pid
    assert kernel.do("stream")
    assert model.stats().engine.num_running == 1
    kernel.kill()
    wait_for(lambda: model.stats().num_requests == 0, "the request has gone")
    stats = model.stats()
    assert (stats.num_clients, stats.engine.num_running, stats.engine.num_cells_used) == (1, 0, 0)


def test_a_killed_kernels_worker_ends_after_keep_alive(
    kernels: Callable[..., list[Kernel]], home: Path
) -> None:
    (kernel,) = kernels(keep_alive=0.2)
    kernel.do("load")
    kernel.kill()
    wait_for(lambda: not _workers(home), "the worker has left")


def test_within_keep_alive_the_next_kernel_finds_the_worker(
    manager: ModelManager, home: Path
) -> None:
    with ModelManager(keep_alive=60) as first:
        pid = first.load().pid
    assert len(_workers(home)) == 1
    model = manager.load()  # whose keep_alive is 0
    assert model.pid == pid


def test_what_a_killed_worker_leaves_behind_is_cleared_away_by_the_next_who_looks(
    manager: ModelManager, home: Path
) -> None:
    _leave_a_killed_worker()
    (config.runtime_dir() / "odd.json").unlink()
    (path,) = config.runtime_dir().glob("*.json")
    entry = registry.read(path.stem)
    assert entry is not None
    assert entry.address.path is not None
    assert Path(entry.address.path).exists()
    assert registry.list_workers() == []
    assert not path.exists()
    assert not Path(entry.address.path).exists()
    assert manager.load().chat("Hello").text


def test_its_starter_clears_a_killed_worker_away_without_looking(manager: ModelManager) -> None:
    with ModelManager(keep_alive=60) as other:
        pid = other.load().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: {path.suffix for path in config.runtime_dir().iterdir()} == {".lock"},
        "the entry and the socket are gone",
    )


def test_a_worker_whose_folder_is_deleted_serves_those_it_has_and_leaves_with_the_last(
    kernels: Callable[..., list[Kernel]], manager: ModelManager, home: Path
) -> None:
    (kernel,) = kernels()
    with ModelManager(keep_alive=600) as first:
        model = first.load()
        shutil.rmtree(config.runtime_dir())
        assert model.chat("Hello", max_tokens=3).text
        assert first.workers() == []
        assert "cannot be reached" in repr(first.loaded())
        second = int(kernel.do("load"))  # in a new folder, since nobody finds the first
        assert second != model.pid
        assert manager.load().pid == second
        assert model.chat("Hello", max_tokens=3).text
    wait_for(lambda: [p.pid for p in _workers(home)] == [second], "the first has left")
    assert kernel.do("chat")
    assert _mode(config.runtime_dir()) == 0o700


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_when_the_last_client_leaves_as_another_comes_that_one_gets_a_worker(
    no_leaks: None, scripted: None, home: Path
) -> None:
    one, other = ModelManager(keep_alive=0), ModelManager(keep_alive=0)
    problems: list[BaseException] = []

    def leave(delay_s: float, how: str) -> None:
        time.sleep(max(0.0, delay_s))
        one.loaded()[0].unload() if how == "unload" else one.close()

    def come(delay_s: float) -> None:
        time.sleep(max(0.0, delay_s))
        try:
            model = other.load()
            # Never two copies of the weights, which may not fit: the one has gone by now.
            assert [process.pid for process in _workers(home)] == [model.pid]
            assert model.chat("Hello", max_tokens=2).text
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            problems.append(error)

    for step in range(6):
        one.load()
        offset_s = (step - 2) * 0.003
        both = [
            threading.Thread(target=leave, args=(offset_s, ("unload", "close")[step % 2])),
            threading.Thread(target=come, args=(-offset_s,)),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(100)
        assert not problems, problems[0]
        other.loaded()[0].unload()
    for manager in (one, other):
        manager.close()
