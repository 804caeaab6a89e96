"""The folders with models, and the single model files, that a person has added.

Promises: what was added is in the list of every later notebook, page and process, until it is taken
off; nothing that was added is ever changed, moved or copied. A file stands for its whole model: all
parts of a split one, and the projector beside it. Leaves to others: looking (`scan`), pairing
(`projectors`), what a page may choose from (`browse`).

Both are kept in a small JSON file in the data folder (``library/folders.json``) and not among the
preferences in the store: the list of models has to work where the database cannot be opened, and
looking for models must not create one. ``GGUF_WIDGETS_MODELS`` names more folders, for one session.

Version 1 of that file held folders only. It is read as what it is, the beginning of version 2, and
becomes one with the next change. An older program that meets version 2 says so in its list.

Examples
--------
>>> add_folder("~/Downloads/models")  # doctest: +SKIP
PosixPath('/home/emma/Downloads/models')
>>> add_file("/media/emma/disk/qwen3-4b-q4_k_m.gguf")  # doctest: +SKIP
PosixPath('/media/emma/disk/qwen3-4b-q4_k_m.gguf')
>>> remove_folder("~/Downloads/models")  # doctest: +SKIP
True
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import (
    FileChangeError,
    InvalidValueError,
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.facts import read_facts
from gguf_widgets.core.library.items import File, Source, is_model_name
from gguf_widgets.core.library.places import UserDirs
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import SmallFile

__all__ = [
    "ADDED_FILES",
    "BESIDE",
    "BESIDE_ADDED_FILES",
    "add_file",
    "add_folder",
    "files",
    "first_part",
    "folders",
    "problem",
    "remove_file",
    "remove_folder",
]

_VERSION: Final = 2
_OLDER: Final = (1,)
_MAX_FOLDERS: Final = 100
_MAX_FILES: Final = 500

_List = Literal["folders", "files"]


class _Kept(msgspec.Struct, kw_only=True):
    version: int = _VERSION
    folders: list[str] = []
    files: list[str] = []

    def __post_init__(self) -> None:
        # Each older version is the beginning of this one.
        if self.version in _OLDER:
            self.version = _VERSION


_FILE: Final = SmallFile(
    "folders.json",
    _Kept,
    version=_VERSION,
    max_bytes=5_000_000,  # a path has 4,096 bytes at most, so that nothing is ever cut
    shrink=lambda kept: _Kept(
        folders=kept.folders[: len(kept.folders) // 2], files=kept.files[: len(kept.files) // 2]
    ),
)


def folders() -> list[Path]:
    """Return the folders that were added, oldest first; one may be gone meanwhile."""
    return _paths(_FILE.read().folders[:_MAX_FOLDERS])


def files() -> list[Path]:
    """Return the files that were added, oldest first; of a split model one part stands for all.

    One may be gone meanwhile.
    """
    return _paths(_FILE.read().files[:_MAX_FILES])


def problem() -> ModelFileError | None:
    """Return why what was added is not known, if it was kept and is not."""
    _, why = _FILE.read_or_why()
    if not why:
        return None
    path = plain_text(str(_FILE.path), 200)
    return UnreadableFileError(
        f"The list of the files and folders that you added ({path}) cannot be read: "
        f"{plain_text(why, 200)}. They are not looked through. Add them again; the list is written "
        "anew then.",
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
    _add("folders", path, _MAX_FOLDERS, "Remove one first, or add a folder that holds several.")
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
    return _remove("folders", {str(expanded(folder))})


def add_file(file: str | os.PathLike[str]) -> Path:
    """Have a model file listed from now on, where it is: nothing is copied.

    Parameters
    ----------
    file : str or path-like
        A GGUF file with a model; of a split model any part, which stands for all of them. A
        projector (mmproj) beside it is used with it. Adding it again changes nothing.

    Returns
    -------
    Path
        Its absolute path, of a split model that of the first part.

    Raises
    ------
    ModelFileError
        It is not there, or no model that can be used; which subclass says why.
    InvalidValueError
        There are 500 already.
    FileChangeError
        It could not be remembered.
    """
    path = expanded(file)
    name = plain_text(path.name, 100)
    if not is_model_name(path):
        # Only such files are found in folders, and looked after elsewhere.
        raise NotAFileError(
            f'"{name}" is not a model file by its name: that has to end in .gguf. Rename it first, '
            "if it is one.",
            path=str(path),
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UnreadableFileError(
            f'The name of "{name}" is not valid text. Rename it first.'
        ) from None
    path = first_part(path)
    unusable = read_facts(path).error()
    if unusable is not None:
        raise unusable
    _add("files", path, _MAX_FILES, "Remove some first, or add the folder that holds them.")
    return path


def remove_file(file: str | os.PathLike[str]) -> bool:
    """Take a file that was added off the list again; the file itself is not touched.

    Parameters
    ----------
    file : str or path-like
        Of a split model any part. It need not be there any more.

    Returns
    -------
    bool
        Whether it was among those that were added.

    Raises
    ------
    FileChangeError
        The change could not be kept.
    """
    path = expanded(file)
    return _remove("files", {str(path), *(str(one) for one in files() if _is_part_of(one, path))})


def first_part(path: Path) -> Path:
    """Return the first part that is there of a split model; of any other file the file itself."""
    split = split_name(path)
    if split is None or split.num_parts == 1:
        return path
    first = split.path_of(1, path.parent)
    try:
        if first.exists():
            return first
        names = os.listdir(path.parent)  # noqa: PTH208 - names, not paths
    except OSError:
        return path
    found = [one for one in map(path.with_name, names) if _is_part_of(one, path)]
    return min(found, default=path)


# --- as sources of the list -----------------------------------------------------------------------

BESIDE: Final = "beside"
"""The key of files that nobody added: they are only there to be paired, and not listed."""


def _find_files(_dirs: UserDirs, _budget: Budget) -> Iterator[File]:
    for path in files():
        here = first_part(path)
        error = None
        if _is_gone(here):
            error = ModelNotFoundError(
                f'"{plain_text(here.name, 100)}" is not there any more. If it is on a disk that can'
                " be taken out, put that in again; if it has gone for good, take it off the list"
                " (remove_file).",
                path=str(here),
            )
        yield File(here, error=error)


def _find_beside(_dirs: UserDirs, budget: Budget) -> Iterator[File]:
    """Yield what lies beside an added file, where a projector is among it.

    Which projector goes with which model is judged among all of a folder, as in a folder that was
    added: otherwise a projector of another model would be taken for this one's.
    """
    for folder in dict.fromkeys(path.parent for path in files()):
        try:
            children = budget.children(folder)
        except OSError:
            continue  # the file itself is reported
        beside = [path for path, is_folder in children if not is_folder and is_model_name(path)]
        if any("mmproj" in path.name.lower() for path in beside):
            yield from map(File, beside)


ADDED_FILES: Final = Source("file", "added files", _find_files)
BESIDE_ADDED_FILES: Final = Source(BESIDE, "beside an added file", _find_beside)


# --- keeping --------------------------------------------------------------------------------------


def _paths(texts: list[str]) -> list[Path]:
    kept = [Path(text) for text in texts if "\0" not in text]
    return [path for path in kept if path.is_absolute()]


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # the look at it says why
    return False


def _is_part_of(one: Path, other: Path) -> bool:
    """Say whether two paths are parts of one split model."""
    mine, theirs = split_name(one), split_name(other)
    if mine is None or theirs is None or one.parent != other.parent:
        return False
    return (mine.stem, mine.num_parts) == (theirs.stem, theirs.num_parts)


def _add(kind: _List, path: Path, most: int, advice: str) -> None:
    def with_it(kept: _Kept) -> _Kept:
        known: list[str] = getattr(kept, kind)
        if str(path) in known:
            return kept
        if len(known) >= most:
            raise InvalidValueError(
                f"There are {most} {kind} already, which is the most. {advice}", limit=most
            )
        return msgspec.structs.replace(kept, **{kind: [*known, str(path)]})

    _update(with_it)


def _remove(kind: _List, paths: set[str]) -> bool:
    found = False

    def without_it(kept: _Kept) -> _Kept:
        nonlocal found
        known: list[str] = getattr(kept, kind)
        found = not paths.isdisjoint(known)
        left = [text for text in known if text not in paths]
        return msgspec.structs.replace(kept, **{kind: left})

    _update(without_it)
    return found


def _update(change: Callable[[_Kept], _Kept]) -> None:
    try:
        _FILE.update(change)
    except OSError as error:
        raise FileChangeError(
            f"The list of what you added could not be kept in {plain_text(str(_FILE.path), 200)}: "
            f"{error.strerror or error}. Check that the disk has room and you may write there.",
            path=str(_FILE.path),
            problem="not_kept",
        ) from error
