"""The text of a PDF, read in a process with limits (`attach_pdf_process.py`).

Promises: a text, or an error that names what is wrong, within a bounded time and memory, whatever
the file is: one that unpacks to terabytes, refers to itself, or has a million pages; pages that
were read before something went wrong are kept, and what is missing is said; nothing is left
running. Leaves to others: recognising text in pictures (nothing here can).
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import psutil

from gguf_widgets.core.chat.attach_text import MAX_TEXT_CHARS
from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import (
    InvalidValueError,
    MissingDependencyError,
    RequestCancelledError,
)

__all__ = ["INSTALL_LINE", "LIMITS", "PdfLimits", "PdfText", "read_pdf"]

INSTALL_LINE: Final = 'pip install "gguf-widgets[documents]"'

_PROCESS_FILE: Final = Path(__file__).with_name("attach_pdf_process.py")
_LOOK_EVERY_S: Final = 0.1
_OUT_OF_CPU_TIME: Final = {-int(getattr(signal, name, 0)) for name in ("SIGXCPU", "SIGKILL")}


class PdfLimits(NamedTuple):
    """What reading one PDF may take.

    `page_s` and `cpu_s` are computing time of a page and of all; `wall_s` is the longest wait, on a
    machine that is busy with something else.
    """

    memory_bytes: int = 1 << 30
    cpu_s: int = 60
    page_s: float = 10.0
    wall_s: float = 180.0
    pages: int = 2_000
    chars: int = MAX_TEXT_CHARS


LIMITS: Final = PdfLimits()


class PdfText(NamedTuple):
    """The text of a PDF's pages, how many it has, and what a person should know."""

    text: str
    num_pages: int
    note: str


def read_pdf(
    data: bytes,
    name: str,
    on_progress: Callable[[int, int], bool] = lambda _page, _pages: True,
    limits: PdfLimits = LIMITS,
) -> PdfText:
    """Return the text of a PDF.

    Parameters
    ----------
    data : bytes
    name : str
        For the words of an error.
    on_progress : callable
        Called with the pages read so far and all there are; False ends the reading.
    limits : PdfLimits

    Raises
    ------
    InvalidValueError
        ``details["problem"]`` is "password", "protection" (of a kind that cannot be opened here),
        "scanned" (pictures only), "damaged", "time" or "memory".
    MissingDependencyError
        pypdf is not installed.
    RequestCancelledError
        `on_progress` said so.
    """
    if importlib.util.find_spec("pypdf") is None:
        raise MissingDependencyError(
            f"PDFs need the package pypdf, which is not installed. Install it: {INSTALL_LINE}. Or"
            " copy the text out of the PDF and paste it here.",
            install=INSTALL_LINE,
            package="pypdf",
        )
    found = _Found(name, limits)
    with _Reader(data, limits) as reader:
        for message in reader.messages():
            found.take(message)
            if not on_progress(found.num_seen, found.num_pages):
                raise RequestCancelledError(f"Reading “{name}” was stopped.")
    return found.result(reader.ended_by)


class _Found:
    """What was said of the pages."""

    def __init__(self, name: str, limits: PdfLimits) -> None:
        self._name, self._limits = name, limits
        self.num_pages = self.num_seen = 0
        self._texts: list[tuple[int, str]] = []
        self._unreadable: list[int] = []
        self._empty = 0
        self._problem = "crash"  # until the end has come
        self._message = ""

    def take(self, message: dict[str, Any]) -> None:
        page = message.get("page")
        if "pages" in message:
            self.num_pages = int(message["pages"])
        elif message.get("end"):
            self._problem = "pages" if self.num_pages > self._limits.pages else ""
        elif page is None or message.get("problem") == "length":
            self._problem = str(message["problem"])
            self._message = str(message.get("message", ""))
        else:
            self.num_seen = int(page)
            text = well_formed(str(message.get("text", ""))).replace("\x00", "").strip()
            if "problem" in message:
                self._unreadable.append(self.num_seen)
                self._message = str(message["problem"])
            elif text:
                self._texts.append((self.num_seen, text))
            else:
                self._empty += 1

    def result(self, ended_by: str) -> PdfText:
        problem = (ended_by or self._problem) if self._problem == "crash" else self._problem
        if not self._texts:
            raise self._error(problem or ("" if self._empty else self._message))
        if self.num_pages == 1:
            text = self._texts[0][1]
        else:
            # With their numbers, so that one can ask for a page.
            text = "\n\n".join(f"[Page {number}]\n{text}" for number, text in self._texts)
        return PdfText(text, self.num_pages, self._note(problem))

    def _note(self, problem: str) -> str:
        notes = []
        if problem:
            why = {
                "length": f"its text is longer than {self._limits.chars:,} characters",
                "pages": f"at most {self._limits.pages:,} are",
                "time": "the rest took too long",
                "memory": "the rest needed too much memory",
            }.get(problem, "then reading failed")
            notes.append(
                f"Only the first {self.num_seen:,} of {self.num_pages:,} pages were read: {why}."
            )
        if self._empty:
            have = "holds" if self._empty == 1 else "hold"
            notes.append(f"{self._empty:,} of {self.num_pages:,} pages {have} no text (pictures).")
        if self._unreadable:
            shown = ", ".join(map(str, self._unreadable[:5]))
            more = ", …" if len(self._unreadable) > 5 else ""
            which = "Page" if len(self._unreadable) == 1 else "Pages"
            notes.append(f"{which} {shown}{more} could not be read.")
        return " ".join(notes)

    def _error(self, problem: str) -> InvalidValueError:
        limits = self._limits
        words = {
            "password": "is protected by a password. Save it without one and attach that.",
            "protection": "is protected in a way that cannot be opened here. Save it without"
            " protection and attach that.",
            "": f"holds no text that can be read: {self._counted()} pictures or drawings alone, as"
            " a scanner makes them. If your model can see images, attach the page as an image; or"
            " attach a version with text.",
            "pages": f"holds no text on its first {limits.pages:,} pages. Attach the part that"
            " matters.",
            "time": "takes too long to read, so it was given up. It may be damaged, or made to keep"
            " its reader busy. Save it as a new PDF (print to PDF) and attach that.",
            "memory": f"needs more than {limits.memory_bytes >> 20:,} MB of memory to read, so it"
            " was given up. It may be damaged, or made to do that. Save it as a new PDF (print to"
            " PDF) and attach that.",
            "length": f"holds more than {limits.chars:,} characters of text on its first page.",
        }.get(problem)
        if words is None:
            reason = f" ({self._message})" if self._message else ""
            words = f"is no PDF that can be read: it is damaged{reason}. Save it once more."
        return InvalidValueError(
            f"The PDF “{self._name}” {words}",
            problem={"": "scanned", "pages": "scanned", "crash": "damaged", "length": "size"}.get(
                problem, problem
            ),
            name=self._name,
            num_pages=self.num_pages,
        )

    def _counted(self) -> str:
        return "its page holds" if self.num_pages == 1 else f"its {self.num_pages:,} pages hold"


class _Reader:
    """The process: started, watched, and ended at the end of the ``with``."""

    def __init__(self, data: bytes, limits: PdfLimits) -> None:
        self._data, self._limits = data, limits
        self._over = threading.Event()
        self.ended_by = ""  # "time" or "memory" if it was ended for that

    def __enter__(self) -> Self:
        limits = self._limits
        self._child = subprocess.Popen(  # noqa: S603 - our own file, with our own interpreter
            [
                *(sys.executable, "-P", str(_PROCESS_FILE)),
                *(str(limits.memory_bytes), str(limits.cpu_s), str(limits.page_s)),
                *(str(limits.pages), str(limits.chars)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        for target in (self._watch, self._feed):
            threading.Thread(target=target, name="gguf-widgets-pdf", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError, ValueError):  # its reader has gone
                if stream is not None:
                    stream.close()

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what it says until it ends."""
        stream = self._child.stdout
        if stream is None:
            raise AssertionError("a pipe was asked for")
        while len(header := stream.read(4)) == 4:
            (length,) = struct.unpack(">I", header)
            body = stream.read(length) if length <= 8 * self._limits.chars + 4096 else b""
            if len(body) < length:
                return
            yield json.loads(body)
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._child.wait(1.0)
            if status in _OUT_OF_CPU_TIME and status != 0:
                self.ended_by = self.ended_by or "time"

    def _feed(self) -> None:
        stream = self._child.stdin
        with contextlib.suppress(OSError, ValueError):  # it has ended before it had read all
            if stream is not None:
                stream.write(struct.pack(">I", len(self._data)) + self._data)
                stream.flush()  # and left open: its end means that we have gone

    def _watch(self) -> None:
        """End it when it takes too long or, where the system has no limit, too much memory."""
        until = time.monotonic() + self._limits.wall_s
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._child.pid)
            while not self._over.wait(_LOOK_EVERY_S):
                late = time.monotonic() > until
                memory = 0  # where the system does not tell, the limit on time still counts
                with contextlib.suppress(psutil.Error):
                    memory = process.memory_info().rss
                if late or memory > self._limits.memory_bytes:
                    self.ended_by = "time" if late else "memory"
                    self._child.kill()
                    return
