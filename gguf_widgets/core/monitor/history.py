"""Reading the figures that were kept: those of this session, of earlier ones and of other programs.

Promises: what is asked for comes in the order it was noted; a long reading lets others use the
store in between; what cannot be read (another version's, damaged) is left out, counted and told.
Leaves to others: tables (`tables`), keeping (`keeping`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor.values import Point, RequestMetrics, Session
from gguf_widgets.core.store import owners
from gguf_widgets.core.store.json_values import from_json
from gguf_widgets.core.store.store import Store

__all__ = ["ALL", "Kept", "Span", "read_points", "read_requests", "read_sessions"]

ALL: Final = "all"
_AT_ONCE: Final = 2_000

_T = TypeVar("_T", Point, RequestMetrics)


class Span(NamedTuple):
    """What is asked for: a session or `ALL`, and from when until when (seconds since 1970)."""

    session: str
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, session: str, since: Any, until: Any) -> Span:
        """Take times as people give them.

        Raises
        ------
        InvalidValueError
            One is no time.
        """
        return cls(session, _seconds("since", since), _seconds("until", until))


class Kept(NamedTuple):
    """Something that was kept, and the session it belongs to."""

    session_id: str
    value: Any


def read_requests(store: Store, span: Span, model: str | None = None) -> tuple[list[Kept], int]:
    """Return what requests took, and how many could not be read."""
    more, values = ("AND model = ?", [model]) if model is not None else ("", [])
    return _read(store, "request_metric", "ended_at", span, RequestMetrics, more, values)


def read_points(store: Store, span: Span) -> tuple[list[Kept], int]:
    """Return points, and how many could not be read."""
    return _read(store, "machine_sample", "at", span, Point, "", [])


def read_sessions(store: Store) -> list[Session]:
    """Return all sessions, the oldest first."""
    with store.reading() as connection:
        rows = connection.execute(
            "SELECT id, program, started_at, ended_at, data, "
            "(SELECT count(*) FROM request_metric WHERE session_id = id), "
            "(SELECT count(*) FROM machine_sample WHERE session_id = id), "
            "(SELECT max(ended_at) FROM request_metric WHERE session_id = id), "
            "(SELECT max(at) FROM machine_sample WHERE session_id = id) "
            "FROM monitor_session ORDER BY started_at, id"
        ).fetchall()
    return [_session(*row) for row in rows]


def _session(
    session_id: str,
    program: str,
    started_at: float,
    ended_at: float | None,
    text: str,
    num_requests: int,
    num_points: int,
    *last: float | None,
) -> Session:
    found = from_json(text)
    data: dict[str, Any] = found if isinstance(found, dict) else {}
    times = [at for at in last if at is not None]
    last_at = max(times) if times else None
    if ended_at is not None:
        state = "ended"
    else:
        owner = data.get("owner")
        state = "running" if owners.is_alive(owner, last_at or started_at) else "cut off"
    owner = data.get("owner")
    told = owner if isinstance(owner, dict) else {}
    interval_s = data.get("interval_s")
    pid = told.get("pid")
    return Session(
        id=session_id,
        program=program,
        started_at=started_at,
        ended_at=ended_at,
        last_at=last_at,
        state=state,
        num_requests=num_requests,
        num_points=num_points,
        interval_s=float(interval_s) if isinstance(interval_s, int | float) else None,
        host=str(told.get("host", "")),
        pid=pid if isinstance(pid, int) else None,
        machine=str(data.get("machine", "")),
        versions=str(data.get("versions", "")),
    )


def _read(
    store: Store,
    table: str,
    time_name: str,
    span: Span,
    kind: type[_T],
    more: str,
    values: list[Any],
) -> tuple[list[Kept], int]:
    decoder = msgspec.json.Decoder(kind)
    found: list[Kept] = []
    num_unreadable = 0
    for session_id, text in _rows(store, table, time_name, span, more, values):
        try:
            found.append(Kept(session_id, decoder.decode(text)))
        except (msgspec.DecodeError, TypeError):
            num_unreadable += 1
    return found, num_unreadable


def _rows(
    store: Store, table: str, time_name: str, span: Span, more: str, values: list[Any]
) -> Iterator[tuple[str, str]]:
    """Yield rows, a part at a time, so that others get at the store in between."""
    wheres, given = ["num > ?", more.removeprefix("AND ")], [*values]
    if span.session != ALL:
        wheres.append("session_id = ?")
        given.append(span.session)
    for bound, sign in ((span.since, ">="), (span.until, "<=")):
        if bound is not None:
            wheres.append(f"{time_name} {sign} ?")
            given.append(bound)
    where = " AND ".join(part for part in wheres if part)
    last = -1
    while True:
        with store.reading() as connection:
            rows = connection.execute(
                f"SELECT num, session_id, data FROM {table} WHERE {where} "  # noqa: S608 - our names
                "ORDER BY num LIMIT ?",
                (last, *given, _AT_ONCE),
            ).fetchall()
        for _, session_id, text in rows:
            yield session_id, text
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1][0]


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):  # pandas' Timestamp is one
        if value.tzinfo is None:
            value = value.astimezone()  # as the person's clock shows it
        return float(value.timestamp())
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return float(value)
    raise InvalidValueError(
        f"{name} is {value!r:.60}; give a datetime, or seconds since 1970 (time.time()).",
        value=str(value)[:60],
    )
