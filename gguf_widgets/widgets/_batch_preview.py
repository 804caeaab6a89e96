"""The real prompt of one row, while it is being written.

Promises: what is shown is what the model will be asked, made by the same code; the number of tokens
is the model's own count; whatever is wrong is told in words. Leaves to others: what is wrong with
the form (`_batch_draft`), when it is looked at again (`batch_table`).
"""

from __future__ import annotations

from typing import Any, Final

from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Message
from gguf_widgets.widgets._batch_draft import Judged
from gguf_widgets.widgets._batch_source import Given

__all__ = ["preview_of", "tokens_of"]

_LONGEST: Final = 20_000  # letters of a message that the page gets


def preview_of(
    judged: Judged, given: Given | None, row: int
) -> tuple[dict[str, Any], list[Message]]:
    """Return what the page shows of a row's prompt, and the messages themselves."""
    view: dict[str, Any] = {"row": row, "messages": [], "fault": "", "tokens": None, "room": None}
    if given is None or judged.template is None:
        return view, []
    if judged.faults.keys() & {"prompt", "system"}:
        return view, []
    view["row"] = row = min(max(0, row), given.num_rows - 1)
    try:
        values = given.row(row)
        used = judged.template.columns_used(given.columns)
        reason = judged.missing.reason_to_skip(values, used)
        if reason is not None:
            view["fault"] = f"This row is left out: {reason}"
            return view, []
        messages = judged.template.render(values, judged.missing)
    except GgufWidgetsError as error:
        view["fault"] = error.message
        return view, []
    view["messages"] = [
        {
            "role": message["role"],
            "text": message["content"][:_LONGEST],
            "left": max(0, len(message["content"]) - _LONGEST),
        }
        for message in messages
    ]
    return view, messages


def tokens_of(view: dict[str, Any], messages: list[Message], model: Model) -> dict[str, Any]:
    """Return the same with the number of tokens, counted by the model."""
    try:
        num, room = model.count_tokens(messages), model.settings.n_ctx
    except GgufWidgetsError as error:
        return {**view, "fault": error.message}
    fault = view["fault"]
    if room and num >= room:
        fault = (
            f"This row's prompt has {num:,} tokens, and the model has room for {room:,}, the reply "
            "included. Load the model with a larger context, or shorten the prompt."
        )
    return {**view, "tokens": num, "room": room, "fault": fault}
