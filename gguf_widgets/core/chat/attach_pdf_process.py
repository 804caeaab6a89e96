"""The process that takes the text out of a PDF; `attach_pdf` starts it and listens to it.

A PDF is a program of sorts that came from anywhere: it may unpack to terabytes, refer to itself, or
keep its reader busy for days. So it is read in a process that has nothing, is limited in memory and
CPU time, and says each page as it has read it, so that what was good is kept when the rest is not.

Promises: it ends when its standard input closes (its parent has gone); it writes to nothing but its
standard output. Leaves to others: the limit on wall time, and on memory where the system has none
(the other side kills it).

Run as a file, not as a module, with nothing of this package imported. In: a length of four bytes
and the PDF; then standard input stays open. Out: JSON, each with a length of four bytes before it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import signal
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_LENGTH = struct.Struct(">I")


class _TooSlowError(BaseException):
    """A page took too long; no handler of Exception on the way may swallow it."""


class _Speaker:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def say(self, **message: Any) -> None:
        body = json.dumps(message).encode()
        self._stream.write(_LENGTH.pack(len(body)) + body)
        self._stream.flush()


def _limit_memory(num_bytes: int) -> None:
    if resource is not None:
        # macOS does not keep to this limit and may refuse it; the other side watches as well.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))


@contextlib.contextmanager
def _cpu_time(seconds: float) -> Iterator[None]:
    """Raise `_TooSlowError` inside when so much has been computed; nothing where there are none."""
    if not hasattr(signal, "setitimer") or not hasattr(signal, "SIGPROF"):
        yield
        return

    def too_slow(_number: int, _frame: object) -> None:
        # Once more soon, should somebody's `finally` have eaten it.
        signal.setitimer(signal.ITIMER_PROF, 1.0)
        raise _TooSlowError

    signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _end_with_parent(stream: BinaryIO) -> None:
    """End this process when nobody listens any more."""

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError):
            while stream.read(1):
                pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _problem_of(error: BaseException) -> str:
    if isinstance(error, _TooSlowError):
        return "time"
    if isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, RecursionError):
        return "damaged"
    name = type(error).__name__
    if name in ("DependencyError", "NotImplementedError"):
        return "protection"
    if name == "LimitReachedError":
        return "memory"
    return "damaged"


def _open(pypdf: Any, data: bytes) -> tuple[Any, int]:
    reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise PermissionError
    return reader, len(reader.pages)


def _read(data: bytes, speaker: _Speaker, page_s: float, max_pages: int, max_chars: int) -> None:
    pypdf = importlib.import_module("pypdf")
    try:
        with _cpu_time(page_s):
            reader, num_pages = _open(pypdf, data)
    except PermissionError:
        return speaker.say(problem="password")
    except BaseException as error:  # noqa: BLE001 - a PDF may make its reader raise anything
        return speaker.say(problem=_problem_of(error), message=_words(error))
    speaker.say(pages=num_pages)
    num_chars = 0
    for number in range(min(num_pages, max_pages)):
        try:
            with _cpu_time(page_s):
                text = reader.pages[number].extract_text() or ""
        except BaseException as error:  # noqa: BLE001 - as above; the other pages may be good
            speaker.say(page=number + 1, problem=_problem_of(error))
            continue
        num_chars += len(text)
        if num_chars > max_chars:
            return speaker.say(problem="length", page=number + 1)
        speaker.say(page=number + 1, text=text)
    return speaker.say(end=True)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def main(max_bytes: int, cpu_s: int, page_s: float, max_pages: int, max_chars: int) -> None:
    """Read one PDF from standard input and say what is in it."""
    incoming, speaker = sys.stdin.buffer, _Speaker(sys.stdout.buffer)
    sys.stdout = sys.stderr  # whatever prints must not get between the messages
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    (length,) = _LENGTH.unpack(incoming.read(_LENGTH.size))
    data = incoming.read(length)
    if len(data) < length:
        return
    _end_with_parent(incoming)
    _limit_memory(max_bytes)
    if resource is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    _read(data, speaker, page_s, max_pages, max_chars)
    os._exit(0)  # the thread that waits for the parent holds standard input


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
