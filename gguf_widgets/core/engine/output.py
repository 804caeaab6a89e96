"""What a step has to say: the events of all requests, in the order they happened.

Promises: a request's events come in the order of `types.GenerationEvent`, and the joined texts of
its `TextDelta` events are its reply's text. Leaves to others: when something happens (`engine.py`).
"""

from __future__ import annotations

from gguf_widgets.core.engine.sequence import Sequence
from gguf_widgets.core.errors import GgufWidgetsError, to_wire
from gguf_widgets.core.types import (
    Failed,
    Finished,
    FinishReason,
    GenerationEvent,
    ImageProgress,
    ImageSpan,
    PrefillProgress,
    TextDelta,
)

__all__ = ["Output"]


class Output:
    """The events since they were last taken."""

    def __init__(self) -> None:
        self._events: list[GenerationEvent] = []

    def __len__(self) -> int:
        return len(self._events)

    def take(self) -> list[GenerationEvent]:
        """Return the events and begin anew."""
        events, self._events = self._events, []
        return events

    def prefilled(self, sequence: Sequence) -> None:
        """Say how much of a prompt is computed, while some of it is not."""
        self._events.append(
            PrefillProgress(
                request_id=sequence.request_id,
                num_done=sequence.num_computed,
                num_total=sequence.num_prompt,
            )
        )

    def reading(self, sequence: Sequence, span: ImageSpan, fraction: float) -> None:
        """Say how much of an image is read."""
        self._events.append(
            ImageProgress(
                request_id=sequence.request_id,
                number=span.number + 1,
                num_images=sequence.request.images[-1].number + 1,
                fraction=fraction,
            )
        )

    def text(self, sequence: Sequence, text: str) -> None:
        """Say that a reply goes on; the first time, with what it was told to begin with."""
        if sequence.begin:
            text, sequence.begin = sequence.begin + text, ""
        sequence.texts.append(text)
        self._events.append(
            TextDelta(
                request_id=sequence.request_id,
                text=text,
                num_completion_tokens=sequence.num_output,
                logprobs=sequence.logprobs[sequence.num_logprobs_sent :],
            )
        )
        sequence.num_logprobs_sent = len(sequence.logprobs)

    def finished(self, sequence: Sequence, reason: FinishReason, now: float) -> None:
        """Say that a request came to its end, with what was held back of its text."""
        self._rest(sequence)
        reply = sequence.reply(reason, now)
        self._events.append(Finished(request_id=sequence.request_id, reply=reply))

    def failed(self, sequence: Sequence, error: GgufWidgetsError) -> None:
        """Say that a request failed, with what was held back of its text, if it had begun."""
        if sequence.num_output:
            self._rest(sequence)
        self._events.append(Failed(request_id=sequence.request_id, error=to_wire(error)))

    def _rest(self, sequence: Sequence) -> None:
        text = sequence.detokenizer.finish()
        if text or sequence.begin:
            self.text(sequence, text)
