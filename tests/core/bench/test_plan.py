"""Which tests are planned, what they are called, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gguf_widgets.core.bench.plan import BenchTest, plan_tests
from gguf_widgets.core.errors import InvalidValueError

NOTHING: dict[str, Any] = {"n_prompt": (), "n_gen": (), "pg": (), "depths": 0, "n_seq": 1}


def names(**given: Any) -> list[str]:
    return [test.name for test in plan_tests(**{**NOTHING, **given})[0]]


def test_tests_have_llama_benchs_names_and_order() -> None:
    assert names(n_prompt=512, n_gen=[128], pg=(64, 16), depths=[0, 4096], n_seq=(1, 4)) == [
        "pp512", "tg128", "pp64+tg16",
        "pp512 @ d4096", "tg128 @ d4096", "pp64+tg16 @ d4096",
        "pp512 x 4", "tg128 x 4", "pp64+tg16 x 4",
        "pp512 @ d4096 x 4", "tg128 @ d4096 x 4", "pp64+tg16 @ d4096 x 4",
    ]  # fmt: skip
    assert names(n_prompt=0, n_gen=(0, 8)) == ["tg8"]  # 0 is none, as there
    assert names(n_prompt=np.int64(3), pg=[(4, 5), [6, 7]]) == ["pp3", "pp4+tg5", "pp6+tg7"]


def test_what_is_there_twice_is_measured_once_and_that_is_said() -> None:
    given = {**NOTHING, "n_prompt": [8, 8, 9], "pg": [(1, 2), (1, 2)], "depths": [0, 0]}
    tests, notes = plan_tests(**given)
    assert [test.name for test in tests] == ["pp8", "pp9", "pp1+tg2"]
    assert notes == [
        "n_prompt has 8 more than once; it is measured once.",
        "depths has 0 more than once; it is measured once.",
        "pg has (1, 2) twice; it is measured once.",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "There is nothing to measure"),
        ({"n_prompt": 0, "n_gen": [0]}, "There is nothing to measure"),
        ({"n_gen": 8, "n_seq": ()}, "There is nothing to measure"),
        ({"n_prompt": -1}, "n_prompt is -1; it must be a whole number from 0 to 4,194,304"),
        ({"n_prompt": 10**9}, "n_prompt is 1000000000"),
        ({"n_prompt": True}, "n_prompt is True"),
        ({"n_gen": [1.5]}, "n_gen is 1.5"),
        ({"n_gen": "128"}, "n_gen is '128'"),
        ({"n_gen": 8, "n_seq": 0}, "n_seq is 0; it must be a whole number from 1 to 256"),
        ({"n_gen": 8, "depths": None}, "depths is None"),
        ({"pg": 5}, "pg is 5; it must be pairs"),
        ({"pg": [(1, 2, 3)]}, r"pg is \[\(1, 2, 3\)\]; it must be pairs"),
        ({"pg": (0, 5)}, "The first number of a pair in pg is 0"),
        ({"n_gen": range(1, 30), "depths": range(30)}, "These are 870 tests"),
    ],
)
def test_what_is_no_size_is_refused_with_its_value_and_limits(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidValueError, match=words):
        plan_tests(**{**NOTHING, **given})


def test_an_endless_list_of_sizes_is_refused_and_not_read_to_its_end() -> None:
    def endless() -> Any:
        number = 0
        while True:
            yield (number := number + 1)

    with pytest.raises(InvalidValueError, match="tests for each model"):
        plan_tests(**{**NOTHING, "n_gen": endless()})


def test_a_test_says_how_much_context_it_needs() -> None:
    test = BenchTest(n_prompt=10, n_gen=5, n_depth=20, n_seq=3)
    assert test.num_cells >= 35
    # The engine keeps half of the cache at most, and three depths have to lie there.
    assert test.num_shared_cells // 2 >= 3 * test.num_cells
    assert BenchTest(n_prompt=10, n_gen=5, n_seq=3).num_shared_cells == 3 * 17
