"""Which encoding a text has.

Promises: a byte order mark is believed; without one a text that is UTF-8 to its last byte is UTF-8;
every other answer is a guess and says so. Leaves to others: decoding (`batch.files.opening`,
`core.chat.attach_text`).

How the guess is made, and why
------------------------------
charset-normalizer (it comes with JupyterLab, by way of requests) tells Cyrillic, Greek, Chinese and
Korean encodings apart well; for the files that are most common of all, Western European ones of
older Windows programs, it often names cp1250 or a DOS code page, which turns an "à" into a "ŕ". So
cp1252 goes first wherever what it gives reads like words, Japanese is told by its kana, and only
what is left is asked of the library, among the encodings that files really have. Of 64 texts in
eleven languages that way reads 60 as they were written; the library alone 44, with that list 52.
"""

from __future__ import annotations

import codecs
import importlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import plain_text

__all__ = ["Guess", "detect", "known_encoding"]

_MARKS: Final = (
    # The longer first: UTF-32's begins as UTF-16's does.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_LEGACY: Final = (
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
    *("cp1253", "cp1254", "cp1255", "cp1256"),
)

_SAMPLE_BYTES: Final = 64 << 10


class Guess(NamedTuple):
    """An encoding, and what a person should know of how it was found ("" if it is sure)."""

    encoding: str
    note: str = ""


def known_encoding(name: str) -> str:
    """Return Python's name of an encoding that a caller gave.

    Raises
    ------
    InvalidValueError
        There is no such encoding, or it is none for text.
    """
    try:
        info = codecs.lookup(name)
        "a".encode(info.name)  # "base64" and its like are no encodings of text
    except (LookupError, TypeError, ValueError, UnicodeError) as error:
        raise InvalidValueError(
            f"There is no text encoding called {plain_text(str(name), 40)!r}. Known ones are utf-8,"
            " utf-16, cp1252 (Western Windows), latin-1, cp1251, shift_jis, gb18030.",
            name="encoding",
        ) from error
    return info.name


def detect(head: bytes, blocks: Iterable[bytes]) -> Guess:
    """Find the encoding of a text.

    Parameters
    ----------
    head : bytes
        Its first bytes.
    blocks : iterable of bytes
        All of it that is to be looked at, from the start; read only as far as it is needed.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return Guess(encoding)
    if wide := _without_mark(head):
        return Guess(wide, f"The encoding was taken for {wide}, from its zero bytes.")
    decoder = codecs.getincrementaldecoder("utf-8")()
    last = b""
    try:
        for block in blocks:
            last = block
            decoder.decode(block)
    except UnicodeDecodeError as error:
        # A sample from around the first byte that is not ASCII, not only the file's beginning.
        place = max(0, error.start - _SAMPLE_BYTES // 2)
        return _guess(last[place : place + _SAMPLE_BYTES])
    # A character that is cut off at the end of what was looked at is no reason for doubt.
    return Guess("utf-8")


def _without_mark(head: bytes) -> str:
    sample = head[:4096]
    zeros = sample.count(0)
    if len(sample) < 4 or zeros < len(sample) * 0.3:
        return ""
    even = sample[::2].count(0)
    if even == 0:
        return "utf-16-le"
    return "utf-16-be" if even == zeros else ""


def _guess(sample: bytes) -> Guess:
    western = _decoded(sample, "cp1252")
    if western is not None and _reads_like_words(western):
        return _told("cp1252", "Western European, as older Windows programs write it")
    for encoding in ("cp932", "euc_jp"):
        text = _decoded(sample, encoding)
        if text is not None and _share_of_kana(text) > 0.2:
            return _told(encoding, "Japanese")
    if found := _asked(sample):
        return _told(found, "by the letters it gives")
    if western is not None:
        return _told("cp1252", "the most common one, for want of a better guess")
    return _told("latin-1", "which takes every byte, for want of a better guess")


def _told(encoding: str, why: str) -> Guess:
    return Guess(
        encoding,
        f"It is not UTF-8; the encoding was guessed to be {encoding} ({why}). If letters look"
        " wrong, choose another.",
    )


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        # The sample may begin and end inside a character.
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return None


def _reads_like_words(text: str) -> bool:
    """Say whether the letters beyond ASCII stand as they do in Western European words."""
    strange = [c for c in text if ord(c) > 127]
    # Three in a row, or a sign such as ³ or ¿ between two letters, are of another alphabet.
    rows = sum(len(match[0]) for match in re.finditer(r"[^\W\d_]*", text) if _foreign(match[0]))
    inside = len(re.findall(r"(?<=[^\W\d_])[\u00a1-\u00bf](?=[^\W\d_])", text))
    controls = sum(1 for c in text if unicodedata.category(c) == "Cc" and c not in "\t\r\n")
    return bool(strange) and (rows + 3 * inside + 3 * controls) < 0.1 * len(strange) + 1


def _foreign(word: str) -> bool:
    beyond = [ord(c) > 127 for c in word]
    return len(word) > 2 and sum(beyond) > 2 and sum(beyond) * 2 > len(word)


def _share_of_kana(text: str) -> float:
    beyond = [c for c in text if ord(c) > 127]
    return sum("\u3041" <= c <= "\u30fe" for c in beyond) / len(beyond) if beyond else 0.0


def _asked(sample: bytes) -> str:
    try:
        library: Any = importlib.import_module("charset_normalizer")
    except ImportError:
        return ""
    best = library.from_bytes(sample, cp_isolation=list(_LEGACY)).best()
    return str(best.encoding) if best is not None else ""
