"""A result written in stretches is the one that is in memory as a whole."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gguf_widgets.batch import files, saving
from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
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
