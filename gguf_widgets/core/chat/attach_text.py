"""A text file's text, whatever its encoding.

Promises: a text comes out as every part can carry it, with plain line ends; what had to be guessed
or could not be read is said in a note; bytes that are no text are refused. Leaves to others: which
encoding it is (`text_encoding`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

from gguf_widgets.core.chat.attach_kinds import POSSIBLE
from gguf_widgets.core.chat.types import well_formed
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.text_encoding import detect

__all__ = ["MAX_TEXT_CHARS", "TextFound", "check_length", "read_text"]

MAX_TEXT_CHARS: Final = 8_000_000
"""Of one attachment: some million tokens, more than any model's context holds."""

_HEAD: Final = 64 << 10
_BLOCK: Final = 1 << 20

# Control characters that texts have: tabs, line ends, page ends, and the colours of a terminal.
_CONTROLS: Final = re.compile(r"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
_MOST_CONTROLS: Final = 0.005
_MOST_STRANGE: Final = 0.05


class TextFound(NamedTuple):
    """A text, and what a person should know of how it was read ("" if nothing)."""

    text: str
    note: str = ""


def read_text(data: bytes, name: str) -> TextFound:
    """Return the text of a file.

    Raises
    ------
    InvalidValueError
        ``details["problem"]`` is "empty", "kind" (it is no text) or "size".
    """
    if not data.strip(b"\x00\t\r\n\x0c\x0b \xef\xbb\xbf\xff\xfe"):
        raise InvalidValueError(
            f"“{name}” is empty: there is nothing to attach.", problem="empty", name=name
        )
    guess = detect(data[:_HEAD], (data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)))
    encoding, note = guess.encoding, ""
    if guess.note:
        if _is_spoiled_utf8(data):
            encoding = "utf-8"
        elif not encoding.startswith("utf"):
            shown = encoding.upper()
            note = f"Not UTF-8: read as {shown}. If letters look wrong, save it as UTF-8."
    # One that breaks off within a character, or has a few spoiled bytes, is still worth reading.
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    if _is_binary(text, encoding):
        raise InvalidValueError(
            f"“{name}” holds bytes that are no text. {POSSIBLE}", problem="kind", name=name
        )
    lost = text.count("\ufffd") - data.count("\ufffd".encode())
    text = well_formed(text.replace("\r\n", "\n").replace("\r", "\n"))
    check_length(text, name)
    notes = [note] if note else []
    if lost > 0:
        plural = "character" if lost == 1 else "characters"
        notes.append(f"{lost:,} {plural} could not be read; a � stands there.")
    return TextFound(text, " ".join(notes))


def check_length(text: str, name: str) -> None:
    """Raise `InvalidValueError` if a text is longer than an attachment may be."""
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidValueError(
            f"“{name}” holds {len(text):,} characters; at most {MAX_TEXT_CHARS:,} can be attached."
            " Attach the part that matters.",
            problem="size",
            name=name,
            limit=MAX_TEXT_CHARS,
        )


def _is_spoiled_utf8(data: bytes) -> bool:
    """Say whether a text that is not UTF-8 to its last byte still is for the most part."""
    sample = data[: 16 * _HEAD].decode("utf-8", "replace")
    lost = sample.count("\ufffd")
    good = sum(ord(c) > 127 for c in sample) - lost
    return 0 < 5 * lost < good


def _is_binary(text: str, encoding: str) -> bool:
    sample = text if len(text) <= 4 * _HEAD else text[: 2 * _HEAD] + text[-2 * _HEAD :]
    if len(_CONTROLS.findall(sample)) > _MOST_CONTROLS * len(sample):
        return True
    if "\x00" in text:  # one zero byte in a long file: cut here it would be, in many a program
        return True
    if encoding.startswith(("utf-16", "utf-32")):
        # Bytes of anything read in pairs give letters of every kind, and many that are none.
        none = [c for c in sample if unicodedata.category(c) in ("Cn", "Co", "Cs") or c == "\ufffd"]
        return len(none) > _MOST_STRANGE * len(sample)
    return False
