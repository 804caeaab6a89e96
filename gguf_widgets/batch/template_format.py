"""A prompt with columns in single braces: ``"Label this review: {review}"``.

Promises: `str.format`'s own syntax, of which the whole field name is a column's name as it is
written, with its dots, spaces and digits (``{customer name}``, ``{price.eur}``, ``{0}``): never an
attribute, never an index, so nothing of a value can be reached but its text. Whatever does not fit
is refused when the template is read, by line and column. Leaves to others: which columns there are
(`template`), missing values (`missing`), values without a format (`template_text`).

What is understood: ``{name}``, ``{name:spec}``, ``{name!s}`` (as text, so that a format for text
fits any value), ``{{`` and ``}}`` for braces. What is refused, with its reason: ``!r`` and ``!a``,
a format inside a format, ``{}``.

Two formats behave better than Python's own, because tables have floats where people see whole
numbers: a float that is whole takes the formats of whole numbers (``{count:d}``, ``{count:,}``),
and True and False are aligned as text. A list or a dict is formatted as its JSON text, so that
``{items:.200}`` cuts it.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from gguf_widgets.batch.template_text import MAX_CHARS, NoTextError, plain, text_of
from gguf_widgets.core.errors import InvalidValueError, RowError

__all__ = ["Field", "FormatText", "Place"]

_MAX_WIDTH = 1_000_000
_MAX_SHOWN = 60  # characters of a name in a message
_BRACE = re.compile("[{}]")
_DIGITS = re.compile(r"[0-9]+")
# The presentation type that a number's format ends with, if it has one.
_INTEGER_TYPES = tuple("bcdoxXn")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a template's text; both count from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, source: str, position: int) -> Place:
        """Return the place of a position (from 0) in a text."""
        return cls(source.count("\n", 0, position) + 1, position - source.rfind("\n", 0, position))

    def __str__(self) -> str:
        return f"line {self.line}, position {self.column}"


@dataclass(frozen=True, slots=True)
class Field:
    """A column in braces: its name, its format, whether it is turned into text first (``!s``).

    `position` is where its brace stands in the source, from 0.
    """

    name: str
    spec: str
    as_text: bool
    position: int


class FormatText:
    """One text with columns in it.

    Parameters
    ----------
    source : str

    Attributes
    ----------
    columns : tuple of str
        The names in braces, each once, in order of first use.

    Raises
    ------
    InvalidValueError
        With `line` and `column` in its details, if the text is no such template.
    """

    whole_row = False

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts = _parts_of(source)
        self._first: dict[str, int] = {}
        for part in self._parts:
            if isinstance(part, Field):
                self._first.setdefault(part.name, part.position)
        self.columns = tuple(self._first)

    def place_of(self, column: str) -> Place:
        """Return where a column is used first."""
        return Place.of(self._source, self._first[column])

    def render(self, values: Mapping[str, Any], literal: Mapping[str, str]) -> str:
        """Return the text for one row.

        Parameters
        ----------
        values : mapping
            The values by name, none of them missing.
        literal : mapping
            Text to write as it is, by name: what stands in for missing values.

        Raises
        ------
        RowError
            If a value has no text, if a format does not fit it, or if the prompt gets too long.
        """
        pieces = []
        room = MAX_CHARS
        for part in self._parts:
            if isinstance(part, str):
                piece = part
            elif part.name in literal:
                piece = literal[part.name]
            else:
                piece = _text(part, values[part.name])
            room -= len(piece)
            if room < 0:
                raise _too_long(part, len(piece))
            pieces.append(piece)
        return "".join(pieces)

    def shared_beginning(self) -> tuple[str, bool]:
        """Return the text before the first column, and whether that is all of it."""
        text = ""
        for part in self._parts:
            if isinstance(part, Field):
                return text, False
            text += part
        return text, True


def _too_long(part: str | Field, length: int) -> RowError:
    limit = f"a prompt can have {MAX_CHARS:,} characters"
    if isinstance(part, Field):
        return RowError(
            f'The prompt gets too long with column "{part.name}", which adds {length:,} characters;'
            f" {limit}. To use only the beginning, write {{{part.name}:.2000}}.",
            column=part.name,
            num_characters=length,
        )
    return RowError(f"The prompt gets too long: {limit}.", num_characters=length)


def _parts_of(source: str) -> list[str | Field]:
    """Split a text into what stands as it is and the fields between."""
    parts: list[str | Field] = []
    literal: list[str] = []
    position = 0
    while position < len(source):
        brace = _next_brace(source, position)
        literal.append(source[position:brace])
        if brace == len(source):
            break
        if source.startswith(source[brace] * 2, brace):
            literal.append(source[brace])
            position = brace + 2
            continue
        if source[brace] == "}":
            raise _error(
                source,
                brace,
                "There is a } with no { before it",
                "If it is meant as text, double it: }}.",
            )
        field, position = _field_at(source, brace)
        if text := "".join(literal):
            parts.append(text)
        literal.clear()
        parts.append(field)
    if text := "".join(literal):
        parts.append(text)
    return parts


def _next_brace(source: str, position: int) -> int:
    found = _BRACE.search(source, position)
    return found.start() if found else len(source)


def _field_at(source: str, start: int) -> tuple[Field, int]:
    """Read the field whose ``{`` stands at `start`; return it and where the text goes on."""
    end = _next_brace(source, start + 1)
    inside = source[start + 1 : end]
    name, rest = _split_name(inside)
    if name.lstrip().startswith(('"', "'")) or (not name.strip() and end < len(source)):
        if not name.strip() and inside.strip() == "" and source[end] == "}":
            raise _error(
                source,
                start,
                "The braces {} name no column",
                "Write a column's name between them; if they are meant as text, write {{}}.",
            )
        raise _meant_as_text(source, start)
    if end == len(source):
        raise _error(
            source,
            start,
            "There is a { that is never closed",
            "Close it after the column's name, as in {review}; if it is meant as text, double "
            "it: {{.",
        )
    if source[end] == "{":
        if rest.startswith((":", "!")) and "\n" not in name and not rest[1:2].isspace():
            raise _error(
                source,
                end,
                f'The format of column "{name[:_MAX_SHOWN]}" has braces in it',
                "A format is fixed here and cannot come from another column.",
            )
        raise _meant_as_text(source, start)
    if name.rfind("[") > name.rfind("]"):
        # Python reads on to the next ], past the } that ends the field.
        raise _error(
            source,
            start,
            f'The [ in "{name[:_MAX_SHOWN]}" is not closed before the braces are',
            "A column of such a name can be had in a Jinja template: "
            f"{{{{ row[{name[:_MAX_SHOWN]!r}] }}}}.",
        )
    conversion, spec = _conversion(source, start, name, rest)
    _check_spec(source, start, name, spec)
    return Field(name, spec, conversion == "s", start), end + 1


def _split_name(inside: str) -> tuple[str, str]:
    """Split what stands in braces where str.format does: at ! or :, unless inside [ ]."""
    in_brackets = False
    for position, character in enumerate(inside):
        if character == "[":
            in_brackets = True
        elif character == "]":
            in_brackets = False
        elif character in "!:" and not in_brackets:
            return inside[:position], inside[position:]
    return inside, ""


def _conversion(source: str, start: int, name: str, rest: str) -> tuple[str, str]:
    name = name[:_MAX_SHOWN]
    if not rest.startswith("!"):
        return "", rest[1:]
    conversion, colon, spec = rest[1:].partition(":")
    if conversion == "s":
        return conversion, spec if colon else ""
    if conversion in ("r", "a"):
        raise _error(
            source,
            start,
            f"!{conversion} writes a value as Python code, which is not what a prompt needs",
            f"Write {{{name}}} or {{{name}!s}}.",
        )
    raise _error(
        source,
        start,
        f'After "{name}" stands "!{conversion[:_MAX_SHOWN]}", which means nothing here',
        f"Write {{{name}}}. A column whose name has a ! or a : in it can be had in a Jinja "
        f"template: {{{{ row[{name + rest[:_MAX_SHOWN]!r}] }}}}.",
    )


def _check_spec(source: str, start: int, name: str, spec: str) -> None:
    name = name[:_MAX_SHOWN]
    for digits in _DIGITS.findall(spec):
        if len(digits) > len(str(_MAX_WIDTH)) or int(digits) > _MAX_WIDTH:
            raise _error(
                source,
                start,
                f'The format of column "{name}" asks for {digits[:20]} characters or digits',
                f"The most is {_MAX_WIDTH:,}.",
            )


def _meant_as_text(source: str, start: int) -> InvalidValueError:
    excerpt = source[start : start + 40].split("\n\n")[0]
    shown = " ".join(excerpt.split())
    more = "" if len(source) <= start + 40 else "..."
    return _error(
        source,
        start,
        f"The braces of {shown}{more} hold no column's name",
        "If they are meant as text (JSON, for example), double each of them: {{ and }}. Or write "
        "the template in Jinja, where single braces are text and a column is {{ review }}.",
    )


def _error(source: str, position: int, problem: str, advice: str) -> InvalidValueError:
    place = Place.of(source, position)
    return InvalidValueError(f"{problem} ({place}). {advice}", line=place.line, column=place.column)


def _text(field: Field, value: Any) -> str:
    try:
        if field.as_text:
            return format(text_of(value), field.spec)
        return _formatted(value, field.spec) if field.spec else text_of(value)
    except NoTextError as error:
        raise RowError(f'Column "{field.name}" {error}.', column=field.name) from error
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise _misfit(field, value, error) from error


def _formatted(value: Any, spec: str) -> str:
    value = plain(value)
    if isinstance(value, bool):
        # Python would align it as a number, and write 1 for True.
        return format(value, spec) if spec.endswith(_INTEGER_TYPES) else format(str(value), spec)
    if isinstance(value, float) and value.is_integer() and _for_whole_numbers(value, spec):
        value = int(value)
    if isinstance(value, int | float | str | Decimal):
        return format(value, spec)
    if isinstance(value, dt.date | dt.time):
        return _strftime(value, spec)
    return format(text_of(value), spec)


def _for_whole_numbers(value: float, spec: str) -> bool:
    if spec.endswith(_INTEGER_TYPES):
        return True
    # No type at the end: as `text_of` writes it, unless a precision asks for a float's digits.
    return not spec[-1].isalpha() and spec[-1] != "%" and "." not in spec and abs(value) < 1e16


def _strftime(value: dt.date | dt.time, spec: str) -> str:
    if "%" not in spec:
        # strftime would write the format itself: "{when:>20}" would put ">20" into every prompt.
        return format(text_of(value), spec)
    return format(value, spec)


def _misfit(field: Field, value: Any, error: Exception) -> RowError:
    try:
        shown = text_of(value)
    except NoTextError:
        shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:40] + "..."
    kind = _KINDS.get(type(plain(value)), f"a value of type {type(value).__name__}")
    advice = "Choose a format that fits, or leave it out."
    if isinstance(value, str):
        what, function = ("dates", "to_datetime") if "%" in field.spec[:-1] else _NUMBERS
        advice = f"Turn the column into {what} first (pandas.{function}), or leave the format out."
    return RowError(
        f'The format "{field.spec}" does not fit column "{field.name}", which holds {kind} here: '
        f"{shown} ({error}). {advice}",
        column=field.name,
        value=shown,
        spec=field.spec,
    )


_NUMBERS = ("numbers", "to_numeric")
_KINDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    bool: "True or False",
    list: "a list",
    dict: "a dict",
    dt.date: "a date",
    dt.time: "a time of day",
    dt.timedelta: "a length of time",
}
