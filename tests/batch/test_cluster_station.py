"""A machine's own part: it has the very model, asks it, and lets go of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gguf_widgets.batch.cluster import Cluster, model_file, station
from gguf_widgets.batch.cluster.messages import (
    Answered,
    Asking,
    Identity,
    Job,
    Letter,
    ModelFile,
    Report,
    decode,
    encode,
)
from gguf_widgets.core.errors import (
    FileChangeError,
    InvalidValueError,
    MissingDependencyError,
    ModelNotFoundError,
    ProtocolError,
)
from gguf_widgets.core.types import FinishReason, ImagePart, Message, SamplingSettings, TextPart
from gguf_widgets.demo import demo_model_path
from tests.core.conftest import processes_of, wait_for


def changed_copy(to: Path) -> Path:
    data = bytearray(demo_model_path().read_bytes())
    data[-1] ^= 1  # one bit of one weight
    to.write_bytes(data)
    return to


def copy(to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(demo_model_path().read_bytes())
    return to


# -- the model's file ------------------------------------------------------------------------------


def test_the_file_is_found_wherever_it_lies_and_another_in_its_place_is_not(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = model_file.described(copy(tmp_path / "there" / "model.gguf"))
    assert model_file.find(wanted) == tmp_path / "there" / "model.gguf", "a shared folder"
    changed_copy(tmp_path / "there" / "model.gguf")
    # The demo that comes with the package is the same file: one of this machine's models.
    assert model_file.find(wanted) == demo_model_path()
    own = copy(tmp_path / "own" / "called otherwise.gguf")
    data = bytearray(own.read_bytes())
    data[-2] ^= 1
    own.write_bytes(data)
    mine = model_file.described(own)
    gone = ModelFile(path="/nowhere/m.gguf", sha256=mine.sha256, size=mine.size)
    with pytest.raises(ModelNotFoundError, match=r'"m.gguf" .*not there: .*demo.gguf is another'):
        model_file.find(gone)
    monkeypatch.setenv("GGUF_WIDGETS_MODELS", str(tmp_path / "own"))
    assert model_file.find(gone) == own
    given = ModelFile(path=str(own), sha256=mine.sha256, size=mine.size, given="/nowhere/x.gguf")
    with pytest.raises(ModelNotFoundError, match=r"there is no file at /nowhere/x.gguf"):
        model_file.find(given)


def test_another_file_is_named_with_what_it_is(home: Path, tmp_path: Path) -> None:
    wanted = model_file.described(demo_model_path())
    seen: list[str] = []
    assert not model_file.is_same(wanted, changed_copy(tmp_path / "a.gguf"), seen=seen)
    short = tmp_path / "b.gguf"
    short.write_bytes(b"GGUF")
    assert not model_file.is_same(wanted, short, seen=seen)
    assert not model_file.is_same(wanted, tmp_path, seen=seen)
    assert "a.gguf is another file: its SHA-256 begins with" in seen[0]
    assert f"b.gguf is another file: it has 4 bytes (4 bytes), not {wanted.size:,}" in seen[1]
    assert len(seen) == 2


def test_reading_a_large_file_can_be_stopped(home: Path, tmp_path: Path) -> None:
    path = copy(tmp_path / "m.gguf")
    with pytest.raises(FileChangeError, match="stopped") as caught:
        model_file.described(path, cancel=lambda: True)
    assert caught.value.details["problem"] == "cancelled"


def test_a_split_model_is_all_of_its_parts(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(b"GGUF" + bytes([number]))
    first = tmp_path / "m-00001-of-00002.gguf"
    wanted = model_file.described(first)
    assert len(wanted.sha256) == 2
    assert wanted.size == 10
    assert model_file.is_same(wanted, first)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"GGUF\x03")
    assert not model_file.is_same(wanted, first)
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    assert not model_file.is_same(wanted, first)


def test_what_is_not_here_is_fetched_and_checked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gguf_widgets.core import download

    fetched: list[str] = []
    path = changed_copy(tmp_path / "fetched.gguf")

    def fetch(name: str, **_options: Any) -> Path:
        fetched.append(name)
        return path

    monkeypatch.setattr(download, "fetch", fetch)
    own = model_file.described(path, fetch="hf:owner/repo:Q4_K_M")
    wanted = ModelFile(path="/nowhere.gguf", sha256=own.sha256, size=own.size, fetch=own.fetch)
    assert model_file.find(wanted) == path
    assert fetched == ["hf:owner/repo:Q4_K_M"]
    copy(path)
    with pytest.raises(ModelNotFoundError, match=r"fetched.gguf is another file"):
        model_file.find(wanted)


# -- the station -----------------------------------------------------------------------------------


@pytest.fixture
def talk(home: Path) -> Iterator[Callable[..., Report]]:
    """Send a letter to a station of this process; it is closed at the end."""

    def send(name: str = "a", **letter: Any) -> Report:
        return decode(station.exchange(encode(Letter(station=name, **letter))), Report)

    yield send
    for name in list(station._STATIONS):
        send(name, close=True)
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the model's process ends")


def job(path: Path | None = None, **more: Any) -> Job:
    file = model_file.described(path if path is not None else demo_model_path())
    return Job(run_id="0" * 32, name="demo", model=file, **more)


def asking(number: int, text: str = "Hello", **sampling: Any) -> Asking:
    settings = SamplingSettings(**{"temperature": 0.0, "max_tokens": 8, **sampling})
    return Asking(number=number, messages=[{"role": "user", "content": text}], sampling=settings)


def answers(talk: Any, num: int) -> dict[int, Answered]:
    found: dict[int, Answered] = {}
    deadline = time.monotonic() + 60
    while len(found) < num:
        assert time.monotonic() < deadline
        report = talk(wait_s=5.0)
        assert report.error is None, report.error
        for one in report.answered:
            assert one.number not in found
            found[one.number] = one
    return found


def test_questions_are_answered_as_they_end_and_a_dead_process_is_started_again(
    talk: Any, home: Path
) -> None:
    assert talk().state == "unknown"
    first = talk(job=job(settings={"n_seq_max": 4}), ask=[asking(i) for i in range(5)])
    assert first.state == "loading"
    found = answers(talk, 5)
    assert all(one.reply is not None and one.reply.text for one in found.values())
    assert talk().room == 2 * 4 + 4
    # One that is stopped under way, one that is not: each has one end.
    talk(ask=[asking(10, "Tell me a story about Emma", max_tokens=4000, ignore_eos=True)])
    talk(ask=[asking(11)], stop=[10])
    found = answers(talk, 2)
    stopped = found[10].reply
    assert stopped is None or stopped.finish_reason is FinishReason.ABORTED
    assert found[11].reply is not None
    (engine,) = processes_of(home, "gguf_widgets.core.worker")
    talk(ask=[asking(20, "Tell me a story about Emma", max_tokens=4000, ignore_eos=True)])
    os.kill(engine.pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    (lost,) = answers(talk, 1).values()
    assert lost.error is not None
    assert lost.error.kind == "WorkerDiedError"
    talk(ask=[asking(21)])
    assert answers(talk, 1)[21].reply is not None


def test_a_file_that_is_replaced_is_never_loaded(talk: Any, home: Path, tmp_path: Path) -> None:
    path = copy(tmp_path / "m.gguf")
    talk(job=job(path), ask=[asking(1)])
    answers(talk, 1)
    (engine,) = processes_of(home, "gguf_widgets.core.worker")
    other = changed_copy(tmp_path / "other.gguf")
    other.replace(path)
    engine.kill()
    engine.wait(10)
    wait_for(lambda: talk(ask=[asking(2)], wait_s=0.5).state == "failed", "the fault")
    report = talk()
    assert report.error is not None
    assert report.error.kind == "ModelFileError"
    assert "was replaced" in report.error.message
    assert not processes_of(home, "gguf_widgets.core.worker")


def test_a_run_that_is_not_heard_of_any_more_is_let_go(talk: Any, home: Path) -> None:
    talk(job=job(lease_s=2.0), ask=[asking(1)])
    answers(talk, 1)
    assert processes_of(home, "gguf_widgets.core.worker")
    wait_for(lambda: not station._STATIONS, "the lease ends")
    wait_for(lambda: not processes_of(home, "gguf_widgets.core.worker"), "the model's process ends")
    assert talk().state == "unknown"


def test_whoever_waits_hears_of_the_end_at_once(talk: Any) -> None:
    talk(job=job(), ask=[asking(1)])
    answers(talk, 1)
    heard: list[Report] = []
    waiting = [threading.Thread(target=lambda: heard.append(talk(wait_s=25.0))) for _ in range(3)]
    for one in waiting:
        one.start()
    talk(close=True)
    for one in waiting:
        one.join(20)
    assert len(heard) == 3, "and not when the wait is over"


def test_a_letter_carries_images_and_every_setting_as_they_are() -> None:
    parts = [TextPart(text="What is it?"), ImagePart(data=bytes(range(256)))]
    settings = SamplingSettings(
        logit_bias={5: float("-inf")}, stop=("\n\n",), schema={"type": "object"}, seed=7
    )
    message = Message(role="user", content="What is it?", parts=parts)
    letter = Letter(
        station="a", ask=[Asking(number=1, messages=[message], sampling=settings)], wait_s=1.5
    )
    assert decode(encode(letter), Letter) == letter


def test_what_is_no_letter_is_refused(home: Path) -> None:
    for data in (b"", b"rubbish", encode(Report(state="ready")), {"station": "a"}):
        with pytest.raises(ProtocolError):
            station.exchange(data)  # type: ignore[arg-type]
    assert not station._STATIONS


def test_machines_are_told_apart_by_their_data_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, same = (decode(station.identify("w"), Identity) for _ in range(2))
    monkeypatch.setenv("GGUF_WIDGETS_HOME", str(tmp_path / "other"))
    other = decode(station.identify("w"), Identity)
    assert one.machine == same.machine != other.machine


# -- what a person gives ---------------------------------------------------------------------------


def test_what_cannot_be_an_executor_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidValueError, match=r"dask.distributed.Client.*this is a str"):
        Cluster("tcp://scheduler:8786")
    with pytest.raises(InvalidValueError, match="a process of its own or a cluster"):
        Cluster.of(object(), own_process=True)
    assert Cluster.of(None) is None
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "distributed", None)
        with pytest.raises(
            MissingDependencyError, match=r"gguf-widgets\[llama,distributed\]"
        ) as caught:
            Cluster(object())
    assert caught.value.details["package"] == "distributed"
