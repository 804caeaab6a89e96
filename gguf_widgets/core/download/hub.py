"""The model hub, through huggingface_hub: what there is, and where its files come from.

Promises: the only file that imports huggingface_hub; its own settings count (``HF_ENDPOINT``,
``HF_TOKEN`` and the login, ``HF_HUB_OFFLINE``, ``HF_HUB_CACHE``, proxies); each question is
answered within a bounded time or ends in one of our errors; everything that comes from the hub is
checked before it is believed. Leaves to others: which of the files is meant (`repo_files`), the
bytes (`transfer`).
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from gguf_widgets.core.download.found import Found, FoundList, Repo
from gguf_widgets.core.download.http import (
    INSTALL_LINE,
    Patience,
    Retries,
    Source,
    explain,
    gated,
    retry_after_s,
    transport_errors,
)
from gguf_widgets.core.download.names import HubName, UrlName, local_path
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Checksum
from gguf_widgets.core.download.repo_files import RepoFile, models_among
from gguf_widgets.core.download.wanted import Wanted
from gguf_widgets.core.errors import (
    DownloadError,
    InvalidValueError,
    MissingDependencyError,
)
from gguf_widgets.core.format import format_duration, plain_text

__all__ = ["Found", "FoundList", "Repo", "cached_folder", "hub_name", "repo", "search", "wanted"]

_MOST_FOUND: Final = 200
_MOST_FILES: Final = 20_000
# A question may take this long with all its tries; the library itself would wait without end.
_LONGEST_S: Final = 180.0
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_SHA1: Final = re.compile(r"[0-9a-fA-F]{40}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")

_first_session = threading.Lock()

Result = TypeVar("Result")


def search(words: str, *, limit: int, patience: Patience, job: Job) -> FoundList:
    """Return repositories that hold GGUF files, the most downloaded first.

    Raises
    ------
    InvalidValueError, DownloadError, MissingDependencyError
    """
    if not 1 <= limit <= _MOST_FOUND:
        raise InvalidValueError(
            f"limit is {limit}; it must be from 1 to {_MOST_FOUND}.", value=limit
        )
    hub = _library()
    _api(hub)
    params: dict[str, Any] = {
        "filter": "gguf",
        "sort": "downloads",
        "limit": limit,
        "expand": ["downloads", "likes", "gated", "tags", "lastModified"],
    }
    if words.strip():
        params["search"] = words.strip()

    def ask() -> FoundList:
        # As HfApi.list_models asks. That one waits for as long as a busy hub says, many minutes,
        # and cannot be stopped (`http_backoff` in its ``utils/_http.py``, as of 2.4).
        answer = hub.get_session().get(
            f"{hub.constants.ENDPOINT}/api/models",
            params=params,
            headers=hub.utils.build_hf_headers(**_us()),
            timeout=patience.read_s,
        )
        hub.utils.hf_raise_for_status(answer)
        found = [hub.ModelInfo(**one) for one in answer.json()]
        return FoundList(
            Found(
                name=plain_text(str(one.id), 120),
                downloads=_count(one.downloads),
                likes=_count(one.likes),
                license=_license(one),
                gated=bool(one.gated),
                updated=_date(one.last_modified),
            )
            for one in itertools.islice(found, limit)
        )

    return _answer(ask, f'The search for "{plain_text(words, 60)}"', patience, job)


def repo(name: str, *, revision: str | None, patience: Patience, job: Job) -> Repo:
    """Return what a repository holds, at the newest commit of a revision.

    Raises
    ------
    InvalidValueError, DownloadError, MissingDependencyError
    """
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise InvalidValueError(
            f'"{plain_text(revision, 60)}" is no revision: give a branch, a tag or a commit.',
            value=plain_text(revision, 60),
        )
    hub = _library()
    api = _api(hub)

    def ask() -> Repo:
        return _repo_of(
            name,
            api.model_info(name, revision=revision, files_metadata=True, timeout=patience.read_s),
        )

    return _answer(ask, f"The repository {name}", patience, job, revision=revision)


def _repo_of(name: str, info: Any) -> Repo:
    """Take out of the hub's answer what is needed, each thing checked.

    Raises
    ------
    DownloadError
    ValueError, TypeError, KeyError, AttributeError
        If it is no answer of a hub.
    """
    commit = str(info.sha or "")
    if not _SHA1.fullmatch(commit):
        raise DownloadError(
            f"The hub does not say which commit of {name} it means. If HF_ENDPOINT is set, the "
            "server there may not be a hub.",
            problem="server",
        )
    siblings = info.siblings or []
    if len(siblings) > _MOST_FILES:
        raise DownloadError(
            f"The repository {name} holds {len(siblings):,} files; {_MOST_FILES:,} is the most "
            f'that is looked through. Name the file: "hf:{name}/file.gguf".',
            problem="too_many_files",
        )
    files, left_out = [], []
    for sibling in siblings:
        path = str(sibling.rfilename)
        if not path.lower().endswith(".gguf"):
            continue
        try:
            local_path(Path(), path)
        except InvalidValueError:
            left_out.append(plain_text(path, 120))
            continue
        files.append(RepoFile(path, _size(sibling), _checksum(sibling)))
    # As its owner spells it, so that "Owner/Repo" and "owner/repo" are one folder here.
    spelled = str(info.id)
    return Repo(
        name=spelled if spelled.casefold() == name.casefold() else name,
        revision=commit,
        license=_license(info),
        gated=bool(info.gated),
        models=tuple(models_among(files)),
        left_out=tuple(left_out),
    )


def wanted(found: Repo, file: RepoFile) -> Wanted:
    """Return where a file of a repository comes from, and what it must come to."""
    hub = _library()
    checksum = file.checksum
    identity = f"{checksum.kind}:{checksum.value}" if checksum else f"{found.revision}:{file.path}"
    return Wanted(
        source=Source(
            url=hub.hf_hub_url(found.name, file.path, revision=found.revision),
            session=hub.get_session,
            headers=hub.utils.build_hf_headers(**_us()),
            shown="The hub",
            repo=f"The repository {found.name}",
            of_hub=True,
        ),
        name=f"hf:{found.name}/{file.path}",
        identity=f"hub:{identity}:{file.size_bytes}",
        size=file.size_bytes,
        checksum=checksum,
        revision=found.revision,
        license=found.license,
    )


def cached_folder(name: str, revision: str | None) -> Path | None:
    """Return the folder of a repository in the cache that programs share, or None.

    Which is asked of the library: the layout is its own ("Understand caching" in its guides).
    """
    try:
        hub = _library()
    except MissingDependencyError:
        return None
    try:
        return Path(hub.snapshot_download(name, revision=revision, local_files_only=True))
    except (hub.errors.LocalEntryNotFoundError, OSError, ValueError):
        return None


def hub_name(url: UrlName) -> tuple[HubName, str] | None:
    """Return what an address on the hub's own site means, and its revision; None for any other.

    A page of a repository, and of a file in it ("blob"), is what people copy from their browser;
    fetched as it is it would be a web page.
    """
    try:
        endpoint = urlsplit(_library().constants.ENDPOINT)
    except MissingDependencyError:
        return None
    parts = urlsplit(url.url)
    if (parts.scheme, parts.netloc.lower()) != (endpoint.scheme, endpoint.netloc.lower()):
        return None
    segments = [unquote(part) for part in parts.path.split("/") if part]
    if len(segments) < 2 or segments[0] in ("api", "datasets", "spaces"):
        return None
    name = "/".join(segments[:2])
    if len(segments) >= 5 and segments[2] in ("blob", "resolve"):
        return HubName(name, None, "/".join(segments[4:])), segments[3]
    if len(segments) == 2 or (segments[2] == "tree" and len(segments) == 4):
        return HubName(name), segments[3] if len(segments) == 4 else "main"
    return None


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingDependencyError(
            "Getting models from the hub needs the package huggingface_hub. Install it: "
            f"{INSTALL_LINE}",
            install=INSTALL_LINE,
        ) from error
    return huggingface_hub


def _us() -> dict[str, str]:
    from gguf_widgets import __version__

    return {"library_name": "gguf-widgets", "library_version": __version__}


def _api(hub: Any) -> Any:
    with _first_session:
        hub.get_session()  # made by the first who asks; two at once would make two of them
    return hub.HfApi(**_us())


def _answer(
    ask: Callable[[], Result],
    what: str,
    patience: Patience,
    job: Job,
    *,
    revision: str | None = None,
) -> Result:
    """Ask the hub, again where that is of use, and turn its errors into ours."""
    hub = _library()
    errors = hub.errors
    retries = Retries(patience, job, "The hub")
    until = time.monotonic() + _LONGEST_S
    while True:
        job.turn("asking")
        try:
            return _in_time(ask, until, job)
        except errors.OfflineModeIsEnabled as error:
            raise DownloadError(
                f"{what} is not asked for, because HF_HUB_OFFLINE is set. Unset it to use the "
                "network.",
                problem="offline",
            ) from error
        except errors.GatedRepoError as error:
            raise gated(what) from error
        except errors.RevisionNotFoundError as error:
            raise DownloadError(
                f'{what} has no revision "{plain_text(revision or "main", 60)}".',
                problem="not_found",
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise DownloadError(
                f"{what} was not found. Check its name; if it is private, log in with "
                '"hf auth login" (or set HF_TOKEN).',
                problem="not_found",
            ) from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                raise gated(what) from error
            if status not in (408, 429, 500, 502, 503, 504):
                raise DownloadError(
                    f"{what}: the hub answered with the status {status}.",
                    problem="server",
                    status=status,
                ) from error
            retries.failed(
                f"answered with the error {status}",
                problem="server_busy",
                after_s=retry_after_s(error.response.headers),
                cause=error,
            )
        except errors.HFValidationError as error:
            raise InvalidValueError(f"{what}: {error}") from error
        except transport_errors() as error:
            why, again = explain(error)
            if not again:
                raise DownloadError(f"The hub {why}.", problem="unreachable") from error
            retries.failed(why, problem="unreachable", cause=error)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # The library believes what it gets; this is what it says of an answer that is none.
            raise DownloadError(
                f"{what}: the hub's answer makes no sense. If HF_ENDPOINT is set, the server there "
                "may not be a hub.",
                problem="server",
            ) from error


def _in_time(ask: Callable[[], Result], until: float, job: Job) -> Result:
    """Call something that may take its time, and stop waiting when there is no more of it.

    Raises
    ------
    DownloadError
        If there is none, or the job is to stop.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            errors.append(error)

    job.check()
    thread = threading.Thread(target=run, name="gguf-widgets hub", daemon=True)
    thread.start()
    while thread.is_alive():
        job.check()
        if time.monotonic() >= until:
            raise DownloadError(
                f"The hub did not answer within {format_duration(_LONGEST_S)}. Try again later.",
                problem="unreachable",
            )
        thread.join(0.05)
    if errors:
        raise errors[0]
    return results[0]


def _size(sibling: Any) -> int:
    lfs = sibling.lfs
    size = lfs.size if lfs is not None else sibling.size
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 50:
        raise ValueError(f"size {size!r}")
    return size


def _checksum(sibling: Any) -> Checksum | None:
    lfs = sibling.lfs
    if lfs is not None and _SHA256.fullmatch(str(lfs.sha256)):
        return Checksum("sha256", str(lfs.sha256).lower())
    if lfs is None and _SHA1.fullmatch(str(sibling.blob_id)):
        return Checksum("git-sha1", str(sibling.blob_id).lower())
    return None


def _license(info: Any) -> str:
    card = info.card_data
    given = card.get("license") if hasattr(card, "get") else None
    if not isinstance(given, str):
        tags = [str(tag) for tag in info.tags or [] if str(tag).startswith("license:")]
        given = tags[0].partition(":")[2] if tags else ""
    return plain_text(str(given), 60)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _date(value: Any) -> dt.datetime | None:
    return value if isinstance(value, dt.datetime) and value.tzinfo is not None else None
