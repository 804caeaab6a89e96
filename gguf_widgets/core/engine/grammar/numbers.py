"""Numbers within bounds, as the texts that are written for them.

Promises: bounds and multiples are kept exactly, digit by digit. Whole numbers have up to 18 digits
(more where a bound has more), others within bounds up to 15 in all, which a computer's floating
point keeps apart and in order; only numbers without bounds may have an exponent, of two digits.
There is no needless zero in front, and within bounds no minus zero. Leaves to others: which of the
texts a schema allows besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import gcd, lcm

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.automaton import Automaton, Edges, smaller
from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.limits import MAX_STATES

__all__ = ["NumberLimits", "exact", "written", "written_widely"]

_INTEGER_DIGITS = 18
_DECIMAL_DIGITS = 15
_MOST_DIGITS = 60
_DIGIT = charset.of([(0x30, 0x39)])
_ZERO, _NONZERO = charset.chars("0"), charset.of([(0x31, 0x39)])


def exact(number: float | Decimal) -> Decimal:
    """Return a number as it is written, not as the nearest binary fraction."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


@dataclass(frozen=True)
class NumberLimits:
    """Bounds and the step between numbers; a step of 1 makes them whole."""

    low: Decimal | None = None
    low_open: bool = False
    high: Decimal | None = None
    high_open: bool = False
    step: Decimal | None = None

    @property
    def is_open(self) -> bool:
        """Whether every number is allowed."""
        return self.low is None and self.high is None and self.step is None

    def joined(self, other: NumberLimits) -> NumberLimits:
        """Return the limits of both."""
        low, high, step = (self.low, self.low_open), (self.high, self.high_open), self.step
        if other.low is not None and (low[0] is None or (other.low, other.low_open) > low):
            low = (other.low, other.low_open)
        if other.high is not None and (
            high[0] is None or (other.high, not other.high_open) < (high[0], not high[1])
        ):
            high = (other.high, other.high_open)
        if other.step is not None:
            step = other.step if step is None else _common_multiple(step, other.step)
        return NumberLimits(*low, *high, step)

    def allows(self, number: Decimal) -> bool:
        """Say whether a number is within them."""
        if self.low is not None and (number < self.low or (self.low_open and number == self.low)):
            return False
        if self.high is not None and (
            number > self.high or (self.high_open and number == self.high)
        ):
            return False
        return self.step is None or _is_multiple(number, self.step)

    def whole_numbers(self, most: int) -> list[int] | None:
        """Return all the numbers, if they are whole and no more than `most`."""
        if self.step is None or self.step != self.step.to_integral_value():
            return None
        first, last = self.ends(self.step)
        if first is None or last is None or last - first >= most:
            return None
        return [number * int(self.step) for number in range(first, last + 1)]

    @property
    def is_impossible(self) -> bool:
        """Whether no number is within them."""
        if self.low is None or self.high is None:
            return False
        if self.step is None:
            return self.low > self.high or (
                self.low == self.high and (self.low_open or self.high_open)
            )
        first, last = self.ends(self.step)
        return first is not None and last is not None and first > last

    def ends(self, step: Decimal) -> tuple[int | None, int | None]:
        """Return the first and the last multiple of `step` within the bounds, in steps."""
        first = last = None
        if self.low is not None:
            numerator, denominator = _ratio(self.low, step)
            first = -(-numerator // denominator)
            first += self.low_open and first * denominator == numerator
        if self.high is not None:
            numerator, denominator = _ratio(self.high, step)
            last = numerator // denominator
            last -= self.high_open and last * denominator == numerator
        return first, last


def written(make: Expressions, limits: NumberLimits) -> Expression:
    """Return the texts that are written for the numbers within limits.

    Raises
    ------
    TooLargeError
        If a bound or the step needs too many digits.
    """
    if limits.is_open:
        return _any_number(make)
    reach = Decimal(10**_DECIMAL_DIGITS)
    if (limits.low is not None and limits.low >= reach) or (
        limits.high is not None and limits.high <= -reach
    ):
        # Beyond the digits of others only whole numbers are written, which may have more.
        limits = limits.joined(NumberLimits(step=Decimal(1)))
    places = _DECIMAL_DIGITS - 1 if limits.step is None else _places(limits.step)
    if places >= _DECIMAL_DIGITS:
        raise TooLargeError
    first, last = limits.ends(_decimal(1, places))
    digits = _digits(limits, first, last, places)
    largest = 10 ** (digits + places) - 1
    first = -largest if first is None else max(first, -largest)
    last = largest if last is None else min(last, largest)
    positive = _between(make, max(first, 0), last, digits, places)
    negative = _between(make, max(1, -last), -first, digits, places)
    both = make.either([positive, make.concat(make.text("-"), negative)])
    if limits.step is None or limits.step == 1:
        return both
    return make.both([both, _multiples(make, limits.step, places)])


def written_widely(make: Expressions, limits: NumberLimits) -> Expression:
    """Return every text without an exponent whose number is within limits, and of up to 14 places.

    That is for keeping away from them: 5 is also 5.0 and 5.00.

    Raises
    ------
    TooLargeError
    """
    places = _DECIMAL_DIGITS - 1
    if limits.step is not None and _places(limits.step) > places:
        raise TooLargeError
    first, last = limits.ends(_decimal(1, places))
    texts = []
    for sign, low, high in (
        ("", first, last),
        ("-", None if last is None else -last, None if first is None else -first),
    ):
        if high is None or high >= 0:
            parts = [make.loop(make.chars(charset.chars("0123456789.")), 1, None)]
            parts += _bounds(make, max(low or 0, 0), high, places)
            texts.append(make.concat(make.text(sign), make.both(parts)))
    found = make.either(texts)
    if limits.step is None:
        return found
    return make.both(
        [found, _multiples(make, limits.step, max(_places(limits.step), 1), wide=True)]
    )


def _any_number(make: Expressions) -> Expression:
    digit = make.chars(_DIGIT)
    whole = make.concat(make.chars(_NONZERO), make.loop(digit, 0, _DECIMAL_DIGITS - 1))
    fraction = make.concat(make.text("."), make.loop(digit, 1, _DECIMAL_DIGITS))
    sign = _optional(make, make.chars(charset.chars("+-")))
    exponent = make.concat(make.chars(charset.chars("eE")), sign, make.loop(digit, 1, 2))
    return make.concat(
        _optional(make, make.text("-")),
        make.either([make.chars(_ZERO), whole]),
        _optional(make, fraction),
        _optional(make, exponent),
    )


def _digits(limits: NumberLimits, first: int | None, last: int | None, places: int) -> int:
    """Choose how many digits there may be in front of the point."""
    if places:
        return _DECIMAL_DIGITS - (places if limits.step is not None else 0)
    needed = max(len(str(abs(end))) for end in (first or 0, last or 0))
    most = _INTEGER_DIGITS
    if limits.step is not None and (odd := _without_tens(int(limits.step))[0]) > 1:
        # Each digit costs as many states as there are remainders.
        most = min(most, max(len(str(limits.step)) + 1, MAX_STATES // (2 * odd)))
    digits = max(most, needed + (first is None or last is None))
    if digits > _MOST_DIGITS:
        raise TooLargeError
    return digits


def _between(make: Expressions, first: int, last: int, digits: int, places: int) -> Expression:
    """Return the numbers without a sign from `first` to `last`, counted in the last place."""
    if first > last:
        return make.nothing
    digit = make.chars(_DIGIT)
    shape = make.either(
        [make.chars(_ZERO), make.concat(make.chars(_NONZERO), make.loop(digit, 0, digits - 1))]
    )
    if places:
        fraction = make.concat(make.text("."), make.loop(digit, 1, places))
        shape = make.concat(shape, _optional(make, fraction))
        if digits + places > _DECIMAL_DIGITS:
            length = make.loop(make.chars(charset.chars("0123456789.")), 1, _DECIMAL_DIGITS + 1)
            shape = make.both([shape, length])
    # What has no more digits is below the largest there is.
    highest = last if last < 10 ** (digits + places) - 1 else None
    return make.both([shape, *_bounds(make, first, highest, places)])


def _bounds(make: Expressions, first: int, last: int | None, places: int) -> list[Expression]:
    found = []
    if first > 0:
        found.append(_compared(make, first, places, greater=True))
    if last is not None:
        found.append(_compared(make, last, places, greater=False))
    return found


def _compared(make: Expressions, bound: int, places: int, *, greater: bool) -> Expression:
    """Return the numbers at least (or at most) as large as a bound, counted in the last place."""
    digit = make.chars(_DIGIT)
    text = str(bound).rjust(places + 1, "0")
    whole, fraction = (text[:-places], text[-places:].rstrip("0")) if places else (text, "")
    tail = _optional(make, make.concat(make.text("."), make.loop(digit, 1, None)))
    ways = []
    # Longer is greater and shorter is less: there is no zero in front.
    if greater:
        ways.append(make.concat(make.loop(digit, len(whole) + 1, None), tail))
    elif len(whole) > 1:
        ways.append(make.concat(make.loop(digit, 1, len(whole) - 1), tail))
    for place, char in enumerate(whole):
        beyond = _beyond(char, greater=greater)
        rest = make.loop(digit, len(whole) - place - 1, len(whole) - place - 1)
        ways.append(make.concat(make.text(whole[:place]), make.chars(beyond), rest, tail))
    ways.append(make.concat(make.text(whole), _compared_fraction(make, fraction, greater=greater)))
    return make.either(ways)


def _compared_fraction(make: Expressions, bound: str, *, greater: bool) -> Expression:
    """Return what may follow when the digits in front of the point are equal."""
    digit = make.chars(_DIGIT)
    more = make.loop(digit, 0, None)
    point = make.text(".")
    ways: list[Expression] = []
    for place, char in enumerate(bound):
        beyond = make.chars(_beyond(char, greater=greater))
        ways.append(make.concat(point, make.text(bound[:place]), beyond, more))
        if not greater and place:
            ways.append(make.concat(point, make.text(bound[:place])))
    if greater:
        # Without a bound here, any digits, or none.
        equal = make.concat(point, make.text(bound), more) if bound else make.empty
        ways.append(equal)
        if not bound:
            ways.append(make.concat(point, digit, more))
    else:
        zeros = make.loop(make.chars(_ZERO), 0 if bound else 1, None)
        ways += [make.empty, make.concat(point, make.text(bound), zeros)]
    return make.either(ways)


def _beyond(char: str, *, greater: bool) -> Charset:
    code = ord(char)
    return charset.of([(code + 1, 0x39)] if greater else [(0x30, code - 1)])


def _multiples(make: Expressions, step: Decimal, places: int, *, wide: bool = False) -> Expression:
    """Return the texts of multiples, signed: the remainder is carried from digit to digit.

    `wide` allows any number of zeros after the last place.
    """
    divisor, num_zeros = _in_units(step, places), 0
    if not places:
        divisor, num_zeros = _without_tens(divisor)
    # Rows of remainders: in front of the point, right after it, after one digit more, ...
    num_rows = places + 2 if places else 1
    if divisor * num_rows > MAX_STATES:
        raise TooLargeError
    edges: list[Edges] = []
    accepting: list[bool] = []
    for row in range(num_rows):
        places_left = places - max(row - 1, 0)
        following = 0 if row == 0 else row + 1
        for rest in range(divisor):
            found: list[tuple[Charset, int]] = []
            if row == 0 or places_left:
                for value in range(10):
                    target = following * divisor + (rest * 10 + value) % divisor
                    found.append((charset.chars(str(value)), target))
            elif wide:
                found.append((_ZERO, row * divisor + rest))
            if row == 0 and places:
                found.append((charset.chars("."), divisor + rest))
            edges.append(tuple(found))
            accepting.append(row != 1 and rest * 10**places_left % divisor == 0)
    counted = make.leaf(smaller(Automaton(tuple(edges), tuple(accepting))))
    if num_zeros:
        counted = make.either([make.text("0"), make.concat(counted, make.text("0" * num_zeros))])
    return make.concat(_optional(make, make.text("-")), counted)


def _optional(make: Expressions, one: Expression) -> Expression:
    return make.loop(one, 0, 1)


def _without_tens(number: int) -> tuple[int, int]:
    """Return a number without the zeros at its end, and how many there were."""
    num_zeros = 0
    while number % 10 == 0:
        number //= 10
        num_zeros += 1
    return number, num_zeros


# Decimal's own arithmetic rounds to 28 digits; these do not.


def _decimal(number: int, places: int) -> Decimal:
    return Decimal((0, tuple(map(int, str(number))), -places))


def _places(number: Decimal) -> int:
    """Return how many digits a positive number has after the point."""
    _, denominator = number.as_integer_ratio()
    places = 0
    while denominator != 1:
        common = gcd(10, denominator)
        denominator //= common
        places += 1
    return places


def _in_units(number: Decimal, places: int) -> int:
    numerator, denominator = number.as_integer_ratio()
    return int(numerator * 10**places // denominator)


def _ratio(number: Decimal, step: Decimal) -> tuple[int, int]:
    numerator, denominator = number.as_integer_ratio()
    step_numerator, step_denominator = step.as_integer_ratio()
    return numerator * step_denominator, denominator * step_numerator


def _is_multiple(number: Decimal, step: Decimal) -> bool:
    numerator, denominator = _ratio(number, step)
    return numerator % denominator == 0


def _common_multiple(one: Decimal, other: Decimal) -> Decimal:
    places = max(_places(one), _places(other))
    return _decimal(lcm(_in_units(one, places), _in_units(other, places)), places)
