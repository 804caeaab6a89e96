"""Another name for a model: all its files or none, and nothing in the way is harmed."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import write_model

from gguf_widgets.core import config
from gguf_widgets.core.care import moves
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.removing import empty_trash, remove, restore
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import (
    FileChangeError,
    ModelInUseError,
    ModelNotFoundError,
    NotAFileError,
)
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.preferences import LAST_MODEL, Preferences
from tests.core.care.conftest import contents, put, put_projector, put_split
from tests.core.conftest import without_root


def by_name() -> dict[str, Path]:
    return {entry.name: entry.path for entry in ModelLibrary().entries()}


def problem_of(caught: pytest.ExceptionInfo[FileChangeError]) -> str:
    assert caught.value.message.endswith((".", "!"))
    return str(caught.value.details["problem"])


def test_a_model_is_found_by_its_new_name_and_nothing_else_has_changed(folder: Path) -> None:
    path = put(folder / "old.gguf")
    put(folder / "other.gguf")
    before = path.stat()
    result = rename("old", " new name.gguf")
    assert result.path == folder / "new name.gguf"
    assert str(result) == '"old" is now called "new name".'
    assert result.to_dict()["files"] == [{"from": str(path), "to": str(result.path)}]
    assert {"new name", "other"} <= by_name().keys()
    assert "old" not in by_name()
    after = result.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list(config.trash_dir().glob("*.json"))
    entry = next(entry for entry in ModelLibrary().entries() if entry.name == "other")
    assert rename(entry, "by entry").new_name == "by entry"


def test_all_that_carries_the_name_goes_along(folder: Path) -> None:
    parts = put_split(folder, "big", 3)
    put(folder / f"{parts[1].name}.sha256", b"ab")
    put_projector(folder / "mmproj-big-f16.gguf")
    put_projector(folder / "big.mmproj.gguf")
    put_projector(folder / "mmproj-bigger.gguf")  # another model's
    put_projector(folder / "mmproj.gguf")  # anybody's
    put(folder / "big-mmproj-q8_0.gguf")  # a model that only calls itself so
    put(folder / "big-00001-of-00002.gguf")  # a part of another set
    before = contents(folder)
    assert len(rename(parts[2], "huge").files) == 6
    after = contents(folder)
    kept = {"mmproj-bigger.gguf", "mmproj.gguf", "big-mmproj-q8_0.gguf", "big-00001-of-00002.gguf"}
    assert {name for name in before if name in after} == kept
    assert after == {
        name if name in kept else name.replace("big", "huge"): data for name, data in before.items()
    }
    info = ModelLibrary().entries()
    assert next(e for e in info if e.name == "huge").info is not None


def test_a_companion_belongs_to_the_model_that_it_names_best(folder: Path) -> None:
    put(folder / "a.gguf")
    put(folder / "a-f16.gguf")
    put_projector(folder / "mmproj-a-f16.gguf")
    assert [member.kind for member in model_files(folder / "a.gguf").members] == ["model"]
    members = model_files(folder / "a-f16.gguf").members
    assert [member.path.name for member in members] == ["a-f16.gguf", "mmproj-a-f16.gguf"]


def test_a_name_that_is_taken_is_told_with_one_that_is_free(folder: Path) -> None:
    first, second = put(folder / "a.gguf", b"one"), put(folder / "b.gguf", b"two")
    put(folder / "b (2).gguf")
    with pytest.raises(FileChangeError, match=r'a file "b\.gguf" in .* already') as caught:
        rename(first, "b")
    assert problem_of(caught) == "taken"
    assert caught.value.details["suggestion"] == "b (3)"
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    with pytest.raises(FileChangeError, match="is called") as caught:
        rename(first, "a")
    assert problem_of(caught) == "same"
    # Also where only one of several would be in the way, or only its checksum.
    parts = put_split(folder, "s")
    put(folder / "t-00002-of-00002.gguf", b"in the way")
    before = contents(folder)
    with pytest.raises(FileChangeError):
        rename(parts[0], "t")
    put(folder / "a.gguf.sha256", b"x")
    put(folder / "c.gguf.sha256", b"y")
    with pytest.raises(FileChangeError):
        rename(first, "c")
    assert {k: v for k, v in contents(folder).items() if "sha256" not in k} == before
    # A link to nothing is something, too.
    (folder / "d.gguf").symlink_to("nowhere")
    with pytest.raises(FileChangeError):
        rename(second, "d")


def test_only_the_capital_letters_change(folder: Path) -> None:
    parts = put_split(folder, "model")
    before = list(contents(folder).values())
    assert rename(parts[0], "MODEL").new_name == "MODEL"
    assert list(contents(folder)) == ["MODEL-00001-of-00002.gguf", "MODEL-00002-of-00002.gguf"]
    assert list(contents(folder).values()) == before
    # Where capital letters count, another file may have that very name.
    put(folder / "x.gguf", b"1")
    if not (folder / "X.gguf").exists():
        put(folder / "X.gguf", b"2")
        with pytest.raises(FileChangeError):
            rename(folder / "x.gguf", "X")
        assert (folder / "x.gguf").read_bytes() == b"1"
        assert (folder / "X.gguf").read_bytes() == b"2"


def test_a_link_is_renamed_and_what_it_leads_to_is_not(folder: Path, tmp_path: Path) -> None:
    target = put(tmp_path / "elsewhere" / "real.gguf")
    (folder / "link.gguf").symlink_to(os.path.relpath(target, folder))
    rename(folder / "link.gguf", "short")
    assert (folder / "short.gguf").resolve() == target
    target.unlink()  # and one that leads to nothing
    rename(folder / "short.gguf", "lost")
    assert (folder / "lost.gguf").is_symlink()


def test_what_is_no_model_file_is_refused(folder: Path) -> None:
    put(folder / "notes.txt")
    with pytest.raises(FileChangeError, match="not a model file"):
        rename(folder / "notes.txt", "x")
    (folder / "dir.gguf").mkdir()
    with pytest.raises(NotAFileError):
        rename(folder / "dir.gguf", "x")
    os.mkfifo(folder / "pipe.gguf")
    with pytest.raises(NotAFileError):
        rename(folder / "pipe.gguf", "x")
    with pytest.raises(ModelNotFoundError):
        rename(folder / "none.gguf", "x")
    odd = folder / os.fsdecode(b"\xff.gguf")
    odd.write_bytes(b"")
    with pytest.raises(FileChangeError, match="not valid UTF-8"):
        rename(odd, "x")


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EIO])
def test_when_one_part_fails_all_have_their_old_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, code: int
) -> None:
    parts = put_split(folder, "big", 3)
    before = contents(folder)
    done = 0
    real = moves._move

    def failing(move: Any, watch: Any) -> None:
        nonlocal done
        done += 1
        if done == at:
            raise OSError(code, os.strerror(code))
        real(move, watch)

    monkeypatch.setattr(moves, "_move", failing)
    with pytest.raises(FileChangeError) as caught:
        rename(parts[0], "new")
    expected = {errno.EACCES: "permission", errno.ENOSPC: "space", errno.EIO: "write"}
    assert problem_of(caught) == expected[code]
    assert contents(folder) == before
    assert not list(config.trash_dir().glob("*.json"))


@pytest.mark.parametrize("name", ["m", "mm", "mmproj", "p", "mmproj-m"])
def test_the_name_is_found_where_it_stands_and_not_in_other_words(folder: Path, name: str) -> None:
    put(folder / f"{name}.gguf")
    put_projector(folder / f"mmproj-{name}.gguf")
    put_projector(folder / f"{name}_mmproj-f16.gguf")
    put(folder / f"mmproj-{name}.gguf.sha256", b"x")
    rename(folder / f"{name}.gguf", "new")
    expected = ["mmproj-new.gguf", "mmproj-new.gguf.sha256", "new.gguf", "new_mmproj-f16.gguf"]
    if name == "mmproj":  # both readings are right
        expected = ["new-mmproj.gguf", "new-mmproj.gguf.sha256", *expected[2:]]
    assert list(contents(folder)) == sorted(expected)
    remove("new")
    restore("new", name)
    assert (folder / f"{name}.gguf").is_file()


def test_a_file_that_comes_there_in_the_last_moment_is_not_written_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = put_split(folder, "big", 2)
    before = contents(folder)
    theirs = folder / "new-00002-of-00002.gguf"
    real = os.link

    def link(source: Any, target: Any, **keywords: Any) -> None:
        if Path(target) == theirs:
            theirs.write_bytes(b"somebody else's")
        real(source, target, **keywords)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileChangeError) as caught:
        rename(parts[0], "new")
    assert problem_of(caught) == "taken"
    assert contents(folder) == {**before, theirs.name: b"somebody else's"}


def test_a_file_system_without_second_names_does_as_well(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    parts = put_split(folder, "big")
    put(folder / "taken.gguf", b"other")
    rename(parts[0], "new")
    with pytest.raises(FileChangeError):
        rename(put(folder / "a.gguf"), "taken")
    assert (folder / "taken.gguf").read_bytes() == b"other"


def test_a_folder_that_may_not_be_written_to(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(open_folder))
    path = put(open_folder / "models" / "a.gguf")
    (open_folder / "models").chmod(0o555)
    (open_folder / "trash").mkdir()
    (open_folder / "trash").chmod(0o777)
    rename_of_somebody = lambda: rename(path, "b")  # noqa: E731
    with pytest.raises(ModelNotFoundError):
        rename(open_folder / "models" / "warm-up.gguf", "b")  # imports what it needs
    (open_folder / "trash").chmod(0o777)
    os.chown(open_folder / "trash", 65534, -1) if os.geteuid() == 0 else None
    with without_root(), pytest.raises(FileChangeError, match="no permission") as caught:
        rename_of_somebody()
    assert problem_of(caught) == "permission"
    assert path.is_file()


def test_a_loaded_model_is_renamed_only_on_confirmation(
    manager: ModelManager, folder: Path
) -> None:
    path = put(folder / "busy.gguf")
    model = manager.load(str(path), backend="scripted")
    with pytest.raises(ModelInUseError, match=f"process {model.pid}") as caught:
        rename("busy", "calm")
    assert caught.value.details == {"problem": "in_use", "pids": [model.pid]}
    assert path.is_file()
    result = rename("busy", "calm", confirm=True)
    assert "still loaded under its old name" in str(result)
    assert model.complete("a", max_tokens=3).text  # and goes on
    model.unload()


def test_a_model_that_was_renamed_while_loaded_still_counts_as_loaded(
    no_leaks: None, folder: Path
) -> None:
    if importlib.util.find_spec("llama_cpp") is None or sys.platform != "linux":
        pytest.skip("only Linux tells what a process has mapped, and only llama.cpp maps")
    path = write_model(folder / "busy.gguf", "llama")  # never ends its reply by itself
    llama = ModelManager(keep_alive=0)
    try:
        model = llama.load(str(path), backend="llama.cpp")
        rename(path, "calm", confirm=True)
        with pytest.raises(ModelInUseError, match=f"process {model.pid}"):
            remove(folder / "calm.gguf")
        remove(folder / "calm.gguf", confirm=True)
        assert model.complete("a", max_tokens=3).usage.num_completion_tokens == 3
        empty_trash()
        assert model.complete("a", max_tokens=3).usage.num_completion_tokens == 3
    finally:
        llama.close()


def test_the_note_of_the_last_model_follows(folder: Path) -> None:
    path = put(folder / "last.gguf")
    preferences = Preferences()
    preferences.set(LAST_MODEL, {"path": str(path), "settings": {"n_ctx": 512}})
    result = rename("last", "latest")
    assert preferences.get(LAST_MODEL) == {"path": str(result.path), "settings": {"n_ctx": 512}}
    rename(put(folder / "other.gguf"), "another")
    assert preferences.get(LAST_MODEL)["path"] == str(result.path)


RACER = """
import sys
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import GgufWidgetsError
path, names = sys.argv[1], sys.argv[2:]
print("ready", flush=True)
sys.stdin.readline()
for name in names:
    try:
        print(rename(path, name).new_name, flush=True)
    except GgufWidgetsError as error:
        print(type(error).__name__, error.details.get("problem"), flush=True)
"""


def race(code: str, *arguments: list[str]) -> list[list[str]]:
    """Run programs at the same moment and return what each of them said."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for args in arguments
    ]
    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        for program in programs:
            assert program.stdin is not None
            program.stdin.write("\n")
            program.stdin.flush()
        return [program.communicate(timeout=60)[0].splitlines() for program in programs]
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def test_two_processes_rename_the_same_model_and_one_of_them_wins(folder: Path) -> None:
    for turn in range(3):
        parts = put_split(folder, f"m{turn}", 4)
        before = sorted(contents(folder).values())
        said = race(RACER, [str(parts[0]), "one"], [str(parts[0]), "two"])
        winners = [line for lines in said for line in lines if line in ("one", "two")]
        assert len(winners) == 1
        assert sorted(contents(folder).values()) == before
        assert len(list(folder.glob(f"{winners[0]}-*"))) == 4
        for path in folder.iterdir():
            path.unlink()


def test_two_processes_give_two_models_the_same_name_and_both_files_live(folder: Path) -> None:
    for _ in range(3):
        one, two = put(folder / "1.gguf", b"1"), put(folder / "2.gguf", b"2")
        said = race(RACER, [str(one), "same"], [str(two), "same"])
        assert sorted(line for lines in said for line in lines) == ["FileChangeError taken", "same"]
        assert sorted(contents(folder).values()) == [b"1", b"2"]
        for path in folder.iterdir():
            path.unlink()
