"""Pictures of a comparison: quality against speed against memory, differences, votes.

Promises: ordinary Plotly figures with units on their axes, every mean with its interval; each
colour is one side, the same in every figure; a side without figures is named under the title and
not left out in silence; names are shown as text, never as markup; they can be read on white and,
with ``theme="dark"``, on black. Brought by `gguf_widgets.compare` (`gguf_widgets._BESIDE`). Leaves
to others: the figures themselves (`compare.results`).
"""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Sequence
from typing import Any, Final

from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.scoring import Scoring
from gguf_widgets.compare.types import Difference, Interval, SideSummary
from gguf_widgets.compare.verdicts import ends_text, figure_text, is_share
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.figures import register_figure
from gguf_widgets.core.format import format_bytes, format_duration, format_rate, plain_text
from gguf_widgets.widgets._plotly import INSTALL_LINE

__all__ = ["draw_differences", "draw_quality", "draw_votes"]

# Okabe and Ito's: told apart also by who does not see all colours; a comparison has four sides.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_DRAW: Final = {"both": "#999999", "neither": "#616161"}
_THEMES: Final = {
    "light": {"paper": "#ffffff", "text": "#212121", "grid": "#e0e0e0"},
    "dark": {"paper": "#111111", "text": "#e0e0e0", "grid": "#424242"},
}
_BUBBLE_PX: Final = 56.0  # the largest across; areas stand for bytes
_LEAST_PX: Final = 10.0
_ROW_PX: Final = 44
_WRAP: Final = 88  # characters of a line under the title


def draw_quality(
    comparison: Comparison, *, score: str | None = None, theme: str = "light", title: str = ""
) -> Any:
    """Draw each side's score (up) against its speed (right); the area of a disc is its memory."""
    go, figure, colours = _begin(theme)
    scoring = _scoring(comparison, score)
    sides = comparison.summaries()
    able = [one for one in sides if _quality(one, scoring) is not None and one.state.tok_per_s]
    if not able:
        raise InvalidValueError(
            f'No side has both a speed and the score "{scoring.name}" yet, so there is nothing to '
            "draw. Wait for the first answers."
        )
    most = max((one.state.memory_bytes or 0 for one in able), default=0)
    factor = 100.0 if is_share(scoring) else 1.0
    for one in able:
        found = one.scores[scoring.name]
        mean, above, below = _with_bars(found, factor)
        colour = _COLOURS[one.state.number % len(_COLOURS)]
        label = _safe(one.state.label)
        figure.add_trace(
            go.Scatter(
                x=[one.state.tok_per_s],
                y=[mean],
                error_y={
                    "type": "data",
                    "array": [above],
                    "arrayminus": [below],
                    "color": colours["text"],
                    "thickness": 1.5,
                },
                mode="markers+text",
                text=[label],
                textposition="middle right",
                textfont={"color": colours["text"]},
                cliponaxis=False,
                name=label,
                marker={
                    "size": [_bubble(one.state.memory_bytes, most)],
                    "color": colour,
                    "opacity": 0.75,
                    "line": {"color": colours["paper"], "width": 1},
                },
                customdata=[_quality_hover(one, scoring)],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    speeds = [one.state.tok_per_s or 0.0 for one in able]
    room = 0.3 * (max(speeds) - min(speeds)) or 0.3 * max(speeds)
    figure.update_xaxes(
        title={"text": "Speed, all replies together (tokens/s)"},
        range=[max(0.0, min(speeds) - room), max(speeds) + room],
    )
    figure.update_yaxes(title={"text": _axis(scoring)}, **_reach(able, scoring, factor))
    left_out = [one.state.label for one in sides if one not in able]
    notes = ["The larger the disc, the more memory. Lines: where the true mean is (95%)."]
    if left_out:
        notes.append(f"Without figures: {', '.join(left_out)}.")
    if comparison.definition.order == "together":
        notes.append("The sides answered at the same time and slowed each other down.")
    return _finished(
        figure, colours, title or "Quality against speed against memory", notes, height=460
    )


def draw_differences(
    comparison: Comparison, *, score: str | None = None, theme: str = "light", title: str = ""
) -> Any:
    """Draw how far sides are apart, each difference with its interval and a line at 0."""
    go, figure, colours = _begin(theme)
    names = [score] if score is not None else comparison.score_names
    parts = []
    for name in names:
        found = [one for one in comparison.differences(name) if one.mean is not None]
        if found:
            parts.append((_scoring(comparison, name), found))
    if not parts:
        raise InvalidValueError(
            "No two sides have a score for the same prompts yet, so there is nothing to draw. Wait "
            "for the first answers."
        )
    rows = [len(found) for _, found in parts]
    gap = 1.1  # rows between two parts, for the axis and the name
    height = sum(rows) + gap * (len(rows) - 1)
    top = 1.0
    for place, (scoring, found) in enumerate(parts, 1):
        bottom = max(0.0, top - len(found) / height)
        _difference_part(go, figure, colours, scoring, found, place, (bottom, top))
        top = bottom - gap / height
    notes = ["Lines: where the true difference is (95%). If one crosses 0, the data cannot tell."]
    return _finished(
        figure,
        colours,
        title or "How far the sides are apart",
        notes,
        height=round(150 + (_ROW_PX + 6) * height + 10 * len(parts)),
    )


def draw_votes(comparison: Comparison, *, theme: str = "light", title: str = "") -> Any:
    """Draw how the votes on each pair of sides stand."""
    go, figure, colours = _begin(theme)
    found = [one for one in comparison.standings() if one.num_votes]
    if not found:
        raise InvalidValueError(
            "Nobody has voted yet, so there is nothing to draw. Vote with comparison.vote(...), or "
            "in a ComparisonView."
        )
    # Words instead of numbers on the axis: a pair is a row.
    rows = [_safe(f"{one.label_a} or {one.label_b}") for one in found]
    for number, label in enumerate(comparison.labels):
        counts = [
            one.num_a if one.a == number else one.num_b if one.b == number else 0 for one in found
        ]
        if any(counts):
            _bars(go, figure, rows, counts, _safe(label), _COLOURS[number % len(_COLOURS)])
    for choice, words in (("both", "Both good"), ("neither", "Neither good")):
        counts = [one.num_both if choice == "both" else one.num_neither for one in found]
        if any(counts):
            _bars(go, figure, rows, counts, words, _DRAW[choice])
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_xaxes(title={"text": "Votes"}, rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return _finished(
        figure,
        colours,
        title or "Your votes",
        [one.words for one in found],
        height=230 + _ROW_PX * len(found) + 18 * len(found),
    )


def _bars(
    go: Any, figure: Any, rows: Sequence[str], counts: Sequence[int], name: str, colour: str
) -> None:
    figure.add_trace(
        go.Bar(
            x=list(counts),
            y=list(rows),
            orientation="h",
            name=name,
            marker_color=colour,
            text=[str(one) if one else "" for one in counts],
            textposition="inside",
            insidetextanchor="middle",
            hovertemplate=f"{name}: %{{x}} votes<extra></extra>",
        )
    )


def _difference_part(
    go: Any,
    figure: Any,
    colours: dict[str, str],
    scoring: Scoring,
    found: Sequence[Difference],
    place: int,
    domain: tuple[float, float],
) -> None:
    """Draw the differences in one score, with axes of their own: scores have many units."""
    number = place if place > 1 else ""
    factor = 100.0 if is_share(scoring) else 1.0
    rows = [_safe(f"{one.label_a} minus {one.label_b}") for one in found]
    bars = [
        _with_bars(Interval(mean=one.mean, low=one.low, high=one.high, num=one.num_pairs), factor)
        for one in found
    ]
    figure.add_trace(
        go.Scatter(
            x=[mean for mean, _, _ in bars],
            y=rows,
            error_x={
                "type": "data",
                "array": [above for _, above, _ in bars],
                "arrayminus": [below for _, _, below in bars],
                "color": colours["text"],
                "thickness": 1.5,
            },
            mode="markers",
            marker={
                "size": 11,
                "color": [_COLOURS[0] if one.clear else _DRAW["both"] for one in found],
                "symbol": ["circle" if one.clear else "circle-open" for one in found],
                "line": {"width": 2},
            },
            customdata=["<br>".join(_wrapped(one.words)) for one in found],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            xaxis=f"x{number}",
            yaxis=f"y{number}",
        )
    )
    unit = "percentage points" if is_share(scoring) else scoring.unit
    figure.update_layout(
        {
            f"xaxis{number}": {
                "anchor": f"y{number}",
                "title": {"text": unit, "standoff": 2},
                "range": _with_zero(bars),
                "zeroline": True,
                "zerolinewidth": 2,
                "zerolinecolor": colours["text"],
                "gridcolor": colours["grid"],
                "automargin": True,
            },
            f"yaxis{number}": {
                "anchor": f"x{number}",
                "domain": list(domain),
                "range": [len(found) - 0.4, -0.6],
                "gridcolor": colours["grid"],
                "automargin": True,
            },
        }
    )
    figure.add_annotation(
        text=f"<b>{_safe(scoring.label or scoring.name)}</b>",
        x=0,
        y=domain[1],
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )


def _with_zero(bars: Sequence[tuple[float | None, float, float]]) -> list[float]:
    """Return a range that holds all of these and 0: the line that everything is held against."""
    low = min(0.0, *((mean or 0.0) - below for mean, _, below in bars))
    high = max(0.0, *((mean or 0.0) + above for mean, above, _ in bars))
    room = 0.08 * (high - low) or 1.0
    return [low - room, high + room]


def _begin(theme: str) -> tuple[Any, Any, dict[str, str]]:
    if theme not in _THEMES:
        raise InvalidValueError(
            f"theme is {theme!r:.40}; it can be {' or '.join(map(repr, _THEMES))}.", value=theme
        )
    try:
        go: Any = importlib.import_module("plotly.graph_objects")
    except ImportError as error:
        raise MissingDependencyError(
            f"Figures need the package plotly, which is not installed. Install it: {INSTALL_LINE}. "
            "Then restart Python (in a notebook: its kernel).",
            install=INSTALL_LINE,
            package="plotly",
        ) from error
    return go, go.Figure(), _THEMES[theme]


def _scoring(comparison: Comparison, name: str | None) -> Scoring:
    """Return the scoring that is quality: the named one, or the first with a better direction."""
    if name is not None:
        return comparison.definition.scoring(name)
    scorings = comparison.scorings
    return next((one for one in scorings if one.better == "high"), scorings[0])


def _quality(one: SideSummary, scoring: Scoring) -> float | None:
    found = one.scores.get(scoring.name)
    return None if found is None else found.mean


def _with_bars(found: Interval, factor: float) -> tuple[float | None, float, float]:
    """Return a mean and the lengths of its interval above and below it; 0 of what is not known."""
    if found.mean is None:
        return None, 0.0, 0.0
    high = found.mean if found.high is None else found.high
    low = found.mean if found.low is None else found.low
    return (
        factor * found.mean,
        max(0.0, factor * (high - found.mean)),
        max(0.0, factor * (found.mean - low)),
    )


def _bubble(num_bytes: int | None, most: int) -> float:
    if not num_bytes or not most:
        return _LEAST_PX
    return max(_LEAST_PX, _BUBBLE_PX * math.sqrt(num_bytes / most))


def _axis(scoring: Scoring) -> str:
    unit = "%" if is_share(scoring) else scoring.unit
    label = plain_text(scoring.label or scoring.name, 60)
    return html.escape(f"{label} ({unit})" if unit else label)


def _reach(able: Sequence[SideSummary], scoring: Scoring, factor: float) -> dict[str, Any]:
    """Return the range of the upright axis: all of a share's, if that does not hide differences."""
    if not is_share(scoring):
        return {}
    ends = [
        end
        for one in able
        for end in (one.scores[scoring.name].low, one.scores[scoring.name].high)
        if end is not None
    ]
    lowest = min(ends, default=0.0)
    return {"range": [max(0.0, factor * (lowest - 0.15)), factor * 1.08]}


def _quality_hover(one: SideSummary, scoring: Scoring) -> str:
    state, found = one.state, one.scores[scoring.name]
    mean = figure_text(scoring, found.mean or 0.0)
    if found.low is not None and found.high is not None:
        mean += f" ({ends_text(scoring, found.low, found.high)})"
    lines = [
        f"<b>{_safe(state.label)}</b>",
        f"{_safe(scoring.label or scoring.name)}: {html.escape(mean)}, {found.num:,} prompts",
        f"Speed: {format_rate(state.tok_per_s or 0.0)}",
    ]
    if one.ttft_s is not None:
        lines.append(f"First token after {format_duration(one.ttft_s)} (half of the replies)")
    if state.memory_bytes is not None:
        lines.append(f"Memory: {format_bytes(state.memory_bytes)}")
    if state.file_bytes is not None:
        lines.append(f"File: {format_bytes(state.file_bytes)} {_safe(state.quantization)}")
    return "<br>".join(lines)


def _safe(text: str) -> str:
    """Return a name as Plotly shows it: it reads a little markup in texts."""
    return html.escape(plain_text(text, 60))


def _wrapped(text: str) -> list[str]:
    """Break a text into lines, each safe to show."""
    lines, line = [], ""
    for word in plain_text(text, 600).split():
        if line and len(line) + len(word) >= _WRAP:
            lines.append(html.escape(line))
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, html.escape(line)]


def _finished(
    figure: Any, colours: dict[str, str], title: str, notes: Sequence[str], *, height: int
) -> Any:
    lines = [line for note in notes for line in _wrapped(note)]
    below = "".join(f"<br><span style='font-size:12px'>{line}</span>" for line in lines)
    if not figure.layout.showlegend:
        figure.update_layout(showlegend=False)
    figure.update_layout(
        title={
            "text": f"{html.escape(plain_text(title, 200))}{below}",
            "yref": "container",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 16},
            "font": {"size": 16},
        },
        height=height + 18 * len(lines),
        paper_bgcolor=colours["paper"],
        plot_bgcolor=colours["paper"],
        font={"color": colours["text"]},
        legend={"orientation": "h", "yanchor": "top", "y": -0.3, "x": 0, "traceorder": "normal"},
        margin={"t": 70 + 18 * len(lines), "r": 30, "b": 60},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(gridcolor=colours["grid"], automargin=True)
    figure.update_yaxes(gridcolor=colours["grid"], automargin=True)
    return figure


for _kind, _maker in {
    "quality": draw_quality,
    "differences": draw_differences,
    "votes": draw_votes,
}.items():
    register_figure(f"comparison.{_kind}", _maker)
