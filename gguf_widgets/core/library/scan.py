"""Looks for model files where the sources say, without opening any.

Promises: every model file once, in a fixed order, with all the places and programs it is known by;
links are followed and loops noticed; the parts of a split model come as one; a folder that cannot
be looked into, a link to nothing and whatever else a source meets come with their reason; a look at
one source takes a bounded time even in a huge tree, and does not cost the other sources anything.
Leaves to others: where to look (`sources`), names and headers (`library`).
"""

from __future__ import annotations

import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import (
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library.items import File, Folder, FoundFile, Source, is_model_name
from gguf_widgets.core.library.places import UserDirs

__all__ = ["Budget", "OverLimitError", "scan"]

# Other programs keep models as publisher/model/file; a hub's cache is two levels deeper.
_MAX_DEPTH: Final = 6
# For each source, so that a folder like / costs a second and a sentence, not minutes; the time is
# for a slow disk or network.
_MAX_FOLDERS: Final = 2000
_KNOWN_FACTOR: Final = 5  # a hub's cache has several folders for each of hundreds of repositories
_MAX_FILES: Final = 2000
_MAX_ENTRIES: Final = 100_000
_MAX_SECONDS: Final = 20.0

_Key = tuple[int, int] | str


class OverLimitError(Exception):
    """A source holds more than a look may cost."""


class Budget:
    """What a look at one source may cost.

    Parameters
    ----------
    known_layout : bool, default False
        Whether it goes only where a program keeps models, and so may see more folders.
    """

    def __init__(self, *, known_layout: bool = False) -> None:
        self._folders = _MAX_FOLDERS * (_KNOWN_FACTOR if known_layout else 1)
        self._files = _MAX_FILES
        self._until = time.monotonic() + _MAX_SECONDS

    def children(self, folder: Path) -> list[tuple[Path, bool]]:
        """Return what is in a folder by name, hidden ones left out, with whether it is a folder.

        Raises
        ------
        OSError
            It cannot be looked into.
        OverLimitError
        """
        self._folders -= 1
        if self._folders < 0 or time.monotonic() > self._until:
            raise OverLimitError
        try:
            with os.scandir(folder) as entries:
                found = list(itertools.islice(entries, _MAX_ENTRIES + 1))
        except ValueError as error:  # a zero byte in the name
            raise OSError(str(error)) from error
        if len(found) > _MAX_ENTRIES:
            raise OverLimitError
        return [
            (folder / entry.name, _is_folder(entry))
            for entry in sorted(found, key=lambda entry: entry.name)
            if not entry.name.startswith(".")
        ]

    def files_below(self, folder: Path, wanted: Callable[[Path], bool]) -> Iterator[Path | File]:
        """Yield the wanted files of a tree, and a `File` for a folder that cannot be looked into.

        A folder that is not there holds nothing.

        Raises
        ------
        OverLimitError
        """
        yield from self._below(folder, wanted, set(), 0)

    def count_file(self) -> None:
        """Count a file that is listed.

        Raises
        ------
        OverLimitError
        """
        self._files -= 1
        if self._files < 0:
            raise OverLimitError

    def _below(
        self, folder: Path, wanted: Callable[[Path], bool], seen: set[_Key], depth: int
    ) -> Iterator[Path | File]:
        key = _key(folder)
        if key in seen:
            return
        seen.add(key)
        try:
            children = self.children(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            yield File(folder, error=_closed(folder, error))
            return
        yield from (path for path, is_folder in children if not is_folder and wanted(path))
        if depth < _MAX_DEPTH:
            for path, is_folder in children:
                if is_folder:
                    yield from self._below(path, wanted, seen, depth + 1)


def scan(
    sources: Iterable[Source], dirs: UserDirs, known: Iterable[FoundFile] = ()
) -> list[FoundFile]:
    """Return the model files of some sources.

    Parameters
    ----------
    sources : iterable of Source
        In order: a file belongs to the first that knows it.
    dirs : UserDirs
    known : iterable of FoundFile
        Files that are listed already: they are first, and other names of them become their places.
    """
    look = _Look()
    for file in known:
        look.add(file, _key(file.path))
    for source in sources:
        look.at(source, dirs)
    return look.found


class _Look:
    """One pass over the sources."""

    def __init__(self) -> None:
        self.found: list[FoundFile] = []
        self._by_key: dict[_Key, FoundFile] = {}
        self._folders: set[_Key] = set()
        self._splits: set[tuple[Path, str, int]] = set()

    def at(self, source: Source, dirs: UserDirs) -> None:
        """Add what one source has."""
        # A folder may belong to several sources, and is looked through once for each.
        self._folders = set()
        self._splits = set()
        budget = Budget(known_layout=source.program not in ("own", "folder"))
        try:
            for item in source.find(dirs, budget):
                if isinstance(item, Folder):
                    root = item.path.absolute()
                    self._look_into(root, item, source, budget, depth=0)
                else:
                    self._meet(item, source, budget)
        except OverLimitError:
            message = (
                f"There are too many folders or model files ({_MAX_FILES:,} is the most) to look "
                f"through in {plain_text(source.title, 200)}, or it takes longer than "
                f"{_MAX_SECONDS:g} seconds, so the rest is left out."
            )
            if source.program == "folder":
                message += " Name a smaller folder."
            error = UnreadableFileError(message, source=source.program)
            self.add(_found(File(dirs.home / source.title, error=error), source), message)
        except OSError as reason:
            message = (
                f"The models of {plain_text(source.title, 200)} cannot be looked for: "
                f"{_reason(reason)}."
            )
            error = UnreadableFileError(message, source=source.program)
            self.add(_found(File(dirs.home / source.title, error=error), source), message)

    def add(self, file: FoundFile, key: _Key) -> None:
        """Add a file, or another place to one that is known."""
        known = self._by_key.get(key)
        if known is None:
            self._by_key[key] = file
            self.found.append(file)
            return
        known.places += [place for place in file.places if place not in known.places]
        known.companions += [path for path in file.companions if path not in known.companions]
        known.sha256 = known.sha256 or file.sha256

    def _look_into(
        self, folder: Path, item: Folder, source: Source, budget: Budget, depth: int
    ) -> None:
        key = _key(folder)
        if key in self._folders:
            return
        self._folders.add(key)
        try:
            children = budget.children(folder)
        except (FileNotFoundError, NotADirectoryError):
            if depth == 0 and item.missing:
                message = f"There is no folder {plain_text(str(folder), 200)}. {item.missing}"
                error = ModelNotFoundError(message, path=str(folder))
                self._meet(File(folder, error=error), source, budget)
            return
        except OSError as reason:
            self._meet(File(folder, error=_closed(folder, reason)), source, budget)
            return
        # Files before folders, so that a model keeps its short name when a folder is added.
        hint = ""
        if item.named_by_folders and depth:
            hint = folder.relative_to(item.path.absolute()).as_posix()
        for path, is_folder in children:
            if not is_folder and is_model_name(path):
                self._meet(File(path, hint=hint), source, budget)
        if depth < _MAX_DEPTH:
            for path, is_folder in children:
                if is_folder:
                    self._look_into(path, item, source, budget, depth + 1)

    def _meet(self, item: File, source: Source, budget: Budget) -> None:
        error = item.error or _unusable(item.path)
        if error is None:
            split = split_name(item.path)
            if split is not None and split.num_parts > 1:
                group = (item.path.parent, split.stem, split.num_parts)
                if group in self._splits:
                    return
                self._splits.add(group)
        # What cannot be reached has no identity but its name.
        key = _key(item.path) if error is None else f"{item.path}: {error.message}"
        if key not in self._by_key:
            budget.count_file()
        self.add(_found(item._replace(error=error), source), key)


def _found(item: File, source: Source) -> FoundFile:
    return FoundFile(
        path=item.path,
        source=source.title,
        program=source.program,
        error=item.error,
        label=item.label,
        hint=item.hint,
        sha256=item.sha256,
        companions=list(item.companions),
    )


def _key(path: Path) -> _Key:
    """Return what is the same for all names of a file or folder."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return os.path.normcase(path)
    if status.st_ino:
        return (status.st_dev, status.st_ino)
    return os.path.normcase(os.path.realpath(path))  # a file system that numbers nothing


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into what may not be looked into
        return False


def _unusable(path: Path) -> ModelFileError | None:
    """Return why a file is of no use, as far as that shows without opening it."""
    name = plain_text(path.name, 100)
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            message = f'"{name}" is a link to a file that is not there any more.'
        else:
            message = f'"{name}" is not there any more.'
        return ModelNotFoundError(message, path=str(path))
    except (OSError, ValueError) as error:
        return UnreadableFileError(
            f'"{name}" cannot be looked at: {_reason(error)}.', path=str(path)
        )
    if not stat.S_ISREG(status.st_mode):
        return NotAFileError(f'"{name}" is not a plain file.', path=str(path))
    return None


def _closed(folder: Path, error: OSError) -> ModelFileError:
    return UnreadableFileError(
        f"The folder {plain_text(str(folder), 200)} cannot be looked into: {_reason(error)}.",
        path=str(folder),
    )


def _reason(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)
