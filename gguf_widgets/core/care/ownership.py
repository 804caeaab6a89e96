"""Which program a model file belongs to, and how it is removed there.

Promises: a file is ours only if its own folder, links followed, is inside our models folder; every
other file belongs to somebody else and `refuse_foreign` says to whom; nothing is opened or changed.
Leaves to others: finding the files (`core.library`).

How the programs lay out their files, and where that is documented:

=====================  ===========================================================================
Hugging Face           ``hub/models--OWNER--NAME/{blobs,snapshots}``: huggingface_hub's guide
                       "Understand caching"; ``hf cache rm`` in its guide to the command line
Ollama                 ``models/{manifests,blobs/sha256-...}``: docs/faq.md of ollama/ollama
LM Studio              ``~/.lmstudio/models/PUBLISHER/MODEL``: lmstudio.ai/docs, "Import models"
Jan                    ``Jan/data/llamacpp/models``, earlier ``jan/models``: jan.ai/docs, "Data"
GPT4All                ``nomic.ai/GPT4All``: docs.gpt4all.io, "Settings"
text-generation-webui  ``user_data/models``, earlier ``models``: its README
KoboldCpp              no folder of its own; one that is named after it is taken for its
=====================  ===========================================================================
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from gguf_widgets.core import config
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.library import ModelEntry

__all__ = ["OURS", "Ownership", "owner_of", "refuse_foreign"]

OURS: Final = "gguf-widgets"


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose file it is.

    Attributes
    ----------
    path : Path
        The file, or the link to it, absolute.
    owner : str
        "gguf-widgets", "Hugging Face", "Ollama", "LM Studio", "Jan", "GPT4All",
        "text-generation-webui", "KoboldCpp", or "you": a folder that no known program keeps.
    is_ours : bool
        Whether it may be renamed and removed here: it is in our models folder. Not so the bundled
        demo model, though its owner is this program.
    target : Path or None
        For a link: the file that it leads to, which may be somebody else's.
    how_to_remove : str
        A sentence.
    """

    path: Path
    owner: str
    is_ours: bool
    target: Path | None
    how_to_remove: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "path": str(self.path),
            "owner": self.owner,
            "is_ours": self.is_ours,
            "target": None if self.target is None else str(self.target),
            "how_to_remove": self.how_to_remove,
        }

    def __str__(self) -> str:
        name, folder = shown(self.path), plain_text(str(self.path.parent), 200)
        if self.is_ours and self.target is not None:
            there = plain_text(str(self.target), 200)
            return (
                f"{name} is a link in this program's own models folder. It leads to {there}, which"
                f" stays as it is whatever is done to the link. {self.how_to_remove}"
            )
        if self.is_ours:
            whose = f"is in this program's own models folder ({folder})."
        elif self.owner == OURS:
            whose = "came with this program."
        elif self.owner == "you":
            whose = f"is in {folder}, a folder of your own that this program only reads."
        else:
            whose = f"belongs to {self.owner}, which keeps it in {folder}."
        return f"{name} {whose} {self.how_to_remove}"


class _Program(NamedTuple):
    name: str
    keeps: Callable[[Path], bool]
    how_to_remove: str


def _is_hugging_face(path: Path) -> bool:
    parts = path.parts
    return any(
        part.startswith("models--") and after in ("blobs", "snapshots", "refs")
        for part, after in itertools.pairwise(parts)
    )


def _is_ollama(path: Path) -> bool:
    is_blob = re.fullmatch(r"sha256[-:][0-9a-f]{64}", path.name) is not None
    return ".ollama" in path.parts or (is_blob and path.parent.name == "blobs")


def _in_folder(*names: str) -> Callable[[Path], bool]:
    wanted = {name.casefold() for name in names}
    return lambda path: not wanted.isdisjoint(part.casefold() for part in path.parts[:-1])


def _in_folder_that_begins(*starts: str) -> Callable[[Path], bool]:
    return lambda path: any(
        part.casefold().startswith(start) for part in path.parts[:-1] for start in starts
    )


def _is_jan(path: Path) -> bool:
    folders = [part.casefold() for part in path.parts[:-1]]
    return "jan" in folders and "models" in folders[folders.index("jan") :]


# The first that says yes.
_PROGRAMS: Final = (
    _Program(
        "Hugging Face",
        _is_hugging_face,
        'Remove it there: "hf cache ls" lists what its cache holds and "hf cache rm" removes it.',
    ),
    _Program(
        "Ollama", _is_ollama, 'Remove it there: "ollama list", then "ollama rm" and its name.'
    ),
    _Program(
        "LM Studio",
        _in_folder(".lmstudio", "lm-studio"),
        "Remove it there: My Models, the three dots beside the model, Delete.",
    ),
    _Program(
        "GPT4All", _in_folder("gpt4all"), "Remove it there: Models, and Remove beside the model."
    ),
    _Program(
        "text-generation-webui",
        _in_folder_that_begins("text-generation-webui"),
        "Delete it in that folder with your file manager.",
    ),
    _Program(
        "KoboldCpp",
        _in_folder_that_begins("koboldcpp"),
        "Delete it in that folder with your file manager.",
    ),
    _Program(
        "Jan", _is_jan, "Remove it there: Settings, Model Providers, and the bin beside the model."
    ),
)


_NAMES: Final = frozenset(program.name for program in _PROGRAMS)


def owner_of(model: ModelEntry | str | os.PathLike[str], source: str = "") -> Ownership:
    """Say which program a model file belongs to.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        An entry of the list, or a file or a link to one, which need not exist.
    source : str, optional
        Where the list of models found it, if that is known: a program may keep its models in a
        folder that does not show whose it is. Default: what an entry says.
    """
    if isinstance(model, ModelEntry):
        here, source = model.path, source or model.source
    else:
        here = config.expanded(model)
    # The folder's links are followed and the file's own are not: a link in our folder is ours, and
    # a file that is reached through a linked folder is not.
    place = _real(here.parent) / here.name
    target = _real(here) if _is_link(here) else None
    if _is_inside(place, _real(config.models_dir())):
        how = (
            'Only the link is removed by "gguf-widgets remove".'
            if target is not None
            else '"gguf-widgets remove" moves it to the trash.'
        )
        return Ownership(here, OURS, True, target, how)
    from gguf_widgets import demo  # Late: only here is it needed.

    if _is_inside(place, _real(Path(demo.__file__).parent)):
        how = "It stays as long as the program is installed."
        return Ownership(here, OURS, False, target, how)
    for program in _PROGRAMS:
        # What the list has found out counts for more than what a path looks like.
        if source == program.name or (source not in _NAMES and _keeps(program, place, target)):
            return Ownership(here, program.name, False, target, program.how_to_remove)
    how = "Rename or delete it with your file manager."
    return Ownership(here, "you", False, target, how)


def refuse_foreign(path: Path, verb: str, model: object = None) -> Ownership:
    """Return whose it is if it is ours.

    Parameters
    ----------
    path : Path
    verb : str
        What was asked for: "renamed", "removed".
    model : object, optional
        What was asked about, which may be an entry of the list.

    Raises
    ------
    FileChangeError
        "foreign": it belongs to somebody else, and how it is removed there.
    """
    owner = owner_of(path, model.source if isinstance(model, ModelEntry) else "")
    if not owner.is_ours:
        raise FileChangeError(
            f"It is not {verb} here: this program changes only files in its own models folder. "
            f"{owner}",
            problem="foreign",
            path=str(path).encode("utf-8", "replace").decode(),
            owner=owner.owner,
        )
    return owner


def _keeps(program: _Program, place: Path, target: Path | None) -> bool:
    return program.keeps(place) or (target is not None and program.keeps(target))


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or no permission to look
        return path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _is_inside(path: Path, folder: Path) -> bool:
    return folder in path.parents
