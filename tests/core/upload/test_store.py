"""The store of uploads: pieces, going on, and who may write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.model_bytes import model_bytes, sha256_of
from support.upload_steps import DATA, DIGEST, SIZE, at, begin, refused, send

from gguf_widgets.core.errors import (
    UploadError,
)
from gguf_widgets.core.library import ModelLibrary
from gguf_widgets.core.upload import UploadStore, rights


def names_in_library(models: Path) -> list[str]:
    return [entry.path.name for entry in ModelLibrary(models).entries()[1:]]


# --- the plain way --------------------------------------------------------------------------------


def test_a_file_arrives_whole_under_a_clean_name(store: UploadStore, models: Path) -> None:
    upload = begin(store, name="../CON.gguf", last_modified_ms=1, label="the page")
    assert (upload.name, upload.offset, upload.state, upload.kind) == (
        "_CON.gguf",
        0,
        "receiving",
        "model",
    )
    assert "_CON.gguf" in upload.told
    half = send(store, upload, end=150_000)
    assert (half.offset, half.writer) == (150_000, "")
    assert names_in_library(models) == []  # a part is never taken for a model
    send(store, at(upload, 150_000))
    done = store.finish(upload.id, writer=upload.writer)
    assert (done.state, done.sha256, done.path) == ("done", DIGEST, str(models / "_CON.gguf"))
    assert (models / "_CON.gguf").read_bytes() == DATA
    assert names_in_library(models) == ["_CON.gguf"]
    assert store.uploads() == []
    assert store.status(upload.id) == done
    assert store.finish(upload.id, writer=upload.writer) == done
    left = {path.name for path in (models / ".uploads").iterdir()}
    assert all(name.endswith(".lock") for name in left)
    assert json.loads(json.dumps(done.to_dict()))["path"] == done.path


@settings(max_examples=30)
@given(pieces=st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 120_000)), max_size=25))
def test_whatever_is_sent_in_whatever_order_the_part_is_the_files_beginning(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]]
) -> None:
    store = UploadStore(tmp_path_factory.mktemp("any"))
    upload = begin(store)
    part = store.models / ".uploads" / f"{upload.id}.part"
    have = 0
    for start, length in pieces:
        piece = DATA[start : start + length]
        try:
            have = store.write(upload.id, start, piece, writer=upload.writer).offset
        except UploadError as error:
            assert error.details["problem"] == ("piece" if not piece else "gap")  # noqa: PT017
            assert not piece or error.details["offset"] == have  # noqa: PT017
        else:
            assert have >= start + len(piece)
        assert part.read_bytes() == DATA[:have]
    send(store, at(upload, have))
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST
    store.close()


def test_pieces_that_cannot_be_are_refused_and_change_nothing(store: UploadStore) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)
    write = store.write
    assert refused("gap", write, upload.id, 100_001, b"x", writer=upload.writer)["offset"] == 1e5
    refused("too_long", write, upload.id, 100_000, bytes(200_001), writer=upload.writer)
    refused("too_long", write, upload.id, 0, bytes((16 << 20) + 1), writer=upload.writer)
    refused("too_long", write, upload.id, SIZE, b"x", writer=upload.writer)
    refused("piece", write, upload.id, -1, b"x", writer=upload.writer)
    refused("piece", write, upload.id, 100_000, b"", writer=upload.writer)
    details = refused("changed", write, upload.id, 70_000, bytes(40_000), writer=upload.writer)
    assert 65_536 <= details["position"] <= 110_000
    refused("incomplete", store.finish, upload.id, writer=upload.writer)
    refused("unknown", write, "0" * 32, 0, b"x", writer=upload.writer)
    refused("unknown", write, "../../etc/passwd", 0, b"x", writer=upload.writer)
    assert store.status(upload.id).offset == 100_000
    send(store, at(upload, 0))  # from the very beginning again: compared, no harm
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


# --- going on -------------------------------------------------------------------------------------


def test_another_process_goes_on_where_one_stopped(store: UploadStore, models: Path) -> None:
    first = begin(store, last_modified_ms=7)
    send(store, first, end=200_000)
    store.release(first.id, writer=first.writer)

    later = UploadStore(models)
    again = begin(later, last_modified_ms=7)
    assert (again.id, again.offset, again.send_from) == (first.id, 200_000, 200_000 - 65_536)
    assert again.writer != first.writer
    send(later, again)
    assert later.finish(again.id, writer=again.writer).sha256 == DIGEST


def test_a_page_that_goes_on_after_a_restart_without_a_word_is_the_owner_again(
    store: UploadStore, models: Path
) -> None:
    first = begin(store)
    send(store, first, end=100_000)
    state = models / ".uploads" / f"{first.id}.json"
    plain = json.loads(state.read_bytes())
    gone = plain["owner"] | {"started_at": 1.0}
    state.write_text(json.dumps(plain | {"owner": gone}))
    later = UploadStore(models)
    assert later.status(first.id).owner is None
    waits = begin(later, model_bytes(SIZE, seed=1), "n.gguf")
    assert waits.state == "receiving"
    store = UploadStore(models)
    send(store, at(first, 100_000), end=200_000)
    begin(store, model_bytes(SIZE, seed=2), "o.gguf")
    send(store, at(first, 200_000))  # keeps its turn
    owner = store.status(first.id).owner
    assert owner is not None
    assert owner.is_this_process
    assert store.finish(first.id, writer=first.writer).sha256 == DIGEST


def test_another_file_of_the_same_name_is_not_gone_on_with(store: UploadStore) -> None:
    first = begin(store, last_modified_ms=7)
    send(store, first, end=200_000)
    for other in (
        begin(store, last_modified_ms=8),
        begin(store, model_bytes(SIZE + 1), last_modified_ms=7),
        begin(store, model_bytes(SIZE, seed=1), last_modified_ms=7),
    ):
        assert (other.id != first.id, other.offset) == (True, 0)
    assert len(store.uploads()) == 4


def test_a_file_that_changed_under_way_is_noticed_when_it_goes_on(store: UploadStore) -> None:
    first = begin(store)
    send(store, first, end=200_000)
    changed = DATA[:150_000] + bytes(SIZE - 150_000)
    again = begin(store, changed, writer=first.writer)
    assert again.id == first.id
    piece = changed[again.send_from : again.send_from + 100_000]
    refused("changed", store.write, again.id, again.send_from, piece, writer=again.writer)


def test_after_a_crash_of_the_machine_only_synced_bytes_count(
    store: UploadStore, models: Path
) -> None:
    first = begin(store)
    send(store, first, end=200_000)
    store.pause(first.id, writer=first.writer)  # syncs
    resumed = store.resume(first.id, writer=first.writer)
    send(store, resumed, end=250_000)
    state = models / ".uploads" / f"{first.id}.json"
    plain = json.loads(state.read_bytes())
    assert plain["durable"] == 200_000
    state.write_text(json.dumps(plain | {"boot": "before"}))
    later = UploadStore(models)
    assert later.status(first.id).offset == 200_000
    again = begin(later, writer=first.writer)
    assert again.offset == 200_000
    send(later, again)
    assert later.finish(again.id, writer=again.writer).sha256 == DIGEST


def test_pause_stops_what_is_on_its_way_and_resume_goes_on(store: UploadStore) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)
    assert store.pause(upload.id, writer=upload.writer).state == "paused"
    refused("paused", store.write, upload.id, 100_000, b"x", writer=upload.writer)
    assert store.status(upload.id).owner is None
    again = store.resume(upload.id, writer=upload.writer)
    assert (again.state, again.offset) == ("receiving", 100_000)
    send(store, again)
    assert store.finish(upload.id, writer=upload.writer).sha256 == DIGEST


def test_cancel_removes_what_arrived(store: UploadStore, models: Path) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)
    store.cancel(upload.id, writer=upload.writer)
    assert store.uploads() == []
    assert list((models / ".uploads").glob(f"{upload.id}*")) == []
    refused("unknown", store.status, upload.id)
    refused("unknown", store.cancel, upload.id, writer=upload.writer)


# --- who may write --------------------------------------------------------------------------------


def test_a_second_page_is_told_who_writes_and_can_take_over(store: UploadStore) -> None:
    first = begin(store, label="Firefox")
    send(store, first, end=100_000)
    details = refused("in_use", begin, store)
    assert details["offset"] == 100_000
    assert details["owner"]["label"] == "Firefox"
    assert details["owner"]["pid"] == os.getpid()
    refused("in_use", store.remove, first.id)
    second = begin(store, take_over=True, label="Chromium")
    assert (second.id, second.offset) == (first.id, 100_000)
    details = refused("taken_over", store.write, first.id, 100_000, b"x", writer=first.writer)
    assert details["owner"]["label"] == "Chromium"
    refused("taken_over", store.cancel, first.id, writer=first.writer)
    refused("taken_over", store.pause, first.id, writer="")
    store.release(first.id, writer=first.writer)  # no word of the first page counts any more
    assert store.status(first.id).owner is not None
    send(store, second)
    assert store.finish(second.id, writer=second.writer).sha256 == DIGEST


def test_a_writer_that_is_gone_stops_nobody(
    store: UploadStore, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(store)
    # It said nothing for a while.
    real = time.time
    monkeypatch.setattr(rights.time, "time", lambda: real() + rights.SILENCE_S + 1)
    assert begin(store).id == first.id
    monkeypatch.undo()
    # It is another process, which has ended.
    code = (
        "import sys; from pathlib import Path; from gguf_widgets.core.upload import UploadStore;"
        "data = Path(sys.argv[2]).read_bytes();"
        "up = UploadStore(Path(sys.argv[1])).begin('m.gguf', len(data), data[:65536],"
        " take_over=True); print(up.id)"
    )
    source = models.parent / "source"
    source.write_bytes(DATA)
    subprocess.run([sys.executable, "-c", code, str(models), str(source)], check=True, timeout=60)
    again = begin(store)
    assert again.id == first.id


@pytest.mark.parametrize("moved_s", [-3e8, -60, 60, 3e8])
def test_a_clock_that_moves_harms_nothing(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch, moved_s: float
) -> None:
    upload = begin(store)
    send(store, upload, end=100_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + moved_s)
    for one in store.uploads():
        assert one.age_s >= 0
        assert one.owner is None or one.owner.active_s_ago >= 0
    again = begin(store)  # nobody is locked out by a word from the future
    assert again.offset == 100_000
    send(store, again)
    assert store.finish(again.id, writer=again.writer).sha256 == DIGEST


def test_one_runs_and_the_others_wait_in_order(store: UploadStore) -> None:
    other = model_bytes(SIZE, seed=1)
    first, second = begin(store), begin(store, other, "n.gguf")
    assert (second.state, second.place) == ("waiting", 1)
    details = refused("waiting", store.write, second.id, 0, other[:10], writer=second.writer)
    assert details["offset"] == 0
    send(store, first)
    store.finish(first.id, writer=first.writer)
    assert store.status(second.id).state == "receiving"
    send(store, second, other)
    store.finish(second.id, writer=second.writer)


def test_what_another_process_took_or_ended_keeps_nobody_waiting_here(
    store: UploadStore, models: Path
) -> None:
    other = model_bytes(SIZE, seed=1)
    first, second = begin(store), begin(store, other, "n.gguf")
    assert second.state == "waiting"
    state = models / ".uploads" / f"{first.id}.json"
    plain = json.loads(state.read_bytes())
    elsewhere = {"writer": "theirs", "owner": plain["owner"] | {"pid": os.getpid() + 1}}
    state.write_text(json.dumps(plain | elsewhere))
    refused("taken_over", store.write, first.id, 0, DATA[:10], writer=first.writer)
    assert store.status(second.id).state == "receiving"


def test_two_pages_that_begin_at_the_same_moment_begin_one_upload(models: Path) -> None:
    stores = [UploadStore(models) for _ in range(4)]
    gate, results = threading.Barrier(4), []

    def page(store: UploadStore) -> None:
        gate.wait()
        try:
            results.append(begin(store).id)
        except UploadError as error:
            results.append(error.details["problem"])

    threads = [threading.Thread(target=page, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(UploadStore(models).uploads()) == 1
    assert sorted(results)[-3:] == ["in_use"] * 3


def test_two_processes_that_fight_for_an_upload_still_end_with_the_file(models: Path) -> None:
    """Two stores share nothing but the folder, as two processes do."""
    taken, failed, results = [0], [], []
    gate = threading.Barrier(2)

    def page(store: UploadStore) -> None:
        gate.wait()
        while not results and not failed:
            try:
                upload = begin(store, take_over=True)
                offset = upload.send_from
                while offset < SIZE:
                    if taken[0] < 5:  # not to the end before each was replaced some times
                        offset = min(offset, 200_000)
                    piece = DATA[offset : offset + 7_000]
                    offset = store.write(upload.id, offset, piece, writer=upload.writer).offset
                results.append(store.finish(upload.id, writer=upload.writer))
            except UploadError as error:
                problem = error.details["problem"]
                if problem == "taken_over":
                    taken[0] += 1
                    # Let the other come forward before taking it back.
                    time.sleep(0.02)
                elif problem not in ("unknown", "cancelled", "exists", "incomplete", "waiting"):
                    failed.append(error)

    threads = [threading.Thread(target=page, args=[UploadStore(models)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert results[0].sha256 == DIGEST
    assert taken[0] >= 5
    assert [sha256_of(path) for path in models.glob("*.gguf")] == [DIGEST]
