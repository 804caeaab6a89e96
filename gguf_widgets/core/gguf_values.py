"""Long values of a header, which stay in the file until someone asks for them.

Promises: `GgufArray` and `GgufText` know their type and length at no cost; their contents are read
on demand, from the same file or not at all (a file that has changed is refused). Leaves to others:
deciding what is long (`gguf_parse`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from gguf_widgets.core.errors import InvalidValueError, UnreadableFileError
from gguf_widgets.core.gguf_bytes import MAX_TEXT_BYTES, Cursor, map_file, shown
from gguf_widgets.core.gguf_tables import SCALARS, ValueType

__all__ = ["FileIdentity", "GgufArray", "GgufText", "GgufValue"]

_TYPE_NAMES: Final = {kind.value: kind.name.lower() for kind in ValueType}


class FileIdentity(NamedTuple):
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Take it from what `os.stat` returned."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class _Lazy:
    """A range of a file, to be read later."""

    __slots__ = ("_identity", "_path", "_pos", "_raw")

    def __init__(self, path: Path, identity: FileIdentity, pos: int, raw: bytes | None) -> None:
        self._path = path
        self._identity = identity
        self._pos = pos
        self._raw = raw

    def _read(self, read: Any) -> Any:
        """Call `read(cursor)` where the value begins."""
        if self._raw is not None:
            return read(Cursor(self._raw, self._path))
        with map_file(self._path) as (data, status):
            if FileIdentity.of(status) != self._identity:
                raise UnreadableFileError(
                    f"{shown(self._path)} has changed since its header was read. Read it again.",
                    path=str(self._path),
                )
            return read(Cursor(data, self._path, self._pos))


class GgufArray(_Lazy):
    """A list in a header.

    Its contents come as hostile as the file: a list may have a thousand million items, so look at
    `len` first, or ask for a part.

    Attributes
    ----------
    item_type : str
        "uint32", "float32", "string", "array", ...
    """

    __slots__ = ("_count", "_kind", "item_type")

    def __init__(
        self,
        path: Path,
        identity: FileIdentity,
        pos: int,
        raw: bytes | None,
        kind: int,
        count: int,
    ) -> None:
        super().__init__(path, identity, pos, raw)
        self._kind = kind
        self._count = count
        self.item_type = _TYPE_NAMES[kind]

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<GgufArray of {self._count:,} x {self.item_type}>"

    def __getitem__(self, index: int) -> Any:
        position = index + self._count if index < 0 else index
        if not 0 <= position < self._count:
            raise IndexError(f"item {index} of a list of {self._count}")
        return self.values(position, position + 1)[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def values(self, start: int = 0, stop: int | None = None) -> list[Any]:
        """Read the items from `start` up to `stop` (default: the end) into a list.

        Raises
        ------
        ModelFileError
            If the file is gone, has changed or holds something impossible.
        InvalidValueError
            If `start` or `stop` is negative.
        """
        stop = self._count if stop is None else min(stop, self._count)
        if start < 0 or stop < 0:
            raise InvalidValueError("A list's part goes from 0 on; it cannot begin below it.")
        if start >= stop:
            return []
        items: list[Any] = self._read(lambda cursor: _items(cursor, self._kind, start, stop))
        return items


class GgufText(_Lazy):
    """A text in a header too long to be read along with the rest."""

    __slots__ = ("num_bytes",)

    def __init__(self, path: Path, identity: FileIdentity, pos: int, num_bytes: int) -> None:
        super().__init__(path, identity, pos, None)
        self.num_bytes = num_bytes

    def __len__(self) -> int:
        return self.num_bytes

    def __repr__(self) -> str:
        return f"<GgufText of {self.num_bytes:,} bytes>"

    def value(self, limit: int | None = None) -> str:
        """Read the text, or its first `limit` bytes."""
        size = self.num_bytes if limit is None else min(limit, self.num_bytes)
        data: bytes = self._read(lambda cursor: cursor.take(size))
        return data.decode("utf-8", errors="replace")


GgufValue = int | float | bool | str | GgufArray | GgufText


def _items(cursor: Cursor, kind: int, start: int, stop: int, depth: int = 1) -> list[Any]:
    """Read items `start` up to `stop` of the list whose first item is at the cursor."""
    layout = SCALARS.get(kind)
    if layout is not None:
        cursor.skip_items(kind, start, depth)
        data = cursor.take(layout.size * (stop - start))
        values = [value for (value,) in layout.iter_unpack(data)]
        return [bool(value) for value in values] if kind == ValueType.BOOL else values
    cursor.skip_items(kind, start, depth)
    if kind == ValueType.STRING:
        return [cursor.text(MAX_TEXT_BYTES, "A text") for _ in range(stop - start)]
    nested = []
    for _ in range(stop - start):
        inner_kind, inner_count = cursor.array_head(depth + 1)
        nested.append(_items(cursor, inner_kind, 0, inner_count, depth + 1))
    return nested
