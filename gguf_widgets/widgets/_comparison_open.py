"""The comparison that a view shows: how it stands, what came of it, its prompts one by one.

Promises: figures are made on a thread of their own, at most once a second, and say which state of
the comparison they are of; a page gets only the prompts that it shows. Leaves to others: the
comparison (`compare`), words (`_comparison_words`), voting (`_comparison_vote`).
"""

from __future__ import annotations

import html
import math
import re
import time
from collections import deque
from typing import Any, Final

import msgspec

from gguf_widgets.batch.template import Template
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.scorer import column_names
from gguf_widgets.compare.types import ComparisonStatus, Progress, Row
from gguf_widgets.compare.verdicts import figure_text
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_bytes, format_duration, format_rate, plain_text
from gguf_widgets.widgets import markdown
from gguf_widgets.widgets._comparison_words import (
    answer_view,
    answer_words,
    progress_words,
    side_view,
    title_of,
)

__all__ = ["OpenComparison"]

Message = dict[str, Any]

_MOST_ROWS: Final = 200
_KINDS: Final = ("quality", "differences", "votes")
_LETTERS: Final = "ABCD"
_MOST_COLUMNS: Final = 3
_MOST_PACE: Final = 120  # looks, two a second
_LEAST_DONE: Final = 3
_LEAST_S: Final = 4.0


class OpenComparison:
    """A comparison on the screen.

    Parameters
    ----------
    comparison : Comparison
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.result: Message | None = None
        self._result_of: tuple[int, str] | None = None
        self._shown_columns = _telling_columns(comparison)
        self._pace: deque[tuple[float, int]] = deque(maxlen=_MOST_PACE)

    # -- how it stands ----------------------------------------------------------------------------

    def part(self, *, is_framed: bool) -> Message:
        """Return how it stands now."""
        one = self.comparison
        progress = one.progress
        is_running = progress.status is ComparisonStatus.RUNNING
        is_finished = progress.status is ComparisonStatus.FINISHED
        num_failed = sum(side.error is not None for side in one.definition.sides)
        is_elsewhere = is_running and not one.is_here
        if is_elsewhere:
            progress = msgspec.structs.replace(progress, note="", left_s=self._left(progress))
        words, figures = progress_words(
            progress, one.error, is_here=one.is_here, is_framed=is_framed
        )
        return {
            "id": one.id,
            "title": title_of(one.title, one.labels),
            "status": progress.status.value,
            "words": words,
            "note": progress.note,
            "figures": figures,
            "fraction": progress.fraction,
            "isHere": one.is_here,
            "numPrompts": one.num_prompts,
            "labels": [plain_text(label, 60) for label in one.labels],
            "sides": [
                side_view(state, one.num_prompts, is_elsewhere=is_elsewhere)
                for state in progress.sides
            ],
            "heading": ", ".join(self._shown_columns) or "Prompt",
            # Of sides that cannot answer it is said where they stand.
            "notes": one.notes[num_failed:],
            "scores": [
                {"name": score.name, "label": score.label or score.name} for score in one.scorings
            ],
            "canGoOn": not is_running and (not is_finished or num_failed > 0),
            "goOnText": "Try again what failed" if is_finished else "Go on",
            "version": one.changes(),
        }

    def _left(self, progress: Progress) -> tuple[float, float] | None:
        """Return how long another process still needs, about: by what came while this looked."""
        now = time.monotonic()
        self._pace.append((now, progress.num_done))
        (then, before) = self._pace[0]
        done, took = progress.num_done - before, now - then
        if done < _LEAST_DONE or took < _LEAST_S:
            return None
        left = (progress.num_total - progress.num_done) * took / done
        return 0.8 * left, 1.3 * left

    @property
    def is_under_way(self) -> bool:
        """Whether it is being carried out, by whom ever."""
        return self.comparison.status is ComparisonStatus.RUNNING

    # -- what came of it --------------------------------------------------------------------------

    def look_at_result(self) -> bool:
        """Make the figures anew if something has changed; return whether it had."""
        one = self.comparison
        state = one.changes(), one.status.value
        if state == self._result_of:
            return False
        self._result_of = state
        self.result = self._figures()
        return True

    def _figures(self) -> Message:
        one = self.comparison
        summaries = one.summaries()
        scorings = one.scorings
        heads = ["Side", "Answers", *(score.label or score.name for score in scorings)]
        heads += ["Speed", "First word", "Memory"]
        titles = ["", "Prompts that have been answered", *([""] * len(scorings))]
        titles += [
            "Tokens written in a second, all replies together",
            "Half of the replies began sooner (median ttft_s)",
            "Of the process that runs the model (resident set size)",
        ]
        rows = []
        for found in summaries:
            state = found.state
            answers = f"{found.num_done:,} of {one.num_prompts:,}"
            if found.num_failed:
                answers += f", {found.num_failed:,} failed"
            if found.num_cut_off:
                answers += f", {found.num_cut_off:,} cut off"
            rows.append(
                [
                    f"{_LETTERS[state.number]} {state.label}",
                    answers,
                    *(one.interval_text(s.name, found.scores[s.name]) for s in scorings),
                    "-" if state.tok_per_s is None else format_rate(state.tok_per_s),
                    "-" if found.ttft_s is None else format_duration(found.ttft_s),
                    "-" if state.memory_bytes is None else format_bytes(state.memory_bytes),
                ]
            )
        labels = {score.name: score.label or score.name for score in scorings}
        told = [
            {
                "score": labels.get(found.score, found.score),
                "words": found.words,
                "clear": found.clear,
            }
            for found in one.differences()
            if found.num_pairs
        ]
        votes = [found.words for found in one.standings() if found.num_votes]
        return {
            "of": self._result_of[0] if self._result_of else 0,
            "heads": heads,
            "titles": titles,
            "rows": rows,
            "differences": told,
            "votes": votes,
        }

    def figure(self, content: Message) -> Message:
        """Return a picture: Plotly's data and layout for light and for dark, and words.

        Raises
        ------
        InvalidValueError
            There is no such picture, or nothing to draw yet.
        MissingDependencyError
            Plotly is not installed.
        """
        kind, score = content.get("figure"), content.get("score") or None
        if kind not in _KINDS:
            raise InvalidValueError(f"There is no picture {kind!r:.40}.")
        if score is not None and score not in self.comparison.score_names:
            raise InvalidValueError(f"There is no score {score!r:.60}.")
        options = {} if score is None or kind == "votes" else {"score": score}
        made: Message = {}
        for theme in ("light", "dark"):
            drawn = self.comparison.figure(kind, theme=theme, **options)
            figure = drawn.to_plotly_json()
            layout = _plain(figure["layout"])
            lines = _lines_of(layout.pop("title", {}).get("text", ""))
            height = int(layout.pop("height", 400)) - 18 * (len(lines) - 1)
            for name in ("template", "paper_bgcolor", "plot_bgcolor"):
                layout.pop(name, None)  # as all charts of the page
            layout["margin"] = {**layout.get("margin", {}), "t": 24}
            made[theme] = {"data": _plain(figure["data"]), "layout": layout}
            made |= {"heading": lines[0] if lines else "", "words": " ".join(lines[1:])}
            made["height"] = max(160, height - 46)
        return made

    # -- its prompts ------------------------------------------------------------------------------

    def rows(self, content: Message) -> Message:
        """Return a window of the prompts, one line each."""
        start, stop = content.get("start"), content.get("stop")
        if not isinstance(start, int) or not isinstance(stop, int):
            raise InvalidValueError("A window of prompts is told by two numbers.")
        failed = [side.error is not None for side in self.comparison.definition.sides]
        first = max(0, min(start, self.comparison.num_prompts))
        rows = self.comparison.rows(first, max(first, min(stop, first + _MOST_ROWS)))
        return {
            "total": self.comparison.num_prompts,
            "rows": [
                {
                    "number": row.number,
                    "prompt": self._line(row),
                    "answers": [
                        {
                            "text": answer_words(answer) or ("—" if has_failed else ""),
                            "status": answer.status,
                        }
                        for answer, has_failed in zip(row.answers, failed, strict=True)
                    ],
                    "isSame": _are_same(row),
                }
                for row in rows
            ],
        }

    def _line(self, row: Row) -> str:
        """Return what tells a prompt from the others: where all begin alike, its own columns."""
        told = [str(row.values.get(name, "")) for name in self._shown_columns]
        return plain_text((" · ".join(told) if told else row.prompt).strip(), 300)

    def row(self, number: Any) -> Message:
        """Return one prompt with all its answers.

        Raises
        ------
        InvalidValueError
            There is no such prompt.
        """
        one = self.comparison
        is_number = isinstance(number, int) and not isinstance(number, bool)
        if not is_number or not 0 <= number < one.num_prompts:
            raise InvalidValueError(f"There are prompts 1 to {one.num_prompts:,}.")
        (row,) = one.rows(number, number + 1)
        answers = []
        for side, answer in enumerate(row.answers):
            texts = []
            for scoring in one.scorings:
                if scoring.name not in answer.scores:
                    continue
                value = answer.scores[scoring.name]
                why = answer.why.get(scoring.name, {})
                note = why.get("note") or why.get("words") or ""
                shown = "not known" if value is None else figure_text(scoring, value)
                texts.append((scoring.label or scoring.name, shown, plain_text(str(note), 300)))
            view = answer_view(answer, texts)
            view |= {
                "letter": _LETTERS[side],
                "label": plain_text(one.labels[side], 60),
                "blocks": markdown.to_blocks(answer.text) if answer.text else [],
            }
            answers.append(view)
        reference = row.reference
        return {
            "number": row.number,
            "prompt": row.prompt,
            "asked": [self._asked(row.number, side) for side in range(len(row.answers))],
            "reference": "" if reference is None else _as_text(reference),
            "answers": answers,
            "isSame": _are_same(row),
        }

    def _asked(self, number: int, side: int) -> str:
        """Return all that a side is asked for a prompt, as text."""
        try:
            messages = self.comparison.messages(number, side)
        except GgufWidgetsError as error:
            return error.message
        return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def _telling_columns(comparison: Comparison) -> list[str]:
    """Return the columns that stand for a prompt in the list; [] if it is short itself."""
    common = comparison.definition.common
    template = common.template if isinstance(common.template, str) else ""
    try:
        names = column_names(comparison.definition)
        used = list(Template.parse(common.template).columns_used(names))
    except GgufWidgetsError:
        return []
    is_plain = len(used) == 1 and template.strip().strip("{} ") == used[0]
    return [] if is_plain else [plain_text(name, 60) for name in used[:_MOST_COLUMNS]]


def _are_same(row: Row) -> bool:
    texts = {answer.text for answer in row.answers}
    return len(texts) == 1 and all(answer.status == "done" for answer in row.answers)


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(str(one) for one in value)
    return str(value)


def _lines_of(title: str) -> list[str]:
    """Return a figure's title, which is markup of plotly's, as lines of text."""
    lines = (re.sub(r"<[^<>]*>", "", line) for line in title.split("<br>"))
    return [html.unescape(line).strip() for line in lines if line.strip()]


def _plain(value: Any) -> Any:
    """Return what plotly made as JSON's own types."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and math.isnan(value):  # JSON has none
        return None
    return value
