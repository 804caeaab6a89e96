"""SHA-256 while a file is written, and after another process has written its beginning."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from gguf_widgets.core.errors import RequestCancelledError
from gguf_widgets.core.upload.running_hash import RunningHash

DATA = os.urandom(9_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part"


def running(path: Path) -> RunningHash:
    return RunningHash(lambda: os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))


def append(path: Path, running_hash: RunningHash, start: int, end: int) -> None:
    with path.open("ab") as file:
        file.write(DATA[start:end])
    running_hash.feed(start, memoryview(DATA)[start:end])


def never() -> bool:
    return False


def test_in_order_it_reads_nothing_again(path: Path) -> None:
    opened = []
    running_hash = RunningHash(lambda: opened.append(1) or os.open(path, os.O_RDONLY))
    for start in range(0, len(DATA), 1_000_000):
        append(path, running_hash, start, start + 1_000_000)
        assert running_hash.position == start + 1_000_000
    assert running_hash.digest(len(DATA), never) == DIGEST
    assert opened == []


@pytest.mark.parametrize("there", [1, 4_000_000, 8_999_999, 9_000_000])
def test_what_another_process_wrote_is_caught_up_with_while_the_rest_arrives(
    path: Path, there: int
) -> None:
    path.write_bytes(DATA[:there])
    running_hash = running(path)
    running_hash.catch_up(there)
    for start in range(there, len(DATA), 700_000):
        append(path, running_hash, start, min(start + 700_000, len(DATA)))
    assert running_hash.digest(len(DATA), never) == DIGEST
    assert not any(thread.name == "upload-sha256" for thread in threading.enumerate())


def test_it_can_be_stopped_and_asked_again(path: Path) -> None:
    path.write_bytes(DATA)
    gate = threading.Event()

    def slow() -> int:
        assert gate.wait(30)
        return os.open(path, os.O_RDONLY)

    running_hash = RunningHash(slow)
    with pytest.raises(RequestCancelledError):
        running_hash.digest(len(DATA), lambda: True)
    gate.set()
    assert running_hash.digest(len(DATA), never) == DIGEST


def test_a_file_that_became_shorter_or_is_gone_is_an_error_and_heals(path: Path) -> None:
    running_hash = running(path)
    with pytest.raises(FileNotFoundError):
        running_hash.digest(len(DATA), never)
    path.write_bytes(DATA[:5_000_000])
    with pytest.raises(OSError, match="shorter"):
        running_hash.digest(len(DATA), never)
    path.write_bytes(DATA)
    assert running_hash.digest(len(DATA), never) == DIGEST


def test_stop_ends_the_thread(path: Path) -> None:
    path.write_bytes(DATA)
    running_hash = running(path)
    running_hash.stop()
    with pytest.raises(RequestCancelledError):
        running_hash.digest(len(DATA), never)
