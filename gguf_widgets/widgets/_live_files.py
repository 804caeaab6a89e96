"""The figures that a page shows as a file, fetched by the page piece by piece.

Promises: a page asks for each piece, so that no more than one is on its way; one file at a time is
kept, in a folder of its own that is removed with the widget; nothing is thinned or left out of it.
Leaves to others: writing it (`PerformanceMonitor.export`).
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.widgets._live_data import stretch

__all__ = ["FigureFile"]

_PIECE: Final = 1 << 20
_KINDS: Final = {"system": "speed figures", "requests": "answers"}


class FigureFile:
    """Makes the file and hands out its pieces."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._path: Path | None = None
        self._key = ""

    def make(self, monitor: PerformanceMonitor, content: dict[str, Any]) -> dict[str, Any]:
        """Write what a page asks for as CSV; return its name, size and key.

        Raises
        ------
        InvalidValueError
            There is no such table or session.
        TableFileError
            It cannot be written.
        """
        what = content.get("what")
        if not isinstance(what, str) or what not in _KINDS:
            raise InvalidValueError(f"There are no figures {what!r:.40}; give system or requests.")
        session, since, until = stretch(monitor, content)
        self.forget()
        self._folder = Path(tempfile.mkdtemp(prefix="gguf-widgets-"))
        began = since if since is not None else (session.started_at if session else None)
        # A file's name: the person's own time, without a sign that some system does not take.
        moment = datetime.fromtimestamp(began) if began is not None else datetime.now()  # noqa: DTZ005, DTZ006
        path = self._folder / f"{_KINDS[what]} {moment:%Y-%m-%d %H-%M-%S}.csv"
        of = None if session is None else session.id
        self._path = monitor.export(path, what, since=since, until=until, session=of)
        self._key = secrets.token_hex(8)
        return {"name": path.name, "size": self._path.stat().st_size, "key": self._key}

    def piece(self, content: dict[str, Any]) -> bytes:
        """Return the next piece of the file.

        Raises
        ------
        InvalidValueError
            That file is no longer kept.
        """
        key, offset = content.get("key"), content.get("offset")
        is_place = isinstance(offset, int) and not isinstance(offset, bool) and offset >= 0
        if key != self._key or self._path is None or not is_place:
            raise InvalidValueError("This file is not kept any more. Save it once more.")
        with self._path.open("rb") as file:
            file.seek(int(offset or 0))
            return file.read(_PIECE)

    def forget(self) -> None:
        """Remove what is kept."""
        folder, self._folder, self._path, self._key = self._folder, None, None, ""
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
