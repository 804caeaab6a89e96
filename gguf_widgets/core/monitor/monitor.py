"""PerformanceMonitor: what each request, each batch run and the machine did.

Promises: from the moment it is made it records, in the background and below 1% of a processor core;
what it records is in the store, for any program and any later day, or in memory where there is no
store that can be used, and it says so. Nothing of what is asked or answered is kept, only counts,
times and the names of models. Leaves to others: what each figure means (`definitions`), the parts
(the files beside this one), pictures (`core.figures`).

How long figures are kept: 30 days, and at most 100,000 requests and 100,000 points, the oldest go
first. While nothing happens one point in ten seconds is kept.
"""

from __future__ import annotations

import atexit
import os
import threading
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import gguf_widgets
from gguf_widgets.core import figures
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.monitor import export
from gguf_widgets.core.monitor.endpoint import Endpoint
from gguf_widgets.core.monitor.exposition import exposition
from gguf_widgets.core.monitor.keeping import Keeping
from gguf_widgets.core.monitor.readings import Readings
from gguf_widgets.core.monitor.recorder import Heard, Recorder
from gguf_widgets.core.monitor.sampler import Sampler
from gguf_widgets.core.monitor.session import facts
from gguf_widgets.core.monitor.timeline import Timeline
from gguf_widgets.core.monitor.values import LiveRequest, Point
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.core.worker.handshake import program_name

__all__ = ["PerformanceMonitor"]

_MIN_INTERVAL_S: Final = 0.1
_MAX_INTERVAL_S: Final = 3600.0


class PerformanceMonitor(Readings):
    """Records what requests, batch runs and the machine do, from now until `close`.

    It hears the requests of this process, whichever of its models they go to, and looks at all
    models of yours on this machine and at the batch runs in the store, whichever program is at
    them. It is a context manager, and one that nobody holds any more ends by itself.

    Parameters
    ----------
    store : Store, optional
        Where figures are kept, and where batch runs are looked for; default: this user's.
    interval_s : float, default 1.0
        How often the machine is looked at: 0.1 s to an hour.
    keep : bool, default True
        Keep figures in the store. Otherwise they are in memory, until this object is gone.
    system : bool, default True
        Look at the machine. Otherwise only requests are recorded.

    Raises
    ------
    InvalidValueError
        The interval is none.

    Examples
    --------
    >>> import gguf_widgets as gw
    >>> monitor = gw.PerformanceMonitor()  # doctest: +SKIP
    >>> model.chat("Hello")  # doctest: +SKIP
    >>> monitor.requests()[["model", "ttft_s", "decode_tok_per_s"]]  # doctest: +SKIP
    """

    _shared: PerformanceMonitor | None = None
    _shared_lock = threading.Lock()
    _all: weakref.WeakSet[PerformanceMonitor] = weakref.WeakSet()

    def __init__(
        self,
        *,
        store: Store | None = None,
        interval_s: float = 1.0,
        keep: bool = True,
        system: bool = True,
    ) -> None:
        self.interval_s = _checked_interval(interval_s)
        self.session_id = uuid.uuid4().hex
        self._store_notes: list[str] = []
        self._runs_store = store if store is not None else self._default_store()
        self._timeline = Timeline()
        name = program_name()
        keeping = Keeping(
            self._runs_store if keep else Store.in_memory(),
            session_id=self.session_id,
            program=name,
            started_at=self._timeline.now(),
            data=facts(self.interval_s if system else None),
        )
        sampler = Sampler(self._runs_store, name) if system else None
        self._keeping = keeping
        self._recorder = Recorder(keeping, self._timeline, sampler, self.interval_s)
        self._endpoint: Endpoint | None = None
        self._end_endpoint: Callable[[], object] = lambda: None
        self._endpoint_lock = threading.Lock()
        self._num_unreadable = 0
        # It holds none of this object, so that one which is forgotten ends.
        self._forgotten = weakref.finalize(self, self._recorder.forget)
        self._forgotten.atexit = False  # see `_end_all`
        PerformanceMonitor._all.add(self)

    @classmethod
    def shared(cls) -> PerformanceMonitor:
        """Return the one that the widgets of this process share; made when it is first needed."""
        with PerformanceMonitor._shared_lock:
            if PerformanceMonitor._shared is None or PerformanceMonitor._shared.closed:
                PerformanceMonitor._shared = PerformanceMonitor()
            return PerformanceMonitor._shared

    # -- how it is doing --------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it has ended; what it recorded can still be read."""
        return self._recorder.closed

    @property
    def notices(self) -> list[str]:
        """What a person should be told of the figures: full sentences, mostly none."""
        notes = [*self._store_notes, self._keeping.note, self._timeline.note]
        if self._num_unreadable:
            notes.append(
                f"{self._num_unreadable:,} figures in the store could not be read, because another "
                "version wrote them or they are damaged. They are left out."
            )
        return [note for note in dict.fromkeys(notes) if note]

    def missing(self) -> dict[str, str]:
        """Return the figures that are not known here, each with a sentence that says why."""
        return self._recorder.missing()

    @property
    def cost_percent(self) -> float:
        """What recording has cost so far, in percent of one processor core."""
        return self._recorder.cost_percent

    @property
    def last(self) -> Point | None:
        """The latest point; None before the first, and without `system`."""
        return self._recorder.last

    def live(self) -> list[LiveRequest]:
        """Return the requests of this process that are under way, the oldest first."""
        return self._recorder.book.live()

    def stop_request(self, request_id: str) -> bool:
        """Stop a request of `live`; whoever asked gets what was written, and "aborted".

        Returns
        -------
        bool
            False if it is not under way (any more).
        """
        return self._recorder.book.stop(request_id)

    def subscribe(self, callback: Callable[[Heard], None]) -> Callable[[], None]:
        """Have `callback` called with each `Point`, and with each request's `RequestMetrics`.

        It is called on the monitor's thread, at most some ten times a second (requests that end
        together are told of one after the other), and should return at once. One that raises is
        written to the log and called again the next time.

        Returns
        -------
        callable
            Ends it.
        """
        return self._recorder.subscribe(callback)

    def close(self) -> None:
        """End recording and serving; what was recorded can still be read. Twice is fine."""
        self.stop_serving()
        self._forgotten.detach()
        self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "ended" if self.closed else f"every {self.interval_s:g} s"
        return f"<PerformanceMonitor {self.session_id[:8]}, {state}>"

    # -- elsewhere --------------------------------------------------------------------------------

    def figure(self, kind: str, **options: Any) -> Any:
        """Draw an ordinary Plotly figure.

        Parameters
        ----------
        kind : str
            What is drawn: "speed", "latency", "memory", ...; an unknown one is answered with those
            there are.
        **options
            The figure's own.

        Raises
        ------
        InvalidValueError
            There is no such kind.
        MissingDependencyError
            Plotly is not installed.
        """
        return figures.make_figure(f"monitor.{kind}", self, **options)

    def export(self, path: str | os.PathLike[str], what: str = "requests", **filters: Any) -> Path:
        """Write a table to a file and return its path.

        Parameters
        ----------
        path : path-like
            Its ending says how: ``.csv``, ``.json`` (a list of objects) or ``.parquet``.
        what : str, default "requests"
            Which table: "requests", "system", "processes", "engines", "gpus", "runs" or "sessions".
        **filters
            As for that table.

        Raises
        ------
        InvalidValueError
            There is no such table or ending.
        MissingDependencyError
            Parquet needs pyarrow.
        TableFileError
            The file cannot be written; what was there before is untouched.
        """
        makers: dict[str, Callable[..., Any]] = {
            "requests": self.requests,
            "system": self.system,
            "processes": self.processes,
            "engines": self.engines,
            "gpus": self.gpus,
            "runs": self.runs,
            "sessions": self.sessions,
        }
        if what not in makers:
            raise InvalidValueError(
                f"what is {what!r:.40}; it can be {', '.join(makers)}.", value=str(what)[:40]
            )
        target = Path(path)
        export.checked_ending(target)
        export.write(makers[what](**filters), target)
        return target

    def serve(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Show all figures in Prometheus's text format at an address, until `stop_serving`.

        There is no password. Only programs on this machine reach it, unless `host` is another
        address of this machine ("0.0.0.0": all of them).

        Parameters
        ----------
        port : int, default 0
            0: any that is free.
        host : str, default "127.0.0.1"

        Returns
        -------
        str
            The address; of the server that runs, if one does already.

        Raises
        ------
        InvalidValueError
            The port is none, or this monitor has ended.
        ServerStartError
            The address is taken.
        """
        with self._endpoint_lock:
            if self._endpoint is None:
                if self.closed:
                    raise InvalidValueError("This monitor has ended. Make a new one.")
                # Not a method: the server must not keep a monitor alive that nobody holds.
                this = weakref.ref(self)
                self._endpoint = Endpoint(lambda: _text_of(this()), host, port)
                self._end_endpoint = weakref.finalize(self, self._endpoint.close)
            return self._endpoint.address

    def stop_serving(self) -> None:
        """End what `serve` began, if it did."""
        with self._endpoint_lock:
            self._endpoint = None
            end, self._end_endpoint = self._end_endpoint, lambda: None
        end()

    def exposition(self) -> str:
        """Return all figures in Prometheus's text format."""
        info = {"version": gguf_widgets.__version__, "session": self.session_id}
        return exposition(self._recorder.totals, self.last, info)

    # -- inside -----------------------------------------------------------------------------------

    def _default_store(self) -> Store:
        store = default_store(or_memory=True)
        if store.path is None:
            said = " ".join(notice.text for notice in store.notices())
            self._store_notes.append(
                f"Speeds and figures are kept in memory only, until this session ends: {said}"
            )
        return store


def _checked_interval(interval_s: Any) -> float:
    is_number = isinstance(interval_s, int | float) and not isinstance(interval_s, bool)
    if not is_number or not _MIN_INTERVAL_S <= interval_s <= _MAX_INTERVAL_S:
        raise InvalidValueError(
            f"interval_s is {interval_s!r}; it must be from {_MIN_INTERVAL_S:g} seconds to an hour "
            f"({_MAX_INTERVAL_S:g}).",
            value=interval_s,
        )
    return float(interval_s)


def _text_of(monitor: PerformanceMonitor | None) -> str:
    return monitor.exposition() if monitor is not None else ""


def _ended_in_child() -> None:
    """In a forked child: the threads are the parent's, and so is the session."""
    PerformanceMonitor._shared = None  # noqa: SLF001 - this module's own class
    PerformanceMonitor._shared_lock = threading.Lock()  # noqa: SLF001
    for monitor in list(PerformanceMonitor._all):  # noqa: SLF001
        monitor._forgotten.detach()  # noqa: SLF001
        monitor._recorder.forget_in_child()  # noqa: SLF001
        monitor._endpoint, monitor._end_endpoint = None, lambda: None  # noqa: SLF001


def _end_all() -> None:
    """At the end of the program: keep what waits, and say that the sessions have ended."""
    for monitor in list(PerformanceMonitor._all):  # noqa: SLF001
        monitor.close()


atexit.register(_end_all)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ended_in_child)
