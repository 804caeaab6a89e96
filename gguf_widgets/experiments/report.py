"""What came of a replay, in words.

Promises: plain sentences, the most important first; nothing is claimed that was not recorded.
Leaves to others: the values (`replay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gguf_widgets.core.record.differences import DIGITS

if TYPE_CHECKING:
    from gguf_widgets.core.record.differences import Difference
    from gguf_widgets.experiments.replay_rows import RowResult

__all__ = ["NOT_STRICT", "words_of"]

NOT_STRICT: Final = (
    "This was not recorded in strict mode: what is computed beside others, or with another part of "
    "the prompt still in memory, differs in the last digits. With reproducible=True each answer is "
    "computed by itself."
)
_STRICT: Final = (
    "Nothing that is recorded differs, although this was recorded in strict mode: what has changed "
    "is something that is not recorded, such as a graphics driver."
)
_NOTHING: Final = "Nothing that is recorded differs."


def words_of(
    rows: Sequence[RowResult],
    changes: Sequence[Difference],
    *,
    strict: bool,
    stopped: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """Return a replay's result as some sentences."""
    same = [row for row in rows if row.state == "same"]
    different = [row for row in rows if row.state == "different"]
    missing = [row for row in rows if row.state == "not repeated"]
    parts = [*notes, _headline(len(same), len(different), same)]
    if different:
        first = different[0]
        which = "It is" if len(different) == 1 else "The first is"
        parts.append(f"{which} {first.label}. {first.words}")
    if missing:
        parts.append(_missing(missing, len(rows), stopped=stopped))
    parts.append(_reasons(changes, different=bool(different), strict=strict, any_asked=bool(same)))
    return " ".join(part for part in parts if part)


def _headline(num_same: int, num_different: int, same: Sequence[RowResult]) -> str:
    total = num_same + num_different
    if not total:
        return "No answer was repeated."
    if num_different:
        if total == 1:
            return "The answer is another one."
        differ = "differs" if num_different == 1 else "differ"
        return f"{num_different:,} of {total:,} answers {differ}."
    unit = "token" if all(row.by_tokens for row in same) else "character"
    if total == 1:
        return f"The answer is the same, to the last {unit}."
    return f"All {total:,} answers are the same, to the last {unit}."


def _missing(missing: Sequence[RowResult], total: int, *, stopped: bool) -> str:
    reasons = list(dict.fromkeys(row.words for row in missing if row.words))
    reason = f": {reasons[0]}" if reasons else "."
    if stopped:
        return f"It was stopped: {len(missing):,} of {total:,} answers were not asked again."
    were = "answer was" if len(missing) == 1 else "answers were"
    return f"{len(missing):,} of {total:,} {were} not repeated{reason}"


def _reasons(
    changes: Sequence[Difference], *, different: bool, strict: bool, any_asked: bool
) -> str:
    said = " ".join(one.words for one in changes if different or one.name not in _PASSING)
    if not different:
        return f"That although something differs: {said}" if said and any_asked else said
    if not changes:
        return _STRICT if strict else f"{_NOTHING} {NOT_STRICT}"
    if all(one.only_digits for one in changes):
        said = f"{said} {DIGITS}"
    return f"What differs besides: {said}"


_PASSING: Final = ("num_cached_tokens",)
