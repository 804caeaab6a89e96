"""The lasting way from a model to its worker, which may die and be started again.

Promises: `client` returns a connection that works and a model that is loaded, starting the worker
again if it has gone; however many threads ask at once, one does it and all see the progress. A
request that was lost is not repeated; that is for whoever sent it. Leaves to others: how a worker
is found (`attach`), what is sent (`core.model`).
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from gguf_widgets.core.errors import LoadCancelledError, ModelUnloadedError
from gguf_widgets.core.types import LoadSettings, ModelInfo
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.attach import find_or_start
from gguf_widgets.core.worker.client import Progress, WorkerClient
from gguf_widgets.core.worker.registry import Entry
from gguf_widgets.core.worker.spec import WorkerSpec

__all__ = ["WorkerLink"]

# What a worker that is on its way out is given to be gone.
_OLD_WORKER_S = 6.0

_UNLOADED_MEANWHILE = "The model was unloaded while it was being loaded."


class WorkerLink:
    """One model with its settings, and the connection to whichever worker holds it.

    In a forked child the model can be used, too: it joins the worker as a client of its own.

    Parameters
    ----------
    path : str
    backend : str
    requested : LoadSettings
        Without a chat template.
    prepare : callable
        See `attach.find_or_start`; another one may take its place.
    keep_alive_s : float
    """

    _all: weakref.WeakSet[WorkerLink] = weakref.WeakSet()

    def __init__(
        self,
        path: str,
        backend: str,
        requested: LoadSettings,
        prepare: Callable[[], WorkerSpec],
        *,
        keep_alive_s: float,
    ) -> None:
        self.path = path
        self.backend = backend
        self.requested = requested
        self.prepare = prepare
        self._keep_alive_s = keep_alive_s
        self._client: WorkerClient | None = None
        self._last_ready: protocol.Ready | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._connecting = False
        self._progress: tuple[float, str] | None = None
        WorkerLink._all.add(self)

    @property
    def closed(self) -> bool:
        """Whether the model was unloaded."""
        return self._closed

    @property
    def pid(self) -> int | None:
        """The worker's process, or None while there is none."""
        client = self._client
        return client.pid if client is not None and client.alive else None

    @property
    def entry(self) -> Entry | None:
        """The registry's entry of the worker, or None while there is none."""
        client = self._client
        return client.entry if client is not None and client.alive else None

    @property
    def ready(self) -> protocol.Ready:
        """What the worker said of the model when it was last loaded."""
        if self._last_ready is None:
            raise ModelUnloadedError("The model has never been loaded.")
        return self._last_ready

    @property
    def info(self) -> ModelInfo:
        """What the worker knows of the model."""
        return self.ready.info

    def client(self, on_progress: Progress | None = None) -> WorkerClient:
        """Return a working connection to a worker that has the model loaded.

        Raises
        ------
        ModelUnloadedError
            After `close`.
        LoadCancelledError
            If `on_progress` answered False.
        GgufWidgetsError
            Whatever keeps the model from being loaded.
        """
        while True:
            mine = False
            try:
                with self._changed:
                    if self._closed:
                        raise ModelUnloadedError(
                            "This model has been unloaded. Load it again with "
                            "gguf_widgets.load(...)."
                        )
                    client = self._client
                    if client is not None and client.alive:
                        return client
                    if not self._connecting:
                        self._connecting = mine = True
                if mine:
                    return self._connect(on_progress)
            finally:
                # Also if an interrupt came just now, or the others would wait for ever.
                if mine:
                    with self._changed:
                        self._connecting = False
                        self._progress = None
                        self._changed.notify_all()
            self._follow(on_progress)

    def close(self, *, stop_worker: bool = True) -> bool:
        """Give the connection up for good.

        Parameters
        ----------
        stop_worker : bool, default True
            Let the worker end at once if nobody else uses it; otherwise it stays for `keep_alive`.

        Returns
        -------
        bool
            Whether the worker is known to have ended.
        """
        with self._changed:
            self._closed = True
            client, self._client = self._client, None
            self._changed.notify_all()
        if client is None:
            return True
        if stop_worker:
            return client.leave()
        client.close()
        return False

    # --- inside ---

    def _connect(self, on_progress: Progress | None) -> WorkerClient:
        def progress(fraction: float, phrase: str) -> bool | None:
            with self._changed:
                self._progress = (fraction, phrase)
                self._changed.notify_all()
                if self._closed:
                    return False
            return None if on_progress is None else on_progress(fraction, phrase) is not False

        if progress(0.0, "Looking for the model") is False and not self._closed:
            raise LoadCancelledError("The loading was stopped.", cancelled=True)
        before = self._client
        if before is not None:
            # Two copies of the weights may not fit, and the new one would be refused for it.
            before.wait_gone(_OLD_WORKER_S)
        client = find_or_start(
            self.path,
            self.backend,
            self.requested,
            self.prepare,
            keep_alive_s=self._keep_alive_s,
        )
        try:
            ready = client.wait_ready(progress)
        except LoadCancelledError as error:
            if self._closed:
                raise ModelUnloadedError(_UNLOADED_MEANWHILE) from error
            raise
        with self._changed:
            if not self._closed:
                self._client, self._last_ready = client, ready
                return client
        client.leave()
        raise ModelUnloadedError(_UNLOADED_MEANWHILE)

    def _follow(self, on_progress: Progress | None) -> None:
        """Wait for the thread that is connecting, showing its progress."""
        shown = None
        while True:
            with self._changed:
                if self._connecting and self._progress is shown:
                    self._changed.wait(0.5)
                if not self._connecting:
                    return
                progress = self._progress
            if progress is not None and progress is not shown:
                if on_progress is not None and on_progress(*progress) is False:
                    raise LoadCancelledError("You stopped waiting for this model.", cancelled=True)
                shown = progress


def _begin_anew_in_child() -> None:
    """In a forked child: the parent's connection, and its threads that held the lock, are gone."""
    for link in list(WorkerLink._all):  # noqa: SLF001 - this module's own class
        link._changed = threading.Condition()  # noqa: SLF001
        link._client = None  # noqa: SLF001
        link._connecting = False  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_in_child)
