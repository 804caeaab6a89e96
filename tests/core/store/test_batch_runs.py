"""Batch runs in the store: each ended task once, one process at a time, nothing lost to a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import BatchError, InvalidValueError
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, RunWish, Shape, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, Usage

COLUMNS = [{"name": "review", "dtype": "str"}]


def key_of(number: int) -> str:
    return f"{number:032x}"


def outcome(number: int, **more: object) -> Outcome:
    status = more.pop("status", TaskStatus.DONE)
    return Outcome(number=number, status=status, text=f"reply {number}", **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.sqlite3")


def new_run(store: Store, num_rows: int = 10, **shape: int) -> RunTasks:
    run = BatchRuns(store).create({"prompts": ["{review}"]}, COLUMNS, **shape)  # type: ignore[arg-type]
    tasks = RunTasks(store, run.id)
    assert tasks.add_rows(json.dumps([f"row {i}"]) for i in range(num_rows)) == num_rows
    return tasks


@given(st.integers(0, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data())
def test_a_tasks_number_and_its_place_are_the_same_thing(
    rows: int, prompts: int, models: int, samples: int, data: st.DataObject
) -> None:
    shape = Shape(num_rows=rows, num_prompts=prompts, num_models=models, num_samples=samples)
    places = [shape.place(number) for number in range(shape.num_tasks)]
    assert places == sorted(set(places))
    assert [shape.number(*place) for place in places] == list(range(shape.num_tasks))
    if places:
        place = data.draw(st.sampled_from(places))
        assert place[0] < rows
        assert place[1] < prompts
        assert place[2] < models
        assert place[3] < samples


def test_what_is_kept_comes_back_as_it_was_and_each_task_once(store: Store) -> None:
    tasks = new_run(store, 10, num_samples=2)
    whole = Outcome(
        number=3,
        status=TaskStatus.DONE,
        attempts=2,
        text="positive 🙂 \u05d0",
        values={"label": "positive", "score": 0.25, "tags": ["a"]},
        finish_reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=7, num_cached_tokens=3, num_completion_tokens=2),
        timings=Timings(queue_s=0.0, prefill_s=0.1, decode_s=0.2, ttft_s=0.1, total_s=0.3),
        seed=2**32 - 2,
        probabilities={"positive": 0.9, "negative": 0.1},
        certainty=0.9,
    )
    failed = Outcome(
        number=4,
        status=TaskStatus.FAILED,
        error={"kind": "OutputError", "message": "no", "details": {"at": 1}},
    )
    assert tasks.save([(whole, key_of(3)), (failed, key_of(4))]) == 2
    assert tasks.save([(outcome(3), key_of(9)), (outcome(5), key_of(5))]) == 1
    found = tasks.tasks(0, 20)
    assert sorted(found) == [3, 4, 5]
    assert found[3].outcome == whole, "the first that came stays"
    assert found[4].outcome == failed
    assert (found[3].row, found[3].sample, found[3].key) == (1, 1, key_of(3))
    assert list(tasks.ended()) == [3, 4, 5]
    assert tasks.rows(2, 4) == ['["row 2"]', '["row 3"]']
    counts = tasks.counts()
    assert (counts.waiting, counts.done, counts.failed, counts.total) == (17, 2, 1, 20)
    assert tasks.answer_to(key_of(3)) == whole
    assert tasks.answer_to(key_of(4)) is None, "a failure answers nothing"
    other = new_run(store)
    assert other.answer_to(key_of(3)) is None, "another run may have been another question"


def test_an_edit_keeps_the_original_and_what_is_forgotten_waits_again(store: Store) -> None:
    tasks = new_run(store)
    tasks.save(
        [
            (outcome(0, values={"label": "a"}), key_of(0)),
            (outcome(1, status=TaskStatus.FAILED), key_of(1)),
            (outcome(2, status=TaskStatus.FAILED), key_of(2)),
        ]
    )
    tasks.edit(0, {"label": "b"})
    edited = tasks.tasks(0, 1)[0]
    assert (edited.values, edited.outcome.values) == ({"label": "b"}, {"label": "a"})
    tasks.edit(0, None)
    assert tasks.tasks(0, 1)[0].values == {"label": "a"}
    with pytest.raises(BatchError, match="no result yet"):
        tasks.edit(7, {"label": "b"})
    tasks.count_deaths([1, 2])
    tasks.count_deaths([2])
    assert tasks.deaths() == {1: 1, 2: 2}
    assert tasks.forget([1]) == 1
    assert tasks.forget(TaskStatus.FAILED) == 1
    assert tasks.deaths() == {}
    assert tasks.counts().waiting == 9


def test_a_run_begins_only_with_all_its_rows_and_is_never_two_processes(store: Store) -> None:
    runs = BatchRuns(store)
    run = runs.create({}, COLUMNS)
    tasks = RunTasks(store, run.id)
    tasks.add_rows(['["a"]'], last=False)
    with pytest.raises(BatchError, match="not all in the store"):
        runs.take(run.id)
    tasks.add_rows(['["b"]'])
    with pytest.raises(BatchError, match="there already"):
        tasks.add_rows(['["c"]'])
    runs.take(run.id)
    assert runs.get(run.id).status is RunStatus.RUNNING
    code = (
        "import sys; from pathlib import Path;"
        "from gguf_widgets.core.store.store import Store;"
        "from gguf_widgets.core.store.batch_runs import BatchRuns;"
        "runs = BatchRuns(Store(Path(sys.argv[1])));"
        "runs.take(sys.argv[2]); print('taken')"
    )
    other = [sys.executable, "-c", code, str(store.path), run.id]
    refused = subprocess.run(other, capture_output=True, text=True, check=False, timeout=60)
    assert "Another notebook or page is at this run already" in refused.stderr
    runs.set_status(run.id, RunStatus.STOPPED)
    assert subprocess.run(other, capture_output=True, text=True, check=True, timeout=60).stdout
    # That process has ended without a word.
    assert runs.get(run.id).status is RunStatus.INTERRUPTED
    runs.take(run.id)
    assert runs.get(run.id).status is RunStatus.RUNNING


def test_runs_are_found_renamed_deleted_brought_back_and_purged(store: Store) -> None:
    runs = BatchRuns(store)
    first, second = new_run(store), new_run(store, 3)
    second.save([(outcome(0), key_of(0))])
    runs.rename(first.run_id, "Reviews")
    assert [run.id for run in runs.recent()] == [second.run_id, first.run_id]
    assert runs.find(first.run_id[:12]).title == "Reviews"
    for wrong in ("", "zz", "%", "0" * 40):
        with pytest.raises(InvalidValueError, match="no batch run"):
            runs.find(wrong)
    runs.delete(second.run_id)
    assert [run.id for run in runs.recent()] == [first.run_id]
    runs.restore(second.run_id)
    runs.delete(second.run_id)
    assert runs.purge(older_than_s=3600) == 0
    assert runs.purge() == 1
    assert first.rows(0, 99)
    with pytest.raises(InvalidValueError, match="no batch run"):
        RunTasks(store, second.run_id)
    with store.reading() as connection:
        left = [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
            for name in ("batch_run", "batch_row", "batch_task", "batch_death")
        ]
    assert left == [1, 10, 0, 0]


def test_too_many_replies_are_refused_before_a_row_is_kept(store: Store) -> None:
    run = BatchRuns(store).create({}, COLUMNS, num_prompts=2**16, num_samples=2**15)
    tasks = RunTasks(store, run.id)
    with pytest.raises(BatchError, match="Divide the table"):
        tasks.add_rows(['["a"]', '["b"]'])
    assert tasks.rows(0, 9) == []


WRITER = """
import sys
from pathlib import Path
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.store.store import Store
store = Store(Path(sys.argv[1]))
BatchRuns(store).take(sys.argv[2])
tasks = RunTasks(store, sys.argv[2])
ended = set(tasks.ended())
for number in range(2000):
    if number not in ended:
        done = Outcome(number=number, status=TaskStatus.DONE, text=str(number))
        assert tasks.save([(done, f"{number:032x}")]) == 1
        print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")
def test_killed_at_random_moments_nothing_that_was_said_to_be_kept_is_lost(store: Store) -> None:
    tasks = new_run(store, 2000)
    rng = random.Random(5)  # noqa: S311 - it keeps no secret
    said: set[int] = set()
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.path), tasks.run_id],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        lines = (first + writer.stdout.read()).split()
        writer.wait()
        writer.stdout.close()
        numbers = [int(line) for line in lines if line.isdigit()]
        # The last line may have been cut in the middle.
        new = set(numbers[:-1])
        assert not said & new, "no row is done twice"
        said |= new
        kept = set(tasks.ended())
        assert said <= kept
        assert len(kept) <= len(said) + 14
    assert BatchRuns(store).get(tasks.run_id).status is RunStatus.INTERRUPTED


def test_a_process_at_a_run_hears_each_wish_once_and_in_order(store: Store) -> None:
    runs = BatchRuns(store)
    run_id = new_run(store).run_id
    with pytest.raises(BatchError, match="not being carried out"):
        runs.ask(run_id, RunWish.PAUSE)
    runs.take(run_id)
    runs.put_progress(run_id, {"rows_per_s": 2.5})
    with Store(store.path) as other:  # as another process does
        seen = BatchRuns(other)
        assert seen.progress(run_id) == {"rows_per_s": 2.5}
        seen.ask(run_id, RunWish.PAUSE)
        seen.ask(run_id, RunWish.CHANGE, {"n_seq_max": 3})
        seen.ask(run_id, RunWish.GO_ON)
    assert runs.take_wishes(run_id) == [
        (RunWish.PAUSE, {}),
        (RunWish.CHANGE, {"n_seq_max": 3}),
        (RunWish.GO_ON, {}),
    ]
    assert runs.take_wishes(run_id) == []
    for _ in range(50):
        runs.ask(run_id, RunWish.PAUSE)
    with pytest.raises(BatchError, match="may hang"):
        runs.ask(run_id, RunWish.PAUSE)
    runs.ask(run_id, RunWish.STOP)
    assert runs.take_wishes(run_id)[-1] == (RunWish.STOP, {})
    runs.ask(run_id, RunWish.STOP)
    runs.set_status(run_id, RunStatus.FINISHED)
    assert runs.progress(run_id) is None
    runs.put_progress(run_id, {"late": 1})
    assert runs.progress(run_id) is None, "nobody is at it any more"
    runs.take(run_id)
    assert runs.take_wishes(run_id) == [], "a wish is for those who were at it then"
