"""What a chat holds at each moment: its settings, its messages, the answer being written.

Promises: whatever is read is of one moment, whichever thread asks; a snapshot holds exactly what
the events up to its `seq` have told. Leaves to others: everything that happens (`interface`).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gguf_widgets.core.chat import context as chat_context
from gguf_widgets.core.chat.answer import Answer, ChatModel, Steps
from gguf_widgets.core.chat.context import ContextPlan
from gguf_widgets.core.chat.events import Observers
from gguf_widgets.core.chat.prompt import Prompt, left_out_of, prompt_for
from gguf_widgets.core.chat.settings import ChatSettings
from gguf_widgets.core.chat.settings_held import HoldsSettings
from gguf_widgets.core.chat.tools import Approver, ToolLoop
from gguf_widgets.core.chat.tree import Tree
from gguf_widgets.core.chat.types import (
    Attachment,
    ChatEvent,
    ChatMessage,
    ChatSnapshot,
    ContextUse,
    EventKind,
)
from gguf_widgets.core.chat.undo import UndoList
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Message, TokenLogprob

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChatState"]


_MAX_ALTERNATIVES = 100


class ChatState(HoldsSettings):
    """The part of `ChatInterface` that holds and shows; see there."""

    def __init__(
        self,
        model: ChatModel | None,
        system: str | None,
        model_type: str,
        sampling: Mapping[str, Any],
        store: Store,
        tools: Any = None,
        approve: Approver | None = None,
    ) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._observers = Observers()
        self._model = model
        self._settings = ChatSettings(model_type, system, sampling, store)
        self._conversations = Conversations(store)
        self._conversation_id: str | None = None
        self._title = ""
        self._pinned = False
        self._messages: list[ChatMessage] = []
        self._tree = Tree()
        self._answer: Answer | None = None
        self._notices: list[str] = []
        self._undo = UndoList()
        self._record_tokens = 5
        self._when_full = "stop"
        self._tool_loop = ToolLoop(self, tools, approve)

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
    def record_tokens(self) -> int:
        """How many alternatives are kept for each token of an answer; 0 keeps no tokens.

        They are what `tokens`, `branch_at` and an exact `continue_answer` need. From the next
        answer on.
        """
        return self._record_tokens

    @record_tokens.setter
    def record_tokens(self, number: int) -> None:
        if not isinstance(number, int) or not 0 <= number <= _MAX_ALTERNATIVES:
            raise InvalidValueError(
                f"record_tokens is {number!r:.40}; it must be a whole number from 0 (keep none) to "
                f"{_MAX_ALTERNATIVES}."
            )
        self._record_tokens = int(number)
        self._emit(EventKind.MODEL)

    @property
    def when_full(self) -> str:
        """What happens when the context is full: "stop", "drop_oldest" or "summarize".

        "stop" is an error that says by how much, "drop_oldest" leaves the oldest messages out, and
        with "summarize" the model sums them up. What was left out is named in the answer.
        """
        return self._when_full

    @when_full.setter
    def when_full(self, choice: str) -> None:
        if choice not in chat_context.WHEN_FULL:
            raise InvalidValueError(
                f"when_full is {choice!r:.40}; it can be one of: "
                f"{', '.join(map(repr, chat_context.WHEN_FULL))}."
            )
        self._when_full = choice
        self._emit(EventKind.MODEL)

    @property
    def tool_loop(self) -> ToolLoop:
        """The calls of tools under way, for whoever asks the person about them."""
        return self._tool_loop

    @property
    def tools(self) -> Any:
        """The tools that the model may ask for, a `ToolBox`; None without. Functions may be set."""
        return self._tool_loop.tools

    @tools.setter
    def tools(self, tools: Any) -> None:
        self._tool_loop.tools = tools

    # -- the conversation -------------------------------------------------------------------------

    @property
    def conversation_id(self) -> str | None:
        """The conversation's id in the store; None before its first message."""
        return self._conversation_id

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
        """Whether an answer is being written, or a tool runs for one."""
        return self._answer is not None or self._tool_loop.running

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
        """Return what the model would be sent with the next message (see `prompt`)."""
        make = self._prompt_maker(self._model)
        return make(self.messages, self.system).messages

    def _prompt_maker(self, model: Any) -> Callable[[Sequence[ChatMessage], str | None], Prompt]:
        """Return `prompt.prompt_for` with the files, for what this model can see."""
        sees = bool(getattr(model, "sees_images", True))
        return functools.partial(prompt_for, files=self._conversations.file, sees=sees)

    def context_plan(
        self, text: str = "", attachments: Sequence[Attachment] = (), begin: str = ""
    ) -> ContextPlan:
        """Return how full the context would be with a message that is not sent yet.

        Parameters
        ----------
        text : str
        attachments : sequence of Attachment
        begin : str
            What the answer is to begin with.

        Raises
        ------
        InvalidValueError
            No model is chosen.
        GgufWidgetsError
            The model cannot be asked.
        """
        model = self._model
        if model is None:
            raise InvalidValueError("Choose a model first: the size of the context is the model's.")
        with self._lock:
            line, system, settings = self.messages, self.system, self.sampling
        asked = self._tool_loop.model_for(model, line)
        return chat_context.plan(
            line, system, asked, settings, text, attachments, begin, make=self._prompt_maker(model)
        )

    def tokens(self, message_id: str) -> list[TokenLogprob] | None:
        """Return the tokens of an answer with their alternatives; None if none were recorded.

        They are all of its tokens, or those after `begin` if that was given as words (see
        `token_start`). Those of an answer that broke off may end before its text does.
        """
        with self._lock:
            answer = self._answer
            if answer is not None and answer.message.id == message_id:
                return answer.tokens
        return self._conversations.tokens(message_id)

    def token_start(self, message_id: str) -> int:
        """Return the place in an answer's text at which its recorded tokens begin.

        Raises
        ------
        InvalidValueError
            There is no such message in this conversation.
        """
        message = self._message(message_id)
        if not message.begin:
            return 0
        with self._lock:
            answer = self._answer
            if answer is not None and answer.message.id == message_id:
                return 0 if answer.num_given else len(message.begin)
        kept = self._conversations.kept_tokens(message_id)
        return 0 if kept is not None and kept.num_given else len(message.begin)

    def _message(self, message_id: str) -> ChatMessage:
        """Return a message of this conversation, on screen or not."""
        found = next((m for m in self.messages if m.id == message_id), None)
        if found is None and isinstance(message_id, str):
            found = self._conversations.message(message_id)
        if found is None or found.conversation_id != self._conversation_id:
            raise InvalidValueError(
                f"{message_id!r:.80} is no message of this conversation.",
                message_id=str(message_id)[:80],
            )
        return found

    def snapshot(self) -> ChatSnapshot:
        """Return the whole state, for a page that begins to show this chat."""
        with self._lock:
            answer = self._answer
            messages = self.messages
            steps = answer.steps if answer is not None else Steps()
            return ChatSnapshot(
                seq=self._observers.seq,
                conversation_id=self._conversation_id,
                title=self._title,
                messages=messages,
                busy=self.busy,
                phase=answer.phase if answer is not None else None,
                num_done=steps.num_done,
                num_total=steps.num_total,
                fraction=steps.fraction,
                context=self.context_used,
                model_name=self._model.name if self._model is not None else None,
                model_type=self.model_type,
                system=self.system,
                sampling=self.sampling,
                left_out=left_out_of(messages),
                notices=list(self._notices),
                branches=self._tree.places(message.id for message in messages),
                can_undo=self._undo.words,
                pinned=self._pinned,
                when_full=self._when_full,
                style=self.style,
            )

    def to_frame(self) -> pd.DataFrame:
        """Return the messages as a table, one row a message.

        Columns: ``role``, ``content``, ``status``, ``finish_reason``, ``created`` (UTC),
        ``model``, ``seed``, ``num_prompt_tokens``, ``num_cached_tokens``,
        ``num_completion_tokens``, ``ttft_s``, ``total_s``, ``decode_tok_per_s``, ``error``, ``id``,
        ``parent_id``.
        """
        from gguf_widgets.core.chat.frame import to_frame

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

    def _take_notice_back(self, text: str) -> None:
        """Show a notice no longer that is not true any more; whoever does this tells it."""
        with self._lock:
            if text in self._notices:
                self._notices.remove(text)  # one of them: others may have the same words

    def _replace(self, message: ChatMessage) -> None:
        self._messages = [message if known.id == message.id else known for known in self._messages]

    def __repr__(self) -> str:
        model = self._model.name if self._model is not None else "no model"
        return f"<ChatInterface {self._title!r}, {len(self._messages)} messages, {model}>"
