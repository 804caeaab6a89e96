"""Keyword by keyword: what is written, what is not, and what is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gguf_widgets.core.engine import grammar
from gguf_widgets.core.errors import InvalidValueError, UnsupportedSchemaError, from_wire, to_wire


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


# Schema, values whose texts are written, values whose texts are not.
KEYWORDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "true": (True, [None, 1.5e10, "\\é\u2028😀", {"a": [{}, []]}], []),
    "type": ({"type": ["integer", "null"]}, [0, -12, None], ["0", 1.5, True]),
    "nullable": ({"type": "string", "nullable": True}, ["", None], [0]),
    "only what keywords are about": ({"minLength": 3}, ["abc"], ["ab", 5, None]),
    "enum": ({"enum": [1, "1", None, {"a": [1, "x"]}, 2.5]}, [1, "1", None, {"a": [1, "x"]}, 2.5],
             [{"a": [1]}, True, 2, {}]),
    "const": ({"const": {"b": "\n", "a": [True]}}, [{"b": "\n", "a": [True]}],
              [{"a": [True], "b": "\n"}, {}]),
    "enum and type": ({"enum": [1, "a", 2.5, None], "type": "integer"}, [1], ["a", 2.5, None]),
    "enum and pattern": ({"enum": ["ab", "cd"], "pattern": "^a"}, ["ab"], ["cd"]),
    "length in characters": ({"type": "string", "minLength": 2, "maxLength": 3},
                             ["éé", "😀😀", '"\\'], ["é", "abcd"]),
    "a long maximum": ({"type": "string", "maxLength": 3000}, ["a" * 3000], ["a" * 3001]),
    "a long minimum": ({"type": "string", "minLength": 1000}, ["é" * 1000], ["a" * 999]),
    "pattern and length": ({"type": "string", "pattern": "^a+b?$", "maxLength": 4},
                           ["ab", "aaaa"], ["aaaab", "b"]),
    "two patterns": ({"allOf": [{"pattern": "a"}, {"pattern": "b"}], "type": "string"},
                     ["xbya"], ["aaa", "b"]),
    "look-ahead": ({"type": "string", "pattern": "^(?=.*[0-9])(?!0).{3}$"},
                   ["a1b"], ["abc", "01b"]),
    "date": ({"type": "string", "format": "date"}, ["2024-02-29", "0001-01-31"],
             ["2023-02-29", "1900-02-29", "2024-04-31", "0000-01-01", "2024-1-1"]),
    "date-time": ({"type": "string", "format": "date-time"},
                  ["2024-02-29T23:59:59Z", "2024-01-01T00:00:00.123456+05:30"],
                  ["2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z"]),
    "time": ({"type": "string", "format": "time"}, ["09:30:00Z"], ["09:30", "25:00:00Z"]),
    "duration": ({"type": "string", "format": "duration"}, ["P1Y2M3D", "PT5M", "P2W", "P1DT2H"],
                 ["P", "PT", "P1Y3D", "1D"]),
    "uuid": ({"type": "string", "format": "uuid"}, ["01234567-89ab-cdef-0123-456789ABCDEF"],
             ["0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789ABCDEG"]),
    "ipv4": ({"type": "string", "format": "ipv4"}, ["255.0.10.199"], ["256.0.0.1", "01.2.3.4"]),
    "ipv6": ({"type": "string", "format": "ipv6"}, ["::", "::1", "1:2:3:4:5:6:7:8", "fe80::1:2"],
             ["1:2:3", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9"]),
    "email": ({"type": "string", "format": "email"}, ["a.b+c@mail.example.org"],
              ["a@b", "@x.org", "a..b@x.org", "a@-x.org"]),
    "uri": ({"type": "string", "format": "uri"}, ["https://www.example.org:8080/a/b?c=d#e"],
            ["www.example.org", "https://", "https://1.2.3"]),
    "uri and maximum": ({"type": "string", "format": "uri", "maxLength": 24},
                        ["https://www.example.org"], ["https://www.example.org/ab"]),
    "an unknown format": ({"type": "string", "format": "colour"}, ["anything"], [1]),
    "minimum": ({"type": "integer", "minimum": -3}, [-3, 0, 10**17], [-4]),
    "exclusive bounds": ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                         [0.5, 0.001, 0.999], [0, 1, 1.0, -0.5]),
    "draft 4's exclusive bounds": ({"type": "integer", "minimum": 3, "exclusiveMinimum": True},
                                   [4], [3]),
    "bounds of 64 bits": ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                          [2**63 - 1, -(2**63)], [2**63, -(2**63) - 1]),
    "int32": ({"type": "integer", "format": "int32"}, [2**31 - 1], [2**31]),
    "multipleOf": ({"type": "number", "multipleOf": 0.05}, [0.15, 3, -1.05, 0], [0.01, 0.123]),
    "whole multiples": ({"type": "integer", "multipleOf": 1.5}, [3, -6, 0], [1, 4]),
    "required in order": ({**thing(a={"type": "integer"}, b={"type": "integer"})},
                          [{"a": 1, "b": 2}], [{"b": 2, "a": 1}, {"a": 1}]),
    "names nobody named": ({"type": "object", "required": ["x"]}, [{"x": None}, {"x": 1, "y": 2}],
                           [{"y": 2}, {"y": 2, "x": 1}]),
    "closed unless asked": ({"type": "object", "properties": {"a": {}}}, [{}, {"a": [1]}],
                            [{"b": 1}]),
    "additionalProperties": ({"type": "object", "properties": {"a": {"type": "string"}},
                              "additionalProperties": {"type": "integer"}},
                             [{"b": 1, "c": 2}, {"a": "", "ab": 1}], [{"a": 1}, {"b": ""}]),
    "no name twice": ({"type": "object", "properties": {"ab": {"type": "string"}},
                       "additionalProperties": {"type": "integer"}}, [{"a": 1, "abc": 1}],
                      [{"ab": 1}]),
    "patternProperties": ({"type": "object", "patternProperties": {
        "^n": {"type": "integer"}, "x$": {"minimum": 5}}, "additionalProperties": False},
        [{"n": 1, "nx": 5, "ax": 9}], [{"nx": 4}, {"nx": "5"}, {"a": 1}]),
    "patterns and names": ({"type": "object", "properties": {"n1": {"maximum": 3}},
                            "patternProperties": {"^n": {"type": "integer"}}},
                           [{"n1": 3}, {"n1": 0, "n2": 9}], [{"n1": 4}, {"n1": "a"}]),
    "propertyNames": ({"type": "object", "propertyNames": {"pattern": "^[a-z]{2}$"}},
                      [{"ab": 1}], [{"a": 1}, {"abc": 1}]),
    "names out of a list": ({"type": "object", "propertyNames": {"enum": ["x", "y"]},
                             "additionalProperties": {"type": "integer"}},
                            [{"y": 1}, {"y": 1, "x": 2}], [{"z": 1}, {"y": ""}]),
    "minProperties": ({"type": "object", "properties": {n: {"type": "integer"} for n in "abc"},
                       "minProperties": 2, "additionalProperties": False},
                      [{"a": 1, "c": 1}], [{"a": 1}, {}]),
    "maxProperties": ({"type": "object", "additionalProperties": {"type": "integer"},
                       "minProperties": 1, "maxProperties": 2},
                      [{"a": 1}, {"a": 1, "b": 2}], [{}, {"a": 1, "b": 2, "c": 3}]),
    "dependentRequired": ({"type": "object", "properties": {n: {"type": "null"} for n in "ab"},
                           "dependentRequired": {"a": ["b"]}},
                          [{}, {"b": None}, {"a": None, "b": None}], [{"a": None}]),
    "dependencies": ({"type": "object", "properties": {"a": {"type": "null"}, "b": {}},
                      "dependencies": {"a": {"properties": {"b": {"const": 1}}}}},
                     [{"a": None, "b": 1}, {"b": 2}], [{"a": None, "b": 2}]),
    "unevaluatedProperties": ({"allOf": [thing(a={"type": "null"})], "properties": {"b": {}},
                               "unevaluatedProperties": False},
                              [{"a": None, "b": 1}], [{"a": None, "c": 1}]),
    "unevaluated by a cousin": ({"allOf": [{"type": "object", "properties": {"a": {}}},
                                           {"unevaluatedProperties": False}]}, [{}], [{"a": 1}]),
    "items": ({"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
              [[True], [True, False, True]], [[], [1], [True] * 4]),
    "many items": ({"type": "array", "items": {"const": 0}, "maxItems": 700},
                   [[0] * 700, []], [[0] * 701]),
    "prefixItems": ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}]},
                    [[], [1], [1, 2]], [[2], [1, 2, 3]]),
    "items after the first": ({"type": "array", "prefixItems": [{"type": "string"}],
                               "items": {"type": "integer"}, "minItems": 2},
                              [["a", 1], ["a", 1, 2]], [["a"], ["a", "b"], [1, 1]]),
    "draft 7's items": ({"type": "array", "items": [{"type": "string"}],
                         "additionalItems": {"type": "integer"}}, [["a"], ["a", 1]], [["a", "b"]]),
    "uniqueItems": ({"type": "array", "uniqueItems": True, "minItems": 1,
                     "items": {"enum": ["a", "b", 1, True, None]}},
                    [["a"], ["a", 1, None], ["a", "b", 1, True, None]], [[], ["a", "a"], [1, 1]]),
    "unevaluatedItems": ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2,
                          "unevaluatedItems": {"type": "string"}}, [[1, "a"]], [[1], [1, 1]]),
    "contains nothing": ({"type": "array", "contains": {"const": 1}, "minContains": 0},
                         [[]], [{}]),
    "allOf": ({"allOf": [{"type": "number", "minimum": 2}, {"type": "integer"}, {"maximum": 4}]},
              [2, 4], [1, 5, 2.5]),
    "anyOf beside others": ({"type": "object", "properties": {n: {"type": "null"} for n in "ab"},
                             "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
                            [{"a": None}, {"b": None}, {"a": None, "b": None}], [{}]),
    "oneOf by type": ({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "null"}}]},
                      ["", [None]], [None]),
    "oneOf by numbers": ({"oneOf": [{"type": "integer", "maximum": 5},
                                    {"type": "integer", "minimum": 3}]}, [2, 6], [3, 4, 5]),
    "oneOf by patterns": ({"type": "string", "oneOf": [{"pattern": "^a"}, {"pattern": "b$"}]},
                          ["ax", "xb"], ["ab", "c"]),
    "oneOf by a constant": ({"oneOf": [
        {"type": "object", "properties": {"k": {"const": "x"}, "v": {"type": "null"}}},
        {"type": "object", "properties": {"k": {"const": "y"}, "v": {"type": "null"}}}]},
        [{"k": "x", "v": None}, {"k": "y"}], [{}, {"v": None}]),
    "exactly one of": ({"type": "object", "properties": {n: {"type": "null"} for n in "ab"},
                        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                       [{"a": None}, {"b": None}], [{}, {"a": None, "b": None}]),
    "discriminator": ({"discriminator": {"propertyName": "k"}, "oneOf": [
        thing(k={"const": 1}), {"type": "object", "properties": {"k": {"const": 2}}}]},
        [{"k": 1}, {"k": 2}], [{}]),
    "not a type": ({"not": {"type": ["object", "array", "string"]}}, [1, None, True], ["", {}, []]),
    "not a value": ({"type": "number", "not": {"enum": [1, 2]}}, [3, 1.5], [1, 1.0, 2]),
    "not a pattern": ({"type": "string", "not": {"pattern": "a"}}, ["b", ""], ["cab"]),
    "not not": ({"type": "integer", "not": {"not": {"minimum": 3}}}, [3], [2]),
    "if, then, else": ({**thing(kind={"enum": ["a", "b"]}, size={"type": "integer"}),
                        "if": {"properties": {"kind": {"const": "a"}}},
                        "then": {"properties": {"size": {"maximum": 9}}},
                        "else": {"properties": {"size": {"minimum": 10}}}},
                       [{"kind": "a", "size": 9}, {"kind": "b", "size": 10}],
                       [{"kind": "a", "size": 10}, {"kind": "b", "size": 9}]),
    "$ref with others beside": ({"$ref": "#/$defs/n", "maximum": 5,
                                 "$defs": {"n": {"type": "integer", "minimum": 3}}},
                                [3, 5], [2, 6]),
    "$ref by $anchor and $id": ({"type": "array", "$id": "https://example.org/all",
                                 "prefixItems": [{"$ref": "#one"}, {"$ref": "two"}], "minItems": 2,
                                 "$defs": {"x": {"$anchor": "one", "const": 1},
                                           "y": {"$id": "two", "const": 2}}}, [[1, 2]], [[2, 1]]),
    "escaped pointers": ({"$ref": "#/$defs/a~1b~0c%25", "$defs": {"a/b~c%": {"const": 7}}},
                         [7], [8]),
    "remarks": ({"type": "null", "title": "t", "description": "d", "default": 1, "examples": [2],
                 "deprecated": True, "x-order": 3, "example": 4, "readOnly": True,
                 "contentEncoding": "base64", "enumNames": ["a"]}, [None], [1]),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYWORDS)
def test_each_keyword_is_kept(byte_walker, name: str) -> None:
    schema, written, not_written = KEYWORDS[name]
    text = grammar.from_schema(schema)
    grammar.check(text)
    for value in written:
        for indent in (None, 4):
            candidate = json.dumps(value, ensure_ascii=False, indent=indent)
            assert byte_walker.accepts(text, candidate), candidate
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        assert byte_walker.accepts(text, compact)
    for value in not_written:
        candidate = json.dumps(value, ensure_ascii=False)
        assert not byte_walker.accepts(text, candidate), candidate


def test_strings_are_written_as_json_has_them(byte_walker) -> None:
    free, some = (grammar.from_schema(one) for one in ({"type": "string"}, {"pattern": "^.$"}))
    for text, in_free, in_some in (
        ('"é"', True, True),
        ('"\\u00e9"', True, False),
        ('"\\ud83d\\ude00"', True, False),
        ('"\\ud83d"', False, False),
        ('"\\ude00"', False, False),
        ('"\\/"', True, False),
        ('"\\\\"', True, True),
        ('"\\""', True, True),
        ('"\\u0001"', True, True),
        ('"\\t"', True, True),
        ('"\\x"', False, False),
        ('"\t"', False, False),
        ('"""', False, False),
        ("'a'", False, False),
    ):
        assert byte_walker.accepts(free, text) == in_free, text
        assert byte_walker.accepts(some, text) == in_some, text


def test_white_space_is_what_people_use_and_ends(byte_walker) -> None:
    text = grammar.from_schema({"type": "array", "items": {"type": "integer"}})
    for written, allowed in (
        ("[1,2]", True),
        ("[1, 2]", True),
        ("[ 1, 2 ]", True),
        ("[\n\t1,\n\t2\n]", True),
        ("[\n" + " " * 40 + "1\n]", True),
        ("[]", True),
        ("[\n" + " " * 41 + "1]", False),
        ("[1 , 2]", False),
        ("[1,  2]", False),
        ("[1,\n\n2]", False),
        (" [1]", False),
        ("[1]\n", False),
    ):
        assert byte_walker.accepts(text, written) == allowed, written


RING = {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}

REFUSED: list[tuple[Any, str, str]] = [
    ("text", "", "a schema is an object, not a text"),
    ({"properties": {"a": 5}}, "/properties/a", "a schema belongs here, not a number"),
    ({"type": "text"}, "/type", "'text' is no type"),
    ({"type": []}, "/type", "empty"),
    ({"items": {"minLength": "3"}}, "/items/minLength", "whole number"),
    ({"maxItems": -1}, "/maxItems", "below 0"),
    ({"multipleOf": 0}, "/multipleOf", "greater than 0"),
    ({"required": "a"}, "/required", "a list of names"),
    ({"enum": 5}, "/enum", "a list"),
    ({"anyOf": []}, "/anyOf", "no alternatives"),
    ({"properties": {"a": {"minlength": 3}}}, "/properties/a/minlength", "mean 'minLength'"),
    ({"require": ["a"]}, "/require", "mean 'required'"),
    ({"pattern": "("}, "/pattern", "a group is not closed"),
    ({"pattern": "(?<!a)b"}, "/pattern", "look-behind"),
    ({"pattern": "^(a{1,60}b){1,60}$"}, "/pattern", "3,000 states"),
    ({"type": "string", "format": "regex"}, "/format", "'regex' cannot be followed"),
    ({"$ref": "other.json"}, "/$ref", "nothing is fetched"),
    ({"$ref": "#/$defs/x"}, "/$ref", "no such part"),
    ({"$ref": "#"}, "", "refers to itself"),
    ({"$ref": "#/$defs/a", "$defs": RING}, "/$defs/a", "refers to itself"),
    ({"$dynamicRef": "#x"}, "/$dynamicRef", "'$dynamicRef' cannot be followed"),
    ({"type": "array", "contains": {"const": 1}}, "/contains", "'contains' cannot be followed"),
    ({"type": "array", "uniqueItems": True, "items": {"type": "string"}}, "/uniqueItems", "listed"),
    ({"type": "object", "not": {"minProperties": 2}}, "/not", "cannot be told"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "", "no number within its bounds"),
    ({"type": "string", "pattern": "^a$", "minLength": 2}, "", "no text fits"),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, "", "exclude each other"),
    ({"type": "string", "enum": [1, 2]}, "", "none of its values"),
    ({**thing(a={"type": "integer"}), "additionalProperties": False, "minProperties": 2}, "", ""),
    (
        {"type": "object", "required": ["a"], "additionalProperties": False},
        "",
        "nothing is allowed here",
    ),
    ({"$ref": "#/$defs/n", "$defs": {"n": thing(next={"$ref": "#/$defs/n"})}}, "", "without end"),
    ({"type": "string", "minLength": 2_000_000}, "", "1,000,000 is the limit"),
    ({"enum": list(range(10_001))}, "/enum", "10,000 is the limit"),
    (thing(**{f"p{n}": {} for n in range(501)}), "/properties", "500 is the limit"),
    (
        {"type": "object", "patternProperties": {c: {} for c in "abcde"}},
        "/patternProperties",
        "4 is",
    ),
    ({"const": float("inf")}, "/const", "no number in JSON"),
    ({"const": "\ud800"}, "/const", "half a character"),
    ({"const": {1, 2}}, "/const", "no JSON"),
    ({"minimum": 10**400}, "/minimum", "more than 300 digits"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_cannot_be_followed_is_refused_with_its_place(number: int) -> None:
    schema, pointer, message = REFUSED[number]
    with pytest.raises(UnsupportedSchemaError) as caught:
        grammar.from_schema(schema)
    assert isinstance(caught.value, InvalidValueError)
    assert message in caught.value.message
    assert caught.value.details["pointer"] == pointer or not pointer, caught.value.details
    assert f"At {caught.value.details['pointer'] or 'the top'}: " in caught.value.message
    assert from_wire(to_wire(caught.value)).details == caught.value.details
