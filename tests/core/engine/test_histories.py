"""Tens of thousands of random histories: what the engine promises holds in each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import MEMORIES, play

NUM_SHORT = 20_000


@settings(max_examples=250, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    memory=st.sampled_from(sorted(MEMORIES)),
    rate=st.sampled_from([0, 0.05, 0.3]),
)
def test_any_history_ends_every_request_once_with_the_right_text(seed, memory, rate):
    play(seed, memory=memory, fault_rate=rate, large=True)


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute on a quiet machine
def test_so_does_each_of_many_short_ones():
    # Ordinary loops, not hypothesis: a hundred times as many in the same time. A failure names its
    # seed.
    num_preempted = num_cached = num_guessed = 0
    for seed in range(NUM_SHORT):
        memory, rate = sorted(MEMORIES)[seed % 3], (0.0, 0.0, 0.05, 0.3)[seed % 4]
        try:
            engine = play(seed, memory=memory, fault_rate=rate, large=False)
        except AssertionError as error:
            raise AssertionError(f"history {seed}") from error
        num_preempted += engine.stats().num_preemptions
        num_cached += engine.stats().total_cached_tokens
        num_guessed += engine._drafts.num_right
    # They are histories worth the name.
    assert num_preempted > NUM_SHORT // 10
    assert num_cached > NUM_SHORT
    assert num_guessed > NUM_SHORT // 10
