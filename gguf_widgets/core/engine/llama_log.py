"""What llama.cpp says while it works: into Python's logging, and remembered while a model loads.

Promises: warnings and errors reach the logger "gguf_widgets.llama" (the worker's stderr is a log
file); the reason why a load failed can be asked for, and the sizes of the buffers that were made.
Leaves to others: handing the callback to llama.cpp (`llama/library.py`).
"""

from __future__ import annotations

import logging
import re
from collections import deque

__all__ = ["LlamaLog"]

# ggml_log_level, in its order: none, debug, info, warn, error; 5 continues the line before.
_DEBUG, _INFO, _WARN, _ERROR, _CONTINUED = 1, 2, 3, 4, 5
_LEVELS = {
    _DEBUG: logging.DEBUG,
    _INFO: logging.INFO,
    _WARN: logging.WARNING,
    _ERROR: logging.ERROR,
}

_logger = logging.getLogger("gguf_widgets.llama")

# "llama_model_load: error loading model: unknown model architecture: 'xyz'"
_LOAD_ERROR = re.compile(r"^\w+: error loading model: (.+)$")
_WITH_FUNCTION = re.compile(r"^[\w:~<>]+: (.+)$")

# The first words about a model.
_NEXT_MODEL = "llama_model_loader: loaded meta data"
# "load_tensors:   CPU_Mapped model buffer size =   166.38 MiB": there is no function that tells.
_BUFFER = re.compile(r"^\w+:\s+(\S+)\s+([\w ]+?)\s+buffer size\s*=\s*([\d.]+) MiB$")
# These are made anew, and larger, in place of the ones before.
_REPLACED = ("compute", "output")


class LlamaLog:
    """Takes llama.cpp's log messages, one call for each.

    Attributes
    ----------
    expects_abort : bool
        While it is set, what llama.cpp reports as errors is somebody's wish (it logs five lines for
        an interrupted batch), and is logged as debugging.
    """

    def __init__(self) -> None:
        self.expects_abort = False
        self._errors: deque[str] = deque(maxlen=20)
        self._flash_attention = False
        self._buffers: dict[str, int] = {}
        self._level = _INFO

    def take(self, level: int, text: bytes) -> None:
        """Take one message; debug messages, which are very many, are dropped at once."""
        if level == _CONTINUED:
            level = self._level
        else:
            self._level = level
        if level <= _DEBUG:
            return
        line = text.decode("utf-8", "replace").strip()
        if not line or line == ".":  # dots are llama.cpp's progress bar
            return
        if self.expects_abort:
            _logger.debug("%s", line)
            return
        _logger.log(_LEVELS.get(level, logging.INFO), "%s", line)
        if level == _ERROR:
            self._errors.append(line)
        elif line.endswith("Flash Attention enabled"):
            self._flash_attention = True
        elif line.startswith(_NEXT_MODEL):
            self._buffers = {}
        elif line.endswith(" MiB"):
            self._take_buffer(line)

    def _take_buffer(self, line: str) -> None:
        match = _BUFFER.match(line)
        if match is None:
            return
        name, size = f"{match[1]} {match[2]}", round(float(match[3]) * 2**20)
        known = self._buffers.get(name, 0)
        # A model of several files has one for each, and each kind of KV cache its own.
        self._buffers[name] = max(known, size) if match[2] in _REPLACED else known + size

    def forget(self) -> None:
        """Begin anew, before a load."""
        self._errors.clear()
        self._flash_attention = False

    @property
    def buffers(self) -> dict[str, int]:
        """The sizes of what the last model has been given, in bytes: "CPU KV", "CUDA0 model"."""
        return dict(self._buffers)

    @property
    def flash_attention_chosen(self) -> bool:
        """Whether llama.cpp, left to choose, has switched flash attention on.

        There is no function that tells; only this line of the log does.
        """
        return self._flash_attention

    @property
    def reason(self) -> str:
        """Why the last load failed, in llama.cpp's words; "" if it said nothing."""
        for line in self._errors:
            match = _LOAD_ERROR.match(line)
            if match:
                return match[1]
        if not self._errors:
            return ""
        match = _WITH_FUNCTION.match(self._errors[0])
        return match[1] if match else self._errors[0]
