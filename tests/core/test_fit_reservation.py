"""Memory is promised once: by real programs at the same instant, until their processes end."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from core.conftest import wait_for
from support.tiny_model import write_tiny_model

from gguf_widgets.core import fit, fit_history
from gguf_widgets.core.errors import NotEnoughMemoryError, WorkerStartError
from gguf_widgets.core.fit_reservation import (
    Claim,
    Claims,
    adopt,
    claims_dir,
    drop,
    drop_own,
    judging,
    settle,
)
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.types import LoadSettings

MB = 10**6
ROOT = Path(__file__).parents[2]

# A program that asks for memory as a notebook does, then lives until its input closes.
ASKS = """
import sys, time
from gguf_widgets.core.fit_reservation import judging
free, need, start = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
time.sleep(max(0, start - time.time()))
with judging() as claims:
    fits = need <= free - claims.main_bytes(f"file {sys.argv[4]}")
    if fits:
        claims.reserve(file=f"file {sys.argv[4]}", mapped_bytes=0, main_bytes=need, gpu_bytes={},
                       locked=False)
print("yes" if fits else "no", flush=True)
sys.stdin.read()
"""
# A program that has adopted the claim it is named, and takes some memory of its own.
TAKES = """
import sys
from gguf_widgets.core.fit_reservation import adopt
adopt(sys.argv[1])
taken = bytearray(int(sys.argv[2]))
taken[::4096] = b"x" * len(taken[::4096])
print("taken", flush=True)
sys.stdin.read()
"""


def program(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def promised(file: str = "") -> int:
    with judging() as claims:
        return claims.main_bytes(file)


def reserve(file: str = "some file", main: int = 100 * MB, mapped: int = 0, gpu: int = 0) -> str:
    with judging() as claims:
        return claims.reserve(
            file=file,
            mapped_bytes=mapped,
            main_bytes=main,
            gpu_bytes={"CUDA0": gpu} if gpu else {},
            locked=False,
        )


def test_of_programs_that_ask_at_once_only_as_many_are_promised_as_fit(home: Path) -> None:
    start = time.time() + 2.0
    programs = [program(ASKS, 1000 * MB, 400 * MB, start, number) for number in range(4)]
    try:
        answers = [first_line(process) for process in programs]
        assert sorted(answers) == ["no", "no", "yes", "yes"]
        assert promised() == 800 * MB
    finally:
        end(*programs)
    # Nobody lives who was promised anything.
    assert promised() == 0
    assert list(claims_dir().glob("*")) == []


def test_a_claim_lasts_as_long_as_the_worker_that_adopted_it(home: Path) -> None:
    name = reserve(main=300 * MB)
    worker = program(TAKES, name, 0)
    try:
        assert first_line(worker) == "taken"
        drop_own(name)  # whoever started it has gone: it is not his to give up any more
        assert 200 * MB < promised() <= 300 * MB
    finally:
        end(worker)
    assert promised() == 0
    # One that is not adopted is given up by its maker, or with it.
    drop_own(reserve())
    assert promised() == 0


def test_what_has_been_taken_is_not_counted_again(home: Path) -> None:
    name = reserve(main=500 * MB, mapped=100 * MB)
    assert promised() == 500 * MB
    worker = program(TAKES, name, 300 * MB)
    try:
        assert first_line(worker) == "taken"
        # Those 300 MB, and what Python takes, are missing from the free memory by themselves.
        assert 100 * MB < promised() < 200 * MB
        assert max(0, promised("some file") - 100 * MB) == max(0, promised() - 200 * MB)
    finally:
        end(worker)


def test_the_pages_of_one_file_are_counted_once(home: Path) -> None:
    for file in ("a", "a", "b"):
        reserve(file, main=100 * MB, mapped=70 * MB)
    assert promised() == (100 + 30 + 100) * MB
    assert promised("a") == (30 + 30 + 100) * MB  # as many as a third worker for it would add to
    assert promised("b") == (100 + 30 + 30) * MB


def test_a_card_has_free_what_loaded_models_have_left(home: Path) -> None:
    name = reserve(gpu=5 * MB)
    reserve(gpu=7 * MB)
    with judging() as claims:
        assert claims.gpu_bytes("CUDA0") == 12 * MB
        assert claims.gpu_bytes("CUDA1") == 0
    settle(name)  # from now on the driver counts it
    with judging() as claims:
        assert claims.gpu_bytes("CUDA0") == 7 * MB


def test_other_machines_and_broken_files_do_not_count(home: Path) -> None:
    name = reserve()
    path = claims_dir() / f"{name}.json"
    claim = msgspec.json.decode(path.read_bytes(), type=Claim)
    elsewhere = msgspec.structs.replace(claim, name="claim-elsewhere", host="another")
    (claims_dir() / "claim-elsewhere.json").write_bytes(msgspec.json.encode(elsewhere))
    (claims_dir() / "claim-broken.json").write_bytes(b"{")
    old = msgspec.structs.replace(claim, name="claim-old", made_at=claim.made_at - 3600)
    (claims_dir() / "claim-old.json").write_bytes(msgspec.json.encode(old))
    assert promised() == 100 * MB
    # The other machine's is left for that machine.
    assert {left.stem for left in claims_dir().glob("*")} == {name, "claim-elsewhere"}
    for unknown in ("claim-unknown", ""):
        adopt(unknown)
        settle(unknown)
        drop(unknown)
    drop(name)
    assert promised() == 0


def test_a_folder_that_cannot_be_written_is_named(home: Path) -> None:
    (home / "memory").write_text("a file where a folder should be")
    with pytest.raises(WorkerStartError, match=r"Nothing can be written to .*claims"), judging():
        pass


def test_only_one_judges_at_a_time(home: Path) -> None:
    inside, most = [], []

    def judge(number: int) -> None:
        with judging() as claims:
            assert isinstance(claims, Claims)
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 6


@pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)
def test_a_loaded_model_keeps_its_memory_and_teaches_the_next_prediction(
    no_leaks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_tiny_model(tmp_path / "one.gguf", seed=1)
    two = write_tiny_model(tmp_path / "two.gguf", seed=2)
    settings = LoadSettings(n_ctx=512)
    need = fit.estimate(read_header(one), settings).total_bytes
    # Room for one, and for half of another beside what the first has taken by itself.
    monkeypatch.setattr("gguf_widgets.core.fit.free_memory", lambda: need + 20 * MB)
    with ModelManager(keep_alive=0) as manager:
        model = manager.load(one, n_ctx=512)
        (load,), note = fit_history.read()
        assert note is None
        assert abs(load.measured.kv_bytes - load.predicted_kv_bytes) < 2**14
        assert 0 < load.measured.compute_bytes <= load.predicted_compute_bytes
        assert 0 < load.measured.process_bytes < 200 * MB
        chosen = fit.choose_settings(read_header(one), settings)[0]
        learned = fit_history.correction_for(read_header(one), chosen)
        assert learned.compute_bytes == load.measured.compute_bytes

        with pytest.raises(NotEnoughMemoryError, match="kept for models that are loaded") as caught:
            manager.load(two, n_ctx=512)
        assert caught.value.details["held_bytes"] > 20 * MB
        forced = manager.load(two, n_ctx=512, force=True)
        assert forced.unload()
        assert model.unload()
        wait_for(lambda: not list(claims_dir().glob("*")), "the workers have given up their claims")
        assert manager.load(two, n_ctx=512).unload()
