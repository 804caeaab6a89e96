"""The doctor's look at the folders, the models in them and the database.

Promises: nothing is made or changed; the database is opened for reading only. Leaves to others:
which folders there are (`config`), what is in them (`library`, `store`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from gguf_widgets.core import config
from gguf_widgets.core.doctor_findings import Finding
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.library import ModelEntry, ModelLibrary
from gguf_widgets.core.store.migrations import APPLICATION_ID, MIGRATIONS

__all__ = ["check_folders"]

_TOPIC = "Folders"
_LITTLE_DISK = 1_000_000_000


def check_folders() -> Iterator[Finding]:
    """Yield what there is to say about this program's files."""
    data = config.data_dir()
    yield _folder("data folder", data)
    yield _disk(data)
    yield _store(config.store_path())
    yield _folder("models folder", config.models_dir())
    for folder in config.extra_model_dirs():
        yield _extra_folder(folder)
    yield from _models()
    yield _folder("folder for sockets", config.runtime_dir())
    yield _folder("log folder", config.log_dir())


def _nearest(path: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _folder(name: str, path: Path) -> Finding:
    facts = {"path": str(path), "exists": path.is_dir()}
    there = _nearest(path)
    if not there.is_dir():
        return Finding(
            topic=_TOPIC,
            name=name,
            value=str(path),
            status="broken",
            advice=f"{there} is a file, and a folder is needed in its place. Move it away, or set "
            "GGUF_WIDGETS_HOME to another folder.",
            facts=facts,
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            topic=_TOPIC,
            name=name,
            value=str(path),
            status="broken",
            advice=f"You may not write to {there}. Change its rights, or set GGUF_WIDGETS_HOME to "
            "a folder of yours.",
            facts=facts,
        )
    note = "" if path.is_dir() else " (made when it is needed)"
    return Finding(topic=_TOPIC, name=name, value=f"{path}{note}", facts=facts)


def _disk(path: Path) -> Finding:
    try:
        free = shutil.disk_usage(_nearest(path)).free
    except OSError as error:
        return Finding(
            topic=_TOPIC,
            name="free disk space",
            value=f"unknown: {error.strerror or error}",
            status="hint",
            advice="The disk did not say how much room is left; it may be failing.",
        )
    little = free < _LITTLE_DISK
    return Finding(
        topic=_TOPIC,
        name="free disk space",
        value=format_bytes(free),
        status="hint" if little else "ok",
        advice="Little room is left for models and conversations. Remove files that you do not "
        "need."
        if little
        else "",
        facts={"free_bytes": free},
    )


def _store(path: Path) -> Finding:
    name = "conversations"
    if not path.exists():
        return Finding(topic=_TOPIC, name=name, value=f"{path} (made when it is needed)")

    def broken(value: str, advice: str) -> Finding:
        return Finding(
            topic=_TOPIC, name=name, value=f"{path}: {value}", status="broken", advice=advice
        )

    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        ) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            conversations = (
                connection.execute("SELECT count(*) FROM conversation").fetchone()[0]
                if version and application == APPLICATION_ID and health == "ok"
                else 0
            )
    except sqlite3.Error as error:
        return broken(
            str(error),
            "The database cannot be read. The next start keeps a copy of it and begins a new one.",
        )
    if application not in (0, APPLICATION_ID):
        return broken(
            "a database of another program",
            "Move it away, or set GGUF_WIDGETS_HOME to another folder.",
        )
    if version > len(MIGRATIONS):
        return broken(
            f"from a newer gguf-widgets (form {version}, known here: {len(MIGRATIONS)})",
            "Install the newer gguf-widgets, or set GGUF_WIDGETS_HOME to another folder.",
        )
    if health != "ok":
        return broken(
            f"damaged ({health})", "The next start keeps a copy of it and begins a new one."
        )
    size = format_bytes(path.stat().st_size)
    return Finding(
        topic=_TOPIC,
        name=name,
        value=f"{path} ({conversations} conversations, {size}, form {version})",
        facts={"path": str(path), "version": version, "conversations": conversations},
    )


def _extra_folder(path: Path) -> Finding:
    name = "more models"
    if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
        return Finding(topic=_TOPIC, name=name, value=str(path), facts={"path": str(path)})
    return Finding(
        topic=_TOPIC,
        name=name,
        value=str(path),
        status="hint",
        advice="This folder of GGUF_WIDGETS_MODELS is not there or may not be read.",
        facts={"path": str(path)},
    )


def _models() -> Iterator[Finding]:
    try:
        entries: list[ModelEntry] = ModelLibrary().entries()
    except (GgufWidgetsError, OSError) as error:
        yield Finding(
            topic=_TOPIC,
            name="models",
            value="cannot be listed",
            status="broken",
            advice=str(error),
        )
        return
    good = [entry for entry in entries if entry.error is None]
    yield Finding(
        topic=_TOPIC,
        name="models",
        value=", ".join(entry.name for entry in good) or "none",
        status="ok" if good else "broken",
        advice="" if good else "The demo model is missing too. Install gguf-widgets again.",
        facts={"usable": len(good), "unusable": len(entries) - len(good)},
    )
    for entry in entries:
        if entry.error is not None:
            yield Finding(
                topic=_TOPIC,
                name=f"model {entry.name}",
                value="cannot be used",
                status="hint",
                advice=entry.error.message,
                facts={"path": str(entry.path), "error": type(entry.error).__name__},
            )
