"""Choosing a file that is on this machine already: what a page is told, whatever it sends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.upload_files import write_letter, write_model
from support.uploader_page import WAIT_S, Page, Wire

from gguf_widgets.core import config
from gguf_widgets.core.library import browse, folders
from gguf_widgets.core.upload import UploadLimits, UploadStore
from gguf_widgets.widgets.model_uploader import ModelUploader


@pytest.fixture
def wire(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    uploader = ModelUploader(limits=UploadLimits(leave_free_bytes=0))
    wire = Wire(uploader, monkeypatch)
    yield wire
    uploader.close()


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "allowed"
    (folder / "below").mkdir(parents=True)
    write_model(folder / "one.gguf", 20_000)
    write_letter(folder / "letter.gguf")
    monkeypatch.setenv(config.BROWSE, str(folder))
    return folder


def test_a_file_is_chosen_in_place_and_taken_off_again(wire: Wire, allowed: Path) -> None:
    uploader, page = wire.uploader, Page(wire, "pageone")
    seen: list[str] = []
    uploader.observe(lambda change: seen.append(change["new"]), "finished")
    opened = page.ask("browse-open")
    assert [root["path"] for root in opened["roots"]] == [str(allowed)]
    assert [row["name"] for row in opened["listing"]["rows"]] == [
        "below",
        "letter.gguf",
        "one.gguf",
    ]
    path = str(allowed / "one.gguf")
    candidate = page.ask("browse-look", path=path)["candidate"]
    assert candidate["error"] is None
    assert "parameters" in candidate["lines"][0]
    assert page.ask("browse-fit", path=path)["fit"]["verdict"] == "yes"
    letter = page.ask("browse-look", path=str(allowed / "letter.gguf"))["candidate"]
    assert "is not a GGUF model file" in letter["error"]
    assert "error" in page.ask("browse-use", path=str(allowed / "letter.gguf"))

    assert "in the list of models now" in page.ask("browse-use", path=path)["said"]
    wire.wait(lambda one: one["kind"] == "state" and one["state"]["browse"]["added"])
    assert folders.files() == [allowed / "one.gguf"]
    assert not uploader.store.models.exists(), "nothing was copied"
    assert "already" in page.ask("browse-use", path=path)["said"]
    page.ask("browse-add", path=str(allowed / "below"))
    end = time.monotonic() + WAIT_S
    while seen != [path]:
        assert time.monotonic() < end, seen
        time.sleep(0.01)

    # What another page or program changes is noticed with the next sign of life.
    folders.remove_folder(allowed / "below")
    since = len(wire.sent)
    page.post("ping")
    state = wire.wait(lambda one: one["kind"] == "state", since)["state"]
    assert [(one["what"], one["path"]) for one in state["browse"]["added"]] == [("file", path)]
    assert "Nothing was deleted" in page.ask("browse-remove", path=path, what="file")["said"]
    assert folders.files() == []
    assert Path(path).exists()
    assert page.ask("browse-remove", path=path, what="file")["error"]["details"]["problem"]


def test_what_was_added_elsewhere_is_neither_shown_nor_taken_off_by_a_page_with_limits(
    wire: Wire, allowed: Path, tmp_path: Path
) -> None:
    private = write_model(tmp_path / "private.gguf", 20_000)
    folders.add_file(private)
    folders.add_folder(allowed)
    page = Page(wire, "pageone")
    page.post("snapshot")
    added = wire.wait(lambda one: one["kind"] == "state" and one["state"]["browse"]["added"])
    assert [one["path"] for one in added["state"]["browse"]["added"]] == [str(allowed)]
    for what in ("file", "folder"):
        error = page.ask("browse-remove", path=str(private), what=what)["error"]
        assert error["details"]["problem"] == "unknown"
    assert folders.files() == [private]


def test_where_it_is_forbidden_nothing_is_shown_and_every_question_is_refused(
    wire: Wire, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.add_file(allowed / "one.gguf")
    monkeypatch.setenv(config.BROWSE, "none")
    page = Page(wire, "pageone")
    page.post("snapshot")
    state = wire.wait(lambda one: one["kind"] == "state")["state"]
    assert state["browse"] == {"isAllowed": False, "added": []}
    path = str(allowed / "one.gguf")
    opened = page.ask("browse-open")
    assert (opened["roots"], opened["listing"]) == ([], None)
    for kind in ("list", "look", "fit", "use", "add"):
        error = page.ask(f"browse-{kind}", path=path)["error"]
        assert error["details"]["problem"] == "forbidden"
    assert page.ask("browse-go", text=path)["error"]["details"]["problem"] == "forbidden"
    assert page.ask("browse-remove", path=path, what="file")["error"]
    assert folders.files() == [allowed / "one.gguf"]


@pytest.mark.parametrize("path", [None, 7, "", "x" * 6000, ["/"], {"a": 1}, "a\0b", "\udcff"])
def test_a_path_that_is_none_is_answered(wire: Wire, allowed: Path, path: object) -> None:
    page = Page(wire, "pageone")
    for kind in ("list", "look", "fit", "use", "add", "remove"):
        assert page.ask(f"browse-{kind}", path=path, what="file")["error"]["message"]
    assert page.ask("browse-go", text=path)["error"]["message"]
    assert folders.files() == folders.folders() == []


def test_a_page_that_asks_without_end_is_told_so_and_holds_no_upload_up(
    wire: Wire, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()
    real = browse.listing
    monkeypatch.setattr(browse, "listing", lambda *a, **k: (slow.wait(WAIT_S), real(*a, **k))[1])
    page = Page(wire, "pageone")
    for _ in range(200):
        page.post("browse-list", path=str(allowed))
    busy = wire.wait(lambda one: "error" in one)["error"]
    assert busy["details"]["problem"] == "busy"
    assert "upload" in page.begin(allowed / "one.gguf")
    slow.set()
    end = time.monotonic() + WAIT_S
    while "listing" not in page.ask("browse-list", path=str(allowed)):
        assert time.monotonic() < end, "it answers again when it has caught up"


def test_the_mark_of_a_folder_names_no_path_and_tells_folders_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = UploadStore().mark
    assert mark == UploadStore().mark
    link = tmp_path / "link"
    config.ensure(config.models_dir())
    link.symlink_to(config.data_dir())
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(link))
    assert UploadStore().mark == mark, "another name of the same folder"
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(tmp_path / "other"))
    assert UploadStore().mark != mark
    assert str(tmp_path) not in mark
    assert ModelUploader(folder=tmp_path)._state()["route"] == ""
