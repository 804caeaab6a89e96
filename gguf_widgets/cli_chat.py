"""A conversation in the terminal, or in a pipe.

Promises: text appears as it arrives; Ctrl+C stops an answer and a second one leaves; a failed
answer prints its reason and the conversation goes on; in a pipe only the answer is printed, and
what a person should know of the model goes to stderr. A conversation at the terminal is kept in the
store, so that the dashboard shows it too; one in a pipe is not. Leaves to others: the conversation
itself (`core.chat.interface`), loading (`core.manager`).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
from collections.abc import Mapping
from typing import Any, Self, TextIO

from gguf_widgets.core.chat.interface import ChatInterface
from gguf_widgets.core.chat.types import MessageStatus
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_duration, format_rate
from gguf_widgets.core.store.store import Store, default_store

__all__ = ["Terminal", "chat_in_terminal"]

_HELP = """\
/clear   begin a new conversation
/help    this list
/quit    leave (Ctrl+D, or Ctrl+C at the prompt, do the same)
Ctrl+C   stop the answer that is being written"""

_STOP_WAIT_S = 10.0
_INTERRUPTED = 130  # the shell's own number for "ended by Ctrl+C"


def chat_in_terminal(
    model_name: str,
    *,
    system: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> int:
    """Load a model and talk with it until the person leaves or the pipe ends.

    Parameters
    ----------
    model_name : str
        A name from the library, or a path.
    system : str, optional
    sampling, settings : mapping, optional
        Fields of `SamplingSettings` and `LoadSettings`.
    force : bool, default False
        Load even if the model does not seem to fit into memory.

    Returns
    -------
    int
        The exit status: 1 if the answer to a pipe failed, 130 if it was stopped by Ctrl+C.
    """
    from gguf_widgets.core import manager

    interactive = sys.stdin.isatty()
    if not interactive and sys.stdin.closed:
        raise InvalidValueError("There is nothing to read: standard input is closed.")
    if isinstance(sys.stdin, io.TextIOWrapper):
        # Where no language is set, Python would let bytes through that are no text.
        sys.stdin.reconfigure(errors="strict")
    progress = _Progress(model_name, sys.stderr)
    with progress:
        model = manager.load(model_name, on_progress=progress, force=force, **dict(settings or {}))
    for note in model.load_notes:
        sys.stderr.write(f"{note}\n")
    store = default_store(or_memory=True) if interactive else Store.in_memory()
    chat = ChatInterface(model, system=system, store=store, **dict(sampling or {}))
    terminal = Terminal(chat, sys.stdin, sys.stdout, sys.stderr)
    with chat:
        return terminal.talk() if interactive else terminal.answer_pipe()


class Terminal:
    """One conversation over text streams.

    Parameters
    ----------
    chat : ChatInterface
    stdin, stdout, stderr : text streams
        Answers go to `stdout`; everything said about them goes to `stderr`.
    """

    def __init__(self, chat: ChatInterface, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self._chat = chat
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    def answer_pipe(self) -> int:
        """Take all of stdin as one message and print the answer; return the exit status."""
        try:
            text = self._stdin.read().strip()
        except UnicodeDecodeError as error:
            raise InvalidValueError(
                f"What came through the pipe is no {self._stdin.encoding} text: the byte "
                f"0x{error.object[error.start]:02x} does not belong there. Convert it first."
            ) from error
        if not text:
            raise InvalidValueError("There is nothing to answer: standard input is empty.")
        return self._answer(text)

    def talk(self) -> int:
        """Ask and answer until /quit, Ctrl+D or Ctrl+C at the prompt."""
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # arrow keys and history in `input`
        model = self._chat.model
        self._say(f"Talking with {model.name if model else 'no model'}. /help lists the commands.")
        while True:
            try:
                text = input("\nYou: ").strip()
            except (EOFError, KeyboardInterrupt):
                self._say("")
                return 0
            except UnicodeDecodeError:
                self._say("That could not be read as text. Type it again.")
                continue
            if not text:
                continue
            if text.startswith("/"):
                if not self._command(text):
                    return 0
                continue
            try:
                self._answer(text)
                self._numbers()
            except KeyboardInterrupt:  # the second one
                self._say("")
                return 0

    def _command(self, text: str) -> bool:
        """Carry a command out; False leaves."""
        match text:
            case "/quit" | "/exit" | "/bye":
                return False
            case "/clear":
                self._chat.clear()
                self._say("This is a new conversation. The old one is kept.")
            case "/help":
                self._say(_HELP)
            case _:
                self._say(f"There is no command {text.split()[0]}.\n{_HELP}")
        return True

    def _answer(self, text: str) -> int:
        """Print the answer as it arrives; return 0, 1 if it failed or 130 if it was stopped."""
        status = 0
        try:
            with self._chat.stream(text) as stream:
                for delta in stream:
                    self._stdout.write(delta.text)
                    self._stdout.flush()
        except GgufWidgetsError as error:
            self._stdout.flush()
            self._say(f"\n{error.message}")
            return 1
        except KeyboardInterrupt:  # at any moment, also before there was a stream
            status = _INTERRUPTED
            self._chat.stop()
            self._wait_for_end()
            self._say("\n[stopped]", end="")
        self._stdout.write("\n")
        self._stdout.flush()
        return status

    def _wait_for_end(self) -> None:
        """Wait until a stopped answer is in the store; Ctrl+C ends the wait."""
        end = time.monotonic() + _STOP_WAIT_S
        while self._chat.busy and time.monotonic() < end:
            time.sleep(0.02)

    def _numbers(self) -> None:
        """Print the last answer's speed, in the quiet way of a status line."""
        messages = self._chat.messages
        last = messages[-1] if messages else None
        if last is None or last.timings is None or last.status is MessageStatus.FAILED:
            return
        timings = last.timings
        parts = []
        if last.usage is not None:
            parts.append(f"{last.usage.num_completion_tokens} tokens")
        if timings.decode_tok_per_s is not None:
            parts.append(format_rate(timings.decode_tok_per_s))
        if timings.ttft_s is not None:
            parts.append(f"first after {format_duration(timings.ttft_s)}")
        used, available = self._chat.context_used
        if available:
            parts.append(f"context {used:,} of {available:,}")
        self._say(f"({', '.join(parts)})")

    def _say(self, text: str, end: str = "\n") -> None:
        self._stderr.write(text + end)
        self._stderr.flush()


class _Progress:
    """One line that tells how far the loading is, where a person can see it change."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._shown = stream.isatty()
        self._last = -1

    def __call__(self, fraction: float, phrase: str) -> None:
        percent = int(fraction * 100)
        if self._shown and percent != self._last:
            self._last = percent
            self._stream.write(f"\r\x1b[K{phrase}: {percent}%")
            self._stream.flush()

    def __enter__(self) -> Self:
        if self._shown:
            self._stream.write(f"Loading {self._name}")
            self._stream.flush()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
