"""What scoring needs from a runtime: tokens in, the logits after them out.

Promises: everything that `scoring.py` calls is in `Scorer`. Leaves to others: which tokens are
computed when (`scoring.py`), log probabilities (`log_softmax.py`).

Threads: as for `backend.Backend`; any thread may call `interrupt` and `clear_interrupt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scorer"]


class Scorer(Protocol):
    """Computes one run of tokens at a time, in a memory of its own.

    Attributes
    ----------
    n_vocab : int
    n_ctx : int
        The longest run there can be.
    n_batch : int
        The most tokens that are computed together.
    n_outputs : int
        The most of them that have logits; at most `n_batch`.
    """

    n_vocab: int
    n_ctx: int
    n_batch: int
    n_outputs: int

    @property
    def room(self) -> int:
        """The longest run until `grow`; 0 before the first one."""

    def grow(self, num_tokens: int) -> None:
        """Make room for a run of so many tokens; the memory is empty then.

        Raises
        ------
        NotEnoughMemoryError, ModelLoadError
            If it cannot be had.
        """

    def compute(self, start: int, tokens: Sequence[int], first_output: int) -> int:
        """Compute the next tokens of the run; return llama_decode's code.

        Those from number `first_output` of them on have logits. `start` is how many tokens the
        memory holds.
        """

    def logits(self, num_outputs: int) -> NDArray[np.float32]:
        """Return a view of the logits of the last `compute`, of shape (num_outputs, n_vocab).

        It is valid until the next `compute`.
        """

    def forget(self, start: int = 0) -> bool:
        """Forget the tokens from `start` on; False if the memory cannot be cut there.

        Forgetting all of them always works.
        """

    def rest(self) -> None:
        """Nothing is left to score: give back what it takes."""

    def interrupt(self) -> None:
        """Make the `compute` that runs now, or else the next one, return `ABORTED` soon."""

    def clear_interrupt(self) -> None:
        """Take `interrupt` back."""

    def close(self) -> None:
        """Free what is native; a second call does nothing."""
