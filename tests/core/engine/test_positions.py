"""The positions of tokens behind images that take fewer positions than tokens."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny_projector import picture

from gguf_widgets.core.engine.positions import Positions, positions_of
from gguf_widgets.core.images import Image
from gguf_widgets.core.types import ImageSpan

ONE = Image(picture())


def spans_of(rng: np.random.Generator, *, fewer: bool = True) -> tuple[list[ImageSpan], int]:
    spans, at = [], 0
    for _ in range(rng.integers(0, 5)):
        at += int(rng.integers(0, 6))
        count = int(rng.integers(1, 12))
        taken = int(rng.integers(1, count + 1)) if fewer else count
        spans.append(ImageSpan(start=at, num_tokens=count, num_positions=taken, image=ONE))
        at += count
    return spans, at + int(rng.integers(1, 6))


@pytest.mark.parametrize("seed", range(50))
def test_as_counted_one_by_one(seed: int) -> None:
    spans, length = spans_of(np.random.default_rng(seed))
    wanted: list[int] = []
    position = index = 0
    while index < length:
        span = next((span for span in spans if span.start == index), None)
        if span is None:
            wanted.append(position)
            position, index = position + 1, index + 1
        else:
            wanted += [position] * span.num_tokens
            position, index = position + span.num_positions, index + span.num_tokens
    positions = Positions(spans)
    assert [positions.at(number) for number in range(length)] == wanted
    assert [positions.last(number) for number in range(length + 1)] == [-1, *wanted]
    inside = {number for span in spans for number in range(span.start + 1, span.end)}
    for number in range(length + 1):
        whole = positions.whole(number)
        assert whole not in inside
        assert whole <= number
        assert all(one in inside for one in range(whole + 1, number + 1))


def test_only_where_positions_have_dimensions_are_they_not_the_tokens_numbers() -> None:
    assert positions_of([], 1) is positions_of([], 4) is None
    spans, _ = spans_of(np.random.default_rng(3), fewer=False)
    assert spans
    assert positions_of(spans, 1) is None
    # A narrow image, which takes as many positions as tokens, can no more be cut than any other.
    narrow = positions_of([ImageSpan(start=4, num_tokens=71, num_positions=71, image=ONE)], 4)
    assert narrow is not None
    assert [narrow.at(index) for index in (3, 4, 5, 74, 75)] == [3, 4, 4, 4, 75]
    assert (narrow.whole(5), narrow.whole(75)) == (4, 75)
