"""What a run will be like is told before it begins, and holds."""

from __future__ import annotations

import time

import pytest

from gguf_widgets.batch.processor import BatchProcessor
from gguf_widgets.core.errors import BatchError
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_types import RunStatus
from tests.core.conftest import wait_for

ASK = "Is this review positive or negative? {review}"


def test_lengths_rows_that_do_not_fit_and_what_is_shared(
    processor: BatchProcessor, model: Model
) -> None:
    texts = [f"Number {i} is {'very ' * (i % 7)}good" for i in range(400)]
    too_long = [13, 200, 399]
    for i in too_long:
        texts[i] = f"{i} " + "endless " * 3000
    run = processor.prepare(texts, ASK.replace("review}", "text}"), schema=["good", "bad"])
    found = run.preflight(sample=0)
    assert (found.num_rows, found.num_tasks, found.num_asked) == (400, 400, 400)
    assert found.num_too_long == 3
    assert list(found.too_long) == too_long
    assert found.is_exact
    counts = sorted(
        model.count_tokens([{"role": "user", "content": ASK.format(review=text)}]) for text in texts
    )
    assert found.prompt_tokens[0] >= counts[0]
    assert found.prompt_tokens[3] == counts[-1]
    assert abs(found.prompt_tokens[1] - counts[200]) <= 3
    # The template's own words, and what the chat template puts in front of them.
    begin = model.tokenize(model.render(ASK.partition("{")[0]), add_special=True)
    assert 5 < found.num_shared_tokens <= len(begin)
    assert found.seconds is None
    assert found.memory_bytes is not None
    assert found.memory_bytes > model.path.stat().st_size
    assert " of memory, however many rows there are; " in str(found)
    frame = run.start().wait().to_frame()
    assert frame.index[frame["status"] == "failed"].tolist() == too_long
    assert frame["num_cached_tokens"].dropna().gt(0).mean() > 0.9


def test_the_time_is_told_from_rows_that_were_asked_and_these_are_kept(
    processor: BatchProcessor,
) -> None:
    table = [f"a story about Emma and {i} lamps" for i in range(200)]
    run = processor.prepare(table, "Tell me {text}", max_tokens=30)
    found = run.preflight()
    assert run.status is RunStatus.READY
    done = run.counts.done
    assert done == found.num_sampled > 0
    assert found.seconds is not None
    low, high = found.seconds
    assert 0 < low < high
    text = str(found)
    assert "200 rows, 200 replies to ask for" in text
    assert f"from {done} rows that were asked" in text
    begin = time.perf_counter()
    run.start().wait()
    took = time.perf_counter() - begin
    assert low / 20 < took < high * 20, "it is no promise, but no fancy either"
    frame = run.to_frame()
    assert frame["attempts"].eq(1).all(), "what was asked for the time is not asked again"
    assert run.preflight().num_asked == 0
    assert run.status is RunStatus.FINISHED


def test_rows_alike_count_once_and_a_run_under_way_is_left_alone(
    processor: BatchProcessor,
) -> None:
    run = processor.prepare(["same"] * 50 + ["other"], "About {text}", max_tokens=5)
    assert run.preflight(sample=0).num_asked == 2
    slow = processor.start([f"{i}" for i in range(300)], "Story {text}", max_tokens=60)
    wait_for(lambda: slow.progress.counts.done > 2, "some rows")
    with pytest.raises(BatchError, match="being carried out"):
        slow.preflight()
    slow.stop()
