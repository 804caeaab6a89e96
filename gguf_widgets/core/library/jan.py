"""The models of Jan.

Promises: each model that Jan knows, under Jan's own name for it, also where it lies elsewhere on
the disk; and the GGUF files in Jan's models folders that no description names. Leaves to others:
its other formats.

The layout, as in Jan's ``extensions/llamacpp-extension/src/index.ts`` (current) and in its
documentation of earlier versions::

    <data>/llamacpp/models/<name>/model.yml    model_path, mmproj_path: from <data>, or absolute
    <data>/llamacpp/models/<name>/model.gguf   unless the description says otherwise
    <data>/models/**/*.yml                     (2025, Cortex) files: a list of such paths
    <data>/models/<name>/model.json            (2024) sources: a list of file names or addresses

``<data>`` is ``JAN_DATA_FOLDER``, else ``data_folder`` in Jan's ``settings.json``, else
``Jan/data`` in the system's folder for data (``src-tauri/src/core/app/commands.rs``); it was
``~/jan`` before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.items import File, Folder, Source, is_model_name
from gguf_widgets.core.library.places import UserDirs, given_path
from gguf_widgets.core.library.scan import Budget
from gguf_widgets.core.library.small_file import read_bounded, read_json

__all__ = ["JAN"]

_SETTINGS_BYTES: Final = 1_000_000
_DESCRIPTION_BYTES: Final = 1_000_000
# Jan writes one "key: value" a line at the top level (serde_yaml breaks no line); a whole YAML
# reader would be one more dependency, and one more thing for a hostile file to play with.
_ENTRY: Final = re.compile(r"(model_path|mmproj_path|files):(?:[ \t]+(.*))?")
_ITEM: Final = re.compile(r"[ \t]*-[ \t]+(.*)")


def _find(dirs: UserDirs, budget: Budget) -> Iterator[Folder | File]:
    for data in _data_folders(dirs):
        for models in (data / "llamacpp" / "models", data / "models"):
            for path in budget.files_below(models, _is_description):
                if isinstance(path, File):
                    yield path
                else:
                    yield from _described(path, models, data)
            yield Folder(models, named_by_folders=True)


def _data_folders(dirs: UserDirs) -> list[Path]:
    moved = dirs.variable("JAN_DATA_FOLDER")
    folders = [] if moved is None else [moved]
    for base in (dirs.data / "Jan", dirs.data / "jan.ai.app", dirs.config / "Jan"):
        try:
            given = read_json(base / "settings.json", _SETTINGS_BYTES).get("data_folder")
        except OSError:  # Jan itself takes the default folder then
            continue
        folder = given_path(given, base)
        if folder is not None:
            folders.append(folder)
    folders += [dirs.data / "Jan" / "data", dirs.home / "jan"]
    return list(dict.fromkeys(folders))


def _is_description(path: Path) -> bool:
    return path.suffix in (".yml", ".yaml") or path.name == "model.json"


def _described(path: Path, models: Path, data: Path) -> Iterator[File]:
    """Yield what one description names."""
    own = path.parent if path.name in ("model.yml", "model.json") else path.with_suffix("")
    name = own.relative_to(models).as_posix() if own != models else path.stem
    try:
        given, projectors = _from_json(path) if path.suffix == ".json" else _from_yaml(path)
    except OSError as error:
        yield _trouble(path, name, f"cannot be read: {error.strerror or error}")
        return
    base = path.parent if path.suffix == ".json" else data
    companions: list[Path] = []
    for text in projectors:
        projector = _model_path(text, base)
        if projector is None:
            yield _trouble(path, name, f"names {plain_text(text, 100)!r} as its projector")
        else:
            companions.append(projector)
            yield File(projector, label=f"{name} (mmproj)")
    for number, text in enumerate(given):
        file = _model_path(text, base)
        if file is None:
            yield _trouble(path, name, f"names {plain_text(text, 100)!r} as its file")
        else:
            label = name if number == 0 else ""
            yield File(file, label=label, hint=name, companions=tuple(companions))


def _from_json(path: Path) -> tuple[list[str], list[str]]:
    """Return the files that an old description names; addresses of downloads are left out."""
    content = read_json(path, _DESCRIPTION_BYTES)
    sources = content.get("sources")
    found = []
    for source in sources[:100] if isinstance(sources, list) else []:
        text = source.get("filename") or source.get("url") if isinstance(source, dict) else source
        if isinstance(text, str) and "://" not in text and text.lower().endswith(".gguf"):
            found.append(text)
    # What lies beside the description is found without it.
    return [text for text in found if "/" in text or "\\" in text], []


def _from_yaml(path: Path) -> tuple[list[str], list[str]]:
    """Return the model files and the projectors that a description names."""
    text = read_bounded(path, _DESCRIPTION_BYTES).decode("utf-8", "replace")
    files: list[str] = []
    projectors: list[str] = []
    in_list = False
    for line in text.splitlines():
        entry = _ENTRY.fullmatch(line)
        item = _ITEM.fullmatch(line) if in_list and entry is None else None
        if item is not None:
            files.append(_scalar(item[1]))
            continue
        in_list = entry is not None and entry[1] == "files"
        value = _scalar(entry[2] or "") if entry is not None else ""
        if entry is not None and value:
            (projectors if entry[1] == "mmproj_path" else files).append(value)
    return files[:100], projectors[:1]


def _scalar(text: str) -> str:
    """Return a YAML value on one line; "" for null and for what it could not be."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if text.startswith('"'):
        try:
            value = json.loads(text)
        except ValueError:
            return ""
        return value if isinstance(value, str) else ""
    text = text.split(" #", 1)[0].rstrip()
    return "" if text in ("~", "null") or text[:1] in "&*!|>{[" else text


def _model_path(text: str, base: Path) -> Path | None:
    path = given_path(text, base)
    return path if path is not None and is_model_name(path) else None


def _trouble(path: Path, name: str, what: str) -> File:
    message = (
        f'Jan\'s description of "{plain_text(name, 100)}" {what}. It is '
        f"{plain_text(str(path), 200)}."
    )
    if what.startswith("names"):
        message += " That is no path of a .gguf file that may be followed from there."
    return File(path, label=name, error=UnreadableFileError(message, path=str(path)))


JAN: Final = Source("jan", "Jan", _find)
