"""What a tool gave back, in words: for the person whole, for the model within bounds.

Promises: any Python value becomes a text, tables as Markdown and data as JSON; what is too long is
cut where it says so. It may run the value's own code (``__str__``, ``__repr__``) and so belongs on
the tool's thread. Leaves to others: running (`run`), showing (`widgets`).
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import enum
import json
import pathlib
import sys
from typing import Any

from gguf_widgets.core.chat.types import ToolCall, well_formed

__all__ = ["MAX_KEPT", "MODEL_LIMIT", "for_model", "is_cut", "to_text"]

MODEL_LIMIT = 8000  # characters, some 2,000 tokens: a third of the smallest usual context
MAX_KEPT = 1_000_000  # characters of a result that are kept for the person
_TABLE_ROWS = 30
_TABLE_COLUMNS = 20
_CELL = 200
_MAX_ITEMS = 20_000
_DECLINED = (
    "The user declined this call, so it was not run. Do not ask for it again: answer without it, or"
    " ask the user what to do."
)


def for_model(call: ToolCall) -> str:
    """Return what the model is told of a call; what is too long is cut in the middle, visibly."""
    if call.status == "declined":
        return f"{_DECLINED} ({call.error})" if call.error else _DECLINED
    if call.status == "failed":
        return _cut(f"Error: {call.error or 'it failed without a word.'}")
    if call.status != "done":
        return "This call was not run."
    return _cut(call.result or "")


def is_cut(call: ToolCall) -> bool:
    """Return whether the model is told less than the person sees."""
    return call.status == "done" and len(call.result or "") > MODEL_LIMIT


def _cut(text: str) -> str:
    if len(text) <= MODEL_LIMIT:
        return text
    head, tail = MODEL_LIMIT * 3 // 4, MODEL_LIMIT // 4
    left_out = len(text) - head - tail
    return (
        f"{text[:head]}\n\n[... {left_out:,} of {len(text):,} characters left out here ...]\n\n"
        f"{text[-tail:]}"
    )


def to_text(value: Any) -> str:
    """Return a result as it is kept; an error of the value's own code is the caller's.

    Parameters
    ----------
    value : object
        A text stays as it is; None, numbers, lists, dicts and objects with fields become JSON;
        tables of pandas Markdown; images and bytes a few words; anything else what ``str`` makes.
    """
    text = well_formed(_text(value))
    if len(text) <= MAX_KEPT:
        return text
    return f"{text[:MAX_KEPT]}\n\n[cut here: the result has {len(text):,} characters]"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if value is None:
        return "Done. (The function gave nothing back.)"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes of data, which are not shown."
    table = _table(value)
    if table is not None:
        return table
    image = _image(value)
    if image is not None:
        return image
    try:
        return json.dumps(_plain(value, [_MAX_ITEMS]), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _plain(value: Any, left: list[int], depth: int = 0) -> Any:
    """Return a value as JSON has it; raise TypeError if there is no good way."""
    left[0] -= 1
    if left[0] < 0 or depth > 100:
        raise ValueError
    if isinstance(value, enum.Enum):
        return _plain(value.value, left, depth + 1)
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return f"({len(value):,} bytes)"
    if isinstance(value, collections.abc.Mapping):
        return {str(_key(k)): _plain(v, left, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | collections.abc.Set):
        return [_plain(one, left, depth + 1) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: _plain(getattr(value, f.name), left, depth + 1) for f in fields}
    dump = getattr(value, "model_dump", None)  # pydantic
    if callable(dump):
        return dump(mode="json")
    for name in ("tolist", "item"):  # NumPy's arrays and numbers
        plain = getattr(value, name, None)
        if type(value).__module__.partition(".")[0] == "numpy" and callable(plain):
            return _plain(plain(), left, depth + 1)
    raise TypeError


def _key(key: Any) -> Any:
    return key.value if isinstance(key, enum.Enum) else key


def _image(value: Any) -> str | None:
    module = type(value).__module__
    size = getattr(value, "size", None)
    if module.startswith("PIL.") and isinstance(size, tuple) and len(size) == 2:
        return f"An image of {size[0]} x {size[1]} pixels, which is not shown."
    if module == "gguf_widgets.core.images":
        return "An image, which is not shown."
    return None


def _table(value: Any) -> str | None:
    """Return a table of pandas as Markdown; None for anything else."""
    pandas = sys.modules.get("pandas")  # who has one of its tables has imported it
    if pandas is None:
        return None
    if isinstance(value, pandas.Series):
        value = value.to_frame(value.name if value.name is not None else "value")
    if not isinstance(value, pandas.DataFrame):
        return None
    num_rows, num_columns = value.shape
    shown = value.iloc[:_TABLE_ROWS, :_TABLE_COLUMNS]
    numbered = isinstance(value.index, pandas.RangeIndex)
    head = ([] if numbered else [""]) + [_cell(name) for name in shown.columns]
    lines = [head, ["---"] * len(head)]
    for label, row in zip(shown.index, shown.itertuples(index=False, name=None), strict=True):
        lines.append(([] if numbered else [_cell(label)]) + [_cell(one) for one in row])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    if num_rows > len(shown) or num_columns > shown.shape[1]:
        text += (
            f"\n\n[the first {len(shown)} of {num_rows:,} rows, {shown.shape[1]} of"
            f" {num_columns:,} columns]"
        )
    return text


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
