"""`gguf-widgets ps` and `stop`, as a person or a program meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import Home, wait_until

USER = """
import sys
import gguf_widgets as gw
models = [gw.load(n_ctx=n) for n in map(int, sys.argv[1:])]
print(*[model.pid for model in models], flush=True)
stream = models[0].stream("Tell me a story")
next(stream)
print("streaming", flush=True)
try:
    for _ in stream:
        pass
except Exception as error:
    print(error, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Home]:
    home = Home(
        tmp_path / "person",
        GGUF_WIDGETS_BACKEND="scripted",
        GGUF_WIDGETS_DEMO_PACE="20",
        JPY_SESSION_NAME="/home/emma/reviews.ipynb",
    )
    yield home
    home.close()


def run(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gguf_widgets", *arguments],
        check=False,
        cwd=home.folder / "work",
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


class Notebook:
    """Another program, which holds models and streams from the first of them."""

    def __init__(self, home: Home, *contexts: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, *map(str, contexts)],
            cwd=home.folder / "work",
            env=home.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pids = [int(pid) for pid in self.read().split()]
        assert self.read() == "streaming"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_where_nothing_runs_a_sentence_says_what_to_do_and_stopping_is_done(person: Home) -> None:
    shown = run(person, "ps")
    assert shown.returncode == 0
    assert "gguf-widgets chat" in shown.stdout
    assert json.loads(run(person, "ps", "--json").stdout) == []
    for arguments in ((), ("--all",)):
        done = run(person, "stop", *arguments)
        assert done.returncode == 0
        assert "nothing to stop" in done.stdout
    named = run(person, "stop", "demo")
    assert named.returncode == 1
    assert named.stderr.startswith("gguf-widgets: No running model is called 'demo'.")
    assert not (person.data / "logs").exists()  # looking leaves no trace


def test_ps_shows_what_runs_and_stop_ends_what_is_meant_and_nothing_else(person: Home) -> None:
    notebook = Notebook(person, 1024, 2048)
    try:
        shown = run(person, "ps")
        assert shown.returncode == 0
        head, *lines = shown.stdout.splitlines()
        assert head.split()[:4] == ["Model", "State", "Backend", "Process"]
        assert [line.split()[:4] for line in lines] == [
            ["demo", "ready", "scripted", str(pid)] for pid in notebook.pids
        ]
        assert "notebook reviews.ipynb" in lines[0]
        rows = json.loads(run(person, "ps", "--json").stdout)
        assert [row["pid"] for row in rows] == notebook.pids
        assert [row["num_clients"] for row in rows] == [1, 1]  # looking was none
        assert [row["num_running"] for row in rows] == [1, 0]
        assert rows[0]["users"][0]["pid"] == notebook.process.pid

        for arguments in ((), ("demo",)):
            ambiguous = run(person, "stop", *arguments)
            assert ambiguous.returncode == 1
            assert "Give the number of one process, or --all" in ambiguous.stderr
            assert all(str(pid) in ambiguous.stderr for pid in notebook.pids)
        both = run(person, "stop", "demo", "--all")
        assert both.returncode == 1
        unknown = run(person, "stop", "dmo")
        assert unknown.returncode == 1
        assert str(notebook.pids[0]) in unknown.stderr  # what there is
        assert len(person.workers()) == 2

        done = run(person, "stop", str(notebook.pids[0]))
        assert done.returncode == 0
        assert done.stdout == (
            f"demo (process {notebook.pids[0]}) was stopped. notebook reviews.ipynb was using it, "
            "with 1 request open.\n"
        )
        assert 'it was ended with "gguf-widgets stop"' in notebook.read()
        assert [worker.pid for worker in person.workers()] == notebook.pids[1:]

        last = run(person, "stop")  # the only one needs no name
        assert last.returncode == 0
        assert person.workers() == []
    finally:
        notebook.end()


def test_stop_all_also_ends_what_does_not_answer(person: Home) -> None:
    notebook = Notebook(person, 1024, 2048)
    try:
        os.kill(notebook.pids[1], signal.SIGSTOP)
        (fine, stuck) = run(person, "ps").stdout.splitlines()[1:]
        assert "ready" in fine
        assert "does not answer" in stuck
        done = run(person, "stop", "--all")
        assert done.returncode == 0
        assert f"(process {notebook.pids[0]}) was stopped" in done.stdout
        assert f"(process {notebook.pids[1]}) did not react and was ended by force" in done.stdout
        wait_until(lambda: not person.workers(), 40, "both have gone")
    finally:
        notebook.end()
