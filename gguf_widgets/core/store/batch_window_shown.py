"""The values of a run's rows as a person sees them.

Promises: texts, numbers, true, false and None, whatever the cell held; a long text is cut, and it
is told that it was. Leaves to others: the forms in which cells are kept, of which this reads what
is shown (`gguf_widgets.batch.table_rows` has them), where they lie (`batch_window`).
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from gguf_widgets.core.format import format_bytes
from gguf_widgets.core.image_format import format_of

__all__ = ["LONGEST", "as_output", "cut", "shown"]

LONGEST: Final = 300  # letters of a value in a list of rows
_DAY_S: Final = 86_400


def shown(value: Any) -> Any:
    """Return a cell as it is kept in the form in which it is shown.

    Parameters
    ----------
    value : JSON value
        With the marks of `gguf_widgets.batch.table_rows`.

    Returns
    -------
    str, int, float, bool or None
        A date or time as ISO 8601, a length of time such as "1 day 02:03:04", a list or dict as
        JSON, bytes as how many there are, a picture as one ("picture, 34 KB").
    """
    if isinstance(value, list):
        return json.dumps(_plain(value), ensure_ascii=False)
    if not isinstance(value, dict):
        return value
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict) else plain


def as_output(value: Any) -> Any:
    """Return a value that was read from a reply as it is shown."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def cut(value: Any, longest: int = LONGEST) -> tuple[Any, bool]:
    """Return a shown value, cut to so many letters, and whether it was longer."""
    if isinstance(value, str) and len(value) > longest:
        return value[: longest - 1] + "…", True
    return value, False


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith("$"):
        return {key: _plain(item) for key, item in value.items()}
    ((kind, inner),) = value.items()
    if kind == "$dict":
        plain = {str(_plain(key)): _plain(item) for key, item in inner}
        # What data sets of pictures have in a cell.
        told = plain.get("bytes") or plain.get("path")
        return told if set(plain) == {"bytes", "path"} and isinstance(told, str) else plain
    if kind in ("$bytes", "$image"):
        return _bytes(base64.b64decode(inner))
    if kind == "$span":
        return _span(inner)
    return str(inner)


def _bytes(data: bytes) -> str:
    if format_of(data):
        return f"picture, {format_bytes(len(data))}"
    return f"{len(data):,} bytes"


def _span(nanoseconds: int) -> str:
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    days, seconds = divmod(seconds, _DAY_S)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if rest:
        text += f".{rest:09}".rstrip("0")
    if days:
        text = f"{days} {'day' if days == 1 else 'days'} {text}"
    return sign + text
