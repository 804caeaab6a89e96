"""Removing so that it can be had back: what went in comes out, and nothing is lost on the way."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.core import config
from gguf_widgets.core.care import moves, trash_folder
from gguf_widgets.core.care import removing as trash_module
from gguf_widgets.core.care.journal import LOCK_TIMEOUT_S, locked
from gguf_widgets.core.care.progress import Progress
from gguf_widgets.core.care.removing import empty_trash, remove, restore, trash
from gguf_widgets.core.care.renaming import rename
from gguf_widgets.core.errors import FileChangeError, ModelInUseError
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.manager import ModelManager
from tests.core.care.conftest import contents, put, put_projector, put_split
from tests.core.care.test_rename import race


def names() -> list[str]:
    return [entry.name for entry in ModelLibrary().entries()]


def refused(call: Any) -> FileChangeError:
    with pytest.raises(FileChangeError) as caught:
        call()
    assert caught.value.message.endswith(".")
    assert caught.value.details["problem"]
    return caught.value


def test_what_is_removed_comes_back_as_it_was(folder: Path) -> None:
    parts = put_split(folder / "sub", "big", 3)
    put(folder / "sub" / f"{parts[0].name}.sha256", b"sum")
    put_projector(folder / "sub" / "mmproj-big.gguf")
    put(folder / "stays.gguf")
    before = contents(folder)
    times = {path: path.stat().st_mtime_ns for path in parts}
    removed = remove("big")
    assert list(contents(folder)) == ["stays.gguf"]
    assert "big" not in names()
    (entry,) = trash()
    assert entry == removed.entry
    assert entry.name == "big"
    assert entry.original == parts[0]
    assert entry.size_bytes == sum(len(data) for n, data in before.items() if n != "stays.gguf")
    assert len(entry.files) == 5
    assert f"gguf-widgets restore {entry.id}" in str(removed)
    assert json.loads(json.dumps(removed.to_dict()))["entry"]["id"] == entry.id
    result = restore("big")
    assert (result.name, result.path) == ("big", parts[0])
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in parts} == times
    assert trash() == []
    assert [path.name for path in config.trash_dir().iterdir()] == [".lock"]


def test_a_broken_file_can_be_removed_and_a_folder_that_is_gone_comes_back(folder: Path) -> None:
    path = put(folder / "below" / "bad.gguf", b"no model")
    remove("bad")
    path.parent.rmdir()
    assert restore("bad").path == path
    assert path.read_bytes() == b"no model"


def test_only_the_link_goes(folder: Path, tmp_path: Path) -> None:
    target = put(tmp_path / "elsewhere" / "real.gguf")
    (folder / "link.gguf").symlink_to(target)
    (folder / "relative.gguf").symlink_to(os.path.relpath(target, folder))
    (folder / "lost.gguf").symlink_to("nowhere")
    before = contents(folder)
    for name in ("link", "relative", "lost"):
        result = remove(folder / f"{name}.gguf")
        assert result.entry.is_link
        assert "stays as it is" in str(result)
    assert contents(folder) == {}
    assert target.is_file()
    for entry in trash():
        restore(entry)
    assert contents(folder) == before
    for name in ("link", "relative"):
        remove(folder / f"{name}.gguf")
    assert empty_trash().freed_bytes < 1000
    assert target.is_file()


def test_a_name_that_is_in_use_again(folder: Path) -> None:
    put(folder / "a.gguf", b"old")
    remove(folder / "a.gguf")
    put(folder / "a.gguf", b"new")
    error = refused(lambda: restore("a"))
    assert error.details["problem"] == "taken"
    assert error.details["suggestion"] == "a (2)"
    assert '"a (2)" is free' in error.message == str(error)
    assert [entry.name for entry in trash()] == ["a"]
    result = restore("a", error.details["suggestion"])
    assert result.path.read_bytes() == b"old"
    assert (folder / "a.gguf").read_bytes() == b"new"
    for bad in ("../x", "CON", "x/y"):
        assert refused(lambda bad=bad: restore("a", bad)).details["problem"] == "name"


def test_several_of_one_name_are_told_apart_by_their_ids(folder: Path) -> None:
    for data in (b"1", b"2"):
        put(folder / "a.gguf", data)
        remove(folder / "a.gguf")
    error = refused(lambda: restore("a"))
    assert error.details["problem"] == "ambiguous"
    ids = error.details["ids"]
    assert ids == [entry.id for entry in trash()]  # the latest first
    assert restore(ids[0]).path.read_bytes() == b"2"
    assert refused(lambda: restore(ids[0])).details["problem"] == "not_in_trash"
    assert refused(lambda: restore("zebra")).message.startswith(
        'There is nothing called "zebra" in the trash. In it: "a".'
    )
    assert restore("A", "again").path.read_bytes() == b"1"
    assert refused(lambda: restore("a")).message.endswith("It is empty.")


def test_emptying_deletes_what_was_asked_for_and_says_how_much(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(empty_trash()) == "Nothing was deleted."
    now = time.time()
    for name, age in (("old", 40), ("new", 1), ("future", -5)):
        monkeypatch.setattr(time, "time", lambda age=age: now - age * 86400)
        put(folder / f"{name}.gguf", b"x" * 100)
        remove(folder / f"{name}.gguf")
    monkeypatch.setattr(time, "time", lambda: now)
    assert [entry.name for entry in trash()] == ["future", "new", "old"]
    # What was removed by a clock that has been set back since is not old.
    result = empty_trash(older_than=dt.timedelta(days=30))
    assert [entry.name for entry in result.deleted] == ["old"]
    assert (result.freed_bytes, result.kept) == (100, 2)
    assert (
        str(result)
        == "1 model was deleted for good: 100 bytes are free again. 2 still in the trash."
    )
    assert empty_trash(older_than=30 * 86400).deleted == ()
    assert refused(lambda: empty_trash(ids=["new", "nothing"])).details["problem"] == "not_in_trash"
    assert len(trash()) == 2
    assert [entry.name for entry in empty_trash(ids=["new"]).deleted] == ["new"]
    assert empty_trash().freed_bytes == 100
    assert [path.name for path in config.trash_dir().iterdir()] == [".lock"]


def test_one_thing_that_cannot_be_deleted_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        put(folder / f"{name}.gguf")
        remove(folder / f"{name}.gguf")
    real = Path.unlink

    def failing(self: Path, missing_ok: bool = False) -> None:
        if self.name == "a.gguf":
            raise PermissionError(errno.EACCES, "Permission denied")
        real(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", failing)
        result = empty_trash()
    assert [entry.name for entry in result.deleted] == ["b"]
    assert "You have no permission" in result.notes[0]
    assert result.kept == 1
    assert [entry.name for entry in trash()] == ["a"]


def test_looking_makes_nothing(home: Path) -> None:
    assert trash() == []
    refused(lambda: restore("x"))
    empty_trash()
    assert list(home.iterdir()) == []


def test_records_that_cannot_be_believed_lose_no_file_and_lead_nowhere(
    folder: Path, tmp_path: Path
) -> None:
    put(folder / "a.gguf", b"data")
    record = remove(folder / "a.gguf").entry.folder / "record.json"
    known = json.loads(record.read_text())
    outside = tmp_path / "outside"
    outside.mkdir()
    put(outside / "secret.gguf", b"secret")
    for text in ("", "{", "null", "[" * 5000, json.dumps({**known, "version": 9}), "\xff"):
        record.write_text(text, "latin-1")
        (entry,) = trash()
        assert entry.removed_at is None
        assert [file.stored for file in entry.files] == ["a.gguf"]
        assert empty_trash(older_than=0).deleted == ()  # nobody knows how old it is
    hostile = {**known, "files": [{**known["files"][0], "stored": "../../../outside/secret.gguf"}]}
    record.write_text(json.dumps(hostile))
    (entry,) = trash()
    assert [file.stored for file in entry.files] == ["a.gguf"]
    hostile = {**known, "files": [{**known["files"][0], "original": str(outside / "a.gguf")}]}
    record.write_text(json.dumps(hostile))
    result = restore("a")
    assert result.path == folder / "a.gguf"  # not where the record would have it
    assert "not one of this program's" in str(result)
    assert contents(outside) == {"secret.gguf": b"secret"}
    record.parent.mkdir()
    put(record.parent / "b.gguf", b"lost and found")
    assert restore("b").path.read_bytes() == b"lost and found"


def test_a_loaded_model_is_removed_only_on_confirmation_and_goes_on(
    manager: ModelManager, folder: Path
) -> None:
    path = put(folder / "busy.gguf")
    model = manager.load(str(path), backend="scripted")
    with pytest.raises(ModelInUseError, match="is loaded"):
        remove(path)
    assert trash() == []
    result = remove(path, confirm=True)
    assert "goes on working until it is unloaded" in str(result)
    assert model.complete("a", max_tokens=3).text
    model.unload()
    restore("busy")
    remove(path)


def test_a_trash_on_another_disk_gets_a_copy_that_was_checked(
    home: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "models").symlink_to(other_disk)
    parts = put_split(other_disk, "big")
    data = os.urandom(9_000_000)
    put(other_disk / "one.gguf", data)
    os.utime(other_disk / "one.gguf", ns=(10**18 + 1, 10**18 + 123_456_789))
    (other_disk / "link.gguf").symlink_to("one.gguf")
    before = contents(other_disk)
    seen: list[Progress] = []
    entry = remove(home / "models" / "one.gguf", on_progress=seen.append).entry
    assert (entry.folder / "one.gguf").read_bytes() == data
    assert (seen[0].stage, seen[-1].done, seen[-1].total) == ("copy", len(data), len(data))
    remove("big")
    remove(home / "models" / "link.gguf")
    assert contents(other_disk) == {}
    for entry in trash():
        restore(entry)
    assert contents(other_disk) == before
    assert (other_disk / "one.gguf").stat().st_mtime_ns == 10**18 + 123_456_789
    assert trash() == []

    # Stopped in the middle: it is where it was, and nothing is left in the trash.
    error = refused(lambda: remove(home / "models" / "one.gguf", cancelled=lambda: True))
    assert error.details["problem"] == "cancelled"
    # A copy that is not the same: the original stays.
    real = moves._hash_from_disk
    monkeypatch.setattr(moves, "_hash_from_disk", lambda path, watch: b"another")
    assert (
        "not the same as the original"
        in refused(lambda: remove(home / "models" / "one.gguf")).message
    )
    monkeypatch.setattr(moves, "_hash_from_disk", real)
    # No room there: nothing begins.
    usage = moves.shutil.disk_usage
    monkeypatch.setattr(moves.shutil, "disk_usage", lambda _: usage("/")._replace(free=10**6))
    error = refused(lambda: remove(parts[0]))
    assert (error.details["problem"], error.details["free_bytes"]) == ("space", 10**6)
    assert contents(other_disk) == before
    assert trash() == []
    assert [path.name for path in config.trash_dir().iterdir()] == [".lock"]


def fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, b"\0" * 4096)
    finally:
        os.close(descriptor)


def test_a_disk_that_fills_up_during_the_copy(
    home: Path, folder: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.trash_dir().symlink_to(small_disk)
    usage = moves.shutil.disk_usage
    monkeypatch.setattr(moves.shutil, "disk_usage", lambda _: usage("/")._replace(free=10**12))
    put_split(folder, "s")
    path = put(folder / "s-00001-of-00002.gguf.sha256", os.urandom(3_000_000))
    before = contents(folder)
    error = refused(lambda: remove("s"))  # the parts fit, what comes behind them does not
    assert error.details["problem"] == "space"
    assert contents(folder) == before
    assert trash() == []
    path.write_bytes(b"small")
    remove("s")
    assert restore("s").files[-1].read_bytes() == b"small"
    # So full that not even the note can be written: nothing moves, and emptying still works.
    remove("s")
    with pytest.raises(OSError, match="No space left"):
        fill(small_disk / "filler")
    other = put(folder / "other.gguf")
    assert refused(lambda: remove(other)).details["problem"] == "space"
    assert other.is_file()
    assert [entry.name for entry in empty_trash().deleted] == ["s"]


@pytest.mark.parametrize("call", [remove, restore])
def test_when_the_last_file_fails_all_are_where_they_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    parts = put_split(folder, "big", 3)
    if call is restore:
        remove(parts[0])
    before = contents(folder)
    kept = [entry.files for entry in trash()]
    real, done = moves._move, 0

    def failing(move: Any, watch: Any) -> None:
        nonlocal done
        done += 1
        if done == 3:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(move, watch)

    monkeypatch.setattr(moves, "_move", failing)
    error = refused(lambda: call("big" if call is restore else parts[0]))
    assert error.details["problem"] == "permission"
    assert contents(folder) == before
    assert [entry.files for entry in trash()] == kept


def test_a_name_taken_while_it_is_put_back_keeps_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal fails at its last file, and somebody has put another in the first one's place."""
    parts = put_split(folder, "big")
    first = parts[0].read_bytes()
    real, done = moves._move, 0

    def failing(move: Any, watch: Any) -> None:
        nonlocal done
        done += 1
        if done == 2:
            parts[0].write_bytes(b"somebody else's")
            raise PermissionError(errno.EACCES, "Permission denied")
        real(move, watch)

    with monkeypatch.context() as patch:
        patch.setattr(moves, "_move", failing)
        refused(lambda: remove(parts[0]))
    assert parts[0].read_bytes() == b"somebody else's"
    (entry,) = trash()
    assert (entry.folder / parts[0].name).read_bytes() == first
    assert entry.num_missing == 1


def test_while_somebody_is_moving_files_others_wait_for_a_bounded_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.gguf")
    put(folder / "b.gguf")
    remove(folder / "a.gguf")
    assert LOCK_TIMEOUT_S <= 60
    monkeypatch.setattr(locked.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    with locked():
        assert [entry.name for entry in trash()] == ["a"]  # looking does not wait
        for call in (lambda: remove(folder / "b.gguf"), lambda: restore("a"), empty_trash):
            assert refused(call).details["problem"] == "busy"
        assert refused(lambda: rename(folder / "b.gguf", "c")).details["problem"] == "busy"
    assert restore("a").path.is_file()


RACER = """
import sys
from gguf_widgets.core.care.removing import remove, restore, trash
from gguf_widgets.core.errors import GgufWidgetsError
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    for call in (remove, lambda path: restore(trash()[0]) if trash() else None):
        try:
            call(sys.argv[1])
            print("ok", flush=True)
        except GgufWidgetsError as error:
            print(type(error).__name__, error.details.get("problem"), flush=True)
"""


def test_processes_that_remove_and_restore_at_once_lose_nothing(folder: Path) -> None:
    parts = put_split(folder, "big", 3)
    before = contents(folder)
    said = race(RACER, *[[str(parts[0])]] * 3)
    told = {line for lines in said for line in lines}
    assert "ok" in told
    assert told <= {
        "ok", "ModelNotFoundError None", "FileChangeError not_in_trash", "FileChangeError taken",
        "FileChangeError missing",
    }  # fmt: skip
    for entry in trash():
        restore(entry)
    assert contents(folder) == before


def test_the_trash_is_private_and_is_no_place_for_models(folder: Path) -> None:
    put(folder / "a.gguf")
    entry = remove(folder / "a.gguf").entry
    if os.name == "posix":
        assert config.trash_dir().stat().st_mode & 0o777 == 0o700
        assert entry.folder.stat().st_mode & 0o777 == 0o700
    assert "a" not in names()
    assert trash_module.trash is trash
    assert trash_folder.entries_in(config.trash_dir()) == [entry]
