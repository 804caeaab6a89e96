"""What `ModelDownloader` says when something went wrong, and what it offers to do about it.

Promises: every error becomes a short title, what happened and what to do, in words for a person at
a screen and not at a command line; nothing is HTML. Leaves to others: the error itself (whoever
raised it), drawing (static/).
"""

from __future__ import annotations

from typing import Any, Final

from gguf_widgets.core.download.looking import hub_page
from gguf_widgets.core.download.names import HubName, parse_name
from gguf_widgets.core.download.record import LEFT_FREE_BYTES
from gguf_widgets.core.errors import (
    DownloadError,
    GgufWidgetsError,
    InvalidValueError,
    MissingDependencyError,
)
from gguf_widgets.core.format import format_bytes

__all__ = ["error_view"]

Message = dict[str, Any]

_TITLES: Final = {
    "offline": "The hub is switched off here",
    "unreachable": "No connection",
    "server_busy": "The server is busy",
    "server": "The server does not answer as it should",
    "redirect": "This address is not followed",
    "too_many_files": "Too many files to look through",
    "gated": "This repository is not open to everyone",
    "not_allowed": "This file is not open to everyone",
    "not_found": "Not found",
    "no_models": "There is no model in it",
    "no_such_quantization": "There is no such version",
    "ambiguous": "This name means more than one model",
    "incomplete": "A part of it is missing there",
    "size": "The size is not what was announced",
    "checksum": "This is not the file that was promised",
    "not_gguf": "This is not a model file",
    "not_a_model": "This is not a model that can be used",
    "no_space": "Not enough room on the disk",
    "disk": "The disk does not take it",
    "name_taken": "The name is taken",
    "in_use": "Another program is fetching it",
    "unexpected": "Something unexpected happened",
}
# Where the same may well work the second time, or after something was done about it.
_AGAIN: Final = (
    "offline", "unreachable", "server_busy", "server", "gated", "not_allowed", "size", "checksum",
    "no_space", "disk", "name_taken", "in_use", "unexpected",
)  # fmt: skip
_OTHER_VERSION: Final = ("no_such_quantization", "ambiguous", "incomplete", "not_found")


def error_view(error: GgufWidgetsError, *, kept_bytes: int = 0, name: str = "") -> Message:
    """Return what to show for an error: title, sentences, and what can be done.

    Parameters
    ----------
    error : GgufWidgetsError
    kept_bytes : int
        What is on the disk of it: then trying again goes on from there.
    name : str
        Of the download that failed, or of the repository that was looked at.
    """
    problem = str(error.details.get("problem", ""))
    repo = _repo_of(name)
    view: Message = {
        "title": _TITLES.get(problem, "The download failed"),
        "problem": problem,
        "text": error.message,
        "again": problem in _AGAIN,
        "goesOn": kept_bytes > 0,
        "find": f"hf:{repo}" if repo and problem in _OTHER_VERSION and _is_version(name) else "",
        "command": "",
        "page": "",
    }
    if isinstance(error, MissingDependencyError):
        line = str(error.details.get("install", ""))
        view |= {"title": "A package is missing", "again": True, "command": line}
        # The line has its own place, with a button to copy it.
        view["text"] = error.message.replace(f": {line}", " with this line, then restart Python:")
    elif isinstance(error, InvalidValueError):
        view["title"] = "This cannot be fetched"
    elif problem == "gated":
        view |= {"text": _GATED, "command": "hf auth login", "page": hub_page(repo) if repo else ""}
    elif problem == "no_space" and "needed_bytes" in error.details:
        view["text"] = _space_words(error)
    elif problem == "checksum" and error.details.get("sha256"):
        view["text"] = (
            f"{error.message} Promised: {_short(error, 'expected')}. Arrived: "
            f"{_short(error, 'sha256')}."
        )
    elif problem == "name_taken":
        view["text"] = (
            "Another file has this name already in your models folder. Rename it or remove it in "
            "the list of models, then try again."
        )
    elif problem == "no_models":
        view["text"] = (
            f"{repo or 'This repository'} holds no GGUF model. Search for one whose name ends in "
            '"-GGUF".'
        )
    elif not isinstance(error, DownloadError):
        view["title"] = "It did not work"
    return view


_GATED: Final = (
    "Accept its conditions on its page, if it has any. Then make an access token in your account "
    "there and log in with it: run this line in a terminal, and try again."
)


def _short(error: GgufWidgetsError, key: str) -> str:
    digits = str(error.details.get(key) or "")
    return f"{digits[:8]}…{digits[-8:]}"


def _space_words(error: GgufWidgetsError) -> str:
    needed, free = int(error.details["needed_bytes"]), int(error.details["free_bytes"])
    missing = max(1, needed + LEFT_FREE_BYTES - free)
    return (
        f"It needs {format_bytes(needed)} and {format_bytes(free)} is free, of which "
        f"{format_bytes(LEFT_FREE_BYTES)} stay free for other programs. Make room for "
        f"{format_bytes(missing)} more, then try again."
    )


def _repo_of(name: str) -> str:
    try:
        parsed = parse_name(name)
    except InvalidValueError:
        return ""
    return parsed.repo if isinstance(parsed, HubName) else ""


def _is_version(name: str) -> bool:
    """Say whether a name is more than a repository: then its other versions can be shown."""
    parsed = parse_name(name)
    return isinstance(parsed, HubName) and (parsed.quant is not None or parsed.file is not None)
