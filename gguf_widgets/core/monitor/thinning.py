"""Fewer points for a chart than were kept, without hiding what they show.

Promises: no point is dropped: each that is returned stands for as many in a row, with the mean of
speeds and of use, and the highest of memory, sequences and cells, and says for how long; the whole
says so in words. Points are never put together over a gap. Leaves to others: drawing.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.core.format import format_duration
from gguf_widgets.core.monitor.values import (
    EngineSample,
    GpuSample,
    Point,
    Points,
    ProcessSample,
)

__all__ = ["thinned"]

# Of how much memory, and how many at once, the highest counts: a mean would hide a full cache. Of
# free memory it is the lowest.
_HIGHEST: Final = {
    "num_running", "num_waiting", "num_cells_used", "num_cells_kept", "num_cells", "rss_bytes",
    "pss_bytes", "memory_used_bytes", "memory_total_bytes",
}  # fmt: skip
_LOWEST: Final = {"free_memory_bytes"}
_ADDED: Final = {"interval_s", "num_preemptions"}
_LATEST: Final = {"at", "state"}
# Longer than this many usual intervals between two points is a gap: the program stood still.
_GAP: Final = 20


def thinned(points: Sequence[Point], most: int) -> Points:
    """Return at most about `most` points that stand for all of these, in order."""
    if len(points) <= most:
        return Points(list(points))
    num_each = -(-len(points) // most)
    found = [_joined(group) for group in _groups(points, num_each)]
    spans = [point.interval_s for point in found if point.interval_s]
    each = f", about {format_duration(round(statistics.median(spans)))}," if spans else ""
    return Points(
        found,
        num_each=num_each,
        note=(
            f"Each point stands for up to {num_each:,} that were measured{each} so that there are "
            f"{len(found):,} and not {len(points):,}: speeds and use are averages, memory and "
            "counts are the highest."
        ),
    )


def _groups(points: Sequence[Point], num_each: int) -> Iterator[list[Point]]:
    steps = [later.at - earlier.at for earlier, later in itertools.pairwise(points)]
    gap = _GAP * max(1.0, statistics.median(steps))
    group: list[Point] = []
    for point in points:
        if group and (len(group) >= num_each or point.at - group[-1].at > gap):
            yield group
            group = []
        group.append(point)
    if group:
        yield group


def _joined(group: Sequence[Point]) -> Point:
    if len(group) == 1:
        return group[0]
    figures = _figures(group, without={"processes", "engines", "gpus"})
    return Point(
        **figures,
        processes=_each(group, "processes", ProcessSample, lambda one: (one.kind, one.pid)),
        engines=_each(group, "engines", EngineSample, lambda one: one.worker),
        gpus=_cards(group),
    )


def _each(
    group: Sequence[Point], name: str, kind: Any, key: Callable[[Any], Any]
) -> tuple[Any, ...]:
    """Join the parts of several points that are of the same thing."""
    found: dict[Any, list[Any]] = {}
    for point in group:
        for part in getattr(point, name):
            found.setdefault(key(part), []).append(part)
    return tuple(kind(**_figures(parts)) for parts in found.values())


def _cards(group: Sequence[Point]) -> tuple[GpuSample, ...]:
    # Two cards may be of the same name: they are told apart by their place.
    most = max(len(point.gpus) for point in group)
    columns = (
        [point.gpus[place] for point in group if place < len(point.gpus)] for place in range(most)
    )
    return tuple(GpuSample(**_figures(column)) for column in columns)


def _figures(parts: Sequence[Any], without: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    return {
        name: _figure(name, [getattr(part, name) for part in parts])
        for name in msgspec.structs.asdict(parts[0])
        if name not in without
    }


def _figure(name: str, values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if name in _LATEST or isinstance(known[-1], str) or name == "pid":
        return known[-1]
    if name in _HIGHEST:
        return max(known)
    if name in _LOWEST:
        return min(known)
    return sum(known) if name in _ADDED else statistics.fmean(known)
