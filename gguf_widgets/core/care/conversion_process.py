"""The process that converts, as the one that started it sees it.

Promises: it ends with this one, however this one ends; each wait has an end; a crash of the native
code becomes an error with its last words. Leaves to others: what is converted and whether the
result is good (`converting`), the other side of the pipes (`core.engine.llama.quantize`, which is
started by its name and never imported: a notebook's kernel loads no native code).
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Final, Self

from gguf_widgets.core import config
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import format_duration
from gguf_widgets.core.worker.environment import process_environment

__all__ = ["ConversionProcess"]

_MODULE: Final = "gguf_widgets.core.engine.llama.quantize"

_EVERY_S: Final = 0.1
# Importing llama.cpp's library takes a second, on a cold and busy disk many.
_START_S: Final = 120.0
_PLAN_S: Final = 300.0
# One slab of the slowest form takes some seconds; this is for a disk that has gone to sleep.
_SILENCE_S: Final = 900.0
_LONGEST_LINE: Final = 1 << 16
_END_S: Final = 10.0


class ConversionProcess:
    """One process; use it as a context manager.

    Raises
    ------
    FileChangeError
        "process", if it does not start.
    """

    def __init__(self) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own module, and no shell
                [sys.executable, "-P", "-m", _MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                cwd=config.ensure(config.data_dir()),
                env=process_environment(),
                start_new_session=True,  # Ctrl+C is for us, and we end it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
                | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            self._stderr.close()
            raise FileChangeError(
                f"The process that converts models could not be started: {error}.",
                problem="process",
            ) from error
        self._reader = threading.Thread(target=self._read, name="gguf-widgets-convert", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._popen.pid

    def __enter__(self) -> Self:
        try:
            self._wait_for("ready", _START_S, lambda: None)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def plan(self, request: dict[str, Any], check: Callable[[], None]) -> dict[str, Any]:
        """Return what the conversion would give, without doing it.

        Parameters
        ----------
        request : dict
            As `core.engine.llama.quantize` has it, without "plan".
        check : callable
            Called some ten times a second; what it raises ends the process.
        """
        self._send({**request, "plan": True})
        return self._wait_for("done", _PLAN_S, check)

    def convert(self, request: dict[str, Any], check: Callable[[], int]) -> dict[str, Any]:
        """Convert; return what llama.cpp says of the result.

        Parameters
        ----------
        request : dict
        check : callable
            Called some ten times a second; returns how much is written. What it raises ends the
            process.
        """
        self._send({**request, "plan": False})
        last, deadline = -1, time.monotonic() + _SILENCE_S
        while True:
            message = self._next()
            written = check()
            if written != last or message is not None:
                last, deadline = written, time.monotonic() + _SILENCE_S
            if message is not None and (answer := _answer(message)) is not None:
                return answer
            if time.monotonic() > deadline:
                raise _silent(_SILENCE_S)

    def end(self) -> None:
        """End it, whatever it is doing, and wait until it is gone."""
        with contextlib.suppress(OSError):
            self._popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_S)
        self._reader.join(_END_S)
        for stream in (self._popen.stdin, self._popen.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    # --- inside ---

    def _send(self, request: dict[str, Any]) -> None:
        stdin = self._popen.stdin
        assert stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._died() from None

    def _wait_for(self, event: str, limit_s: float, check: Callable[[], None]) -> dict[str, Any]:
        deadline = time.monotonic() + limit_s
        while True:
            message = self._next()
            check()
            if message is not None:
                if message.get("event") == event:
                    return message
                _answer(message)
            if time.monotonic() > deadline:
                raise _silent(limit_s)

    def _next(self) -> dict[str, Any] | None:
        """Return the next message, or None if there is none for a moment."""
        try:
            message = self._messages.get(timeout=_EVERY_S)
        except queue.Empty:
            return None
        if message is None:
            raise self._died()
        return message

    def _read(self) -> None:
        stdout = self._popen.stdout
        assert stdout is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(OSError, ValueError):
            while line := stdout.readline(_LONGEST_LINE):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._messages.put(message)
        self._messages.put(None)

    def _died(self) -> FileChangeError:
        try:
            status: int | None = self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            status = None
        lines = self._last_words()
        said = f" Its last words: {' / '.join(lines)}." if lines else ""
        return FileChangeError(
            f"The process that converts the model {_story(status)}.{said} The model itself is "
            "as it was.",
            problem="process",
            exit_status=status,
            last_log_lines=lines,
        )

    def _last_words(self) -> list[str]:
        with contextlib.suppress(OSError, ValueError):
            end = self._stderr.seek(0, 2)
            self._stderr.seek(max(0, end - 8192))
            text = self._stderr.read().decode("utf-8", "replace")
            return [line.strip()[:300] for line in text.splitlines() if line.strip()][-3:]
        return []


def _answer(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer that ends a request, None for news on the way.

    Raises
    ------
    FileChangeError
        "refused": llama.cpp will not do it.
    """
    if message.get("event") == "failed":
        reason = str(message.get("reason") or "it did not say why").rstrip(".")
        raise FileChangeError(
            f"llama.cpp could not convert the model: {reason}. The model itself is as it was.",
            problem="refused",
            reason=reason,
        )
    return message if message.get("event") == "done" else None


def _silent(limit_s: float) -> FileChangeError:
    return FileChangeError(
        f"The process that converts the model did nothing for {format_duration(limit_s)} and was "
        "ended. The model itself is as it was. If its disk is slow or asleep, try again.",
        problem="process",
    )


def _story(status: int | None) -> str:
    if status is None or status >= 0:
        return "ended by itself" if status is None else f"ended by itself (exit status {status})"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    if name == "SIGKILL":
        return f"was killed (signal {-status}), as the system does when memory runs out"
    return f"crashed (signal {-status}, {name})"
