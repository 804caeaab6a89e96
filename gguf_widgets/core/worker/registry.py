"""Which workers run on this machine for this user: one small file each, and the locks.

Promises: an entry is whole or not there (it is renamed into place); a lock left by a killed process
is free again at once, because the system holds it and not the file; an entry whose process is gone
is never reported. Leaves to others: talking to a worker (`client`), starting one (`attach`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec
import psutil

from gguf_widgets.core import config
from gguf_widgets.core.errors import WorkerStartError
from gguf_widgets.core.types import LoadSettings
from gguf_widgets.core.worker import endpoint
from gguf_widgets.core.worker.endpoint import Address

__all__ = [
    "Entry",
    "as_leaving",
    "clear_away",
    "entry_path",
    "is_alive",
    "list_processes",
    "list_workers",
    "lock",
    "matching",
    "process_of",
    "read",
    "remove",
    "sweep",
    "with_effective",
    "write",
]

# Only finding and starting happen under the lock, never the loading, so this is ample.
_LOCK_TIMEOUT_S = 90.0

# A socket without an entry is of a worker that was killed as it began, if it is older than this.
_ORPHAN_S = 3600.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One worker.

    `host` is the machine it runs on: a home folder may be shared by several, or by containers.
    `requested` is what was asked for (None is "choose"); `effective` is None until it has loaded.
    `started_at` is in seconds since 1970. A worker that is `leaving` takes nobody in any more; its
    entry stays until its memory is free.
    """

    name: str
    host: str
    pid: int
    started_at: float
    protocol_version: int
    package_version: str
    identity: str
    model_path: str
    backend: str
    requested: LoadSettings
    effective: LoadSettings | None
    address: Address
    log_path: str
    leaving: bool = False


def entry_path(name: str) -> Path:
    """Return where the entry of this worker is kept."""
    return config.runtime_dir() / f"{name}.json"


def write(entry: Entry) -> None:
    """Write an entry, replacing the one of the same name in one go."""
    folder = endpoint.private_folder()
    temporary = folder / f"{entry.name}.json.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(entry))
    temporary.replace(folder / f"{entry.name}.json")


def read(name: str) -> Entry | None:
    """Return the entry of this name, or None if there is none that can be read."""
    try:
        return msgspec.json.decode(entry_path(name).read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # not there (any more), or written by a version with other fields


def with_effective(entry: Entry, effective: LoadSettings) -> Entry:
    """Return the entry with the settings that the loading ended up with."""
    return msgspec.structs.replace(entry, effective=effective)


def as_leaving(entry: Entry) -> Entry:
    """Return the entry of a worker that has begun to end."""
    return msgspec.structs.replace(entry, leaving=True)


def remove(entry: Entry) -> None:
    """Remove an entry and its socket; files that are gone already are fine."""
    with contextlib.suppress(FileNotFoundError):
        entry_path(entry.name).unlink()
    endpoint.remove_files(entry.address)


def clear_away(folder: Path, name: str) -> None:
    """Remove whatever a worker that is dead has left in the folder; gone already is fine."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)


def list_workers() -> list[Entry]:
    """Return the entries of this machine's workers that can be joined, oldest first.

    They are alive, and not about to leave.
    """
    return [entry for entry in list_processes() if not entry.leaving]


def list_processes() -> list[Entry]:
    """Return the entries of this machine's workers, also of those that are leaving, oldest first.

    An entry whose process is gone is removed on the way. Another machine's workers cannot be looked
    at, nor reached, from here: their entries are left alone.
    """
    try:
        names = sorted(path.stem for path in config.runtime_dir().glob("*.json"))
    except OSError:
        return []
    entries = [entry for name in names if (entry := read(name)) is not None]
    alive = []
    for entry in (entry for entry in entries if entry.host == platform.node()):
        if is_alive(entry):
            alive.append(entry)
        else:
            remove(entry)
    return sorted(alive, key=lambda entry: entry.started_at)


def sweep() -> None:
    """Remove what workers that were killed as they began have left behind."""
    folder = config.runtime_dir()
    with contextlib.suppress(OSError):  # another process may be sweeping as well
        for path in folder.iterdir():
            name = path.name.partition(".")[0]
            left = path.suffix in (".sock", ".secret", ".new") and not entry_path(name).exists()
            if left and time.time() - path.stat().st_mtime > _ORPHAN_S:
                path.unlink()


def matching(identity: str, requested: LoadSettings) -> list[Entry]:
    """Return the living workers that hold this file with settings that suit the request.

    A setting suits if both asked for the same, or if the request names the value that the worker
    ended up with. A request for "choose" is not met by a value that somebody else insisted on: it
    could be far from what would be chosen.
    """
    return [
        entry for entry in list_workers() if entry.identity == identity and _suits(entry, requested)
    ]


def _suits(entry: Entry, requested: LoadSettings) -> bool:
    for name, value in requested.to_dict().items():
        if name == "chat_template" or getattr(entry.requested, name) == value:
            continue
        if value is None or entry.effective is None or getattr(entry.effective, name) != value:
            return False
    return True


def is_alive(entry: Entry) -> bool:
    """Return whether the worker's process exists and is the same one."""
    return process_of(entry) is not None


def process_of(entry: Entry) -> psutil.Process | None:
    """Return the worker's process, or None if it is gone, whoever has its number now."""
    # The name is drawn at random for each worker and stands in its command line; a process's start
    # time would do as well if setting the clock did not move it. A zombie has no command line.
    try:
        process = psutil.Process(entry.pid)
        return process if f"--name={entry.name}" in process.cmdline() else None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return None  # another user's process has taken the number


@contextlib.contextmanager
def lock(identity: str) -> Iterator[None]:
    """Hold the machine-wide lock on finding and starting workers for one file.

    Raises
    ------
    WorkerStartError
        If somebody else has held it for too long.
    """
    folder = endpoint.private_folder()
    # Not a singleton and not thread-local: two threads of one process exclude each other as well.
    held = filelock.FileLock(
        folder / f"{identity}.lock", timeout=_LOCK_TIMEOUT_S, mode=0o600, thread_local=False
    )
    try:
        held.acquire(poll_interval=0.02)
    except filelock.Timeout as error:
        raise WorkerStartError(
            "Another program has been starting this model for more than "
            f"{_LOCK_TIMEOUT_S:.0f} seconds. Try again; if that does not help, restart the "
            "notebooks that use this model."
        ) from error
    try:
        yield
    finally:
        held.release()
