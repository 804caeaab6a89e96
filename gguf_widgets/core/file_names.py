"""What a file may be called on every system: the rules that uploads, downloads and renaming share.

Promises: one list of what Windows forbids (Microsoft, "Naming Files, Paths, and Namespaces"), and
one limit that leaves room for what is added to a name. Leaves to others: whether a name that breaks
a rule is changed (`upload.names`, `download.names`) or refused (`care.names`).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["FORBIDDEN", "MAX_NAME_BYTES", "PART_TAIL", "is_device", "mark_device"]

MAX_NAME_BYTES: Final = 200
"""Of UTF-8, without what is added: file systems take 255 bytes or UTF-16 units, some take letters
with accents apart, and parts of a split model, hashes and unfinished files have endings."""

# A colon would also be another stream of the same file there.
FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')

# How the name of a split model's part ends, before ".gguf".
PART_TAIL: Final = re.compile(r"-\d{5}-of-\d{5}$", re.ASCII)

_DEVICES: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)


def is_device(name: str) -> bool:
    """Say whether Windows takes a name for a device, whatever follows its first dot: "NUL.gguf"."""
    return _DEVICES.fullmatch(name.partition(".")[0].strip()) is not None


def mark_device(name: str) -> str:
    """Return a name with "_" before it if Windows would take it for a device."""
    return f"_{name}" if is_device(name) else name
