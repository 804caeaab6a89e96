"""Getting a model from a plain address on the web.

Promises: one file, or all parts of a split model, under a clean name in the models folder; a file
of the same name from elsewhere is never overwritten. Leaves to others: the bytes (`transfer`), what
happens when they are there (`whole_model`).
"""

from __future__ import annotations

import email.message
import functools
import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from gguf_widgets.core.config import expanded, models_dir
from gguf_widgets.core.download.from_hub import Fetched
from gguf_widgets.core.download.here import followed
from gguf_widgets.core.download.http import (
    Patience,
    Retries,
    Source,
    bad_address,
    bad_address_errors,
    explain,
    opened,
    refuse_status,
    transport_errors,
    web_session,
)
from gguf_widgets.core.download.names import UrlName, local_path
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Checksum, Place, records_in
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.download.whole_model import Newer, get_files
from gguf_widgets.core.errors import DownloadError, InvalidValueError, ModelFileError
from gguf_widgets.core.file_names import clean_file_name
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf import check_is_model, read_header
from gguf_widgets.core.gguf_split import split_name

__all__ = ["checked_sha256", "disposition_name", "fetch_from_web", "find_of_web", "parts_at"]

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST_PARTS: Final = 1000


def checked_sha256(text: str | None) -> str | None:
    """Return a SHA-256 that a person gave, in small letters.

    Raises
    ------
    InvalidValueError
    """
    if text is None:
        return None
    value = text.strip().lower().removeprefix("sha256:")
    if not _SHA256.fullmatch(value):
        raise InvalidValueError(
            f'"{plain_text(text, 80)}" is no SHA-256: that has 64 digits from 0 to 9 and a to f.',
            value=plain_text(text, 80),
        )
    return value


def fetch_from_web(
    name: UrlName,
    *,
    to: str | os.PathLike[str] | None,
    sha256: str | None,
    newer: Newer,
    job: Job,
    patience: Patience,
) -> Fetched:
    """Get a model from an address; see `gguf_widgets.core.download.download`."""
    folder = expanded(to) if to is not None else models_dir()
    if newer == "ignore" and to is None and sha256 is None:
        here = find_of_web(name)
        if here is not None:
            parts = read_header(here).parts
            return Fetched(str(name), here, parts, None, "here", notes=tuple(job.notes))
    with web_session(patience) as client:
        session = functools.partial(_same, client)
        source = Source(url=name.url, session=session, shown=plain_text(name.host, 80))
        own_name = PurePosixPath(unquote(urlsplit(name.url).path)).name
        job.turn("asking")
        if own_name.lower().endswith(".gguf"):
            file_name = clean_file_name(own_name)
        else:
            file_name = _name_by_server(name, source, job, patience)
        wanted, places = [], []
        for part_name, url in parts_at(name, file_name, own_name, sha256):
            part = Source(url=url, session=session, shown=source.shown)
            digest = hashlib.sha256(url.encode()).hexdigest()
            checksum = None if sha256 is None else Checksum("sha256", sha256)
            wanted.append(
                Wanted(part, str(UrlName(url)), f"url:{digest}", size=None, checksum=checksum)
            )
            places.append(Place(folder, local_path(folder, part_name)))
        places = followed(wanted, places, len(wanted))
        origin, received, records = get_files(
            wanted,
            places,
            num_parts=len(wanted),
            newer="get",
            job=job,
            patience=patience,
            refuse_other=functools.partial(_refuse_other, newer),
            again=newer == "get",
        )
    checksum = records[0].checksum
    return Fetched(
        name=str(name),
        path=places[0].final,
        files=tuple(place.final for place in places),
        companion=None,
        origin=origin,
        received_bytes=received,
        sha256=checksum.value if checksum is not None and len(places) == 1 else "",
        notes=tuple(job.notes),
    )


def find_of_web(name: UrlName) -> Path | None:
    """Return a model's file if it was fetched from that address; the network is not asked."""
    digest = hashlib.sha256(name.url.encode()).hexdigest()
    for record, path in records_in(models_dir()):
        if record.identity == f"url:{digest}":
            try:
                check_is_model(read_header(path))
            except ModelFileError:
                continue
            split = split_name(path)
            return split.path_of(1, path.parent) if split else path
    return None


def _same(client: Any) -> Any:
    return client


def _refuse_other(newer: Newer, wanted: Wanted, place: Place) -> None:
    """Raise for a file of that name which did not come from that address.

    Raises
    ------
    DownloadError
        ``problem`` is "name_taken".
    """
    if newer == "get" and place.own().identity == wanted.identity:
        return
    raise DownloadError(
        f'There is another file called "{plain_text(place.name, 100)}" in '
        f"{plain_text(str(place.final.parent), 200)} already. Rename it, or choose another folder "
        "(--to).",
        problem="name_taken",
        path=str(place.final),
    )


def parts_at(
    name: UrlName, file_name: str, own_name: str, sha256: str | None
) -> list[tuple[str, str]]:
    """Return the file name and the address of each part; of a whole model of one.

    Raises
    ------
    InvalidValueError
    """
    split = split_name(Path(file_name))
    if split is None or split.num_parts == 1 or file_name != own_name:
        return [(file_name, name.url)]
    if split.num_parts > _MOST_PARTS:
        raise InvalidValueError(
            f"By its name this model has {split.num_parts:,} parts; {_MOST_PARTS:,} is the most."
        )
    if sha256 is not None:
        raise InvalidValueError(
            f"This model has {split.num_parts} files, so one SHA-256 cannot be meant for it. "
            "Leave it out."
        )
    pieces = urlsplit(name.url)
    above = pieces.path.rpartition("/")[0]
    found = []
    for number in range(1, split.num_parts + 1):
        part = split.path_of(number, Path()).name
        path = f"{above}/{quote(part)}"
        found.append((part, urlunsplit((pieces.scheme, pieces.netloc, path, pieces.query, ""))))
    return found


def _name_by_server(name: UrlName, source: Source, job: Job, patience: Patience) -> str:
    """Ask what the file is called: many addresses for downloading do not say."""
    retries = Retries(patience, job, source.shown)
    errors = transport_errors()
    while True:
        try:
            with opened(source, {"range": "bytes=0-0"}, patience, job) as (answer, elsewhere):
                if not refuse_status(source, answer, elsewhere=elsewhere, retries=retries):
                    continue
                given = disposition_name(answer.headers.get("content-disposition", ""))
                if given:
                    return clean_file_name(given)
                return UrlName(str(answer.url)).file_name if elsewhere else name.file_name
        except bad_address_errors() as error:
            raise bad_address(source) from error
        except errors as error:
            job.check()
            why, again = explain(error)
            if not again:
                raise DownloadError(f"{source.shown} {why}.", problem="unreachable") from error
            retries.failed(why, problem="unreachable", cause=error)


def disposition_name(value: str) -> str:
    """Return the file name in a Content-Disposition header (RFC 6266); "" if there is none."""
    if not value or len(value) > 4000:
        return ""
    message = email.message.Message()
    try:
        message["content-disposition"] = value
        return message.get_filename() or ""
    except (ValueError, LookupError, TypeError):
        # An unknown character set, line ends inside, numbered pieces that do not follow each other.
        return ""
