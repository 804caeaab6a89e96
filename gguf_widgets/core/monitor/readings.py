"""What a monitor has recorded, as values and as tables.

Promises: what was recorded is read once, whether it is in the store already or waits in memory;
"this session" is meant unless another one, or all, are asked for. Leaves to others: recording
(`recorder`), the tables' columns (`tables`).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor import history, tables
from gguf_widgets.core.monitor.history import ALL, Kept, Span
from gguf_widgets.core.monitor.keeping import Keeping
from gguf_widgets.core.monitor.running import run_metrics
from gguf_widgets.core.monitor.thinning import thinned
from gguf_widgets.core.monitor.values import Points, RequestMetrics, RunMetrics, Session
from gguf_widgets.core.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Readings", "Time"]

Time = float | datetime | None
"""Seconds since 1970 (`time.time`), or a datetime; one without a time zone is the local time."""

_MOST_POINTS: Final = 1_000_000


class Readings:
    """What can be read of a `PerformanceMonitor`."""

    session_id: str
    _num_unreadable: int
    _keeping: Keeping
    _runs_store: Store

    # -- as values --------------------------------------------------------------------------------

    def request_metrics(
        self,
        since: Time = None,
        until: Time = None,
        *,
        session: str | None = None,
        model: str | None = None,
    ) -> list[RequestMetrics]:
        """Return what requests took, in the order they ended; see `requests`."""
        kept = self._requests(self._span(session, since, until), model)
        return [one.value for one in kept]

    def points(
        self,
        since: Time = None,
        until: Time = None,
        *,
        session: str | None = None,
        max_points: int = 2000,
    ) -> Points:
        """Return what the machine and the models did, for a chart.

        Parameters
        ----------
        since, until : float or datetime, optional
            The stretch of time; default: all there is.
        session : str, optional
            The id of a session of `sessions`, or "all"; default: this one's.
        max_points : int, default 2000
            If there are more, neighbours are put together, and `.note` says so.

        Returns
        -------
        Points
            A list of `Point`.
        """
        if not isinstance(max_points, int) or not 1 <= max_points <= _MOST_POINTS:
            raise InvalidValueError(
                f"max_points is {max_points!r}; it must be from 1 to {_MOST_POINTS:,}.",
                value=max_points,
                limit=_MOST_POINTS,
            )
        kept = self._points(self._span(session, since, until))
        return thinned([one.value for one in kept], max_points)

    def session_list(self) -> list[Session]:
        """Return all sessions in the store, of any program, the oldest first."""
        keeping = self._keeping
        with keeping.still():
            return history.read_sessions(keeping.store)

    def run_metrics(
        self, since: Time = None, until: Time = None, *, model: str | None = None
    ) -> list[RunMetrics]:
        """Return what came of batch runs; see `runs`."""
        span = Span.of(ALL, since, until)
        return run_metrics(self._runs_store, since=span.since, until=span.until, model=model)

    # -- as tables --------------------------------------------------------------------------------

    def requests(
        self,
        since: Time = None,
        until: Time = None,
        *,
        session: str | None = None,
        model: str | None = None,
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each request; its columns are `RequestMetrics`'.

        Parameters
        ----------
        since, until : float or datetime, optional
            Only what ended in this stretch of time.
        session : str, optional
            The id of a session of `sessions`, or "all"; default: this one's.
        model : str, optional
            Only what this model was asked.

        Raises
        ------
        StoreError
            The store cannot be read.
        """
        return tables.requests_frame(self._requests(self._span(session, since, until), model))

    def system(
        self, since: Time = None, until: Time = None, *, session: str | None = None
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each point; its columns are `Point`'s.

        Cards are in it all together (``gpu_...``: added up, their use is a mean); `processes`,
        `engines` and `gpus` have a row for each one. Parameters as for `requests`.
        """
        return tables.points_frame(self._points(self._span(session, since, until)))

    def processes(
        self, since: Time = None, until: Time = None, *, session: str | None = None
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each point and process; see `ProcessSample`."""
        kept = self._points(self._span(session, since, until))
        return tables.parts_frame(kept, "processes")

    def engines(
        self, since: Time = None, until: Time = None, *, session: str | None = None
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each point and model; see `EngineSample`."""
        return tables.parts_frame(self._points(self._span(session, since, until)), "engines")

    def gpus(
        self, since: Time = None, until: Time = None, *, session: str | None = None
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each point and NVIDIA card; see `GpuSample`.

        Where it is empty, ``missing()["gpus"]`` says why.
        """
        return tables.parts_frame(self._points(self._span(session, since, until)), "gpus")

    def runs(
        self, since: Time = None, until: Time = None, *, model: str | None = None
    ) -> pd.DataFrame:
        """Return a DataFrame with a row for each batch run; its columns are `RunMetrics`'.

        Runs of any process are in it, also those that were carried out while nobody watched.

        Parameters
        ----------
        since, until : float or datetime, optional
            Only runs that something was done for in this stretch of time.
        model : str, optional
            Only runs that ask this model.
        """
        return tables.frame_of(RunMetrics, self.run_metrics(since, until, model=model))

    def sessions(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each session; its columns are `Session`'s."""
        return tables.frame_of(Session, self.session_list())

    # -- inside ---

    def _span(self, session: str | None, since: Time, until: Time) -> Span:
        if session is not None and (not isinstance(session, str) or not session):
            raise InvalidValueError(
                f'session is {session!r:.60}; give an id of sessions(), or "all".',
                value=str(session)[:60],
            )
        return Span.of(session or self.session_id, since, until)

    def _requests(self, span: Span, model: str | None) -> list[Kept]:
        keeping = self._keeping
        with keeping.still():
            found, unreadable = history.read_requests(keeping.store, span, model)
            waiting = [one for one in list(keeping.waiting_requests) if model in (None, one.model)]
        self._num_unreadable = max(self._num_unreadable, unreadable)
        return found + self._waiting(waiting, "ended_at", span)

    def _points(self, span: Span) -> list[Kept]:
        keeping = self._keeping
        with keeping.still():
            found, unreadable = history.read_points(keeping.store, span)
            waiting = list(keeping.waiting_points)
        self._num_unreadable = max(self._num_unreadable, unreadable)
        return found + self._waiting(waiting, "at", span)

    def _waiting(self, values: list[Any], time_name: str, span: Span) -> list[Kept]:
        """Return what could not be kept yet and is asked for."""
        if span.session not in (self.session_id, ALL):
            return []
        low = -math.inf if span.since is None else span.since
        high = math.inf if span.until is None else span.until
        return [
            Kept(self.session_id, one) for one in values if low <= getattr(one, time_name) <= high
        ]
