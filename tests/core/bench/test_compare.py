"""When a speed is called faster or slower than an earlier one, and what is not compared."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from support.bench_rows import ENGINE, MACHINE, NOVEMBER_3, make_row

from gguf_widgets.core.bench.compare import change_of, day_words
from gguf_widgets.core.bench.history import BenchHistory
from gguf_widgets.core.bench.kept import KeptRows
from gguf_widgets.core.bench.plan import BenchTest
from gguf_widgets.core.bench.statistics import RUN_TO_RUN, average, deviation, difference, spread
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.store import Store

DAY = 86_400.0
SLOWER = (88.0, 88.5, 87.5, 88.2, 87.8)


def run(draw: random.Random, speed: float, noise: float, between: float) -> list[float]:
    """Five repetitions of one run, which differs as a whole from other runs."""
    own = speed * (1 + draw.gauss(0, between))
    return [own * (1 + draw.gauss(0, noise)) for _ in range(5)]


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.04])
def test_what_did_not_change_is_seldom_called_changed(noise: float) -> None:
    draw = random.Random(f"unchanged {noise}")  # noqa: S311
    found = [
        difference(run(draw, 50, noise, RUN_TO_RUN), run(draw, 50, noise, RUN_TO_RUN))
        for _ in range(2000)
    ]
    # At 99% twenty of these may be; the two parts in quadrature make it a little fewer or more.
    assert sum(one is not None and one.is_clear for one in found) <= 40


def test_what_changed_by_12_percent_is_found_on_a_quiet_machine_and_not_on_a_noisy_one() -> None:
    draw = random.Random("changed")  # noqa: S311
    quiet, noisy = (
        [
            difference(run(draw, 50, noise, RUN_TO_RUN), run(draw, 44, noise, RUN_TO_RUN))
            for _ in range(500)
        ]
        for noise in (0.01, 0.15)
    )
    right = [one for one in quiet if one is not None and one.high < 0]
    assert len(right) >= 490
    covered = [one for one in quiet if one is not None and one.low <= 44 / 50 - 1 <= one.high]
    assert len(covered) >= 485
    wrong = [one for one in noisy if one is not None and one.low > 0]
    assert len(wrong) <= 5
    assert sum(one is not None and one.is_wide for one in noisy) >= 450


def test_runs_that_differ_much_among_themselves_widen_it_and_one_real_change_does_not() -> None:
    before, now = [100, 101, 99], [90, 91, 89]
    steady = difference(before, now, [100, 101, 99, 100, 100])
    unsteady = difference(before, now, [100, 80, 110, 85, 100])
    stepped = difference(before, now, [50, 50.5, 49.8, 100, 100.5, 100, 99.7])
    assert steady is not None
    assert unsteady is not None
    assert stepped is not None
    assert steady.is_clear
    assert not unsteady.is_clear
    assert stepped.is_clear


def test_averages_are_llama_benchs() -> None:
    # As its `avg` and `stdev` compute them: with n - 1.
    assert average([2.0, 4.0, 9.0]) == 5.0
    assert deviation([2.0, 4.0, 9.0]) == pytest.approx((26 / 2) ** 0.5)
    assert spread([2.0, 4.0, 9.0]) == pytest.approx((26 / 2) ** 0.5 / 5)
    assert deviation([3.0]) is None
    assert spread([]) is None
    assert difference([1.0], [2.0, 2.0]) is None
    assert difference([1.0, 0.0], [2.0, 2.0]) is None


def test_slower_than_on_a_day_is_said_with_its_interval_and_the_other_way_round() -> None:
    then, now = make_row(), make_row(SLOWER, at=NOVEMBER_3 + 25 * DAY)
    change = change_of(now, [then])
    assert change is not None
    assert change.verdict == "slower"
    assert change.words.startswith("12% slower than on 3 November (between ")
    assert change.low is not None
    assert change.high is not None
    assert change.low < 0.88 < change.high < 1
    back = change_of(msgspec.structs.replace(then, at=now.at + DAY), [now, then])
    assert back is not None
    assert back.words.startswith("14% faster than yesterday at")
    same = change_of(msgspec.structs.replace(now, samples=list(SLOWER[::-1])), [now])
    assert same is not None
    assert (same.verdict, same.ratio) == ("same", pytest.approx(1))
    noisy = make_row((60.0, 140.0, 100.0, 80.0, 120.0), at=now.at)
    unclear = change_of(noisy, [then])
    assert unclear is not None
    assert unclear.verdict == "unclear"
    assert "differ too much to tell" in unclear.words


def test_another_engine_is_named() -> None:
    engine = msgspec.structs.replace(ENGINE, version="0.3.35")
    change = change_of(make_row(SLOWER), [make_row(at=NOVEMBER_3 - DAY, engine=engine)])
    assert change is not None
    assert change.words.endswith("; then with llama-cpp-python 0.3.35, now 0.3.36")


OTHER_MODEL = msgspec.structs.replace(make_row().model, digest="another file of this name")


@pytest.mark.parametrize(
    "changed",
    [
        {"machine": msgspec.structs.replace(MACHINE, num_cores=8)},
        {"model": OTHER_MODEL},
        {"model": make_row(settings={"n_threads": 1}).model},
        {"test": BenchTest(n_prompt=0, n_gen=128, n_depth=1)},
        {"test": BenchTest(n_prompt=0, n_gen=128, n_seq=2)},
        {"warmup": False},
    ],
)
def test_what_was_measured_otherwise_is_not_compared(changed: dict[str, Any]) -> None:
    assert change_of(make_row(), [make_row(**changed)]) is None


@pytest.mark.parametrize(
    ("now", "then", "words"),
    [
        ({"other_cores": 1.0}, {}, "other programs kept 1.0 of 4 cores busy"),
        ({}, {"other_cores": 1.0}, "measured earlier was stopped or disturbed"),
        ({}, {"repetitions": 9}, "measured earlier was stopped or disturbed"),
        ({"repetitions": 9}, {}, "it was stopped"),
        ({"repetitions": 1, "samples": [9.0]}, {}, "one repetition says nothing of the spread"),
    ],
)
def test_what_was_disturbed_is_not_compared_and_that_is_said(
    now: dict[str, Any], then: dict[str, Any], words: str
) -> None:
    change = change_of(make_row(**now), [make_row(**then)])
    assert change is not None
    assert (change.verdict, change.ratio) == ("none", None)
    assert words in change.words


def test_a_renamed_file_is_the_same_model_and_the_store_finds_it(store: Store) -> None:
    kept = KeptRows(store)
    then = make_row()
    kept.add(then)
    kept.add(make_row(name="b"))
    renamed = msgspec.structs.replace(then.model, name="c")
    now = make_row(SLOWER, at=NOVEMBER_3 + DAY, model=renamed)
    assert kept.earlier(now) == [then]
    kept.add(now)
    assert kept.earlier(now) == [then]  # not itself
    history = BenchHistory(kept.rows(machine=MACHINE.digest), kept)
    assert [row.model.name for row in history] == ["c", "b", "a"]
    assert [row.change.verdict if row.change else None for row in history] == ["slower", None, None]
    assert history.to_frame()["change"].tolist()[0] == "slower"
    assert kept.rows(machine="another") == []
    assert kept.rows(since=NOVEMBER_3 + 1)[0].model.name == "c"
    assert history.delete() == 3
    assert (kept.rows(), list(history)) == ([], [])


def test_a_row_that_cannot_be_read_and_one_of_a_later_version_do_no_harm(store: Store) -> None:
    kept = KeptRows(store)
    kept.add(make_row())
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO bench_result (bench_id, at, machine, model, test, data) "
            "SELECT bench_id, at, machine, model, test, 'no JSON' FROM bench_result"
        )
        connection.execute(
            "INSERT INTO bench_result (bench_id, at, machine, model, test, data) SELECT bench_id, "
            "at, machine, model, test, json_set(data, '$.later', 1) FROM bench_result LIMIT 1"
        )
    assert kept.rows() == [make_row(), make_row()]
    with pytest.raises(InvalidValueError, match="limit is 0"):
        kept.rows(limit=0)


def test_days_are_named_as_people_name_them() -> None:
    assert day_words(NOVEMBER_3, NOVEMBER_3 + 400 * DAY) == "on 3 November 2026"
    assert day_words(NOVEMBER_3, NOVEMBER_3 + 3 * DAY) == "on 3 November"
    assert day_words(NOVEMBER_3, NOVEMBER_3 + 60).startswith("today at ")
    assert day_words(NOVEMBER_3, NOVEMBER_3 + DAY).startswith("yesterday at ")
