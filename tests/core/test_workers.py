"""What is shown of the processes that run models, and ending one, from Python."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pandas as pd
import pytest
from support.kernel import Kernel

import gguf_widgets as gw
from gguf_widgets.core import workers as workers_module
from gguf_widgets.core.errors import WorkerDiedError
from gguf_widgets.core.loaded_models import LoadedModels
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.worker.peek import Ended
from gguf_widgets.core.worker_facts import StopResult, Worker, WorkerUser
from gguf_widgets.core.workers import WorkerList, matching
from tests.core.conftest import wait_for


def _rows(text: str) -> list[dict[str, str]]:
    """Read a printed table again, by the columns where its headings begin."""
    head, *lines = text.splitlines()
    names = [name for name in WorkerList.HEADINGS if name in head]
    starts = [head.index(name) for name in names]
    ends = [*starts[1:], None]
    return [
        {name: line[a:b].strip() for name, a, b in zip(names, starts, ends, strict=True)}
        for line in lines
    ]


def test_without_workers_it_says_what_to_do(no_leaks: None) -> None:
    nothing = gw.workers()
    assert nothing == []
    assert "gguf_widgets.load(...)" in repr(nothing)
    assert "gguf_widgets.load(...)" in nothing._repr_html_()
    assert nothing.to_dicts() == []
    assert list(nothing.to_frame().columns) == [*Worker.__struct_fields__, "num_clients"]
    none_loaded = ModelManager().loaded()
    assert none_loaded == []
    assert "gguf_widgets.load(...)" in repr(none_loaded)
    assert "gguf_widgets.load(...)" in none_loaded._repr_html_()
    assert none_loaded.to_frame().empty


def test_every_worker_is_listed_with_what_it_does_and_who_uses_it(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    kernel = Kernel(keep_alive=60)
    try:
        kernel.wait_started()
        model, small = manager.load(), manager.load(n_ctx=1024)
        kernel.do("load")
        stream = model.stream("Tell me a story")
        next(stream)
        first, second = listed = gw.workers()
        assert [worker.name for worker in manager.workers()] == [first.name, second.name]
        assert (first.pid, second.pid) == (model.pid, small.pid)
        assert first.model == second.model == "demo"
        assert first.state == second.state == "ready"
        assert first.backend == "scripted"
        assert (first.num_clients, second.num_clients) == (2, 1)
        assert first.users is not None
        assert {user.pid for user in first.users} == {os.getpid(), kernel.process.pid}
        assert (first.num_running, first.num_waiting, second.num_running) == (1, 0, 0)
        assert (first.num_cells, second.num_cells) == (8192, 1024)
        assert 0 < (first.num_cells_used or 0) < 8192
        assert second.n_ctx == 1024
        assert first.rss_bytes is not None
        assert first.rss_bytes > 10_000_000
        assert first.leaves_in_s is None

        row, other = _rows(repr(listed))
        assert (row["Model"], row["Process"], row["Running"]) == ("demo", str(model.pid), "1")
        assert row["Cells"].endswith("of 8,192")
        assert row["Clients"] == "2"
        assert row["Leaves"] == "not while it is used"
        assert other["Cells"] == "0 of 1,024"
        assert listed._repr_html_().count("<tr>") == 3
        frame = listed.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert frame["pid"].tolist() == [model.pid, small.pid]
        plain = json.loads(json.dumps(listed.to_dicts()))
        assert plain[0]["users"][0]["num_requests"] + plain[0]["users"][1]["num_requests"] == 1
        stream.stop()

        small_pid = small.pid
        manager.close()
        wait_for(lambda: [w.num_clients for w in gw.workers()] == [1], "the small one has left")
        assert gw.workers()[0].pid != small_pid
        kernel.kill()
        wait_for(lambda: gw.workers()[0].users == [], "nobody uses it")
        (idle,) = gw.workers()
        assert 0 < (idle.leaves_in_s or 0) <= 60
        (row,) = _rows(repr(gw.workers()))
        assert row["Leaves"].startswith("in ")
        assert row["Used by"] == "nobody"
        assert idle.stop().how is Ended.ASKED
    finally:
        kernel.kill()


def test_the_loaded_models_are_a_list_that_shows_what_they_are_doing(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    model = manager.load()
    other = manager.load(n_ctx=1024)
    stream = model.stream("Tell me a story")
    next(stream)
    loaded = manager.loaded()
    assert isinstance(loaded, LoadedModels)
    assert loaded == [model, other]
    row, second = _rows(repr(loaded))
    assert (row["Model"], row["State"], row["Clients"]) == ("demo", "ready", "1")
    assert (row["Running"], second["Running"]) == ("1", "0")
    assert second["Cells"] == "0 of 1,024"
    assert row["Memory"].endswith("MB")
    assert loaded._repr_html_().count("<tr>") == 3
    stream.stop()

    pid = other.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: other.pid is None, "its end is seen")
    frame = loaded.to_frame()
    assert frame["state"].tolist() == ["ready", "stopped"]
    assert frame["model"].tolist() == ["demo", "demo"]
    assert frame["num_running"].tolist()[0] == 0
    assert "starts it again" in repr(loaded)
    assert other.chat("Hello", max_tokens=1).text  # it was started again ...
    assert loaded.to_frame()["state"].tolist() == ["ready", "ready"]  # ... and that is shown
    other.unload()
    assert _rows(repr(loaded))[1]["State"] == "unloaded"


def test_a_worker_that_does_not_answer_is_listed_as_such_within_the_time(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = manager.load(), manager.load(n_ctx=1024)
    assert model.pid is not None
    os.kill(model.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        stuck, ready = gw.workers(timeout_s=1.0)
        took_s = time.monotonic() - begun
        assert took_s >= 1.0  # all are asked at once, and given that long together
        assert (stuck.state, ready.state) == ("stuck", "ready")
        assert stuck.rss_bytes
        assert stuck.num_clients is None
        row = _rows(repr(WorkerList([stuck])))[0]
        assert row["State"] == "does not answer"
        assert row["Clients"] == row["Running"] == row["Cells"] == "-"
        assert _rows(repr(manager.loaded()))[0]["State"] == "does not answer"
    finally:
        os.kill(model.pid, signal.SIGCONT)
    assert other.pid == ready.pid


def test_looking_gives_up_even_if_the_asking_itself_hangs(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    manager.load()
    go = threading.Event()
    monkeypatch.setattr(workers_module, "_look", lambda entry, timeout_s: go.wait())
    (worker,) = gw.workers(timeout_s=0.01)
    assert worker.state == "stuck"
    go.set()


def test_stopping_tells_who_used_it_and_those_are_told_why(
    manager: ModelManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGUF_WIDGETS_DEMO_PACE", "20")
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/emma/reviews.ipynb")
    model = manager.load()
    stream = model.stream("Tell me a story")
    next(stream)
    (worker,) = gw.workers()
    result = worker.stop()
    assert str(result) == repr(result)
    assert str(result) == (
        f"demo (process {worker.pid}) was stopped. notebook reviews.ipynb was using it, with 1 "
        "request open."
    )
    assert result.ended
    with pytest.raises(WorkerDiedError, match="another program of yours ended it"):
        for _ in stream:
            pass
    assert gw.workers() == []
    assert worker.stop().how is Ended.GONE
    assert "had ended already" in str(worker.stop())
    assert model.chat("Hello", max_tokens=2).text  # the next request starts it again
    assert worker.stop().how is Ended.GONE  # and that is another one


def test_the_words_for_each_end() -> None:
    worker = Worker(name="n", model="demo\x1b[2J", path="p", pid=7, backend="b", state="ready")
    users = [
        WorkerUser(program=name, pid=pid, num_requests=0, connected_s=1)
        for name, pid in (("python", 1), ("python", 2), ("", 3), ("", 0))
    ]
    texts = [str(StopResult(worker, how)) for how in Ended]
    assert len(set(texts)) == len(Ended)
    assert all(text.startswith("demo [2J (process 7)") for text in texts)  # nothing is obeyed
    assert str(StopResult(worker, Ended.ASKED, users, 1200)).endswith(
        "2 x python, process 3, a program were using it, with 1,200 requests open."
    )
    assert not StopResult(worker, Ended.ALIVE).ended


def test_what_comes_from_outside_is_shown_and_not_obeyed() -> None:
    user = WorkerUser(program="<script>\n\x07", pid=1, num_requests=0, connected_s=1)
    worker = Worker(
        name="n", model="<img src=x>", path="p", pid=7, backend="b", state="ready", users=[user]
    )
    page, text = WorkerList([worker])._repr_html_(), repr(WorkerList([worker]))
    assert "&lt;img src=x&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert text.count("\n") == 1
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("12", ["b"]),  # the process before the name
        ("a", ["a"]),
        ("mistral", ["a", "b"]),
        ("MISTRAL", ["a", "b"]),
        ("Llama", ["c"]),
        ("llama", ["d"]),
        ("/models/x.gguf", ["c"]),
        ("nothing", []),
        ("", []),
        ("\0", []),
    ],
)
def test_what_a_person_means_by_a_name(text: str, names: list[str]) -> None:
    def worker(name: str, model: str, pid: int, path: str = "p") -> Worker:
        return Worker(name=name, model=model, path=path, pid=pid, backend="b", state="ready")

    running = [
        worker("a", "mistral", 11),
        worker("b", "mistral", 12),
        worker("c", "Llama", 13, "/models/x.gguf"),
        worker("d", "llama", 14),
        worker("e", "12", 15),
    ]
    assert [found.name for found in matching(running, text)] == names


def test_the_file_of_a_model_may_be_named_in_any_way(
    manager: ModelManager, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = manager.load()
    monkeypatch.chdir(model.path.parent)
    listed = gw.workers()
    assert matching(listed, str(model.path)) == matching(listed, model.path.name) == list(listed)


def test_a_worker_that_fails_to_load_or_is_leaving_is_shown_so(
    manager: ModelManager, in_worker: Callable[[str], None]
) -> None:
    in_worker("""
import time
from gguf_widgets.core.engine.engine import Engine
close = Engine.close
def slow(self):
    time.sleep(1.0)
    close(self)
Engine.close = slow
""")
    manager.load()
    manager.close()
    wait_for(
        lambda: [worker.state for worker in gw.workers()] == ["leaving"], "its leaving is seen"
    )
    wait_for(lambda: gw.workers() == [], "it has left")
