"""What is drawn of a monitor's figures: the charts, their lines, and the numbers behind each line.

Promises: one table, from which the live charts and the figures for notebooks are both made, so that
a line means the same in both; the numbers of a point in one fixed order, unknown ones as NaN; where
figures stop for a while, that can be told from figures that come slowly (`gap_s`). Leaves to
others: what the figures are (`core.monitor.definitions`), drawing (static/_live_chart.js,
`_monitor_figures`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import psutil

from gguf_widgets.core.monitor.values import GpuSample, Point, RequestMetrics

__all__ = [
    "CHARTS",
    "MAX_CARDS",
    "Chart",
    "Line",
    "card_charts",
    "fields",
    "gap_s",
    "num_processors",
    "request_row",
    "row",
    "rows",
]

MAX_CARDS: Final = 8  # more are told of, not drawn
_IDLE_S: Final = 10.0  # while nothing happens, the monitor keeps one point in this time
_NAN: Final = math.nan


class Line(NamedTuple):
    """One line of a chart: whose numbers, what it is called, and the exact term for the tooltip."""

    field: str
    name: str
    term: str


class Chart(NamedTuple):
    """One chart.

    Attributes
    ----------
    key : str
    title : str
    unit : str
        "tokens/s", "s", "count", "tokens", "rows/min", "percent", "bytes" or "bytes/s".
    lines : tuple of Line
    empty : str
        What is said while there is nothing to draw.
    tells : {"speed", "level", "wait", "spread"}
        What its words say: of a speed, what it was while there was one; of a level, how high; of
        waits, how long most took; of a spread, the usual and the rare.
    missing : tuple of str
        The names in `PerformanceMonitor.missing` that explain why there are no figures.
    is_dots : bool
        One dot for each answer, instead of lines over time.
    """

    key: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    empty: str
    tells: str
    missing: tuple[str, ...] = ()
    is_dots: bool = False


_NO_ANSWER: Final = "No answer was written in this time."

CHARTS: Final = (
    Chart(
        "writing",
        "Writing speed",
        "tokens/s",
        (Line("decode_tok_per_s", "all models", "decode_tok_per_s"),),
        _NO_ANSWER,
        "speed",
        ("engines",),
    ),
    Chart(
        "reading",
        "Reading speed",
        "tokens/s",
        (Line("prefill_tok_per_s", "all models", "prefill_tok_per_s"),),
        "No prompt was read in this time.",
        "speed",
        ("engines",),
    ),
    Chart(
        "first",
        "Wait for the first token",
        "s",
        (Line("ttft_s", "each answer", "ttft_s, time to first token"),),
        "No answer has ended in this time.",
        "wait",
        is_dots=True,
    ),
    Chart(
        "between",
        "Pause between two tokens",
        "s",
        (
            Line("itl_p50_s", "usual", "itl_p50_s, the median inter-token latency of an answer"),
            Line("itl_p95_s", "one in 20", "itl_p95_s, its 95th percentile"),
            Line("itl_p99_s", "one in 100", "itl_p99_s, its 99th percentile"),
        ),
        "No answer has ended in this time.",
        "spread",
        is_dots=True,
    ),
    Chart(
        "sequences",
        "Answers at once",
        "count",
        (
            Line("num_running", "writing", "num_running, sequences"),
            Line("num_waiting", "waiting", "num_waiting, sequences"),
        ),
        "Nothing was asked in this time.",
        "level",
        ("engines",),
    ),
    Chart(
        "context",
        "Context in use",
        "tokens",
        (
            Line("num_cells_used", "in use", "num_cells_used, cells of the KV caches"),
            Line("num_cells_kept", "kept", "num_cells_kept, cells that can be taken over"),
            Line("num_cells", "room", "num_cells, all cells"),
        ),
        "No model was loaded in this time.",
        "level",
        ("engines",),
    ),
    Chart(
        "rows",
        "Rows of tables",
        "rows/min",
        (Line("rows_per_min", "all tables", "rows_per_min"),),
        "No table was worked on in this time.",
        "speed",
        ("rows_per_min",),
    ),
    Chart(
        "processor",
        "Processor",
        "percent",
        (
            Line(
                "cpu_ours",
                "models",
                "models, this program and batch runs: cpu_percent / number of processors",
            ),
            Line("cpu_total_percent", "everything", "on this machine: cpu_total_percent"),
        ),
        "How busy the processor was is not known.",
        "level",
        ("cpu_total_percent", "processes"),
    ),
    Chart(
        "memory",
        "Memory",
        "bytes",
        (
            Line("memory_models", "models", "pss_bytes, or rss_bytes where that is not known"),
            Line("memory_rest", "this program", "with batch runs: pss_bytes, or rss_bytes"),
            Line("free_memory_bytes", "free", "free_memory_bytes"),
        ),
        "How much memory was used is not known.",
        "level",
        ("processes", "free_memory_bytes"),
    ),
    Chart(
        "disk",
        "Disks",
        "bytes/s",
        (
            Line("disk_read_bytes_per_s", "read", "disk_read_bytes_per_s"),
            Line("disk_write_bytes_per_s", "written", "disk_write_bytes_per_s"),
        ),
        "Nothing was read or written in this time.",
        "speed",
        ("disk_read_bytes_per_s",),
    ),
)


def num_processors() -> int:
    """Return how many processors 100% of this machine is."""
    return psutil.cpu_count() or 1


# -- points ----------------------------------------------------------------------------------------


def _ours(point: Point, cores: int | None) -> float | None:
    return None if cores is None or point.cpu_percent is None else point.cpu_percent / cores


def _memory(point: Point, of_models: bool) -> float | None:
    known = [
        one.pss_bytes if one.pss_bytes is not None else one.rss_bytes
        for one in point.processes
        if (one.kind == "model") is of_models
    ]
    sizes = [size for size in known if size is not None]
    # With other processes known, no model means none of its memory; otherwise nothing is known.
    return sum(sizes) if sizes else (0.0 if of_models and point.processes else None)


_VALUES: Final[tuple[tuple[str, Callable[[Point, int | None], float | None]], ...]] = (
    ("decode_tok_per_s", lambda point, _: point.decode_tok_per_s),
    ("prefill_tok_per_s", lambda point, _: point.prefill_tok_per_s),
    ("num_running", lambda point, _: point.num_running),
    ("num_waiting", lambda point, _: point.num_waiting),
    ("num_cells_used", lambda point, _: point.num_cells_used),
    ("num_cells_kept", lambda point, _: point.num_cells_kept),
    ("num_cells", lambda point, _: point.num_cells),
    ("rows_per_min", lambda point, _: point.rows_per_min),
    ("cpu_ours", _ours),
    ("cpu_total_percent", lambda point, _: point.cpu_total_percent),
    ("memory_models", lambda point, _: _memory(point, of_models=True)),
    ("memory_rest", lambda point, _: _memory(point, of_models=False)),
    ("free_memory_bytes", lambda point, _: point.free_memory_bytes),
    ("disk_read_bytes_per_s", lambda point, _: point.disk_read_bytes_per_s),
    ("disk_write_bytes_per_s", lambda point, _: point.disk_write_bytes_per_s),
)
_CARD_VALUES: Final[tuple[tuple[str, Callable[[GpuSample], float | None]], ...]] = (
    ("use", lambda card: card.use_percent),
    ("memory", lambda card: card.memory_used_bytes),
    ("power", lambda card: card.power_w),
)


def fields(num_cards: int) -> list[str]:
    """Return the names of a row's numbers, those of so many graphics cards included."""
    cards = range(min(num_cards, MAX_CARDS))
    return [name for name, _ in _VALUES] + [
        f"card{place}_{name}" for place in cards for name, _ in _CARD_VALUES
    ]


def row(point: Point, num_cards: int, cores: int | None) -> list[float]:
    """Return a point's numbers in the order of `fields`.

    Parameters
    ----------
    point : Point
    num_cards : int
        How many graphics cards there is room for.
    cores : int or None
        How many processors the machine of the point has; None: not known.
    """
    values: list[float | None] = [value(point, cores) for _, value in _VALUES]
    for place in range(min(num_cards, MAX_CARDS)):
        card = point.gpus[place] if place < len(point.gpus) else None
        values += [None if card is None else value(card) for _, value in _CARD_VALUES]
    return [_NAN if value is None else float(value) for value in values]


def rows(
    points: Sequence[Point], num_cards: int, cores: int | None, longest_s: float
) -> list[tuple[float, list[float]]]:
    """Return points as rows with their times, in order.

    While nothing happens the monitor keeps few points. What it left out was like the one before, so
    a row says so where the next one begins to count: a line does not rise before anything began.

    Parameters
    ----------
    points : sequence of Point
    num_cards, cores
        See `row`.
    longest_s : float
        Further apart is a gap, see `gap_s`.
    """
    found: list[tuple[float, list[float]]] = []
    # Sessions of a clock that was set back may overlap; a line goes in one direction only.
    for point in sorted(points, key=lambda one: one.at):
        step = point.interval_s
        if found and step is not None:
            at, before = found[-1]
            if point.at - step - at > step / 2 and point.at - at <= longest_s:
                found.append((point.at - step, before))
        found.append((point.at, row(point, num_cards, cores)))
    return found


def card_charts(names: Sequence[str]) -> tuple[Chart, ...]:
    """Return the charts of graphics cards, by these names; none without a card."""
    shown = list(names[:MAX_CARDS])
    if not shown:
        return ()
    alone = len(shown) == 1
    titles = (
        ("use", "Graphics card", "percent", "use_percent of NVML"),
        ("memory", "Memory of the graphics card", "bytes", "memory_used_bytes of NVML"),
        ("power", "Power of the graphics card", "W", "power_w of NVML"),
    )
    return tuple(
        Chart(
            f"card-{name}",
            title if alone else title.replace("card", "cards"),
            unit,
            tuple(
                Line(f"card{place}_{name}", one if alone else f"{place + 1}: {one}", term)
                for place, one in enumerate(shown)
            ),
            "The graphics card did not tell.",
            "level",
            ("gpus",),
        )
        for name, title, unit, term in titles
    )


def gap_s(interval_s: float | None, num_each: int = 1) -> float:
    """Return how far apart two points are at least if nothing was recorded between them.

    Parameters
    ----------
    interval_s : float or None
        How often the monitor looks.
    num_each : int, default 1
        For how many points each one stands.
    """
    return 2.5 * max(interval_s or 1.0, _IDLE_S) * num_each


# -- requests --------------------------------------------------------------------------------------


def request_row(one: RequestMetrics) -> list[Any]:
    """Return what the page draws and says of a request, in one fixed order; see _live_data.js."""
    return [
        one.ended_at,
        one.model[:200],
        one.priority == "batch",
        one.finish_reason,
        one.ttft_s,
        one.itl_p50_s,
        one.itl_p95_s,
        one.itl_p99_s,
        one.queue_s,
        one.num_prompt_tokens,
        one.num_cached_tokens,
        one.num_completion_tokens,
        one.decode_tok_per_s,
    ]
