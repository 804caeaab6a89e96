"""Classes for the parameters of tools.

Not a test and no fixture.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple, NotRequired, TypedDict

from pydantic import BaseModel, Field


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(enum.Enum):
    ROUND = (1, 2)
    FLAT = (3, 4)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.5
    label: str | None = None


class Place(NamedTuple):
    row: int
    column: int = 0


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Address(BaseModel):
    street: str
    number: int = Field(ge=1)


class Person(BaseModel):
    name: str
    home: Address | None = None
