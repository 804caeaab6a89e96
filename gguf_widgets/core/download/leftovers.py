"""Downloads that were stopped and not gone on with: what there is of them, and removing it.

Promises: what is listed is on the disk now; only what no program is fetching is removed, and of a
model that is finished nothing. Leaves to others: going on (`from_hub`, `from_web`).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from gguf_widgets.core.download.here import one_at_a_time
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Place, disk_error, folders_of_places
from gguf_widgets.core.errors import DownloadError
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["Unfinished", "discard", "unfinished_in"]


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that has arrived in part, or that waits for the other parts of its model.

    Attributes
    ----------
    name : str
        What to ask for to go on: "hf:owner/repo/file.gguf", or an address without its query.
    path : Path
        Where it will be.
    received_bytes : int
    total_bytes : int or None
    """

    name: str
    path: Path
    received_bytes: int
    total_bytes: int | None

    def __str__(self) -> str:
        much = format_bytes(self.received_bytes)
        if self.total_bytes is not None:
            much += f" of {format_bytes(self.total_bytes)}"
        return f"{plain_text(self.name, 300)}  {much}"


def unfinished_in(folder: Path) -> list[Unfinished]:
    """Return what was begun in a folder and below, and not finished."""
    found = []
    for place in _places(folder):
        record = place.read_arriving()
        found.append(
            Unfinished(
                name=record.name or str(place.final),
                path=place.final,
                received_bytes=place.bytes_there(),
                total_bytes=record.size,
            )
        )
    return found


def discard(folder: Path, name: str) -> list[Unfinished]:
    """Remove what has arrived of what is called so; return what that was.

    Parameters
    ----------
    folder : Path
    name : str
        As `unfinished_in` has it; "hf:owner/repo" means all of that repository.

    Raises
    ------
    DownloadError
        ``problem`` is "not_found" if there is nothing of it, "in_use" if it is being fetched.
    """
    wanted = name.strip()
    named = [one for one in unfinished_in(folder) if _means(wanted, one)]
    if not named:
        raise DownloadError(
            f'Nothing is unfinished of "{plain_text(wanted, 120)}". '
            '"gguf-widgets get --unfinished" lists what is.',
            problem="not_found",
        )
    places = {place.final: place for place in _places(folder)}
    for one in named:
        place = places[one.path]
        with one_at_a_time([place], Job(), wait=False):
            try:
                place.forget()
            except OSError as error:
                raise disk_error(error, place.final) from error
    return named


def _means(wanted: str, one: Unfinished) -> bool:
    return wanted in (one.name, str(one.path)) or one.name.startswith(f"{wanted.rstrip('/')}/")


def _places(folder: Path) -> Iterator[Place]:
    for hidden in folders_of_places(folder):
        for root, _, names in os.walk(hidden):
            inside = Path(root).relative_to(hidden)
            seen = set()
            for name in sorted(names):
                stem = name.removesuffix(".part")
                if stem.endswith(".gguf") and stem not in seen:
                    seen.add(stem)
                    yield Place(hidden.parent, hidden.parent / inside / stem)
