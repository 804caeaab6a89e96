"""Looks through folders for model files, without opening any.

Promises: every .gguf file under the given folders, once, in a fixed order; links are followed and
loops noticed; the parts of a split model come as one; a folder that cannot be looked into and a
link to nothing come with their reason; a look takes a bounded time even in a huge tree. Leaves to
others: names and headers (`library`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name

__all__ = ["FoundFile", "scan"]

# Other programs keep models as publisher/model/file; a hub's cache is two levels deeper.
_MAX_DEPTH: Final = 6
# So that a folder like / costs a second and a sentence, not minutes.
_MAX_FOLDERS: Final = 2000
_MAX_FILES: Final = 2000


class FoundFile(NamedTuple):
    """A file that calls itself a model; `error` if that is already known to be no use."""

    path: Path
    source: str
    error: ModelFileError | None = None


def scan(folders: Iterable[Path], known: Iterable[Path] = ()) -> list[FoundFile]:
    """Return the model files under some folders.

    Parameters
    ----------
    folders : iterable of Path
        In order; one that does not exist is empty if it is our own models folder (which is made
        when it is first needed), else it is listed with its error.
    known : iterable of Path
        Files that are listed already: they and other names of them are left out.
    """
    look = _Look()
    for path in known:
        look.is_new(path)
    for folder in folders:
        own = folder == config.models_dir()
        look.look_into(folder.absolute(), "models folder" if own else str(folder), required=not own)
    return look.found


class _Look:
    """One pass over the folders."""

    def __init__(self) -> None:
        self.found: list[FoundFile] = []
        self._seen: set[tuple[int, int]] = set()
        self._splits: set[tuple[Path, str, int]] = set()
        self._folders_left = _MAX_FOLDERS
        self._full = False

    def is_new(self, path: Path) -> bool:
        """Tell whether this file or folder has not been met before, by whatever name."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return True
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def look_into(self, folder: Path, source: str, *, required: bool, depth: int = 0) -> None:
        """Add what is in a folder and below; `required` means that it must exist."""
        if self._full or not self.is_new(folder):
            return
        self._folders_left -= 1
        if self._folders_left < 0:
            self._stop_at(folder, source)
            return
        shown = plain_text(str(folder), 200)
        try:
            with os.scandir(folder) as entries:
                paths = sorted(folder / e.name for e in entries if not e.name.startswith("."))
        except FileNotFoundError:
            if required:
                message = (
                    f"There is no folder {shown}. Create it, or take it out of GGUF_WIDGETS_MODELS."
                )
                self._add(folder, source, ModelNotFoundError(message, path=str(folder)))
            return
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"The folder {shown} cannot be looked into: {reason}."
            self._add(folder, source, UnreadableFileError(message, path=str(folder)))
            return
        # Files before folders, so that a model keeps its short name when a folder is added.
        below = [path for path in paths if path.is_dir()]
        for path in paths:
            if path.suffix.lower() == ".gguf" and path not in below and not self._full:
                self._meet(path, source)
        if depth < _MAX_DEPTH:
            for path in below:
                self.look_into(path, source, required=False, depth=depth + 1)

    def _stop_at(self, path: Path, source: str) -> None:
        self._full = True
        message = (
            f"There are more than {_MAX_FOLDERS:,} folders or {_MAX_FILES:,} model files to look "
            "through, so the rest is left out. Name a smaller folder in GGUF_WIDGETS_MODELS."
        )
        self._add(path, source, UnreadableFileError(message, path=str(path)))

    def _meet(self, path: Path, source: str) -> None:
        error = _unusable(path)
        if error is None:
            split = split_name(path)
            if split is not None and split.num_parts > 1:
                group = (path.parent, split.stem, split.num_parts)
                if group in self._splits:
                    return
                self._splits.add(group)
            if not self.is_new(path):
                return
        if len(self.found) >= _MAX_FILES:
            self._stop_at(path, source)
        else:
            self._add(path, source, error)

    def _add(self, path: Path, source: str, error: ModelFileError | None) -> None:
        self.found.append(FoundFile(path, source, error))


def _unusable(path: Path) -> ModelFileError | None:
    """Return why a file is of no use, as far as that shows without opening it."""
    name = plain_text(path.name, 100)
    try:
        status = path.stat()
    except FileNotFoundError:
        return ModelNotFoundError(
            f'"{name}" is a link to a file that is not there any more.', path=str(path)
        )
    except OSError as error:
        return UnreadableFileError(
            f'"{name}" cannot be looked at: {error.strerror or error}.', path=str(path)
        )
    if not stat.S_ISREG(status.st_mode):
        return NotAFileError(f'"{name}" is not a plain file.', path=str(path))
    return None
