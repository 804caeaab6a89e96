"""The folders with models that a person has added.

Promises: a folder that was added is looked through by every later notebook, page and process, until
it is removed; the files in it are never changed. Leaves to others: looking (`scan`).

They are kept in a small JSON file in the data folder (``library/folders.json``) and not among the
preferences in the store: the list of models has to work where the database cannot be opened, and
looking for models must not create one. ``GGUF_WIDGETS_MODELS`` names more, for one session.

Examples
--------
>>> add_folder("~/Downloads/models")  # doctest: +SKIP
PosixPath('/home/emma/Downloads/models')
>>> remove_folder("~/Downloads/models")  # doctest: +SKIP
True
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import (
    FileChangeError,
    InvalidValueError,
    ModelFileError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.small_file import SmallFile

__all__ = ["add_folder", "folders", "problem", "remove_folder"]

_VERSION: Final = 1
_MAX_FOLDERS: Final = 100


class _Kept(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    folders: list[str] = []


_FILE: Final = SmallFile(
    "folders.json",
    _Kept,
    version=_VERSION,
    max_bytes=1_000_000,
    shrink=lambda kept: _Kept(folders=kept.folders[: len(kept.folders) // 2]),
)


def folders() -> list[Path]:
    """Return the folders that were added, oldest first; one may be gone meanwhile."""
    kept = [Path(text) for text in _FILE.read().folders[:_MAX_FOLDERS] if "\0" not in text]
    return [path for path in kept if path.is_absolute()]


def problem() -> ModelFileError | None:
    """Return why the folders that were added are not known, if they were kept and are not."""
    _, why = _FILE.read_or_why()
    if not why:
        return None
    path = plain_text(str(_FILE.path), 200)
    return UnreadableFileError(
        f"The list of the folders that you added ({path}) cannot be read: {plain_text(why, 200)}. "
        "They are not looked through. Add them again; the list is written anew then.",
        path=str(_FILE.path),
    )


def add_folder(folder: str | os.PathLike[str]) -> Path:
    """Have a folder, and those below it, looked through for models from now on.

    Parameters
    ----------
    folder : str or path-like
        It has to be there. Adding it again changes nothing.

    Returns
    -------
    Path
        Its absolute path.

    Raises
    ------
    InvalidValueError
        There are 100 already.
    NotAFileError
        It is no folder.
    FileChangeError
        It could not be remembered.
    """
    path = expanded(folder)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError):
        is_folder = False
    if not is_folder:
        raise NotAFileError(
            f'"{plain_text(os.fspath(folder), 200)}" is not a folder. Choose one that is there.',
            path=str(path),
        )

    def with_it(kept: _Kept) -> _Kept:
        if str(path) in kept.folders:
            return kept
        if len(kept.folders) >= _MAX_FOLDERS:
            raise InvalidValueError(
                f"There are {_MAX_FOLDERS} folders already, which is the most. Remove one first "
                "with remove_folder, or add a folder that holds several of them.",
                limit=_MAX_FOLDERS,
            )
        return _Kept(folders=[*kept.folders, str(path)])

    _update(with_it)
    return path


def remove_folder(folder: str | os.PathLike[str]) -> bool:
    """Have a folder no longer looked through; nothing in it is touched.

    Returns
    -------
    bool
        Whether it was among those that were added.

    Raises
    ------
    FileChangeError
        The change could not be kept.
    """
    path = str(expanded(folder))
    found = False

    def without_it(kept: _Kept) -> _Kept:
        nonlocal found
        found = path in kept.folders
        return _Kept(folders=[text for text in kept.folders if text != path])

    _update(without_it)
    return found


def _update(change: Callable[[_Kept], _Kept]) -> None:
    try:
        _FILE.update(change)
    except OSError as error:
        raise FileChangeError(
            f"The list of folders could not be kept in {plain_text(str(_FILE.path), 200)}: "
            f"{error.strerror or error}. Check that the disk has room and you may write there.",
            path=str(_FILE.path),
            problem="not_kept",
        ) from error
