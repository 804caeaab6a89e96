"""What happens to the requests of this process, for whoever listens: monitors, experiments.

Promises: each request that `Model` makes is told once as begun and once as ended, with the reply or
the error, in this order and with its progress in between; also one that could not be sent. A
listener that fails is written to the log and disturbs nobody. While nobody listens, a request costs
one look at an empty tuple. Leaves to others: what is done with it (`core.monitor`, `experiments`).

A listener is called in whichever thread the thing happens in, mostly the connection's, which has
the other streams to serve: it must return at once, and it must not ask the model anything.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from gguf_widgets.core.errors import GgufWidgetsError, WireError, to_wire
from gguf_widgets.core.types import (
    Failed,
    Finished,
    PrefillProgress,
    Priority,
    Reply,
    SamplingSettings,
    TextDelta,
)
from gguf_widgets.core.worker.prompt import Prompt

if TYPE_CHECKING:
    from gguf_widgets.core.model import Model
    from gguf_widgets.core.worker.client import Sink, WorkerClient

__all__ = [
    "IS_CHECK",
    "RUN_ID",
    "Event",
    "Listener",
    "ModelLoaded",
    "Prompt",
    "RequestEnded",
    "RequestProgress",
    "RequestStarted",
    "Tap",
    "subscribe",
    "tell_loaded",
    "watched",
]

RUN_ID: ContextVar[str | None] = ContextVar("gguf_widgets_run_id", default=None)
"""The batch run that the requests of this thread or task belong to; its runner sets it."""

IS_CHECK: ContextVar[bool] = ContextVar("gguf_widgets_is_check", default=False)
"""Whether the program itself asks, to see whether or how fast something works: no result of it is
anybody's, and experiments do not record it."""

_log = logging.getLogger(__name__)


class RequestStarted(NamedTuple):
    """A request is on its way to the model.

    Attributes
    ----------
    request_id : str
        The number of the worker's process, a slash, and the worker's own name for the request
        (`TextStream.request_id`): unique in this process. One that could not be sent has an id that
        begins with "unsent-".
    model : Model
    prompt : Prompt
    sampling : SamplingSettings
    priority : Priority
    at : float
        When it was asked for: seconds since 1970, UTC.
    clock : float
        The same moment, in seconds of `time.perf_counter`.
    load_s : float
        How long it had to wait until the model's process, which had to be started again, was ready.
    run_id : str or None
        The batch run that it belongs to.
    stop : callable
        Asks the model to stop; the end still comes. Any thread may call it, at any time.
    is_check : bool
        See `IS_CHECK`.
    """

    request_id: str
    model: Model
    prompt: Prompt
    sampling: SamplingSettings
    priority: Priority
    at: float
    clock: float
    load_s: float
    run_id: str | None
    stop: Callable[[], None]
    is_check: bool = False


class RequestProgress(NamedTuple):
    """A request has come further; requests that nobody reads meanwhile (batch runs) tell nothing.

    Attributes
    ----------
    request_id : str
    prefill : PrefillProgress or None
        How much of the prompt is computed.
    num_completion_tokens : int or None
        How many tokens are written.
    clock : float
        Seconds of `time.perf_counter`.
    """

    request_id: str
    prefill: PrefillProgress | None
    num_completion_tokens: int | None
    clock: float


class RequestEnded(NamedTuple):
    """A request has ended: either `reply` or `error` is None.

    Attributes
    ----------
    request_id, model, prompt, sampling, priority, run_id
        As it was told when it started.
    reply : Reply or None
    error : WireError or None
        Its kind (a class of `core.errors`), message and details.
    at : float
        When it ended: seconds since 1970, UTC.
    clock : float
        The same moment, in seconds of `time.perf_counter`.
    started_clock : float
        When it was asked for, in seconds of `time.perf_counter`.
    load_s : float
        As it was told when it started.
    first_text_clock : float or None
        When its first text arrived; None without any, or where nobody reads meanwhile.
    """

    request_id: str
    model: Model
    prompt: Prompt
    sampling: SamplingSettings
    priority: Priority
    run_id: str | None
    reply: Reply | None
    error: WireError | None
    at: float
    clock: float
    started_clock: float
    load_s: float
    first_text_clock: float | None


class ModelLoaded(NamedTuple):
    """A model was loaded with `ModelManager.load`.

    Attributes
    ----------
    model : Model
    load_s : float
        From asking for it to having it.
    was_running : bool
        Some worker held it already, so that it only had to be joined.
    at : float
        Seconds since 1970, UTC.
    clock : float
        Seconds of `time.perf_counter`.
    """

    model: Model
    load_s: float
    was_running: bool
    at: float
    clock: float


Event = RequestStarted | RequestProgress | RequestEnded | ModelLoaded
Listener = Callable[[Event], None]

# Replaced and never changed: whoever tells something needs no lock.
_listeners: tuple[Listener, ...] = ()
_lock = threading.Lock()
_unsent = itertools.count(1)


def subscribe(listener: Listener) -> Callable[[], None]:
    """Have a listener called with all that happens from now on; call the answer to end that.

    A request that is under way already is not told of.
    """
    global _listeners  # noqa: PLW0603 - one for the process

    # A thing of its own, so that one who subscribed twice can end each.
    def call(event: Event) -> None:
        listener(event)

    with _lock:
        _listeners = (*_listeners, call)

    def unsubscribe() -> None:
        global _listeners  # noqa: PLW0603 - as above
        with _lock:
            _listeners = tuple(known for known in _listeners if known is not call)

    return unsubscribe


def _tell(event: Event) -> None:
    for listener in _listeners:
        try:
            listener(event)
        except Exception:  # noqa: BLE001 - whatever it is, the request is not to suffer from it
            _log.exception("Somebody who listens to requests failed, and hears the next one")


class Tap:
    """Hears the messages of one request on their way to whoever asked.

    Made by `watched`; `TextStream` and `Submitted` put it before their own sink.
    """

    def __init__(
        self, model: Model, prompt: Prompt, sampling: SamplingSettings, priority: Priority
    ) -> None:
        self._model, self._prompt = model, prompt
        self._sampling, self._priority = sampling, priority
        self._run_id, self._is_check = RUN_ID.get(), IS_CHECK.get()
        self._at, self._clock = time.time(), time.perf_counter()
        self._load_s = 0.0
        self._first_text_clock: float | None = None
        self._sink: Sink | None = None
        self._client: WorkerClient | None = None
        self._is_told = False
        # The caller's thread and the connection's meet at the beginning, and only there.
        self._lock = threading.Lock()

    def before(self, sink: Sink, client: WorkerClient) -> Sink:
        """Return what is to get the messages in place of `sink`; the request is sent now."""
        self._load_s = time.perf_counter() - self._clock
        self._sink, self._client = sink, client
        return self

    def sent(self, request_id: str) -> None:
        """Say that the request was sent, under this id; its messages may be arriving already."""
        with self._lock:
            if self._is_told:
                return
            self._is_told = True
            client = self._client

            def stop() -> None:
                if client is not None:
                    client.abort(request_id)

            _tell(
                RequestStarted(
                    self._name(request_id),
                    self._model,
                    self._prompt,
                    self._sampling,
                    self._priority,
                    self._at,
                    self._clock,
                    self._load_s,
                    self._run_id,
                    stop,
                    self._is_check,
                )
            )

    def failed(self, error: GgufWidgetsError) -> None:
        """Say that the request could not be sent."""
        if self._sink is None:
            self._load_s = time.perf_counter() - self._clock
        self._client = None
        request_id = f"unsent-{next(_unsent)}"
        self.sent(request_id)
        self._end(request_id, None, to_wire(error))

    def deliver(self, message: Any) -> None:
        """Tell what a message says, then hand it on: who has the reply finds it recorded."""
        self.sent(message.request_id)
        self._hear(message)
        if self._sink is not None:
            self._sink.deliver(message)

    def _hear(self, message: Any) -> None:
        if isinstance(message, TextDelta):
            clock = time.perf_counter()
            if self._first_text_clock is None:
                self._first_text_clock = clock
            number = message.num_completion_tokens
            _tell(RequestProgress(self._name(message.request_id), None, number, clock))
        elif isinstance(message, PrefillProgress):
            name = self._name(message.request_id)
            _tell(RequestProgress(name, message, None, time.perf_counter()))
        elif isinstance(message, Finished):
            self._end(message.request_id, message.reply, None)
        elif isinstance(message, Failed):
            self._end(message.request_id, None, message.error)

    def _name(self, request_id: str) -> str:
        # Each worker counts its own requests.
        return request_id if self._client is None else f"{self._client.pid}/{request_id}"

    def _end(self, request_id: str, reply: Reply | None, error: WireError | None) -> None:
        _tell(
            RequestEnded(
                self._name(request_id),
                self._model,
                self._prompt,
                self._sampling,
                self._priority,
                self._run_id,
                reply,
                error,
                time.time(),
                time.perf_counter(),
                self._clock,
                self._load_s,
                self._first_text_clock,
            )
        )


@contextlib.contextmanager
def watched(
    model: Model, prompt: Prompt, sampling: SamplingSettings, priority: Priority
) -> Iterator[Tap | None]:
    """Give what hears a request that is sent inside the block; None while nobody listens.

    An error that leaves the block is told as the request's end: it was not sent.
    """
    if not _listeners:
        yield None
        return
    tap = Tap(model, prompt, sampling, priority)
    try:
        yield tap
    except GgufWidgetsError as error:
        tap.failed(error)
        raise


def tell_loaded(model: Model, load_s: float, *, was_running: bool) -> None:
    """Say that a model was loaded."""
    if _listeners:
        _tell(ModelLoaded(model, load_s, was_running, time.time(), time.perf_counter()))


def _nobody_in_child() -> None:
    """In a forked child: whoever listens does so in the parent, and its threads are there."""
    global _listeners, _lock
    _listeners, _lock = (), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_nobody_in_child)
