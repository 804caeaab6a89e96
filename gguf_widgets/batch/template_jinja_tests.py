"""The tests of a Jinja template: what stands after "is".

Promises: Jinja's own, under their names and with their meaning, each paid for before it looks.
Left out: those that ask about Jinja itself (``filter``, ``test``, ``callable``, ``sameas``,
``escaped``). Leaves to others: comparing (`template_jinja_ops`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from jinja2.runtime import Undefined

from gguf_widgets.batch.template_jinja_budget import Budget, with_budget
from gguf_widgets.batch.template_jinja_ops import binary, compare, number

__all__ = ["TESTS"]


def _test(judge: Callable[[Any], bool]) -> Callable[..., bool]:
    def run(budget: Budget, value: Any) -> bool:
        budget.read(value)
        return judge(value)

    return run


def _defined(wanted: bool) -> Callable[..., bool]:
    def run(budget: Budget, value: Any) -> bool:
        budget.spend(1)
        return isinstance(value, Undefined) is not wanted

    return run


def _comparison(sign: str) -> Callable[..., bool]:
    def run(budget: Budget, value: Any, other: Any) -> bool:
        return compare(budget, value, sign, other)

    return run


def _divisible(budget: Budget, value: Any, by: Any) -> bool:
    remainder = binary(budget, "%", number(budget, value), number(budget, by))
    return bool(remainder == 0)


def _remainder(wanted: int) -> Callable[..., bool]:
    def run(budget: Budget, value: Any) -> bool:
        return bool(number(budget, value) % 2 == wanted)

    return run


_SIGNS = {
    "eq": ("eq", "equalto", "=="),
    "ne": ("ne", "!="),
    "lt": ("lt", "lessthan", "<"),
    "lteq": ("le", "<="),
    "gt": ("gt", "greaterthan", ">"),
    "gteq": ("ge", ">="),
    "in": ("in",),
}

TESTS: dict[str, Callable[..., bool]] = {
    name: with_budget(name, function)
    for name, function in {
        "boolean": _test(lambda value: isinstance(value, bool)),
        "defined": _defined(wanted=True),
        "divisibleby": _divisible,
        "even": _remainder(0),
        "false": _test(lambda value: value is False),
        "float": _test(lambda value: isinstance(value, float)),
        "integer": _test(lambda value: isinstance(value, int) and not isinstance(value, bool)),
        "iterable": _test(lambda value: isinstance(value, str | list | tuple | dict | range)),
        "lower": _test(lambda value: isinstance(value, str) and value.islower()),
        "mapping": _test(lambda value: isinstance(value, dict)),
        "none": _test(lambda value: value is None),
        "number": _test(lambda value: isinstance(value, int | float | Decimal)),
        "odd": _remainder(1),
        "sequence": _test(lambda value: isinstance(value, str | list | tuple | dict | range)),
        "string": _test(lambda value: isinstance(value, str)),
        "true": _test(lambda value: value is True),
        "undefined": _defined(wanted=False),
        "upper": _test(lambda value: isinstance(value, str) and value.isupper()),
        **{name: _comparison(sign) for sign, names in _SIGNS.items() for name in names},
    }.items()
}
