"""The operators of a Jinja template: what they take, and what they cost.

Promises: no operator makes a text, a list or a number whose size was not known and paid for before;
two values that cannot be compared or added are refused in words that say what they are. Leaves to
others: where in a template they stand (`template_jinja_rewrite` puts these functions there).
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jinja2.runtime import Undefined

from gguf_widgets.batch.template_jinja_budget import Budget, RefusedError
from gguf_widgets.batch.template_jinja_values import show
from gguf_widgets.batch.template_text import MAX_BITS, text_of

__all__ = [
    "BINARY",
    "binary",
    "compare",
    "concat",
    "cut",
    "kind_of",
    "number",
    "printf",
    "whole",
]

_MAX_PRINTF_WIDTH = 1000
_PRINTF = re.compile(
    r"%(?:\([^()]*\))?[#0\- +]*(?P<width>\*|[0-9]+)?(?:\.(?P<precision>\*|[0-9]*))?[hlL]?"
    r"(?P<type>.)",
    re.DOTALL,
)
_NUMBERS = (int, float, Decimal)
_TIMES = (dt.date, dt.timedelta)

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def binary(budget: Budget, sign: str, left: Any, right: Any) -> Any:
    """Return ``left sign right`` for one of the signs of `BINARY`."""
    budget.spend(1)
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        return _number(sign, left, right)
    for value in (left, right):
        if isinstance(value, Undefined) or not isinstance(value, list | tuple | str):
            budget.read(value)
    if sign == "%" and isinstance(left, str):
        return printf(budget, left, right)
    if sign == "*" and isinstance(left, int):
        left, right = right, left
    if sign == "*" and isinstance(left, str | list | tuple) and isinstance(right, int):
        _pay_for(budget, left, len(left) * max(right, 0))
        return left * right
    if sign == "+" and isinstance(left, str | list | tuple) and type(left) is type(right):
        _pay_for(budget, left, len(left) + len(right))
        return BINARY["+"](left, right)
    if sign in "+-" and isinstance(left, _TIMES) and isinstance(right, _TIMES):
        return BINARY[sign](left, right)
    advice = ". To put texts together, write ~" if sign == "+" else ""
    if sign in ("+", "-", "*", "/", "//", "%") and {type(left), type(right)} & {str}:
        advice += ". To calculate with a text, write price|float or count|int"
    raise RefusedError(f"cannot work out {kind_of(left)} {sign} {kind_of(right)}{advice}")


def _pay_for(budget: Budget, kind: str | list[Any] | tuple[Any, ...], length: int) -> None:
    if isinstance(kind, str):
        budget.make(length)
    else:
        budget.spend(length)


def _number(sign: str, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        bits, more = left.bit_length(), right.bit_length()
        if sign == "**":
            bits = bits * right if right > 0 else 0
        elif sign == "*":
            bits += more
        if bits > MAX_BITS:
            raise RefusedError("works out a number with more than a thousand digits")
    result = BINARY[sign](left, right)
    if isinstance(result, complex):
        raise RefusedError(f"cannot work out {left} {sign} {right}")
    if isinstance(result, Decimal) and result.is_finite() and abs(result.adjusted()) > 1000:
        raise RefusedError("works out a number with more than a thousand digits")
    return result


def compare(budget: Budget, value: Any, *rest: Any) -> bool:
    """Return what a comparison says; `rest` is the sign and the value on its right, repeated."""
    for sign, other in zip(rest[::2], rest[1::2], strict=True):
        budget.read(value)
        budget.read(other)
        try:
            result = _COMPARE[sign](value, other)
        except TypeError:
            raise RefusedError(_not_comparable(sign, value, other)) from None
        if not result:
            return False
        value = other
    return True


def _contains(value: Any, container: Any) -> bool:
    return bool(value in container)


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": _contains,
    "notin": lambda value, container: not _contains(value, container),
}


def _not_comparable(sign: str, left: Any, right: Any) -> str:
    if sign in ("in", "notin"):
        return f"looks for {kind_of(left)} in {kind_of(right)}"
    advice = ""
    if {type(left), type(right)} & {str} and isinstance(left, _NUMBERS) | isinstance(
        right, _NUMBERS
    ):
        advice = ". Turn the text into a number first, as in score|float"
    if left is None or right is None:
        advice = ". Ask first whether there is a value, as in {% if score is not none %}"
    return f"cannot compare {kind_of(left)} with {kind_of(right)}{advice}"


def kind_of(value: Any) -> str:
    """Return what a value is, in words, with its beginning if it is short text or a number."""
    if value is None:
        return "a missing value (none)"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return f'the text "{value}"' if len(value) <= 30 else "a text"
    if isinstance(value, _NUMBERS):
        return f"the number {text_of(value)}"
    for kind, words in _KINDS:
        if isinstance(value, kind):
            return words
    return f"a value of type {type(value).__name__}"


_KINDS: tuple[tuple[Any, str], ...] = (
    (list | tuple, "a list"),
    (dict, "a dict"),
    (range, "a range"),
    (dt.datetime, "a date and time"),
    (dt.date, "a date"),
    (dt.time, "a time of day"),
    (dt.timedelta, "a length of time"),
)


def whole(budget: Budget, value: Any, what: str) -> int:
    """Return a value that must be a whole number."""
    if isinstance(value, int):
        return value
    budget.read(value)
    raise RefusedError(f"needs a whole number for {what} and got {kind_of(value)}")


def number(budget: Budget, value: Any) -> Any:
    """Return a value that must be a number."""
    if isinstance(value, _NUMBERS):
        budget.spend(1)
        return value
    budget.read(value)
    advice = ". Write |float before it" if isinstance(value, str) else ""
    raise RefusedError(f"needs a number and got {kind_of(value)}{advice}")


def concat(budget: Budget, *values: Any) -> str:
    """Return the texts of values put together: what ``~`` does."""
    texts = [show(budget, value) for value in values]
    budget.make(sum(map(len, texts)))
    return "".join(texts)


def cut(budget: Budget, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """Return ``value[start:stop:step]``."""
    budget.spend(1)
    if isinstance(value, Undefined) or not isinstance(value, str | list | tuple | range):
        budget.read(value)
        raise RefusedError(f"cannot cut a piece out of {kind_of(value)}")
    for bound in (start, stop, step):
        if bound is not None and not isinstance(bound, int):
            budget.read(bound)
            raise RefusedError(f"cannot cut at {kind_of(bound)}: it must be a whole number")
    taken = slice(start, stop, step)
    _pay_for(
        budget, value if isinstance(value, str) else [], len(range(*taken.indices(len(value))))
    )
    return value[taken]


def printf(budget: Budget, pattern: str, values: Any) -> str:
    """Return ``pattern % values``, as ``"%.2f"|format(price)`` and ``"%.2f" % price`` ask for."""
    budget.read(pattern)
    budget.read(values)
    if isinstance(values, dict):
        filled: Any = {key: _printable(budget, value) for key, value in values.items()}
        longest = max((_length(value) for value in filled.values()), default=0)
    else:
        listed = values if isinstance(values, tuple) else (values,)
        filled = tuple(_printable(budget, value) for value in listed)
        longest = max(map(_length, filled), default=0)
    length = len(pattern)
    for found in _PRINTF.finditer(pattern):
        if found["type"] not in "diouxXeEfFgGcs%":
            raise RefusedError(f'has a format that is not understood: "{found[0][:20]}"')
        for number in (found["width"] or "0", found["precision"] or "0"):
            if number == "*" or len(number) > 4 or int(number) > _MAX_PRINTF_WIDTH:
                raise RefusedError(
                    f'has a format wider than {_MAX_PRINTF_WIDTH:,} characters: "{found[0][:20]}"'
                )
            length += int(number)
        length += longest
    budget.make(length)
    return str(pattern % filled)


class _Shown(float):
    """A number that ``%s`` writes as a prompt does: 3, not 3.0."""

    def __str__(self) -> str:
        return text_of(float(self))


def _printable(budget: Budget, value: Any) -> Any:
    if isinstance(value, float):
        return _Shown(value)
    return value if isinstance(value, _NUMBERS) else show(budget, value)


def _length(value: Any) -> int:
    # The largest float has 309 digits before its point.
    return len(value) if isinstance(value, str) else MAX_BITS
