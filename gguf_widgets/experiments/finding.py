"""The model of a record on this machine: where it was, elsewhere, or another file in its place.

Promises: the very file that was recorded is preferred, wherever the library has it; where there is
only another one in its place or under its name, that one is used and what differs is said; where
there is none it is said what is missing and what can be done. A path that a record names is opened
only if it is a plain ``.gguf`` file on this machine. Leaves to others: loading (`replay_models`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.batch.spec import identity_of
from gguf_widgets.core.errors import GgufWidgetsError, ModelNotFoundError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.library import DEMO_NAME, ModelLibrary
from gguf_widgets.core.record.model_file import digest_of_file
from gguf_widgets.core.record.tried import tried
from gguf_widgets.experiments.values import ModelRecord

__all__ = ["Found", "find", "local_file"]

_NETWORK: Final = ("\\\\", "//")  # to open such a path sends a person's name to that machine


class Found(NamedTuple):
    """Where a model is.

    Attributes
    ----------
    path : Path
    is_same : bool
        Whether it is the recorded file, as far as that can be told without reading all of it.
    note : str
        What a person should know of it: a sentence, or "".
    """

    path: Path
    is_same: bool
    note: str = ""


def find(record: ModelRecord, library: ModelLibrary) -> Found:
    """Return where the model is.

    Raises
    ------
    ModelNotFoundError
        It is not here, and neither is another under its name.
    """
    there = _local(record.path)
    if record.backend == "scripted":
        return Found(library.resolve(DEMO_NAME), is_same=True)
    if there is not None and _is_same(there, record):
        return Found(there, is_same=True)
    name = _called(record)
    for path in _candidates(record, library):
        if _is_same(path, record):
            return Found(path, is_same=True, note=f"The model {name} was found at {_shown(path)}.")
    if there is not None:
        return Found(there, is_same=False, note=f"The file of {name} has changed since.")
    other = tried(library.resolve, record.name)
    if other is not None:
        note = f"The file of {name} is gone; {_shown(other)} is used, which is another one."
        return Found(other, is_same=False, note=note)
    raise ModelNotFoundError(
        f"The model {name} ({format_bytes(record.size_bytes)}) is not on this machine: it was at "
        f"{_shown(record.path)}. Put the file back or add its folder with add_folder(), or choose "
        "another model to replay with (model=, or --model).",
        path=record.path,
        name=record.name,
    )


def local_file(path: str, what: str) -> str:
    """Return a companion's path if it can be used.

    Raises
    ------
    ModelNotFoundError
    """
    found = _local(path)
    if found is None:
        raise ModelNotFoundError(
            f"The {what} {_shown(path)} is not on this machine. Put the file back, or say what is "
            "to be loaded instead (load=).",
            path=path,
        )
    return str(found)


def _local(path: str) -> Path | None:
    """Return a path of a record if it is a model file here; opening it must cost nothing."""
    if path.startswith(_NETWORK) or "\0" in path or not path.lower().endswith(".gguf"):
        # Ollama's files have no ending: the library knows those.
        return None
    found = Path(path)
    try:
        return found if found.is_absolute() and found.is_file() else None
    except OSError:
        return None


def _candidates(record: ModelRecord, library: ModelLibrary) -> list[Path]:
    """Return the library's files that could be the recorded one, the likeliest first."""
    try:
        entries = [entry for entry in library.entries() if entry.info is not None]
    except GgufWidgetsError:
        return []
    sized = [one for one in entries if one.info and one.info.size_bytes == record.size_bytes]
    own = [one for one in sized if record.sha256 and one.known_sha256 == record.sha256]
    return [one.path for one in [*own, *(one for one in sized if one not in own)]]


def _is_same(path: Path, record: ModelRecord) -> bool:
    if record.header is not None and tried(identity_of, path) != record.header:
        return False
    if record.model is not None:
        return bool(tried(digest_of_file, str(path)) == record.model)
    return record.header is not None


def _called(record: ModelRecord) -> str:
    return f"“{plain_text(record.name)}”"


def _shown(path: str | os.PathLike[str]) -> str:
    return plain_text(os.fspath(path), 200)
