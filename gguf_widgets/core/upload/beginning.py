"""How an upload begins: a new one, or the one of the same file that stopped earlier.

Promises: everything that can be refused is refused here, before a byte is sent; of two pages that
begin the same file at the same moment, one begins and the other is told. Leaves to others: writing
(`store`).
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from pathlib import Path
from typing import Final, Self

import msgspec

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.store.owners import this_process
from gguf_widgets.core.upload import finishing, rights
from gguf_widgets.core.upload.finishing import HEAD_BYTES
from gguf_widgets.core.upload.folder import Record, boot_mark
from gguf_widgets.core.upload.judge import Verdict, judge
from gguf_widgets.core.upload.limits import UploadLimits, check_size
from gguf_widgets.core.upload.messages import told, too_much, unknown
from gguf_widgets.core.upload.names import CleanName, clean_name
from gguf_widgets.core.upload.progress import Upload
from gguf_widgets.core.upload.shelf import Shelf

__all__ = ["Asked", "begin"]

# Each is looked at when another begins; nobody has so many files on their way.
_MAX_UPLOADS: Final = 500
# How much is sent again after a resume, to see that it is the same file.
_OVERLAP_BYTES: Final = HEAD_BYTES
_MAX_LABEL: Final = 100
# The largest whole number of JavaScript's.
_MAX_TIME_MS: Final = (1 << 53) - 1


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a page asked for, checked; the parameters of `UploadStore.begin`."""

    given_name: str
    cleaned: CleanName
    is_renamed: bool
    size: int
    head: bytes
    head_sha256: str
    last_modified_ms: int | None
    writer: str | None
    take_over: bool
    label: str

    @classmethod
    def of(
        cls,
        name: str,
        size: int,
        head: bytes,
        *,
        last_modified_ms: int | None,
        save_as: str | None,
        writer: str | None,
        take_over: bool,
        label: str,
        limits: UploadLimits,
    ) -> Self:
        """Check what does not need the disk.

        Raises
        ------
        UploadError
            "name", "size", "head" or "time".
        """
        size = check_size(str(name), size, limits)
        cleaned = clean_name(name)  # it is kept as well, so it must be a name, too
        if save_as is not None:
            cleaned = clean_name(save_as)
        wanted = min(size, HEAD_BYTES)
        if not isinstance(head, bytes | bytearray | memoryview) or len(head) != wanted:
            raise UploadError(
                f'The beginning of "{plain_text(cleaned.name, 100)}" has to come with the first'
                f" {wanted:,} bytes. Reload the page, then try again.",
                problem="head",
                needed_bytes=wanted,
            )
        head = bytes(head)
        if last_modified_ms is not None and (
            not isinstance(last_modified_ms, int) or abs(last_modified_ms) > _MAX_TIME_MS
        ):
            raise UploadError(
                f'The time of "{plain_text(cleaned.name, 100)}" is given as'
                f" {plain_text(repr(last_modified_ms), 40)}; it must be whole milliseconds since"
                " 1970. Reload the page, then try again.",
                problem="time",
            )
        return cls(
            given_name=_storable(str(name)),
            cleaned=CleanName(cleaned.name, _storable(cleaned.told)),
            is_renamed=save_as is not None,
            size=size,
            head=head,
            head_sha256=hashlib.sha256(head).hexdigest(),
            last_modified_ms=last_modified_ms,
            writer=writer,
            take_over=take_over,
            label=plain_text(str(label), _MAX_LABEL),
        )

    def is_of(self, record: Record) -> bool:
        """Return whether an upload is of the same file, as far as these four can tell."""
        mine = (self.given_name, self.size, self.last_modified_ms, self.head_sha256)
        return mine == (
            record.given_name,
            record.size,
            record.last_modified_ms,
            record.head_sha256,
        )


def begin(shelf: Shelf, asked: Asked) -> Upload:
    """Begin an upload, or go on with one of the same file; see `UploadStore.begin`."""
    name = asked.cleaned.name
    with told(name, 0), shelf.folder.lock_names():
        shelf.folder.sweep()
        found = _find(shelf, asked)
        if found is not None:
            return _go_on(shelf, found, asked)
        if len(shelf.folder.ids()) >= _MAX_UPLOADS:
            raise UploadError(
                f"{_MAX_UPLOADS} uploads are unfinished already, which is the most. Finish or"
                " remove some of them first.",
                problem="too_many",
                limit=_MAX_UPLOADS,
            )
        models, upload_id = shelf.folder.models, secrets.token_hex(16)
        scratch = shelf.folder.head_folder(None)
        verdict = judge(scratch, models / name, [asked.head], len(asked.head), asked.size)
        like = finishing.find_like(models, asked.size, asked.head)
        there = finishing.already_taken(models, name)
        # One of the same size and beginning may be the same: the whole of it will tell.
        if there is not None and there != like:
            raise finishing.taken_error(models, name, there)
        shelf.check_room(upload_id, name, asked.size)
        record = _new(upload_id, asked, verdict, like)
        try:
            # The state first: killed in between, this is an upload at its first byte.
            shelf.folder.write(record)
            part = shelf.part(record)
            part.judge_at = 2 * HEAD_BYTES
            part.size()  # makes the file
            part.close()  # many may wait for their turn
        except OSError:
            with contextlib.suppress(UploadError):  # the disk's first word counts
                shelf.remove(upload_id)
            raise
    shelf.hear(upload_id)
    return shelf.describe(record, 0, writer=record.writer)


def _new(upload_id: str, asked: Asked, verdict: Verdict | None, like: Path | None) -> Record:
    now = time.time()
    notes = list(verdict.notes) if verdict else []
    if like is not None:
        notes.append(
            f'"{plain_text(like.name, 100)}" in the models folder has the same size and the same'
            " beginning, so this may be the same file. When all of it has arrived, it is compared."
        )
    return Record(
        id=upload_id,
        name=asked.cleaned.name,
        given_name=asked.given_name,
        told=asked.cleaned.told,
        size=asked.size,
        last_modified_ms=asked.last_modified_ms,
        head_sha256=asked.head_sha256,
        created_at=now,
        changed_at=now,
        boot=boot_mark(),
        writer=secrets.token_urlsafe(18),
        owner=this_process(),
        label=asked.label,
        active_at=now,
        kind=verdict.kind if verdict else "",
        notes=notes,
        looks_like=like.name if like else "",
    )


def _find(shelf: Shelf, asked: Asked) -> Record | None:
    for upload_id in shelf.folder.ids():
        try:
            record = shelf.load(upload_id)
        except UploadError as error:
            if error.details.get("problem") != "damaged":
                raise
            continue  # it is listed, and can be removed there
        if record is not None and asked.is_of(record):
            return record
    return None


def _go_on(shelf: Shelf, found: Record, asked: Asked) -> Upload:
    """Give an upload that was begun to a page that has the same file."""
    with shelf.folder.lock(found.id):
        record = shelf.load(found.id)
        if record is None:  # finished since it was found
            raise unknown(found.id)
        is_own = rights.is_writer(record, asked.writer)
        part = shelf.part(record)
        have = part.size()
        if have > record.size:
            raise too_much(record, have)
        if not is_own and not asked.take_over and rights.is_active(record):
            raise rights.occupied(record, have)
        if is_own and record.id in shelf.finishing:
            return shelf.describe(record, have, writer=record.writer)
        shelf.stop_finishing(record.id)
        part.compare(0, memoryview(asked.head)[: min(have, len(asked.head))], record.name)
        shelf.check_room(record.id, record.name, record.size - have)
        names = {"name": asked.cleaned.name, "told": asked.cleaned.told}
        record = shelf.save(
            record,
            part,
            status="receiving",
            writer=record.writer if is_own else secrets.token_urlsafe(18),
            label=asked.label,
            active_at=time.time(),
            **(names if asked.is_renamed else {}),
        )
        part.close()
        part.hash.catch_up(have)
    shelf.note_failed(record.id, None)
    shelf.hear(record.id)
    again = max(0, have - _OVERLAP_BYTES)
    return shelf.describe(record, have, writer=record.writer, send_from=again)


def _storable(text: str) -> str:
    """Return a text that can be written as UTF-8: a browser may send half a letter."""
    return text.encode("utf-8", "replace").decode()
