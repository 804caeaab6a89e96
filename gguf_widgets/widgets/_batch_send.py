"""The result of a run as a file: made in Python, fetched by the page piece by piece.

Promises: a page asks for each piece, so that no more than one is on its way; one file at a time is
kept, in a folder of its own that is removed with the widget; what is too large to go through a page
is put where the person finds it, and its path is told. Leaves to others: the formats
(`batch.files`), the table (`BatchRun.to_frame`).
"""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from gguf_widgets.batch import files
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core import config
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["MAX_SENT_BYTES", "Sending", "formats"]

MAX_SENT_BYTES: Final = 50_000_000
_PIECE: Final = 1 << 20

_FORMATS: Final = (
    ("csv", "CSV", ""),
    ("json", "JSON", ""),
    ("jsonl", "JSON lines", ""),
    ("xlsx", "Excel", "openpyxl"),
    ("parquet", "Parquet", "pyarrow"),
)


def formats() -> list[dict[str, str]]:
    """Return the formats that can be written here."""
    found = [one for one in _FORMATS if not one[2] or importlib.util.find_spec(one[2])]
    return [{"ending": ending, "label": label} for ending, label, _ in found]


class Sending:
    """Makes files of results and hands out their pieces."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._path: Path | None = None
        self._key = ""

    def make(self, run: BatchRun, ending: Any) -> dict[str, Any]:
        """Write the result; return its key and size, or where it lies.

        Raises
        ------
        InvalidValueError
            There is no such format.
        TableFileError
            It cannot be written so.
        """
        if ending not in {one["ending"] for one in formats()}:
            raise InvalidValueError(f"Results cannot be saved as {ending!r:.40} here.")
        self.forget()
        self._folder = Path(tempfile.mkdtemp(prefix="gguf-widgets-"))
        name = f"{_name_of(run.title)}.{ending}"
        written = files.write(self._folder / name, run.to_frame())
        told = {"name": name, "size": written.num_bytes, "notes": list(written.notes)}
        if written.num_bytes > MAX_SENT_BYTES:
            told["path"] = str(_kept(written.path))
            self.forget()
            return told
        self._path, self._key = written.path, secrets.token_hex(8)
        return told | {"key": self._key}

    def piece(self, key: Any, offset: Any) -> bytes:
        """Return the next piece of the file.

        Raises
        ------
        InvalidValueError
            That file is no longer kept.
        """
        if key != self._key or self._path is None or not isinstance(offset, int) or offset < 0:
            raise InvalidValueError("This file is not kept any more. Press Download again.")
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(_PIECE)

    def forget(self) -> None:
        """Remove what is kept."""
        folder, self._folder, self._path, self._key = self._folder, None, None, ""
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _kept(path: Path) -> Path:
    """Move a file to the person's results, under a name that is not taken."""
    folder = config.ensure(config.data_dir() / "results")
    stamp = time.strftime("%Y-%m-%d %H-%M-%S")
    target = folder / f"{path.stem} {stamp}{path.suffix}"
    shutil.move(path, target)
    return target


def _name_of(title: str) -> str:
    """Return a run's title as the name of a file that every system takes."""
    words = re.sub(r"[^\w -]+", " ", title)
    return " ".join(words.split())[:60].strip(" -") or "results"
