"""Cutting a text into windows: every promise for any sizes. Under a second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_widgets.core.engine.score_windows import LEAST_WINDOW, Window, plan_windows


@given(st.integers(0, 400), st.integers(LEAST_WINDOW, 64), st.integers(0, 420))
def test_every_token_is_scored_once_with_half_a_window_before_it(
    num_tokens: int, n_window: int, first: int
) -> None:
    windows = plan_windows(num_tokens, n_window, halves=False, first=first)
    scored = [place for window in windows for place in range(window.first, window.end)]
    assert scored == list(range(max(1, first), num_tokens))
    for window in windows:
        assert 0 <= window.start < window.first < window.end
        assert window.end - window.start <= n_window
        # As much before it as there is, or half a window.
        assert window.first - window.start >= min(window.first, n_window - n_window // 2)
        assert window.start == 0 or window.end - window.start == n_window


@given(st.integers(0, 400), st.integers(LEAST_WINDOW, 64))
def test_halves_are_those_of_llama_cpps_tool(num_tokens: int, n_window: int) -> None:
    windows = plan_windows(num_tokens, n_window, halves=True)
    # llama.cpp, tools/perplexity: n_chunk, start, and `first` with its n_ctx - first - 1 rows.
    expected = []
    for chunk in range(num_tokens // n_window):
        start, first = chunk * n_window, n_window // 2
        scored = range(start + first + 1, start + first + 1 + (n_window - first - 1))
        expected.append(Window(start, start + n_window, scored.start))
        assert scored.stop == start + n_window
    assert windows == expected


@pytest.mark.parametrize(
    ("num_tokens", "n_window", "windows"),
    [
        (5, 8, [(0, 5, 1)]),
        (8, 8, [(0, 8, 1)]),
        (9, 8, [(0, 8, 1), (1, 9, 8)]),
        (17, 8, [(0, 8, 1), (4, 12, 8), (8, 16, 12), (9, 17, 16)]),
        (1, 8, []),
    ],
)
def test_examples(num_tokens: int, n_window: int, windows: list[tuple[int, int, int]]) -> None:
    assert plan_windows(num_tokens, n_window, halves=False) == windows
