"""Remembers what headers said, as long as their files stay the same.

Promises: a file's header is read once and again only when its size, times or identity change, or
those of any part of a split model; safe from several threads; bounded. Leaves to others: keeping it
between sessions.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import ModelFileError, ModelNotFoundError, UnreadableFileError
from gguf_widgets.core.gguf import check_is_model, read_header
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.gguf_values import FileIdentity
from gguf_widgets.core.types import ModelInfo

__all__ = ["HEADERS", "HeaderCache", "identities"]

Identities = tuple[FileIdentity | None, ...]
Answer = tuple[ModelInfo | None, ModelFileError | None]

# What may heal without the file itself changing (a mounted disk, a parent folder's permission).
_PASSING = (UnreadableFileError, ModelNotFoundError)


class HeaderCache:
    """Answers by path, the longest unused dropped first.

    Parameters
    ----------
    max_files : int, default 4096
    """

    def __init__(self, max_files: int = 4096) -> None:
        self._max_files = max_files
        self._answers: OrderedDict[Path, tuple[Identities, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: Path) -> Answer:
        """Return what is known of a model file: its info, or why it cannot be used.

        The error is a new object each time, so that raising it in one place leaves no trace in
        another.
        """
        state = identities(path)
        with self._lock:
            kept = self._answers.get(path)
            if kept is not None and kept[0] == state:
                self._answers.move_to_end(path)
                return _fresh(kept[1])
        answer = _read(path)
        if not isinstance(answer[1], _PASSING):
            with self._lock:
                self._answers[path] = (state, answer)
                self._answers.move_to_end(path)
                while len(self._answers) > self._max_files:
                    self._answers.popitem(last=False)
        return _fresh(answer)


def identities(path: Path) -> Identities:
    """Return the state of a model's file, or of all its parts; None for one that is not there."""
    split = split_name(path)
    if split is None or not 1 < split.num_parts <= 1000:
        return (_identity(path),)
    numbers = range(1, split.num_parts + 1)
    return tuple(_identity(split.path_of(number, path.parent)) for number in numbers)


def _identity(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path.stat())
    except (OSError, ValueError):
        return None


def _read(path: Path) -> Answer:
    try:
        header = read_header(path)
        check_is_model(header)
        return header.info(), None
    except ModelFileError as error:
        return None, error


def _fresh(answer: Answer) -> Answer:
    info, error = answer
    return info, None if error is None else type(error)(error.message, **error.details)


# One for the process: every library, widget and thread shares it.
HEADERS: Final = HeaderCache()
