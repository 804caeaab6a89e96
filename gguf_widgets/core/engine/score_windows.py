"""Which parts of a text are computed together when its tokens are scored. Pure: numbers in and out.

A **window** is a run of tokens that is computed from an empty memory: what stands before it, the
model does not see. Two ways of cutting a text into windows:

- ``halves``: as llama.cpp's perplexity tool does it, so that the figures are the same. The text is
  cut into runs of `n_window` tokens that do not overlap; of each, the first half is only read, and
  of the second half every token but its first is scored: ``n_window - n_window // 2 - 1`` of them.
  What is left over at the end of the text is not looked at.
- otherwise every token is scored once. The first window scores all its tokens from `first` on; each
  next one ends ``n_window // 2`` further and scores those that no earlier one has, so that each of
  them has at least half a window before it.

The first token of all has nothing before it and is never scored. Where the model wants its texts to
begin with a certain token (BOS), that takes the place of the first token of each window inside of
the text, as it does in llama.cpp's tool.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LEAST_WINDOW", "Window", "plan_windows"]

# In fewer tokens there is no context to speak of.
LEAST_WINDOW = 8


class Window(NamedTuple):
    """The tokens `start` to `end`, of which those from `first` on are scored."""

    start: int
    end: int
    first: int

    @property
    def num_scored(self) -> int:
        """How many tokens this window scores."""
        return self.end - self.first


def plan_windows(num_tokens: int, n_window: int, *, halves: bool, first: int = 1) -> list[Window]:
    """Cut a text into windows.

    Parameters
    ----------
    num_tokens : int
    n_window : int
        The longest window, in tokens.
    halves : bool
        As llama.cpp's perplexity tool does it; `first` has no meaning then.
    first : int, default 1
        The first token that is to be scored.

    Returns
    -------
    list of Window
        In order; each scored token is in one of them. Empty if there is nothing to score.
    """
    if halves:
        begin = n_window // 2 + 1
        starts = range(0, num_tokens - n_window + 1, n_window)
        return [Window(start, start + n_window, start + begin) for start in starts]
    windows = []
    place = max(1, first)
    if place < min(num_tokens, n_window):
        windows.append(Window(0, min(num_tokens, n_window), place))
        place = windows[0].end
    while place < num_tokens:
        end = min(place + n_window // 2, num_tokens)
        windows.append(Window(max(0, end - n_window), end, place))
        place = end
    return windows
