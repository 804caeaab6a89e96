"""Models that KoboldCpp has been used with.

Promises: what is said below, and nothing that would search a whole disk.

KoboldCpp is one program file that is put anywhere and has no models folder: each start is told
which file to load. What stays on the disk are the starts that a person has saved, ``.kcpps`` files,
which are JSON: ``model_param`` (older: ``model``), ``mmproj``, ``embeddingsmodel`` and
``downloaddir`` (its wiki, and ``qwen08rpctest.kcpps`` in its repository). So we look

- for ``.kcpps`` files in the home folder and in folders there whose name begins with "koboldcpp",
  where the program or its source usually lies, and list the files that they name;
- for GGUF files in those "koboldcpp" folders and the ``downloaddir`` that a ``.kcpps`` file names.

The home folder itself is not searched for models, nor are Documents, Desktop and Downloads: macOS
asks the person for each of these. `folders.add_folder` is for all other places.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.errors import UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.items import File, Folder, Source, is_model_name
from gguf_widgets.core.library.places import UserDirs, given_path
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_json

__all__ = ["KOBOLDCPP"]

_START_BYTES: Final = 4_000_000  # a start may hold a story
_MAX_STARTS: Final = 200


def _find(dirs: UserDirs, budget: Budget) -> Iterator[Folder | File]:
    try:
        children = budget.children(dirs.home)
    except OSError:
        return
    folders = [p for p, is_folder in children if is_folder and _is_its_own(p.name)]
    starts = [p for p, is_folder in children if not is_folder and p.suffix.lower() == ".kcpps"]
    for folder in folders:
        try:
            inside = budget.children(folder)
        except OSError:
            continue  # which the folder's own line will say
        starts += [p for p, is_folder in inside if not is_folder and p.suffix.lower() == ".kcpps"]
    for start in starts[:_MAX_STARTS]:
        yield from _named_by(start)
    if len(starts) > _MAX_STARTS:
        message = f"KoboldCpp has more than {_MAX_STARTS} .kcpps files; the others are not read."
        yield File(starts[_MAX_STARTS], error=UnreadableFileError(message))
    for folder in folders:
        yield Folder(folder)


def _is_its_own(name: str) -> bool:
    return name.lower().replace("_", "").startswith("koboldcpp")


def _named_by(start: Path) -> Iterator[Folder | File]:
    try:
        content = read_json(start, _START_BYTES)
    except OSError as error:
        message = (
            f"KoboldCpp's file {plain_text(str(start), 200)} cannot be read: "
            f"{error.strerror or error}."
        )
        yield File(start, error=UnreadableFileError(message, path=str(start)))
        return
    projector = _file(content.get("mmproj"), start)
    for key in ("model_param", "model", "embeddingsmodel"):
        for text in _texts(content.get(key)):
            file = _file(text, start)
            if file is not None:
                companions = () if projector is None or key == "embeddingsmodel" else (projector,)
                yield File(file, companions=companions)
    if projector is not None:
        yield File(projector)
    downloads = given_path(content.get("downloaddir"), start.parent)
    if downloads is not None:
        yield Folder(downloads)


def _texts(value: Any) -> list[Any]:
    return value[:10] if isinstance(value, list) else [value]


def _file(text: object, start: Path) -> Path | None:
    """Return a model file that a start names; it may as well be the address of a download."""
    if isinstance(text, str) and "://" in text:
        return None
    path = given_path(text, start.parent)
    return path if path is not None and is_model_name(path) else None


KOBOLDCPP: Final = Source("koboldcpp", "KoboldCpp", _find)
