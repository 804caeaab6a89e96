"""What the engine needs from a runtime to let a model see, and nothing more.

Promises: everything that the engine calls for images is in `Vision`, so that it runs the same on
llama.cpp's mtmd (`llama/vision.py`) and on made-up images (`scripted_vision.py`). An image is
**encoded** (turned into vectors of the model's width, by the projector) and these are then
**decoded** like tokens, in batches of their own: llama.cpp takes no batch of tokens and vectors.
Leaves to others: when that happens (`image_turns.py`), the thread that encodes and what it keeps
(`image_reader.py`), where an image stands in a prompt (`image_prompt.py`).

Threads: `layout` may be called by any thread at any time; `encode` by one thread at a time, which
need not be the engine's. The rest belongs to the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.images import Image

__all__ = ["Encoded", "ImageBatch", "ImageChunk", "OnEncoding", "Vision"]

OnEncoding = Callable[[float], bool]
"""Called with how much of an image is encoded, 0 to 1; answering False breaks it off."""


class ImageChunk(NamedTuple):
    """A part of an image among a prompt's tokens (most images have one part).

    It takes `num_tokens` tokens, and `num_positions` of the model's positions: fewer, where these
    have rows and columns (M-RoPE).
    """

    num_tokens: int
    num_positions: int


class Encoded(NamedTuple):
    """A part of an image, encoded.

    `vectors` has a row for each token. `places` are the positions of the tokens, each in four
    dimensions, if the first token's is 0, and if it is 1; None where they simply count up.
    """

    vectors: NDArray[np.float32]
    places: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None

    @property
    def num_bytes(self) -> int:
        """The memory that it takes."""
        return self.vectors.nbytes + sum(place.nbytes for place in self.places or ())

    def positions(self, first: int, start: int, end: int) -> NDArray[np.int32]:
        """Return the positions of the tokens from `start` to `end`, if the first one's is `first`.

        Most dimensions count from there; some count rows, or nothing.
        """
        if self.places is None:
            return first + np.arange(start, end, dtype=np.int32)
        at_0, at_1 = (place[:, start:end] for place in self.places)
        return at_0 + (at_1 - at_0) * first


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """The arrays of one batch of vectors, filled in place before each decode.

    Attributes
    ----------
    vectors : ndarray of float32, (n_batch, n_embd)
    positions : ndarray of int32
        ``n_pos`` times `num_rows` of them for a batch of `num_rows`: first one dimension of all
        rows, then the next.
    seq_ids : ndarray of int32
    logits : ndarray of int8
        1 for the rows whose next token will be sampled.
    """

    vectors: NDArray[np.float32]
    positions: NDArray[np.int32]
    seq_ids: NDArray[np.int32]
    logits: NDArray[np.int8]

    @classmethod
    def empty(cls, n_batch: int, n_embd: int, n_pos: int) -> ImageBatch:
        """Make arrays for batches of up to `n_batch` vectors."""
        return cls(
            np.zeros((n_batch, n_embd), np.float32),
            np.zeros(n_pos * n_batch, np.int32),
            np.zeros(n_batch, np.int32),
            np.zeros(n_batch, np.int8),
        )


class Vision(Protocol):
    """A projector beside a loaded model.

    Attributes
    ----------
    batch : ImageBatch
        Filled by the engine before each `decode`.
    n_pos : int
        Dimensions of a position: 1, or 4 (M-RoPE).
    max_whole : int or None
        Where all tokens of an image see each other (attention that is not causal) it has to be
        computed in one go, and this is the most that a batch may hold then. None elsewhere.
    """

    batch: ImageBatch
    n_pos: int
    max_whole: int | None

    def layout(self, image: Image) -> list[list[int] | ImageChunk]:
        """Return what an image becomes in a prompt: tokens before, between and behind its parts.

        Nothing is decoded or encoded for it.

        Raises
        ------
        ImageError
            If the projector cannot take an image of that size.
        """

    def encode(self, image: Image, on_progress: OnEncoding) -> list[Encoded]:
        """Turn an image into vectors: those of each part that `layout` names.

        Raises
        ------
        ImageError
            If the file is damaged, or something else than it says.
        DecodeError
            If the computation failed.
        RequestCancelledError
            If `on_progress` said so.
        """

    def decode(self, num_rows: int) -> int:
        """Compute the first `num_rows` rows of `batch`; return llama_decode's code."""

    def close(self) -> None:
        """Free what the native side holds; nobody encodes any more. May be called twice."""
