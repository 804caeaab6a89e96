"""The figures in Prometheus's text format.

Promises: what a scraper reads is well formed whatever models are called; names end in their base
unit, as is the custom there; the help lines are the formulas of `definitions`; the number of
time series is bounded. Leaves to others: serving the text (`endpoint`).
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from gguf_widgets.core.monitor import definitions
from gguf_widgets.core.monitor.definitions import Definition
from gguf_widgets.core.monitor.values import Point, RequestMetrics

__all__ = ["CONTENT_TYPE", "Totals", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_MOST_MODELS: Final = 100
_LONGEST_LABEL: Final = 200

# From a token on a fast card to a long prompt on an old laptop.
_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip

_HISTOGRAMS: Final = {
    "time_to_first_token_seconds": "ttft_s",
    "time_per_output_token_seconds": "tpot_s",
    "request_queue_seconds": "queue_s",
    "request_prefill_seconds": "prefill_s",
    "request_decode_seconds": "decode_s",
    "request_duration_seconds": "total_s",
}
_COUNTED: Final = {
    "prompt_tokens_total": "num_prompt_tokens",
    "cached_prompt_tokens_total": "num_cached_tokens",
    "completion_tokens_total": "num_completion_tokens",
}
_MACHINE: Final = {
    "decode_tokens_per_second": "decode_tok_per_s",
    "prefill_tokens_per_second": "prefill_tok_per_s",
    "batch_rows_per_minute": "rows_per_min",
    "cpu_percent": "cpu_percent",
    "cpu_total_percent": "cpu_total_percent",
    "free_memory_bytes": "free_memory_bytes",
    "disk_read_bytes_per_second": "disk_read_bytes_per_s",
    "disk_written_bytes_per_second": "disk_write_bytes_per_s",
}
_ENGINES: Final = {
    "sequences_running": "num_running",
    "sequences_waiting": "num_waiting",
    "kv_cells_used": "num_cells_used",
    "kv_cells_kept": "num_cells_kept",
    "kv_cells": "num_cells",
}
_PROCESSES: Final = {
    "process_cpu_percent": "cpu_percent",
    "process_resident_memory_bytes": "rss_bytes",
    "process_proportional_memory_bytes": "pss_bytes",
}
_GPUS: Final = {
    "gpu_use_percent": "use_percent",
    "gpu_memory_used_bytes": "memory_used_bytes",
    "gpu_memory_total_bytes": "memory_total_bytes",
    "gpu_power_watts": "power_w",
}


class _Histogram:
    """How many values fell below each bound, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(_BUCKETS, value)] += 1
        self.sum += value


class Totals:
    """What all requests since the beginning add up to, by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: set[str] = set()
        self._requests: dict[tuple[str, str, str], int] = {}
        self._counted: dict[tuple[str, str], int] = {}
        self._histograms: dict[tuple[str, str], _Histogram] = {}

    def add(self, metrics: RequestMetrics) -> None:
        """Count a request that has ended."""
        with self._lock:
            model = self._model(metrics.model)
            key = (model, metrics.finish_reason, metrics.priority)
            self._requests[key] = self._requests.get(key, 0) + 1
            for name, field in _COUNTED.items():
                value = getattr(metrics, field)
                if value is not None:
                    self._counted[name, model] = self._counted.get((name, model), 0) + value
            for name, field in _HISTOGRAMS.items():
                value = getattr(metrics, field)
                if value is not None:
                    self._histograms.setdefault((name, model), _Histogram()).add(value)

    def families(self) -> Iterable[_Family]:
        """Return what is counted."""
        with self._lock:
            yield _Family(
                "requests_total",
                "counter",
                "Requests that have ended, by how: stop, length, aborted or error",
                [
                    ("", {"model": model, "finish_reason": reason, "priority": priority}, count)
                    for (model, reason, priority), count in self._requests.items()
                ],
            )
            for name, field in _COUNTED.items():
                rows = [
                    ("", {"model": model}, count)
                    for (of, model), count in self._counted.items()
                    if of == name
                ]
                yield _Family(name, "counter", _help(definitions.REQUESTS, field), rows)
            for name, field in _HISTOGRAMS.items():
                found = [
                    row
                    for (of, model), histogram in self._histograms.items()
                    if of == name
                    for row in _histogram_rows(model, histogram)
                ]
                yield _Family(name, "histogram", _help(definitions.REQUESTS, field), found)

    def _model(self, name: str) -> str:
        # As it is shown: two rows with the same labels would make the whole text worthless.
        name = _printable(name)[:_LONGEST_LABEL]
        if name not in self._models and len(self._models) >= _MOST_MODELS:
            return "other"  # somebody loads models without end
        self._models.add(name)
        return name


class _Family(NamedTuple):
    """One metric: its rows are an ending of the name, labels and a value."""

    name: str
    kind: str
    help: str
    rows: Sequence[tuple[str, dict[str, str], float]]


def exposition(totals: Totals, point: Point | None, info: dict[str, str]) -> str:
    """Return all figures as text.

    Parameters
    ----------
    totals : Totals
    point : Point or None
        The latest; None: the machine is not looked at.
    info : dict of str to str
        What there is to know of this session: labels of a figure that is always 1.
    """
    families = [_Family("monitor_info", "gauge", "What watches here", [("", info, 1)])]
    families += totals.families()
    if point is not None:
        families += _of_machine(point)
    lines: list[str] = []
    for family in families:
        if family.rows:
            lines += _lines(family)
    return "\n".join(lines) + "\n"


def _of_machine(point: Point) -> Iterable[_Family]:
    nothing: dict[str, str] = {}
    for name, field in _MACHINE.items():
        yield _gauge(name, definitions.POINTS, field, [(nothing, point)])
    engines = [({"model": one.model, "pid": str(one.pid)}, one) for one in point.engines]
    for name, field in _ENGINES.items():
        yield _gauge(name, definitions.ENGINES, field, engines)
    processes = [
        ({"kind": one.kind, "pid": str(one.pid), "name": one.name}, one) for one in point.processes
    ]
    for name, field in _PROCESSES.items():
        yield _gauge(name, definitions.PROCESSES, field, processes)
    cards = [({"gpu": str(number), "name": one.name}, one) for number, one in enumerate(point.gpus)]
    for name, field in _GPUS.items():
        yield _gauge(name, definitions.GPUS, field, cards)


def _gauge(
    name: str, known: Sequence[Definition], field: str, parts: Sequence[tuple[dict[str, str], Any]]
) -> _Family:
    rows = [
        ("", labels, value) for labels, one in parts if (value := getattr(one, field)) is not None
    ]
    return _Family(name, "gauge", _help(known, field), rows)


def _histogram_rows(
    model: str, histogram: _Histogram
) -> Iterable[tuple[str, dict[str, str], float]]:
    count = 0
    for bound, more in zip((*_BUCKETS, math.inf), histogram.counts, strict=True):
        count += more
        yield "_bucket", {"model": model, "le": _number(bound)}, count
    yield "_sum", {"model": model}, histogram.sum
    yield "_count", {"model": model}, count


def _lines(family: _Family) -> Iterable[str]:
    name = f"gguf_widgets_{family.name}"
    yield f"# HELP {name} {_escaped(family.help)}"
    yield f"# TYPE {name} {family.kind}"
    for ending, labels, value in family.rows:
        told = ",".join(
            f'{label}="{_escaped(_printable(text)[:_LONGEST_LABEL], quotes=True)}"'
            for label, text in labels.items()
        )
        yield (
            f"{name}{ending}{{{told}}} {_number(value)}"
            if told
            else f"{name}{ending} {_number(value)}"
        )


def _help(known: Sequence[Definition], field: str) -> str:
    found = next(one for one in known if one.name == field)
    return f"{found.formula[0].upper()}{found.formula[1:]}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _printable(text: str) -> str:
    # Surrogates cannot be sent, and control characters may break a reader.
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
