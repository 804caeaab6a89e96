"""What is said when something of an upload cannot be done, where several places say it.

Promises: each reason is one `UploadError` with its "problem"; what the disk says becomes one too.
Leaves to others: reasons that only one place has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from gguf_widgets.core.errors import GgufWidgetsError, RequestCancelledError, UploadError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.upload.folder import Record
from gguf_widgets.core.upload.limits import write_failed

__all__ = [
    "MAX_WRITE_BYTES",
    "check_piece",
    "gap",
    "interrupted",
    "not_now",
    "replaced",
    "told",
    "too_much",
    "unknown",
]

MAX_WRITE_BYTES: Final = 16 << 20


@contextlib.contextmanager
def told(name: str, offset: int) -> Iterator[None]:
    """Turn what the disk says into a sentence, and a stop into one as well."""
    try:
        yield
    except RequestCancelledError as error:
        raise UploadError(error.message, problem="cancelled") from error
    except GgufWidgetsError:  # some are an OSError, too
        raise
    except OSError as error:
        raise write_failed(name, offset, error) from error


def unknown(upload_id: str) -> UploadError:
    """Return what to tell of an upload that is not there."""
    return UploadError(
        "This upload is not known here any more: it was finished, cancelled or removed. Choose the"
        " file again.",
        problem="unknown",
        id=upload_id,
    )


def interrupted(record: Record) -> UploadError:
    """Return what to tell when whoever checked an upload has ended before the check."""
    return UploadError(
        f'The check of "{plain_text(record.name, 100)}" was interrupted: the program that did it'
        " has ended. All of it has arrived and is kept; go on to check it again.",
        problem="interrupted",
        id=record.id,
        offset=record.size,
    )


def check_piece(record: Record, offset: object, length: int, most: int) -> None:
    """Refuse a piece that cannot be one of this file, or is longer than `most`.

    Raises
    ------
    UploadError
        "piece" or "too_long".
    """
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0 or length < 1:
        raise UploadError(
            f"A piece of {length:,} bytes for byte {plain_text(repr(offset), 30)} cannot be: it"
            " must have a byte and a place. Reload the page, then try again.",
            problem="piece",
        )
    limit = min(most, record.size - offset)
    if length > limit:
        raise UploadError(
            f'A piece of {length:,} bytes at byte {offset:,} is too long: "'
            f'{plain_text(record.name, 100)}" has {record.size:,} bytes, and a piece at most'
            f" {MAX_WRITE_BYTES:,}. Choose the file again if it has grown.",
            problem="too_long",
            limit=max(0, limit),
            size=record.size,
        )


def gap(record: Record, offset: int, have: int) -> UploadError:
    """Return what to tell when something before a piece is missing."""
    return UploadError(
        f'A piece of "{plain_text(record.name, 100)}" is missing: the next byte is {have:,}, and'
        f" what came begins at {offset:,}. Go on at {have:,}.",
        problem="gap",
        offset=have,
    )


def not_now(record: Record, have: int, problem: str, words: str) -> UploadError:
    """Return what to tell when an upload may not be written at this moment."""
    return UploadError(
        f'"{plain_text(record.name, 100)}" {words}', problem=problem, offset=have, id=record.id
    )


def too_much(record: Record, have: int) -> UploadError:
    """Return what to tell of a part file that somebody else has written into."""
    return UploadError(
        f'What is kept of "{plain_text(record.name, 100)}" has {have:,} bytes, more than the file'
        f" ({record.size:,}): another program has written into it. Cancel it, then begin again.",
        problem="damaged",
        id=record.id,
    )


def replaced(record: Record) -> UploadError:
    """Return what to tell when a part file is not the one that was written."""
    return UploadError(
        f'What is kept of "{plain_text(record.name, 100)}" is not what has arrived: another program'
        " has removed it, or put something else in its place. Cancel it, then begin again.",
        problem="damaged",
        id=record.id,
    )
