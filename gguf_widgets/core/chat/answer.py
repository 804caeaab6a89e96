"""One answer while it is being written: its thread, its text so far, and its end.

Promises: `Answer` takes one answer from the model on a thread of its own, reports what happens to
its `Listener`, and ends in exactly one call of `ended`, whatever goes wrong; `stop` may be called
by any thread at any time. What is sent is prepared on that thread, too: it may take as long as the
model needs to sum up what has no room. Leaves to others: the conversation and the store
(`interface`), what is sent (`context`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import queue
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from gguf_widgets.core.chat.asked import Asked
from gguf_widgets.core.chat.model import AnswerStream, ChatModel, describe
from gguf_widgets.core.chat.record import complete_record, record_of
from gguf_widgets.core.chat.thinking import ThinkingTime
from gguf_widgets.core.chat.types import ChatMessage, MessageStatus, Phase
from gguf_widgets.core.errors import (
    GgufWidgetsError,
    ModelUnloadedError,
    RequestCancelledError,
    RequestError,
    WorkerError,
    from_wire,
    to_wire,
)
from gguf_widgets.core.types import (
    FinishReason,
    Message,
    PrefillProgress,
    Reply,
    TextDelta,
    TokenLogprob,
)

__all__ = ["Answer", "AnswerStream", "ChatModel", "Listener", "Steps", "describe"]

_PROGRESS_EVERY_S = 0.1
_STOP_WAIT_S = 5.0

_NO_END = "The model's answer broke off without a word. Try again."

_log = logging.getLogger(__name__)


class Steps(NamedTuple):
    """How far the model is with what it does before it writes; see `ChatEvent`."""

    num_done: int | None = None
    num_total: int | None = None
    fraction: float | None = None


class Listener(Protocol):
    """Who is told about an answer; called from the answer's threads."""

    def prepared(self, answer: Answer) -> None:
        """`answer.message` now says what is sent, and what is left out."""

    def phase_changed(self, answer: Answer) -> None:
        """`answer.phase` or `answer.steps` has changed."""

    def text_arrived(self, answer: Answer, delta: TextDelta) -> None:
        """Take `delta` in with `answer.add`, in one moment with whatever tells of it."""

    def ended(self, answer: Answer, message: ChatMessage) -> None:
        """Take the answer in its last form; called exactly once."""


class Answer:
    """An answer being written.

    Parameters
    ----------
    message : ChatMessage
        The message as it begins: status "streaming", its content what it was told to begin with.
    asked : Asked
        What the model is asked.
    listener : Listener
    deltas : queue.SimpleQueue, optional
        Gets every `TextDelta`, and None at the end.

    Attributes
    ----------
    future : concurrent.futures.Future of Reply
        Done after `Listener.ended` has returned.
    phase : Phase
    steps : Steps
    num_completion_tokens : int
    own_sampling : Mapping
        The settings that were asked for this answer alone.
    """

    def __init__(
        self,
        message: ChatMessage,
        asked: Asked,
        listener: Listener,
        deltas: queue.SimpleQueue[TextDelta | None] | None = None,
    ) -> None:
        self.message = message
        self.future: concurrent.futures.Future[Reply] = concurrent.futures.Future()
        self.phase = Phase.WAITING
        self.steps = Steps()
        self.num_completion_tokens = 0
        self.own_sampling: Mapping[str, Any] = asked.own_sampling
        self.num_given = len(asked.given)
        self._asked = asked
        self._listener = listener
        self._deltas = deltas
        self._prefill: PrefillProgress | None = None
        self._pieces: list[str] = []
        self._tokens: list[TokenLogprob] = list(asked.given)
        self._prompt: list[Message] = []
        self._record: dict[str, Any] = {}
        self._num_unseen = 0
        self._thinking: ThinkingTime | None = None
        # Reentrant: the garbage collector may stop a forgotten stream's answer in the very thread
        # that is adding to it.
        self._lock = threading.RLock()
        self._stream: AnswerStream | None = None
        self._stopped = False
        self._reading_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gguf-widgets-answer", daemon=True)

    @property
    def was_stopped(self) -> bool:
        """Whether somebody has stopped it, in time or not."""
        return self._stopped

    @property
    def text(self) -> str:
        """What has arrived so far; before the first word, what it was told to begin with."""
        with self._lock:
            if not self._pieces:
                return self.message.content
            # Joined pieces stay joined, so that asking often costs no more than the text is long.
            self._pieces[:] = ["".join(self._pieces)]
            return self._pieces[0]

    @property
    def tokens(self) -> list[TokenLogprob] | None:
        """The tokens so far, given ones first; None if they are not recorded."""
        with self._lock:
            return list(self._tokens) if self._asked.num_alternatives else None

    @property
    def current(self) -> ChatMessage:
        """The message with what has arrived so far."""
        with self._lock:
            return msgspec.structs.replace(
                self.message, content=self.text, thinking_s=self._thinking_s
            )

    @property
    def num_context_tokens(self) -> int | None:
        """Tokens of the context this answer fills at this moment; None before that is known."""
        progress = self._prefill
        return progress.num_total + self.num_completion_tokens if progress is not None else None

    def add(self, delta: TextDelta) -> str | None:
        """Add text at the end; for the listener.

        Returns
        -------
        str or None
            What is new at the end of the text; None if the text before it is another one now.
        """
        with self._lock:
            before = self.message.content if not self._pieces else ""
            self._pieces.append(delta.text)
            self._tokens += delta.logprobs
            self.num_completion_tokens = delta.num_completion_tokens
            if self._thinking is not None:
                self._thinking.feed(delta.text)
            if delta.text.startswith(before):
                return delta.text[len(before) :]
            # The words it was to begin with came out otherwise (part of a character, say).
            self.message = msgspec.structs.replace(
                self.message, begin=_shared(self.message.begin, delta.text)
            )
            return None

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self.future.set_running_or_notify_cancel()
        try:
            self._thread.start()
        except RuntimeError as error:  # the system has no thread left
            self._end(None, RequestError(f"The answer could not be begun: {error}. Try again."))

    def take_deltas(self) -> queue.SimpleQueue[TextDelta | None] | None:
        """Take over what its pieces are put into, for the answer that follows it."""
        deltas, self._deltas = self._deltas, None
        return deltas

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
            self._prepare()
            reply = self._take()
        except GgufWidgetsError as known:
            error = self._as_unloaded(known)
        except BaseException as unknown:  # noqa: BLE001 - it must end in words, whatever it was
            # Not a failure we know: it is shown in the chat like the others, and the log has the
            # traceback for whoever must find the cause.
            _log.exception("An answer failed in a way that was not expected")
            error = RequestError(
                f"The answer failed in a way that was not expected: {type(unknown).__name__}: "
                f"{unknown}"
            )
        self._end(reply, error)

    def _as_unloaded(self, error: GgufWidgetsError) -> GgufWidgetsError:
        """Return the error in the words of who unloaded the model: its process did not just end."""
        if not isinstance(error, WorkerError) or getattr(self._asked.model, "loaded", True):
            return error
        return ModelUnloadedError(
            "The model was unloaded while it wrote this answer. What had arrived is kept."
        )

    def _end(self, reply: Reply | None, error: GgufWidgetsError | None) -> None:
        self._reading_over.set()
        try:
            message = self._last_form(reply, error)
        except BaseException as unknown:  # noqa: BLE001 - as above
            _log.exception("The end of an answer failed in a way that was not expected")
            error = error or RequestError(f"The answer's end failed: {type(unknown).__name__}.")
            message = self._failed_form(error)
        try:
            self._listener.ended(self, message)
        finally:
            if self._deltas is not None:
                self._deltas.put(None)
            if reply is not None and error is None:
                self.future.set_result(reply)
            else:
                self.future.set_exception(error or from_wire(to_wire(RequestError(_NO_END))))

    def _prepare(self) -> None:
        """Find out what is sent."""
        prepared = self._asked.prepare(self._summed_up, lambda: self._stopped)
        self._num_unseen = self._asked.num_unseen(prepared.left_out)
        self._prompt = prepared.messages
        self._record = record_of(
            self._asked.model, self._prompt, self._asked.settings, **self._asked.more
        )
        if self._asked.template_variables:  # the template was told to open no thinking
            self._record["opens_thinking"] = False
        with self._lock:
            self.message = msgspec.structs.replace(
                self.message,
                left_out=tuple(prepared.left_out),
                summary=prepared.summary,
                record=self._public_record(self._record),
            )
            opened = bool(self._record.get("opens_thinking"))
            self._thinking = ThinkingTime(opened=opened)
        self._listener.prepared(self)

    def _take(self) -> Reply | None:
        with self._asked.stream(self._prompt) as stream:
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
                    self._enter(Phase.WRITING, Steps())
                self._listener.text_arrived(self, delta)
                if self._deltas is not None:
                    self._deltas.put(delta)
            return stream.reply

    def _last_form(self, reply: Reply | None, error: GgufWidgetsError | None) -> ChatMessage:
        if error is None and reply is None:
            error = RequestError(_NO_END)
        if error is not None:
            return self._failed_form(error)
        assert reply is not None  # noqa: S101 - for the type checker: else there was an error
        aborted = reply.finish_reason is FinishReason.ABORTED
        text = reply.text or self.text
        record = complete_record(
            self._record, self._asked.model, self._prompt, reply=reply, **self._asked.more
        )
        if reply.logprobs is not None:
            with self._lock:
                self._tokens = [*self._asked.given, *reply.logprobs]
        return msgspec.structs.replace(
            self.message,
            content=text,
            begin=_shared(self.message.begin, text),
            thinking_s=self._thinking_s,
            status=MessageStatus.ABORTED if aborted else MessageStatus.COMPLETE,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            timings=reply.timings,
            seed=reply.seed,
            tool_calls=tuple(getattr(self._stream, "tool_calls", ())),
            record=self._public_record(record),
        )

    def _failed_form(self, error: GgufWidgetsError) -> ChatMessage:
        taken_back = self._stopped and isinstance(error, RequestCancelledError)
        return msgspec.structs.replace(
            self.message,
            content=self.text,
            thinking_s=self._thinking_s,
            status=MessageStatus.ABORTED if taken_back else MessageStatus.FAILED,
            finish_reason=FinishReason.ABORTED if taken_back else FinishReason.ERROR,
            error=None if taken_back else to_wire(error),
        )

    def _public_record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        # What begins with "$" is only for `complete_record`.
        kept = {name: value for name, value in record.items() if not name.startswith("$")}
        if self._num_unseen:
            kept["images_left_out"] = self._num_unseen
        if self._asked.template_variables:
            kept["template_variables"] = dict(self._asked.template_variables)
        return kept

    @property
    def _thinking_s(self) -> float | None:
        """How long it thought; the time of an answer that it goes on from included."""
        now, before = self._thinking and self._thinking.seconds, self._asked.begin.thinking_s
        return None if now is None and before is None else (now or 0.0) + (before or 0.0)

    # -- how far it is before the first word -------------------------------------------------------

    def _enter(self, phase: Phase, steps: Steps) -> None:
        self.phase, self.steps = phase, steps
        self._listener.phase_changed(self)

    def _summed_up(self, num_done: int, num_total: int) -> None:
        self._enter(Phase.SUMMARIZING, Steps(num_done, num_total))

    def _watch(self, stream: AnswerStream) -> None:
        """Report the reading of the prompt; the answer's own thread waits for text meanwhile."""
        seen: Any = None
        while not self._reading_over.wait(_PROGRESS_EVERY_S):
            read = self._note_progress(stream)
            image = getattr(stream, "image_progress", None)
            if self._reading_over.is_set():
                return
            if image is not None and image != seen:
                seen = image
                steps = Steps(image.number, image.num_images, image.fraction)
                self._enter(Phase.LOOKING, steps)
            elif read and self._prefill is not None:
                self._enter(Phase.READING, Steps(self._prefill.num_done, self._prefill.num_total))

    def _note_progress(self, stream: AnswerStream) -> bool:
        progress = stream.progress
        if progress is None or progress == self._prefill:
            return False
        self._prefill = progress
        return True


def _shared(one: str, other: str) -> str:
    """Return the beginning that two texts have in common."""
    length = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        length += 1
    return one[:length]
