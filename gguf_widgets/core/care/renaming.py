"""Giving a model another name: all its files, or none.

Promises: only files in our own models folder; every part, the companion and the checksums that
carry its name follow it, and so do the record of its download, its hash, and the program's note of
the model that was loaded last. Leaves
to others: what is a good name (`names`), the moving (`moves`, `journal`). Conversations keep the
name that the model had when it answered: they tell what was, not what is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_widgets.core.care.fetched import record_moves
from gguf_widgets.core.care.in_use import in_use_sentence, refuse_if_loaded
from gguf_widgets.core.care.journal import carry_out_safely, heal_renames, locked
from gguf_widgets.core.care.members import model_files
from gguf_widgets.core.care.moves import Move, plan, refuse_taken
from gguf_widgets.core.care.names import checked_stem, with_number
from gguf_widgets.core.care.ownership import refuse_foreign
from gguf_widgets.core.errors import DownloadError, FileChangeError, StoreError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library import ModelEntry
from gguf_widgets.core.library.hashes import Followed
from gguf_widgets.core.preferences import LAST_MODEL, Preferences

__all__ = ["RenameResult", "free_stem", "rename"]


@dataclass(frozen=True, slots=True)
class RenameResult:
    """What a rename has done; as text, a sentence or two.

    Attributes
    ----------
    old_name, new_name : str
    path : Path
        The model's file now; of a split model the first part.
    files : tuple of (Path, Path)
        What each file was called and is called.
    notes : tuple of str
        What else the person should know.
    """

    old_name: str
    new_name: str
    path: Path
    files: tuple[tuple[Path, Path], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "old_name": self.old_name,
            "new_name": self.new_name,
            "path": str(self.path),
            "files": [{"from": str(old), "to": str(new)} for old, new in self.files],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        more = f" ({len(self.files)} files)" if len(self.files) > 1 else ""
        said = (
            f'"{plain_text(self.old_name, 100)}" is now called '
            f'"{plain_text(self.new_name, 100)}"{more}.'
        )
        return " ".join([said, *self.notes])


def rename(
    model: ModelEntry | str | os.PathLike[str], new_name: str, *, confirm: bool = False
) -> RenameResult:
    """Give a model another name.

    Parameters
    ----------
    model : ModelEntry, str or path-like
        A name from the list, or a path.
    new_name : str
        Without or with ".gguf". It stays in its folder.
    confirm : bool, default False
        Rename it although it is loaded.

    Raises
    ------
    FileChangeError
        `problem` is "name", "foreign", "taken" (with a `suggestion`), "permission", "space", "busy"
        or what `moves.carry_out` raises.
    ModelInUseError
        It is loaded, and that was not confirmed.
    ModelFileError
        There is no such model.

    Examples
    --------
    >>> rename("Qwen2.5-0.5B-Instruct-Q8_0", "small helper").new_name  # doctest: +SKIP
    'small helper'
    """
    stem = checked_stem(new_name)
    files = model_files(model)
    refuse_foreign(files.parts[0], "renamed", model)
    if stem == files.stem:
        raise FileChangeError(
            f'It is called "{plain_text(stem, 100)}" already.', problem="same", name=stem
        )
    holders = refuse_if_loaded(files, "renamed", confirm=confirm)
    with locked() as folder:
        heal_renames(folder)
        files = model_files(files.parts[0])  # another process may have been at work meanwhile
        pairs = files.renamed(stem)
        moves = [plan(source, target) for source, target in pairs]
        try:
            refuse_taken(moves)
            hashes = Followed([source for source, _ in pairs])
            carry_out_safely(folder, [*moves, *_moves_of_records(pairs)])
            hashes.arrived([target for _, target in pairs])
        except FileChangeError as error:
            if error.details.get("problem") == "taken":
                error.details["suggestion"] = free_stem(files.folder, stem)
            raise
    notes = []
    if holders:
        notes.append(
            f"It is still loaded under its old name ({in_use_sentence(holders)}), which goes on "
            "working until it is unloaded; loading it by its new name takes memory a second time."
        )
    if files.missing:
        notes.append(_missing(len(files.missing)))
    notes += _follow(dict(pairs))
    return RenameResult(files.stem, stem, pairs[0][1], tuple(pairs), tuple(notes))


def free_stem(folder: Path, stem: str) -> str:
    """Return a name like this one that no file in the folder has.

    Parameters
    ----------
    folder : Path
    stem : str
    """
    try:
        taken = {path.name.casefold() for path in folder.iterdir()}
    except OSError:
        taken = set()
    for number in range(2, 1000):
        candidate = with_number(stem, number)
        begin = candidate.casefold()
        if not any(name.startswith((f"{begin}.", f"{begin}-0")) for name in taken):
            return candidate
    return with_number(stem, 1000)


def _moves_of_records(pairs: list[tuple[Path, Path]]) -> list[Move]:
    try:
        return record_moves(pairs)
    except DownloadError as error:
        raise FileChangeError(error.message, problem="write") from error


def _missing(count: int) -> str:
    these = "1 part of it is" if count == 1 else f"{count} parts of it are"
    return f"{these} not in its folder, so it cannot be loaded."


def _follow(pairs: dict[Path, Path]) -> list[str]:
    """Bring the note of the last model up to date; it is a convenience, so it never fails."""

    def change(last: Any) -> Any:
        old = last.get("path") if isinstance(last, dict) else None
        new = pairs.get(Path(old)) if isinstance(old, str) else None
        return last if new is None else {**last, "path": str(new)}

    try:
        preferences = Preferences()
        last = preferences.get(LAST_MODEL)
        if isinstance(last, dict) and change(last) != last:
            preferences.update(LAST_MODEL, change)
    except StoreError as error:
        return [f"The dashboard may not find it by itself the next time: {error.message}"]
    return []
