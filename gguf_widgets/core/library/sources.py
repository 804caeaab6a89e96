"""Where models are looked for, in order: a file belongs to the first that knows it.

Promises: one list of all sources, with the key by which each is named; a program that is not
installed costs a look at its folder and says nothing. Leaves to others: what each looks at (its own
file), the looking (`scan`).

==============  ============================  =================================================
key             in words                      its file
==============  ============================  =================================================
demo            demo                          the model that comes with this package
own             models folder                 `config.models_dir`
folder          (the folder)                  `folders`, ``GGUF_WIDGETS_MODELS``
huggingface     Hugging Face                  `hugging_face`
lmstudio        LM Studio                     `lm_studio`
ollama          Ollama                        `ollama`
jan             Jan                           `jan`
gpt4all         GPT4All                       `gpt4all`
koboldcpp       KoboldCpp                     `koboldcpp`
textgen         text-generation-webui         `textgen`
file            added files                   `folders`: single files that were added
==============  ============================  =================================================

``GGUF_WIDGETS_SOURCES`` limits the programs: their keys, separated by commas, or "none".
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.library import folders as added
from gguf_widgets.core.library.gpt4all import GPT4ALL
from gguf_widgets.core.library.hugging_face import HUGGING_FACE
from gguf_widgets.core.library.items import File, Folder, Source, is_model_name
from gguf_widgets.core.library.jan import JAN
from gguf_widgets.core.library.koboldcpp import KOBOLDCPP
from gguf_widgets.core.library.lm_studio import LM_STUDIO
from gguf_widgets.core.library.ollama import OLLAMA
from gguf_widgets.core.library.places import UserDirs
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.textgen import TEXT_GENERATION_WEBUI

__all__ = [
    "PROGRAMS",
    "TITLES",
    "beside_source",
    "folder_sources",
    "own_folders",
    "program_key",
    "sources",
]

PROGRAMS: Final[tuple[Source, ...]] = (
    HUGGING_FACE,
    LM_STUDIO,
    OLLAMA,
    JAN,
    GPT4ALL,
    KOBOLDCPP,
    TEXT_GENERATION_WEBUI,
)
TITLES: Final[dict[str, str]] = {
    "demo": "demo",
    "own": "models folder",
    "folder": "a folder that you added",
    **{source.program: source.title for source in PROGRAMS},
    "file": "added files",
}

_SWITCH: Final = "GGUF_WIDGETS_SOURCES"
_ADVICE: Final = (
    "Create it, take it out of GGUF_WIDGETS_MODELS, or, if you added it, remove it with "
    "remove_folder."
)


def own_folders() -> list[Path]:
    """Return our models folder and those that the person has added, in order."""
    others = [*added.folders(), *config.extra_model_dirs()]
    return list(dict.fromkeys([config.models_dir(), *others]))


def sources() -> list[Source]:
    """Return all sources.

    Raises
    ------
    InvalidValueError
        ``GGUF_WIDGETS_SOURCES`` names a program that there is not.
    """
    # Single files last: one that a folder or a program has is theirs, and known here as well.
    single = (added.ADDED_FILES, added.BESIDE_ADDED_FILES)
    return [*folder_sources(own_folders()), _LOST_FOLDERS, *_programs(), *single]


def folder_sources(folders: Iterable[Path]) -> list[Source]:
    """Return a source for each folder; our own is made when it is first needed, so may not be."""
    return [_folder_source(folder) for folder in folders]


def beside_source(folder: Path) -> Source:
    """Return a source of the files in a folder, however many folders may be below it."""

    def find(_dirs: UserDirs, budget: Budget) -> Iterator[File]:
        for path, is_folder in budget.children(folder):
            if not is_folder and is_model_name(path):
                yield File(path)

    return Source("folder", str(folder), find)


def program_key(name: str) -> str:
    """Return the key of a source that is given by key or in words, whatever its capital letters.

    Raises
    ------
    InvalidValueError
        There is none.
    """
    wanted = name.casefold().strip()
    for key, title in TITLES.items():
        if wanted in (key.casefold(), title.casefold()):
            return key
    near = difflib.get_close_matches(wanted, TITLES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(TITLES)}."
    raise InvalidValueError(
        f"There is no source called {name!r:.80}. {hint}", name="source", value=name[:80]
    )


def _folder_source(folder: Path) -> Source:
    own = folder == config.models_dir()

    def find(_dirs: UserDirs, _budget: Budget) -> Iterator[Folder]:
        yield Folder(folder, missing="" if own else _ADVICE)

    return Source("own" if own else "folder", "models folder" if own else str(folder), find)


def _lost_folders(_dirs: UserDirs, _budget: Budget) -> Iterator[File]:
    error = added.problem()
    if error is not None:
        yield File(Path(error.details["path"]), label="added folders", error=error)


_LOST_FOLDERS: Final = Source("folder", "added folders", _lost_folders)


def _programs() -> list[Source]:
    given = os.environ.get(_SWITCH, "").strip()
    if not given:
        return list(PROGRAMS)
    if given.lower() == "none":
        return []
    try:
        wanted = {program_key(part) for part in given.split(",") if part.strip()}
    except InvalidValueError as error:
        raise InvalidValueError(f"{_SWITCH}: {error.message}", **error.details) from None
    return [source for source in PROGRAMS if source.program in wanted]
