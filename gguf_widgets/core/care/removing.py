"""Removing a model so that it can be had back, and emptying the trash.

Promises: `remove` moves files and deletes none; `restore` brings them back, to their old name or
another; only `empty_trash` deletes, and only what it is asked to. A process that is killed at any
moment leaves each file in one place or the other, and the next look at the trash puts things right.
What is known of a model's download and its hash goes along.
Leaves to others: the moves (`moves`, `journal`), the records (`records`), whose files these are
(`ownership`).

A link in our folder to a file elsewhere is removed as a link: the file stays where it is.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.care.fetched import note_of, put_note, remove_record_of
from gguf_widgets.core.care.in_use import in_use_sentence, refuse_if_loaded
from gguf_widgets.core.care.journal import locked, new_id
from gguf_widgets.core.care.members import Member, ModelFiles, model_files, with_stem
from gguf_widgets.core.care.moves import Move, carry_out, failed, plan, refuse_taken, undo
from gguf_widgets.core.care.names import checked_stem
from gguf_widgets.core.care.ownership import owner_of, refuse_foreign
from gguf_widgets.core.care.progress import Cancelled, OnProgress, Watch
from gguf_widgets.core.care.records import (
    Record,
    StoredFile,
    TrashEntry,
    entry_of,
    read_record,
    remove_record,
    write_record,
)
from gguf_widgets.core.care.renaming import free_stem
from gguf_widgets.core.care.results import EmptyResult, RemoveResult, RestoreResult
from gguf_widgets.core.care.trash_folder import delete, entries_in, find, heal, not_in_trash
from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.library.hashes import Followed
from gguf_widgets.core.plain_files import sync_folder

__all__ = [
    "EmptyResult",
    "RemoveResult",
    "RestoreResult",
    "empty_trash",
    "remove",
    "restore",
    "trash",
]


def remove(
    model: ModelEntry | str | os.PathLike[str],
    *,
    confirm: bool = False,
    on_progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> RemoveResult:
    """Move a model to the trash: all its parts, its companion, its checksums.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        A name from the list, or a path. A file that cannot be used can be removed, too.
    confirm : bool, default False
        Remove it although it is loaded. A running model goes on (its file stays on the disk until
        it is unloaded, except on Windows, where the file cannot be moved before); it cannot be
        loaded again.
    on_progress : callable, optional
        Called with a `Progress` if the trash is on another disk, so that it has to be copied.
    cancelled : callable, optional
        Asked between two pieces of such a copy; True takes everything back.

    Raises
    ------
    FileChangeError
        `problem` is "foreign" (it belongs to another program; the message says how it is removed
        there), "permission", "space", "busy", "in_use", "cancelled" or what `moves.carry_out`
        raises.
    ModelInUseError
        It is loaded, and that was not confirmed.
    ModelFileError
        There is no such model.
    """
    files = model_files(model)
    refuse_foreign(files.parts[0], "removed", model)
    holders = refuse_if_loaded(files, "removed", confirm=confirm)
    with locked() as folder:
        heal(folder)
        files = model_files(files.parts[0])  # another process may have been at work meanwhile
        entry = _put(folder, files, on_progress, cancelled)
    notes = []
    if holders:
        notes.append(
            f"It is still loaded ({in_use_sentence(holders)}): that goes on working until it is "
            "unloaded, and cannot be started again."
        )
    if files.missing:
        notes.append(f"{len(files.missing)} of its parts were not in its folder.")
    return RemoveResult(entry, tuple(notes))


def trash() -> list[TrashEntry]:
    """Return what is in the trash, the latest first.

    What a killed process left half done is put right on the way. While another process is moving
    files, what it is moving just now is left out.
    """
    folder = config.trash_dir()
    if not folder.is_dir():
        return []
    try:
        with locked(0.0):
            heal(folder)
    except FileChangeError as error:
        # Somebody is at work, or we may only read: what is settled can be listed all the same.
        if error.details.get("problem") not in ("busy", "permission", "space", "write"):
            raise
    return entries_in(folder)


def restore(
    which: TrashEntry | str,
    new_name: str | None = None,
    *,
    on_progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> RestoreResult:
    """Bring a model back from the trash.

    Parameters
    ----------
    which : TrashEntry or str
        From `trash`, or its id, or its name if only one has it.
    new_name : str, optional
        Another name than it had.
    on_progress, cancelled : callable, optional
        As for `remove`.

    Raises
    ------
    FileChangeError
        `problem` is "not_in_trash", "ambiguous", "taken" (its name is in use again; `suggestion` is
        one that is free), "name", "permission", "space", "busy", "cancelled" or what
        `moves.carry_out` raises.
    """
    stem = None if new_name is None else checked_stem(new_name)
    if not config.trash_dir().is_dir():
        raise not_in_trash(which, [])
    with locked() as folder:
        heal(folder)
        entry = find(entries_in(folder), which)
        record = read_record(entry.folder)
        targets, notes = _targets(entry, stem)
        for target_folder in {target.parent for target in targets}:
            try:
                config.ensure(target_folder)
            except OSError as error:
                raise failed(target_folder, error) from error
        moves = [
            plan(entry.folder / file.stored, target)
            for file, target in zip(entry.files, targets, strict=True)
        ]
        try:
            refuse_taken(moves)
            hashes = Followed([Path(move.source) for move in moves])
            base = record if record is not None else _record_of(entry)
            write_record(
                entry.folder, msgspec.structs.replace(base, state="restoring", moves=moves)
            )
            try:
                carry_out(moves, _watch(moves, on_progress, cancelled))
                for file, target in zip(entry.files, targets, strict=True):
                    if file.note is not None and not put_note(target, file.note):
                        notes.append("Where it was downloaded from could not be noted again.")
                # From here on it is restored: a record that cannot be removed must not undo it.
                write_record(
                    entry.folder, msgspec.structs.replace(base, state="deleting", moves=[])
                )
            except BaseException:
                undo(moves)  # of what went well before a record that could not be written
                with contextlib.suppress(FileChangeError):  # else the next look does it
                    write_record(
                        entry.folder, msgspec.structs.replace(base, state="trashed", moves=[])
                    )
                raise
        except FileChangeError as error:
            if error.details.get("problem") == "taken":
                first = targets[0]
                suggestion = free_stem(first.parent, stem or entry.name)
                error.details["suggestion"] = suggestion
                error.message += f' "{suggestion}" is free.'
                error.args = (error.message,)
            raise
        hashes.arrived(targets)
        remove_record(entry.folder)
    if entry.num_missing:
        notes.append(f"{entry.num_missing} of its files are lost.")
    return RestoreResult(stem or entry.name, targets[0], tuple(targets), tuple(notes))


def empty_trash(
    *, older_than: float | dt.timedelta | None = None, ids: Iterable[str] | None = None
) -> EmptyResult:
    """Delete what is in the trash, for good.

    Parameters
    ----------
    older_than : float or timedelta, optional
        Only what was removed that many seconds ago or more. What was removed in the future, by a
        clock that has been set back since, is kept, and so is what nobody knows the time of.
    ids : iterable of str, optional
        Only these.

    Raises
    ------
    FileChangeError
        `problem` is "not_in_trash" (one of the ids; nothing is deleted), "busy" or "permission".
    """
    if not config.trash_dir().is_dir():
        if ids is not None and (wanted := list(ids)):
            raise not_in_trash(wanted[0], [])
        return EmptyResult((), 0, 0)
    with locked() as folder:
        heal(folder)
        entries = entries_in(folder)
        chosen = entries if ids is None else [find(entries, name) for name in dict.fromkeys(ids)]
        if older_than is not None:
            limit = (
                older_than.total_seconds() if isinstance(older_than, dt.timedelta) else older_than
            )
            now = time.time()
            chosen = [
                entry
                for entry in chosen
                if entry.removed_at is not None and now - entry.removed_at >= limit >= 0
            ]
        deleted, notes = [], []
        for entry in chosen:
            try:
                delete(entry)
            except FileChangeError as error:
                notes.append(f'"{plain_text(entry.name, 100)}" is not deleted: {error.message}')
            else:
                deleted.append(entry)
        kept = len(entries_in(folder))
    return EmptyResult(
        tuple(deleted), sum(entry.size_bytes for entry in deleted), kept, tuple(notes)
    )


# --- inside: all of it with the lock held ---


def _put(
    folder: Path, files: ModelFiles, on_progress: OnProgress | None, cancelled: Cancelled | None
) -> TrashEntry:
    place = folder / new_id()
    moves = [plan(member.path, place / member.path.name) for member in files.members]
    record = Record(
        name=files.stem,
        removed_at=time.time(),
        files=[_stored(m, move) for m, move in zip(files.members, moves, strict=True)],
        state="removing",
        moves=moves,
    )
    try:
        place.mkdir(mode=0o700)
    except OSError as error:
        raise failed(place, error) from error
    # Before anything goes into it: without its name all of that would be lost with the power.
    sync_folder(folder)
    hashes = Followed([member.path for member in files.members])
    try:
        write_record(place, record)
        carry_out(moves, _watch(moves, on_progress, cancelled))
        write_record(place, msgspec.structs.replace(record, state="trashed", moves=[]))
    except BaseException:
        # Once more, for a record that could not be written behind moves that went well.
        if not undo(moves, target_is_ours=True):
            remove_record(place)
        raise
    hashes.arrived([Path(move.target) for move in moves])
    for file in record.files:
        if file.note is not None:
            remove_record_of(Path(file.original), file.note)
    entry = entry_of(place, read_record(place))
    if entry is None:  # somebody took it out of the trash in this very moment
        raise FileChangeError(
            f'"{plain_text(files.stem, 100)}" has disappeared from the trash.', problem="missing"
        )
    return entry


def _stored(member: Member, move: Move) -> StoredFile:
    return StoredFile(
        original=str(member.path),
        stored=member.path.name,
        kind=member.kind,
        size=member.size,
        link=move.link,
        note=note_of(member.path) if move.link is None else None,
    )


def _record_of(entry: TrashEntry) -> Record:
    return Record(name=entry.name, removed_at=time.time(), files=list(entry.files))


def _watch(
    moves: Sequence[Move], on_progress: OnProgress | None, cancelled: Cancelled | None
) -> Watch:
    total = sum(move.size for move in moves)
    return Watch("copy", total, on_progress=on_progress, cancelled=cancelled)


def _targets(entry: TrashEntry, stem: str | None) -> tuple[list[Path], list[str]]:
    """Return where each file goes, and what there is to say about it."""
    targets, notes = [], []
    first = entry.original
    folder = first.parent if first is not None else config.models_dir()
    # A record is only a file: what it says does not lead out of our models folder.
    if first is None or not owner_of(first).is_ours:
        folder = config.models_dir()
        if first is not None:
            notes.append("The folder that it came from is not one of this program's any more.")
    if entry.removed_at is None:
        notes.append("The note of where it came from is lost.")
    for file in entry.files:
        name = file.stored
        if stem is not None:
            changed = with_stem(name, entry.name, stem)
            if changed is None:
                raise FileChangeError(
                    f'"{plain_text(name, 100)}" cannot be given another name while it is brought '
                    "back. Bring it back first, then rename it.",
                    problem="name",
                )
            name = changed
        targets.append(folder / name)
    return targets, notes
