"""The last steps of an upload: checked, compared with what is there, named.

Promises: while the hash is waited for, no lock is held, and a pause, a cancel or another page gets
through; whatever goes wrong, the upload can be finished again (unless its bytes are proved wrong).
Leaves to others: finding the same file and giving the name (`finishing`).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path

import msgspec

from gguf_widgets.core.care.hashes import remember_hash
from gguf_widgets.core.errors import ModelFileError, RequestCancelledError, UploadError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.upload import finishing, rights
from gguf_widgets.core.upload.folder import Record
from gguf_widgets.core.upload.messages import replaced, told
from gguf_widgets.core.upload.names import clean_name
from gguf_widgets.core.upload.part import OpenPart
from gguf_widgets.core.upload.progress import Upload
from gguf_widgets.core.upload.shelf import HEARD_S, Shelf

__all__ = ["finish", "start_finish"]


def finish(
    shelf: Shelf, upload_id: str, writer: str, save_as: str | None, expected: str | None
) -> Upload:
    """Finish an upload; see `UploadStore.finish`."""
    attempt = _claim(shelf, upload_id, writer, save_as)
    return attempt if isinstance(attempt, Upload) else attempt.run(expected)


def start_finish(shelf: Shelf, upload_id: str, writer: str, save_as: str | None) -> Upload:
    """Begin to finish an upload in a thread; see `UploadStore.start_finish`."""
    attempt = _claim(shelf, upload_id, writer, save_as)
    if isinstance(attempt, Upload):
        return attempt

    def target() -> None:
        # Why it failed is kept for `UploadStore.status`, which is where the page looks.
        with contextlib.suppress(UploadError, ModelFileError):
            attempt.run(None)

    begun = shelf.describe(attempt.record, attempt.record.size)
    # A daemon: the end of the process must not wait for a hash, and may come at any moment.
    try:
        threading.Thread(target=target, name="upload-finish", daemon=True).start()
    except RuntimeError:  # the system gives no more threads
        attempt.give_up()
        raise
    return begun


def _claim(shelf: Shelf, upload_id: str, writer: str, save_as: str | None) -> Upload | _Finish:
    """Begin an attempt; or return the upload if it has ended, or is being checked already."""
    ended = shelf.ended(upload_id)
    if ended is not None:
        return ended
    cleaned = clean_name(save_as) if save_as is not None else None
    with shelf.folder.lock(upload_id):
        record = shelf.own(upload_id, writer)
        with told(record.name, shelf.arrived(upload_id)):
            part = shelf.part(record)
            have = part.size()
            _check_complete(record, have)
            if upload_id in shelf.finishing:
                return shelf.describe(record, have)
            changes = {"name": cleaned.name, "told": cleaned.told} if cleaned else {}
            record = shelf.save(record, part, status="checking", active_at=time.time(), **changes)
        shelf.note_failed(upload_id, None)
        stop = shelf.finishing[upload_id] = threading.Event()
    return _Finish(shelf, record, part, stop)


class _Finish:
    """One attempt."""

    def __init__(self, shelf: Shelf, record: Record, part: OpenPart, stop: threading.Event) -> None:
        self.record = record
        self._shelf = shelf
        self._part = part
        self._stop = stop
        self._heard = time.monotonic()

    def run(self, expected: str | None) -> Upload:
        """Check and name it; afterwards it has ended, or can be tried again."""
        try:
            return self._check_and_name(expected)
        except (UploadError, ModelFileError) as error:
            if error.details.get("problem") != "cancelled":
                self._shelf.note_failed(self.record.id, error)
            raise
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Let it be tried again; after an attempt that went well there is nothing to try."""
        _back_to_receiving(self._shelf, self.record)
        self._shelf.finishing.pop(self.record.id, None)

    def _check_and_name(self, expected: str | None) -> Upload:
        shelf, record = self._shelf, self.record
        folder = shelf.folder
        path = folder.part_path(record.id)
        with told(record.name, record.size):
            self._part.sync()
            digest = self._part.hash.digest(record.size, self._is_stopped)
            if expected is not None:
                self._compare(digest, expected)
            same = finishing.find_same(folder.models, path, record.size, digest, self._is_stopped)
            with folder.lock_names(), folder.lock(record.id):
                now = self._still_ours()
                if not now.kind:
                    now = shelf.judge(now, self._part, now.size)
                if self._part.is_stale():
                    raise replaced(now)
                if os.name == "nt":
                    self._part.close()  # no new name is given to an open file there
                # It may have been removed or written to since it was read: then this is the file.
                is_there = same is not None and same.is_still_there()
                state = "already_there" if is_there else "done"
                final = same.path if same is not None and is_there else self._name(now, path)
                status = final.stat()
                ended = msgspec.structs.replace(
                    shelf.describe(now, now.size),
                    state=state,
                    sha256=digest,
                    path=str(final),
                    num_hashed_bytes=now.size,
                    owner=None,
                )
                shelf.note_ended(ended)
                shelf.remove(record.id)
        remember_hash(final, digest, source="the upload", status=status)
        return ended

    def _is_stopped(self) -> bool:
        """Say whether to stop; on the way, let others see that this one is alive."""
        if time.monotonic() - self._heard >= HEARD_S:
            self._heard = time.monotonic()
            self._shelf.touch(self.record.id, self.record.writer)
        return self._stop.is_set()

    def _still_ours(self) -> Record:
        """Return the state as it is now; raise if somebody has stopped or taken the upload."""
        now = self._shelf.folder.read(self.record.id)
        if now is None or now.status != "checking" or self._stop.is_set():
            raise RequestCancelledError("The upload was stopped while it was checked.")
        rights.check_writer(now, self.record.writer)
        return now

    def _compare(self, digest: str, expected: str) -> None:
        if secrets.compare_digest(digest.encode(), expected.strip().lower().encode()):
            return
        with self._shelf.folder.lock(self.record.id):
            self._still_ours()
            self._shelf.remove(self.record.id)
        raise UploadError(
            f'"{plain_text(self.record.name, 100)}" is not the file that was expected: its'
            f" SHA-256 is {digest}. What arrived was removed; upload it again.",
            problem="wrong_hash",
            sha256=digest,
            removed=True,
        )

    def _name(self, record: Record, part: Path) -> Path:
        models = self._shelf.folder.models
        there = finishing.already_taken(models, record.name)
        if there is not None:
            raise finishing.taken_error(models, record.name, there)
        target = models / record.name
        try:
            finishing.give_name(part, target, self._part.is_it)
        except FileExistsError:
            raise finishing.taken_error(models, record.name, target) from None
        return target


def _check_complete(record: Record, have: int) -> None:
    if have != record.size:
        raise UploadError(
            f'"{plain_text(record.name, 100)}" is not complete: {have:,} of its {record.size:,}'
            " bytes have arrived. Send the rest first.",
            problem="incomplete",
            offset=have,
        )


def _back_to_receiving(shelf: Shelf, record: Record) -> None:
    """Let a finish that failed be tried again; after one that did not, there is nothing left."""
    with contextlib.suppress(UploadError, OSError), shelf.folder.lock(record.id):
        now = shelf.folder.read(record.id)
        if now is not None and now.status == "checking" and now.writer == record.writer:
            shelf.save(now, shelf.part(now), status="receiving", active_at=time.time())
