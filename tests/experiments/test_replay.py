"""Asking again: models gone or elsewhere, a stop midway, another person's home. About 15 s."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from PIL import Image
from support.tiny_model import write_tiny_model

from gguf_widgets.core.errors import InvalidValueError, ModelNotFoundError
from gguf_widgets.core.images import image
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.experiments import Experiment, ReplayStatus, load_experiment
from gguf_widgets.experiments.finding import find
from gguf_widgets.experiments.replay import Replay
from gguf_widgets.experiments.values import Answer, ModelRecord
from gguf_widgets.experiments.verdicts import verdict_of
from tests.core.conftest import wait_for

LOAD = {"n_ctx": 512, "n_seq_max": 2, "n_threads": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def manager(manager: ModelManager, folder: Path) -> ModelManager:
    manager.library = ModelLibrary(folder)
    return manager


@pytest.fixture
def recorded(manager: ModelManager, folder: Path) -> Experiment:
    with (
        manager.load(write_tiny_model(folder / "tiny.gguf"), **LOAD) as model,
        Experiment("Moved", keep=False) as experiment,
    ):
        model.chat("Hello", max_tokens=8, reproducible=True)
        model.map(pd.DataFrame({"a": ["b", "c"]}), "{a}", max_tokens=3, reproducible=True)
    return experiment


def test_a_model_that_moved_is_found_by_what_it_holds(
    recorded: Experiment, manager: ModelManager, folder: Path
) -> None:
    write_tiny_model(folder / "decoy.gguf", seed=9)
    (folder / "deeper").mkdir()
    (folder / "tiny.gguf").rename(folder / "deeper" / "renamed.gguf")
    replay = recorded.replay(manager=manager)
    assert replay.same
    assert "The model “tiny” was found at" in replay.words
    assert "renamed.gguf" in replay.words
    assert [change.name for change in replay.changes] == []


def test_a_model_that_changed_is_used_and_named(
    recorded: Experiment, manager: ModelManager, folder: Path
) -> None:
    write_tiny_model(folder / "tiny.gguf", seed=7)
    replay = recorded.replay(manager=manager)
    assert replay.num_missing == 0
    assert [change.name for change in replay.changes] == ["model"]
    assert "The file of “tiny” has changed since." in replay.words
    assert "holds other numbers than then" in replay.words


def test_a_model_that_is_gone_costs_its_own_items_only(
    recorded: Experiment, manager: ModelManager, folder: Path
) -> None:
    with (
        manager.load(write_tiny_model(folder / "second.gguf", seed=3), **LOAD) as model,
        Experiment("Two", keep=False) as other,
    ):
        model.chat("Hello", max_tokens=4, reproducible=True)
    first = recorded.record
    moved = msgspec.structs.replace(other.items[0], model=len(first.models))
    both = msgspec.structs.replace(
        first, models=[*first.models, *other.models], items=[*first.items, moved]
    )
    (folder / "tiny.gguf").unlink()
    replay = Replay(both, manager=manager).start().wait()
    assert replay.status is ReplayStatus.FINISHED
    assert (replay.num_same, replay.num_missing) == (1, 3)
    assert replay.same is None
    assert "3 of 4 answers were not repeated: The model “tiny”" in replay.words
    assert "is not on this machine" in replay.words

    alone = recorded.replay(manager=manager)
    assert alone.status is ReplayStatus.FAILED
    assert alone.error is not None
    assert "add_folder()" in alone.error.message
    assert alone.words.startswith("No answer was repeated.")


def test_what_a_hostile_record_names_is_not_opened(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "gguf_widgets.experiments.finding._is_same", lambda path, _r: opened.append(str(path))
    )
    library = ModelLibrary(folder)
    text = tmp_path / "secret.txt"
    text.write_text("secret")
    for path in (
        "\\\\evil\\share\\m.gguf",
        "//evil/m.gguf",
        "m.gguf",
        "a\0.gguf",
        str(text),
        "/dev/zero",
    ):
        with pytest.raises(ModelNotFoundError, match="is not on this machine"):
            find(ModelRecord(name="x", path=path, header="1-a"), library)
    assert opened == []


def test_another_model_is_asked_where_it_is_wanted(
    recorded: Experiment, manager: ModelManager, folder: Path
) -> None:
    with manager.load(write_tiny_model(folder / "other.gguf", seed=5), **LOAD) as other:
        for chosen in (other, "other", folder / "other.gguf", {"tiny": other}):
            replay = recorded.replay(model=chosen, manager=manager)
            assert [change.name for change in replay.changes] == ["model"]
        assert other.loaded, "a model of the person's is not unloaded"
    with pytest.raises(InvalidValueError, match="no model 'big'; its models are tiny"):
        recorded.replay(model={"big": "other"}, manager=manager)
    with pytest.raises(InvalidValueError, match="this is a int"):
        recorded.replay(model=5, manager=manager)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="no setting called 'temprature'"):
        recorded.replay(sampling={"temprature": 1}, manager=manager)


def test_it_can_be_stopped_and_gone_on_with_and_nothing_is_asked_twice(
    manager: ModelManager, store: Store
) -> None:
    model = manager.load("demo", n_ctx=1024, n_seq_max=4, n_threads=1)
    table = pd.DataFrame({"a": [f"thing {n}" for n in range(150)]})
    with Experiment("Long", store=store) as experiment:
        model.chat("Hello", max_tokens=4, reproducible=True)
        model.map(
            table, "About {a}", max_tokens=8, ignore_eos=True, reproducible=True, progress=False
        )
        model.chat("Hello again", max_tokens=4, reproducible=True)
    seen: list[float] = []
    enough = threading.Event()

    def look(fraction: float, _phrase: str) -> None:
        seen.append(fraction)
        if fraction > 0.2:
            enough.set()

    replay = experiment.replay(wait=False, progress=look, manager=manager)
    assert enough.wait(60)
    replay.stop()
    assert replay.status is ReplayStatus.STOPPED
    assert replay.same is None
    before = replay.num_same
    assert 1 < before < 152
    assert replay.num_same + replay.num_missing == 152
    assert f"It was stopped: {replay.num_missing:,} of 152 answers were not asked again." in (
        replay.words
    )
    asked = model.stats().engine.total_completion_tokens
    replay.start().wait()
    assert replay.status is ReplayStatus.FINISHED
    assert replay.same
    assert (replay.num_same, replay.num_missing) == (152, 0)
    new = model.stats().engine.total_completion_tokens - asked
    assert new <= 8 * (152 - before), "what was done is not asked again"
    assert seen == sorted(seen) or min(seen[1:]) >= 0
    assert seen[-1] == 1.0


def test_a_callback_that_says_no_stops_it_and_an_interrupt_keeps_what_is_there(
    recorded: Experiment, manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = recorded.replay(progress=lambda *_: False, manager=manager)
    assert replay.status is ReplayStatus.STOPPED
    waits = iter([False])

    def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
        if next(waits, None) is None:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return False

    replay = recorded.replay(wait=False, manager=manager)
    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replay.wait()
    assert recorded.last_replay is replay
    assert replay.status in (ReplayStatus.STOPPED, ReplayStatus.FINISHED)
    assert replay.start().wait().same


def test_it_is_repeated_in_another_persons_home(
    recorded: Experiment,
    manager: ModelManager,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = recorded.save(tmp_path / "x.json")
    assert recorded.models[0].sha256 is not None
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    shutil.move(str(folder / "tiny.gguf"), theirs / "model.gguf")
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(tmp_path / "their-home"))
    with ModelManager(ModelLibrary(theirs), keep_alive=0.5) as other:
        found = load_experiment(path)
        assert found.record == recorded.record
        replay = found.replay(manager=other)
        assert replay.same
        assert replay.num_same == 3
        wait_for(lambda: not other.workers(), "the workers' end")


def test_images_go_into_the_record_and_out_again(
    manager: ModelManager, store: Store, tmp_path: Path
) -> None:
    model = manager.load("demo", n_ctx=512, n_threads=1)
    if not model.sees_images:
        pytest.skip("needs the demo model's image companion")
    red, blue = (Image.new("RGB", (56, 56), colour) for colour in ("red", "blue"))
    question = [{"role": "user", "content": ["What is this?", image(red)]}]
    with Experiment("Seen", store=store) as experiment:
        model.chat(question, max_tokens=6, reproducible=True)
        model.map(
            pd.DataFrame({"photo": [red, blue]}),
            "What is in {photo}?",
            images="photo",
            max_tokens=4,
            reproducible=True,
            progress=False,
        )
    found = load_experiment(experiment.save(tmp_path / "x.json"))
    replay = found.replay(manager=manager)
    assert replay.words == "All 3 answers are the same, to the last token."
    without = found.replay(load={"mmproj": False}, manager=manager)
    assert without.num_different == 3
    assert "mmproj" in [change.name for change in without.changes]


def test_demo_mode_is_recorded_and_repeated_as_what_it_is(
    manager: ModelManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
    model = manager.load("demo", backend="scripted")
    with Experiment("Demo", store=store) as experiment:
        model.chat("Hello", max_tokens=5)
    assert experiment.models[0].backend == "scripted"
    assert experiment.replay(manager=manager).same
    replay = experiment.replay(model="demo", manager=manager)  # where llama.cpp is installed
    if replay.record.program["engine"]:
        assert "model" in [change.name for change in replay.changes]
        assert "(Q8_0, " in replay.words


def test_answers_are_compared_as_far_as_they_came() -> None:
    def answer(text: str | None = None, **more: Any) -> Answer:
        return Answer(text=text, **more)

    failed = answer(status="failed", error={"kind": "E", "message": "No.", "details": {}})
    other = answer(status="failed", error={"kind": "F", "message": "Other.", "details": {}})
    stopped = answer("One t", finish_reason="aborted")
    assert verdict_of(answer("One two"), answer("One two")).state == "same"
    assert verdict_of(stopped, answer("One two")).state == "same"
    assert verdict_of(answer("One two"), stopped).state == "same"
    assert verdict_of(stopped, answer("Two")).state == "different"
    assert verdict_of(answer("One two"), answer("One")).state == "different"
    assert verdict_of(failed, failed).state == "same"
    assert "an error (Other.)" in verdict_of(failed, other).words
    assert (
        "It was answered then, and is an error (No.) now." in verdict_of(answer("a"), failed).words
    )
    assert verdict_of(answer(status="waiting"), answer("a")).state == "not repeated"
    assert verdict_of(answer("a"), answer(status="waiting")).state == "not repeated"
    found = verdict_of(answer("abc", tokens=[1, 2]), answer("abd", tokens=[1, 3]))
    assert (found.token, found.character) == (1, 2)
    assert "from token 2 on: “c” then, “d” now" in found.words
    assert "with other tokens" in verdict_of(answer("a", tokens=[1]), answer("a", tokens=[2])).words
    read = verdict_of(answer("a", values={"x": 1}), answer("a", values={"x": 2}))
    assert "read as other values" in read.words
