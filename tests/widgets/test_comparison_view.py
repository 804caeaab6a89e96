"""Many prompts in the comparison view: set up, at work, looked through, voted on. About 20 s."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.comparison_page import ComparisonPage

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.sides import Side
from gguf_widgets.core.config import models_dir
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.demo import demo_model_path
from gguf_widgets.widgets.comparison_view import ComparisonView
from tests.compare.made_up import made_up

Open = Callable[..., ComparisonPage]

REVIEWS = ["The food was great.", "I hated the soup.", "It was a good evening.", "Never again."]
TABLE = {"review": REVIEWS, "label": ["positive", "negative", "positive", "negative"]}
ASK = "Is this review positive or negative? {review}"


def whole_file(page: ComparisonPage, ending: str) -> tuple[str, bytes]:
    file = page.ask("download", format=ending)["file"]
    data = b""
    while len(data) < file["size"]:
        answer = page.ask("download-piece", key=file["key"], offset=len(data))
        data += bytes(answer["buffers"][0])
    return file["name"], data


def finished(page: ComparisonPage) -> dict[str, Any]:
    """Wait for the end, and for the figures of the end."""
    return page.until(
        lambda state: (
            state["open"]
            and state["open"]["status"] == "finished"
            and state["result"]
            and state["result"]["of"] >= state["open"]["version"]
        )
    )


def test_from_a_table_to_what_came_of_it(open_view: Open) -> None:
    page = open_view(prompts=TABLE)
    page.until(lambda state: state["draft"]["draft"]["sides"])
    assert page.state["draft"]["draft"]["mode"] == "many"
    assert page.state["judged"]["template"] == "{review}"
    page.sides({"label": "Cold"}, {"label": "Warm", "temperature": "1.5", "seed": "2"})
    page.draft(template="Always the same")
    assert "{review}" in page.state["judged"]["faults"]["template"]
    assert "asks the same" in page.refused("start")
    assert page.state["open"] is None
    page.draft(template=ASK, reference="label", scores=["exact", "length"], max_tokens="8")
    assert "error" not in page.ask("start")
    state = finished(page)
    opened, result = state["open"], state["result"]
    assert opened["labels"] == ["Cold", "Warm"]
    assert opened["heading"] == "review", "all prompts begin alike, so the column tells them apart"
    assert [side["status"] for side in opened["sides"]] == ["done", "done"]
    assert len(result["rows"]) == 2
    assert all(len(row) == len(result["heads"]) for row in result["rows"])
    assert result["rows"][0][:2] == ["A Cold", "4 of 4"]
    assert any("Not enough data to tell" in one["words"] for one in result["differences"])

    rows = page.ask("rows", start=0, stop=50)
    assert [row["prompt"] for row in rows["rows"]] == REVIEWS
    assert rows["total"] == 4
    row = page.ask("row", number=1)["row"]
    assert row["prompt"] == ASK.format(review=REVIEWS[1])
    assert row["reference"] == "negative"
    assert "negative" not in row["asked"][0].replace(ASK.split("{")[0], "")
    assert [answer["label"] for answer in row["answers"]] == ["Cold", "Warm"]
    for bad in (-1, 4, "1", True, None, 1 << 60):
        assert "prompts 1 to 4" in page.refused("row", number=bad)
    assert page.refused("rows", start=None, stop=3)
    assert page.ask("rows", start=-5, stop=1 << 60)["rows"] == rows["rows"]
    assert page.ask("rows", start=9, stop=2)["rows"] == []

    # It is found again, also by another page.
    page.ask("open", id=None)
    page.until(lambda state: state["open"] is None)
    other = open_view()
    state = other.until(lambda state: state["earlier"]["list"])
    assert state["earlier"]["list"][0]["done"] == 8
    other.ask("open", id=opened["id"])
    other.until(lambda state: state["open"] and state["open"]["id"] == opened["id"])


def test_of_sides_that_cannot_answer_is_said_where_they_stand_and_they_are_tried_again(
    open_view: Open, home: Path
) -> None:
    late = models_dir() / "late.gguf"
    page = open_view(["demo", Side(late, label="Late")], ["Hello", "Bye"])
    page.draft(max_tokens="5")
    page.ask("start")
    state = finished(page)
    assert state["open"]["words"] == "Finished, but for what could not answer."
    assert [side["status"] for side in state["open"]["sides"]] == ["done", "failed"]
    assert "late.gguf" in state["open"]["sides"][1]["error"]
    assert state["open"]["notes"] == [], "it is said once"
    assert state["open"]["goOnText"] == "Try again what failed"
    rows = page.ask("rows", start=0, stop=9)["rows"]
    assert [row["answers"][1]["text"] for row in rows] == ["—", "—"]
    assert all(row["answers"][0]["text"] for row in rows)
    models_dir().mkdir(parents=True, exist_ok=True)
    shutil.copy(demo_model_path(), late)
    assert "error" not in page.ask("go-on")
    state = page.until(
        lambda state: state["open"]["status"] == "finished" and not state["open"]["canGoOn"]
    )
    assert [side["status"] for side in state["open"]["sides"]] == ["done", "done"]
    # Both are asked the same, and are the same model: the answers do not part.
    assert page.ask("split", number=0, a=0, b=1)["split"]["isSame"]
    for bad in ({"number": 9, "a": 0, "b": 1}, {"number": 0, "a": 0, "b": 0}, {"number": "0"}):
        assert page.refused("split", **bad)


def test_a_view_that_nobody_has_seen_does_nothing(store: Store, manager: ModelManager) -> None:
    before = {thread.name for thread in threading.enumerate()}
    view = ComparisonView(store=store, manager=manager)
    view.show_in_frame(model="demo")
    assert {thread.name for thread in threading.enumerate()} == before
    view.close()


def test_files_hold_what_the_comparison_has(open_view: Open, store: Store) -> None:
    made = made_up(store, {"One": ["a", "b"], "Two": ["a", None]}, references=["a", "b"])
    page = open_view(comparison=made.id)
    finished(page)
    name, data = whole_file(page, "csv")
    assert name == "One or Two.csv"
    assert data.decode("utf-8-sig").splitlines()[0].split(",")[1:3] == ["prompt", "reference"]
    name, data = whole_file(page, "json")
    assert name.endswith(".json")
    assert json.loads(data)["id"] == made.id
    name, data = whole_file(page, "ipynb")
    assert json.loads(data)["nbformat"] == 4
    for ending in ("exe", "../x", None, 3):
        assert "cannot be saved" in page.refused("download", format=ending)
    assert "not kept" in page.refused("download-piece", key="", offset=0)


def test_votes_are_blind_kept_and_told_in_words(
    open_view: Open,
    store: Store,
) -> None:
    num = 14
    answers = {
        "Alpha": [f"good {i}" for i in range(num)] + ["same"],
        "Beta": [f"bad {i}" for i in range(num)] + ["same"],
    }
    made = made_up(store, answers)
    page = open_view(comparison=made)
    begun = page.ask("vote-begin")
    assert (begun["total"], begun["voted"], begun["same"], begun["first"]) == (num, 0, 1, 0)
    index: int | None = 0
    places = []
    while index is not None:
        pair = page.ask("vote-pair", index=index)
        assert not {"label", "labels", "side", "sides", "answers"} & pair.keys()
        assert "Alpha" not in str(pair)
        assert pair["choice"] is None
        left = "good" in str(pair["a"])
        places.append(left)
        index = page.ask("vote", index=index, choice="a" if left else "b")["next"]
    assert len(set(places)) == 2, "who stands left is drawn"
    standing = page.ask("vote-reveal")["standings"][0]
    assert standing["labels"] == ["Alpha", "Beta"]
    assert standing["counts"] == [num, 0, 0, 0]
    assert standing["clear"]
    assert standing["words"].startswith("You prefer “Alpha” to “Beta”")
    # A vote is changed, in the places in which it was seen; another page goes on with the rest.
    page.ask("vote", index=3, choice=None)
    other = open_view(comparison=made.id)
    assert other.ask("vote-begin")["first"] == 3
    assert other.ask("vote-pair", index=2)["choice"] == ("a" if places[2] else "b")
    assert other.ask("vote", index=3, choice="both")["next"] is None
    counts = page.ask("vote-reveal")["standings"][0]["counts"]
    assert counts == [num - 1, 0, 1, 0]
    for bad in ({"index": -1}, {"index": num}, {"index": "0"}, {"index": True}, {}):
        assert "pairs 1 to" in page.refused("vote-pair", **bad)
    assert page.refused("vote", index=0, choice="Alpha")


def test_with_nothing_to_choose_voting_says_why(open_view: Open, store: Store) -> None:
    alike = made_up(store, {"One": ["a", "b"], "Two": ["a", "b"]})
    page = open_view(comparison=alike)
    assert "the same, word for word (2 of 2)" in page.refused("vote-begin")
    nothing = made_up(store, {"One": [None], "Two": ["b"]})
    assert "no answers to vote on" in open_view(comparison=nothing).refused("vote-begin")
    assert "No comparison is open" in open_view().refused("vote-begin")


def test_pictures_come_for_light_and_dark_and_say_what_they_show(
    open_view: Open,
    store: Store,
) -> None:
    pytest.importorskip("plotly")
    answers = {"<b>One</b>": ["a", "b", "c"], "Two": ["a", "x", "y"]}
    made = made_up(store, answers, references=["a", "b", "c"])
    page = open_view(comparison=made)
    for kind in ("quality", "differences"):
        figure = page.ask("figure", figure=kind)["figure"]
        json.dumps(figure)
        assert figure["heading"]
        assert "<" not in figure["heading"] + figure["words"]
        assert figure["light"]["data"]
        assert len(figure["light"]["data"]) == len(figure["dark"]["data"])
    assert "Nobody has voted" in page.refused("figure", figure="votes")
    assert "no picture" in page.refused("figure", figure="__class__")
    assert "no score" in page.refused("figure", figure="quality", score="nothing")


def test_earlier_ones_are_renamed_and_deleted_and_one_at_work_is_not(
    open_view: Open,
    store: Store,
    manager: ModelManager,
) -> None:
    made = made_up(store, {"One": ["a"], "Two": ["b"]})
    page = open_view(comparison=made)
    page.ask("rename", id=made.id, title="  The \n first ")
    page.until(lambda state: [one["title"] for one in state["earlier"]["list"]] == ["The first"])
    for title in ("", "  ", "x" * 201, None, 3):
        assert page.refused("rename", id=made.id, title=title)
    records = Records(store)
    records.take(made.id)
    assert "at work" in page.refused("delete", id=made.id)
    records.let_go(made.id, made.status.FINISHED)
    assert "error" not in page.ask("delete", id=made.id)
    page.until(lambda state: state["open"] is None and state["earlier"]["list"] == [])
    for kind in ("rename", "delete", "open"):
        assert page.refused(kind, id="0" * 32, title="x")
        assert page.refused(kind, id="../..", title="x")


def test_a_comparison_goes_on_without_its_kernel_and_is_stopped_from_a_page(
    open_view: Open,
    store: Store,
    manager: ModelManager,
) -> None:
    prompts = [f"Tell me story number {i}" for i in range(200)]
    page = open_view(["demo", "demo"], prompts, own_process=True)
    page.until(lambda state: state["models"]["hasLooked"])
    page.draft(max_tokens="60", template="{text}")
    page.ask("start")
    state = page.until(lambda state: state["open"] and state["open"]["fraction"] > 0)
    assert state["open"]["status"] == "running"
    assert not state["open"]["isHere"]
    assert "goes on when you close this page" in state["open"]["words"]
    comparison_id = state["open"]["id"]
    page.widget.close()
    assert Comparison.open(comparison_id, store=store, manager=manager).status == "running"
    other = open_view(comparison=comparison_id, own_process=True)
    other.until(lambda state: state["open"] and state["open"]["status"] == "running")
    other.ask("stop")
    state = other.until(lambda state: state["open"]["status"] == "stopped")
    done = state["open"]["fraction"]
    assert 0 < done < 1
    assert state["open"]["canGoOn"]
    other.ask("go-on")
    state = other.until(
        lambda state: state["open"]["status"] == "running" and state["open"]["fraction"] > done
    )
    other.ask("stop")
    other.until(lambda state: state["open"]["status"] == "stopped")
