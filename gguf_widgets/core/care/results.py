"""What came of removing, restoring and emptying, for Python, JSON and a person.

Promises: plain data; as text, a few full sentences that say where things are now and how to undo
it. Leaves to others: doing it (`removing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_widgets.core.care.records import TrashEntry
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["EmptyResult", "RemoveResult", "RestoreResult"]


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """What a removal has done; as text, a few sentences.

    Attributes
    ----------
    entry : TrashEntry
        Where it is now; its `id` brings it back.
    notes : tuple of str
        What else the person should know.
    """

    entry: TrashEntry
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {"entry": self.entry.to_dict(), "notes": list(self.notes)}

    def __str__(self) -> str:
        name = plain_text(self.entry.name, 100)
        if self.entry.is_link:
            said = f'The link "{name}" is in the trash; the file that it leads to stays as it is.'
        else:
            size = format_bytes(self.entry.size_bytes)
            said = (
                f'"{name}" is in the trash ({size}). That room on the disk is free only when the '
                "trash is emptied."
            )
        return " ".join(
            [said, *self.notes, f'To have it back: "gguf-widgets restore {self.entry.id}".']
        )


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore has done; as text, a sentence or two.

    Attributes
    ----------
    name : str
    path : Path
        Its file now; of a split model the first part.
    files : tuple of Path
    notes : tuple of str
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "name": self.name,
            "path": str(self.path),
            "files": [str(path) for path in self.files],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        where = plain_text(str(self.path.parent), 200)
        return " ".join([f'"{plain_text(self.name, 100)}" is back in {where}.', *self.notes])


@dataclass(frozen=True, slots=True)
class EmptyResult:
    """What emptying the trash has done; as text, a sentence or two.

    Attributes
    ----------
    deleted : tuple of TrashEntry
    freed_bytes : int
        Of what was deleted; a file that has other names, or that a running model holds, takes its
        room until those are gone, too.
    kept : int
        How many things are still there.
    notes : tuple of str
        What could not be deleted, and why.
    """

    deleted: tuple[TrashEntry, ...]
    freed_bytes: int
    kept: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "deleted": [entry.to_dict() for entry in self.deleted],
            "freed_bytes": self.freed_bytes,
            "kept": self.kept,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        count = len(self.deleted)
        if count:
            what = "1 model was" if count == 1 else f"{count:,} models were"
            said = f"{what} deleted for good: {format_bytes(self.freed_bytes)} are free again."
        else:
            said = "Nothing was deleted."
        if self.kept:
            said += f" {self.kept:,} still in the trash."
        return " ".join([said, *self.notes])
