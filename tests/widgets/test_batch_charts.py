"""What the charts of a batch run show, in bins, in words; and the way of plotly.js to a page."""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.batch_page import LABELS, PROMPT, Page, reviews

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.store.batch_window import BatchWindow
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Timings, Usage
from gguf_widgets.widgets import _plotly
from gguf_widgets.widgets._batch_charts import Charts
from gguf_widgets.widgets._chart_bins import bins_of
from gguf_widgets.widgets._plotly import plotly_piece

Open = Callable[..., Page]


# -- bins ------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(-50, 50).map(float)),
        max_size=300,
    ),
    st.booleans(),
)
@example([5e-324], False)
@example([0.0, 1e-322, 3e-323], False)
def test_every_number_is_in_the_bin_that_it_belongs_to(values: list[float], whole: bool) -> None:
    known = [value for value in values if np.isfinite(value)]
    if whole:
        values = known = [float(round(value)) for value in known if abs(value) < 1e9]
    bins = bins_of(values, whole=whole)
    if not known:
        assert bins is None
        return
    assert bins is not None
    (counts,) = bins.counts
    assert sum(counts) == bins.num == len(known)
    assert len(counts) <= 60
    edges, last = bins.edges, len(counts) - 1
    slack = 1e-6 * bins.step
    for i, count in enumerate(counts):
        low, high = edges[i] - slack, edges[i + 1] + slack
        clipped = np.clip(known, -1e150, 1e150)
        inside = (clipped >= low) & ((clipped <= high) | (bins.has_more and i == last))
        assert inside.sum() >= count
    if whole:
        assert bins.step >= 1
        assert float(bins.step).is_integer()


def test_what_lies_far_away_is_in_the_last_bin_and_does_not_flatten_the_rest() -> None:
    near = np.linspace(0.1, 0.9, 990)
    bins = bins_of(np.concatenate([near, np.full(5, 100.0)]))
    assert bins is not None
    assert bins.has_more
    assert bins.counts[0][-1] >= 5
    assert sum(count > 0 for count in bins.counts[0]) > 15
    assert bins.most == 100


def test_few_whole_numbers_have_a_bin_each() -> None:
    groups = np.array([0, 0, 0, 1, 1])
    bins = bins_of([1, 5, 5, 3, 5], groups, num_groups=2, whole=True)
    assert bins is not None
    assert bins.is_single
    assert bins.edges[:-1] == [1, 2, 3, 4, 5]
    assert bins.counts == [[1, 0, 0, 0, 2], [0, 0, 1, 0, 1]]


# -- charts of a run -------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["good", "bad", "mixed"]},
        "stars": {"type": "integer"},
        "why": {"type": "string"},
    },
    "required": ["label", "stars", "why"],
    "additionalProperties": False,
}


def made_run(store: Store, num_rows: int, models: int = 1) -> str:
    """Put a run into the store that is done, without a model."""
    spec = Spec(
        (Prompt(Template.parse("{text}"), Output.parse(SCHEMA)),),
        tuple(ModelRef(f"model {i}", "", "") for i in range(models)),
        {},
    )
    columns = [{"name": "text", "dtype": "str"}]
    run = BatchRuns(store).create(spec.to_dict(), columns, num_models=models)
    tasks = RunTasks(store, run.id)
    tasks.add_rows(json.dumps([f"row {i}"]) for i in range(num_rows))

    def outcome(i: int) -> Outcome:
        row, model = divmod(i, models)
        is_copy = row % 10 == 9
        timings = Timings(
            queue_s=100.0, prefill_s=0.1, decode_s=0.2, ttft_s=100.1, total_s=100.5 + row % 4
        )
        usage = Usage(num_prompt_tokens=50, num_cached_tokens=0, num_completion_tokens=1 + row % 7)
        label = ("good", "bad")[row % 2] if model == 0 else "mixed"
        return Outcome(
            number=i,
            status=TaskStatus.FAILED if row % 10 == 8 else TaskStatus.DONE,
            values={"label": label, "stars": row % 5, "why": "so"},
            usage=usage,
            timings=None if is_copy else timings,
        )

    for start in range(0, num_rows * models, 5000):
        stop = min(start + 5000, num_rows * models)
        tasks.save([(outcome(i), f"{i:032x}") for i in range(start, stop)])
    return run.id


class _Run:
    """What `Charts` needs of a run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.id = run_id
        self.spec = Spec.from_dict(BatchRuns(store).get(run_id).spec)


def charts_of(store: Store, run_id: str) -> dict[str, dict[str, Any]]:
    charts = Charts(_Run(store, run_id), store)  # type: ignore[arg-type]
    return {one["key"]: one for one in charts.view()["charts"]}


def test_charts_tell_what_the_rows_hold(store: Store) -> None:
    run_id = made_run(store, 1000)
    RunTasks(store, run_id).edit(0, {"label": "mixed", "stars": 9, "why": "by hand"})
    charts = charts_of(store, run_id)
    assert list(charts) == ["labels:label", "numbers:stars", "seconds", "prompt", "reply"]
    rows = [i for i in range(1000) if i % 10 != 8]  # 8 failed
    label = charts["labels:label"]
    assert label["values"] == ["good", "bad", "mixed"]
    good = sum(i % 2 == 0 for i in rows) - 1
    assert label["series"] == [{"name": "", "counts": [good, 500, 1]}]
    assert label["words"] == f"bad 500 (56%), good {good} (44%), mixed 1 (less than 1%)."
    stars = charts["numbers:stars"]
    assert stars["edges"] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert stars["column"] == "stars"  # a bar can choose its rows
    counts = [sum(i % 5 == star for i in rows) for star in range(5)]
    assert stars["series"][0]["counts"] == [counts[0] - 1, *counts[1:], 0, 0, 0, 0, 1]
    # Waiting is no work, and a row that was answered from another one took none.
    seconds = charts["seconds"]
    asked = [i for i in rows if i % 10 != 9]
    assert sum(seconds["series"][0]["counts"]) == len(asked)
    assert "the slowest 3.5 s" in seconds["words"]
    assert charts["prompt"]["words"] == "All prompts have 50 tokens."
    assert sum(charts["reply"]["series"][0]["counts"]) == len(asked)


def test_models_are_told_apart_and_figures_cost_the_same_for_many_rows(store: Store) -> None:
    few, many = made_run(store, 50, models=2), made_run(store, 20_000, models=2)
    sizes = {}
    for run_id in (few, many):
        charts = charts_of(store, run_id)
        first, second = charts["labels:label"]["series"]
        assert (first["name"], second["name"]) == ("model 0", "model 1")
        assert first["counts"][2] == 0 < second["counts"][2]
        assert second["counts"][:2] == [0, 0]
        words = charts["labels:label"]["words"]
        assert re.match(r"model 0: (good|bad) .* model 1: mixed [\d,]+ \(100%\)\.$", words)
        sizes[run_id] = len(json.dumps(charts))
    assert sizes[many] < 1.2 * sizes[few] + 200


def test_a_run_without_rows_has_charts_without_figures(store: Store) -> None:
    charts = charts_of(store, made_run(store, 0))
    assert charts["labels:label"]["words"] == "No row is done yet."
    assert charts["seconds"]["words"] == "No figures yet."
    assert charts["seconds"]["edges"] == []


def test_what_is_no_number_in_a_column_of_numbers_is_not_counted(store: Store) -> None:
    run_id = made_run(store, 10)
    tasks = RunTasks(store, run_id)
    for number, stars in enumerate([None, "many", True, 3, 3.5]):
        tasks.edit(number, {"label": "good", "stars": stars, "why": ""})
    figures = BatchWindow(store, run_id).figures(["stars"])
    assert sorted(figures.columns["stars"][:5].tolist(), key=str)[:2] == [3.0, 3.5]
    assert np.isnan(figures.columns["stars"][:3]).all()


def test_a_page_gets_charts_that_agree_with_the_table(open_batch: Open, model: Model) -> None:
    page = open_batch(model, reviews(24))
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS))
    assert "No run is open" in page.ask("charts")["error"]["message"]
    page.run_to_end()
    answer = page.ask("charts")
    assert answer["version"] == page.state["version"]
    chart = answer["charts"][0]
    counted = dict(zip(chart["values"], chart["series"][0]["counts"], strict=True))
    frame = page.widget.run.to_frame()  # type: ignore[union-attr]
    assert counted == {label: int((frame["reply"] == label).sum()) for label in LABELS}
    assert page.rows(where={"reply": LABELS[0]})["total"] == counted[LABELS[0]]


# -- plotly.js -------------------------------------------------------------------------------------


def test_plotly_goes_to_a_page_in_pieces(open_batch: Open) -> None:
    page = open_batch()
    packed, size = b"", 1
    while len(packed) < size:
        answer = page.ask("plotly", offset=len(packed))
        assert len(answer["buffers"][0]) <= 1 << 20
        size, packed = answer["size"], packed + answer["buffers"][0]
    spec = importlib.util.find_spec("plotly")
    assert spec is not None
    assert b"Plotly" in gzip.decompress(packed)
    assert len(packed) < 2_000_000
    for offset in (-1, size, "0", None, True):
        assert "for a page" in page.ask("plotly", offset=offset)["error"]["message"]


@pytest.mark.parametrize("version", [None, "5.24.1"])
def test_without_plotly_it_is_said_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, version: str | None
) -> None:
    _plotly._library.cache_clear()
    if version is None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    else:
        monkeypatch.setattr(importlib.metadata, "version", lambda _name: version)
    with pytest.raises(MissingDependencyError, match=r"gguf-widgets\[charts\]"):
        plotly_piece({"offset": 0})
    monkeypatch.undo()
    _plotly._library.cache_clear()
    with pytest.raises(InvalidValueError):
        plotly_piece({})
