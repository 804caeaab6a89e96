"""Whether what arrives is a model file, told from its beginning.

Promises: as soon as the header has arrived it is judged by the same reader, in the same sentences,
as a file in the models folder; what cannot be a GGUF file is refused at its first bytes; an
adapter, a projector and a part of a split model are let in, and the person is told. Leaves to
others: when to ask again (`store`: each time what has arrived has doubled).

How: the reader judges a header against its file's length, which is not there yet. So the beginning
is copied to a file of its own, of the upload's name, and once the reader has seen that the header
is whole, that file is given the full length, a hole, and judged like any other. Both copies live
for some milliseconds, in the hidden folder. A hole takes no room on the usual file systems; NTFS
sets the room aside for that moment, FAT writes it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from gguf_widgets.core.errors import (
    MalformedHeaderError,
    ModelFileError,
    NotAModelError,
    ProjectorFileError,
    SplitFileError,
    TruncatedFileError,
)
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.gguf import GgufHeader, check_is_model, read_header
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_parse import parse
from gguf_widgets.core.gguf_split import SplitName, split_name

__all__ = ["MAX_HEADER_BYTES", "Verdict", "judge"]

# The largest real ones, with vocabularies of 262,144 tokens and their merges, have 20 MB.
MAX_HEADER_BYTES: Final = 1 << 28


class Verdict(NamedTuple):
    """What a file is: "model", "split_part", "adapter" or "projector"; and what to tell."""

    kind: str
    notes: tuple[str, ...] = ()


def judge(
    scratch: Path, final: Path, beginning: Iterable[bytes], arrived: int, size: int
) -> Verdict | None:
    """Judge a file by its beginning; None if more of it is needed.

    Parameters
    ----------
    scratch : Path
        A folder to be made here, and removed.
    final : Path
        Where the file will be; for messages.
    beginning : iterable of bytes
        The first `arrived` bytes, in blocks.
    arrived, size : int
        Bytes that are there, and of the whole file.

    Raises
    ------
    ModelFileError
        It is no use; which subclass says why, as in `gguf.read_header` and `gguf.check_is_model`.
    OSError
        The copy could not be written.
    """
    # Left by a process that was killed in here; whoever calls holds the upload's lock.
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(0o700)
    try:
        copy = scratch / final.name
        with copy.open("xb") as file:
            for block in beginning:
                file.write(block)
        try:
            return _judge(copy, arrived, size)
        except ModelFileError as error:
            raise type(error)(error.message, **{**error.details, "path": str(final)}) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _judge(copy: Path, arrived: int, size: int) -> Verdict | None:
    if arrived < size:
        if not _is_whole(copy, arrived, size):
            return None
        os.truncate(copy, size)
    split = split_name(copy)
    if split is not None and split.num_parts > 1:
        return _judge_part(copy, split)
    header = read_header(copy)
    try:
        check_is_model(header)
    except ProjectorFileError as error:
        return Verdict("projector", (error.message,))
    except NotAModelError as error:
        if error.details.get("kind") != "adapter":
            raise
        return Verdict("adapter", (error.message,))
    return Verdict("model")


def _is_whole(copy: Path, arrived: int, size: int) -> bool:
    """Return whether the header has arrived; raise for what is wrong in as much as there is."""
    try:
        parse(copy)
    except TruncatedFileError as error:
        # The table of tensors was read to its end, and the data behind it is not there.
        if "expected_bytes" in error.details:
            return True
        needed = arrived + int(error.details.get("missing_bytes", 1))
        if needed > size:
            raise TruncatedFileError(
                f"{shown(copy)} is cut short: it ends inside its own header, and at least"
                f" {format_bytes(needed - size)} of it are missing. Download or copy it again.",
                missing_bytes=needed - size,
                size_bytes=size,
            ) from None
        if arrived >= MAX_HEADER_BYTES:
            raise MalformedHeaderError(
                f"{shown(copy)} is damaged or was written wrongly. Its header does not end within"
                f" {format_bytes(arrived)}. Download or copy it again."
            ) from None
        return False
    return True


def _judge_part(copy: Path, split: SplitName) -> Verdict:
    """Judge one part by itself: the others may come later."""
    part = parse(copy, split.number - 1)
    if not any(key.startswith("split.") for key in part.metadata):
        raise SplitFileError(
            f"{shown(copy)} has the name of a part of a split model, but nothing inside says so. "
            "If it is a whole model, rename it; if it is a piece of one, join the pieces first.",
        )
    says = (part.metadata.get("split.no"), part.metadata.get("split.count"))
    if says != (split.number - 1, split.num_parts):
        raise SplitFileError(
            f"{shown(copy)} should be part {split.number} of {split.num_parts}, but its header"
            " says otherwise. Download it again."
        )
    if split.number == 1 and part.tensors:
        # The first part says what kind of model it is; some are made to hold nothing else.
        check_is_model(
            GgufHeader(
                path=copy,
                version=part.version,
                size_bytes=part.identity.size,
                alignment=part.alignment,
                metadata=MappingProxyType(part.metadata),
                tensors=tuple(part.tensors),
                parts=(copy,),
            )
        )
    note = (
        f"This is part {split.number} of {split.num_parts} of a model. It can be used when all"
        f" {split.num_parts} are in the models folder."
    )
    return Verdict("split_part", (note,))
