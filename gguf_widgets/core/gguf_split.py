"""Models in several files: ``name-00001-of-00003.gguf`` and so on.

Promises: from any one part, the paths of all; parts that do not belong together are refused, and
the message names what is missing. Leaves to others: reading one file (`gguf_parse`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core.errors import ModelNotFoundError, SplitFileError
from gguf_widgets.core.gguf_bytes import shown
from gguf_widgets.core.gguf_parse import GgufTensor, ParsedFile, parse

__all__ = ["SplitName", "all_tensors", "parse_parts", "split_name"]

_PATTERN: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
# llama.cpp writes five digits; models have up to some dozens of parts.
_MAX_PARTS: Final = 1000
_SETTINGS: Final = ("split.no", "split.count", "split.tensors.count")


class SplitName(NamedTuple):
    """A part's name taken apart: `stem`, its `number` from 1, the `num_parts` of the model."""

    stem: str
    number: int
    num_parts: int

    def path_of(self, number: int, folder: Path) -> Path:
        """Return where part `number` (from 1) should be."""
        return folder / f"{self.stem}-{number:05}-of-{self.num_parts:05}.gguf"


def split_name(path: Path) -> SplitName | None:
    """Take a part's file name apart; None if this is not the name of a part."""
    match = _PATTERN.fullmatch(path.name)
    if match is None:
        return None
    name = SplitName(match["stem"], int(match["number"]), int(match["count"]))
    return name if 1 <= name.number <= name.num_parts else None


def parse_parts(path: Path) -> list[ParsedFile]:
    """Read the header of a file and, if it is a part of a split model, of all parts in order.

    Raises
    ------
    SplitFileError
        If a part is missing, renamed or of another model.
    ModelFileError
        For anything wrong in any one file.
    """
    name = split_name(path)
    if name is None or name.num_parts == 1:
        whole = parse(path)
        count = _split_setting(whole, "split.count")
        if count > 1:
            raise SplitFileError(
                f"{shown(path)} is one of the {count} parts of a split model, but its name does "
                "not say which. Give the parts back their own names (…-00001-of-00003.gguf and "
                "so on).",
                path=str(path),
                num_parts=count,
            )
        return [whole]
    # First the file that was asked for: its own faults come before what its name promises.
    asked = parse(path, name.number - 1)
    if name.num_parts > _MAX_PARTS:
        raise SplitFileError(
            f"By its name {shown(path)} is one of {name.num_parts:,} parts; "
            f"{_MAX_PARTS:,} is the most there can be.",
            path=str(path),
        )
    if not any(key in asked.metadata for key in _SETTINGS):
        # Not every file of such a name came from llama.cpp's own splitting: older uploads were cut
        # into pieces to be joined again, and those have no header of their own past the first.
        raise SplitFileError(
            f"{shown(path)} has the name of a part of a split model, but nothing inside says so. "
            "If it is a whole model, rename it; if it is a piece of one, join the pieces first.",
            path=str(path),
        )
    paths = [name.path_of(number, path.parent) for number in range(1, name.num_parts + 1)]
    _refuse_missing(path, paths)
    parts = [
        asked if part == path else _parse_other(path, part, number)
        for number, part in enumerate(paths)
    ]
    _refuse_foreign(parts, name.num_parts)
    return parts


def _refuse_missing(path: Path, paths: list[Path]) -> None:
    missing = [part for part in paths if not part.exists()]
    if missing:
        raise SplitFileError(
            f"{shown(path)} is part of a model in {len(paths)} files, and {len(missing)} of them "
            f"{'is' if len(missing) == 1 else 'are'} not in its folder: "
            + ", ".join(shown(part) for part in missing[:3])
            + (" and others" if len(missing) > 3 else "")
            + ". Download what is missing.",
            path=str(path),
            missing=[str(part) for part in missing],
        )


def _parse_other(path: Path, part: Path, number: int) -> ParsedFile:
    try:
        return parse(part, number)
    except ModelNotFoundError as error:  # gone between the look and the reading
        raise SplitFileError(
            f"{shown(part)}, which belongs to {shown(path)}, has just disappeared.", path=str(path)
        ) from error


def _refuse_foreign(parts: list[ParsedFile], count: int) -> None:
    """Raise unless each part's own header agrees that it is this part of such a model."""
    for number, part in enumerate(parts):
        says = (_split_setting(part, "split.no"), _split_setting(part, "split.count"))
        if says != (number, count):
            raise SplitFileError(
                f"{shown(part.path)} should be part {number + 1} of {count}, but by its header "
                f"it is part {says[0] + 1} of {says[1]}. Download it again.",
                path=str(part.path),
            )
    expected = _split_setting(parts[0], "split.tensors.count")
    found = sum(len(part.tensors) for part in parts)
    if found != expected:
        raise SplitFileError(
            f"The parts of {shown(parts[0].path)} hold {found:,} tensors together and should hold "
            f"{expected:,}: they may be of different models. Download them again.",
            path=str(parts[0].path),
        )
    seen: set[str] = set()
    for tensor in all_tensors(parts):
        if tensor.name in seen:
            raise SplitFileError(
                f"Two parts of {shown(parts[0].path)} hold the same tensor: they may be of "
                "different models. Download them again.",
                path=str(parts[0].path),
            )
        seen.add(tensor.name)


def all_tensors(parts: list[ParsedFile]) -> list[GgufTensor]:
    """Return the tensors of all parts, in order."""
    return [tensor for part in parts for tensor in part.tensors]


def _split_setting(part: ParsedFile, key: str) -> int:
    """Return a number about the splitting; 0 where there is none or it is no number."""
    value = part.metadata.get(key, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
