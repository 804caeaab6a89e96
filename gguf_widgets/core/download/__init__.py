"""Models from elsewhere: from the hub, through huggingface_hub, and from a plain https address.

Promises: a name is taken apart in one place; a download goes on where it stopped, can be stopped at
any moment, and ends in a model that can be loaded or in one of our errors; nothing is written
outside the folder it is meant for. Leaves to others: finding what is on this machine
(`core.library`), loading (`core.manager`).

This is the face of the folder; each file is about one thing: `names`, `repo_files` (which files
make a model, and which model is meant), `hub` (the only one that imports huggingface_hub), `found`
(what it holds), `http` (one request), `wanted`, `transfer` and `refusals` (one file), `record`
(what is kept of it), `here` (what is there already), `remote` (a header read from afar),
`whole_model` (all files of one), `from_hub` and `from_web` (from a name to a model), `listing`,
`leftovers`, `progress`; `looking`, `queue`, `tasks`, `jobs` and `left` (several downloads, as a
page shows them). None of them is called as one of the functions below: a module that is imported
becomes its package's attribute.

Examples
--------
>>> from gguf_widgets.core import download
>>> path = download.fetch("hf:owner/repo:Q4_K_M", on_progress=print)  # doctest: +SKIP
>>> download.search("small chat model")  # doctest: +SKIP
>>> download.files("owner/repo")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from gguf_widgets.core.config import models_dir
from gguf_widgets.core.download.http import Patience
from gguf_widgets.core.download.names import (
    HubName,
    UrlName,
    is_download_name,
    parse_name,
)
from gguf_widgets.core.download.progress import Cancel, Job, OnNote, OnProgress, Progress
from gguf_widgets.core.errors import InvalidValueError

if TYPE_CHECKING:
    from gguf_widgets.core.download.from_hub import Fetched
    from gguf_widgets.core.download.hub import FoundList, Repo
    from gguf_widgets.core.download.leftovers import Unfinished
    from gguf_widgets.core.download.whole_model import Newer

__all__ = [
    "HubName",
    "Patience",
    "Progress",
    "UrlName",
    "discard",
    "download",
    "fetch",
    "files",
    "find",
    "is_download_name",
    "parse_name",
    "search",
    "unfinished",
]


class _Options(TypedDict, total=False):
    """What may be said beside a model's name; `download` has what each means."""

    to: str | os.PathLike[str] | None
    revision: str | None
    sha256: str | None
    newer: Newer
    on_progress: OnProgress | None
    on_note: OnNote | None
    cancel: Cancel | None
    patience: Patience | None


def fetch(name: str, **options: Unpack[_Options]) -> Path:
    """Have a model on this machine, and return its file (of a split model its first part).

    The same as `download`, with the same options, for whoever needs only the path.
    """
    return download(name, **options).path


def download(
    name: str,
    *,
    to: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    newer: Newer = "tell",
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
    cancel: Cancel | None = None,
    patience: Patience | None = None,
) -> Fetched:
    """Have a model on this machine: fetch it, go on with fetching it, or find it here.

    Parameters
    ----------
    name : str
        ``hf:owner/repo``, ``hf:owner/repo:Q4_K_M``, ``hf:owner/repo/file.gguf`` or an https
        address; of a split model any part means all of them.
    to : path-like, optional
        The folder for its files. Default: inside the models folder.
    revision : str, optional
        A branch, tag or commit of the repository. Default: its main branch.
    sha256 : str, optional
        What the file must come to, for a model in one file.
    newer : {"tell", "ignore", "get"}, default "tell"
        What to do if it is here and its source may have another version: say so and use the one
        that is here; not even ask, where the name means one that is here; or replace it.
    on_progress : callable, optional
        Called in this thread with a `Progress`; answering False stops it.
    on_note : callable, optional
        Called with a sentence that the person should see. All are in the result, too.
    cancel : threading.Event or callable, optional
        Stops it when set, or when it answers True (asked from another thread, too), within a
        second.
    patience : Patience, optional

    Returns
    -------
    Fetched

    Raises
    ------
    InvalidValueError
        For a name or an argument that cannot be right.
    MissingDependencyError
        If huggingface_hub is not installed; details: ``install``.
    DownloadError
        ``details["problem"]`` is one of:

        - about the name: "no_models", "not_found", "no_such_quantization", "ambiguous",
          "incomplete" (with ``available``, where there is something to choose from);
        - who may have it: "gated", "not_allowed";
        - the way: "offline", "unreachable", "server_busy" (with ``retry_after_s``), "server",
          "redirect", "too_many_files";
        - what comes: "size", "checksum", "not_gguf", "not_a_model";
        - this machine: "no_space" (with ``needed_bytes``, ``free_bytes``), "disk", "name_taken",
          "in_use";
        - "cancelled".
    """
    # Late: reading headers and judging memory takes what `gguf_widgets` alone does not need.
    from gguf_widgets.core.download.from_hub import fetch_from_hub
    from gguf_widgets.core.download.from_web import checked_sha256, fetch_from_web
    from gguf_widgets.core.download.hub import hub_name

    if newer not in ("tell", "ignore", "get"):
        raise InvalidValueError(
            f'newer is {newer!r}; it must be "tell", "ignore" or "get".', value=str(newer)
        )
    parsed = parse_name(name)
    digest = checked_sha256(sha256)
    job = Job(on_progress, on_note, cancel)
    limits = patience or Patience()
    if isinstance(parsed, UrlName):
        meant = hub_name(parsed)
        if meant is None:
            if revision is not None:
                raise InvalidValueError("Only a repository of the hub has revisions.")
            return fetch_from_web(
                parsed, to=to, sha256=digest, newer=newer, job=job, patience=limits
            )
        parsed = meant[0]
        revision = revision or (None if meant[1] == "main" else meant[1])
    return fetch_from_hub(
        parsed,
        to=to,
        revision=revision,
        sha256=digest,
        newer=newer,
        job=job,
        patience=limits,
    )


def find(name: str) -> Path | None:
    """Return the file of a model if it is on this machine; the network is never asked.

    Parameters
    ----------
    name : str
        As for `download`. A name without quantisation means the usual one (Q4_K_M) here.

    Returns
    -------
    Path or None
        None if it is not here: then `fetch` gets it.

    Raises
    ------
    InvalidValueError
        For a name that cannot be right.
    """
    from gguf_widgets.core.download.from_hub import find_of_hub
    from gguf_widgets.core.download.from_web import find_of_web
    from gguf_widgets.core.download.hub import hub_name

    parsed = parse_name(name)
    if isinstance(parsed, UrlName):
        meant = hub_name(parsed)
        if meant is None:
            return find_of_web(parsed)
        parsed = meant[0]
    return find_of_hub(parsed)


def unfinished() -> list[Unfinished]:
    """Return what was begun in the models folder and not finished: it takes room on the disk.

    To go on with one, `fetch` it by its name; to get the room back, `discard` it.
    """
    from gguf_widgets.core.download.leftovers import unfinished_in

    return unfinished_in(models_dir())


def discard(name: str) -> list[Unfinished]:
    """Remove what has arrived of an unfinished download from the models folder.

    Parameters
    ----------
    name : str
        As `unfinished` has it; "hf:owner/repo" means all that is unfinished of that repository.

    Returns
    -------
    list of Unfinished
        What was removed.

    Raises
    ------
    DownloadError
        ``problem`` is "not_found" if there is nothing of it, "in_use" if it is being fetched.
    """
    from gguf_widgets.core.download import leftovers

    return leftovers.discard(models_dir(), name)


def search(
    words: str,
    *,
    limit: int = 20,
    cancel: Cancel | None = None,
    patience: Patience | None = None,
) -> FoundList:
    """Return repositories of the hub that hold GGUF files, the most downloaded first.

    Parameters
    ----------
    words : str
        Parts of the repository's name; "" is the most downloaded of all.
    limit : int, default 20
        From 1 to 200.
    cancel, patience : optional
        As for `download`.

    Raises
    ------
    InvalidValueError, MissingDependencyError, DownloadError
    """
    from gguf_widgets.core.download import hub

    return hub.search(words, limit=limit, patience=patience or Patience(), job=Job(cancel=cancel))


def files(
    repo: str,
    *,
    revision: str | None = None,
    on_note: OnNote | None = None,
    cancel: Cancel | None = None,
    patience: Patience | None = None,
) -> Repo:
    """Return the models in a repository: version, size, companion, and whether each would fit.

    Parameters
    ----------
    repo : str
        "owner/repo", with or without "hf:" before it.
    revision : str, optional
    on_note, cancel, patience : optional
        As for `download`.

    Raises
    ------
    InvalidValueError, MissingDependencyError, DownloadError
    """
    from gguf_widgets.core.download.listing import with_fit

    return with_fit(
        repo,
        revision=revision,
        job=Job(on_note=on_note, cancel=cancel),
        patience=patience or Patience(),
    )
