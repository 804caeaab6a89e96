"""Fixtures for the core: real workers with a check for leaks, and conversations with a store."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gguf_widgets.core import config
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store

# What comes at once on a quiet machine may take long on a busy one; only a failure waits for so
# long. The stories of the tests about stopping take longer still: none is over by itself in time.
LIMIT_S = 40.0


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until a condition about another process holds, and fail if it never does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain: {what}"
        time.sleep(0.01)


def takes_at_most(limit_s: float, attempt: Callable[[], float], tries: int = 5) -> None:
    """Fail unless one of some attempts, each of which says how long it took, is quick enough.

    What is too slow by itself is so every time; a machine that is busy with something else is not.
    """
    times: list[float] = []
    while len(times) < tries:
        times.append(attempt())
        if times[-1] <= limit_s:
            return
    raise AssertionError(f"each time it took longer than {limit_s} s: {times}")


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """Do something without the superuser's rights, to whom no file is forbidden.

    Whatever is needed has to be imported before, and what is used has to lie in an open folder.
    """
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that everybody may look into, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


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


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store() as store:
        yield store


@pytest.fixture
def make_chat(store: Store) -> Iterator[Callable[..., ChatInterface]]:
    """Return a function that makes conversations in one store; they are closed after the test."""
    made: list[ChatInterface] = []

    def make(*args: Any, **keywords: Any) -> ChatInterface:
        made.append(ChatInterface(*args, store=store, **keywords))
        return made[-1]

    yield make
    for chat in made:
        chat.close()
