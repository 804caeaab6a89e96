"""The kinds of table files: their names, their endings, and what their first bytes look like.

Promises: a file is known by its content first and by its name second; what is known and cannot be
read (an old Excel file, a ZIP archive, a packed file of another kind) is refused by name, with what
to do. Leaves to others: encodings (`encoding`), delimiters (`dialect`), reading.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.format import plain_text

__all__ = [
    "ENDINGS",
    "Format",
    "format_named",
    "format_of_name",
    "format_of_text",
    "is_binary_format",
    "magic_format",
]


class Format(StrEnum):
    """What a table's file is."""

    CSV = "csv"  # cells parted by a comma, a semicolon, ...
    TSV = "tsv"  # cells parted by tabs
    JSON = "json"  # one JSON value: a list of rows, or columns
    JSONL = "jsonl"  # one JSON value a line
    TXT = "txt"  # one row a line
    EXCEL = "excel"  # .xlsx
    PARQUET = "parquet"
    OPENAI = "openai"  # requests of OpenAI's batch interface, one a line


ENDINGS: Final[dict[str, Format]] = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".tab": Format.TSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".txt": Format.TXT,
    ".text": Format.TXT,
    ".xlsx": Format.EXCEL,
    ".xlsm": Format.EXCEL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}
"""The ending that names each format; of one format the first is the usual one."""

_BINARY: Final = (Format.EXCEL, Format.PARQUET)

# What else people have, by its first bytes, and what to do about it.
_REFUSED: Final[tuple[tuple[bytes, str], ...]] = (
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "is an old Excel file (.xls) or has a password. Save it as .xlsx without one, or as CSV",
    ),
    (b"BZh", "is packed (bzip2). Unpack it first; of packed files only .gz is read"),
    (b"\xfd7zXZ\x00", "is packed (xz). Unpack it first; of packed files only .gz is read"),
    (b"(\xb5/\xfd", "is packed (zstd). Unpack it first; of packed files only .gz is read"),
    (b"7z\xbc\xaf'\x1c", "is an archive (7z). Unpack it first, then choose one of its files"),
    (b"Rar!", "is an archive (RAR). Unpack it first, then choose one of its files"),
    (b"%PDF-", "is a PDF, not a table. Copy the table into a spreadsheet and save it as CSV"),
    (b"SQLite format 3\x00", "is an SQLite database. Write the table out as CSV first"),
    (b"ARROW1\x00", "is an Arrow file. Write it as Parquet first"),
    (b"\x89PNG", "is a picture, not a table"),
    (b"\xff\xd8\xff", "is a picture, not a table"),
    (b"GGUF", "is a model, not a table"),
)


def format_named(name: str | Format) -> Format:
    """Return the format a caller asked for by name.

    Raises
    ------
    InvalidValueError
        There is no such format.
    """
    given = str(name).strip().lower()
    plain = {"xlsx": "excel", "ndjson": "jsonl", "text": "txt", "openai-batch": "openai"}
    try:
        return Format(plain.get(given, given))
    except ValueError as error:
        known = ", ".join(Format)
        raise InvalidValueError(
            f"There is no table format called {plain_text(str(name), 40)!r}. Known: {known}.",
            name="format",
        ) from error


def format_of_name(name: str) -> Format | None:
    """Return the format a file's ending stands for; an ending ".gz" behind it is passed over."""
    path = PurePath(name.lower())
    suffix = PurePath(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return ENDINGS.get(suffix)


def is_binary_format(table_format: Format) -> bool:
    """Say whether the format is no text, so that it has no encoding."""
    return table_format in _BINARY


def magic_format(head: bytes, shown: str) -> Format | None:
    """Return the format that the first bytes give away; None if it can only be text.

    A ZIP archive is said to be Excel here; what is in it is looked at when it is opened.

    Raises
    ------
    TableFileError
        It is something that is known and cannot be read.
    """
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Format.EXCEL
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    for magic, why in _REFUSED:
        if head.startswith(magic):
            raise TableFileError(f"{shown} {why}.", problem="format")
    return None


_OPENAI_URL: Final = re.compile(r'"url"\s*:\s*"/v1/')


def format_of_text(text: str, named: Format | None) -> Format | None:
    """Return the format that the beginning of a text gives away; None if that does not tell.

    Parameters
    ----------
    text : str
        The beginning, which may end in the middle of something.
    named : Format or None
        What the name says. JSON is believed over any name, since a line of a table that happens
        to begin with a bracket is not JSON to its end.
    """
    start = text.lstrip()
    line = start.split("\n", 1)[0]
    first = _parsed(line)
    if isinstance(first, dict):
        if "custom_id" in first and "body" in first and _OPENAI_URL.search(line):
            return Format.OPENAI
        # A whole object on the first line and another below it: one a line.
        alone = not start[len(line) :].lstrip().startswith("{")
        return Format.JSON if alone and named is Format.JSON else Format.JSONL
    if named is Format.JSONL and (first is not None or start[:1] in ("{", "[")):
        return Format.JSONL
    if start[:1] in ("{", "[") and (named is Format.JSON or _begins_json(start)):
        return Format.JSON
    return None


def _begins_json(start: str) -> bool:
    """Say whether a text is JSON as far as it goes: "[1] is what they said" is not."""
    if not re.match(r'[\[{]\s*(["\[{\]}\d-]|true|false|null)', start):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(start)
    except RecursionError:
        return True
    except ValueError as error:
        # Cut off by us, not wrong: the fault is at the very end of what was looked at.
        position = getattr(error, "pos", 0)
        return position >= len(start) - 12 or "Unterminated" in str(error)
    return not start[end:].strip()


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
