"""Where the notebooks of this package are, in a clone and when installed.

Promises: `notebook_path` finds a notebook in both; `workspace` gives a folder that can be written
to, and never overwrites what a person has changed there. Leaves to others: opening them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import gguf_widgets
from gguf_widgets.core.config import data_dir, ensure
from gguf_widgets.core.errors import ServerStartError

__all__ = ["notebook_path", "source_folder", "workspace"]

# Digests of the notebooks as they were copied, to tell a person's edits from an older release.
_COPIED = ".copied.json"


def source_folder() -> Path:
    """Return the folder with the notebooks as they were shipped.

    In a wheel it is inside the package; in a clone it is ``notebooks`` beside the package.
    """
    package = Path(gguf_widgets.__file__).parent
    inside = package / "notebooks"
    return inside if inside.is_dir() else package.parent / "notebooks"


def notebook_path(name: str) -> Path:
    """Return the path of a shipped notebook, such as "dashboard.ipynb".

    Raises
    ------
    ServerStartError
        It is not there, which means that the installation is damaged.
    """
    path = source_folder() / name
    if not path.is_file():
        raise ServerStartError(
            f"The notebook {name} is missing from {path.parent}. "
            "Install gguf-widgets again: pip install --force-reinstall gguf-widgets",
            path=str(path),
        )
    return path


def workspace() -> Path:
    """Return the folder to open in JupyterLab: a clone's own, else a copy in the data folder."""
    source = source_folder()
    if source.parent != Path(gguf_widgets.__file__).parent and os.access(source, os.W_OK):
        return source
    return copy_notebooks(source, ensure(data_dir() / "notebooks"))


def copy_notebooks(source: Path, target: Path) -> Path:
    """Copy new and updated notebooks to `target`; a file that was changed there is left alone.

    A notebook that a person has changed and that a new release changed too stays as the person left
    it, and the new one is put beside it with ``.new`` in its name.
    """
    record = target / _COPIED
    try:
        copied: dict[str, str] = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        copied = {}
    for shipped in sorted(source.glob("*.ipynb")):
        digest = _digest(shipped)
        mine = target / shipped.name
        if copied.get(shipped.name) == digest:
            continue  # this release's copy was already made; deleted or changed, it is the person's
        if not mine.exists() or _digest(mine) == copied.get(shipped.name):
            shutil.copyfile(shipped, mine)
        elif _digest(mine) != digest:
            shutil.copyfile(shipped, mine.with_suffix(".new.ipynb"))
        copied[shipped.name] = digest
    record.write_text(json.dumps(copied, indent=1), "utf-8")
    return target


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
