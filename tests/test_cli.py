"""The command line as a person or a program meets it: real processes, real exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.servers import Home, wait_until

import gguf_widgets
from gguf_widgets import cli_chat
from gguf_widgets.core.types import TextDelta


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("person"))
    yield home
    home.close()


def run(
    home: Home, *arguments: str, stdin: str | None = None, **switches: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gguf_widgets", *arguments],
        check=False,
        cwd=home.folder / "work",
        env=home.environment | switches,
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_without_a_command_it_explains_itself(person: Home) -> None:
    done = run(person)
    assert done.returncode == 0
    for command in ("dashboard", "lab", "chat", "inspect", "models", "ps", "stop", "doctor"):
        assert command in done.stdout
    version = run(person, "--version")
    assert version.stdout.strip() == f"gguf-widgets {gguf_widgets.__version__}"


def test_a_wrong_argument_is_refused_by_name(person: Home) -> None:
    done = run(person, "chat", "--temprature", "0")
    assert done.returncode == 2
    assert "--temprature" in done.stderr


def test_help_does_not_import_what_it_does_not_need(person: Home) -> None:
    code = (
        "import sys; from gguf_widgets.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'voila', 'jupyterlab', 'pandas', 'numpy', 'anywidget', 'llama_cpp', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=person.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_inspect_describes_a_model_and_refuses_what_is_none_in_one_sentence(
    person: Home, tmp_path: Path
) -> None:
    from gguf_widgets.demo import demo_model_path

    text = run(person, "inspect", str(demo_model_path()))
    assert text.returncode == 0
    assert "llama" in text.stdout
    data = json.loads(run(person, "inspect", "--json", str(demo_model_path())).stdout)
    assert data["architecture"] == "llama"
    assert data["metadata"]["general.architecture"] == "llama"

    letter = tmp_path / "letter.gguf"
    letter.write_text("Dear Emma")
    for path in (letter, tmp_path / "nowhere.gguf", tmp_path):
        done = run(person, "inspect", str(path))
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("gguf-widgets: ")
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr


def test_models_lists_the_usable_and_the_unusable(person: Home) -> None:
    bad = person.models / "letter.gguf"
    bad.write_text("Dear Emma")
    try:
        rows = json.loads(run(person, "models", "--json").stdout)
        text = run(person, "models").stdout
    finally:
        bad.unlink()
    found = {row["name"]: row for row in rows}
    assert found["demo"]["info"]["architecture"] == "llama"
    assert found["demo"]["error"] is None
    assert found["letter"]["info"] is None
    assert found["letter"]["error"]["kind"] == "NotGgufError"
    assert found["letter"]["error"]["message"] in text
    assert str(person.models) in text


def test_chat_in_a_pipe_prints_the_answer_and_nothing_else(person: Home) -> None:
    options = ("chat", "demo", "--temperature", "0", "--max-tokens")
    done = run(person, *options, "12", stdin="Hello\n")
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr == ""
    short = run(person, *options, "3", stdin="Hello\n")
    assert done.stdout.startswith(short.stdout.rstrip("\n"))
    assert len(short.stdout) < len(done.stdout)
    # A pipe is a tool, not a conversation: nothing of it is kept.
    assert not (person.data / "store.sqlite3").exists()


def test_chat_refuses_in_words_what_it_cannot_do(person: Home) -> None:
    for arguments, stdin, words in (
        (("chat", "demmo"), "Hello", "demo"),  # the near name
        (("chat", "demo"), "  \n", "nothing to answer"),
        (("chat", "demo", "--temperature", "9"), "Hello", "temperature is 9"),
    ):
        done = run(person, *arguments, stdin=stdin)
        assert done.returncode == 1
        assert done.stdout == ""
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_pipe_with_bytes_that_are_no_text_is_refused_in_words(person: Home) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gguf_widgets", "chat"],
        check=False,
        cwd=person.folder / "work",
        env=person.environment | {"GGUF_WIDGETS_BACKEND": "scripted", "PYTHONUTF8": "1"},
        input=b"caf\xe9",
        capture_output=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no utf-8 text: the byte 0xe9 does not belong there" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_terminal_that_lacks_a_character_is_given_its_number(person: Home) -> None:
    done = run(
        person, "chat", stdin="Hello", GGUF_WIDGETS_BACKEND="scripted", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0
    assert done.stderr.startswith("Demo mode. ")  # no answer is taken for a model's
    assert "\\u201cTell me a story\\u201d" in done.stdout


class Interrupted:
    """A chat in which Ctrl+C is pressed before there is an answer, or after its first word."""

    model, busy = None, False

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.stopped = False

    @contextlib.contextmanager
    def stream(self, text: str) -> Iterator[Iterator[TextDelta]]:
        if not self.words:
            raise KeyboardInterrupt

        def pieces() -> Iterator[TextDelta]:
            yield TextDelta(request_id="r", text=self.words[0], num_completion_tokens=1)
            raise KeyboardInterrupt

        yield pieces()

    def stop(self) -> None:
        self.stopped = True


@pytest.mark.parametrize("words", [[], ["Once"]])
def test_ctrl_c_stops_the_answer_at_any_moment_and_a_pipe_is_told(words: list[str]) -> None:
    chat = Interrupted(words)
    out, error = io.StringIO(), io.StringIO()
    talk = cli_chat.Terminal(chat, io.StringIO("Tell me a story"), out, error)  # type: ignore[arg-type]
    assert talk.answer_pipe() == 130
    assert chat.stopped
    assert out.getvalue().strip() == "".join(words)
    assert "[stopped]" in error.getvalue()


class Terminal:
    """A program in a terminal of its own, typed at and read from."""

    def __init__(self, home: Home, *arguments: str, **switches: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gguf_widgets", *arguments],
            cwd=home.folder / "work",
            env=home.environment | {"TERM": "dumb"} | switches,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str, timeout_s: float = 60.0) -> str:
        """Read until `text` has appeared since the last call; return what came with it."""
        end = time.monotonic() + timeout_s
        new = ""
        while text not in new:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} did not appear in {timeout_s:g} s after: {self.seen[-2000:]}"
            try:
                part = os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # the terminal's other end is closed
                part = ""
            assert part, f"It ended before {text!r}: {self.seen[-2000:]}"
            new += part
            self.seen += part
        return new

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def interrupt_until_it_ends(self) -> int:
        """Press Ctrl+C at the prompt; return the exit status.

        One that falls between the prompt and Python's reading of the keyboard is lost, as in any
        Python program; a person is not so quick, and presses it again.
        """
        main_thread = psutil.Process(self.process.pid)
        try:
            for _ in range(6):
                wait_until(lambda: main_thread.status() == psutil.STATUS_SLEEPING, 10, "it reads")
                self.interrupt()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self.process.wait(5)
            self.process.send_signal(signal.SIGABRT)  # prints where each thread stands
            self.process.wait()
            stacks = os.read(self._master, 65536).decode(errors="replace")
            raise AssertionError(f"It did not end: {self.seen[-500:]}{stacks}") from None
        finally:
            os.close(self._master)


def test_chat_at_a_terminal_streams_stops_by_ctrl_c_and_leaves_by_a_second_one(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "person", GGUF_WIDGETS_BACKEND="scripted")
    try:
        terminal = Terminal(home, "chat")
        terminal.read_until("You: ")
        terminal.type("/help\n")
        assert "/clear" in terminal.read_until("You: ")
        terminal.type("Hello\n")
        assert "demo mode" in terminal.read_until("You: ").lower()
        terminal.type("Tell me a story\n")
        terminal.read_until("prepared story")
        terminal.interrupt()
        stopped = terminal.read_until("You: ")
        assert "[stopped]" in stopped
        assert "Emma to dance" not in terminal.seen  # how the story ends
        terminal.type("/nothing\n")
        assert "There is no command /nothing" in terminal.read_until("You: ")
        assert terminal.interrupt_until_it_ends() == 0
        assert "Traceback" not in terminal.seen
        # A conversation at the terminal is kept, the stopped answer included.
        import sqlite3

        with sqlite3.connect(home.data / "store.sqlite3") as store:
            kept = store.execute("SELECT role, status FROM message ORDER BY created_at").fetchall()
        assert kept[:1] == [("user", "complete")]
        assert ("assistant", "aborted") in kept
    finally:
        home.close()


def test_the_dashboard_says_in_a_sentence_why_it_cannot_be_served(person: Home) -> None:
    done = run(person, "dashboard", "--ip", "203.0.113.9", "--no-browser")
    assert done.returncode == 1
    assert "This machine has no address '203.0.113.9'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_that_nobody_expected_says_whom_to_tell(person: Home) -> None:
    code = (
        "import gguf_widgets.core.library as library\n"
        "def models(): raise ZeroDivisionError('for this test')\n"
        "library.models = models\n"
        "from gguf_widgets.cli import main\n"
        "main(['models'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        env=person.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("gguf-widgets met an error that it did not expect.")
    assert "ZeroDivisionError: for this test" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(person: Home) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "gguf_widgets", "models"],
            check=False,
            env=person.environment,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0
    assert done.stderr == ""
