"""Where two answers part, as a page shows it.

Promises: plain data and plain text, nothing is HTML; both texts whole, with the place marked in
each; a probability that is not known is not there. Leaves to others: finding the place
(`core.scores`), drawing it (static/_comparison_split.js).
"""

from __future__ import annotations

import math
from typing import Any, Final

from gguf_widgets.core.format import plain_text
from gguf_widgets.core.scores.alignment import SplitSide
from gguf_widgets.core.scores.divergence import Divergence

__all__ = ["chance_words", "shown_token", "split_view"]

_MOST_TOP: Final = 5


def split_view(found: Divergence) -> dict[str, Any]:
    """Return a divergence as plain data.

    Returns
    -------
    dict
        ``words``: a sentence; ``isSame``: whether they do not part; ``sides``: of each its
        ``name``, its text in three pieces (``before``, ``mark``, ``after``), ``ended``, and
        ``chances``: what it thought the likeliest there, each ``text``, ``share`` (0 to 1),
        ``words``, ``isOwn`` and ``isOther``.
    """
    split = found.split
    if split is None:
        return {"words": str(found), "isSame": True, "by": "", "sides": []}
    sides = [
        _side(found.name_a, found.a.text, split.char, split.a, split.b),
        _side(found.name_b, found.b.text, split.char, split.b, split.a),
    ]
    return {"words": str(found), "isSame": False, "by": split.by, "sides": sides}


def _side(name: str, text: str, char: int, own: SplitSide, other: SplitSide) -> dict[str, Any]:
    # The token may begin before the first character that differs.
    start = min(own.char, char) if own.text else char
    mark = own.text if own.text and text.startswith(own.text, start) else text[start : start + 1]
    return {
        "name": plain_text(name, 60),
        "before": text[:start],
        "mark": mark,
        "after": text[start + len(mark) :],
        "ended": own.ended or not mark,
        "chances": _chances(own, other),
    }


def _chances(own: SplitSide, other: SplitSide) -> list[dict[str, Any]]:
    """Return what a side thought there: its own word, the other's, and the likeliest."""
    found: list[dict[str, Any]] = []
    if own.probability is not None:
        found.append(_chance(_word(own), own.probability, is_own=True))
    if own.other_probability is not None:
        found.append(_chance(_word(other), own.other_probability, is_other=True))
    known = {own.token, other.token} - {None}
    said = {own.text, other.text} - {""}
    found += [
        _chance(shown_token(one.text), math.exp(one.logprob))
        for one in own.top[:_MOST_TOP]
        if one.token not in known and one.text not in said
    ]
    found.sort(key=lambda one: -one["share"])
    return found


def _chance(
    text: str, share: float, *, is_own: bool = False, is_other: bool = False
) -> dict[str, Any]:
    return {
        "text": text,
        "share": share,
        "words": chance_words(share),
        "isOwn": is_own,
        "isOther": is_other,
    }


def _word(side: SplitSide) -> str:
    return "(the end)" if side.ended else shown_token(side.text)


def shown_token(text: str) -> str:
    """Return a token's text so that blanks and breaks in it can be seen."""
    seen = text.replace("\n", "↵").replace("\t", "⇥")
    if seen.startswith(" "):
        seen = "␣" + seen[1:]
    if seen.endswith(" "):
        seen = seen[:-1] + "␣"
    return plain_text(seen, 40) or "(nothing)"


def chance_words(share: float) -> str:
    """Return a probability as a percentage with sensible digits."""
    percent = 100 * share
    if percent >= 99.95:
        return "more than 99.9%" if share < 1 else "100%"
    if percent >= 10:
        return f"{percent:.0f}%"
    if percent >= 0.1:
        return f"{percent:.1f}%"
    return "less than 0.1%"
