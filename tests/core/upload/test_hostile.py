"""What other programs, a full disk or a crash of the machine do to uploads that are under way."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.model_bytes import model_bytes, sha256_of
from support.upload_steps import DATA, DIGEST, SIZE, at, begin, refused, send

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.upload import UploadSession, UploadStore, beginning, finishing
from gguf_widgets.core.upload.folder import UploadFolder
from gguf_widgets.core.upload.session import MOST_HELD

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="an open file is locked there")


def part_of(models: Path, upload_id: str) -> Path:
    return models / ".uploads" / f"{upload_id}.part"


# --- the part file, in other hands ----------------------------------------------------------------


@POSIX
def test_a_link_in_the_place_of_a_part_is_neither_written_nor_named(
    store: UploadStore, models: Path
) -> None:
    secret = models.parent / "secret"
    secret.write_bytes(DATA[:150_000])
    upload = begin(store)
    send(store, upload, end=150_000)
    part = part_of(models, upload.id)
    part.unlink()
    part.symlink_to(secret)
    with pytest.raises(UploadError):
        store.write(upload.id, 150_000, DATA[150_000:], writer=upload.writer)
    assert secret.read_bytes() == DATA[:150_000]
    store.cancel(upload.id, writer=upload.writer)
    assert secret.exists()
    assert not os.path.lexists(part)


@POSIX
@pytest.mark.parametrize("what", ["link", "file", "nothing"])
def test_what_is_put_in_the_place_of_a_part_while_it_is_checked_gets_no_name(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    secret = models.parent / "secret"
    secret.write_bytes(DATA)
    upload = begin(store)
    send(store, upload)
    real = finishing.find_same

    def swap(*args: Any) -> Any:
        answer = real(*args)
        part = part_of(models, upload.id)
        part.unlink()
        if what == "link":
            part.symlink_to(secret)
        elif what == "file":
            part.write_bytes(bytes(SIZE))
        return answer

    monkeypatch.setattr(finishing, "find_same", swap)
    refused("damaged", store.finish, upload.id, writer=upload.writer)
    assert not os.path.lexists(models / "m.gguf")
    assert secret.read_bytes() == DATA


@POSIX
def test_a_link_put_there_in_the_last_moment_gets_no_name_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, target, secret = (tmp_path / name for name in ("part", "target", "secret"))
    secret.write_bytes(b"secret")
    part.symlink_to(secret)
    with pytest.raises(OSError, match="in its place"):
        finishing.give_name(part, target, lambda _: True)
    assert not os.path.lexists(target)
    assert secret.read_bytes() == b"secret"


@POSIX
def test_a_part_that_was_removed_begins_again_at_its_first_byte(
    store: UploadStore, models: Path
) -> None:
    upload = begin(store)
    send(store, upload, end=200_000)
    part_of(models, upload.id).unlink()
    details = refused("gap", store.write, upload.id, 200_000, DATA[200_000:], writer=upload.writer)
    assert details["offset"] == 0
    send(store, at(upload, 0))
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST
    assert (models / "m.gguf").read_bytes() == DATA


def test_a_part_that_was_cut_is_hashed_as_it_is_and_not_as_it_was(
    store: UploadStore, models: Path
) -> None:
    """Otherwise the hash of bytes that are not there any more would be believed for years."""
    upload = begin(store)
    send(store, upload, end=250_000)
    os.truncate(part_of(models, upload.id), 200_000)
    other = DATA[:200_000] + model_bytes(SIZE, seed=9)[200_000:]
    send(store, at(upload, 200_000), other)
    done = store.finish(upload.id, writer=upload.writer)
    assert done.sha256 == sha256_of(models / "m.gguf")
    assert (models / "m.gguf").read_bytes() == other


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_what_another_program_has_removed_keeps_no_room_on_the_disk(
    store: UploadStore, models: Path
) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)

    def is_open() -> bool:
        links = list(Path("/proc/self/fd").iterdir())
        return any(str(models) in str(one.readlink()) for one in links if one.is_symlink())

    assert is_open()
    other = UploadStore(models)
    mine = begin(other, take_over=True)
    other.cancel(mine.id, writer=mine.writer)
    refused("unknown", store.write, upload.id, 100_000, DATA[100_000:], writer=upload.writer)
    end = time.monotonic() + 10
    while is_open() and time.monotonic() < end:  # what is hashed beside it ends in a moment
        time.sleep(0.01)
    assert not is_open()


@POSIX
def test_the_hidden_folder_is_for_nobody_else(store: UploadStore, models: Path) -> None:
    (models / ".uploads").mkdir(0o777, parents=True)
    (models / ".uploads").chmod(0o777)
    send(store, begin(store), end=100_000)
    assert (models / ".uploads").stat().st_mode & 0o777 == 0o700


# --- the same file, in other hands ----------------------------------------------------------------


@pytest.mark.parametrize("what", ["removed", "written to"])
def test_the_same_file_that_is_gone_at_the_end_is_not_counted_on(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    models.mkdir()
    twin = models / "twin.gguf"
    twin.write_bytes(DATA)
    upload = begin(store)
    send(store, upload)
    real = finishing.find_same

    def then(*args: Any) -> Any:
        answer = real(*args)
        assert answer is not None
        if what == "removed":
            twin.unlink()
        else:
            twin.write_bytes(bytes(SIZE + 1))
        return answer

    monkeypatch.setattr(finishing, "find_same", then)
    done = store.finish(upload.id, writer=upload.writer)
    assert (done.state, done.path) == ("done", str(models / "m.gguf"))
    assert (models / "m.gguf").read_bytes() == DATA


# --- a full disk ----------------------------------------------------------------------------------


def full(*_args: Any, **_more: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_why_a_check_failed_is_told_although_the_disk_does_not_take_that_it_did(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(store)
    send(store, upload)
    (models / "m.gguf").write_bytes(b"somebody's")
    real = UploadFolder.write

    def one_more(self: UploadFolder, record: Any, **more: Any) -> None:
        if record.status == "receiving":
            full()
        real(self, record, **more)

    monkeypatch.setattr(UploadFolder, "write", one_more)
    refused("exists", store.finish, upload.id, writer=upload.writer)
    failed = store.status(upload.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["details"]["problem"] == "exists"
    monkeypatch.undo()
    done = store.finish(upload.id, writer=upload.writer, save_as="other.gguf")
    assert done.sha256 == DIGEST


@pytest.mark.parametrize("step", ["pause", "start_finish"])
def test_a_disk_that_is_full_at_any_step_says_how_much_is_kept(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    upload = begin(store)
    send(store, upload)
    monkeypatch.setattr(UploadFolder, "write", full)
    details = refused("space", getattr(store, step), upload.id, writer=upload.writer)
    assert details["offset"] == SIZE
    monkeypatch.undo()
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


def test_a_system_without_threads_leaves_an_upload_that_can_be_finished(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(store)
    send(store, upload)

    def none(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError):
            store.start_finish(upload.id, writer=upload.writer)
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


# --- what is on the disk when the power goes ------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_what_the_state_says_is_on_the_disk_was_handed_to_it_before(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        steps.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    upload = begin(store)
    send(store, upload, end=200_000)
    steps.clear()
    store.pause(upload.id, writer=upload.writer)
    kinds = [step.rpartition(".")[2] if "." in step else step for step in steps]
    assert kinds == ["part", "new", "replace", "uploads"]
    record = json.loads((models / ".uploads" / f"{upload.id}.json").read_bytes())
    assert record["durable"] == 200_000


# --- too much -------------------------------------------------------------------------------------


def test_a_name_that_is_too_long_is_refused_also_where_another_one_is_wanted(
    store: UploadStore, models: Path
) -> None:
    """It is kept in the state, which would be too long to be read again."""
    refused("name", begin, store, name="x" * 100_000, save_as="m.gguf")
    refused("name", begin, store, name=7, save_as="m.gguf")
    assert store.uploads() == []
    name = "\N{PILE OF POO}\x01" * 2048
    upload = begin(store, name=name, save_as="m.gguf")
    assert [one.state for one in store.uploads()] == ["receiving"]
    assert begin(store, name=name, writer=upload.writer).id == upload.id


def test_unfinished_uploads_have_a_most(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "_MAX_UPLOADS", 3)
    uploads = [begin(store, model_bytes(SIZE, seed=n), f"m{n}.gguf") for n in range(3)]
    more = model_bytes(SIZE, seed=3)
    assert refused("too_many", begin, store, more, "m3.gguf")["limit"] == 3
    again = begin(store, model_bytes(SIZE, seed=0), "m0.gguf", writer=uploads[0].writer)
    assert again.id == uploads[0].id, "those that are there go on"
    store.cancel(uploads[1].id, writer=uploads[1].writer)
    assert begin(store, more, "m3.gguf").state == "waiting"


def test_a_folder_that_is_busy_is_not_shown_as_damaged(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(store)
    send(store, upload)

    def busy(_self: UploadFolder, _id: str) -> None:
        raise UploadError("Try again.", problem="busy")

    monkeypatch.setattr(type(store._shelf), "look", busy)
    refused("busy", store.uploads)


def test_a_page_that_asks_without_end_fills_nothing(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    go_on = threading.Event()
    real = store.status

    def slow(*args: Any, **more: Any) -> Any:
        assert go_on.wait(30)
        return real(*args, **more)

    monkeypatch.setattr(store, "status", slow)
    session = UploadSession(store, begin(store), said.append)
    for _ in range(5000):
        session.ask()
    assert session._inbox.qsize() <= 2 * MOST_HELD + 1
    go_on.set()
    end = time.monotonic() + 30
    while not said:
        assert time.monotonic() < end
        time.sleep(0.01)
    session.close()
    assert session.join()
