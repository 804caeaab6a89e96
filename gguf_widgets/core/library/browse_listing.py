"""What is in a folder, for a page that looks for model files.

Promises: only folders and GGUF files are shown; links that lead out of the allowed folders are
counted and not shown; the parts of a split model are one row; names are fit to be shown. A look
takes a bounded time and memory, and says what it left out. Leaves to others: what is allowed and
how it is opened (`browse_place`), what a file is (`browse`).
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import time
from pathlib import Path
from typing import Final, Literal

import msgspec

from gguf_widgets.core.errors import NotAFileError, UnreadableFileError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.gguf_split import split_name
from gguf_widgets.core.library import folders as added
from gguf_widgets.core.library.browse_place import (
    CAN_STEP,
    Identity,
    Place,
    identity_of,
    opened,
    place_at,
    place_below,
    reason,
    sendable,
    status_at,
    status_of,
)
from gguf_widgets.core.library.browse_roots import allowed_roots
from gguf_widgets.core.library.items import is_model_name

__all__ = ["MAX_ROWS", "Listing", "Row", "listing"]

_MAX_SEEN: Final = 100_000
MAX_ROWS: Final = 500
_MAX_SECONDS: Final = 5.0

_DIGITS: Final = re.compile(r"([0-9]+)")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A folder or a file in a listing.

    Attributes
    ----------
    name : str
        Fit to be shown; not for opening.
    path : str
        For opening; "" if it cannot be chosen, and `note` says why.
    kind : {"folder", "file"}
    size : int or None
        Of a file, in bytes; of a split model that of all parts that are there.
    changed : float or None
        Seconds since 1970, UTC.
    num_parts : int
        Files of a split model, of which this is the first.
    is_listed : bool
        Whether it is in the list of models already; of a folder, whether it was added.
    note : str
        What is wrong with it, or "".
    """

    name: str
    path: str
    kind: Literal["folder", "file"]
    size: int | None = None
    changed: float | None = None
    num_parts: int = 1
    is_listed: bool = False
    note: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a folder.

    Attributes
    ----------
    path : str
    crumbs : list of (str, str)
        The way to it from the allowed folder: names and paths, the folder itself last.
    rows : list of Row
        Folders before files, each by name.
    num_left_out : int
        How many rows more there are.
    is_cut : bool
        The folder holds too much, or answers too slowly, to count even that.
    num_outside : int
        Links that lead out of the allowed folders; they are not shown.
    num_hidden : int
        Hidden folders and GGUF files that are not shown.
    """

    path: str
    crumbs: list[tuple[str, str]]
    rows: list[Row]
    num_left_out: int = 0
    is_cut: bool = False
    num_outside: int = 0
    num_hidden: int = 0


def listing(
    path: str | os.PathLike[str],
    *,
    hidden: bool = False,
    match: str = "",
    limit: int = MAX_ROWS,
    known: set[Identity],
) -> Listing:
    """Look into a folder.

    Parameters
    ----------
    path : str or path-like
    hidden : bool, default False
        Whether to show what is hidden, which is what begins with a dot.
    match : str, default ""
        Show only names that hold this, whatever the capital letters.
    limit : int, default 500
        The most rows.
    known : set of Identity
        The files that are in the list of models.

    Raises
    ------
    InvalidValueError
        It is outside of what is allowed ("outside"), or nothing is ("forbidden").
    ModelNotFoundError, NotAFileError, UnreadableFileError
        There is no such folder, it is none, or it cannot be looked into.
    """
    place = place_at(path)
    if not stat.S_ISDIR(status_of(place).st_mode):
        raise NotAFileError(
            f'"{plain_text(place.path.name, 100)}" is not a folder.', path=sendable(place.path)
        )
    look = _Look(place, hidden=hidden, match=match, limit=limit)
    try:
        if CAN_STEP:
            with opened(place) as descriptor:
                look.at(descriptor)
        else:
            look.at(place.real)
            status_at(place)
    except OSError as error:
        raise UnreadableFileError(
            f"The folder {plain_text(str(place.path), 200)} cannot be looked into: "
            f"{reason(error)}.",
            path=sendable(place.path),
        ) from error
    return look.answer(known)


class _Look:
    """One look into one folder."""

    def __init__(self, place: Place, *, hidden: bool, match: str, limit: int) -> None:
        self._place = place
        self._hidden = hidden
        self._match = match.casefold().strip()
        self._limit = max(1, limit)
        self._until = time.monotonic() + _MAX_SECONDS
        self._rows: list[tuple[Row, Identity | None]] = []
        self._left_out = 0
        self._outside = 0
        self._num_hidden = 0
        self._cut = False
        self._roots = allowed_roots()

    def at(self, where: int | Path) -> None:
        """Read the folder; of a descriptor, nothing is opened but from it."""
        with os.scandir(where) as entries:
            seen = list(itertools.islice(entries, _MAX_SEEN + 1))
        self._cut = len(seen) > _MAX_SEEN
        found: list[tuple[bool, os.DirEntry[str], Place | None]] = []
        for entry in seen[:_MAX_SEEN]:
            kind = self._kind(entry)
            if kind is None:
                continue
            is_folder, leads_to = kind
            if entry.name.startswith(".") and not self._hidden:
                self._num_hidden += 1
            elif self._match in entry.name.casefold():
                found.append((is_folder, entry, leads_to))
        found.sort(key=lambda one: (not one[0], _order(one[1].name)))
        groups = _parts([entry.name for is_folder, entry, _ in found if not is_folder])
        shown = [one for one in found if one[0] or one[1].name in groups]
        sizes = {entry.name: (entry, leads_to) for is_folder, entry, leads_to in found}
        for is_folder, entry, _ in shown:
            if len(self._rows) >= self._limit or time.monotonic() > self._until:
                break
            if is_folder:
                self._rows.append(self._folder(entry))
            else:
                self._rows.append(self._file([sizes[name] for name in groups[entry.name]]))
        self._left_out = len(shown) - len(self._rows)

    def answer(self, known: set[Identity]) -> Listing:
        place = self._place
        folders = {os.path.realpath(path) for path in added.folders()}
        rows = [
            msgspec.structs.replace(
                row,
                is_listed=identity in known
                if row.kind == "file"
                else row.path != "" and os.path.realpath(row.path) in folders,
            )
            for row, identity in self._rows
        ]
        steps = [place.root.path]
        for name in place.real.relative_to(place.root.path).parts:
            steps.append(steps[-1] / name)
        return Listing(
            path=sendable(place.real),
            crumbs=[
                (place.root.title if step == place.root.path else plain_text(step.name, 80), text)
                for step in steps
                if (text := sendable(step))
            ],
            rows=rows,
            num_left_out=self._left_out,
            is_cut=self._cut,
            num_outside=self._outside,
            num_hidden=self._num_hidden,
        )

    def _kind(self, entry: os.DirEntry[str]) -> tuple[bool, Place | None] | None:
        """Return whether it is a folder, and where a link leads; None for what is not shown."""
        is_model = is_model_name(Path(entry.name))
        try:
            if not entry.is_symlink():
                is_folder = entry.is_dir(follow_symlinks=False)
                return (is_folder, None) if is_folder or is_model else None
        except OSError:
            return (False, None) if is_model else None
        if time.monotonic() > self._until:
            self._cut = True
            return None
        leads_to = place_below(self._place, entry.name, self._roots)
        if leads_to is None:
            self._outside += 1
            return None
        try:
            is_folder = stat.S_ISDIR(status_at(leads_to).st_mode)
        except OSError:
            is_folder = False  # a link to nothing: shown if it calls itself a model
        return (is_folder, leads_to) if is_folder or is_model else None

    def _folder(self, entry: os.DirEntry[str]) -> tuple[Row, Identity | None]:
        return self._row(entry.name, "folder"), None

    def _file(
        self, parts: list[tuple[os.DirEntry[str], Place | None]]
    ) -> tuple[Row, Identity | None]:
        size, changed, identity, note = 0, 0.0, None, ""
        for entry, leads_to in parts:
            try:
                status = entry.stat(follow_symlinks=False) if not leads_to else status_at(leads_to)
            except OSError as error:
                note = f"It cannot be looked at: {reason(error)}."
                continue
            if not stat.S_ISREG(status.st_mode):
                note = "It is not a plain file."
                continue
            size, changed = size + status.st_size, max(changed, status.st_mtime)
            identity = identity or identity_of(status)
        split = split_name(Path(parts[0][0].name))
        count = split.num_parts if split else 1
        if not note and len(parts) < count:
            note = f"{len(parts)} of its {count:,} parts are there."
        row = self._row(parts[0][0].name, "file")
        has_any = identity is not None
        return (
            msgspec.structs.replace(
                row,
                size=size if has_any else None,
                changed=changed if has_any else None,
                num_parts=len(parts),
                note=row.note or note,
                path=row.path if has_any else "",
            ),
            identity,
        )

    def _row(self, name: str, kind: Literal["folder", "file"]) -> Row:
        path = sendable(self._place.real / name)
        note = "" if path else "Its name is not valid text. Rename it first to use it."
        return Row(name=plain_text(name, 255), path=path, kind=kind, note=note)


def _parts(names: list[str]) -> dict[str, list[str]]:
    """Return the parts of each model, by the name of its first part that is there."""
    groups: dict[tuple[str, int] | str, list[str]] = {}
    for name in sorted(names):
        split = split_name(Path(name))
        whole = split is None or split.num_parts == 1
        groups.setdefault(name if whole or split is None else (split.stem, split.num_parts), [])
        groups[name if whole or split is None else (split.stem, split.num_parts)].append(name)
    return {group[0]: group for group in groups.values()}


def _order(name: str) -> list[str | int]:
    """Order names as people do: "part 2" before "part 10"."""
    return [
        int(piece) if number % 2 else piece
        for number, piece in enumerate(_DIGITS.split(name.casefold()))
    ]
