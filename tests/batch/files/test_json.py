"""JSON and JSONL: layouts, faults with their places, hostile files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_widgets.batch.files import Kind, json_items, look, read
from gguf_widgets.core.errors import TableFileError

_ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    "value",
    [
        _ROWS,
        {"data": _ROWS, "count": 2},
        {"a": [1, 2], "b": ["x", "y"]},
        {"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}},  # what pandas' to_json writes
        {"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]},
    ],
)
def test_the_layouts_a_table_has_in_json(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=2)):
        source = read(text.encode(), name="t.json")
        assert list(source) == _ROWS
        assert source.kinds == {"a": Kind.INTEGER, "b": Kind.TEXT}


def test_what_was_left_out_of_an_object_is_told() -> None:
    source = read(json.dumps({"data": _ROWS, "next": None}).encode(), name="t.json")
    assert source.notes == ("The rows are those under 'data'. 'next' was left out.",)


def test_rows_need_not_have_the_same_names() -> None:
    source = read(b'{"a": 1}\n\n{"b": [1], "a": 2.5}\n{"c": NaN}\n', name="t.jsonl")
    assert list(source.tuples()) == [(1, None, None), (2.5, [1], None), (None, None, None)]
    assert (source.columns, source.num_rows) == (("a", "b", "c"), 3)
    assert "'b' in 2 rows" in source.notes[0]


def test_a_name_that_is_not_in_every_row_is_a_column_with_gaps() -> None:
    source = read(b'{"a": 1}\n{"b": true, "a": 2}\n', name="t.jsonl")
    assert source.dtypes == {"a": "int64", "b": "boolean"}
    assert source.to_frame()["b"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        (b'["x", "y"]', ("text",), [("x",), ("y",)]),
        (b'[[1, "x"], [2]]', ("column_1", "column_2"), [(1, "x"), (2, None)]),
        (b'"x"\n"y"\n', ("text",), [("x",), ("y",)]),
    ],
)
def test_rows_that_are_no_objects(data: bytes, columns: tuple[str, ...], rows: list[Any]) -> None:
    name = "t.jsonl" if data.startswith(b'"') else "t.json"
    source = read(data, name=name, format=name[2:])
    assert (source.columns, list(source.tuples())) == (columns, rows)


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (b'{"a": 1}\n{"a": }\n', "t.jsonl", "line 2 is not valid JSON"),
        (b'{"a": 1}\n{"a": 1, "a": 2}\n', "t.jsonl", "line 2 .* 'a' comes twice"),
        (b'{"a": 1}\nnull\n', "t.jsonl", "line 2 is empty"),
        (b'[{"a": 1}, {"a": 2]', "t.json", "item 2 is not valid JSON"),
        (b'[{"a": 1} {"a": 2}]', "t.json", "after item 1 .* comma"),
        (b'[{"a": 1}', "t.json", "after item 1 .* the file ends there"),
        (b'[{"a": 1}, {"a": "cut', "t.json", "item 2 is not valid JSON"),
        (b'[{"a": 1}] x', "t.json", "the list ends after item 1, and 'x'"),
        (b'{"a": [1, 2], "b": [1]}', "t.json", "columns of different lengths"),
        (b'[{"a": ' + b"9" * 5000 + b"}]", "t.json", "item 1 is not valid JSON"),
        (b"[]", "t.json", "holds no rows"),
        (b'[{"' + b"n" * 501 + b'": 1}]', "t.json", "item 1 has 501 characters"),
        (b"[" * 200_000, "t.json", "deeper than any table"),
        (b'{"a": ' * 200_000, "t.json", "deeper than any table"),
        (b'{"a": 1}\n{"a": ' + b"[" * 200_000 + b"\n", "t.jsonl", "line 2 .* deeper"),
    ],
)
def test_a_fault_is_told_with_its_place(data: bytes, name: str, says: str) -> None:
    with pytest.raises(TableFileError, match=says):
        read(data, name=name)


def test_halves_of_characters_are_no_text_and_that_is_told() -> None:
    data = rb'[{"a": "x\ud800", "b": ["\udc00", {"k\ud800": 1}], "c": "\ud83d\ude00"}]'
    source = read(data, name="t.json")
    assert list(source.tuples()) == [("x\ufffd", ["\ufffd", {"k\ufffd": 1}], "\U0001f600")]
    assert source.notes == ("2 cells with halves of characters: \ufffd.",)
    with pytest.raises(TableFileError, match="a name in item 1 holds half a character"):
        read(rb'[{"a\ud800": 1}]', name="t.json")


def test_what_stands_before_a_fault_is_shown() -> None:
    info = look(b'[{"a": 1}, {"a": 2}, oops]', name="t.json")
    assert info.rows == ((1,), (2,))
    assert "item 3 is not valid JSON" in info.problems[0]


def test_a_million_names_are_refused_and_not_collected() -> None:
    data = b"".join(b'{"n%d": 1}\n' % number for number in range(20_000))
    with pytest.raises(TableFileError, match="more than 16,384 columns"):
        read(data, name="t.jsonl")


def test_an_item_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "MAX_ITEM_CHARS", 100_000)
    data = b'[{"a": 1}, {"a": "' + b"x" * 5_000_000
    with pytest.raises(TableFileError, match="item 2 is longer than 100,000 characters"):
        read(data, name="t.json")


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@settings(max_examples=60)
@given(
    values=st.lists(_values, min_size=1),
    size=st.integers(1, 40),
    indent=st.sampled_from((None, 1)),
    plain=st.booleans(),
)
def test_a_list_read_in_pieces_is_the_list(
    values: list[Any], size: int, indent: int | None, plain: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=plain)
    blocks = (text[start : start + size] for start in range(0, len(text), size))
    items = json_items._Text(None, blocks).items(json_items.make_decoder(strict=True))  # type: ignore[arg-type]
    assert list(items) == list(enumerate(values, 1))
