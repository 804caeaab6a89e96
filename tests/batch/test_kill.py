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

import pytest

from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of

NUM_ROWS = 4000
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


def child_of(run_id: str) -> subprocess.Popen[str]:
    """Go on with the run in a process of its own, as a kernel does, until it is at it."""
    child = subprocess.Popen(
        [sys.executable, "-c", GO_ON, run_id], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line == "at it\n":
            break
    return child


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


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
    while sum(killed.values()) < KILLS:
        child = child_of(run.id)
        try:
            while child.poll() is None and sum(killed.values()) < KILLS:
                time.sleep(rng.uniform(0.0, 0.06))
                what = rng.choice(("kernel", "worker", "worker", "both"))
                workers = [one.pid for one in processes_of(home, "gguf_widgets.core.worker")]
                killed[what] += 1
                kill(*(workers if what != "kernel" else []), *([child.pid] * (what != "worker")))
                if what != "worker":
                    break
                time.sleep(rng.uniform(0.1, 0.4))  # it is started again meanwhile
        finally:
            kill(child.pid)
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
        now = list(tasks.ended())
        assert len(now) >= before, "nothing that was kept is lost"
        assert len(set(now)) == len(now)
        before = len(now)
        if before < NUM_ROWS:
            # It fails if the model's process is killed again and again before it has loaded.
            assert run.status in (RunStatus.INTERRUPTED, RunStatus.READY, RunStatus.FAILED)
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
    kill(*[one.pid for one in processes_of(home, "gguf_widgets.core.worker")])
