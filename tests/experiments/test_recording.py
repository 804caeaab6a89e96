"""What is asked inside an experiment is recorded, exactly, and nothing else. About 8 s."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from support.tiny_model import write_tiny_model

from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.compare import compare
from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.errors import ContextOverflowError, InvalidValueError, StoreError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.store import Store
from gguf_widgets.experiments import Experiment, experiments, load_experiment
from gguf_widgets.experiments.document import prompt_of, sampling_of
from gguf_widgets.experiments.values import ComparisonItem, RequestItem, RunItem
from tests.core.conftest import wait_for

TABLE = pd.DataFrame({"text": ["good food", "bad room", "good food", "a long way"]})


def test_each_way_of_asking_is_recorded_in_order_and_exactly(
    model: Model, store: Store, experiment: Experiment
) -> None:
    model.chat("Before", max_tokens=2)
    with experiment:
        reply = model.chat("Hello", max_tokens=6, seed=5, top_k=7, stop=["zzz"])
        model.complete("Once upon a", max_tokens=4, temperature=0)
        model.chat([{"role": "user", "content": "Hi"}], begin_with="One", max_tokens=3)
        asyncio.run(model.achat("Later", max_tokens=2))
        with model.stream("A story", max_tokens=400) as stream:
            next(iter(stream))
            stream.stop()
            aborted = stream.result()
        ChatInterface(model, store=store).send("What is your name?", max_tokens=5)
        with pytest.raises(ContextOverflowError):
            model.chat("word " * 3000)
    model.chat("After", max_tokens=2)

    asked = [item for item in experiment.items if isinstance(item, RequestItem)]
    assert len(asked) == len(experiment.items) == 7
    first, raw, begun, later, story, chat, failed = asked
    assert first.answer.text == reply.text
    assert first.answer.tokens == reply.tokens
    assert len(reply.tokens or ()) == reply.usage.num_completion_tokens
    assert first.answer.prompt_tokens == [one.token for one in model.prompt_tokens("Hello")]
    assert first.answer.num_prompt_tokens == len(first.answer.prompt_tokens)
    expected = SamplingSettings(max_tokens=6, seed=5, top_k=7, stop=("zzz",))
    assert sampling_of(first.sampling) == expected
    assert set(first.sampling) == set(SamplingSettings.__struct_fields__)
    assert prompt_of(raw.prompt).text == "Once upon a"
    assert raw.sampling["seed"] == raw.answer.seed is not None, "the drawn seed is recorded"
    assert begun.prompt["begin_text"] == "One"
    assert later.answer.num_completion_tokens == 2
    assert story.answer.finish_reason == "aborted"
    assert story.answer.tokens == aborted.tokens
    assert chat.answer.text
    assert failed.answer.status == "failed"
    assert failed.answer.error is not None
    assert failed.answer.error["kind"] == "ContextOverflowError"
    assert len(experiment.models) == 1
    about = experiment.models[0]
    assert about.load["n_ctx"] == 1024
    assert None not in (about.model, about.header, about.template)
    program = experiment.record.program
    assert program["package"]
    assert program["python"]
    assert program["packages"]["numpy"]
    assert program["processor"]
    assert program["num_cores"]


def test_strict_and_not_strict_are_recorded_as_such(model: Model, store: Store) -> None:
    with Experiment("Mixed", store=store) as mixed:
        model.chat("Hello", max_tokens=2)
        model.chat("Hello", max_tokens=2, reproducible=True)
        model.map(TABLE, "About {text}", max_tokens=2, progress=False)
    assert [item.strict for item in mixed.items] == [False, True, False]  # type: ignore[union-attr]
    assert not mixed.strict
    assert "1 of 3 items are strict: what was computed beside others may differ" in mixed.words
    with Experiment("Strict", store=store) as strict:
        model.map(TABLE, "About {text}", max_tokens=2, reproducible=True, progress=False)
    assert strict.strict
    assert "Strict: each answer was computed by itself." in strict.words


def test_a_batch_run_is_recorded_row_by_row_with_what_each_read_and_wrote(
    model: Model, experiment: Experiment
) -> None:
    with experiment:
        run = model.map(
            TABLE, "Good or bad? {text}", schema=["good", "bad"], reproducible=True, progress=False
        )
    (item,) = experiment.items
    assert isinstance(item, RunItem)
    assert item.run_id == run.id
    assert item.status == "finished"
    assert len(item.rows) == len(item.answers) == 4
    for values, answer in zip(TABLE["text"], item.answers, strict=True):
        read = model.prompt_tokens(f"Good or bad? {values}")
        assert answer.prompt_tokens == [one.token for one in read]
        assert answer.tokens, "also of the row that was not asked because it is like another"
        assert answer.values is not None
    frame = experiment.to_frame()
    assert list(frame["row"]) == [0, 1, 2, 3]
    assert list(frame["text"]) == [answer.text for answer in item.answers]


def test_a_comparison_is_recorded_with_the_runs_of_its_sides(
    model: Model, store: Store, manager: ModelManager, experiment: Experiment
) -> None:
    with experiment:
        found = compare(
            [model, manager.load("demo", n_ctx=512, n_seq_max=2, n_threads=1)],
            ["Hello", "What is two plus three?"],
            scores=["length"],
            max_tokens=4,
            store=store,
            manager=manager,
            progress=False,
        )
    kinds = sorted(type(item).__name__ for item in experiment.items)
    assert kinds == ["ComparisonItem", "RunItem", "RunItem"]
    comparison = next(one for one in experiment.items if isinstance(one, ComparisonItem))
    runs = {one.run_id: one for one in experiment.items if isinstance(one, RunItem)}
    assert comparison.comparison_id == found.id
    assert set(comparison.runs) == set(runs)
    assert len({run.models[0] for run in runs.values()}) == 2
    assert sorted(about.load["n_ctx"] for about in experiment.models) == [512, 1024]
    assert all(answer.tokens for run in runs.values() for answer in run.answers)
    replay = experiment.replay(manager=manager)
    assert replay.num_same + replay.num_different == 4


def test_what_goes_on_in_the_background_is_recorded_when_it_ends(
    model: Model, store: Store, manager: ModelManager, experiment: Experiment, tmp_path: Path
) -> None:
    processor = BatchProcessor(model, store=store, manager=manager)
    table = pd.DataFrame({"text": [f"thing {n}" for n in range(60)]})
    with experiment:
        run = processor.start(table, "Tell a story of {text}", max_tokens=60, ignore_eos=True)
        threading.Thread(target=lambda: model.chat("Hi", max_tokens=200), daemon=True).start()
        wait_for(lambda: len(experiment._recorder._places) == 2, "the question's beginning")
    run.wait()
    wait_for(lambda: experiment.is_complete, "the question's end")
    path = experiment.save(tmp_path / "x.json")
    items = load_experiment(path).items
    assert sorted(type(item).__name__ for item in items) == ["RequestItem", "RunItem"]
    recorded = next(item for item in items if isinstance(item, RunItem))
    assert recorded.status == "finished"
    assert all(answer.tokens for answer in recorded.answers)
    model.chat("Not this one", max_tokens=1)
    assert len(experiment.items) == 2


def test_a_run_that_was_stopped_and_went_on_later_is_saved_as_it_is_then(
    model: Model, store: Store, manager: ModelManager, experiment: Experiment, tmp_path: Path
) -> None:
    processor = BatchProcessor(model, store=store, manager=manager)
    table = pd.DataFrame({"text": [f"thing {n}" for n in range(40)]})
    with experiment:
        run = processor.start(table, "About {text}", max_tokens=50, ignore_eos=True)
        run.stop()
    (item,) = load_experiment(experiment.save(tmp_path / "stopped.json")).items
    assert isinstance(item, RunItem)
    assert item.status == "stopped"
    assert any(answer.status == "waiting" for answer in item.answers)
    replay = experiment.replay(manager=manager)
    assert replay.num_missing == sum(answer.status == "waiting" for answer in item.answers)
    run.resume().wait()
    (item,) = load_experiment(experiment.save(tmp_path / "finished.json")).items
    assert isinstance(item, RunItem)
    assert item.status == "finished"
    assert all(answer.text for answer in item.answers)


def test_two_at_once_and_a_model_that_is_unloaded_in_between(
    manager: ModelManager, store: Store
) -> None:
    with Experiment("outer", store=store) as outer:
        with manager.load("demo", n_ctx=512, n_threads=1) as model:
            model.chat("One", max_tokens=2)
            with Experiment("inner", store=store, keep=False) as inner:
                model.chat("Two", max_tokens=2)
        with manager.load("demo", n_ctx=256, n_threads=1) as model:
            model.chat("Three", max_tokens=2)
    assert len(outer.items) == 3
    assert len(inner.items) == 1
    assert [model.load["n_ctx"] for model in outer.models] == [512, 256]
    assert outer.replay(manager=manager).num_missing == 0


def test_it_is_kept_as_it_goes_and_found_again(model: Model, store: Store) -> None:
    experiment = Experiment("Kept", notes="My words", store=store).start()
    model.chat("Hello", max_tokens=3, logit_bias={5: float("-inf")})
    wait_for(lambda: bool(experiments(store=store)), "the item in the store")
    other = Experiment("Not kept", store=store, keep=False)
    with other:
        model.chat("Hello", max_tokens=3)
    experiment.close()
    assert [one.title for one in experiments(store=store)] == ["Kept"]
    again = load_experiment(experiment.id[:8], store=store)
    assert again.record == experiment.record
    assert again.digest == experiment.digest
    assert again.notes == "My words"
    assert not again.altered
    with pytest.raises(InvalidValueError, match="There is no experiment 'abcdef12'"):
        load_experiment("abcdef12", store=store)
    with pytest.raises(InvalidValueError, match="was recorded before"):
        again.start()


def test_a_store_that_cannot_be_written_to_costs_only_the_keeping(
    model: Model, store: Store, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise StoreError("The disk is full.", reason="full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "transaction", refuse)
        with experiment:
            model.chat("Hello", max_tokens=2)
    assert len(experiment.items) == 1
    (notice,) = experiment.notices
    assert notice.startswith("This experiment is not kept in the store: The disk is full.")
    assert notice in experiment._repr_html_()


def test_what_was_made_before_can_be_added(
    model: Model, store: Store, experiment: Experiment, manager: ModelManager
) -> None:
    run = model.map(TABLE, "About {text}", max_tokens=3, reproducible=True, progress=False)
    reply = model.chat("Hello", max_tokens=4, temperature=0)
    experiment.add(run)
    experiment.add_reply(model, "Hello", reply, max_tokens=4, temperature=0)
    assert [type(item).__name__ for item in experiment.items] == ["RunItem", "RequestItem"]
    replay = experiment.replay(manager=manager)
    assert replay.same
    assert "to the last character" in replay.words, "of rows of before tokens are not known"
    with pytest.raises(InvalidValueError, match="A batch run or a comparison can be added, and"):
        experiment.add(reply)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="at most 200 are kept"):
        Experiment("x" * 201)
    assert msgspec.json.decode(msgspec.json.encode(experiment.to_dict()))


def test_what_had_ended_outlives_a_program_that_is_killed(
    home: Path, store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    program = f"""
import os, gguf_widgets as gw
from gguf_widgets.core.manager import ModelManager
model = ModelManager(keep_alive=0).load({str(path)!r}, n_ctx=256, n_threads=1)
experiment = gw.Experiment("Killed").start()
model.chat("Hello", max_tokens=3, reproducible=True)
experiment._recorder.wait(30)
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=100)
    assert done.returncode == 9
    (found,) = experiments(store=store)
    assert found.title == "Killed"
    assert found.num_answers == 1
    assert found.replay(manager=manager).same
