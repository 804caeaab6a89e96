"""Who may write an upload: one page at a time, and what the others are told.

Promises: a writer that is gone (its process ended, it left, or it said nothing for `SILENCE_S`)
stops nobody; one that is there is named, and can be replaced by whoever insists; the one that was
replaced is told so at its next piece. Leaves to others: keeping it (`folder.Record`).

Times are read from the wall clock, because other processes and later ones have to understand them.
When it is set back, a writer's last word lies in the future: that counts as old, for a writer that
is there says something new within seconds.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from typing import Final

import msgspec

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.store.owners import is_alive
from gguf_widgets.core.upload.folder import Record
from gguf_widgets.core.upload.progress import UploadOwner

__all__ = [
    "SILENCE_S",
    "check_writer",
    "is_active",
    "is_here",
    "is_writer",
    "occupied",
    "owner_of",
    "since",
]

SILENCE_S: Final = 20.0
_CLOCK_TOLERANCE_S: Final = 5.0


def since(then: float) -> float:
    """Return the seconds since a moment; never less than 0, wherever the clock was moved."""
    return max(0.0, time.time() - then)


def is_active(record: Record) -> bool:
    """Return whether the writer is still there."""
    silence = time.time() - record.active_at
    return (
        record.status != "paused"
        and -_CLOCK_TOLERANCE_S <= silence < SILENCE_S
        and is_alive(msgspec.to_builtins(record.owner), record.active_at)
    )


def is_here(record: Record) -> bool:
    """Return whether the writer's page is one of this process."""
    return record.owner.host == platform.node() and record.owner.pid == os.getpid()


def owner_of(record: Record) -> UploadOwner | None:
    """Return who is writing, or None if nobody is."""
    if not is_active(record):
        return None
    return UploadOwner(
        label=record.label,
        host=record.owner.host,
        pid=record.owner.pid,
        is_this_process=is_here(record),
        active_s_ago=since(record.active_at),
    )


def is_writer(record: Record, writer: str | None) -> bool:
    """Return whether this is the writer's secret."""
    return bool(writer) and secrets.compare_digest(
        record.writer.encode(), str(writer).encode("utf-8", "replace")
    )


def check_writer(record: Record, writer: str | None) -> None:
    """Refuse whoever does not have the right to write.

    Raises
    ------
    UploadError
        "taken_over".
    """
    if is_writer(record, writer):
        return
    raise UploadError(
        f'"{plain_text(record.name, 100)}" is now uploaded by {_who(record)}, so this page has'
        " stopped. What has arrived is kept; choose the file again to go on here.",
        problem="taken_over",
        id=record.id,
        owner=msgspec.to_builtins(owner_of(record)),
    )


def occupied(record: Record, offset: int) -> UploadError:
    """Return what to tell a second page while the first is there."""
    return UploadError(
        f'"{plain_text(record.name, 100)}" is being uploaded by {_who(record)}, last heard of'
        f" {format_duration(since(record.active_at))} ago. Leave it to that one, or take over: what"
        " has arrived is kept.",
        problem="in_use",
        id=record.id,
        offset=offset,
        owner=msgspec.to_builtins(owner_of(record)),
    )


def _who(record: Record) -> str:
    label = f' ("{plain_text(record.label, 60)}")' if record.label else ""
    if record.owner.host != platform.node():
        return f"a page{label} of the machine {plain_text(record.owner.host, 60)}"
    if record.owner.pid == os.getpid():
        return f"another page{label}"
    return f"a page{label} of another program (process {record.owner.pid})"
