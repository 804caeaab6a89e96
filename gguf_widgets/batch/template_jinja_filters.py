"""The filters and tests that a Jinja template can use.

Promises: those of Jinja that make sense in a prompt, under their names and with their meaning, each
paid for before it works; lists come out as lists, at once. Every other name is refused when the
template is read. Leaves to others: methods (`template_jinja_values`), operators
(`template_jinja_ops`).

Left out on purpose: ``random`` (the same row must give the same prompt), ``attr``, ``pprint``,
and what is for HTML alone (``escape``, ``urlize``, ``xmlattr``, ...).

``tojson`` writes JSON as people do: no HTML escapes, keys in their own order.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from jinja2.runtime import Context, Undefined
from jinja2.utils import pass_context

from gguf_widgets.batch.template_jinja_budget import Budget, RefusedError, budget_of, with_budget
from gguf_widgets.batch.template_jinja_lists import LIST_FILTERS, attribute_at, listed
from gguf_widgets.batch.template_jinja_ops import kind_of, number, printf, whole
from gguf_widgets.batch.template_jinja_tests import TESTS
from gguf_widgets.batch.template_jinja_values import attribute_of, join, replace, show
from gguf_widgets.batch.template_text import json_ready, plain

__all__ = ["FILTERS"]

_WORD = re.compile(r"\w+")
_TITLE_WORD = re.compile(r"[^-\s({\[<]+")
_MAX_SLOW_CHARS = 1_000_000
_MAX_INDENT = 8
_MAX_DIGITS = 300


# Filters. Each gets the budget, the value, and what stands in the template's parentheses.


def _default(budget: Budget, value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    budget.spend(1)
    return default_value if isinstance(value, Undefined) or (boolean and not value) else value


def _text_filter(change: Callable[[str], str]) -> Callable[..., str]:
    def run(budget: Budget, value: Any) -> str:
        text = show(budget, value)
        budget.make(len(text))
        return change(text)

    return run


def _short_text(budget: Budget, value: Any) -> str:
    text = show(budget, value)
    if len(text) > _MAX_SLOW_CHARS:
        raise RefusedError(
            f"works on a text of {len(text):,} characters; this filter takes {_MAX_SLOW_CHARS:,}"
        )
    budget.spend(len(text) >> 3)
    return text


def _title(budget: Budget, value: Any) -> str:
    def change(found: re.Match[str]) -> str:
        return found[0][0].upper() + found[0][1:].lower()

    return _TITLE_WORD.sub(change, _short_text(budget, value))


def _wordcount(budget: Budget, value: Any) -> int:
    return sum(1 for _ in _WORD.finditer(_short_text(budget, value)))


def _trim(budget: Budget, value: Any, chars: Any = None) -> str:
    method = attribute_of(show(budget, value), "strip")
    stripped: str = method.call(budget, () if chars is None else (chars,), {})
    return stripped


def _truncate(
    budget: Budget,
    value: Any,
    length: Any = 255,
    killwords: bool = False,
    end: Any = "...",
    leeway: Any = 5,
) -> str:
    text, ending = show(budget, value), show(budget, end)
    length, leeway = whole(budget, length, "the length"), whole(budget, leeway, "leeway")
    if length < len(ending) or leeway < 0:
        raise RefusedError(f"truncates to {length} characters, less than the ending has")
    if len(text) <= length + leeway:
        return text
    budget.make(length)
    kept = text[: length - len(ending)]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + ending


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: Any = -1) -> str:
    amount = -1 if count is None else whole(budget, count, "count")
    return replace(budget, show(budget, value), show(budget, old), show(budget, new), amount)


def _center(budget: Budget, value: Any, width: Any = 80) -> str:
    text = show(budget, value)
    budget.make(max(len(text), whole(budget, width, "the width")))
    return text.center(width)


def _indent(
    budget: Budget, value: Any, width: Any = 4, first: bool = False, blank: bool = False
) -> str:
    text = show(budget, value)
    if isinstance(width, str):
        margin = width
    else:
        budget.make(whole(budget, width, "the width"))
        margin = " " * width
    budget.spend(len(text) >> 3)
    lines = (text + "\n").splitlines()  # as Jinja does: a line break at the end stays
    budget.spend(len(lines))
    budget.make(len(text) + len(margin) * len(lines))
    indented = [margin + line if line or blank else line for line in lines]
    indented[0] = margin + lines[0] if first else lines[0]
    return "\n".join(indented)


def _format(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise RefusedError("gives |format both values and names; use one of them")
    return printf(budget, show(budget, value), kwargs or args)


def _join(budget: Budget, value: Any, d: Any = "", attribute: Any = None) -> str:
    values = listed(budget, value)
    if attribute is not None:
        values = [attribute_at(budget, item, attribute) for item in values]
    return join(budget, show(budget, d), values)


def _tojson(budget: Budget, value: Any, indent: Any = None) -> str:
    budget.read(value)
    if indent is not None and not 0 <= whole(budget, indent, "indent") <= _MAX_INDENT:
        raise RefusedError(f"indents by {indent}; the most is {_MAX_INDENT}")
    if isinstance(value, Undefined):
        value = None
    parts, length = [], 0
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent)
    for part in encoder.iterencode(json_ready(plain(value))):
        length += len(part)
        budget.make(len(part))
        if length > _MAX_SLOW_CHARS * 8:
            raise RefusedError(f"makes JSON of more than {length:,} characters")
        parts.append(part)
    return "".join(parts)


def _int(budget: Budget, value: Any, default: Any = 0, base: Any = 10) -> Any:
    budget.read(value)
    if isinstance(value, str):
        if len(value) > _MAX_DIGITS:
            return default
        try:
            return int(value, whole(budget, base, "base"))
        except ValueError:
            pass
    try:
        return int(float(value)) if isinstance(value, str) else int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def _float(budget: Budget, value: Any, default: Any = 0.0) -> Any:
    budget.read(value)
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        return default
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return default


def _abs(budget: Budget, value: Any) -> Any:
    return abs(number(budget, value))


def _round(budget: Budget, value: Any, precision: Any = 0, method: str = "common") -> Any:
    rounded = number(budget, value)
    digits = whole(budget, precision, "the digits")
    if abs(digits) > _MAX_DIGITS:
        raise RefusedError(f"rounds to {digits} digits; the most is {_MAX_DIGITS}")
    if method == "common":
        return round(rounded, digits)
    if method not in ("ceil", "floor"):
        raise RefusedError('rounds by a method that is not "common", "ceil" or "floor"')
    factor = 10**digits
    return (math.ceil if method == "ceil" else math.floor)(rounded * factor) / factor


def _map(context: Context, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
    budget = budget_of(context)
    values = listed(budget, value)
    if "attribute" in kwargs:
        attribute = kwargs.pop("attribute")
        default = kwargs.pop("default", None)
        if args or kwargs:
            raise RefusedError("gives |map an attribute and something else, too")
        return [attribute_at(budget, item, attribute, default) for item in values]
    if not args:
        raise RefusedError("gives |map neither a filter nor an attribute")
    run = _by_name(budget, FILTERS, args[0], "filter")
    return [run(context, item, *args[1:], **kwargs) for item in values]


def _by_name(budget: Budget, table: dict[str, Any], name: Any, what: str) -> Callable[..., Any]:
    budget.read(name)
    run = table.get(name) if isinstance(name, str) else None
    if run is None:
        raise RefusedError(f"asks for a {what} that there is not: {kind_of(name)}")
    return run  # type: ignore[no-any-return]


def _select(wanted: bool, by_attribute: bool) -> Callable[..., list[Any]]:
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        budget = budget_of(context)
        if by_attribute and not args:
            raise RefusedError("does not say by which attribute it selects")
        attribute, rest = (args[0], args[1:]) if by_attribute else (None, args)
        test = _by_name(budget, TESTS, rest[0], "test") if rest else None
        kept = []
        for item in listed(budget, value):
            found = item if attribute is None else attribute_at(budget, item, attribute)
            is_so = bool(found) if test is None else test(context, found, *rest[1:], **kwargs)
            if is_so is wanted:
                kept.append(item)
        return kept

    return run


_PLAIN: dict[str, Callable[..., Any]] = {
    **LIST_FILTERS,
    "abs": _abs,
    "capitalize": _text_filter(str.capitalize),
    "center": _center,
    "d": _default,
    "default": _default,
    "float": _float,
    "format": _format,
    "indent": _indent,
    "int": _int,
    "join": _join,
    "lower": _text_filter(str.lower),
    "replace": _replace,
    "round": _round,
    "string": show,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _text_filter(str.upper),
    "wordcount": _wordcount,
}

FILTERS: dict[str, Callable[..., Any]] = {
    **{name: with_budget(name, function) for name, function in _PLAIN.items()},
    "map": pass_context(_map),
    "select": pass_context(_select(wanted=True, by_attribute=False)),
    "reject": pass_context(_select(wanted=False, by_attribute=False)),
    "selectattr": pass_context(_select(wanted=True, by_attribute=True)),
    "rejectattr": pass_context(_select(wanted=False, by_attribute=True)),
}
