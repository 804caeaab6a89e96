"""Shows a comparison: a bar while somebody waits for it, and tables in a notebook.

Promises: as `batch.show`; whatever labels and models are called is shown and never obeyed. Leaves
to others: the figures (`results`).
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gguf_widgets.batch.progress import Progress as RunProgress
from gguf_widgets.batch.show import Shown
from gguf_widgets.compare.types import ComparisonStatus, Progress
from gguf_widgets.core.format import format_bytes, format_duration, format_rate
from gguf_widgets.core.store.batch_types import Counts, RunStatus
from gguf_widgets.core.tables import as_html, as_text

if TYPE_CHECKING:
    from gguf_widgets.compare.comparison import Comparison

__all__ = ["ComparisonList", "ShownComparison", "comparison_html", "comparison_text"]

_STATUSES = {
    ComparisonStatus.READY: RunStatus.READY,
    ComparisonStatus.RUNNING: RunStatus.RUNNING,
    ComparisonStatus.STOPPED: RunStatus.STOPPED,
    ComparisonStatus.INTERRUPTED: RunStatus.INTERRUPTED,
    ComparisonStatus.FINISHED: RunStatus.FINISHED,
    ComparisonStatus.FAILED: RunStatus.FAILED,
}
_LIST_HEADINGS = ("Id", "Title", "Made", "Sides", "Prompts", "Status")


class ShownComparison(Shown):
    """Shows a comparison's progress until it is left; see `batch.show.Shown`."""

    def __init__(self, comparison: Comparison, wanted: bool | None) -> None:
        self._comparison = comparison
        super().__init__(_AsRun(comparison), wanted)

    def show(self) -> None:
        """Show how far it is now."""
        self.update(as_run(self._comparison.progress))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.show()
        in_terminal = self._kind == "terminal"
        if in_terminal and self._last:
            print(file=self._terminal)
        status = self._comparison.status
        if self._kind and status in (ComparisonStatus.STOPPED, ComparisonStatus.INTERRUPTED):
            again = f"gguf_widgets.resume_comparison({self._comparison.id[:8]!r})"
            print(
                f"Some answers are left. To go on with them: {again}",
                file=self._terminal if in_terminal else sys.stdout,
            )


class _AsRun:
    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    @property
    def id(self) -> str:
        return self._comparison.id

    @property
    def progress(self) -> RunProgress:
        return as_run(self._comparison.progress)


class _OfAnswers(RunProgress, frozen=True, kw_only=True):
    """A run whose rows are answers."""

    def __str__(self) -> str:
        return super().__str__().replace(" rows", " answers")


def as_run(progress: Progress) -> RunProgress:
    """Return how far a comparison is as if it were one run over all its answers."""
    counts = [side.counts for side in progress.sides if side.counts is not None]
    done = sum(one.done for one in counts)
    failed = sum(one.failed + one.skipped for one in counts)
    return _OfAnswers(
        status=_STATUSES[progress.status],
        counts=Counts(done=done, failed=failed, waiting=max(0, progress.num_total - done - failed)),
        left_s=progress.left_s,
        elapsed_s=progress.elapsed_s,
        note=progress.note,
    )


def _summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    names = comparison.score_names
    headings = ["Side", "Answers", *names, "Speed", "First token", "Memory"]
    rows = []
    for one in comparison.summaries():
        state = one.state
        answers = f"{one.num_done:,} of {comparison.num_prompts:,}"
        if one.num_failed:
            answers += f", {one.num_failed:,} failed"
        rows.append(
            [
                state.label,
                state.error or answers,
                *(comparison.interval_text(name, one.scores[name]) for name in names),
                "-" if state.tok_per_s is None else format_rate(state.tok_per_s),
                "-" if one.ttft_s is None else format_duration(one.ttft_s),
                "-" if state.memory_bytes is None else format_bytes(state.memory_bytes),
            ]
        )
    return headings, rows


def _sentences(comparison: Comparison) -> list[str]:
    told = [str(one) for one in comparison.differences() if one.num_pairs]
    return [*comparison.notes, *told]


def comparison_html(comparison: Comparison) -> str:
    """Return sides, differences and notes for a notebook."""
    headings, rows = _summary_rows(comparison)
    title = html.escape(comparison.title or "Comparison")
    head = (
        f"<p><strong>{title}</strong>: {comparison.status.value}, {comparison.num_prompts:,} "
        f"{'prompt' if comparison.num_prompts == 1 else 'prompts'}</p>"
    )
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in _sentences(comparison))
    return f"<div>{head}{as_html(headings, rows)}<ul>{lines}</ul></div>"


def comparison_text(comparison: Comparison) -> str:
    """Return the same for a terminal."""
    headings, rows = _summary_rows(comparison)
    return "\n".join([as_text(headings, rows), *_sentences(comparison)])


class ComparisonList(list["Comparison"]):
    """Comparisons as a list that shows itself as a table."""

    def __repr__(self) -> str:
        return as_text(_LIST_HEADINGS, self._rows()) if self else _NONE

    def _repr_html_(self) -> str:
        return as_html(_LIST_HEADINGS, self._rows()) if self else f"<p>{_NONE}</p>"

    def _rows(self) -> list[Sequence[str]]:
        return [_list_row(one) for one in self]


_NONE = "No comparison has been made yet. Make one with gguf_widgets.compare([...], prompts)."


def _list_row(comparison: Any) -> Sequence[str]:
    made = datetime.fromtimestamp(comparison.created_at).astimezone()
    return (
        comparison.id[:8],
        comparison.title or "-",
        made.strftime("%Y-%m-%d %H:%M"),
        ", ".join(comparison.labels),
        f"{comparison.num_prompts:,}",
        comparison.status.value,
    )
