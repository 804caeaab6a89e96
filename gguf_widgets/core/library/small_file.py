"""Small files: ours in the data folder, shared by several processes, and other programs' settings.

Promises: no read takes much memory or waits (a named pipe is no file); one of our files that is too
long, damaged, or of another version counts as empty and is written anew with the next change; it is
written to a temporary name, synced and renamed under a lock that is waited for a bounded time, and
a change starts from what another process wrote meanwhile. Leaves to others: what the contents mean.

Why not the store: the list of models has to work where the database is locked, damaged or of a
newer version, and looking for models must not create one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import filelock
import msgspec

from gguf_widgets.core import config
from gguf_widgets.core.plain_files import read_bounded

__all__ = ["SmallFile", "read_bounded", "read_json"]

_log = logging.getLogger(__name__)

_LOCK_S: Final = 2.0
# What counts as "cannot be read": everything a hostile file can make a decoder raise.
_BROKEN: Final = (msgspec.MsgspecError, ValueError, RecursionError)

Content = TypeVar("Content", bound=msgspec.Struct)


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Return the object in a JSON file of another program.

    Raises
    ------
    OSError
        As `read_bounded`, or it is not JSON, or no object.
    """
    try:
        content = json.loads(read_bounded(path, limit))
    except (ValueError, RecursionError) as error:
        raise OSError(errno.EINVAL, "it is not valid JSON") from error
    if not isinstance(content, dict):
        raise OSError(errno.EINVAL, "it holds no JSON object")
    return content


class SmallFile(Generic[Content]):
    """One file in the data folder's part for the library.

    Parameters
    ----------
    name : str
        Its name; ".json" is written as JSON, anything else as MessagePack.
    kind : type
        A `msgspec.Struct` whose fields have defaults; a field ``version`` holds `version`.
    version : int
        A file that says another one is ignored.
    max_bytes : int
        It is neither read nor written longer than this.
    shrink : callable
        Takes a content that is too long and returns a shorter one.
    """

    def __init__(
        self,
        name: str,
        kind: type[Content],
        *,
        version: int,
        max_bytes: int,
        shrink: Callable[[Content], Content],
    ) -> None:
        self._name = name
        self._kind = kind
        self._version = version
        self._max_bytes = max_bytes
        self._shrink = shrink
        self._said: object = ()  # the state of the file whose fault was logged last
        self._codec: Any = msgspec.json if name.endswith(".json") else msgspec.msgpack

    @property
    def path(self) -> Path:
        """Where it is; asked for again each time, because the data folder may be moved."""
        return config.library_dir() / self._name

    def state(self) -> tuple[str, int, int, int] | None:
        """Return what changes whenever the file does; None if there is none."""
        path = self.path
        try:
            status = path.stat()
        except OSError:
            return None
        return (str(path), status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self) -> Content:
        """Return the content; an empty one if there is none that can be used."""
        return self.read_or_why()[0]

    def read_or_why(self) -> tuple[Content, str]:
        """Return the content, and why it is empty though there is a file; "" if all is well.

        The reason is logged too, once for each state of the file.
        """
        try:
            data = read_bounded(self.path, self._max_bytes)
            content: Content = self._codec.decode(data, type=self._kind)
            if getattr(content, "version", None) == self._version:
                return content, ""
            why = "it is of another version of this program"
        except FileNotFoundError:
            return self._kind(), ""
        except OSError as error:
            why = error.strerror or str(error)
        except _BROKEN as error:
            why = f"it is damaged ({error})"
        state = self.state()
        if state != self._said:
            self._said = state
            _log.warning("%s was taken as empty: %s", self.path, why)
        return self._kind(), why

    def update(self, change: Callable[[Content], Content]) -> Content:
        """Replace the content by what `change` makes of it; return the new content.

        Raises
        ------
        OSError
            It could not be written, or other processes held it for too long. Nothing has changed.
        """
        path = self.path
        config.ensure(path.parent, private=True)
        try:
            with filelock.FileLock(f"{path}.lock", timeout=_LOCK_S, mode=0o600):
                content = change(self.read())
                data = self._codec.encode(content)
                while len(data) > self._max_bytes:
                    content = self._shrink(content)
                    data = self._codec.encode(content)
                _replace(path, data)
        except filelock.Timeout as error:
            raise OSError(errno.EAGAIN, "another program is writing it", str(path)) from error
        except NotImplementedError as error:
            raise OSError(errno.ENOLCK, "its disk has no file locks", str(path)) from error
        return content

    def try_update(self, change: Callable[[Content], Content]) -> bool:
        """As `update`, for what may be lost: a failure is logged; return whether there was none."""
        try:
            self.update(change)
        except OSError as error:
            _log.warning("%s could not be written: %s", self.path, error)
            return False
        return True


def _replace(path: Path, data: bytes) -> None:
    # Of this process alone, and made under the lock: nobody else writes to this name.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
