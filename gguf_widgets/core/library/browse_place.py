r"""A path that a page or a person names, found within the allowed folders and opened safely.

Promises: every link is followed, and where it ends must be inside an allowed folder; what is opened
is reached from that folder step by step without following any link, so that a link that is put in
the place of a folder meanwhile leads nowhere; the answer about a path outside is the same whether
there is something or not. Leaves to others: what is allowed (`browse_roots`), what is shown
(`browse_listing`).

Where a system cannot open a folder from within another (Windows), the path is followed again after
the look, and what was seen is thrown away if it leads elsewhere now.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from gguf_widgets.core import config
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    InvalidValueError,
    ModelNotFoundError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.library.browse_roots import Root, allowed_roots, is_allowed

__all__ = [
    "CAN_STEP",
    "Identity",
    "Place",
    "identity_of",
    "is_inside",
    "opened",
    "place_at",
    "place_below",
    "place_of",
    "reason",
    "sendable",
    "status_at",
    "status_of",
]

_MAX_PATH: Final = 4096

_STEP: Final = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
)
# On the way through folders that may be passed and not listed.
_PASS: Final = getattr(os, "O_PATH", os.O_RDONLY)
CAN_STEP: Final = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
"""Whether this system opens a folder from within another."""

Identity = tuple[int, int]


class Place(NamedTuple):
    """A path that is allowed.

    Attributes
    ----------
    root : Root
        The outermost allowed folder that it is in.
    path : Path
        What to call it: as `real`, but that the link to a file keeps its own name.
    real : Path
        Where it is, all links followed.
    """

    root: Root
    path: Path
    real: Path


def is_inside(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is inside an allowed folder when its links are followed."""
    try:
        place_at(path)
    except GgufWidgetsError:
        return False
    return True


def place_of(text: str) -> Path:
    """Return the path that a person has typed or pasted.

    Quotation marks around it, a line end, "~" and a ``file:`` address are understood.

    Raises
    ------
    InvalidValueError
        It is none, or does not say from where it is meant.
    """
    told = text.strip()
    if len(told) > 1 and told[0] == told[-1] and told[0] in "\"'":
        told = told[1:-1].strip()
    if told.lower().startswith("file:"):
        try:
            parts = urlsplit(told)
        except ValueError:
            parts = urlsplit("file://elsewhere")
        if parts.netloc not in ("", "localhost"):
            raise _no_path(text)
        told = unquote(parts.path)
        if re.match(r"/[A-Za-z]:", told):
            told = told[1:]
    if not told or len(told) > _MAX_PATH or "\0" in told or told.startswith("\\\\"):
        raise _no_path(text)
    path = Path(told)
    if not path.is_absolute() and not told.startswith("~"):
        raise InvalidValueError(
            f'"{plain_text(told, 200)}" does not say where it begins. Paste the whole path, from '
            f'{"the drive" if os.name == "nt" else "the first /"} on; "~" is your home folder.',
            problem="path",
        )
    return config.expanded(path)


def _no_path(text: str) -> InvalidValueError:
    return InvalidValueError(
        f'"{plain_text(text.strip(), 200)}" is not the path of a file or folder of this computer. '
        "Paste the path as your file manager or terminal shows it.",
        problem="path",
    )


def place_at(path: str | os.PathLike[str], roots: list[Root] | None = None) -> Place:
    """Find the allowed folder that a path is in, all links followed; it need not exist.

    Parameters
    ----------
    path : str or path-like
    roots : list of Root, optional
        Default: `allowed_roots`, asked for now.

    Raises
    ------
    InvalidValueError
        "forbidden": there is none; "outside"; "path": it cannot be one.
    """
    text = os.fspath(path)
    if len(text) > _MAX_PATH or "\0" in text or text.startswith("\\\\"):
        raise _no_path(text)
    roots = allowed_roots() if roots is None else roots
    if not is_allowed():
        raise InvalidValueError(
            "Looking for files on this computer is switched off here. Whoever starts the program "
            f"can allow it: {_how_to_allow()}",
            problem="forbidden",
        )
    here = config.expanded(text)
    try:
        real = Path(os.path.realpath(here))
        # The name of a link to a file says more than that of the file: a cache names files by hash.
        shown = Path(os.path.realpath(here.parent)) / here.name if here.name != ".." else real
    except (OSError, ValueError) as error:
        raise _no_path(text) from error
    # The outermost, so that a person can go up as far as is allowed.
    within = _within(real, roots)
    if not within:
        paths = {root.path for root in roots}
        outer = [root for root in roots if paths.isdisjoint(root.path.parents)]
        allowed = ", ".join(plain_text(str(root.path), 120) for root in outer[:10])
        more = f" and {len(outer) - 10} more" if len(outer) > 10 else ""
        raise InvalidValueError(
            f'"{plain_text(text, 200)}" is outside of the folders in which you may look here: '
            f"{allowed or 'there is none'}{more}. To allow more: {_how_to_allow()}",
            problem="outside",
            allowed=[os.fspath(root.path).encode("utf-8", "replace").decode() for root in roots],
        )
    root = min(within, key=lambda one: len(one.path.parts))
    is_link = shown != real and (shown == root.path or root.path in shown.parents)
    return Place(root, shown if is_link else real, real)


def place_below(folder: Place, name: str, roots: list[Root]) -> Place | None:
    """Find where a link in a folder that is allowed leads; None if out of what is allowed."""
    path = folder.real / name
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):
        return None
    within = _within(real, roots)
    return Place(within[0], path, real) if within else None


def _within(real: Path, roots: list[Root]) -> list[Root]:
    return [root for root in roots if real == root.path or root.path in real.parents]


def _how_to_allow() -> str:
    return (
        f"set {config.BROWSE} to the folders, separated by {os.pathsep!r}, before Jupyter is "
        "started; or start the dashboard with --browse FOLDER."
    )


@contextlib.contextmanager
def opened(place: Place) -> Iterator[int]:
    """Open a folder from its allowed folder on, following no link.

    Raises
    ------
    OSError
        Also if a link is on the way, which was not there when the path was followed.
    """
    names = place.real.relative_to(place.root.path).parts
    descriptor = os.open(place.root.path, (_PASS if names else os.O_RDONLY) | _STEP)
    try:
        for number, name in enumerate(names, start=1):
            how = (_PASS if number < len(names) else os.O_RDONLY) | _STEP
            following = os.open(name, how, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
        yield descriptor
    finally:
        os.close(descriptor)


def status_at(place: Place) -> os.stat_result:
    """Return what is at a place, of which no part is a link.

    Raises
    ------
    OSError
    """
    if place.real == place.root.path:
        return place.real.lstat()
    if not CAN_STEP:
        status = place.real.lstat()
        if os.path.realpath(place.real) != os.fspath(place.real):
            raise OSError("it leads elsewhere now")
        return status
    parent = place._replace(real=place.real.parent)
    with opened(parent) as descriptor:
        return os.stat(place.real.name, dir_fd=descriptor, follow_symlinks=False)


def status_of(place: Place) -> os.stat_result:
    """As `_status`, with what is wrong as an error of the tree."""
    name = plain_text(place.path.name or str(place.path), 100)
    try:
        return status_at(place)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelNotFoundError(
            f'There is no "{name}" in {plain_text(str(place.path.parent), 200)}.',
            path=sendable(place.path),
        ) from error
    except OSError as error:
        raise UnreadableFileError(
            f'"{name}" cannot be looked at: {reason(error)}.', path=sendable(place.path)
        ) from error


# --- small things ---------------------------------------------------------------------------------


def identity_of(status: os.stat_result) -> Identity:
    """Return what tells a file from all others of this machine."""
    return (status.st_dev, status.st_ino)


def sendable(path: Path) -> str:
    """Return a path as text that can be sent, or "" if it is none (a name that is no UTF-8)."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return ""
    return text


def reason(error: OSError) -> str:
    """Return what the system says, fit to be shown."""
    return plain_text(str(error.strerror or error), 200)
