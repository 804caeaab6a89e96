"""Stopping a download, killing it, and two of them at once: real processes on real sockets."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.gguf_writer import Typed
from support.hub_server import HubServer, files_below, model_file, split_files
from support.servers import wait_until

from gguf_widgets.core import download
from gguf_widgets.core.download import Progress, fetch
from gguf_widgets.core.errors import DownloadError

REPO = "owner/tiny-GGUF"
NAME = f"hf:{REPO}:Q4_K_M"
FILE = "tiny-Q4_K_M.gguf"
DATA = model_file()
SCRIPT = """
import sys
from gguf_widgets.core import download
result = download.download(sys.argv[1], on_note=lambda note: print(note, flush=True))
print(result.origin, result.received_bytes, flush=True)
"""


def start(hub: HubServer, name: str = NAME) -> subprocess.Popen[str]:
    """Have another program fetch a model into the same folder."""
    home = Path(os.environ["GGUF_WIDGETS_HOME"]).parent
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf2")}
    environment = {k: v for k, v in environment.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> list[str]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    return out.splitlines()


def part_of(models: Path) -> Path:
    return models / REPO / ".downloads" / f"{FILE}.part"


@pytest.mark.parametrize("how", ["event", "function", "answer"])
def test_a_stop_takes_a_moment_while_bytes_come_and_keeps_them(
    hub: HubServer, person: Any, models: Path, how: str
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=1_500_000, stall_s=20, pace_s=0.005)
    event = threading.Event()
    answers = []

    def watch(progress: Progress) -> bool | None:
        if progress.phase != "fetching" or progress.received_bytes < 300_000:
            return None
        answers.append(progress)
        if how != "answer":
            event.set()
            return None
        return False

    options: dict[str, Any] = {"event": event, "function": event.is_set, "answer": None}
    person.refused("cancelled", NAME, on_progress=watch, cancel=options[how])
    assert len(answers) <= 2  # nothing went on after that
    kept = part_of(models).stat().st_size
    assert 300_000 <= kept <= 1_500_000
    assert not list(models.rglob("[!.]*/*.gguf"))
    hub.mend()
    assert person.get(NAME).received_bytes == len(DATA) - kept


@pytest.mark.parametrize("where", ["api", "resolve", "cdn"])
def test_a_stop_does_not_wait_for_a_server_that_says_nothing(
    hub: HubServer, person: Any, where: str
) -> None:
    from gguf_widgets.core.download import Patience

    hub.add(REPO, {FILE: DATA})
    silence = {"api": {"content": b"{}"}, "resolve": {"status": 500}, "cdn": {"cut_after": 200_000}}
    hub.fault(where=where, stall_s=30, **silence[where])
    event = threading.Event()

    def stop_when_it_hangs() -> None:
        wait_until(lambda: hub.asked(where), 30, "the server was asked")
        time.sleep(0.3)
        event.set()

    stopper = threading.Thread(target=stop_when_it_hangs)
    stopper.start()
    begun = time.monotonic()
    # Patience of ten minutes: if the stop did not end the wait, this test would time out.
    person.refused("cancelled", NAME, cancel=event, patience=Patience(read_s=600))
    assert time.monotonic() - begun < 25
    stopper.join()


def test_a_stop_ends_a_pause_that_a_server_asked_for(hub: HubServer, person: Any) -> None:
    from gguf_widgets.core.download import Patience

    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", status=429, headers={"Retry-After": "100"}, times=9)
    patience = Patience(longest_retry_after_s=600)
    person.refused("cancelled", NAME, on_progress=lambda p: p.phase != "waiting", patience=patience)


def test_what_a_killed_download_leaves_is_no_model_and_is_gone_on_with(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    for at_least in (200_000, 1_000_000, 2_000_000):
        hub.fault(where="cdn", pace_s=0.01)
        process = start(hub)
        part = part_of(models)
        wait_until(lambda p=part, n=at_least: p.exists() and p.stat().st_size > n, 40, "bytes")
        process.kill()
        process.communicate()
        assert files_below(models) == {f"{REPO}/.downloads/{FILE}.part"}
    hub.mend()
    hub.requests.clear()
    kept = part_of(models).stat().st_size
    fetched = person.get(NAME)
    assert fetched.path.read_bytes() == DATA
    assert fetched.received_bytes == len(DATA) - kept
    assert hub.asked("cdn")[0].headers["range"] == f"bytes={kept}-"


def test_a_split_model_that_was_killed_between_its_parts_is_completed(
    hub: HubServer, person: Any, models: Path
) -> None:
    parts = split_files("big-Q8_0", 3)
    hub.add(REPO, parts)
    hub.fault(where="cdn")
    hub.fault(where="cdn")
    hub.fault(where="cdn", pace_s=0.5)
    process = start(hub, f"hf:{REPO}")
    third = models / REPO / ".downloads" / "big-Q8_0-00003-of-00003.gguf.part"
    wait_until(lambda: third.exists() and third.stat().st_size, 40, "the third part")
    process.kill()
    process.communicate()
    assert not list((models / REPO).glob("*.gguf"))
    hub.requests.clear()
    fetched = person.get(f"hf:{REPO}")
    assert [path.read_bytes() for path in fetched.files] == list(parts.values())
    assert len(hub.asked("cdn")) == 1  # the first two were whole
    assert files_below(models) == {f"{REPO}/{name}" for name in parts}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no Ctrl+C for one process")
def test_ctrl_c_keeps_what_arrived(hub: HubServer, person: Any, models: Path) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.01)
    process = start(hub)
    wait_until(lambda: part_of(models).exists() and part_of(models).stat().st_size, 40, "bytes")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in out
    kept = part_of(models).stat().st_size
    assert person.get(NAME).received_bytes == len(DATA) - kept


def test_what_is_unfinished_is_listed_and_not_removed_while_it_is_fetched(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    assert download.unfinished() == []
    hub.fault(where="cdn", cut_after=1_500_000, stall_s=20)
    process = start(hub)
    wait_until(lambda: part_of(models).exists() and part_of(models).stat().st_size, 40, "bytes")
    (one,) = download.unfinished()
    assert (one.name, one.path) == (f"hf:{REPO}/{FILE}", models / REPO / FILE)
    assert one.total_bytes == len(DATA)
    with pytest.raises(DownloadError, match="being fetched right now"):
        download.discard(one.name)
    process.kill()
    process.communicate()
    assert [gone.name for gone in download.discard(f"hf:{REPO}")] == [one.name]
    assert files_below(models) == set()
    assert download.unfinished() == []
    with pytest.raises(DownloadError, match="Nothing is unfinished"):
        download.discard(one.name)
    assert person.get(NAME).received_bytes == len(DATA)


def test_an_error_of_whoever_watches_ends_it_and_keeps_what_arrived(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=1_500_000, stall_s=20, pace_s=0.005)

    def watch(progress: Progress) -> None:
        if progress.received_bytes > 300_000:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        person.get(NAME, on_progress=watch)
    assert person.get(NAME).received_bytes < len(DATA)


def test_of_two_programs_one_fetches_and_the_other_waits(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.01)
    process = start(hub)
    wait_until(lambda: part_of(models).exists() and part_of(models).stat().st_size, 40, "bytes")
    fetched = person.get(NAME)
    assert fetched.origin == "here"
    assert fetched.received_bytes == 0
    assert any("Another program is fetching" in note for note in person.notes)
    assert ended(process)[-1] == f"fetched {len(DATA)}"
    assert len(hub.asked("cdn")) == 1


def test_when_the_one_that_fetches_dies_the_other_goes_on(
    hub: HubServer, person: Any, models: Path
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.02)
    process = start(hub)
    wait_until(lambda: part_of(models).exists() and part_of(models).stat().st_size, 40, "bytes")

    def kill_when_waited_for(progress: Progress) -> None:
        if progress.phase == "waiting":
            process.kill()

    fetched = person.get(NAME, on_progress=kill_when_waited_for)
    process.communicate()
    assert fetched.path.read_bytes() == DATA
    assert 0 < fetched.received_bytes < len(DATA)


def test_one_that_does_not_move_is_not_waited_for_without_end(
    hub: HubServer, person: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", cut_after=300_000, stall_s=20)
    process = start(hub)
    wait_until(lambda: part_of(models).exists() and part_of(models).stat().st_size, 40, "bytes")
    monkeypatch.setattr("gguf_widgets.core.download.here._STALLED_S", 0.5)
    try:
        assert "has not moved" in person.refused("in_use", NAME).message
    finally:
        process.kill()
        process.communicate()


def test_threads_of_one_program_wait_for_each_other_too(hub: HubServer) -> None:
    hub.add(REPO, {FILE: DATA})
    hub.fault(where="cdn", pace_s=0.002)
    paths: list[Path] = []
    errors: list[DownloadError] = []

    def run() -> None:
        try:
            paths.append(fetch(NAME))
        except DownloadError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == DATA
    assert len(hub.asked("cdn")) == 1


def test_two_models_with_one_companion_fetch_it_once(hub: HubServer, models: Path) -> None:
    companion = model_file(400_000, general__type=Typed("string", "mmproj"))
    files = {FILE: model_file(400_000), "tiny-Q8_0.gguf": model_file(400_000, seed=1)}
    hub.add(REPO, files | {"mmproj-F16.gguf": companion})
    digest = hashlib.sha256(companion).hexdigest()
    hub.fault(where="cdn", match=digest, pace_s=0.05)
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda q=quant: paths.append(fetch(f"hf:{REPO}:{q}")))
        for quant in ("Q4_K_M", "Q8_0")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {path.name for path in paths} == set(files)
    assert (models / REPO / "mmproj-F16.gguf").read_bytes() == companion
    assert len(hub.asked("cdn", digest)) == 1
