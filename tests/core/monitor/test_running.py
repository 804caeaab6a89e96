"""Batch runs as the monitor sees them, whichever process is at them (8 s)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.running import run_metrics
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import SHIFT
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store, default_store
from tests.core.conftest import processes_of, wait_for

ASK = {"prompt": "Tell me a story about {text}", "max_tokens": 40}


@pytest.fixture(autouse=True)
def none_left(home: Path) -> Iterator[None]:
    yield
    for process in processes_of(home, "gguf_widgets.batch"):
        process.kill()


def test_a_run_in_a_process_of_its_own_is_seen_with_its_speed_its_process_and_its_model(
    manager: ModelManager, home: Path
) -> None:
    with PerformanceMonitor(interval_s=0.1) as monitor:
        processor = BatchProcessor(manager.load("demo"), manager=manager, store=default_store())
        run = processor.start([f"lamp {i}" for i in range(5000)], own_process=True, **ASK)
        (process,) = processes_of(home, "gguf_widgets.batch")
        wait_for(lambda: monitor.last and monitor.last.rows_per_min, "its speed")
        point = monitor.last
        assert point is not None
        kinds = {part.kind: part.pid for part in point.processes}
        assert kinds["this"] == os.getpid()
        assert kinds["batch run"] == process.pid
        (worker,) = processes_of(home, "gguf_widgets.core.worker")
        assert kinds["model"] == worker.pid, "in memory once"
        assert point.decode_tok_per_s is not None
        told = monitor.run_metrics()[0]
        assert (told.run_id, told.status, told.models) == (run.id, "running", "demo")
        assert told.num_rows == 5000
        process.kill()
        wait_for(lambda: monitor.last and not monitor.last.rows_per_min, "its end")
        assert monitor.run_metrics()[0].status == "interrupted"
        assert monitor.requests().empty, "they are that process's own"
    worker.kill()


def test_a_run_here_is_told_by_rows_and_in_whole_and_the_rows_say_whose_they_are(
    manager: ModelManager,
) -> None:
    with PerformanceMonitor(system=False) as monitor:
        model = manager.load("demo")
        before = time.time()
        run = model.map(
            ["lamp", "boat", "lamp", "x " * 20_000], "Say {text}", max_tokens=7, progress=False
        )
        model.chat("Hello", max_tokens=3)
        rows = monitor.requests()
        mine = rows[rows["run_id"] == run.id]
        # Two rows are alike: the model was asked once for both.
        assert sorted(mine["finish_reason"]) == ["error", "length", "length"]
        assert set(mine["priority"]) == {"batch"}
        assert list(rows["run_id"].isna()) == [False] * 3 + [True]
        (told,) = monitor.run_metrics(model="demo")
        assert (told.num_rows, told.num_done, told.num_failed, told.num_skipped) == (4, 3, 1, 0)
        assert told.error_rate == 0.25
        assert told.num_completion_tokens == mine["num_completion_tokens"].sum() == 14
        assert told.num_prompt_tokens == mine["num_prompt_tokens"].sum()
        assert told.tok_per_s == pytest.approx(14 / told.busy_s)
        assert told.rows_per_min == pytest.approx(60 * 4 / told.busy_s)
        assert 0 < told.busy_s <= mine["total_s"].sum() * 1.001
        assert monitor.run_metrics(model="another") == []
        assert monitor.run_metrics(until=before - 60) == []
        assert monitor.run_metrics(since=time.time() + 60) == []
        assert list(monitor.runs()["run_id"]) == [run.id]


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 50)), min_size=1, max_size=30))
def test_busy_time_is_the_union_of_the_rows_spans(spans: list[tuple[float, float]]) -> None:
    with Store.in_memory() as store:
        run = BatchRuns(store).create({"models": [{"name": "m"}]}, [])
        with store.transaction() as connection:
            (num,) = connection.execute("SELECT num FROM batch_run").fetchone()
            for number, (began, took) in enumerate(spans):
                connection.execute(
                    "INSERT INTO batch_task (num, run_num, key, status, attempts, total_s, "
                    "ended_at, num_completion_tokens) VALUES (?, ?, x'00', 'done', 1, ?, ?, 2)",
                    ((num << SHIFT) + number, num, took, began + took),
                )
        BatchRuns(store).set_status(run.id, RunStatus.FINISHED)
        (told,) = run_metrics(store)
    busy = 0.0
    end = float("-inf")
    for began, took in sorted(spans):
        busy += max(0.0, began + took - max(began, end))
        end = max(end, began + took)
    assert told.busy_s == pytest.approx(busy, abs=1e-6)
    assert told.num_completion_tokens == 2 * len(spans)
