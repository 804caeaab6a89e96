"""The hidden folder of uploads inside the models folder: part files, their state, their locks.

::

    models/
      .uploads/             0700; the library looks into no hidden folder
        ID.part             what has arrived, from the file's first byte on
        ID.json             the `Record`
        ID.json.new         the same, being written
        ID.head/NAME        for milliseconds: the beginning, while it is judged (`judge`)
        begin.head/NAME     the same, before there is an upload
        begin.lock, 0.lock ... f.lock

Promises: a state file is whole or the one before (renamed into place); no link is followed below
the models folder, and nothing but plain files is opened; a lock that a killed process held is free
at once, because the system holds it. The models folder itself may be a link: where it is, is the
user's choice. Leaves to others: what may be done with an upload (`store`).

Locks are shared by the uploads whose identifiers begin alike, so that none ever has to be removed
(removing a lock that somebody waits for would let two in). They are held for milliseconds.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import filelock
import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.plain_files import sync_folder
from gguf_widgets.core.store.owners import Owner

__all__ = ["Record", "UploadFolder", "boot_mark", "check_id"]

_NAME: Final = ".uploads"
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LOCK_TIMEOUT_S: Final = 15.0
_MAX_RECORD_BYTES: Final = 1 << 16

_TRIES: Final = 30
_TRY_AGAIN_S: Final = 0.01
_T = TypeVar("_T")

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_PLAIN: Final = (
    _NO_FOLLOW
    | getattr(os, "O_NONBLOCK", 0)  # a named pipe must not make us wait
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOINHERIT", 0)
)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an upload, as it is kept.

    Attributes
    ----------
    version : int
    id, name, given_name, told : str
    size : int
    last_modified_ms : int or None
        What the browser said.
    head_sha256 : str
        Of the first 64 KiB.
    created_at, changed_at : float
        Seconds since 1970, UTC.
    status : str
        "receiving", "paused" or "checking".
    durable : int
        Everything before this byte has been handed to the disk itself.
    boot : str
        Since when the machine runs: after a crash of the machine only `durable` bytes are sure,
        after one of the process all that are in the file.
    kind : str
        What the header says it is; "" until it has been judged.
    notes : list of str
    looks_like : str
    writer : str
        Who may write: a secret that one page has.
    owner : Owner
        That page's server or kernel.
    label : str
    active_at : float
        When the writer was last heard of; 0 if it has left.
    """

    id: str
    name: str
    given_name: str
    told: str
    size: int
    last_modified_ms: int | None
    head_sha256: str
    created_at: float
    changed_at: float
    boot: str
    writer: str
    owner: Owner
    label: str
    active_at: float
    version: int = 1
    status: str = "receiving"
    durable: int = 0
    kind: str = ""
    notes: list[str] = []
    looks_like: str = ""


class UploadFolder:
    """The files of all uploads into one models folder.

    Parameters
    ----------
    models : Path
    """

    def __init__(self, models: Path) -> None:
        self.models = models
        self.path = models / _NAME

    def ensure(self) -> None:
        """Create the folders, and refuse a link in the place of the hidden one.

        Raises
        ------
        UploadError
            "folder".
        """
        try:
            config.ensure(self.models)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(0o700)
            self.is_there()
            self._keep_private()
        except OSError as error:
            raise UploadError(
                f"The models folder {plain_text(str(self.models), 200)} cannot be used:"
                f" {error.strerror or error}.",
                problem="folder",
                path=str(self.models),
            ) from error

    def is_there(self) -> bool:
        """Return whether the hidden folder exists, and refuse one that is no folder of its own."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return False
        # Windows' other kind of link: a junction looks like a folder to lstat.
        junction = getattr(os.path, "isjunction", lambda _: False)(self.path)
        if not stat.S_ISDIR(status.st_mode) or junction:
            raise UploadError(
                f"{plain_text(str(self.path), 200)} is not a folder but a link or a file, so"
                " nothing is uploaded. Remove it, then try again.",
                problem="folder",
                path=str(self.path),
            )
        return True

    def _keep_private(self) -> None:
        """Take the rights of others away from a hidden folder of ours that somebody has opened."""
        if os.name == "posix":
            status = self.path.lstat()
            if status.st_uid == os.geteuid() and status.st_mode & 0o077:
                self.path.chmod(0o700)

    @contextlib.contextmanager
    def lock(self, upload_id: str) -> Iterator[None]:
        """Hold the lock on one upload, against other threads and other processes."""
        with self._lock(f"{check_id(upload_id)[0]}.lock"):
            yield

    @contextlib.contextmanager
    def lock_names(self) -> Iterator[None]:
        """Hold the lock on beginning and naming; taken before an upload's own, never after."""
        with self._lock("begin.lock"):
            yield

    def ids(self) -> list[str]:
        """Return the identifiers of what is there, whole or not."""
        if not self.is_there():
            return []
        names = sorted(path.name for path in self.path.iterdir())
        found = [name.partition(".")[0] for name in names if name.endswith((".part", ".json"))]
        return list(dict.fromkeys(one for one in found if _ID.fullmatch(one)))

    def read(self, upload_id: str) -> Record | None:
        """Return an upload's state, or None if there is none.

        Raises
        ------
        UploadError
            "damaged": it cannot be understood.
        """
        path = self._path(upload_id, "json")
        if not self.is_there():
            return None
        try:
            descriptor = _patiently(lambda: _open(path, os.O_RDONLY))
        except FileNotFoundError:
            if self.part_size(upload_id) is None:
                return None
            raise self._damaged(upload_id) from None
        except OSError as error:
            raise self._damaged(upload_id) from error
        try:
            with os.fdopen(descriptor, "rb") as file:
                record = msgspec.json.decode(file.read(_MAX_RECORD_BYTES), type=Record)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._damaged(upload_id) from error
        if record.id != upload_id or record.version != 1 or record.size < 1:
            raise self._damaged(upload_id)
        return record

    def write(self, record: Record, *, sync: bool = True) -> None:
        """Replace an upload's state in one go.

        Raises
        ------
        OSError
        """
        new = self._path(record.id, "json.new")
        # Left by a process that was killed, or put there: it is not written through.
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        descriptor = _open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(record))
            file.flush()
            if sync:
                os.fsync(file.fileno())
        _patiently(lambda: new.replace(self._path(record.id, "json")))
        if sync:
            sync_folder(self.path)  # the names as well: of the state, and of a part that is new

    def open_part(self, upload_id: str, *, write: bool = False) -> int:
        """Open a part file and return its descriptor; for writing it is made if it is not there.

        Raises
        ------
        OSError
            Also if it is a link or no plain file.
        """
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        return _open(self.part_path(upload_id), flags, 0o666)

    def part_path(self, upload_id: str) -> Path:
        """Return where the part file is."""
        return self._path(upload_id, "part")

    def part_size(self, upload_id: str) -> int | None:
        """Return how many bytes are there, or None if there is no part file."""
        try:
            status = self.part_path(upload_id).lstat()
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def head_folder(self, upload_id: str | None) -> Path:
        """Return where the beginning is put while it is judged; None is before there is an upload.

        Each has one name, under its lock: what a killed process left is removed by the next one.
        """
        return self.path / "begin.head" if upload_id is None else self._path(upload_id, "head")

    def remove(self, upload_id: str) -> None:
        """Remove everything of an upload; what is gone already is fine.

        The state goes last: killed in between, this leaves an upload at its first byte.
        """
        shutil.rmtree(self.head_folder(upload_id), ignore_errors=True)
        for kind in ("part", "json.new", "json"):
            self._path(upload_id, kind).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes left that were killed as they began; the lock on names is held.

        Only what is no upload: there is neither a part nor a state beside it.
        """
        known = set(self.ids())
        for path in self.path.glob("*.json.new"):
            if path.name.partition(".")[0] not in known:
                path.unlink(missing_ok=True)

    def _path(self, upload_id: str, kind: str) -> Path:
        return self.path / f"{check_id(upload_id)}.{kind}"

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self.ensure()
        # Not a singleton and not thread-local: two threads of one process exclude each other too.
        held = filelock.FileLock(
            self.path / name, timeout=_LOCK_TIMEOUT_S, mode=0o600, thread_local=False
        )
        try:
            held.acquire(poll_interval=0.01)
        except filelock.Timeout as error:
            raise UploadError(
                f"Another program has been busy with the uploads for more than"
                f" {_LOCK_TIMEOUT_S:.0f} seconds. Try again in a moment.",
                problem="busy",
            ) from error
        except (OSError, NotImplementedError) as error:  # a file system without locks
            reason = getattr(error, "strerror", None) or error
            raise UploadError(
                f"The folder of uploads {plain_text(str(self.path), 200)} cannot be used:"
                f" {reason}.",
                problem="folder",
                path=str(self.path),
            ) from error
        try:
            yield
        finally:
            held.release()

    def _damaged(self, upload_id: str) -> UploadError:
        return UploadError(
            "What is kept about this upload cannot be read any more, so it cannot go on. Remove"
            " it, then upload the file again.",
            problem="damaged",
            id=upload_id,
        )


def check_id(upload_id: object) -> str:
    """Return an identifier if it is one: it becomes part of a path.

    Raises
    ------
    UploadError
        "unknown".
    """
    if isinstance(upload_id, str) and _ID.fullmatch(upload_id):
        return upload_id
    raise UploadError(
        f"There is no upload {plain_text(str(upload_id), 40)!r}. Choose the file again.",
        problem="unknown",
    )


@functools.lru_cache(maxsize=1)
def boot_mark() -> str:
    """Return a text that is another one after the machine has been started again.

    Where only the time of the start is known, setting the clock changes it as well: then bytes that
    were not surely on the disk are sent again, nothing worse.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        import psutil  # Late: 20 ms that few need.

        return f"{psutil.boot_time():.0f}"


def _patiently(action: Callable[[], _T]) -> _T:
    """Do it again for a moment where a file that is read just now cannot be replaced (Windows)."""
    for _ in range(_TRIES if os.name == "nt" else 0):
        try:
            return action()
        except PermissionError:
            time.sleep(_TRY_AGAIN_S)
    return action()


def _open(path: Path, flags: int, mode: int = 0o600) -> int:
    if not _NO_FOLLOW and path.is_symlink():
        raise OSError(f"{path.name} is a link")
    descriptor = os.open(path, flags | _PLAIN, mode)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(f"{path.name} is not a plain file")
