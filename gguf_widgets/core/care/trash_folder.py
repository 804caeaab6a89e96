"""The trash as a folder: what is in it, put right, found and deleted.

Promises: whatever a process that was killed has left half done is put right by whoever looks next,
with the lock held (`journal.locked`); nothing is deleted but what was asked to be. Leaves to
others: putting models in and out (`removing`), what one folder in it says of itself (`records`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.care.journal import heal_renames
from gguf_widgets.core.care.moves import PART_ENDING, Move, failed, undo
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.care.records import (
    TrashEntry,
    entry_of,
    read_record,
    remove_record,
    write_record,
)
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import plain_text

__all__ = ["delete", "entries_in", "find", "heal", "not_in_trash"]


def heal(folder: Path) -> None:
    """Put right whatever a process that was killed has left half done."""
    heal_renames(folder)
    for place in _places(folder):
        _sweep(place)
        record = read_record(place)
        if record is not None and record.state == "deleting":
            entry = entry_of(place, record)
            with contextlib.suppress(FileChangeError):  # tried again the next time
                if entry is not None:
                    delete(entry)
        elif record is not None and record.state in ("removing", "restoring"):
            moves = [move for move in record.moves if _is_believable(move, place)]
            undo(moves, target_is_ours=record.state == "removing")
            for target_folder in {Path(move.target).parent for move in moves}:
                _sweep(target_folder)
            # What could not be put back (its name has been taken meanwhile) stays in the trash.
            if entry_of(place, record) is not None:
                with contextlib.suppress(FileChangeError):
                    write_record(place, msgspec.structs.replace(record, state="trashed", moves=[]))
        if entry_of(place, read_record(place)) is None:
            _clear(place)
    _sweep(folder)


def entries_in(folder: Path) -> list[TrashEntry]:
    """Return what is in the trash and not under way, the latest first."""
    found = []
    for place in _places(folder):
        record = read_record(place)
        if record is not None and record.state != "trashed":
            continue  # somebody is at it just now
        entry = entry_of(place, record)
        if entry is not None:
            found.append(entry)
    # Of those whose record is lost nobody knows the time: last.
    return sorted(found, key=lambda entry: (entry.removed_at or 0.0, entry.id), reverse=True)


def find(entries: Sequence[TrashEntry], which: TrashEntry | str) -> TrashEntry:
    """Return the entry that is meant: by itself, its id, or a name that only one has.

    Raises
    ------
    FileChangeError
        "not_in_trash" or "ambiguous".
    """
    text = which.id if isinstance(which, TrashEntry) else which
    for entry in entries:
        if entry.id == text:
            return entry
    named = [entry for entry in entries if entry.name == text]
    named = named or [entry for entry in entries if entry.name.casefold() == text.casefold()]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(entry.id for entry in named[:10])
        raise FileChangeError(
            f'{len(named)} things in the trash are called "{plain_text(text, 100)}". Say which by '
            f"its id: {ids}.",
            problem="ambiguous",
            ids=[entry.id for entry in named],
        )
    raise not_in_trash(which, entries)


def not_in_trash(which: TrashEntry | str, entries: Sequence[TrashEntry]) -> FileChangeError:
    """Return the error for something that is not there, with what is."""
    text = which.id if isinstance(which, TrashEntry) else which
    inside = ", ".join(f'"{plain_text(entry.name, 60)}"' for entry in entries[:5])
    return FileChangeError(
        f'There is nothing called "{plain_text(text, 100)}" in the trash. '
        + (
            f"In it: {inside}{' and others' if len(entries) > 5 else ''}."
            if inside
            else "It is empty."
        ),
        problem="not_in_trash",
        which=text,
    )


def delete(entry: TrashEntry) -> None:
    """Delete one thing for good.

    Raises
    ------
    FileChangeError
        "permission" or "write": it is still there, or what is left of it.
    """
    record = read_record(entry.folder)
    if record is not None and record.state != "deleting":
        # So that what is half deleted is not offered again. A full disk must not stop it.
        with contextlib.suppress(FileChangeError):
            write_record(entry.folder, msgspec.structs.replace(record, state="deleting"))
    for file in entry.files:
        path = entry.folder / file.stored
        try:
            if stat.S_ISREG(path.lstat().st_mode) and os.name == "nt":
                path.chmod(stat.S_IWRITE)  # Windows keeps read-only files
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            if record is not None:
                with contextlib.suppress(FileChangeError):
                    write_record(entry.folder, msgspec.structs.replace(record, state="trashed"))
            raise failed(path, error) from error
    _clear(entry.folder)


def _is_believable(move: Move, place: Path) -> bool:
    """Say whether a move is between a folder of the trash and our models folder.

    A record is only a file, and what it says is done to whatever files it names.
    """
    sides = [Path(move.source), Path(move.target)]
    outside = [path for path in sides if path.parent != place]
    return len(outside) == 1 and all(owner_of(path).is_ours for path in outside)


def _clear(place: Path) -> None:
    """Remove a folder of the trash that has no model in it any more."""
    _sweep(place)
    remove_record(place)


def _sweep(folder: Path) -> None:
    """Remove half a copy and half a note, as a killed process leaves them."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f".*{PART_ENDING}"):
            left.unlink()
        if _is_in_trash(folder):
            for left in folder.glob(".*.new"):
                left.unlink()


def _is_in_trash(folder: Path) -> bool:
    return config.trash_dir() in (folder, folder.parent)


def _places(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [
                folder / entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return sorted(found, reverse=True)
