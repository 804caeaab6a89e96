"""What a model's file may be called here: the rules that uploads, downloads and renaming share.

Promises: one list of what Windows forbids (Microsoft, "Naming Files, Paths, and Namespaces") and
one limit that leaves room for what is added to a name; what `clean_file_name` returns is one plain
file name, the same on Linux, macOS and Windows: no folder, no control character, no mark that turns
the direction of writing, no device name of Windows, at most 200 bytes of UTF-8, ends in ``.gguf``,
is shown by the library (no leading dot); cleaning it again changes nothing; the number of a split
model's part survives. `same_name` tells names that some file system takes for one. Leaves to
others: whether a name that breaks a rule is changed (`upload.names`, `download.names`) or refused
(`care.names`), and whether there is such a file already.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = [
    "EXTENSION",
    "FORBIDDEN",
    "MAX_NAME_BYTES",
    "PART_TAIL",
    "clean_file_name",
    "clean_folder_name",
    "is_device",
    "mark_device",
    "same_name",
    "with_number",
]

EXTENSION: Final = ".gguf"

MAX_NAME_BYTES: Final = 200
"""Of UTF-8, without what is added: file systems take 255 bytes or UTF-16 units, some take letters
with accents apart, and parts of a split model, hashes and unfinished files have endings."""

# A colon would also be another stream of the same file there.
FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')

# How the name of a split model's part ends, before ".gguf".
PART_TAIL: Final = re.compile(r"-\d{5}-of-\d{5}$", re.ASCII)

# What is read of a name from outside: its end counts, and nobody writes a longer one by hand.
_MAX_GIVEN: Final = 16_000

_DEVICES: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)


def clean_file_name(given: str) -> str:
    r"""Turn a name from outside into one for a model file on any system.

    Parameters
    ----------
    given : str
        Of a path, with slashes or backslashes, the last part counts. What cannot be seen is
        dropped; what Windows forbids becomes "_"; a name that means a device there gets a "_" in
        front; a long one is cut, its ending and its part number kept; one of which nothing is left
        is "unnamed".

    Examples
    --------
    >>> clean_file_name("../../x.gguf"), clean_file_name("CON"), clean_file_name("a:b?.GGUF")
    ('x.gguf', '_CON.gguf', 'a_b_.gguf')
    """
    name = _seen(given[-_MAX_GIVEN:].replace("\\", "/").rpartition("/")[2]).rstrip(" .")
    stem = name[: -len(EXTENSION)] if name.lower().endswith(EXTENSION) else name
    stem = mark_device(FORBIDDEN.sub("_", stem).strip(" .") or "unnamed")
    return mark_device(_cut(stem, MAX_NAME_BYTES - len(EXTENSION))) + EXTENSION


def clean_folder_name(given: str) -> str:
    """Turn one part of a path from outside into a folder's name; "" if nothing is left of it."""
    name = _cut(FORBIDDEN.sub("_", _seen(given[:_MAX_GIVEN])).strip(" ."), MAX_NAME_BYTES)
    return mark_device(name)


def same_name(name: str) -> str:
    """Return what two names have in common that some file system could take for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def with_number(stem: str, number: int, room: int = MAX_NAME_BYTES) -> str:
    """Return the name to offer where this one is taken: "name (2)", in at most `room` bytes.

    Of a part of a split model the number stands before the part's own, which has to come last.

    Examples
    --------
    >>> with_number("model", 2), with_number("m-00001-of-00002", 3)
    ('model (2)', 'm (3)-00001-of-00002')
    """
    tail = match[0] if (match := PART_TAIL.search(stem)) else ""
    ending = f" ({number}){tail}"
    head = stem.removesuffix(tail).encode()[: room - len(ending)].decode("utf-8", "ignore")
    return head.rstrip(" .") + ending


def is_device(name: str) -> bool:
    """Say whether Windows takes a name for a device, whatever follows its first dot: "NUL.gguf"."""
    return _DEVICES.fullmatch(name.partition(".")[0].strip()) is not None


def mark_device(name: str) -> str:
    """Return a name with "_" before it if Windows would take it for a device."""
    return f"_{name}" if is_device(name) else name


def _seen(text: str) -> str:
    """Drop what cannot be seen, make every space a plain one, and compose accents."""
    kept = []
    for letter in unicodedata.normalize("NFC", text):
        category = unicodedata.category(letter)
        if category[0] == "Z":
            kept.append(" ")
        elif category[0] != "C":
            kept.append(letter)
    return unicodedata.normalize("NFC", "".join(kept))


def _cut(stem: str, limit: int) -> str:
    if len(stem.encode()) <= limit:
        return stem
    tail = match[0] if (match := PART_TAIL.search(stem)) else ""
    head = stem.removesuffix(tail).encode()[: limit - len(tail)].decode("utf-8", "ignore")
    return head.rstrip(" .") + tail
