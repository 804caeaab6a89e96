"""A run on a cluster of real processes ends as one on this machine, whatever is lost on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client
from support.cluster import Machines, cluster_of, kill, started_by_hand

from gguf_widgets.batch.cluster import Cluster
from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import our_threads, processes_of, wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")

NUM = 300
REVIEWS = [
    f"{word} {i}: {end}"
    for i, (word, end) in enumerate(
        [("Great lamp", "I love it."), ("Bad chair", "it broke.")] * (NUM // 2)
    )
]
ASK: dict[str, Any] = {
    "prompt": "Is this positive or negative? {review}",
    "schema": ["positive", "negative"],
}
MANY = [f"{review} {again}" for again in range(4) for review in REVIEWS]
"""So many that a run is under way for some time on any machine."""
STORY: dict[str, Any] = {"prompt": "Tell me a story about {review}", "max_tokens": 40}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with cluster_of(tmp_path_factory.mktemp("c"), 3) as found:
        yield found


@pytest.fixture
def manager(home: Path) -> Iterator[ModelManager]:
    """As in `conftest`, but the model's process here does not outlive the test."""
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the workers' end")


@pytest.fixture(autouse=True)
def _nothing_left(machines: Machines) -> Iterator[None]:
    """Every test leaves the machines without a model."""
    yield
    wait_for(lambda: not machines.engines(), "the machines' model processes end")
    wait_for(lambda: not [one for one in our_threads() if "cluster" in one.name], "its threads end")


def numbers_kept(store: Store, run: BatchRun) -> list[int]:
    return list(RunTasks(store, run.id).ended())


def check_equal(mine: pd.DataFrame, other: pd.DataFrame) -> None:
    """Batching may move a logit in its last digits: a label that hangs by a thread may turn."""
    assert mine["status"].eq("done").all()
    assert mine["review"].tolist() == other["review"].tolist() == REVIEWS
    differ = mine["reply"].astype(str) != other["reply"].astype(str)
    close = (other["reply.p.positive"] - 0.5).abs() < 0.02
    assert not (differ & ~close).any()
    moved = (mine["reply.p.positive"] - other["reply.p.positive"]).abs()
    assert moved.max() < 0.1


def test_machines_are_killed_in_the_middle_and_the_result_is_the_local_one(
    processor: BatchProcessor, store: Store, machines: Machines
) -> None:
    table = {"review": REVIEWS}
    alone = processor.run(table, **ASK).to_frame()
    told: Counter[int] = Counter()
    run = processor.prepare(table, **ASK)
    run._listeners.append(lambda ended: told.update(one.number for one in ended))
    run.start(executor=machines.client)
    wait_for(lambda: len(machines.engines()) == 3, "all machines are at it")
    wait_for(lambda: run.progress.counts.done > 60, "some rows")
    before = machines.workers()
    kill(before[0])  # a machine, ...
    kill(*(one.pid for one in machines.engines(1)))  # ... and another one's model process
    wait_for(lambda: "was lost" in run.progress.note or not run.is_here, "the loss is told")
    run.wait(120)
    assert run.status is RunStatus.FINISHED
    check_equal(run.to_frame(), alone)
    assert set(told.values()) == {1}, "each row is told, and kept, once"
    assert sorted(told) == numbers_kept(store, run) == list(range(NUM))
    assert run.to_frame()["attempts"].between(1, 3).all()
    wait_for(lambda: len(machines.workers()) == 3, "Dask starts the machine again")
    assert machines.workers()[0] != before[0]


def test_rows_come_one_by_one_and_pause_stop_resume_and_retry_work(
    processor: BatchProcessor, store: Store, manager: ModelManager, machines: Machines
) -> None:
    run = processor.start({"review": MANY}, **STORY, executor=machines.client)
    seen: list[int] = []
    run._listeners.append(lambda ended: seen.append(len(ended)))
    wait_for(lambda: run.progress.counts.done > 30, "some rows")
    assert max(seen) < 64, "they come as they end, not by the hundred"
    assert run.progress.rows_per_s
    run.pause()
    wait_for(lambda: run.status is RunStatus.PAUSED and not run.progress.num_running, "the pause")
    done = run.counts.done
    time.sleep(0.3)
    assert run.counts.done == done < len(MANY)
    with pytest.raises(BatchError, match="on a cluster cannot be changed"):
        run.change(n_seq_max=3)
    run.resume()
    wait_for(lambda: run.progress.counts.done > done + 30, "more rows")
    run.stop()
    assert run.status is RunStatus.STOPPED
    assert done < run.counts.done < len(MANY)
    # Some fail, as they would here; the rest is asked again, by the same machines and by others.
    short = processor.start(["few", "very " * 5000], "Say {text}", executor=machines.client)
    short.wait(60)
    assert short.to_frame()["status"].tolist() == ["done", "failed"]
    assert "context" in short.to_frame()["error"].iloc[1]
    short.retry_failed().wait(60)
    assert short.to_frame()["status"].tolist() == ["done", "failed"]
    again = resume(run.id, executor=machines.client, store=store, manager=manager, wait=False)
    wait_for(lambda: again.counts.done > run.counts.total // 2, "half of it")
    again.stop()
    local = resume(run.id, store=store, manager=manager)
    assert local.to_frame()["status"].eq("done").all()
    assert numbers_kept(store, run) == list(range(len(MANY)))


def test_an_interrupt_stops_the_run_and_keeps_what_is_done(
    processor: BatchProcessor, store: Store, machines: Machines
) -> None:
    def press(run_done: Callable[[], int]) -> None:
        wait_for(lambda: run_done() > 30, "some rows")
        os.kill(os.getpid(), signal.SIGINT)

    run = processor.start({"review": MANY}, **STORY, executor=machines.client)
    threading.Thread(target=press, args=(lambda: run.progress.counts.done,)).start()
    with pytest.raises(KeyboardInterrupt):
        run.wait()
    assert run.status is RunStatus.STOPPED
    assert 30 < run.counts.done < len(MANY)


def test_two_runs_at_once_on_one_cluster(
    processor: BatchProcessor, store: Store, machines: Machines
) -> None:
    table = {"review": REVIEWS}
    one = processor.start(table, **STORY, executor=machines.client)
    two = processor.start(table, **STORY, executor=machines.client)
    wait_for(lambda: min(run.progress.counts.done for run in (one, two)) > 20, "rows of both")
    assert one.is_here
    assert two.is_here
    assert len(machines.engines()) == 3, "they share the machines' models"
    one.stop()
    two.wait(60)
    assert two.to_frame()["status"].eq("done").all(), "its model was not taken away"
    assert two.to_frame()["attempts"].eq(1).all()
    assert one.status is RunStatus.STOPPED


def test_a_machine_with_another_file_or_none_takes_no_part(
    processor: BatchProcessor,
    store: Store,
    manager: ModelManager,
    machines: Machines,
    tmp_path: Path,
) -> None:
    data = bytearray(demo_model_path().read_bytes())
    same, other = tmp_path / "same.gguf", tmp_path / "other.gguf"
    same.write_bytes(data)
    data[-1] ^= 1  # one bit of one weight
    other.write_bytes(data)
    paths = {"m0": str(same), "m1": str(tmp_path / "none.gguf"), "m2": str(other)}
    run = processor.start(
        {"review": REVIEWS}, **ASK, executor=Cluster(machines.client, paths=paths)
    )
    said = ("none.gguf", "other.gguf is another file: its SHA-256 begins with")
    wait_for(lambda: all(words in run.progress.note for words in said), "both are told")
    run.wait(60)
    assert run.to_frame()["status"].eq("done").all()
    del paths["m0"]
    paths["*"] = str(tmp_path / "nor here.gguf")
    run = processor.prepare(["one"], "Say {text}")
    with pytest.raises(BatchError, match="No machine of the cluster can take part") as caught:
        run.start(executor=Cluster(machines.client, paths=paths)).wait(60)
    assert caught.value.details["problem"] == "no_machine"
    assert len(caught.value.details["reasons"]) == 3
    assert run.status is RunStatus.FAILED
    assert run.counts.waiting == 1


DRIVER = """
import sys
import gguf_widgets as gw
from distributed import Client
from gguf_widgets.batch.cluster import machines
machines.LEASE_S = 2.0
with Client(sys.argv[1]) as client:
    run = gw.BatchProcessor(gw.load("demo")).start(
        [f"{i} lamps" for i in range(5000)], "Tell me a story about {text}", executor=client)
    run.observe(lambda run: print(run.counts.done, flush=True))
    run.wait()
"""


def test_the_machines_let_go_when_the_run_is_killed(machines: Machines, home: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVER, machines.client.scheduler.address],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        assert any(int(line) > 10 for line in child.stdout)
    assert len(machines.engines()) == 3
    kill(child.pid)
    child.wait()
    wait_for(lambda: not machines.engines(), "the model processes end")
    with Store() as store, ModelManager(keep_alive=0) as manager:
        (run,) = [BatchRun(one.id, store, manager) for one in _runs(store)]
        assert run.status is RunStatus.INTERRUPTED
        done = run.counts.done
        assert done > 10
        run.start(executor=machines.client)
        wait_for(lambda: run.progress.counts.done > done + 10, "it goes on")
        run.stop()
        assert run.status is RunStatus.STOPPED


def _runs(store: Store) -> Any:
    from gguf_widgets.core.store.batch_runs import BatchRuns

    return BatchRuns(store).recent()


def test_the_client_is_closed_or_the_scheduler_gone_and_what_is_done_stays(
    processor: BatchProcessor,
    store: Store,
    manager: ModelManager,
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A closed client says no goodbye: the machines notice that nobody is there.
    monkeypatch.setattr("gguf_widgets.batch.cluster.machines.LEASE_S", 2.0)
    with Client(machines.client.scheduler.address, set_as_default=False) as client:
        run = processor.start({"review": REVIEWS}, **STORY, executor=client)
        wait_for(lambda: run.progress.counts.done > 20, "some rows")
        client.close()
        with pytest.raises(BatchError, match="The cluster has gone") as caught:
            run.wait(60)
        assert caught.value.details["problem"] == "cluster_gone"
        done = run.counts.done
        assert 20 < done < NUM
        with pytest.raises(InvalidValueError, match="This client is closed"):
            run.start(executor=client)
    with started_by_hand(tmp_path / "hand") as (scheduler, others):
        run.start(executor=others.client)
        wait_for(lambda: run.progress.counts.done > done + 20, "it goes on")
        kill(scheduler.pid)
        wait_for(lambda: "does not answer" in run.progress.note or not run.is_here, "it is told")
        with pytest.raises(BatchError, match="The cluster has gone"):
            run.wait(60)
        assert run.counts.done > done
        assert run.status is RunStatus.FAILED
        wait_for(lambda: not others.engines(), "the machine lets go of the model")
    local = resume(run.id, store=store, manager=manager)
    assert local.to_frame()["status"].eq("done").all()
    assert numbers_kept(store, run) == list(range(NUM))
