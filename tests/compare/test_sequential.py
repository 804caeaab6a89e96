"""Looking after every prompt: how often equal sides are called different, how soon others are.

About 5 s. The seeds are fixed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from gguf_widgets.compare.sequential import clear_after, sequential_interval
from gguf_widgets.compare.statistics import difference_interval
from gguf_widgets.core.errors import InvalidValueError

TRIALS = 600


def draws(better: float, worse: float, num: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    chances = [better, 1 - better - worse, worse]
    return random.choice([1.0, 0.0, -1.0], size=(TRIALS, num), p=chances)


@pytest.mark.parametrize(("chance", "num"), [(0.5, 300), (0.2, 300), (0.02, 1000)])
def test_equal_sides_are_called_different_in_at_most_one_of_twenty_however_often_one_looks(
    chance: float, num: int
) -> None:
    values = draws(chance, chance, num, 1)
    alarms = np.mean([clear_after(one, bounds=(-1, 1)) is not None for one in values])
    assert alarms <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_an_ordinary_test_that_is_looked_at_as_often_would_cry_wolf() -> None:
    """The reason for all this: the same data, the same level, looked at after every tenth."""
    values = draws(0.3, 0.3, 200, 2)[:150]
    alarms = 0
    for one in values:
        for stop in range(10, 201, 10):
            found = difference_interval(one[:stop], bounds=(-1, 1), num_resamples=200)
            if found.low > 0 or found.high < 0:  # type: ignore[operator]
                alarms += 1
                break
    assert alarms / len(values) > 0.1
    sequential = np.mean([clear_after(one, bounds=(-1, 1)) is not None for one in values])
    assert sequential <= 0.05


def test_lopsided_scores_are_no_way_round_the_limit() -> None:
    """Mean 0 with rare large and frequent small differences."""
    random = np.random.default_rng(4)
    values = np.where(random.random((TRIALS, 400)) < 0.05, 0.95, -0.05)
    alarms = np.mean([clear_after(one, bounds=(-1, 1)) is not None for one in values])
    assert alarms <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / TRIALS)


@pytest.mark.parametrize(
    ("better", "worse", "usual"), [(0.3, 0.1, 120), (0.5, 0.1, 50), (0.1, 0.0, 150), (1.0, 0.0, 10)]
)
def test_a_real_difference_ends_it_and_a_large_one_soon(
    better: float, worse: float, usual: int
) -> None:
    ends = [clear_after(one, bounds=(-1, 1)) for one in draws(better, worse, 400, 3)[:200]]
    assert np.mean([end is not None for end in ends]) > 0.95
    assert np.median([end or 400 for end in ends]) <= usual


def test_the_interval_holds_the_truth_at_every_moment_at_once() -> None:
    values = draws(0.35, 0.15, 150, 5)[:120]
    missed = 0
    for one in values:
        for stop in (5, 10, 20, 40, 80, 150):
            found = sequential_interval(one[:stop], bounds=(-1, 1))
            if not found.low <= 0.2 <= found.high:  # type: ignore[operator]
                missed += 1
                break
    assert missed / len(values) <= 0.05


def test_clear_and_the_interval_say_the_same() -> None:
    for one in draws(0.25, 0.15, 200, 6)[:100]:
        end = clear_after(one, bounds=(-1, 1))
        stop = end if end is not None else len(one)
        found = sequential_interval(one[:stop], bounds=(-1, 1))
        holds_zero = found.low <= 0 <= found.high  # type: ignore[operator]
        assert holds_zero == (end is None)
        assert found.method == "sequential"


def test_of_a_thousand_prompts_the_interval_becomes_narrow() -> None:
    values = draws(0.2, 0.1, 5000, 7)[0]
    found = sequential_interval(values, bounds=(-1, 1))
    assert found.low < values.mean() < found.high  # type: ignore[operator]
    assert found.high - found.low < 0.1  # type: ignore[operator]


def test_few_values_bounds_and_nonsense() -> None:
    assert sequential_interval([], bounds=(-1, 1)).mean is None
    one = sequential_interval([1.0], bounds=(-1, 1))
    assert (one.low, one.high) != (1.0, 1.0)
    assert one.low < 0  # type: ignore[operator]
    other_units = sequential_interval([20.0, 40.0, 30.0] * 20, bounds=(0, 100))
    assert 0 <= other_units.low < 30 < other_units.high <= 100  # type: ignore[operator]
    with pytest.raises(InvalidValueError, match="outside the bounds"):
        clear_after([0.0, 2.0], bounds=(-1, 1))
    with pytest.raises(InvalidValueError, match="low < high"):
        clear_after([0.0], bounds=(1, 1))
    with pytest.raises(InvalidValueError, match="finite"):
        clear_after([math.nan], bounds=(-1, 1))
