"""Names from a browser, made fit to be the name of a file in the models folder.

Promises: what `clean_name` returns is one plain file name, the same on Linux, macOS and Windows: no
folder, no control character, no mark that turns the direction of writing, no device name of
Windows, at most 200 bytes of UTF-8, ends in ``.gguf``, is shown by the library (no leading dot);
cleaning it again changes nothing; the number of a split model's part survives. `same_name` tells
names that some file system takes for one. Leaves to others: whether there is such a file already
(`finishing`), what is in it (`judge`).
"""

from __future__ import annotations

import unicodedata
from typing import Final, NamedTuple

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.file_names import FORBIDDEN, MAX_NAME_BYTES, PART_TAIL, mark_device
from gguf_widgets.core.format import plain_text

__all__ = ["CleanName", "clean_name", "numbered", "same_name"]

# A browser gives a file's name, not a book.
_MAX_GIVEN: Final = 4096

_EXTENSION: Final = ".gguf"


class CleanName(NamedTuple):
    """A name for a file, and a sentence for the person if it is not the one that was given."""

    name: str
    told: str


def clean_name(given: str) -> CleanName:
    """Return a name that can be used everywhere.

    Parameters
    ----------
    given : str
        As the browser gave it; of a path the last part counts.

    Raises
    ------
    UploadError
        "name": it is no text, or longer than 4,096 characters.
    """
    if not isinstance(given, str) or len(given) > _MAX_GIVEN:
        length = f"{len(given):,} characters long" if isinstance(given, str) else "no text"
        raise UploadError(
            f"The name of the file is {length}; it must be a text of at most {_MAX_GIVEN:,}"
            " characters. Rename the file, then try again.",
            problem="name",
            limit=_MAX_GIVEN,
        )
    name = _plain(given.replace("\\", "/").rpartition("/")[2]).rstrip(" .")
    stem = name[: -len(_EXTENSION)] if name.lower().endswith(_EXTENSION) else name
    stem = mark_device(FORBIDDEN.sub("_", stem).strip(" .") or "unnamed")
    stem = mark_device(_cut(stem, MAX_NAME_BYTES - len(_EXTENSION)))
    name = stem + _EXTENSION
    if name == given:
        return CleanName(name, "")
    return CleanName(
        name,
        f'The file is saved as "{plain_text(name, 210)}": its own name,'
        f' "{plain_text(given, 80)}", cannot be used as it is.',
    )


def same_name(name: str) -> str:
    """Return what two names have in common that some file system could take for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def numbered(name: str, number: int) -> str:
    """Return the name with a number: "model.gguf" and 2 make "model (2).gguf".

    Of a part of a split model the number stands before the part's own, which has to come last.
    """
    stem = name.removesuffix(_EXTENSION)
    tail = match[0] if (match := PART_TAIL.search(stem)) else ""
    return f"{stem.removesuffix(tail)} ({number}){tail}{_EXTENSION}"


def _plain(text: str) -> str:
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
