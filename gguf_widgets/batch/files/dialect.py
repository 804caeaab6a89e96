"""How the cells of a text are parted: the delimiter, the quote, and whether the first row is names.

Promises: what is found reads the beginning of the text in the most even way, with the same number
of cells in as many rows as there are; nothing is found that the csv module would read loosely (it
runs strictly, so that a quote is never dropped in silence). Leaves to others: the rest of the text.

csv.Sniffer is not used: it takes letters for delimiters, and minutes for long cells.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from gguf_widgets.batch.files.kinds import cell_bits
from gguf_widgets.batch.files.limits import MAX_ITEM_CHARS
from gguf_widgets.core.errors import InvalidValueError

__all__ = ["Dialect", "find_dialect", "has_header", "named_by_first_line"]

# The rarer in a text comes first: where two part a table evenly, the other is inside its cells.
_CANDIDATES: Final = ("\t", ";", "|", ",")

_MAX_RECORDS: Final = 300

# Less even than this, below a first row of one cell, commas are those of sentences.
_UNEVEN: Final = 0.3

# Stands for "no delimiter at all", which the csv module does not know: a code point for no letter.
_NONE: Final = "\ufdd0"


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    r"""How cells are parted.

    Attributes
    ----------
    delimiter : str
        One character; "" if each line is one cell.
    quote : str or None
        What stands around a cell that holds delimiters or ends of lines; None if quotes are text.
    escape : str or None
        "\\" if quotes inside such a cell are marked by it instead of doubled.
    skip_space : bool
        Whether a space behind each delimiter belongs to no cell.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    skip_space: bool = False

    def reader(self, lines: Iterable[str]) -> Any:
        """Return the csv module's reader (strict) over some lines."""
        # One setting for the whole process, which other code may rely on: raised, never lowered.
        if csv.field_size_limit() < MAX_ITEM_CHARS:
            csv.field_size_limit(MAX_ITEM_CHARS)
        quoted = self.quote is not None
        return csv.reader(
            lines,
            delimiter=self.delimiter or _NONE,
            quotechar=self.quote,
            doublequote=self.escape is None,
            escapechar=self.escape,
            skipinitialspace=self.skip_space,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=True,
        )

    def check(self) -> None:
        """Refuse what the csv module cannot take, in words."""
        for name, value, usual in (("delimiter", self.delimiter, ","), ("quote", self.quote, '"')):
            if value and (len(value) != 1 or value in "\r\n\0"):
                raise InvalidValueError(
                    f"The {name} is one character, such as {usual!r}; not {value!r:.40}.", name=name
                )
        if self.delimiter and self.delimiter == self.quote:
            raise InvalidValueError(
                f"The delimiter and the quote cannot both be {self.delimiter!r}.", name="quote"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class _Reading:
    dialect: Dialect
    evenness: float  # the share of rows with the usual number of cells; 0 if that is 1
    records: list[list[str]]


def find_dialect(
    lines: Sequence[str],
    *,
    whole: bool = False,
    delimiter: str | None = None,
    quote: str | bool | None = True,
) -> tuple[Dialect, float]:
    """Find how the cells of some lines are parted.

    Parameters
    ----------
    lines : sequence of str
        The first lines of a text, with their ends.
    whole : bool, default False
        Whether these are all of its lines, so that nothing may be open at the end.
    delimiter : str or None
        The delimiter, if it is known; then only the rest is found.
    quote : str, None or True
        The quote, or None for none, if that is known.

    Returns
    -------
    Dialect
    float
        From 0 to 1: the share of rows with the usual number of cells, if that is more than one; 0
        means that the lines have one cell each, as far as can be told.
    """
    delimiters = _CANDIDATES if delimiter is None else (delimiter,)
    readings: list[_Reading] = []
    for quote_char, escape in _quotes(quote, lines):
        tried = [_read(lines, Dialect(one, quote_char, escape), whole) for one in delimiters]
        found = [reading for reading in tried if reading is not None]
        if len(found) < len(tried):
            # Where one delimiter meets a broken quote, that another finds nothing means nothing.
            found = [reading for reading in found if reading.evenness]
        if found:
            readings.append(max(found, key=lambda one: round(one.evenness, 2)))
    if not readings:  # no way of quoting fits: the fault will be told with its line
        quote_char = '"' if quote is True else quote or None
        return Dialect(delimiter or _most_common(lines), quote_char), 0.0
    # The earlier way of quoting wins where another is no better.
    best = readings[0]
    for reading in readings[1:]:
        if reading.evenness > best.evenness + 0.1:
            best = reading
    dialect = best.dialect
    if best.evenness < _UNEVEN and delimiter is None:
        return dataclasses.replace(dialect, delimiter=""), 0.0
    return _spaced(dialect, lines, whole), best.evenness


def _quotes(
    given: str | bool | None, lines: Sequence[str]
) -> Iterator[tuple[str | None, str | None]]:
    if given is not True:
        char = given or None
        yield (str(char) if char else None), None
        return
    text = "".join(lines)
    yield '"', None
    if '\\"' in text:
        yield '"', "\\"
    singles = re.findall(r"(?:^|[\t;|,])'[^'\r\n]*'(?=[\t;|,\r\n])", text, re.MULTILINE)
    if '"' not in text and len(singles) > 2:
        yield "'", None
    # Quotes as plain text: only where most of those that open a cell do not close it, either.
    opened = len(re.findall(r'(?:^|[\t;|,])"', text, re.MULTILINE))
    closed = len(re.findall(r'[^\t;|,\r\n]"(?=[\t;|,\r\n]|\Z)', text))
    if closed * 2 < opened:
        yield None, None


def _read(lines: Sequence[str], dialect: Dialect, whole: bool) -> _Reading | None:
    records: list[list[str]] = []
    try:
        for record in itertools.islice(dialect.reader(lines), _MAX_RECORDS):
            if record:
                records.append(record)  # noqa: PERF401 - kept when a later one fails
    except csv.Error as error:
        # A cell that goes on behind what we have of the text is no fault; any other is.
        if whole or "unexpected end" not in str(error) or len(records) < 2:
            return None
    if not records:
        return _Reading(dialect, 0.0, records)
    widths = Counter(map(len, records))
    first = len(records[0])
    # Titles above a table may be narrower, so the usual number counts, not the first row's; but
    # where they agree that says more.
    usual = max(widths, key=lambda width: (widths[width], width))
    if usual == 1 and first == 1:
        return _Reading(dialect, 0.0, records)
    usual = usual if usual > 1 else first
    evenness = widths[usual] / len(records)
    if first == 1:
        return _Reading(dialect, evenness / 2, records)
    return _Reading(dialect, max(_UNEVEN, evenness if first == usual else evenness / 2), records)


def _most_common(lines: Sequence[str]) -> str:
    first = lines[0] if lines else ""
    return max(reversed(_CANDIDATES), key=first.count) if first else ","


def _spaced(dialect: Dialect, lines: Sequence[str], whole: bool) -> Dialect:
    """See whether a space follows every delimiter, as in ``a, b, "c, d"``."""
    mark = dialect.delimiter
    if not mark or mark == " ":
        return dialect
    text = "".join(lines)
    parted = text.count(mark)
    everywhere = parted > 1 and text.count(f"{mark} ") == parted
    # Or, where cells hold the delimiter too, before most of the quotes that open a cell.
    quote = dialect.quote or ""
    # A doubled one is inside a cell: "He said, ""yes""".
    begun = re.escape(f"{mark} {quote}") + f"(?!{re.escape(quote)})"
    before_quotes = quote and len(re.findall(begun, text)) > text.count(f"{mark}{quote}")
    if everywhere or before_quotes:
        spaced = dataclasses.replace(dialect, skip_space=True)
        if _read(lines, spaced, whole) is not None:
            return spaced
    return dialect


def has_header(records: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row holds names, as far as its cells and those below it tell.

    Where nothing tells, it does: files with names are the rule.
    """
    if not records:
        return False
    first = records[0]
    below = records[1:101]
    filled = [cell.strip() for cell in first if cell.strip()]
    if not filled or any(len(cell) > 120 or "\n" in cell.strip() for cell in filled):
        return False
    clues = 0
    for column, cell in enumerate(first):
        others = [row[column] for row in below if column < len(row) and row[column].strip()]
        name = cell.strip()
        if not name or not others:
            continue
        typed = sum(cell_bits(other) != 0 for other in others) > len(others) * 0.8
        if re.fullmatch(r"(?:19|20)[0-9]{2}", name) and not all(
            re.fullmatch(r"(?:19|20)[0-9]{2}", other) for other in others
        ):
            clues += 1  # a year above other numbers
        elif cell_bits(name):
            clues -= 1 if typed else 0
        elif typed:
            clues += 2  # a word above numbers
        elif cell in others:
            clues -= 2  # a name is not one of its values
    if all(cell_bits(cell) for cell in filled):
        return clues > 0
    return clues >= 0


def named_by_first_line(line: str) -> str:
    """Return the delimiter that Excel's own first line ``sep=;`` names; "" if it is none."""
    match = re.fullmatch(r"\ufeff?sep=(.)\r?\n?", line, re.IGNORECASE)
    return match[1] if match else ""
