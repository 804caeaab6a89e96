"""A conversion that is stopped, killed, cut off or spoiled: nothing of it is taken for a model."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.tiny_models import write_model

from gguf_widgets.core.care import converting as convert_module
from gguf_widgets.core.care.converting import convert
from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.library import ModelLibrary
from tests.core.care.conftest import contents
from tests.core.care.converting import (
    MODULE,
    hidden,
    refused,
)
from tests.core.conftest import processes_of, wait_for, without_root

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
    ),
    pytest.mark.usefixtures("no_process_is_left"),
]


def test_cancelling_in_the_middle_leaves_nothing(folder: Path, slow_model: Path) -> None:
    before = contents(folder)
    seen: list[Progress] = []
    error = refused(
        convert,
        slow_model,
        "IQ3_S",
        on_progress=seen.append,
        cancelled=lambda: bool(seen) and seen[-1].fraction > 0.3,
    )
    assert error.details["problem"] == "cancelled"
    assert any(p.left_s is not None for p in seen)
    assert contents(folder) == before


def test_a_converting_process_that_is_killed_is_an_error_and_leaves_nothing(
    folder: Path, home: Path, slow_model: Path
) -> None:
    before = contents(folder)

    def kill(progress: Progress) -> None:
        if progress.fraction > 0.1:
            for process in processes_of(home, MODULE):
                process.kill()

    error = refused(convert, slow_model, "IQ3_S", on_progress=kill)
    assert error.details["problem"] == "process"
    assert "was killed (signal 9)" in error.message
    assert contents(folder) == before


CONVERTING = """
import sys, time
from gguf_widgets.core.care.converting import convert
def show(progress):
    if progress.fraction > 0.1:
        print("converting", flush=True)
        time.sleep(90)
convert(sys.argv[1], "IQ3_S", on_progress=show)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_when_the_program_is_ended_its_process_ends_too_and_leaves_nothing(
    folder: Path, home: Path, slow_model: Path, how: signal.Signals
) -> None:
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, str(slow_model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "converting\n"
        assert processes_of(home, MODULE)
        assert any(name.endswith(".convert.part") for name in hidden(folder))
        program.send_signal(how)
        program.wait(60)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        program.kill()
        program.communicate()


JUDGING = """
import sys, time
from gguf_widgets.core.care import converting as module
def judge(*_):
    print("whole", flush=True)
    time.sleep(90)
module.judge = judge
module.convert(sys.argv[1], "Q8_0")
"""


def test_a_program_that_is_killed_before_the_whole_file_has_its_name_leaves_nothing(
    folder: Path, home: Path
) -> None:
    model = write_model(folder / "m.gguf", "llama")
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", JUDGING, str(model)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "whole\n"
        assert read_header(folder / hidden(folder)[0]).info().quantization == "Q8_0"
        program.kill()
        program.wait(60)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        program.kill()
        program.communicate()


FORKING = """
import os, sys, time
from gguf_widgets.core.care.converting import convert
forked = False
def show(progress):
    global forked
    if progress.fraction > 0.1 and not forked:
        forked = True
        child = os.fork()  # keeps a copy of every pipe
        if child == 0:
            time.sleep(90)
            os._exit(0)
        print(child, flush=True)
        time.sleep(90)
convert(sys.argv[1], "IQ3_S", on_progress=show)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_that_keeps_the_pipes_does_not_keep_the_conversion(
    folder: Path, home: Path, slow_model: Path
) -> None:
    before = contents(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(slow_model)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    fork = int(program.stdout.readline())
    try:
        program.kill()
        program.wait(60)
        assert psutil.pid_exists(fork)
        wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
        assert contents(folder) == before
    finally:
        os.kill(fork, signal.SIGKILL)
        program.kill()
        program.stdout.close()


def stands_still(process: psutil.Process) -> bool:
    """Say whether every thread has been stopped: a signal reaches one of them first."""
    if sys.platform != "linux":  # elsewhere a thread has no state of its own to ask for
        return bool(process.status() == psutil.STATUS_STOPPED)
    threads = [psutil.Process(thread.id) for thread in process.threads()]
    return all(thread.status() == psutil.STATUS_STOPPED for thread in threads)


def test_when_both_are_killed_what_is_left_is_no_model_and_goes_with_the_next_one(
    folder: Path, home: Path, slow_model: Path
) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, str(slow_model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert program.stdout is not None
        program.stdout.readline()
        (process,) = processes_of(home, MODULE)
        process.send_signal(signal.SIGSTOP)  # so that it cannot clear away
        wait_for(lambda: stands_still(process), "it stands still")
        program.kill()
        program.wait(60)
        process.kill()
    finally:
        program.kill()
        program.communicate()
    wait_for(lambda: not processes_of(home, MODULE), "both have ended")
    (left,) = hidden(folder)
    assert [entry.name for entry in ModelLibrary().entries()] == ["demo", "slow"]
    model = write_model(folder / "m.gguf", "llama")
    convert(model, "Q8_0", name="one")
    assert hidden(folder) == [left]  # it is new, and somebody may be at it
    old = (folder / left).stat().st_mtime - 3600
    os.utime(folder / left, (old, old))
    # What another machine writes into the same folder is left alone for longer.
    pid, digits = re.search(r"\.(\d+)-([0-9a-f]{8})\.", left).groups()  # type: ignore[union-attr]
    foreign = folder / left.replace(f"{pid}-{digits}", f"1-{int(digits, 16) ^ 0x10000:08x}")
    foreign.touch()
    os.utime(foreign, (old, old))
    convert(model, "Q8_0", name="two")
    assert hidden(folder) == [foreign.name]
    os.utime(foreign, (old - 86_400, old - 86_400))
    convert(model, "Q8_0", name="three")
    assert hidden(folder) == []


def test_a_disk_that_fills_up_is_seen_and_leaves_nothing(
    folder: Path, small_disk: Path, slow_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert_module, "_check_space", lambda *_: None)
    error = refused(convert, slow_model, "Q2_K", folder=small_disk)
    assert error.details["problem"] == "space"
    assert "filled up" in error.message
    assert list(small_disk.iterdir()) == []
    assert psutil.disk_usage(str(small_disk)).used < 100_000


def test_a_result_that_is_not_right_is_thrown_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(folder / "m.gguf", "llama")
    before = contents(folder)
    real = convert_module.ConversionProcess.convert

    def spoiled(change: Any) -> Any:
        def convert(self: Any, request: Any, check: Any) -> Any:
            answer = real(self, request, check)
            change(Path(request["output"]))
            return answer

        return convert

    def cut(part: Path) -> None:
        part.write_bytes(part.read_bytes()[:-32])

    def longer(part: Path) -> None:
        part.write_bytes(part.read_bytes() + b"\0" * 32)

    def empty(part: Path) -> None:
        part.write_bytes(b"")

    def another(part: Path) -> None:
        part.write_bytes(write_model(part.with_name("x"), "moe").read_bytes())
        part.with_name("x").unlink()

    for change in (cut, longer, empty, another):
        monkeypatch.setattr(convert_module.ConversionProcess, "convert", spoiled(change))
        error = refused(convert, model, "Q8_0")
        assert error.details["problem"] == "bad_result", change
        assert "thrown away" in error.message
        assert contents(folder) == before


def test_a_model_that_changes_meanwhile_or_a_name_that_is_taken_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(folder / "m.gguf", "llama")

    def touch(progress: Progress) -> None:
        os.utime(model, (1, 1))

    assert refused(convert, model, "Q8_0", on_progress=touch).details["problem"] == "changed"
    assert list(contents(folder)) == ["m.gguf"]

    def take(progress: Progress) -> None:
        (folder / "m-Q8_0.gguf").write_bytes(b"somebody else's")

    assert refused(convert, model, "Q8_0", on_progress=take).details["problem"] == "taken"
    assert (folder / "m-Q8_0.gguf").read_bytes() == b"somebody else's"
    assert hidden(folder) == []


def test_a_folder_that_may_not_be_written_to(open_folder: Path) -> None:
    model = write_model(open_folder / "m.gguf", "llama")
    locked = open_folder / "locked"
    locked.mkdir(mode=0o555)
    refused(convert, model, "F32")  # imports what it needs
    with without_root():
        error = refused(convert, model, "Q8_0", folder=locked)
    assert error.details["problem"] == "permission"
    assert list(locked.iterdir()) == []
