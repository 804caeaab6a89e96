"""Steps over the bytes of a GGUF file, each step checked against the file before it is taken.

Promises: no length or count is believed before the file is seen to be that long; nothing that the
file says can make a step take long or much memory (the limits are below); every failure is a
`ModelFileError` in plain words. Leaves to others: what the bytes mean (`gguf_parse`).

Why a long list of texts (a vocabulary has 150,000) is walked in blocks with NumPy: one Python step
a text takes 0.15 µs, or 50 ms for a vocabulary and its merges, and a folder of 50 models would
take seconds. Looking for all the short lengths of a 64 KiB block at once takes a tenth of that.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Final

from gguf_widgets.core.errors import (
    MalformedHeaderError,
    ModelFileError,
    ModelNotFoundError,
    NotAFileError,
    TruncatedFileError,
    UnreadableFileError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_tables import SCALARS, ValueType

__all__ = ["MAX_DEPTH", "Cursor", "map_file", "shown"]

# The limits. llama.cpp's own are 2**30 for each; these are what real files need and some more.
MAX_TEXT_BYTES: Final = 1 << 30
MAX_ARRAY_COUNT: Final = 1 << 30
# Texts have to be stepped over one by one, so they are fewer: the largest vocabularies have 262,144
# tokens and about twice as many merges. Lists inside lists are slower still, and llama.cpp, which
# refuses them, is proof that no model needs many.
MAX_TEXTS: Final = 1 << 21
MAX_INNER_LISTS: Final = 1 << 14
MAX_DEPTH: Final = 4
# A file that lacks more than this did not get cut short: its header is wrong.
_MOST_MISSING: Final = 1 << 40

_WINDOW: Final = 1 << 16
_SMALL_COUNT: Final = 4096
_BY_HAND: Final = 256
_MOST_BY_HAND: Final = 64

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_AGAIN = "Download or copy it again."


def shown(path: Path) -> str:
    """Return a file's name, quoted, as it may stand in a sentence."""
    return f'"{plain_text(path.name or str(path), 100)}"'


@contextmanager
def map_file(path: Path) -> Iterator[tuple[mmap.mmap | bytes, os.stat_result]]:
    """Map a file for reading and close it again; an empty file gives empty bytes.

    The map is held only while the header is read (milliseconds): reading a mapped file that another
    program cuts short at that moment ends the process, and there is no way to catch it.

    Raises
    ------
    ModelNotFoundError, NotAFileError, UnreadableFileError
    """
    # Not Path.open: a named pipe must not make us wait for whoever writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path, status)
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path, status)
        if status.st_size == 0:
            yield b"", status
            return
        try:
            data = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UnreadableFileError(
                f"{shown(path)} could not be read: {error}.", path=str(path)
            ) from error
        with data:
            yield data, status
    finally:
        os.close(descriptor)


def _not_a_file(path: Path, status: os.stat_result) -> ModelFileError:
    if stat.S_ISDIR(status.st_mode):
        return NotAFileError(
            f"{shown(path)} is a folder. Choose a model file (.gguf) inside it.", path=str(path)
        )
    return NotAFileError(f"{shown(path)} is not a plain file.", path=str(path))


def _cannot_open(path: Path, error: OSError | ValueError) -> ModelFileError:
    if isinstance(error, PermissionError):
        return UnreadableFileError(
            f"You have no permission to read {shown(path)}. "
            "Change its permissions, or ask its owner.",
            path=str(path),
        )
    if isinstance(error, (FileNotFoundError, NotADirectoryError, ValueError)):
        # ValueError: the name holds a zero byte, so there can be no such file.
        where = plain_text(str(path.parent), 200)
        return ModelNotFoundError(f"There is no file {shown(path)} in {where}.", path=str(path))
    return UnreadableFileError(
        f"{shown(path)} could not be read: {error.strerror or error}.", path=str(path)
    )


class Cursor:
    """A place in a mapped file, moved forward by checked steps.

    Parameters
    ----------
    data : mmap or bytes
    path : Path
        For messages only.
    pos : int, default 0
    """

    __slots__ = ("data", "inner_lists_left", "path", "pos", "size", "texts_left")

    def __init__(self, data: mmap.mmap | bytes, path: Path, pos: int = 0) -> None:
        self.data = data
        self.path = path
        self.pos = pos
        self.size = len(data)
        self.texts_left = MAX_TEXTS
        self.inner_lists_left = MAX_INNER_LISTS

    def malformed(self, what: str) -> MalformedHeaderError:
        """Return the error for a header that cannot be true; `what` is a whole sentence."""
        return MalformedHeaderError(
            f"{shown(self.path)} is damaged or was written wrongly. {what} {_AGAIN}",
            path=str(self.path),
            position=self.pos,
        )

    def need(self, num_bytes: int) -> None:
        """Raise unless `num_bytes` more bytes are there."""
        missing = num_bytes - (self.size - self.pos)
        if missing > 0:
            raise self.cut_short(missing)

    def cut_short(self, missing: int) -> ModelFileError:
        """Return the error for a header that goes on after the end of the file."""
        if missing > _MOST_MISSING:
            return self.malformed("A length in its header is impossibly large.")
        return TruncatedFileError(
            f"{shown(self.path)} is cut short: it ends inside its own header, and at least "
            f"{format_bytes(missing)} of it are missing. {_AGAIN}",
            path=str(self.path),
            missing_bytes=missing,
            size_bytes=self.size,
        )

    def u32(self) -> int:
        """Read an unsigned 32-bit number."""
        self.need(4)
        (value,) = _U32.unpack_from(self.data, self.pos)
        self.pos += 4
        return int(value)

    def u64(self) -> int:
        """Read an unsigned 64-bit number."""
        self.need(8)
        (value,) = _U64.unpack_from(self.data, self.pos)
        self.pos += 8
        return int(value)

    def scalar(self, kind: int) -> int | float | bool:
        """Read a value of a fixed size."""
        layout = SCALARS[kind]
        self.need(layout.size)
        value: int | float = layout.unpack_from(self.data, self.pos)[0]
        self.pos += layout.size
        if kind == ValueType.BOOL:
            if value not in (0, 1):
                raise self.malformed(f"A yes-or-no value in its header is {value}.")
            return bool(value)
        return value

    def text_length(self, limit: int, what: str) -> int:
        """Read a text's length, and raise unless it is within `limit` bytes and the file."""
        length = self.u64()
        if length > limit:
            raise self.malformed(
                f"{what} is {length:,} bytes long by its header; "
                f"{limit:,} is the most there can be."
            )
        self.need(length)
        return length

    def text(self, limit: int, what: str) -> str:
        """Read a text; bytes that are no UTF-8 become the replacement mark."""
        return self.take(self.text_length(limit, what)).decode("utf-8", errors="replace")

    def take(self, num_bytes: int) -> bytes:
        """Read bytes as they are."""
        self.need(num_bytes)
        start = self.pos
        self.pos += num_bytes
        return self.data[start : self.pos]

    def array_head(self, depth: int = 1) -> tuple[int, int]:
        """Read a list's item type and length; the length is within limits, not yet checked."""
        if depth > MAX_DEPTH:
            raise self.malformed(f"It holds lists inside lists more than {MAX_DEPTH} deep.")
        kind, count = self.u32(), self.u64()
        if kind not in SCALARS and kind not in (ValueType.STRING, ValueType.ARRAY):
            raise self.malformed(f"A list in its header has items of an unknown type ({kind}).")
        if count > MAX_ARRAY_COUNT:
            raise self.malformed(f"A list in its header has {count:,} items.")
        return kind, count

    def skip_items(self, kind: int, count: int, depth: int = 1) -> None:
        """Step over a list's items without making objects of them."""
        layout = SCALARS.get(kind)
        if layout is not None:
            self.need(layout.size * count)
            self.pos += layout.size * count
            return
        # Each item takes at least its own length field, so this refuses a false count at once.
        if kind == ValueType.STRING:
            self.need(8 * count)
            self.texts_left -= count
            if self.texts_left < 0:
                raise self.malformed(f"The lists in its header have more than {MAX_TEXTS:,} texts.")
            self._skip_texts(count)
            return
        self.need(12 * count)
        self.inner_lists_left -= count
        if self.inner_lists_left < 0:
            raise self.malformed(f"It has more than {MAX_INNER_LISTS:,} lists inside lists.")
        for _ in repeat(None, count):
            inner_kind, inner_count = self.array_head(depth + 1)
            self.skip_items(inner_kind, inner_count, depth + 1)

    def _skip_texts(self, count: int) -> None:
        """Step over `count` texts: in blocks where they are short, else one by one."""
        if count >= _SMALL_COUNT:
            by_hand = _BY_HAND
            while count > by_hand:
                done, in_vain = self._skip_block(count)
                count -= done
                if not in_vain:
                    by_hand = _BY_HAND
                elif count:
                    # Long texts, or zeros inside them: go by hand for a while, then try again, each
                    # time later if that was in vain.
                    stretch = min(count, by_hand)
                    self._skip_each_text(stretch)
                    count -= stretch
                    by_hand *= 2
        self._skip_each_text(count)

    def _skip_each_text(self, count: int) -> None:
        data, pos, unpack = self.data, self.pos, _U64.unpack_from
        try:
            for _ in repeat(None, count):
                pos += 8 + unpack(data, pos)[0]
        except (struct.error, OverflowError):
            # The position is beyond the end of the file, where no length can be read.
            pos = max(pos + 8, self.size + 1)
        if pos > self.size:
            raise self.cut_short(pos - self.size)
        self.pos = pos

    def _skip_block(self, most: int) -> tuple[int, bool]:
        """Step over texts within one window; return how many, and whether blocks were no use here.

        The length of a text under 256 bytes is one byte and seven zeros. Every place in the window
        that looks like one is found; they are the real ones as long as each leads exactly to the
        next, the first being where we stand. Where that chain breaks (at a long text, or at one
        that holds seven zeros itself) the next step is taken by hand: nothing can lead it astray.
        """
        import numpy as np  # Late: only files with a real vocabulary need it (0.1 s to import).

        block = self.data[self.pos : self.pos + _WINDOW]
        window = np.frombuffer(block, np.uint8)
        zero = window == 0
        zero = zero[:-1] & zero[1:]  # two zeros from here on
        zero = zero[:-2] & zero[2:]  # four
        zero = zero[:-3] & zero[3:]  # seven
        starts = np.flatnonzero(zero[1:])
        ends = starts[:-1] + window[starts[:-1]] + 8
        breaks = np.append(np.flatnonzero(ends != starts[1:]), max(0, starts.size - 1))

        at = done = hand = 0
        while done < most and hand <= _MOST_BY_HAND:
            place = int(starts.searchsorted(at))
            if place < starts.size and starts[place] == at:
                run = min(int(breaks[breaks.searchsorted(place)]) - place, most - done)
                at, done = int(starts[place + run]), done + run
                if done == most:
                    break
            if at + 8 > len(block):
                break
            end = at + 8 + _U64.unpack_from(block, at)[0]
            if end > len(block):
                break
            at, done, hand = end, done + 1, hand + 1
        self.pos += at
        return done, done == 0 or hand > _MOST_BY_HAND
