"""The queue and the speed: pure policy on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.upload.progress import SpeedMeter
from gguf_widgets.core.upload.turns import SILENCE_S, UploadTurns


def test_uploads_run_in_the_order_in_which_they_came() -> None:
    turns = UploadTurns(2)
    assert [turns.hear(name, 0.0) for name in "abcd"] == [0, 0, 1, 2]
    turns.leave("a")
    assert [turns.place(name, 1.0) for name in "bcd"] == [0, 0, 1]
    assert turns.running(1.0) == ["b", "c"]
    assert turns.place("new", 1.0) == 2


def test_a_page_that_was_closed_stops_nobody_and_queues_again() -> None:
    turns = UploadTurns()
    turns.hear("gone", 0.0)
    assert turns.hear("next", 1.0) == 1
    assert turns.hear("next", SILENCE_S - 0.01) == 1
    assert turns.hear("next", SILENCE_S) == 0
    assert turns.hear("gone", SILENCE_S + 1) == 1


@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.sampled_from("hl"), st.sampled_from("abcde"), st.floats(0, 20)), max_size=60
    ),
)
def test_never_more_than_allowed_and_somebody_always(
    most: int, events: list[tuple[str, str, float]]
) -> None:
    turns, now = UploadTurns(most), 0.0
    heard: dict[str, float] = {}
    for kind, name, pause in events:
        now += pause
        before = turns.running(now)
        if kind == "h":
            turns.hear(name, now)
            heard[name] = now
        else:
            turns.leave(name)
            heard.pop(name, None)
        present = {one for one, at in heard.items() if now - at < SILENCE_S}
        running = turns.running(now)
        assert len(running) == min(most, len(present))
        assert set(running) <= present
        # Nobody is overtaken: whoever ran and is still there runs on.
        assert all(one in running for one in before if one in present)


def test_at_least_one_may_run() -> None:
    with pytest.raises(InvalidValueError, match="max_running is 0"):
        UploadTurns(0)


def test_the_speed_is_steady_and_unknown_rather_than_wrong() -> None:
    meter = SpeedMeter()
    assert meter.bytes_per_s(0.0) is None
    speeds = []
    for step in range(1, 101):
        # Pieces of 4 MB in pairs, as they come out of buffers: 10 MB/s in all.
        now = 100 + 0.4 * (step - step % 2)
        meter.add(4_000_000, now)
        if (speed := meter.bytes_per_s(now)) is not None and step > 20:
            speeds.append(speed)
    assert max(speeds) / min(speeds) < 1.12
    assert 9e6 < sum(speeds) / len(speeds) < 11e6
    assert meter.bytes_per_s(now + 6) is None
    meter.add(4_000_000, now + 3600)  # after a pause
    assert meter.bytes_per_s(now + 3600.1) is None
    meter.add(1_000_000, now + 3601)
    assert meter.bytes_per_s(now + 3601) == pytest.approx(1e6)
