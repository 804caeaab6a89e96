"""One answer while it is being written: its thread, its text so far, and its end.

Promises: `Answer.run` takes one answer from the model on a thread of its own, reports what happens
to its `Listener`, and ends in exactly one call of `ended`, whatever goes wrong; `stop` may be
called by any thread at any time. Leaves to others: the conversation and the store (`chat`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from gguf_widgets.core.chat_types import ChatMessage, MessageStatus, Phase
from gguf_widgets.core.errors import GgufWidgetsError, RequestError, from_wire, to_wire
from gguf_widgets.core.types import (
    FinishReason,
    LoadSettings,
    Message,
    ModelInfo,
    PrefillProgress,
    Reply,
    SamplingSettings,
    TextDelta,
)

__all__ = ["Answer", "AnswerStream", "ChatModel", "ChatStream", "Listener", "describe"]

_PROGRESS_EVERY_S = 0.1
_STOP_WAIT_S = 5.0

_log = logging.getLogger(__name__)


class AnswerStream(Protocol):
    """What a model gives for one answer; `core.model.TextStream` is one."""

    def __iter__(self) -> Iterator[TextDelta]:
        """Yield the text piece by piece; raise the error the answer failed with."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End the request if it has not ended."""

    @property
    def reply(self) -> Reply | None:
        """What came of it, once the iteration has ended."""

    @property
    def progress(self) -> PrefillProgress | None:
        """How much of the prompt has been computed."""

    def stop(self) -> None:
        """End the answer soon; any thread may call it."""


class ChatModel(Protocol):
    """What a chat needs of a model; `core.model.Model` is one."""

    @property
    def info(self) -> ModelInfo:
        """What the file's header says."""

    @property
    def settings(self) -> LoadSettings:
        """How it was loaded."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    def stream(self, messages: list[Message], /, **sampling: Any) -> AnswerStream:
        """Begin an answer."""


def describe(model: ChatModel) -> dict[str, Any]:
    """Return what identifies the model and how it was loaded, for whoever repeats this."""
    info = model.info
    described: dict[str, Any] = {
        "path": info.path,
        "name": info.name,
        "architecture": info.architecture,
        "size_bytes": info.size_bytes,
        "num_parameters": info.num_parameters,
        "quantization": info.quantization,
        "backend": info.backend,
        "settings": model.settings.to_dict(),
    }
    # As it comes out of the store again: with lists for tuples.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(described))
    return plain


class Listener(Protocol):
    """Who is told about an answer; called from the answer's threads."""

    def phase_changed(self, answer: Answer) -> None:
        """`answer.phase` or `answer.progress` has changed."""

    def text_arrived(self, answer: Answer, delta: TextDelta) -> None:
        """Take `delta` in with `answer.add`, in one moment with whatever tells of it."""

    def ended(self, answer: Answer, message: ChatMessage) -> None:
        """Take the answer in its last form; called exactly once."""


class Answer:
    """An answer being written.

    Parameters
    ----------
    message : ChatMessage
        The empty message, status "streaming".
    model : ChatModel
    prompt : list of Message
    sampling : SamplingSettings
    listener : Listener
    deltas : queue.SimpleQueue, optional
        Gets every `TextDelta`, and None at the end.

    Attributes
    ----------
    future : concurrent.futures.Future of Reply
        Done after `Listener.ended` has returned.
    phase : Phase
    progress : PrefillProgress or None
    num_completion_tokens : int
    """

    def __init__(
        self,
        message: ChatMessage,
        model: ChatModel,
        prompt: list[Message],
        sampling: SamplingSettings,
        listener: Listener,
        deltas: queue.SimpleQueue[TextDelta | None] | None = None,
    ) -> None:
        self.message = message
        self.future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        self.phase = Phase.WAITING
        self.progress: PrefillProgress | None = None
        self.num_completion_tokens = 0
        self._model = model
        self._prompt = prompt
        self._sampling = sampling
        self._listener = listener
        self._deltas = deltas
        self._pieces: list[str] = []
        # Reentrant: the garbage collector may stop a forgotten stream's answer in the very thread
        # that is adding to it.
        self._lock = threading.RLock()
        self._stream: AnswerStream | None = None
        self._stopped = False
        self._reading_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gguf-widgets-answer", daemon=True)

    @property
    def text(self) -> str:
        """What has arrived so far."""
        with self._lock:
            # Joined pieces stay joined, so that asking often costs no more than the text is long.
            self._pieces[:] = ["".join(self._pieces)]
            return self._pieces[0]

    @property
    def current(self) -> ChatMessage:
        """The message with what has arrived so far."""
        return msgspec.structs.replace(self.message, content=self.text)

    @property
    def num_context_tokens(self) -> int | None:
        """Tokens of the context this answer fills at this moment; None before that is known."""
        progress = self.progress
        return progress.num_total + self.num_completion_tokens if progress is not None else None

    def add(self, delta: TextDelta) -> None:
        """Add text at the end; for the listener."""
        with self._lock:
            self._pieces.append(delta.text)
            self.num_completion_tokens = delta.num_completion_tokens

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self.future.set_running_or_notify_cancel()
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            self._end(None, RequestError(f"The answer could not be begun: {error}. Try again."))

    def stop(self) -> None:
        """End the answer soon, keeping what has arrived; again or after its end it does nothing."""
        with self._lock:
            self._stopped = True
            stream = self._stream
        if stream is not None:
            stream.stop()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it came in time."""
        if self._thread is threading.current_thread():
            return False  # an observer called: waiting for itself would never end
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def result(self) -> Reply:
        """Wait for the reply; an interrupt of the waiting program stops the answer."""
        try:
            while True:
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    return self.future.result(timeout=0.5)
                if not self._thread.is_alive() and not self.future.done():
                    raise RequestError("The answer ended without a result. Try again.")
        except KeyboardInterrupt:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Stop, for a program that was interrupted, and wait at most some seconds for the end."""
        self.stop()
        # Not `join` at once: the interrupt may have come while the thread was being started.
        if concurrent.futures.wait([self.future], _STOP_WAIT_S).done:
            self.join(_STOP_WAIT_S)

    # -- on the answer's thread -------------------------------------------------------------------

    def _run(self) -> None:
        reply: Reply | None = None
        error: GgufWidgetsError | None = None
        try:
            reply = self._take()
        except GgufWidgetsError as known:
            error = known
        except BaseException as unknown:  # noqa: BLE001 - it must end in words, whatever it was
            # Not a failure we know: it is shown in the chat like the others, and the log has the
            # traceback for whoever must find the cause.
            _log.exception("An answer failed in a way that was not expected")
            error = RequestError(
                f"The answer failed in a way that was not expected: {type(unknown).__name__}: "
                f"{unknown}"
            )
        self._end(reply, error)

    def _end(self, reply: Reply | None, error: GgufWidgetsError | None) -> None:
        self._reading_over.set()
        message = self._last_form(reply, error)
        try:
            self._listener.ended(self, message)
        finally:
            if self._deltas is not None:
                self._deltas.put(None)
            if reply is not None and error is None:
                self.future.set_result(reply)
            else:
                self.future.set_exception(error or from_wire(to_wire(RequestError(_NO_END))))

    def _take(self) -> Reply | None:
        with self._model.stream(self._prompt, **self._sampling.to_dict()) as stream:
            with self._lock:
                self._stream = stream
                stopped = self._stopped
            if stopped:
                stream.stop()
            threading.Thread(
                target=self._watch, args=(stream,), name="gguf-widgets-reading", daemon=True
            ).start()
            for delta in stream:
                if not self._pieces:
                    self._note_progress(stream)
                    self._reading_over.set()
                    self.phase = Phase.WRITING
                    self._listener.phase_changed(self)
                self._listener.text_arrived(self, delta)
                if self._deltas is not None:
                    self._deltas.put(delta)
            return stream.reply

    def _last_form(self, reply: Reply | None, error: GgufWidgetsError | None) -> ChatMessage:
        text = self.text
        if error is None and reply is None:
            error = RequestError(_NO_END)
        if error is not None:
            return msgspec.structs.replace(
                self.message,
                content=text,
                status=MessageStatus.FAILED,
                finish_reason=FinishReason.ERROR,
                error=to_wire(error),
            )
        assert reply is not None  # noqa: S101 - for the type checker: else there was an error
        aborted = reply.finish_reason is FinishReason.ABORTED
        return msgspec.structs.replace(
            self.message,
            content=reply.text,
            status=MessageStatus.ABORTED if aborted else MessageStatus.COMPLETE,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            timings=reply.timings,
            seed=reply.seed,
        )

    # -- how far the prompt has been read ----------------------------------------------------------

    def _watch(self, stream: AnswerStream) -> None:
        """Report the reading of the prompt; the answer's own thread waits for text meanwhile."""
        while not self._reading_over.wait(_PROGRESS_EVERY_S):
            if self._note_progress(stream) and not self._reading_over.is_set():
                self.phase = Phase.READING
                self._listener.phase_changed(self)

    def _note_progress(self, stream: AnswerStream) -> bool:
        progress = stream.progress
        if progress is None or progress == self.progress:
            return False
        self.progress = progress
        return True


_NO_END = "The model's answer broke off without a word. Try again."


class ChatStream:
    """The text of one answer as it arrives; what `ChatInterface.stream` returns.

    Closing it before the end, by hand, by ``with`` or by dropping it, stops the answer; what had
    arrived is kept in the conversation.
    """

    def __init__(self, answer: Answer, deltas: queue.SimpleQueue[TextDelta | None]) -> None:
        self._answer = answer
        self._deltas = deltas
        self._over = False

    @property
    def reply(self) -> Reply | None:
        """What came of the answer, once it has ended well."""
        future = self._answer.future
        return future.result() if future.done() and future.exception() is None else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TextDelta:
        if self._over:
            raise StopIteration
        try:
            delta = self._next()
        except KeyboardInterrupt:
            self.close()
            raise
        if delta is None:
            self._over = True
            self._answer.result()  # raises what it failed with
            raise StopIteration
        return delta

    def _next(self) -> TextDelta | None:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._deltas.get(timeout=0.5)
            if self._answer.future.done() and self._deltas.empty():
                return None  # its thread ended without a last word

    def close(self) -> None:
        """Stop the answer if it has not ended."""
        self._over = True
        if not self._answer.future.done():
            self._answer.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
