"""What can be said of an address before anything is fetched, and whether the hub may be asked.

Promises: looking costs some MB at most and writes nothing that stays; what is no model is refused
here already. Leaves to others: fetching (`from_web`), the hub (`hub`), judging (`remote`).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download.from_web import disposition_name, find_of_web, parts_at
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
from gguf_widgets.core.download.names import UrlName, parse_name
from gguf_widgets.core.download.progress import Cancel, Job
from gguf_widgets.core.download.remote import Fit, Machine, fit_of, remote_header
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.errors import DownloadError, InvalidValueError, ModelFileError
from gguf_widgets.core.file_names import clean_file_name
from gguf_widgets.core.format import plain_text

__all__ = ["Address", "free_bytes", "hub_is_offline", "hub_page", "look_at"]

# Of so many parts the sizes are asked for, one after the other.
_MOST_ASKED: Final = 24
_RANGE_TOTAL: Final = re.compile(r"bytes \d{1,19}-\d{1,19}/(\d{1,19})", re.IGNORECASE)
_WHOLE_NUMBER: Final = re.compile(r"\d{1,19}")
_YES: Final = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its own switches


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """What an address holds.

    Attributes
    ----------
    name : str
        The address, without its query.
    host : str
    file_name : str
        What the file will be called here; of a split model its first part.
    num_files : int
    size_bytes : int or None
        Of all files together; None if the server does not say.
    fit : Fit or None
        None where the header could not be read from afar.
    here : Path or None
        The model, if it was fetched from that address before.
    """

    name: str
    host: str
    file_name: str
    num_files: int
    size_bytes: int | None
    fit: Fit | None
    here: Path | None


def look_at(
    address: str, *, cancel: Cancel | None = None, patience: Patience | None = None
) -> Address:
    """Ask what there is at an https address.

    Parameters
    ----------
    address : str
    cancel, patience : optional
        As for `gguf_widgets.core.download.download`.

    Raises
    ------
    InvalidValueError
        If it is no address that is taken.
    MissingDependencyError
    DownloadError
        With the problems of `gguf_widgets.core.download.download`; "not_a_model" if the file is
        none that can be loaded.
    """
    name = parse_name(address)
    if not isinstance(name, UrlName):
        raise InvalidValueError(f'"{plain_text(address, 120)}" is no web address.')
    limits, job = patience or Patience(), Job(cancel=cancel)
    with web_session(limits) as client:

        def source(url: str) -> Source:
            shown = plain_text(name.host, 80)
            return Source(url=url, session=functools.partial(_same, client), shown=shown)

        own_name = PurePosixPath(unquote(urlsplit(name.url).path)).name
        given, size = _ask(name, source(name.url), job, limits)
        if own_name.lower().endswith(".gguf"):
            given = clean_file_name(own_name)
        parts = parts_at(name, given, own_name, None)
        sizes = [size]
        if 1 < len(parts) <= _MOST_ASKED:
            sizes = [
                size if url == name.url else _ask(UrlName(url), source(url), job, limits)[1]
                for _, url in parts
            ]
        is_known = len(sizes) == len(parts) and all(one is not None for one in sizes)
        fit = None
        if is_known:
            wanted = [
                (part, Wanted(source(url), str(UrlName(url)), "", size=one))
                for (part, url), one in zip(parts, sizes, strict=True)
            ]
            fit = _judged(wanted, job, limits)
    return Address(
        name=str(name),
        host=name.host,
        file_name=parts[0][0],
        num_files=len(parts),
        size_bytes=sum(one or 0 for one in sizes) if is_known else None,
        fit=fit,
        here=find_of_web(name),
    )


def free_bytes() -> int | None:
    """Return what is free on the disk of the models folder; None where the disk does not tell."""
    place = models_dir()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def hub_is_offline() -> bool:
    """Say whether the hub must not be asked, without importing its library for that."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        return bool(getattr(constants, "HF_HUB_OFFLINE", False))
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in _YES for name in switches)


def hub_page(repo: str) -> str:
    """Return the address of a repository's page; "" before the hub was first asked."""
    constants = sys.modules.get("huggingface_hub.constants")
    endpoint = str(getattr(constants, "ENDPOINT", "") or "")
    return f"{endpoint.rstrip('/')}/{repo}" if endpoint.startswith(("https://", "http://")) else ""


def _same(client: Any) -> Any:
    return client


def _judged(wanted: list[tuple[str, Wanted]], job: Job, patience: Patience) -> Fit | None:
    """Judge a model where it is.

    Raises
    ------
    DownloadError
        ``problem`` is "not_a_model" if it is none.
    """
    try:
        with remote_header(wanted, job, patience=patience) as header:
            return None if header is None else fit_of(header, Machine.now())
    except ModelFileError as error:
        raise DownloadError(
            f"{error.message} Nothing was fetched.",
            problem="not_a_model",
            kind=type(error).__name__,
        ) from error


def _ask(name: UrlName, source: Source, job: Job, patience: Patience) -> tuple[str, int | None]:
    """Return what a server calls the file, and its size."""
    retries = Retries(patience, job, source.shown)
    errors = transport_errors()
    while True:
        job.check()
        try:
            with opened(source, {"range": "bytes=0-0"}, patience, job) as (answer, elsewhere):
                if not refuse_status(source, answer, elsewhere=elsewhere, retries=retries):
                    continue
                given = disposition_name(answer.headers.get("content-disposition", ""))
                if given:
                    return clean_file_name(given), _size_of(answer)
                found = UrlName(str(answer.url)).file_name if elsewhere else name.file_name
                return found, _size_of(answer)
        except bad_address_errors() as error:
            raise bad_address(source) from error
        except errors as error:
            job.check()
            why, again = explain(error)
            if not again:
                raise DownloadError(f"{source.shown} {why}.", problem="unreachable") from error
            retries.failed(why, problem="unreachable", cause=error)


def _size_of(answer: Any) -> int | None:
    if answer.status_code == 206:
        match = _RANGE_TOTAL.fullmatch(answer.headers.get("content-range", "").strip())
        return int(match[1]) if match else None
    length = answer.headers.get("content-length", "").strip()
    is_whole = answer.status_code == 200 and _WHOLE_NUMBER.fullmatch(length)
    return int(length) if is_whole else None
