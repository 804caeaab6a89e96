"""Seeing without a model: what an image becomes follows from its bytes alone. For tests.

Promises: an image that is as wide as high or wider is one part of ``width // 8`` tokens between
two ordinary ones; a higher one has two such parts with a token between. Each vector names the part
of the image and the place in it, so that a test can tell whether the right ones went to the right
place (`stand_ins`). Faults, slowness and limits are put in by whoever makes it. Leaves to others:
being a model (`scripted.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gguf_widgets.core.engine.vision import Encoded, ImageBatch, ImageChunk, OnEncoding
from gguf_widgets.core.errors import RequestCancelledError
from gguf_widgets.core.images import Image

__all__ = ["ScriptedVision", "stand_in", "stand_ins"]

_N_EMBD = 2
_NUM_NAMES, _MOST_TOKENS = 1 << 18, 1 << 12  # together they fit into 32 bits
_BEFORE, _BETWEEN, _BEHIND = ord("["), ord("|"), ord("]")


class ScriptedVision:
    """The `Vision` protocol on made-up images.

    Parameters
    ----------
    n_batch : int
    encode_s : float, default 0
        How long one part takes to encode.
    max_whole : int, optional
        An image has to be computed in one go, and a batch of images is no longer than this.
    fault : callable, optional
        Called with each image before it is encoded; what it raises is why it cannot be.

    Attributes
    ----------
    encoded : list of Image
        In the order in which they were.
    """

    n_pos = 1

    def __init__(
        self,
        n_batch: int,
        *,
        encode_s: float = 0.0,
        max_whole: int | None = None,
        fault: Callable[[Image], None] | None = None,
    ) -> None:
        self.batch = ImageBatch.empty(n_batch, _N_EMBD, self.n_pos)
        self.max_whole = max_whole
        self.encoded: list[Image] = []
        self._encode_s = encode_s
        self._fault = fault

    def layout(self, image: Image) -> list[list[int] | ImageChunk]:
        """See `Vision.layout`."""
        count = max(1, image.width // 8)
        chunk = ImageChunk(count, count)
        if image.height <= image.width:
            return [[_BEFORE], chunk, [_BEHIND]]
        return [[_BEFORE], chunk, [_BETWEEN], chunk, [_BEHIND]]

    def encode(self, image: Image, on_progress: OnEncoding) -> list[Encoded]:
        """See `Vision.encode`."""
        if self._fault is not None:
            self._fault(image)
        parts = [piece for piece in self.layout(image) if isinstance(piece, ImageChunk)]
        for step in range(10):
            if not on_progress(step / 10):
                raise RequestCancelledError("Reading the image was stopped.")
            time.sleep(self._encode_s * len(parts) / 10)
        self.encoded.append(image)
        return [
            Encoded(np.array([_vector(image, part, at) for at in range(piece.num_tokens)], "f4"))
            for part, piece in enumerate(parts)
        ]

    def decode(self, num_rows: int) -> int:  # noqa: ARG002 - the protocol's
        """Be asked of the backend instead, which has the memory."""
        raise AssertionError("the scripted backend decodes by itself")

    def close(self) -> None:
        """See `Vision.close`."""


def _vector(image: Image, part: int, at: int) -> tuple[int, int]:
    digest = hashlib.sha256(f"{image.digest} {part}".encode()).digest()
    return int.from_bytes(digest, "big") % _NUM_NAMES, at


def stand_in(image: Image, part: int, at: int) -> int:
    """Return the number below 0 that a scripted slot's memory has for a token of an image."""
    name, at = _vector(image, part, at)
    return -1 - name * _MOST_TOKENS - at


def stand_ins(vectors: NDArray[np.float32]) -> list[int]:
    """Return those of some vectors."""
    return [-1 - int(name) * _MOST_TOKENS - int(at) for name, at in vectors]
