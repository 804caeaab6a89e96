"""What embedding needs from a runtime: tokens in, one vector for each token out.

Promises: everything that `embedding.py` calls is in `Embedder`. Leaves to others: which texts are
computed together (`embedding.py`), and one vector from those of a text's tokens
(`embedding_pooling.py`).

Threads: as for `backend.Backend`; any thread may call `tokenize`, `interrupt` and
`clear_interrupt`, and read the attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.types import Pooling

__all__ = ["Embedder", "EmbedderFacts", "Piece"]


class EmbedderFacts(NamedTuple):
    """What is fixed about a model's vectors.

    `n_embd` is how many numbers a vector has; `n_ctx` the most tokens of a text; `pooling` the
    model's own. With `is_causal` a token sees only those before it, so that a text can be computed
    in pieces, one after the other; otherwise all its tokens see each other, and it has to be
    computed in one go.
    """

    n_embd: int
    n_ctx: int
    pooling: Pooling
    is_causal: bool

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """The ways of making one vector that make sense with this model."""
        # Where a token sees only those before it, the first one has seen nothing of the text.
        return (Pooling.MEAN, Pooling.LAST) if self.is_causal else tuple(Pooling)


class Piece(NamedTuple):
    """Tokens of a text from position `start` on, for the slot that holds what came before."""

    slot: int
    start: int
    tokens: Sequence[int]


class Embedder(Protocol):
    """Computes texts, several at a time, in slots and cells of its own.

    Attributes
    ----------
    facts : EmbedderFacts
    n_slots : int
        How many texts can be under way at once.
    n_batch : int
        The most tokens that are computed together, except for a longer text that must be whole.
    """

    facts: EmbedderFacts
    n_slots: int
    n_batch: int

    @property
    def room(self) -> int:
        """The most tokens that all texts under way may have together, until `grow`."""

    def tokenize(self, text: str) -> list[int]:
        """Cut a text into tokens, with those that the model wants around it.

        The text of control tokens is text.

        Raises
        ------
        InvalidValueError
            For text that is not valid Unicode.
        """

    def grow(self, num_tokens: int) -> None:
        """Make room for a text of so many tokens; only while no text is under way.

        Raises
        ------
        NotEnoughMemoryError, ModelLoadError
            If it cannot be had.
        """

    def compute(self, pieces: Sequence[Piece]) -> int:
        """Compute some pieces, at most one for each slot; return llama_decode's code.

        Raises
        ------
        ModelLoadError
            If the runtime could not be made ready.
        """

    def vectors(self, num_tokens: int) -> NDArray[np.float32]:
        """Return a row for each token of the last `compute`, in order, until the next one."""

    def forget(self, slot: int, start: int = 0) -> bool:
        """Forget a slot's tokens from a position on; False if only all can be forgotten."""

    def rest(self) -> None:
        """Give back memory that only unusually long texts needed; no text is under way."""

    def interrupt(self) -> None:
        """Make the `compute` that runs now return `DecodeStatus.ABORTED` soon."""

    def clear_interrupt(self) -> None:
        """Take `interrupt` back."""

    def close(self) -> None:
        """Free what it has; a second call does nothing."""
