"""What is said of a file that is not the one that was promised.

Promises: each sentence names the file, what was expected and what came; the error's details say it
for programs. Leaves to others: finding it out (`transfer`).
"""

from __future__ import annotations

from gguf_widgets.core.download.record import Checksum, Place
from gguf_widgets.core.errors import DownloadError, NotGgufError
from gguf_widgets.core.format import format_bytes, plain_text

__all__ = ["not_gguf", "wrong_answer", "wrong_checksum", "wrong_size"]


def wrong_answer(shown: str, why: str) -> DownloadError:
    """Return the error for a server whose answers make no sense.

    Parameters
    ----------
    shown : str
        The server, in sentences.
    why : str
        What it does, as in "The hub ...".
    """
    return DownloadError(f"{shown} {why}. Look for another address.", problem="server")


def not_gguf(place: Place) -> DownloadError:
    """Return the error for a file that does not begin as a model does."""
    from gguf_widgets.core.gguf import read_header

    why = f'"{plain_text(place.name, 100)}" is not a GGUF model file.'
    try:
        read_header(place.part)
    except NotGgufError as error:  # which can often say what it is instead
        why = error.message.replace(place.part.name, place.name)
    return DownloadError(f"{why} The download was ended at its first bytes.", problem="not_gguf")


def wrong_size(name: str, shown: str, expected: int | None, sent: int | None) -> DownloadError:
    """Return the error for a file of another length than was announced.

    Parameters
    ----------
    name : str
        The file's.
    shown : str
        The server, in sentences.
    expected : int or None
        In bytes.
    sent : int or None
        In bytes; None is more than was expected.
    """
    announced = format_bytes(expected or 0)
    came = "more than that" if sent is None else format_bytes(sent)
    if sent is not None and came == announced:
        announced, came = f"{expected or 0:,} bytes", f"{sent:,} bytes"
    return DownloadError(
        f'"{plain_text(name, 100)}" should have {announced}, and {shown} sends {came}. It was not '
        "taken; try again later, or look for another copy.",
        problem="size",
        expected_bytes=expected,
        size_bytes=sent,
    )


def wrong_checksum(name: str, wanted: Checksum | None, sha256: str) -> DownloadError:
    """Return the error for a file that arrived whole and is another one."""
    return DownloadError(
        f'"{plain_text(name, 100)}" arrived whole and is not the file that was promised: its '
        "checksum is another one. It was changed on its way, or the promise is wrong. Nothing of "
        "it is kept.",
        problem="checksum",
        expected=wanted.value if wanted else None,
        sha256=sha256,
    )
