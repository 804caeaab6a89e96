"""Uploads into the models folder: begun, written, paused, finished, found again.

Promises: what arrived is never lost by a dropped connection, a closed page or a process that was
killed, and never sent twice for more than the last pieces; one writer at a time; a file that is no
use is refused as soon as its beginning shows it; nothing that exists is written over; a part is
removed only when somebody says so, when its file is refused, or when it turns out to be there
already, and each time that is told. All calls may come from any thread; they touch the disk, so a
server's loop calls them in a thread. Leaves to others: the ways in which bytes arrive (`session`
over comms, the dashboard's handler over HTTP).

The package's docstring has the protocol, the reasons for a refusal and what survives which crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.errors import GgufWidgetsError, UploadError, to_wire
from gguf_widgets.core.upload import beginning, ending, rights
from gguf_widgets.core.upload.beginning import Asked
from gguf_widgets.core.upload.folder import Record, check_id
from gguf_widgets.core.upload.limits import UploadLimits, write_failed
from gguf_widgets.core.upload.messages import (
    MAX_WRITE_BYTES,
    check_piece,
    gap,
    not_now,
    told,
    too_much,
    unknown,
)
from gguf_widgets.core.upload.part import OpenPart
from gguf_widgets.core.upload.progress import Upload
from gguf_widgets.core.upload.shelf import HEARD_S, Shelf

__all__ = ["UploadStore"]

# How often what arrived is handed to the disk, and the room looked at again.
_SYNC_BYTES: Final = 64 << 20


class UploadStore:
    """The uploads into one models folder.

    Parameters
    ----------
    models : Path, optional
        Default: the user's own models folder.
    limits : UploadLimits, optional

    Examples
    --------
    >>> store = UploadStore()  # doctest: +SKIP
    >>> head = data[:65536]  # doctest: +SKIP
    >>> upload = store.begin("model.gguf", len(data), head)  # doctest: +SKIP
    >>> store.write(upload.id, 0, data, writer=upload.writer)  # doctest: +SKIP
    >>> store.finish(upload.id, writer=upload.writer).path  # doctest: +SKIP
    """

    def __init__(self, models: Path | None = None, *, limits: UploadLimits | None = None) -> None:
        self.limits = limits or UploadLimits()
        self._shelf = Shelf(config.models_dir() if models is None else models, self.limits)

    @property
    def models(self) -> Path:
        """The folder into which files are uploaded."""
        return self._shelf.folder.models

    @property
    def mark(self) -> str:
        """What two stores have in common only if they write to the same folder of one machine.

        A digest, for telling whether a server's folder is that of a notebook: it names no path.
        """
        place = f"{platform.node()}\0{os.path.realpath(self.models)}"
        data = b"uploads of gguf-widgets\0" + place.encode("utf-8", "surrogateescape")
        return hashlib.sha256(data).hexdigest()[:32]

    # --- beginning ------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        size: int,
        head: bytes,
        *,
        last_modified_ms: int | None = None,
        save_as: str | None = None,
        writer: str | None = None,
        take_over: bool = False,
        label: str = "",
    ) -> Upload:
        """Begin an upload, or go on with one of the same file where it stopped.

        Parameters
        ----------
        name : str
            As the browser gave it.
        size : int
            Of the whole file, in bytes.
        head : bytes
            The file's first 64 KiB (`HEAD_BYTES`), or all of a smaller one. With name, size and
            time it is how the same file is recognised; so it is not told apart from another one
            that agrees in all four and differs further on. Therefore a page that goes on sends a
            little again (`Upload.send_from`), which is compared. It is also judged at once.
        last_modified_ms : int, optional
            The file's time, as the browser gives it.
        save_as : str, optional
            Another name for it.
        writer : str, optional
            The right to write that this page got before, if it did.
        take_over : bool, default False
            Also if another page is writing it.
        label : str, default ""
            What to call this page when another one asks.

        Raises
        ------
        UploadError
            "name", "size", "head", "time", "exists", "in_use", "space", "quota", "too_many",
            "folder", "busy", "disk" or "damaged".
        ModelFileError
            Its beginning shows that it cannot be used.
        """
        asked = Asked.of(
            name,
            size,
            head,
            last_modified_ms=last_modified_ms,
            save_as=save_as,
            writer=writer,
            take_over=take_over,
            label=label,
            limits=self.limits,
        )
        return beginning.begin(self._shelf, asked)

    def resume(self, upload_id: str, *, writer: str) -> Upload:
        """Go on after a pause; for the page that paused, which still has the right to write.

        Raises
        ------
        UploadError
            "unknown", "taken_over", "space", "quota" and what the disk says.
        """
        with self._shelf.folder.lock(upload_id):
            record = self._shelf.own(upload_id, writer)
            with told(record.name, self._shelf.arrived(upload_id)):
                part = self._shelf.part(record)
                have = part.size()
                if record.status == "paused":
                    self._shelf.check_room(upload_id, record.name, record.size - have)
                    record = self._shelf.save(
                        record, part, status="receiving", active_at=time.time()
                    )
                part.close()
                part.hash.catch_up(have)
        self._shelf.hear(upload_id)
        return self._shelf.describe(record, have, writer=record.writer)

    # --- writing --------------------------------------------------------------------------------

    def write(
        self, upload_id: str, offset: int, data: bytes | bytearray | memoryview, *, writer: str
    ) -> Upload:
        """Write a piece of the file.

        Parameters
        ----------
        upload_id : str
        offset : int
            Where it belongs. At or before `Upload.offset`: what is there already is compared and
            not written again, so that a repeated piece does no harm.
        data : bytes-like
            1 byte to 16 MiB.
        writer : str
            The right to write, from `begin`.

        Returns
        -------
        Upload
            Its `offset` is where the next piece belongs.

        Raises
        ------
        UploadError
            "unknown", "taken_over", "paused", "waiting", "gap", "too_long", "changed", "space",
            "disk", "damaged" or "busy"; what arrived is kept.
        ModelFileError
            The header, now that it is there, says that the file cannot be used; the part is
            removed.
        """
        view = memoryview(data).cast("B")
        with self._shelf.folder.lock(upload_id):
            record = self._shelf.own(upload_id, writer)
            check_piece(record, offset, len(view), MAX_WRITE_BYTES)
            have = offset
            try:
                part = self._shelf.part(record)
                have = part.size()
                self._may_write(record, offset, have)
                known = min(have - offset, len(view))
                part.compare(offset, view[:known], record.name)
                if known < len(view):
                    if have >= part.room_at:
                        self._shelf.check_room(upload_id, record.name, record.size - have)
                        part.room_at = have + _SYNC_BYTES
                    part.append(view[known:])
                    have = offset + len(view)
                    part.meter.add(len(view) - known, time.monotonic())
                record = self._after_write(record, part, have)
            except GgufWidgetsError:
                raise
            except OSError as error:
                have = self._shelf.folder.part_size(upload_id) or 0
                raise write_failed(record.name, have, error) from error
        return self._shelf.describe(record, have)

    def check(self, upload_id: str, offset: int, num_bytes: int, *, writer: str) -> Upload:
        """Refuse at once what `write` would refuse: for a body that has not been read yet.

        Parameters
        ----------
        upload_id, offset, writer
            As for `write`.
        num_bytes : int
            How much will come, in pieces of any size.

        Raises
        ------
        UploadError
            As for `write`.
        """
        with self._shelf.folder.lock(upload_id):
            record = self._shelf.own(upload_id, writer)
            check_piece(record, offset, num_bytes, record.size)
            with told(record.name, self._shelf.arrived(upload_id)):
                have = self._shelf.part(record).size()
            self._may_write(record, offset, have)
        return self._shelf.describe(record, have)

    def _may_write(self, record: Record, offset: int, have: int) -> None:
        if have > record.size:
            raise too_much(record, have)
        if record.status == "paused":
            raise not_now(record, have, "paused", "is paused. Go on with it first.")
        if record.status == "receiving" and self._shelf.hear(record.id):
            raise not_now(record, have, "waiting", "waits for another upload to end.")
        if offset > have:
            raise gap(record, offset, have)

    def _after_write(self, record: Record, part: OpenPart, have: int) -> Record:
        """Judge the header, hand to the disk, note that the writer is there: each when due."""
        if not record.kind and (have >= part.judge_at or have == record.size):
            part.judge_at = 2 * have
            record = self._shelf.judge(record, part, have)
        due = have - part.num_synced >= _SYNC_BYTES or have == record.size
        if due and part.num_synced < have:
            part.sync()
            record = self._shelf.save(record, part, active_at=time.time())
        elif time.monotonic() - part.saved_at >= HEARD_S:
            record = self._shelf.save(record, part, active_at=time.time())
        return record

    # --- stopping -------------------------------------------------------------------------------

    def pause(self, upload_id: str, *, writer: str) -> Upload:
        """Stop for a while; what arrived is handed to the disk, and others may run.

        Raises
        ------
        UploadError
            "unknown", "taken_over", "disk" or "busy".
        """
        with self._shelf.folder.lock(upload_id):
            record = self._shelf.own(upload_id, writer)
            with told(record.name, self._shelf.arrived(upload_id)):
                part = self._shelf.part(record)
                have = part.size()
                part.sync()
                self._shelf.stop_finishing(upload_id)
                record = self._shelf.save(record, part, status="paused", active_at=0.0)
            part.close()
        self._shelf.leave(upload_id)
        return self._shelf.describe(record, have)

    def release(self, upload_id: str, *, writer: str) -> None:
        """Note that the writer's connection is gone: another page need not ask to go on.

        The right to write stays: the same page may come back with it. Never raises for an upload
        that is gone, or another's.
        """
        # A full disk: the writer's silence will tell the same, a little later.
        with contextlib.suppress(UploadError, OSError), self._shelf.folder.lock(upload_id):
            record = self._shelf.own(upload_id, writer)
            if record.status == "receiving":
                part = self._shelf.part(record)
                part.close()
                self._shelf.save(record, part, active_at=0.0)
                part.saved_at = float("-inf")  # if it comes back, it is to be seen at once

    def cancel(self, upload_id: str, *, writer: str) -> None:
        """Give up an upload and remove what arrived.

        Raises
        ------
        UploadError
            "unknown", "taken_over", "disk" or "busy".
        """
        with self._shelf.folder.lock(upload_id):
            self._shelf.own(upload_id, writer)
            self._shelf.remove(upload_id)

    def remove(self, upload_id: str) -> None:
        """Remove an old upload, also one whose state cannot be read.

        Raises
        ------
        UploadError
            "unknown"; "in_use" while a page is writing it.
        """
        with self._shelf.folder.lock(upload_id):
            try:
                record = self._shelf.load(upload_id)
            except UploadError as error:
                if error.details.get("problem") != "damaged":
                    raise
            else:
                if record is None:
                    raise unknown(upload_id)
                if rights.is_active(record):
                    raise rights.occupied(record, self._shelf.folder.part_size(upload_id) or 0)
            self._shelf.remove(upload_id)

    # --- finishing ------------------------------------------------------------------------------

    def finish(
        self,
        upload_id: str,
        *,
        writer: str,
        save_as: str | None = None,
        expected_sha256: str | None = None,
    ) -> Upload:
        """Check a complete upload and give it its name; takes as long as the hash still needs.

        Parameters
        ----------
        upload_id, writer : str
        save_as : str, optional
            Another name, after "exists".
        expected_sha256 : str, optional
            In hexadecimal; if it is not this, the upload is refused and removed.

        Returns
        -------
        Upload
            "done", or "already_there" if `path` holds the same file; then the part is removed.

        Raises
        ------
        UploadError
            "incomplete", "exists", "wrong_hash", "cancelled", "unknown", "taken_over", "name",
            "disk" or "busy"; except for a wrong hash, what arrived is kept.
        ModelFileError
            It cannot be used; the part is removed.
        """
        return ending.finish(self._shelf, upload_id, writer, save_as, expected_sha256)

    def start_finish(self, upload_id: str, *, writer: str, save_as: str | None = None) -> Upload:
        """Begin to `finish` in a thread and return at once; `status` tells how it goes on.

        Raises
        ------
        UploadError
            "incomplete", "unknown", "taken_over": what can be told at once.
        """
        return ending.start_finish(self._shelf, upload_id, writer, save_as)

    # --- looking --------------------------------------------------------------------------------

    def status(self, upload_id: str, *, writer: str | None = None) -> Upload:
        """Return an upload as it stands; from its writer this also says that the page is there.

        Raises
        ------
        UploadError
            "unknown" or "damaged".
        """
        record = self._shelf.look(check_id(upload_id))
        if record is None:
            ended = self._shelf.ended(upload_id)
            if ended is not None:
                return ended
            failed = self._shelf.failed(upload_id)
            if failed is not None:
                raise type(failed)(failed.message, **failed.details)
            raise unknown(upload_id)
        if record.status == "receiving" and rights.is_writer(record, writer):
            self._shelf.hear(upload_id)
            self._shelf.touch(upload_id, record.writer)
        return self._shelf.describe(record, self._shelf.sure_size(record))

    def uploads(self) -> list[Upload]:
        """Return all uploads that are not finished, oldest first, also damaged ones.

        Raises
        ------
        UploadError
            "folder", or "busy".
        """
        found = []
        for upload_id in self._shelf.folder.ids():
            size = self._shelf.folder.part_size(upload_id) or 0
            try:
                record = self._shelf.look(upload_id)
            except UploadError as error:
                if error.details.get("problem") != "damaged":
                    raise
                wire = to_wire(error)
                damaged = Upload(
                    id=upload_id, name="", given_name="", size=size, offset=size, state="damaged"
                )
                found.append((0.0, msgspec.structs.replace(damaged, error=wire)))
                continue
            if record is not None:  # else it has just ended
                upload = self._shelf.describe(record, self._shelf.sure_size(record))
                found.append((record.created_at, upload))
        return [upload for _, upload in sorted(found, key=lambda pair: (pair[0], pair[1].id))]

    def close(self) -> None:
        """Close the files and stop hashing; nothing is lost, and every upload can go on."""
        self._shelf.close()
