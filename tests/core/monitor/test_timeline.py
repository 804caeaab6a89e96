"""Times that stay in order whatever becomes of the machine's clock (1 s)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.monitor.timeline import JUMP_S, Timeline


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0
        self.timeline = Timeline(lambda: self.wall, lambda: self.steady)

    def go(self, seconds: float, jump: float = 0.0) -> float:
        self.steady += seconds
        self.wall += seconds + jump
        return self.timeline.now()


def test_a_clock_that_is_set_forward_or_a_sleep_is_followed() -> None:
    clocks = Clocks()
    assert clocks.go(10) == clocks.wall
    assert clocks.go(1, jump=3600) == clocks.wall
    assert clocks.timeline.num_jumps == 1
    assert clocks.timeline.note == ""
    assert clocks.timeline.at(clocks.steady - 1) == clocks.wall - 1


def test_a_clock_that_is_set_back_is_not_and_a_note_says_by_how_much() -> None:
    clocks = Clocks()
    before = clocks.go(10)
    assert clocks.go(1, jump=-3600) == before + 1
    assert "1 h ahead" in clocks.timeline.note
    assert clocks.go(5) == before + 6
    assert clocks.timeline.num_jumps == 1, "one jump is told once"
    # Set right again: nothing is left to be told.
    assert clocks.go(1, jump=3600) == before + 7 == clocks.wall
    assert clocks.timeline.note == ""


@given(st.lists(st.tuples(st.floats(0.001, 1000), st.floats(-1e6, 1e6)), max_size=30))
def test_times_never_go_back_and_are_never_behind_the_machines_clock(
    steps: list[tuple[float, float]],
) -> None:
    clocks = Clocks()
    last = clocks.timeline.now()
    for seconds, jump in steps:
        now = clocks.go(seconds, jump)
        assert now >= last + seconds - 3e-6
        assert now >= clocks.wall - JUMP_S - 3e-6
        # Within the session a difference of moments is a difference of times.
        at = clocks.timeline.at
        assert abs(at(clocks.steady) - at(clocks.steady - 1) - 1) < 3e-6
        assert bool(clocks.timeline.note) == (now - clocks.wall > JUMP_S)
        last = now
