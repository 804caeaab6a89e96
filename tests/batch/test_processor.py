"""A table in, a typed table out: with the demo model, a real worker and a real store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest

import gguf_widgets as gw
from gguf_widgets.batch.cluster import Cluster
from gguf_widgets.batch.processor import BatchProcessor, resume, runs
from gguf_widgets.core.errors import BatchError, InvalidValueError, RowError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_types import RunStatus
from gguf_widgets.core.store.store import Store
from tests.core.conftest import wait_for

REVIEWS = pd.DataFrame(
    {
        "review": ["I love it, a great lamp!", "It broke at once. Terrible.", "I love it."],
        "stars": [5, 1, 4],
    },
    index=pd.Index(["c", "a", "a"], name="who"),
)
LABEL = "Is this review positive or negative? {review}"
ORDER = {
    "type": "object",
    "properties": {
        "item": {"type": "string"},
        "quantity": {"type": "integer"},
        "to": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
    "required": ["item", "quantity", "to"],
    "additionalProperties": False,
}


def test_the_result_is_the_table_with_typed_columns_behind_it(processor: BatchProcessor) -> None:
    run = processor.run(REVIEWS, LABEL, schema=Literal["negative", "positive"])
    frame = run.to_frame()
    pd.testing.assert_frame_equal(frame[["review", "stars"]], REVIEWS)
    assert frame["reply"].tolist() == ["positive", "negative", "positive"]
    assert frame["reply"].cat.categories.tolist() == ["negative", "positive"]
    assert frame["status"].tolist() == ["done"] * 3
    sums = frame["reply.p.negative"] + frame["reply.p.positive"]
    assert sums.sub(1).abs().max() < 1e-9
    assert frame["certainty"].between(0.5, 1).all()
    assert frame["num_prompt_tokens"].dtype == "Int64"
    assert frame["error"].isna().all()
    assert run.status is RunStatus.FINISHED
    assert "3 of 3 rows, finished" in repr(run)


def test_nested_parts_become_dotted_columns_and_equal_rows_are_asked_once(
    processor: BatchProcessor,
) -> None:
    table = ["I want 3 red lamps sent to Berlin."] * 5 + ["I want 12 chairs sent to Paris."]
    run = processor.run(table, "Read this order as JSON: {text}", schema=ORDER)
    frame = run.to_frame()
    assert [str(frame[name].dtype) for name in ("item", "quantity", "to.city")] == [
        "string",
        "Int64",
        "string",
    ]
    assert len(frame) == 6
    assert frame["attempts"].tolist() == [1, 0, 0, 0, 0, 1]
    assert frame["item"].nunique() <= 2
    assert frame["total_s"].isna().tolist() == [False, True, True, True, True, False]


def test_samples_and_several_prompts_and_models(
    processor: BatchProcessor, model: Model, manager: ModelManager, store: Store
) -> None:
    run = processor.run(REVIEWS, "Go on: {review}", n=3, temperature=0.9, max_tokens=8)
    frame = run.to_frame()
    assert frame.index.tolist() == ["c"] * 3 + ["a"] * 6
    assert frame["sample"].tolist() == [0, 1, 2] * 3
    assert frame["seed"].nunique() == 9
    # The same seeds, whoever asks: a retry of all gives the same replies.
    again = run.retry(range(9)).wait().to_frame()
    assert again["seed"].tolist() == frame["seed"].tolist()

    wide = processor.run(
        REVIEWS,
        {"tone": LABEL, "short": "Say this in two words: {review}"},
        schema={"tone": ["positive", "negative"]},
        max_tokens=6,
    ).to_frame()
    assert wide.index.tolist() == REVIEWS.index.tolist()
    assert str(wide["tone"].dtype) == "category"
    assert str(wide["short"].dtype) == "string"
    assert {"tone.status", "short.status", "short.num_completion_tokens"} <= set(wide)

    other = manager.load("demo", n_ctx=256)
    two = BatchProcessor([model, other], store=store, manager=manager)
    long = two.run(REVIEWS, LABEL, schema=["positive", "negative"]).to_frame()
    assert long["review"].tolist() == [r for r in REVIEWS["review"] for _ in range(2)]
    assert long["status"].tolist() == ["done"] * 6


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"prompt": "About {reveiw}"}, 'did you mean "review"'),
        ({"prompt": LABEL, "schema": []}, "choice"),
        ({"prompt": LABEL, "temprature": 1}, "Did you mean 'temperature'"),
        ({"prompt": LABEL, "temperature": 9}, "temperature"),
        ({"prompt": LABEL, "n": 0}, "from 1 to 256"),
        ({"prompt": LABEL, "grammar": "root ::= x"}, "cannot be set here"),
        ({"prompt": LABEL, "missing": "ignore"}, "refuse"),
        ({"prompt": ""}, "empty"),
        ({"prompt": LABEL, "schema": {"type": "object", "minProperties": -1}}, "."),
    ],
)
def test_whatever_is_wrong_is_said_before_a_row_is_asked(
    processor: BatchProcessor, store: Store, how: dict[str, Any], says: str
) -> None:
    how = dict(how)
    prompt = how.pop("prompt")
    with pytest.raises(InvalidValueError, match=says):
        processor.run(REVIEWS, prompt, **how)
    assert BatchRuns(store).recent() == []


def test_names_values_and_columns_that_cannot_be_leave_nothing_behind(
    processor: BatchProcessor, store: Store
) -> None:
    with pytest.raises(InvalidValueError, match='a column called "status"'):
        processor.run(REVIEWS.rename(columns={"stars": "status"}), LABEL)
    with pytest.raises(InvalidValueError, match='a column called "reply"'):
        processor.run(REVIEWS.rename(columns={"stars": "reply"}), LABEL)
    with pytest.raises(RowError, match='Row 2, column "x" holds a object'):
        processor.run({"review": ["a", "b"], "x": [1, object()]}, LABEL)
    gone = REVIEWS.assign(review=["fine", None, float("nan")])
    with pytest.raises(InvalidValueError, match=r"2 of (the )?3 rows"):
        processor.run(gone, LABEL)
    assert BatchRuns(store).recent() == []
    frame = processor.run(gone, LABEL, missing="skip", schema=["positive", "negative"]).to_frame()
    assert frame["status"].tolist() == ["done", "skipped", "skipped"]
    assert frame["error"].notna().tolist() == [False, True, True]
    assert frame["reply"].isna().tolist() == [False, True, True]


def test_rows_that_do_not_fit_or_cannot_be_read_say_so_and_the_rest_is_done(
    processor: BatchProcessor,
) -> None:
    table = {"review": ["fine", "very " * 5000, "good"], "x": [1, 2, 3]}
    run = processor.run(table, LABEL + " {x:d}", schema=["positive", "negative"])
    frame = run.to_frame()
    assert frame["status"].tolist() == ["done", "failed", "done"]
    assert "context" in frame["error"].iloc[1]
    cut = processor.run(["3 lamps to Berlin"], "As JSON: {text}", schema=ORDER, max_tokens=3)
    assert cut.to_frame()["status"].tolist() == ["failed"]
    assert "Raise max_tokens" in cut.to_frame()["error"].iloc[0]


def test_model_map_is_the_same_in_one_call(
    model: Model, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    run = model.map(REVIEWS, LABEL, schema=["positive", "negative"], progress=False)
    assert isinstance(run, gw.BatchRun)
    assert run.to_frame()["reply"].tolist() == ["positive", "negative", "positive"]
    found = runs(limit=5)
    assert [one.id for one in found] == [run.id]
    assert found[0].title == LABEL
    found[0].title = "Reviews"
    assert run.title == "Reviews"


def test_asynchronously_rows_come_as_they_end(processor: BatchProcessor) -> None:
    async def use() -> tuple[list[dict[str, Any]], Any]:
        run = processor.start(REVIEWS, LABEL, schema=["positive", "negative"])
        rows = [row async for row in run.rows()]
        return rows, await run

    rows, run = asyncio.run(use())
    assert sorted(row["row"] for row in rows) == [0, 1, 2]
    assert {row["review"]: row["reply"] for row in rows} == {
        "I love it, a great lamp!": "positive",
        "It broke at once. Terrible.": "negative",
        "I love it.": "positive",
    }
    assert run.status is RunStatus.FINISHED

    async def later() -> list[dict[str, Any]]:
        return [row async for row in run.rows()]

    assert asyncio.run(later()) == sorted(rows, key=lambda row: row["row"])


def test_stopped_and_gone_on_with_and_the_settings_changed_on_the_way(
    processor: BatchProcessor, store: Store, manager: ModelManager
) -> None:
    table = [f"A story about Emma and {i} lamps" for i in range(300)]
    run = processor.start(table, "Tell me {text}", max_tokens=40)
    wait_for(lambda: run.progress.counts.done > 20, "some rows")
    run.pause()
    wait_for(lambda: run.status is RunStatus.PAUSED, "the pause")
    with pytest.raises(BatchError, match="being carried out"):
        run.retry_failed()
    with pytest.raises(BatchError, match="being carried out"):
        run.start(executor=Cluster.__new__(Cluster))  # it is not moved there in silence
    run.resume()
    run.change(n_seq_max=3)
    wait_for(lambda: run.progress.counts.done > 60, "more rows")
    run.stop()
    assert run.status is RunStatus.STOPPED
    left = run.counts.waiting
    assert 0 < left < 300
    with pytest.raises(BatchError, match="not being carried out here"):
        run.pause()
    done = resume(run.id[:10], store=store, manager=manager)
    assert done.status is RunStatus.FINISHED
    frame = done.to_frame()
    assert frame["status"].eq("done").all()
    assert frame["attempts"].eq(1).all()


def test_a_chat_template_of_ones_own_stays_when_the_settings_change(
    store: Store, manager: ModelManager
) -> None:
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %} And so"
    own = manager.load("demo", chat_template=template, n_seq_max=2)
    table = [f"a story about Emma and lamp {i:04}" for i in range(2000)]
    run = BatchProcessor(own, store=store, manager=manager).start(table, "{text}", max_tokens=20)
    wait_for(lambda: run.counts.done > 10, "some rows")
    run.change(n_seq_max=3)
    changed_at = run.counts.done
    wait_for(lambda: run.counts.done > changed_at + 50, "rows with the other settings")
    run.stop()
    frame = run.to_frame().query("status == 'done'")
    assert len(frame) > changed_at
    assert frame["num_prompt_tokens"].nunique() == 1, "all are asked with the same template"


def test_a_value_changed_by_hand_is_kept_beside_the_models_own(processor: BatchProcessor) -> None:
    run = processor.run(REVIEWS, LABEL, schema=["positive", "negative"])
    assert "edited" not in run.to_frame()
    run.edit(1, {"reply": "positive"})
    frame = run.to_frame()
    assert frame["reply"].tolist() == ["positive"] * 3
    assert frame["edited"].tolist() == [False, True, False]
    run.edit(1, None)
    assert run.to_frame()["reply"].tolist() == ["positive", "negative", "positive"]


def test_another_file_in_the_models_place_is_refused(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    from gguf_widgets import demo

    path = tmp_path / "mine.gguf"
    path.write_bytes(demo.demo_model_path().read_bytes())
    model = manager.load(path)
    run = BatchProcessor(model, store=store, manager=manager).prepare(REVIEWS, LABEL)
    model.unload()
    data = bytearray(path.read_bytes())
    at = data.index(b"general.name")
    data[at + 24] ^= 1  # in the name itself
    path.write_bytes(data)
    with pytest.raises(BatchError, match="is another one than when the run began"):
        resume(run.id, store=store, manager=manager)
    path.unlink()
    with pytest.raises(BatchError, match="is not at"):
        resume(run.id, store=store, manager=manager)
    assert BatchRuns(store).get(run.id).status is RunStatus.FAILED


INTERRUPTED = """
import gguf_widgets as gw
model = gw.load("demo")
table = [f"A story about {i} lamps" for i in range(3000)]
print("begin", flush=True)
model.map(table, "Tell me {text}", max_tokens=60, progress=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="the signal of Ctrl+C")
def test_ctrl_c_in_a_script_keeps_what_is_done_and_says_how_to_go_on(home: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begin\n"

    def some_are_done() -> bool:
        with Store() as store:
            return any(run.counts.done > 30 for run in runs(store=store))

    wait_for(some_are_done, "some rows")
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in said
    with Store() as store:
        (run,) = runs(store=store)
        assert run.status is RunStatus.STOPPED
        assert 30 < run.counts.done < 3000
        assert f"gguf_widgets.resume('{run.id[:8]}')" in said
