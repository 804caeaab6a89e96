"""The filters of a Jinja template that work on lists: sorting, grouping, the first, the longest.

Promises: each pays for what it reads and makes before it works; what comes out is a list, at once,
never something that still has to be gone through. Leaves to others: filters on texts and numbers,
and those that call other filters (`template_jinja_filters`).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import groupby
from typing import Any

from gguf_widgets.batch.template_jinja_budget import Budget, RefusedError
from gguf_widgets.batch.template_jinja_ops import binary, kind_of, whole
from gguf_widgets.batch.template_jinja_values import Group, item_of, show

__all__ = ["LIST_FILTERS", "attribute_at", "listed"]


def listed(budget: Budget, value: Any) -> list[Any]:
    """Return a list, a dict's keys or a text's characters as a list."""
    if isinstance(value, str | list | tuple | dict | range):
        budget.spend(1 + len(value))
        return list(value)
    budget.read(value)
    raise RefusedError(f"needs a list and got {kind_of(value)}")


def _length(budget: Budget, value: Any) -> int:
    if isinstance(value, str | list | tuple | dict | range):
        budget.spend(1)
        return len(value)
    budget.read(value)
    raise RefusedError(f"has no length: {kind_of(value)}")


def _sum(budget: Budget, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    total = start
    for item in listed(budget, value):
        part = item if attribute is None else attribute_at(budget, item, attribute)
        total = binary(budget, "+", total, part)
    return total


def _first(budget: Budget, value: Any) -> Any:
    return _end(budget, value, 0)


def _last(budget: Budget, value: Any) -> Any:
    return _end(budget, value, -1)


def _end(budget: Budget, value: Any, place: int) -> Any:
    if not _length(budget, value):
        raise RefusedError(f"asks for the {'last' if place else 'first'} of nothing")
    if isinstance(value, dict):
        return listed(budget, value)[place]
    return value[place]


def _reverse(budget: Budget, value: Any) -> Any:
    if isinstance(value, str):
        budget.make(len(value))
        return value[::-1]
    return listed(budget, value)[::-1]


def _items(budget: Budget, value: Any) -> list[Any]:
    if not isinstance(value, dict):
        budget.read(value)
        raise RefusedError(f"needs a dict and got {kind_of(value)}")
    budget.spend(1 + len(value))
    return list(value.items())


def _batch(budget: Budget, value: Any, linecount: Any, fill_with: Any = None) -> list[list[Any]]:
    values = listed(budget, value)
    size = whole(budget, linecount, "the number in each")
    if size < 1:
        raise RefusedError(f"makes groups of {size}")
    groups = [values[at : at + size] for at in range(0, len(values), size)]
    if groups and fill_with is not None:
        gap = size - len(groups[-1])
        budget.spend(gap)
        groups[-1] += [fill_with] * gap
    return groups


def _slice(budget: Budget, value: Any, slices: Any, fill_with: Any = None) -> list[list[Any]]:
    values = listed(budget, value)
    number = whole(budget, slices, "the number of groups")
    if number < 1:
        raise RefusedError(f"makes {number} groups")
    budget.spend(2 * number)
    size, longer = divmod(len(values), number)
    groups, at = [], 0
    for index in range(number):
        end = at + size + (index < longer)
        groups.append(values[at:end])
        if fill_with is not None and index >= longer:
            groups[-1].append(fill_with)
        at = end
    return groups


def attribute_at(budget: Budget, item: Any, attribute: Any, default: Any = None) -> Any:
    """Return ``item.a.b`` for "a.b", as Jinja's own filters take it."""
    parts = attribute.split(".") if isinstance(attribute, str) else [attribute]
    budget.spend(len(parts))
    for part in parts:
        key = int(part) if isinstance(part, str) and part.isdecimal() else part
        found = item_of(item, key)
        if found is NotImplemented:
            if default is None:
                raise RefusedError(f'asks for "{str(part)[:40]}", which {kind_of(item)} lacks')
            found = default
        item = found
    return item


def _key(budget: Budget, case_sensitive: bool, attribute: Any = None) -> Callable[[Any], Any]:
    names = attribute.split(",") if isinstance(attribute, str) else [attribute]

    def key(item: Any) -> Any:
        values = [item if name is None else attribute_at(budget, item, name) for name in names]
        if not case_sensitive:
            values = [value.lower() if isinstance(value, str) else value for value in values]
        return values[0] if len(values) == 1 else values

    return key


def _pay_for_sorting(budget: Budget, value: Any) -> None:
    before = budget.left
    budget.read(value)
    if isinstance(value, list | tuple | dict | range | str):
        # A comparison costs about an eighth of a step.
        budget.spend((before - budget.left) * len(value).bit_length() >> 3)


def _sorted(values: list[Any], key: Callable[[Any], Any]) -> list[Any]:
    try:
        return sorted(values, key=key)
    except TypeError:
        raise RefusedError("sorts values that cannot be compared: texts and numbers") from None


def _sort(
    budget: Budget,
    value: Any,
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: Any = None,
) -> list[Any]:
    _pay_for_sorting(budget, value)
    key = _key(budget, case_sensitive, attribute)
    values = listed(budget, value)
    if not reverse:
        return _sorted(values, key)
    # What is equal keeps its order, as with sorted(reverse=True).
    return _sorted(values[::-1], key)[::-1]


def _dictsort(
    budget: Budget,
    value: Any,
    case_sensitive: bool = False,
    by: str = "key",
    reverse: bool = False,
) -> list[Any]:
    if by not in ("key", "value"):
        raise RefusedError('sorts a dict by something other than "key" or "value"')
    return _sort(budget, _items(budget, value), reverse, case_sensitive, int(by == "value"))


def _unique(
    budget: Budget, value: Any, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    budget.read(value)
    key = _key(budget, case_sensitive, attribute)
    # Told apart by their texts, as numbers can be chosen to collide in a set.
    seen: dict[tuple[str, str], Any] = {}
    for item in listed(budget, value):
        found = key(item)
        name = "number" if isinstance(found, int | float | Decimal) else type(found).__name__
        seen.setdefault((name, show(budget, found)), item)
    return list(seen.values())


def _groupby(
    budget: Budget,
    value: Any,
    attribute: Any,
    default: Any = None,
    case_sensitive: bool = False,
) -> list[Group]:
    _pay_for_sorting(budget, value)

    def own(item: Any) -> Any:
        return attribute_at(budget, item, attribute, default)

    def key(item: Any) -> Any:
        found = own(item)
        return found.lower() if isinstance(found, str) and not case_sensitive else found

    groups = []
    for _, members in groupby(_sorted(listed(budget, value), key), key):
        group = list(members)
        groups.append(Group(own(group[0]), group))
    return groups


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def run(budget: Budget, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
        budget.read(value)
        values = listed(budget, value)
        if not values:
            raise RefusedError("asks for the least or greatest of nothing")
        try:
            return choose(values, key=_key(budget, case_sensitive, attribute))
        except TypeError:
            raise RefusedError("compares values that cannot be compared") from None

    return run


LIST_FILTERS: dict[str, Callable[..., Any]] = {
    "batch": _batch,
    "count": _length,
    "dictsort": _dictsort,
    "first": _first,
    "groupby": _groupby,
    "items": _items,
    "last": _last,
    "length": _length,
    "list": listed,
    "max": _extreme(max),
    "min": _extreme(min),
    "reverse": _reverse,
    "slice": _slice,
    "sort": _sort,
    "sum": _sum,
    "unique": _unique,
}
