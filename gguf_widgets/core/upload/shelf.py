"""What all operations on uploads share: their states, their open parts, their turns.

Promises: a state is written with the time and with how much is surely on the disk; an upload that
was killed between its name and its end is tidied up when it is looked at; `describe` never fails.
Leaves to others: what is done with an upload (`store`, `ending`). Where a method says so, the
caller holds the upload's lock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import ModelFileError, UploadError, to_wire
from gguf_widgets.core.store.owners import this_process
from gguf_widgets.core.upload import rights
from gguf_widgets.core.upload.folder import Record, UploadFolder, boot_mark
from gguf_widgets.core.upload.judge import judge
from gguf_widgets.core.upload.limits import UploadLimits, check_room
from gguf_widgets.core.upload.messages import interrupted, told, unknown
from gguf_widgets.core.upload.part import OpenPart
from gguf_widgets.core.upload.progress import Upload
from gguf_widgets.core.upload.turns import UploadTurns

__all__ = ["HEARD_S", "Failure", "Shelf"]

# How often the state says that the writer is there; well below `rights.SILENCE_S`.
HEARD_S: Final = 5.0
# How many of those that have ended are remembered, for pages that ask.
_MAX_ENDED: Final = 100

Failure = UploadError | ModelFileError


class Shelf:
    """The uploads of one models folder, as one process sees them.

    Parameters
    ----------
    models : Path
    limits : UploadLimits

    Attributes
    ----------
    folder : UploadFolder
    finishing : dict of str to Event
        The uploads that are checked just now; the event stops it.
    """

    def __init__(self, models: Path, limits: UploadLimits) -> None:
        self.folder = UploadFolder(models)
        self.limits = limits
        self.finishing: dict[str, threading.Event] = {}
        self._parts: dict[str, OpenPart] = {}
        self._turns = UploadTurns(limits.max_running)
        self._ended: OrderedDict[str, Upload] = OrderedDict()
        self._failed: OrderedDict[str, Failure] = OrderedDict()
        self._mutex = threading.Lock()  # for the dictionaries; held for microseconds

    # --- states ---------------------------------------------------------------------------------

    def own(self, upload_id: str, writer: str | None) -> Record:
        """Return an upload's state if this is its writer; its lock is held.

        Raises
        ------
        UploadError
            "unknown", "taken_over" or "damaged".
        """
        record = self.load(upload_id)
        if record is None:
            self.let_go(upload_id)
            raise unknown(upload_id)
        if not rights.is_writer(record, writer) and not rights.is_here(record):
            # Another program has it now: here it is in nobody's way any more.
            self.let_go(upload_id)
        rights.check_writer(record, writer)
        return record

    def load(self, upload_id: str) -> Record | None:
        """Return an upload's state, or None; its lock, or that on names, is held.

        Raises
        ------
        UploadError
            "damaged".
        """
        record = self.folder.read(upload_id)
        if record is None or record.status != "checking" or upload_id in self.finishing:
            return record
        part, target = self.folder.part_path(upload_id), self.folder.models / record.name
        try:
            final = target.lstat()
            try:
                named = part.samefile(target)
            except FileNotFoundError:  # it was renamed, where there are no hard links
                named = final.st_size == record.size
        except OSError:
            return record
        if not named:
            return record
        self.folder.remove(upload_id)
        return None

    def look(self, upload_id: str) -> Record | None:
        """Return an upload's state, or None, without its lock.

        Raises
        ------
        UploadError
            "damaged", or "busy".
        """
        record = self.folder.read(upload_id)
        if record is None or record.status != "checking" or upload_id in self.finishing:
            return record
        with self.folder.lock(upload_id):
            return self.load(upload_id)

    def save(self, record: Record, part: OpenPart, **changes: Any) -> Record:
        """Change an upload's state; its lock is held. Whoever is active now is of this process.

        Raises
        ------
        OSError
        """
        if changes.get("active_at"):
            changes["owner"] = this_process()
        record = msgspec.structs.replace(
            record,
            changed_at=time.time(),
            boot=boot_mark(),
            durable=min(part.num_synced, record.size),
            **changes,
        )
        self.folder.write(record)
        part.saved_at = time.monotonic()
        return record

    def touch(self, upload_id: str, writer: str) -> None:
        """Note in the state that the writer is there, if that was long ago; takes the lock."""
        with self._mutex:
            part = self._parts.get(upload_id)
        if part is not None and time.monotonic() - part.saved_at < HEARD_S:
            return
        with contextlib.suppress(UploadError, OSError), self.folder.lock(upload_id):
            record = self.own(upload_id, writer)
            self.save(record, self.part(record), active_at=time.time())

    def remove(self, upload_id: str) -> None:
        """Remove everything of an upload; its lock is held.

        Raises
        ------
        UploadError
            "disk".
        """
        self.stop_finishing(upload_id)
        self.let_go(upload_id)
        with told("The upload", 0):
            self.folder.remove(upload_id)

    def let_go(self, upload_id: str) -> None:
        """Give up the turn of an upload and close its part; its lock is held.

        A part that is gone would keep its room on the disk for as long as it is open.
        """
        with self._mutex:
            part = self._parts.pop(upload_id, None)
            self._turns.leave(upload_id)
        if part is not None:
            part.hash.stop()
            part.close()

    # --- parts ----------------------------------------------------------------------------------

    def part(self, record: Record) -> OpenPart:
        """Return an upload's part file; its lock is held.

        Raises
        ------
        OSError
        """
        with self._mutex:
            part = self._parts.get(record.id)
        if part is not None:
            if not part.is_stale():
                return part
            part.hash.stop()
            part.close()
        part = OpenPart(self.folder, record.id)
        if record.boot != boot_mark():
            part.cut(record.durable)
        part.num_synced = min(self.sure_size(record), record.durable)
        with self._mutex:
            self._parts[record.id] = part
        return part

    def sure_size(self, record: Record) -> int:
        """Return how much has surely arrived: after a crash of the machine, what was synced."""
        size = self.folder.part_size(record.id) or 0
        return size if record.boot == boot_mark() else min(size, record.durable)

    def arrived(self, upload_id: str) -> int:
        """Return how much is there, for a sentence."""
        return self.folder.part_size(upload_id) or 0

    def judge(self, record: Record, part: OpenPart, have: int) -> Record:
        """Judge what has arrived, if it can be already; its lock is held.

        Raises
        ------
        ModelFileError
            It is no use; the upload is removed.
        OSError
        """
        scratch, final = self.folder.head_folder(record.id), self.folder.models / record.name
        try:
            verdict = judge(scratch, final, part.blocks(have), have, record.size)
        except ModelFileError as error:
            self.remove(record.id)
            refused = type(error)(error.message, **error.details, removed=True)
            self.note_failed(record.id, refused)
            raise refused from None
        if verdict is None:
            return record
        return self.save(record, part, kind=verdict.kind, notes=[*record.notes, *verdict.notes])

    def check_room(self, upload_id: str, name: str, missing: int) -> None:
        """Refuse to go on without room for what is missing.

        Raises
        ------
        UploadError
            "space" or "quota".
        """
        promised = 0
        for other in self.folder.ids():
            with contextlib.suppress(UploadError):  # damaged: it promises nothing
                record = self.folder.read(other)
                if record is not None and other != upload_id and rights.is_active(record):
                    promised += record.size - (self.folder.part_size(other) or 0)
        check_room(
            self.folder.models,
            name,
            arrived=self.folder.part_size(upload_id) or 0,
            missing=missing,
            promised=promised,
            limits=self.limits,
        )

    # --- turns and ends -------------------------------------------------------------------------

    def hear(self, upload_id: str) -> int:
        """Note that an upload's page is there; return how many have to end before it may run."""
        with self._mutex:
            return self._turns.hear(upload_id, time.monotonic())

    def leave(self, upload_id: str) -> None:
        """Give up an upload's turn."""
        with self._mutex:
            self._turns.leave(upload_id)

    def stop_finishing(self, upload_id: str) -> None:
        """Tell whoever is checking an upload to stop."""
        stop = self.finishing.get(upload_id)
        if stop is not None:
            stop.set()

    def ended(self, upload_id: str) -> Upload | None:
        """Return an upload that has ended well in this process."""
        with self._mutex:
            return self._ended.get(upload_id)

    def note_ended(self, upload: Upload) -> None:
        """Remember an upload that has ended well."""
        with self._mutex:
            self._ended[upload.id] = upload
            while len(self._ended) > _MAX_ENDED:
                self._ended.popitem(last=False)

    def failed(self, upload_id: str) -> Failure | None:
        """Return why an upload could not be finished."""
        with self._mutex:
            return self._failed.get(upload_id)

    def note_failed(self, upload_id: str, error: Failure | None) -> None:
        """Remember why an upload could not be finished; None forgets it."""
        with self._mutex:
            self._failed.pop(upload_id, None)
            if error is not None:
                self._failed[upload_id] = error
            while len(self._failed) > _MAX_ENDED:
                self._failed.popitem(last=False)

    def close(self) -> None:
        """Close the files and stop hashing."""
        with self._mutex:
            parts, self._parts = dict(self._parts), {}
        for stop in list(self.finishing.values()):
            stop.set()
        for part in parts.values():
            part.hash.stop()
            part.close()

    def describe(
        self, record: Record, have: int, *, writer: str = "", send_from: int | None = None
    ) -> Upload:
        """Return an upload as its page sees it."""
        now = time.monotonic()
        with self._mutex:
            part = self._parts.get(record.id)
            place = self._turns.place(record.id, now) if record.status == "receiving" else 0
            failed = self._failed.get(record.id)
            speed = part.meter.bytes_per_s(now) if part else None
        owner, state = rights.owner_of(record), record.status
        if state == "checking" and record.id not in self.finishing and (failed or owner is None):
            # Why it failed is known although the disk did not take that it is over.
            failed, state = failed or interrupted(record), "failed"
        elif state == "receiving" and failed is not None and have == record.size:
            state = "failed"
        elif state == "receiving" and place:
            state = "waiting"
        if state != "receiving":
            speed = None
        return Upload(
            id=record.id,
            name=record.name,
            given_name=record.given_name,
            told=record.told,
            size=record.size,
            offset=have,
            send_from=have if send_from is None else send_from,
            writer=writer,
            state=state,
            place=place,
            bytes_per_s=speed,
            seconds_left=(record.size - have) / speed if speed else None,
            num_hashed_bytes=part.hash.position if part else 0,
            kind=record.kind,
            notes=record.notes,
            looks_like=record.looks_like,
            age_s=rights.since(record.changed_at),
            owner=owner,
            error=to_wire(failed) if failed is not None and state == "failed" else None,
        )
