"""What was begun and not finished, put together as models: what one can go on with, or remove.

Promises: the parts of a split model and its companion are one entry; an entry says whether it can
go on, and if not why. Leaves to others: the list itself and removing (`leftovers`), going on
(`queue`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from gguf_widgets.core.download.here import one_at_a_time
from gguf_widgets.core.download.leftovers import Unfinished
from gguf_widgets.core.download.names import HubName, UrlName, parse_name
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Place, Record
from gguf_widgets.core.download.repo_files import DEFAULT_QUANT, quant_in
from gguf_widgets.core.errors import DownloadError, InvalidValueError
from gguf_widgets.core.gguf_split import split_name

__all__ = ["Leftover", "is_of", "put_together"]


@dataclasses.dataclass(frozen=True, slots=True)
class Leftover:
    """A model that has arrived in part.

    Attributes
    ----------
    key : str
        Tells it from the others, for as long as its files lie where they are.
    name : str
        What to ask for to go on; of an address without its query.
    title : str
        The file's name; of a split model its first part's that is there.
    source : str
        The repository, or the host.
    files : tuple of Unfinished
    received_bytes : int
    total_bytes : int or None
        None where the parts that were not begun are not known.
    sha256 : str or None
        The checksum that the person gave for it.
    hindrance : str
        Why it cannot go on by its name alone; "" if it can.
    is_busy : bool
        Whether another program, or another page's, is fetching it right now.
    """

    key: str
    name: str
    title: str
    source: str
    files: tuple[Unfinished, ...]
    received_bytes: int
    total_bytes: int | None
    sha256: str | None = None
    hindrance: str = ""
    is_busy: bool = False


def put_together(files: Sequence[Unfinished], models: Path) -> list[Leftover]:
    """Return the models that unfinished files belong to, in the order of their files.

    Parameters
    ----------
    files : sequence of Unfinished
    models : Path
        The folder that they were found in.
    """
    groups: dict[tuple[str, str], list[Unfinished]] = {}
    for one in files:
        split = split_name(one.path)
        stem = str(one.path.with_name(split.stem)) if split else str(one.path)
        groups.setdefault((_source_of(one.name), stem), []).append(one)
    companions = [key for key, members in groups.items() if _is_companion(members[0])]
    for key in companions:
        same = [k for k in groups if k[0] == key[0] and k not in companions]
        if len(same) == 1:
            groups[same[0]] += groups.pop(key)
    return [_leftover(source, members, models) for (source, _), members in groups.items()]


def is_of(one: Unfinished, wanted: HubName | UrlName, seen: Container[str], models: Path) -> bool:
    """Say whether an unfinished file belongs to a download.

    Parameters
    ----------
    one : Unfinished
    wanted : HubName or UrlName
        What the download was asked for by.
    seen : container of str
        The names of the files that it has told of.
    models : Path
        The folder that the file was found in.
    """
    if isinstance(wanted, UrlName):
        if not _source_of(one.name) or one.name.startswith("hf:"):
            return False
        alike = one.path.name in seen and one.path.parent == models
        return alike or _same_split(one.name, str(wanted))
    if _source_of(one.name).casefold() != wanted.repo.casefold():
        return False
    if one.path.name in seen:
        return True
    inside = PurePosixPath(one.name).parts[2:]  # after "hf:owner" and the repository
    path = "/".join(inside)
    if _is_companion(one):
        return False  # others may share it; once it was seen, it counts
    if wanted.file is not None:
        return _same_split(path, wanted.file)
    quant = wanted.quant or DEFAULT_QUANT
    return quant_in(path).removeprefix("UD-") == quant.upper().removeprefix("UD-")


def _leftover(source: str, members: list[Unfinished], models: Path) -> Leftover:
    first = members[0]
    split = split_name(first.path)
    complete = split is None or split.num_parts == sum(not _is_companion(one) for one in members)
    totals = [one.total_bytes for one in members]
    known = complete and all(total is not None for total in totals)
    digest, hindrance = None, ""
    if not source:
        hindrance = "What it is a part of is not known any more, so it cannot go on."
    elif _is_companion(first):
        hindrance = "It is the companion of a model, and goes on when you ask for that model again."
    elif not first.name.startswith("hf:"):
        record = Place(models, first.path).read_arriving()
        hindrance = _hindrance(record)
        checksum = record.checksum
        if checksum is not None and checksum.kind == "sha256" and split is None:
            digest = checksum.value
    return Leftover(
        key=hashlib.sha256(str(first.path).encode("utf-8", "surrogatepass")).hexdigest()[:16],
        name=first.name,
        title=first.path.name,
        source=source,
        files=tuple(members),
        received_bytes=sum(one.received_bytes for one in members),
        total_bytes=sum(total or 0 for total in totals) if known else None,
        sha256=digest,
        hindrance=hindrance,
        is_busy=_is_busy(first, models),
    )


def _is_busy(first: Unfinished, models: Path) -> bool:
    """Say whether a program holds the model's lock; asking takes it for a moment."""
    try:
        with one_at_a_time([Place(models, first.path)], Job(), wait=False):
            return False
    except DownloadError as error:
        return error.details.get("problem") == "in_use"


def _hindrance(record: Record) -> str:
    """Say why an address cannot go on: what came after its "?" is not kept, it may be a secret."""
    if record.identity == f"url:{hashlib.sha256(record.name.encode()).hexdigest()}":
        return ""
    return (
        "Its address had more to it, which may be a secret and is not kept. Paste the whole "
        "address again to go on."
    )


def _source_of(name: str) -> str:
    """Return the repository or the host of a name; "" if it is neither."""
    try:
        parsed = parse_name(name)
    except InvalidValueError:
        return ""
    return parsed.host if isinstance(parsed, UrlName) else parsed.repo


def _is_companion(one: Unfinished) -> bool:
    return "mmproj" in one.path.name.lower()


def _same_split(one: str, other: str) -> bool:
    """Say whether two paths or addresses mean one file, or parts of one model."""
    return _without_part(one) == _without_part(other)


def _without_part(text: str) -> str:
    path = unquote(urlsplit(text).path)
    split = split_name(Path(PurePosixPath(path).name))
    if split is None:
        return text
    return text.rpartition("/")[0] + "/" + split.stem
