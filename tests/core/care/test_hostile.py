"""Races, forged notes, odd disks: what somebody else does to the files is never done through us."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gguf_widgets.core import config
from gguf_widgets.core.care import moves, records
from gguf_widgets.core.care import removing as trash_module
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.moves import carry_out, plan, undo
from gguf_widgets.core.care.progress import Watch
from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import FileChangeError, ModelNotFoundError
from tests.core.care.conftest import contents, put, put_split

posix = pytest.mark.skipif(os.name != "posix", reason="links and pipes are made otherwise there")


def problem(call: Any) -> str:
    with pytest.raises(FileChangeError) as caught:
        call()
    return str(caught.value.details["problem"])


# --- notes that are forged, or of another machine -------------------------------------------------


@pytest.mark.parametrize("state", ["removing", "restoring"])
def test_a_forged_record_moves_no_file_from_elsewhere(
    folder: Path, tmp_path: Path, state: str
) -> None:
    put(folder / "a.gguf")
    entry = remove("a").entry
    letter = put(tmp_path / "letter.txt", b"Dear Emma")
    here = msgspec.structs.replace(plan(letter, letter), source=str(tmp_path / "stolen.txt"))
    note = entry.folder / "record.json"
    record = json.loads(note.read_text())
    note.write_text(json.dumps({**record, "state": state, "moves": [msgspec.to_builtins(here)]}))
    assert [one.name for one in trash()] == ["a"]
    assert letter.read_bytes() == b"Dear Emma"
    assert not (tmp_path / "stolen.txt").exists()
    assert restore("a").path.is_file()


def test_a_forged_rename_moves_no_file_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    put(folder / "a.gguf")
    remove("a")
    letter = put(tmp_path / "letter.txt", b"Dear Emma")
    here = msgspec.structs.replace(plan(letter, letter), source=str(tmp_path / "stolen.txt"))
    note = {"version": 1, "moves": [msgspec.to_builtins(here)]}
    (config.trash_dir() / "renaming-1.json").write_text(json.dumps(note))
    trash()
    assert letter.read_bytes() == b"Dear Emma"
    assert not (config.trash_dir() / "renaming-1.json").exists()


@posix
@pytest.mark.timeout(20)
def test_a_named_pipe_for_a_record_is_not_waited_for(folder: Path) -> None:
    put(folder / "a.gguf", b"one")
    entry = remove(folder / "a.gguf").entry
    (entry.folder / "record.json").unlink()
    os.mkfifo(entry.folder / "record.json")
    assert [one.name for one in trash()] == ["a"]
    assert restore("a").path.read_bytes() == b"one"


def test_what_was_restored_is_not_taken_back_because_its_record_could_not_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.gguf")
    remove("a")
    # As on Windows, where a virus scanner has the file open.
    monkeypatch.setattr(trash_module, "remove_record", lambda place: None)
    assert restore("a").path == path
    assert trash() == []
    assert path.is_file()
    put(folder / "b.gguf")
    remove("b")
    empty_trash()
    assert path.is_file()


# --- files that change under our hands ------------------------------------------------------------


@posix
@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["a link", "a named pipe", "a file that grows", "a shorter one"])
def test_what_has_come_in_a_files_place_is_not_copied(
    tmp_path: Path, other_disk: Path, what: str
) -> None:
    source = put(tmp_path / "x.gguf", b"x" * 5_000_000)
    move = plan(source, other_disk / "x.gguf")
    secret = put(tmp_path / "secret", b"s" * 5_000_000)
    os.utime(secret, ns=(0, move.mtime_ns))
    source.unlink()
    if what == "a link":
        source.symlink_to(secret)
    elif what == "a named pipe":
        os.mkfifo(source)
    else:
        put(source, b"x" * (9_000_000 if what == "a file that grows" else 10))
    assert problem(lambda: carry_out([move])) in ("changed", "write")
    assert list(other_disk.iterdir()) == []
    assert os.path.lexists(source)


@pytest.mark.timeout(20)
def test_a_file_that_grows_as_fast_as_it_is_copied_is_not_copied_for_ever(
    tmp_path: Path, other_disk: Path
) -> None:
    source = put(tmp_path / "x.gguf", b"x" * 5_000_000)

    def grow() -> bool:
        with source.open("ab") as file:
            file.write(b"x" * 5_000_000)
        return False

    watch = Watch("copy", 5_000_000, cancelled=grow)
    assert problem(lambda: carry_out([plan(source, other_disk / "x.gguf")], watch)) == "changed"
    assert list(other_disk.iterdir()) == []


def test_a_model_that_disappears_in_the_middle_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.gguf")
    parts = put_split(folder, "big")
    real = os.scandir

    def vanishing(place: Any) -> Any:
        found = real(place)
        for one in (path, *parts):
            one.unlink(missing_ok=True)
        return found

    for one in (path, parts[0]):
        with monkeypatch.context() as patch:
            patch.setattr("gguf_widgets.core.care.members.os.scandir", vanishing)
            with pytest.raises(ModelNotFoundError, match="any more"):
                model_files(one)
        put(path)
        parts = put_split(folder, "big")


def test_the_name_of_a_new_folder_is_safe_before_anything_is_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder / "a.gguf")
    synced: list[Path] = []

    def sync(place: Path) -> None:
        assert path.exists(), "the file has lost its old name before the new one was safe"
        synced.append(place)

    monkeypatch.setattr(trash_module, "sync_folder", sync)
    monkeypatch.setattr("gguf_widgets.core.plain_files.sync_folder", sync)
    remove("a")
    (entry,) = trash()
    assert synced == [config.trash_dir(), entry.folder]


# --- disks with ideas of their own ----------------------------------------------------------------


class CaseBlind:
    """Makes a folder look as it does on a disk that takes "a" for "A" and composes no accents."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder = folder
        self._lexists, self._lstat = os.path.lexists, Path.lstat
        patch.setattr(moves.os.path, "lexists", lambda path: self._lexists(self.real(Path(path))))
        patch.setattr(Path, "lstat", lambda path: self._lstat(self.real(path)))

    def real(self, path: Path) -> Path:
        if path.parent != self._folder:
            return path
        wanted = unicodedata.normalize("NFD", path.name).casefold()
        names = [one.name for one in self._folder.iterdir()]
        found = [n for n in names if unicodedata.normalize("NFD", n).casefold() == wanted]
        return self._folder / found[0] if found else path


@pytest.mark.parametrize(
    ("old", "new"), [("model", "Model"), ("caf\u00e9", "Caf\u00e9"), ("cafe\u0301", "caf\u00e9")]
)
def test_a_name_that_the_disk_takes_for_the_old_one_can_be_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    put(folder / f"{old}.gguf", b"one")
    with monkeypatch.context() as patch:
        CaseBlind(patch, folder)
        assert rename(folder / f"{old}.gguf", new).new_name == new
    assert contents(folder) == {f"{new}.gguf": b"one"}
    other = put(folder / "other.gguf", b"two")
    with monkeypatch.context() as patch:
        CaseBlind(patch, folder)
        assert problem(lambda: rename(other, new.upper())) == "taken"
    assert other.read_bytes() == b"two"


@posix
def test_two_names_of_one_file_are_two(folder: Path) -> None:
    one = put(folder / "model.gguf", b"one")
    (folder / "Model.gguf").hardlink_to(one)
    assert problem(lambda: rename(one, "Model")) == "taken"
    assert len(contents(folder)) == 2


@posix
def test_a_rename_of_capital_letters_that_was_killed_between_is_taken_back(folder: Path) -> None:
    one = put(folder / "model.gguf", b"one")
    move = plan(one, folder / "Model.gguf")
    (folder / "Model.gguf").hardlink_to(one)
    assert undo([move]) == []
    assert contents(folder) == {"model.gguf": b"one"}


def test_a_disk_that_counts_time_in_steps_of_two_seconds(
    folder: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = put_split(folder, "big", 3)
    for part in parts:
        os.utime(part, ns=(10**18 + 1_234_567_890, 10**18 + 1_234_567_890))
    before = contents(folder)
    config.trash_dir().symlink_to(other_disk)
    real = os.utime

    def coarse(path: Any, times: Any = None, *, ns: Any = None, **more: Any) -> None:
        if ns is not None and other_disk in Path(path).resolve().parents:
            ns = tuple(value // 2_000_000_000 * 2_000_000_000 for value in ns)
        real(path, times, ns=ns, **more) if ns is not None else real(path, times, **more)

    monkeypatch.setattr(os, "utime", coarse)
    real_move, done = moves._move, 0

    def failing(move: Any, watch: Any) -> None:
        nonlocal done
        done += 1
        if done == 3:
            raise PermissionError(13, "Permission denied")
        real_move(move, watch)

    monkeypatch.setattr(moves, "_move", failing)
    assert problem(lambda: remove(parts[0])) == "permission"
    assert contents(folder) == before
    monkeypatch.setattr(moves, "_move", real_move)
    remove(parts[0])
    restore("big")
    assert contents(folder) == before


def test_a_disk_that_knows_no_permissions_takes_a_copy(
    folder: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.gguf", b"one")
    config.trash_dir().symlink_to(other_disk)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(shutil, "copystat", refuse)
    remove(folder / "a.gguf")
    assert restore("a").path.read_bytes() == b"one"


def test_a_record_with_a_note_is_read_and_told_as_before(folder: Path) -> None:
    put(folder / "a.gguf")
    entry = remove("a").entry
    assert set(entry.to_dict()["files"][0]) == {"original", "stored", "kind", "size", "link"}
    old = {"version": 1, "name": "a", "removed_at": 1.0, "files": [
        {"original": str(folder / "a.gguf"), "stored": "a.gguf", "kind": "model", "size": 1}
    ]}  # fmt: skip
    (entry.folder / "record.json").write_text(json.dumps(old))
    record = records.read_record(entry.folder)
    assert record is not None
    assert record.files[0].note is None
