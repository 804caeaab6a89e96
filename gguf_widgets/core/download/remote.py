"""A model's header, read where the model is, and whether it would fit this machine.

Promises: some MB at most are fetched for an answer; what comes back was judged as strictly as a
file on the disk; where it cannot be had, the size alone gives a rougher answer, which says so.
Leaves to others: every figure (`core.fit`), the requests (`http`).

How: the beginning of the file is written into a temporary file that has the whole length and is
otherwise a hole, so that `core.gguf` reads it as it reads any other. On Windows a hole takes its
room on the disk, so there large files are judged by their size.

The versions in one repository differ in how their weights are stored and in little else, so one
header does for all: the sizes of its tensors are scaled to each file's (`scaled`). What is fetched
in the end is judged by its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

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
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.errors import (
    DeviceQueryError,
    DownloadError,
    MissingDependencyError,
    ModelFileError,
    NotEnoughMemoryError,
)
from gguf_widgets.core.file_names import clean_file_name
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf import GgufHeader, check_is_model, read_header

if TYPE_CHECKING:
    from gguf_widgets.core.devices import Device
    from gguf_widgets.core.fit_history import LoadRecord

__all__ = ["Fit", "Machine", "fit_by_size", "fit_of", "remote_header", "scaled"]

_FIRST: Final = 2 << 20
_MOST: Final = 64 << 20
_MOST_PARTS: Final = 24
# On a slower line than some 300 kbit/s the size alone has to do.
_LONGEST_S: Final = 60.0
_SMALL: Final = 64 << 20  # on Windows: a file this large is no burden on the disk
# What a model takes beyond its weights, where nothing but its size is known.
_BEYOND: Final = 1.15
_AT_LEAST: Final = 300_000_000
_PLENTY: Final = 1 << 60


@dataclasses.dataclass(frozen=True, slots=True)
class Fit:
    """Whether a model fits this machine now.

    Attributes
    ----------
    verdict : {"yes", "with_settings", "no"}
        The second: with a shorter context, or with other settings than are usual.
    needed_bytes, free_bytes : int
        In main memory and on graphics cards together.
    sentence : str
    judged_by : {"header", "scaled", "size"}
        Its own header; the header of another version of the same model; its size alone.
    n_ctx : int or None
        The context with which it fits, where that is shorter than usual and nothing else has to be
        changed.
    """

    verdict: Literal["yes", "with_settings", "no"]
    needed_bytes: int
    free_bytes: int
    sentence: str
    judged_by: Literal["header", "scaled", "size"]
    n_ctx: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """What a model has to fit into, asked for once for a whole list: asking for cards takes time.

    Attributes
    ----------
    free_bytes : int
        Of main memory.
    cards : list of Device
    records : list of LoadRecord
        What earlier loads took, to correct the estimate by.
    """

    free_bytes: int
    cards: list[Device]
    records: list[LoadRecord]

    @classmethod
    def now(cls) -> Machine:
        """Ask for it."""
        from gguf_widgets.core import fit, fit_history
        from gguf_widgets.core.devices import graphics_cards

        try:
            cards = graphics_cards()
        except (DeviceQueryError, MissingDependencyError):
            cards = []  # judged by main memory alone; loading it says why
        return cls(fit.free_memory(), cards, fit_history.read()[0])

    @property
    def free_everywhere(self) -> int:
        """Free bytes in main memory and on cards with a memory of their own."""
        own = (card.memory_free_bytes for card in self.cards if not card.integrated)
        return self.free_bytes + sum(own)


def fit_of(
    header: GgufHeader, machine: Machine, *, judged_by: Literal["header", "scaled"] = "header"
) -> Fit:
    """Judge a model by its header, with the settings that a load without any would choose.

    Raises
    ------
    ModelFileError
        If it is no model that can be loaded.
    """
    from gguf_widgets.core import fit, fit_history

    check_is_model(header)
    free, cards, everywhere = machine.free_bytes, machine.cards, machine.free_everywhere
    chosen, _ = fit.choose_settings(header, free_bytes=free, gpus=cards)
    correction = fit_history.correction_for(header, chosen, cards, machine.records)
    try:
        need = fit.check_fits(header, chosen, free_bytes=free, gpus=cards, correction=correction)
    except NotEnoughMemoryError as error:
        verdict: Literal["with_settings", "no"] = "no"
        if error.details.get("options"):
            verdict = "with_settings"
        needed = int(error.details.get("needed_bytes", 0))
        n_ctx = error.details.get("fitting_n_ctx")
        return Fit(verdict, needed, everywhere, error.message, judged_by, n_ctx)
    usual, _ = fit.choose_settings(header, free_bytes=_PLENTY, gpus=cards)
    if (chosen.n_ctx or 0) < (usual.n_ctx or 0):
        sentence = (
            f"It fits with a context of {chosen.n_ctx:,} tokens: {format_bytes(need.total_bytes)}"
            f" of the {format_bytes(everywhere)} that are free."
        )
        needed = need.total_bytes
        return Fit("with_settings", needed, everywhere, sentence, judged_by, chosen.n_ctx)
    sentence = (
        f"It fits: it needs {format_bytes(need.total_bytes)} and {format_bytes(everywhere)} is "
        "free."
    )
    return Fit("yes", need.total_bytes, everywhere, sentence, judged_by)


def fit_by_size(size_bytes: int, machine: Machine) -> Fit:
    """Judge a model by the size of its files alone."""
    free = machine.free_everywhere
    need = max(int(size_bytes * _BEYOND), size_bytes + _AT_LEAST)
    about = f"about {format_bytes(need)}, going by its size alone, and {format_bytes(free)} is free"
    if need <= free:
        return Fit("yes", need, free, f"It should fit: it needs {about}.", "size")
    return Fit("no", need, free, f"It may not fit: it needs {about}.", "size")


def scaled(header: GgufHeader, size_bytes: int) -> GgufHeader:
    """Return the header of the same model in a file of another size, as near as can be told."""
    ratio = size_bytes / header.size_bytes if header.size_bytes else 1.0
    tensors = tuple(
        tensor if tensor.size is None else tensor._replace(size=int(tensor.size * ratio))
        for tensor in header.tensors
    )
    return dataclasses.replace(header, size_bytes=size_bytes, tensors=tensors)


@contextlib.contextmanager
def remote_header(
    parts: Sequence[tuple[str, Wanted]], job: Job, *, patience: Patience
) -> Iterator[GgufHeader | None]:
    """Yield the header of a model that is not here; use it only inside the ``with``.

    Parameters
    ----------
    parts : sequence of (str, Wanted)
        Path and where it comes from, of all parts in order; sizes known.
    job : Job
    patience : Patience

    Yields
    ------
    GgufHeader or None
        None where it cannot be had: no room for it, too many parts, a header that is too long, a
        server that is too slow.

    Raises
    ------
    ModelFileError
        If what is there is no GGUF file, or damaged.
    DownloadError
    """
    if len(parts) > _MOST_PARTS or any(wanted.size is None for _, wanted in parts):
        yield None
        return
    if os.name == "nt" and sum(wanted.size or 0 for _, wanted in parts) > _SMALL:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="gguf-widgets-", ignore_cleanup_errors=True)
            )
        except OSError:
            yield None
            return
        yield _read(Path(folder), parts, job, patience)


def _read(
    folder: Path, parts: Sequence[tuple[str, Wanted]], job: Job, patience: Patience
) -> GgufHeader | None:
    paths = [folder / clean_file_name(PurePosixPath(path).name) for path, _ in parts]
    there = [0] * len(parts)
    length = _FIRST
    until = time.monotonic() + _LONGEST_S
    while True:
        for index, (path, (_, wanted)) in enumerate(zip(paths, parts, strict=True)):
            size = wanted.size or 0
            if there[index] < min(length, size):
                data = _beginning(wanted, min(length, size), until, job, patience)
                if data is None:
                    return None
                try:
                    with path.open("wb") as file:
                        file.write(data)
                        file.truncate(size)
                except OSError:
                    return None  # no room, or a disk that takes no file so large
                there[index] = len(data)
        whole = all(
            have >= (wanted.size or 0) for have, (_, wanted) in zip(there, parts, strict=True)
        )
        try:
            header = read_header(paths[0])
        except ModelFileError:
            # It may be the hole that was read. What is whole, or no GGUF at all, is judged at once.
            if whole or not _begins_as_gguf(paths[0]):
                raise
        else:
            if whole or _is_inside(header, there):
                return header
        if length >= _MOST:
            return None
        length *= 4


def _begins_as_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _is_inside(header: GgufHeader, there: Sequence[int]) -> bool:
    """Say whether a header was read from what has arrived, and not from the hole behind it."""
    begins = [_PLENTY] * len(there)
    for tensor in header.tensors:
        begins[tensor.part] = min(begins[tensor.part], tensor.offset)
    return all(begin <= have for begin, have in zip(begins, there, strict=True))


def _beginning(
    wanted: Wanted, length: int, until: float, job: Job, patience: Patience
) -> bytes | None:
    """Fetch the first bytes of a file; None if there is no more time for it."""
    retries = Retries(patience, job, wanted.source.shown)
    errors = transport_errors()
    while time.monotonic() < until:
        job.check()
        try:
            data = _ask(wanted, length, until, job, patience, retries)
            if data is not None:
                return data
        except bad_address_errors() as error:
            raise bad_address(wanted.source) from error
        except errors as error:
            job.check()
            why, again = explain(error)
            if not again:
                raise DownloadError(
                    f"{wanted.source.shown} {why}.", problem="unreachable"
                ) from error
            retries.failed(why, problem="unreachable", cause=error)
    return None


def _ask(
    wanted: Wanted, length: int, until: float, job: Job, patience: Patience, retries: Retries
) -> bytes | None:
    headers = {"range": f"bytes=0-{length - 1}"}
    with opened(wanted.source, headers, patience, job) as (answer, elsewhere):
        if not refuse_status(wanted.source, answer, elsewhere=elsewhere, retries=retries):
            return None
        data = bytearray()
        for block in answer.iter_raw():
            job.check()
            data += block
            if len(data) >= length:
                return bytes(data[:length])
            if time.monotonic() >= until:
                return None
    retries.failed("sent less than was asked for", problem="size", cause=None)
    return None
