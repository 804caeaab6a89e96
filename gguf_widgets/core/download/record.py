"""What is known of a file that is arriving or has arrived, kept beside it.

Promises: a file in the making lies in a hidden folder, under a name that is no model's, until it is
whole; its record says of what it is a part, so that it is never continued with something else; a
record that cannot be read is as good as none. Leaves to others: when to write one (`transfer`,
`whole_model`).

In the folder of the models there is a hidden one (``.downloads``, which no search for models looks
into), and in it for each file ``name.gguf``:

=====================  ============================================================
``name.gguf.json``     the record; it stays, and says where the model came from
``name.gguf.part``     what has arrived so far
``name.gguf``          whole and with the right checksum, waiting for its other parts
=====================  ============================================================
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.config import ensure
from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = [
    "Checksum",
    "Place",
    "Record",
    "disk_error",
    "folders_of_places",
    "no_space",
    "records_in",
    "sync_folder",
]

_FOLDER: Final = ".downloads"
_VERSION: Final = 1
_LONGEST_RECORD: Final = 1 << 16
_MOST_FOLDERS: Final = 10_000


class Checksum(msgspec.Struct, frozen=True):
    """What a file's bytes must come to.

    Attributes
    ----------
    kind : {"sha256", "git-sha1"}
        The second is what the hub has for a file that it keeps without LFS.
    value : str
        In lower-case hexadecimal digits.
    """

    kind: str
    value: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one file.

    Attributes
    ----------
    version : int
    name : str
        What it was asked for by; of an address without its query.
    identity : str
        What tells it from any other file, and from another state of the same.
    etag, last_modified : str
        As the server said, to continue only with the same; "" if it did not say.
    size : int or None
        As announced.
    checksum : Checksum or None
        As announced, or counted while it arrived.
    revision, license : str
        Of the repository.
    synced_bytes : int
        So many are on the disk for sure, even if the machine lost its power.
    boot_time : float
        When the machine was started by which this was written.
    mtime_ns : int
        Of the finished file; 0 before that.
    """

    version: int = _VERSION
    name: str = ""
    identity: str = ""
    etag: str = ""
    last_modified: str = ""
    size: int | None = None
    checksum: Checksum | None = None
    revision: str = ""
    license: str = ""
    synced_bytes: int = 0
    boot_time: float = 0.0
    mtime_ns: int = 0


class Place:
    """Where one file goes, and where it lies until then.

    Parameters
    ----------
    folder : Path
        Of the models.
    final : Path
        Inside it.
    """

    def __init__(self, folder: Path, final: Path) -> None:
        self.final = final
        inside = folder / _FOLDER / final.relative_to(folder)
        self.whole = inside
        self.part = inside.with_name(inside.name + ".part")
        self._record = inside.with_name(inside.name + ".json")

    @property
    def name(self) -> str:
        """The file's name."""
        return self.final.name

    def make(self) -> None:
        """Create the folders."""
        try:
            ensure(self.whole.parent)
            ensure(self.final.parent)
        except OSError as error:
            raise disk_error(error, self.final) from error

    def read(self) -> Record:
        """Return the record; an empty one if there is none that can be used."""
        try:
            with self._record.open("rb") as file:
                data = file.read(_LONGEST_RECORD + 1)
            record = msgspec.json.decode(data, type=Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return Record()
        return record if record.version == _VERSION else Record()

    def write(self, record: Record) -> None:
        """Keep a record; whoever reads meanwhile sees the old or the new one."""
        temporary = self._record.with_name(f"{self._record.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._record)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise disk_error(error, self.final) from error

    def bytes_there(self) -> int:
        """Return how much of it lies in the hidden folder, whole or in part."""
        for path in (self.whole, self.part):
            with contextlib.suppress(OSError):
                return path.stat().st_size
        return 0

    def forget(self) -> None:
        """Remove what has arrived: it is of no use."""
        for path in (self.whole, self.part):
            path.unlink(missing_ok=True)

    def settle(self, record: Record) -> None:
        """Move the whole file to where it belongs, and write down that it is there."""
        try:
            self.whole.replace(self.final)
            sync_folder(self.final.parent)
            self.write(msgspec.structs.replace(record, mtime_ns=self.final.stat().st_mtime_ns))
        except OSError as error:
            raise disk_error(error, self.final) from error


def records_in(folder: Path) -> Iterator[tuple[Record, Path]]:
    """Yield the records of files that are finished in a folder, and have not been changed since."""
    try:
        names = sorted(path.name for path in (folder / _FOLDER).glob("*.gguf.json"))
    except OSError:
        return
    for name in names:
        place = Place(folder, folder / name.removesuffix(".json"))
        record = place.read()
        with contextlib.suppress(OSError):  # it was removed, or renamed
            if record.mtime_ns and place.final.stat().st_mtime_ns == record.mtime_ns:
                yield record, place.final


def folders_of_places(folder: Path) -> list[Path]:
    """Return the hidden folders of downloads in a folder and below; a bounded number of them."""
    found = []
    for number, (root, folders, _) in enumerate(os.walk(folder)):
        if _FOLDER in folders:
            found.append(Path(root, _FOLDER))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if number >= _MOST_FOLDERS:
            break
    return found


def sync_folder(folder: Path) -> None:
    """Have a renaming in a folder reach the disk, where the system knows such a thing."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: OSError, path: Path) -> DownloadError:
    """Return the error for a disk or folder that does not take a file."""
    import errno

    folder = plain_text(str(path.parent), 200)
    name = plain_text(path.name, 100)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full:
        message = (
            f'The disk is full, so "{name}" could not be written to {folder}. Free some space; '
            "what had arrived is kept, and the download goes on from there."
        )
    elif error.errno == errno.EFBIG:
        message = (
            f"The disk of {folder} does not take a file as large as that. Choose another folder."
        )
    else:
        message = (
            f'"{name}" cannot be written to {folder}: {error.strerror or error}. Check the '
            "permissions of the folder, or choose another one."
        )
    return DownloadError(message, problem="no_space" if full else "disk", path=str(path))


def no_space(folder: Path, needed_bytes: int, free_bytes: int) -> DownloadError:
    """Return the error for a disk that is too small for what is to come."""
    return DownloadError(
        f"This download needs {format_bytes(needed_bytes)} and {format_bytes(free_bytes)} is free "
        f"on the disk of {plain_text(str(folder), 200)}. Free some space, or choose another "
        "folder.",
        problem="no_space",
        needed_bytes=needed_bytes,
        free_bytes=free_bytes,
    )
