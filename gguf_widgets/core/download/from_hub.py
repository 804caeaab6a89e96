"""Getting a model of the hub: from its name to a file that can be loaded.

Promises: what is returned was whole, had the right checksum and was judged as a model before it got
its name; a download that was ended goes on where it stopped; what is on this machine already is
used; nothing that another program owns is changed; whatever is chosen or found different is said.
Leaves to others: the single steps (the other files of this folder).

Where models go, and why
------------------------
Into our models folder, as ``owner/repo/file.gguf``: they are plain files under names that people
know, which can be renamed, moved to the trash and found by every program; and they are ours, so
that removing one takes it from nobody. The cache that the hub's programs share is read, never
written: a model that is there is used in place, and its layout stays the library's own business.
The price is a second copy when another program fetches the same model later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from gguf_widgets.core.config import expanded, models_dir
from gguf_widgets.core.download import hub
from gguf_widgets.core.download.here import (
    cached_model,
    followed,
    model_in,
    one_at_a_time,
    state_of,
)
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.names import HubName, local_path
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Checksum, Place, Record
from gguf_widgets.core.download.repo_files import RepoFile, RepoModel, choose
from gguf_widgets.core.download.transfer import transfer
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.download.whole_model import Newer, check_disk, get_files, judge, remember
from gguf_widgets.core.errors import (
    DownloadError,
    InvalidValueError,
    MissingDependencyError,
    ModelFileError,
)
from gguf_widgets.core.file_names import clean_folder_name, same_name
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import read_header
from gguf_widgets.core.gguf_tables import FILE_TYPES

__all__ = ["Fetched", "fetch_from_hub", "find_of_hub"]

# Why the hub could not be asked; then what is here is used. Any other refusal is about the model.
_NO_ANSWER: Final = ("offline", "unreachable", "server_busy", "server")


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """A model that is on this machine now.

    Attributes
    ----------
    name : str
        What it was asked for by.
    path : Path
        The file to load; of a split model its first part.
    files : tuple of Path
        All parts, in order.
    companion : Path or None
        The mmproj file that goes with it.
    origin : {"fetched", "here", "cache"}
        Whether it was fetched now, was in the models folder, or is in the cache of other programs.
    received_bytes : int
        What this call took from the network.
    sha256 : str
        Of a model in one file that was fetched; else "".
    revision, license : str
        Of the repository, as far as they are known.
    notes : tuple of str
        What the person should know.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    companion: Path | None
    origin: Literal["fetched", "here", "cache"]
    received_bytes: int = 0
    sha256: str = ""
    revision: str = ""
    license: str = ""
    notes: tuple[str, ...] = ()


def fetch_from_hub(
    name: HubName,
    *,
    to: str | os.PathLike[str] | None,
    revision: str | None,
    sha256: str | None,
    newer: Newer,
    job: Job,
    patience: Patience,
) -> Fetched:
    """Get a model of the hub; see `gguf_widgets.core.download.download`."""
    folder = expanded(to) if to is not None else _folder_of(name.repo)
    if newer == "ignore" and revision is None and sha256 is None:
        found = _found_here(name, folder, job, exact=True, own_only=to is not None)
        if found is not None:
            return found
    try:
        repo = hub.repo(name.repo, revision=revision, patience=patience, job=job)
    except (DownloadError, MissingDependencyError) as error:
        if isinstance(error, DownloadError) and error.details.get("problem") not in _NO_ANSWER:
            raise
        if sha256 is not None or revision is not None or newer == "get":
            raise
        found = _found_here(name, folder, job, exact=False, own_only=to is not None, why=error)
        if found is None:
            raise _not_here(error, folder) from error
        return found
    name = name._replace(repo=repo.name)
    if to is None:
        folder = _folder_of(repo.name)
    if repo.left_out:
        names = ", ".join(f'"{path}"' for path in repo.left_out[:5])
        num_more = len(repo.left_out) - 5
        more = f", and so are {num_more:,} more" if num_more > 0 else ""
        job.note(f"{names} is left out{more}: such a name could lead out of the models folder.")
    model, why = choose(repo.models, name)
    if why:
        job.note(why)
    model = _with_checksum(model, sha256)
    in_cache = [] if to is not None or newer == "get" else _cached(repo, revision, model)
    if in_cache:
        job.note("It is in the cache that other programs use, too, so nothing was fetched.")
        return _in_cache(name, repo, model, in_cache, folder, job, patience)
    wanted, places = _plan(repo, model.all_files, folder, flat=to is not None)
    places = followed(wanted, places, len(model.files))
    exact = sha256 is not None or revision is not None
    origin, received, records = get_files(
        wanted,
        places,
        num_parts=len(model.files),
        newer=newer,
        job=job,
        patience=patience,
        refuse_other=functools.partial(
            _refuse_other,
            name.repo,
            # What was not fetched from there is not replaced, even where it has that name.
            own_only=to is not None or newer == "get",
            exact=exact and newer != "get",
        ),
    )
    _compare_quant(model, places[0].final, job)
    return Fetched(
        name=str(name),
        path=places[0].final,
        files=tuple(place.final for place in places[: len(model.files)]),
        companion=places[-1].final if model.companion else None,
        origin=origin,
        received_bytes=received,
        sha256=_sha256_of(records[0]) if len(model.files) == 1 else "",
        revision=records[0].revision,
        license=records[0].license or repo.license,
        notes=tuple(job.notes),
    )


def find_of_hub(name: HubName) -> Path | None:
    """Return a model's file if it is on this machine; nothing is asked of the network."""
    folder = _folder_of(name.repo)
    found = _found_here(name, folder, Job(), exact=True, own_only=False)
    return None if found is None else found.path


def _folder_of(repo: str) -> Path:
    """Return the folder for a repository's models, under names that every system takes.

    The hub does not tell capital letters apart: one that is here in other letters is the one.
    """
    folder = models_dir()
    for part in map(clean_folder_name, repo.split("/")):
        inside = folder / part
        if not inside.is_dir():
            with contextlib.suppress(OSError):
                alike = [one for one in folder.iterdir() if same_name(one.name) == same_name(part)]
                inside = alike[0] if len(alike) == 1 else inside
        folder = inside
    return folder


def _refuse_other(repo: str, _wanted: Wanted, place: Place, *, own_only: bool, exact: bool) -> None:
    """Raise for a file of that name which must stay, or which will not do.

    Raises
    ------
    DownloadError
        ``problem`` is "name_taken".
    """
    name, folder = plain_text(place.name, 100), plain_text(str(place.final.parent), 200)
    if own_only and not place.own().name.casefold().startswith(f"hf:{repo}/".casefold()):
        raise DownloadError(
            f'There is another file called "{name}" in {folder} already. Rename it, or choose '
            "another folder (--to).",
            problem="name_taken",
            path=str(place.final),
        )
    if exact:
        raise DownloadError(
            f'"{name}" is in {folder} already, in another version than you ask for. Choose another '
            "folder (--to), or have it replaced (--newer).",
            problem="name_taken",
            path=str(place.final),
        )


def _plan(
    repo: hub.Repo, files: Sequence[RepoFile], folder: Path, *, flat: bool
) -> tuple[list[Wanted], list[Place]]:
    """Return where each file comes from and where it goes.

    Raises
    ------
    DownloadError
        ``problem`` is "name_taken" if two of them would get the same name here.
    """
    places = []
    for file in files:
        inside = PurePosixPath(file.path).name if flat else file.path
        places.append(Place(folder, local_path(folder, inside)))
    if len({same_name(str(place.final)) for place in places}) < len(places):
        raise DownloadError(
            f"Two files of {repo.name} would get the same name on this machine, so they cannot be "
            "fetched together.",
            problem="name_taken",
        )
    return [hub.wanted(repo, file) for file in files], places


def _with_checksum(model: RepoModel, sha256: str | None) -> RepoModel:
    """Hold a checksum that the person has against the hub's.

    Raises
    ------
    InvalidValueError, DownloadError
    """
    if sha256 is None:
        return model
    if len(model.files) > 1:
        raise InvalidValueError(
            f"This model has {len(model.files)} files, so one SHA-256 cannot be meant for it. "
            "Leave it out: each file is compared with the hub's own."
        )
    (file,) = model.files
    given = Checksum("sha256", sha256)
    if file.checksum is not None and file.checksum.kind == "sha256" and file.checksum != given:
        raise DownloadError(
            f'The hub\'s "{plain_text(file.path, 100)}" has the SHA-256 {file.checksum.value}, and '
            f"you asked for {sha256}. Nothing was fetched.",
            problem="checksum",
            expected=sha256,
            sha256=file.checksum.value,
        )
    return dataclasses.replace(model, files=(file._replace(checksum=given),))


def _cached(repo: hub.Repo, revision: str | None, model: RepoModel) -> list[Path]:
    for one in dict.fromkeys((repo.revision, revision)):
        folder = hub.cached_folder(repo.name, one)
        found = cached_model(folder, model.files) if folder is not None else []
        if found:
            return found
    return []


def _in_cache(
    name: HubName,
    repo: hub.Repo,
    model: RepoModel,
    files: list[Path],
    folder: Path,
    job: Job,
    patience: Patience,
) -> Fetched:
    """Return a model in the shared cache; its companion is fetched if only that is missing."""
    companion, received = None, 0
    judge(files, len(files), job, arrived=False)
    if model.companion is not None:
        base = files[0]
        for _ in PurePosixPath(model.path).parts:
            base = base.parent
        cached = cached_model(base, [model.companion])
        companion = cached[0] if cached else None
        if companion is None:
            wanted, places = _plan(repo, [model.companion], folder, flat=False)
            with one_at_a_time(places, job):
                state = state_of(wanted[0], places[0], job)
                if state == "other":
                    job.note(
                        f'Its companion "{plain_text(places[0].name, 100)}" is here in another '
                        "version, which is used."
                    )
                if state == "missing":
                    check_disk(folder, wanted[0].size or 0)
                    job.turn("fetching", file=places[0].name, total_bytes=wanted[0].size)
                    record = transfer(wanted[0], places[0], job, patience=patience)
                    places[0].settle(record)
                    remember(places[0].final, record)
                    received = record.size or 0
            companion = places[0].final
    job.turn("done", file=files[0].name)
    return Fetched(
        name=str(name),
        path=files[0],
        files=tuple(files),
        companion=companion,
        origin="cache",
        received_bytes=received,
        revision=repo.revision,
        license=repo.license,
        notes=tuple(job.notes),
    )


def _found_here(
    name: HubName,
    folder: Path,
    job: Job,
    *,
    exact: bool,
    own_only: bool,
    why: DownloadError | MissingDependencyError | None = None,
) -> Fetched | None:
    """Return a model that can be had without asking the hub, or None."""
    origin: Literal["here", "cache"] = "here"
    base = folder
    files = model_in(folder, name, exact=exact, only_recorded=own_only)
    if not files and not own_only:
        cache = hub.cached_folder(name.repo, None)
        if cache is not None:
            base, origin = cache, "cache"
            files = model_in(cache, name, exact=exact, only_recorded=False)
    if not files:
        return None
    if why is not None:
        job.note(f"{why.message} The copy that is on this machine is used: {files[0].name}.")
    record = Place(base, files[0]).read() if origin == "here" else Record()
    projector = files[-1] if "mmproj" in files[-1].name.lower() else None
    job.turn("done", file=files[0].name)
    return Fetched(
        name=str(name),
        path=files[0],
        files=tuple(file for file in files if file is not projector),
        companion=projector,
        origin=origin,
        revision=record.revision,
        license=record.license,
        notes=tuple(job.notes),
    )


def _not_here(
    error: DownloadError | MissingDependencyError, folder: Path
) -> DownloadError | MissingDependencyError:
    there = sorted(path.name for path in folder.rglob("*.gguf") if ".downloads" not in path.parts)
    if there:
        names = ", ".join(plain_text(name, 80) for name in there[:6])
        more = f" What is there of this repository: {names}."
    else:
        more = " There is no copy of it on this machine either."
    return type(error)(error.message + more, **error.details)


def _compare_quant(model: RepoModel, path: Path, job: Job) -> None:
    """Say so if the header names another quantisation than the file's name does."""
    by_name = model.quantization.removeprefix("UD-")
    try:
        by_header = read_header(path).info().quantization
    except ModelFileError:
        return  # it was judged a moment ago; whoever loads it will say what has happened
    if by_name in FILE_TYPES.values() and by_header != by_name:
        job.note(f"By its name this is {by_name}, and by its header {plain_text(by_header, 40)}.")


def _sha256_of(record: Record) -> str:
    checksum = record.checksum
    return checksum.value if checksum is not None and checksum.kind == "sha256" else ""
