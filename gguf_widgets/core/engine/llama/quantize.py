"""llama.cpp's own conversion of a model to another quantization, in a process of its own.

Promises: it does what it is asked on standard input, one request a line, and answers on standard
output, one JSON object a line; when its standard input closes or the process that started it is
gone, it removes the file that it is writing and ends at once, in the middle of native code as well.
Buffers take no more than `MAX_BUFFER_BYTES`, whatever the model's size. Leaves to others: what is
allowed, and whether the result is good (`core.care.converting`, which starts it); nothing here is
imported by it.

Requests: ``{"input", "output", "file_type", "requantize", "n_threads", "plan"}``; with "plan"
nothing is written and only the size is found out. Answers: ``{"event": "ready"}`` once,
``{"event": "tensor", "index", "count"}`` as each begins, and at the end ``{"event": "done",
"size_mib", "num_fallback", "needs_matrix"}`` or ``{"event": "failed", "reason"}``.

What llama.cpp logs is the only place where it tells these things, so it is read here and nowhere
else (llama.cpp, ``src/llama-quant.cpp``, `llama_model_quantize_impl`). A message is matched from
its beginning: names of tensors, which come from the file, stand further behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

import llama_cpp as lib

__all__ = ["MAX_BUFFER_BYTES", "QuantizeLog", "main"]

MAX_BUFFER_BYTES: Final = 256 << 20
"""Rows of a tensor that are held at once, read and written; llama.cpp would take 8 GiB."""

_ERROR: Final = 4
_CONTINUED: Final = 5
_PARENT_EVERY_S: Final = 1.0

_TENSOR: Final = re.compile(r"\[\s*(\d+)/\s*(\d+)\] ")
_SIZE: Final = re.compile(r"[\w:]+: quant size\s+=\s+([\d.]+) MiB")
_FALLBACK: Final = re.compile(
    r"(?:\(WARNING: must use F16 due to unusual shape\) )?-> falling back to"
)
_NEEDS_MATRIX: Final = re.compile(r"[\w:]+: WARNING: dry run completed successfully, but actually")
_FAILED: Final = re.compile(r"[\w:]+: failed to quantize: (.*)", re.DOTALL)


class QuantizeLog:
    """Reads what llama.cpp says while it converts.

    Attributes
    ----------
    index, count : int
        The tensor that is being done, from 1, and of how many.
    size_mib : float or None
        All tensors in their new form, said at the end.
    num_fallback : int
    needs_matrix : bool
        Said when only planning.
    reason : str
        Why it failed.
    """

    def __init__(self) -> None:
        self.index = self.count = self.num_fallback = 0
        self.size_mib: float | None = None
        self.needs_matrix = False
        self.reason = ""
        self._last_error = ""

    def take(self, level: int, text: str) -> bool:
        """Read one message; return whether the next tensor has begun."""
        if match := _TENSOR.match(text):
            self.index, self.count = int(match[1]), int(match[2])
            return True
        if match := _SIZE.match(text):
            self.size_mib = float(match[1])
        elif _FALLBACK.match(text):
            self.num_fallback += 1
        elif _NEEDS_MATRIX.match(text):
            self.needs_matrix = True
        elif match := _FAILED.match(text):
            self.reason = match[1].strip()[:500]
        elif level == _ERROR and text.strip(" =\n"):
            self._last_error = text.strip()[:500]
        return False

    @property
    def why(self) -> str:
        """Why it failed, or the last error that it reported."""
        return self.reason or self._last_error


class _Process:
    """The loop of requests, and the threads that end it."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._part: Path | None = None
        self._log = QuantizeLog()
        self._callback = lib.llama_log_callback(self._take)

    def run(self) -> NoReturn:
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        lib.llama_backend_init()
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        if os.name == "posix":
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()
        self._answer({"event": "ready"})
        while True:
            self._do(json.loads(self._waiting.get()))

    def _do(self, request: dict[str, Any]) -> None:
        self._log = QuantizeLog()
        params = lib.llama_model_quantize_default_params()
        params.ftype = request["file_type"]
        params.nthread = request["n_threads"]
        params.allow_requantize = request["requantize"]
        params.dry_run = request["plan"]
        params.max_buf_size = MAX_BUFFER_BYTES
        output = Path(request["output"])
        self._part = None if request["plan"] else output
        # ctypes lets go of the interpreter's lock, so the threads above go on meanwhile.
        status = lib.llama_model_quantize(
            os.fsencode(request["input"]), os.fsencode(output), ctypes.byref(params)
        )
        # It is still ours to remove: until this process is ended, the file has not got its name.
        log = self._log
        if status != 0:
            self._answer({"event": "failed", "reason": log.why})
        else:
            self._answer(
                {
                    "event": "done",
                    "size_mib": log.size_mib,
                    "num_fallback": log.num_fallback,
                    "needs_matrix": log.needs_matrix,
                }
            )

    def _take(self, level: int, text: bytes, _: int | None) -> None:
        line = text.decode("utf-8", "replace")
        if self._log.take(level, line):
            self._answer({"event": "tensor", "index": self._log.index, "count": self._log.count})
        elif level >= _ERROR and level != _CONTINUED:
            sys.stderr.write(line)

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            self._answers.write(json.dumps(message).encode() + b"\n")
        except OSError:  # nobody reads any more
            self._leave()

    def _read(self) -> None:
        for line in self._requests:
            self._waiting.put(line)
        self._leave()

    def _watch_parent(self) -> None:
        # A copy of our standard input in a forked process would keep it open.
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(_PARENT_EVERY_S)
        self._leave()

    def _leave(self) -> NoReturn:
        part = self._part
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        os._exit(0)


def main() -> NoReturn:
    """Serve requests until standard input closes."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints must not get between the answers
    _Process(sys.stdin.buffer, answers).run()


if __name__ == "__main__":
    main()
