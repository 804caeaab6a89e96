"""What a schema's grammar writes is valid against the schema, asked of llama.cpp and jsonschema."""

from __future__ import annotations

import json
import random
from datetime import date
from enum import Enum
from typing import Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field
from support.random_schemas import random_schema

from gguf_widgets.core.engine import grammar
from gguf_widgets.core.errors import GrammarError, UnsupportedSchemaError
from gguf_widgets.core.schema_input import to_schema

NUM_RANDOM = 250


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Item(BaseModel):
    name: str = Field(min_length=1, max_length=12)
    price: float = Field(gt=0, le=1000)
    tags: list[str] = Field(max_length=3)


class Order(BaseModel):
    kind: Literal["order"]
    items: list[Item] = Field(min_length=1, max_length=3)
    due: date | None = None
    mood: Mood
    code: str = Field(pattern=r"^[A-Z]{2}-\d{3,5}$")


class Tree(BaseModel):
    value: int = Field(ge=-5, le=12)
    children: list[Tree] = []


AWKWARD = {
    "anything": True,
    "nothing is asked": {},
    "nested": {"type": "object", "properties": {"a": {"type": "object", "properties": {
        "b": {"type": "array", "items": {"type": "object", "properties": {"c": {"const": None}},
                                          "required": ["c"], "additionalProperties": False}}},
        "required": ["b"]}}, "required": ["a"]},
    "some of many": {"type": "object", "properties": {n: {"type": "integer"} for n in "abcdef"},
                     "required": ["b", "e"], "additionalProperties": False},
    "bounds that cross zero": {"type": "integer", "minimum": -107, "exclusiveMaximum": 1003},
    "a narrow band": {"type": "number", "minimum": 0.5, "maximum": 0.75},
    "steps": {"type": "integer", "multipleOf": 7, "minimum": 3, "maximum": 200},
    "a pattern that only has to occur": {"type": "string", "pattern": "[0-9]", "maxLength": 20},
    "escapes in names": {"type": "object", "properties": {'q"\\\n': {"const": 'x"\\\t'}},
                         "required": ['q"\\\n'], "additionalProperties": False},
    "references in a circle": {"$ref": "#/$defs/list", "$defs": {"list": {"anyOf": [
        {"type": "null"}, {"type": "object", "properties": {"next": {"$ref": "#/$defs/list"}},
                           "required": ["next"], "additionalProperties": False}]}}},
    "all of": {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}},
                         {"required": ["a"], "properties": {"a": {"minimum": 5, "maximum": 9}}}]},
    "one of, told apart": {"oneOf": [
        {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
        {"type": "object", "properties": {"k": {"const": 2}}, "required": ["k"]}]},
    "a tuple": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}],
                "items": False, "minItems": 2},
    "draft 7": {"$schema": "http://json-schema.org/draft-07/schema#",
                "definitions": {"x": {"enum": ["é", "\u2028", "😀"]}},
                "type": "array", "items": {"$ref": "#/definitions/x"}, "minItems": 1},
    "formats": {"type": "object", "properties": {f: {"type": "string", "format": f} for f in
                ("date", "time", "date-time", "uuid", "ipv4")}, "additionalProperties": False},
    "other properties": {"type": "object", "properties": {"id": {"type": "integer"}},
                         "additionalProperties": {"type": "boolean"}, "required": ["id"]},
    "order": to_schema(Order),
    "tree": to_schema(Tree),
}  # fmt: skip


def validator(schema):
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return cls(schema, format_checker=cls.FORMAT_CHECKER)


@pytest.mark.parametrize("name", AWKWARD)
def test_what_is_written_is_valid(walker, name):
    schema = AWKWARD[name]
    text, judge = grammar.from_schema(schema), validator(schema)
    grammar.check(text)
    seen = set()
    for seed in range(12):
        written = walker.write(text, random.Random(seed), 800)  # noqa: S311
        if written is not None:
            judge.validate(json.loads(written))
            seen.add(written)
    assert seen


def test_so_is_it_for_hundreds_of_random_schemas(walker):
    num_followed = num_texts = 0
    for seed in range(NUM_RANDOM):
        rng = random.Random(seed)  # noqa: S311 - a schema to repeat
        schema = random_schema(rng)
        try:
            text = grammar.from_schema(schema)
        except UnsupportedSchemaError:
            continue
        num_followed += 1
        judge = validator(schema)
        for _ in range(2):
            written = walker.write(text, rng, 600)
            if written is not None:
                num_texts += 1
                assert judge.is_valid(json.loads(written)), (seed, schema, written)
    assert num_followed > 0.7 * NUM_RANDOM
    assert num_texts > 1.5 * num_followed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nested", {"a": {"b": [{"c": None}, {"c": None}]}}),
        ("some of many", {"b": 1, "e": -2}),
        ("some of many", dict.fromkeys("abcdef", 0)),
        ("bounds that cross zero", -107),
        ("bounds that cross zero", 1002),
        ("a narrow band", 0.625),
        ("escapes in names", {'q"\\\n': 'x"\\\t'}),
        ("references in a circle", {"next": {"next": None}}),
        ("all of", {"a": 7}),
        ("a tuple", ["x", True]),
        ("draft 7", ["é", "😀"]),
        ("other properties", {"id": 1, "more": True}),
        ("tree", {"value": 3, "children": [{"value": -5, "children": []}]}),
    ],
)
def test_what_json_dumps_writes_of_a_valid_value_is_allowed(walker, name, value):
    text = grammar.from_schema(AWKWARD[name])
    for indent in (None, 2):
        assert walker.accepts(text, json.dumps(value, ensure_ascii=False, indent=indent))


def test_what_is_not_valid_cannot_be_written(walker):
    for name, value in (
        ("bounds that cross zero", 1003),
        ("bounds that cross zero", -108),
        ("some of many", {"b": 1}),
        ("all of", {"a": 10}),
        ("a tuple", ["x"]),
        ("steps", 8),
        ("other properties", {"id": 1, "more": 2}),
    ):
        assert not walker.accepts(grammar.from_schema(AWKWARD[name]), json.dumps(value)), name


@pytest.mark.parametrize(
    ("schema", "pointer", "message"),
    [
        ({"type": "objekt"}, "/type", "'objekt' is no type"),
        ({"properties": {"a": {"$ref": "https://example.org/x"}}, "required": ["a"]},
         "/properties/a", "example.org"),
        ({"type": "string", "minimun": 3}, "", "minimun"),
        ({"enum": []}, "", ""),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "", ""),
        ({"type": "string", "pattern": "(a)\\1"}, "/pattern", ""),
        (False, "", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_its_place(schema, pointer, message):
    with pytest.raises(UnsupportedSchemaError) as caught:
        grammar.from_schema(schema)
    assert caught.value.details["pointer"].startswith(pointer)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root ::= x", "Line 1, column 10: there is no rule called 'x'"),
        ('start ::= "a"', "root"),
        ('root ::= root "a"', "root"),
        ('root ::= a "x"\na ::= b\nb ::= a | "y"', ""),
        ('root ::= ("a"*)*', ""),
        ('root ::= "a', "Line 1"),
        ("root ::= [a-", "Line 1"),
        ("", ""),
        ('root ::= "a"{1,1000000}', ""),
        ("root ::= " + "(" * 5000 + '"a"' + ")" * 5000, ""),
    ],
)
def test_a_grammar_that_cannot_be_followed_is_refused_in_words(text, message):
    with pytest.raises(GrammarError) as caught:
        grammar.check(text)
    assert message in caught.value.message


def test_a_grammar_that_passes_is_taken_by_llama_cpp(walker):
    for text in (
        'root ::= "yes" | "no"',
        'root ::= line+\nline ::= "- " [^\\n]+ "\\n"',
        'root ::= "a"{2,5} ("b" | c)?\nc ::= [\\x41-\\x5A] # a remark\n',
        "root ::= [a-zA-Z0-9_.-]{1,20}",
    ):
        grammar.check(text)
        assert walker.loads(text)


def test_hostile_schemas_are_refused_soon():
    deep: dict = {"type": "integer"}
    for _ in range(3000):
        deep = {"type": "array", "items": deep}
    # fmt: off
    doubling = {"$defs": {f"d{n}": {"anyOf": [{"type": "object", "properties": {
        side: {"$ref": f"#/$defs/d{n + 1}"} for side in "ab"}}] * 2} for n in range(40)}}
    doubling["$defs"]["d40"] = {"type": "null"}
    doubling["$ref"] = "#/$defs/d0"
    # fmt: on
    for schema in (deep, {"enum": [str(n) * 50 for n in range(200_000)]}):
        with pytest.raises(UnsupportedSchemaError):
            grammar.from_schema(schema)
    try:
        text = grammar.from_schema(doubling)
    except UnsupportedSchemaError:
        return
    assert len(text) < 10_000_000
