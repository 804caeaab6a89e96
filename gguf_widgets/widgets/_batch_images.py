"""Which columns of a table hold pictures, and from which folders files may be taken that they name.

Promises: a table that came from a page names files of this machine only within the folders that may
be browsed (`core.library.browse`), and none where that is forbidden; a folder that a page names is
within them as well, whoever gave the table. Pictures in the cells themselves need no folder. What
is suggested is only suggested. Leaves to others: reading pictures (`batch.images`), showing them
(`_batch_pictures`), the rest of the form (`_batch_draft`).

Who knows where a table came from is `Given`; a table that nobody knows of is treated as a page's.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from gguf_widgets.batch.images import ImageColumns
from gguf_widgets.batch.missing import is_missing
from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.image_format import format_of
from gguf_widgets.core.library.browse import allowed_roots, is_inside, place_of
from gguf_widgets.core.library.browse_place import place_at, sendable, status_of

__all__ = [
    "Source",
    "columns_in",
    "folder_words",
    "source_of",
    "still_allowed",
    "suggested",
]

_LOOKED_AT: Final = 40  # values of a column
_MOST_LOOKED_AT: Final = 500  # columns; the others can be chosen, too
_LONGEST_NAME: Final = 1000
_MOST_LISTED: Final = 5
_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")


class Table(Protocol):
    """What has to be known of a table."""

    @property
    def from_page(self) -> bool:
        """Whether it came from a page, or nobody knows from where."""
        ...

    @property
    def folder(self) -> str:
        """Where its files are; "" for where Python is."""
        ...


class Source(NamedTuple):
    """Where the files are that a table's cells name.

    Attributes
    ----------
    folder : str
        Where names without one are looked for.
    within : tuple of str or None
        Folders that files may be taken from, none inside another; None for any.
    can_choose : bool
        Whether another folder can be named on the page.
    """

    folder: str = ""
    within: tuple[str, ...] | None = ()
    can_choose: bool = False


def source_of(table: Table | None) -> Source:
    """Return where a table's files may be taken from, as it is allowed now."""
    roots = [text for root in allowed_roots() if (text := sendable(root.path))]
    if table is not None and not table.from_page:
        return Source(table.folder or os.fspath(Path.cwd()), None, bool(roots))
    outer = [
        one for one in roots if not any(other in Path(one).parents for other in map(Path, roots))
    ]
    return Source(roots[0] if roots else "", tuple(outer), bool(roots))


def columns_in(names: Sequence[str], folder: str, source: Source) -> ImageColumns:
    """Return the columns with pictures for a run.

    Parameters
    ----------
    names : sequence of str
    folder : str
        As it was typed; "" for the source's own.
    source : Source

    Raises
    ------
    GgufWidgetsError
        The folder is none, is not there, or is outside of what may be browsed.
    """
    own = source.folder
    if folder.strip():
        place = place_at(place_of(folder))
        if not stat.S_ISDIR(status_of(place).st_mode):
            raise InvalidValueError(
                f'"{plain_text(folder.strip(), 200)}" is a file. Give the folder that it is in.'
            )
        own = os.fspath(place.real)
    return ImageColumns(tuple(names), own, source.within)


def still_allowed(images: ImageColumns) -> ImageColumns:
    """Return the same without the folders that may not be browsed any more."""
    if not images.columns or images.within is None:
        return images
    within = tuple(one for one in images.within if is_inside(one))
    return dataclasses.replace(images, within=within)


def folder_words(source: Source) -> str:
    """Return, for the page, from which folders pictures are taken."""
    if source.within is None:
        return (
            "This table was given in Python, so the files that its cells name are taken from "
            "anywhere on the computer that runs Python."
        )
    if not source.within:
        return (
            "Only pictures that are in the cells themselves can be read here: no folder may be "
            "looked into from this page. Whoever starts the program can allow some: set "
            f"{config.BROWSE} to the folders before Jupyter is started, or start the dashboard "
            "with --browse FOLDER."
        )
    listed = ", ".join(plain_text(one, 120) for one in source.within[:_MOST_LISTED])
    num_more = len(source.within) - _MOST_LISTED
    more = f" and {num_more} more" if num_more > 0 else ""
    return (
        "Files that the cells name are taken from these folders of the computer that runs Python, "
        f"and from the folders in them: {listed}{more}. Pictures that are in the cells themselves "
        "need no folder."
    )


def suggested(frame: Any, names: Sequence[str]) -> list[str]:
    """Return the columns whose values look like pictures, judged by the first few of each.

    Parameters
    ----------
    frame : DataFrame
    names : sequence of str
        Its columns, in their order.
    """
    found = []
    for place, name in enumerate(names[:_MOST_LOOKED_AT]):
        values = frame.iloc[:_LOOKED_AT, place]
        looks = [_is_picture(value) for value in values if not is_missing(value)]
        if looks and sum(looks) * 2 > len(looks):
            found.append(name)
    return found


def _is_picture(value: Any) -> bool:
    """Say whether a cell looks like a picture that could be read here; no file is opened."""
    if isinstance(value, Mapping):
        if not value or not set(value) <= {"bytes", "path"}:
            return False
        data = value.get("bytes")
        value = data if data is not None else value.get("path")
    if isinstance(value, bytes | bytearray):
        return format_of(bytes(value[:16])) != "" or value[8:12] == b"WEBP"
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if not isinstance(text, str):
            return False
        if text[:11].lower() == "data:image/":
            return True
        is_name = len(text) <= _LONGEST_NAME and "\n" not in text and "://" not in text[:12]
        return is_name and text.lower().endswith(_ENDINGS)
    return type(value).__module__.partition(".")[0] == "PIL" and hasattr(value, "save")
