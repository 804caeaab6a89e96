"""A summary of what has no room in the context any more, written by the model itself.

Promises: a bounded number of questions to the model, each of which fits its context; progress after
each; a stop at any moment, also while the model reads; what comes out is no longer than
`summary_budget`. Leaves to others: which messages (`context`), keeping it (`interface`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.core.chat.begin import after_thinking
from gguf_widgets.core.chat.context_count import TokenCounter
from gguf_widgets.core.errors import (
    ContextOverflowError,
    RequestCancelledError,
    RequestError,
)
from gguf_widgets.core.thinking import strip_thinking
from gguf_widgets.core.types import Message, TextPart

__all__ = ["MAX_STEPS", "Summarizer", "in_place_of", "summary_budget"]

MAX_STEPS: Final = 16
"""Questions to the model for one summary; what is longer than so many contexts is left out."""

_LONGEST: Final = 400  # tokens
_LEAST_PIECE: Final = 48
_LOOK_EVERY_S: Final = 0.1

_TASK: Final = (
    "Sum up this part of a conversation between a user and an assistant, so that the conversation"
    " can go on without it. Keep names, numbers, what was decided and what is still open. Write"
    " only the summary, at most {words} words."
)
_INTRODUCTION: Final = "Summary of our conversation so far (its oldest messages are left out):"
_WHO: Final = {"user": "User", "assistant": "Assistant", "tool": "Tool", "system": "System"}


def summary_budget(n_ctx: int) -> int:
    """Return how many tokens a summary may be in a context of that size."""
    return max(16, min(_LONGEST, n_ctx // 8))


def in_place_of(messages: list[Message], summary: str) -> list[Message]:
    """Return the messages with a summary of what came before them, in the first one of a person.

    There every chat template takes it, also one that knows no system prompt.
    """
    text = f"{_INTRODUCTION}\n{summary}"
    for index, message in enumerate(messages):
        if message["role"] == "user":
            changed = message.copy()
            changed["content"] = f"{text}\n\n{message['content']}"
            if parts := message.get("parts"):
                changed["parts"] = [TextPart(text), *parts]
            return [*messages[:index], changed, *messages[index + 1 :]]
    return [Message(role="user", content=text), *messages]


class Summarizer:
    """Has a model sum up messages.

    Parameters
    ----------
    model : Model
    counter : TokenCounter
        For the same model.
    on_progress : callable
        Called with the steps done and all there are, before each step and at the end.
    stopped : callable
        True ends it.
    """

    def __init__(
        self,
        model: Any,
        counter: TokenCounter,
        on_progress: Callable[[int, int], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._model, self._counter = model, counter
        self._on_progress, self._stopped = on_progress, stopped
        self._budget = summary_budget(counter.n_ctx)

    def sum_up(self, messages: Sequence[Mapping[str, Any]], before: str | None) -> str:
        """Return a summary of messages, and of an earlier summary.

        Raises
        ------
        ContextOverflowError
            The context is too small for that, or the messages are too long.
        RequestCancelledError
            It was stopped.
        RequestError
            The model failed, or wrote nothing.
        """
        text = "\n\n".join(_said(message) for message in messages if _said(message))
        if not text:
            return before or ""
        room = self._room()
        pieces = list(self._pieces(text, room))
        if len(pieces) > MAX_STEPS:
            raise ContextOverflowError(
                f"Summing up the oldest messages would take {len(pieces):,} steps; at most"
                f" {MAX_STEPS} are taken. Leave them out instead, or load the model with a larger"
                " context (n_ctx).",
                problem="summary",
                choices=["drop_oldest"],
                n_ctx=self._counter.n_ctx,
            )
        summary = before
        for number, piece in enumerate(pieces):
            self._on_progress(number, len(pieces))
            summary = self._ask(piece, summary)
        self._on_progress(len(pieces), len(pieces))
        return summary or ""

    def _question(self, piece: str, before: str | None) -> str:
        parts = [_TASK.format(words=max(12, self._budget // 2))]
        if before:
            parts.append(f"What was summed up before:\n{before}")
        parts += [f"The conversation:\n{piece}", "Summary:"]
        return "\n\n".join(parts)

    def _room(self) -> int:
        """Return how many tokens of conversation one question may hold."""
        empty = self._counter.conversation([Message(role="user", content=self._question("", "x"))])
        # The earlier summary and the new one, and some tokens because pieces are cut by judgement.
        room = self._counter.n_ctx - empty - 2 * self._budget - 16
        if room < _LEAST_PIECE:
            raise ContextOverflowError(
                f"A context of {self._counter.n_ctx:,} tokens is too small to sum up messages in."
                " Leave the oldest messages out instead, or load the model with a larger context"
                " (n_ctx).",
                problem="summary",
                choices=["drop_oldest"],
                n_ctx=self._counter.n_ctx,
            )
        return room

    def _pieces(self, text: str, room: int) -> Iterator[str]:
        """Cut a text into pieces of at most `room` tokens, at ends of lines or words if it can."""
        total = max(1, self._counter.text(text).num_tokens)
        size = max(1, int(len(text) * room / total * 0.95)) if total > room else len(text)
        at = num_pieces = 0
        while at < len(text) and num_pieces <= MAX_STEPS:
            end = min(len(text), at + size)
            while end - at > 1 and self._counter.text(text[at:end]).num_tokens > room:
                end = at + (end - at) * 3 // 4
            if end < len(text):
                end = next(
                    (
                        cut + 1
                        for mark in ("\n", " ")
                        if (cut := text.rfind(mark, at + (end - at) // 2, end)) > 0
                    ),
                    end,
                )
            yield text[at:end].strip()
            num_pieces += 1
            at = end
        # What is left would take so many more; only their number matters.
        yield from [""] * -(-(len(text) - at) // max(1, size))

    def _ask(self, piece: str, before: str | None) -> str:
        if self._stopped():
            raise _stopped_error()
        question = [Message(role="user", content=self._question(piece, before))]
        keywords: dict[str, Any] = {"temperature": 0.0, "max_tokens": self._budget}
        # There is no room for thoughts: they would be longer than the summary may be.
        facts = getattr(self._model, "template_facts", None)
        begin = after_thinking("", self._model)
        if begin.begin_with is not None:
            keywords["begin_with"] = begin.begin_with
        if begin.template_variables:
            keywords["template_variables"] = dict(begin.template_variables)
        elif facts is not None and facts.has_thinking_switch:
            keywords["template_variables"] = {facts.thinking_variable: False}
        with self._model.stream(question, **keywords) as stream:
            over = threading.Event()
            watch = threading.Thread(
                target=self._watch, args=(stream, over), name="gguf-widgets-summary", daemon=True
            )
            watch.start()
            try:
                text = "".join(delta.text for delta in stream).strip()
            finally:
                over.set()
                watch.join()
        if self._stopped():
            raise _stopped_error()
        opened = begin.begin_with is not None  # then what it begins with ends the thoughts
        text = strip_thinking(text, opened=opened).strip()
        if not text:
            raise RequestError(
                "The model wrote no summary of the oldest messages. Leave them out instead.",
                problem="no_summary",
                choices=["drop_oldest"],
            )
        return text

    def _watch(self, stream: Any, over: threading.Event) -> None:
        """Stop the model when the person does; it may be reading, with no word to wait for."""
        while not over.wait(_LOOK_EVERY_S):
            if self._stopped():
                stream.stop()
                return


def _said(message: Mapping[str, Any]) -> str:
    content = str(message.get("content") or "").strip()
    return f"{_WHO.get(str(message['role']), 'User')}: {content}" if content else ""


def _stopped_error() -> RequestCancelledError:
    return RequestCancelledError("Summing up the oldest messages was stopped.")
