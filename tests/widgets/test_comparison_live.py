"""One prompt answered side by side: text, figures, Stop, memory, where answers part. About 20 s."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.comparison_page import ComparisonPage

from gguf_widgets.compare.sides import Side
from gguf_widgets.core.config import models_dir
from gguf_widgets.core.errors import InvalidValueError, NotEnoughMemoryError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import Preferences
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets import markdown
from gguf_widgets.widgets._comparison_ask import ANSWERS_KEY
from gguf_widgets.widgets.comparison_view import ComparisonView
from tests.core.conftest import processes_of, wait_for

STORY = "Tell me a story about Emma."
WARM = {"temperature": "1", "seed": "3"}

Open = Callable[..., ComparisonPage]


def ask(page: ComparisonPage, prompt: str = STORY, **changes: Any) -> dict[str, Any]:
    page.draft(prompt=prompt, **changes)
    return page.ask_sides()


def test_with_one_model_two_sides_stand_ready_and_answer_and_what_is_shown_is_what_was_written(
    open_view: Open,
) -> None:
    page = open_view()
    state = page.until(lambda state: state["memory"]["words"] and state["draft"]["draft"]["sides"])
    first, second = state["draft"]["draft"]["sides"]
    assert (first["model"], second["model"]) == ("demo", "demo")
    assert first["temperature"] != second["temperature"], "else both would answer the same"
    assert "one model" in state["memory"]["words"]
    assert state["judged"]["faults"] == {}
    assert page.refused("ask") == "Write a prompt first."

    live = ask(page, max_tokens="40")
    texts = [side.text for side in page.widget._asking.live.sides]
    assert all(texts)
    expected = {i: markdown.to_blocks(text) for i, text in enumerate(texts)}
    page.until(lambda _state: page.blocks == expected)  # the last piece comes a moment later
    for side in live["sides"]:
        told = [figure["value"] for figure in side["figures"]]
        assert any(one.endswith("tokens") for one in told)
        assert any("tokens/s" in one for one in told)
        assert side["isReady"]
    sent = [at for at, message, _ in page.messages if message["kind"] == "text"]
    gaps = [later - before for before, later in itertools.pairwise(sent)]
    assert all(gap > 0.04 for gap in gaps), "at most 20 messages a second"
    # A page that is loaded again shows all of it.
    page.reload()
    page.until(lambda state: state["live"])
    page.until(lambda _state: page.blocks == expected)


def test_where_two_answers_part_is_marked_with_what_both_thought(open_view: Open) -> None:
    page = open_view()
    page.sides({}, WARM)
    assert "Choose two different sides" in page.refused("ask-split", a=0, b=1)
    ask(page)
    split = page.ask("ask-split", a=0, b=1)["split"]
    texts = [side.text for side in page.widget._asking.live.sides]
    assert texts[0] != texts[1]
    for side, text in zip(split["sides"], texts, strict=True):
        assert side["before"] + side["mark"] + side["after"] == text
        own = [one for one in side["chances"] if one["isOwn"]]
        other = [one for one in side["chances"] if one["isOther"]]
        assert (len(own), len(other)) == (1, 1)
        shares = [one["share"] for one in side["chances"]]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1.0001
    assert split["sides"][0]["before"] == split["sides"][1]["before"]
    # It is one model: what A thought of its own word, B thought of it as the other's.
    a, b = ({one["text"]: one["share"] for one in side["chances"]} for side in split["sides"])
    assert a == pytest.approx(b, rel=1e-3)
    for bad in ({"a": 0, "b": 0}, {"a": 0, "b": 4}, {"a": "0", "b": 1}, {"a": True, "b": 0}, {}):
        assert "two different sides" in page.refused("ask-split", **bad)


def test_answers_are_kept_for_the_next_kernel_and_part_by_text_then(
    open_view: Open, store: Store
) -> None:
    page = open_view()
    page.sides({"label": "Cold"}, {"label": "Warm", **WARM})
    ask(page)
    texts = [side.text for side in page.widget._asking.live.sides]
    page.widget.close()
    again = open_view()
    state = again.until(lambda state: state["live"])
    expected = {i: markdown.to_blocks(text) for i, text in enumerate(texts)}
    again.until(lambda _state: again.blocks == expected)
    assert state["live"]["isFromBefore"]
    assert [side["label"] for side in state["live"]["sides"]] == ["Cold", "Warm"]
    assert state["draft"]["draft"]["prompt"] == STORY
    split = again.ask("ask-split", a=0, b=1)["split"]
    assert split["by"] == "text"
    # One that was altered, or is a later version's, costs the answers and nothing else.
    again.widget.close()
    for harm in ({"sides": 3}, {"sides": [{}], "prompt": ""}, "text", [1]):
        Preferences(store).set(ANSWERS_KEY, harm)
        page = open_view()
        assert page.state["live"] is None
        page.widget.close()


def test_stop_ends_all_sides_and_what_was_written_stays(open_view: Open) -> None:
    page = open_view()
    page.sides({}, WARM, {"seed": "4", "temperature": "2"})
    page.draft(prompt="Tell me a very long story.", max_tokens="900", order="turns")
    page.ask("ask")
    page.until(lambda state: state["live"] and page.blocks.get(0))
    assert "still answering" in page.refused("ask")
    page.ask("ask-stop")
    live = page.answered()
    assert [side["status"] for side in live["sides"]][-1] == "stopped"
    assert page.statuses().count("stopped") >= 1
    assert live["sides"][-1]["note"] == "Stopped before it began."
    assert page.blocks[0]
    # And it can be asked again.
    assert {side["status"] for side in ask(page, max_tokens="5")["sides"]} == {"done"}
    assert page.state["live"]["sides"][0]["note"].startswith("Cut off")


def test_what_memory_does_not_hold_together_answers_after_the_others_and_is_said(
    open_view: Open, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    real = ModelManager.load

    def load(self: ModelManager, *arguments: Any, **settings: Any) -> Any:
        if any(one.settings.n_ctx != settings.get("n_ctx") for one in self.loaded()):
            raise NotEnoughMemoryError("It needs 9 GB and 1 GB is free.")
        return real(self, *arguments, **settings)

    monkeypatch.setattr(ModelManager, "load", load)
    page = open_view()
    page.sides({"n_ctx": "512"}, {"n_ctx": "768"}, {"n_ctx": "512", "temperature": "1"})
    live = ask(page, max_tokens="10")
    assert {side["status"] for side in live["sides"]} == {"done"}
    assert "one after another" in live["note"]
    assert live["numKept"] == 1, "the other one had to go"
    # The next question too, with what is in memory now.
    assert {side["status"] for side in ask(page, max_tokens="11")["sides"]} == {"done"}
    page.ask("ask-unload")
    page.until(lambda state: state["live"]["numKept"] == 0)
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the workers' end")


def test_a_side_that_cannot_answer_is_told_and_the_others_go_on(open_view: Open) -> None:
    models_dir().mkdir(parents=True, exist_ok=True)
    broken = models_dir() / "broken.gguf"
    broken.write_bytes(b"GGUF nothing of the kind")
    page = open_view([Side("demo", label="Good"), Side(broken), Side("no-such-model")], STORY)
    live = ask(page, max_tokens="20")
    assert [side["status"] for side in live["sides"]] == ["done", "failed", "failed"]
    assert [bool(side["error"]) for side in live["sides"]] == [False, True, True]
    assert "no-such-model" in live["sides"][2]["error"]
    # A prompt that is longer than the context: by how much is told.
    live = ask(page, "word " * 3000)
    assert [side["status"] for side in live["sides"]] == ["failed", "failed", "failed"]
    assert "tokens" in live["sides"][0]["error"]
    assert "split" not in page.ask("ask-split", a=0, b=1)


def test_models_that_were_given_loaded_are_used_and_left_as_they_are(
    open_view: Open, manager: ModelManager
) -> None:
    model = manager.load("demo")
    page = open_view([model, Side(model, label="Other", sampling={"temperature": 0.9})], STORY)
    drafted = page.state["draft"]["draft"]
    assert [side["model"] for side in drafted["sides"]] == ["given:0", "given:1"]
    assert (drafted["prompt"], drafted["sides"][1]["temperature"]) == (STORY, "0.9")
    live = ask(page, max_tokens="10")
    assert [side["status"] for side in live["sides"]] == ["done", "done"]
    assert live["numKept"] == 0
    page.sides({"model": "given:0", "n_ctx": "512"}, {"model": "given:1"})
    assert "given loaded" in page.state["judged"]["faults"]["sides.0.n_ctx"]
    page.widget.close()
    assert model.loaded


@pytest.mark.parametrize("sides", ["demo", [], ["demo"] * 5, [3, "demo"], {"a": "demo"}])
def test_sides_that_are_none_are_refused_at_once(sides: Any, store: Store) -> None:
    with pytest.raises(InvalidValueError, match=r"side|Side"):
        ComparisonView(sides, store=store)
