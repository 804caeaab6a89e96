"""The models of LM Studio.

Promises: its models folder in each of the homes that it has had, and where its settings have moved
it. Leaves to others: its other formats (MLX), which are no GGUF files.

The layout: ``<models>/publisher/model/file.gguf`` (LM Studio's documentation, "Import Models"). The
home is named in ``~/.lmstudio-home-pointer``; without it, it is ``~/.cache/lm-studio`` (older) or
``~/.lmstudio`` (``findLMStudioHome`` in ``lmstudio.js``, ``packages/lms-common-server``). The
models folder is ``downloadsFolder`` in the home's ``settings.json``, else ``models`` in the home
(``src/modelsFolder.ts`` in ``lmstudio-ai/lms``); older versions kept that file in the system's
folder for settings, under "LM Studio".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.items import File, Folder, Source
from gguf_widgets.core.library.places import UserDirs, given_path
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_bounded, read_json

__all__ = ["LM_STUDIO"]

_POINTER_BYTES: Final = 8192
_SETTINGS_BYTES: Final = 4_000_000


def _find(dirs: UserDirs, _budget: Budget) -> Iterator[Folder | File]:
    seen: set[Path] = set()
    for home in _homes(dirs):
        folders = [home / "models"]
        for settings in (home / "settings.json", dirs.config / "LM Studio" / "settings.json"):
            try:
                given = read_json(settings, _SETTINGS_BYTES).get("downloadsFolder")
            except FileNotFoundError:
                continue
            except OSError as error:
                yield _not_read(settings, error)
                continue
            moved = given_path(given, home)
            if moved is not None:
                folders.insert(0, moved)
        for folder in folders:
            if folder not in seen:
                seen.add(folder)
                yield Folder(folder, named_by_folders=True)


def _homes(dirs: UserDirs) -> list[Path]:
    homes = [dirs.home / ".lmstudio", dirs.home / ".cache" / "lm-studio"]
    try:
        text = read_bounded(dirs.home / ".lmstudio-home-pointer", _POINTER_BYTES)
        pointed = given_path(text.decode("utf-8").strip(), dirs.home)
    except (OSError, UnicodeDecodeError):
        pointed = None
    return [home for home in dict.fromkeys([pointed, *homes]) if home is not None]


def _not_read(path: Path, error: OSError) -> File:
    message = (
        f"The settings of LM Studio in {plain_text(str(path), 200)} cannot be read "
        f"({error.strerror or error}), so a models folder that they name is not looked through."
    )
    return File(path, error=UnreadableFileError(message, path=str(path)))


LM_STUDIO: Final = Source("lmstudio", "LM Studio", _find)
