"""How a value of a table is written in a cell of the page.

Promises: a short plain text for whatever a table may hold, without an error; None where there is
nothing, so that the page can show that nothing is there; what is cut ends with an ellipsis. Leaves
to others: colours, the whole value (it is shown when a row is opened).
"""

from __future__ import annotations

import json
from typing import Any, Final

from gguf_widgets.batch.missing import is_missing
from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.image_format import format_of

__all__ = ["shown", "whole_text"]

_LONGEST: Final = 200
_WHOLE: Final = 100_000


def shown(value: Any, limit: int = _LONGEST) -> str | None:
    r"""Return a value for a cell; None if it is missing.

    Examples
    --------
    >>> shown(True), shown(0.25), shown("two\nlines"), shown(None), shown(b"\xff\xd8\xff")
    ('yes', '0.25', 'two lines', None, 'picture, 3 bytes')
    """
    text = whole_text(value, limit + 1)
    if text is None:
        return None
    line = " ".join(text[: limit + 1].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def whole_text(value: Any, limit: int = _WHOLE) -> str | None:
    """Return a value as a person reads it, lines kept; None if it is missing."""
    if _is_missing(value):
        return None
    if isinstance(value, str):
        return _written(value) or _cut(value, limit)
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e15 else repr(value)
    if isinstance(value, bytes | bytearray | memoryview):
        is_picture = format_of(bytes(value[:16])) != ""
        return f"picture, {format_bytes(len(value))}" if is_picture else f"{len(value):,} bytes"
    if type(value).__module__.partition(".")[0] == "PIL" and hasattr(value, "size"):
        return f"picture, {value.size[0]:,} x {value.size[1]:,} pixels"
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:  # as data sets have pictures
        return whole_text(value["bytes"] if value["bytes"] is not None else value["path"], limit)
    if isinstance(value, dict | list | tuple):
        return _cut(json.dumps(value, ensure_ascii=False, default=str), limit)
    return _cut(str(value), limit)


def _written(text: str) -> str:
    """Return what to write for a picture that is written out as a text; "" for other texts."""
    if text[:11].lower() != "data:image/":
        return ""
    if text.endswith("…"):  # cut already: its size is not known
        return "picture"
    num_digits = len(text.partition(",")[2].rstrip("="))
    return f"picture, {format_bytes(num_digits * 3 // 4)}"


def _is_missing(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return False
    return is_missing(value)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
