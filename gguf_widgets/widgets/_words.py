"""What the widgets say about errors and endings, in one place.

Promises: every error becomes a short title and a sentence or two that say what happened and what to
do; nothing of it is HTML. Leaves to others: the message itself (whoever raised the error).
"""

from __future__ import annotations

from typing import TypedDict

from gguf_widgets.core import errors
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.types import FinishReason

__all__ = ["ErrorView", "as_known", "error_view", "message_note"]


class ErrorView(TypedDict):
    """An error as the page shows it.

    `retry` is true where the same message may well work the second time; `template` where another
    chat template would help.
    """

    title: str
    text: str
    retry: bool
    template: bool


# The most special class first. The last entry is the root, so that every error finds one.
_TITLES: tuple[tuple[type[GgufWidgetsError], str, str], ...] = (
    (errors.WorkerDiedError, "The model's process ended", ""),  # it says itself what is safe
    (errors.WorkerStartError, "The model's process did not start", ""),
    (errors.WorkerBusyError, "The model is busy", ""),
    (errors.WorkerError, "The model's process does not answer", ""),
    (errors.ContextOverflowError, "This is too long for the model", ""),
    (errors.ChatTemplateError, "The model's chat template does not work", ""),
    (errors.ModelUnloadedError, "The model is not loaded any more", "Load it again to go on."),
    (errors.NotEnoughMemoryError, "Not enough memory", ""),
    (errors.StoreError, "The conversation could not be saved", ""),
    (errors.InvalidValueError, "A setting does not fit", ""),
    (errors.ModelFileError, "This file cannot be used", ""),
    (errors.ModelLoadError, "The model could not be loaded", ""),
    (GgufWidgetsError, "The answer failed", ""),
)


def as_known(error: BaseException) -> GgufWidgetsError:
    """Return the error itself, or one of the tree that names an error from outside it."""
    if isinstance(error, GgufWidgetsError):
        return error
    return GgufWidgetsError(f"Something unexpected happened: {type(error).__name__}: {error}")


def error_view(error: BaseException) -> ErrorView:
    """Return what to show for an error."""
    known = as_known(error)
    title, advice = next((t, a) for cls, t, a in _TITLES if isinstance(known, cls))
    return {
        "title": title,
        "text": " ".join(part for part in (known.message.strip(), advice) if part),
        "retry": not isinstance(known, errors.ContextOverflowError | errors.ModelUnloadedError),
        "template": isinstance(known, errors.ChatTemplateError),
    }


def message_note(message: ChatMessage, *, left_out: bool) -> str:
    """Return the line under a message that says how it ended, or "" for the usual end."""
    if message.status is MessageStatus.ABORTED:
        return "Stopped."
    if message.status is MessageStatus.INTERRUPTED:
        return "Not finished: the page was reloaded, or Python ended. What had arrived is kept."
    if message.finish_reason is FinishReason.LENGTH:
        limit = message.sampling.max_tokens if message.sampling else None
        tokens = message.usage.num_completion_tokens if message.usage else None
        if limit is not None and tokens is not None and tokens >= limit:
            return f"Cut off at {limit:,} tokens, the longest answer that was allowed."
        return (
            "Cut off: the context is full. Continue it and choose what to leave out, or start a new"
            " conversation."
        )
    if left_out and message.role == "user":
        return "The model does not see this message."
    return "Changed by you." if message.edited else ""
