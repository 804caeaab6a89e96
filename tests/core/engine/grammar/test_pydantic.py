"""What is written for a pydantic model, pydantic reads."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import ipaddress
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, Union

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from gguf_widgets.core.engine import grammar


class Colour(enum.Enum):
    RED = "red"
    QUOTED = 'gr"een'
    THIRD = 3


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 10


class Part(BaseModel):
    x: int
    y: float | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=0, le=9)


class Dog(BaseModel):
    # With a default, so not required by the schema; the discriminator is, by pydantic.
    kind: Literal["dog"] = "dog"
    good: bool = True


class Lizard(BaseModel):
    kind: Literal["lizard"]
    friend: Optional[Pet] = None  # noqa: UP045 - a forward reference inside


Pet = Annotated[Union[Cat, Dog, Lizard], Field(discriminator="kind")]  # noqa: UP007


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Add(BaseModel):
    op: Literal["+"]
    left: Expression
    right: Expression


class Times(BaseModel):
    op: Literal["*"]
    left: Expression
    right: Expression


Expression = Union[Add, Times, float]  # noqa: UP007


class More(BaseModel):
    """Alternatives that only their last property tells apart, however deep they are nested."""

    left: Undecided
    right: Undecided
    more: bool


class Less(BaseModel):
    left: Undecided
    right: Undecided
    less: bool


Undecided = Union[More, Less, int]  # noqa: UP007


class Plain(BaseModel):
    model_config = ConfigDict(extra="forbid")
    i: int
    f: float
    s: str
    b: bool
    n: None
    o: int | None
    lit: Literal["a", 1, True] | None
    colour: Colour
    level: Level


class Formatted(BaseModel):
    day: dt.date
    time: dt.time
    moment: dt.datetime
    span: dt.timedelta
    id: uuid.UUID
    id4: pydantic.UUID4
    ip4: ipaddress.IPv4Address
    ip6: ipaddress.IPv6Address
    url: pydantic.HttpUrl
    any_url: pydantic.AnyUrl


class Bounded(BaseModel):
    items: list[int] = Field(min_length=1, max_length=3)
    pair: tuple[int, str, bool]
    many: tuple[int, ...]
    colours: set[Colour]
    ages: dict[str, int]
    keys: dict[Literal["x", "y"], float]
    by_colour: dict[Colour, Part]
    code: str = Field(pattern=r"^[A-Z]{3}-\d{4}$")
    short: str = Field(min_length=2, max_length=5)
    percent: float = Field(ge=0, le=100)
    positive: pydantic.PositiveInt
    negative: pydantic.NegativeFloat
    five: int = Field(multiple_of=5)
    quarter: float = Field(multiple_of=0.25, ge=0, le=10)
    cents: Annotated[float, Field(gt=0, lt=1)]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int
    b: str = "x"


class Aliased(BaseModel):
    from_: str = Field(alias="from")
    x: int = Field(gt=1, lt=5)


class Loose(BaseModel):
    anything: Any
    table: dict[str, Any]
    union: int | str | list[Part]
    secret: pydantic.SecretStr


@dataclasses.dataclass
class Point:
    a: int
    b: list[str] = dataclasses.field(default_factory=list)


Wide = create_model("Wide", **{f"field_{i}": (str | None, None) for i in range(40)})

TYPES: list[Any] = [
    Colour, Part, Pet, Tree, Expression, Undecided, Plain, Formatted, Bounded, Open, Aliased, Loose,
    Point, Wide, int, str, list[int], Sequence[int], Mapping[str, int], dict[str, list[Part]],
    set[bool], frozenset[Literal[1, 2, 3]], list[Annotated[int, Field(ge=1, le=3)]], tuple[()],
    Annotated[str, Field(pattern="^a+$", max_length=4000)],
    Annotated[int, Field(ge=-(2**63), lt=2**63)], Annotated[int, Field(ge=10, le=10)],
    Annotated[dict[str, int], Field(min_length=1, max_length=3)],
    Annotated[str, Field(pattern=r"^\S{1,8}@\S{1,8}\.[a-z]{2,3}$")],
    Annotated[str, Field(pattern=r"^\D\W$")],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_pydantic_reads_what_is_written(walker, byte_walker, number: int) -> None:
    adapter = TypeAdapter(TYPES[number])
    text = grammar.from_schema(adapter.json_schema())
    rng = random.Random(number)  # noqa: S311 - a text to repeat
    read = 0
    for attempt in range(10):
        written = (walker if attempt % 2 else byte_walker).write(text, rng, 2_000)
        if written is not None:
            adapter.validate_json(written)
            read += 1
    assert read >= 5
