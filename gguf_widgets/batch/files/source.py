"""Where a table comes from: a file, bytes in memory, or pasted text.

Promises: only plain files are opened, and none is waited for; a file packed with gzip is unpacked
on the way; lines come one at a time, each of at most `limits.MAX_ITEM_CHARS`; a file that another
program changes between two readings is noticed; every fault of the disk, of the packing or of the
encoding becomes a `TableFileError` with the line it was met in. Leaves to others: which encoding
(`encoding`), what the lines mean.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePath
from typing import IO, Final, cast

from gguf_widgets.batch.files.limits import MAX_ITEM_CHARS
from gguf_widgets.core.config import expanded
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import plain_text

__all__ = ["Pasted", "Source", "TableSource"]

_GZIP: Final = b"\x1f\x8b"
_BLOCK_BYTES: Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Pasted:
    """Text that a person pasted: cells copied from a spreadsheet, lines, or the text of a file."""

    text: str


TableSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Pasted
"""A path, the bytes of a file, or pasted text."""


class Source:
    """One table's bytes, to be read any number of times.

    Parameters
    ----------
    given : str, path, bytes or Pasted
        A str is always a path; pasted text is given as `Pasted`.
    name : str, default ""
        What bytes are called: its ending may say the format. Of a path it is the file's own.

    Attributes
    ----------
    name : str
    size : int
        In bytes, as it lies on the disk.
    packed : bool
        Whether it is packed with gzip.
    pasted : bool

    Raises
    ------
    TableFileError
        There is no such file, it is no plain file, or it cannot be read.
    """

    def __init__(self, given: TableSource, name: str = "") -> None:
        self._path: Path | None = None
        self._data: bytes | None = None
        self.pasted = isinstance(given, Pasted)
        if isinstance(given, Pasted):
            # Half a character (a lone surrogate) has no place in a file; it is seen as "?".
            self._data = given.text.encode("utf-8", "replace")
            self.name = name or "pasted text"
        elif isinstance(given, bytes | bytearray | memoryview):
            self._data = bytes(given)
            self.name = name or "table"
        else:
            self._path = _path(given)
            self.name = name or self._path.name
        self._state: tuple[int, int, int] | None = None
        with self.open_raw() as file:
            head = file.read(len(_GZIP))
            self.size = file.seek(0, os.SEEK_END)
        self.packed = head == _GZIP

    @property
    def path(self) -> Path | None:
        """The file; None if there is none."""
        return self._path

    @property
    def shown(self) -> str:
        """The name as messages show it."""
        if self.pasted:
            return "The pasted text"
        return f'"{plain_text(PurePath(self.name).name or self.name, 80)}"'

    def open_raw(self) -> IO[bytes]:
        """Open the bytes as they lie there, packed or not; the file can be sought in."""
        if self._data is not None:
            return io.BytesIO(self._data)
        assert self._path is not None  # noqa: S101 - one of the two is there, by the constructor
        try:
            return self._opened(self._path)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            raise self._unreadable(error) from error

    def open(self) -> IO[bytes]:
        """Open the bytes, unpacked."""
        file = self.open_raw()
        if not self.packed:
            return file
        return cast("IO[bytes]", _Unpacked(file))

    def head(self, num_bytes: int) -> bytes:
        """Return the first bytes, unpacked: so many, or all there are."""
        with self.faults(), self.open() as file:
            return file.read(num_bytes)

    def blocks(self) -> Iterator[bytes]:
        """Read the bytes, unpacked, block by block."""
        with self.faults(), self.open() as file:
            while block := file.read(_BLOCK_BYTES):
                yield block

    def lines(self, encoding: str) -> Generator[str]:
        """Read the lines, each with its own end: a line feed, a carriage return, or both.

        Raises
        ------
        TableFileError
            The bytes are not of this encoding, a line is too long, or the file cannot be read.
        """
        number = 0
        try:
            # newline="": ends of lines stay what they are, as cells hold them.
            with self.faults(), io.TextIOWrapper(self.open(), encoding, newline="") as file:
                while line := file.readline(MAX_ITEM_CHARS):
                    number += 1
                    if len(line) >= MAX_ITEM_CHARS:
                        raise TableFileError(
                            f"Line {number:,} of {self.name_in_text} is longer than"
                            f" {MAX_ITEM_CHARS:,} characters. It may be no text, or have no ends of"
                            " lines.",
                            problem="too_long",
                            line=number,
                        )
                    yield line
        except UnicodeDecodeError as error:
            raise self._not_of(encoding, number + 1, error) from error
        except UnicodeError as error:
            raise self.not_text(encoding, error) from error

    def text_blocks(self, encoding: str) -> Generator[str]:
        """Read the text block by block, for what has no lines.

        Raises
        ------
        TableFileError
            The bytes are not of this encoding, or the file cannot be read.
        """
        lines = 1
        try:
            with self.faults(), io.TextIOWrapper(self.open(), encoding, newline="") as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
                    lines += block.count("\n")
        except UnicodeDecodeError as error:
            raise self._not_of(encoding, lines, error) from error
        except UnicodeError as error:
            raise self.not_text(encoding, error) from error

    @property
    def name_in_text(self) -> str:
        """The name inside a sentence."""
        return "the pasted text" if self.pasted else self.shown

    @contextlib.contextmanager
    def faults(self) -> Generator[None]:
        """Turn what a disk or a packed file can raise into a `TableFileError`."""
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TableFileError(
                f"{self.shown} is packed (gzip), and what is in it is damaged or not whole:"
                f" {error}. Fetch or pack it again.",
                problem="packed",
            ) from error
        except OSError as error:
            raise self._unreadable(error) from error

    def unchanged(self) -> None:
        """Refuse to go on with a file that is no longer the one that was looked at."""
        if self._path is None:
            return
        try:
            state = _state(self._path.stat())
        except OSError as error:
            raise self._unreadable(error) from error
        if state != self._state:
            raise TableFileError(
                f"{self.shown} has changed since it was looked at. Open it again.",
                problem="changed",
            )

    def not_text(self, encoding: str, error: UnicodeError) -> TableFileError:
        """Return what to raise where a text is not of an encoding at all."""
        return TableFileError(
            f"{self.shown} is not {encoding}: {error}. Choose another encoding.",
            problem="encoding",
            encoding=encoding,
        )

    def _not_of(self, encoding: str, line: int, error: UnicodeDecodeError) -> TableFileError:
        line += bytes(error.object[: error.start]).count(b"\n")
        return TableFileError(
            f"{self.shown} is not {encoding} in line {line:,}: it holds the byte"
            f" {error.object[error.start]:#04x} there ({error.reason}). Choose another encoding,"
            ' such as "cp1252" for files of older Windows programs.',
            problem="encoding",
            line=line,
            encoding=encoding,
        )

    def _opened(self, path: Path) -> IO[bytes]:
        # Not Path.open: a named pipe must not make us wait for whoever writes to it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if path.is_dir():  # Windows says "no permission" of a folder
            raise OSError(errno.EISDIR, "it is a folder")
        file = os.fdopen(os.open(path, flags), "rb", buffering=_BLOCK_BYTES)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is not a plain file")
        if self._state is None:
            self._state = _state(status)
        return file

    def _unreadable(self, error: Exception) -> TableFileError:
        path = str(self._path or self.name)
        if isinstance(error, FileNotFoundError):
            return TableFileError(
                f"There is no file {plain_text(path, 200)}.", problem="missing", path=path
            )
        why = getattr(error, "strerror", None) or str(error)
        return TableFileError(f"{self.shown} cannot be read: {why}.", problem="read", path=path)


class _Unpacked(gzip.GzipFile):
    """A packed file that closes what it reads from, too."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def _path(given: str | os.PathLike[str]) -> Path:
    text = os.fspath(given)
    if not isinstance(text, str):
        raise InvalidValueError(
            "A table is given as a path, as bytes, or as Pasted(text);"
            f" not as {type(given).__name__}."
        )
    if "\n" in text or len(text) > 4096:
        raise InvalidValueError(
            "A str is taken as the path of a file, and this one has several lines or more than"
            f" 4,096 characters (it begins {plain_text(text, 40)!r}). Give text as Pasted(text),"
            " and the contents of a file as bytes."
        )
    return Path(expanded(text))


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_ino, status.st_size, status.st_mtime_ns)
