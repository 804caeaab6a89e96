"""Draws the figures that the eye learns from, and the ones it is measured on.

Promises: a drawing follows from its seed and number alone, at any size; it shows one figure, of a
colour that stands out from what is behind it; everything is numpy, and a PNG is written byte by
byte.

Leaves to others: questions about a drawing (`questions`).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Width and height in pixels that the eye sees; llama.cpp brings every picture to it."""

PADDING = (122, 116, 104)
"""The colour with which llama.cpp makes a picture square."""

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]
Colour = tuple[float, float, float]
"""Red, green and blue, from 0 to 1."""

# Each colour: its plain form, then how far its hue may turn, and the least and most of its
# saturation and value. Between two neighbours stays a gap that belongs to nobody.
COLOURS: dict[str, tuple[float, float, tuple[float, float], tuple[float, float]]] = {
    "red": (0.0, 0.018, (0.78, 1.0), (0.7, 1.0)),
    "orange": (0.083, 0.017, (0.85, 1.0), (0.92, 1.0)),
    "yellow": (0.158, 0.016, (0.7, 1.0), (0.9, 1.0)),
    "green": (0.35, 0.055, (0.6, 1.0), (0.45, 1.0)),
    "blue": (0.62, 0.045, (0.65, 1.0), (0.6, 1.0)),
    "purple": (0.787, 0.027, (0.55, 1.0), (0.4, 0.8)),
    "black": (0.0, 0.5, (0.0, 0.3), (0.0, 0.14)),
    "white": (0.0, 0.5, (0.0, 0.04), (0.94, 1.0)),
}
PLAIN: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "orange": (255, 140, 0),
    "yellow": (255, 230, 0),
    "green": (0, 150, 40),
    "blue": (0, 60, 255),
    "purple": (128, 0, 160),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}


# How far a point is from the edge of a figure of radius 1, negative inside.


def _circle(x: Floats, y: Floats) -> Floats:
    found: Floats = np.hypot(x, y) - 1.0
    return found


def _ring(x: Floats, y: Floats) -> Floats:
    found: Floats = np.abs(np.hypot(x, y) - 0.78) - 0.22
    return found


def _box(x: Floats, y: Floats, wide: float, high: float) -> Floats:
    found: Floats = np.maximum(np.abs(x) - wide, np.abs(y) - high)
    return found


def _square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.8, 0.8)


def _cross(x: Floats, y: Floats) -> Floats:
    found: Floats = np.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0))
    return found


def _triangle(x: Floats, y: Floats) -> Floats:
    slope = 0.866 * np.abs(x) - 0.5 * y
    found: Floats = np.maximum(slope, y) - 0.5
    return found


def _star(x: Floats, y: Floats) -> Floats:
    part = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + part / 2) % part - part / 2)  # 0 at a tip
    reach = np.hypot(x, y)
    along, across = reach * np.cos(angle), reach * np.sin(angle)
    # The edge runs from the tip (1, 0) to the notch, 0.42 away at half a part.
    right, up = 0.42 * math.cos(part / 2) - 1.0, 0.42 * math.sin(part / 2)
    long = math.hypot(right, up)
    found: Floats = (along - 1.0) * (up / long) - across * (right / long)
    return found


def _heart(x: Floats, y: Floats) -> Floats:
    y = y - 0.08
    turned_x, turned_y = 0.7071 * (np.abs(x) - y), 0.7071 * (np.abs(x) + y)
    square = _box(turned_x, turned_y, 0.54, 0.54)
    lobe = np.hypot(turned_x - 0.54, turned_y) - 0.54
    found: Floats = np.minimum(square, lobe)
    return found


def _moon(x: Floats, y: Floats) -> Floats:
    found: Floats = np.maximum(np.hypot(x, y) - 1.0, 0.86 - np.hypot(x - 0.5, y))
    return found


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "moon": _moon,
}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Its radius is a share of the picture's shorter side. `x` and `y` say where it is: 0 is the
    middle, -1 and 1 are as far to one side as it fits.
    """

    shape: str
    colour: str
    paint: Colour
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.35
    turn: float = 0.0
    outline: Colour | None = None


@dataclass(frozen=True)
class Drawing:
    """A figure and what is behind it."""

    figure: Figure
    ground: str = "plain"
    ground_paints: tuple[Colour, Colour] = ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    ground_turn: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    others: tuple[Figure, ...] = field(default=())


GROUNDS = ("plain", "slope", "halves", "stripes", "checks")


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    part = (hue % 1.0) * 6.0
    mixed = [min(max(abs((part - shift) % 6.0 - 3.0) - 1.0, 0.0), 1.0) for shift in (0.0, 2.0, 4.0)]
    red, green, blue = (value * (1.0 - saturation + saturation * one) for one in mixed)
    return red, green, blue


def paint(rng: Random, colour: str) -> Colour:
    """Return one of the many reds, greens ... that go by the name of this colour."""
    if rng.random() < 0.25:
        red, green, blue = PLAIN[colour]
        return red / 255, green / 255, blue / 255
    hue, spread, saturation, value = COLOURS[colour]
    return _hsv(hue + rng.uniform(-spread, spread), rng.uniform(*saturation), rng.uniform(*value))


def _unlike(one: Colour, other: Colour) -> float:
    """Say how unlike two colours look, from 0 to about 3; green counts most, as in the eye."""
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return float((2 * red * red + 4 * green * green + 3 * blue * blue) ** 0.5)


def _ground_paint(rng: Random, figure: Colour, least: float) -> Colour:
    while True:
        luck = rng.random()
        if luck < 0.3:
            found = (1.0, 1.0, 1.0)
        elif luck < 0.55:
            found = (rng.uniform(0.0, 1.0),) * 3
        elif luck < 0.75:
            found = _hsv(rng.random(), rng.uniform(0.05, 0.4), rng.uniform(0.75, 1.0))
        else:
            found = _hsv(rng.random(), rng.random(), rng.random())
        if _unlike(found, figure) >= least:
            return found


def drawing(rng: Random, shape: str | None = None, colour: str | None = None) -> Drawing:
    """Make a drawing up.

    Parameters
    ----------
    rng
        Where all chance comes from.
    shape, colour
        What it shows; any of `SHAPES` and `COLOURS` unless told.
    """
    shape = shape or rng.choice(list(SHAPES))
    colour = colour or rng.choice(list(COLOURS))
    painted = paint(rng, colour)
    radius = rng.uniform(0.2, 0.44)
    turn = rng.uniform(-0.3, 0.3) if rng.random() < 0.5 else rng.uniform(-math.pi, math.pi)
    outline = None
    if rng.random() < 0.12:
        grey = rng.choice((0.0, 0.1, 0.25))
        outline = (grey, grey, grey)
    ground = rng.choices(GROUNDS, (0.5, 0.2, 0.1, 0.1, 0.1))[0]
    first = _ground_paint(rng, painted, 0.75)
    # Only figures stand out: the second colour of a pattern is like the first.
    second = first
    while ground != "plain":
        second = tuple(  # type: ignore[assignment]
            min(1.0, max(0.0, part + rng.uniform(-0.22, 0.22))) for part in first
        )
        if _unlike(second, painted) >= 0.7:
            break
    return Drawing(
        Figure(
            shape, colour, painted, rng.uniform(-1, 1), rng.uniform(-1, 1), radius, turn, outline,
        ),
        ground, (first, second), rng.uniform(-math.pi, math.pi),
        rng.uniform(0.01, 0.07) if rng.random() < 0.3 else 0.0, rng.getrandbits(32),
    )  # fmt: skip


def numbered(seed: int, number: int, part: str = "held_out") -> Drawing:
    """Return a drawing that follows from its part, its seed and its number alone."""
    return drawing(Random(f"{part} {seed} {number}"))


def render(drawn: Drawing, width: int = SIDE, height: int = SIDE) -> Pixels:
    """Return the pixels (height, width, 3) of a drawing, with soft edges.

    Parameters
    ----------
    drawn
        What to draw.
    width, height
        In pixels, 8 or more.
    """
    short = min(width, height)
    x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / short)[None, :]
    y = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / short)[:, None]
    pixels = _ground(drawn, x, y)
    for figure in (drawn.figure, *drawn.others):
        _put(pixels, figure, x, y, short)
    if drawn.noise:
        chance = np.random.default_rng(drawn.noise_seed)
        pixels += chance.normal(0.0, drawn.noise, pixels.shape).astype(np.float32)
    return (np.clip(pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _ground(drawn: Drawing, x: Floats, y: Floats) -> Floats:
    first, second = (np.array(one, np.float32) for one in drawn.ground_paints)
    sine, cosine = math.sin(drawn.ground_turn), math.cos(drawn.ground_turn)
    along, across = x * cosine + y * sine, y * cosine - x * sine
    share: Floats
    if drawn.ground == "plain":
        share = np.zeros_like(along)
    elif drawn.ground == "slope":
        share = np.clip(along + 0.5, 0.0, 1.0)
    elif drawn.ground == "halves":
        share = (along > 0.0).astype(np.float32)
    elif drawn.ground == "stripes":
        share = (along % 0.24 < 0.12).astype(np.float32)
    else:
        share = ((along % 0.3 < 0.15) ^ (across % 0.3 < 0.15)).astype(np.float32)
    made: Floats = first + share[..., None].astype(np.float32) * (second - first)
    return made


def _put(pixels: Floats, figure: Figure, x: Floats, y: Floats, short: int) -> None:
    sine, cosine = math.sin(figure.turn), math.cos(figure.turn)
    edge = 0.5 / short  # of a pixel, from the middle of the outermost one to the border
    across, along = x.max() + edge - figure.radius, y.max() + edge - figure.radius
    left = (x - figure.x * across) / figure.radius
    down = (y - figure.y * along) / figure.radius
    away = SHAPES[figure.shape](left * cosine + down * sine, down * cosine - left * sine)
    away = away * (figure.radius * short)  # in pixels
    if figure.outline is not None:
        thick = max(1.0, 0.02 * short)
        _cover(pixels, figure.outline, away - thick / 2)
        away = away + thick / 2
    _cover(pixels, figure.paint, away)


def _cover(pixels: Floats, painted: Colour, away: Floats) -> None:
    share = np.clip(0.5 - away, 0.0, 1.0).astype(np.float32)[..., None]
    pixels += share * (np.array(painted, np.float32) - pixels)


def as_seen(rng: Random, drawn: Drawing) -> Pixels:
    """Return a drawing as the eye gets it after llama.cpp has made it square.

    Some drawings are wide or high; those get bars, as llama.cpp adds them.
    """
    width = height = SIDE
    if rng.random() < 0.3:
        other = rng.randint(SIDE * 5 // 9, SIDE - 1)
        width, height = rng.choice(((SIDE, other), (other, SIDE)))
    seen = np.empty((SIDE, SIDE, 3), np.uint8)
    seen[:] = PADDING
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    seen[top : top + height, left : left + width] = render(drawn, width, height)
    return seen


def png_bytes(pixels: Pixels) -> bytes:
    """Write pixels (height, width, 3) as a PNG."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
