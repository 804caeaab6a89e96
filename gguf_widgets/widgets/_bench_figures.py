"""Pictures of measured speeds: bars, lines over depth and over sequences, and over time.

Promises: ordinary Plotly figures with units on their axes and the spread of the repetitions as
error bars; each colour is one model (with its settings, where these differ), the same in every
part of a figure; names from files are shown as text, never as markup; they can be read on white
and, with ``theme="dark"``, on black. Brought by `gguf_widgets.bench` (`gguf_widgets._BESIDE`).
Leaves to others: measuring (`core.bench`).
"""

from __future__ import annotations

import html
import importlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from gguf_widgets.core.bench.row import SETTINGS, BenchRow
from gguf_widgets.core.errors import InvalidValueError, MissingDependencyError
from gguf_widgets.core.figures import register_figure
from gguf_widgets.core.format import plain_text
from gguf_widgets.widgets._plotly import INSTALL_LINE

__all__ = ["draw_depth", "draw_history", "draw_sequences", "draw_speed"]

# Okabe and Ito's, told apart also by who does not see all colours; and the same, lighter.
_LIGHT: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#767676")
_DARK: Final = ("#56B4E9", "#FF9F5A", "#3DC9A0", "#E8A6CB", "#F0C84B", "#9CC3FF", "#BDBDBD")
_SYMBOLS: Final = ("circle", "square", "diamond", "cross", "triangle-up", "x", "star")
_KINDS: Final = {
    "prompt": "Reading a prompt",
    "generation": "Writing",
    "both": "Reading, then writing",
}
# Room, in pixels: over the parts, for them, for what stands under them, and for a line of a legend.
_TOP, _PART, _UNDER, _LINE = 100, 260, 90, 21
_UNIT: Final = "tokens/s"
_LONGEST_NAME: Final = 40


class _Theme(NamedTuple):
    paper: str
    text: str
    grid: str
    colours: tuple[str, ...]

    def colour(self, number: int) -> str:
        return self.colours[number % len(self.colours)]


_LOOKS: Final = {
    "light": _Theme("#ffffff", "#212121", "#e0e0e0", _LIGHT),
    "dark": _Theme("#111111", "#e0e0e0", "#424242", _DARK),
}


def draw_speed(rows: Sequence[BenchRow], *, theme: str = "light", title: str = "") -> Any:
    """Draw a bar for each test and model; reading and writing beside each other, each to scale."""
    go, figure, look = _begin(rows, theme)
    kinds = [kind for kind in _KINDS if any(row.test.kind == kind for row in rows)]
    names = _names(rows)
    shown: set[str] = set()
    for place, kind in enumerate(kinds, 1):
        mine = [row for row in rows if row.test.kind == kind]
        for number, name in enumerate(dict.fromkeys(names.values())):
            own = [row for row in mine if names[id(row)] == name]
            if not own:
                continue
            figure.add_trace(
                go.Bar(
                    x=[row.test.name for row in own],
                    y=[row.avg_tok_per_s for row in own],
                    error_y=_error_bars(own, look),
                    name=name,
                    legendgroup=name,
                    showlegend=name not in shown,
                    marker_color=look.colour(number),
                    customdata=[_hover(row) for row in own],
                    hovertemplate="%{customdata}<extra></extra>",
                    xaxis=f"x{place if place > 1 else ''}",
                    yaxis=f"y{place if place > 1 else ''}",
                )
            )
            shown.add(name)
    _side_by_side(figure, [_KINDS[kind] for kind in kinds], look)
    return _finished(figure, look, title or "Speed on this machine", len(shown))


def draw_depth(rows: Sequence[BenchRow], *, theme: str = "light", title: str = "") -> Any:
    """Draw speed against the tokens that are in the context already."""
    if len({row.test.n_depth for row in rows}) < 2:
        raise InvalidValueError(
            "All of these were measured at one depth. Measure several: depths=[0, 2048, 4096]."
        )
    return _lines(
        rows,
        theme,
        title or "Speed as the context fills",
        across=lambda row: row.test.n_depth,
        along="Tokens in the context (depth)",
        apart=lambda row: row.test.family + (f" x {row.test.n_seq}" if row.test.n_seq > 1 else ""),
    )


def draw_sequences(rows: Sequence[BenchRow], *, theme: str = "light", title: str = "") -> Any:
    """Draw the speed of all sequences together against how many run at once."""
    if len({row.test.n_seq for row in rows}) < 2:
        raise InvalidValueError(
            "All of these were measured with as many sequences at once. Measure several: "
            "n_seq=[1, 4, 8]."
        )
    return _lines(
        rows,
        theme,
        title or "Speed of all sequences together",
        across=lambda row: row.test.n_seq,
        along="Sequences at once (n_seq)",
        apart=lambda row: row.test.family + (f" @ d{row.test.n_depth}" if row.test.n_depth else ""),
    )


def draw_history(rows: Sequence[BenchRow], *, theme: str = "light", title: str = "") -> Any:
    """Draw speed over time, a line for each model and test."""
    return _lines(
        rows,
        theme,
        title or "Speed on this machine over time",
        across=lambda row: datetime.fromtimestamp(row.at).astimezone(),
        along="When it was measured",
        apart=lambda row: row.test.name,
        from_zero=False,  # a change of a tenth is what is looked for
    )


def _lines(
    rows: Sequence[BenchRow],
    theme: str,
    title: str,
    *,
    across: Callable[[BenchRow], Any],
    along: str,
    apart: Callable[[BenchRow], str],
    from_zero: bool = True,
) -> Any:
    go, figure, look = _begin(rows, theme)
    names = _names(rows)
    kinds = [kind for kind in _KINDS if any(row.test.kind == kind for row in rows)]
    series: dict[tuple[str, str, str], list[BenchRow]] = {}
    for row in rows:
        series.setdefault((row.test.kind, names[id(row)], apart(row)), []).append(row)
    order = list(dict.fromkeys(names.values()))
    # Where each part has one test only, its title says which, and the legend has each model once.
    tests = {kind: list(dict.fromkeys(one for k, _, one in series if k == kind)) for kind in kinds}
    single = all(len(found) == 1 for found in tests.values())
    shown: set[str] = set()
    for (kind, name, what), own in series.items():
        place = kinds.index(kind) + 1
        ordered = sorted(own, key=across)
        label = name if single else f"{name}, {html.escape(what)}"
        figure.add_trace(
            go.Scatter(
                x=[across(row) for row in ordered],
                y=[row.avg_tok_per_s for row in ordered],
                error_y=_error_bars(ordered, look),
                name=label,
                legendgroup=label,
                showlegend=label not in shown,
                mode="lines+markers",
                line={"color": look.colour(order.index(name))},
                marker={"symbol": _SYMBOLS[tests[kind].index(what) % len(_SYMBOLS)], "size": 7},
                customdata=[_hover(row) for row in ordered],
                hovertemplate="%{customdata}<extra></extra>",
                xaxis=f"x{place if place > 1 else ''}",
                yaxis=f"y{place if place > 1 else ''}",
            )
        )
        shown.add(label)
    titles = [_KINDS[kind] + (f"\n{tests[kind][0]}" if single else "") for kind in kinds]
    _side_by_side(figure, titles, look, along, from_zero=from_zero)
    return _finished(figure, look, title, len(shown))


def _begin(rows: Sequence[BenchRow], theme: str) -> tuple[Any, Any, _Theme]:
    if theme not in _LOOKS:
        raise InvalidValueError(
            f"theme is {theme!r:.40}; it can be {' or '.join(map(repr, _LOOKS))}.", value=theme
        )
    if not rows:
        raise InvalidValueError("Nothing was measured, so there is nothing to draw.")
    try:
        go: Any = importlib.import_module("plotly.graph_objects")
    except ImportError as error:
        raise MissingDependencyError(
            f"Figures need the package plotly, which is not installed. Install it: {INSTALL_LINE}. "
            "Then restart Python (in a notebook: its kernel).",
            install=INSTALL_LINE,
            package="plotly",
        ) from error
    return go, go.Figure(), _LOOKS[theme]


def _names(rows: Sequence[BenchRow]) -> dict[int, str]:
    """Return what each row's model is called: with the settings that tell it from another."""
    seen: dict[str, set[tuple[str, str]]] = {}
    for row in rows:
        mine = seen.setdefault(row.model.digest, set())
        mine.update((name, str(row.model.settings.get(name))) for name in SETTINGS)
    differing = [
        name
        for name in SETTINGS
        if any(sum(one == name for one, _ in found) > 1 for found in seen.values())
    ]
    names = {}
    for row in rows:
        # Plotly reads a little markup in names.
        parts = [html.escape(plain_text(row.model.name, _LONGEST_NAME))]
        if row.model.quantization.casefold() not in row.model.name.casefold():
            parts[0] += f" {html.escape(row.model.quantization)}"
        parts += [f"{name}={row.model.settings.get(name)}" for name in differing]
        names[id(row)] = ", ".join(parts)
    return names


def _hover(row: BenchRow) -> str:
    deviation = row.stdev_tok_per_s
    spread = "" if deviation is None else f" ± {deviation:,.2f}"
    lines = [
        f"<b>{html.escape(plain_text(row.model.name, _LONGEST_NAME))}</b>",
        f"{row.test.name}: {row.avg_tok_per_s:,.2f}{spread} {_UNIT}",
        row.test.words(),
    ]
    if row.test.n_seq > 1:
        lines.append(f"{row.each_tok_per_s:,.2f} {_UNIT} for each")
    return "<br>".join([*lines, *(html.escape(note) for note in row.notes)])


def _error_bars(rows: Sequence[BenchRow], look: _Theme) -> dict[str, Any]:
    return {
        "type": "data",
        "array": [row.stdev_tok_per_s or 0.0 for row in rows],
        "color": look.text,
        "thickness": 1,
    }


def _side_by_side(
    figure: Any, titles: Sequence[str], look: _Theme, along: str = "", *, from_zero: bool = True
) -> None:
    """Give each part a pair of axes of its own: reading is ten times as fast as writing."""
    gap = 0.1
    width = (1 - gap * (len(titles) - 1)) / len(titles)
    for place, name in enumerate(titles, 1):
        number = place if place > 1 else ""
        left = (place - 1) * (width + gap)
        figure.update_layout(
            {
                f"xaxis{number}": {
                    "domain": [left, left + width],
                    "anchor": f"y{number}",
                    "title": {"text": along},
                    "gridcolor": look.grid,
                    "tickangle": 0 if along else -30,  # names of tests are long
                    "nticks": 6,
                },
                f"yaxis{number}": {
                    "anchor": f"x{number}",
                    "rangemode": "tozero" if from_zero else "normal",
                    "title": {"text": _UNIT if place == 1 else ""},
                    "gridcolor": look.grid,
                    "zerolinecolor": look.grid,
                    "automargin": True,
                },
            }
        )
        figure.add_annotation(
            text=html.escape(name).replace("\n", "<br>"),
            x=left + width / 2,
            y=1.0,
            xref="paper",
            yref="paper",
            xanchor="center",
            yanchor="bottom",
            showarrow=False,
        )


def _finished(figure: Any, look: _Theme, title: str, num_entries: int) -> Any:
    # Each entry of the legend may need a line of its own where the page is narrow.
    under = _UNDER + (_LINE * num_entries if num_entries > 1 else 0)
    figure.update_layout(
        title={"text": html.escape(plain_text(title, 200))},
        showlegend=num_entries > 1,
        barmode="group",
        height=_TOP + _PART + under,
        paper_bgcolor=look.paper,
        plot_bgcolor=look.paper,
        font={"color": look.text},
        legend={
            "orientation": "h",
            "yref": "container",
            "yanchor": "bottom",
            "y": 0.01,
            "x": 0,
            "bgcolor": "rgba(0,0,0,0)",
        },
        margin={"t": _TOP, "b": under, "r": 20},
        hoverlabel={"align": "left"},
    )
    return figure


for _kind, _maker in {
    "speed": draw_speed,
    "depth": draw_depth,
    "sequences": draw_sequences,
    "history": draw_history,
}.items():
    register_figure(f"bench.{_kind}", _maker)
