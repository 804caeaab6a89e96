"""llama.cpp's library as this process uses it: started once, its log taken, its abort callback.

Promises: the library is initialised once; what it says while it works goes to `log`. Leaves to
others: every model and context.

The interrupt: llama.cpp calls an abort callback between the nodes of its graph, from a compute
thread. A Python function there would need the interpreter's lock thousands of times a token. The
callback is the C library's own ``strlen`` instead, on a two-byte buffer: "" is 0, go on; "x" is 1,
stop. Setting one byte is all that an interrupt does. (llama.cpp polls on the CPU only; a batch that
is computed on a GPU runs to its end.)
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import llama_cpp as lib

from gguf_widgets.core.engine.llama_log import LlamaLog

__all__ = ["log", "native_log", "start", "strlen_callback"]

log = LlamaLog()


def start() -> None:
    """Have llama.cpp ready, and its log come here, also if somebody else has taken it meanwhile."""
    lib.llama_log_set(native_log(), ctypes.c_void_p(0))


@cache
def native_log() -> Any:
    """Initialise llama.cpp once for the process; return what its libraries are to log to."""

    def take(level: int, text: bytes, _: int | None) -> None:
        log.take(level, text)

    lib.llama_backend_init()
    return lib.llama_log_callback(take)


def strlen_callback() -> Any:
    """Return the C library's strlen as an abort callback; None where it cannot be reached."""
    try:
        c_library = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
        return ctypes.cast(c_library.strlen, lib.ggml_abort_callback)
    except (OSError, AttributeError):
        return None
