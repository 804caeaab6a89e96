"""A result written in stretches is the one that is in memory as a whole."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from gguf_widgets.batch import files, saving
from gguf_widgets.batch.processor import BatchProcessor, resume
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.errors import BatchError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store

REVIEWS = [f"{'I love it' if i % 2 else 'It broke'} {i}" for i in range(11)]


def save(path: Path, run: BatchRun, store: Store) -> files.Written:
    record = BatchRuns(store).get(run.id)
    return saving.save_result(path, record, run.spec, RunTasks(store, run.id))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_it_is_written_as_the_frame_would_be(
    processor: BatchProcessor,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
) -> None:
    monkeypatch.setattr(saving, "_STRETCH_ROWS", 4)
    index = pd.Index([f"r{i}" for i in range(11)], name="who")
    table = pd.DataFrame({"review": REVIEWS, "x": [None, *range(10)]}, index=index)
    run = processor.run(
        table, "Good or bad? {review}", schema=["good", "bad"], n=2, temperature=1.0
    )
    run.edit(9, {"reply": "good"})
    RunTasks(store, run.id).forget([21])  # one waits
    written = save(tmp_path / f"a{ending}", run, store)
    assert written.num_rows == 22
    read = {
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
    }[ending]
    whole = run.to_frame()
    files.write(tmp_path / f"b{ending}", whole)
    ours, theirs = read(tmp_path / f"a{ending}"), read(tmp_path / f"b{ending}")
    assert set(ours) == set(theirs)
    for name in ours:
        left, right = ours[name].astype("object"), theirs[name].astype("object")
        assert left.isna().tolist() == right.isna().tolist(), name
        assert left.dropna().tolist() == right.dropna().tolist(), name
    assert ours["edited"].sum() == 1


def test_the_plain_index_of_a_frame_is_no_column(
    processor: BatchProcessor, store: Store, tmp_path: Path
) -> None:
    run = processor.run({"review": REVIEWS[:2]}, "Good? {review}", max_tokens=2)
    save(tmp_path / "a.csv", run, store)
    assert list(pd.read_csv(tmp_path / "a.csv"))[:2] == ["review", "reply"]


def test_an_image_of_pillows_is_written_as_a_png_file(
    processor: BatchProcessor, tmp_path: Path
) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    table = {"photo": [pillow.new("RGB", (3, 2), "red"), None], "text": ["a", "b"]}
    run = processor.prepare(table, "Say {text}")  # it is carried along; nobody asks about it
    first, second = pd.read_parquet(run.save(tmp_path / "a.parquet"))["photo"]
    assert pillow.open(io.BytesIO(first)).size == (3, 2)
    assert second is None
    assert run.to_frame()["photo"][0].size == (3, 2)


def test_what_would_make_it_another_model_is_no_setting_to_change(
    processor: BatchProcessor,
) -> None:
    run = processor.prepare(REVIEWS, "Good or bad? {text}")
    for settings in ({"chat_template": "chatml"}, {"lora": "/a.gguf"}):
        with pytest.raises(BatchError, match="rows of two models must not be mixed"):
            run._work().model_with(settings)
    assert run._work().model_with({"n_seq_max": 2}).settings.n_seq_max == 2


def test_a_run_goes_on_with_what_it_began_with_in_demo_mode_too(
    processor: BatchProcessor,
    store: Store,
    manager: ModelManager,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = processor.prepare(["Hello"], "Say {text}", max_tokens=3)
    assert model.info.backend == "llama.cpp"
    model.unload()
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")  # as where no engine is installed
    again = resume(run.id, store=store, manager=manager)
    assert again.status is RunStatus.FINISHED
    (loaded,) = manager.loaded()
    assert loaded.info.backend == "llama.cpp"
    prepared = manager.load("demo", backend="scripted")
    with pytest.raises(BatchError, match="Make a new run"):
        again.use_model(prepared)
