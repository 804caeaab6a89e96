"""One file's header, from its first bytes to its tensor table, judged against the file's size.

Promises: what `parse` returns is consistent in itself and with the file (no key or tensor twice,
alignment sensible, every tensor's data inside the file and none over another); anything else is an
error that says what is wrong. Reading takes at most about 30 MB of memory, whatever the file says.
Leaves to others: the parts of a split model (`gguf_split`), what the values mean (`gguf`).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core.errors import (
    BigEndianFileError,
    ModelFileError,
    NotGgufError,
    TruncatedFileError,
    UnreadableFileError,
    UnsupportedVersionError,
)
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.gguf_bytes import Cursor, map_file, shown
from gguf_widgets.core.gguf_tables import (
    REMOVED_TENSOR_TYPES,
    SCALARS,
    TENSOR_TYPES,
    ValueType,
)
from gguf_widgets.core.gguf_values import FileIdentity, GgufArray, GgufText, GgufValue

__all__ = ["GgufTensor", "ParsedFile", "parse"]

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)

# Real files have some 50 keys and at most some 30,000 tensors.
_MAX_KEYS: Final = 1 << 16
_MAX_TENSORS: Final = 100_000
_MAX_KEY_BYTES: Final = (1 << 16) - 1  # GGUF's own limit
_MAX_NAME_BYTES: Final = 1024  # ggml itself takes 63
_MAX_DIMS: Final = 4  # ggml's own limit
_MAX_TENSOR_TYPE: Final = 255
_DEFAULT_ALIGNMENT: Final = 32
_MAX_ALIGNMENT: Final = 1 << 20
# A text this long, or a list of this many bytes, is read at once; a longer one when asked for.
_EAGER_TEXT: Final = 1 << 20
_EAGER_ARRAY: Final = 1 << 14
# And all of them together, so that 65,536 keys do not add up.
_EAGER_TOTAL: Final = 1 << 23


class GgufTensor(NamedTuple):
    """One row of the tensor table.

    Attributes
    ----------
    name : str
    shape : tuple of int
        As the file has it: the dimension that is contiguous in memory comes first.
    type : str
        "F16", "Q4_K", ...; "type 77" for one that this program does not know.
    offset : int
        Where the data begins in its file, in bytes.
    size : int or None
        Bytes of data; None for a type that this program does not know.
    part : int
        Which file of a split model, from 0.
    type_id : int
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int | None
    part: int
    type_id: int

    @property
    def num_elements(self) -> int:
        """Return how many numbers the tensor holds."""
        return math.prod(self.shape)


class ParsedFile(NamedTuple):
    """What one file's header says."""

    path: Path
    identity: FileIdentity
    version: int
    alignment: int
    data_offset: int
    metadata: dict[str, GgufValue]
    tensors: list[GgufTensor]


def parse(path: Path, part: int = 0) -> ParsedFile:
    """Read one file's header.

    Raises
    ------
    ModelFileError
        One of its subclasses, for whatever is wrong.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UnreadableFileError(
            f"The name of the file {shown(path)} is not valid UTF-8 text. "
            "Rename it, then try again.",
            path=str(path).encode("utf-8", "replace").decode(),
        ) from error
    with map_file(path) as (data, status):
        cursor = Cursor(data, path)
        identity = FileIdentity.of(status)
        version = _check_start(cursor)
        num_tensors, num_keys = cursor.u64(), cursor.u64()
        if num_tensors > _MAX_TENSORS:
            raise cursor.malformed(
                f"By its header it holds {num_tensors:,} tensors; "
                f"{_MAX_TENSORS:,} is the most there can be."
            )
        if num_keys > _MAX_KEYS:
            raise cursor.malformed(
                f"By its header it holds {num_keys:,} entries; "
                f"{_MAX_KEYS:,} is the most there can be."
            )
        # The least that an entry and a tensor take, so that a false count is refused at once.
        cursor.need(num_keys * 13 + num_tensors * 24)
        metadata = _read_metadata(cursor, identity, num_keys)
        alignment = _alignment(cursor, metadata)
        tensors, data_offset = _read_tensors(cursor, num_tensors, alignment, part)
        return ParsedFile(path, identity, version, alignment, data_offset, metadata, tensors)


# What a file is that begins otherwise: (its first bytes, what to tell the person).
_OTHER_STARTS: Final = (
    (b"version https://git-lfs", "It is only a pointer left by Git LFS: run `git lfs pull`."),
    (b"<", "It looks like a web page: the download saved the page instead of the model."),
    (b"PK\x03\x04", "It looks like a zip or PyTorch file. Look for a GGUF version of this model."),
    (b"ggjt", "It is in a format from before GGUF. Look for a newer version of this model."),
    (b"tjgg", "It is in a format from before GGUF. Look for a newer version of this model."),
    (b"lmgg", "It is in a format from before GGUF. Look for a newer version of this model."),
    (b"fmgg", "It is in a format from before GGUF. Look for a newer version of this model."),
)


def _check_start(cursor: Cursor) -> int:
    """Check magic and version; return the version."""
    name, path = shown(cursor.path), str(cursor.path)
    if cursor.size == 0:
        raise NotGgufError(f"{name} is empty. Download or copy it again.", path=path)
    start = cursor.data[: min(32, cursor.size)]
    if start[:4] != _MAGIC[: len(start[:4])]:
        hint = next((hint for begin, hint in _OTHER_STARTS if start.startswith(begin)), None)
        if hint is None and start[8:10] == b'{"':
            hint = "It looks like a safetensors file. Look for a GGUF version of this model."
        if hint is None:
            hint = "Download it again, or choose another file"
            hint += "." if cursor.path.suffix.lower() == ".gguf" else " that ends in .gguf."
        raise NotGgufError(f"{name} is not a GGUF model file. {hint}", path=path)
    cursor.take(4)
    version = cursor.u32()
    if version & 0xFFFF == 0 and version:
        raise BigEndianFileError(
            f"{name} was written for big-endian machines; this program reads little-endian files. "
            "Download the usual (little-endian) version.",
            path=path,
        )
    if version == 1:
        raise UnsupportedVersionError(
            f"{name} is GGUF version 1, a format used for a few weeks in 2023 that llama.cpp "
            "no longer reads. Look for a newer version of this model.",
            path=path,
            version=version,
        )
    if version not in _VERSIONS:
        raise UnsupportedVersionError(
            f"{name} says that it is GGUF version {version:,}; this program reads versions 2 "
            "and 3. Update gguf-widgets, or download the file again if it may be damaged.",
            path=path,
            version=version,
        )
    return version


def _read_metadata(cursor: Cursor, identity: FileIdentity, count: int) -> dict[str, GgufValue]:
    metadata: dict[str, GgufValue] = {}
    eager_left = _EAGER_TOTAL
    for _ in range(count):
        key = cursor.text(_MAX_KEY_BYTES, "The name of an entry")
        if key in metadata:
            raise cursor.malformed(f'It has the entry "{plain_text(key)}" twice.')
        kind = cursor.u32()
        start = cursor.pos
        if kind in SCALARS:
            metadata[key] = cursor.scalar(kind)
        elif kind == ValueType.STRING:
            length = cursor.text_length(1 << 30, f'"{plain_text(key)}"')
            if length <= _EAGER_TEXT and length <= eager_left:
                metadata[key] = cursor.take(length).decode("utf-8", errors="replace")
            else:
                metadata[key] = GgufText(cursor.path, identity, cursor.pos, length)
                cursor.pos += length
        elif kind == ValueType.ARRAY:
            item_kind, length = cursor.array_head()
            items_start = cursor.pos
            cursor.skip_items(item_kind, length)
            num_bytes = cursor.pos - items_start
            is_small = num_bytes <= _EAGER_ARRAY and num_bytes <= eager_left
            raw = bytes(cursor.data[items_start : cursor.pos]) if is_small else None
            metadata[key] = GgufArray(cursor.path, identity, items_start, raw, item_kind, length)
        else:
            raise cursor.malformed(f'"{plain_text(key)}" has an unknown type ({kind:,}).')
        eager_left -= min(eager_left, cursor.pos - start + len(key))
    return metadata


def _alignment(cursor: Cursor, metadata: dict[str, GgufValue]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not 1 <= value <= _MAX_ALIGNMENT
        or value & (value - 1)
    ):
        given = value if isinstance(value, (int, float)) else type(value).__name__
        raise cursor.malformed(
            f"Its alignment is {given}; it must be a power of two up to {_MAX_ALIGNMENT:,}."
        )
    return value


def _read_tensors(
    cursor: Cursor, count: int, alignment: int, part: int
) -> tuple[list[GgufTensor], int]:
    """Read the tensor table; return it and where the tensor data begins."""
    rows = [_read_tensor(cursor) for _ in range(count)]
    data_offset = -(-cursor.pos // alignment) * alignment
    tensors: list[GgufTensor] = []
    names: set[str] = set()
    # llama.cpp wants the data in the table's order without overlaps; so nothing is counted twice.
    end = 0
    for name, shape, type_id, offset in rows:
        if name in names:
            raise cursor.malformed(f'It has the tensor "{plain_text(name)}" twice.')
        names.add(name)
        type_name, size = _stored_size(cursor, name, shape, type_id)
        if offset % alignment:
            raise cursor.malformed(
                f'The tensor "{plain_text(name)}" begins at byte {offset:,}, which is no '
                f"multiple of the file's alignment, {alignment}."
            )
        if offset < end:
            raise cursor.malformed(f'The tensor "{plain_text(name)}" lies over the one before it.')
        end = offset + (size or 0)
        tensors.append(
            GgufTensor(name, shape, type_name, data_offset + offset, size, part, type_id)
        )
    missing = data_offset + end - cursor.size
    if tensors and missing > 0:
        raise _lacks_data(cursor, missing)
    return tensors, data_offset


def _read_tensor(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text(_MAX_NAME_BYTES, "The name of a tensor")
    num_dims = cursor.u32()
    if num_dims > _MAX_DIMS:
        raise cursor.malformed(
            f'The tensor "{plain_text(name)}" has {num_dims:,} dimensions; {_MAX_DIMS} is the most.'
        )
    shape = struct.unpack(f"<{num_dims}Q", cursor.take(8 * num_dims))
    return name, shape, cursor.u32(), cursor.u64()


def _stored_size(
    cursor: Cursor, name: str, shape: tuple[int, ...], type_id: int
) -> tuple[str, int | None]:
    """Return the type's name and the bytes that the tensor's data takes."""
    num_elements = math.prod(shape)
    if num_elements >= 1 << 63:
        raise cursor.malformed(f'The tensor "{plain_text(name)}" has an impossible shape: {shape}.')
    known = TENSOR_TYPES.get(type_id)
    if known is None:
        if type_id in REMOVED_TENSOR_TYPES:
            return REMOVED_TENSOR_TYPES[type_id][0], None
        if type_id > _MAX_TENSOR_TYPE:
            raise cursor.malformed(
                f'The tensor "{plain_text(name)}" has an unknown number format ({type_id:,}).'
            )
        # It may be newer than this program: llama.cpp is the one to judge.
        return f"type {type_id}", None
    row = shape[0] if shape else 1
    if row % known.block_size:
        raise cursor.malformed(
            f'The tensor "{plain_text(name)}" has rows of {row:,} numbers, and {known.name} stores '
            f"them in blocks of {known.block_size}."
        )
    return known.name, num_elements // known.block_size * known.block_bytes


def _lacks_data(cursor: Cursor, missing: int) -> ModelFileError:
    expected = cursor.size + missing
    if expected >= 1 << 60:
        return cursor.malformed("By its header it would be larger than any disk.")
    return TruncatedFileError(
        f"{shown(cursor.path)} is cut short: {format_bytes(missing)} of its "
        f"{format_bytes(expected)} are missing. Download or copy it again.",
        path=str(cursor.path),
        missing_bytes=missing,
        expected_bytes=expected,
        size_bytes=cursor.size,
    )
