"""What the charts of a run show: labels counted, times, tokens, each in a few dozen figures.

Promises: a chart is the same for 100 rows and for 100,000, in size and in what it tells; each has a
sentence with its main figures, for whoever does not see it; computing takes a tenth of the time at
most while the run goes on, and none of it on the thread that answers pages. Leaves to others: SQL
(`core.store.batch_window_figures`), bins (`_chart_bins`), drawing (static/_batch_charts.js).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from gguf_widgets.batch.output_column import Column
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.store.batch_window import BatchWindow
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_cells import shown
from gguf_widgets.widgets._chart_bins import Bins, bins_of

__all__ = ["Charts"]

_LEAST_WAIT_S: Final = 1.0
_SHARE: Final = 0.1  # of the time, for computing
_MOST_BARS: Final = 30
_MOST_MODELS: Final = 6  # each a colour of its own; more than these are counted together
_LABELS: Final = ("category", "boolean")
_NUMBERS: Final = ("integer", "number")
_TOLD_LABELS: Final = 6

View = dict[str, Any]


class Charts:
    """The charts of one run.

    Parameters
    ----------
    run : BatchRun
    store : Store
    """

    def __init__(self, run: BatchRun, store: Store) -> None:
        self._window = BatchWindow(store, run.id)
        spec = run.spec
        self._columns = [
            (prompt.column(column.name), column)
            for prompt in spec.prompts
            for column in prompt.output.columns
            if column.kind in (*_LABELS, *_NUMBERS)
        ]
        models = [plain_text(one.name) for one in spec.models]
        self._models = models if 1 < len(models) <= _MOST_MODELS else [""]
        self._note = f" All {len(models)} models together." if len(models) > _MOST_MODELS else ""
        self._kept: View = {"version": -1, "charts": []}
        self._not_before = 0.0

    def view(self) -> View:
        """Return the charts, and the `version` of the rows that they show.

        While rows change quickly, what was computed a moment ago is returned again.
        """
        version = self._window.changes()
        now = time.monotonic()
        if version == self._kept["version"] or now < self._not_before:
            return self._kept
        charts = self._computed()
        took = time.monotonic() - now
        self._not_before = now + max(_LEAST_WAIT_S, took / _SHARE)
        self._kept = {"version": version, "charts": charts}
        return self._kept

    def _computed(self) -> list[View]:
        numbers = [name for name, column in self._columns if column.kind in _NUMBERS]
        figures = self._window.figures(numbers)
        models = figures.models if len(self._models) > 1 else None
        charts: list[View] = []
        for name, column in self._columns:
            if column.kind in _LABELS:
                charts.append(self._labels(name, column))
            else:
                whole = column.kind == "integer"
                bins = bins_of(
                    figures.columns[name], models, num_groups=len(self._models), whole=whole
                )
                charts.append(self._numbers(name, bins, _number_words, column=name))
        for key, title, values, words, unit in (
            ("seconds", "Time for a row", figures.seconds, _time_words, "s"),
            ("prompt", "Tokens of a prompt", figures.prompt_tokens, _prompt_words, "tokens"),
            ("reply", "Tokens of a reply", figures.reply_tokens, _reply_words, "tokens"),
        ):
            is_tokens = unit == "tokens"
            bins = bins_of(values, models, num_groups=len(self._models), whole=is_tokens)
            charts.append(self._numbers(title, bins, words, key=key, unit=unit))
        return charts

    def _labels(self, name: str, column: Column) -> View:
        by_model = self._window.label_counts_by_model(name)
        if len(self._models) == 1 and len(by_model) > 1:
            by_model = [_together(by_model)]
        total = _together(by_model)
        # In the order in which they were declared, so that no bar changes its place meanwhile.
        declared = column.choices if column.kind == "category" else (True, False)
        known = [value for value in declared if len(declared) <= _MOST_BARS]
        others = sorted(
            (value for value in total if value not in known), key=lambda one: -total[one]
        )
        room = max(0, _MOST_BARS - len(known))
        values, left = [*known, *others[:room]], others[room:]
        return {
            "key": f"labels:{name}",
            "kind": "labels",
            "title": name,
            "column": name,
            "names": [shown(value) or "" for value in values],
            "values": values,
            "series": [
                {"name": model, "counts": [counts.get(value, 0) for value in values]}
                for model, counts in zip(self._models, by_model, strict=True)
            ],
            "left": [len(left), sum(total[value] for value in left)],
            "words": self._label_words(values, by_model, total, left),
        }

    def _label_words(
        self,
        values: Sequence[Any],
        by_model: Sequence[dict[Any, int]],
        total: dict[Any, int],
        left: Sequence[Any],
    ) -> str:
        if len(self._models) == 1:
            return _label_words(values, total, left) + self._note
        return " ".join(
            f"{model}: {_label_words(values, counts, left)}"
            for model, counts in zip(self._models, by_model, strict=True)
        )

    def _numbers(
        self,
        title: str,
        bins: Bins | None,
        words: Any,
        *,
        key: str = "",
        unit: str = "",
        column: str | None = None,
    ) -> View:
        view: View = {
            "key": key or f"numbers:{title}",
            "kind": "numbers",
            "title": title,
            "column": column if bins is not None and bins.is_single else None,
            "unit": unit,
            "edges": [],
            "series": [],
            "words": "No figures yet.",
        }
        if bins is None:
            return view
        return view | {
            "edges": bins.edges,
            "isSingle": bins.is_single,
            "hasMore": bins.has_more,
            "series": [
                {"name": model, "counts": counts}
                for model, counts in zip(self._models, bins.counts, strict=True)
            ],
            "words": words(bins) + self._note,
        }


def _together(counts: Sequence[dict[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for one in counts:
        for value, count in one.items():
            total[value] = total.get(value, 0) + count
    return total


# -- in words --------------------------------------------------------------------------------------


def _label_words(values: Sequence[Any], total: dict[Any, int], left: Sequence[Any]) -> str:
    num = sum(total.values())
    if not num:
        return "No row is done yet."
    ranked = sorted((value for value in values if total.get(value)), key=lambda one: -total[one])
    told = [
        f"{plain_text(shown(value) or '', 40)} {total[value]:,} ({_percent(total[value] / num)})"
        for value in ranked[:_TOLD_LABELS]
    ]
    num_more = len(ranked) - len(told) + sum(bool(total.get(value)) for value in left)
    if num_more:
        told.append(f"and {num_more:,} other values")
    return ", ".join(told) + "."


def _percent(share: float) -> str:
    return f"{share * 100:.0f}%" if share >= 0.01 else "less than 1%"


def _time_words(bins: Bins) -> str:
    if bins.num == 1:
        return f"One row so far: {format_duration(bins.most)}."
    return (
        f"Half of the rows took up to {format_duration(bins.median)}, 95% up to "
        f"{format_duration(bins.high)}, the slowest {format_duration(bins.most)}; waiting their "
        "turn is not counted."
    )


def _prompt_words(bins: Bins) -> str:
    return _token_words(bins, "prompts")


def _reply_words(bins: Bins) -> str:
    return _token_words(bins, "replies")


def _token_words(bins: Bins, what: str) -> str:
    if bins.least == bins.most:
        return f"All {what} have {bins.most:,.0f} {'token' if bins.most == 1 else 'tokens'}."
    return (
        f"Half of the {what} have up to {bins.median:,.0f} tokens, 95% up to {bins.high:,.0f}, the "
        f"longest {bins.most:,.0f}."
    )


def _number_words(bins: Bins) -> str:
    least, most = _number(bins.least), _number(bins.most)
    if least == most:
        return f"All are {most}."
    middle, mean = _number(bins.median), _number(bins.mean)
    return f"From {least} to {most}, half up to {middle}, {mean} on average."


def _number(value: float) -> str:
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"
