"""The one thread that owns the engine, and with it the native context.

Promises: the model is loaded, stepped and closed on this thread and no other; commands reach it
through an inbox between two steps; what it has to say is handed on in batches by one callback.
Leaves to others: the socket and its clients (`server`), what a step does (`core.engine`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from gguf_widgets.core.engine.embedding import EmbeddingQueue, EmbedRequest
from gguf_widgets.core.engine.scoring import ScoreRequest, ScoringQueue
from gguf_widgets.core.engine.state import PrefixStates
from gguf_widgets.core.errors import GgufWidgetsError, to_wire
from gguf_widgets.core.types import (
    EngineStats,
    Failed,
    Finished,
    GenerateRequest,
    GenerationEvent,
    LoadSettings,
)

__all__ = ["EngineLike", "EngineThread", "Listener"]

_log = logging.getLogger(__name__)

# Figures are noted before a step, but not before each: most steps take milliseconds.
_NOTE_EVERY_S = 0.2


class EngineLike(Protocol):
    """What this thread needs of `core.engine.engine.Engine`."""

    @property
    def settings(self) -> LoadSettings:
        """The effective settings."""

    @property
    def prefixes(self) -> PrefixStates:
        """What it has computed, to be put away for another day."""

    @property
    def has_work(self) -> bool:
        """Whether a step has anything to do, an unreported event included."""

    def add_request(self, request: GenerateRequest) -> None:
        """Take a request in; raise an error of the tree if it cannot be."""

    @property
    def embedding(self) -> EmbeddingQueue:
        """Where requests for vectors go."""

    @property
    def scoring(self) -> ScoringQueue:
        """Where requests for scores go."""

    def abort(self, request_id: str) -> None:
        """End a request; a later step reports it as finished, aborted."""

    def step(self) -> list[GenerationEvent]:
        """Compute one batch and return what came of it."""

    def interrupt(self) -> None:
        """Make a running step return early; any thread may call this."""

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True
    ) -> list[int]:
        """Split a text; any thread may call this."""

    def detokenize(self, tokens: list[int]) -> str:
        """Join tokens; any thread may call this."""

    def stats(self) -> EngineStats:
        """Count what the engine is doing."""

    def close(self) -> None:
        """Give everything back."""


class Listener(Protocol):
    """Who is told what the thread does; every method is called on the engine's thread."""

    def loaded(self, model: Any) -> None:
        """Take the model: it is loaded."""

    def load_failed(self, error: BaseException) -> None:
        """Take the reason why there is no model; the thread ends."""

    def events(self, events: list[GenerationEvent]) -> None:
        """Take what one step, or a refused request, produced."""

    def broken(self, error: BaseException) -> None:
        """Take what a step raised: the engine cannot be trusted any more; the thread ends."""


class EngineThread(threading.Thread):
    """Runs `load`, then steps its engine for as long as there is work.

    Parameters
    ----------
    load : callable
        Called on the thread; returns an object with an ``engine`` attribute.
    listener : Listener
    """

    def __init__(self, load: Callable[[], Any], listener: Listener) -> None:
        super().__init__(name="gguf-widgets-engine", daemon=True)
        self._load = load
        self._listener = listener
        self._inbox: queue.SimpleQueue[Callable[[EngineLike], None] | None] = queue.SimpleQueue()
        self._engine: EngineLike | None = None
        self._ending = False
        self._hidden: dict[str, Callable[[Finished | Failed], None]] = {}
        self._noted: tuple[EngineStats, float] | None = None

    # --- any thread ---

    def add_request(self, request: GenerateRequest) -> None:
        """Hand in a request; if the engine refuses it, its Failed comes like any other event."""

        def add(engine: EngineLike) -> None:
            try:
                engine.add_request(request)
            except Exception as error:  # noqa: BLE001 - it is the answer to this one request
                if not isinstance(error, GgufWidgetsError):
                    _log.exception("add_request failed")
                failed = Failed(request_id=request.request_id, error=to_wire(error))
                self._listener.events([failed])

        self._inbox.put(add)

    def embed(self, request: EmbedRequest) -> None:
        """Hand in a request for vectors; its answer comes on the engine's thread."""

        def add(engine: EngineLike) -> None:
            try:
                engine.embedding.add(request)
            except GgufWidgetsError as error:
                request.deliver(error)

        self._inbox.put(add)

    def score(self, request: ScoreRequest) -> None:
        """Hand in a request for scores; what comes of it comes on the engine's thread."""

        def add(engine: EngineLike) -> None:
            try:
                engine.scoring.add(request)
            except GgufWidgetsError as error:
                request.deliver(error)

        self._inbox.put(add)

    def score_taken(self, request_id: str, num_pieces: int) -> None:
        """Let a request for scores go on: so many pieces have been taken."""
        self._inbox.put(lambda engine: engine.scoring.more(request_id, num_pieces))

    def call(self, command: Callable[[EngineLike], None]) -> None:
        """Do something with the engine between two of its steps.

        An error of the command counts as one of the engine's: it must raise none.
        """
        self._inbox.put(command)

    def abort(self, request_id: str) -> None:
        """End a request now, also in the middle of a step."""
        self._inbox.put(lambda engine: engine.abort(request_id))
        # After the inbox has the command: the step that returns early finds it there.
        if self._engine is not None:
            self._engine.interrupt()

    def stats(self, deliver: Callable[[EngineStats], None]) -> None:
        """Ask for the figures; they are delivered on the engine's thread."""
        self._inbox.put(lambda engine: deliver(engine.stats()))

    @property
    def noted_stats(self) -> tuple[EngineStats, float] | None:
        """Figures from before the step that runs now, and when they were taken (monotonic).

        For whoever cannot wait for the end of a long step; None before the first one.
        """
        return self._noted

    def finish(self) -> None:
        """Close the engine and end the thread, also in the middle of a step."""
        self._ending = True
        self._inbox.put(None)
        if self._engine is not None:
            self._engine.interrupt()

    # --- the engine's thread ---

    def add_hidden(
        self, request: GenerateRequest, ended: Callable[[Finished | Failed], None]
    ) -> None:
        """Hand in a request of the worker's own, inside a command; the listener never hears of it.

        Parameters
        ----------
        request : GenerateRequest
        ended : callable
            Takes its end right after the step that brought it, before anything else happens; it
            must raise nothing.

        Raises
        ------
        GgufWidgetsError
            If the engine refuses it.
        """
        if self._engine is None:
            raise AssertionError("there is no engine yet, or no more")
        self._engine.add_request(request)
        self._hidden[request.request_id] = ended

    def run(self) -> None:
        """Load, serve, close."""
        try:
            model = self._load()
        except BaseException as error:  # noqa: BLE001 - whatever it is, every waiting client is told
            self._listener.load_failed(error)
            return
        engine: EngineLike = model.engine
        self._engine = engine
        try:
            self._listener.loaded(model)
            self._serve(engine)
        except BaseException as error:  # noqa: BLE001 - every open request is told
            _log.exception("the engine failed")
            self._listener.broken(error)
        finally:
            self._engine = None
            engine.close()

    def _serve(self, engine: EngineLike) -> None:
        while not self._ending:
            if not engine.has_work:
                self._obey(engine, self._inbox.get())
            while not self._ending:
                try:
                    command = self._inbox.get_nowait()
                except queue.Empty:
                    break
                self._obey(engine, command)
            if engine.has_work and not self._ending:
                self._note(engine)
                events = engine.step()
                if self._hidden:
                    events = self._without_hidden(events)
                if events:
                    self._listener.events(events)

    def _note(self, engine: EngineLike) -> None:
        now = time.monotonic()
        if self._noted is None or now - self._noted[1] > _NOTE_EVERY_S:
            self._noted = engine.stats(), now

    def _without_hidden(self, events: list[GenerationEvent]) -> list[GenerationEvent]:
        shown = []
        for event in events:
            if event.request_id not in self._hidden:
                shown.append(event)
            elif isinstance(event, Finished | Failed):
                self._hidden.pop(event.request_id)(event)
        return shown

    def _obey(self, engine: EngineLike, command: Callable[[EngineLike], None] | None) -> None:
        if command is not None:
            command(engine)
