"""What is known of a file that is arriving or has arrived, kept beside it.

Promises: a file in the making lies in a hidden folder, under a name that is no model's, until it is
whole; its record says of what it is a part, so that it is never continued with something else; a
record that cannot be read is as good as none. Leaves to others: when to write one (`transfer`,
`whole_model`).

In the folder of the models there is a hidden one (``.downloads``, which no search for models looks
into), and in it for each file ``name.gguf``:

=======================  ==========================================================
``name.gguf.json``       the record of the file that is there: where it came from.
                         It stays, and goes along when the file is renamed or
                         removed and restored (`core.care`)
``name.gguf.part``       what has arrived so far of a file that is to be there
``name.gguf``            whole and with the right checksum, waiting for its name
``name.gguf.part.json``  the record of what is arriving
=======================  ==========================================================

Two records, so that a model that is here stays known while another version of it arrives.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

from gguf_widgets.core.config import ensure
from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.plain_files import give_name, read_bounded, sync_folder

__all__ = [
    "LEFT_FREE_BYTES",
    "Checksum",
    "Place",
    "Record",
    "Seen",
    "boot_id",
    "disk_error",
    "folders_of_places",
    "is_record_of",
    "no_space",
    "record_of",
    "records_in",
    "was_written_since_the_start",
]

_FOLDER: Final = ".downloads"
_VERSION: Final = 1
_LONGEST_RECORD: Final = 1 << 16
_MOST_FOLDERS: Final = 10_000
_DEEPEST: Final = 10  # a repository's paths have eight parts at most

# The time of the machine's start, as it is counted, moves a little when its clock is set.
_SAME_START_S: Final = 5.0

Seen = tuple[int, int, int]
"""What tells a file from another one, and from another state of itself."""

LEFT_FREE_BYTES: Final = 100_000_000
"""Left free on the disk for everybody else."""


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
    boot_id : str
        The name of that start where the system gives one (Linux): a clock may be wrong or set.
    mtime_ns : int
        Of the finished file; 0 before that.
    file : str
        What the finished file was called at first: it may be renamed later.
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
    boot_id: str = ""
    mtime_ns: int = 0
    file: str = ""


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
        self.folder = folder
        inside = folder / _FOLDER / final.relative_to(folder)
        self.whole = inside
        self.part = inside.with_name(inside.name + ".part")
        self.record_path = inside.with_name(inside.name + ".json")
        self._arriving = inside.with_name(inside.name + ".part.json")

    @property
    def name(self) -> str:
        """The file's name."""
        return self.final.name

    def make(self) -> None:
        """Create the folders.

        Raises
        ------
        DownloadError
            ``problem`` is "disk".
        """
        hidden = self.folder / _FOLDER
        if hidden.is_symlink():
            raise DownloadError(
                f"{plain_text(str(hidden), 200)} is a link, and what is fetched is not written to "
                "where it leads. Remove the link, then try again.",
                problem="disk",
                path=str(hidden),
            )
        try:
            ensure(self.whole.parent)
            ensure(self.final.parent)
        except OSError as error:
            raise disk_error(error, self.final) from error

    def read(self) -> Record:
        """Return the record of the file that is there; an empty one if there is none to be used."""
        settled = _load(self.record_path)
        if self._is_of(settled):
            return settled
        # Whoever was killed after the file had got its name left only this one.
        arrived = _load(self._arriving)
        return arrived if self._is_of(arrived) else settled

    def own(self) -> Record:
        """Return its record if the file is there as it was fetched; else an empty one."""
        record = self.read()
        return record if self._is_of(record) else Record()

    def write(self, record: Record) -> None:
        """Keep the record of the file that is there."""
        self._save(self.record_path, record)

    def keep_record(self) -> None:
        """Put the record in its place where whoever gave the file its name did not get to it."""
        if not self._is_of(_load(self.record_path)):
            arrived = _load(self._arriving)
            if self._is_of(arrived):
                self.write(arrived)
                with contextlib.suppress(OSError):
                    self._arriving.unlink(missing_ok=True)

    def read_arriving(self) -> Record:
        """Return the record of what is arriving; an empty one if there is none to be used."""
        return _load(self._arriving)

    def write_arriving(self, record: Record) -> None:
        """Keep the record of what is arriving."""
        self._save(self._arriving, record)

    def bytes_there(self) -> int:
        """Return how much of it lies in the hidden folder, whole or in part."""
        for path in (self.whole, self.part):
            with contextlib.suppress(OSError):
                return path.stat().st_size
        return 0

    def forget(self) -> None:
        """Remove what has arrived: it is of no use."""
        for path in (self.whole, self.part, self._arriving):
            path.unlink(missing_ok=True)

    def seen(self) -> Seen | None:
        """Return what tells the file that is there now from any other; None if there is none."""
        try:
            status = self.final.lstat()
        except OSError:
            return None
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def settle(self, record: Record, *, instead_of: Seen | None = None) -> None:
        """Move the whole file to where it belongs, and write down that it is there.

        Parameters
        ----------
        record : Record
        instead_of : Seen, optional
            The file that it may replace. Nothing else is written over.

        Raises
        ------
        DownloadError
            ``problem`` is "name_taken": another file has come there meanwhile; or "disk".
        """
        try:
            status = self.whole.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != record.size:
                raise DownloadError(
                    f'"{plain_text(self.name, 100)}" was changed by another program after it had '
                    "arrived. Ask for it again.",
                    problem="disk",
                    path=str(self.whole),
                )
            before = _load(self.record_path)  # where it replaces one that was renamed
            called = before.file if before.identity == record.identity else ""
            record = msgspec.structs.replace(
                record, mtime_ns=status.st_mtime_ns, file=called or self.name
            )
            # First, so that it is known also if this process is killed behind the next line.
            self.write_arriving(record)
            if instead_of is not None and self.seen() == instead_of:
                self.whole.replace(self.final)
            else:
                give_name(self.whole, self.final)
            sync_folder(self.final.parent)
            self.write(record)
            self._arriving.unlink(missing_ok=True)
        except FileExistsError as error:
            raise DownloadError(
                f'Another file called "{plain_text(self.name, 100)}" has come to '
                f"{plain_text(str(self.final.parent), 200)} meanwhile. Rename it and ask for this "
                "one again: it has arrived, and will only be given its name.",
                problem="name_taken",
                path=str(self.final),
            ) from error
        except OSError as error:
            raise disk_error(error, self.final) from error

    def _is_of(self, record: Record) -> bool:
        """Say whether a record is that of the file that is there."""
        try:
            status = self.final.stat()
        except (OSError, ValueError):
            return False
        return is_record_of(record, status)

    def _save(self, path: Path, record: Record) -> None:
        # One name for all, since whoever writes holds the model's lock: nothing piles up.
        temporary = path.with_name(f"{path.name}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise disk_error(error, self.final) from error


def boot_id() -> str:
    """Return the name of this start of the machine; "" where the system gives none."""
    try:
        return read_bounded(Path("/proc/sys/kernel/random/boot_id"), 100).decode().strip()
    except (OSError, ValueError):
        return ""


def was_written_since_the_start(record: Record) -> bool:
    """Say whether the machine is sure not to have been restarted since a record was written."""
    if record.boot_id or boot_id():
        return record.boot_id == boot_id()
    return abs(record.boot_time - psutil.boot_time()) <= _SAME_START_S


def is_record_of(record: Record, status: os.stat_result) -> bool:
    """Say whether a record is that of a file of this state."""
    return bool(record.mtime_ns) and (record.mtime_ns, record.size) == (
        status.st_mtime_ns,
        status.st_size,
    )


def record_of(path: Path) -> tuple[Place, Record] | None:
    """Return the record of a file, wherever above it that is kept; None if it was not fetched.

    Parameters
    ----------
    path : Path
        Absolute.
    """
    for number, folder in enumerate(path.parents):
        if number >= _DEEPEST:
            break
        if (folder / _FOLDER).is_dir():
            place = Place(folder, path)
            record = place.read()
            with contextlib.suppress(OSError, ValueError):
                if is_record_of(record, path.stat()):
                    return place, record
    return None


def records_in(folder: Path) -> Iterator[tuple[Record, Path]]:
    """Yield the records of files that are in a folder or below, and have not been changed since."""
    hidden = folder / _FOLDER
    seen: set[Path] = set()
    for number, (root, folders, names) in enumerate(os.walk(hidden)):
        folders.sort()
        inside = Path(root).relative_to(hidden)
        for name in sorted(names):
            stem = name.removesuffix(".json").removesuffix(".part")
            final = folder / inside / stem
            if not name.endswith(".json") or not stem.endswith(".gguf") or final in seen:
                continue
            seen.add(final)
            place = Place(folder, final)
            record = place.read()
            with contextlib.suppress(OSError):  # it was removed, or renamed by somebody else
                if is_record_of(record, final.stat()):
                    yield record, final
        if number >= _MOST_FOLDERS:
            break


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


def _load(path: Path) -> Record:
    try:
        record = msgspec.json.decode(read_bounded(path, _LONGEST_RECORD), type=Record)
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return Record()
    return record if record.version == _VERSION else Record()


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
