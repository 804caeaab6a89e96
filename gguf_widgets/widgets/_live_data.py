"""What a page of the live charts asks for: a stretch of a session's figures, packed.

Promises: at most so many points, thinned as `PerformanceMonitor.points` does it, which says so; the
latest 1,000 answers, and how many are left out; numbers travel as bytes and not as text; what a
page asks for is checked. Leaves to others: threads and messages (`live_charts`), drawing (static/).
"""

from __future__ import annotations

import array
import math
import platform
from collections.abc import Sequence
from typing import Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_duration, plain_text
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.values import LiveRequest, Point, Session
from gguf_widgets.widgets._live_series import (
    CHARTS,
    MAX_CARDS,
    Chart,
    card_charts,
    fields,
    gap_s,
    num_processors,
    request_row,
    rows,
)

__all__ = [
    "MAX_POINTS",
    "MAX_REQUESTS",
    "card_names",
    "live_views",
    "read_series",
    "round_row",
    "session_views",
    "stretch",
]

MAX_POINTS: Final = 2000
MAX_REQUESTS: Final = 1000
_MAX_SESSIONS: Final = 50
_MAX_LIVE: Final = 50
_MAX_SPAN_S: Final = 400 * 86_400.0

Content = dict[str, Any]


def session_views(monitor: PerformanceMonitor) -> Content:
    """Return the sessions that a page can choose from, the newest first, and how many are older."""
    kept = [
        one
        for one in monitor.session_list()
        if one.id != monitor.session_id and (one.num_points > 1 or one.num_requests)
    ]
    kept.reverse()
    return {
        "sessions": [_session_view(one) for one in kept[:_MAX_SESSIONS]],
        "older": max(0, len(kept) - _MAX_SESSIONS),
    }


def _session_view(one: Session) -> Content:
    return {
        "id": one.id,
        "program": plain_text(one.program, 60),
        "from": one.started_at,
        "to": max(one.started_at, one.ended_at or 0.0, one.last_at or 0.0),
        "state": one.state,
        "requests": one.num_requests,
        "about": plain_text(" · ".join(part for part in (one.machine, one.versions) if part), 300),
    }


def _found(monitor: PerformanceMonitor, session_id: str) -> Session:
    for one in monitor.session_list():
        if one.id == session_id:
            return one
    raise InvalidValueError(
        "This session is not kept any more: figures are kept for 30 days. Choose another one."
    )


def stretch(
    monitor: PerformanceMonitor, content: Content
) -> tuple[Session | None, float | None, float | None]:
    """Return what a page asks about: the session (None: this one), from when, until when.

    Raises
    ------
    InvalidValueError
        There is no such session (any more), or a time is none.
    """
    asked = content.get("session")
    if asked is not None and (not isinstance(asked, str) or len(asked) > 200):
        raise InvalidValueError(f"The session is {asked!r:.60}; it has to be one of the list.")
    session = None if asked in (None, monitor.session_id) else _found(monitor, str(asked))
    since, until = _time(content, "since"), _time(content, "until")
    last_s = _time(content, "last_s")
    if last_s is not None:
        if not 0 < last_s <= _MAX_SPAN_S:
            raise InvalidValueError(f"The last {last_s:g} s cannot be shown; at most 400 days can.")
        end = _end(monitor, session)
        since = None if end is None else end - last_s
    return session, since, until


def _end(monitor: PerformanceMonitor, session: Session | None) -> float | None:
    if session is not None:
        return session.last_at or session.ended_at
    return monitor.last.at if monitor.last is not None else None


def _time(content: Content, name: str) -> float | None:
    value = content.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidValueError(f"{name} is {value!r:.40}; it has to be a number of seconds.")
    return float(value)


def read_series(
    monitor: PerformanceMonitor, content: Content, interval_s: float
) -> tuple[Content, list[bytes]]:
    """Return a stretch of figures, and two buffers: times (float64), the other numbers (float32).

    Numbers lie one field after the other, each with `num` of them.

    Raises
    ------
    InvalidValueError
        What is asked for is not there.
    StoreError
        The store cannot be read.
    """
    session, since, until = stretch(monitor, content)
    of = None if session is None else session.id
    points = monitor.points(since, until, session=of, max_points=MAX_POINTS)
    requests = monitor.request_metrics(since, until, session=of)
    cards = card_names(points)
    here = session is None or session.host in ("", platform.node())
    cores = num_processors() if here else None
    each_s = session.interval_s if session is not None else interval_s
    longest_s = gap_s(each_s, points.num_each)
    found = rows(points, len(cards), cores, longest_s)
    names = fields(len(cards))
    numbers = array.array("f")
    for place in range(len(names)):
        numbers.extend(array.array("f", (one[place] for _, one in found)))
    told = {
        "charts": [_chart_view(one) for one in (*CHARTS, *card_charts(cards))],
        "fields": names,
        "cards": len(cards),
        "num": len(found),
        "gap_s": longest_s,
        "note": points.note,
        "more": _more_words(points, here),
        "requests": [request_row(one) for one in requests[-MAX_REQUESTS:]],
        "left_out": max(0, len(requests) - MAX_REQUESTS),
    }
    times = array.array("d", (at for at, _ in found))
    return told, [times.tobytes(), numbers.tobytes()]


def _chart_view(chart: Chart) -> Content:
    return {
        "key": chart.key,
        "title": chart.title,
        "unit": chart.unit,
        "lines": [
            {"field": line.field, "name": plain_text(line.name, 60), "term": line.term}
            for line in chart.lines
        ],
        "empty": chart.empty,
        "tells": chart.tells,
        "missing": list(chart.missing),
        "dots": chart.is_dots,
    }


def card_names(points: Sequence[Point]) -> list[str]:
    """Return the names of the graphics cards: of the last point that tells of the most."""
    most = max((len(point.gpus) for point in points), default=0)
    if not most:
        return []
    known = next(point for point in reversed(points) if len(point.gpus) == most)
    return [plain_text(card.name, 60) for card in known.gpus[:MAX_CARDS]]


def _more_words(points: Sequence[Point], here: bool) -> str:
    words = []
    most = max((len(point.gpus) for point in points), default=0)
    if most > MAX_CARDS:
        words.append(f"Of {most} graphics cards the first {MAX_CARDS} are drawn.")
    if not here:
        words.append(
            "This was measured on another machine, so how much of its processor the models used "
            "cannot be told."
        )
    return " ".join(words)


def round_row(values: Sequence[float]) -> list[float | None]:
    """Return a row as it travels in a message: four digits are more than a chart shows."""
    return [None if value != value else float(f"{value:.5g}") for value in values]


def live_views(live: Sequence[LiveRequest]) -> Content:
    """Return the requests under way as the page lists them, the oldest first."""
    return {
        "num": len(live),
        "rows": [_live_view(one) for one in live[:_MAX_LIVE]],
    }


def _live_view(one: LiveRequest) -> Content:
    num = one.num_completion_tokens or 0
    fraction = None
    if num:
        doing = f"Writing: {num:,} {'token' if num == 1 else 'tokens'}"
        if one.tok_per_s is not None:
            doing += f", {_speed(one.tok_per_s)}"
    elif one.prefill_fraction is not None:
        fraction = min(1.0, max(0.0, one.prefill_fraction))
        of = "" if one.num_prompt_tokens is None else f" of {one.num_prompt_tokens:,} tokens"
        doing = f"Reading the prompt: {100 * fraction:.0f}%{of}"
    else:
        doing = "Waiting its turn"
    return {
        "id": one.request_id,
        "model": plain_text(one.model, 80),
        "doing": doing,
        "fraction": fraction,
        "age": _age(one.age_s),
        "table": one.run_id is not None,
    }


def _speed(tok_per_s: float) -> str:
    return f"{tok_per_s:,.{1 if tok_per_s < 9.95 else 0}f} tokens/s"


def _age(age_s: float) -> str:
    if age_s < 60:  # no tenths: they would change with each look
        return f"{age_s:.0f} s"
    return format_duration(age_s)
