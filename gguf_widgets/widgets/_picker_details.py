"""What the list of models shows of one model when it is opened: pure functions to plain data.

Promises: every value is a text or a number for the page to set as text; the exact terms are in the
tooltips. Leaves to others: the facts (`core.details`), where it is and what can be done to it
(`_picker_care_words`), drawing (static/_picker_details.js).
"""

from __future__ import annotations

from typing import Any

from gguf_widgets.core.details import FitPoint, ModelDetails
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.core.library import ModelEntry

__all__ = ["details_view"]

Content = dict[str, Any]

# (label, what it is): in the order of the picture.
_PARTS = (
    ("Model", "The model's weights, as large as its file."),
    (
        "Context",
        "What the model remembers of the conversation (KV cache); it grows with the context.",
    ),
    ("Working memory", "Buffers for computing, and the process that runs the model."),
)


def details_view(entry: ModelEntry, found: ModelDetails) -> Content:
    """Return everything under a row.

    Parameters
    ----------
    entry : ModelEntry
    found : ModelDetails
    """
    kinds = [
        f"{kind}: {number:,} tensors, {format_bytes(size)}"
        for kind, number, size in found.tensor_types
    ]
    return {
        "path": str(entry.path),
        "facts": [list(pair) for pair in (*found.facts, *_of_entry(entry))],
        "kinds": kinds,
        "template": found.template,
        "templateNote": found.template_note,
        "parts": [{"label": label, "title": title} for label, title in _PARTS],
        "points": [_point(point, found.free_bytes) for point in found.points],
        "chosen": next(
            (i for i, point in enumerate(found.points) if point.n_ctx == found.chosen_ctx), 0
        ),
        "freeBytes": found.free_bytes,
        "free": f"{format_bytes(found.free_bytes)} of memory is free",
    }


def _of_entry(entry: ModelEntry) -> list[tuple[str, str]]:
    rows = []
    if entry.mmproj is not None:
        rows.append(("Sees with", plain_text(entry.mmproj.name, 200)))
    if entry.duplicates_of:
        names = ", ".join(plain_text(name, 100) for name in entry.duplicates_of)
        rows.append(("Same as", f"{names}, as far as size and header tell"))
    if entry.last_used is not None:
        rows.append(("Last used", f"{entry.last_used.astimezone():%d %B %Y, %H:%M}"))
    return rows


def _point(point: FitPoint, free: int) -> Content:
    need = format_bytes(point.total_bytes)
    if point.fits:
        says = f"Needs {need}."
    else:
        missing = point.total_bytes - free
        # Parts of it may be on a card that is too small, while there is room elsewhere.
        lack = f" {format_bytes(missing)} too much." if missing > 0 else ""
        says = f"Needs {need} and does not fit.{lack}"
    return {
        "nCtx": point.n_ctx,
        "label": f"{point.n_ctx:,} tokens of context",
        "sizes": [point.weights_bytes, point.kv_bytes, point.other_bytes],
        "texts": [
            format_bytes(size) for size in (point.weights_bytes, point.kv_bytes, point.other_bytes)
        ],
        "fits": point.fits,
        "says": says,
    }
