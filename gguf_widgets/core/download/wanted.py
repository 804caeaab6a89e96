"""A file that is to be fetched, and what its bytes must come to.

Promises: plain facts; a checksum is compared with the bytes as they are. Leaves to others: fetching
(`transfer`), where the facts come from (`hub`, `from_web`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from gguf_widgets.core.download.http import Source
from gguf_widgets.core.download.progress import Job
from gguf_widgets.core.download.record import Checksum

__all__ = ["Hashes", "Wanted", "file_checksum"]

_BLOCK: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A file that is to be fetched.

    Attributes
    ----------
    source : Source
    name : str
        For the record; without secrets.
    identity : str
        What tells it from any other file; of two states of a file on the web the same.
    size : int or None
        As announced by whom it was asked of; None if that is for the server itself to say.
    checksum : Checksum or None
    revision, license : str
        Of the repository, for the record.
    """

    source: Source
    name: str
    identity: str
    size: int | None = None
    checksum: Checksum | None = None
    revision: str = ""
    license: str = ""


def file_checksum(path: Path, checksum: Checksum, job: Job, before: int) -> bool:
    """Say whether a file's bytes come to a checksum; the job is told how far it is.

    Raises
    ------
    OSError
    DownloadError
        If the job is to stop.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        hashes = Hashes(checksum, size)
        done = 0
        while block := file.read(_BLOCK):
            hashes.add(block)
            done += len(block)
            job.at(before + done)
    return hashes.agrees()


class Hashes:
    """SHA-256, and what else was announced, over the bytes as they come.

    Parameters
    ----------
    wanted : Checksum or None
    size : int or None
        Of the whole file: git's checksum begins with it.
    """

    def __init__(self, wanted: Checksum | None, size: int | None) -> None:
        self._wanted = wanted
        self._sha256 = hashlib.sha256()
        self._git: Any = None
        if wanted is not None and wanted.kind == "git-sha1":
            self._git = hashlib.sha1(b"blob %d\0" % (size or 0), usedforsecurity=False)

    def add(self, block: bytes) -> None:
        """Count more bytes."""
        self._sha256.update(block)
        if self._git is not None:
            self._git.update(block)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was counted so far."""
        return self._sha256.hexdigest()

    def agrees(self) -> bool:
        """Say whether what was counted is what was announced."""
        if self._wanted is None:
            return True
        found = self._git.hexdigest() if self._git is not None else self.sha256
        return bool(found == self._wanted.value.lower())
