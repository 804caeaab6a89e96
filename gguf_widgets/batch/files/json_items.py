"""The items of a JSON file, one at a time, however long the file is.

Promises: memory for one item and a block of text; an item is at most `limits.MAX_ITEM_CHARS` long;
what is no JSON, or is nested too deeply, is told with the place of the item. Leaves to others: what
the items mean (`read_json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from gguf_widgets.batch.files.limits import MAX_ITEM_CHARS, MAX_PARSED_BYTES
from gguf_widgets.batch.files.source import Source
from gguf_widgets.core.errors import TableFileError
from gguf_widgets.core.format import format_bytes

__all__ = ["Item", "array_items", "decode_line", "line_items", "make_decoder", "whole"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")

Item = tuple[int, Any]


def make_decoder(strict: bool) -> json.JSONDecoder:
    """Return what decodes an item: NaN is None; a name that comes twice is refused if `strict`.

    Python's own decoder, and not a quicker one: numbers keep all their digits, and the NaN and
    Infinity that Python programs write are understood.
    """
    return json.JSONDecoder(
        parse_constant={"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}.get,
        object_pairs_hook=_unique if strict else None,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {double!r:.60} comes twice in one object")
    return result


def decode_line(decoder: json.JSONDecoder, text: str, number: int, source: Source) -> Any:
    """Decode one line.

    Raises
    ------
    TableFileError
        It is no JSON.
    """
    return _decoded(decoder.decode, text, f"line {number:,}", source)


def line_items(source: Source, encoding: str, decoder: json.JSONDecoder) -> Generator[Item]:
    """Read one item from each line that is not empty, with the line's number."""
    lines = source.lines(encoding)
    try:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text:
                yield number, decode_line(decoder, text, number, source)
    finally:
        lines.close()


def array_items(source: Source, encoding: str, decoder: json.JSONDecoder) -> Generator[Item]:
    """Read the items of a list that is the whole file, with their numbers (from 1)."""
    blocks = source.text_blocks(encoding)
    try:
        yield from _Text(source, blocks).items(decoder)
    finally:
        blocks.close()


def whole(source: Source, encoding: str, decoder: json.JSONDecoder) -> Any:
    """Read a file as one value.

    Raises
    ------
    TableFileError
        It is longer than is read at once, or it is no JSON.
    """
    parts, length = [], 0
    for block in source.text_blocks(encoding):
        parts.append(block)
        length += len(block)
        if length > MAX_PARSED_BYTES:
            raise TableFileError(
                f"{source.shown} is one JSON object of more than {format_bytes(MAX_PARSED_BYTES)},"
                " and can only be read as a whole. Write it as JSONL (one row a line), which has no"
                " limit.",
                problem="too_long",
                limit=MAX_PARSED_BYTES,
            )
    return _decoded(decoder.decode, "".join(parts), "it", source)


def _decoded(decode: Callable[[str], Any], text: str, place: str, source: Source) -> Any:
    try:
        return decode(text)
    except RecursionError as error:
        raise _too_deep(place, source) from error
    except ValueError as error:
        raise _no_json(place, source, error) from error


def _too_deep(place: str, source: Source) -> TableFileError:
    return TableFileError(
        f"{source.shown} cannot be read: {place} holds lists or objects inside each other, deeper"
        " than any table has them.",
        problem="json",
    )


def _no_json(place: str, source: Source, error: ValueError) -> TableFileError:
    return TableFileError(
        f"{source.shown} cannot be read: {place} is not valid JSON ({error}).", problem="json"
    )


class _Text:
    """A text that comes in blocks, and where we are in it."""

    def __init__(self, source: Source, blocks: Iterator[str]) -> None:
        self._source = source
        self._blocks = blocks
        self._buffer = ""
        self._at = 0

    def items(self, decoder: json.JSONDecoder) -> Generator[Item]:
        if self._next() != "[":
            raise TableFileError(
                f"{self._source.shown} is not a list of rows in JSON.", problem="json"
            )
        self._at += 1
        number = 0
        if self._next() == "]":
            self._end(number)
            return
        while True:
            number += 1
            yield number, self._item(decoder, number)
            mark = self._next()
            if mark == "]":
                self._end(number)
                return
            if mark != ",":
                what = f"{mark!r} stands there" if mark else "the file ends there"
                raise TableFileError(
                    f"{self._source.shown} cannot be read: after item {number:,} there should be a"
                    f" comma or the end of the list, and {what}.",
                    problem="json",
                )
            self._at += 1
            self._next()

    def _item(self, decoder: json.JSONDecoder, number: int) -> Any:
        place = f"item {number:,}"
        while True:
            try:
                value, end = decoder.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise _too_deep(place, self._source) from error
            except json.JSONDecodeError as error:
                cut_off = error.pos >= len(self._buffer) - 12 or "Unterminated" in error.msg
                if not cut_off or not self._more(number):
                    raise _no_json(place, self._source, error) from error
            except ValueError as error:
                raise _no_json(place, self._source, error) from error
            else:
                # A number that ends with the block may go on in the next: "1", "1.", "1e-".
                rest = self._buffer[end : end + 3]
                if rest.strip(".eE+-") or len(rest) == 3 or not self._more(number):
                    self._at = end
                    return value

    def _next(self) -> str:
        """Step over space; return the character there, "" at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more(0):
                return ""

    def _more(self, number: int) -> bool:
        """Read on: as much as there is already, so that a long item is not begun too often."""
        rest = self._buffer[self._at :]
        if len(rest) > MAX_ITEM_CHARS:
            raise TableFileError(
                f"{self._source.shown} cannot be read: item {number:,} is longer than"
                f" {MAX_ITEM_CHARS:,} characters.",
                problem="too_long",
            )
        parts, wanted = [rest], max(1, len(rest))
        for block in self._blocks:
            parts.append(block)
            wanted -= len(block)
            if wanted <= 0:
                break
        self._buffer, self._at = "".join(parts), 0
        return len(parts) > 1

    def _end(self, number: int) -> None:
        self._at += 1
        if rest := self._next():
            raise TableFileError(
                f"{self._source.shown} cannot be read: the list ends after item {number:,}, and"
                f" {rest!r} stands behind it.",
                problem="json",
            )
