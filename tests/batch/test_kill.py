"""kill -9 at random moments: a run that goes on ends as one that was left in peace."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of

NUM_ROWS = 3000
KILLS = 50
REVIEWS = [
    f"{word} {i}: {end}"
    for i, (word, end) in enumerate(
        [("Great lamp", "I love it."), ("Bad chair", "it broke."), ("A table", "it is fine.")]
        * (NUM_ROWS // 3 + 1)
    )
][:NUM_ROWS]
GO_ON = """
import sys
from gguf_widgets.batch.processor import resume
from gguf_widgets.core.manager import ModelManager
run = resume(sys.argv[1], wait=False, manager=ModelManager(keep_alive=5))
run.observe(lambda run: print("at it", flush=True))
run.wait()
"""
# As in the dashboard: a process of its own carries it out, and the kernel only looks on.
HAND_ON = """
import sys
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.manager import default_manager
from gguf_widgets.core.store.store import default_store
run = BatchRun(sys.argv[1], default_store(), default_manager())
run.start(own_process=True)
print("at it", flush=True)
run.wait()
"""
WORKERS, RUNNERS = "gguf_widgets.core.worker", "gguf_widgets.batch"


class Carriers:
    """The processes that carry a run out, until somebody kills them."""

    def __init__(self, home: Path, run_id: str, *, own_process: bool) -> None:
        self._home = home
        self.own_process = own_process
        self.kernel = subprocess.Popen(
            [sys.executable, "-c", HAND_ON if own_process else GO_ON, run_id],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.kernel.stdout is not None
        for line in self.kernel.stdout:
            if line == "at it\n":
                break

    def pids(self, module: str) -> list[int]:
        return [one.pid for one in processes_of(self._home, module)]

    @property
    def are_at_it(self) -> bool:
        return bool(self.pids(RUNNERS)) if self.own_process else self.kernel.poll() is None

    def victims(self) -> list[str]:
        """Return what there is to kill; the worker twice, because it leaves the others alive."""
        runner = ["runner"] if self.own_process else []
        kernel = ["kernel"] if self.kernel.poll() is None else []
        return [*kernel, *runner, "worker", "worker", "all"]

    def kill(self, what: str) -> None:
        workers, runners = self.pids(WORKERS), self.pids(RUNNERS)
        of = {"kernel": [self.kernel.pid], "runner": runners, "worker": workers}
        of["all"] = [self.kernel.pid, *runners, *workers]  # as when the machine goes off
        kill(*of[what])
        if what in ("kernel", "all"):
            self.kernel.wait()
        if what in ("runner", "all"):
            gone(runners)

    def end(self) -> None:
        self.kernel.kill()
        self.kernel.wait()
        assert self.kernel.stdout is not None
        self.kernel.stdout.close()


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(pids: list[int]) -> None:
    """Wait until processes that were killed are gone; nobody else may be there to reap them."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    assert not psutil.wait_procs(processes, timeout=20)[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_fifty_times_the_result_is_that_of_a_run_left_in_peace(
    processor: BatchProcessor, store: Store, manager: ModelManager, home: Path
) -> None:
    table = {"review": REVIEWS}
    ask = {"prompt": "Is this positive or negative? {review}", "schema": ["positive", "negative"]}
    peace = processor.run(table, **ask).to_frame()
    assert peace["status"].eq("done").all()
    run = processor.prepare(table, **ask)
    tasks = RunTasks(store, run.id)
    rng = random.Random(11)  # noqa: S311 - it keeps no secret
    killed: Counter[str] = Counter()
    before = 0
    while killed.total() < KILLS:
        carriers = Carriers(home, run.id, own_process=killed.total() % 2 == 0)
        try:
            while carriers.are_at_it and killed.total() < KILLS:
                # Some while it begins, and some when it has long been at it.
                time.sleep(rng.uniform(0.0, rng.choice((0.06, 0.06, 1.0))))
                what = rng.choice(carriers.victims())
                killed[what] += 1
                carriers.kill(what)
                if what == "worker" or (what == "kernel" and carriers.own_process):
                    time.sleep(rng.uniform(0.1, 0.4))  # the worker is started again meanwhile
        finally:
            carriers.end()
            runners = carriers.pids(RUNNERS)  # there are some after the last kill only
            kill(*runners)
            gone(runners)
        now = list(tasks.ended())
        assert len(now) >= before, "nothing that was kept is lost"
        assert len(set(now)) == len(now)
        before = len(now)
        assert before < NUM_ROWS, f"it ended before {KILLS} kills: give it more rows"
        # It fails if the model's process is killed again and again before it has loaded.
        assert run.status in (RunStatus.INTERRUPTED, RunStatus.READY, RunStatus.FAILED)
    assert set(killed) == {"kernel", "runner", "worker", "all"}
    assert min(killed.values()) > 5, killed
    done = resume(run.id, store=store, manager=manager)
    assert done.status is RunStatus.FINISHED
    # On a busy machine a new worker may be killed twice in a row before its first answer: that
    # question is then taken for the one that kills it, and says so; a person asks it again.
    failed = done.to_frame().query("status == 'failed'")
    assert len(failed) < 20
    assert failed["error"].str.contains("with this row alone").all()
    result = (done.retry_failed().wait() if len(failed) else done).to_frame()
    assert result["status"].eq("done").all()
    assert result["review"].tolist() == REVIEWS
    # Batching may move a logit in its last digits: a label that hangs by a thread may turn.
    differ = result["reply"].astype(str) != peace["reply"].astype(str)
    close = (peace["reply.p.positive"] - 0.5).abs() < 0.02
    assert not (differ & ~close).any()
    assert len(list(tasks.ended())) == NUM_ROWS
    # One that a killed child has started stays for five minutes.
    kill(*[one.pid for one in processes_of(home, WORKERS)])
