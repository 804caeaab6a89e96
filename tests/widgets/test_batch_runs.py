"""Runs in the batch table: earlier ones renamed and deleted, one under way changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from support.batch_page import LABELS, PROMPT, Page, reviews

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.errors import BatchError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets import _batch_earlier

Open = Callable[..., Page]


def titles(state: dict[str, Any]) -> list[str]:
    return [one["title"] for one in state["earlier"]["runs"]]


def test_earlier_runs_are_renamed_deleted_and_brought_back(
    open_batch: Open, model: Model, store: Store
) -> None:
    page = open_batch(model, reviews())
    for name in ("One", "Two"):
        page.draft(prompt="{review}", maxTokens="1", title=name)
        page.run_to_end()
        page.ask("open", id=None)
        page.until(lambda state: state["run"] is None)
    state = page.until(lambda state: len(state["earlier"]["runs"]) == 2)
    newest, oldest = (one["id"] for one in state["earlier"]["runs"])
    assert "error" not in page.ask("rename", id=oldest, title="  The \n first ")
    page.until(lambda state: titles(state) == ["Two", "The first"])
    for title in ("", "  ", "x" * 201, None, 3):
        assert page.ask("rename", id=oldest, title=title)["error"]["message"]

    # The one that is open goes from the screen, too.
    page.ask("open", id=newest)
    page.until(lambda state: state["run"])
    assert "error" not in page.ask("delete", id=newest)
    state = page.until(lambda state: state["run"] is None and len(titles(state)) == 1)
    assert state["earlier"]["deleted"] == [{"id": newest, "title": "Two"}]
    assert [run.id for run in BatchRuns(store).recent(deleted=True)] == [newest]
    page.ask("restore", id=newest)
    state = page.until(lambda state: titles(state) == ["Two", "The first"])
    assert state["earlier"]["deleted"] == []
    page.ask("open", id=newest)
    page.until(lambda state: state["run"] and state["progress"]["done"] == 4)
    for kind in ("rename", "delete", "restore", "open"):
        assert page.ask(kind, id="0" * 32, title="x")["error"]["message"]
        assert page.ask(kind, id="../..", title="x")["error"]["message"]


def test_a_run_under_way_is_not_deleted_and_takes_more_rows_at_once(
    open_batch: Open, model: Model
) -> None:
    page = open_batch(model, [f"Tell me story number {i}" for i in range(400)])
    page.draft(prompt="{text}", maxTokens="60", title="Stories")
    page.ask("start")
    state = page.until(lambda state: state["run"] and state["progress"]["numAtOnce"])
    before = state["progress"]["numAtOnce"]
    refused = page.ask("delete", id=state["run"]["id"])["error"]["message"]
    assert refused == "“Stories” is at work. Stop it first; then it can be deleted."
    page.ask("open", id=None)
    refused = page.ask("delete", id=state["run"]["id"])["error"]["message"]
    assert "“Stories” is at work. Open it and stop it first" in refused
    page.ask("open", id=state["run"]["id"])
    page.until(lambda state: state["run"] and state["progress"]["numAtOnce"])
    wanted = 2 if before != 2 else 4
    for num in (0, 257, "8", True, None):
        assert "rows at once" in page.ask("change", numAtOnce=num)["error"]["message"]
    assert "error" not in page.ask("change", numAtOnce=wanted)
    state = page.until(lambda state: state["progress"]["numAtOnce"] == wanted)
    assert state["run"]["status"] == "running"
    page.ask("stop")
    state = page.until(lambda state: state["run"]["status"] == "stopped")
    assert "while the run is at work" in page.ask("change", numAtOnce=4)["error"]["message"]
    assert "error" not in page.ask("delete", id=state["run"]["id"])


def test_the_list_says_that_there_are_more_runs(
    open_batch: Open, model: Model, monkeypatch: Any
) -> None:
    monkeypatch.setattr(_batch_earlier, "_AT_FIRST", 2)
    page = open_batch(model, reviews())
    for number in range(3):
        page.draft(prompt="{review}", maxTokens="1", title=f"Run {number}")
        page.run_to_end()
        page.ask("open", id=None)
        page.until(lambda state: state["run"] is None)
    state = page.until(lambda state: state["earlier"]["hasMore"])
    assert len(titles(state)) == 2
    page.ask("earlier", more=True)
    page.until(lambda state: len(titles(state)) == 3 and not state["earlier"]["hasMore"])


def test_each_row_is_asked_of_several_models_and_several_times(
    open_batch: Open, model: Model
) -> None:
    other = models_dir() / "other.gguf"
    other.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.path, other)
    page = open_batch(model, reviews())
    page.ask("models")
    page.until(lambda state: set(state["models"]) == {"demo", "other"})
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS), models=["demo"])
    page.ask("start")
    state = page.until(lambda state: state["check"])
    assert '"demo" is asked already' in state["check"]["error"]
    page.draft(models=["other"], n="2", temperature="1")
    assert "gw.load('other')" in page.ask("code")["text"]
    state = page.run_to_end()
    assert state["run"]["columns"]["models"] == ["demo", "other"]
    assert (state["progress"]["total"], state["run"]["noun"]) == (16, "answers")
    rows = page.rows()["rows"]
    places = [(row["row"], row["model"], row["sample"]) for row in rows]
    assert places == [
        (row, model, sample) for row in range(4) for model in (0, 1) for sample in (0, 1)
    ]
    frame = page.widget.run.to_frame()  # type: ignore[union-attr]
    assert frame["model"].tolist()[:4] == ["demo", "demo", "other", "other"]
    chart = page.ask("charts")["charts"][0]
    assert [sum(one["counts"]) for one in chart["series"]] == [8, 8]
    # The form comes back with both.
    page.ask("set-up")
    state = page.until(lambda state: state["run"] is None)
    assert state["draft"]["draft"]["models"] == ["other"]


def test_a_row_that_did_not_fit_is_done_once_the_model_has_more_room(
    open_batch: Open, manager: ModelManager
) -> None:
    small, large = manager.load("demo", n_ctx=128), manager.load("demo", n_ctx=1024)
    table = reviews(6)
    table.loc[2, "review"] = "It was good. " * 60
    page = open_batch(small, table)
    page.draft(prompt=PROMPT, answer=page.answer(kind="choice", choices=LABELS))
    state = page.run_to_end()
    assert (state["progress"]["done"], state["progress"]["failed"]) == (5, 1)
    page.ask("retry")  # with the same room it fails again
    version = page.state["version"]
    state = page.until(
        lambda state: state["version"] > version and state["run"]["status"] == "finished"
    )
    assert state["progress"]["failed"] == 1
    page.widget.model = large
    page.ask("retry")
    state = page.until(lambda state: state["progress"]["done"] == 6)
    run = page.widget.run
    assert run is not None
    assert run.spec.models[0].settings["n_ctx"] == 1024
    page.until(lambda state: state["run"]["status"] == "finished")
    other = models_dir() / "other.gguf"
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_bytes(large.path.read_bytes() + bytes(64))
    another = manager.load("other")
    with pytest.raises(BatchError, match="same model file"):
        run.use_model(another)
