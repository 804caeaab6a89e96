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
from gguf_widgets.widgets._batch_pictures import Pictures
from gguf_widgets.widgets._batch_source import Given

__all__ = ["preview_of", "tokens_of"]

_LONGEST: Final = 20_000  # letters of a message that the page gets


def preview_of(
    judged: Judged, given: Given | None, row: int, pictures: Pictures
) -> tuple[dict[str, Any], list[Message]]:
    """Return what the page shows of a row's prompt, and the messages themselves."""
    view: dict[str, Any] = {"row": row, "messages": [], "fault": "", "tokens": None, "room": None}
    if given is None or judged.template is None:
        return view, []
    if judged.faults.keys() & {"prompt", "system", "imagesFolder"}:
        return view, []
    view["row"] = row = min(max(0, row), given.num_rows - 1)
    try:
        values = given.row(row)
        used = [*judged.template.columns_used(given.columns), *judged.images.columns]
        reason = judged.missing.reason_to_skip(values, used)
        if reason is not None:
            view["fault"] = f"This row is left out: {reason}"
            return view, []
        asked = pictures.asked(judged.template, judged.missing, judged.images, values)
    except GgufWidgetsError as error:
        view["fault"] = error.message
        return view, []
    view["messages"] = [_cut(message) for message in asked.views]
    if asked.num_unread:  # why stands in its place
        what = "a picture" if asked.num_unread == 1 else f"{asked.num_unread} pictures"
        view["fault"] = f"This row will fail, as {what} cannot be read."
    return view, asked.messages


def _cut(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with the beginning of each of its texts, and how much is left out."""
    text = message["text"]
    cut = {**message, "text": text[:_LONGEST], "left": max(0, len(text) - _LONGEST)}
    if "parts" in message:
        cut["parts"] = [_cut(part) if "text" in part else part for part in message["parts"]]
    return cut


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
