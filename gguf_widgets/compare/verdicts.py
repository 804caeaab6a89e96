"""What the figures of a comparison mean, in plain sentences.

Promises: where the data cannot tell, the sentence says so first; percentages for scores from 0 to
1, other scores with their unit; every sentence names how many prompts it rests on. Leaves to
others: the figures (`statistics`, `results`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal

from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.statistics import CONFIDENCE
from gguf_widgets.compare.types import Interval
from gguf_widgets.core.format import format_duration

__all__ = [
    "better_of",
    "difference_words",
    "ends_text",
    "figure_text",
    "is_share",
    "standing_words",
    "stopped_words",
]

_NOT_ENOUGH: Final = "Not enough data to tell"


def difference_words(
    scoring: Scoring,
    label_a: str,
    label_b: str,
    found: Interval,
    mean_a: float | None,
    mean_b: float | None,
    *,
    num_left_out: int,
) -> str:
    """Return a difference in words."""
    a, b = f"“{label_a}”", f"“{label_b}”"
    left_out = _left_out(num_left_out)
    if not found.num or found.mean is None or mean_a is None or mean_b is None:
        return f"There is nothing to compare yet: no prompt has this score for both.{left_out}"
    over = f"over {_prompts(found.num)}"
    both = f"{a} {figure_text(scoring, mean_a)}, {b} {figure_text(scoring, mean_b)}"
    if found.low is None or found.high is None:
        if found.mean == 0 and found.num > 1:
            same = figure_text(scoring, mean_a)
            return f"No difference in any of the {found.num:,} prompts: {same} for both.{left_out}"
        few = "one prompt" if found.num == 1 else f"{found.num:,} prompts"
        return f"{_NOT_ENOUGH} from {few}: {both}.{left_out}"
    between = _between(scoring, found.low, found.high)
    if not (found.low > 0 or found.high < 0):
        if found.method == "exact" and found.mean == 0:
            return (
                f"{_NOT_ENOUGH} whether they differ: the same score {over}; the true difference "
                f"is {between}.{left_out}"
            )
        return f"{_NOT_ENOUGH}: {both} {over}; the true difference is {between}.{left_out}"
    is_a = better_of(scoring, found.mean) == "a" if scoring.better is not None else found.mean > 0
    first, second, one, other = (a, b, mean_a, mean_b) if is_a else (b, a, mean_b, mean_a)
    low, high = sorted((abs(found.low), abs(found.high)))
    return (
        f"{first} {scoring.ahead} {second}: {figure_text(scoring, one)} against "
        f"{figure_text(scoring, other)}, by {_difference(scoring, abs(found.mean))} "
        f"({_range(scoring, low, high)}), {over}.{left_out}"
    )


def better_of(scoring: Scoring, mean: float) -> Literal["a", "b"] | None:
    """Return which side a difference of the means speaks for."""
    if scoring.better is None or mean == 0:
        return None
    return "a" if (mean > 0) == (scoring.better == "high") else "b"


def stopped_words(best: str, scoring: Scoring, num_prompts: int, num_all: int) -> str:
    """Return why a comparison ended early."""
    return (
        f"It ended after {num_prompts:,} of {num_all:,} prompts, because it was clear: “{best}” "
        f"is ahead in “{scoring.name}”. Between equally good sides this would happen in at most "
        f"{1 - CONFIDENCE:.0%} of all comparisons."
    )


def standing_words(
    label_a: str, label_b: str, share: float | None, low: float | None, high: float | None, num: int
) -> str:
    """Return how votes stand in words."""
    a, b = f"“{label_a}”", f"“{label_b}”"
    if share is None or low is None or high is None:
        return f"No votes on {a} and {b} yet."
    votes = "one vote" if num == 1 else f"{num:,} votes"
    if low > 0.5 or high < 0.5:
        if share < 0.5:
            a, b, share, low, high = b, a, 1 - share, 1 - high, 1 - low
        return (
            f"You prefer {a} to {b}: {share:.0%} of {votes}, a draw counting half ({low:.0%} to "
            f"{high:.0%})."
        )
    return (
        f"{_NOT_ENOUGH}: {a} was preferred to {b} in {share:.0%} of {votes}, a draw counting half; "
        f"the true share is between {low:.0%} and {high:.0%}."
    )


def figure_text(scoring: Scoring, value: float) -> str:
    """Return a score as a person reads it."""
    if is_share(scoring):
        return f"{value:.0%}" if abs(value) in (0, 1) or 0.01 <= value <= 0.99 else f"{value:.1%}"
    if scoring.unit == "s":
        return format_duration(value)
    return _with_unit(_number(value), scoring.unit)


def ends_text(scoring: Scoring, low: float, high: float) -> str:
    """Return the ends of an interval, behind a mean that has the unit."""
    if is_share(scoring) or scoring.unit == "s":
        return f"{figure_text(scoring, low)} to {figure_text(scoring, high)}"
    return f"{_number(low)} to {_number(high)}"


def _difference(scoring: Scoring, value: float) -> str:
    if not is_share(scoring):
        return figure_text(scoring, value)
    points = _number(100 * value)
    return f"{points} percentage {'point' if points == '1' else 'points'}"


def _range(scoring: Scoring, low: float, high: float) -> str:
    if scoring.unit == "s":
        return f"{format_duration(low)} to {format_duration(high)}"
    factor = 100 if is_share(scoring) else 1
    return f"{_number(factor * low)} to {_number(factor * high)}"


def _between(scoring: Scoring, low: float, high: float) -> str:
    if scoring.unit == "s":
        return f"between {_signed(low, format_duration)} and {_signed(high, format_duration)}"
    factor, unit = (100, "percentage points") if is_share(scoring) else (1, scoring.unit)
    return f"between {_signed(factor * low)} and {_signed(factor * high)} {unit}".rstrip()


def is_share(scoring: Scoring) -> bool:
    """Say whether a score is a share, which a person reads as a percentage."""
    return scoring.bounds == (0.0, 1.0)


def _with_unit(number: str, unit: str) -> str:
    if number == "1" and unit in ("tokens", "words", "characters"):
        unit = unit.removesuffix("s")
    return f"{number} {unit}".rstrip()


def _number(value: float) -> str:
    """Return two digits that say something, and all before the point."""
    if value == 0:
        return "0"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{min(digits, 6)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _signed(value: float, told: Callable[[float], str] = _number) -> str:
    text = told(abs(value))
    if value == 0 or text == "0":
        return "0"
    return f"+{text}" if value > 0 else f"\N{MINUS SIGN}{text}"


def _prompts(num: int) -> str:
    return "one prompt" if num == 1 else f"{num:,} prompts"


def _left_out(num: int) -> str:
    if not num:
        return ""
    which = "One prompt is" if num == 1 else f"{num:,} prompts are"
    return f" {which} left out: one side has no score there."
