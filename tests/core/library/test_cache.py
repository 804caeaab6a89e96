"""Headers are remembered across sessions, and what is remembered is not believed blindly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gguf_writer import Typed, model_bytes
from support.library_homes import model_file, part_file, projector_file, put

from gguf_widgets.core import config
from gguf_widgets.core.library import cache, facts
from gguf_widgets.core.library.cache import HeaderCache
from gguf_widgets.core.library.facts import Facts


def kept() -> Path:
    return config.data_dir() / "library" / "headers.msgpack"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A model with a template, one without, a projector, a bad file, a split model."""
    folder = tmp_path / "files"
    put(folder / "big-00002-of-00002.gguf", part_file(2, 2))
    return [
        put(folder / "a.gguf", model_file("A")),
        put(folder / "b.gguf", model_bytes(tokenizer__chat_template=Typed("string", ""))),
        put(folder / "mmproj.gguf", projector_file()),
        put(folder / "bad.gguf", b"bad"),
        put(folder / "big-00001-of-00002.gguf", part_file(1, 2)),
    ]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read."""
    done: list[str] = []
    read = facts.read_facts

    def counting(path: Path) -> Facts:
        done.append(path.name)
        return read(path)

    monkeypatch.setattr(cache, "read_facts", counting)
    return done


def test_the_next_session_reads_nothing_again(paths: list[Path], reads: list[str]) -> None:
    first = HeaderCache().read_all(paths)
    assert sorted(reads) == sorted(path.name for path in paths)
    reads.clear()
    assert HeaderCache().read_all(paths) == first
    assert reads == []
    if os.name == "posix":
        assert kept().stat().st_mode & 0o077 == 0


def test_what_another_session_has_read_meanwhile_is_seen(
    paths: list[Path], reads: list[str]
) -> None:
    here, there = HeaderCache(), HeaderCache()
    here.read_all(paths[:1])
    there.read_all(paths)
    reads.clear()
    here.read_all(paths)
    assert reads == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: put(path, model_file("Another")),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (
            path.with_name("copy").write_bytes(path.read_bytes())
            and path.with_name("copy").replace(path)
        ),
    ],
    ids=["contents", "time", "replaced"],
)
def test_a_file_that_changed_is_read_again(
    paths: list[Path], reads: list[str], change: Callable[[Path], Any]
) -> None:
    HeaderCache().read_all(paths)
    reads.clear()
    change(paths[0])
    expected = facts.read_facts(paths[0])
    reads.clear()
    assert HeaderCache().read_all(paths)[0] == expected
    assert reads == ["a.gguf"]


def test_another_part_that_changed_counts_too(paths: list[Path], reads: list[str]) -> None:
    HeaderCache().read_all(paths)
    reads.clear()
    paths[-1].with_name("big-00002-of-00002.gguf").unlink()
    (facts,) = HeaderCache().read_all(paths[-1:])
    assert facts.failure is not None
    assert reads == [paths[-1].name]


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_whatever_is_in_the_file_the_answers_are_right(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = put(tmp_path_factory.mktemp("files") / "m.gguf", model_file())
    put(kept(), content)
    assert HeaderCache().read_all([path]) == [facts.read_facts(path)]
    assert HeaderCache().read_all([path]) == [facts.read_facts(path)]


FORGERIES: dict[str, Callable[[Any], Any]] = {
    "another version": lambda file: {**file, "version": 99},
    "no version": lambda file: {"answers": file["answers"]},
    "answers of another kind": lambda file: {**file, "answers": {"a": 1}},
    "an unknown field": lambda file: change_facts(file, lambda f: {**f, "evil": 1}),
    "an unknown capability": lambda file: change_facts(
        file, lambda f: {**f, "capabilities": ["x"]}
    ),
    "a size below nothing": lambda file: change_facts(
        file, lambda f: {**f, "info": {**f["info"], "size_bytes": -1}}
    ),
    "another file's answer": lambda file: change_facts(
        file, lambda f: {**f, "info": {**f["info"], "path": "/etc/passwd"}}
    ),
    "a name that moves the cursor": lambda file: change_facts(
        file, lambda f: {**f, "info": {**f["info"], "name": "\x1b[2J"}}
    ),
    "an error that there is not": lambda file: change_facts(
        file, lambda f: {**f, "info": None, "failure": ["SystemExit", "x", {}]}
    ),
    "an error of another kind": lambda file: change_facts(
        file, lambda f: {**f, "info": None, "failure": ["WorkerError", "x", {}]}
    ),
    "details that are no details": lambda file: change_facts(
        file,
        lambda f: {**f, "info": None, "failure": ["ValueError", "x", {"message": 1, "self": 2}]},
    ),
    "both an answer and an error": lambda file: change_facts(
        file, lambda f: {**f, "failure": ["NotGgufError", "x", {}]}
    ),
    "neither": lambda file: change_facts(file, lambda f: {**f, "info": None}),
    "a template that is not there": lambda file: {
        **file, "answers": [[*answer[:3], 7] for answer in file["answers"]]
    },
}  # fmt: skip


def change_facts(file: Any, change: Callable[[Any], Any]) -> Any:
    answers = [[path, state, change(facts), t] for path, state, facts, t in file["answers"]]
    return {**file, "answers": answers}


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_a_forged_answer_is_thrown_away(tmp_path: Path, reads: list[str], name: str) -> None:
    path = put(tmp_path / "m.gguf", model_file())
    (right,) = HeaderCache().read_all([path])
    forged = FORGERIES[name](msgspec.msgpack.decode(kept().read_bytes()))
    kept().write_bytes(msgspec.msgpack.encode(forged))
    reads.clear()
    assert HeaderCache().read_all([path]) == [right]
    assert reads == ["m.gguf"]
    reads.clear()
    assert HeaderCache().read_all([path]) == [right]
    assert reads == [], "it was written anew"


READ = """
import sys
from pathlib import Path
from gguf_widgets.core.library.cache import HeaderCache
for number in range(10):
    HeaderCache().read_all([Path(sys.argv[1]) / f"{sys.argv[2]}-{number}.gguf"])
"""


def test_several_processes_lose_nothing_of_each_others(tmp_path: Path, reads: list[str]) -> None:
    for who in "abc":
        for number in range(10):
            put(tmp_path / f"{who}-{number}.gguf", model_file(f"{who} {number}"))
    started = [subprocess.Popen([sys.executable, "-c", READ, str(tmp_path), who]) for who in "abc"]
    assert [process.wait(90) for process in started] == [0, 0, 0]
    every = sorted(tmp_path.glob("*.gguf"))
    HeaderCache().read_all(every)
    assert len(every) == 30
    assert reads == []
    left = {path.name for path in kept().parent.iterdir()}
    assert left == {"headers.msgpack", "headers.msgpack.lock"}


@pytest.mark.parametrize("save_every", [7, 1000])
def test_what_is_kept_is_bounded_and_the_newest_stays(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, save_every: int
) -> None:
    headers = HeaderCache()
    monkeypatch.setattr(headers._file, "_max_bytes", 20_000)
    monkeypatch.setattr(cache, "_SAVE_EVERY", save_every)
    long = {"tokenizer__chat_template": Typed("string", "{{ x }}" * 100)}
    paths = [
        put(tmp_path / f"m{n:02}.gguf", model_bytes(general__name=Typed("string", str(n)), **long))
        for n in range(60)
    ]
    headers.read_all(paths)
    assert kept().stat().st_size <= 20_000
    content = msgspec.msgpack.decode(kept().read_bytes())
    assert len(content["templates"]) == 1, "they all have the same"
    assert 10 < len(content["answers"]) < 60
    reads.clear()
    HeaderCache().read_all(paths[-5:])
    assert reads == []


def test_a_data_folder_that_cannot_be_written_costs_only_the_memory(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = put(config.data_dir() / "library", b"a file where the folder should be")
    answers = HeaderCache().read_all(paths)
    assert answers[0].info is not None
    assert "could not be written" in caplog.text
    assert blocked.is_file()
