"""The models that a side can be, and what is said of memory. About 2 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_widgets.compare.sides import Side
from gguf_widgets.core import fit
from gguf_widgets.core.config import models_dir
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.widgets._comparison_models import Models, given_key

SMALL, LARGE = Side("demo", load={"n_ctx": 512}), Side("demo", load={"n_ctx": 1024})


@pytest.fixture
def models(manager: ModelManager) -> Models:
    made = Models(manager, [])
    made.look()
    return made


def test_whether_memory_holds_all_is_said_with_what_is_needed_and_what_is_free(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [models._need("demo", side.load) for side in (SMALL, LARGE)]
    assert all(alone)
    small, large = sorted(one for one in alone if one is not None)

    def with_free(free: int, *sides: Side) -> tuple[str, str]:
        monkeypatch.setattr(fit, "free_memory", lambda: free)
        told = models.together(sides)
        return told["verdict"], told["words"]

    verdict, words = with_free(10 * large, SMALL, LARGE)
    assert verdict == "yes"
    assert words.startswith("Both models fit into memory together: about ")
    verdict, words = with_free((small + 2 * large) // 2, SMALL, LARGE)
    assert verdict == "no"
    assert words.endswith("they are loaded and answer one after another.")
    verdict, words = with_free(small // 2, SMALL, LARGE)
    assert verdict == "never"
    assert "“demo” needs about" in words
    # One model with other settings at asking is loaded once.
    verdict, words = with_free(large + 1, LARGE, LARGE, LARGE)
    assert verdict == "yes"
    assert words.startswith("All sides are one model: about ")
    assert with_free(1, Side("unheard-of"), Side(Path("nowhere.gguf"))) == ("yes", "")


def test_a_model_in_memory_takes_no_more_of_it(models: Models, manager: ModelManager) -> None:
    model = manager.load("demo")
    models.look()
    assert models.together([Side("demo"), Side(model)]) == {"verdict": "yes", "words": ""}
    (row,) = models.view()
    assert row["isLoaded"]
    assert row["fit"] is None


def test_what_a_notebook_gave_comes_first_and_what_cannot_be_used_is_not_offered(
    manager: ModelManager,
) -> None:
    models_dir().mkdir(parents=True, exist_ok=True)
    (models_dir() / "broken.gguf").write_bytes(b"GGUF nothing of the kind")
    given = [Side("demo", label="Mine"), Side(Path("some/where/other.gguf"))]
    models = Models(manager, given)
    assert list(models.choices()) == [given_key(0), given_key(1)]
    models.look()
    models.judge([given_key(0), given_key(1), "demo", "gone"])
    mine, other, demo = models.view()
    assert (mine["name"], other["name"], demo["name"]) == ("Mine", "other.gguf", "demo")
    assert mine["words"] == demo["words"], "it is one of this machine's, by its name"
    assert demo["fit"]["verdict"] == "yes"
    assert models.choices()[given_key(1)] is given[1]
