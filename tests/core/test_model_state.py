"""Saving and restoring a prefix from a notebook, on real workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from support.tiny_models import write_model

from gguf_widgets.core.errors import InvalidValueError, StateFileError, WorkerDiedError
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.state_file import open_state, pack
from gguf_widgets.core.state_key import user_key
from tests.core.conftest import wait_for

RULES = {"role": "system", "content": "You are kind, and you answer in one word. " * 8}
QUESTION = {"role": "user", "content": "May I?"}
DOCUMENT = "Once upon a time there was a model that read very long texts. " * 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "prefixes"
    folder.mkdir()
    return folder


@pytest.fixture
def llama_manager(no_leaks: None) -> Iterator[ModelManager]:
    manager = ModelManager(keep_alive=0)
    yield manager
    manager.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def problem_of(call: Callable[[], object]) -> str:
    with pytest.raises(StateFileError) as caught:
        call()
    return str(caught.value.details["problem"])


def is_idle(model: Model) -> bool:
    stats = model.stats()
    return (stats.num_requests, stats.engine.num_running, stats.engine.num_waiting) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["scripted", "gemma3"])
def test_what_was_saved_yesterday_is_there_today(
    kind: str, tmp_path: Path, folder: Path, no_leaks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "scripted":
        monkeypatch.setenv("GGUF_WIDGETS_BACKEND", "scripted")
        monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "0")
        source = "demo"
    else:
        source = str(write_model(tmp_path / "m.gguf", kind))
    path = folder / "rules.prefix"
    conversation = [RULES, QUESTION]
    with ModelManager(keep_alive=0) as manager, manager.load(source, n_ctx=2048) as model:
        before = model.chat(conversation, temperature=0, max_tokens=8, reproducible=True)
        saved = model.save_prefix([RULES], path)
        assert 0 < saved.num_tokens < before.usage.num_prompt_tokens
        assert saved.size_bytes == path.stat().st_size
        assert is_idle(model)
        # It is of use at once, as well.
        again = model.chat(conversation, temperature=0, max_tokens=8)
        assert again.usage.num_cached_tokens >= saved.num_tokens
    with ModelManager(keep_alive=0) as manager, manager.load(source, n_ctx=4096) as model:
        restored = model.restore_prefix(path)
        assert restored == saved.replace(num_cached_tokens=0)
        for number in range(3):
            reply = model.chat(conversation, temperature=0, max_tokens=8)
            assert reply.text == before.text
            assert reply.usage.num_cached_tokens >= saved.num_tokens
            asked = [RULES, {"role": "user", "content": f"Question {number}"}]
            reply = model.chat(asked, max_tokens=1)
            assert reply.usage.num_cached_tokens >= saved.num_tokens
        assert model.restore_prefix(path).num_cached_tokens == saved.num_tokens
        assert is_idle(model)


def test_a_document_serves_every_question_behind_it(manager: ModelManager, folder: Path) -> None:
    model = manager.load(n_ctx=4096)
    saved = model.save_prefix(DOCUMENT, folder / "document")
    raw = model.save_prefix(DOCUMENT, folder / "raw", raw=True)
    model.unload()
    model = manager.load(n_ctx=4096)
    for name in ("document", "raw"):
        model.restore_prefix(folder / name)
    for question in ("", " What was it?", "\n\nSum it up.", "1"):
        reply = model.chat(DOCUMENT + question, max_tokens=1)
        assert reply.usage.num_cached_tokens >= saved.num_tokens
        reply = model.complete(DOCUMENT + question, max_tokens=1)
        assert reply.usage.num_cached_tokens >= raw.num_tokens
    conversation = [{"role": "user", "content": DOCUMENT}, {"role": "assistant", "content": "Yes."}]
    assert model.save_prefix(conversation, folder / "talk").num_cached_tokens >= saved.num_tokens


def test_a_file_that_is_of_no_use_here_is_refused_in_words(
    llama_manager: ModelManager, tmp_path: Path, folder: Path
) -> None:
    file = write_model(tmp_path / "this.gguf", "llama")
    other = write_model(tmp_path / "other.gguf", "llama", seed=1)
    with llama_manager.load(str(other), n_ctx=1024) as model:
        model.save_prefix([RULES], folder / "trained otherwise")
    model = llama_manager.load(str(file), n_ctx=1024)
    saved = model.save_prefix([RULES], folder / "this")
    good = (folder / "this").read_bytes()
    (folder / "cut").write_bytes(good[:-1])
    (folder / "changed").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    (folder / "text").write_text("no prefix")
    with open_state(folder / "this", user_key()) as state:
        header = state.header
    settings = header.identity.settings | {"type_k": "q8_0"}
    for name, key, change in (
        ("other settings", user_key(), {"settings": settings}),
        ("other version", user_key(), {"runtime": "llama.cpp of yesterday"}),
        ("theirs", bytes(32), {}),
    ):
        identity = msgspec.structs.replace(header.identity, **change)
        start = pack(msgspec.structs.replace(header, identity=identity), key)
        (folder / name).write_bytes(start + good[-header.state_bytes :])
    model.chat("Hello", reproducible=True, max_tokens=1)  # empties the cache
    before = model.stats().engine
    for name, problem in {
        "trained otherwise": "other_model",
        "other settings": "other_settings",
        "other version": "other_runtime",
        "theirs": "foreign",
        "cut": "truncated",
        "changed": "damaged",
        "text": "not_a_state",
        "none": "missing",
        ".": "unreadable",
    }.items():
        assert problem_of(lambda: model.restore_prefix(folder / name)) == problem  # noqa: B023
    assert problem_of(lambda: model.save_prefix("x" * 50, folder / "text")) == "exists"
    assert problem_of(lambda: model.save_prefix("x" * 50, folder / "no" / "a")) == "folder"
    assert problem_of(lambda: model.save_prefix("long " * 1000, folder / "long")) == "no_room"
    assert is_idle(model)
    assert model.stats().engine == before
    assert model.restore_prefix(folder / "this").num_cached_tokens == 0
    # What is there already is not even read.
    assert model.restore_prefix(folder / "changed").num_cached_tokens == saved.num_tokens
    file.touch()
    assert problem_of(lambda: model.save_prefix([RULES], folder / "new")) == "model_changed"
    assert "new" not in names(folder)


@pytest.mark.parametrize(
    ("path", "words"),
    [("", "path is empty"), ("a\0b", "zero byte"), (7, "is a int"), (b"x", "is a bytes")],
)
def test_a_path_that_is_none_is_refused_before_anything_is_sent(path: object, words: str) -> None:
    model = Model.__new__(Model)
    model._chat_template = None
    for call in (lambda: model.restore_prefix(path), lambda: model.save_prefix("Hello", path)):  # type: ignore[arg-type]
        with pytest.raises(InvalidValueError, match=words):
            call()
    with pytest.raises(InvalidValueError, match="text is empty"):
        model.save_prefix("", "a", raw=True)


def test_a_path_means_what_it_means_to_the_notebook(
    manager: ModelManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = manager.load()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert model.save_prefix("Hello, you", "a ü.prefix").path == str(folder / "a ü.prefix")
    model.save_prefix("Hello, you", "~/b.prefix")
    assert names(folder) == ["a ü.prefix", "b.prefix"]


# --- while others work -------------------------------------------------------------------------


def test_streams_go_on_while_a_prefix_is_written(
    manager: ModelManager,
    folder: Path,
    in_worker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "100")
    in_worker(
        "import os, time\n"
        "fsync = os.fsync\n"
        "def slow(descriptor):\n"
        "    time.sleep(0.7)\n"  # as a disk that is slow; once for the file, once for its folder
        "    fsync(descriptor)\n"
        "os.fsync = slow"
    )
    model = manager.load(n_ctx=4096)
    with model.stream("Tell me a story", temperature=0) as stream:
        iterator = iter(stream)
        next(iterator)
        begun = time.monotonic()
        saving = threading.Thread(target=model.save_prefix, args=(DOCUMENT, folder / "a"))
        saving.start()
        longest, last = 0.0, time.monotonic()
        for _ in iterator:
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            if not saving.is_alive():
                break
        saving.join()
        assert time.monotonic() - begun > 1.4
        assert longest < 0.7
    assert names(folder) == ["a"]


def test_an_interrupt_takes_a_save_back_and_costs_nobody_else_anything(
    manager: ModelManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "5")  # a prompt is computed at 250 tokens a second
    model = manager.load(n_ctx=8192)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.save_prefix(DOCUMENT * 10, folder / "a")  # 6,000 tokens: half a minute
    wait_for(lambda: is_idle(model), "the request is taken back", 15)
    assert names(folder) == []
    assert model.save_prefix("Hello, you", folder / "a").num_tokens > 0


def test_a_client_that_dies_leaves_neither_a_request_nor_half_a_file(
    manager: ModelManager, folder: Path, in_worker: Callable[[str], None]
) -> None:
    in_worker("import time, os\nreal = os.fsync\nos.fsync = lambda fd: (time.sleep(0.5), real(fd))")
    model = manager.load(n_ctx=4096)
    code = (
        "import sys; from gguf_widgets.core.manager import ModelManager;"
        "ModelManager(keep_alive=0).load(n_ctx=4096).save_prefix(sys.argv[1], sys.argv[2])"
    )
    kernel = subprocess.Popen([sys.executable, "-c", code, DOCUMENT, str(folder / "a")])
    wait_for(lambda: names(folder), "the file is being written")
    assert model.stats().num_clients == 2
    kernel.kill()
    kernel.wait()
    wait_for(lambda: is_idle(model), "its request is closed")
    wait_for(lambda: not any(name.endswith(".part") for name in names(folder)), "no part is left")
    assert model.save_prefix(DOCUMENT, folder / "b").num_tokens > 0


def test_two_notebooks_save_and_restore_at_once(manager: ModelManager, folder: Path) -> None:
    model = manager.load(n_ctx=8192)
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                saved = model.save_prefix(f"{DOCUMENT[number * 7 :]}", folder / f"{number % 2}")
                assert model.restore_prefix(saved.path).num_tokens
                assert model.chat(f"Hello {turn}", max_tokens=3).text
        except BaseException as error:  # noqa: BLE001 - told below
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert names(folder) == ["0", "1"]
    assert is_idle(model)


def test_a_worker_that_dies_while_it_saves_is_told_and_the_old_file_stays(
    manager: ModelManager, folder: Path, in_worker: Callable[[str], None]
) -> None:
    switch = folder.parent / "kill"
    in_worker(
        "import os\nreal = os.fsync\n"
        f"kills = lambda: os.path.exists({str(switch)!r})\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), 9) if kills() else real(fd)"
    )
    model = manager.load(n_ctx=4096)
    path = folder / "a"
    model.save_prefix(DOCUMENT, path)
    before = path.read_bytes()
    switch.touch()
    with pytest.raises(WorkerDiedError):
        model.save_prefix(DOCUMENT * 2, path)
    assert path.read_bytes() == before
    assert len(names(folder)) == 2
    switch.unlink()
    assert model.save_prefix(DOCUMENT * 2, path).num_tokens > len(DOCUMENT)
    assert names(folder) == ["a"]
