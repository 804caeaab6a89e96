"""The queue of downloads: its order, its stops, what it keeps, and its end with the process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer, files_below, model_file, projector_file, split_files
from support.servers import wait_until

from gguf_widgets.core import download
from gguf_widgets.core.download.jobs import DownloadJob
from gguf_widgets.core.download.queue import MOST_DOWNLOADS, DownloadQueue, shared_queue
from gguf_widgets.core.errors import DownloadError, InvalidValueError

from .conftest import QUICK

REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
NAME = f"hf:{REPO}/{FILE}"
DATA = model_file()
OTHER = model_file(400_000, seed=1)
WAIT_S = 60.0


class Watched:
    """A queue, and all that it told."""

    def __init__(self, queue: DownloadQueue) -> None:
        self.queue = queue
        self.told: list[DownloadJob] = []
        self.end = queue.observe(self.told.append)

    def wait_for(self, job_id: str, found: Callable[[DownloadJob], object], what: str) -> None:
        wait_until(lambda: found(self.queue.job(job_id)), WAIT_S, what)

    def wait_past(self, job_id: str, num_bytes: int) -> None:
        self.wait_for(
            job_id,
            lambda job: (
                job.progress.phase == "fetching" and job.progress.received_bytes > num_bytes
            ),
            f"more than {num_bytes} bytes",
        )

    def states(self, job_id: str) -> list[str]:
        """Return the states that were told, repetitions left out."""
        found: list[str] = []
        for job in self.told:
            if job.id == job_id and (not found or found[-1] != job.state):
                found.append(job.state)
        return found


@pytest.fixture
def watched(hub: HubServer) -> Iterator[Watched]:
    queue = DownloadQueue(patience=QUICK)
    yield Watched(queue)
    queue.close(30)


def part_of(models: Path, file: str = FILE) -> Path:
    return models / REPO / ".downloads" / f"{file}.part"


def test_downloads_are_carried_out_one_after_the_other_in_their_order(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    files = {f"tiny-{quant}.gguf": model_file(400_000, seed=i) for i, quant in enumerate(QUANTS)}
    hub.add(REPO, files)
    for _ in files:
        hub.fault(where="cdn", pace_s=0.005)
    ids = [watched.queue.add(f"hf:{REPO}/{name}") for name in files]
    assert [job.place for job in watched.queue.jobs()] == [0, 1, 2]
    done = [watched.queue.wait(job_id, WAIT_S) for job_id in ids]
    assert [job.path for job in done] == [models / REPO / name for name in files]
    assert [job.size_bytes for job in done] == [len(data) for data in files.values()]
    # Nowhere in what was told did two of them run.
    running: set[str] = set()
    order: list[str] = []
    for job in watched.told:
        (running.add if job.state == "running" else running.discard)(job.id)
        assert len(running) <= 1
        if job.state == "done" and job.id not in order:
            order.append(job.id)
    assert order == ids


QUANTS = ("Q4_K_M", "Q5_K_M", "Q8_0")


def test_two_at_once_share_the_line_and_more_are_refused(hub: HubServer, models: Path) -> None:
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": model_file(seed=2)})
    hub.fault(where="cdn", pace_s=0.04, times=2)
    queue = DownloadQueue(patience=QUICK)
    for name in (FILE, "tiny-Q8_0.gguf"):
        queue.add(f"hf:{REPO}/{name}")
    assert [job.state for job in queue.jobs()] == ["running", "waiting"]
    queue.at_once = 2
    wait_until(
        lambda: all(job.progress.phase == "fetching" for job in queue.jobs()), WAIT_S, "both run"
    )
    queue.close(30)
    assert [job.state for job in queue.jobs()] == ["paused", "paused"]
    with pytest.raises(InvalidValueError, match="at_once is 3; it must be from 1 to 2"):
        DownloadQueue(at_once=3)


def test_a_pause_keeps_what_arrived_and_going_on_asks_for_the_rest_only(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.04)
    job_id = watched.queue.add(NAME)
    watched.wait_past(job_id, 300_000)
    watched.queue.pause(job_id)
    job = watched.queue.wait(job_id, WAIT_S)
    kept = part_of(models).stat().st_size
    assert (job.state, job.kept_bytes, job.error) == ("paused", kept, None)
    assert kept >= 300_000
    assert watched.queue.leftovers() == []  # it is a download of this queue
    hub.mend()
    hub.requests.clear()
    watched.queue.resume(job_id)
    job = watched.queue.wait(job_id, WAIT_S)
    assert job.path is not None
    assert job.path.read_bytes() == DATA
    assert hub.asked("cdn")[0].headers["range"] == f"bytes={kept}-"
    assert watched.states(job_id) == ["running", "stopping", "paused", "running", "done"]


def test_one_that_waits_can_be_taken_out_and_the_next_takes_its_turn(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    files = {f"tiny-{quant}.gguf": model_file(400_000, seed=i) for i, quant in enumerate(QUANTS)}
    hub.add(REPO, files)
    hub.fault(where="cdn", pace_s=0.02)
    first, second, third = (watched.queue.add(f"hf:{REPO}/{name}") for name in files)
    watched.wait_past(first, 100_000)
    watched.queue.cancel(second)
    with pytest.raises(DownloadError, match="no such download"):
        watched.queue.job(second)
    assert watched.states(second)[-1] == "removed"
    watched.queue.pause(first)
    assert watched.queue.wait(third, WAIT_S).state == "done"
    assert watched.queue.job(first).state == "paused"
    assert not (models / REPO / "tiny-Q5_K_M.gguf").exists()


def test_a_cancel_removes_what_arrived_and_nothing_else(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA, "tiny-Q8_0.gguf": OTHER})
    download.fetch(f"hf:{REPO}/tiny-Q8_0.gguf", patience=QUICK)
    hub.fault(where="cdn", pace_s=0.04)
    paused = watched.queue.add(NAME)
    watched.wait_past(paused, 200_000)
    watched.queue.pause(paused)
    watched.queue.wait(paused, WAIT_S)
    watched.queue.cancel(paused)
    assert files_below(models) == {f"{REPO}/tiny-Q8_0.gguf"}
    # Also in the middle of it, for all parts that have arrived.
    hub.add("owner/big", split_files("big-Q8_0", 3))
    hub.mend()
    hub.fault(where="cdn", times=2)
    hub.fault(where="cdn", pace_s=0.5)
    running = watched.queue.add("hf:owner/big")
    third = models / "owner/big/.downloads/big-Q8_0-00003-of-00003.gguf.part"
    wait_until(lambda: third.exists() and third.stat().st_size, WAIT_S, "the third part")
    watched.queue.cancel(running)
    wait_until(lambda: watched.queue.jobs() == [], WAIT_S, "it is out of the list")
    assert files_below(models) == {f"{REPO}/tiny-Q8_0.gguf"}
    assert watched.states(running)[-2:] == ["stopping", "removed"]
    # A model that is whole is only taken out of the list.
    hub.mend()
    done = watched.queue.add(f"hf:{REPO}/tiny-Q8_0.gguf")
    assert watched.queue.wait(done, WAIT_S).origin == "here"
    watched.queue.cancel(done)
    assert watched.queue.jobs() == []
    assert (models / REPO / "tiny-Q8_0.gguf").read_bytes() == OTHER


def test_the_same_name_twice_is_one_download(hub: HubServer, watched: Watched) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.04)
    first = watched.queue.add(f"hf:{REPO}:Q4_K_M")
    assert watched.queue.add(f" HF:{REPO.upper()}:q4_k_m ") == first
    watched.wait_past(first, 100_000)
    assert watched.queue.add(f"hf:{REPO}:Q4_K_M") == first
    with pytest.raises(InvalidValueError, match="on its way already, without this checksum"):
        watched.queue.add(f"hf:{REPO}:Q4_K_M", sha256="0" * 64)
    # Asked for again in the moment of its stop, it goes on.
    watched.queue.pause(first)
    assert watched.queue.add(f"hf:{REPO}:Q4_K_M") == first
    hub.mend()
    assert watched.queue.wait(first, WAIT_S).state == "done"
    assert len(watched.queue.jobs()) == 1
    # And of what is done it is looked whether it is still there.
    assert watched.queue.add(f"hf:{REPO}:Q4_K_M") == first
    assert watched.queue.wait(first, WAIT_S).origin == "here"


def test_a_failure_says_why_keeps_what_arrived_and_can_be_tried_again(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=1_000_001)
    hub.fault(where="cdn", status=429, headers={"Retry-After": "900"})
    job_id = watched.queue.add(NAME)
    job = watched.queue.wait(job_id, WAIT_S)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.details["problem"] == "server_busy"
    assert job.error.details["retry_after_s"] == 900
    assert job.kept_bytes == part_of(models).stat().st_size > 0
    hub.requests.clear()
    watched.queue.resume(job_id)
    job = watched.queue.wait(job_id, WAIT_S)
    assert (job.state, job.error, job.kept_bytes) == ("done", None, 0)
    assert len(hub.asked("cdn")) == 1


def test_a_fault_of_ours_is_a_failure_with_a_name_and_the_next_one_runs(
    hub: HubServer,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub.add(REPO, {FILE: OTHER})
    real = download.download

    def once(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(download, "download", real)
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(download, "download", once)
    first = watched.queue.add(f"hf:{REPO}")
    second = watched.queue.add(NAME)
    job = watched.queue.wait(first, WAIT_S)
    assert "ZeroDivisionError: by nothing" in str(job.error)
    assert "did not expect" in caplog.text
    assert watched.queue.wait(second, WAIT_S).state == "done"


def test_an_observer_that_fails_hinders_nobody(
    hub: HubServer, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add(REPO, {FILE: OTHER})
    end = watched.queue.observe(lambda _job: 1 / 0)
    later: list[DownloadJob] = []
    watched.queue.observe(later.append)
    job_id = watched.queue.add(NAME)
    assert watched.queue.wait(job_id, WAIT_S).state == "done"
    wait_until(lambda: later and later[-1].state == "done", WAIT_S, "the next one is told")
    assert "An observer of the downloads failed" in caplog.text
    end()
    end()
    watched.end()
    num = len(watched.told)
    watched.queue.dismiss(job_id)
    assert later[-1].state == "removed"
    assert len(watched.told) == num


def test_the_row_is_bounded_and_what_cannot_be_is_refused_at_once(
    hub: HubServer, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="api", stall_s=2, content=b"{}", times=1000)
    for number in range(MOST_DOWNLOADS):
        watched.queue.add(f"hf:owner/some-{number}")
    with pytest.raises(InvalidValueError, match="100 downloads are listed already"):
        watched.queue.add("hf:owner/one-more")
    with pytest.raises(InvalidValueError, match="is no such name"):
        watched.queue.add("tiny")
    with pytest.raises(InvalidValueError, match="is no SHA-256"):
        watched.queue.add(NAME, sha256="12")
    with pytest.raises(DownloadError, match="is on its way"):
        watched.queue.dismiss(watched.queue.jobs()[0].id)
    watched.queue.close(30)
    assert {job.state for job in watched.queue.jobs()} == {"paused"}
    with pytest.raises(InvalidValueError, match="have been closed"):
        watched.queue.add(NAME)


def test_an_address_keeps_its_secret_to_itself(hub: HubServer, watched: Watched) -> None:
    url = hub.page("/files/tiny.gguf", OTHER) + "?token=secret"
    hub.fault(where="web", status=404)
    job_id = watched.queue.add(url)
    job = watched.queue.wait(job_id, WAIT_S)
    assert job.state == "failed"
    assert "token=secret" not in repr(watched.told)
    watched.queue.resume(job_id)
    assert watched.queue.wait(job_id, WAIT_S).state == "done"
    assert "token=secret" in hub.asked("web")[-1].path


# --- what was left ---


def begin(hub: HubServer, name: str, until: Callable[[], object], **fault: object) -> None:
    """Leave a download behind, as a queue does whose process has gone."""
    for _ in range(3):
        hub.fault(**({"where": "cdn", "pace_s": 0.02} | fault))
    queue = DownloadQueue(patience=QUICK)
    queue.add(name)
    wait_until(until, WAIT_S, "something has arrived")
    queue.close(30)
    hub.mend()


def test_what_was_left_is_listed_as_models_and_goes_on_or_is_removed(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    parts = split_files("big-Q8_0", 2)
    seen = model_file(600_000, seed=5)
    hub.add("owner/big", parts)
    hub.add("owner/seen", {"seen-Q4_K_M.gguf": seen, "mmproj-F16.gguf": projector_file()})
    hub.add(REPO, {FILE: DATA})
    second = models / "owner/big/.downloads/big-Q8_0-00002-of-00002.gguf.part"
    begin(hub, "hf:owner/big", lambda: second.exists() and second.stat().st_size)
    part = models / "owner/seen/.downloads/seen-Q4_K_M.gguf.part"
    begin(hub, "hf:owner/seen", lambda: part.exists() and part.stat().st_size > 200_000)
    begin(hub, NAME, lambda: part_of(models).exists() and part_of(models).stat().st_size)

    left = {one.title: one for one in watched.queue.leftovers()}
    assert set(left) == {"big-Q8_0-00001-of-00002.gguf", "seen-Q4_K_M.gguf", FILE}
    big = left["big-Q8_0-00001-of-00002.gguf"]
    assert (big.source, big.total_bytes) == ("owner/big", sum(map(len, parts.values())))
    assert len(big.files) == 2

    hub.requests.clear()
    job_id = watched.queue.go_on(left[FILE].key)
    kept = left[FILE].received_bytes
    assert len(watched.queue.leftovers()) == 2  # it is a download again
    assert watched.queue.wait(job_id, WAIT_S).state == "done"
    assert hub.asked("cdn")[0].headers["range"] == f"bytes={kept}-"

    watched.queue.remove(big.key)
    assert [one.title for one in watched.queue.leftovers()] == ["seen-Q4_K_M.gguf"]
    assert not [name for name in files_below(models) if "big" in name]
    with pytest.raises(DownloadError, match="not there any more"):
        watched.queue.remove(big.key)
    watched.queue.remove(left["seen-Q4_K_M.gguf"].key)
    assert files_below(models) == {f"{REPO}/{FILE}"}


def test_what_was_to_replace_a_model_goes_on_replacing_it(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    hub.add(REPO, {FILE: OTHER})
    download.fetch(NAME, patience=QUICK)
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.02)
    queue = DownloadQueue(patience=QUICK)
    queue.add(NAME, newer="get")
    part = part_of(models)
    wait_until(lambda: part.exists() and part.stat().st_size, WAIT_S, "something has arrived")
    queue.close(30)
    hub.mend()
    assert (models / REPO / FILE).read_bytes() == OTHER
    (left,) = watched.queue.leftovers()
    assert watched.queue.wait(watched.queue.go_on(left.key), WAIT_S).origin == "fetched"
    assert (models / REPO / FILE).read_bytes() == DATA
    assert watched.queue.leftovers() == []


def test_a_split_model_that_was_just_begun_does_not_say_a_size_it_cannot_know(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    hub.add("owner/big", split_files("big-Q8_0", 3))
    first = models / "owner/big/.downloads/big-Q8_0-00001-of-00003.gguf.part"
    begin(hub, "hf:owner/big", lambda: first.exists() and first.stat().st_size)
    (left,) = watched.queue.leftovers()
    assert left.total_bytes is None
    assert watched.queue.wait(watched.queue.go_on(left.key), WAIT_S).state == "done"


def test_an_address_with_a_secret_cannot_go_on_by_what_is_kept_of_it(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    plain, secret = hub.page("/a.gguf", DATA), hub.page("/b.gguf", DATA) + "?key=secret"
    for name, url in (("a.gguf", plain), ("b.gguf", secret)):
        part = models / ".downloads" / f"{name}.part"
        begin(
            hub,
            url,
            lambda part=part: part.exists() and part.stat().st_size,  # type: ignore[misc]
            where="web",
        )
    a, b = sorted(watched.queue.leftovers(), key=lambda left: left.title)
    assert (a.hindrance, a.name) == ("", plain)
    assert "Paste the whole address again" in b.hindrance
    assert "key=secret" not in repr(b)
    with pytest.raises(DownloadError, match="Paste the whole address"):
        watched.queue.go_on(b.key)
    job_id = watched.queue.add(secret)
    assert [left.title for left in watched.queue.leftovers()] == ["a.gguf"]
    assert watched.queue.wait(job_id, WAIT_S).state == "done"
    assert watched.queue.wait(watched.queue.go_on(a.key), WAIT_S).state == "done"
    assert (models / "a.gguf").read_bytes() == (models / "b.gguf").read_bytes() == DATA


def test_a_checksum_that_was_given_is_kept_for_going_on(
    hub: HubServer, watched: Watched, models: Path
) -> None:
    url = hub.page("/a.gguf", DATA)
    part = models / ".downloads" / "a.gguf.part"
    hub.fault(where="web", pace_s=0.02)
    queue = DownloadQueue(patience=QUICK)
    queue.add(url, sha256="0" * 64)
    wait_until(lambda: part.exists() and part.stat().st_size, WAIT_S, "something has arrived")
    queue.close(30)
    hub.mend()
    (left,) = watched.queue.leftovers()
    job = watched.queue.wait(watched.queue.go_on(left.key), WAIT_S)
    assert job.error is not None
    assert job.error.details["problem"] == "checksum"
    assert job.has_checksum
    assert files_below(models) == set()


# --- the process ---

SCRIPT = """
import sys, time
from gguf_widgets.core.download.queue import shared_queue
queue = shared_queue()
assert shared_queue() is queue
job_id = queue.add(sys.argv[1])
while queue.job(job_id).progress.received_bytes < 200_000:
    time.sleep(0.01)
print("ends", flush=True)
"""


def test_the_end_of_the_interpreter_stops_it_and_keeps_what_arrived(
    hub: HubServer, watched: Watched, models: Path, tmp_path: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.04)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf2")}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, NAME],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")
    assert part_of(models).stat().st_size >= 200_000
    (left,) = watched.queue.leftovers()
    hub.mend()
    job = watched.queue.wait(watched.queue.go_on(left.key), WAIT_S)
    assert job.path is not None
    assert job.path.read_bytes() == DATA


def test_all_of_a_process_share_one_queue_for_a_models_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queue = shared_queue()
    found: list[DownloadQueue] = []
    thread = threading.Thread(target=lambda: found.append(shared_queue()))
    thread.start()
    thread.join()
    assert found == [queue]
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(tmp_path / "elsewhere"))
    assert shared_queue() is not queue


def test_waiting_ends_when_its_time_is_up(hub: HubServer, watched: Watched) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=100_000, stall_s=20)
    job_id = watched.queue.add(NAME)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
        watched.queue.wait(job_id, 0.2)
    assert time.monotonic() - begun < 15
