"""The answers of a chat: beginning one, its life, and following one that another window writes.

Promises: what an answer is written to is in the store before the model is asked; one answer at a
time; whatever happens to it, the next one is possible. Leaves to others: what is asked
(`asking`, `branching`), the answer's thread (`answer`), tools (`tools`).
"""

from __future__ import annotations

import functools
import logging
import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

from gguf_widgets.core.chat.answer import Answer, ChatModel, describe
from gguf_widgets.core.chat.asked import Asked
from gguf_widgets.core.chat.begin import Begin
from gguf_widgets.core.chat.follow import Follower
from gguf_widgets.core.chat.saver import Saver
from gguf_widgets.core.chat.state import ChatState
from gguf_widgets.core.chat.tree import Tree
from gguf_widgets.core.chat.types import (
    ChatMessage,
    EventKind,
    MessageStatus,
    Phase,
    title_from,
)
from gguf_widgets.core.errors import InvalidValueError, RequestError, StoreError
from gguf_widgets.core.store.conversations import new_id
from gguf_widgets.core.types import TextDelta

__all__ = ["ChatAnswering", "Deltas"]

Deltas = queue.SimpleQueue[TextDelta | None]
"""Gets the pieces of an answer, and None at its end."""

_log = logging.getLogger(__name__)


class ChatAnswering(ChatState):
    """The part of `ChatInterface` that has answers written; see there."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._saver = Saver(
            self._conversations,
            self._notice,
            self._take_notice_back,
            lambda: self._emit(EventKind.MODEL),
            self._lock,
        )
        self._follower: Follower | None = None
        self._ending: set[Answer] = set()  # stopped answers of what is not on screen any more
        self._closed = False

    # -- beginning an answer ----------------------------------------------------------------------

    def _ask(
        self,
        make: Callable[[ChatModel], tuple[list[ChatMessage], ChatMessage | None, Begin]],
        sampling: Mapping[str, Any],
        deltas: Deltas | None = None,
        *,
        told_as_added: bool = False,
        system: str | None = None,
        remember: Callable[[], None] = lambda: None,
        goes_on: bool = False,
    ) -> Answer:
        """Begin an answer.

        Parameters
        ----------
        make : callable
            With the lock held and in a transaction: returns the line of messages on screen before
            it, a message to be added to it, and what the answer begins with.
        system : str, optional
            The system prompt, instead of the chat's; "" sends none.
        remember : callable
            Called once it is certain.
        goes_on : bool
            Whether it follows on the results of tools.
        """
        begun: Answer | None = None
        try:
            with self._lock:
                model = self._ready()
                self._saver.retry()
                with self.store.transaction():
                    line, asked, begin = make(model)
                    line = [*line, asked] if asked is not None else line
                    sent_system = self.system if system is None else system or None
                    answer = self._new_answer(line, model, sampling, begin, sent_system, deltas)
                    self._conversations.add(*([asked] if asked is not None else []), answer.message)
                if not goes_on:
                    self._tool_loop.leave_turn()
                    self._forget_notices()
                remember()
                self._conversation_id = answer.message.conversation_id
                if asked is not None:
                    self._title = self._title or title_from(asked.content)
                self._messages = [*line, answer.message]
                self._answer = begun = answer
                self._look_at_tree()
            if told_as_added:
                for message in self._messages_added(asked, answer):
                    self._emit(EventKind.ADDED, message=message, message_id=message.id)
            else:
                self._emit(EventKind.RESET)
        finally:
            if begun is not None:
                begun.start()  # also when an interrupt comes just now: only a begun answer can end
        return answer

    @staticmethod
    def _messages_added(asked: ChatMessage | None, answer: Answer) -> list[ChatMessage]:
        return [*([asked] if asked is not None else []), answer.message]

    def _new_answer(
        self,
        line: list[ChatMessage],
        model: ChatModel,
        sampling: Mapping[str, Any],
        begin: Begin,
        system: str | None,
        deltas: Deltas | None = None,
    ) -> Answer:
        settings = self.sampling.replace(**sampling) if sampling else self.sampling
        message = ChatMessage(
            id=new_id(),
            conversation_id=line[-1].conversation_id,
            parent_id=line[-1].id,
            role="assistant",
            content=begin.text,
            status=MessageStatus.STREAMING,
            created_at=time.time(),
            model_name=model.name,
            model=describe(model),
            sampling=settings,
            system=system,
            model_type=self.model_type,
            begin=begin.text,
        )
        asked = Asked(
            model=self._tool_loop.model_for(model, line),
            line=tuple(line),
            system=system,
            settings=settings,
            own_sampling=dict(sampling),
            when_full=self._when_full,
            begin=begin,
            num_alternatives=self._record_tokens,
            make=self._prompt_maker(model),
        )
        return Answer(message, asked, self, deltas)

    def _answer_after(
        self, message: ChatMessage, sampling: Mapping[str, Any], deltas: Deltas | None = None
    ) -> Answer:
        """Begin the answer that follows an answer: the model goes on after its tools' results."""

        def make(model: ChatModel) -> tuple[list[ChatMessage], None, Begin]:
            if self._tool_loop.was_stopped:  # in this very moment
                raise RequestError("It was stopped.", reason="stopped")
            if not self._messages or self._messages[-1].id != message.id:
                raise RequestError(
                    "The conversation went on elsewhere meanwhile.", reason="gone on"
                )
            self._kept_conversation("", model)
            return list(self._messages), None, Begin()

        system = message.system or ""
        return self._ask(make, sampling, deltas, told_as_added=True, system=system, goes_on=True)

    def _ready(self) -> ChatModel:
        """Return the model, if it may be asked now."""
        self._idle()
        if self._model is None:
            raise RequestError("Choose a model first.", reason="no model")
        return self._model

    def _idle(self) -> None:
        """Raise an error if the conversation cannot be changed now."""
        if self._closed:
            raise RequestError("This chat was closed. Make a new one.", reason="closed")
        if self._answer is not None:
            raise RequestError("An answer is still being written; press Stop first.", reason="busy")
        if self._tool_loop.running:
            raise RequestError("A tool is still running; press Stop first.", reason="busy")
        if self._messages and self._messages[-1].status is MessageStatus.STREAMING:
            raise RequestError(
                "An answer is still being written in another window. Wait for it, or begin a new "
                "conversation.",
                reason="busy elsewhere",
            )

    def _kept_conversation(self, content: str, model: ChatModel) -> str:
        """Return the id of the conversation in the store, begun or brought up to date."""
        about: dict[str, Any] = {
            "system": self.system,
            "model_type": self.model_type,
            "model_name": model.name,
            "model": describe(model),
        }
        if self._conversation_id is None:
            title = self._title or title_from(content)
            conversation_id = self._conversations.create(title=title, **about).id
            if self._pinned:
                self._conversations.update(conversation_id, pinned=True)
        else:
            conversation_id = self._conversation_id
            try:
                self._conversations.update(conversation_id, **about)
            except InvalidValueError as error:
                raise StoreError(
                    "This conversation is not in the store any more, so the message could not be "
                    "kept. Start a new conversation.",
                    reason="gone",
                    conversation_id=conversation_id,
                ) from error
        self._keep_settings(conversation_id)
        return conversation_id

    def _look_at_tree(self) -> None:
        """Learn which branches there are; what cannot be read now is shown as it was."""
        if self._conversation_id is None:
            self._tree = Tree()
            return
        try:
            self._tree = Tree(self._conversations.links(self._conversation_id))
        except StoreError as error:
            _log.warning("The branches of a conversation cannot be read: %s", error)

    def _forget_notices(self) -> None:
        """Show what was told before no longer, except that an answer is not saved yet."""
        told = self._saver.told
        self._notices = [one for one in self._notices if one in told]

    # -- an answer's life: called from its threads -------------------------------------------------

    def prepared(self, answer: Answer) -> None:
        """Show and keep what is left out; called by the answer."""
        with self._lock:
            self._replace(answer.message)
        self._saver.prepared(answer)
        self.phase_changed(answer)

    def phase_changed(self, answer: Answer) -> None:
        """Tell the observers what the model is doing; called by the answer."""
        if answer is self._answer:
            steps = answer.steps
            self._emit(
                EventKind.PROGRESS,
                message_id=answer.message.id,
                phase=answer.phase,
                num_done=steps.num_done,
                num_total=steps.num_total,
                fraction=steps.fraction,
            )

    def text_arrived(self, answer: Answer, delta: TextDelta) -> None:
        """Keep the new text and tell the observers; called by the answer."""
        with self._lock:
            new = answer.add(delta)
            tell = None
            if answer is self._answer:
                # In the same moment, or a snapshot would hold a text whose event comes later.
                number = functools.partial(
                    self._observers.number, message_id=answer.message.id, phase=Phase.WRITING
                )
                if new is None:
                    tell = self._observers.number(EventKind.RESET)
                else:
                    tell = number(
                        EventKind.DELTA,
                        text=new,
                        num_completion_tokens=delta.num_completion_tokens,
                    )
        if tell is not None:
            self._observers.tell(tell)
        self._saver.progress(answer)

    def ended(self, answer: Answer, message: ChatMessage) -> None:
        """Keep the answer's last form and tell the observers; called by the answer."""
        try:
            self._saver.finish(message, answer)
        finally:  # whatever is wrong there, the next message must be possible
            with self._lock:
                self._ending.discard(answer)
                shown = answer is self._answer
                if shown:
                    self._answer = None
                self._replace(message)
        if shown:
            self._emit(EventKind.UPDATED, message=message, message_id=message.id)
        self._after(answer, message)

    def _after(self, answer: Answer, message: ChatMessage) -> None:
        """Take up what an answer asks for, when it is saved and shown."""
        self._tool_loop.after(answer, message)

    def _set_answer_aside(self) -> Answer | None:
        """Let go of the running answer; return it, to be stopped without the lock.

        It ends by itself then, and is kept in the store.
        """
        answer, self._answer = self._answer, None
        if answer is not None:
            self._ending.add(answer)
        return answer

    # -- an answer that another window writes ------------------------------------------------------

    def _unfollow(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop()

    def _follow(self) -> None:
        with self._lock:
            conversation_id = self._conversation_id
            open_ones = [m for m in self._messages if m.status is MessageStatus.STREAMING]
            if self._answer is not None:
                open_ones = [m for m in open_ones if m.id != self._answer.message.id]
            self._unfollow()
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
