"""`ModelPicker`: looking after models from the page, with real files, moves and conversions."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.library_homes import Ollama, model_file
from support.tiny_model import write_tiny_model
from support.upload_files import write_model

from gguf_widgets.core.care import checking as verify_module
from gguf_widgets.core.care import moves
from gguf_widgets.core.care.hashes import remember_hash
from gguf_widgets.core.care.moves import LEFT_FREE_BYTES
from gguf_widgets.core.care.removing import remove, trash
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets.model_picker import ModelPicker
from tests.core.care.conftest import contents, put_split
from tests.core.care.converting import MODULE, write_slow_model
from tests.core.conftest import processes_of, wait_for
from tests.widgets.test_model_picker import Page, SlowManager, demo_path

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
_mids = itertools.count()


class CarePage(Page):
    """A page that asks for something to be done to a file and reads the answer."""

    def __init__(self, picker: ModelPicker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.jobs: list[dict[str, Any]] = []
        self.num_pongs = 0
        super().__init__(picker, monkeypatch)

    def _take(self, content: dict[str, Any], buffers: object = None) -> None:
        if content["kind"] == "answer":
            self.answers[content["mid"]] = content
        elif content["kind"] == "pong":
            self.num_pongs += 1
        elif content["kind"] == "job":
            self.jobs.append(content["job"])
        super()._take(content, buffers)

    def answer(self, kind: str, **content: Any) -> dict[str, Any]:
        """Ask, and return the answer without its id."""
        mid = f"m{next(_mids)}"
        self.picker._on_page(self.picker, {"kind": kind, "mid": mid, **content}, [])
        self.wait(lambda: mid in self.answers)
        answer = dict(self.answers[mid])
        return {k: v for k, v in answer.items() if k not in ("kind", "mid")}

    def care(self) -> dict[str, Any]:
        found: dict[str, Any] = self.state.get("care", {})
        return found

    def job(self, path: Path) -> dict[str, Any]:
        """What the snapshot says of a model's job."""
        return next((job for job in self.care().get("jobs", []) if job["key"] == str(path)), {})

    def wait_for_job(self, path: Path, *states: str) -> dict[str, Any]:
        self.wait(lambda: self.job(path).get("state") in states)
        return self.job(path)

    def where(self, path: Path) -> dict[str, Any]:
        number = len(self.details)
        self.ask("details", path=str(path))
        self.wait(lambda: len(self.details) > number)
        found: dict[str, Any] = self.details[-1]["where"]
        return found

    def wait_until_quiet(self) -> None:
        """Wait until everything that was asked before has been done."""
        number = self.num_pongs
        self.ask("ping")
        self.wait(lambda: self.num_pongs > number)
        self.picker._actor.post({"kind": "none"})
        wait_for(self.picker._actor._items.empty, "the queue is empty")

    def put(self, path: Path, make: Callable[[Path], object] = write_tiny_model) -> Path:
        """Put a model into the folder in one step, and wait until it is listed."""
        made = path.parent.parent / f"made-{path.name}"
        make(made)
        made.rename(path)
        self.ask("refresh")
        self.wait(lambda: self.row(path.stem))
        return path


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with Store() as store:
        yield store


@pytest.fixture
def folder(home: Path) -> Path:
    (home / "models").mkdir()
    return home / "models"


@pytest.fixture
def manager(folder: Path) -> Iterator[SlowManager]:
    with SlowManager() as manager:
        manager.go_on.set()
        yield manager
        for model in manager.loaded():
            model.unload()


@pytest.fixture
def page(
    manager: SlowManager, store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CarePage]:
    picker = ModelPicker(manager, preferences=Preferences(store))
    page = CarePage(picker, monkeypatch)
    page.ask("snapshot")
    page.wait(lambda: page.row("demo"))
    yield page
    picker.close()
    wait_for(lambda: not processes_of(home, MODULE), "the converting processes have ended")


def load(page: CarePage, path: Path) -> None:
    page.ask("load", path=str(path))
    page.wait(lambda: page.row(path.stem).get("status") == "loaded")


# -- another name ----------------------------------------------------------------------------------


def test_a_model_gets_another_name_with_all_its_files(page: CarePage, folder: Path) -> None:
    parts = put_split(folder, "Big", 2)
    page.ask("refresh")
    page.wait(lambda: page.row("Big"))
    where = page.where(parts[0])
    assert (where["stem"], where["ending"], where["numMore"]) == ("Big", "-00001-of-00002.gguf", 1)
    answer = page.answer("rename", path=str(parts[0]), name=" small helper.gguf ")
    to = folder / "small helper-00001-of-00002.gguf"
    assert answer == {"renamed": {"from": str(parts[0]), "to": str(to)}}
    page.wait(lambda: page.row("small helper") and not page.row("Big"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "small helper-00001-of-00002.gguf",
        "small helper-00002-of-00002.gguf",
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "is empty"),
        ("a/b", "path separator"),
        ("../../x", "path separator"),
        ("CON", "device on Windows"),
        ("a:b", "holds the character :"),
        ("x\u202eflug", "cannot be seen"),
        ("n" * 300, "300 bytes"),
        (None, "is empty"),
        (["x"], "is empty"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_changes(
    page: CarePage, folder: Path, name: Any, says: str
) -> None:
    path = page.put(folder / "tiny.gguf")
    before = contents(folder)
    answer = page.answer("rename", path=str(path), name=name)
    assert answer["error"]["problem"] == "name"
    assert says in answer["error"]["text"]
    assert contents(folder) == before


def test_a_name_that_is_taken_comes_with_one_that_is_free(page: CarePage, folder: Path) -> None:
    page.put(folder / "one.gguf")
    two = page.put(folder / "two.gguf")
    error = page.answer("rename", path=str(two), name="one")["error"]
    assert (error["problem"], error["suggestion"]) == ("taken", "one (2)")
    assert "renamed" in page.answer("rename", path=str(two), name=error["suggestion"])


def test_a_loaded_model_is_renamed_after_a_question_and_is_loaded_still(
    page: CarePage, folder: Path, manager: SlowManager
) -> None:
    path = page.put(folder / "tiny.gguf", lambda to: to.write_bytes(demo_path().read_bytes()))
    load(page, path)
    question = page.answer("rename", path=str(path), name="mine")["ask"]
    assert question["text"].startswith("It is loaded, and goes on under its old name")
    assert path.exists()
    answer = page.answer("rename", path=str(path), name="mine", confirm=True)
    assert answer["renamed"]["to"] == str(folder / "mine.gguf")
    page.wait(lambda: page.row("mine").get("status") == "loaded")
    assert page.care()["said"] == ""
    last = Preferences(page.picker._preferences.store).get(LAST_MODEL)
    assert last["path"] == str(folder / "mine.gguf")
    # Loaded again it has its new name, and not a second copy of its memory.
    before = page.picker.model
    page.ask("load", path=str(folder / "mine.gguf"), settings={"n_ctx": 256})
    page.wait(lambda: page.picker.model not in (before, None))
    assert before is not None
    assert not before.loaded
    page.ask("unload")
    page.wait(lambda: page.row("mine").get("status") == "idle")


# -- removing, and back ----------------------------------------------------------------------------


def test_removals_are_undone_one_after_another_and_the_bar_can_be_closed(
    page: CarePage, folder: Path
) -> None:
    paths = [page.put(folder / f"{name}.gguf") for name in ("one", "two", "three")]
    before = contents(folder)
    ids = [page.answer("remove", path=str(path))["removed"]["id"] for path in paths]
    page.wait(lambda: len(page.care()["removed"]) == 3)
    assert [one["id"] for one in page.care()["removed"]] == ids
    assert page.care()["removed"][-1]["text"] == "“three” is in the trash."
    assert contents(folder) == {}
    assert not page.row("one")
    assert len(page.care()["trash"]["entries"]) == 3
    for number in (2, 1):
        answer = page.answer("restore", id=ids[number])
        assert answer["restored"]["path"] == str(paths[number])
        page.wait(lambda number=number: len(page.care()["removed"]) == number)
    page.wait(lambda: page.row("three") and page.row("two"))
    page.ask("hush")
    page.wait(lambda: page.care()["removed"] == [])
    assert [entry["name"] for entry in page.care()["trash"]["entries"]] == ["one"]
    page.answer("restore", id=ids[0])
    page.wait(lambda: page.row("one"))
    assert contents(folder) == before
    assert page.care()["trash"]["entries"] == []


def test_a_loaded_model_is_removed_after_a_question_and_unloaded_first(
    page: CarePage, folder: Path, home: Path
) -> None:
    path = page.put(folder / "tiny.gguf", lambda to: to.write_bytes(demo_path().read_bytes()))
    load(page, path)
    model = page.picker.model
    question = page.answer("remove", path=str(path))["ask"]
    assert question == {
        "text": "It is loaded. It will be unloaded first, then it goes to the trash.",
        "yes": "Unload and remove",
        "no": "Keep it",
    }
    assert path.exists()
    assert model is not None
    assert model.loaded
    answer = page.answer("remove", path=str(path), confirm=True)
    assert answer["removed"]["path"] == str(path)
    assert not model.loaded
    assert page.picker.model is None
    page.wait(lambda: page.care()["removed"])
    assert page.care()["removed"][0]["text"] == "“tiny” is in the trash."
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "its process has ended")


def test_a_model_that_others_have_loaded_is_said_to_be_theirs(page: CarePage, folder: Path) -> None:
    path = page.put(folder / "tiny.gguf", lambda to: to.write_bytes(demo_path().read_bytes()))
    with ModelManager(keep_alive=60) as other:
        model = other.load(path, backend="scripted")
        question = page.answer("remove", path=str(path))["ask"]
        assert "It is loaded by your own code in this notebook." in question["text"]
        assert question["yes"] == "Remove it all the same"
        page.answer("remove", path=str(path), confirm=True)
        assert not path.exists()
        assert model.chat("Hello").text, "who has it goes on"
        page.wait(lambda: page.care()["removed"])
        assert "It is still loaded" in page.care()["removed"][0]["text"]
        path = Path(page.answer("restore", id=page.care()["removed"][0]["id"])["restored"]["path"])
        page.wait(lambda: page.row("tiny"))
    # Nobody uses it now, and its process waits for the next one who does.
    question = page.answer("remove", path=str(path))["ask"]
    assert question["text"].startswith("It is still in memory, though nobody uses it")
    page.answer("remove", path=str(path), confirm=True)
    page.wait(lambda: page.care()["removed"])
    assert page.care()["removed"][0]["text"] == "“tiny” is in the trash."


def test_a_model_that_is_being_loaded_is_not_moved(
    page: CarePage, folder: Path, manager: SlowManager
) -> None:
    path = page.put(folder / "tiny.gguf")
    manager.go_on.clear()
    page.ask("load", path=str(path))
    page.wait(lambda: page.row("tiny")["status"] == "loading")
    for kind in ("remove", "rename"):
        error = page.answer(kind, path=str(path), name="x", confirm=True)["error"]
        assert error["problem"] == "loading"
    page.ask("cancel")
    page.wait(lambda: page.row("tiny")["status"] == "idle")
    assert path.exists()


def test_what_cannot_be_put_back_says_why_and_how_it_can(page: CarePage, folder: Path) -> None:
    path = page.put(folder / "tiny.gguf")
    which = page.answer("remove", path=str(path))["removed"]["id"]
    page.put(path)  # its name is taken meanwhile
    error = page.answer("restore", id=which)["error"]
    assert (error["problem"], error["suggestion"]) == ("taken", "tiny (2)")
    answer = page.answer("restore", id=which, name=error["suggestion"])
    assert answer["restored"]["name"] == "tiny (2)"
    for other in (which, "../models", "tiny", None, 7):
        assert page.answer("restore", id=other)["error"]["problem"] == "not_in_trash"


def test_only_what_was_asked_about_is_deleted_for_good(page: CarePage, folder: Path) -> None:
    one, two = (page.put(folder / f"{name}.gguf") for name in ("one", "two"))
    size = one.stat().st_size
    asked = [page.answer("remove", path=str(one))["removed"]["id"]]
    remove(two)  # meanwhile, by another program
    for ids in (None, "all", [], ["../models", 7, None]):
        page.answer("empty", ids=ids)
    assert len(trash()) == 2
    page.answer("empty", ids=asked)
    assert [entry.name for entry in trash()] == ["two"]
    page.wait(lambda: "1 model was deleted for good" in page.care()["said"])
    page.wait(lambda: page.care()["removed"] == [])
    assert page.care()["trash"]["room"]
    assert size > 0
    assert page.answer("restore", id=asked[0])["error"]["problem"] == "not_in_trash"


def test_a_move_to_another_disk_shows_how_far_it_is_and_can_be_stopped(
    page: CarePage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Path("/dev/shm")  # noqa: S108 - a disk of its own, only for this test
    if not memory.is_dir() or memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("there is only one file system here")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        folder.rmdir()
        folder.symlink_to(other)
        path = write_model(folder / "made", 20_000_000).rename(folder / "big.gguf")
        page.ask("refresh")
        page.wait(lambda: page.row("big"))
        with monkeypatch.context() as patch:
            patch.setattr(moves, "_CHUNK_BYTES", 16)  # so that it takes its time
            page.ask("remove", path=str(path))
            page.wait(lambda: any(job["fraction"] for job in page.jobs))
            assert page.jobs[-1]["phrase"] == "Copying to the trash, which is on another disk"
            assert page.answer("check", path=str(path))["error"]["problem"] == "at_work"
            page.ask("stop", key=str(path))
            page.wait(lambda: "error" in page.answers.get("x", {}))
        assert page.answers["x"]["error"]["problem"] == "cancelled"
        page.wait(lambda: page.job(path) == {} and page.row("big"))
        which = page.answer("remove", path=str(path))["removed"]["id"]
        assert not path.exists()
        page.jobs.clear()
        with monkeypatch.context() as patch:
            patch.setattr(moves, "_CHUNK_BYTES", 16)
            page.ask("restore", id=which)
            page.wait(lambda: any(job["fraction"] for job in page.jobs))
            assert page.jobs[-1]["key"] == f"trash:{which}"
        assert page.answer("restore", id=which)["error"]["problem"] == "not_in_trash"
        assert path.exists()
        page.wait(lambda: page.row("big"))


def test_the_trash_is_no_reason_to_send_the_list_again_and_again(
    page: CarePage, folder: Path
) -> None:
    path, other = (page.put(folder / f"{name}.gguf") for name in ("tiny", "other"))
    page.answer("remove", path=str(path))
    page.wait(lambda: page.care()["trash"]["entries"])
    page.ask("ping")  # the first look at a trash makes its folder
    page.answer("restore", id="none")  # whatever was under way is done then
    page.wait_until_quiet()
    states = page.num_states
    for _ in range(3):
        page.ask("ping")
        page.wait_until_quiet()
    assert page.num_states == states
    remove(other)  # by another program: the next heartbeat finds it
    page.ask("ping")
    page.wait(lambda: len(page.care()["trash"]["entries"]) == 2)


# -- whose it is -----------------------------------------------------------------------------------


def test_what_belongs_to_another_program_says_whose_it_is_and_is_not_touched(
    page: CarePage, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama = Ollama(home / "ollama-models")
    blob = ollama.add("qwen3:4b", model_file())
    monkeypatch.setenv("OLLAMA_MODELS", str(ollama.folder))
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "ollama")
    before = contents(ollama.folder)
    page.ask("refresh")
    page.wait(lambda: page.row("qwen3:4b"))
    where = page.where(blob)
    assert where["can"] == ["check", "convert"]
    assert (where["program"], where["label"]) == ("Ollama", "qwen3:4b")
    assert where["whose"] == "It belongs to Ollama."
    assert where["how"] == 'Remove it there: "ollama list", then "ollama rm" and its name.'
    assert where["says"].endswith(where["how"])
    for kind in ("remove", "rename"):
        error = page.answer(kind, path=str(blob), name="mine", confirm=True)["error"]
        assert error["problem"] == "foreign"
        assert "ollama rm" in error["text"]
    assert contents(ollama.folder) == before


def test_the_demo_and_what_is_not_listed_are_left_alone(page: CarePage, folder: Path) -> None:
    where = page.where(demo_path())
    assert where["can"] == ["check", "convert"]
    assert where["whose"] == "It came with this program."
    assert page.answer("remove", path=str(demo_path()))["error"]["problem"] == "foreign"
    outside = folder.parent / "outside.gguf"
    write_tiny_model(outside)
    for path in (str(outside), "/etc/passwd", "", None, 7, ["x"]):
        for kind in ("remove", "rename", "check", "forms", "convert"):
            answer = page.answer(kind, path=path, name="x", form="Q8_0", confirm=True)
            assert answer["error"]["problem"] == "not_listed"
    assert outside.exists()


def test_a_file_that_cannot_be_used_says_where_it_is_and_can_be_removed(
    page: CarePage, folder: Path
) -> None:
    bad = folder / "bad.gguf"
    bad.write_bytes(b"no model at all")
    page.ask("refresh")
    page.wait(lambda: page.row("bad"))
    where = page.where(bad)
    assert where["can"] == ["rename", "check", "remove"]
    assert "points" not in page.details[-1]
    assert where["path"] == str(bad)
    page.answer("check", path=str(bad))
    result = page.wait_for_job(bad, "done")["result"]
    assert (result["tone"], result["title"]) == ("bad", "The file is damaged")
    page.answer("remove", path=str(bad))
    page.wait(lambda: not page.row("bad"))


# -- a check ---------------------------------------------------------------------------------------


def test_a_check_says_what_it_compared_with(page: CarePage, folder: Path) -> None:
    path = page.put(folder / "tiny.gguf")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert page.answer("check", path=str(path)) == {"started": True}
    result = page.wait_for_job(path, "done")["result"]
    assert (result["tone"], result["title"]) == ("plain", "The file looks whole")
    assert "Nothing is known to compare it with" in result["lines"][0]
    assert result["files"][0]["sha256"] == digest
    page.ask("dismiss", key=str(path))
    page.wait(lambda: page.job(path) == {})

    page.answer("check", path=str(path))  # the first one is remembered
    result = page.wait_for_job(path, "done")["result"]
    assert (result["tone"], result["title"]) == ("good", "The file is whole")
    assert "what an earlier check" in result["lines"][0]

    remember_hash(path, "0" * 64, "the download")
    page.answer("check", path=str(path))
    page.wait(lambda: (page.job(path).get("result") or {}).get("tone") == "bad")
    result = page.job(path)["result"]
    assert result["title"] == "This is not the file that it should be"
    assert "differs from what the download says" in result["lines"][0]
    assert "copy it again" in result["lines"][1]
    assert result["files"][0]["expected"] == "0" * 64


def test_a_check_shows_how_far_it_is_and_can_be_stopped(
    page: CarePage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page.put(folder / "big.gguf", lambda to: write_model(to, 40_000_000))
    other = page.put(folder / "other.gguf")
    monkeypatch.setattr(verify_module, "_CHUNK_BYTES", 16)  # so that it takes its time
    page.answer("check", path=str(path))
    page.answer("check", path=str(other))
    page.wait(lambda: any(job["fraction"] for job in page.jobs))
    said = next(job for job in page.jobs if job["fraction"])
    assert said["phrase"] == "Reading the file"
    assert said["amount"].endswith(" of 40\u00a0MB")
    page.ask("snapshot")  # a page that is loaded again
    page.wait(lambda: page.job(path).get("state") == "working")
    assert page.job(other)["phrase"] == "Waits until another file is checked"
    for kind in ("check", "rename", "remove"):
        error = page.answer(kind, path=str(path), name="x", confirm=True)["error"]
        assert error["problem"] == "at_work"
        assert error["text"].startswith("This model is being checked just now.")
    page.ask("stop", key=str(other))
    page.wait(lambda: page.jobs[-1]["key"] == str(other) and page.jobs[-1]["state"] == "stopped")
    page.ask("stop", key=str(path))
    assert page.wait_for_job(path, "stopped")["result"] is None
    assert path.exists()


# -- a smaller copy --------------------------------------------------------------------------------


@needs_llama
def test_a_smaller_copy_is_made_and_listed(page: CarePage, folder: Path) -> None:
    path = page.put(folder / "tiny.gguf")
    before = path.read_bytes()
    forms = page.answer("forms", path=str(path))["forms"]
    by_name = {form["name"]: form for form in forms["forms"]}
    assert [form["name"] for form in forms["forms"] if form["recommended"]] == ["Q4_K_M"]
    assert not forms["requantize"]
    assert by_name["F32"]["refusal"].startswith("Not possible: it is F32 already")
    assert by_name["Q4_K_M"]["usual"]
    assert not by_name["F16"]["usual"]
    assert by_name["Q8_0"]["file"] == "tiny-Q8_0"
    assert forms["folder"] == str(folder)
    name = by_name["Q8_0"]["file"]
    answer = page.answer("convert", path=str(path), form="Q8_0", name=name)
    assert answer == {"started": True}
    job = page.wait_for_job(path, "done", "failed")
    assert job["error"] is None
    result = job["result"]
    assert result["title"] == "“tiny-Q8_0” is ready"
    made = folder / "tiny-Q8_0.gguf"
    share = round(100 * (1 - made.stat().st_size / len(before)))
    assert f", {share}% smaller." in result["lines"][0]
    assert result["path"] == str(made)
    page.wait(lambda: page.row("tiny-Q8_0"))
    assert path.read_bytes() == before
    # The same once more: its name is taken, and another is offered before anything begins.
    error = page.answer("convert", path=str(path), form="Q8_0", name=name)["error"]
    assert (error["problem"], error["suggestion"]) == ("taken", "tiny-Q8_0 (2)")
    forms = page.answer("forms", path=str(path))["forms"]
    assert {f["name"]: f["file"] for f in forms["forms"]}["Q8_0"] == "tiny-Q8_0 (2)"
    bad = page.answer("convert", path=str(path), form="Q8_0", name="a/b")["error"]
    assert bad["problem"] == "name"


def test_a_disk_without_room_and_demo_mode_say_so_before_anything_begins(
    page: CarePage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = page.put(folder / "tiny.gguf")
    usage = shutil.disk_usage(folder)._replace(free=LEFT_FREE_BYTES + 70_000)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: usage)
        forms = page.answer("forms", path=str(path)).get("forms")
    if forms is not None:  # not in demo mode anyway
        refusals = {form["name"]: form["refusal"] for form in forms["forms"]}
        assert "too little room: it needs about 165 KB, and 70 KB can be used" in refusals["F16"]
        assert refusals["Q2_K"] == ""
        assert forms["room"] == "70 KB"
    monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
    error = page.answer("forms", path=str(path))["error"]
    assert error["text"].startswith("No copies can be made in demo mode.")


@needs_llama
def test_a_copy_of_a_quantized_model_says_that_it_loses(page: CarePage, folder: Path) -> None:
    forms = page.answer("forms", path=str(demo_path()))["forms"]
    assert forms["requantize"]
    assert "made smaller once already (Q8_0)" in forms["notes"][0]
    assert forms["folder"] == str(folder), "never beside what is not ours"
    page.answer("convert", path=str(demo_path()), form="Q4_0", name="d", requantize=False)
    error = page.wait_for_job(demo_path(), "failed")["error"]
    assert error["problem"] == "requantize"
    page.answer("convert", path=str(demo_path()), form="Q4_0", name="d", requantize=True)
    page.wait_for_job(demo_path(), "done")
    page.wait(lambda: page.row("d"))


@needs_llama
def test_a_copy_of_another_programs_model_goes_to_our_folder_under_its_name_there(
    page: CarePage, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama = Ollama(home / "ollama-models")
    data = write_tiny_model(home / "made.gguf").read_bytes()
    blob = ollama.add("qwen3:4b", data)
    monkeypatch.setenv("OLLAMA_MODELS", str(ollama.folder))
    monkeypatch.setenv("GGUF_WIDGETS_SOURCES", "ollama")
    before = contents(ollama.folder)
    page.ask("refresh")
    page.wait(lambda: page.row("qwen3:4b"))
    forms = {f["name"]: f for f in page.answer("forms", path=str(blob))["forms"]["forms"]}
    assert forms["Q8_0"]["file"] == "qwen3-4b-Q8_0"
    page.answer("convert", path=str(blob), form="Q8_0", name=forms["Q8_0"]["file"])
    page.wait_for_job(blob, "done")
    assert [path.name for path in folder.iterdir()] == ["qwen3-4b-Q8_0.gguf"]
    assert contents(ollama.folder) == before


@needs_llama
def test_a_copy_under_way_is_in_the_snapshot_and_stops_without_a_trace(
    page: CarePage, folder: Path, home: Path
) -> None:
    slow = page.put(folder / "slow.gguf", write_slow_model)
    other = page.put(folder / "tiny.gguf")
    before = contents(folder)
    page.answer("convert", path=str(slow), form="IQ3_S", name="slow-small")
    page.answer("convert", path=str(other), form="Q8_0", name="tiny-small")
    page.wait(lambda: any((job["fraction"] or 0) > 0.05 for job in page.jobs))
    assert processes_of(home, MODULE)
    page.ask("snapshot")
    page.wait(lambda: page.job(slow).get("fraction") and page.job(other))
    assert page.job(slow)["phrase"] == "Writing the copy"
    assert page.job(other)["state"] == "waiting"
    again = page.answer("convert", path=str(slow), form="Q8_0", name="x")["error"]
    assert again["text"].startswith("This model is being copied to a smaller size just now.")
    page.ask("stop", key=str(other))
    page.ask("stop", key=str(slow))
    page.wait_for_job(slow, "stopped")
    wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
    assert contents(folder) == before
    # Not another one meanwhile, and the next one goes through.
    assert page.answer("convert", path=str(other), form="Q8_0", name="tiny-small") == {
        "started": True
    }
    page.wait_for_job(other, "done")


@needs_llama
def test_a_widget_that_is_closed_ends_its_jobs(page: CarePage, folder: Path, home: Path) -> None:
    slow = page.put(folder / "slow.gguf", write_slow_model)
    before = contents(folder)
    page.answer("convert", path=str(slow), form="IQ3_S", name="small")
    page.wait(lambda: any((job["fraction"] or 0) > 0.02 for job in page.jobs))
    page.picker.close()
    wait_for(lambda: not processes_of(home, MODULE), "the converting process has ended")
    assert contents(folder) == before
