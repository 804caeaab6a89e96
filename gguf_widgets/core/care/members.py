"""The files that make one model: its parts, its companion, its checksums.

Promises: from a model's name, an entry of the list or any one file, all files that carry its name;
nothing is opened but a companion's header. A companion (mmproj) belongs to a model only if its name
is made from the model's: one that several models share is nobody's. Leaves to others: whose they
are (`ownership`), moving them (`moves`).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    FileChangeError,
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library import ModelEntry, ModelLibrary

__all__ = ["Member", "ModelFiles", "is_named_by_hash", "model_files", "with_stem"]

Kind = Literal["model", "companion", "checksum"]

_CHECKSUM: Final = ".sha256"
# How a companion's own number format is written behind its name: "model-mmproj-f16.gguf".
_FORMAT: Final = r"(?P<format>[-_.](?i:f16|f32|bf16|q8_0))?"


class Member(NamedTuple):
    """One file; `size` in bytes is that of a link's own for a link."""

    path: Path
    kind: Kind
    size: int


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of one model.

    Attributes
    ----------
    stem : str
        The name that all of them carry.
    folder : Path
    members : tuple of Member
        The parts in order, then companions, then checksums; those that are there.
    missing : tuple of Path
        Parts that a split model should have and that are not there.
    """

    stem: str
    folder: Path
    members: tuple[Member, ...]
    missing: tuple[Path, ...] = ()

    @property
    def parts(self) -> list[Path]:
        """The model's own files, in order."""
        return [member.path for member in self.members if member.kind == "model"]

    @property
    def size_bytes(self) -> int:
        """Of all members."""
        return sum(member.size for member in self.members)

    def renamed(self, stem: str) -> list[tuple[Path, Path]]:
        """Return each file and what it is called when the model is called `stem`."""
        names = [with_stem(member.path.name, self.stem, stem) for member in self.members]
        return [
            (member.path, self.folder / name)
            for member, name in zip(self.members, names, strict=True)
            if name is not None  # all carry it; only a type checker cannot know
        ]


def model_files(model: ModelEntry | str | os.PathLike[str]) -> ModelFiles:
    """Return the files of a model.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        An entry of the list, a name from it, or a path; of a split model any part. A link that
        leads to nothing is a file like any other here.

    Raises
    ------
    ModelNotFoundError, NotAFileError, UnreadableFileError
        If there is none.
    FileChangeError
        "not_a_model": a file of another kind; "name": one whose name is no text.
    """
    path = _path_of(model)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise FileChangeError(
            f"The name of {shown(path)} is not valid UTF-8 text. Rename it with your file manager "
            "first.",
            problem="name",
        ) from error
    if path.suffix.lower() != ".gguf" and not is_named_by_hash(path):
        raise FileChangeError(
            f"{shown(path)} is not a model file: its name does not end in .gguf.",
            problem="not_a_model",
            path=str(path),
        )
    folder = path.parent
    try:
        names = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise UnreadableFileError(
            f"The folder {plain_text(str(folder), 200)} cannot be looked into: "
            f"{error.strerror or error}.",
            path=str(folder),
        ) from error
    split = split_name(path)
    missing: list[Path] = []
    if split is None or split.num_parts == 1:
        stem = split.stem if split else path.stem
        parts = [path.name]
    else:
        stem = split.stem
        pattern = re.compile(re.escape(stem) + rf"-(\d{{5}})-of-{split.num_parts:05}\.gguf")
        parts = sorted(name for name in names if pattern.fullmatch(name))
        # By its name it could have 99,999; a sentence needs only the first few.
        numbers = range(1, min(split.num_parts, 1000) + 1)
        wanted = (split.path_of(number, folder) for number in numbers)
        missing = [part for part in wanted if part.name not in names]
    companions = _companions(folder, stem, names - set(parts))
    checksums = [name + _CHECKSUM for name in parts + companions if name + _CHECKSUM in names]
    members = [
        *(_member(folder / name, "model") for name in parts),
        *(_member(folder / name, "companion") for name in companions),
        *(_member(folder / name, "checksum") for name in checksums),
    ]
    there = tuple(member for member in members if member is not None)
    if not any(member.kind == "model" for member in there):  # gone since we looked
        raise ModelNotFoundError(f"There is no file {shown(path)} any more.", path=str(path))
    return ModelFiles(stem, folder, there, tuple(missing))


def _path_of(model: ModelEntry | str | os.PathLike[str]) -> Path:
    if isinstance(model, ModelEntry):
        path = model.path
    else:
        path = config.expanded(model)
        # A link to nothing is no model and can still be renamed and removed.
        if not (path.is_symlink() and not path.exists()):
            path = ModelLibrary().resolve(model)
    try:
        status = path.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ModelNotFoundError(f"There is no file {shown(path)} any more.", path=str(path)) from (
            error
        )
    except OSError as error:
        raise UnreadableFileError(
            f"{shown(path)} cannot be looked at: {error.strerror or error}.", path=str(path)
        ) from error
    if is_folder or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise NotAFileError(f"{shown(path)} is not a plain file.", path=str(path))
    return path


def is_named_by_hash(path: Path) -> bool:
    """Tell a model as Ollama and the hub's cache store it: the file is called by its hash."""
    return re.fullmatch(r"(sha256[-:])?[0-9a-f]{64}", path.name) is not None


def _member(path: Path, kind: Kind) -> Member | None:
    """Return a file as a member; None if it has disappeared."""
    try:
        return Member(path, kind, path.lstat().st_size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableFileError(
            f"{shown(path)} cannot be looked at: {error.strerror or error}.", path=str(path)
        ) from error


def _companions(folder: Path, stem: str, names: set[str]) -> list[str]:
    """Return the mmproj files that are named after this model."""
    name, word = re.escape(stem), "(?i:mmproj)"
    patterns = [
        re.compile(rf"{word}[-_.]{name}{_FORMAT}\.gguf"),
        re.compile(rf"{name}[-_.]{word}{_FORMAT}\.gguf"),
    ]
    found = []
    for candidate in sorted(names):
        match = next((m for p in patterns if (m := p.fullmatch(candidate))), None)
        if match is None:
            continue
        # "mmproj-a-f16.gguf" is of the model "a-f16" if there is one, and not of "a".
        if match["format"] and f"{stem}{match['format']}.gguf" in names:
            continue
        if _is_projector(folder / candidate):
            found.append(candidate)
    return found


def _is_projector(path: Path) -> bool:
    try:
        header = read_header(path)
    except ModelFileError:
        return False
    return header.architecture == "clip" or header.text("general.type") == "mmproj"


def with_stem(name: str, old: str, new: str) -> str | None:
    """Return a member's file name for another name of its model; None if it does not carry `old`.

    Examples
    --------
    >>> with_stem("m-00001-of-00002.gguf", "m", "n"), with_stem("mmproj-m.gguf", "m", "n")
    ('n-00001-of-00002.gguf', 'mmproj-n.gguf')
    """
    # The name as it is written; "mmproj" in any letters.
    for pattern in (re.escape(old), rf"(?i:mmproj)[-_.]{re.escape(old)}"):
        match = re.match(rf"{pattern}(?=[-_.])", name)
        if match:
            return match[0][: -len(old)] + new + name[match.end() :]
    return None
