"""The record of a download, kept with its file wherever that is renamed, removed or restored to.

Promises: a model that was fetched is still known as what it is at its source ("is it here already",
"is there a newer version", its hash) under any name that this program gives it, and when it comes
back from the trash; a record of a file that is not there any more is in nobody's way. Leaves to
others: what is in a record (`core.download.record`), the moves (`moves`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gguf_widgets.core.care.moves import Move, plan
from gguf_widgets.core.care.ownership import owner_of
from gguf_widgets.core.download.record import Place, Record, is_record_of, record_of
from gguf_widgets.core.errors import DownloadError

__all__ = ["DownloadNote", "note_of", "put_note", "record_moves", "remove_record_of"]


class DownloadNote(msgspec.Struct, frozen=True):
    """A record of a download, and the folder of models in which it was kept."""

    folder: str
    record: Record


def record_moves(pairs: Iterable[tuple[Path, Path]]) -> list[Move]:
    """Return the moves that bring records along with files that get other names in their folder.

    Parameters
    ----------
    pairs : iterable of (Path, Path)
        What each file is called and will be called; the new names are free.

    Raises
    ------
    DownloadError, FileChangeError
        A record cannot be looked at, or a stale one not be removed.
    """
    moves = []
    for source, target in pairs:
        found = record_of(source)
        if found is None:
            continue
        place = found[0]
        place.keep_record()
        new = Place(place.folder, target).record_path
        move = plan(place.record_path, new)
        if not move.is_same_name:
            # Nothing has that name, so this one is left over from a file that was taken away.
            with contextlib.suppress(OSError):  # then it is said that it is in the way
                new.unlink(missing_ok=True)
        moves.append(move)
    return moves


def note_of(path: Path) -> DownloadNote | None:
    """Return what is known of where a file was fetched from; None if it was not, or has changed."""
    found = record_of(path)
    return DownloadNote(str(found[0].folder), found[1]) if found is not None else None


def remove_record_of(path: Path, note: DownloadNote) -> None:
    """Remove the record of a file that has gone to the trash, where a note of it is kept."""
    with contextlib.suppress(OSError, ValueError):  # a record without a file counts for nothing
        Place(Path(note.folder), path).record_path.unlink(missing_ok=True)


def put_note(path: Path, note: DownloadNote) -> bool:
    """Make a note the record of a file again; return whether it is.

    Parameters
    ----------
    path : Path
        In our models folder.
    note : DownloadNote
    """
    folder = Path(note.folder)
    # A note is only a file: it does not lead out of the models folder.
    if folder not in path.parents or not owner_of(folder / path.name).is_ours:
        folder = path.parent
    try:
        if not is_record_of(note.record, path.stat()):
            return False
        place = Place(folder, path)
        place.make()
        place.write(note.record)
    except (DownloadError, OSError):
        return False
    return True
