"""An Excel file before it is opened: a ZIP archive that may be a trap.

Promises: an archive that would unpack to more than `limits.MAX_UNPACKED_BYTES`, has a part that
grows out of all proportion, or declares entities of its own (which grow when they are read) is
refused before any of it is parsed; what is another program's file in a ZIP archive is told by
name; Excel's escapes for characters that XML does not have are known here. Leaves to others: the
sheets (`read_excel`).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import IO, Final

from gguf_widgets.batch.files.limits import MAX_UNPACKED_BYTES
from gguf_widgets.core.errors import TableFileError
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["BROKEN", "check_archive", "escaped", "formulas_in", "unescaped"]

BROKEN: Final = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, NotImplementedError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
)
"""What a damaged or hostile file can make the libraries raise; an XML fault is a SyntaxError."""

_MAX_PARTS: Final = 20_000

# Texts that occur in several cells are held in memory as a whole.
_MAX_SHARED_BYTES: Final = 400_000_000

# Tables pack well, to a twentieth at best; a thousandth is a trap. Small parts are let through.
_MAX_RATIO: Final = 500
_SMALL_BYTES: Final = 20_000_000


def check_archive(file: IO[bytes], shown: str) -> None:
    """Refuse an archive that is no Excel file, or one that cannot be opened safely.

    Raises
    ------
    TableFileError
        "format", "damaged" or "bomb".
    """
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            _check_kind([part.filename for part in parts], shown)
            _check_sizes(parts, shown)
            for part in parts:
                _check_part(archive, part, shown)
    except TableFileError:
        raise
    except BROKEN as error:
        raise TableFileError(
            f"{shown} is a damaged Excel file ({error}). Save it again in a spreadsheet program.",
            problem="damaged",
        ) from error


def formulas_in(file: IO[bytes]) -> bool:
    """Say whether any sheet of an archive holds a formula."""
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if not part.filename.startswith("xl/worksheets/"):
                continue
            with archive.open(part) as stream:
                end = b""
                while block := stream.read(1 << 20):
                    if re.search(rb"<(?:\w+:)?f[\s>/]", end + block):
                        return True
                    end = block[-40:]
    return False


def _check_kind(names: list[str], shown: str) -> None:
    if "xl/workbook.xml" in names:
        return
    if "xl/workbook.bin" in names:
        what = "is a binary Excel file (.xlsb). Save it as .xlsx"
    elif "mimetype" in names or "content.xml" in names:
        what = "is an OpenDocument file. Save it as .xlsx or CSV in its program"
    elif any(name.startswith("word/") for name in names):
        what = "is a Word document. Copy its table into a spreadsheet and save that"
    else:
        inside = ", ".join(plain_text(name, 40) for name in names[:5]) or "nothing"
        more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
        what = f"is a ZIP archive; in it is {inside}{more}. Unpack it and choose one of its files"
    raise TableFileError(f"{shown} {what}.", problem="format")


def _check_sizes(parts: list[zipfile.ZipInfo], shown: str) -> None:
    # zipfile reads no more of a part than it says to hold, so what they say is what counts.
    total = sum(part.file_size for part in parts)
    shared = sum(part.file_size for part in parts if part.filename == "xl/sharedStrings.xml")
    grown = [
        part
        for part in parts
        if part.file_size > _SMALL_BYTES and part.file_size > _MAX_RATIO * part.compress_size
    ]
    if len(parts) > _MAX_PARTS or total > MAX_UNPACKED_BYTES or shared > _MAX_SHARED_BYTES or grown:
        raise TableFileError(
            f"{shown} would take {format_bytes(total)} unpacked (at most"
            f" {format_bytes(MAX_UNPACKED_BYTES)}, {format_bytes(_MAX_SHARED_BYTES)} of it shared"
            " texts, and no part more than 500 times its packed size), so it is not opened. Save"
            " the sheet as CSV.",
            problem="bomb",
            unpacked_bytes=total,
        )


def _check_part(archive: zipfile.ZipFile, part: zipfile.ZipInfo, shown: str) -> None:
    if not part.filename.endswith((".xml", ".rels")) or not part.file_size:
        return
    with archive.open(part) as stream:
        head = stream.read(64 << 10)
    # No spreadsheet program writes one. It stands before everything else, in any encoding.
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head or b"<\x00!\x00D\x00O\x00C" in head:
        raise TableFileError(
            f"{shown} declares XML entities of its own, which no spreadsheet program does, so it is"
            " not opened.",
            problem="bomb",
        )


# Excel writes characters that XML cannot hold as _x0007_, and an underscore that would look like
# the beginning of one as _x005F_ (ECMA-376, part 1, 22.9.2.19, ST_Xstring).
_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_NEEDS_ESCAPE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def escaped(text: str) -> str:
    """Return a text as Excel's files hold it."""
    return _NEEDS_ESCAPE.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def unescaped(text: str) -> str:
    """Return a text from one of Excel's files as a person sees it there."""
    if "_x" not in text:
        return text
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    # Halves of characters, which only a hostile file has, are no text.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
