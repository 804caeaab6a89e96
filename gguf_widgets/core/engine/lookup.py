"""Guessing how a reply goes on from what stands in the text already, and whether that pays.

Prompt lookup: where the last few tokens of a reply have occurred before, what followed them then is
guessed to follow now; one batch computes the guesses together with the next token. Each guess that
the sampler would have chosen anyway is kept, so the reply is what it would have been but for the
last digits of its logits (several rows are multiplied by other kernels than one). It pays where a
reply repeats its prompt (summaries, corrections, code), and where a batch of several rows takes
little longer than one of a single row.

Promises: `NgramIndex` finds the latest earlier place in constant time; `DraftPolicy` guesses only
where measured times and the measured share of right guesses say that it pays, and tries now and
then so as to know. Leaves to others: computing and checking the guesses (`engine.py`).

Source: Saxena, "Prompt Lookup Decoding", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DraftPolicy", "NgramIndex"]

# Tokens that must agree. With two, chance hits are many; with four, good guesses are missed.
N = 3


class NgramIndex:
    """Where each run of `N` tokens was seen last."""

    __slots__ = ("_num_indexed", "_places")

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._num_indexed = 0

    def guess(self, tokens: Sequence[int], most: int) -> list[int]:
        """Return up to `most` tokens that may come next; [] if the last ones are new.

        Parameters
        ----------
        tokens : sequence of int
            All so far; those of the call before must be its beginning.
        """
        # The last run itself is left out: it would only find itself.
        for end in range(max(self._num_indexed, N), len(tokens)):
            self._places[tuple(tokens[end - N : end])] = end
        self._num_indexed = len(tokens)
        place = self._places.get(tuple(tokens[-N:]))
        return [] if place is None else list(tokens[place : place + most])


class DraftPolicy:
    """Decides how many tokens to guess for each sequence of a batch.

    Parameters
    ----------
    most : int
        The longest guess.

    Attributes
    ----------
    num_right : int
        Tokens guessed and right, in all.

    Notes
    -----
    The time of a step that only decodes is taken to be ``a + b * rows``, fitted by least squares to
    the recent ones. With a share ``p`` of right guesses, a guess of ``k`` tokens adds
    ``p + p**2 + ... + p**k`` on average. It is worth it if the tokens per second get more.
    """

    # A guess has to promise this much more speed, since the estimate is rough.
    MARGIN = 1.05
    # Each so many chances a guess is made to see how things are.
    TRY_EACH = 32
    _FORGET = 0.97  # of the measurements, with each new one

    def __init__(self, most: int) -> None:
        self._most = most
        self._sums = [0.0] * 5  # of 1, rows, rows^2, seconds, rows * seconds
        self._right = 1.0
        self._made = 2.0  # as if one of two guesses had been right
        self._num_chances = 0
        self.num_right = 0

    @property
    def share_right(self) -> float:
        """The share of guesses that were right lately."""
        return self._right / self._made

    def observe_step(self, rows: int, seconds: float) -> None:
        """Take in how long a step took that only decoded."""
        new = (1.0, rows, rows * rows, seconds, rows * seconds)
        self._sums = [self._FORGET * old + one for old, one in zip(self._sums, new, strict=True)]

    def observe_guess(self, num_made: int, num_right: int) -> None:
        """Take in how a guess went; what comes after the first wrong one does not count."""
        self.num_right += num_right
        judged = min(num_right + 1, num_made)
        self._right = self._FORGET * self._right + num_right
        self._made = self._FORGET * self._made + judged

    def length(self, num_decoding: int) -> int:
        """Return how long the guess for a sequence should be now; 0 is none."""
        self._num_chances += 1
        cost = self._cost()
        if cost is None or self._num_chances % self.TRY_EACH == 0:
            return self._most if num_decoding <= 2 else 0
        base, per_row = cost
        now = num_decoding / (base + per_row * num_decoding)
        best, chosen, gain = now * self.MARGIN, 0, 0.0
        for length in range(1, self._most + 1):
            gain += self.share_right**length
            # All sequences are thought to guess alike.
            seconds = base + per_row * num_decoding * (1 + length)
            speed = num_decoding * (1 + gain) / seconds
            if speed > best:
                best, chosen = speed, length
        return chosen

    def _cost(self) -> tuple[float, float] | None:
        """Return the seconds of a step and of each row in it; None as long as nothing is known."""
        n, x, xx, y, xy = self._sums
        spread = n * xx - x * x
        if n < 4 or spread < 1e-6 * n * n:
            return None
        per_row = max(0.0, (n * xy - x * y) / spread)
        base = max(0.0, (y - per_row * x) / n)
        return (base, per_row) if base + per_row > 0 else None
