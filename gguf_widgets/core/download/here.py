"""What is on this machine already of what is asked for, and one download of it at a time.

Promises: a file counts as there when it is the very one, by its record or by its checksum, also
under a name that it was given since; a copy in the cache that programs share is used where it is;
while one program fetches a model, another one waits for it. Leaves to others: fetching
(`whole_model`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import filelock

from gguf_widgets.core.config import ensure, runtime_dir
from gguf_widgets.core.download.names import HubName, local_path
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import (
    Checksum,
    Place,
    Record,
    disk_error,
    is_record_of,
    records_in,
)
from gguf_widgets.core.download.repo_files import DEFAULT_QUANT, RepoFile, choose, models_among
from gguf_widgets.core.download.wanted import Wanted, file_checksum
from gguf_widgets.core.errors import DownloadError, InvalidValueError, ModelFileError
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.gguf import check_is_model, read_header

__all__ = ["State", "cached_model", "followed", "model_in", "one_at_a_time", "state_of"]

State = Literal["missing", "here", "other"]

_MOST_FILES: Final = 2000
# Another program that fetches the same file and brings nothing for so long is not waited for.
_STALLED_S: Final = 600.0


def state_of(wanted: Wanted, place: Place, job: Job, before: int = 0) -> State:
    """Say whether a file is there: the very one, or another of the same name.

    Where there is no record of it (a person put it there), its bytes are compared.

    Raises
    ------
    DownloadError
    """
    try:
        status = place.final.stat()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        raise disk_error(error, place.final) from error
    place.keep_record()
    record = place.read()
    known = is_record_of(record, status)
    if known and wanted.checksum is None:
        return "here" if record.identity == wanted.identity else "other"
    if known and record.checksum == wanted.checksum:
        return "here"
    if wanted.size is not None and status.st_size != wanted.size:
        return "other"
    if wanted.checksum is None or (known and _same_kind(record, wanted.checksum)):
        return "other"
    job.turn("checking", file=place.name)
    try:
        if not file_checksum(place.final, wanted.checksum, job, before):
            return "other"
        place.make()
        place.write(
            Record(
                name=wanted.name,
                identity=wanted.identity,
                size=status.st_size,
                checksum=wanted.checksum,
                revision=wanted.revision,
                license=wanted.license,
                mtime_ns=status.st_mtime_ns,
            )
        )
    except OSError as error:
        raise disk_error(error, place.final) from error
    return "here"


def model_in(folder: Path, name: HubName, *, exact: bool, only_recorded: bool) -> list[Path]:
    """Return the files of a model that a folder holds: its parts, then its companion; or none.

    Parameters
    ----------
    folder : Path
    name : HubName
    exact : bool
        Whether a name without quantisation means the usual one only, and not whatever is there.
    only_recorded : bool
        Whether only files count that were fetched from that repository: for a folder that may hold
        others, too.
    """
    files, paths = [], {}
    begin = f"hf:{name.repo}/".casefold()  # the hub does not tell capital letters apart
    recorded = {path: record.name for record, path in records_in(folder)}
    for path in _gguf_files(folder):
        inside = path.relative_to(folder).as_posix()
        if recorded.get(path, "").casefold().startswith(begin):
            # It counts as what it is there: here it may have been given another name since.
            inside = recorded[path][len(begin) :]
        elif only_recorded and not Place(folder, path).read().name.casefold().startswith(begin):
            continue
        with contextlib.suppress(OSError):  # gone again
            files.append(RepoFile(inside, path.stat().st_size))
            paths[inside] = path
    if name.file is not None:
        if name.file not in paths:
            with contextlib.suppress(InvalidValueError):
                cleaned = local_path(folder, name.file).relative_to(folder).as_posix()
                if only_recorded:
                    cleaned = cleaned.rpartition("/")[2]
                name = HubName(name.repo, None, cleaned)
    elif exact and name.quant is None:
        name = HubName(name.repo, DEFAULT_QUANT)
    try:
        model, _ = choose(models_among(files), name)
        header = read_header(paths[model.path])
        check_is_model(header)
    except (DownloadError, ModelFileError):
        return []
    return [paths[file.path] for file in model.all_files]


def followed(wanted: Sequence[Wanted], places: Sequence[Place], num_parts: int) -> list[Place]:
    """Return where files are now that were fetched and renamed since; else where they go.

    Parameters
    ----------
    wanted : sequence of Wanted
    places : sequence of Place
        Where they go by their own names.
    num_parts : int
        The first so many are one model, and are followed together or not at all.
    """
    folder = places[0].folder
    now: dict[tuple[str, str], list[Path]] = {}
    for record, path in records_in(folder):
        now.setdefault(_who(record, record.file), []).append(path)
    found = []
    for one, place in zip(wanted, places, strict=True):
        paths = now.get(_who(one, place.name), [])
        here = not paths or place.final in paths
        found.append(place if here else Place(folder, paths[0]))
    if any(new is old for new, old in zip(found[:num_parts], places, strict=False)):
        found[:num_parts] = places[:num_parts]
    return found


def cached_model(folder: Path, files: Sequence[RepoFile]) -> list[Path]:
    """Return where the cache has these very files; empty if it lacks one, or has another."""
    found = []
    for file in files:
        path = folder.joinpath(*file.path.split("/"))
        try:
            if path.stat().st_size != file.size_bytes:
                return []
            blob = path.resolve(strict=True).name
        except (OSError, RuntimeError):
            return []
        # The cache names its contents by their checksum; where it cannot make links, it has copies.
        if path.is_symlink() and file.checksum is not None and blob != file.checksum.value:
            return []
        found.append(path)
    return found


@contextlib.contextmanager
def one_at_a_time(places: Sequence[Place], job: Job, *, wait: bool = True) -> Iterator[None]:
    """Wait until no other program, and no other thread, fetches the same model; then keep them off.

    Parameters
    ----------
    places : sequence of Place
        All files of the model; the first stands for it.
    job : Job
    wait : bool, default True

    Raises
    ------
    DownloadError
        ``problem`` is "in_use" if another one holds it and has not moved for minutes, or if it
        is not to be waited for.
    """
    first = places[0].final
    digest = hashlib.sha256(os.fsencode(os.path.realpath(first))).hexdigest()[:32]
    try:
        folder = ensure(ensure(runtime_dir(), private=True) / "downloads", private=True)
    except OSError as error:
        raise disk_error(error, first) from error
    lock = filelock.FileLock(folder / f"{digest}.lock", is_singleton=False)
    moved_at, amount, told = time.monotonic(), -1, False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except filelock.Timeout:
            if not wait:
                raise DownloadError(
                    f'"{plain_text(first.name, 100)}" is being fetched right now. Stop that first.',
                    problem="in_use",
                ) from None
            now = sum(place.bytes_there() for place in places)
            if now != amount:
                moved_at, amount = time.monotonic(), now
            if time.monotonic() - moved_at > _STALLED_S:
                raise DownloadError(
                    f'Another program has been fetching "{plain_text(first.name, 100)}" and has '
                    f"not moved for {format_duration(_STALLED_S)}. End it, then try again.",
                    problem="in_use",
                ) from None
            if not told:
                told = True
                job.note(
                    f'Another program is fetching "{plain_text(first.name, 100)}" right now, so '
                    "this one waits for it."
                )
            job.turn("waiting", file=first.name)
            job.sleep(0.2)
        except NotImplementedError as error:
            raise DownloadError(
                f"The disk of {plain_text(str(folder), 200)} cannot keep two programs apart (it "
                "has no file locks), so nothing is fetched. Set GGUF_WIDGETS_HOME to a folder on "
                "another disk.",
                problem="disk",
                path=str(folder),
            ) from error
        except OSError as error:
            raise disk_error(error, first) from error
    try:
        yield
    finally:
        lock.release()


def _who(file: Wanted | Record, called: str) -> tuple[str, str]:
    """Return what all versions of a file have in common, and no other file has.

    Parameters
    ----------
    file : Wanted or Record
    called : str
        What it is called at its source.
    """
    # An address is kept without its query, which may hold a secret and may mean another file; and
    # one address may lead to files of several names, by and by.
    if file.identity.startswith("url:"):
        return file.identity, called
    return file.name, ""


def _same_kind(record: Record, checksum: Checksum) -> bool:
    return record.checksum is not None and record.checksum.kind == checksum.kind


def _gguf_files(folder: Path) -> list[Path]:
    """List the model files below a folder, hidden ones left out; a bounded number of them."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(root, name)
            for name in sorted(names)
            if name.lower().endswith(".gguf") and not name.startswith(".")
        ]
        if len(found) > _MOST_FILES:
            break
    return found[:_MOST_FILES]
