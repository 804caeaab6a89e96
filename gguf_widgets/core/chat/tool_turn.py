"""A turn of a chat with tools: from a person's message to the last answer that follows it.

Promises: whoever waits for the turn is told its end, whatever it was. Leaves to others: what
happens in it (`tools`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec

from gguf_widgets.core.chat.types import ChatMessage, ToolCall
from gguf_widgets.core.errors import GgufWidgetsError

__all__ = ["FINAL", "Turn", "call_of", "changes_of", "num_rounds", "with_call"]

FINAL = ("done", "failed", "declined")
"""The states of a call that has its result."""


class Turn:
    """Its answers so far, and whether it is over.

    Attributes
    ----------
    over : threading.Event
    answers : list of Answer
    error : GgufWidgetsError or None
        Why the model could not go on.
    deltas : queue or None
        Gets the pieces of all its answers, and None at its end; for whoever reads along.
    """

    def __init__(self) -> None:
        self.over = threading.Event()
        self.answers: list[Any] = []
        self.error: GgufWidgetsError | None = None
        self.deltas: Any = None

    def add(self, answer: Any) -> None:
        """Take in an answer that has begun or ended; again it does nothing."""
        if answer not in self.answers:
            self.answers.append(answer)

    def end(self) -> None:
        """Tell everybody that it is over; again it does nothing."""
        if self.over.is_set():
            return
        self.over.set()
        if self.deltas is not None:
            self.deltas.put(None)


def call_of(message: ChatMessage | None, call_id: str) -> ToolCall | None:
    """Return a call of a message by its id."""
    calls = message.tool_calls if message is not None else ()
    return next((one for one in calls if one.id == call_id), None)


def changes_of(outcome: Any) -> dict[str, Any]:
    """Return what of a call changes by what came of it, a `tools.run.Outcome`."""
    return {
        "status": "failed" if outcome.error is not None else "done",
        "result": outcome.result,
        "error": outcome.error,
        "printed": outcome.printed,
        "total_s": outcome.total_s,
    }


def with_call(message: ChatMessage, call_id: str, **changes: Any) -> ChatMessage:
    """Return a message of which one call has changed."""
    calls = tuple(
        msgspec.structs.replace(one, **changes) if one.id == call_id else one
        for one in message.tool_calls
    )
    return msgspec.structs.replace(message, tool_calls=calls)


def num_rounds(line: Sequence[ChatMessage]) -> int:
    """Count how often tools were asked for since the person's last message."""
    count = 0
    for message in reversed(line):
        if message.role == "user":
            break
        count += bool(message.tool_calls)
    return count
