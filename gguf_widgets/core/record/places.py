"""Where two texts, or two lists of tokens, stop being the same.

Promises: pure functions; what a place is told with can be shown as it is. Leaves to others: how
likely each token was (`core.scores.alignment`), why they differ (`differences`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gguf_widgets.core.chat.tokens import visible

__all__ = ["excerpt", "first_place"]

_EXCERPT: Final = 24  # characters
_BETWEEN: Final = re.compile("(?<=[^␣])␣(?=[^␣])")


def first_place(one: Sequence[object], other: Sequence[object]) -> int | None:
    """Return the index of the first item that differs; None if they are the same.

    Where one is the beginning of the other it is the shorter one's length.
    """
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return None if len(one) == len(other) else min(len(one), len(other))


def excerpt(text: str, start: int) -> str:
    """Return what stands at a place of a text, in quotes; "the end" behind its end."""
    if start >= len(text):
        return "the end"
    # A blank between words is seen anyway.
    cut = _BETWEEN.sub(" ", visible(text[start : start + _EXCERPT]))
    return f"“{cut}{'…' if len(text) > start + _EXCERPT else ''}”"
