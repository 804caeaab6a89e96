"""JSON that a model or a stranger wrote, held to what every part can carry.

Promises: `plain` gives values that the store, a page, a chat template and the worker's socket take
alike: no half characters, no number that is none (NaN, or 1e999, which Python reads as infinite),
and lists within lists at most `MAX_DEPTH` times (the parts that walk through them do it by
recursion). Leaves to others: what the values mean, and how many there may be.
"""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn

from gguf_widgets.core.chat.types import well_formed

__all__ = ["MAX_DEPTH", "no_constant", "plain"]

MAX_DEPTH: Final = 100
"""Lists and objects within each other; a person or a model writes a handful."""


def no_constant(name: str) -> NoReturn:
    """Refuse what JSON has no number for, and Python's reader takes: its ``parse_constant``."""
    raise ValueError(f"{name} is no number of JSON")


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return values of JSON with half characters replaced.

    Raises
    ------
    ValueError
        A number is none, or they are nested more than `depth` times.
    """
    if isinstance(value, str):
        return well_formed(value)
    if not isinstance(value, dict | list | tuple):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is no number of JSON")
        return value
    if depth <= 0:
        raise ValueError(f"it is nested more than {MAX_DEPTH} times")
    if isinstance(value, dict):
        return {well_formed(str(name)): plain(one, depth - 1) for name, one in value.items()}
    return [plain(one, depth - 1) for one in value]
