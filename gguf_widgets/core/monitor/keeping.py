"""Keeping figures in the store, whatever is wrong with it.

Promises: what is added is in the file after the next `flush` that succeeds, in order, once; a store
that is busy, full, read-only or away is tried again later and later, and what waits is kept in
memory, up to `MOST_WAITING` of each kind; beyond that the oldest go, and the note says how many. A
store that cannot be used any more (damaged, replaced by a newer program's) is left alone, and the
figures go on in memory. Nobody is held up for more than `WAIT_S`. Old figures are deleted: after
`KEPT_DAYS` days, and above `MOST_REQUESTS` and `MOST_POINTS` the oldest first. Leaves to others:
reading (`history`), what the figures are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.monitor.values import Point, RequestMetrics
from gguf_widgets.core.store.json_values import to_json
from gguf_widgets.core.store.store import Store

__all__ = ["KEPT_DAYS", "MOST_POINTS", "MOST_REQUESTS", "MOST_WAITING", "Keeping"]

KEPT_DAYS: Final = 30
MOST_REQUESTS: Final = 100_000
MOST_POINTS: Final = 100_000
MOST_WAITING: Final = 10_000
WAIT_S: Final = 0.2

# Nothing of these passes by waiting.
_FOR_GOOD: Final = ("damaged", "newer", "foreign", "closed", "other")
_SHORTEST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
# A store that is busy for a moment is nobody's concern.
_WORTH_A_WORD: Final = 3
_CLEAN_EVERY_S: Final = 3600.0
_CLEAN_AT_ONCE: Final = 2_000

_log = logging.getLogger(__name__)


class Keeping:
    """Keeps the figures of one session.

    Parameters
    ----------
    store : Store
    session_id, program : str
    started_at : float
        Seconds since 1970, UTC.
    data : dict
        What is known of the session, as JSON's own types.
    clock : callable
        Seconds that pass steadily.

    Attributes
    ----------
    store : Store
        Where figures go now: another one than at first if that could not be used any more.
    lock : RLock
        Held while figures are moved to the store: who holds it sees each figure once, in the store
        or in `waiting_requests` and `waiting_points`.
    note : str
        What a person should know: sentences; "" while all is well.
    """

    def __init__(
        self,
        store: Store,
        *,
        session_id: str,
        program: str,
        started_at: float,
        data: dict[str, Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.store = store
        self.lock = threading.RLock()
        self.waiting_requests: deque[RequestMetrics] = deque()
        self.waiting_points: deque[Point] = deque()
        self.note = ""
        self._session = (session_id, started_at, program, to_json(data))
        self._clock = clock
        self._ended_at: float | None = None
        self._not_before = self._clean_not_before = float("-inf")
        self._pause_s = _SHORTEST_PAUSE_S
        self._num_failed = self._num_dropped = 0
        self._is_there = False

    def add_request(self, metrics: RequestMetrics) -> None:
        """Add what a request took; any thread may call this, and it returns at once."""
        self.waiting_requests.append(metrics)

    def add_point(self, point: Point) -> None:
        """Add a point."""
        self.waiting_points.append(point)

    def flush(self, *, now: bool = False) -> bool:
        """Move what waits to the store; return whether nothing waits any more.

        Parameters
        ----------
        now : bool, default False
            Try also if a failure was a moment ago: somebody wants to see the figures.
        """
        if not self.lock.acquire(blocking=now):
            return False  # somebody reads; a moment later is as good
        try:
            if not now and self._clock() < self._not_before:
                self._drop()
                return False
            try:
                self._write()
            except StoreError as error:
                self._fail(error)
                self._drop()
                return False
            if self._num_failed:
                self._recovered()
            return True
        finally:
            self.lock.release()

    def end(self, ended_at: float) -> None:
        """Keep what waits, and when the session ended."""
        with self.lock:
            self._ended_at = ended_at
            self.flush(now=True)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Move what waits to the store, and have nothing move inside the block."""
        with self.lock:
            self.flush(now=True)
            yield

    def clean(self, now: float) -> None:
        """Delete what is too old or too much, a part at a time; now and then.

        Parameters
        ----------
        now : float
            Seconds since 1970, UTC.
        """
        clock = self._clock()
        if clock < self._clean_not_before:
            return
        if not self.lock.acquire(blocking=False):
            return
        try:
            more = self._clean(now)
        except StoreError as error:
            _log.info("Old figures stay for now: %s", error.message)
            more = False
        finally:
            self.lock.release()
        self._clean_not_before = clock + (0.0 if more else _CLEAN_EVERY_S)

    def forget_in_child(self) -> None:
        """In a forked child: what waits is the parent's, which keeps it."""
        self.lock = threading.RLock()
        self.waiting_requests, self.waiting_points = deque(), deque()

    # -- inside, with the lock held ---------------------------------------------------------------

    def _write(self) -> None:
        requests, points = list(self.waiting_requests), list(self.waiting_points)
        if self._is_there and not requests and not points and self._ended_at is None:
            return
        session_id = self._session[0]
        with self.store.transaction(wait_s=WAIT_S) as connection:
            # Each time: the file may have been replaced by a new one.
            connection.execute(
                "INSERT OR IGNORE INTO monitor_session (id, started_at, program, data) "
                "VALUES (?, ?, ?, ?)",
                self._session,
            )
            connection.executemany(
                "INSERT INTO request_metric (session_id, ended_at, model, run_id, finish_reason, "
                "data) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (session_id, one.ended_at, one.model, one.run_id, one.finish_reason, _json(one))
                    for one in requests
                ],
            )
            connection.executemany(
                "INSERT INTO machine_sample (session_id, at, data) VALUES (?, ?, ?)",
                [(session_id, one.at, _json(one)) for one in points],
            )
            if self._ended_at is not None:
                connection.execute(
                    "UPDATE monitor_session SET ended_at = ? WHERE id = ?",
                    (self._ended_at, session_id),
                )
        self._is_there = True
        # Others may have been added behind them meanwhile.
        for _ in requests:
            self.waiting_requests.popleft()
        for _ in points:
            self.waiting_points.popleft()

    def _fail(self, error: StoreError) -> None:
        self._num_failed += 1
        reason = str(error.details.get("reason", "other"))
        if reason in _FOR_GOOD:
            self.note = (
                f"Speeds and figures are kept in memory only, until this session ends: "
                f"{error.message}"
            )
            _log.warning("%s", self.note)
            self.store, self._num_failed = Store.in_memory(), 0
            self._write()
            return
        self._not_before = self._clock() + self._pause_s
        self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
        if self._num_failed >= _WORTH_A_WORD or reason != "locked":
            self.note = (
                "Speeds and figures wait in memory until they can be kept: "
                f"{error.message}{self._dropped()}"
            )
            if self._num_failed == _WORTH_A_WORD:
                _log.warning("%s", self.note)

    def _recovered(self) -> None:
        self._num_failed, self._pause_s = 0, _SHORTEST_PAUSE_S
        self._not_before = float("-inf")
        self.note = self._dropped().strip()

    def _drop(self) -> None:
        for waiting in (self.waiting_requests, self.waiting_points):
            while len(waiting) > MOST_WAITING:
                waiting.popleft()
                self._num_dropped += 1

    def _dropped(self) -> str:
        if not self._num_dropped:
            return ""
        return (
            f" The oldest {self._num_dropped:,} figures of this session were dropped, because the "
            f"store could not be written to and at most {MOST_WAITING:,} of a kind wait."
        )

    def _clean(self, now: float) -> bool:
        """Delete a part; return whether there is more."""
        num_gone = 0
        with self.store.transaction(wait_s=WAIT_S) as connection:
            oldest = self._newest_before(connection, now) - KEPT_DAYS * 24 * 3600
            for table, time_name, most in (
                ("request_metric", "ended_at", MOST_REQUESTS),
                ("machine_sample", "at", MOST_POINTS),
            ):
                num_gone += connection.execute(
                    f"DELETE FROM {table} WHERE num IN (SELECT num FROM {table} "  # noqa: S608
                    f"WHERE {time_name} < ? ORDER BY {time_name} LIMIT ?)",
                    (oldest, _CLEAN_AT_ONCE),
                ).rowcount
                num_gone += connection.execute(
                    f"DELETE FROM {table} WHERE num IN (SELECT num FROM {table} "  # noqa: S608
                    "WHERE num <= (SELECT max(num) FROM "
                    f"{table}) - ? ORDER BY num LIMIT ?)",
                    (most, _CLEAN_AT_ONCE),
                ).rowcount
            connection.execute(
                "DELETE FROM monitor_session WHERE id IN (SELECT id FROM monitor_session "
                "WHERE started_at < ? AND id != ? "
                "AND NOT EXISTS (SELECT 1 FROM request_metric WHERE session_id = id) "
                "AND NOT EXISTS (SELECT 1 FROM machine_sample WHERE session_id = id) LIMIT ?)",
                (oldest, self._session[0], _CLEAN_AT_ONCE),
            )
        return num_gone > 0

    def _newest_before(self, connection: Any, now: float) -> float:
        """Return when the last figure of another session was noted, if that was in the past.

        A clock that was set to some day far ahead must not have everything deleted.
        """
        newest = [
            found[0]
            for table, time_name in (("request_metric", "ended_at"), ("machine_sample", "at"))
            if (
                found := connection.execute(
                    f"SELECT {time_name} FROM {table} WHERE session_id != ? "  # noqa: S608
                    f"ORDER BY {time_name} DESC LIMIT 1",
                    (self._session[0],),
                ).fetchone()
            )
        ]
        return float(min(now, max(newest))) if newest else now


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
