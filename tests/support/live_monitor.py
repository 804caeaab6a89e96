"""A monitor whose figures are made up, point by point, with a clock of its own.

Not a test and no fixture. It stands where a `PerformanceMonitor` does, and also runs in the kernel
of a page: a notebook of the browser tests imports it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.thinning import thinned
from gguf_widgets.core.monitor.values import (
    EngineSample,
    GpuSample,
    LiveRequest,
    Point,
    Points,
    ProcessSample,
    RequestMetrics,
    Session,
)

START = 1_700_000_000.0
OWN = "own-session"
_MANY = ("processes", "engines", "gpus")
_PROCESSES = tuple(
    ProcessSample(kind=kind, pid=pid, name=name, rss_bytes=rss, pss_bytes=pss)
    for kind, pid, name, rss, pss in (
        ("this", 1, "me", 150_000_000, 120_000_000),
        ("model", 2, "demo", 55_000_000, 49_000_000),
    )
)


class PlayedMonitor(PerformanceMonitor):
    """Tells what it is told to tell.

    Parameters
    ----------
    now : float
        The time of day at which its session begins.
    interval_s : float, default 1.0
    num_kept : int or None
        How many points it keeps at most; None: all.
    """

    def __init__(
        self, now: float = START, *, interval_s: float = 1.0, num_kept: int | None = None
    ) -> None:
        self.interval_s = interval_s
        self.session_id = OWN
        self.now = now
        self.kept: dict[str, list[Point]] = {OWN: []}
        self.answers: dict[str, list[RequestMetrics]] = {OWN: []}
        self.others: list[Session] = []
        self.under_way: list[LiveRequest] = []
        self.stopped: list[str] = []
        self.told: list[str] = []
        self.unknown: dict[str, str] = {}
        self.has_ended = False
        self.num_kept = num_kept
        self.num_listeners = 0
        self.listeners: list[Callable[[Any], None]] = []
        self.asked: list[dict[str, Any]] = []

    @property
    def closed(self) -> bool:
        return self.has_ended

    @property
    def notices(self) -> list[str]:
        return list(self.told)

    def missing(self) -> dict[str, str]:
        return dict(self.unknown)

    @property
    def last(self) -> Point | None:
        points = self.kept[OWN]
        return points[-1] if points else None

    def live(self) -> list[LiveRequest]:
        return list(self.under_way)

    def stop_request(self, request_id: str) -> bool:
        self.stopped.append(request_id)
        found = [one for one in self.under_way if one.request_id == request_id]
        self.under_way = [one for one in self.under_way if one.request_id != request_id]
        return bool(found)

    def subscribe(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback)

    def session_list(self) -> list[Session]:
        own = Session(id=OWN, program="this test", started_at=START, interval_s=self.interval_s)
        return sorted([*self.others, own], key=lambda one: one.started_at)

    def points(
        self,
        since: Any = None,
        until: Any = None,
        *,
        session: str | None = None,
        max_points: int = 2000,
    ) -> Points:
        self.asked.append({"since": since, "until": until, "session": session})
        found = [one for one in self.kept[session or OWN] if _is_in(one.at, since, until)]
        return thinned(found, max_points)

    def request_metrics(
        self,
        since: Any = None,
        until: Any = None,
        *,
        session: str | None = None,
        model: str | None = None,
    ) -> list[RequestMetrics]:
        return [one for one in self.answers[session or OWN] if _is_in(one.ended_at, since, until)]

    def export(self, path: Any, what: str = "requests", **filters: Any) -> Path:
        found: list[Any] = list(
            self.points(**filters, max_points=10**6)
            if what == "system"
            else self.request_metrics(**filters)
        )
        target = Path(path)
        with target.open("w", newline="", encoding="utf-8") as file:
            names = [name for name in type(found[0]).__struct_fields__ if name not in _MANY]
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows([getattr(one, name) for name in names] for one in found)
        return target

    def close(self) -> None:
        self.has_ended = True

    def __repr__(self) -> str:
        return "<PlayedMonitor>"

    # -- what happens -----------------------------------------------------------------------------

    def point(self, **figures: Any) -> Point:
        """Make the next point, and tell it."""
        self.now += self.interval_s
        point = Point(at=self.now, interval_s=self.interval_s, **figures)
        self.keep(point)
        return point

    def keep(self, point: Point) -> None:
        points = self.kept[OWN]
        points.append(point)
        if self.num_kept is not None:
            del points[: -self.num_kept]
        for listener in list(self.listeners):
            listener(point)

    def answer(self, **figures: Any) -> RequestMetrics:
        """Have an answer end now, and tell it."""
        given = {"model": "demo", "finish_reason": "stop", **figures}
        one = RequestMetrics(request_id=f"1/{len(self.answers[OWN])}", ended_at=self.now, **given)
        self.answers[OWN].append(one)
        for listener in list(self.listeners):
            listener(one)
        return one

    def work(self, number: int, *, cards: int = 0) -> Point:
        """Make a point of a machine at work, the figures changing as they do."""
        wave = math.sin(number / 9)
        busy = number % 60 >= 20
        return self.point(**figures_at_work(wave, busy=busy, cards=cards))

    def earlier(self, session_id: str, began: float, num: int, **about: Any) -> Session:
        """Add a session that has ended, with figures."""
        self.kept[session_id] = [
            Point(
                at=began + i, interval_s=1.0, **figures_at_work(math.sin(i / 9), busy=i % 60 >= 20)
            )
            for i in range(num)
        ]
        self.answers[session_id] = [finished(began + i, i) for i in range(5, num, 10)]
        session = Session(
            **{
                "id": session_id,
                "program": "notebook review.ipynb",
                "started_at": began,
                "ended_at": began + num,
                "last_at": began + num - 1,
                "state": "ended",
                "num_requests": len(self.answers[session_id]),
                "num_points": num,
                "interval_s": 1.0,
                "machine": "A processor, 2 cores, 8.2 GB of memory",
                "versions": "gguf-widgets 0.1.0, Python 3.11.9, Linux 6.1",
                **about,
            }
        )
        self.others.append(session)
        return session


def finished(ended_at: float, number: int, **figures: Any) -> RequestMetrics:
    """Make an answer's figures."""
    given = {
        "model": "demo",
        "finish_reason": "stop",
        "queue_s": 0.02,
        "ttft_s": 0.2 + 0.05 * (number % 7),
        "itl_p50_s": 0.03,
        "itl_p95_s": 0.04 + 0.002 * (number % 5),
        "itl_p99_s": 0.07 + 0.005 * (number % 3),
        "decode_tok_per_s": 31.0,
        "num_prompt_tokens": 512,
        "num_cached_tokens": 128,
        "num_completion_tokens": 60,
        **figures,
    }
    return RequestMetrics(request_id=f"1/{number}", ended_at=ended_at, **given)


def figures_at_work(wave: float, *, busy: bool, cards: int = 0) -> dict[str, Any]:
    """Return the figures of a machine that works, or rests."""
    rate = 30 + 4 * wave if busy else 0.0
    return {
        "decode_tok_per_s": rate,
        "prefill_tok_per_s": 300 + 80 * wave if busy and wave > 0.5 else 0.0,
        "num_running": 2 if busy else 0,
        "num_waiting": 3 if busy and wave > 0 else 0,
        "num_cells_used": int(900 + 300 * wave) if busy else 0,
        "num_cells_kept": 600,
        "num_cells": 4096,
        "rows_per_min": 84.0 if busy and wave > -0.5 else 0.0,
        "cpu_percent": 150 + 20 * wave if busy else 2.0,
        "cpu_total_percent": 82 + 10 * wave if busy else 6.0,
        "rss_bytes": 700_000_000,
        "pss_bytes": 610_000_000,
        "free_memory_bytes": int(5.2e9 - 2e8 * wave),
        "disk_read_bytes_per_s": 4e6 if busy and wave > 0.9 else 0.0,
        "disk_write_bytes_per_s": 2e5,
        "processes": _PROCESSES,
        "engines": (EngineSample(worker="w", model="demo", pid=2, state="ready"),),
        "gpus": tuple(
            GpuSample(
                name="A card", use_percent=50 + 40 * wave, memory_used_bytes=3_000_000_000,
                memory_total_bytes=8_000_000_000, power_w=120.0,
            )
            for _ in range(cards)
        ),
    }  # fmt: skip


def under_way(number: int, **more: Any) -> LiveRequest:
    """Make a request that is under way."""
    given = {
        "request_id": f"1/live-{number}",
        "model": "demo",
        "run_id": None,
        "priority": "interactive",
        "started_at": START,
        "age_s": 3.0,
        **more,
    }
    return LiveRequest(**given)


def _is_in(at: float, since: Any, until: Any) -> bool:
    if isinstance(since, str) or isinstance(until, str):
        raise InvalidValueError("Times are numbers.")
    return (since is None or at >= since) and (until is None or at <= until)
