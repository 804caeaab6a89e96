"""From the end of a request to what is kept of a task.

Promises: plain values; a reply that cannot be read is kept as it was written. Leaves to others:
reading (`output`), keeping (the store).
"""

from __future__ import annotations

import msgspec

from gguf_widgets.batch.question import Question
from gguf_widgets.core.errors import GgufWidgetsError, OutputError, to_wire
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.types import FinishReason, Reply

__all__ = ["copy_of", "failure_of", "outcome_of"]


def outcome_of(question: Question, end: Reply | GgufWidgetsError, attempts: int) -> Outcome:
    """Return what comes of a question by its answer, or by the error in its place."""
    if isinstance(end, GgufWidgetsError):
        return failure_of(question, end, attempts)
    try:
        answer = question.read(end)
    except OutputError as error:
        return failure_of(question, error, attempts, end)
    return Outcome(
        number=question.number,
        status=TaskStatus.DONE,
        attempts=attempts,
        text=end.text,
        values=answer.values,
        finish_reason=end.finish_reason,
        usage=end.usage,
        timings=end.timings,
        seed=end.seed,
        probabilities=answer.probabilities,
        certainty=answer.certainty,
        logprobs=answer.logprobs,
    )


def failure_of(
    question: Question, error: GgufWidgetsError, attempts: int, reply: Reply | None = None
) -> Outcome:
    """Return the outcome of a question that failed; what had been written is kept."""
    return Outcome(
        number=question.number,
        status=TaskStatus.FAILED,
        attempts=attempts,
        text=reply.text if reply is not None else None,
        error=to_wire(error),
        finish_reason=reply.finish_reason if reply is not None else FinishReason.ERROR,
        usage=reply.usage if reply is not None else None,
        timings=reply.timings if reply is not None else None,
        seed=reply.seed if reply is not None else None,
    )


def copy_of(outcome: Outcome, number: int) -> Outcome:
    """Return what came of a question for another task that asks the same; it took no time."""
    return msgspec.structs.replace(outcome, number=number, attempts=0, timings=None)
