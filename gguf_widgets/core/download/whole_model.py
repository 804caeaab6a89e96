"""Having all files of a model where they belong.

Promises: the files of a model get their names only when all of them were whole, had the right
checksums and were judged together as a model; the first part, by which a model is found, gets its
name last. Leaves to others: which files (`from_hub`, `from_web`), each one's bytes (`transfer`).
"""

from __future__ import annotations

import functools
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from gguf_widgets.core.download.here import State, one_at_a_time, state_of
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import (
    LEFT_FREE_BYTES,
    Place,
    Record,
    Seen,
    disk_error,
    no_space,
)
from gguf_widgets.core.download.remote import Machine, fit_of, remote_header
from gguf_widgets.core.download.transfer import transfer
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.errors import DownloadError, ModelFileError, ProjectorFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import GgufHeader, check_is_model, read_header

__all__ = ["Newer", "check_disk", "get_files", "judge", "remember"]

Newer = Literal["ignore", "tell", "get"]

# What is smaller than this is sooner fetched than looked at.
_WORTH_A_LOOK: Final = 16_000_000


def get_files(
    wanted: Sequence[Wanted],
    places: Sequence[Place],
    *,
    num_parts: int,
    newer: Newer,
    job: Job,
    patience: Patience,
    refuse_other: Callable[[Wanted, Place], object] | None = None,
    again: bool = False,
) -> tuple[Literal["fetched", "here"], int, list[Record]]:
    """Have files where they belong: the first `num_parts` are a model, the next its companion.

    Parameters
    ----------
    wanted, places : sequence
        Of as many files.
    num_parts : int
    newer : {"ignore", "tell", "get"}
    job : Job
    patience : Patience
    refuse_other : callable, optional
        Called for each file that is there and is another one; raises if it must stay.
    again : bool, default False
        Fetch also what is here already.

    Returns
    -------
    origin : {"fetched", "here"}
    received_bytes : int
    records : list of Record

    Raises
    ------
    DownloadError
    """
    getting = _Getting(wanted, places, num_parts, job, patience)
    with one_at_a_time(places[:num_parts], job):
        states = getting.look(refuse_other)
        if again:
            states = ["other" if state == "here" else state for state in states]
        if "missing" not in states and ("other" not in states or newer != "get"):
            if "other" in states:
                job.note(
                    f'"{plain_text(places[0].name, 100)}" is here already, and its repository has '
                    "another version of it by now. The one that is here is used; to replace it, "
                    "ask for the newer one (--newer)."
                )
            judge([place.final for place in places], num_parts, job, arrived=False)
        else:
            getting.get([index for index, state in enumerate(states) if state != "here"], states)
    job.turn("done", file=places[0].name)
    origin: Literal["fetched", "here"] = "fetched" if getting.needed else "here"
    return origin, getting.received_bytes, [place.read() for place in places]


class _Getting:
    """The files of one model on their way, under its lock."""

    def __init__(
        self,
        wanted: Sequence[Wanted],
        places: Sequence[Place],
        num_parts: int,
        job: Job,
        patience: Patience,
    ) -> None:
        self.received_bytes = 0
        self.needed: list[int] = []
        self._wanted = wanted
        self._places = places
        self._num_parts = num_parts
        self._job = job
        self._patience = patience
        self._seen: list[Seen | None] = [None] * len(places)
        self._sizes = [one.size or 0 for one in wanted]
        self._known = all(one.size is not None for one in wanted)

    def look(self, refuse_other: Callable[[Wanted, Place], object] | None) -> list[State]:
        """Say of each file whether it is there."""
        self._job.turn(
            "checking",
            file=self._places[0].name,
            num_files=len(self._places),
            total_bytes=sum(self._sizes) if self._known else None,
        )
        states = []
        for index, (one, place) in enumerate(zip(self._wanted, self._places, strict=True)):
            states.append(self._state(index))
            if states[-1] == "other" and refuse_other is not None:
                refuse_other(one, place)
        return states

    def _state(self, index: int) -> State:
        """Say whether a file is there, and keep in mind which one it is that may be replaced."""
        place = self._places[index]
        seen = place.seen()
        state = state_of(self._wanted[index], place, self._job, self._before(index))
        self._seen[index] = None if state == "missing" else seen
        return state

    def get(self, needed: list[int], states: Sequence[State]) -> None:
        """Fetch the files that are needed, judge them, and give them their names."""
        self.needed = needed
        for index in needed:
            if states[index] == "other":
                self._job.note(
                    f'"{plain_text(self._places[index].name, 100)}" is here in another version, '
                    "which is replaced."
                )
        there = {index: self._places[index].bytes_there() for index in needed}
        check_disk(
            self._places[0].final.parent,
            sum(max(0, self._sizes[index] - there[index]) for index in needed),
        )
        parts = [index for index in needed if index < self._num_parts]
        big = sum(self._sizes[: self._num_parts]) >= _WORTH_A_LOOK
        if self._known and big and parts and parts[0] == 0 and not there[0]:
            self._judge_before()
        records = {index: self._fetch(index) for index in parts}
        for index in needed[len(parts) :]:
            # Several models share a companion, so it has a lock of its own.
            with one_at_a_time([self._places[index]], self._job):
                if self._state(index) != "here":
                    self._settle(index, self._fetch(index))
        self._judge_and_settle(parts, records)

    def _before(self, index: int) -> int:
        return sum(self._sizes[:index]) if self._known else 0

    def _fetch(self, index: int) -> Record:
        wanted, place = self._wanted[index], self._places[index]
        self._job.turn(
            "fetching",
            file=place.name,
            file_number=self.needed.index(index) + 1,
            num_files=len(self.needed),
        )
        had = place.bytes_there()
        record = _whole(wanted, place) or transfer(
            wanted,
            place,
            self._job,
            patience=self._patience,
            before_bytes=self._before(index),
            on_size=functools.partial(_size_known, place, self._job),
        )
        self.received_bytes += max(0, place.bytes_there() - had)
        return record

    def _judge_before(self) -> None:
        """Look at the header where it is: what is no model is refused before its first GB."""
        names = [place.name for place in self._places]
        parts = list(zip(names, self._wanted, strict=True))[: self._num_parts]
        try:
            with remote_header(parts, self._job, patience=self._patience) as header:
                if header is None:
                    return
                fit = fit_of(header, Machine.now())
        except ModelFileError as error:
            raise DownloadError(
                f"{error.message} Nothing was fetched.",
                problem="not_a_model",
                kind=type(error).__name__,
            ) from error
        if fit.verdict != "yes":
            self._job.note(fit.sentence)

    def _judge_and_settle(self, parts: Sequence[int], records: dict[int, Record]) -> None:
        """Judge the model, then give each part its name: the first one last."""
        companions = [place.final for place in self._places[self._num_parts :]]
        all_new = len(parts) == self._num_parts
        if all_new:
            files = [place.whole for place in self._places[: self._num_parts]]
            try:
                judge([*files, *companions], self._num_parts, self._job)
            except DownloadError:
                for index in parts:
                    self._places[index].forget()
                raise
        self._take_apart(parts)
        for index in reversed(parts):
            self._settle(index, records[index])
        if not all_new:  # only together with those that are here are they a model
            files = [place.final for place in self._places[: self._num_parts]]
            judge([*files, *companions], self._num_parts, self._job)

    def _take_apart(self, parts: Sequence[int]) -> None:
        """Remove the old file that is replaced last, so that at no moment old and new parts mix.

        A model of which some parts are of another version looks whole and speaks nonsense; one that
        lacks a part is refused, and asked for again it is put together from what has arrived.
        """
        replaced = [index for index in parts if self._seen[index] is not None]
        if len(parts) < 2 or not replaced:
            return
        place = self._places[replaced[0]]
        try:
            if place.seen() == self._seen[replaced[0]]:
                place.final.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, place.final) from error

    def _settle(self, index: int, record: Record) -> None:
        self._places[index].settle(record, instead_of=self._seen[index])
        remember(self._places[index].final, record)


def judge(files: Sequence[Path], num_parts: int, job: Job, *, arrived: bool = True) -> GgufHeader:
    """Judge files: the first as a model, the others as its companions.

    Parameters
    ----------
    files : sequence of Path
    num_parts : int
    job : Job
    arrived : bool
        Whether they were fetched just now, so that they are at their source as they are here.

    Raises
    ------
    DownloadError
        ``problem`` is "not_a_model".
    """
    job.turn("judging", file=files[0].name)
    try:
        header = read_header(files[0])
        check_is_model(header)
        for companion in files[num_parts:]:
            try:
                check_is_model(read_header(companion))
            except ProjectorFileError:
                continue
            job.note(
                f'"{plain_text(companion.name, 100)}" should be a companion for images or sound '
                "(mmproj) by its name, and is something else."
            )
    except ModelFileError as error:
        more = " It arrived as it is at its source, so fetching it again will not help."
        raise DownloadError(
            error.message + (more if arrived else ""),
            problem="not_a_model",
            kind=type(error).__name__,
        ) from error
    return header


def check_disk(folder: Path, needed_bytes: int) -> None:
    """Raise unless the disk of a folder, which need not exist yet, has room for some bytes more.

    Raises
    ------
    DownloadError
        ``problem`` is "no_space".
    """
    existing = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise disk_error(error, folder / "model.gguf") from error
    if needed_bytes and needed_bytes + LEFT_FREE_BYTES > free:
        raise no_space(folder, needed_bytes, free)


def remember(path: Path, record: Record) -> None:
    """Let later checks of the file, and whoever looks for copies, know what it should come to."""
    from gguf_widgets.core.library.hashes import remember_hash

    checksum = record.checksum
    if checksum is not None and checksum.kind == "sha256":
        remember_hash(path, checksum.value, source="the download")


def _size_known(place: Place, job: Job, more_bytes: int) -> None:
    check_disk(place.final.parent, more_bytes)
    job.turn("fetching", total_bytes=place.bytes_there() + more_bytes)


def _whole(wanted: Wanted, place: Place) -> Record | None:
    """Return the record of a file that arrived earlier and waits for the other parts."""
    record = place.read_arriving()
    try:
        status = place.whole.lstat()
    except FileNotFoundError:
        return None
    is_it = stat.S_ISREG(status.st_mode) and status.st_size == record.size
    if is_it and record.identity == wanted.identity:
        return record
    place.whole.unlink(missing_ok=True)
    return None
