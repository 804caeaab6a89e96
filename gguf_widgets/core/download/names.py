"""What a person writes to name a model elsewhere, and what its file is called here.

Promises: every name is taken apart in this one place, and one that cannot be is refused with the
reason; a path in a repository becomes one that every system takes and that cannot lead out of its
folder. Leaves to others: what a file may be called (`core.file_names`), whether there is such a
model (`hub`, `transfer`).

====================================  =========================================================
``hf:owner/repo``                     the version of a model that suits most people (`repo_files`)
``hf:owner/repo:Q4_K_M``              the version with this quantisation
``hf:owner/repo/folder/file.gguf``    this file (any part of a split model means all of them)
``https://host/path/file.gguf``       a file on the web; ``http`` on this machine only
====================================  =========================================================
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.file_names import clean_file_name, clean_folder_name
from gguf_widgets.core.format import plain_text

__all__ = [
    "HubName",
    "UrlName",
    "clean_file_name",
    "host_is_loopback",
    "is_download_name",
    "local_path",
    "parse_name",
    "repo_name",
]

_LONGEST_NAME: Final = 4000  # of what a person may write; browsers stop at about half of that
_FORMS: Final = (
    'Write "hf:owner/repo", "hf:owner/repo:Q4_K_M", "hf:owner/repo/file.gguf" or '
    '"https://host/file.gguf".'
)
# As the hub has them: validate_repo_id in huggingface_hub/utils/_validators.py.
_REPO_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_LONGEST_REPO: Final = 96
_QUANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


class HubName(NamedTuple):
    """A model in a repository of the hub: at most one of `quant` and `file` is given."""

    repo: str
    quant: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return f"hf:{self.repo}/{self.file}"
        return f"hf:{self.repo}" + (f":{self.quant}" if self.quant else "")


class UrlName(NamedTuple):
    """A file on the web."""

    url: str

    @property
    def host(self) -> str:
        """The host's name, without port."""
        return urlsplit(self.url).hostname or ""

    @property
    def file_name(self) -> str:
        """What to call the file, going by the address alone."""
        return clean_file_name(unquote(PurePosixPath(urlsplit(self.url).path).name))

    def __str__(self) -> str:
        """Return the address without its query, which may hold a secret."""
        return urlunsplit((*urlsplit(self.url)[:3], "", ""))


def is_download_name(text: str) -> bool:
    """Say whether a text is meant as the name of something to be fetched, well written or not."""
    return text.strip().lower().startswith(("hf:", "https:", "http:"))


def parse_name(text: str) -> HubName | UrlName:
    """Take a name apart.

    Parameters
    ----------
    text : str
        In one of the forms at the top of this module.

    Raises
    ------
    InvalidValueError
        Details: ``value``.

    Examples
    --------
    >>> parse_name("hf:owner/repo:Q4_K_M")
    HubName(repo='owner/repo', quant='Q4_K_M', file=None)
    >>> parse_name("https://example.org/tiny.gguf?download=1").file_name
    'tiny.gguf'
    """
    stripped = text.strip()
    if len(stripped) > _LONGEST_NAME:
        raise _refused(stripped, f"it has {len(stripped):,} characters; {_LONGEST_NAME:,} at most")
    if not stripped.isprintable() or " " in stripped:
        raise _refused(stripped, "it has a space or a character that cannot be seen")
    kind = stripped.partition(":")[0].lower()
    if kind == "hf":
        return _parse_hub(stripped)
    if kind in ("https", "http"):
        return _parse_url(stripped)
    raise _refused(stripped, f"it is no such name. {_FORMS}")


def repo_name(text: str) -> str:
    """Return a repository's name, given as "owner/repo" or "hf:owner/repo".

    Raises
    ------
    InvalidValueError
    """
    rest = text.strip()
    rest = rest[3:].removeprefix("//") if rest.lower().startswith("hf:") else rest
    return _checked_repo(text, rest)


def host_is_loopback(host: str) -> bool:
    """Say whether a host's name stands for this very machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def local_path(folder: Path, repo_path: str) -> Path:
    """Return where a repository's file goes below `folder`.

    Raises
    ------
    InvalidValueError
        If the path could lead elsewhere: the repository was made to do harm, or by mistake.
    """
    parts = repo_path.split("/")
    if not all(parts) or any(part in (".", "..") for part in parts) or len(parts) > 8:
        raise _bad_path(repo_path)
    if any("\\" in part or ":" in part or not part.isprintable() for part in parts):
        raise _bad_path(repo_path)
    folders = [clean_folder_name(part) for part in parts[:-1]]
    if not all(folders):
        raise _bad_path(repo_path)
    return folder.joinpath(*folders, clean_file_name(parts[-1]))


def _parse_hub(text: str) -> HubName:
    rest = text[3:].removeprefix("//")
    rest, colon, quant = rest.partition(":")
    segments = rest.split("/")
    repo = _checked_repo(text, "/".join(segments[:2]))
    if colon and not _QUANT.fullmatch(quant):
        raise _refused(
            text, f'what follows the last ":" is no quantisation such as Q4_K_M. {_FORMS}'
        )
    if len(segments) == 2:
        return HubName(repo, quant or None)
    file = "/".join(segments[2:])
    if colon:
        raise _refused(text, "it names both a file and a quantisation; give one of them")
    if not file.lower().endswith(".gguf"):
        raise _refused(text, f"what follows the repository is no .gguf file. {_FORMS}")
    local_path(Path(), file)  # refuses what could lead out of the folder
    return HubName(repo, None, file)


def _checked_repo(text: str, repo: str) -> str:
    parts = repo.split("/")
    well_formed = (
        len(parts) == 2
        and all(_REPO_PART.fullmatch(part) for part in parts)
        and len(repo) <= _LONGEST_REPO
        and "--" not in repo
        and ".." not in repo
        and not repo.endswith(".git")
    )
    if not well_formed:
        raise _refused(
            text,
            f'"{plain_text(repo, 100)}" is no repository of the form owner/repo (letters, digits, '
            f'"-", "_" and "."; {_LONGEST_REPO} at most). {_FORMS}',
        )
    return repo


def _parse_url(text: str) -> UrlName:
    if "\\" in text:
        # Programs differ in whether it ends the host's name, so nobody knows whom it means.
        raise _refused(text.partition("?")[0], "it has a backslash in it")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _refused(text, f"it is no web address ({error})") from error
    if not host or port == 0:
        raise _refused(text, f"it is no web address. {_FORMS}")
    if parts.username is not None or parts.password is not None:
        # Not shown: whoever reads over a shoulder, or a log, must not see the password.
        raise InvalidValueError(
            "A web address with a user's name or a password in it is not taken, because it would "
            "be kept in logs. Use an address that needs none.",
            value=host,
        )
    if parts.scheme.lower() == "http" and not host_is_loopback(host):
        raise _refused(
            str(UrlName(text)),
            "what comes over http can be changed on its way. Use https (http is taken from this "
            "machine itself only)",
        )
    return UrlName(urlunsplit((parts.scheme.lower(), parts.netloc, parts.path, parts.query, "")))


def _refused(text: str, why: str) -> InvalidValueError:
    shown = plain_text(text, 120)
    end = "" if why.endswith(".") else "."
    return InvalidValueError(f'"{shown}" cannot be fetched: {why}{end}', value=shown)


def _bad_path(path: str) -> InvalidValueError:
    return InvalidValueError(
        f'"{plain_text(path, 120)}" is not the name of a file inside a repository, so it is not '
        "fetched.",
        value=plain_text(path, 120),
    )
