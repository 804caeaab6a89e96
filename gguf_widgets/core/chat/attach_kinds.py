"""What kind of file is to be attached, by its content; and what it may be called.

Promises: the content decides, not the name; what cannot be attached is told in words that say what
it is and what is possible instead; a cleaned name is one line without a folder, without marks that
cannot be seen or turn the direction of writing, and without quotation marks. Leaves to others:
reading it (`attach_text`, `attach_pdf`, `images`).
"""

from __future__ import annotations

import re
from typing import Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.file_names import clean_folder_name
from gguf_widgets.core.image_format import format_of

__all__ = ["POSSIBLE", "attachment_name", "kind_of", "refused"]

POSSIBLE: Final = (
    "You can attach text files (also code, CSV, JSON, Markdown and the like), PDFs and images."
)

_MAX_NAME: Final = 120  # characters; it stands in the prompt and on a chip
_MAX_ENDING: Final = 12
_PDF_WITHIN: Final = 1024  # bytes in which a PDF's mark has to be, as its readers have it

_ARCHIVE: Final = "Take the file out of it and attach that."
_AS_PDF: Final = "Save it as a PDF or as plain text and attach that."

# How a file begins, what a person calls it, and what to do with it instead.
_OTHERS: Final = (
    (b"GGUF", "a model file", "Load it where the models are listed."),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an older Office document", _AS_PDF),
    (b"{\\rtf", "a Rich Text document", _AS_PDF),
    (b"%!PS", "a PostScript file", "Save it as a PDF and attach that."),
    (b"\x1f\x8b", "a packed file (gzip)", _ARCHIVE),
    (b"BZh", "a packed file (bzip2)", _ARCHIVE),
    (b"\xfd7zXZ\x00", "a packed file (xz)", _ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", "an archive (7-Zip)", _ARCHIVE),
    (b"Rar!\x1a\x07", "an archive (RAR)", _ARCHIVE),
    (b"PAR1", "a table in Parquet form", "Save it as CSV, or use it as a table."),
    (b"SQLite format 3\x00", "a database", "Save what you need of it as CSV and attach that."),
    (b"\x7fELF", "a program", ""),
    (b"\xcf\xfa\xed\xfe", "a program", ""),
    (b"ID3", "a sound", ""),
    (b"OggS", "a sound or a film", ""),
    (b"fLaC", "a sound", ""),
    (b"\x1aE\xdf\xa3", "a film", ""),
    (b"wOFF", "a font", ""),
    (b"wOF2", "a font", ""),
)

_ZIPPED: Final = {
    "docx": ("a Word document", _AS_PDF),
    "pptx": ("a presentation", _AS_PDF),
    "xlsx": ("an Excel table", "Save it as CSV and attach that."),
    "ods": ("a table", "Save it as CSV and attach that."),
    "odt": ("a text document", _AS_PDF),
    "odp": ("a presentation", _AS_PDF),
    "epub": ("an e-book", _AS_PDF),
    "npz": ("a file of NumPy arrays", "Save what you need of it as CSV and attach that."),
    "pt": ("a PyTorch file", ""),
}

# Images that Pillow turns into PNG, if it is there.
_PICTURES: Final = (b"II*\x00", b"MM\x00*", b"\x00\x00\x01\x00", b"8BPS", b"\x00\x00\x00\x0cjP  ")
_PICTURE_BRANDS: Final = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")


def kind_of(data: bytes, name: str) -> str:
    """Return "pdf", "image" or "text"; text is what nothing else is, and may still turn out none.

    Raises
    ------
    InvalidValueError
        It is of a kind that cannot be attached; ``details["problem"]`` is "kind".
    """
    ending = name.rpartition(".")[2].lower()
    head = data[:_PDF_WITHIN].lstrip(b"\x00\t\r\n\x0c ")
    if head.startswith(b"%PDF-") or (ending == "pdf" and b"%PDF-" in data[:_PDF_WITHIN]):
        return "pdf"
    # "BM" begins a BMP, and many a text.
    if format_of(data) and not (data.startswith(b"BM") and _is_plain(data[:256])):
        return "image"
    if data[:4] == b"RIFF":
        if data[8:12] == b"WEBP":
            return "image"
        raise refused(name, "a sound or a film", "")
    if data[4:8] == b"ftyp":
        if data[8:12] in _PICTURE_BRANDS:
            return "image"
        raise refused(name, "a film or a sound", "")
    if data.startswith(_PICTURES):
        return "image"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise refused(name, *_ZIPPED.get(ending, ("an archive (ZIP)", _ARCHIVE)))
    for magic, what, instead in _OTHERS:
        if data.startswith(magic):
            raise refused(name, what, instead)
    if data.startswith(b"MZ") and not _is_plain(data[:256]):
        raise refused(name, "a program", "")
    return "text"


def refused(name: str, what: str, instead: str) -> InvalidValueError:
    """Return the error for a file of a kind that cannot be attached."""
    sentences = [f"“{name}” is {what}, which cannot be attached.", instead or POSSIBLE]
    return InvalidValueError(" ".join(sentences), problem="kind", name=name)


def attachment_name(given: str, instead: str) -> str:
    r"""Return a name from outside as it is shown and stands in prompts.

    Parameters
    ----------
    given : str
        Of a path, with slashes or backslashes, the last part counts.
    instead : str
        What it is called where nothing is left of it.

    Examples
    --------
    >>> attachment_name("C:\\me\\a\u202eb.txt", "text.txt"), attachment_name("../", "text.txt")
    ('ab.txt', 'text.txt')
    """
    last = re.split(r"[\\/]", str(given)[-4096:].rstrip("\\/"))[-1]
    stem, _, ending = last.rpartition(".")
    if not stem or len(ending) > _MAX_ENDING:
        stem, ending = last, ""
    # Apart, so that a long name keeps its ending. Half characters go with all that is no letter.
    stem, ending = clean_folder_name(stem), clean_folder_name(ending)
    tail = f".{ending}" if ending else ""
    if len(stem) > _MAX_NAME - len(tail):
        stem = stem[: _MAX_NAME - len(tail) - 1] + "…"
    return f"{stem}{tail}" if stem else ending or instead


def _is_plain(head: bytes) -> bool:
    """Say whether the beginning of a file reads as text."""
    return bool(head) and all(byte >= 32 or byte in b"\t\r\n\x0c\x1b" for byte in head)
