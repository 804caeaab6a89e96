"""The near side of the process that renders chat templates (`template_process.py`).

Promises: an answer, or a `ChatTemplateError` that names what happened, within a bounded time; a
process that hangs or dies is replaced at the next call; none is left behind. Leaves to others: what
is rendered (`chat_template.py`).

The limit on time is one of CPU time, which the system enforces on POSIX; on a busy machine a good
template may wait long for its turn, so the limit on waiting is three times as long.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from gguf_widgets.core.errors import ChatTemplateError

__all__ = ["LIMIT_BYTES", "LIMIT_CPU_S", "LIMIT_OUTPUT", "TemplateRenderer"]

LIMIT_CPU_S = 2.0
LIMIT_START_S = 30.0
LIMIT_BYTES = 512 * 2**20
LIMIT_OUTPUT = 8 * 2**20

_LONGEST_ANSWER = 8 * LIMIT_OUTPUT  # as JSON a character is up to 6 bytes
_INSTEAD = ' You can load the model with chat_template="chatml" to use a plain template instead.'
_PROCESS_FILE = Path(__file__).with_name("template_process.py")
_KILLED_FOR_CPU_TIME = -int(getattr(signal, "SIGXCPU", 0))  # its status as Popen tells it


class TemplateRenderer:
    """Renders in a process of its own, which is started when it is first needed.

    Any thread may call it; one call runs at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def render(self, source: str, context: dict[str, Any]) -> str:
        """Return what the template `source` makes of the variables in `context`.

        Raises
        ------
        ChatTemplateError
            ``details["problem"]`` is "syntax", "refused", "time", "memory", "output" or "failed".
        """
        request = {"source": source, "context": context, "max_output": LIMIT_OUTPUT}
        with self._lock:
            if self._child is None:
                self._child = _start()
                self._exchange(None, LIMIT_START_S)
            answer = self._exchange(request, 3 * LIMIT_CPU_S)
        if "problem" in answer:
            raise _error(answer["problem"], answer["message"])
        text: str = answer["text"]
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _error("failed", "it wrote half a character (a lone surrogate)") from None
        return text

    def close(self) -> None:
        """End the process; the next call would start it again."""
        with self._lock:
            self._end()

    def _exchange(self, request: dict[str, Any] | None, limit_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer; the child is killed when time is up."""
        child = self._child
        if child is None:
            raise AssertionError("there is no process")
        timed_out = threading.Event()

        def stop() -> None:
            timed_out.set()
            child.kill()

        timer = threading.Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                _send(child, request)
            return _receive(child)
        except (OSError, EOFError, ValueError) as error:
            timer.cancel()
            status = self._end()
            if request is None:
                raise ChatTemplateError(
                    f"The process for chat templates did not start (status {status});"
                    " try again when the machine is less busy."
                ) from error
            if timed_out.is_set() or status == _KILLED_FOR_CPU_TIME:
                raise _error("time", f"{LIMIT_CPU_S:g} s") from error
            raise _error("failed", f"its process ended (status {status})") from error
        finally:
            timer.cancel()

    def _end(self) -> int | None:
        """End the child and return its status."""
        child, self._child = self._child, None
        if child is None:
            return None
        # It may be at its end already, by its own doing: its status is wanted, not ours.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.05)
        child.kill()
        status = child.wait()
        for stream in (child.stdin, child.stdout):
            with contextlib.suppress(OSError):  # what was not flushed has no reader any more
                if stream is not None:
                    stream.close()
        return status


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - our own file, with our own interpreter
            [sys.executable, "-P", str(_PROCESS_FILE), str(LIMIT_BYTES), str(LIMIT_CPU_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ChatTemplateError(
            f"The process for chat templates did not start: {error}."
        ) from error


def _send(child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    if child.stdin is None:
        raise AssertionError("a pipe was asked for")
    body = json.dumps(request).encode()
    child.stdin.write(struct.pack(">I", len(body)) + body)
    child.stdin.flush()


def _receive(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    if child.stdout is None:
        raise AssertionError("a pipe was asked for")
    header = child.stdout.read(4)
    if len(header) < 4:
        raise EOFError
    (length,) = struct.unpack(">I", header)
    if length > _LONGEST_ANSWER:
        raise ValueError(length)
    body = child.stdout.read(length)
    if len(body) < length:
        raise EOFError
    answer: dict[str, Any] = json.loads(body)
    return answer


def _error(problem: str, message: str) -> ChatTemplateError:
    message = message.rstrip(".")
    if problem == "refused":
        text = f"The model's chat template refuses this conversation: {message}."
    else:
        what = {
            "syntax": f"is not written correctly ({message})",
            "time": f"took longer than {message}",
            "memory": f"needs more than {LIMIT_BYTES // 2**20} MB of memory",
            "output": f"writes more than {LIMIT_OUTPUT // 2**20} million characters",
        }.get(problem, f"failed: {message}")
        text = f"The model's chat template {what}.{_INSTEAD}"
    return ChatTemplateError(text, problem=problem, reason=message)
