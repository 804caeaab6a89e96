"""A conversation with a model, without any screen.

Promises
--------
- Every message is in the store before the model is asked, and an answer is written there as it
  arrives: a reload, a new kernel or a crash finds it again.
- One answer at a time, on a thread of its own; `stop` ends it at any moment and keeps what had
  arrived. A failed answer keeps its error and loses nothing of the conversation; the next message
  works.
- Every method may be called from any thread. Observers are called without any lock held, from the
  thread in which things happen (for an answer: its own); one that raises is logged and changes
  nothing. `ChatEvent.seq` tells in which order things happened.

Leaves to others: showing it (`widgets.chat_box`), running the model (`core.model`), what exactly
the model is sent (`chat_prompt`).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from gguf_widgets.core.chat_answer import Answer, ChatModel, ChatStream, describe
from gguf_widgets.core.chat_follow import Follower
from gguf_widgets.core.chat_prompt import prompt_for
from gguf_widgets.core.chat_saver import Saver
from gguf_widgets.core.chat_state import ChatState
from gguf_widgets.core.chat_types import (
    ChatMessage,
    EventKind,
    MessageStatus,
    Phase,
    checked_text,
    title_from,
)
from gguf_widgets.core.errors import InvalidValueError, RequestError, StoreError
from gguf_widgets.core.store.conversations import Conversations, new_id
from gguf_widgets.core.store.store import Store, default_store
from gguf_widgets.core.types import PrefillProgress, Reply, TextDelta

__all__ = ["ChatInterface"]

_CLOSE_WAIT_S = 10.0

_log = logging.getLogger(__name__)


class ChatInterface(ChatState):
    """A conversation with a model.

    Parameters
    ----------
    model : Model, optional
        Who answers; it can be set and changed later.
    system : str, optional
        The system prompt. None takes the one of `model_type`; "" sends none.
    model_type : {"text", "code"}, default "text"
        The preset that system prompt and sampling settings start from.
    conversation_id : str, optional
        A conversation of the store to go on with. Without it a new one begins with the first
        message.
    store : Store, optional
        Default: this process's own, `store.default_store()`.
    **sampling
        Settings of `SamplingSettings`, on top of the preset's.

    Raises
    ------
    InvalidValueError
        An unknown setting, model type or conversation.
    StoreError
        The store cannot be used.

    Examples
    --------
    >>> chat = ChatInterface(model, temperature=0)  # doctest: +SKIP
    >>> chat.send("Hello").text  # doctest: +SKIP
    'Hello! What can I do for you?'
    """

    def __init__(
        self,
        model: ChatModel | None = None,
        *,
        system: str | None = None,
        model_type: str = "text",
        conversation_id: str | None = None,
        store: Store | None = None,
        **sampling: Any,
    ) -> None:
        super().__init__(model, system, model_type, sampling)
        self.store = store if store is not None else default_store()
        self._conversations = Conversations(self.store)
        self._saver = Saver(self._conversations, self._notice)
        self._follower: Follower | None = None
        self._ending: set[Answer] = set()  # stopped answers of conversations that were left
        self._closed = False
        if conversation_id is not None:
            self.open(conversation_id)
            if system is not None:
                self.system = system

    def clear(self) -> None:
        """Begin a new conversation; the old one stays in the store. A running answer is stopped."""
        with self._lock:
            left = self._leave()
        if left is not None:
            left.stop()
        self._emit(EventKind.RESET)

    def open(self, conversation_id: str) -> None:
        """Go on with a conversation of the store, its system prompt and model type included.

        A running answer is stopped, unless it is this conversation's. An answer that another window
        is writing is followed until it ends.

        Raises
        ------
        InvalidValueError
            There is no such conversation.
        StoreError
            It cannot be read.
        """
        if self._answer is not None and conversation_id == self._conversation_id:
            return
        conversation = self._conversations.get(conversation_id)
        messages = self._conversations.path(conversation_id)
        with self._lock:
            left = self._leave()
            self._conversation_id = conversation.id
            self._title = conversation.title
            self._messages = messages
            self._settings.system = conversation.system or ""
            try:
                self._settings.model_type = conversation.model_type
            except InvalidValueError:
                # Of a later version, or a preset that is gone; its system prompt was kept.
                _log.info("The model type %r is not known here", conversation.model_type)
        if left is not None:
            left.stop()
        self._emit(EventKind.RESET)
        self._follow()

    def open_latest(self) -> bool:
        """Go on with the conversation that was changed last; return whether there is one."""
        latest = self._conversations.latest()
        if latest is None:
            return False
        self.open(latest.id)
        return True

    # -- asking -----------------------------------------------------------------------------------

    def start(self, text: str, **sampling: Any) -> ChatMessage:
        """Send a message and return at once; the answer is written in the background.

        Parameters
        ----------
        text : str
        **sampling
            Settings for this answer only, on top of `sampling`.

        Returns
        -------
        ChatMessage
            The answer, still empty. `subscribe`, `messages` and `stop` are about its progress.

        Raises
        ------
        RequestError
            No model is chosen, or an answer is still being written.
        InvalidValueError
            The text is empty, or a setting is not allowed.
        StoreError
            The message could not be kept; nothing was sent.
        """
        return self._begin(text, sampling).message

    def regenerate(self, message_id: str | None = None, **sampling: Any) -> ChatMessage:
        """Answer once more, in the background; the answer before stays in the store as a branch.

        Parameters
        ----------
        message_id : str, optional
            The answer to replace on screen; what came after it goes from the screen too. Default:
            the last one.
        **sampling
            As in `start`.

        Raises
        ------
        InvalidValueError
            It is no answer of this conversation.
        RequestError, StoreError
            As in `start`.
        """
        begun: Answer | None = None
        try:
            with self._lock:
                model = self._ready()
                line = self._line_before(message_id)
                self._saver.retry()
                answer = self._new_answer(line, model, sampling)
                with self.store.transaction():
                    self._kept_conversation("", model)
                    self._conversations.add(answer.message)
                self._messages = [*line, answer.message]
                self._answer = begun = answer
            self._emit(EventKind.RESET)
        finally:
            if begun is not None:
                begun.start()  # whatever has happened: only a begun answer can end
        return answer.message

    def _line_before(self, message_id: str | None) -> list[ChatMessage]:
        for index in range(len(self._messages) - 1, 0, -1):
            message = self._messages[index]
            if message.role == "assistant" and message_id in (None, message.id):
                return self._messages[:index]
        raise InvalidValueError(
            "There is no answer to write again in this conversation."
            if message_id is None
            else f"{message_id!r:.80} is no answer of this conversation."
        )

    def send(self, text: str, **sampling: Any) -> Reply:
        """Send a message and wait for the whole reply; like `start` otherwise.

        An interrupt (Ctrl+C, the notebook's Stop) stops the answer; what had arrived is kept.

        Raises
        ------
        GgufWidgetsError
            The answer failed; the message in the conversation holds the error, too.
        """
        before = self._answer
        try:
            return self._begin(text, sampling).result()
        except KeyboardInterrupt:
            # It may have come when the answer had begun and nobody waited for it yet.
            answer = self._answer
            if answer is not None and answer is not before:
                answer.give_up()
            raise

    async def asend(self, text: str, **sampling: Any) -> Reply:
        """Send a message and wait for the reply without blocking; cancelling stops the answer."""
        cancelled = threading.Event()
        begun: list[Answer] = []

        def begin() -> Answer:
            begun.append(self._begin(text, sampling))
            if cancelled.is_set():
                begun[0].stop()
            return begun[0]

        try:
            answer = await asyncio.to_thread(begin)
            return await asyncio.wrap_future(answer.future)
        except asyncio.CancelledError:
            # The thread cannot be called back; whichever of the two comes second stops the answer.
            cancelled.set()
            for answer in begun:
                answer.stop()
            raise

    def stream(self, text: str, **sampling: Any) -> ChatStream:
        """Send a message and return an iterator over the pieces of the answer."""
        deltas: queue.SimpleQueue[TextDelta | None] = queue.SimpleQueue()
        return ChatStream(self._begin(text, sampling, deltas), deltas)

    def stop(self) -> None:
        """End the running answer, keeping what has arrived; without one it does nothing."""
        answer = self._answer
        if answer is not None:
            answer.stop()

    def close(self) -> None:
        """Stop what runs, wait at most 10 s for it, and let go of the observers."""
        with self._lock:
            self._closed = True
            answers = [*self._ending, *([self._answer] if self._answer is not None else [])]
            follower, self._follower = self._follower, None
        for answer in answers:
            answer.stop()
        if follower is not None:
            follower.stop()
        deadline = time.monotonic() + _CLOSE_WAIT_S
        for answer in answers:
            if not answer.join(max(0.0, deadline - time.monotonic())):
                _log.warning("An answer did not end within %g s of closing.", _CLOSE_WAIT_S)
        self._observers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- an answer's life --------------------------------------------------------------------------

    def _begin(
        self,
        text: str,
        sampling: Mapping[str, Any],
        deltas: queue.SimpleQueue[TextDelta | None] | None = None,
    ) -> Answer:
        content = checked_text(text)
        begun: Answer | None = None
        try:
            with self._lock:
                model = self._ready()
                self._saver.retry()
                with self.store.transaction():
                    conversation_id = self._kept_conversation(content, model)
                    asked = ChatMessage(
                        id=new_id(),
                        conversation_id=conversation_id,
                        parent_id=self._messages[-1].id if self._messages else None,
                        role="user",
                        content=content,
                        status=MessageStatus.COMPLETE,
                        created_at=time.time(),
                    )
                    answer = self._new_answer([*self._messages, asked], model, sampling, deltas)
                    self._conversations.add(asked, answer.message)
                self._conversation_id = conversation_id
                self._title = self._title or title_from(content)
                self._messages += [asked, answer.message]
                self._answer = begun = answer
            self._emit(EventKind.ADDED, message=asked, message_id=asked.id)
            self._emit(EventKind.ADDED, message=answer.message, message_id=answer.message.id)
        finally:
            if begun is not None:
                begun.start()  # also when an interrupt comes just now: only a begun answer can end
        return answer

    def _new_answer(
        self,
        line: list[ChatMessage],
        model: ChatModel,
        sampling: Mapping[str, Any],
        deltas: queue.SimpleQueue[TextDelta | None] | None = None,
    ) -> Answer:
        settings = self.sampling.replace(**sampling) if sampling else self.sampling
        empty = ChatMessage(
            id=new_id(),
            conversation_id=line[-1].conversation_id,
            parent_id=line[-1].id,
            role="assistant",
            content="",
            status=MessageStatus.STREAMING,
            created_at=time.time(),
            model_name=model.name,
            model=describe(model),
            sampling=settings,
        )
        prompt = prompt_for(line, self.system).messages
        return Answer(empty, model, prompt, settings, self, deltas)

    def _ready(self) -> ChatModel:
        if self._closed:
            raise RequestError("This chat was closed. Make a new one.", reason="closed")
        if self._answer is not None:
            raise RequestError("An answer is still being written; press Stop first.", reason="busy")
        if self._messages and self._messages[-1].status is MessageStatus.STREAMING:
            raise RequestError(
                "An answer is still being written in another window. Wait for it, or begin a new "
                "conversation.",
                reason="busy elsewhere",
            )
        if self._model is None:
            raise RequestError("Choose a model first.", reason="no model")
        return self._model

    def _kept_conversation(self, content: str, model: ChatModel) -> str:
        """Return the id of the conversation in the store, begun or brought up to date."""
        about: dict[str, Any] = {
            "system": self.system,
            "model_type": self.model_type,
            "model_name": model.name,
            "model": describe(model),
        }
        if self._conversation_id is None:
            return self._conversations.create(title=title_from(content), **about).id
        try:
            self._conversations.update(self._conversation_id, **about)
        except InvalidValueError as error:
            raise StoreError(
                "This conversation is not in the store any more, so the message could not be "
                "kept. Start a new conversation.",
                reason="gone",
                conversation_id=self._conversation_id,
            ) from error
        return self._conversation_id

    def _leave(self) -> Answer | None:
        """Forget the conversation; return its answer, to be stopped without the lock.

        It ends by itself then, and is kept in the store.
        """
        answer, self._answer = self._answer, None
        if answer is not None:
            self._ending.add(answer)
        if self._follower is not None:
            self._follower.stop()
            self._follower = None
        self._conversation_id = None
        self._title = ""
        self._messages = []
        return answer

    # Listener: these three are called from the answer's threads.

    def phase_changed(self, answer: Answer) -> None:
        """Tell the observers what the model is doing; called by the answer."""
        if answer is self._answer:
            progress: PrefillProgress | None = answer.progress
            self._emit(
                EventKind.PROGRESS,
                message_id=answer.message.id,
                phase=answer.phase,
                num_done=progress.num_done if progress is not None else None,
                num_total=progress.num_total if progress is not None else None,
            )

    def text_arrived(self, answer: Answer, delta: TextDelta) -> None:
        """Keep the new text and tell the observers; called by the answer."""
        with self._lock:
            answer.add(delta)
            event = None
            if answer is self._answer:
                # In the same moment, or a snapshot would hold a text whose event comes later.
                event = self._observers.number(
                    EventKind.DELTA,
                    message_id=answer.message.id,
                    text=delta.text,
                    phase=Phase.WRITING,
                    num_completion_tokens=delta.num_completion_tokens,
                )
        if event is not None:
            self._observers.tell(event)
        self._saver.progress(answer)

    def ended(self, answer: Answer, message: ChatMessage) -> None:
        """Keep the answer's last form and tell the observers; called by the answer."""
        try:
            self._saver.finish(message)
        finally:  # whatever is wrong there, the next message must be possible
            with self._lock:
                self._ending.discard(answer)
                shown = answer is self._answer
                if shown:
                    self._answer = None
                    self._replace(message)
        if shown:
            self._emit(EventKind.UPDATED, message=message, message_id=message.id)

    # -- an answer that another window writes ------------------------------------------------------

    def _follow(self) -> None:
        with self._lock:
            conversation_id = self._conversation_id
            open_ones = [m for m in self._messages if m.status is MessageStatus.STREAMING]
            if self._closed or conversation_id is None or not open_ones:
                return
            self._follower = Follower(self._conversations, open_ones[-1], self._followed)
            self._follower.start()

    def _followed(self, follower: Follower, message: ChatMessage) -> None:
        """Show what another window has written; called by the follower."""
        with self._lock:
            if follower is not self._follower:
                return
            before = follower.message.content
            self._replace(message)
            if message.status is not MessageStatus.STREAMING:
                self._follower = None
            if self._follower is not None and message.content.startswith(before):
                event = self._observers.number(
                    EventKind.DELTA,
                    message_id=message.id,
                    text=message.content[len(before) :],
                    phase=Phase.WRITING,
                )
            else:
                event = self._observers.number(
                    EventKind.UPDATED, message=message, message_id=message.id
                )
        self._observers.tell(event)
