"""From a source to the reader that fits it.

Promises: the content is believed before the name; what a caller says is believed before both; what
was guessed is in the reader's notes, so that a person can see and change it; something that is no
table is refused with what it is. Leaves to others: each step (`formats`, `encoding`, `dialect`),
reading.
"""

from __future__ import annotations

import codecs
import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from gguf_widgets.batch.files.dialect import Dialect, find_dialect, named_by_first_line
from gguf_widgets.batch.files.formats import (
    Format,
    format_of_name,
    format_of_text,
    is_binary_format,
    magic_format,
)
from gguf_widgets.batch.files.read_delimited import DelimitedReader
from gguf_widgets.batch.files.read_excel import ExcelReader
from gguf_widgets.batch.files.read_json import JsonReader
from gguf_widgets.batch.files.read_lines import LinesReader
from gguf_widgets.batch.files.read_openai import OpenAiReader
from gguf_widgets.batch.files.read_parquet import ParquetReader
from gguf_widgets.batch.files.source import Source
from gguf_widgets.batch.files.table import Options, Reader
from gguf_widgets.core.errors import InvalidValueError, TableFileError
from gguf_widgets.core.text_encoding import detect, known_encoding

__all__ = ["open_reader", "text_encoding"]

_HEAD_BYTES: Final = 256 << 10
_MAX_SAMPLE_LINES: Final = 1000

# So many blocks of the source (of 1 MiB) show the encoding when only a preview is wanted.
_PREVIEW_BLOCKS: Final = 32


def open_reader(source: Source, options: Options, *, preview: bool = False) -> Reader:
    """Return the reader for a source.

    Parameters
    ----------
    source : Source
    options : Options
    preview : bool, default False
        Whether a guess at the encoding from the first 32 MiB is enough.

    Raises
    ------
    TableFileError
        It is empty, no table, or of a kind that is not read.
    InvalidValueError
        An option cannot be.
    MissingDependencyError
        The package that this format needs is not installed.
    """
    head = source.head(_HEAD_BYTES)
    if not head:
        raise TableFileError(f"{source.shown} is empty.", problem="empty")
    reader = _reader(source, options, head, preview=preview)
    _check_options(source, options, reader)
    return reader


def _reader(source: Source, options: Options, head: bytes, *, preview: bool) -> Reader:
    binary = None if source.pasted else magic_format(head, source.shown)
    wanted = options.format
    if binary is not None or (wanted is not None and is_binary_format(wanted)):
        return _binary_reader(source, options, binary)
    notes: list[str] = []
    encoding = text_encoding(source, options, head, notes, preview=preview)
    text = _decoded(source, head, encoding, options)
    named = None if source.pasted else format_of_name(source.name)
    table_format = wanted or (Format.CSV if options.delimiter else None)
    table_format = table_format or format_of_text(text, named)
    if table_format is Format.OPENAI:
        return OpenAiReader(source, encoding, notes)
    if table_format in (Format.JSON, Format.JSONL):
        is_object = text.lstrip()[:1] == "{"
        return JsonReader(source, encoding, table_format, is_object, notes)
    if table_format is None and named in (Format.JSON, Format.JSONL, Format.EXCEL, Format.PARQUET):
        raise TableFileError(
            f"{source.shown} is called a {named} file by its name, and what is in it is something"
            ' else. If it is right as text, give format="txt" or format="csv".',
            problem="format",
        )
    sample = _sample(text, whole=len(head) < _HEAD_BYTES)
    return _text_reader(source, options, encoding, sample, table_format, named, notes)


# What each option is for, and the readers that heed it. What becomes of ragged rows and of names
# that come twice may be said of any table.
_HEEDED: Final[tuple[tuple[str, str, tuple[type, ...]], ...]] = (
    ("encoding", "texts", (DelimitedReader, LinesReader, JsonReader, OpenAiReader)),
    ("delimiter", "CSV and TSV", (DelimitedReader,)),
    ("quote", "CSV and TSV", (DelimitedReader,)),
    ("types", "CSV and TSV", (DelimitedReader,)),
    ("header", "CSV, TSV and Excel", (DelimitedReader, ExcelReader)),
    ("sheet", "Excel", (ExcelReader,)),
)


def _check_options(source: Source, options: Options, reader: Reader) -> None:
    """Refuse an option that would be ignored."""
    usual = Options()
    for name, formats, readers in _HEEDED:
        if getattr(options, name) != getattr(usual, name) and not isinstance(reader, readers):
            raise InvalidValueError(
                f"{name} is for {formats}, and {source.name_in_text} is not read as that. Leave it"
                " out, or say format=.",
                name=name,
            )


def text_encoding(
    source: Source, options: Options, head: bytes, notes: list[str], *, preview: bool
) -> str:
    """Return the encoding of a text: the caller's, or the one that it is found to have."""
    if source.pasted:
        if options.encoding is not None:
            raise InvalidValueError(
                "Pasted text has no encoding any more; leave encoding out.", name="encoding"
            )
        return "utf-8"
    if options.encoding is not None:
        encoding = known_encoding(options.encoding)
        marked = head.startswith(codecs.BOM_UTF8)
        return "utf-8-sig" if marked and encoding == "utf-8" else encoding
    blocks: Iterable[bytes] = source.blocks()
    if preview:
        blocks = itertools.islice(blocks, _PREVIEW_BLOCKS)
    guess = detect(head, blocks)
    if guess.note:
        notes.append(guess.note)
    return guess.encoding


def _binary_reader(source: Source, options: Options, found: Format | None) -> Reader:
    wanted = options.format or found
    if found is None or found is not wanted:
        raise TableFileError(
            f"{source.shown} is not {'an' if wanted is Format.EXCEL else 'a'} {wanted} file"
            f"{f': its content is {found}' if found else ''}.",
            problem="format",
        )
    if source.packed:
        raise TableFileError(
            f"{source.shown} is {found} packed with gzip. Unpack it first: this format has to be"
            " read from several places, and is packed already.",
            problem="packed",
        )
    return ExcelReader(source, options) if found is Format.EXCEL else ParquetReader(source, options)


def _decoded(source: Source, head: bytes, encoding: str, options: Options) -> str:
    """Return the beginning as text; a fault in it is told when its line is read."""
    try:
        text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head)
    except UnicodeError as error:  # no byte order mark where the encoding has to have one
        raise source.not_text(encoding, error) from error
    strange = sum(text.count(chr(code)) for code in range(32) if code not in (7, 9, 10, 12, 13, 27))
    said = options.format or options.encoding or options.delimiter
    if strange > 2 + len(text) * 0.005 and not said:
        raise TableFileError(
            f"{source.shown} is no text and no table that is known: it is full of control"
            " characters. If it is text all the same, say its encoding or its format.",
            problem="format",
        )
    return text


class _Sample(NamedTuple):
    """The first lines of a text, and whether they are all."""

    lines: Sequence[str]
    whole: bool


def _sample(text: str, *, whole: bool) -> _Sample:
    lines = list(itertools.islice(io.StringIO(text, newline=""), _MAX_SAMPLE_LINES + 1))
    if whole and len(lines) <= _MAX_SAMPLE_LINES:
        return _Sample(lines, True)
    # The last one may be cut off.
    return _Sample(lines[:-1] or lines, False)


def _text_reader(
    source: Source,
    options: Options,
    encoding: str,
    sample: _Sample,
    table_format: Format | None,
    named: Format | None,
    notes: list[str],
) -> Reader:
    delimiter, lines = options.delimiter, sample.lines
    if lines and (named_first := named_by_first_line(lines[0])):
        delimiter = delimiter or named_first
        lines = lines[1:]
        table_format = table_format or Format.CSV
    if delimiter is None and table_format is Format.TSV:
        delimiter = "\t"
    Dialect(delimiter or ",", '"' if options.quote is True else options.quote or None).check()
    if table_format is Format.TXT:
        return LinesReader(source, encoding, notes)
    dialect, evenness = find_dialect(
        lines, whole=sample.whole, delimiter=delimiter, quote=options.quote
    )
    if table_format is None and not _is_parted(dialect, evenness, lines, named, source.pasted):
        if evenness > 0.9 and dialect.delimiter and named is Format.TXT:
            notes.append(
                f"Each line is one row. They look like cells parted by {dialect.delimiter!r}; give"
                ' format="csv" to read them as such.'
            )
        return LinesReader(source, encoding, notes)
    notes += _told(dialect, options, lines)
    if delimiter is None and not dialect.delimiter and named is Format.TSV:
        dialect = dataclasses.replace(dialect, delimiter="\t")
    return DelimitedReader(source, options, encoding, dialect, notes)


def _told(dialect: Dialect, options: Options, lines: Sequence[str]) -> Iterator[str]:
    """Say what was chosen that is not the rule."""
    if options.quote is True and dialect.quote is None:
        yield (
            "Quotes are taken as plain text, since most of those that open a cell do not close it;"
            " give quote='\"' if they stand around cells."
        )
    elif options.quote is True and dialect.quote != '"':
        yield f"Cells are quoted with {dialect.quote}."
    if dialect.skip_space:
        yield f"The space behind each {dialect.delimiter!r} was taken for no part of a cell."
    if dialect.escape:
        yield "Quotes inside cells are marked with a backslash."
    if not dialect.delimiter and any("," in line or ";" in line for line in lines):
        yield "The first row has one cell, so each line is taken as one; delimiter= says otherwise."


def _is_parted(
    dialect: Dialect, evenness: float, lines: Sequence[str], named: Format | None, pasted: bool
) -> bool:
    """Say whether a text is a table of cells, and not lines of prose."""
    if named in (Format.CSV, Format.TSV):
        return True
    if not dialect.delimiter or not evenness:
        return False
    if dialect.delimiter == "\t":
        return evenness > (0.5 if pasted else 0.8)
    if named is Format.TXT:
        return False
    # In prose a space follows a comma, and sentences do not have equally many.
    text = "".join(lines)
    parted = text.count(dialect.delimiter)
    spaced = text.count(f"{dialect.delimiter} ")
    return len(lines) > 1 and evenness > 0.95 and spaced * 2 < parted
