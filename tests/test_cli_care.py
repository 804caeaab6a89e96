"""The commands that look after model files, as a person or a program meets them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gguf_writer import model_bytes
from support.servers import Home, wait_until
from support.tiny_models import write_model

from gguf_widgets.demo import demo_model_path

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "person")
    yield home
    home.close()


def run(home: Home, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gguf_widgets", *arguments],
        check=False,
        cwd=home.folder / "work",
        env={**home.environment, **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that was refused."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("gguf-widgets: ")
    assert "Traceback" not in done.stderr
    return done.stderr


class Terminal:
    """A command at a terminal: what it shows there, and what is typed."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gguf_widgets", *arguments],
            cwd=home.folder / "work",
            env=home.environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self.master, False)
        self.shown = ""

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.master, 65536):
                self.shown += data.decode("utf-8", "replace")
        return self.shown

    def wait_for(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.read()), 60, f"{pattern!r} is on the terminal")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        def ended() -> bool:
            self.read()
            return self.process.poll() is not None

        try:
            wait_until(ended, 60, f"the command has ended: {self.shown}")
            self.read()
            return self.process.returncode
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)


def test_a_model_is_renamed_removed_and_had_back(person: Home) -> None:
    (person.models / "first.gguf").write_bytes(model_bytes())
    done = run(person, "rename", "first", "second")
    assert (done.returncode, done.stdout) == (0, '"first" is now called "second".\n')
    assert "a path separator" in sentence(run(person, "rename", "second", "../x"))
    removed = run(person, "remove", "second", "--json")
    entry = json.loads(removed.stdout)["entry"]
    assert entry["name"] == "second"
    assert list(person.models.iterdir()) == []
    listed = run(person, "trash")
    assert listed.stdout.splitlines()[1].split()[:2] == [entry["id"], "second"]
    assert json.loads(run(person, "trash", "--json").stdout) == [entry]
    (person.models / "second.gguf").write_bytes(b"another")
    assert '"second (2)" is free' in sentence(run(person, "restore", "second"))
    back = run(person, "restore", entry["id"], "--name", "third", "--json")
    assert json.loads(back.stdout)["path"] == str(person.models / "third.gguf")
    assert (person.models / "third.gguf").read_bytes() == model_bytes()
    assert run(person, "trash").stdout == "The trash is empty.\n"
    assert "nothing called" in sentence(run(person, "restore", "third"))
    assert "no model called" in sentence(run(person, "remove", "none"))


def test_the_trash_is_emptied_only_on_demand(person: Home) -> None:
    for name in ("a", "b"):
        (person.models / f"{name}.gguf").write_bytes(model_bytes())
        run(person, "remove", name)
    assert "Say --yes" in sentence(run(person, "trash", "--empty"))
    assert "goes with --empty only" in sentence(run(person, "trash", "a"))
    assert "number of days" in sentence(run(person, "trash", "--empty", "--older-than", "-1"))
    kept = run(person, "trash", "--empty", "--older-than", "30", "--yes")
    assert kept.stdout == "Nothing was deleted. 2 still in the trash.\n"
    one = json.loads(run(person, "trash", "--empty", "a", "--yes", "--json").stdout)
    assert [entry["name"] for entry in one["deleted"]] == ["a"]
    assert one["freed_bytes"] == len(model_bytes())

    terminal = Terminal(person, "trash", "--empty")
    terminal.wait_for(r"Delete all that is in the trash for good\?.*\[y/N\]")
    terminal.type("\n")
    assert terminal.end() == 1
    assert len(json.loads(run(person, "trash", "--json").stdout)) == 1
    terminal = Terminal(person, "trash", "--empty")
    terminal.wait_for(r"\[y/N\]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "1 model was deleted for good" in terminal.shown


def test_a_loaded_model_is_asked_about(person: Home) -> None:
    (person.models / "busy.gguf").write_bytes(model_bytes())
    code = (
        "import sys, gguf_widgets as gw; from gguf_widgets.core.manager import ModelManager;"
        "m = ModelManager().load(sys.argv[1], backend='scripted'); print(m.pid, flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(person.models / "busy.gguf")],
        env=person.environment,
        cwd=person.folder / "work",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        said = sentence(run(person, "remove", "busy"))
        assert f"process {pid}" in said
        assert "say --yes" in said
        terminal = Terminal(person, "remove", "busy")
        terminal.wait_for(r"Remove it all the same\? \[y/N\]")
        terminal.type("n\n")
        assert terminal.end() == 1
        assert (person.models / "busy.gguf").is_file()
        assert run(person, "rename", "busy", "calm", "--yes").returncode == 0
    finally:
        holder.kill()
        holder.communicate()


def test_verify_says_with_its_exit_status_whether_all_is_well(person: Home) -> None:
    path = person.models / "a.gguf"
    path.write_bytes(model_bytes())
    good = hashlib.sha256(model_bytes()).hexdigest()
    done = run(person, "verify", "a", "--sha256", good)
    assert done.returncode == 0
    assert '"a" is whole.' in done.stdout
    assert done.stderr == ""  # no progress where nobody looks
    path.write_bytes(model_bytes()[:-9])
    damaged = run(person, "verify", "a", "--sha256", good, "--json")
    assert damaged.returncode == 1
    found = json.loads(damaged.stdout)
    assert (found["ok"], found["files"][0]["matches"]) == (False, False)
    assert "cut short" in found["structure_error"]
    assert "64 digits" in sentence(run(person, "verify", "a", "--sha256", "12"))


def test_convert_lists_refuses_asks_and_makes(person: Home) -> None:
    write_model(person.models / "tiny-F16.gguf", "llama", number_format="f16")
    listed = run(person, "convert", "tiny-F16")
    assert listed.returncode == 0
    assert re.search(r"^Q4_K_M +\S+ KB +The usual choice", listed.stdout, re.MULTILINE)
    rows = json.loads(run(person, "convert", "tiny-F16", "--json").stdout)
    assert {row["name"] for row in rows} >= {"F16", "Q8_0", "Q4_K_M"}
    made = json.loads(run(person, "convert", "tiny-F16", "q8_0", "--json").stdout)
    assert made["path"] == str(person.models / "tiny-Q8_0.gguf")
    assert (person.models / "tiny-Q8_0.gguf").stat().st_size == made["size_after_bytes"]
    assert "already" in sentence(run(person, "convert", "tiny-F16", "Q8_0"))
    assert "There is no quantization" in sentence(run(person, "convert", "tiny-F16", "Q9"))
    assert "loses quality" in sentence(run(person, "convert", "demo", "Q4_K_M"))
    assert "has to be asked for" in run(person, "convert", "demo").stdout
    assert run(person, "convert", "demo", "Q4_0", "--requantize").returncode == 0
    terminal = Terminal(person, "convert", "demo", "Q4_K_M")
    terminal.wait_for(r"Convert it all the same\? \[y/N\]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert re.search(r"Converting: +\d+%", terminal.shown)
    assert (person.models / "demo-Q4_K_M.gguf").is_file()
    refused = run(person, "convert", "tiny-F16", "Q4_0", GGUF_WIDGETS_BACKEND="scripted")
    assert "demo mode" in sentence(refused)


def test_ctrl_c_leaves_everything_as_it_was(person: Home) -> None:
    from tests.core.care.converting import write_slow_model

    write_slow_model(person.models / "slow.gguf")
    terminal = Terminal(person, "convert", "slow", "IQ3_S")
    terminal.wait_for(r"Converting: +[1-9]\d?%.*MB of")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert [path.name for path in person.models.iterdir()] == ["slow.gguf"]
    deadline = time.monotonic() + 30
    while person.processes("llama.quantize"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_where_a_model_lives(person: Home) -> None:
    (person.models / "a.gguf").write_bytes(model_bytes())
    assert "own models folder" in run(person, "where", "a").stdout
    theirs = person.folder / ".lmstudio" / "models" / "o" / "m.gguf"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(model_bytes())
    assert "belongs to LM Studio" in run(person, "where", str(theirs)).stdout
    found = json.loads(run(person, "where", str(theirs), "--json").stdout)
    assert (found["owner"], found["is_ours"]) == ("LM Studio", False)
    for command in (("remove", str(theirs), "--yes"), ("rename", str(theirs), "x", "--yes")):
        assert "belongs to LM Studio" in sentence(run(person, *command))
    assert theirs.is_file()
    assert "came with this program" in sentence(run(person, "remove", "demo"))
    assert demo_model_path().is_file()
