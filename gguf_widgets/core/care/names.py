r"""What a model's file may be called, on every system.

Promises: a name that passes can be written on Linux, macOS and Windows, stays in its folder, shows
as it is, and is found again by `core.library.scan`. Spaces around it and the ending ".gguf" are
taken off; anything else that is wrong is refused and said, never changed in silence. Leaves to
others: whether the name is free (`moves`).
"""

from __future__ import annotations

import unicodedata

from gguf_widgets.core.errors import FileChangeError
from gguf_widgets.core.file_names import (
    EXTENSION,
    FORBIDDEN,
    MAX_NAME_BYTES,
    PART_TAIL,
    is_device,
    with_number,
)
from gguf_widgets.core.format import plain_text

__all__ = ["MAX_NAME_BYTES", "checked_stem", "with_number"]


def checked_stem(name: str) -> str:
    """Return a name that a person typed as a file's name without its ending.

    Parameters
    ----------
    name : str
        With or without ".gguf".

    Raises
    ------
    FileChangeError
        `problem` is "name": what is wrong with it and what to do.
    """
    if not isinstance(name, str):
        raise _refused(repr(name), "is no text")
    stem = unicodedata.normalize("NFC", name).strip()
    if stem.lower().endswith(EXTENSION):
        stem = stem[: -len(EXTENSION)]
    if not stem:
        raise _refused(name, "is empty")
    if "/" in stem or "\\" in stem:
        raise _refused(name, "holds a path separator (/ or \\), and a model stays in its folder")
    wrong = FORBIDDEN.search(stem)
    if wrong is not None:
        raise _refused(
            name, f"holds the character {wrong[0]}, which Windows allows in no file name"
        )
    hidden = next((c for c in stem if not c.isprintable()), None)
    if hidden is not None:
        what = unicodedata.name(hidden, f"character number {ord(hidden):#x}").lower()
        raise _refused(name, f"holds a character that cannot be seen ({what})")
    if stem.startswith("."):
        raise _refused(name, "begins with a dot, which hides a file")
    if stem.endswith((".", " ")):
        raise _refused(name, "ends with a dot or a space before its ending")
    if is_device(stem):
        raise _refused(name, f'is the name of a device on Windows ("{stem.partition(".")[0]}")')
    if PART_TAIL.search(stem):
        raise _refused(
            name, "ends like the name of a part of a split model (-00001-of-00003), which is added"
        )
    length = len(stem.encode("utf-8", "surrogatepass"))
    if length > MAX_NAME_BYTES:
        raise _refused(name, f"has {length} bytes, and {MAX_NAME_BYTES} is the most")
    return stem


def _refused(name: str, why: str) -> FileChangeError:
    return FileChangeError(
        f'A model cannot be called "{plain_text(name, 80)}": that name {why}. Choose another one.',
        problem="name",
        name=name.encode("utf-8", "replace").decode()[:300],
    )
