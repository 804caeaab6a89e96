"""Figures, words, pictures and files of comparisons with made-up answers. About 20 s."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

import gguf_widgets as gw
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.making import compare, prepare
from gguf_widgets.compare.memory import Memory
from gguf_widgets.compare.scoring import Own
from gguf_widgets.compare.sides import Side
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError, TableFileError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import LoadSettings
from tests.compare.made_up import made_up

HOSTILE = "<img src=x onerror=alert(1)> " + "=1+1"


def right_and_wrong(store: Store, num: int = 40, **more: Any) -> Comparison:
    """`good` is right in 9 of 10, `bad` in 3 of 10; `bad` is much longer, one answer failed."""
    return made_up(
        store,
        {
            "good": ["yes" if i % 10 else "no" for i in range(num)],
            "bad": [None if i == 0 else "yes" if i % 10 < 4 else "no no no no" for i in range(num)],
        },
        references=["yes"] * num,
        scores=[
            "exact",
            "length",
            "time",
            Own(lambda t, _r, _row: -len(t), name="own", better="low"),
        ],
        **more,
    )


# -- figures and words -----------------------------------------------------------------------------


def test_figures_are_those_that_one_can_count_by_hand(store: Store) -> None:
    made = right_and_wrong(store)
    good, bad = made.summaries()
    assert good.scores["exact"].mean == 0.9
    assert (bad.num_done, bad.num_failed, bad.num_waiting) == (39, 1, 0)
    assert bad.scores["exact"].mean == pytest.approx(15 / 39)
    assert good.state.tok_per_s == 50.0
    assert good.total_s == pytest.approx(0.2), "without the time that it waited its turn"
    found = made.difference("good", "bad", "exact")
    assert (found.num_pairs, found.num_left_out) == (39, 1)
    assert (found.num_a, found.num_b, found.num_same) == (24, 3, 12)
    assert found.mean == pytest.approx((36 - 15) / 39)
    assert found.clear
    assert found.better == "a"
    assert found.words.startswith("“good” is better than “bad”: 92% against 38%, by 54 percentage")
    assert "over 39 prompts. One prompt is left out" in found.words
    turned = made.difference("bad", "good", "exact")
    assert (turned.better, turned.mean) == ("b", -found.mean)  # type: ignore[operator]
    assert turned.words == found.words


def test_words_say_what_is_better_only_where_something_is(store: Store) -> None:
    made = right_and_wrong(store)
    length = made.difference("good", "bad", "length")
    assert (length.clear, length.better) == (True, None)
    assert length.words.startswith("“bad” writes longer answers than “good”: 2.8 tokens against 1")
    took = made.difference("good", "bad", "time")
    assert took.better == "a"
    assert took.words.startswith("“good” is quicker than “bad”: 200 ms against")
    good, bad = made.summaries()
    assert made.interval_text("length", bad.scores["length"]).startswith("2.8 tokens (2.")
    assert made.interval_text("exact", good.scores["exact"]).startswith("90% (")
    own = made.difference("good", "bad", "own")
    assert own.better == "b", "less is better here, and longer answers have less"


def test_few_prompts_are_not_enough_and_the_words_say_that_first(store: Store) -> None:
    few = made_up(
        store,
        {"A": ["yes", "yes", "no"], "B": ["no", "no", "no"]},
        references=["yes"] * 3,
        scores=["exact", "length"],
    )
    found = few.difference("A", "B")
    assert not found.clear
    assert found.words.startswith("Not enough data to tell: “A” 67%, “B” 0% over 3 prompts; the")
    same = few.difference("A", "B", "length")
    assert same.words == "No difference in any of the 3 prompts: 1 token for both."
    alike = made_up(
        store, {"A": ["yes"] * 4, "B": ["yes"] * 4}, references=["yes"] * 4, scores="exact"
    )
    assert "the same score over 4 prompts; the true difference is between \N{MINUS SIGN}60" in str(
        alike.difference(0, 1)
    )


def test_a_comparison_of_before_any_answer_has_figures_too(store: Store) -> None:
    made = prepare(["demo", "demo"], ["x", "y"], store=store)
    assert made.difference(0, 1).words.startswith("There is nothing to compare yet")
    assert [one.num_waiting for one in made.summaries()] == [2, 2]
    assert made.to_frame().shape[0] == 2
    assert len(made.pairs()) == 0
    for kind in ("quality", "differences", "votes"):
        with pytest.raises(InvalidValueError, match="nothing to draw"):
            made.figure(kind)
    assert "demo (2)" in made._repr_html_()
    assert made.interval_text("length", made.summaries()[0].scores["length"]) == "-"


# -- pictures --------------------------------------------------------------------------------------


def test_pictures_show_every_side_with_its_interval_and_escape_names(store: Store) -> None:
    made = made_up(
        store,
        {HOSTILE: ["yes"] * 8, "other": ["no"] * 8},
        references=["yes", "no"] * 4,
        scores=["exact", "length"],
    )
    made.vote(0, 0, 1, "a")
    quality = made.figure("quality", theme="dark")
    assert len(quality.data) == 2
    assert quality.data[0].y[0] == 50.0
    assert quality.data[0].error_y.array[0] > 0
    assert quality.data[0].x[0] == 50.0
    sizes = [trace.marker.size[0] for trace in quality.data]
    assert sizes[0] == sizes[1] > 10
    differences = made.figure("differences")
    assert len(differences.data) == 2, "a part for each score: they have different units"
    only = made.figure("differences", score="exact")
    assert len(only.data) == 1
    votes = made.figure("votes")
    assert sum(votes.data[0].x) == 1
    for figure in (quality, differences, votes):
        assert "<img" not in json.dumps(figure.to_plotly_json(), default=str)
        assert figure.to_html(include_plotlyjs=False)
    with pytest.raises(InvalidValueError, match="no figure 'qualitty'; there are: differences"):
        made.figure("qualitty")
    with pytest.raises(InvalidValueError, match="theme is 'blue'"):
        made.figure("quality", theme="blue")
    with pytest.raises(InvalidValueError, match="no score called"):
        made.figure("quality", score="nope")


def test_without_plotly_the_error_says_how_to_get_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = right_and_wrong(store, 4)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingDependencyError, match=r"gguf-widgets\[charts\]"):
        made.figure("quality")


# -- files -----------------------------------------------------------------------------------------


def test_json_holds_everything_and_csv_a_row_a_prompt(store: Store, tmp_path: Path) -> None:
    made = made_up(
        store,
        {HOSTILE: ["a\ud800", 'b\n;,"'], "B": ["c", None]},
        references=[["a", "b"], {"k": 1.5}],
        scores=["words", gw.compare.Regex("a")],
    )
    made.vote(0, 0, 1, "both")
    told = json.loads(made.export(tmp_path / "x.json").read_text("utf-8"))
    assert told["format"] == "gguf-widgets comparison"
    assert told["id"] == made.id
    assert [side["label"] for side in told["sides"]] == made.labels
    assert told["rows"][0]["reference"] == ["a", "b"]
    assert told["rows"][0]["answers"][0]["scores"] == {"words": 1.0, "regex": 1.0}
    assert told["rows"][1]["answers"][1]["error"] == "It failed."
    assert told["votes"][0]["choice"] == "both"
    assert told["summary"][0]["num_done"] == 2
    assert {one["score"] for one in told["differences"]} == {"words", "regex"}
    assert "rows" not in made.to_dict(with_rows=False)
    frame = pd.read_csv(made.export(tmp_path / "x.csv"))
    assert list(frame["prompt"]) == ["Prompt 0", "Prompt 1"]
    assert frame["B.answer"][0] == "c"
    with pytest.raises(InvalidValueError, match=r"\.json, \.csv, \.ipynb"):
        made.export(tmp_path / "x.exe")
    with pytest.raises(TableFileError, match="no folder"):
        made.export(tmp_path / "no" / "x.json")


class _ThisPython(AsyncKernelManager):
    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="this Python", language="python")


def mine(answer: str, reference: Any, row: dict[str, Any]) -> float:
    """Score of a person's own, for the notebook."""
    return float(str(reference) in answer and row["country"] != "")


def test_an_exported_notebook_makes_the_comparison_again(
    store: Store, manager: ModelManager, tmp_path: Path
) -> None:
    made = compare(
        [
            Side("demo", label='it\'s "greedy"'),
            Side("demo", label="seed", sampling={"temperature": 0.7, "seed": 4}),
            Side("demo", label="kind", system="Be kind.", load={"n_ctx": 1024}),
        ],
        {"country": ["France", "Italy", "{Spain}"]},
        template="What is the capital of {country}?",
        references=["Paris", ["Rome", "Roma"], "Madrid"],
        scores=[
            gw.compare.ExactMatch(within=True),
            gw.compare.Regex(r"capital of \w+ is (\w+)"),
            mine,
            gw.compare.Judge("demo"),
        ],
        max_tokens=16,
        stop=["\n"],
        reproducible=True,
        title="Capitals <b>",
        store=store,
        manager=manager,
    )
    path = made.export(tmp_path / "again.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    words = [str(one) for one in made.differences()]
    assert "Not enough data to tell" in notebook.cells[0].source
    client = NotebookClient(
        notebook,
        timeout=100,
        kernel_manager_class=_ThisPython,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    printed = next(
        cell.outputs[0].text
        for cell in notebook.cells
        if cell.cell_type == "code" and "comparison.differences()" in cell.source
    )
    assert printed.splitlines() == words, "strict mode: to the last digit"
    with Store(Path(os.environ["GGUF_WIDGETS_HOME"]) / "store.sqlite3") as own:
        newest = gw.comparisons(store=own)[0]
        assert newest.id != made.id
        assert [[a.text for a in row.answers] for row in newest.rows()] == [
            [a.text for a in row.answers] for row in made.rows()
        ]
        assert newest.title == "Capitals <b>"


def test_many_prompts_stand_in_a_file_beside_the_notebook(store: Store, tmp_path: Path) -> None:
    num = 3
    made = made_up(
        store,
        {"A": ["x"] * num, "B": ["y"] * num},
        prompts=["long " * 60_000, "\"'{}", "<script>"],
        scores=["words", Own(lambda *_: 1, name="`lost`")],
    )
    path = made.export(tmp_path / "big.ipynb")
    beside = json.loads((tmp_path / "big-prompts.json").read_text("utf-8"))
    assert len(beside["prompts"]) == num
    source = "".join(nbformat.read(path, as_version=4).cells[2].source)
    assert "big-prompts.json" in source
    first = nbformat.read(path, as_version=4).cells[0].source
    assert "is left out: it was a function of your own" in first


# -- memory ----------------------------------------------------------------------------------------


class _FakeModel:
    """A model of which only the sizes matter."""

    def __init__(self, n_ctx: int, n_ctx_train: int = 4096) -> None:
        self.settings = LoadSettings(n_ctx=n_ctx)
        self.info = type("Info", (), {"n_ctx_train": n_ctx_train})()
        self.loaded = True

    def unload(self) -> None:
        self.loaded = False


def test_nobodys_context_is_made_smaller_because_another_model_lies_beside_it(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf_widgets.compare.sides import SideRecord

    models = {"first": _FakeModel(4096), "squeezed": _FakeModel(512), "small": _FakeModel(256, 256)}
    monkeypatch.setattr(ModelManager, "load", lambda self, name, **_more: models[str(name)])
    memory = Memory(manager, {}, lambda: False)
    sides = [(i, SideRecord(label=name, name=name)) for i, name in enumerate(models)]
    found = memory.load(sides, lambda _number: None)
    assert list(found.models) == [0, 2]
    assert found.later == [1]
    assert not models["squeezed"].loaded
    memory.unload()
    assert not models["first"].loaded
    alone = memory.load(sides[1:2], lambda _number: None)
    assert list(alone.models) == [1], "by itself it is as large as it can be"
