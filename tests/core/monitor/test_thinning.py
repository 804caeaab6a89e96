"""Fewer points for a chart, without hiding what they show (1 s)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.monitor.thinning import thinned
from gguf_widgets.core.monitor.values import EngineSample, GpuSample, Point, ProcessSample


def point(at: float, speed: float | None = None, cells: int | None = None) -> Point:
    return Point(at=at, interval_s=1.0, decode_tok_per_s=speed, num_cells_used=cells)


def test_points_that_are_few_enough_are_left_as_they_are() -> None:
    points = [point(float(at), at) for at in range(10)]
    found = thinned(points, 10)
    assert (list(found), found.num_each, found.note) == (points, 1, "")
    assert thinned([], 10) == []


@given(
    st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**6)), min_size=21, max_size=400),
    st.integers(1, 20),
)
def test_sums_peaks_and_the_whole_time_are_kept(rows: list[tuple[float, int]], most: int) -> None:
    points = [point(float(at), *row) for at, row in enumerate(rows)]
    found = thinned(points, most)
    assert len(found) <= most
    assert found.num_each == -(-len(points) // most)
    assert f"up to {found.num_each:,}" in found.note
    assert [one.at for one in found] == sorted(one.at for one in found)
    assert found[-1].at == points[-1].at
    assert sum(one.interval_s or 0 for one in found) == pytest.approx(len(points))
    # Tokens: speed times time, added up, is what it was.
    assert sum((one.decode_tok_per_s or 0) * (one.interval_s or 0) for one in found) == (
        pytest.approx(sum(speed for speed, _ in rows))
    )
    assert max(one.num_cells_used or 0 for one in found) == max(cells for _, cells in rows)


def test_what_was_not_known_stays_so_and_a_gap_is_not_bridged() -> None:
    morning = [point(float(at), 10.0) for at in range(50)]
    evening = [point(40_000.0 + at, None) for at in range(50)]
    found = thinned([*morning, *evening], 7)
    assert {one.decode_tok_per_s for one in found if one.at < 1000} == {10.0}
    assert {one.decode_tok_per_s for one in found if one.at > 1000} == {None}


def test_processes_models_and_cards_are_joined_each_with_itself() -> None:
    def full(at: int, busy: int, *, with_b: bool) -> Point:
        engines = [EngineSample(worker="a", model="A", pid=1, state="ready", num_running=busy)]
        if with_b:
            engines.append(EngineSample(worker="b", model="A", pid=2, state="loading"))
        return Point(
            at=float(at),
            free_memory_bytes=100 - at,
            processes=(ProcessSample(kind="model", pid=1, name="A", cpu_percent=10.0 * at),),
            engines=tuple(engines),
            gpus=(GpuSample(name="C", use_percent=at), GpuSample(name="C", use_percent=2.0 * at)),
        )

    found = thinned([full(at, at % 3, with_b=at == 1) for at in range(4)], 1)
    (one,) = found
    assert one.free_memory_bytes == 97
    assert [(part.worker, part.num_running, part.state) for part in one.engines] == [
        ("a", 2, "ready"),
        ("b", None, "loading"),
    ]
    assert one.processes == (ProcessSample(kind="model", pid=1, name="A", cpu_percent=15.0),)
    assert [card.use_percent for card in one.gpus] == [1.5, 3.0]
