"""A number, perhaps within bounds.

Promises: the bounds are kept by the engine while the reply is written, and checked again when it is
read. Up to `MOST_LISTED` whole numbers, such as a rating from 1 to 5, are asked for as choices, so
that the probability of each is known. Leaves to others: how numbers are written (the engine: up to
18 digits, and with a fraction up to 15 in all).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gguf_widgets.batch.output_choice import choice_sampling, read_text
from gguf_widgets.batch.output_column import Column, checked
from gguf_widgets.batch.output_kind import json_value
from gguf_widgets.core.errors import InvalidValueError, OutputError

__all__ = ["MOST_LISTED", "NumberKind", "from_pair", "from_range"]

MOST_LISTED = 100
_INT64 = 2**63


@dataclass(frozen=True)
class NumberKind:
    """A number from `low` to `high`, both included; None is no bound.

    `step` is for whole numbers with both bounds: ``low, low + step, ...``.
    """

    name: str
    whole: bool
    low: float | int | None = None
    high: float | int | None = None
    step: int = 1

    kind = "number"

    @property
    def columns(self) -> tuple[Column, ...]:
        """See `Kind.columns`."""
        return (Column(self.name, "integer" if self.whole else "number"),)

    @cached_property
    def choice_texts(self) -> tuple[str, ...]:
        """See `Kind.choice_texts`."""
        if not (self.whole and isinstance(self.low, int) and isinstance(self.high, int)):
            return ()
        listed = range(self.low, self.high + 1, self.step)
        # Not len(), which ends where C's numbers do.
        few = (self.high - self.low) // self.step < MOST_LISTED
        return tuple(map(str, listed)) if few else ()

    @cached_property
    def sampling(self) -> dict[str, Any]:
        """See `Kind.sampling`."""
        if self.choice_texts:
            return choice_sampling(self.choice_texts)
        schema: dict[str, Any] = {"type": "integer" if self.whole else "number"}
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        if self.step != 1:
            schema["multipleOf"] = self.step
        return {"schema": schema}

    def read(self, text: str, *, complete: bool) -> tuple[Any, dict[str, Any]]:
        """See `Kind.read`."""
        if self.choice_texts:
            place = read_text(text, self.choice_texts, complete=complete)
            value: Any = int(self.choice_texts[place])
        else:
            value = checked(self.columns[0], json_value(text, complete=complete))
            if value is None:
                raise OutputError("The reply is null, and not a number.")
            self.check_bounds(value)
        return value, {self.name: value}

    def check_bounds(self, value: float) -> None:
        """Raise `OutputError` for a number outside the bounds."""
        too_low = self.low is not None and value < self.low
        too_high = self.high is not None and value > self.high
        if too_low or too_high:
            raise OutputError(f"The reply is {value}, which is not {self.describe()}.")
        if self.step != 1 and (value - (self.low or 0)) % self.step:
            raise OutputError(f"The reply is {value}, which is not {self.describe()}.")

    def to_dict(self) -> dict[str, Any]:
        """See `Kind.to_dict`."""
        return {"whole": self.whole, "low": self.low, "high": self.high, "step": self.step}

    def describe(self) -> str:
        """See `Kind.describe`."""
        words = "a whole number" if self.whole else "a number"
        if self.low is not None and self.high is not None:
            words += f" from {self.low} to {self.high}"
        elif self.low is not None:
            words += f" of at least {self.low}"
        elif self.high is not None:
            words += f" of at most {self.high}"
        return words if self.step == 1 else f"{words} in steps of {self.step}"


def from_range(name: str, given: range) -> NumberKind:
    """Return the whole numbers of a Python range, whose end is not among them.

    Raises
    ------
    InvalidValueError
        If it is empty, too far out, or has steps that cannot be followed.
    """
    if not given:
        raise InvalidValueError(f"{given} holds no number: its end comes before its start.")
    low, high, step = min(given[0], given[-1]), max(given[0], given[-1]), abs(given.step)
    if low == high:
        step = 1
    found = NumberKind(name, True, low, high, step)
    _check_size(low, high)
    if step != 1 and not found.choice_texts and low % step:
        raise InvalidValueError(
            f"Steps of {step} from {low} on cannot be followed for more than {MOST_LISTED} numbers."
            f" Begin at a multiple of {step}, or leave the step out.",
            limit=MOST_LISTED,
        )
    return found


def from_pair(name: str, low: float | None, high: float | None) -> NumberKind:
    """Return the numbers from `low` to `high`, both included: whole ones if both are whole.

    None, or an infinite number, is no bound. One with a decimal point, such as 1.0, asks for
    numbers with decimals.

    Raises
    ------
    InvalidValueError
        If no number is between them.
    """
    whole = not any(isinstance(one, float) and math.isfinite(one) for one in (low, high))
    if any(isinstance(one, float) and math.isnan(one) for one in (low, high)):
        raise InvalidValueError("NaN is no bound of a number range. Leave it out with None.")
    if low == -math.inf:
        low = None
    if high == math.inf:
        high = None
    if low is None and high is None:
        raise InvalidValueError("The number range has no bound. Use int or float instead.")
    if low is not None and high is not None and low > high:
        raise InvalidValueError(
            f"No number is between {low} and {high}: the lower bound comes first.",
            low=low,
            high=high,
        )
    if low == math.inf or high == -math.inf:
        raise InvalidValueError("No number is beyond infinity.")
    if whole:
        _check_size(low, high)
    return NumberKind(name, whole, low, high)


def _check_size(low: float | None, high: float | None) -> None:
    for bound in (low, high):
        if bound is not None and not -_INT64 <= bound < _INT64:
            raise InvalidValueError(
                f"The bound {bound} is too large: a column of whole numbers goes from -(2**63) to"
                " 2**63 - 1.",
                value=str(bound),
            )
