"""The end of an upload: recognised, named, never over another file; and what was left behind."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.model_bytes import model_bytes, sha256_of
from support.upload_steps import DATA, DIGEST, SIZE, at, begin, refused, send, upload_all

from gguf_widgets.core.care.hashes import known_hashes
from gguf_widgets.core.upload import UploadStore, finishing
from gguf_widgets.core.upload.folder import UploadFolder

# --- the end --------------------------------------------------------------------------------------


def test_the_same_file_again_is_recognised_under_any_name(store: UploadStore, models: Path) -> None:
    upload_all(store, name="first.gguf")
    again = begin(store, name="second.gguf")
    assert again.looks_like == "first.gguf"
    assert "first.gguf" in again.notes[0]
    send(store, again)
    there = store.finish(again.id, writer=again.writer)
    assert (there.state, there.path) == ("already_there", str(models / "first.gguf"))
    assert there.sha256 == DIGEST
    assert not (models / "second.gguf").exists()
    assert upload_all(store, name="first.gguf").state == "already_there"
    assert store.uploads() == []


def test_its_hash_is_known_to_later_checks_until_the_file_changes(store: UploadStore) -> None:
    path = Path(upload_all(store, name="first.gguf").path)
    known = known_hashes(path)
    assert [(one.sha256, one.source) for one in known] == [(DIGEST, "the upload")]
    with path.open("ab") as file:
        file.write(b"more")
    assert known_hashes(path) == []


def test_nothing_is_written_over(store: UploadStore, models: Path) -> None:
    models.mkdir()
    for taken in ("M.gguf", "link.gguf"):
        if taken == "link.gguf":
            (models / taken).symlink_to(models / "nowhere")
        else:
            (models / taken).write_bytes(b"somebody's")
    details = refused("exists", begin, store)
    assert details["suggestion"] == "m (2).gguf"
    assert details["path"] == str(models / "M.gguf")
    refused("exists", begin, store, name="link.gguf")
    assert begin(store, save_as=details["suggestion"]).name == "m (2).gguf"
    assert (models / "M.gguf").read_bytes() == b"somebody's"
    assert not (models / "nowhere").exists()


def test_a_name_that_was_taken_meanwhile_is_told_at_the_end_and_another_one_taken(
    store: UploadStore, models: Path
) -> None:
    upload = begin(store)
    send(store, upload)
    (models / "m.gguf").write_bytes(b"somebody's")
    details = refused("exists", store.finish, upload.id, writer=upload.writer)
    failed = store.status(upload.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["details"]["suggestion"] == details["suggestion"] == "m (2).gguf"
    done = store.finish(upload.id, writer=upload.writer, save_as="m (2).gguf")
    assert (done.state, Path(done.path).name) == ("done", "m (2).gguf")
    assert (models / "m.gguf").read_bytes() == b"somebody's"
    assert sha256_of(models / "m (2).gguf") == DIGEST


def test_a_check_that_was_interrupted_is_told_and_done_again(
    store: UploadStore, models: Path
) -> None:
    upload = begin(store)
    send(store, upload)
    state = models / ".uploads" / f"{upload.id}.json"
    plain = json.loads(state.read_bytes())
    gone = plain["owner"] | {"started_at": 1.0}  # a process that has ended
    state.write_text(json.dumps(plain | {"status": "checking", "owner": gone}))
    later = UploadStore(models)
    (listed,) = later.uploads()
    assert (listed.state, listed.offset) == ("failed", SIZE)
    assert listed.error is not None
    assert listed.error["details"]["problem"] == "interrupted"
    assert later.finish(upload.id, writer=upload.writer).sha256 == DIGEST


def test_a_name_that_only_differs_in_its_capitals_is_taken(
    store: UploadStore, models: Path
) -> None:
    upload = begin(store)
    send(store, upload)
    (models / "M.GGUF").write_bytes(b"somebody's")
    refused("exists", store.finish, upload.id, writer=upload.writer)
    assert not any(path.name == "m.gguf" for path in models.iterdir())


def test_a_name_taken_at_the_very_last_moment_is_not_lost(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(store)
    send(store, upload)
    real = finishing.already_taken

    def look(folder: Path, name: str) -> Path | None:
        found = real(folder, name)
        (models / "m.gguf").write_bytes(b"somebody's")
        return found

    monkeypatch.setattr(finishing, "already_taken", look)
    refused("exists", store.finish, upload.id, writer=upload.writer)
    assert (models / "m.gguf").read_bytes() == b"somebody's"
    assert store.status(upload.id).offset == SIZE


def test_without_hard_links_it_is_renamed(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    assert upload_all(store).state == "done"
    assert (models / "m.gguf").read_bytes() == DATA
    assert upload_all(store).state == "already_there"


def test_a_wrong_hash_is_refused(store: UploadStore, models: Path) -> None:
    upload = begin(store)
    send(store, upload)
    finish = store.finish
    details = refused(
        "wrong_hash", finish, upload.id, writer=upload.writer, expected_sha256="0" * 64
    )
    assert details["sha256"] == DIGEST
    assert store.uploads() == []
    assert not (models / "m.gguf").exists()
    upload = begin(store)
    send(store, upload)
    assert finish(upload.id, writer=upload.writer, expected_sha256=DIGEST.upper()).state == "done"


def test_the_check_can_be_stopped_and_begun_again(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(store)
    send(store, upload)
    reading, go_on = threading.Event(), threading.Event()
    real = finishing.find_same

    def slow(*args: Any) -> Path | None:
        reading.set()
        assert go_on.wait(30)
        return real(*args)

    monkeypatch.setattr(finishing, "find_same", slow)
    assert store.start_finish(upload.id, writer=upload.writer).state == "checking"
    assert reading.wait(30)
    # Others are not kept waiting meanwhile.
    other = begin(store, model_bytes(SIZE, seed=3), "n.gguf")
    assert store.status(other.id).place == 1
    store.pause(upload.id, writer=upload.writer)
    go_on.set()
    end = time.monotonic() + 30
    while any(one.name == "upload-finish" for one in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert store.status(upload.id).state == "paused"
    assert not (models / "m.gguf").exists()
    store.resume(upload.id, writer=upload.writer)
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


# --- links, damage, old parts ---------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_nothing_leaves_the_models_folder(store: UploadStore, models: Path) -> None:
    outside = models.parent / "outside"
    outside.mkdir()
    models.mkdir()
    (models / ".uploads").symlink_to(outside)
    refused("folder", begin, store)
    assert list(outside.iterdir()) == []
    (models / ".uploads").unlink()
    (models / ".uploads").write_bytes(b"")
    refused("folder", begin, store)
    (models / ".uploads").unlink()

    upload = begin(store)
    victim = outside / "victim"
    victim.write_bytes(b"")
    store.close()
    for kind in ("part", "json.new"):
        path = models / ".uploads" / f"{upload.id}.{kind}"
        path.unlink(missing_ok=True)
        path.symlink_to(victim)
    refused("disk", store.write, upload.id, 0, DATA, writer=upload.writer)
    assert victim.read_bytes() == b""
    (models / ".uploads" / f"{upload.id}.part").unlink()
    os.mkfifo(models / ".uploads" / f"{upload.id}.part")
    refused("disk", store.write, upload.id, 0, DATA, writer=upload.writer)  # and does not wait
    store.cancel(upload.id, writer=upload.writer)
    assert victim.read_bytes() == b""


def test_a_models_folder_that_is_itself_a_link_is_the_users_choice(
    models: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    models.symlink_to(tmp_path / "disk")
    upload_all(UploadStore(models))
    assert sha256_of(tmp_path / "disk" / "m.gguf") == DIGEST


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": 5}', b"\xff\xfe", b"x" * 100_000])
def test_old_and_damaged_uploads_are_listed_and_removed_only_on_request(
    store: UploadStore, models: Path, damage: bytes
) -> None:
    good, bad = begin(store), begin(store, model_bytes(SIZE, seed=5), "bad.gguf")
    send(store, good, end=100_000)
    store.release(good.id, writer=good.writer)
    (models / ".uploads" / f"{bad.id}.json").write_bytes(damage)
    later = UploadStore(models)
    listed = {one.id: one for one in later.uploads()}
    assert listed[good.id].offset == 100_000
    assert listed[bad.id].state == "damaged"
    refused("damaged", later.status, bad.id)
    assert begin(later).id == good.id  # the damaged one stops nobody
    later.release(good.id, writer=begin(later, take_over=True).writer)
    later.remove(bad.id)
    later.remove(good.id)
    assert later.uploads() == []
    refused("unknown", later.remove, good.id)


def test_a_part_that_somebody_else_wrote_into_is_refused(store: UploadStore, models: Path) -> None:
    upload = begin(store)
    (models / ".uploads" / f"{upload.id}.part").write_bytes(bytes(SIZE + 1))
    refused("damaged", store.write, upload.id, 0, DATA[:1000], writer=upload.writer)
    refused("damaged", begin, store, writer=upload.writer)


def test_no_descriptor_and_no_thread_is_left(models: Path) -> None:
    process = psutil.Process()
    upload_all(UploadStore(models), name="warm.gguf")
    before = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    store = UploadStore(models)
    for number in range(20):
        data = model_bytes(SIZE, seed=100 + number)
        upload = begin(store, data, f"{number}.gguf")
        send(store, upload, data, end=150_000)
        if number % 3 == 0:
            store.cancel(upload.id, writer=upload.writer)
        elif number % 3 == 1:
            store.pause(upload.id, writer=upload.writer)
        else:
            send(store, at(upload, 150_000), data)
            store.finish(upload.id, writer=upload.writer)
    store.close()
    after = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    assert after <= before
    assert not any(one.name.startswith("upload") for one in threading.enumerate())


# --- killed at any moment -------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here, as far as the disk can tell."""


class _Killer:
    """From the n-th change to the disk on, none happens any more: as after a kill -9."""

    def __init__(self) -> None:
        self.folder = ""
        self.left = -1
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.left < 0 or not self.folder:
            return
        if event == "open":
            changes = isinstance(args[2], int) and args[2] & (os.O_CREAT | os.O_TRUNC)
        else:
            changes = event in (
                "os.link",
                "os.remove",
                "os.rename",
                "os.mkdir",
                "os.rmdir",
                "os.truncate",
            )
        if changes and str(args[0]).startswith(self.folder) and not str(args[0]).endswith(".lock"):
            if self.left == 0:
                raise Killed
            self.left -= 1


_killer = _Killer()


@pytest.mark.parametrize("links", [True, False])
def test_killed_at_any_moment_it_leaves_a_part_that_goes_on_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:

        def no_links(*_: object) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(Path, "hardlink_to", no_links)
    moments, whole = 0, False
    while not whole:
        models = tmp_path / str(moments)
        models.mkdir()
        store = UploadStore(models)
        _killer.folder, _killer.left = str(models), moments
        try:
            upload_all(store)
            whole = True
        except Killed:
            pass
        finally:
            _killer.left = -1
        store.close()
        for path in models.glob("*.gguf"):
            assert path.read_bytes() == DATA
        later = UploadStore(models)
        named = list(models.glob("*.gguf")) != []
        assert len(later.uploads()) <= (0 if named else 1)
        upload = begin(later, take_over=True)
        send(later, upload)
        assert later.finish(upload.id, writer=upload.writer).sha256 == DIGEST
        assert [path.read_bytes() == DATA for path in models.glob("*.gguf")] == [True]
        assert [path for path in (models / ".uploads").iterdir() if path.suffix != ".lock"] == []
        later.close()
        moments += 1
    assert moments > 12


def test_a_record_says_nothing_that_another_program_could_misread(models: Path) -> None:
    """The state is plain JSON with a version, private to the user."""
    store = UploadStore(models)
    upload = begin(store, name="half \ud83d letter.gguf")
    path = models / ".uploads" / f"{upload.id}.json"
    assert json.loads(path.read_bytes())["version"] == 1
    if os.name == "posix":
        assert (models / ".uploads").stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o077 == 0
    assert UploadFolder(models).read(upload.id) is not None
