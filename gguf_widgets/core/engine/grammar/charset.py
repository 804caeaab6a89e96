"""Sets of characters, as sorted ranges of code points.

Promises: every function returns ranges that are sorted, apart from each other, and free of
surrogates, which no text can hold. Leaves to others: which characters a class stands for
(`classes`), and how a set is written (`rules`).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence

__all__ = [
    "ANY",
    "NONE",
    "Charset",
    "chars",
    "complement",
    "contains",
    "intersect",
    "of",
    "partition",
    "subtract",
    "union",
]

Charset = tuple[tuple[int, int], ...]
"""Inclusive ranges of code points."""

NONE: Charset = ()
ANY: Charset = ((0, 0xD7FF), (0xE000, 0x10FFFF))


def of(ranges: Iterable[tuple[int, int]]) -> Charset:
    """Return the set of these inclusive ranges."""
    merged: list[list[int]] = []
    for low, high in sorted(bounds for bounds in ranges if bounds[0] <= bounds[1]):
        if merged and low <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    found = tuple((low, high) for low, high in merged)
    return found if not found or found[-1][1] < 0xD800 else intersect(found, ANY)


def chars(text: str) -> Charset:
    """Return the set of the characters of a text."""
    return of((ord(char), ord(char)) for char in text)


def union(*sets: Charset) -> Charset:
    """Return what is in any of the sets."""
    if len(sets) == 1:
        return sets[0]
    return of(bounds for one in sets for bounds in one)


def intersect(left: Charset, right: Charset) -> Charset:
    """Return what is in both sets."""
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def complement(one: Charset) -> Charset:
    """Return every character that is not in the set."""
    gaps, start = [], 0
    for low, high in one:
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    if start <= 0x10FFFF:
        gaps.append((start, 0x10FFFF))
    return intersect(tuple(gaps), ANY)


def subtract(left: Charset, right: Charset) -> Charset:
    """Return what is in the first set and not in the second."""
    return intersect(left, complement(right))


def contains(one: Charset, code_point: int) -> bool:
    """Say whether a code point is in the set."""
    place = bisect_right(one, (code_point, 0x110000)) - 1
    return place >= 0 and one[place][0] <= code_point <= one[place][1]


def partition(sets: Sequence[Charset]) -> list[Charset]:
    """Cut the union of the sets into parts that lie wholly inside or outside each of them."""
    cuts: dict[int, list[int]] = {}
    for number, one in enumerate(sets):
        for low, high in one:
            cuts.setdefault(low, []).append(number)
            cuts.setdefault(high + 1, []).append(number)
    parts: dict[frozenset[int], list[tuple[int, int]]] = {}
    inside: set[int] = set()
    places = sorted(cuts)
    for here, following in itertools.pairwise(places):
        inside.symmetric_difference_update(cuts[here])
        if inside:
            parts.setdefault(frozenset(inside), []).append((here, following - 1))
    return [of(ranges) for ranges in parts.values()]
