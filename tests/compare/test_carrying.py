"""A comparison on its way: killed and resumed, stopped, locked out of its store, short of memory.

About 40 s, with real workers and the demo model.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.batch.processor import runs
from gguf_widgets.compare import events
from gguf_widgets.compare.carrying import Carrier
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.making import compare, prepare, resume_comparison
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.scoring import Own
from gguf_widgets.compare.sides import Side
from gguf_widgets.compare.types import ComparisonStatus, SideStatus
from gguf_widgets.core.errors import BatchError, NotEnoughMemoryError, StoreError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from tests.core.conftest import processes_of, wait_for

WILD = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STORY = "Tell me a story about Emma, number {number}."


def prompts(num: int) -> list[dict[str, int]]:
    return [{"number": number} for number in range(num)]


def long_one(store: Store, manager: ModelManager, num: int = 200, **more: Any) -> Comparison:
    return prepare(
        ["demo", Side("demo", label="warm", sampling={"temperature": 0.5, "seed": 1})],
        prompts(num),
        template=STORY,
        max_tokens=24,
        store=store,
        manager=manager,
        **more,
    )


def num_done(made: Comparison) -> list[int]:
    return [side.counts.done if side.counts else 0 for side in made.sides]


# -- resuming --------------------------------------------------------------------------------------

GO_ON = """
import sys
from gguf_widgets.compare.making import resume_comparison
from gguf_widgets.core.manager import ModelManager
made = resume_comparison(sys.argv[1], wait=False, manager=ModelManager(keep_alive=1))
made.observe(lambda made: print(made.progress.num_done, flush=True))
made.wait()
"""


def test_killed_in_the_middle_it_goes_on_and_nothing_is_asked_or_scored_twice(
    store: Store, manager: ModelManager, home: Path
) -> None:
    made = long_one(store, manager, 120)
    for enough in (20, 130):
        process = subprocess.Popen(
            [sys.executable, "-c", GO_ON, made.id], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= enough:
                break
        assert made.status is ComparisonStatus.RUNNING
        assert "Another notebook" in made.progress.note
        with pytest.raises(BatchError, match="Another notebook or page is at this comparison"):
            made.start()
        process.kill()
        process.wait()
        process.stdout.close()
        assert made.status is ComparisonStatus.INTERRUPTED
    before = {
        side: {number: task.ended_at for number, task in tasks(made, store, side).items()}
        for side in (0, 1)
    }
    assert 130 <= sum(map(len, before.values())) < 240
    resume_comparison(made.id[:8], store=store, manager=manager, progress=False)
    assert made.status is ComparisonStatus.FINISHED
    assert num_done(made) == [120, 120]
    for side, known in before.items():
        after = tasks(made, store, side)
        assert {number: after[number].ended_at for number in known} == known
    assert len(runs(store=store)) == 2, "no second run was begun for a side"
    assert made.difference(0, 1).num_pairs == 120
    wait_for(lambda: len(processes_of(home, "gguf_widgets.core.worker")) <= 1, "the orphans' end")


def tasks(made: Comparison, store: Store, side: int) -> dict[int, Any]:
    run_id = made.definition.sides[side].run_id
    return {} if run_id is None else RunTasks(store, run_id).tasks(0, 1 << 31)


def test_stopped_it_keeps_what_it_has_and_goes_on_later(
    store: Store, manager: ModelManager
) -> None:
    told: list[str] = []
    end = events.subscribe(lambda event, one: told.append(f"{event} {one.status.value}"))
    made = long_one(store, manager)
    enough = threading.Event()
    seen: list[tuple[int, str, bool]] = []

    def look(one: Comparison) -> None:
        progress = one.progress
        seen.append((progress.num_done, progress.phase, progress.left_s is not None))
        if progress.num_done > 40:
            enough.set()

    forget = made.observe(look)
    made.start()
    assert made.start() is made, "starting twice is no matter"
    with pytest.raises(BatchError, match="is being carried out here already"):
        Comparison.open(made.id, store=store, manager=manager).start()
    with pytest.raises(BatchError, match="is being carried out"):
        made.add_scores("time")
    assert enough.wait(40)
    made.stop()
    assert made.status is ComparisonStatus.STOPPED
    stopped_at = sum(num_done(made))
    assert 40 < stopped_at < 400
    assert {side.status for side in made.sides} <= {SideStatus.STOPPED, SideStatus.WAITING}
    forget()
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert any(phase == "answering" and has_time for _, phase, has_time in seen)
    made.resume().wait()
    end()
    assert num_done(made) == [200, 200]
    assert told == ["started running", "ended stopped", "started running", "ended finished"]


def test_another_process_or_page_can_stop_it(store: Store, manager: ModelManager) -> None:
    made = long_one(store, manager, 2000)
    made.start()
    wait_for(lambda: made.progress.num_done > 10, "the first answers")
    # Another page has the same store and no carrier of its own.
    other = Comparison.open(made.id, store=store, manager=manager)
    other.stop()
    assert made.status is ComparisonStatus.STOPPED
    assert made.wait(10) is made
    made.close()


def test_an_interrupt_while_waiting_stops_it(store: Store, manager: ModelManager) -> None:
    made = long_one(store, manager, 2000).start()
    wait_for(lambda: made.progress.num_done > 5, "the first answers")
    with pytest.raises(TimeoutError, match="goes on"):
        made.wait(0.1)
    carrier = made._carrier
    assert carrier is not None
    interrupted = _Interrupted(carrier.ended)
    carrier.ended = interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        made.wait()
    assert made.status is ComparisonStatus.STOPPED


class _Interrupted(threading.Event):
    """An event whose first wait is hit by Ctrl+C."""

    def __init__(self, inner: threading.Event) -> None:
        super().__init__()
        self.inner, self.is_hit = inner, False

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_hit:
            self.is_hit = True
            raise KeyboardInterrupt
        return self.inner.wait(timeout)

    def is_set(self) -> bool:
        return self.inner.is_set()

    def set(self) -> None:
        self.inner.set()


# -- the store -------------------------------------------------------------------------------------


def test_a_locked_store_makes_it_wait_and_say_so_and_loses_nothing(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf_widgets.core.store.store.BUSY_S", 0.2)
    made = long_one(store, manager, 60)
    made.start()
    wait_for(lambda: made.progress.num_done > 5, "the first answers")
    carrier = made._carrier
    assert isinstance(carrier, Carrier)
    assert store.path is not None
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        wait_for(lambda: "until it can be written to" in carrier.note, "the word about the store")
        other.execute("ROLLBACK")
    made.wait(60)
    assert num_done(made) == [60, 60]
    assert made.difference(0, 1).num_pairs == 60


def test_a_store_that_cannot_be_written_to_refuses_a_new_comparison_in_words(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.path is not None
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        connection = store._connected()
        monkeypatch.setattr(store, "_connected", lambda: _Impatient(connection))
        with pytest.raises(StoreError, match="in use by another program"):
            long_one(store, manager)
        other.execute("ROLLBACK")


class _Impatient:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *arguments: Any) -> Any:
        if sql.startswith("PRAGMA busy_timeout"):
            sql = "PRAGMA busy_timeout = 50"
        return self._connection.execute(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_side_whose_run_was_removed_is_asked_anew(store: Store, manager: ModelManager) -> None:
    made = long_one(store, manager, 4).start().wait()
    gone = made.definition.sides[1].run_id
    assert gone is not None
    BatchRuns(store).discard(gone)
    assert made.sides[1].counts is None
    assert [answer.status for answer in made.rows()[0].answers] == ["done", "waiting"]
    made.start().wait()
    assert num_done(made) == [4, 4]


# -- memory ----------------------------------------------------------------------------------------


def test_models_that_memory_does_not_hold_together_answer_one_after_another(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    real = ModelManager.load
    in_memory: list[set[Any]] = []

    def load(self: ModelManager, *arguments: Any, **settings: Any) -> Any:
        held = [one for one in self.loaded() if one.settings.n_ctx != settings.get("n_ctx")]
        if held:
            raise NotEnoughMemoryError("It needs 9 GB and 1 GB is free.")
        model = real(self, *arguments, **settings)
        in_memory.append({one.settings.n_ctx for one in self.loaded()})
        return model

    monkeypatch.setattr(ModelManager, "load", load)
    made = compare(
        [Side("demo", load={"n_ctx": size}) for size in (512, 768, 1024)],
        prompts(6),
        template=STORY,
        max_tokens=8,
        store=store,
        manager=manager,
    )
    assert num_done(made) == [6, 6, 6]
    assert made.labels == ["demo, n_ctx 512", "demo, n_ctx 768", "demo, n_ctx 1024"]
    assert any("one after another" in note for note in made.notes)
    assert in_memory == [{512}, {768}, {1024}]
    assert made.difference(0, 2).num_pairs == 6
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the workers' end")


def test_a_model_that_does_not_fit_even_alone_is_left_out(
    store: Store, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ModelManager.load

    def load(self: ModelManager, *arguments: Any, **settings: Any) -> Any:
        if settings.get("n_ctx") == 768:
            raise NotEnoughMemoryError("It needs 900 GB and 1 GB is free.")
        return real(self, *arguments, **settings)

    monkeypatch.setattr(ModelManager, "load", load)
    made = compare(
        [Side("demo", load={"n_ctx": 768}), Side("demo", load={"n_ctx": 512})],
        prompts(2),
        template=STORY,
        max_tokens=4,
        store=store,
        manager=manager,
    )
    assert [side.status for side in made.sides] == [SideStatus.FAILED, SideStatus.DONE]
    assert "900 GB" in (made.sides[0].error or "")
    # Tomorrow there is more memory.
    monkeypatch.setattr(ModelManager, "load", real)
    made.start().wait()
    assert num_done(made) == [2, 2]
    assert made.notes == []


def test_together_all_answer_at_the_same_time_and_their_speeds_are_not_trusted(
    store: Store, manager: ModelManager
) -> None:
    made = long_one(store, manager, 100, order="together")
    at_once: set[int] = set()
    made.observe(
        lambda one: at_once.add(
            sum(side.status is SideStatus.ANSWERING for side in one.progress.sides)
        )
    )
    made.start().wait()
    assert max(at_once) == 2
    assert num_done(made) == [100, 100]
    assert any("slowed down by the others" in note for note in made.notes)
    turns = long_one(store, manager, 100)
    in_turns: set[int] = set()
    turns.observe(
        lambda one: in_turns.add(
            sum(side.status is SideStatus.ANSWERING for side in one.progress.sides)
        )
    )
    turns.start().wait()
    assert max(in_turns) == 1
    assert turns.notes == []


# -- ending early ----------------------------------------------------------------------------------


def test_it_ends_as_soon_as_it_is_clear_and_asks_in_a_drawn_order(
    store: Store, manager: ModelManager
) -> None:
    made = compare(
        ["demo", Side("demo", label="wild", sampling=WILD)],
        [{"country": country} for country in ("France", "Italy") for _ in range(200)],
        template="What is the capital of {country}?",
        references=["Paris"] * 200 + ["Rome"] * 200,
        scores=Own(lambda text, right, _row: right in text, name="right", bounds=(0, 1)),
        stop_early=True,
        max_tokens=16,
        store=store,
        manager=manager,
    )
    assert made.status is ComparisonStatus.FINISHED
    told = made.definition.stopped_early
    assert told is not None
    assert told["num_prompts"] < 200
    assert told["best"] == 0
    assert any("because it was clear: “demo”" in note for note in made.notes)
    found = made.difference("demo", "wild", "right")
    assert found.clear
    assert (found.better, found.method, found.num_pairs) == ("a", "sequential", told["num_prompts"])
    asked = [row for row in made.rows() if row.answers[0].status == "done"]
    assert {row.values["country"] for row in asked} == {"France", "Italy"}, "not the first rows"
    assert [row.answers[1].status for row in asked] == ["done"] * len(asked)
    for row in asked:
        assert row.answers[0].scores["right"] == float(row.reference in (row.answers[0].text or ""))
    frame = made.to_frame()
    assert list(frame["country"]) == ["France"] * 200 + ["Italy"] * 200
    # Going on with it asks nothing more: it is clear.
    before = num_done(made)
    made.start().wait()
    assert num_done(made) == before


def test_sides_that_do_not_differ_are_asked_everything(store: Store, manager: ModelManager) -> None:
    made = compare(
        ["demo", "demo"],
        prompts(40),
        template="What is the capital of France? {number}",
        references=["Paris"] * 40,
        scores="exact",
        stop_early="exact",
        max_tokens=4,
        store=store,
        manager=manager,
    )
    assert num_done(made) == [40, 40]
    assert made.definition.stopped_early is None
    found = made.difference(0, 1, "exact")
    assert not found.clear
    assert "Not enough data to tell" in found.words


# -- a side that fails on the way ------------------------------------------------------------------


def test_a_side_that_cannot_go_on_is_told_and_prompts_that_fail_are_left_out(
    store: Store, manager: ModelManager
) -> None:
    made = compare(
        ["demo", Side("demo", label="short", load={"n_ctx": 128})],
        ["Hello", "Hello " * 300, "What is the capital of France?"],
        max_tokens=8,
        store=store,
        manager=manager,
    )
    row = made.rows()[1]
    assert row.answers[1].status == "failed"
    assert "has room for 256" in (row.answers[1].error or "")
    assert row.answers[1].scores == {}
    found = made.difference(0, 1)
    assert (found.num_pairs, found.num_left_out) == (2, 1)
    assert "One prompt is left out" in found.words
    assert made.summaries()[1].num_failed == 1
    assert made.status is ComparisonStatus.FINISHED


def test_a_model_file_that_was_replaced_is_not_gone_on_with(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    from gguf_widgets.demo import demo_model_path

    copy = tmp_path / "copy.gguf"
    copy.write_bytes(demo_model_path().read_bytes())
    made = compare(
        ["demo", copy], prompts(2), template=STORY, max_tokens=4, store=store, manager=manager
    )
    run_id = made.definition.sides[1].run_id
    assert run_id is not None
    RunTasks(store, run_id).forget([0])
    with copy.open("ab") as file:
        file.write(os.urandom(64))
    made.start().wait()
    assert [side.status for side in made.sides] == [SideStatus.DONE, SideStatus.FAILED]
    assert "is another one than when the run began" in (made.sides[1].error or "")


def test_a_judge_that_cannot_be_loaded_costs_its_own_score_only(
    store: Store, manager: ModelManager
) -> None:
    import gguf_widgets as gw

    made = compare(
        ["demo", Side("demo", sampling={"temperature": 1.0, "seed": 1})],
        prompts(2),
        template=STORY,
        scores=["length", gw.compare.Judge("no-such-judge")],
        max_tokens=8,
        store=store,
        manager=manager,
    )
    assert made.status is ComparisonStatus.FINISHED
    assert any("The score “judge” could not be made" in note for note in made.notes)
    assert made.difference(0, 1, "length").num_pairs == 2
    assert made.difference(0, 1, "judge").num_pairs == 0


def test_a_listener_that_fails_costs_nobody_anything(
    store: Store, manager: ModelManager, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_event: str, _one: Comparison) -> None:
        raise RuntimeError("a listener of a test")

    def fail_too(_one: Comparison) -> None:
        raise RuntimeError("an observer of a test")

    end = events.subscribe(fail)
    try:
        made = long_one(store, manager, 2)
        made.observe(fail_too)
        made.start().wait()
    finally:
        end()
        end()
    assert made.status is ComparisonStatus.FINISHED
    assert num_done(made) == [2, 2]
    assert "a listener of a test" in caplog.text
    assert "an observer of a test" in caplog.text


# -- scores that need a model of their own ---------------------------------------------------------


def judged(store: Store, manager: ModelManager) -> Comparison:
    import gguf_widgets as gw

    return compare(
        ["demo", Side("demo", label="warm", sampling={"temperature": 1.0, "seed": 1})],
        prompts(5),
        template=STORY,
        scores=gw.compare.Judge("demo"),
        max_tokens=12,
        store=store,
        manager=manager,
    )


def test_a_judge_that_was_interrupted_goes_on_and_one_whose_run_is_gone_begins_anew(
    store: Store, manager: ModelManager
) -> None:
    made = judged(store, manager)
    (run_id,) = made.definition.judge_runs["judge"]
    before = made.difference(0, 1, "judge")
    assert before.num_pairs == 5
    # As if it had been killed after some answers, and before a score was kept.
    tasks = RunTasks(store, run_id)
    known = {number: task.ended_at for number, task in tasks.tasks(0, 99).items()}
    asked = sorted(known)
    tasks.forget(asked[3:])
    BatchRuns(store).set_status(run_id, RunStatus.STOPPED)
    Records(store).forget_scores(made.id, ["judge"])
    made.start().wait()
    assert made.difference(0, 1, "judge") == before
    assert made.definition.judge_runs["judge"] == [run_id]
    after = {number: task.ended_at for number, task in tasks.tasks(0, 99).items()}
    assert {number: after[number] for number in asked[:3]} == {
        number: known[number] for number in asked[:3]
    }, "what it had said is not asked again"
    BatchRuns(store).discard(run_id)
    Records(store).forget_scores(made.id, ["judge"])
    made.start().wait()
    assert made.difference(0, 1, "judge") == before
    assert len(made.definition.judge_runs["judge"]) == 2


def test_likeness_can_end_a_comparison_early(store: Store, manager: ModelManager) -> None:
    import gguf_widgets as gw

    made = compare(
        ["demo", Side("demo", label="wild", sampling={**WILD, "seed": 2})],
        prompts(160),
        template="What is the capital of France? {number}",
        references=["Paris"] * 160,
        scores=["length", gw.compare.Similarity("demo")],
        stop_early="similarity",
        max_tokens=6,
        store=store,
        manager=manager,
    )
    asked = num_done(made)[0]
    values = [row.answers[0].scores.get("similarity") for row in made.rows()]
    assert sum(value is not None for value in values) == asked
    told = made.definition.stopped_early
    found = made.difference(0, 1, "similarity")
    assert found.method == "sequential"
    assert found.clear == (told is not None)
    assert asked == (160 if told is None else told["num_prompts"])
