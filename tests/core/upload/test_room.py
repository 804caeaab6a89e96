"""Uploads for which there is no room, or a disk that fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.model_bytes import model_bytes
from support.upload_steps import DATA, DIGEST, SIZE, at, begin, refused, send, upload_all

from gguf_widgets.core.upload import UploadLimits, UploadStore, limits


def fake_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(limits.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_no_room_is_told_before_a_byte_is_sent(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UploadStore(models, limits=UploadLimits(leave_free_bytes=1000, max_file_bytes=SIZE))
    fake_free(monkeypatch, SIZE + 999)
    details = refused("space", begin, store)
    assert (details["needed_bytes"], details["free_bytes"]) == (SIZE, SIZE + 999)
    assert store.uploads() == []
    fake_free(monkeypatch, SIZE + 1000)
    begin(store)
    # What was promised to one is not given to another.
    refused("space", begin, store, model_bytes(SIZE, seed=2), "n.gguf")
    assert refused("size", begin, store, model_bytes(SIZE + 1))["limit"] == SIZE
    for size in (0, -1, True, 2.5, "5", None):
        refused("size", store.begin, "m.gguf", size, b"")
    refused("head", store.begin, "m.gguf", SIZE, DATA[:65_535])
    for when in ("5", 1.5, 1 << 60):
        refused("time", begin, store, last_modified_ms=when)


def test_a_quota_counts_everything_in_the_folder(models: Path) -> None:
    models.mkdir()
    (models / "there.gguf").write_bytes(bytes(1000))
    small = UploadStore(models, limits=UploadLimits(quota_bytes=SIZE + 999))
    details = refused("quota", begin, small)
    assert (details["held_bytes"], details["limit"]) == (1000, SIZE + 999)
    assert upload_all(UploadStore(models, limits=UploadLimits(quota_bytes=SIZE + 1000))).path


def test_the_room_is_looked_at_while_it_flows(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf_widgets.core.upload import store as module

    monkeypatch.setattr(module, "_SYNC_BYTES", 100_000)
    upload = begin(store)
    send(store, upload, end=200_000)
    fake_free(monkeypatch, 50_000)
    refused("space", store.write, upload.id, 200_000, DATA[200_000:], writer=upload.writer)
    assert store.status(upload.id).offset == 200_000
    monkeypatch.undo()
    send(store, at(upload, 200_000))
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_of_a_piece_keeps_what_arrived(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)
    real, room = os.write, [12_345]

    def full(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(code, os.strerror(code))
        count = real(descriptor, data[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    details = refused(
        "space" if code == errno.ENOSPC else "disk",
        store.write,
        upload.id,
        100_000,
        DATA[100_000:200_000],
        writer=upload.writer,
    )
    assert details["offset"] == 112_345
    monkeypatch.undo()
    assert store.status(upload.id).offset == 112_345
    send(store, at(upload, 112_345))
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_file_system_that_takes_no_more_is_told_by_a_real_write(models: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from gguf_widgets.core.upload import UploadStore;"
        "from gguf_widgets.core.errors import UploadError;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "data = Path(sys.argv[2]).read_bytes(); store = UploadStore(Path(sys.argv[1]));"
        "up = store.begin('m.gguf', len(data), data[:65536], last_modified_ms=1);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_001, 150_001))\n"
        "try: store.write(up.id, 0, data, writer=up.writer)\n"
        "except UploadError as error: print(error.details['problem'], error.details['offset'])\n"
    )
    source = models.parent / "source"
    source.write_bytes(DATA)
    done = subprocess.run(
        [sys.executable, "-c", code, str(models), str(source)],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["space", "150001"]
    store = UploadStore(models)
    again = begin(store, last_modified_ms=1)
    assert again.offset == 150_001
    send(store, again)
    assert store.finish(again.id, writer=again.writer).sha256 == DIGEST
