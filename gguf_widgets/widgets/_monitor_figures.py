"""What a monitor recorded, as ordinary Plotly figures: ``monitor.figure("speed")`` and its like.

Promises: the same lines as in the live charts, with units on the axes; where nothing was recorded a
line has a gap; thinned points and answers that are left out are told of under the title; names are
shown as text, never as markup; they can be read on white and, with ``theme="dark"``, on black.
Brought by `gguf_widgets.PerformanceMonitor` (`gguf_widgets._BESIDE`). Leaves to others: what is
drawn (`_live_series`), measuring (`core.monitor`).
"""

from __future__ import annotations

import html
import importlib
import math
import platform
import textwrap
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.figures import register_figure
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.readings import Time
from gguf_widgets.core.monitor.values import Point, RequestMetrics
from gguf_widgets.widgets._live_data import MAX_REQUESTS, card_names
from gguf_widgets.widgets._live_series import (
    CHARTS,
    Chart,
    card_charts,
    fields,
    gap_s,
    num_processors,
    rows,
)
from gguf_widgets.widgets._plotly import INSTALL_LINE

__all__ = ["KINDS", "draw"]


class _Kind(NamedTuple):
    title: str
    charts: tuple[str, ...]


KINDS: Final = {
    "speed": _Kind("Tokens per second", ("writing", "reading")),
    "latency": _Kind("How long answers took", ("first", "between")),
    "memory": _Kind("Memory", ("memory", "card-memory")),
    "processor": _Kind("Processor and graphics card", ("processor", "card-use", "card-power")),
    "batch": _Kind("Rows of tables", ("rows", "writing")),
    "scheduler": _Kind("What the models have to do", ("sequences", "context")),
}
"""The kinds of figures, and the charts each has, one below the other."""


class _Theme(NamedTuple):
    paper: str
    text: str
    grid: str
    colours: tuple[str, ...]


# Okabe and Ito's, told apart also by who does not see all colours; and the same, lighter.
_THEMES: Final = {
    "light": _Theme(
        "#ffffff", "#212121", "#e0e0e0",
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676"),
    ),
    "dark": _Theme(
        "#111111", "#e0e0e0", "#424242",
        ("#56B4E9", "#FF9F5A", "#3DC9A0", "#E8A6CB", "#F0C84B", "#9CC3FF", "#BDBDBD"),
    ),
}  # fmt: skip
_DASHES: Final = ("solid", "solid", "dot", "dash")
# Room, in pixels: over the charts, for one, between two, and under them.
_TOP, _PART, _BETWEEN, _UNDER, _LINE = 70, 200, 70, 50, 18
_WRAP: Final = 96  # characters of a line under the title
# What a number is divided by, so that an axis reads in the unit people use.
_SCALES: Final = {
    "bytes": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "bytes")),
    "bytes/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "KB/s"), (1.0, "bytes/s")),
    "s": ((1.0, "s"), (1e-3, "ms")),
    "percent": ((1.0, "%"),),
    "count": ((1.0, "answers"),),
}


class _Recorded(NamedTuple):
    """What is drawn."""

    times: list[datetime]
    columns: dict[str, list[float]]
    requests: Sequence[RequestMetrics]
    charts: dict[str, Chart]
    notes: list[str]


def draw(
    monitor: PerformanceMonitor,
    *,
    kind: str,
    since: Time = None,
    until: Time = None,
    session: str | None = None,
    max_points: int = 2000,
    theme: str = "light",
    title: str = "",
) -> Any:
    """Draw a figure of a kind of `KINDS`.

    Parameters
    ----------
    monitor : PerformanceMonitor
    kind : str
    since, until : float or datetime, optional
        The stretch of time; default: all there is.
    session : str, optional
        The id of a session of ``monitor.sessions()``; default: this one's.
    max_points : int, default 2000
        Points beyond that are put together, which the figure says.
    theme : {"light", "dark"}, default "light"
    title : str, optional

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    InvalidValueError
        There is no such session or theme, or nothing was recorded in this time.
    MissingDependencyError
        Plotly is not installed.
    """
    if theme not in _THEMES:
        raise InvalidValueError(
            f"theme is {theme!r:.40}; it can be {' or '.join(map(repr, _THEMES))}.", value=theme
        )
    go = _plotly()
    what = KINDS[kind]
    recorded = _read(monitor, since, until, session, max_points, with_points=kind != "latency")
    charts = [recorded.charts[key] for key in what.charts if key in recorded.charts]
    look, figure = _THEMES[theme], go.Figure()
    notes = list(recorded.notes)
    if kind == "latency":
        left = len(recorded.requests) - MAX_REQUESTS
        if left > 0:
            notes.append(f"The latest {MAX_REQUESTS:,} answers; {left:,} before them are left out.")
        charts = [CHARTS[2], CHARTS[3]]
    for place, chart in enumerate(charts):
        drawn = (_dots if chart.is_dots else _lines)(go, chart, recorded, look)
        unit, traces = drawn
        for trace in traces:
            trace.update(xaxis="x", yaxis=_axis("y", place), legend=_axis("legend", place))
            figure.add_trace(trace)
        _place(figure, chart, place, len(charts), unit, look, empty=not traces)
    return _finished(figure, look, title or what.title, notes, len(charts))


for _kind in KINDS:
    register_figure(f"monitor.{_kind}", partial(draw, kind=_kind))


# -- what was recorded -----------------------------------------------------------------------------


def _read(
    monitor: PerformanceMonitor,
    since: Time,
    until: Time,
    session: str | None,
    max_points: int,
    *,
    with_points: bool,
) -> _Recorded:
    if session == "all":
        raise InvalidValueError(
            "A figure is of one session, because several may have been recorded at the same time. "
            "Give the id of one: monitor.sessions()."
        )
    points: Sequence[Point] = []
    notes: list[str] = []
    of = next((one for one in monitor.session_list() if one.id == session), None)
    if session is not None and session != monitor.session_id and of is None:
        raise InvalidValueError(
            f"There is no session {plain_text(str(session), 60)!r}: monitor.sessions() lists those "
            "there are. Figures are kept for 30 days."
        )
    interval_s = monitor.interval_s if of is None else of.interval_s
    cores = num_processors() if of is None or of.host in ("", platform.node()) else None
    num_each = 1
    requests: Sequence[RequestMetrics] = []
    if with_points:
        found = monitor.points(since, until, session=session, max_points=max_points)
        points, num_each = found, found.num_each
        notes += [found.note] if found.note else []
    else:
        requests = monitor.request_metrics(since, until, session=session)
    if not points and not requests:
        what = "No answer has ended" if not with_points else "Nothing was recorded"
        raise InvalidValueError(
            f"{what} in this time, so there is nothing to draw. Ask a model something first, or "
            "choose another session of monitor.sessions()."
        )
    cards = card_names(points)
    times, columns = _with_gaps(points, len(cards), cores, gap_s(interval_s, num_each))
    charts = {chart.key: chart for chart in (*CHARTS, *card_charts(cards))}
    if with_points and cores is None:
        notes.append(
            "Measured on another machine: how much of its processor the models used is not known."
        )
    return _Recorded(times, columns, requests, charts, notes)


def _with_gaps(
    points: Sequence[Point], num_cards: int, cores: int | None, longest_s: float
) -> tuple[list[datetime], dict[str, list[float]]]:
    """Return times and numbers, with a number that is none wherever the recording stood still."""
    columns: dict[str, list[float]] = {name: [] for name in fields(num_cards)}
    times: list[datetime] = []
    before = math.inf
    for at, values in rows(points, num_cards, cores, longest_s):
        if at - before > longest_s:
            times.append(_time(before + longest_s / 2))
            for column in columns.values():
                column.append(math.nan)
        times.append(_time(at))
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
        before = at
    return times, columns


def _time(at: float) -> datetime:
    # Plotly draws a time as it is written: the person's own.
    return datetime.fromtimestamp(at)  # noqa: DTZ006


# -- drawing ---------------------------------------------------------------------------------------


def _plotly() -> Any:
    try:
        return importlib.import_module("plotly.graph_objects")
    except ImportError as error:
        raise MissingDependencyError(
            f"Figures need the package plotly, which is not installed. Install it: {INSTALL_LINE}. "
            "Then restart Python (in a notebook: its kernel).",
            install=INSTALL_LINE,
            package="plotly",
        ) from error


def _axis(name: str, place: int) -> str:
    return f"{name}{place + 1 if place else ''}"


def _scale(unit: str, values: Sequence[float]) -> tuple[float, str]:
    most = max((abs(value) for value in values if not math.isnan(value)), default=0.0)
    choices = _SCALES.get(unit, ((1.0, unit),))
    return next((one for one in choices if most >= one[0]), choices[-1])


def _lines(go: Any, chart: Chart, recorded: _Recorded, look: _Theme) -> tuple[str, list[Any]]:
    columns = {line.field: recorded.columns[line.field] for line in chart.lines}
    known = [value for column in columns.values() for value in column if not math.isnan(value)]
    if not known:
        return chart.unit, []
    by, unit = _scale(chart.unit, known)
    shape = "hv" if chart.unit in ("count", "tokens") else "linear"
    return unit, [
        go.Scatter(
            x=recorded.times,
            y=[None if math.isnan(value) else value / by for value in columns[line.field]],
            name=html.escape(line.name),
            mode="lines",
            connectgaps=False,
            line={
                "color": look.colours[number % len(look.colours)],
                "dash": _DASHES[number % len(_DASHES)],
                "shape": shape,
                "width": 1.5,
            },
            hovertemplate=f"%{{y:,.4~r}} {html.escape(f'{unit} {line.name}')}<extra></extra>",
            showlegend=len(chart.lines) > 1,
        )
        for number, line in enumerate(chart.lines)
    ]


def _dots(go: Any, chart: Chart, recorded: _Recorded, look: _Theme) -> tuple[str, list[Any]]:
    shown = recorded.requests[-MAX_REQUESTS:]
    known = [
        value
        for one in shown
        for line in chart.lines
        if (value := getattr(one, line.field)) is not None
    ]
    if not known:
        return chart.unit, []
    by, unit = _scale(chart.unit, known)
    traces = []
    for number, line in enumerate(chart.lines):
        those = [one for one in shown if getattr(one, line.field) is not None]
        traces.append(
            go.Scatter(
                x=[_time(one.ended_at) for one in those],
                y=[getattr(one, line.field) / by for one in those],
                name=html.escape(line.name),
                mode="markers",
                marker={"color": look.colours[number % len(look.colours)], "size": 6},
                customdata=[_answer_words(one, chart, line.field, line.name) for one in those],
                hovertemplate="%{customdata}<extra></extra>",
                showlegend=len(chart.lines) > 1,
            )
        )
    return unit, traces


def _answer_words(one: RequestMetrics, chart: Chart, field: str, name: str) -> str:
    value = format_duration(getattr(one, field))
    what = f"first token after {value}" if chart.key == "first" else f"{name}: {value}"
    parts = [f"<b>{html.escape(plain_text(one.model, 60))}</b>: {what}"]
    if one.num_prompt_tokens is not None:
        parts.append(f"{one.num_prompt_tokens:,} tokens read")
    if one.num_completion_tokens is not None:
        parts.append(f"{one.num_completion_tokens:,} tokens written")
    return "<br>".join(parts)


def _place(
    figure: Any,
    chart: Chart,
    place: int,
    num: int,
    unit: str,
    look: _Theme,
    *,
    empty: bool,
) -> None:
    """Give a chart its own part of the figure, its title and its legend."""
    whole = num * _PART + (num - 1) * _BETWEEN
    high = 1 - place * (_PART + _BETWEEN) / whole
    low = max(0.0, high - _PART / whole)
    figure.update_layout(
        {
            _axis("yaxis", place): {
                "domain": [low, high],
                "title": {"text": html.escape(unit)},
                "rangemode": "tozero",
                "gridcolor": look.grid,
                "zerolinecolor": look.grid,
                "automargin": True,
            },
            _axis("legend", place): {
                "orientation": "h",
                "x": 1,
                "xanchor": "right",
                "y": high,
                "yanchor": "bottom",
                "bgcolor": "rgba(0,0,0,0)",
            },
        }
    )
    figure.add_annotation(
        text=f"<b>{html.escape(chart.title)}</b>",
        x=0, y=high, xref="paper", yref="paper", xanchor="left", yanchor="bottom", showarrow=False,
    )  # fmt: skip
    if empty:
        figure.add_annotation(
            text=html.escape(chart.empty),
            x=0.5, y=(low + high) / 2, xref="paper", yref="paper", showarrow=False,
        )  # fmt: skip
        # Without a line an axis would not be drawn.
        figure.add_scatter(x=[None], y=[None], yaxis=_axis("y", place), showlegend=False)


def _finished(figure: Any, look: _Theme, title: str, notes: Sequence[str], num: int) -> Any:
    lines = [line for note in notes for line in textwrap.wrap(note, _WRAP)]
    top = _TOP + _LINE * len(lines)
    text = html.escape(plain_text(title, 200))
    if lines:
        text += "".join(f"<br><sup>{html.escape(line)}</sup>" for line in lines)
    figure.update_layout(
        title={"text": text, "yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 16}},
        height=top + num * _PART + (num - 1) * _BETWEEN + _UNDER,
        margin={"t": top, "b": _UNDER, "r": 20},
        xaxis={
            "type": "date",
            "anchor": _axis("y", num - 1),
            "gridcolor": look.grid,
            "hoverformat": "%H:%M:%S",
        },
        hovermode="x unified" if num and not _has_dots(figure) else "closest",
        paper_bgcolor=look.paper,
        plot_bgcolor=look.paper,
        font={"color": look.text},
        hoverlabel={"align": "left", "bgcolor": look.paper, "font": {"color": look.text}},
    )
    return figure


def _has_dots(figure: Any) -> bool:
    return any(trace.mode == "markers" for trace in figure.data)
