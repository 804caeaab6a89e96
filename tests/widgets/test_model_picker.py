"""`ModelPicker`: what the list shows, and what its buttons do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tiny_model import write_tiny_model

from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    LoadCancelledError,
    ModelFileError,
    ModelLoadError,
    NotEnoughMemoryError,
)
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._picker_rows import Loading
from gguf_widgets.widgets.model_picker import ModelPicker

WAIT_S = 60.0  # for whatever depends on how busy the machine is


class Page:
    """Takes what the picker sends in place of its page."""

    def __init__(self, picker: ModelPicker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.picker = picker
        self.state: dict[str, Any] = {}
        self.progress: list[dict[str, Any]] = []
        self.details: list[dict[str, Any]] = []
        self.judged: list[dict[str, Any]] = []
        self.num_states = 0
        self._changed = threading.Condition()
        monkeypatch.setattr(picker, "send", self._take)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        with self._changed:
            if content["kind"] == "state":
                self.state = content["state"]
                self.num_states += 1
            elif content["kind"] == "judged":
                self.judged.append(content["fits"])
                for row in self.state["rows"]:
                    row["fit"] = content["fits"].get(row["path"], row["fit"])
            elif content["kind"] == "details":
                self.details.append(content["details"])
            elif content["kind"] == "progress":
                self.progress.append(content["progress"])
            self._changed.notify_all()

    def ask(self, kind: str, **content: Any) -> None:
        self.picker._on_page(self.picker, {"kind": kind, "mid": "x", **content}, [])

    def row(self, name: str) -> dict[str, Any]:
        return next((row for row in self.state.get("rows", []) if row["name"] == name), {})

    def wait(self, found: Callable[[], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(found, WAIT_S), self.state


class SlowManager(ModelManager):
    """Loads when the test says so, or fails with the error that it is given."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.go_on = threading.Event()
        self.error: GgufWidgetsError | None = None
        self.asked: list[dict[str, Any]] = []

    def load(self, name_or_path: Any = "demo", **keywords: Any) -> Model:
        self.asked.append({"path": Path(name_or_path), **keywords})
        if self.error is not None:
            raise self.error
        report = keywords["on_progress"]
        while not self.go_on.wait(0.005):
            if report(0.4, "Loading the model") is False:
                raise LoadCancelledError("Stopped.")
        return super().load(name_or_path, on_progress=report, backend="scripted")


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store() as store:
        yield store


@pytest.fixture
def manager(home: Path) -> Iterator[SlowManager]:
    (home / "models").mkdir()
    with SlowManager() as manager:
        yield manager
        for model in manager.loaded():
            model.unload()


@pytest.fixture
def page(manager: SlowManager, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    picker = ModelPicker(manager, preferences=Preferences(store))
    page = Page(picker, monkeypatch)
    page.ask("snapshot")
    page.wait(lambda: page.row("demo"))
    yield page
    picker.close()


def demo_path() -> Path:
    return ModelLibrary().resolve("demo")


def test_the_demo_is_there_and_the_folder_for_more_is_named(page: Page, home: Path) -> None:
    row = page.row("demo")
    assert row["usable"]
    assert row["chosen"]
    assert row["status"] == "idle"
    assert "parameters" in row["lines"][0]
    assert "tokens of context" in row["lines"][1]
    assert page.state["none"], "there is no model of the person's own yet"
    assert page.state["folder"] == str(home / "models")


def test_a_bad_file_has_its_reason_and_cannot_be_loaded(
    page: Page, home: Path, manager: SlowManager
) -> None:
    bad = home / "models" / "<b>bad.gguf"
    bad.write_bytes(b"no model at all")
    page.ask("ping")  # the page's heartbeat finds new files
    page.wait(lambda: page.row("<b>bad"))
    row = page.row("<b>bad")
    assert not row["usable"]
    assert row["error"]["text"].startswith("This file is not a GGUF")
    assert row["offers"] == []
    assert page.state["rows"][-1] is row, "what can be loaded comes first"
    page.ask("load", path=str(bad))
    page.ask("load", path="/etc/passwd")  # not on the list
    page.ask("refresh")
    bad.unlink()
    page.ask("refresh")
    page.wait(lambda: not page.row("<b>bad"))
    assert manager.asked == []


def test_whether_a_model_fits_is_told_when_it_is_known(
    page: Page, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.wait(lambda: (page.row("demo").get("fit") or {}).get("verdict") == "yes")
    monkeypatch.setattr("gguf_widgets.core.fit.free_memory", lambda: 10**6)
    page.ask("refresh")
    page.wait(lambda: (page.row("demo").get("fit") or {}).get("verdict") == "no")
    fit = page.row("demo")["fit"]
    assert fit["text"].startswith("Too large: needs ")
    assert "1 MB is free" in fit["title"]


def test_verdicts_come_by_themselves_and_the_list_is_not_sent_again(page: Page, home: Path) -> None:
    page.wait(lambda: page.row("demo").get("fit"))
    for number in range(12):
        write_tiny_model(home / "one.gguf").rename(home / "models" / f"m{number:02}.gguf")
    page.ask("refresh")
    page.wait(lambda: page.row("m11"))
    page.judged.clear()
    states = page.num_states
    page.ask("refresh")
    page.wait(lambda: page.num_states > states)
    page.wait(lambda: all(row["fit"] for row in page.state["rows"]))
    states = page.num_states
    for _ in range(3):
        page.ask("judged")
    page.ask("details", path=page.row("m00")["path"])
    page.wait(lambda: page.details)
    assert page.num_states == states, "a verdict is no reason to send the whole list"
    assert all(set(fit) == {"verdict", "text", "title"} for f in page.judged for fit in f.values())
    paths = [path for fits in page.judged for path in fits]
    assert set(paths) <= {row["path"] for row in page.state["rows"]}


def test_details_are_told_of_what_is_listed_and_nothing_else(page: Page, home: Path) -> None:
    copy = home / "models" / "copy.gguf"
    copy.write_bytes(demo_path().read_bytes())
    page.ask("refresh")
    page.wait(lambda: page.row("copy"))
    page.ask("details", path=str(copy))
    page.wait(lambda: page.details)
    found = page.details[0]
    facts = dict(map(tuple, found["facts"]))
    assert found["path"] == found["where"]["path"] == str(copy)
    assert found["where"]["can"] == ["rename", "check", "convert", "remove"]
    assert found["where"]["says"].startswith('"copy.gguf" is in this program\'s own models folder')
    assert facts["Same as"].startswith("demo")
    assert found["points"][found["chosen"]]["fits"]
    assert found["points"][found["chosen"]]["says"].startswith("Needs ")
    assert found["free"].endswith(" of memory is free")
    assert found["template"]
    for path in ("/etc/passwd", str(home / "models" / "none.gguf"), None, 7):
        page.ask("details", path=path)
    copy.write_bytes(b"other")  # since it was listed
    page.ask("details", path=str(copy))
    page.wait(lambda: len(page.details) > 1)
    assert "not a GGUF" in page.details[1]["error"]
    assert "remove" in page.details[1]["where"]["can"]
    assert len(page.details) == 2


def test_load_shows_progress_and_marks_the_loaded_one(page: Page, manager: SlowManager) -> None:
    page.ask("load", path=str(demo_path()), settings={"n_ctx": 512})
    page.wait(lambda: page.row("demo")["status"] == "loading" and page.progress)
    assert page.progress[0]["fraction"] == 0.4
    assert page.progress[0]["phrase"] == "Loading the model"
    assert page.picker.loading
    manager.go_on.set()
    page.wait(lambda: page.row("demo")["status"] == "loaded")
    model = page.picker.model
    assert model is not None
    assert manager.asked[0]["n_ctx"] == 512
    assert page.row("demo")["demo"], "the frame's banner says of demo mode what the row would say"
    last = Preferences(page.picker._preferences.store).get(LAST_MODEL)
    assert last == {"path": str(demo_path()), "settings": {"n_ctx": 512}}
    page.ask("unload")
    page.wait(lambda: page.row("demo")["status"] == "idle")
    assert page.picker.model is None
    assert not model.loaded


def test_cancel_ends_the_load_without_an_error(page: Page) -> None:
    page.ask("load", path=str(demo_path()))
    page.wait(lambda: page.row("demo")["status"] == "loading")
    page.ask("cancel")
    page.wait(lambda: page.row("demo")["status"] == "idle")
    assert page.row("demo")["error"] is None
    assert page.picker.model is None


def test_not_enough_memory_offers_the_ways_out(page: Page, manager: SlowManager) -> None:
    manager.error = NotEnoughMemoryError(
        "This model needs 9.2 GB and 6.1 GB is free.", fitting_n_ctx=2048
    )
    page.ask("load", path=str(demo_path()))
    page.wait(lambda: page.row("demo")["error"])
    row = page.row("demo")
    assert row["error"]["text"].startswith("This model needs 9.2 GB and 6.1 GB is free.")
    assert [offer["label"] for offer in row["offers"]] == [
        "Load with 2,048 tokens",
        "Load anyway",
    ]
    manager.error = None
    manager.go_on.set()
    page.ask("load", path=row["path"], **row["offers"][1])
    page.wait(lambda: page.row("demo")["status"] == "loaded")
    assert manager.asked[-1]["force"] is True
    assert page.row("demo")["error"] is None


def test_a_failed_load_keeps_the_model_that_was_there(
    page: Page, manager: SlowManager, home: Path
) -> None:
    manager.go_on.set()
    model = page.picker.load("demo")
    # Put there in one step: the list may be made at any moment, and must not see half a file.
    other = write_tiny_model(home / "other.gguf").rename(home / "models" / "other.gguf")
    page.ask("refresh")
    page.wait(lambda: page.row("other"))
    manager.error = ModelLoadError("llama.cpp could not load it.")
    page.ask("load", path=str(other))
    page.wait(lambda: page.row("other")["error"])
    assert page.row("other")["usable"], "it may be tried again"
    assert page.row("demo")["status"] == "loaded"
    assert page.picker.model is model
    assert model.loaded


def test_a_file_that_vanishes_when_it_is_loaded_is_told_above_the_list(
    page: Page, manager: SlowManager, home: Path
) -> None:
    path = write_tiny_model(home / "brief.gguf").rename(home / "models" / "brief.gguf")
    page.ask("refresh")
    page.wait(lambda: page.row("brief"))
    manager.error = ModelFileError('"brief.gguf" is not there any more.')
    path.unlink()
    page.ask("load", path=str(path))
    page.wait(lambda: page.state["notice"] == '"brief.gguf" is not there any more.')
    assert not page.row("brief")
    page.ask("refresh")
    page.wait(lambda: page.state["notice"] == "")


def test_a_setting_that_is_not_allowed_is_shown_in_the_row(page: Page) -> None:
    page.ask("load", path=str(demo_path()), settings={"n_ctx": -5})
    page.wait(lambda: page.row("demo")["error"])
    assert "n_ctx is -5" in page.row("demo")["error"]["text"]
    with pytest.raises(InvalidValueError, match="n_ctx is -5"):
        page.picker.load("demo", n_ctx=-5)


def test_a_model_that_is_loaded_already_is_attached_at_once(
    manager: SlowManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.go_on.set()
    model = manager.load("demo", on_progress=None)
    picker = ModelPicker(manager, preferences=Preferences(store))
    page = Page(picker, monkeypatch)
    page.ask("snapshot")
    page.wait(lambda: page.row("demo").get("status") == "loaded")
    assert picker.model is model
    model.unload()  # from code: the page's heartbeat notices
    page.ask("ping")
    page.wait(lambda: page.row("demo")["status"] == "idle")
    picker.close()


def test_time_left_is_told_only_when_it_is_known() -> None:
    now = 0.0
    loading = Loading("/m/a.gguf", clock=lambda: now)
    loading.report(0.5, "Loading the model")
    assert loading.left() == ""
    now = 30.0
    assert loading.left() == "about 30 s left"
    loading.report(0.9, "Loading the model")
    assert loading.left() == "about 3 s left"
    loading.report(7.0, "Loading the model")
    assert (loading.fraction, loading.left()) == (1.0, "")
    loading.cancelled = True
    assert loading.report(0.9, "Loading the model") is False
