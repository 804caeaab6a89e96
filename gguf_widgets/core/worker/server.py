"""The worker's side of the boundary: who is connected, what they ask, and when it all ends.

Promises: the socket is open before the model is loaded, so that everyone who waits sees the
progress; one client's fault, slowness or death changes nothing for the others; the process leaves
when nobody needs it, and every open request is answered first. Everything here runs on one asyncio
loop. Leaves to others: the engine's thread (`engine_thread`), the requests (`requests`), the bytes
(`connection`), the registry's files (`registry`).

States: loading -> ready -> ending, or loading -> failed -> ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gguf_widgets.core.errors import (
    ModelLoadError,
    ProtocolError,
    WorkerDiedError,
    WorkerError,
    to_wire,
)
from gguf_widgets.core.types import EngineStats, Failed, GenerationEvent
from gguf_widgets.core.worker import protocol, score_messages
from gguf_widgets.core.worker.connection import ClientConnection
from gguf_widgets.core.worker.engine_thread import EngineThread
from gguf_widgets.core.worker.loading import LoadedModel
from gguf_widgets.core.worker.reception import Reception, current_figures, described
from gguf_widgets.core.worker.requests import Requests

__all__ = ["Server", "ServerOptions"]

_log = logging.getLogger(__name__)

# How often a waiting client hears that the loading is still going on, and the worker looks whether
# it is still in the registry and how long its log is.
_HOUSEKEEPING_S = 2.0

# What a client that does not read is given to take its last messages, and the engine to close.
_FLUSH_S = 1.0
_CLOSE_ENGINE_S = 5.0


class _State(Enum):
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    ENDING = "leaving"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the server is told from outside.

    Attributes
    ----------
    backend : str
        Named in every Welcome.
    secret : str
        What clients must prove to know; "" for none.
    keep_alive_s : float
        How long to stay without a client; the one that leaves last may have wished otherwise.
    first_client_s : float
        How long to wait for the first client.
    still_registered : callable
        Whether the registry still lists this worker.
    on_ready : callable
        Called once with the loaded model, before the clients hear of it.
    on_leaving : callable
        Tells the registry that nobody can join any more; called when the worker begins to end.
    on_gone : callable
        Takes the worker out of the registry; called only if the process has to end by force.
    """

    backend: str
    secret: str
    keep_alive_s: float
    first_client_s: float
    still_registered: Callable[[], bool]
    on_ready: Callable[[LoadedModel], None]
    on_leaving: Callable[[], None]
    on_gone: Callable[[], None]


class Server:
    """One worker's server; `run` returns the exit status of the process.

    Parameters
    ----------
    load : callable
        Loads the model; called on the engine's thread with a function that takes the progress
        (fraction, phrase) and answers False when nobody waits any more.
    options : ServerOptions
    """

    def __init__(
        self,
        load: Callable[[Callable[[float, str], bool]], LoadedModel],
        options: ServerOptions,
    ) -> None:
        self._options = options
        self._reception = Reception(options.backend, options.secret)
        self._engine = EngineThread(lambda: load(self._progress), self)
        self._state = _State.LOADING
        self._clients: dict[str, ClientConnection] = {}
        self._requests: Requests | None = None
        self._ready: protocol.Ready | None = None
        self._failure: protocol.LoadFailed | None = None
        self._last_progress = protocol.LoadProgress(fraction=0.0, phrase="Starting")
        self._load_cancelled = False
        self._ids = itertools.count(1)
        self._had_clients = False
        self._started = time.monotonic()
        self._events: deque[list[GenerationEvent]] = deque()
        self._drain_planned = False
        self._exit_status = 0

    # --- the process's main function ---

    async def run(self, listener: socket.socket) -> int:
        """Serve until the end; return the exit status."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_loop_error)
        self._ended = asyncio.Event()
        make: Callable[..., Any] = (
            self._loop.create_unix_server
            if listener.family == getattr(socket, "AF_UNIX", None)
            else self._loop.create_server
        )
        self._listening = await make(lambda: ClientConnection(self), sock=listener)
        self._catch_signals()
        self._keep_alive_timer = self._loop.call_later(
            self._options.first_client_s, self._end_if_alone, "nobody came to use the model"
        )
        housekeeping = self._loop.create_task(self._keep_house())
        try:
            await self._ended.wait()
        finally:
            housekeeping.cancel()
        await self._close_engine()
        return self._exit_status

    # --- connection.Service ---

    def hello(self, connection: ClientConnection, message: protocol.Hello) -> None:
        """Welcome a client, or say why not."""
        error = self._reception.refusal(message)
        if error is not None:
            _log.warning("a client was refused: %s", error)
            connection.send(self._reception.refused(error))
            connection.close()
            return
        if message.peek:
            connection.receive_visitor(self._reception.welcome(message, ""))
            self._show(connection)
            return
        if self._state is _State.ENDING or self._load_cancelled:
            connection.drop()  # it will look again and find, or start, another worker
            return
        if message.keep_alive_s is not None:
            connection.keep_alive_s = max(0.0, message.keep_alive_s)
        connection.pid, connection.program = message.pid, message.program
        client_id = f"c{next(self._ids)}"
        self._clients[client_id] = connection
        self._had_clients = True
        self._keep_alive_timer.cancel()
        connection.welcome(client_id, self._reception.welcome(message, client_id))
        connection.send(self._ready or self._failure or self._last_progress)
        # Not before somebody listens, and has been answered: whatever happens in native code, also
        # in its first moment, then has a client that can say what was going on.
        self._loop.call_soon(self._begin_loading)
        if self._failure is not None:
            self._end_soon("the model could not be loaded")

    def handle(self, connection: ClientConnection, message: protocol.ClientMessage) -> None:
        """Do what a client asks."""
        match message:
            case protocol.Ping():
                connection.send(protocol.Pong(nonce=message.nonce))
            case protocol.Abort():
                if self._requests is not None:
                    self._requests.abort(connection, message.request_id)
            case score_messages.ScoreTaken():
                if self._requests is not None:
                    self._requests.score_taken(connection, message)
            case protocol.Leave():
                self._leave(connection, "the model was unloaded")
            case protocol.Stop():
                self.end(message.reason or "somebody stopped it")
            case protocol.Hello():
                raise ProtocolError("A second Hello came.")
            case _:
                self._request(connection, message)

    def gone(self, connection: ClientConnection) -> None:
        """Forget a client; when it was the last one, the time of `keep_alive` begins."""
        if self._clients.pop(connection.client_id or "", None) is None:
            return
        if self._requests is not None:
            self._requests.client_gone(connection)
        if self._clients or self._state is _State.ENDING:
            return
        if self._state is _State.LOADING:
            self._cancel_load()
            return
        wish = connection.keep_alive_s
        keep_alive_s = self._options.keep_alive_s if wish is None else wish
        self._keep_alive_timer = self._loop.call_later(
            keep_alive_s, self._end_if_alone, "nobody has used the model"
        )

    def _show(self, visitor: ClientConnection) -> None:
        """Send the visitor the figures of this moment."""
        if self._requests is None or self._state is not _State.READY:
            visitor.send(self._status(None, 0.0))
        else:
            current_figures(self._engine, lambda *figures: visitor.send(self._status(*figures)))

    def _status(self, engine: EngineStats | None, engine_age_s: float) -> protocol.Status:
        requests, timer = self._requests, self._keep_alive_timer
        loading = self._state is _State.LOADING
        return protocol.Status(
            state=self._state.value,
            progress=self._last_progress if loading else None,
            settings=self._ready.settings if self._ready is not None else None,
            clients=described(self._clients, requests),
            num_requests=requests.num_open() if requests is not None else 0,
            engine=engine,
            engine_age_s=engine_age_s,
            uptime_s=time.monotonic() - self._started,
            leaves_in_s=None if timer.cancelled() else max(0.0, timer.when() - self._loop.time()),
        )

    # --- engine_thread.Listener: called on the engine's thread ---

    def loaded(self, model: LoadedModel) -> None:
        """Hand the loaded model to the loop."""
        self._call(self._on_loaded, model)

    def load_failed(self, error: BaseException) -> None:
        """Hand the failure to the loop."""
        self._call(self._on_load_failed, error)

    def broken(self, error: BaseException) -> None:
        """Hand the end of the engine to the loop."""
        self._call(self._on_broken, error)

    def events(self, events: list[GenerationEvent]) -> None:
        """Hand events to the loop, waking it once for as many as it finds then."""
        self._events.append(events)
        if not self._drain_planned:
            self._drain_planned = True
            self._call(self._drain)

    def _progress(self, fraction: float, phrase: str) -> bool:
        last = self._last_progress
        if fraction >= 1.0 or fraction - last.fraction >= 0.01 or phrase != last.phrase:
            self._last_progress = protocol.LoadProgress(fraction=fraction, phrase=phrase)
            self._call(self._send_progress)
        return not self._load_cancelled

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and every client with it
            self._loop.call_soon_threadsafe(function, *arguments)

    # --- on the loop ---

    def end(self, reason: str, *, status: int = 0) -> None:
        """Answer what is open, say goodbye to everyone and leave."""
        if self._state is _State.ENDING:
            return
        _log.info("leaving: %s", reason)
        self._state = _State.ENDING
        self._exit_status = status
        self._load_cancelled = True
        self._keep_alive_timer.cancel()
        try:
            # Before the listening ends: whoever finds nobody there then reads that it is leaving.
            self._options.on_leaving()
        except OSError as error:
            # Whoever comes finds nobody who listens, and clears the entry away.
            _log.warning("the registry cannot be told: %s", error)
        self._listening.close()
        # The goodbye first: whoever sees its request fail must not send the next one here.
        for connection in self._clients.values():
            connection.send(protocol.Goodbye(reason=reason, ending=True))
        if self._requests is not None:
            self._requests.fail_all(
                WorkerDiedError(
                    f"The model was stopped while it was answering: {reason}. Your conversation is "
                    "safe; the next message starts it again."
                )
            )
        for connection in list(self._clients.values()):
            connection.close()
        self._loop.create_task(self._finish())

    async def _finish(self) -> None:
        deadline = self._loop.time() + _FLUSH_S
        while self._clients and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._clients.values()):
            connection.drop()
        self._ended.set()

    def _begin_loading(self) -> None:
        if self._engine.ident is None and self._state is _State.LOADING:
            self._engine.start()

    async def _close_engine(self) -> None:
        # Native code that hangs while it closes must not keep the memory: the system takes it.
        bound = threading.Timer(_CLOSE_ENGINE_S, self._exit_at_once)
        bound.daemon = True
        bound.start()
        if self._requests is not None:
            await self._loop.run_in_executor(None, self._requests.close)
        self._engine.finish()
        if self._engine.ident is not None:  # it never began if nobody came
            await self._loop.run_in_executor(None, self._engine.join)
        bound.cancel()

    def _exit_at_once(self) -> None:
        _log.warning("the engine did not close within %.0f s", _CLOSE_ENGINE_S)
        try:
            self._options.on_gone()
        finally:
            os._exit(self._exit_status)

    def _on_loaded(self, model: LoadedModel) -> None:
        if self._state is not _State.LOADING or self._load_cancelled:
            return
        self._state = _State.READY
        self._requests = Requests(self._engine, model)
        self._ready = protocol.Ready(
            info=model.info,
            settings=model.engine.settings,
            notes=list(model.notes),
            memory=model.memory,
        )
        _log.info("ready after %.2f s", time.monotonic() - self._started)
        self._options.on_ready(model)
        for connection in self._clients.values():
            connection.send(self._ready)

    def _on_load_failed(self, error: BaseException) -> None:
        if self._state is not _State.LOADING or self._load_cancelled:
            return
        _log.error("loading failed", exc_info=error)
        self._state = _State.FAILED
        wire = to_wire(error)
        if wire["kind"] == "RequestError":  # from outside the tree; a load is no request
            wire["kind"] = ModelLoadError.__name__
        self._failure = protocol.LoadFailed(error=wire)
        for connection in self._clients.values():
            connection.send(self._failure)
        if self._had_clients:
            self._end_soon("the model could not be loaded")
        # Otherwise whoever started this worker is about to connect, and is told then.

    def _on_broken(self, error: BaseException) -> None:
        if self._requests is not None:
            self._requests.fail_all(
                WorkerError(
                    f"The engine failed ({type(error).__name__}: {error}) and the model was "
                    "stopped. The next message starts it again."
                )
            )
        self.end("the engine failed", status=70)

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A callback that failed may have been an answer: end, rather than leave somebody waiting.
        loop.default_exception_handler(context)
        if context.get("exception") is not None:
            self.end("it met an error of its own", status=70)

    def _end_soon(self, reason: str) -> None:
        # One turn later, so that the failure is on its way before the goodbye.
        self._loop.call_soon(lambda: self.end(reason, status=1))

    def _drain(self) -> None:
        self._drain_planned = False  # before the queue is read: a later event plans a new call
        while self._events:
            events = self._events.popleft()
            if self._requests is not None:
                self._requests.deliver(events)

    def _send_progress(self) -> None:
        if self._state is _State.LOADING:
            for connection in self._clients.values():
                connection.send(self._last_progress)

    def _request(self, connection: ClientConnection, message: Any) -> None:
        requests = self._requests
        if requests is None or self._state is not _State.READY:
            error = WorkerError("The model is not loaded yet.")
            connection.send(Failed(request_id=message.request_id, error=to_wire(error)))
            return
        match message:
            case protocol.Generate():
                requests.generate(connection, message)
            case protocol.Tokenize():
                requests.tokenize(connection, message)
            case protocol.Detokenize():
                requests.detokenize(connection, message)
            case protocol.Render():
                requests.render(connection, message)
            case protocol.ShowPrompt():
                requests.show_prompt(connection, message)
            case protocol.GetTemplateFacts():
                requests.template_facts(connection, message)
            case protocol.Embed():
                requests.embed(connection, message)
            case score_messages.Score():
                requests.score(connection, message)
            case score_messages.GetVocabulary():
                requests.vocabulary(connection, message)
            case protocol.SavePrefix():
                requests.save_prefix(connection, message)
            case protocol.RestorePrefix():
                requests.restore_prefix(connection, message)
            case protocol.GetStats():
                requests.stats(connection, message, len(self._clients), self._started)
            case _:
                raise ProtocolError(f"A {type(message).__name__} was not expected.")

    def _leave(self, connection: ClientConnection, reason: str) -> None:
        last = len(self._clients) == 1
        if last:
            self.end(reason)
        else:
            connection.send(protocol.Goodbye(reason=reason, ending=False))
            connection.close()

    def _cancel_load(self) -> None:
        self._load_cancelled = True
        # A new client must not wait for what is being given up: it starts a worker of its own.
        self.end("nobody waits for the model any more")

    def _end_if_alone(self, reason: str) -> None:
        if not self._clients:
            self.end(reason)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            self._send_progress()  # a sign of life while it loads, also where nothing moves
            if not self._options.still_registered():
                # Nobody can find this worker any more; those who are here may finish.
                self._end_if_alone("it is no longer in the registry")
            _limit_log()

    def _catch_signals(self) -> None:
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None:
                continue
            try:
                self._loop.add_signal_handler(number, self.end, f"it was told to ({name})")
            except NotImplementedError:  # Windows: asyncio has none there
                signal.signal(
                    number, lambda *_: self._call(self.end, "it was told to by the system")
                )


# A log that something fills must not fill the disk.
_LONGEST_LOG_BYTES = 8 * 1024 * 1024


def _limit_log() -> None:
    with contextlib.suppress(OSError):
        if os.fstat(sys.stderr.fileno()).st_size > _LONGEST_LOG_BYTES:
            os.ftruncate(sys.stderr.fileno(), 0)
