"""Which sequences are at an image, which of them can go on, and whose turn it is.

llama.cpp takes no batch of tokens and vectors together. So where some sequences are in the middle
of text and others at an image, a batch of tokens and one of vectors take turns: a stream waits for
one batch of vectors at a time, no longer than for one of a prompt's tokens (where an image has to
be computed in one go, for that image).

Promises: an image is asked for as soon as its sequence has a slot, and let go once its tokens are
in the cache or the sequence has left; what cannot be encoded fails only who asked; each change is
told, at most ten times a second. A sequence without images costs nothing here. Leaves to others:
encoding (`image_reader.py`), the batch's size and its rows (`scheduler.py`, `engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from gguf_widgets.core.engine.image_reader import ImageReader, Reading
from gguf_widgets.core.engine.output import Output
from gguf_widgets.core.engine.sequence import NO_SLOT, Sequence
from gguf_widgets.core.engine.vision import Encoded, Vision
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.types import ImageSpan

__all__ = ["ImageTurns"]

_TELL_EVERY_S = 0.1

# How long a step waits for an image where there is nothing else to do: others may hand in work.
_WAIT_S = 0.02


class _Asked(NamedTuple):
    """An image that a sequence waits for, and what it was told of that last: fraction and time."""

    reading: Reading
    span: ImageSpan
    told: list[float]


class ImageTurns:
    """The images of one engine's sequences.

    Parameters
    ----------
    vision : Vision
    output : Output
    fail : callable
        Ends a sequence with an error.

    Attributes
    ----------
    reader : ImageReader
    is_vectors : bool
        Whether the sequences that were chosen last are at images.
    """

    def __init__(
        self,
        vision: Vision,
        output: Output,
        fail: Callable[[Sequence, GgufWidgetsError], None],
    ) -> None:
        self.reader = ImageReader(vision)
        self._output = output
        self._fail = fail
        self._asked: dict[Sequence, _Asked] = {}
        self._num_open = 0
        self.is_vectors = False

    @property
    def in_use(self) -> bool:
        """Whether any open sequence has images."""
        return self._num_open > 0

    def enter(self) -> None:
        """Count one more sequence that has images."""
        self._num_open += 1

    def leave(self, sequence: Sequence) -> None:
        """Forget a sequence, which had images."""
        self._num_open -= 1
        self._let_go(sequence)
        if not self._num_open:
            self.is_vectors = False  # nobody chooses any more

    def choose(self, ready: list[Sequence]) -> list[Sequence]:
        """Return those that the next batch may be made of; none while all wait for their images.

        Either all of them are at an image, or none is.
        """
        self.reader.collect()
        for sequence in [one for one in self._asked if one.slot == NO_SLOT]:
            self._let_go(sequence)
        text, images = [], []
        for sequence in list(ready):
            span = sequence.next_image
            if span is None:
                self._let_go(sequence)
                text.append(sequence)
                continue
            asked = self._ask(sequence, span)
            if sequence.num_computed < span.start:
                text.append(sequence)  # and the image is encoded meanwhile
            elif asked.reading.error is not None:
                self._fail(sequence, asked.reading.error)
            elif asked.reading.parts is not None:
                images.append(sequence)
        self.is_vectors = bool(images) and not (text and self.is_vectors)
        return images if self.is_vectors else text

    def _ask(self, sequence: Sequence, span: ImageSpan) -> _Asked:
        asked = self._asked.get(sequence)
        if asked is None or asked.span.number != span.number:
            self._let_go(sequence)
            reading = self.reader.ask(span.image, is_batch=sequence.is_batch)
            asked = self._asked[sequence] = _Asked(reading, span, [-1.0, 0.0])
        self._tell(sequence, asked)
        return asked

    def _tell(self, sequence: Sequence, asked: _Asked) -> None:
        """Say how far the encoding is; nothing of what was there before."""
        reading, (fraction, told_at) = asked.reading, asked.told
        if not reading.started or reading.fraction == fraction:
            return
        now = perf_counter()
        if reading.fraction < 1 and now - told_at < _TELL_EVERY_S:
            return
        asked.told[:] = reading.fraction, now
        self._output.reading(sequence, asked.span, reading.fraction)

    def part_of(self, sequence: Sequence, span: ImageSpan) -> Encoded:
        """Return the vectors of the part of an image that a chosen sequence is at."""
        parts = self._asked[sequence].reading.parts
        if parts is None:
            raise AssertionError("an image is decoded that is not encoded")
        return parts[span.part]

    def _let_go(self, sequence: Sequence) -> None:
        """Let go of what a sequence wanted: it has it, or it gives way, or it has ended."""
        asked = self._asked.pop(sequence, None)
        if asked is not None:
            self.reader.let_go(asked.reading)

    def wait(self) -> None:
        """Wait a moment for an image, where there is nothing else to do."""
        self.reader.wait(_WAIT_S)
