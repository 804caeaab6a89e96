"""Which of a model's positions the tokens of a sequence have, where that is not just their number.

With rows and columns among the positions (M-RoPE) an image of 300 tokens takes some 20 of them: all
its tokens have the first one's, and what follows goes on behind the longer side. Everything in the
engine counts tokens; only where llama.cpp is asked about positions they are turned into these.

Promises: pure arithmetic. Leaves to others: who has images (`image_prompt.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from gguf_widgets.core.types import ImageSpan

__all__ = ["Positions", "positions_of"]


class Positions:
    """The positions of one sequence's tokens.

    Parameters
    ----------
    spans : sequence of ImageSpan
        The images of its prompt, in order.
    """

    def __init__(self, spans: Sequence[ImageSpan]) -> None:
        self._spans = tuple(spans)

    def at(self, index: int) -> int:
        """Return the position of the token with this number: of any in an image, its first."""
        saved = 0
        for span in self._spans:
            if index < span.end:
                return min(index, span.start) - saved
            saved += span.num_tokens - span.num_positions
        return index - saved

    def last(self, length: int) -> int:
        """Return the position of the last of the first `length` tokens; -1 of none."""
        return self.at(length - 1) if length else -1

    def whole(self, length: int) -> int:
        """Return the most tokens up to `length` that end in no image's middle."""
        for span in self._spans:
            if span.start < length < span.end:
                return span.start
        return length


def positions_of(spans: Sequence[ImageSpan], n_pos: int) -> Positions | None:
    """Return the positions of a prompt with these images; None if they are the tokens' numbers.

    `n_pos` are the dimensions of a position. With more than one, the tokens of an image share the
    first even where a narrow one, a single column, takes as many positions as it has tokens.
    """
    if n_pos == 1 and all(span.num_positions == span.num_tokens for span in spans):
        return None
    return Positions(spans) if spans else None
