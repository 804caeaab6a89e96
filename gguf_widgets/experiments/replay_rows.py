"""One answer of a replay beside the recorded one, and the table of them.

Promises: each recorded answer has one row, asked again or not. Leaves to others: asking (`replay`).
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.batch.spec import Spec
from gguf_widgets.core.format import plain_text
from gguf_widgets.core.record.differences import Difference
from gguf_widgets.experiments.document import shape_of
from gguf_widgets.experiments.values import Answer, Item, RequestItem, RunItem
from gguf_widgets.experiments.verdicts import State, verdict_of

__all__ = ["RowResult", "answers_in", "as_html", "frame_of", "labels_of", "rows_of"]

_MOST_SHOWN: Final = 20


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, then and now.

    Attributes
    ----------
    item : int
        Of the record's items, from 1.
    row : int or None
        Of a batch run: the table's row, from 0.
    label : str
        What it is, in words.
    state : {"same", "different", "not repeated"}
    words : str
        Where it differs, or why it was not repeated.
    token, character : int or None
        The first that differs, from 0; None if none does, and where tokens are not known.
    then, now : str or None
        The texts.
    by_tokens : bool
        Whether tokens were compared, and not texts alone.
    changes : tuple of Difference
        What differs of this item's settings and circumstances.
    """

    item: int
    row: int | None = None
    label: str
    state: State
    words: str = ""
    token: int | None = None
    character: int | None = None
    then: str | None = None
    now: str | None = None
    by_tokens: bool = False
    changes: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        return f"{self.label}: {self.state}. {self.words}".strip()


def answers_in(item: Item) -> list[Answer]:
    """Return an item's answers."""
    if isinstance(item, RequestItem):
        return [item.answer]
    return list(item.answers) if isinstance(item, RunItem) else []


def labels_of(number: int, item: Item) -> list[tuple[int | None, str]]:
    """Return the row and the words for each of an item's answers."""
    if isinstance(item, RequestItem):
        return [(None, f"answer {number:,} ({_asked(item)})")]
    if not isinstance(item, RunItem):
        return []
    spec = Spec.from_dict(item.spec)
    shape = shape_of(item, spec)
    title = f"“{plain_text(item.title, 40)}”" if item.title else f"run {number:,}"
    found: list[tuple[int | None, str]] = []
    for answer in item.answers:
        row, prompt, model, sample = shape.place(answer.number)
        parts = [f"row {row + 1:,} of {title}"]
        if shape.num_prompts > 1:
            parts.append(f"prompt “{plain_text(spec.prompts[prompt].name, 30)}”")
        if shape.num_models > 1:
            parts.append(f"model {plain_text(spec.models[model].name, 30)}")
        if shape.num_samples > 1:
            parts.append(f"sample {sample + 1}")
        found.append((row, ", ".join(parts)))
    return found


def rows_of(
    number: int,
    item: Item,
    now: Sequence[Answer] | None,
    *,
    reason: str = "",
    changes: Sequence[tuple[Difference, ...]] = (),
) -> list[RowResult]:
    """Return a row for each of an item's answers.

    Parameters
    ----------
    number : int
        The item's, from 1.
    item : Item
    now : sequence of Answer or None
        The new ones, in the same order; None if none was asked.
    reason : str
        Why, in a sentence.
    changes : sequence
        What differs, for each answer.
    """
    rows = []
    for place, (then, (row, label)) in enumerate(
        zip(answers_in(item), labels_of(number, item), strict=True)
    ):
        again = now[place] if now is not None else Answer(status="waiting")
        verdict = verdict_of(then, again)
        rows.append(
            RowResult(
                item=number,
                row=row,
                label=label,
                state=verdict.state,
                words=reason if now is None and reason else verdict.words,
                token=verdict.token,
                character=verdict.character,
                then=then.text,
                now=again.text,
                # Of an error there are no tokens to compare.
                by_tokens=then.text is None or None not in (then.tokens, again.tokens),
                changes=tuple(changes[place]) if place < len(changes) else (),
            )
        )
    return rows


def frame_of(rows: Sequence[RowResult]) -> Any:
    """Return the rows as a DataFrame."""
    import pandas as pd

    return pd.DataFrame(
        {
            "item": pd.array([row.item for row in rows], dtype="Int64"),
            "row": pd.array([row.row for row in rows], dtype="Int64"),
            "what": [row.label for row in rows],
            "state": [row.state for row in rows],
            "token": pd.array([row.token for row in rows], dtype="Int64"),
            "character": pd.array([row.character for row in rows], dtype="Int64"),
            "then": [row.then for row in rows],
            "now": [row.now for row in rows],
            "words": [row.words for row in rows],
            "changes": [", ".join(one.name for one in row.changes) for row in rows],
        }
    )


def as_html(words: str, rows: Sequence[RowResult]) -> str:
    """Return a replay for a notebook: its words, and the rows that are not the same."""
    others = [row for row in rows if row.state != "same"]
    parts = [f"<p>{html.escape(words)}</p>"]
    if others:
        cells = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(text)}</td>"
                for text in (row.label, row.state, row.words)
            )
            + "</tr>"
            for row in others[:_MOST_SHOWN]
        )
        head = "".join(f"<th style='text-align:left'>{t}</th>" for t in ("What", "State", "Where"))
        parts.append(f"<table><tr>{head}</tr>{cells}</table>")
    if len(others) > _MOST_SHOWN:
        parts.append(f"<p>{len(others) - _MOST_SHOWN:,} more; to_frame() has all.</p>")
    return f"<div>{''.join(parts)}</div>"


def _asked(item: RequestItem) -> str:
    """Return the last words of what was asked."""
    prompt = item.prompt
    messages = prompt.get("messages")
    if messages:
        return f"“{plain_text(str(messages[-1].get('content', '')), 40)}”"
    if prompt.get("text") is not None:
        return f"“{plain_text(str(prompt['text']), 40)}”"
    return f"{len(prompt.get('tokens') or ()):,} tokens"
