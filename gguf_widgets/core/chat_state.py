"""What a chat holds at each moment: its settings, its messages, the answer being written.

Promises: whatever is read is of one moment, whichever thread asks; a snapshot holds exactly what
the events up to its `seq` have told. Leaves to others: everything that happens (`chat`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gguf_widgets.core.chat_answer import Answer, ChatModel
from gguf_widgets.core.chat_events import Observers
from gguf_widgets.core.chat_prompt import prompt_for
from gguf_widgets.core.chat_settings import ChatSettings
from gguf_widgets.core.chat_types import (
    ChatEvent,
    ChatMessage,
    ChatSnapshot,
    ContextUse,
    EventKind,
)
from gguf_widgets.core.types import Message, SamplingSettings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChatState"]


class ChatState:
    """The part of `ChatInterface` that holds and shows; see there."""

    def __init__(
        self,
        model: ChatModel | None,
        system: str | None,
        model_type: str,
        sampling: Mapping[str, Any],
    ) -> None:
        self._lock = threading.RLock()
        self._observers = Observers()
        self._model = model
        self._settings = ChatSettings(model_type, system, sampling)
        self._conversation_id: str | None = None
        self._title = ""
        self._messages: list[ChatMessage] = []
        self._answer: Answer | None = None
        self._notices: list[str] = []

    # -- settings ---------------------------------------------------------------------------------

    @property
    def model(self) -> ChatModel | None:
        """Who answers; a change counts from the next message."""
        return self._model

    @model.setter
    def model(self, model: ChatModel | None) -> None:
        self._model = model
        self._emit(EventKind.MODEL)

    @property
    def system(self) -> str | None:
        """The system prompt of the next message; None sends none.

        Set it to None to take the one of the model type, to "" to send none.
        """
        return self._settings.system

    @system.setter
    def system(self, system: str | None) -> None:
        with self._lock:
            self._settings.system = system
        self._emit(EventKind.MODEL)

    @property
    def model_type(self) -> str:
        """The preset in use."""
        return self._settings.model_type

    @model_type.setter
    def model_type(self, name: str) -> None:
        with self._lock:
            self._settings.model_type = name
        self._emit(EventKind.MODEL)

    @property
    def sampling(self) -> SamplingSettings:
        """The sampling settings of the next message.

        Set it to `SamplingSettings` to use exactly these, or to a dict to change some settings of
        the preset; ``{}`` goes back to the preset.
        """
        return self._settings.sampling

    @sampling.setter
    def sampling(self, sampling: SamplingSettings | Mapping[str, Any]) -> None:
        with self._lock:
            self._settings.sampling = sampling
        self._emit(EventKind.MODEL)

    # -- the conversation -------------------------------------------------------------------------

    @property
    def conversation_id(self) -> str | None:
        """The conversation's id in the store; None before its first message."""
        return self._conversation_id

    @property
    def title(self) -> str:
        """The conversation's title, from its first message."""
        return self._title

    @property
    def messages(self) -> list[ChatMessage]:
        """The messages on screen, oldest first; an answer being written with what has arrived."""
        with self._lock:
            answer = self._answer
            if answer is None:
                return list(self._messages)
            return [
                answer.current if message.id == answer.message.id else message
                for message in self._messages
            ]

    @property
    def busy(self) -> bool:
        """Whether an answer is being written."""
        return self._answer is not None

    @property
    def context_used(self) -> ContextUse:
        """Tokens of the context that the conversation fills, and how many the model has.

        The count is that of the last answer's request; 0 before any. ``available`` is None without
        a model.
        """
        with self._lock:
            available = self._model.settings.n_ctx if self._model is not None else None
            answer = self._answer
            used = answer.num_context_tokens if answer is not None else None
            if used is None:
                usages = (message.usage for message in reversed(self._messages))
                used = next((usage.num_context_tokens for usage in usages if usage), 0)
            return ContextUse(used, available)

    def prompt_messages(self) -> list[Message]:
        """Return what the model would be sent with the next message (see `chat_prompt`)."""
        return prompt_for(self.messages, self.system).messages

    def snapshot(self) -> ChatSnapshot:
        """Return the whole state, for a page that begins to show this chat."""
        with self._lock:
            answer = self._answer
            messages = self.messages
            progress = answer.progress if answer is not None else None
            return ChatSnapshot(
                seq=self._observers.seq,
                conversation_id=self._conversation_id,
                title=self._title,
                messages=messages,
                busy=answer is not None,
                phase=answer.phase if answer is not None else None,
                num_done=progress.num_done if progress is not None else None,
                num_total=progress.num_total if progress is not None else None,
                context=self.context_used,
                model_name=self._model.name if self._model is not None else None,
                model_type=self.model_type,
                system=self.system,
                sampling=self.sampling,
                left_out=prompt_for(messages, None).left_out,
                notices=list(self._notices),
            )

    def to_frame(self) -> pd.DataFrame:
        """Return the messages as a table, one row a message.

        Columns: ``role``, ``content``, ``status``, ``finish_reason``, ``created`` (UTC),
        ``model``, ``seed``, ``num_prompt_tokens``, ``num_cached_tokens``,
        ``num_completion_tokens``, ``ttft_s``, ``total_s``, ``decode_tok_per_s``, ``error``, ``id``,
        ``parent_id``.
        """
        from gguf_widgets.core.chat_frame import to_frame

        return to_frame(self.messages)

    # -- observing --------------------------------------------------------------------------------

    def subscribe(self, callback: Callable[[ChatEvent], None]) -> Callable[[], None]:
        """Call `callback` with every `ChatEvent` from now on; return what ends that.

        It is called from the thread in which things happen and should return quickly: the answer
        waits for it.
        """
        return self._observers.subscribe(callback)

    def _emit(self, kind: EventKind, **fields: Any) -> None:
        """Tell what has happened, where it does no harm if a snapshot shows it already."""
        with self._lock:
            event = self._observers.number(kind, **fields)
        self._observers.tell(event)

    def _notice(self, text: str) -> None:
        with self._lock:
            self._notices = [*self._notices[-9:], text]
        self._emit(EventKind.NOTICE, text=text)

    def _replace(self, message: ChatMessage) -> None:
        self._messages = [message if known.id == message.id else known for known in self._messages]

    def __repr__(self) -> str:
        model = self._model.name if self._model is not None else "no model"
        return f"<ChatInterface {self._title!r}, {len(self._messages)} messages, {model}>"
