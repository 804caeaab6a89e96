"""The thread behind a monitor: it hears requests, makes points, keeps both and tells who listens.

Promises: one thread, which ends when it is told to; whoever made a request waits for none of this;
a listener that fails is written to the log and hears the next one; while nothing happens, one point
in ten seconds is kept and the others are only told. It knows nothing of the public object, so that
one which is forgotten ends its recorder. Leaves to others: each of these things.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from gguf_widgets.core import request_events
from gguf_widgets.core.monitor.exposition import Totals
from gguf_widgets.core.monitor.keeping import Keeping
from gguf_widgets.core.monitor.request_book import RequestBook
from gguf_widgets.core.monitor.sampler import Sampler
from gguf_widgets.core.monitor.timeline import Timeline
from gguf_widgets.core.monitor.values import Point, RequestMetrics

__all__ = ["Heard", "Listener", "Recorder"]

Heard = Point | RequestMetrics
Listener = Callable[[Heard], None]

_log = logging.getLogger(__name__)

_SOONEST_S: Final = 0.1  # between two times that listeners are told of requests
_FLUSH_EVERY_S: Final = 2.0
_IDLE_EVERY_S: Final = 10.0
_BUSY_PERCENT: Final = 20.0  # of one core, by our processes
_END_S: Final = 5.0
_MOST_UNTOLD: Final = 10_000


class Recorder:
    """Records one session.

    Parameters
    ----------
    keeping : Keeping
    timeline : Timeline
    sampler : Sampler or None
        None: the machine is not looked at.
    interval_s : float

    Attributes
    ----------
    book : RequestBook
    totals : Totals
    last : Point or None
        The latest point.
    closed : bool
    """

    def __init__(
        self,
        keeping: Keeping,
        timeline: Timeline,
        sampler: Sampler | None,
        interval_s: float,
    ) -> None:
        self.keeping, self.timeline = keeping, timeline
        self.book = RequestBook(timeline)
        self.totals = Totals()
        self.last: Point | None = None
        self.closed = False
        self._sampler = sampler
        self._interval_s = interval_s
        self._listeners: tuple[Listener, ...] = ()
        self._lock = threading.Lock()  # of `_listeners`
        self._untold: deque[RequestMetrics] = deque(maxlen=_MOST_UNTOLD)
        # Not an Event: the garbage collector may end a recorder in the middle of any other step,
        # and SimpleQueue.put may be interrupted by itself.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._kept_at = float("-inf")
        self._flushed_at = float("-inf")
        self._began = timeline.clock()
        self._cost_s = 0.0
        self._thread = threading.Thread(target=self._run, name="gguf-widgets-monitor", daemon=True)
        self._unsubscribe = request_events.subscribe(self._hear)
        self._thread.start()

    # -- any thread -------------------------------------------------------------------------------

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have a listener called, on this thread, with what comes; call the answer to end that.

        One that takes long misses the oldest of more than 10,000 requests.
        """

        def call(heard: Heard) -> None:
            listener(heard)

        with self._lock:
            self._listeners = (*self._listeners, call)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(known for known in self._listeners if known is not call)

        return unsubscribe

    def missing(self) -> dict[str, str]:
        """Return which figures are not known, and why."""
        return {} if self._sampler is None else self._sampler.missing()

    @property
    def cost_percent(self) -> float:
        """What the thread has cost so far, in percent of one processor core."""
        passed = self.timeline.clock() - self._began
        return 100.0 * self._cost_s / passed if passed > 0 else 0.0

    def forget(self) -> None:
        """End the session soon; safe in a finalizer."""
        self.closed = True
        self._wake.put(None)

    def close(self) -> None:
        """End the session; any thread may call this, at any moment, and more than once."""
        self.forget()
        if self._thread is not threading.current_thread():
            self._thread.join(_END_S)

    def forget_in_child(self) -> None:
        """In a forked child: the thread is the parent's, and may have held any lock."""
        self.closed = True
        self._lock = threading.Lock()
        self.keeping.forget_in_child()
        self.book.forget_in_child()

    # -- a connection's thread --------------------------------------------------------------------

    def _hear(self, event: request_events.Event) -> None:
        if self.closed:
            return
        metrics = self.book.hear(event)
        if metrics is None:
            return
        self.keeping.add_request(metrics)
        self.totals.add(metrics)
        self._untold.append(metrics)
        self._wake.put(None)

    # -- the monitor's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._record()
        finally:
            self._end()

    def _record(self) -> None:
        clock = self.timeline.clock
        next_point = clock()
        while not self.closed:
            now = clock()
            if self._sampler is not None and now >= next_point:
                self._point(self._sampler, now)
                # One that is late (a machine that slept, a busy one) is not made up for.
                next_point = max(next_point + self._interval_s, now + self._interval_s / 2)
            self._tell_requests()
            self._keep(clock())
            self._cost_s = time.thread_time()
            wait_s = _FLUSH_EVERY_S if self._sampler is None else next_point - clock()
            if self._is_woken(max(0.0, wait_s)) and not self.closed:
                # Many requests may end in a moment: they are told of together.
                time.sleep(min(_SOONEST_S, max(0.0, wait_s)))

    def _is_woken(self, wait_s: float) -> bool:
        try:
            self._wake.get(timeout=wait_s)
        except queue.Empty:
            return False
        while not self._wake.empty():
            self._wake.get_nowait()  # nobody else takes any
        return True

    def _point(self, sampler: Sampler, clock: float) -> None:
        try:
            point = sampler.point(self.timeline.now(), clock)
        except Exception:  # noqa: BLE001 - a fault of ours: the requests are still recorded
            _log.exception("The monitor could not make a point")
            return
        self.last = point
        if self._is_worth_keeping(point, clock):
            self._kept_at = clock
            self.keeping.add_point(point)
        self._tell(point)

    def _is_worth_keeping(self, point: Point, clock: float) -> bool:
        return bool(
            clock - self._kept_at >= _IDLE_EVERY_S
            or self.book.num_live
            or point.num_running
            or point.num_waiting
            or point.rows_per_min
            or (point.decode_tok_per_s or 0) > 0
            or (point.prefill_tok_per_s or 0) > 0
            or (point.cpu_percent or 0) > _BUSY_PERCENT
        )

    def _tell_requests(self) -> None:
        for _ in range(len(self._untold)):
            self._tell(self._untold.popleft())

    def _tell(self, heard: Heard) -> None:
        for listener in self._listeners:
            try:
                listener(heard)
            except Exception:  # noqa: BLE001 - whatever it is, the others are told
                _log.exception("Somebody who listens to the monitor failed, and hears the next one")

    def _keep(self, clock: float) -> None:
        if clock - self._flushed_at >= _FLUSH_EVERY_S:
            self._flushed_at = clock
            self.keeping.flush()
            self.keeping.clean(self.timeline.now())

    def _end(self) -> None:
        self._unsubscribe()
        if self._sampler is not None:
            self._sampler.close()
        self._tell_requests()
        self.keeping.end(self.timeline.now())
