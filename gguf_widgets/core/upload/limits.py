"""How much may be uploaded: the size of a file, a quota, and what stays free on the disk.

Promises: a refusal says what is needed, what there is and what to do. Leaves to others: when to ask
(`store`: before the first byte, every 64 MiB, and when an upload goes on).
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.errors import InvalidValueError, UploadError
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["UploadLimits", "check_room", "check_size", "write_failed"]

# So that looking through a huge folder for the quota takes a bounded time.
_MAX_ENTRIES: Final = 100_000
# Our own notes about uploads.
_NOT_COUNTED: Final = (".json", ".json.new", ".lock")


class UploadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What may be uploaded.

    Parameters
    ----------
    max_file_bytes : int, default 1 TiB
        The largest file.
    leave_free_bytes : int, default 2,000,000,000
        What stays free on the disk of the models folder, for everybody else.
    quota_bytes : int or None, default None
        The most that the models folder may hold in all, uploads under way included. None is no
        quota.
    max_running : int, default 1
        How many uploads of one process may run at a time; the others wait in order.

    Raises
    ------
    InvalidValueError
        A limit that is negative, or a `max_running` below 1.
    """

    max_file_bytes: int = 1 << 40
    leave_free_bytes: int = 2_000_000_000
    quota_bytes: int | None = None
    max_running: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("max_file_bytes", 1),
            ("leave_free_bytes", 0),
            ("quota_bytes", 0),
            ("max_running", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InvalidValueError(f"{name} is {value}; it must be {least} or more.")


def check_size(name: str, size: object, limits: UploadLimits) -> int:
    """Return the size of a file to be uploaded, if it can be one.

    Raises
    ------
    UploadError
        "size": no whole number, nothing, or more than the limit.
    """
    shown = plain_text(name, 100)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise UploadError(
            f'The size of "{shown}" is given as {plain_text(repr(size), 40)}; it must be a whole'
            " number of bytes.",
            problem="size",
        )
    if size == 0:
        raise UploadError(f'"{shown}" is empty. Choose another file.', problem="size", size=0)
    if size > limits.max_file_bytes:
        raise UploadError(
            f'"{shown}" has {format_bytes(size)}; files of up to'
            f" {format_bytes(limits.max_file_bytes)} can be uploaded here. Copy it into the models"
            " folder in another way.",
            problem="size",
            size=size,
            limit=limits.max_file_bytes,
        )
    return size


def check_room(
    models: Path,
    name: str,
    *,
    arrived: int,
    missing: int,
    promised: int,
    limits: UploadLimits,
) -> None:
    """Refuse an upload for which there is no room.

    Parameters
    ----------
    models : Path
        The models folder.
    name : str
        For the message.
    arrived, missing : int
        Bytes that are there, and that have still to arrive.
    promised : int
        Bytes that are still to arrive of other uploads that run.
    limits : UploadLimits

    Raises
    ------
    UploadError
        "space" or "quota".
    """
    shown = plain_text(name, 100)
    then = "What has arrived is kept: make room, then go on." if arrived else "Make room first."
    more = "more " if arrived else ""
    free = shutil.disk_usage(models).free
    if free - limits.leave_free_bytes - promised < missing:
        others = f" {format_bytes(promised)} of it are for other uploads." if promised else ""
        raise UploadError(
            f'"{shown}" needs {format_bytes(missing)} {more}and the disk has'
            f" {format_bytes(free)} free, of which {format_bytes(limits.leave_free_bytes)} stay"
            f" free for other programs.{others} {then}",
            problem="space",
            needed_bytes=missing,
            free_bytes=free,
            leave_free_bytes=limits.leave_free_bytes,
        )
    if limits.quota_bytes is None:
        return
    held = _held_bytes(models)
    if held + promised + missing > limits.quota_bytes:
        raise UploadError(
            f'"{shown}" needs {format_bytes(missing)} {more}in the models folder, which may hold'
            f" {format_bytes(limits.quota_bytes)} and holds {format_bytes(held)}"
            f"{f', and {format_bytes(promised)} more are on their way' if promised else ''}."
            f" {then}",
            problem="quota",
            needed_bytes=missing,
            held_bytes=held,
            limit=limits.quota_bytes,
        )


def write_failed(name: str, offset: int, error: OSError) -> UploadError:
    """Return what to tell when the disk does not take any more; what arrived is kept."""
    shown, kept = plain_text(name, 100), format_bytes(offset)
    full = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    if error.errno in full and not offset:
        return UploadError(
            f'The disk is full, so "{shown}" cannot begin to arrive. Make room, then try again.',
            problem="space",
            offset=0,
        )
    if error.errno in full:
        return UploadError(
            f'The disk is full: "{shown}" stopped at {kept}, and these are kept. Make room, then'
            " go on.",
            problem="space",
            offset=offset,
        )
    if error.errno == errno.EFBIG:
        return UploadError(
            f'The disk of the models folder takes no file as large as "{shown}". Move the models'
            " folder to another disk.",
            problem="space",
            offset=offset,
        )
    return UploadError(
        f'"{shown}" could not be written: {error.strerror or error}. What has arrived is kept.',
        problem="disk",
        offset=offset,
    )


def _held_bytes(models: Path) -> int:
    """Add up the plain files below a folder, hidden ones too; links are not followed."""
    total, waiting, left = 0, [models], _MAX_ENTRIES
    while waiting and left > 0:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue  # gone, or not ours to look into: then it is not ours to count
        left -= len(entries)
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(status.st_mode):
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(status.st_mode) and not entry.name.endswith(_NOT_COUNTED):
                total += status.st_size
    return total
