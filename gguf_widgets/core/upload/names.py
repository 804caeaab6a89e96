"""Names from a browser, made fit to be the name of a file in the models folder.

Promises: what `clean_name` returns is a name as `core.file_names.clean_file_name` promises it,
with a sentence for the person wherever it is not the one that was given. Leaves to others: the
rules (`core.file_names`), whether there is such a file already (`finishing`), what is in it
(`judge`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gguf_widgets.core.errors import UploadError
from gguf_widgets.core.file_names import (
    EXTENSION,
    MAX_NAME_BYTES,
    clean_file_name,
    same_name,
    with_number,
)
from gguf_widgets.core.format import plain_text

__all__ = ["CleanName", "clean_name", "numbered", "same_name"]

# A browser gives a file's name, not a book.
_MAX_GIVEN: Final = 4096


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
    name = clean_file_name(given)
    if name == given:
        return CleanName(name, "")
    return CleanName(
        name,
        f'The file is saved as "{plain_text(name, 210)}": its own name,'
        f' "{plain_text(given, 80)}", cannot be used as it is.',
    )


def numbered(name: str, number: int) -> str:
    """Return the name with a number: "model.gguf" and 2 make "model (2).gguf".

    Of a part of a split model the number stands before the part's own, which has to come last. What
    is returned is as short as a clean name has to be.
    """
    stem = with_number(name.removesuffix(EXTENSION), number, MAX_NAME_BYTES - len(EXTENSION))
    return stem + EXTENSION
