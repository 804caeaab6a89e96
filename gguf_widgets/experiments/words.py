"""What a record says of itself: sentences, a table, a few lines for a notebook.

Promises: texts of a record are made safe to show. Leaves to others: what came of a replay
(`report`).
"""

from __future__ import annotations

import html
import json
import time
from collections.abc import Sequence
from typing import Any

from gguf_widgets.batch.spec import Spec
from gguf_widgets.core.format import format_bytes, plain_text
from gguf_widgets.experiments.document import shape_of
from gguf_widgets.experiments.replay_rows import answers_in, labels_of
from gguf_widgets.experiments.values import ComparisonItem, Item, Record, RequestItem, RunItem

__all__ = ["as_html", "frame_of", "is_strict", "num_answers", "words_of"]


def num_answers(record: Record) -> int:
    """Return how many answers a record has."""
    return sum(answer.status != "waiting" for item in record.items for answer in answers_in(item))


def is_strict(record: Record) -> bool:
    """Say whether everything was computed by itself."""
    asked = _asked(record)
    return bool(asked) and all(item.strict for item in asked)


def words_of(record: Record, *, altered: str, is_complete: bool) -> str:
    """Return what a record is, in some sentences."""
    title = f"“{plain_text(record.title, 60)}”: " if record.title else ""
    if not record.items:
        return f"{title}nothing is recorded yet."
    requests = sum(isinstance(item, RequestItem) for item in record.items)
    runs = [item for item in record.items if isinstance(item, RunItem)]
    comparisons = sum(isinstance(item, ComparisonItem) for item in record.items)
    rows = sum(len(item.rows) for item in runs)
    parts = [
        _count(requests, "answer") if requests else "",
        f"{_count(len(runs), 'batch run')} ({_count(rows, 'row')})" if runs else "",
        _count(comparisons, "comparison") if comparisons else "",
    ]
    names = list(dict.fromkeys(plain_text(model.name, 40) for model in record.models))
    with_models = f" with {', '.join(names[:4])}{' and others' if len(names) > 4 else ''}"
    said = [f"{title}{', '.join(part for part in parts if part)}{with_models if names else ''}."]
    said.append(_mode(record))
    if not is_complete:
        said.append("Something is still going on; it is recorded when it ends.")
    said.append(altered)
    return " ".join(part for part in said if part)


def _mode(record: Record) -> str:
    asked = _asked(record)
    strict = sum(item.strict for item in asked)
    if not asked:
        return ""
    if strict == len(asked):
        return "Strict: each answer was computed by itself."
    which = "None of it is" if not strict else f"{strict:,} of {len(asked):,} items are"
    return (
        f"{which} strict: what was computed beside others may differ in the last digits next time "
        "(reproducible=True avoids that)."
    )


def frame_of(record: Record) -> Any:
    """Return a DataFrame with a row for each answer."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for number, item in enumerate(record.items, 1):
        labels = labels_of(number, item)
        for place, (answer, (row, label)) in enumerate(zip(answers_in(item), labels, strict=True)):
            rows.append(
                {
                    "item": number,
                    "row": row,
                    "what": label,
                    "model": _model_of(record, item, place),
                    "status": answer.status,
                    "text": answer.text,
                    "values": json.dumps(answer.values) if answer.values is not None else None,
                    "finish_reason": answer.finish_reason,
                    "seed": answer.seed,
                    "temperature": _setting(item, "temperature"),
                    "strict": getattr(item, "strict", None),
                    "num_prompt_tokens": answer.num_prompt_tokens,
                    "num_completion_tokens": answer.num_completion_tokens,
                }
            )
    columns = (
        "item", "row", "what", "model", "status", "text", "values", "finish_reason", "seed",
        "temperature", "strict", "num_prompt_tokens", "num_completion_tokens",
    )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(columns))
    whole = ("item", "row", "seed", "num_prompt_tokens", "num_completion_tokens")
    return frame.astype(dict.fromkeys(whole, "Int64"))


def as_html(record: Record, words: str, notices: Sequence[str]) -> str:
    """Return a record for a notebook."""
    program = record.program
    facts = [
        ("Begun", time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created_at))),
        *[
            (
                "Model",
                ", ".join(
                    (
                        plain_text(one.name, 60),
                        plain_text(one.quantization, 20),
                        format_bytes(one.size_bytes),
                    )
                ),
            )
            for one in record.models[:8]
        ],
        ("gguf-widgets", _plain(program.get("package"))),
        ("llama-cpp-python", _plain(program.get("engine"))),
        ("Processor", _plain(program.get("processor"))),
    ]
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in facts
    )
    told = "".join(f"<p>{html.escape(one)}</p>" for one in [words, *notices])
    return f"<div>{told}<table>{rows}</table></div>"


def _asked(record: Record) -> list[RequestItem | RunItem]:
    return [item for item in record.items if isinstance(item, RequestItem | RunItem)]


def _model_of(record: Record, item: Item, place: int) -> str:
    if isinstance(item, RequestItem):
        return record.models[item.model].name
    assert isinstance(item, RunItem)  # noqa: S101 - no other item has answers
    shape = shape_of(item, Spec.from_dict(item.spec))
    _, _, model, _ = shape.place(item.answers[place].number)
    return record.models[item.models[model]].name


def _setting(item: Item, name: str) -> Any:
    return getattr(item, "sampling", {}).get(name)


def _plain(value: Any) -> str:
    return plain_text(str(value), 60) if value is not None else "unknown"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
