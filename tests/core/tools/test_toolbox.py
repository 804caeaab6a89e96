"""Functions as tools: their schema, their arguments, and what is refused. 3 seconds."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import json
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, NewType

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from support.tool_kinds import Address, Colour, Level, Movie, Person, Place, Point, Shape

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.tools import Tool, ToolBox, docstrings, tool

NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
UserId = NewType("UserId", int)

# Annotation -> (JSON values that it accepts, with what the function then gets)
EXAMPLES: list[tuple[Any, list[tuple[Any, Any]], list[Any]]] = [
    (str, [("a", "a"), ("", "")], [1, None, ["a"]]),
    (int, [(3, 3), (3.0, 3)], ["3", 3.5, True, None]),
    (float, [(3, 3.0), (2.5, 2.5)], ["3", False]),
    (bool, [(True, True)], [1, "true", None]),
    (None, [(None, None)], [0, ""]),
    (Literal["a", 1] | None, [("a", "a"), (1, 1), (None, None)], ["b", True, 2]),
    (Colour, [("red", Colour.RED)], ["RED", 1]),
    (Level, [(2, Level.HIGH)], ["HIGH", 3]),
    (Shape, [("FLAT", Shape.FLAT)], [[3, 4]]),
    (int | None, [(1, 1), (None, None)], ["x"]),
    (typing.Optional[Colour], [("blue", Colour.BLUE), (None, None)], ["x"]),  # noqa: UP045
    (list[int], [([1, 2], [1, 2]), ([], [])], [{}, ["a"], "ab", 1]),
    (list, [([1, "a"], [1, "a"])], [{}]),
    (set[str], [(["a", "a"], {"a"})], ["a"]),
    (tuple[int, str], [([1, "a"], (1, "a"))], [[1], [1, "a", 2], ["a", 1]]),
    (tuple[int, ...], [([1, 2, 3], (1, 2, 3))], [["a"]]),
    (dict[str, int], [({"a": 1}, {"a": 1})], [{"a": "b"}, []]),
    (dict, [({"a": [1]}, {"a": [1]})], [[]]),
    (Any, [({"a": 1}, {"a": 1}), (None, None)], []),
    (Point, [({"x": 1}, Point(1)), ({"x": 1, "y": 2, "label": "p"}, Point(1, 2.0, "p"))],
     [{}, {"x": 1, "z": 2}, {"x": "a"}, 1]),
    (Place, [({"row": 2}, Place(2))], [[2, 3], {}]),
    (Movie, [({"title": "M"}, {"title": "M"})], [{"year": 3}, {"title": "M", "x": 1}]),
    (Person, [({"name": "E", "home": {"street": "S", "number": 2}},
               Person(name="E", home=Address(street="S", number=2)))],
     [{"name": 1}, {"name": "E", "home": {"street": "S", "number": 0}}]),
    (list[Person], [([{"name": "E"}], [Person(name="E")])], [[{}]]),
    (dt.date, [("2026-01-31", dt.date(2026, 1, 31))], [1]),
    (dt.datetime, [("2026-01-31T12:00:00+00:00", NOON)], [1]),
    (Path, [("/a", Path("/a"))], [1]),
    (UserId, [(7, 7)], ["7"]),
    (Annotated[int, "how many", Field(ge=1, le=5)], [(5, 5)], [0, 6, "a"]),
    (Annotated[str, Field(min_length=2, pattern="^a")], [("ab", "ab")], ["a", "ba"]),
    (Annotated[list[int], Field(max_length=2)], [([1, 2], [1, 2])], [[1, 2, 3]]),
]  # fmt: skip


def of(annotation: Any, **options: Any) -> Tool:
    def function(value):  # type: ignore[no-untyped-def]
        return value

    function.__annotations__ = {"value": annotation}
    return tool(function, **options)


@pytest.mark.parametrize(("annotation", "good", "bad"), EXAMPLES, ids=lambda v: str(v)[:40])
def test_the_schema_accepts_what_the_annotation_accepts_and_the_function_gets_that(
    annotation: Any, good: list[Any], bad: list[Any]
) -> None:
    made = of(annotation)
    validator = jsonschema.Draft202012Validator(made.parameters)
    jsonschema.Draft202012Validator.check_schema(made.parameters)
    for value, expected in good:
        assert validator.is_valid({"value": value}), value
        taken = made.bind({"value": value})["value"]
        assert taken == expected
        assert type(taken) is type(expected)
    for value in bad:
        assert not validator.is_valid({"value": value}), value
        with pytest.raises(InvalidValueError, match="value"):
            made.bind({"value": value})


PLAIN = st.sampled_from([str, int, float, bool, type(None), Colour, Level, Point, Movie, Place])
ANNOTATIONS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),
        inner.map(lambda one: dict[str, one]),
        inner.map(lambda one: one | None),
        st.tuples(inner, inner).map(lambda two: tuple[two]),
    ),
    max_leaves=4,
)


def as_json(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: as_json(one) for name, one in value._asdict().items()}
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return value


st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_value_of_an_annotation_goes_through_its_schema_and_comes_back(
    data: st.DataObject,
) -> None:
    annotation = data.draw(ANNOTATIONS)
    value = data.draw(st.from_type(annotation))
    made = of(annotation)
    sent = json.loads(json.dumps({"value": as_json(value)}))
    jsonschema.validate(sent, made.parameters, jsonschema.Draft202012Validator)
    assert made.bind(sent)["value"] == value


def test_a_whole_function_becomes_openais_form() -> None:
    def weather(
        city: str, days: int = 3, unit: Literal["c", "f"] = "c", colour: Colour = Colour.RED
    ) -> str:
        """Say how the weather will be,
        for some days.

        Parameters
        ----------
        city : str
            The city, in English.
        days, unit
            Both.

        Returns
        -------
        str
            What is said.
        """
        return city

    made = Tool(weather)
    assert made.schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Say how the weather will be, for some days.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city, in English."},
                    "days": {"type": "integer", "description": "Both.", "default": 3},
                    "unit": {"enum": ["c", "f"], "description": "Both.", "default": "c"},
                    "colour": {"enum": ["red", "blue"], "default": "red"},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
    assert made("Bern") == "Bern"
    assert made.bind({"city": "Bern"}) == {"city": "Bern"}  # the function's own defaults count
    with pytest.raises(InvalidValueError, match="needs 'city'"):
        made.bind({})
    with pytest.raises(InvalidValueError, match="no parameter 'town'"):
        made.bind({"city": "a", "town": "b"})
    with pytest.raises(InvalidValueError, match="must be an object"):
        made.bind([1])


GOOGLE = """Do it.

More.

Args:
    a (int, optional): the first: one
        more
    b: two

Returns:
    int: x
"""
NUMPY = """Do it.

More.

Parameters
----------
a : int, optional
    the first: one
    more
b
    two

Returns
-------
int
    x
"""
SPHINX = """Do it.

More.

:param int a: the first: one
    more
:param b: two
:returns: x
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_the_three_styles_of_docstrings_say_the_same(text: str) -> None:
    assert docstrings.read(text) == (
        "Do it.\n\nMore.", {"a": "the first: one more", "b": "two"}
    )  # fmt: skip


@given(st.text(max_size=300))
def test_no_docstring_breaks_the_reading(text: str) -> None:
    said = docstrings.read(text)
    assert len(said.summary) <= 2000


def test_other_kinds_of_callables_and_options() -> None:
    class Counter:
        def add(self, n: int) -> int:
            """Add."""
            return n

        def __call__(self, n: int) -> int:
            """Call."""
            return n

    def power(base: int, exponent: int) -> int:
        """Raise."""
        return int(base**exponent)

    async def wait(seconds: float) -> None:
        """Wait."""

    assert Tool(Counter().add).name == "add"
    assert list(Tool(Counter(), name="count").parameters["properties"]) == ["n"]
    square = Tool(functools.partial(power, exponent=2))
    assert square.name == "power"
    assert square.parameters["required"] == ["base"]
    assert Tool(wait).is_async

    @tool(approve=False, timeout_s=2, description="Other words.")
    def sub(a: int) -> int:
        """Words."""
        return a

    assert (sub.approve, sub.timeout_s, sub.description) == (False, 2.0, "Other words.")
    again = tool(sub, name="minus")
    assert (again.name, again.approve, again.description) == ("minus", False, "Other words.")
    box = ToolBox([power, sub], timeout_s=5, max_rounds=3)
    assert box.names == ["power", "sub"]
    assert (box.timeout_of(box.get("power")), box.timeout_of(sub)) == (5.0, 2.0)  # type: ignore[arg-type]
    assert ToolBox(box).names == box.names


def _many(*numbers: int) -> None: ...
def _more(**numbers: int) -> None: ...
def _hidden(a: int, /) -> None: ...
def _bare(a, b: int) -> None: ...  # type: ignore[no-untyped-def]
def _bytes(a: bytes) -> None: ...
def _keys(a: dict[int, str]) -> None: ...
def _wrong(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def _values(a: Literal[b"x"]) -> None: ...  # type: ignore[valid-type]
def _yields(a: int) -> Any:
    yield a


class Node:
    pass


@dataclasses.dataclass
class Tree:
    left: Tree | None = None


def _class(a: Node) -> None: ...
def _tree(a: Tree) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_many, r"_many.*\*numbers"), (_more, r"\*\*numbers"), (_hidden, "'a'.*positional-only"),
        (_bare, "'a'.*no annotation"), (_bytes, "'a'.*bytes"), (_keys, "'a'.*keys of int"),
        (_wrong, "_wrong.*Nowhere"), (_values, "'a'.*JSON"), (_yields, "_yields.*list"),
        (_class, "'a'.*Node"), (_tree, "'a'.*contains itself"), (lambda a: a, "<lambda>.*name"),
        (int, "is a function"), (5, "is a function"),
    ],
)  # fmt: skip
def test_what_cannot_be_described_is_refused_by_name(function: Any, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        Tool(function)


def test_boxes_are_checked() -> None:
    def one(a: int) -> int:
        return a

    for wrong, words in [
        (one, "list of functions"),
        ("one", "list of functions"),
        ([one, one], "Two tools"),
        ([tool(one, name=f"t{n}") for n in range(65)], "at most 64"),
    ]:
        with pytest.raises(InvalidValueError, match=words):
            ToolBox(wrong)  # type: ignore[arg-type]
    for keywords in ({"timeout_s": 0}, {"timeout_s": "1"}, {"max_rounds": 0}, {"max_rounds": 1.5}):
        with pytest.raises(InvalidValueError, match=next(iter(keywords))):
            ToolBox([one], **keywords)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="no option 'aprove'"):
        tool(one, aprove=False)
    with pytest.raises(InvalidValueError, match="name"):
        tool(one, name="two words")
