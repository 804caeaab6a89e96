"""Runs that outlive pages: a process of their own, steered and watched through the store."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gguf_widgets.batch.process import RunnerProcess, start_process
from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of, wait_for

ASK = {"prompt": "Tell me a story about {text}", "max_tokens": 40}


def table(num_rows: int) -> list[str]:
    return [f"Emma and {i} lamps" for i in range(num_rows)]


@pytest.fixture(autouse=True)
def none_left(home: Path, manager: ModelManager) -> Iterator[None]:
    """Let no process outlive its test; a kernel's workers would stay for five minutes."""
    yield
    left = processes_of(home, "gguf_widgets.batch") + processes_of(home, "gguf_widgets.core.worker")
    for process in left:
        process.kill()
    assert not [one for one in psutil.wait_procs(left, 20)[1] if one.is_running()]


def test_another_process_pauses_goes_on_and_stops_and_sees_how_far_it_is(
    processor: BatchProcessor, manager: ModelManager, home: Path
) -> None:
    run = processor.start(table(2000), own_process=True, **ASK)
    (process,) = processes_of(home, "gguf_widgets.batch")
    assert not run.is_here
    with Store() as second:  # as another kernel's: a connection of its own
        other = BatchRun(run.id, second, manager)
        seen: list[str] = []
        other.observe(lambda run: seen.append(str(run.progress)))
        wait_for(lambda: (other.progress.rows_per_s or 0) > 0, "its speed on the other page")
        progress = other.progress
        assert progress.status is RunStatus.RUNNING
        assert 0 < progress.counts.done < 2000
        assert progress.left_s is not None
        assert progress.num_running > 0
        with pytest.raises(TimeoutError):
            other.wait(0.3)
        other.pause()
        wait_for(lambda: run.status is RunStatus.PAUSED, "the pause")
        wait_for(lambda: run.progress.num_running == 0, "what it was at")
        done = run.counts.done
        time.sleep(0.6)
        assert run.counts.done == done
        with pytest.raises(BatchError, match="being carried out"):
            other.retry_failed()
        with pytest.raises(BatchError) as taken:
            other.start(own_process=False)
        assert taken.value.details["problem"] == "taken"
        other.resume()
        wait_for(lambda: run.counts.done > done, "more rows")
        with pytest.raises(InvalidValueError, match="n_seqs"):
            other.change(n_seqs=3)
        other.change(n_seq_max=3)
        two = "the model with the other settings"
        wait_for(lambda: len(processes_of(home, "gguf_widgets.core.worker")) == 2, two)
        other.change(n_ctx=2_000_000_000)
        wait_for(lambda: "were not changed" in run.progress.note, "that it cannot be so large")
        done = run.counts.done
        wait_for(lambda: run.counts.done > done, "more rows with it")
        other.stop()
        assert other.status is RunStatus.STOPPED
        assert 0 < run.counts.waiting < 2000
        assert run.progress.rows_per_s is None, "nothing of it is left"
        wait_for(lambda: not process.is_running(), "the end of the process")
        wait_for(lambda: seen and "stopped" in seen[-1], "the end on the other page")
    with pytest.raises(BatchError, match="not being carried out"):
        run.pause()
    log = next((home / "logs").glob("run-*.log")).read_text()
    assert "stopped" in log
    assert "Traceback" not in log


def test_waiting_and_rows_work_as_if_it_were_here(
    processor: BatchProcessor, model: Model, home: Path
) -> None:
    run = processor.start(
        ["I love it", "It broke", "Fine"] * 30,
        "Is this positive or negative? {text}",
        schema=["positive", "negative"],
        own_process=True,
    )

    async def use() -> list[int]:
        return [row["row"] async for row in run.rows()]

    assert sorted(asyncio.run(use())) == list(range(90))
    assert run.wait(60).status is RunStatus.FINISHED
    assert run.to_frame()["status"].eq("done").all()
    run.retry([3, 4])  # by a process of its own again
    assert run.wait(60).counts.done == 90
    workers = processes_of(home, "gguf_widgets.core.worker")
    assert len(workers) == 1, "the model is in memory once"


KERNEL = """
import gguf_widgets as gw
model = gw.load("demo")
from gguf_widgets.batch.processor import BatchProcessor
run = BatchProcessor(model).start(
    [f"Emma and {i} lamps" for i in range(300)],
    "Tell me a story about {text}", max_tokens=40, own_process=True)
print(run.id, flush=True)
run.wait()
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_the_kernel_is_killed_and_the_run_finishes(home: Path, store: Store) -> None:
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert kernel.stdout is not None
    run_id = kernel.stdout.readline().strip()
    tasks = RunTasks(store, run_id)
    wait_for(lambda: tasks.counts().done > 5, "some rows")
    os.killpg(kernel.pid, signal.SIGKILL)  # the whole group, as a closed terminal does
    kernel.wait()
    kernel.stdout.close()
    at_kill = tasks.counts().done
    assert at_kill < 300
    wait_for(lambda: BatchRuns(store).get(run_id).status is RunStatus.FINISHED, "the end", 120)
    assert tasks.counts().done == 300
    wait_for(lambda: not processes_of(home, "gguf_widgets.batch"), "the process's end")


def test_a_run_whose_process_dies_ends_the_wait_with_words(
    processor: BatchProcessor, home: Path
) -> None:
    run = processor.start(table(2000), own_process=True, **ASK)
    wait_for(lambda: run.counts.done > 0, "a row")
    for process in processes_of(home, "gguf_widgets.batch"):
        process.kill()
    with pytest.raises(BatchError, match="resume") as interrupted:
        run.wait(30)
    assert interrupted.value.details["problem"] == "interrupted"
    assert run.status is RunStatus.INTERRUPTED


STARTER = """
import sys
from gguf_widgets.batch.process import start_process
from gguf_widgets.core.errors import BatchError
sys.stdin.readline()
try:
    process = start_process(sys.argv[1])
except BatchError as error:
    print(error.details.get("problem"))
else:
    print("at it", process.pid)
"""


def test_of_several_that_start_at_once_exactly_one_carries_it_out(
    processor: BatchProcessor, store: Store, home: Path
) -> None:
    run = processor.prepare(table(1000), **ASK)
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, run.id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = sorted(starter.communicate(timeout=120)[0].strip() for starter in starters)
    assert [one.split()[0] for one in said] == ["at", "taken", "taken"]
    wait_for(lambda: len(processes_of(home, "gguf_widgets.batch")) == 1, "the others' end")
    assert [p.pid for p in processes_of(home, "gguf_widgets.batch")] == [int(said[0].split()[2])]
    with pytest.raises(BatchError) as refused:
        resume(run.id, store=store, wait=False)
    assert refused.value.details["problem"] == "taken"
    run.stop()
    assert run.status is RunStatus.STOPPED


def test_two_in_one_process_are_told_apart_as_well(
    processor: BatchProcessor, store: Store, manager: ModelManager
) -> None:
    run = processor.start(table(2000), **ASK)
    twin = BatchRun(run.id, store, manager)
    with pytest.raises(BatchError) as refused:
        twin.start()
    assert refused.value.details["problem"] == "taken"
    assert not twin.is_here
    twin.pause()
    wait_for(lambda: run.status is RunStatus.PAUSED, "the pause")
    twin.stop()
    assert run.wait(20).status is RunStatus.STOPPED
    assert twin.start().is_here
    twin.stop()


def test_what_cannot_be_started_says_why(
    processor: BatchProcessor, store: Store, manager: ModelManager, tmp_path: Path, home: Path
) -> None:
    with pytest.raises(InvalidValueError, match="no batch run"):
        start_process("ab12", store=store)
    runs_ = BatchRuns(store)
    half = runs_.create({}, [])
    with pytest.raises((BatchError, InvalidValueError)) as refused:
        start_process(half.id, store=store)
    assert "version" in refused.value.message or "rows" in refused.value.message
    runs_.discard(half.id)
    with pytest.raises(InvalidValueError, match="memory only"):
        start_process("ab12", store=Store.in_memory())
    # A model whose file is gone: the process says it in the store, where every page reads it.
    path = tmp_path / "mine.gguf"
    from gguf_widgets import demo

    path.write_bytes(demo.demo_model_path().read_bytes())
    mine = manager.load(path)
    run = BatchProcessor(mine, store=store, manager=manager).prepare(table(3), **ASK)
    mine.unload()
    path.unlink()
    run.start(own_process=True)
    with pytest.raises(BatchError, match="is not at"):
        run.wait(60)
    assert run.status is RunStatus.FAILED
    wait_for(lambda: not processes_of(home, "gguf_widgets.batch"), "the process's end")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_polite_signal_stops_it_and_leaves_no_zombie(
    processor: BatchProcessor, store: Store
) -> None:
    run = processor.prepare(table(2000), **ASK)
    process: RunnerProcess = start_process(run.id[:9], store=store)
    wait_for(lambda: run.counts.done > 0, "a row")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(40) == 0
    assert run.status is RunStatus.STOPPED
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE
