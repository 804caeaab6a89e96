"""JSON schemas and pydantic models as typed columns, and their replies as values of these."""

from __future__ import annotations

import datetime as dt
import json
import random
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pandas as pd
import pytest
from pydantic import BaseModel, Field, TypeAdapter, field_validator
from support.grammar_walk import Walker
from support.random_schemas import random_schema

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.output_column import checked
from gguf_widgets.core.engine import grammar
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, OutputError
from gguf_widgets.demo import demo_model_path
from tests.batch.test_output import a_reply


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Address(BaseModel):
    city: str
    code: int | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    breed: str


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


class Person(BaseModel):
    name: str
    mood: Mood
    age: int = Field(ge=0)
    height: float
    member: bool
    born: dt.date
    seen: dt.datetime
    home: Address
    work: Address | None = None
    tags: list[str] = []
    pet: Cat | Dog = Field(discriminator="kind")
    tree: Tree | None = None
    counts: dict[str, int] = {}
    size: Literal["S", "M"] | None = None
    amount: int | float = 0
    anything: int | str = 0


@dataclass
class Point:
    x: int
    y: float


PERSON = {
    "name": "Ana",
    "mood": "good",
    "age": 41,
    "height": 1,
    "member": True,
    "born": "1983-05-01",
    "seen": "2024-05-01T10:00:00Z",
    "home": {"city": "Lima"},
    "work": None,
    "tags": ["a", "b"],
    "pet": {"kind": "dog", "breed": "pug"},
    "tree": {"name": "root", "below": [{"name": "leaf", "below": []}]},
    "counts": {"x": 1},
    "anything": "seven",
}


def test_a_model_class_becomes_typed_columns_with_dots() -> None:
    output = Output.parse(Person)
    assert {column.name: column.dtype for column in output.columns} == {
        "name": "string",
        "mood": "category",
        "age": "Int64",
        "height": "Float64",
        "member": "boolean",
        "born": "datetime64[us]",
        "seen": "datetime64[us, UTC]",
        "home.city": "string",
        "home.code": "Int64",
        "work.city": "string",
        "work.code": "Int64",
        "tags": "object",
        "pet.kind": "category",
        "pet.lives": "Int64",
        "pet.breed": "string",
        "tree.name": "string",
        "tree.below": "object",
        "counts": "object",
        "size": "category",
        "amount": "Float64",
        "anything": "object",
    }
    assert output.column("pet.kind").choices == ("cat", "dog")
    found = output.read(a_reply(json.dumps(PERSON)))
    assert list(found) == [column.name for column in output.columns]
    assert found["home.city"] == "Lima"
    assert found["home.code"] is found["work.city"] is found["pet.lives"] is found["size"] is None
    assert found["pet.breed"] == "pug"
    assert found["tree.below"] == [{"name": "leaf", "below": []}]
    assert isinstance(found["height"], float)
    table = pd.DataFrame({n: output.to_series(n, [found[n], None]) for n in found})
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        column.name: column.dtype for column in output.columns
    }
    assert table.isna().iloc[1].all()
    assert table["tags"][0] == ["a", "b"]


def test_what_pydantic_knows_goes_through_its_schema() -> None:
    assert [column.dtype for column in Output.parse(Point).columns] == ["Int64", "Float64"]
    assert Output.parse(TypeAdapter(list[int])).columns[0].dtype == "object"
    assert Output.parse(dict[str, int], "d").columns[0].name == "d"
    assert Output.parse(Literal["a", "b"] | None).columns[0].choices == ("a", "b")
    # A class is its schema, and nothing else is kept of it.
    assert Output.parse(Point) == Output.parse(TypeAdapter(Point).json_schema())
    with pytest.raises(InvalidValueError, match="pydantic cannot make a schema"):
        Output.parse(list[Output])


class Even(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it is odd")
        return value


def test_the_live_class_checks_besides_and_its_schema_alone_does_not() -> None:
    output = Output.parse(Even)
    assert output.read(a_reply('{"number": 2}')) == {"number": 2}
    with pytest.raises(OutputError, match="model class refuse it: number: Value error, it is odd"):
        output.read(a_reply('{"number": 3}'))
    stored = Output.from_dict(output.to_dict())
    assert stored.validate is None
    assert stored.read(a_reply('{"number": 3}')) == {"number": 3}
    again = stored.with_validation(Even)
    assert again == output
    with pytest.raises(OutputError, match="it is odd"):
        again.read(a_reply('{"number": 3}'))
    with pytest.raises(InvalidValueError, match="does not have the schema"):
        stored.with_validation(Address)


@pytest.mark.parametrize(
    ("schema", "reply", "values"),
    [
        # Parts without a name of their own have a column together.
        (
            {"properties": {"a": {"type": "integer"}}, "additionalProperties": True},
            {"a": 1, "b": [2]},
            {"a": 1, "(other)": {"b": [2]}},
        ),
        (
            {"properties": {"a": {"type": "object", "properties": {"b": {"const": "x"}},
                                  "patternProperties": {"^n": {"type": "null"}}}}},
            {"a": {"b": "x", "n": None}},
            {"a.b": "x", "a.(other)": {"n": None}},
        ),
        ({"type": "object", "additionalProperties": {"type": "null"}}, {"q": None},
         {"reply": {"q": None}}),
        # One and the same part in several alternatives keeps its type as far as they agree.
        (
            {"anyOf": [{"properties": {"a": {"type": "integer"}}},
                       {"properties": {"a": {"type": "number"}, "b": {"type": "string"}}},
                       {"type": "null"}]},
            {"a": 1, "b": "z"},
            {"a": 1.0, "b": "z"},
        ),
        (
            {"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"enum": [1, 2]}}}],
             "$defs": {"a": {"properties": {"a": {"type": ["string", "null"]}}}}},
            {"a": None, "b": 2},
            {"a": None, "b": 2},
        ),
        ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"type": "boolean"}}},
         {"a": True, "b": False}, {"a": True, "b": False}),
        ({"type": ["object", "null"], "properties": {"a": {}}}, None, {"a": None}),
    ],
)  # fmt: skip
def test_parts_and_alternatives(schema: Any, reply: Any, values: dict[str, Any]) -> None:
    found = Output.parse(schema).read(a_reply(json.dumps(reply)))
    assert found == values
    assert list(map(type, found.values())) == list(map(type, values.values()))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"properties": {"a": {"properties": {"b": {}}}, "a.b": {}}}, "become the column 'a.b'"),
        ({"properties": {"": {}}}, "has an empty name"),
        ({"properties": {f"a{n}": {} for n in range(1001)}}, "1,001 columns, and 1,000 is"),
        (
            {"$ref": "#/$defs/0", "$defs": {str(n): {"properties": {
                "x": {"$ref": f"#/$defs/{n + 1}"}, "y": {"$ref": f"#/$defs/{n + 1}"}}}
                for n in range(40)} | {"40": {}}},
            "more than 20,000 parts",
        ),
    ],
)  # fmt: skip
def test_schemas_that_make_no_table_are_refused(schema: Any, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        Output.parse(schema)


def test_nothing_of_a_reply_is_dropped_in_silence() -> None:
    output = Output.parse({"properties": {"a": {"properties": {"b": {}}}}})
    with pytest.raises(OutputError, match=r"has 'a\.c', which the schema does not name"):
        output.read(a_reply('{"a": {"b": 1, "c": 2}}'))


def test_every_valid_value_of_every_schema_has_its_columns() -> None:
    """Whatever the engine would write for a schema is read, and comes out of the columns again."""
    walker = Walker(Path(str(demo_model_path())))
    rng = random.Random(5)  # noqa: S311 - no secret
    num_read = num_typed = 0
    try:
        for _ in range(120):
            schema = random_schema(rng)
            try:
                written = grammar.from_schema(schema)
                output = Output.parse(schema)
            except GgufWidgetsError:
                continue
            kind = output.sampling.get("grammar", written)
            for _ in range(3):
                text = walker.write(kind, rng, most=400)
                if text is None:
                    continue
                found = output.read(a_reply(text))
                num_read += 1
                assert list(found) == [column.name for column in output.columns]
                for column in output.columns:
                    num_typed += column.kind != "object" and found[column.name] is not None
                    assert checked(column, found[column.name]) == found[column.name]
                    output.to_series(column.name, [found[column.name], None])
                if output.kind == "json":
                    jsonschema.validate(json.loads(text), schema)
    finally:
        walker.close()
    assert num_read > 150
    assert num_typed > 60
