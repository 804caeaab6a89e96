"""`LiveCharts`: what the models and this machine do, drawn while they do it.

Promises: nothing is sent, and the monitor is not listened to, unless a page is looking; of figures
that come only the new ones travel, at most ten messages a second, each with a number, so that a
page that missed one notices and asks again; none of them is kept here, however long a page stays
open; callbacks only enqueue. Leaves to others: measuring and keeping (`core.monitor`), what is
drawn (`_live_series`), what a page asks for (`_live_data`, `_live_files`), the look (static/).

The page's messages, each with a ``mid``: ``ping``, ``watch`` and ``unwatch`` {page}, ``series``
{session, last_s, since, until}, ``sessions``, ``stop`` {request_id}, ``file`` {what, ...},
``piece`` {key, offset}, ``plotly`` {offset}. Python's: ``tick`` {seq, points, requests, ...},
``pong`` {seq}, ``answer`` to a ``mid``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import anywidget
import traitlets

from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError, to_wire
from gguf_widgets.core.monitor.monitor import PerformanceMonitor
from gguf_widgets.core.monitor.values import Point, RequestMetrics
from gguf_widgets.widgets._actor import Actor
from gguf_widgets.widgets._comm import answer_where_asked, new_identity
from gguf_widgets.widgets._esm import css, esm
from gguf_widgets.widgets._live_data import (
    live_views,
    read_series,
    round_row,
    session_views,
)
from gguf_widgets.widgets._live_files import FigureFile
from gguf_widgets.widgets._live_series import MAX_CARDS, num_processors, request_row, row
from gguf_widgets.widgets._plotly import plotly_piece
from gguf_widgets.widgets._words import as_known

__all__ = ["LiveCharts"]

_STATIC = Path(__file__).parent / "static"

_EVERY_S: Final = 0.1  # ten messages a second; thousands would be dropped without a word
_LOOK_S: Final = 0.5  # at the requests under way
_NOTES_S: Final = 5.0  # at what a person should be told
_SILENT_S: Final = 15.0  # a page that is seen says something every three seconds
_MOST_WAITING: Final = 600  # of points for one message: what a page missed in a minute, it asks for
_MOST_REQUESTS: Final = 100
_MOST_PAGES: Final = 50

Content = dict[str, Any]


class LiveCharts(anywidget.AnyWidget):
    """Charts of speed, waiting, memory and processor, as they happen and of earlier sessions.

    Parameters
    ----------
    monitor : PerformanceMonitor, optional
        Whose figures are drawn; default: the one that this process's widgets share, which begins
        to record now.
    height : int or str, optional
        Pixels, or a CSS length, beyond which it scrolls. Default: as high as it needs.

    Attributes
    ----------
    monitor : PerformanceMonitor
        Ends by itself, or by its own `close`, not with this widget.

    Raises
    ------
    InvalidValueError
        The monitor is none.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> gw.LiveCharts()  # doctest: +SKIP
    """

    # As text: a path would make anywidget keep every widget for good, for its live reload.
    _esm = esm(_STATIC / "live_charts.js")
    _css = css(_STATIC / "live_charts.css")
    own_id = traitlets.Unicode().tag(sync=True)  # for the page, see `hearAnyway` in _connection.js
    height = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, monitor: PerformanceMonitor | None = None, *, height: int | str | None = None
    ) -> None:
        if monitor is not None and not isinstance(monitor, PerformanceMonitor):
            raise InvalidValueError(
                f"The monitor is a {type(monitor).__name__}. Make one with "
                "gguf_widgets.PerformanceMonitor(), or leave it out."
            )
        super().__init__(
            height=f"{height}px" if isinstance(height, int) else height or "", **new_identity()
        )
        self._monitor = monitor
        name = f"LiveCharts-{self.model_id[:8]}"
        self._file = FigureFile()
        self._feed = Feed(self.send)
        self._actor = Actor(name, self._work, self._tick)
        self._heavy = Actor(f"{name}-reading", lambda do: do())
        answer_where_asked(self.comm)
        self.on_msg(self._on_page)
        # Making one takes a moment (a look at the machine, the store): not on the kernel's thread.
        self._actor.post({"kind": "begin"})

    @property
    def monitor(self) -> PerformanceMonitor:
        """The monitor whose figures are drawn."""
        if self._monitor is None:
            self._monitor = PerformanceMonitor.shared()
        return self._monitor

    def close(self) -> None:
        """End the widget; the monitor goes on."""
        # ipywidgets calls this for every widget when the interpreter ends, also a half-made one.
        if hasattr(self, "_heavy"):
            self._actor.close()
            self._feed.end()
            self._heavy.close()
            self._file.forget()
        super().close()

    # -- from the page ----------------------------------------------------------------------------

    def _on_page(self, _widget: object, content: Any, _buffers: object) -> None:
        if isinstance(content, dict):
            self._actor.post(content)

    def _work(self, item: Content | Point | RequestMetrics) -> None:
        if isinstance(item, Point | RequestMetrics):
            self._feed.add(item)
            return
        kind = str(item.get("kind"))
        if kind in self._HEAVY:
            self._heavy.post(lambda: self._answered(item, self._HEAVY[kind]))
        elif kind in self._ACTIONS:
            self._answered(item, self._ACTIONS[kind])

    def _answered(
        self,
        content: Content,
        do: Callable[[LiveCharts, Content], tuple[Content, list[bytes]] | None],
    ) -> None:
        mid = content.get("mid")
        try:
            answer = do(self, content)
        except GgufWidgetsError as error:
            self.send({"kind": "answer", "mid": mid, "error": to_wire(error)})
        except Exception as error:
            self.send({"kind": "answer", "mid": mid, "error": to_wire(as_known(error))})
            raise  # so that it is logged as well
        else:
            if answer is not None:
                told, buffers = answer
                self.send({"kind": "answer", "mid": mid, **told}, buffers)

    def _begin(self, _content: Content) -> None:
        _ = self.monitor

    def _ping(self, content: Content) -> None:
        self._feed.heard()
        self.send({"kind": "pong", "mid": content.get("mid"), "seq": self._feed.seq})

    def _watch(self, content: Content) -> None:
        # What comes while the page reads what was before is told as well, so that none is missed.
        self._feed.watch(str(content.get("page"))[:40], self.monitor, self._actor.post)

    def _unwatch(self, content: Content) -> None:
        self._feed.unwatch(str(content.get("page"))[:40])

    def _stop(self, content: Content) -> tuple[Content, list[bytes]]:
        request_id = content.get("request_id")
        if not isinstance(request_id, str):
            raise InvalidValueError(f"The request is {request_id!r:.40}; it has to be one's id.")
        return {"stopped": self.monitor.stop_request(request_id)}, []

    def _series(self, content: Content) -> tuple[Content, list[bytes]]:
        monitor = self.monitor
        told, buffers = read_series(monitor, content, monitor.interval_s)
        now = {
            "session": monitor.session_id,
            "interval_s": monitor.interval_s,
            "looks": monitor.last is not None,
            **_notes(monitor),
        }
        return {**told, **now, "live": live_views(monitor.live())}, buffers

    def _sessions(self, _content: Content) -> tuple[Content, list[bytes]]:
        return session_views(self.monitor), []

    def _make_file(self, content: Content) -> tuple[Content, list[bytes]]:
        return {"file": self._file.make(self.monitor, content)}, []

    def _piece(self, content: Content) -> tuple[Content, list[bytes]]:
        return {}, [self._file.piece(content)]

    def _plotly(self, content: Content) -> tuple[Content, list[bytes]]:
        return plotly_piece(content)

    _ACTIONS: ClassVar[dict[str, Callable[[LiveCharts, Content], Any]]] = {
        "begin": _begin,
        "ping": _ping,
        "watch": _watch,
        "unwatch": _unwatch,
        "stop": _stop,
    }
    # Those that read much, in the order they are asked; the others are answered meanwhile.
    _HEAVY: ClassVar[dict[str, Callable[[LiveCharts, Content], Any]]] = {
        "series": _series,
        "sessions": _sessions,
        "file": _make_file,
        "piece": _piece,
        "plotly": _plotly,
    }

    # -- to the page ------------------------------------------------------------------------------

    def _tick(self) -> float | None:
        return self._feed.tick()


@dataclasses.dataclass
class _Coming:
    """What has come and is not sent yet."""

    points: list[Point] = dataclasses.field(default_factory=list)
    requests: list[RequestMetrics] = dataclasses.field(default_factory=list)
    num_missed: int = 0  # of requests


class Feed:
    """Tells the pages that look what has come since the last time; on one thread.

    Parameters
    ----------
    send : callable
        Takes a message.
    clock : callable
        Seconds; `time.monotonic`, or a test's.
    """

    def __init__(
        self, send: Callable[[Content], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send, self._clock = send, clock
        self.seq = 0
        self._pages: dict[str, None] = {}
        self._heard_at = float("-inf")
        self._monitor: PerformanceMonitor | None = None
        self._end_listening: Callable[[], None] = lambda: None
        self._coming = _Coming()
        self._cores = num_processors()
        self._sent_at = self._looked_at = self._noted_at = float("-inf")
        self._live: Content = {}
        self._notes: Content = {}

    def watch(
        self, page: str, monitor: PerformanceMonitor, post: Callable[[Point | RequestMetrics], None]
    ) -> None:
        """Note that a page looks."""
        self._pages[page] = None
        while len(self._pages) > _MOST_PAGES:
            del self._pages[next(iter(self._pages))]
        self.heard()
        self._live = self._notes = {}  # the page has none of them
        if self._monitor is None:
            self._monitor = monitor
            self._end_listening = monitor.subscribe(post)

    def unwatch(self, page: str) -> None:
        """Note that a page does not look any more."""
        self._pages.pop(page, None)
        if not self._pages:
            self.end()

    def heard(self) -> None:
        """Note that some page is there."""
        self._heard_at = self._clock()

    def end(self) -> None:
        """Listen no longer; the next page that looks begins anew."""
        self._pages.clear()
        self._end_listening()
        self._end_listening = lambda: None
        self._monitor = None
        self._coming = _Coming()

    def add(self, heard: Point | RequestMetrics) -> None:
        """Take what the monitor told."""
        coming = self._coming
        if self._monitor is None:
            return
        if isinstance(heard, Point):
            coming.points.append(heard)
            del coming.points[:-_MOST_WAITING]
        else:
            coming.requests.append(heard)
            coming.num_missed += max(0, len(coming.requests) - _MOST_REQUESTS)
            del coming.requests[:-_MOST_REQUESTS]

    def tick(self) -> float | None:
        """Send what there is, unless that was done just now; say when to be called again."""
        monitor, now = self._monitor, self._clock()
        if monitor is None:
            return None
        if now - self._heard_at > _SILENT_S:
            self.end()  # pages went without a word; one that comes back asks again
            return None
        early = self._sent_at + _EVERY_S - now
        if early > 0:
            return early
        message = {**self._new(), **self._seen(monitor, now)}
        if message:
            self._sent_at = now
            self.seq += 1
            self._send({"kind": "tick", "seq": self.seq, **message})
        return _LOOK_S

    def _new(self) -> Content:
        coming, self._coming = self._coming, _Coming()
        told: Content = {}
        if coming.points:
            # As many cards as the page has room for are read from each row's length.
            told["points"] = [
                [
                    round(point.at, 3),
                    *round_row(row(point, min(len(point.gpus), MAX_CARDS), self._cores)),
                ]
                for point in coming.points
            ]
        if coming.requests:
            told["requests"] = [request_row(one) for one in coming.requests]
        if coming.num_missed:
            told["missed"] = coming.num_missed
        return told

    def _seen(self, monitor: PerformanceMonitor, now: float) -> Content:
        told: Content = {}
        if now - self._looked_at >= _LOOK_S * 0.9:
            self._looked_at = now
            live = live_views(monitor.live())
            if live != self._live:
                self._live = told["live"] = live
        if now - self._noted_at >= _NOTES_S or not self._notes:
            self._noted_at = now
            notes = _notes(monitor)
            if notes != self._notes:
                self._notes = notes
                told |= notes
        return told


def _notes(monitor: PerformanceMonitor) -> Content:
    return {
        "notices": monitor.notices,
        "missing": monitor.missing(),
        "ended": monitor.closed,
    }
