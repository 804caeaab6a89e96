"""Annotations that are made of no others: texts, numbers, dates, choices; and limits on them.

Promises: as `annotations` has it. Leaves to others: unions, lists, classes (`annotations`).
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import datetime as dt
import enum
import pathlib
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gguf_widgets.core.errors import InvalidValueError

__all__ = [
    "COLLECTIONS",
    "MAPPINGS",
    "PLAIN",
    "Kind",
    "a_list",
    "an_object",
    "limited",
    "limits",
    "of_enum",
    "one_of",
    "plain_default",
    "shown",
    "spread",
    "type_name",
]

_SHOWN = 60


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an annotation means.

    Attributes
    ----------
    schema : dict
        JSON schema; references point into the `Describing`'s `definitions`.
    take : callable
        ``take(value, where)``: the value as Python has it; `where` names the place for the words of
        an `InvalidValueError`.
    """

    schema: dict[str, Any]
    take: Callable[[Any, str], Any]


# -- plain ones -----------------------------------------------------------------------------------


def _scalar(schema: dict[str, Any], words: str, take: Callable[[Any], Any]) -> Kind:
    def checked(value: Any, where: str) -> Any:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return take(value)
        raise InvalidValueError(f"{where} must be {words}, and it is {shown(value)}.")

    return Kind(schema, checked)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _nothing(value: Any) -> None:
    if value is not None:
        raise TypeError


def _parsed(kind: Any) -> Callable[[Any], Any]:
    return lambda value: kind.fromisoformat(_text(value))


PLAIN: dict[Any, Kind] = {
    str: _scalar({"type": "string"}, "a text", _text),
    int: _scalar({"type": "integer"}, "a whole number", _whole),
    float: _scalar({"type": "number"}, "a number", _number),
    bool: _scalar({"type": "boolean"}, "true or false", _truth),
    type(None): _scalar({"type": "null"}, "null", _nothing),
    Any: Kind({}, lambda value, _: value),
    object: Kind({}, lambda value, _: value),
    dt.date: _scalar(
        {"type": "string", "format": "date"}, "a date such as 2026-01-31", _parsed(dt.date)
    ),
    dt.datetime: _scalar(
        {"type": "string", "format": "date-time"},
        "a date and time such as 2026-01-31T12:00:00Z",
        _parsed(dt.datetime),
    ),
    dt.time: _scalar(
        {"type": "string", "format": "time"}, "a time such as 12:00:00Z", _parsed(dt.time)
    ),
    pathlib.Path: _scalar({"type": "string"}, "a path", lambda value: pathlib.Path(_text(value))),
    pathlib.PurePath: _scalar(
        {"type": "string"}, "a path", lambda value: pathlib.PurePath(_text(value))
    ),
}

COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: set,
}
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def one_of(values: list[Any], where: str, results: list[Any] | None = None) -> Kind:
    """Return the kind of a choice of values; `results` are what they stand for, in order."""
    for value in values:
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidValueError(
                f"{where} can be {shown(value)}, which JSON has no word for. Use texts or numbers."
            )
    given = results if results is not None else values

    def take(value: Any, place: str) -> Any:
        for known, result in zip(values, given, strict=True):
            # 1 == True == 1.0 to Python; to JSON true is no number.
            if known == value and isinstance(known, bool) == isinstance(value, bool):
                return result
        listed = ", ".join(map(shown, values[:20])) + (", ..." if len(values) > 20 else "")
        raise InvalidValueError(f"{place} must be one of {listed}, and it is {shown(value)}.")

    return Kind({"enum": values}, take)


def of_enum(made: type[enum.Enum], where: str) -> Kind:
    """Return the kind of an enum: its members' values, or their names where these are none."""
    members = list(made)
    if not members:
        raise InvalidValueError(f"{where} is the enum {type_name(made)}, which has no members.")
    by_value = all(isinstance(member.value, str | int | float | bool) for member in members)
    return one_of([m.value if by_value else m.name for m in members], where, members)


# -- limits ---------------------------------------------------------------------------------------

_NUMBER_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
_SIZES = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


def spread(notes: Iterable[Any]) -> list[Any]:
    """Return notes with those that pydantic's Field holds in `metadata`."""
    return [one for note in notes for one in (note, *(getattr(note, "metadata", None) or ()))]


def limits(note: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that a note of ``Annotated`` sets, as JSON schema has them."""
    found: dict[str, Any] = {}
    for name, keyword in _NUMBER_LIMITS.items():
        value = getattr(note, name, None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[keyword] = value
    low, high = _SIZES.get(str(schema.get("type")), ("", ""))
    for name, keyword in (("min_length", low), ("max_length", high)):
        value = getattr(note, name, None)
        if keyword and isinstance(value, int):
            found[keyword] = value
    pattern = getattr(note, "pattern", None)
    if isinstance(pattern, str) and schema.get("type") == "string":
        found["pattern"] = pattern
    return found


def limited(kind: Kind, added: dict[str, Any]) -> Kind:
    """Return a kind with limits, or with a description."""
    if not added:
        return kind

    def take(value: Any, place: str) -> Any:
        taken = kind.take(value, place)
        for keyword, limit in added.items():
            if keyword != "description" and not _within(keyword, limit, value):
                raise InvalidValueError(
                    f"{place} is {shown(value)}, outside its limit ({keyword}: {limit})."
                )
        return taken

    return Kind({**kind.schema, **added}, take)


def _within(keyword: str, limit: Any, value: Any) -> bool:
    if keyword in _NUMBER_LIMITS.values():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True  # None, where the annotation allows it
        checks: dict[str, Callable[[], bool]] = {
            "minimum": lambda: value >= limit,
            "maximum": lambda: value <= limit,
            "exclusiveMinimum": lambda: value > limit,
            "exclusiveMaximum": lambda: value < limit,
            "multipleOf": lambda: abs(value / limit - round(value / limit)) < 1e-9,
        }
        return checks[keyword]()
    if keyword == "pattern":
        return re.search(limit, value) is not None
    size: int = len(value)
    return bool(size >= limit if keyword.startswith("min") else size <= limit)


# -- small things ---------------------------------------------------------------------------------


def plain_default(value: Any) -> dict[str, Any] | None:
    """Return ``{"default": ...}`` for a default that JSON can say, None for another."""
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    if isinstance(value, str | int | float | None):
        return {"default": value}
    if isinstance(value, list | tuple) and all(plain_default(one) is not None for one in value):
        return {"default": [plain_default(one)["default"] for one in value]}  # type: ignore[index]
    return None


def a_list(value: Any, place: str) -> list[Any]:
    """Return a list, or refuse what is none."""
    if not isinstance(value, list):
        raise InvalidValueError(f"{place} must be a list, and it is {shown(value)}.")
    return value


def an_object(value: Any, place: str) -> dict[str, Any]:
    """Return an object of JSON, or refuse what is none."""
    if not isinstance(value, dict):
        raise InvalidValueError(f"{place} must be an object, and it is {shown(value)}.")
    return value


def type_name(annotation: Any) -> str:
    """Return an annotation's name, for words."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__[:_SHOWN]
    return f"{annotation!r:.{_SHOWN}}".replace("typing.", "")


def shown(value: Any) -> str:
    """Return a value, for words."""
    return f"{value!r:.{_SHOWN}}"
