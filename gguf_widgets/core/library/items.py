"""What is found when models are looked for: the words in which sources and the search speak.

Promises: plain values. Leaves to others: the sources (`sources`), the search
(`scan`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gguf_widgets.core.errors import ModelFileError
from gguf_widgets.core.library.places import UserDirs

if TYPE_CHECKING:
    from gguf_widgets.core.library.scan import Budget

__all__ = ["File", "Folder", "FoundFile", "Place", "Source", "is_model_name"]


class Place(NamedTuple):
    """One way in which a file is known.

    Attributes
    ----------
    program : str
        The key of the source ("ollama"); see `sources`.
    source : str
        The same in words, or the folder.
    path : Path
    label : str
        What the program calls it ("qwen3:4b"), or "".
    """

    program: str
    source: str
    path: Path
    label: str = ""


@dataclasses.dataclass(slots=True, eq=False)
class FoundFile:
    """A file that calls itself a model; `error` if that is already known to be no use.

    Attributes
    ----------
    path : Path
    source, program : str
        Of its first place.
    error : ModelFileError or None
    label : str
        What the program calls it, or "".
    hint : str
        What tells it from a file of the same name ("owner/repository"), or "".
    sha256 : str
        As the program that owns the file names it, or "".
    companions : list of Path
        The projectors that a program itself gives it.
    places : list of Place
        All of them, the first included.
    """

    path: Path
    source: str
    program: str = "folder"
    error: ModelFileError | None = None
    label: str = ""
    hint: str = ""
    sha256: str = ""
    companions: list[Path] = dataclasses.field(default_factory=list)
    places: list[Place] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.places:
            self.places = [Place(self.program, self.source, self.path, self.label)]


class Folder(NamedTuple):
    """What a source says: look through this folder.

    Attributes
    ----------
    path : Path
    missing : str
        What the person can do if it is not there; "" keeps quiet about that.
    named_by_folders : bool
        Whether the folders on the way to a file tell it apart ("publisher/model").
    """

    path: Path
    missing: str = ""
    named_by_folders: bool = False


class File(NamedTuple):
    """What a source says: this is a model file; or, with an `error`, why it could not tell.

    The other fields are those of `FoundFile`.
    """

    path: Path
    label: str = ""
    hint: str = ""
    sha256: str = ""
    companions: tuple[Path, ...] = ()
    error: ModelFileError | None = None


class Source(NamedTuple):
    """A program, or a folder of the person's, that has model files.

    Attributes
    ----------
    program : str
        A short key, the same everywhere ("ollama").
    title : str
        What a person reads ("Ollama"), or the folder.
    find : callable
        Takes a `UserDirs` and a `Budget`, and yields `Folder` and `File`. It may raise `OSError`.
    """

    program: str
    title: str
    find: Callable[[UserDirs, Budget], Iterable[Folder | File]]


def is_model_name(path: Path) -> bool:
    """Say whether a file's name is that of a GGUF file."""
    return path.suffix.lower() == ".gguf"
