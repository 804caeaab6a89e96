"""A part file while this process writes it: its descriptor, its hash, its speed.

Promises: bytes are only ever put behind those that are there; a piece that overlaps them is
compared, and one that differs is refused; after a failed write the length of the file says what
arrived. Leaves to others: who may write, and when (`store`, which holds the upload's lock around
each call).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.upload.folder import UploadFolder
from gguf_widgets.core.upload.progress import SpeedMeter
from gguf_widgets.core.upload.running_hash import RunningHash

__all__ = ["OpenPart"]

_BLOCK_BYTES: Final = 1 << 20


class OpenPart:
    """One part file.

    Parameters
    ----------
    folder : UploadFolder
    upload_id : str

    Attributes
    ----------
    hash : RunningHash
    meter : SpeedMeter
    num_synced : int
        How far it was last handed to the disk by this process.
    judge_at : int
        When this much has arrived, the header is looked at again.
    room_at : int
        When this much has arrived, the room on the disk is looked at again.
    saved_at : float
        When the state was last written, on the monotonic clock.
    """

    def __init__(self, folder: UploadFolder, upload_id: str) -> None:
        self._folder = folder
        self._id = upload_id
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None  # since it was first opened here
        self.hash = RunningHash(lambda: folder.open_part(upload_id))
        self.meter = SpeedMeter()
        self.num_synced = 0
        self.judge_at = 1
        self.room_at = 0
        self.saved_at = float("-inf")

    def size(self) -> int:
        """Return how many bytes are in the file, which is made if it is not there."""
        return os.fstat(self._open()).st_size

    def is_it(self, path: Path) -> bool:
        """Say whether a path, without following a link, is the file that was opened here.

        Best asked while it is open: some network disks number a file anew when nobody has it open.
        """
        try:
            status = path.lstat()
        except OSError:
            return False
        return self._identity in (None, (status.st_dev, status.st_ino))

    def is_stale(self) -> bool:
        """Say whether somebody else has removed, replaced or shortened the file since then.

        What is known of it here, the hash above all, is then of no use.
        """
        path = self._folder.part_path(self._id)
        if self._identity is None:
            return False
        return not self.is_it(path) or path.lstat().st_size < self.hash.position

    def cut(self, size: int) -> None:
        """Drop what is behind byte `size`; for bytes that a crash of the machine left unsure."""
        if self.size() > size:
            os.ftruncate(self._open(), size)

    def compare(self, offset: int, data: memoryview, name: str) -> None:
        """Refuse bytes that differ from those that are at `offset` already.

        Raises
        ------
        UploadError
            "changed".
        """
        descriptor = self._open()
        os.lseek(descriptor, offset, os.SEEK_SET)
        for start in range(0, len(data), _BLOCK_BYTES):
            block = data[start : start + _BLOCK_BYTES]
            if _read(descriptor, len(block)) != block:
                raise UploadError(
                    f'"{plain_text(name, 100)}" is not the file that was begun: what came now'
                    f" differs from what arrived before (near byte {offset + start:,}). Cancel this"
                    " upload, then begin again.",
                    problem="changed",
                    position=offset + start,
                )

    def append(self, data: memoryview) -> None:
        """Write behind what is there, and hash what was written; all of it or an error.

        Raises
        ------
        OSError
            The file holds what was written until then.
        """
        descriptor = self._open()
        end = os.lseek(descriptor, 0, os.SEEK_END)
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        finally:
            if written:
                self.hash.feed(end, data[:written])

    def sync(self) -> None:
        """Hand what was written to the disk."""
        descriptor = self._open()
        size = os.fstat(descriptor).st_size
        os.fsync(descriptor)
        self.num_synced = size

    def blocks(self, num_bytes: int) -> Iterator[bytes]:
        """Read the beginning, block by block."""
        descriptor = self._open()
        os.lseek(descriptor, 0, os.SEEK_SET)
        while num_bytes > 0 and (block := os.read(descriptor, min(num_bytes, _BLOCK_BYTES))):
            yield block
            num_bytes -= len(block)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # a network disk that is gone has nothing to keep
                os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._folder.open_part(self._id, write=True)
            status = os.fstat(self._descriptor)
            self._identity = (status.st_dev, status.st_ino)
        return self._descriptor


def _read(descriptor: int, num_bytes: int) -> bytes:
    blocks = []
    while num_bytes and (block := os.read(descriptor, num_bytes)):
        blocks.append(block)
        num_bytes -= len(block)
    return b"".join(blocks)
