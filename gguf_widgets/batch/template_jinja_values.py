"""What a Jinja template can reach of a value: the methods and attributes, all by name.

Promises: there is no other way into a value than these tables, so nothing of Python can be reached
from a template; each method pays for what it reads and makes before it does so. Leaves to others:
operators (`template_jinja_ops`), filters (`template_jinja_filters`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jinja2.runtime import LoopContext, Undefined
from jinja2.utils import Namespace

from gguf_widgets.batch.template_jinja_budget import (
    MAX_RANGE,
    Budget,
    DependsOnRowError,
    Probe,
    RefusedError,
    TooMuchError,
    call,
)
from gguf_widgets.batch.template_text import text_of

__all__ = [
    "GLOBALS",
    "Counted",
    "Function",
    "Group",
    "attribute_of",
    "item_of",
    "join",
    "replace",
    "show",
]

_NOTHING = object()
_MAX_PIECES = 500_000
_STRFTIME = re.compile(r"%[-#]?[A-Za-z%]")


class Function:
    """Something that a template can call: a method of a value, or a global function.

    `run` gets the budget, the value (for a method) and the call's own arguments.
    """

    __slots__ = ("name", "owner", "run")

    def __init__(self, name: str, run: Callable[..., Any], owner: Any = _NOTHING) -> None:
        self.name = name
        self.run = run
        self.owner = owner

    @property
    def called(self) -> str:
        """What it is, for messages."""
        return (
            f'the function "{self.name}" (call it with (), or, if "{self.name}" is also the name '
            f'of a value, write ["{self.name}"])'
        )

    def call(self, budget: Budget, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry the call out."""
        if self.owner is _NOTHING:
            return call(self.name, self.run, budget, *args, **kwargs)
        return call(self.name, self.run, budget, self.owner, *args, **kwargs)


class Group(NamedTuple):
    """What ``|groupby`` gives: what the members have in common, and the members."""

    grouper: Any
    list: list[Any]


class Counted:
    """What a loop goes through; every turn is paid for."""

    def __init__(self, budget: Budget, values: Any) -> None:
        self._budget = budget
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._budget.spend(1)
            yield value


def show(budget: Budget, value: Any) -> str:
    """Return a value's text, paid for."""
    num_chars = budget.read(value)
    if type(value) is str:
        return value
    if isinstance(value, Undefined):
        return ""
    budget.make(num_chars)  # before: the same long text may stand in a list many times
    text = text_of(value)
    budget.make(len(text))
    return text


def attribute_of(value: Any, name: str) -> Any:
    """Return what ``value.name`` is, or `NotImplemented` if there is no such thing."""
    if type(value) is Probe:
        raise DependsOnRowError
    if name.startswith("_"):
        raise RefusedError(f'asks for "{name}"; names that begin with _ are not to be had')
    if type(value) is Namespace:
        return getattr(value, name, NotImplemented)
    if type(value) is LoopContext:
        if name in _LOOP_ATTRIBUTES:
            return getattr(value, name)
        method = _LOOP_METHODS.get(name)
        return Function(name, method, value) if method else NotImplemented
    for kind, attributes, methods in _TABLES:
        if isinstance(value, kind):
            if name in attributes:
                return getattr(value, name)
            method = methods.get(name)
            if method is not None:
                return Function(name, method, value)
    if isinstance(value, dict) and name in value:
        return value[name]
    return NotImplemented


def item_of(value: Any, key: Any) -> Any:
    """Return what ``value[key]`` is, or `NotImplemented` if there is no such thing."""
    if type(value) is Probe or type(key) is Probe:
        raise DependsOnRowError
    if isinstance(value, dict):
        # A list in a list in a tuple as a key would be hashed in its whole depth, each time.
        if not isinstance(key, str | int | float | None):
            raise RefusedError("looks something up by a key that is no text and no number")
        return value.get(key, NotImplemented)
    if isinstance(value, list | tuple | str | range):
        if isinstance(key, int):
            try:
                return value[key]
            except IndexError:
                return NotImplemented
        if isinstance(key, str):
            return attribute_of(value, key)
        raise RefusedError("asks a list or a text for a place that is no whole number")
    if isinstance(key, str):
        return attribute_of(value, key)
    return NotImplemented


# The methods. Each gets the budget and the value, then what the template passes.


def _texts(budget: Budget, *values: Any) -> None:
    for value in values:
        budget.read(value)
        if not isinstance(value, str):
            raise RefusedError(f"passes {show(budget, value)[:40]} where a text is needed")


def _simple(name: str) -> Callable[..., Any]:
    """Make a method that takes texts and makes at most three times what it reads."""
    method = getattr(str, name)

    def run(budget: Budget, text: str, *args: Any) -> Any:
        budget.read(text)
        budget.make(len(text))
        _texts(budget, *args)
        return method(text, *args)

    return run


def _find(name: str) -> Callable[..., Any]:
    """Make a method that looks for one text in another."""
    method = getattr(str, name)
    backwards = name.startswith("r")

    def run(budget: Budget, text: str, part: Any, *bounds: int) -> Any:
        _texts(budget, text, part)
        if backwards:
            _pay_for_pairs(budget, text, part)
        return method(text, part, *bounds)

    return run


def _strip(name: str) -> Callable[..., Any]:
    method = getattr(str, name)

    def run(budget: Budget, text: str, characters: str | None = None) -> str:
        budget.read(text)
        budget.make(len(text))
        if characters is None:
            return str(method(text))
        _texts(budget, characters)
        _pay_for_pairs(budget, text, characters)
        return str(method(text, characters))

    return run


def _pay_for_pairs(budget: Budget, text: str, part: str) -> None:
    # What Python does here may compare each character of the one with each of the other.
    budget.spend(len(text) * len(part) >> 8)


def _pad(name: str) -> Callable[..., str]:
    method = getattr(str, name)

    def run(budget: Budget, text: str, width: int, *fill: str) -> str:
        budget.read(text)
        budget.make(max(len(text), _int(budget, width)))
        return str(method(text, width, *fill))

    return run


def _int(budget: Budget, value: Any) -> int:
    budget.read(value)
    if not isinstance(value, int):
        raise RefusedError("passes something else where a whole number is needed")
    return value


def _split(name: str) -> Callable[..., list[str]]:
    method = getattr(str, name)

    def run(
        budget: Budget, text: str, separator: str | None = None, maxsplit: int = -1
    ) -> list[str]:
        budget.read(text)
        if separator is not None:
            _texts(budget, separator)
            if name == "rsplit":
                _pay_for_pairs(budget, text, separator)
        limit = _MAX_PIECES if maxsplit < 0 else min(_int(budget, maxsplit), _MAX_PIECES)
        pieces: list[str] = method(text, separator, limit)
        if len(pieces) > _MAX_PIECES:
            raise TooMuchError(f"splits a text into more than {_MAX_PIECES:,} pieces")
        budget.make(len(text))
        budget.spend(len(pieces))
        return pieces

    return run


def _splitlines(budget: Budget, text: str) -> list[str]:
    budget.read(text)
    budget.spend(len(text) >> 3)  # how many lines there are is known afterwards only
    lines = text.splitlines()
    budget.spend(len(lines))
    return lines


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    """Return a text with one part of it replaced by another, its length known before."""
    _texts(budget, text, old, new)
    found = text.count(old)
    if _int(budget, count) >= 0:
        found = min(found, count)
    budget.make(len(text) + found * (len(new) - len(old)))
    budget.spend(found >> 3)
    return text.replace(old, new, count)


def join(budget: Budget, separator: str, values: Any) -> str:
    """Return the values' texts with a separator between them."""
    budget.read(values)
    if not isinstance(values, list | tuple | dict | range | str):
        raise RefusedError("joins something that is no list")
    texts = [show(budget, value) for value in values]
    budget.make(sum(map(len, texts)) + len(separator) * max(len(texts) - 1, 0))
    return separator.join(texts)


def _startswith(name: str) -> Callable[..., bool]:
    method = getattr(str, name)

    def run(budget: Budget, text: str, start: Any) -> bool:
        budget.read(start)
        return bool(method(text, tuple(start) if isinstance(start, list) else start))

    return run


def _strftime(budget: Budget, value: Any, pattern: str) -> str:
    _texts(budget, pattern)
    # A width, as in %999999999d, would be obeyed by some systems.
    if len(pattern) > 1000 or "%" in _STRFTIME.sub("", pattern):
        raise RefusedError(f'has a pattern for dates that is not understood: "{pattern[:40]}"')
    return str(value.strftime(pattern))


def _plainly(name: str) -> Callable[..., Any]:
    """Make a method of a date: it takes nothing and costs nothing."""

    def run(budget: Budget, value: Any) -> Any:
        budget.spend(1)
        return getattr(value, name)()

    return run


def _searched(name: str) -> Callable[..., int]:
    def run(budget: Budget, values: Any, wanted: Any) -> int:
        budget.read(values)
        budget.read(wanted)
        return int(getattr(values, name)(wanted))

    return run


def _listed(name: str) -> Callable[..., list[Any]]:
    def run(budget: Budget, value: dict[Any, Any]) -> list[Any]:
        budget.spend(len(value))
        return list(getattr(value, name)())

    return run


def _get(budget: Budget, value: dict[Any, Any], key: Any, default: Any = None) -> Any:
    budget.spend(1)
    found = item_of(value, key)
    return default if found is NotImplemented else found


def _cycle(budget: Budget, loop: LoopContext, *values: Any) -> Any:
    budget.spend(1)
    return loop.cycle(*values)


def _changed(budget: Budget, loop: LoopContext, *values: Any) -> bool:
    budget.read(values)
    return loop.changed(*values)


def _range(budget: Budget, *bounds: int) -> range:
    budget.spend(1)
    numbers = range(*bounds)
    # len() itself fails where there are more than a machine word can count.
    if not numbers[:1] or (numbers[-1] - numbers[0]) // numbers.step < MAX_RANGE:
        return numbers
    raise TooMuchError(f"asks for a range of more than {MAX_RANGE:,} numbers")


def _namespace(budget: Budget, **values: Any) -> Namespace:
    budget.spend(1 + len(values))
    return Namespace(**values)


def _dict(budget: Budget, **values: Any) -> dict[str, Any]:
    budget.spend(1 + len(values))
    return values


GLOBALS = {
    "range": Function("range", _range),
    "namespace": Function("namespace", _namespace),
    "dict": Function("dict", _dict),
}
"""The functions that every template has; a column of such a name is had by ``row["range"]``."""

_TEXT_METHODS: dict[str, Callable[..., Any]] = {
    **{
        name: _simple(name)
        for name in (
            *("capitalize", "casefold", "lower", "swapcase", "title", "upper", "partition"),
            *("removeprefix", "removesuffix", "isalnum", "isalpha", "isascii", "isdecimal"),
            *("isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper"),
        )
    },
    **{name: _find(name) for name in ("count", "find", "index", "rfind", "rindex", "rpartition")},
    **{name: _strip(name) for name in ("strip", "lstrip", "rstrip")},
    **{name: _pad(name) for name in ("center", "ljust", "rjust", "zfill")},
    **{name: _split(name) for name in ("split", "rsplit")},
    **{name: _startswith(name) for name in ("startswith", "endswith")},
    "splitlines": _splitlines,
    "replace": replace,
    "join": join,
}
_DATE = {
    "strftime": _strftime,
    **{name: _plainly(name) for name in ("isoformat", "weekday", "isoweekday")},
}
_SEARCHED = {name: _searched(name) for name in ("count", "index")}

_LOOP_ATTRIBUTES = frozenset(
    {
        *("index", "index0", "revindex", "revindex0", "first", "last", "length"),
        *("previtem", "nextitem", "depth", "depth0"),
    }
)
_LOOP_METHODS: dict[str, Callable[..., Any]] = {"cycle": _cycle, "changed": _changed}

# What is looked up for each type, the narrower types first: a datetime is a date, too.
_TABLES: tuple[tuple[Any, frozenset[str], dict[str, Callable[..., Any]]], ...] = (
    (str, frozenset(), _TEXT_METHODS),
    (dict, frozenset(), {"get": _get, **{n: _listed(n) for n in ("items", "keys", "values")}}),
    (Group, frozenset({"grouper", "list"}), {}),
    (list | tuple | range, frozenset(), _SEARCHED),
    (
        dt.datetime,
        frozenset({"hour", "minute", "second", "microsecond"}),
        {name: _plainly(name) for name in ("date", "time")},
    ),
    (dt.date, frozenset({"year", "month", "day"}), _DATE),
    (dt.time, frozenset({"hour", "minute", "second", "microsecond"}), {"strftime": _strftime}),
    (dt.timedelta, frozenset({"days", "seconds"}), {"total_seconds": _plainly("total_seconds")}),
)
