"""What the trash knows of each thing in it: one small JSON file, and the files beside it.

Promises: what a record says is checked before it is believed (its files lie in its own folder, and
go back only into our models folder); files without a record that can be read are listed all the
same. Leaves to others: putting things in and out (`removing`).
"""

from __future__ import annotations

import contextlib
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.care.fetched import DownloadNote
from gguf_widgets.core.care.journal import read_json, write_json
from gguf_widgets.core.care.moves import Move
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["Record", "StoredFile", "TrashEntry", "entry_of", "read_record", "write_record"]

_FILE: Final = "record.json"


class StoredFile(msgspec.Struct, frozen=True):
    """One file: where it was, what it is called in its folder of the trash, its size in bytes.

    `note` is what is known of its download.
    """

    original: str
    stored: str
    kind: str
    size: int
    link: str | None = None
    note: DownloadNote | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in the trash.

    Attributes
    ----------
    name : str
        The model's.
    removed_at : float
        Seconds since 1970.
    files : list of StoredFile
    state : str
        "removing" and "restoring": `moves` are under way; "deleting": it is on its way out for
        good.
    moves : list of Move
    """

    version: int = 1
    name: str
    removed_at: float
    files: list[StoredFile]
    state: Literal["removing", "trashed", "restoring", "deleting"] = "trashed"
    moves: list[Move] = []


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """One thing in the trash, as it is shown.

    Attributes
    ----------
    id : str
        What `restore` and `empty_trash` take.
    name : str
    removed_at : float or None
        Seconds since 1970; None if its record is lost.
    size_bytes : int
        What emptying frees; a link takes next to nothing.
    files : tuple of StoredFile
        Those that are there.
    num_missing : int
        Files that the record names and that are not there.
    folder : Path
        Where the files are.
    is_link : bool
        It is only a link to a file elsewhere.
    """

    id: str
    name: str
    removed_at: float | None
    size_bytes: int
    files: tuple[StoredFile, ...]
    num_missing: int
    folder: Path
    is_link: bool

    @property
    def original(self) -> Path | None:
        """Where its first file was, or None if that is not known."""
        first = self.files[0].original if self.files else ""
        return Path(first) if first else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "id": self.id,
            "name": self.name,
            "removed_at": self.removed_at,
            "size_bytes": self.size_bytes,
            "original": None if self.original is None else str(self.original),
            "files": [
                {
                    "original": file.original,
                    "stored": file.stored,
                    "kind": file.kind,
                    "size": file.size,
                    "link": file.link,
                }
                for file in self.files
            ],
            "num_missing": self.num_missing,
            "folder": str(self.folder),
            "is_link": self.is_link,
        }

    def __str__(self) -> str:
        when = "some time ago"
        if self.removed_at is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.removed_at))
        what = "a link" if self.is_link else format_bytes(self.size_bytes)
        return f"{plain_text(self.name, 100)} ({what}, removed {when})"


def read_record(folder: Path) -> Record | None:
    """Return a folder's record if it is there and can be believed."""
    record = read_json(folder / _FILE, Record)
    if record is None or record.version != 1:
        return None
    if any(not _is_bare(file.stored) for file in record.files):
        return None
    return record


def write_record(folder: Path, record: Record) -> None:
    """Write a folder's record, replacing the one before in one go.

    Raises
    ------
    FileChangeError
        "space", "permission" or "write".
    """
    write_json(folder / _FILE, record)


def remove_record(folder: Path) -> None:
    """Remove a folder's record and the folder, if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f".{_FILE}.*.new"):
            path.unlink(missing_ok=True)
        (folder / _FILE).unlink(missing_ok=True)
        folder.rmdir()


def entry_of(folder: Path, record: Record | None) -> TrashEntry | None:
    """Return what is shown of a folder; None if there is nothing in it.

    Parameters
    ----------
    folder : Path
    record : Record or None
        None: the files speak for themselves, and are offered for our models folder.
    """
    present = _present(folder)
    if record is None:
        files = [
            StoredFile(str(config.models_dir() / name), name, "model", size, link)
            for name, (size, link) in sorted(present.items())
        ]
        name, removed_at, num_missing = (Path(files[0].stored).stem if files else ""), None, 0
    else:
        files = [
            msgspec.structs.replace(file, size=present[file.stored][0])
            for file in record.files
            if file.stored in present
        ]
        name, removed_at = record.name, record.removed_at
        num_missing = len(record.files) - len(files)
    if not files:
        return None
    return TrashEntry(
        id=folder.name,
        name=name,
        removed_at=removed_at,
        size_bytes=sum(file.size for file in files),
        files=tuple(files),
        num_missing=num_missing,
        folder=folder,
        is_link=all(present[file.stored][1] is not None for file in files),
    )


def _present(folder: Path) -> dict[str, tuple[int, str | None]]:
    """Return the files in a folder of the trash: size, and where a link leads."""
    found: dict[str, tuple[int, str | None]] = {}
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return found
    for name in names:
        if name == _FILE or name.startswith("."):
            continue
        with contextlib.suppress(OSError):
            status = (folder / name).lstat()
            if stat.S_ISLNK(status.st_mode):
                found[name] = (status.st_size, str((folder / name).readlink()))
            elif stat.S_ISREG(status.st_mode):
                # A file with other names, too, takes its room until the last of them goes.
                found[name] = (status.st_size, None)
    return found


def _is_bare(name: str) -> bool:
    return (
        bool(name)
        and name == Path(name).name
        and not name.startswith(".")
        and "/" not in name
        and "\\" not in name
        and name != _FILE
    )
