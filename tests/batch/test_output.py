"""What callers ask for, what is refused, and how replies become values and columns."""

from __future__ import annotations

import datetime as dt
import enum
import json
import re
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.output_choice import MAX_CHOICES
from gguf_widgets.core.errors import InvalidValueError, OutputError, UnsupportedSchemaError
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.types import FinishReason, Reply, Timings, Usage


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Stars(enum.IntEnum):
    ONE = 1
    TWO = 2


def a_reply(text: str, reason: FinishReason = FinishReason.STOP) -> Reply:
    return Reply(
        text=text,
        finish_reason=reason,
        usage=Usage(num_prompt_tokens=1, num_completion_tokens=7),
        timings=Timings(queue_s=0, prefill_s=0, decode_s=0, ttft_s=0, total_s=0),
        seed=0,
    )


def read(schema: Any, text: str) -> Any:
    (value,) = Output.parse(schema).read(a_reply(text)).values()
    return value


@pytest.mark.parametrize(
    ("schema", "kind", "dtype", "text", "value"),
    [
        (None, "text", "string", " As it is.\n", " As it is.\n"),
        (str, "text", "string", "", ""),
        (["yes", "no"], "choice", "category", "no", "no"),
        (("x", "y"), "choice", "category", " y", "y"),
        (["one ", "two"], "choice", "category", "one", "one "),
        (Literal["a", "b"], "choice", "category", "a", "a"),
        (Mood, "choice", "category", "bad", "bad"),
        (Stars, "choice", "category", "2", 2),
        ([1, 2.5, "x"], "choice", "category", "2.5", 2.5),
        ([np.int64(3), np.str_("y")], "choice", "category", "3", 3),
        ({"enum": ["a", "b"], "title": "T"}, "choice", "category", "b", "b"),
        ({"const": "a"}, "choice", "category", "a", "a"),
        (bool, "boolean", "boolean", "false", False),
        ([False, True], "boolean", "boolean", "true", True),
        ({"type": "boolean"}, "boolean", "boolean", "true", True),
        (int, "number", "Int64", "-12", -12),
        (float, "number", "Float64", "2", 2.0),
        (range(1, 6), "number", "Int64", "5", 5),
        (range(10, 0, -5), "number", "Int64", "10", 10),
        ((0, 1_000_000), "number", "Int64", "42", 42),
        ((0.0, 1.0), "number", "Float64", "0.25", 0.25),
        ((None, 7), "number", "Int64", "-1", -1),
        ((0.5, float("inf")), "number", "Float64", "1e3", 1000.0),
        (dt.date, "date", "datetime64[us]", '"2024-02-29"', "2024-02-29"),
        (dt.datetime, "datetime", "datetime64[us]", '"2024-02-29T10:00:00"', "2024-02-29T10:00:00"),
        (re.compile("[A-Z]{2}"), "pattern", "string", '"AB"', "AB"),
        ({"pattern": "a|bc"}, "pattern", "string", '"bc"', "bc"),
        ({"type": "string", "pattern": "b"}, "json", "string", '"abc"', "abc"),
        ({"type": "integer"}, "json", "Int64", "2.0", 2),
        ({"enum": ["a", None]}, "json", "category", "null", None),
        (list[str], "json", "object", '["a", "\\ud83d\\ude00", "\\ud800"]', ["a", "😀", "\ufffd"]),
        ({}, "json", "object", '{"a": [1]}', {"a": [1]}),
    ],
)  # fmt: skip
def test_each_way_to_ask_becomes_one_typed_column(
    schema: Any, kind: str, dtype: str, text: str, value: Any
) -> None:
    output = Output.parse(schema, "label")
    assert output.kind == kind
    (column,) = output.columns
    assert (column.name, column.dtype) == ("label", dtype)
    found = output.read(a_reply(text))
    assert found == {"label": value}
    assert type(found["label"]) is type(value)
    assert json.loads(json.dumps(found)) == found

    series = output.to_series("label", [found["label"], None], index=[5, 9])
    assert str(series.dtype) == dtype
    assert series.name == "label"
    assert series.index.tolist() == [5, 9]
    assert series.isna().tolist() == [value is None, True]
    assert str(output.to_series("label", []).dtype) == dtype

    # As data it is plain JSON, and the same again; and the settings take what it asks of them.
    data = json.loads(json.dumps(output.to_dict()))
    again = Output.from_dict(data)
    assert again == output
    assert again.sampling == output.sampling
    assert again.columns == output.columns
    SamplingSettings.from_keywords(**output.sampling)
    assert output.describe() in repr(output)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "list of choices is empty"),
        (["a", ""], "choice '' is empty"),
        (["a", "  "], "choice '  ' is empty"),
        (["a", "b", "a"], "choice 'a' is there twice"),
        (["a", " a"], "would be the same reply, 'a'"),
        ([1, "1"], "1 and '1' would be the same reply"),
        ([True, 1], "equal as numbers"),
        ([1, 1.0], "equal as numbers"),
        (["a", None], 'not None. Write a text for it, such as "none"'),
        ([["a"]], "A choice is a text, a number, True or False, not"),
        (["a\0"], "holds a character that no reply can hold"),
        (["\ud800"], "holds a character that no reply can hold"),
        ([float("nan")], "nan cannot be a choice"),
        (["x" * 501, "y"], "has 501 characters, and 500 is the limit"),
        ([f"{n}" + "x" * 490 for n in range(300)], "characters together, and 100,000 is the limit"),
        (range(MAX_CHOICES + 1)[:0], "holds no number"),
        ([*range(MAX_CHOICES + 1)], "There are 1,001 choices, and 1,000 is the limit"),
        ((5, 1), "No number is between 5 and 1"),
        ((0.5, float("nan")), "NaN is no bound"),
        ((None, None), "has no bound"),
        ((float("inf"), None), "beyond infinity"),
        ((0, 2**63), "too large"),
        (range(1, 100_000, 7), "Steps of 7 from 1 on cannot be followed for more than 100"),
        (re.compile(b"a"), "one of bytes"),
        (re.compile("a", re.IGNORECASE), r"flags re.IGNORECASE, which cannot be followed"),
        ({"pattern": 1}, "A pattern is a text"),
        ({"enum": []}, "At /enum: the list is empty"),
        (False, "no value is valid against false"),
        ({"minimum": float("nan")}, "holds something that JSON cannot"),
        ({"$ref": "#/nowhere"}, "points at nothing"),
        (complex, r"cannot be made of <class 'complex'>. It can be None \(free text\), a list"),
        ("positive", "cannot be made of 'positive'"),
        (dict, "cannot be made of <class 'dict'>"),
        (Output, "cannot be made of"),
    ],
)  # fmt: skip
def test_what_no_reply_could_be_is_refused_in_words(schema: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Output.parse(schema)


def test_a_column_needs_a_name() -> None:
    with pytest.raises(InvalidValueError, match="name of a column is a text"):
        Output.parse(None, "")


@pytest.mark.parametrize(
    ("schema", "text", "message"),
    [
        (["a", "b"], "c", "none of the choices: 'c'"),
        (["a", "b"], "", "none of the choices"),
        (int, "1.5", "'reply' is 1.5, which is not a whole number"),
        (int, "true", "'reply' is True, which is not a whole number"),
        (int, str(2**63), "a whole number that a column can hold"),
        (int, "null", "null, and not a number"),
        (int, "twelve", "not JSON: .* It begins 'twelve'"),
        (float, "NaN", "NaN is no JSON number"),
        (float, "1e400", "'reply' is inf"),
        ((0, 10_000), "10001", "10001, which is not a whole number from 0 to 10000"),
        ((0.0, 1.0), "-0.5", "which is not a number from 0.0 to 1.0"),
        (range(0, 1_000, 5), "7", "in steps of 5"),
        (dt.date, '"2023-02-29"', "not a day of the calendar"),
        (dt.date, "2023", "not a day of the calendar"),
        (dt.datetime, '"2024-01-01T00:00:00Z"', "without a time zone"),
        (re.compile("a+"), '"ab"', "'ab' does not match 'a\\+'"),
        ({"type": "integer"}, '"1"', "'reply' is '1', which is not a whole number"),
        ({"type": "string", "format": "date-time"}, '"2024-01-01T00:00:00"', "its time zone"),
        ({"type": "object", "properties": {"a": {}}}, "[]", "The reply is .*, and not an object"),
        ({}, "[" * 100_000, "nested too deep"),
    ],
)
def test_a_reply_that_is_something_else_is_an_error_of_its_row(
    schema: Any, text: str, message: str
) -> None:
    with pytest.raises(OutputError, match=message) as caught:
        read(schema, text)
    assert caught.value.details["reply"] == text[:200]


@pytest.mark.parametrize(
    ("schema", "cut", "complete"),
    [
        (["good", "good enough"], "good", "good enough"),
        (range(1, 11), "1", "10"),
        (bool, "tr", "true"),
        (int, "12", None),
        (dt.date, '"2024-0', '"2024-01-01"'),
        ({"type": "object", "properties": {"a": {}}}, '{"a": 1', '{"a": 1}'),
        (None, None, "free text"),
    ],
)
def test_a_reply_that_was_cut_says_so_unless_it_is_complete_for_sure(
    schema: Any, cut: str | None, complete: str | None
) -> None:
    output = Output.parse(schema)
    if complete is not None:
        output.read(a_reply(complete, FinishReason.LENGTH))
    if cut is not None:
        with pytest.raises(
            OutputError, match=r"cut .*, after 7 tokens\. Raise max_tokens"
        ) as caught:
            output.read(a_reply(cut, FinishReason.LENGTH))
        assert caught.value.details["num_completion_tokens"] == 7
    with pytest.raises(OutputError, match="stopped before its end"):
        output.read(a_reply("true", FinishReason.ABORTED))


def test_categories_are_all_the_choices_in_their_order() -> None:
    output = Output.parse(["low", "middle", "high"], "level")
    series = output.to_series("level", ["high", None, "low"])
    assert series.cat.categories.tolist() == ["low", "middle", "high"]
    assert series.value_counts().to_dict() == {"low": 1, "middle": 0, "high": 1}
    # What somebody wrote into a cell by hand is not lost.
    edited = output.to_series("level", ["unknown", "low"])
    assert edited.tolist() == ["unknown", "low"]
    assert edited.cat.categories.tolist() == ["low", "middle", "high", "unknown"]
    # A set has no order, so it gets the same one in every process.
    assert Output.parse({"b", "c", "a"}).choice_texts == ("a", "b", "c")


def test_days_and_times_of_all_years_are_kept() -> None:
    dates = Output.parse(dt.date)
    values = ["0001-01-01", "2024-02-29", None, "9999-12-31"]
    series = dates.to_series(
        "reply", [None if v is None else read(dt.date, f'"{v}"') for v in values]
    )
    assert [None if pd.isna(one) else one.date().isoformat() for one in series] == values
    schema = {"type": "string", "format": "date-time"}
    moment = read(schema, '"2024-07-01T12:00:00+02:00"')
    assert moment == "2024-07-01T10:00:00+00:00"
    found = Output.parse(schema).to_series("reply", [moment, None])
    assert found[0] == pd.Timestamp("2024-07-01T10:00:00", tz="UTC")


def test_a_series_refuses_what_its_type_cannot_hold() -> None:
    output = Output.parse(int, "age")
    with pytest.raises(InvalidValueError, match=r"column 'age' \(Int64\) cannot hold"):
        output.to_series("age", ["old"])
    with pytest.raises(InvalidValueError, match=r"no column 'aeg'\. Did you mean 'age'"):
        output.to_series("aeg", [1])


def test_what_is_no_description_is_refused() -> None:
    for data in ({}, {"kind": "poem", "name": "x"}, {"kind": "choice", "name": "x"}, []):
        with pytest.raises(InvalidValueError, match="no description of an output"):
            Output.from_dict(data)  # type: ignore[arg-type]


def test_a_schema_of_a_false_kind_is_unsupported_not_only_invalid() -> None:
    with pytest.raises(UnsupportedSchemaError):
        Output.parse({"enum": []})
