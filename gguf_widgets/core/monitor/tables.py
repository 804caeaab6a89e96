"""The figures as pandas DataFrames.

Promises: one row for each thing and one column for each of its figures, in the order of
`definitions`, with a type that does not depend on the rows: times are in UTC, counts are whole
numbers that may be missing. Leaves to others: reading (`history`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gguf_widgets.core.monitor.history import Kept
from gguf_widgets.core.monitor.values import (
    EngineSample,
    GpuSample,
    Point,
    ProcessSample,
    RequestMetrics,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of", "parts_frame", "points_frame", "requests_frame"]

_TIMES: Final = {"at", "ended_at", "started_at", "created_at", "last_at"}
_PARTS: Final = ("processes", "engines", "gpus")
# Over all cards: those of a machine are added up, their use is averaged.
_CARDS: Final = {
    "gpu_use_percent": "use_percent",
    "gpu_memory_used_bytes": "memory_used_bytes",
    "gpu_memory_total_bytes": "memory_total_bytes",
    "gpu_power_w": "power_w",
}


def requests_frame(kept: Sequence[Kept]) -> pd.DataFrame:
    """Return a row for each request."""
    return frame_of(RequestMetrics, [one.value for one in kept], _sessions(kept))


def points_frame(kept: Sequence[Kept]) -> pd.DataFrame:
    """Return a row for each point; the cards' figures added up (their use: its mean)."""
    points: list[Point] = [one.value for one in kept]
    frame = frame_of(Point, points, _sessions(kept), without=_PARTS)
    for column, name in _CARDS.items():
        values = [_over(point.gpus, name, mean=column == "gpu_use_percent") for point in points]
        frame[column] = _column(values, int if name.endswith("bytes") else float)
    return frame


def parts_frame(kept: Sequence[Kept], name: str) -> pd.DataFrame:
    """Return a row for each of a point's "processes", "engines" or "gpus"."""
    kind: Any = {"processes": ProcessSample, "engines": EngineSample, "gpus": GpuSample}[name]
    rows = [(one, part) for one in kept for part in getattr(one.value, name)]
    first: dict[str, list[Any]] = {
        "session_id": [one.session_id for one, _ in rows],
        "at": [one.value.at for one, _ in rows],
    }
    return frame_of(kind, [part for _, part in rows], first)


def frame_of(
    kind: type[msgspec.Struct],
    values: Sequence[Any],
    first: dict[str, list[Any]] | None = None,
    *,
    without: Iterable[str] = (),
) -> pd.DataFrame:
    """Return a row for each value and a column for each field of its kind, behind the `first`."""
    import pandas as pd

    columns = {name: _column(given, _kind_of(name, str)) for name, given in (first or {}).items()}
    for field in msgspec.structs.fields(kind):
        if field.name not in without:
            told = [getattr(value, field.name) for value in values]
            columns[field.name] = _column(told, _kind_of(field.name, field.type))
    return pd.DataFrame(columns)


def _sessions(kept: Sequence[Kept]) -> dict[str, list[Any]]:
    return {"session_id": [one.session_id for one in kept]}


def _kind_of(name: str, declared: Any) -> Any:
    if name in _TIMES:
        return "time"
    return next((kind for kind in (int, float) if kind in _members(declared)), str)


def _members(declared: Any) -> tuple[Any, ...]:
    return getattr(declared, "__args__", (declared,))


def _column(values: Sequence[Any], kind: Any) -> Any:
    import pandas as pd

    make: Callable[..., Any] = pd.Series
    if kind == "time":
        seconds = make(values, dtype="float64")
        # A float holds no more than microseconds of such a number.
        return pd.to_datetime(seconds, unit="s", utc=True).dt.round("us")
    return make(values, dtype={int: "Int64", float: "float64"}.get(kind, "object"))


def _over(cards: Sequence[GpuSample], name: str, *, mean: bool) -> Any:
    known = [value for card in cards if (value := getattr(card, name)) is not None]
    if not known:
        return None
    return sum(known) / len(known) if mean else sum(known)
