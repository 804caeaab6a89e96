"""What the SHA-256 of a file may be compared with, and who says so.

Promises: what stands beside or in the name of a file is believed only if it has the form of a hash;
what the memory of hashes and the note of a download say, only as long as the file has not been
written to. Leaves to others: remembering (`core.library.hashes`), what a difference means
(`checking`).

Hugging Face's cache calls a file (``blobs/HASH``) by the SHA-256 of its content, Ollama
(``blobs/sha256-HASH``), too; a ``NAME.sha256`` beside a file is what ``sha256sum`` prints.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from gguf_widgets.core.download.record import record_of
from gguf_widgets.core.library.hashes import checked_hash, remember_hash, remembered
from gguf_widgets.core.plain_files import read_bounded

__all__ = ["Known", "checked_hash", "known_hashes", "remember_hash"]

_LONGEST_CHECKSUM_FILE: Final = 1 << 16
# As sha256sum and its like print it, for text, for binary, and in BSD's form.
_LINE: Final = re.compile(r"\\?([0-9a-fA-F]{64})(?:[ \t]+[ *]?(.*))?")
_BSD_LINE: Final = re.compile(r"SHA256 ?\((.*)\) ?= ?([0-9a-fA-F]{64})")


class Known(NamedTuple):
    """A hash that a file should have, and who says so, for a sentence."""

    sha256: str
    source: str


def known_hashes(path: Path) -> list[Known]:
    """Return every hash that a file should have, as far as anybody has said."""
    found = []
    named = _from_name(path)
    if named is not None:
        found.append(named)
    beside = _from_file_beside(path)
    if beside is not None:
        found.append(Known(beside, f'the file "{path.name}.sha256" beside it'))
    once = remembered(path)
    if once is not None:
        found.append(Known(*once))
    noted = _from_download(path)
    # The same said twice is one thing to compare with.
    if noted is not None and (once is None or once[0] != noted.sha256):
        found.append(noted)
    return found


def _from_download(path: Path) -> Known | None:
    found = record_of(path)
    checksum = found[1].checksum if found is not None else None
    if checksum is None or checksum.kind != "sha256":
        return None
    return Known(checksum.value.lower(), "the download")


def _from_name(path: Path) -> Known | None:
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    if real.parent.name != "blobs":
        return None
    name = real.name
    if match := re.fullmatch(r"sha256[-:]([0-9a-f]{64})", name):
        return Known(match[1], "its name in Ollama's folder")
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return Known(name, "its name in Hugging Face's cache")
    return None


def _from_file_beside(path: Path) -> str | None:
    beside = path.with_name(f"{path.name}.sha256")
    try:
        text = read_bounded(beside, _LONGEST_CHECKSUM_FILE).decode("utf-8", errors="replace")
    except OSError:
        return None
    named: dict[str, str] = {}
    for line in map(str.strip, text.splitlines()):
        if match := _BSD_LINE.fullmatch(line):
            named[match[1]] = match[2].lower()
        elif match := _LINE.fullmatch(line):
            named[match[2] or ""] = match[1].lower()
    own = named.get(path.name)
    if own is not None:
        return own
    # The only one in the file: it was written before the model was renamed, or without a name.
    values = set(named.values())
    return values.pop() if len(values) == 1 else None
