"""One file from a server onto the disk, to be continued whenever it stops.

Promises: what comes back has the length and the checksum that were announced; a file is continued
only with bytes of the very same file, else it begins anew and says so; what is no GGUF file is
refused at its first bytes; whatever ends the transfer, what has arrived stays for the next one,
unless it is wrong. Leaves to others: which file, where it goes (`whole_model`), the requests
(`http`).

Why not ``hf_hub_download`` of huggingface_hub for the bytes: it writes to a file of a new name each
time and removes it on any error (``_download_to_tmp_and_move`` in its ``file_download.py``, as of
2.4), so that 40 GB that were cut off at 39 begin at nothing; it waits for as long as a server says,
cannot be stopped from another thread, and compares no checksum. What decides who may have which
file is still its own: addresses, login, session (`hub`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import msgspec
import psutil

from gguf_widgets.core.download.http import (
    Patience,
    Retries,
    bad_address,
    bad_address_errors,
    explain,
    opened,
    refuse_status,
    transport_errors,
)
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import (
    LEFT_FREE_BYTES,
    Checksum,
    Place,
    Record,
    boot_id,
    disk_error,
    no_space,
    was_written_since_the_start,
)
from gguf_widgets.core.download.refusals import (
    not_gguf,
    wrong_answer,
    wrong_checksum,
    wrong_size,
)
from gguf_widgets.core.download.wanted import Hashes, Wanted
from gguf_widgets.core.errors import DownloadError

__all__ = ["transfer"]

_BLOCK: Final = 1 << 20
_SYNC_EVERY: Final = 1 << 28
# The disk is looked at so often: others use it, too, and a server may send without an end.
_LOOK_EVERY: Final = 1 << 26
# With less than `_PROGRESS` in so long a time a server is as good as silent.
_TOO_SLOW_S: Final = 600.0
# With less than this between two failures, a server that cuts every answer short would never end.
_PROGRESS: Final = 1 << 16
# One answer may be refused above some 50 GB by the networks that deliver the hub's files.
_LONGEST_ANSWER: Final = 32 << 30
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)
_CONTENT_NONE: Final = re.compile(r"bytes \*/(\d{1,19})", re.IGNORECASE)
_WHOLE_NUMBER: Final = re.compile(r"\d{1,19}")


def transfer(
    wanted: Wanted,
    place: Place,
    job: Job,
    *,
    patience: Patience,
    before_bytes: int = 0,
    on_size: Callable[[int], object] | None = None,
) -> Record:
    """Fetch one file; when this returns it lies at ``place.whole``.

    Parameters
    ----------
    wanted : Wanted
    place : Place
    job : Job
    patience : Patience
    before_bytes : int
        Of the files before it, for the progress.
    on_size : callable, optional
        Called with what is still to come, when the server says the size that was not known.

    Raises
    ------
    DownloadError
        ``problem`` is one of: "cancelled", "unreachable", "server_busy", "server", "redirect",
        "not_allowed", "gated", "not_found", "size", "checksum", "not_gguf", "no_space", "disk".
    """
    attempt = _Transfer(wanted, place, job, patience, before_bytes, on_size)
    return attempt.run()


class _Transfer:
    """One file on its way."""

    def __init__(
        self,
        wanted: Wanted,
        place: Place,
        job: Job,
        patience: Patience,
        before_bytes: int,
        on_size: Callable[[int], object] | None,
    ) -> None:
        self._wanted = wanted
        self._place = place
        self._job = job
        self._patience = patience
        self._before = before_bytes
        self._on_size = on_size
        self._retries = Retries(patience, job, wanted.source.shown)
        self._total = wanted.size
        self._have = 0
        self._synced = 0
        self._hashes = Hashes(wanted.checksum, self._total)
        self._record = Record()
        self._in_pieces = False  # not all of it is from one answer
        self._restarts = 0

    def run(self) -> Record:
        self._place.make()
        try:
            with self._opened_part() as file:
                self._take_up(file)
                self._fetch_all(file)
                if not self._hashes.agrees() and self._in_pieces:
                    # The older bytes may be damaged, or of another state. Once more, all of it.
                    self._begin_anew(
                        file,
                        "What had arrived earlier was damaged, so the file is fetched once more.",
                    )
                    self._fetch_all(file)
                if not self._hashes.agrees():
                    raise wrong_checksum(
                        self._place.name, self._wanted.checksum, self._hashes.sha256
                    )
                file.flush()
                os.fsync(file.fileno())
            checksum = self._wanted.checksum or Checksum("sha256", self._hashes.sha256)
            record = msgspec.structs.replace(self._record, size=self._have, checksum=checksum)
            self._place.write_arriving(record)
            self._place.part.replace(self._place.whole)
        except OSError as error:
            raise disk_error(error, self._place.final) from error
        except DownloadError as error:
            if error.details.get("problem") in ("checksum", "not_gguf"):
                self._place.forget()
            raise
        finally:
            self._remove_if_empty()
        return record

    def _remove_if_empty(self) -> None:
        """Leave nothing behind where nothing came."""
        with contextlib.suppress(OSError):  # the disk's own error is on its way already
            if self._place.part.stat().st_size == 0:
                self._place.part.unlink()

    # --- what is there ---

    @contextlib.contextmanager
    def _opened_part(self) -> Iterator[BinaryIO]:
        """Open the part for reading and writing; what is left unsaved is saved, however it ends."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self._place.part, flags, 0o666)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            try:
                yield file
            except BaseException:
                with contextlib.suppress(OSError, DownloadError):  # the first error counts
                    self._sync(file)
                raise

    def _take_up(self, file: BinaryIO) -> None:
        """Count what has arrived earlier, as far as it is of the same file."""
        record = self._place.read_arriving()
        size = os.fstat(file.fileno()).st_size
        if size and record.identity != self._wanted.identity:
            size = 0
            self._job.note(
                f'"{self._place.name}" begins anew: what had arrived is of another version of it.'
            )
        elif size and not self._can_continue(record):
            size = 0
            self._job.note(
                f'"{self._place.name}" begins anew: its server gives no way to tell whether it is '
                "still the same file."
            )
        elif not was_written_since_the_start(record):
            # The machine was restarted since. Only what was forced to the disk is sure to be right.
            size = min(size, record.synced_bytes)
        if self._total is None and size:
            self._total = record.size
        if self._total is not None and size > self._total:
            size = 0
        file.truncate(size)
        self._record = Record(
            name=self._wanted.name,
            identity=self._wanted.identity,
            etag=record.etag if size else "",
            last_modified=record.last_modified if size else "",
            size=self._total,
            checksum=self._wanted.checksum,
            revision=self._wanted.revision,
            license=self._wanted.license,
            boot_time=psutil.boot_time(),
            boot_id=boot_id(),
        )
        if not size:
            return
        self._in_pieces = True
        self._job.turn("checking")
        file.seek(0)
        while self._have < size:
            block = file.read(min(_BLOCK, size - self._have))
            if not block:
                break
            self._count(block)

    def _can_continue(self, record: Record) -> bool:
        if self._wanted.checksum is not None:
            return True
        return bool(_strong(record.etag) or record.last_modified)

    def _begin_anew(self, file: BinaryIO, why: str = "") -> None:
        if why:
            self._job.note(why)
        file.seek(0)
        file.truncate(0)
        self._have = self._synced = 0
        self._in_pieces = False
        self._total = self._wanted.size
        self._hashes = Hashes(self._wanted.checksum, self._total)
        self._record = msgspec.structs.replace(
            self._record, etag="", last_modified="", size=self._total, synced_bytes=0
        )

    def _sync(self, file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._synced = self._have
        self._record = msgspec.structs.replace(self._record, synced_bytes=self._have)
        self._place.write_arriving(self._record)

    # --- what comes ---

    def _fetch_all(self, file: BinaryIO) -> None:
        errors = transport_errors()
        while self._total is None or self._have < self._total:
            self._job.turn("fetching")
            had = self._have
            try:
                if self._ask(file):
                    break
            except bad_address_errors() as error:
                raise bad_address(self._wanted.source) from error
            except errors as error:
                self._job.check()  # a stop cuts the connection
                why, again = explain(error)
                if not again:
                    raise DownloadError(
                        f"{self._wanted.source.shown} {why}. Nothing is fetched from it.",
                        problem="unreachable",
                    ) from error
                self._progressed(had)
                self._retries.failed(why, problem="unreachable", cause=error)
            else:
                self._progressed(had)
        self._job.at(self._before + self._have)

    def _progressed(self, had: int) -> None:
        if self._have - had >= _PROGRESS:
            self._retries.progressed()

    def _ask(self, file: BinaryIO) -> bool:
        """Make one request and take what it brings; True if nothing more is to come."""
        headers = {}
        start, end = self._have, ""
        if self._total is not None and self._total - self._have > _LONGEST_ANSWER:
            end = str(self._have + _LONGEST_ANSWER - 1)
        self._in_pieces = self._in_pieces or self._have > 0
        if self._have or end:
            headers["range"] = f"bytes={self._have}-{end}"
            guard = _strong(self._record.etag) or self._record.last_modified
            if guard and not self._wanted.source.of_hub:
                headers["if-range"] = guard
        with opened(self._wanted.source, headers, self._patience, self._job) as (answer, elsewhere):
            if not refuse_status(
                self._wanted.source, answer, elsewhere=elsewhere, retries=self._retries
            ):
                return False
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise self._wrong("sends the file compressed, so it cannot be continued or checked")
            if answer.status_code == 416:
                return self._beyond(file, answer)
            if answer.status_code == 200:
                self._from_the_start(file, answer)
            elif not self._goes_on(file, answer):
                return False
            self._take(file, answer)
        if self._total is None:
            self._total = self._have  # the answer has ended as it should
            return True
        if self._have < self._total and (not end or self._have == start):
            self._retries.failed("sent less than it announced", problem="unreachable", cause=None)
        return self._have >= self._total

    def _from_the_start(self, file: BinaryIO, answer: Any) -> None:
        """Prepare for the whole file, whether it was asked for or not."""
        if self._have:
            same = self._same_validators(answer) or self._wanted.checksum is not None
            if same:
                why = (
                    f"{self._wanted.source.shown} cannot go on in the middle of a file, so "
                    f'"{self._place.name}" begins anew.'
                )
            else:
                why = f'"{self._place.name}" has changed on its server since, so it begins anew.'
            self._once_more()
            self._begin_anew(file, why)
        length = answer.headers.get("content-length", "").strip()
        self._announced(file, int(length) if _WHOLE_NUMBER.fullmatch(length) else None, answer)

    def _goes_on(self, file: BinaryIO, answer: Any) -> bool:
        """Check an answer that continues the file; False if it begins anew instead."""
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if match is None or int(match[1]) != self._have:
            self._once_more()
            self._begin_anew(
                file,
                f"{self._wanted.source.shown} sent another part of the file than was asked for, "
                f'so "{self._place.name}" begins anew.',
            )
            return False
        total = None if match[3] == "*" else int(match[3])
        if total is not None and total <= self._have:
            raise self._wrong("says of a part of the file that it lies behind its end")
        changed = self._wanted.checksum is None and not self._same_validators(answer)
        other_size = self._wanted.size is None and None not in (total, self._total)
        if self._have and (changed or (other_size and total != self._total)):
            self._once_more()
            self._begin_anew(
                file, f'"{self._place.name}" has changed on its server since, so it begins anew.'
            )
            return False
        self._announced(file, total, answer)
        return True

    def _beyond(self, file: BinaryIO, answer: Any) -> bool:
        """Handle the answer that the file is no longer than what is there."""
        match = _CONTENT_NONE.fullmatch(answer.headers.get("content-range", "").strip())
        if match is not None and int(match[1]) == self._have and self._wanted.size is None:
            self._total = self._have
            return True
        if self._wanted.size is not None and match is not None:
            raise self._wrong_size(int(match[1]))
        self._once_more()
        self._begin_anew(
            file, f'"{self._place.name}" has changed on its server since, so it begins anew.'
        )
        return False

    def _once_more(self) -> None:
        """Count how often it began anew: a server that changes its mind each time is given up."""
        self._restarts += 1
        if self._restarts > self._patience.tries:
            raise self._wrong("sends something else each time")

    def _same_validators(self, answer: Any) -> bool:
        """Say whether the server calls it the same file as before."""
        for mine, theirs in (
            (_strong(self._record.etag), _strong(answer.headers.get("etag", ""))),
            (self._record.last_modified, answer.headers.get("last-modified", "")),
        ):
            if mine and theirs:
                return bool(mine == theirs)
        return False

    def _announced(self, file: BinaryIO, total: int | None, answer: Any) -> None:
        """Compare the announced length with what is known, and keep what tells this file."""
        if self._wanted.size is not None:
            if total is not None and total != self._wanted.size:
                raise self._wrong_size(total)
        elif total is not None and self._total is None:
            self._total = total
            if self._on_size is not None:
                self._on_size(total - self._have)
        if self._have:
            return
        self._record = msgspec.structs.replace(
            self._record,
            etag=_plain(answer.headers.get("etag", ""), 500),
            last_modified=_plain(answer.headers.get("last-modified", ""), 100),
            size=self._total,
        )
        self._sync(file)

    def _take(self, file: BinaryIO, answer: Any) -> None:
        """Write the body down as it comes."""
        file.seek(self._have)
        looked_at, mark, since = self._have, self._have, time.monotonic()
        for block in answer.iter_raw():
            if self._have - mark >= _PROGRESS:
                mark, since = self._have, time.monotonic()
            elif time.monotonic() - since > _TOO_SLOW_S:
                raise TimeoutError("next to nothing comes")
            if not block:
                continue
            if self._have - looked_at >= _LOOK_EVERY:
                looked_at = self._have
                self._leave_room()
            if self._total is not None and self._have + len(block) > self._total:
                raise self._wrong_size(None)
            view = memoryview(block)
            while view:  # an unbuffered file may take less than it is given
                view = view[file.write(view) :]
            first = self._have < 4
            self._count(block)
            if first and self._have >= 4:
                self._refuse_other_kinds(file)
            if self._have - self._synced >= _SYNC_EVERY:
                self._sync(file)

    def _leave_room(self) -> None:
        """Stop before the disk is full to its last byte, whatever was announced."""
        folder = self._place.part.parent
        free = shutil.disk_usage(folder).free
        if free < LEFT_FREE_BYTES:
            left = LEFT_FREE_BYTES if self._total is None else self._total - self._have
            raise no_space(folder.parent, left, free)

    def _count(self, block: bytes) -> None:
        self._hashes.add(block)
        self._have += len(block)
        self._job.at(self._before + self._have)

    # --- what is wrong ---

    def _refuse_other_kinds(self, file: BinaryIO) -> None:
        """Raise unless the first bytes are those of a GGUF file."""
        file.seek(0)
        start = file.read(4)
        file.seek(self._have)
        if start != b"GGUF":
            raise not_gguf(self._place)

    def _wrong(self, why: str) -> DownloadError:
        return wrong_answer(self._wanted.source.shown, why)

    def _wrong_size(self, total: int | None) -> DownloadError:
        return wrong_size(self._place.name, self._wanted.source.shown, self._total, total)


def _plain(value: str, limit: int) -> str:
    """Return what can be sent back in a header; "" if it cannot, as a weak tag would be of no use.

    A server may put any bytes there, and cutting them would make another tag.
    """
    return value if len(value) <= limit and value.isascii() and value.isprintable() else ""


def _strong(etag: str) -> str:
    """Return a tag by which a file may be continued: a weak one stands for several files."""
    return etag if etag.startswith('"') else ""
