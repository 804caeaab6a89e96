"""Fixtures for tests that start real workers: a manager in demo mode, and a check for leaks."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gguf_widgets.core import config
from gguf_widgets.core.manager import ModelManager

LIMIT_S = 15.0


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until a condition about another process holds, and fail if it never does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain: {what}"
        time.sleep(0.01)


def processes_of(home: Path, word: str = "") -> list[psutil.Process]:
    """Return the processes that run with this test's data folder and `word` as an argument."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("GGUF_WIDGETS_HOME") == str(home)
            if word and word not in process.cmdline():
                continue
            if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gguf-widgets-")]


def zombies() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.is_running() and child.status() == psutil.STATUS_ZOMBIE
    ]


@pytest.fixture
def no_leaks(home: Path) -> Iterator[None]:
    """After the test: no process, no thread, no socket, no registry entry and no zombie is left."""
    yield
    try:
        wait_for(lambda: not processes_of(home), "the workers have ended")
        wait_for(lambda: not our_threads(), "the threads have ended")
        wait_for(lambda: not zombies(), "the workers are reaped")
    finally:
        for process in processes_of(home):
            process.kill()
    left = [path.name for path in config.runtime_dir().glob("*") if path.suffix != ".lock"]
    shutil.rmtree(config.runtime_dir(), ignore_errors=True)  # it may be outside the test's folder
    assert left == []


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Demo mode, as fast as it goes."""
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")


@pytest.fixture
def manager(no_leaks: None, scripted: None) -> Iterator[ModelManager]:
    """Give a manager whose workers end with it."""
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


@pytest.fixture
def in_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that has Python code run at the start of every worker from now on.

    With it a fault is put where it would happen: in the worker's own process.
    """
    folder = tmp_path / "in_worker"

    def inject(code: str) -> None:
        folder.mkdir(exist_ok=True)
        guard = "import sys\nif 'gguf_widgets.core.worker' in sys.orig_argv:\n"
        body = "".join(f"    {line}\n" for line in code.strip().splitlines())
        (folder / "sitecustomize.py").write_text(guard + body)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return inject
