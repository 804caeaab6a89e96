"""Requests beside the generation whose computing can be broken off; a part of their queues.

Promises: a request that is taken back is answered once, with `RequestCancelledError`; `interrupt`,
from any thread, breaks off what is computed now, or else the next thing, and nothing after that;
what was broken off `PATIENCE` times is not broken off again. Leaves to others: the requests and
their turns (`embedding`, `scoring`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from gguf_widgets.core.engine.backend import DecodeStatus
from gguf_widgets.core.errors import RequestCancelledError

__all__ = ["PATIENCE", "InterruptibleQueue"]

PATIENCE = 3
"""It would never come to its end where others are taken back all the time."""


class _Native(Protocol):
    def interrupt(self) -> None: ...

    def clear_interrupt(self) -> None: ...


class _Job(Protocol):
    @property
    def request(self) -> Any: ...


_JobT = TypeVar("_JobT", bound=_Job)


class InterruptibleQueue(Generic[_JobT]):
    """The open requests of one kind.

    Parameters
    ----------
    native : object or None
        What computes them; it is told to break off, and that this is over.
    """

    def __init__(self, native: _Native | None) -> None:
        self._native = native
        self._jobs: dict[str, _JobT] = {}
        self._interrupt_lock = threading.Lock()
        self._interrupt_wanted = self._computing = False

    @property
    def num_open(self) -> int:
        """How many requests are open, resting ones included."""
        return len(self._jobs)

    def abort(self, request_id: str) -> bool:
        """Answer a request with `RequestCancelledError`; False if there is no such request."""
        with self._interrupt_lock:
            self._interrupt_wanted = False
        job = self._jobs.get(request_id)
        if job is not None:
            self._end(job, RequestCancelledError("The request was taken back."))
        return job is not None

    def abort_client(self, client_id: str) -> int:
        """Abort all requests of a client; return how many."""
        ids = [id_ for id_, job in self._jobs.items() if job.request.client_id == client_id]
        return sum(map(self.abort, ids))

    def interrupt(self) -> None:
        """Make the `step` that runs now, or else the next one, return soon; any thread may.

        As with `Engine.interrupt`, calling it in vain costs one batch, or what a text or a window
        had so far if the model's memory cannot be cut.
        """
        with self._interrupt_lock:
            self._interrupt_wanted = True
            if self._computing and self._native is not None:
                self._native.interrupt()

    def _computed(
        self, native: _Native, compute: Callable[[], int], *, can_interrupt: bool
    ) -> DecodeStatus:
        """Have something computed that `interrupt` breaks off, if it may; return how it ended."""
        with self._interrupt_lock:
            if self._interrupt_wanted and can_interrupt:
                native.interrupt()
            self._computing = can_interrupt
        try:
            return DecodeStatus.from_code(compute())
        finally:
            with self._interrupt_lock:
                self._computing = self._interrupt_wanted = False
                native.clear_interrupt()

    def _end(self, job: _JobT, answer: Any) -> None:
        """Close a request with its answer or a `GgufWidgetsError`."""
        raise NotImplementedError
