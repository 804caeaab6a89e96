"""A run is carried out whatever the model, its process and the store do."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gguf_widgets.batch.places import GivenBack, LocalPlaces
from gguf_widgets.batch.question import Answer, Known, Question
from gguf_widgets.batch.runner import Runner
from gguf_widgets.core.errors import (
    BatchError,
    ContextOverflowError,
    GgufWidgetsError,
    ModelUnloadedError,
    OutputError,
    StoreError,
    WorkerBusyError,
    WorkerDiedError,
)
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Message, Reply, Timings, Usage
from tests.core.conftest import wait_for

TIMINGS = Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=0, total_s=0)


def reply(text: str, reason: FinishReason = FinishReason.STOP) -> Reply:
    usage = Usage(num_prompt_tokens=3, num_completion_tokens=2)
    return Reply(text=text, finish_reason=reason, usage=usage, timings=TIMINGS, seed=1)


class Scripted:
    """A model whose answers a test decides, from a thread of its own as the real ones are.

    `decide` is given a text and how often it has been asked; None does not answer yet.
    """

    def __init__(self, decide: Callable[[str, int], Reply | GgufWidgetsError | None]) -> None:
        self.settings = SimpleNamespace(n_seq_max=4)
        self.asked: Counter[str] = Counter()
        self.most_at_once = 0
        self._decide = decide
        self._open: dict[int, tuple[str, Callable[[Any], None]]] = {}
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, messages: list[Message], on_end: Callable[[Any], None], **_more: Any) -> Any:
        number = next(self._ids)
        with self._lock:
            self._open[number] = (messages[0]["content"], on_end)
            self.most_at_once = max(self.most_at_once, len(self._open))
            self.asked[messages[0]["content"]] += 1
        self._todo.put(number)
        return SimpleNamespace(stop=lambda: self._end(number, reply("", FinishReason.ABORTED)))

    def _end(self, number: int, end: Any) -> None:
        with self._lock:
            found = self._open.pop(number, None)
        if found is not None:
            found[1](end)

    def _run(self) -> None:
        while (number := self._todo.get()) is not None:
            with self._lock:
                text = self._open[number][0] if number in self._open else None
            if text is None:
                continue
            end = self._decide(text, self.asked[text])
            if isinstance(end, WorkerDiedError):  # takes everything that is open with it
                for other in list(self._open):
                    self._end(other, end)
            elif end is not None:
                self._end(number, end)

    @property
    def num_open(self) -> int:
        return len(self._open)

    def close(self) -> None:
        self._todo.put(None)


def read(one: Reply) -> Answer:
    if one.text == "rubbish":
        raise OutputError("This is no answer.")
    return Answer({"reply": one.text}, certainty=0.5)


class Rows:
    """A plan over the rows of a run: the text of each is asked."""

    def __init__(self, tasks: RunTasks, texts: list[str], model: Scripted, **how: Any) -> None:
        self._tasks, self._texts, self._model, self._how = tasks, texts, model, how

    def num_models(self) -> int:
        return 1

    def is_done(self, number: int) -> bool:
        return number > 0 or self._tasks.counts().waiting == 0

    def places(self, number: int, on_change: Any, is_stopped: Any) -> LocalPlaces:
        return LocalPlaces(self._model)  # type: ignore[arg-type]

    def questions(self, number: int) -> Iterator[Question | Known]:
        ended = set(self._tasks.ended())
        for i, text in enumerate(self._texts):
            if i in ended:
                continue
            if text == "missing":
                yield Known(Outcome(number=i, status=TaskStatus.SKIPPED, attempts=0))
                continue
            key = f"{abs(hash(text)):032x}" if self._how.get("alike") else f"{i + 1:032x}"
            yield Question(i, key, [Message(role="user", content=text)], {}, read, **self._how)


class Several:
    """Places by name, each with a model of its own, that a test takes away and brings."""

    note, num_at_once = "", None

    def __init__(self, models: dict[str, Scripted]) -> None:
        self.models = models
        self.closed = 0

    def current(self) -> list[Any]:
        return [Spot(name, model) for name, model in list(self.models.items())]

    def close(self) -> None:
        self.closed += 1


class Spot:
    room = 8

    def __init__(self, name: str, model: Scripted) -> None:
        self.name, self._model = name, model

    def ask(self, question: Question, on_end: Callable[[Any], None]) -> Any:
        return self._model.submit(question.messages, on_end)


class Bench:
    """A store with a run of some texts, and runners for it."""

    def __init__(self, store: Store, texts: Iterable[str]) -> None:
        self.store, self.texts = store, list(texts)
        self.runs = BatchRuns(store)
        self.id = self.runs.create({}, []).id
        self.tasks = RunTasks(store, self.id)
        self.tasks.add_rows("[]" for _ in self.texts)
        self.models: list[Scripted] = []
        self.plan: Rows | None = None
        self.told: list[int] = []

    def start(
        self, decide: Callable[[str, int], Reply | GgufWidgetsError | None], **how: Any
    ) -> tuple[Runner, Scripted]:
        model = Scripted(decide)
        self.models.append(model)
        self.plan = Rows(self.tasks, self.texts, model, **how)
        runner = Runner(
            self.id,
            self.store,
            self.plan,
            on_ended=lambda ended: self.told.extend(one.number for one in ended),
        )
        runner.start()
        return runner, model

    def start_at(self, places: Several, **how: Any) -> Runner:
        self.models += places.models.values()
        plan = Rows(self.tasks, self.texts, None, **how)  # type: ignore[arg-type]
        plan.places = lambda *_given: places  # type: ignore[method-assign, assignment]
        runner = Runner(
            self.id,
            self.store,
            plan,
            on_ended=lambda ended: self.told.extend(one.number for one in ended),
        )
        runner.start()
        return runner

    def run(self, decide: Any, **how: Any) -> tuple[Runner, Scripted]:
        runner, model = self.start(decide, **how)
        assert runner.ended.wait(60)
        return runner, model

    def texts_kept(self) -> dict[int, str | None]:
        found = self.tasks.tasks(0, len(self.texts))
        return {number: task.outcome.text for number, task in found.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[[Iterable[str]], Bench]]:
    made: list[Bench] = []
    store = Store(tmp_path / "store.sqlite3")

    def make(texts: Iterable[str]) -> Bench:
        made.append(Bench(store, texts))
        return made[-1]

    yield make
    for one in made:
        for model in one.models:
            model.close()


New = Callable[[Iterable[str]], Bench]


def echo(text: str, _times: int) -> Reply:
    return reply(text.upper())


def test_every_row_is_asked_once_and_kept_before_it_is_told(bench: New) -> None:
    one = bench([f"row {i}" for i in range(300)] + ["missing"])
    runner, model = one.run(echo)
    assert runner.progress().status is RunStatus.FINISHED
    assert set(model.asked.values()) == {1}
    assert sorted(one.told) == list(range(301))
    kept = one.texts_kept()
    assert kept == {i: f"ROW {i}" for i in range(300)} | {300: None}
    counts = runner.progress().counts
    assert (counts.done, counts.skipped, counts.waiting) == (300, 1, 0)
    assert 4 <= model.most_at_once <= 4 * 4 + 8
    assert one.runs.get(one.id).status is RunStatus.FINISHED
    again, model = one.run(echo)
    assert again.progress().status is RunStatus.FINISHED
    assert not model.asked


def test_a_row_that_fails_leaves_the_others_alone(bench: New) -> None:
    one = bench(["good", "too long", "bad", "fine"])

    def decide(text: str, _times: int) -> Reply | GgufWidgetsError:
        if text == "too long":
            return ContextOverflowError("Too long by 7 tokens.", tokens=7)
        return reply("rubbish" if text == "bad" else text)

    runner, _ = one.run(decide)
    assert runner.progress().status is RunStatus.FINISHED
    found = one.tasks.tasks(0, 4)
    assert [found[i].outcome.status.value for i in range(4)] == ["done", "failed", "failed", "done"]
    assert found[1].outcome.error == {
        "kind": "ContextOverflowError",
        "message": "Too long by 7 tokens.",
        "details": {"tokens": 7},
    }
    assert (found[2].outcome.text, found[2].outcome.error["kind"]) == ("rubbish", "OutputError")  # type: ignore[index]
    assert one.tasks.forget(TaskStatus.FAILED) == 2
    _, model = one.run(echo)
    assert set(model.asked) == {"too long", "bad"}


@pytest.mark.parametrize("num_poison", [1, 3])
def test_the_row_that_kills_the_models_process_is_found_and_all_others_answered(
    bench: New, num_poison: int
) -> None:
    texts = [f"row {i}" for i in range(60)]
    poison = {texts[i] for i in (17, 18, 44)[:num_poison]}
    one = bench(texts)

    def decide(text: str, _times: int) -> Reply | GgufWidgetsError:
        time.sleep(0.001)
        return WorkerDiedError("It died.") if text in poison else reply(text)

    runner, model = one.run(decide)
    assert runner.progress().status is RunStatus.FINISHED
    found = one.tasks.tasks(0, 60)
    bad = {texts[i] for i, task in found.items() if task.outcome.status is TaskStatus.FAILED}
    assert bad == poison
    assert len(found) == 60
    for text in poison:
        assert 2 <= model.asked[text] <= 4
    assert max(model.asked.values()) <= 4
    error = next(task.outcome.error for task in found.values() if task.outcome.error)
    assert "with this row alone" in error["message"]
    # Whoever goes on in a new session knows what has happened in this one.
    assert one.tasks.deaths()


def test_a_model_that_is_too_busy_is_asked_again_and_nothing_counts_as_tried(bench: New) -> None:
    one = bench([f"row {i}" for i in range(12)])

    def decide(text: str, times: int) -> Reply | GgufWidgetsError:
        return WorkerBusyError("Full.", retry_after_s=0.05) if times == 1 else reply(text)

    runner, model = one.run(decide)
    assert runner.progress().counts.done == 12
    assert {task.outcome.attempts for task in one.tasks.tasks(0, 12).values()} == {1}
    assert set(model.asked.values()) == {2}


def test_stop_gives_up_what_is_under_way_and_a_new_session_does_the_rest(bench: New) -> None:
    one = bench([f"row {i}" for i in range(50)])
    hold = threading.Event()

    def decide(text: str, _times: int) -> Reply | None:
        if one.told and len(one.told) >= 10:
            hold.set()
            return None
        return reply(text)

    runner, model = one.start(decide)
    assert hold.wait(30)
    runner.stop()
    assert runner.ended.wait(20)
    assert runner.progress().status is RunStatus.STOPPED
    assert model.num_open == 0
    done = set(one.tasks.ended())
    assert 10 <= len(done) < 50
    assert sorted(one.told) == sorted(done)
    assert one.runs.get(one.id).status is RunStatus.STOPPED
    again, model = one.run(echo)
    assert again.progress().status is RunStatus.FINISHED
    assert len(model.asked) == 50 - len(done)


def test_a_pause_lets_the_model_finish_what_it_is_at_and_starts_nothing(bench: New) -> None:
    one = bench([f"row {i}" for i in range(100)])
    gate = threading.Semaphore(30)

    def decide(text: str, _times: int) -> Reply:
        gate.acquire()
        return reply(text)

    runner, model = one.start(decide)
    wait_for(lambda: len(one.told) >= 20, "some rows")
    runner.pause()
    gate.release(60)
    wait_for(lambda: runner.progress().status is RunStatus.PAUSED, "the pause")
    wait_for(lambda: model.num_open == 0, "what was under way")
    asked = sum(model.asked.values())
    time.sleep(0.3)
    assert sum(model.asked.values()) == asked < 100
    assert one.runs.get(one.id).status is RunStatus.PAUSED
    gate.release(100)
    runner.resume()
    assert runner.ended.wait(30)
    assert len(one.texts_kept()) == 100


def test_a_store_that_cannot_be_written_to_stops_the_asking_and_loses_nothing(
    bench: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench([f"row {i}" for i in range(200)])
    full = threading.Event()
    save = RunTasks.save

    def save_or_not(self: RunTasks, ended: Any) -> int:
        if full.is_set():
            raise StoreError("The disk is full.", reason="full")
        return save(self, ended)

    monkeypatch.setattr(RunTasks, "save", save_or_not)
    monkeypatch.setattr("gguf_widgets.batch.runner._STORE_AGAIN_S", 0.05)

    def decide(text: str, _times: int) -> Reply:
        if len(one.told) > 50:
            full.set() if not seen else None
            seen.append(text)
        return reply(text)

    seen: list[str] = []
    runner, model = one.start(decide)
    assert full.wait(30)
    wait_for(lambda: "The disk is full" in runner.progress().note, "the note")
    wait_for(lambda: model.num_open == 0, "no more is asked")
    asked = sum(model.asked.values())
    time.sleep(0.2)
    assert sum(model.asked.values()) == asked < 200
    full.clear()
    assert runner.ended.wait(30)
    assert runner.progress().status is RunStatus.FINISHED
    assert set(model.asked.values()) == {1}
    assert len(one.texts_kept()) == 200


def test_rows_that_are_alike_are_asked_once(bench: New) -> None:
    texts = [f"row {i % 7}" for i in range(80)]
    one = bench(texts)
    runner, model = one.run(echo, alike=True)
    assert runner.progress().counts.done == 80
    assert set(model.asked.values()) == {1}
    assert len(model.asked) == 7
    found = one.tasks.tasks(0, 80)
    assert [found[i].outcome.text for i in range(80)] == [text.upper() for text in texts]
    assert sum(task.outcome.attempts for task in found.values()) == 7
    # Also after a session that was stopped in the middle, and one that died.
    one.tasks.forget(range(40, 80))
    _, model = one.run(echo, alike=True)
    assert not model.asked


def test_one_of_many_alike_that_dies_takes_nobody_with_it(bench: New) -> None:
    one = bench(["same"] * 20)

    def decide(text: str, times: int) -> Reply | GgufWidgetsError:
        return WorkerDiedError("It died.") if times < 4 else reply(text)

    runner, model = one.run(decide, alike=True)
    assert runner.progress().counts.done == 20
    assert model.asked["same"] == 4


def test_what_would_fail_every_row_ends_the_run_and_the_rows_wait(bench: New) -> None:
    one = bench([f"row {i}" for i in range(500)])
    runner, _ = one.run(lambda _text, _times: ModelUnloadedError("It was unloaded."))
    assert runner.progress().status is RunStatus.FAILED
    assert "It was unloaded" in str(runner.error)
    assert runner.progress().counts.waiting == 500
    run = one.runs.get(one.id)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["kind"] == "ModelUnloadedError"

    runner, model = one.run(lambda _text, _times: reply("rubbish"))
    assert runner.progress().status is RunStatus.FAILED
    assert "The first 2" in str(runner.error)
    assert sum(model.asked.values()) < 60
    assert runner.progress().counts.waiting > 400


def test_the_model_can_be_another_once_what_is_under_way_has_ended(bench: New) -> None:
    one = bench([f"row {i}" for i in range(120)])
    at_the_change: list[int] = []

    def decide(text: str, _times: int) -> Reply:
        time.sleep(0.002)
        return reply(text)

    def decide_anew(text: str, _times: int) -> Reply:
        at_the_change.append(first.num_open)
        return reply(text)

    runner, first = one.start(decide)
    second = Scripted(decide_anew)
    one.models.append(second)
    wait_for(lambda: len(one.told) > 20, "some rows")
    runner.use(LocalPlaces(second))  # type: ignore[arg-type]
    assert runner.ended.wait(30)
    assert set(at_the_change) == {0}
    assert first.asked.keys().isdisjoint(second.asked)
    assert len(first.asked) + len(second.asked) == len(one.texts_kept()) == 120


def test_places_share_the_rows_and_those_of_one_that_is_lost_are_asked_elsewhere(
    bench: New,
) -> None:
    one = bench([f"row {i}" for i in range(300)])
    gate = threading.Semaphore(60)

    def slowly(text: str, _times: int) -> Reply:
        gate.acquire()
        return reply(text)

    places = Several({name: Scripted(slowly) for name in "abc"})
    runner = one.start_at(places)
    wait_for(lambda: len(one.told) >= 50, "some rows")
    assert all(model.asked for model in places.models.values())
    assert max(model.most_at_once for model in places.models.values()) <= 8
    lost, back = places.models.pop("a"), places.models.pop("b")
    for number in list(lost._open):
        lost._end(number, WorkerDiedError("The machine was lost."))
    for number in list(back._open):
        back._end(number, GivenBack())
    places.models["d"] = Scripted(echo)
    one.models.append(places.models["d"])
    gate.release(1000)
    assert runner.ended.wait(60)
    assert runner.progress().status is RunStatus.FINISHED
    assert sorted(one.told) == list(range(300)), "each is kept, and told, once"
    assert places.models["d"].asked
    assert max(one.tasks.deaths().values()) == 1
    assert places.closed == 1


def test_a_row_that_kills_every_place_is_found_while_the_others_are_answered(bench: New) -> None:
    texts = [f"row {i}" for i in range(120)]
    one = bench(texts)

    def decide(text: str, _times: int) -> Reply | GgufWidgetsError:
        time.sleep(0.001)
        return WorkerDiedError("It died.") if text == "row 40" else reply(text)

    places = Several({name: Scripted(decide) for name in "abc"})
    runner = one.start_at(places)
    assert runner.ended.wait(60)
    found = one.tasks.tasks(0, 120)
    bad = [i for i, task in found.items() if task.outcome.status is TaskStatus.FAILED]
    assert bad == [40]
    assert len(found) == 120
    assert sum(model.asked["row 40"] for model in places.models.values()) == 4


def test_no_place_left_ends_the_run_and_keeps_what_is_done(bench: New) -> None:
    one = bench([f"row {i}" for i in range(200)])

    class Going(Several):
        def current(self) -> list[Any]:
            if len(one.told) > 30:
                raise BatchError("The cluster has gone.", problem="cluster_gone")
            return super().current()

    places = Going({"a": Scripted(echo)})
    runner = one.start_at(places)
    assert runner.ended.wait(60)
    assert runner.progress().status is RunStatus.FAILED
    assert "The cluster has gone" in str(runner.error)
    assert places.closed == 1
    done = len(one.texts_kept())
    assert 30 < done < 200
    again, model = one.run(echo)
    assert again.progress().status is RunStatus.FINISHED
    assert len(model.asked) == 200 - done
