"""SHA-256 of a file while it is being written.

Promises: bytes that arrive in order are hashed as they come, and only those that the disk took.
After a resume it starts again at the beginning and catches up. Leaves to others: writing.

**Why it catches up in the background.** The state of a hashlib object cannot be saved, so a process
that goes on where another stopped has to read again what is there. At the finish that would be a
wait without anything to see (a minute or two for 50 GB); in a thread it overlaps with the arrival
of the rest. It blocks nobody: reading and hashing run without Python's lock, the thread holds no
lock of the upload while it does either, and what arrives meanwhile is left to it, not hashed twice.
One core hashes 400 MB/s to 1.5 GB/s (the latter with the processor's own instructions for it) and
a disk reads about as fast, several times what a network brings: so it is done long before the
upload is, unless little was missing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Final

from gguf_widgets.core.errors import RequestCancelledError

__all__ = ["RunningHash"]

_BLOCK_BYTES: Final = 1 << 20
_POLL_S: Final = 0.1


class RunningHash:
    """The digest of one part file.

    Parameters
    ----------
    open_part : callable
        Returns a new descriptor for reading the file; it is closed here.
    """

    def __init__(self, open_part: Callable[[], int]) -> None:
        self._open_part = open_part
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._position = 0
        self._end = 0
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self._stopped = False

    @property
    def position(self) -> int:
        """How many bytes are in the digest."""
        return self._position

    def catch_up(self, end: int) -> None:
        """Begin to hash what is in the file up to `end`."""
        with self._lock:
            self._end = max(self._end, end)
            self._error = None  # a disk that failed may be there again
            if self._position < self._end:
                self._chase()

    def feed(self, offset: int, data: memoryview) -> None:
        """Take bytes that have just been written at `offset`; one caller at a time."""
        with self._lock:
            self._end = max(self._end, offset + len(data))
            if self._thread is not None or self._position != offset:
                self._chase()
                return
        # No thread is at work, and only this caller could start one.
        self._hash.update(data)
        self._position = offset + len(data)

    def digest(self, size: int, cancelled: Callable[[], bool]) -> str:
        """Wait until the first `size` bytes are hashed and return the digest in hexadecimal.

        Raises
        ------
        RequestCancelledError
            If `cancelled` said so, or `stop` was called.
        OSError
            The file could not be read.
        """
        self.catch_up(size)
        while True:
            thread = self._thread
            if thread is None:
                break
            if cancelled():
                # The thread goes on: what it does is of use when the upload goes on.
                raise RequestCancelledError("The file is not checked: the upload was stopped.")
            thread.join(_POLL_S)
        if self._error is not None:
            raise self._error
        if self._position < size:
            raise RequestCancelledError("The file is not checked: the upload was stopped.")
        return self._hash.hexdigest()

    def stop(self) -> None:
        """End the thread; the digest stays unfinished."""
        self._stopped = True

    def _chase(self) -> None:
        """Start the thread unless there is one; the lock is held."""
        if self._thread is None and self._error is None and not self._stopped:
            self._thread = threading.Thread(target=self._run, name="upload-sha256", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            descriptor = self._open_part()
            try:
                os.lseek(descriptor, self._position, os.SEEK_SET)
                self._read_all(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            with self._lock:
                self._error, self._thread = error, None

    def _read_all(self, descriptor: int) -> None:
        while True:
            with self._lock:
                missing = self._end - self._position
                if self._stopped or missing <= 0:
                    self._thread = None
                    return
            data = os.read(descriptor, min(missing, _BLOCK_BYTES))
            if not data:
                raise OSError("the file has become shorter")
            self._hash.update(data)
            self._position += len(data)
