"""What a file is found to be, and what a person is told about it."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.files import Format, Pasted, look, read
from gguf_widgets.core.errors import InvalidValueError, TableFileError

_REQUEST = (
    b'{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",'
    b' "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}\n'
)
_GERMAN = "id;text\n1;Grüße, schön\n2;Maß für Maß\n"
_RUSSIAN = "id;text\n" + "1;Доставка была быстрой, но размер слишком маленький\n" * 4
_JAPANESE = "id,text\n" + "1,配送は早かったですが、サイズが小さすぎました\n" * 4


@pytest.mark.parametrize(
    ("text", "written_as", "found", "guessed"),
    [
        ("a,b\n1,é漢😀\n", "utf-8", "utf-8", False),
        ("a,b\n1,é\n", "utf-8-sig", "utf-8-sig", False),
        ("a,b\n1,é漢😀\n", "utf-16", "utf-16", False),
        ("a,b\n1,é漢😀\n", "utf-32", "utf-32", False),
        ("a,b\n1,plain letters\n", "utf-16-le", "utf-16-le", True),
        ("a,b\n1,plain letters\n", "utf-16-be", "utf-16-be", True),
        (_GERMAN, "cp1252", "cp1252", True),
        ("a,b\n1,déçu par la qualité à l'arrivée\n", "cp1252", "cp1252", True),
        (_RUSSIAN, "cp1251", "cp1251", True),
        (_JAPANESE, "cp932", "cp932", True),
        (_JAPANESE, "euc_jp", "euc_jp", True),
    ],
)
def test_an_encoding_is_found_and_a_guess_is_said(
    text: str, written_as: str, found: str, guessed: bool
) -> None:
    info = look(text.encode(written_as), name="t.csv")
    assert info.encoding == found
    assert any("encoding" in note for note in info.notes) == guessed
    header, *rows = (line.split(info.delimiter) for line in text.strip().split("\n"))
    assert info.columns == tuple(header)
    assert [[str(cell) for cell in row] for row in info.rows] == rows


def test_a_letter_far_into_the_file_decides_the_encoding() -> None:
    data = b"a,b\n" + b"1,plain\n" * 300_000 + "2,schön\n".encode("cp1252")
    assert read(data, name="t.csv").table.encoding == "cp1252"


@pytest.mark.parametrize(
    ("text", "delimiter", "columns", "row"),
    [
        ("a,b\n1,x\n", ",", ("a", "b"), (1, "x")),
        ("a;b\n1,5;x, y\n2,5;z, w\n", ";", ("a", "b"), ("1,5", "x, y")),
        ("a\tb\n1\tx, y; z\n", "\t", ("a", "b"), (1, "x, y; z")),
        ("a|b|c\n1|x|y\n", "|", ("a", "b", "c"), (1, "x", "y")),
        ('a,b\n"x\ny","say ""hi"""\n', ",", ("a", "b"), ("x\ny", 'say "hi"')),
        ('a,b\n"x","say \\"hi\\""\n', ",", ("a", "b"), ("x", 'say "hi"')),
        ('a, b, c\n1, "x, y", 3\n', ",", ("a", "b", "c"), (1, "x, y", 3)),
        ('a, b, c\n1, "x,y", 3\n2, "z,w", 4\n', ",", ("a", "b", "c"), (1, "x,y", 3)),
        ('a,b\n" x","yes, ""a"", ""b"""\n', ",", ("a", "b"), (" x", 'yes, "a", "b"')),
        ("a,b\n'x, y','z'\n'p, q','r'\n", ",", ("a", "b"), ("x, y", "z")),
        ('a\tb\n1\t"Great" film\n2\t"Bad" one\n', "\t", ("a", "b"), (1, '"Great" film')),
        ("sep=;\na;b\n1;x,y\n", ";", ("a", "b"), (1, "x,y")),
        ("a,b\r1,x\r2,y\r", ",", ("a", "b"), (1, "x")),
        ("review\nGood, but slow\nBad, late, torn\n", "", ("review",), ("Good, but slow",)),
    ],
)
def test_how_cells_are_parted_is_found(
    text: str, delimiter: str, columns: tuple[str, ...], row: tuple[object, ...]
) -> None:
    info = look(text.encode(), name="t.csv")
    assert (info.delimiter, info.columns, info.rows[0]) == (delimiter, columns, row)
    assert not info.problems


_WORDS = "the film, great; really | I liked it. 5,50 \"quoted\" don't 'tis and/or 10:30 - (ok) é"
_words = st.lists(
    st.sampled_from(_WORDS.split(" ")),
    min_size=1,
    max_size=8,
).map(" ".join)
_CELLS = (
    _words,
    st.integers(0, 9999).map(str),
    st.floats(0, 100).map(lambda number: f"{number:.2f}".replace(".", ",")),
    st.sampled_from(["positive", "negative", ""]),
    st.tuples(_words, _words).map("\n".join),
)


@settings(max_examples=150)
@given(data=st.data())
def test_a_table_is_parted_as_it_was_written(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(_CELLS), min_size=2, max_size=5))
    rows = data.draw(st.lists(st.tuples(*kinds), min_size=2, max_size=12))
    delimiter = data.draw(st.sampled_from(",;\t|"))
    text = io.StringIO()
    quoting = data.draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting)
    writer.writerows([[f"name {number}" for number in range(len(kinds))], *rows])
    info = look(text.getvalue().encode(), name="t.csv", types="text")
    assert (info.delimiter, info.quote, info.header) == (delimiter, '"', True)
    assert info.rows == tuple(tuple(cell or None for cell in row) for row in rows)
    assert not info.problems


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("name,age\nAnn,31\nBo,25\n", True),
        ("Ann,31\nBo,25\n", False),
        ("country,2019,2020\nFrance,1,2\nPeru,3,4\n", True),
        ("1,2\n3,4\n", False),
        ("positive,good film\nnegative,bad film\npositive,ok\n", False),
        ("label,text\npositive,good\nnegative,bad\n", True),
        (",a\n0,x\n1,y\n", True),  # as pandas writes an index
    ],
)
def test_names_are_told_from_data(text: str, header: bool) -> None:
    info = look(text.encode(), name="t.csv")
    assert info.header == header
    assert any("taken for data" in note for note in info.notes) == (not header)
    assert look(text.encode(), name="t.csv", header=not header).header != header


@pytest.mark.parametrize(
    ("data", "name", "found"),
    [
        (b'[{"a": 1}]', "wrong.csv", Format.JSON),
        (b'{"a": 1}\n{"a": 2}\n', "wrong.json", Format.JSONL),
        (b'{"a": 1}\n', "t.jsonl", Format.JSONL),
        (b'{\n "a": [1,\n 2]}', "t.json", Format.JSON),
        (b"a\tb\n1\t2\n", "wrong.csv", Format.TSV),
        (b"a\tb\n1\t2\n3\t4\n", "t.txt", Format.TSV),
        (b"Dear Ann, how are you?\nFine, thanks, Bo.\n", "t.txt", Format.TXT),
        (b"Dear Ann, how are you?\nFine, thanks, Bo.\n", "", Format.TXT),
        (b"a,b,c\n1,2,3\n4,5,6\n", "", Format.CSV),
        (b"[1] is what they said\n[2] and this\n", "t.txt", Format.TXT),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "t.csv.gz", Format.CSV),
        (
            _REQUEST,
            "t.jsonl",
            Format.OPENAI,
        ),
    ],
)
def test_content_is_believed_before_the_name(data: bytes, name: str, found: Format) -> None:
    assert look(data, name=name).format is found


def test_pasted_cells_and_pasted_lines() -> None:
    cells = look(Pasted('name\tquote\nAnn\t"two\nlines"\nBo\tone\n'))
    assert (cells.format, cells.columns) == (Format.TSV, ("name", "quote"))
    assert cells.rows == (("Ann", "two\nlines"), ("Bo", "one"))
    lines = look(Pasted("First, a line.\r\n\r\nThen another; yes.\r\n"))
    assert (lines.format, lines.columns) == (Format.TXT, ("text",))
    assert lines.rows == (("First, a line.",), ("Then another; yes.",))
    assert lines.notes == ("1 line is empty and was left out.",)
    assert look(Pasted("x\ty")).rows == (("x", "y"),)
    assert look(Pasted("PK\x03\x04 is how a ZIP begins")).format is Format.TXT
    with pytest.raises(TableFileError, match="The pasted text is empty"):
        look(Pasted(""))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "holds no rows"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "old Excel file"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x00\x01\x02\x03" * 100, "no text"),
        (b"\x1f\x8b\x08\x00 damaged", "packed"),
        (gzip.compress(b"a,b\n" * 9000, mtime=0)[:-20], "packed"),
        (b"PK\x03\x04 is not a ZIP at all", "damaged Excel file"),
    ],
)
def test_what_is_no_table_is_refused_by_name(data: bytes, says: str) -> None:
    for ask in (look, read):
        with pytest.raises(TableFileError, match=says):
            ask(data, name="t.csv")


def test_places_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(TableFileError, match="There is no file"):
        look(tmp_path / "none.csv")
    with pytest.raises(TableFileError, match="folder"):
        look(tmp_path)
    with pytest.raises(InvalidValueError, match="Pasted"):
        look("a,b\n1,2\n")
    with pytest.raises(TableFileError, match="parquet file by its name"):
        look(b"just words\n", name="t.parquet")
    with pytest.raises(TableFileError, match="not an excel file"):
        look(b"a,b\n", name="t.csv", format="excel")


def test_arguments_are_checked_in_words() -> None:
    data = b"a,b\n1,2\n"
    with pytest.raises(InvalidValueError, match="no text encoding called 'nope'"):
        look(data, name="t.csv", encoding="nope")
    with pytest.raises(InvalidValueError, match="no table format called 'doc'"):
        look(data, format="doc")
    with pytest.raises(InvalidValueError, match="one character"):
        look(data, delimiter="||")
    with pytest.raises(InvalidValueError, match="There is no column 'c'"):
        look(data, name="t.csv", column="c")
    with pytest.raises(InvalidValueError, match="ragged is one of"):
        look(data, ragged="drop")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "name", "option"),
    [
        (b'[{"a": 1}]', "t.json", {"delimiter": ";", "format": "json"}),
        (b'[{"a": 1}]', "t.json", {"header": True}),
        (b'[{"a": 1}]', "t.json", {"types": "text"}),
        (b"a,b\n1,2\n", "t.csv", {"sheet": "x"}),
        (b"one\ntwo\n", "t.txt", {"quote": None}),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    data: bytes, name: str, option: dict[str, Any]
) -> None:
    with pytest.raises(InvalidValueError, match=f"{next(iter(option))} is for .* Leave it out"):
        look(data, name=name, **option)
    assert look(data, name=name, ragged="fill", duplicates="number").rows


def test_an_encoding_that_cannot_be_is_told() -> None:
    with pytest.raises(TableFileError, match="is not utf-16"):
        look(b"a,b\n1,2\n", name="t.csv", encoding="utf-16")
    with pytest.raises(InvalidValueError, match="Pasted text has no encoding"):
        look(Pasted("a"), encoding="utf-8")


def test_a_row_of_ten_million_names_is_refused_at_once() -> None:
    with pytest.raises(TableFileError, match="more than 16,384 columns"):
        look(b"," * 10_000_000 + b"\n1\n", name="t.csv")


def test_the_preview_shows_the_column_that_is_asked_about() -> None:
    info = look(b"id,text,tag\n1,a long review,x\n2,another one,y\n", name="t.csv")
    assert (info.column, info.values()) == ("text", ["a long review", "another one"])
    assert look(b"id,text\n1,a\n", name="t.csv", column="id").values() == [1]
    assert info.describe() == "CSV, 46 bytes, utf-8, parted by comma, 3 columns, 2 rows"


def test_a_preview_of_very_long_cells_is_short_and_says_so() -> None:
    info = look(b"a\n" + (b"x" * 1_500_000 + b"\n") * 6, name="t.csv")
    assert (info.num_rows, len(info.rows)) == (6, 2)
    assert info.notes == ("The preview ends after 2 rows, because their cells are very long.",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(TableFileError, match="not a plain file"):
        look(tmp_path / "t.csv")


def test_a_large_file_is_looked_at_in_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    line = b'1,"a cell\nof two lines"\n' + b"2," + b"x" * 400 + b"\n"
    path.write_bytes(b"a,b\n" + line * 50_000)
    info = look(path)
    assert (info.num_rows, info.complete, len(info.rows)) == (None, False, 20)
    assert info.about_rows == pytest.approx(100_000, rel=0.05)
    assert "first 20,000 rows" in info.notes[-1]
    assert read(path).num_rows == 100_000
