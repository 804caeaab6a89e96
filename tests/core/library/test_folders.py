"""Single files that were added: listed once, wherever they are, and never owned by us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.gguf_writer import Typed
from support.library_homes import model_file, part_file, projector_file, put

from gguf_widgets.core import config, errors
from gguf_widgets.core.care import ownership
from gguf_widgets.core.care.removing import remove
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.library import ModelEntry, ModelLibrary, add_folder, folders, models
from gguf_widgets.core.library.folders import add_file, files, remove_file, remove_folder

KEPT = "library/folders.json"


def entries() -> dict[str, ModelEntry]:
    return {entry.name: entry for entry in models()[1:]}


def test_a_file_is_listed_where_it_is_until_it_is_taken_off(tmp_path: Path) -> None:
    path = put(tmp_path / "disk/one.gguf", model_file())
    put(tmp_path / "disk/two.gguf", model_file("Other"))
    before = path.stat()
    assert add_file(path) == path
    add_file(str(path))
    assert files() == [path]
    assert set(entries()) == {"one"}, "its neighbours were not added"
    one = entries()["one"]
    assert (one.path, one.source, one.program) == (path, "added files", "file")
    assert models().filter(source="added files") == models().filter(source="file") == [one]
    assert ModelLibrary().resolve("one") == path
    assert remove_file(path)
    assert not remove_file(path)
    assert entries() == {}
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_file_of_a_folder_that_is_known_is_listed_once(tmp_path: Path) -> None:
    path = put(tmp_path / "disk/one.gguf", model_file())
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    for one in (path, link):
        add_file(one)
    assert [(e.name, e.source) for e in models()[1:]] == [("one", "added files")]
    add_folder(path.parent)
    [known] = models()[1:]
    assert known.source == str(path.parent)
    assert [place.program for place in known.places] == ["folder", "file", "file"]
    remove_folder(path.parent)
    own = put(config.models_dir() / "own.gguf", model_file("Own"))
    add_file(own)
    assert entries()["own"].source == "models folder"


def test_any_part_stands_for_all_of_a_split_model(tmp_path: Path) -> None:
    parts = [
        put(tmp_path / f"big-0000{number}-of-00003.gguf", part_file(number, 3))
        for number in (1, 2, 3)
    ]
    assert add_file(parts[2]) == parts[0]
    [big] = models()[1:]
    assert big.parts == tuple(parts)
    assert big.name == "big"
    add_folder(tmp_path)
    assert [one.path for one in models()[1:]] == [parts[0]]
    remove_folder(tmp_path)
    parts[0].unlink()
    [broken] = models()[1:]
    assert isinstance(broken.error, errors.SplitFileError)
    assert remove_file(parts[1]), "any part takes it off"
    assert files() == []
    with pytest.raises(errors.SplitFileError):
        add_file(parts[2])


def test_the_projector_beside_it_is_part_of_it_and_other_models_are_not(tmp_path: Path) -> None:
    path = put(tmp_path / "llava-7b.Q4_K_M.gguf", model_file("llava-7b"))
    projector = put(tmp_path / "llava-7b-mmproj-f16.gguf", projector_file())
    add_file(path)
    [one] = models()[1:]
    assert one.mmproj == projector
    assert "vision" in one.capabilities
    assert [place.program for place in one.places] == ["file"]
    # Beside other models of the same width it is paired as in a folder that is known: by name.
    put(tmp_path / "mistral-7b.gguf", model_file("mistral-7b"))
    put(tmp_path / "mmproj-model-f16.gguf", projector_file())
    assert [(e.name, e.mmproj) for e in models()[1:]] == [(path.stem, projector)]
    with pytest.raises(errors.ModelNotFoundError):
        ModelLibrary().resolve("mistral-7b")
    remove_file(path)
    other = put(tmp_path / "mistral-7b.gguf", model_file("mistral-7b"))
    add_file(other)
    assert [(e.name, e.mmproj) for e in models()[1:]] == [("mistral-7b", None)]


def test_a_file_that_has_gone_is_reported_and_can_be_taken_off(tmp_path: Path) -> None:
    path = put(tmp_path / "disk/one.gguf", model_file())
    add_file(path)
    path.unlink()
    path.parent.rmdir()
    [gone] = models()[1:]
    assert isinstance(gone.error, errors.ModelNotFoundError)
    assert '"one.gguf" is not there any more' in gone.error.message
    assert "take it off the list" in gone.error.message
    put(path, model_file())
    assert entries()["one"].error is None
    assert remove_file(path)


def test_it_is_yours_and_nothing_here_renames_or_removes_it(tmp_path: Path) -> None:
    path = put(tmp_path / "disk/one.gguf", model_file())
    add_file(path)
    [one] = models()[1:]
    owner = ownership.owner_of(one)
    assert (owner.owner, owner.is_ours) == ("you", False)
    for act in (lambda: rename(one, "other"), lambda: remove(one)):
        with pytest.raises(errors.FileChangeError, match="only files in its own models folder"):
            act()
    assert [entry.name for entry in models()[1:]] == ["one"]
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("letter.gguf", b"Dear Emma", errors.NotGgufError),
        ("mmproj.gguf", projector_file(), errors.ProjectorFileError),
        ("cut.gguf", model_file()[:200], errors.TruncatedFileError),
        (
            "adapter.gguf",
            model_file(general__type=Typed("string", "adapter")),
            errors.NotAModelError,
        ),
        ("model.bin", model_file(), errors.NotAFileError),
    ],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, name: str, data: bytes, kind: type[errors.ModelFileError]
) -> None:
    with pytest.raises(kind):
        add_file(put(tmp_path / name, data))
    assert files() == []
    assert not (config.data_dir() / KEPT).exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    for name, kind in (
        ("nowhere.gguf", errors.ModelNotFoundError),
        ("folder.gguf", errors.NotAFileError),
        ("a\0b.gguf", errors.ModelFileError),
        ("\udcff.gguf", errors.UnreadableFileError),
    ):
        with pytest.raises(kind):
            add_file(tmp_path / name)


def test_a_list_of_version_1_is_read_and_becomes_version_2(tmp_path: Path) -> None:
    path = put(tmp_path / "disk/one.gguf", model_file())
    kept = put(
        config.data_dir() / KEPT, json.dumps({"version": 1, "folders": [str(tmp_path / "other")]})
    )
    assert folders.folders() == [tmp_path / "other"]
    assert files() == []
    assert folders.problem() is None
    add_file(path)
    told = json.loads(kept.read_bytes())
    assert told == {"version": 2, "folders": [str(tmp_path / "other")], "files": [str(path)]}


def test_a_list_of_a_newer_version_is_said_and_not_guessed_at(tmp_path: Path) -> None:
    kept = put(config.data_dir() / KEPT, json.dumps({"version": 3, "files": ["/x/m.gguf"]}))
    assert files() == folders.folders() == []
    said = models()[-1].error
    assert said is not None
    assert "another version of this program" in said.message
    assert json.loads(kept.read_bytes())["version"] == 3, "reading changes nothing"


def test_there_is_a_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MAX_FILES", 2)
    paths = [put(tmp_path / f"{i}.gguf", model_file(str(i))) for i in range(3)]
    for path in paths[:2]:
        add_file(path)
    add_file(paths[0])
    with pytest.raises(errors.InvalidValueError, match="which is the most"):
        add_file(paths[2])
    assert files() == paths[:2]
