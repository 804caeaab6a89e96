"""What one task asks the model, ready to be sent.

Promises: plain values; two questions with one key are answered alike. Leaves to others: making them
from rows and templates (`questions`), sending them (`runner`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from gguf_widgets.core.store.batch_types import Outcome
from gguf_widgets.core.types import Message, Reply, TokenLogprob

__all__ = ["Answer", "Known", "Question"]


class Answer(NamedTuple):
    """What was read from a reply: values by column, and of a choice how probable each was.

    `logprobs` are kept for those who ask for them; they are no column.
    """

    values: dict[str, Any]
    probabilities: dict[str, float] | None = None
    certainty: float | None = None
    logprobs: list[TokenLogprob] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A task that the model has to be asked.

    Attributes
    ----------
    number : int
        The task's.
    key : str
        32 hexadecimal digits.
    messages : list of Message
    sampling : dict
        Keywords for `Model.submit`.
    read : callable
        Makes an `Answer` of the reply, or raises `OutputError`.
    alike : bool
        Whether the same key always has the same answer, so that it need be asked only once.
    has_own_rules : bool
        Whether its schema or grammar is not that of all others: if that cannot be followed, only
        this question fails.
    """

    number: int
    key: str
    messages: list[Message]
    sampling: dict[str, Any]
    read: Callable[[Reply], Answer]
    alike: bool = False
    has_own_rules: bool = False


class Known(NamedTuple):
    """A task that has ended without being asked: skipped, or its row cannot be asked."""

    outcome: Outcome
    key: str = "0" * 32
