from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, TypeAdapter

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.schema_input import to_schema
from gguf_widgets.core.types import SamplingSettings


class Label(BaseModel):
    mood: str
    score: int


@dataclass
class Point:
    x: int
    y: int


def test_a_pydantic_model_and_what_else_pydantic_knows_become_its_schema():
    assert to_schema(Label) == Label.model_json_schema()
    assert to_schema(TypeAdapter(list[int])) == {"items": {"type": "integer"}, "type": "array"}
    assert set(to_schema(Point)["properties"]) == {"x", "y"}
    assert SamplingSettings.from_keywords(schema=Label).schema == Label.model_json_schema()


def test_a_dict_is_taken_as_it_is_and_later_changes_of_it_change_nothing():
    mine = {"type": "object", "properties": {"b": {}, "a": {}}}
    taken = SamplingSettings.from_keywords(schema=mine).schema
    mine["properties"]["c"] = {}
    assert list(taken["properties"]) == ["b", "a"]
    assert to_schema(True) is True


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{}", "a dict .JSON schema. or a pydantic model class, not '{}'"),
        (int, "not <class 'int'>"),
        ({"enum": {1, 2}}, "holds something that JSON cannot"),
        ({"minimum": float("nan")}, "holds something that JSON cannot"),
    ],
)
def test_what_is_no_schema_is_refused_in_words(value, message):
    with pytest.raises(InvalidValueError, match=message):
        to_schema(value)


def test_what_pydantic_cannot_describe_is_told():
    class Odd(BaseModel):
        thing: Callable[[], int]

    with pytest.raises(InvalidValueError, match="pydantic cannot make a schema"):
        to_schema(Odd)


def test_a_schema_and_a_grammar_exclude_each_other_and_ignore_eos():
    with pytest.raises(InvalidValueError, match="not both"):
        SamplingSettings.from_keywords(schema={}, grammar="root ::= x")
    with pytest.raises(InvalidValueError, match="ignore_eos cannot be combined"):
        SamplingSettings.from_keywords(schema={}, ignore_eos=True)
