"""Choosing model files that are on this machine already, within what is allowed.

Promises: `listing` and `look_at` see nothing that is outside of the allowed folders when all links
are followed, and `add_file` and `add_folder` add nothing that is; nothing is copied, moved or
changed. Leaves to others: what is allowed (`browse_roots`), how a path is opened (`browse_place`),
what is shown of a folder (`browse_listing`), what was added (`folders`), headers (`facts`).

A header is read by its path, and the file is identified before and after: a link that is put there
meanwhile is noticed, but not one that is put there and taken away again within those milliseconds.
That needs somebody with the right to write in the allowed folder. A folder that is added is looked
through by the library like every other: there, links are followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gguf_widgets.core.errors import (
    InvalidValueError,
    ModelFileError,
    NotAFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library import browse_listing
from gguf_widgets.core.library import folders as added
from gguf_widgets.core.library.browse_listing import Listing, Row
from gguf_widgets.core.library.browse_place import (
    Identity,
    Place,
    identity_of,
    is_inside,
    place_at,
    place_of,
    sendable,
    status_of,
)
from gguf_widgets.core.library.browse_roots import Root, allowed_roots, is_allowed
from gguf_widgets.core.library.facts import Facts, read_facts
from gguf_widgets.core.library.items import is_model_name
from gguf_widgets.core.library.places import user_dirs
from gguf_widgets.core.library.scan import scan
from gguf_widgets.core.library.sources import sources

__all__ = [
    "Candidate",
    "Identity",
    "Listing",
    "Root",
    "Row",
    "add_file",
    "add_folder",
    "allowed_roots",
    "is_allowed",
    "is_inside",
    "listed",
    "listing",
    "look_at",
    "place_of",
]

_MAX_PARTS: Final = 1000


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was looked at.

    Attributes
    ----------
    path : Path
        Of a split model its first part.
    facts : Facts
        What its header says, or why it is no use.
    is_listed : bool
        Whether it is in the list of models already.
    """

    path: Path
    facts: Facts
    is_listed: bool


def listed() -> set[Identity]:
    """Return the identities of all files that are in the list of models."""
    found = set()
    for file in scan(sources(), user_dirs()):
        if file.program == added.BESIDE:
            continue
        with contextlib.suppress(OSError, ValueError):
            found.add(identity_of(file.path.stat()))
    return found


def listing(
    path: str | os.PathLike[str],
    *,
    hidden: bool = False,
    match: str = "",
    limit: int = browse_listing.MAX_ROWS,
    known: set[Identity] | None = None,
) -> Listing:
    """Look into a folder; see `browse_listing.listing`.

    Parameters
    ----------
    path, hidden, match, limit
        As there.
    known : set of Identity, optional
        The files that are in the list of models; default: `listed`, asked for now.
    """
    return browse_listing.listing(
        path,
        hidden=hidden,
        match=match,
        limit=limit,
        known=listed() if known is None else known,
    )


def look_at(path: str | os.PathLike[str], *, known: set[Identity] | None = None) -> Candidate:
    """Read the header of a file, and say what it is or why it is no use.

    Parameters
    ----------
    path : str or path-like
        Of a split model any part.
    known : set, optional
        The files that are in the list; default: `listed`, asked for now.

    Raises
    ------
    InvalidValueError
        It, or a part of it, is outside of what is allowed.
    ModelFileError
        There is no such file, or it cannot be looked at.
    """
    first, before = _file_of(path)
    facts = read_facts(first.path)
    if _file_of(first.path)[1] != before:
        raise UnreadableFileError(
            f'"{plain_text(first.path.name, 100)}" was changed or moved just now. Look again.',
            path=sendable(first.path),
        )
    is_listed = before[0] in (listed() if known is None else known)
    return Candidate(path=first.path, facts=facts, is_listed=is_listed)


def _file_of(path: str | os.PathLike[str]) -> tuple[Place, list[Identity]]:
    """Return the file, of a split model the first part, and the identities of all parts.

    Raises
    ------
    InvalidValueError, ModelFileError
    """
    place = place_at(path)
    if not is_model_name(place.path):
        if stat.S_ISDIR(status_of(place).st_mode):
            raise NotAFileError(
                f'"{plain_text(place.path.name, 100)}" is a folder. Choose a file in it.',
                path=sendable(place.path),
            )
        raise NotAFileError(
            f'"{plain_text(place.path.name, 100)}" is not a model file by its name: that has to end'
            " in .gguf.",
            path=sendable(place.path),
        )
    first = place_at(added.first_part(place.path))
    split = split_name(first.path)
    paths = [first.path]
    if split is not None and 1 < split.num_parts <= _MAX_PARTS:
        numbers = range(1, split.num_parts + 1)
        others = (split.path_of(number, first.path.parent) for number in numbers)
        paths = [one for one in others if os.path.lexists(one)] or paths
    identities = []
    for one in paths:
        status = status_of(place_at(one))
        if not stat.S_ISREG(status.st_mode):
            raise NotAFileError(
                f'"{plain_text(one.name, 100)}" is not a plain file.', path=sendable(one)
            )
        identities.append(identity_of(status))
    return first, identities


# --- adding ---------------------------------------------------------------------------------------


def add_file(path: str | os.PathLike[str]) -> Path:
    """Add a file to the list, in place, if it is allowed and a model; see `folders.add_file`.

    Raises
    ------
    InvalidValueError
        It is outside of what is allowed.
    ModelFileError, FileChangeError
        As `folders.add_file`.
    """
    first, before = _file_of(path)
    return _added(first, added.add_file, added.remove_file, lambda: _file_of(first.path)[1], before)


def add_folder(path: str | os.PathLike[str]) -> Path:
    """Have a folder looked through from now on, if it is allowed; see `folders.add_folder`.

    Raises
    ------
    InvalidValueError
        It is outside of what is allowed.
    ModelFileError, FileChangeError
        As `folders.add_folder`.
    """
    place = place_at(path)
    if not stat.S_ISDIR(status_of(place).st_mode):
        raise NotAFileError(
            f'"{plain_text(place.path.name, 100)}" is not a folder.', path=sendable(place.path)
        )
    place = place._replace(path=place.real)

    def now() -> list[Identity]:
        return [identity_of(status_of(place_at(place.path)))]

    return _added(place, added.add_folder, added.remove_folder, now, now())


def _added(
    place: Place,
    add: Callable[[Path], Path],
    remove: Callable[[Path], bool],
    now: Callable[[], list[Identity]],
    before: list[Identity],
) -> Path:
    """Add a path; take it off again if it turns out to lead elsewhere than when it was judged."""
    was_there = place.path in (*added.folders(), *added.files())
    path = add(place.path)
    try:
        is_same = now() == before
    except (ModelFileError, InvalidValueError):
        is_same = False
    if is_same:
        return path
    if not was_there:
        remove(path)
    raise UnreadableFileError(
        f'"{plain_text(place.path.name, 100)}" was changed or moved just now, so it was not added. '
        "Look again.",
        path=sendable(place.path),
    )
