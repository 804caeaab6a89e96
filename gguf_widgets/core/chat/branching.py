"""A conversation as a tree: other answers, other questions, and the way back.

Promises: nothing that was written is ever changed or lost: whatever is edited, written again or
gone on with is a new branch beside the old one, in the store before the model is asked; what is on
screen is one line from a first message to a leaf; `undo` shows exactly what was on screen before.
Leaves to others: sending (`asking`), the shape of trees (`tree`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gguf_widgets.core.chat.answer import ChatModel
from gguf_widgets.core.chat.asking import ChatAsking
from gguf_widgets.core.chat.begin import (
    Begin,
    begin_before,
    begin_tokens,
    begin_whole,
    begin_words,
)
from gguf_widgets.core.chat.thinking import thinking_is_over
from gguf_widgets.core.chat.types import ChatMessage, EventKind, MessageStatus, checked_text
from gguf_widgets.core.chat.undo import Step
from gguf_widgets.core.errors import InvalidValueError, RequestError
from gguf_widgets.core.store.conversations import new_id

__all__ = ["ChatBranching"]


class ChatBranching(ChatAsking):
    """The part of `ChatInterface` that makes branches and shows them; see there."""

    def regenerate(
        self,
        message_id: str | None = None,
        *,
        system: str | None = None,
        begin: str | Sequence[int] = "",
        **sampling: Any,
    ) -> ChatMessage:
        """Answer once more, in the background; the answer before stays in the store as a branch.

        Parameters
        ----------
        message_id : str, optional
            The answer to replace on screen; what came after it goes from the screen too. Default:
            the last one.
        system : str, optional
            The system prompt, instead of the chat's; "" sends none.
        begin : str or sequence of int
            What the answer has to begin with: words, or tokens of this very model.
        **sampling
            As in `start`.

        Raises
        ------
        InvalidValueError
            It is no answer on screen.
        RequestError, StoreError
            As in `start`.
        """

        def make(model: ChatModel, old: ChatMessage) -> Begin:
            if isinstance(begin, str):
                return begin_words(begin, model, old)
            return begin_tokens(begin, old, self._conversations.kept_tokens(old.id), model)

        return self._branch(message_id, "answering again", make, sampling, system)

    def continue_answer(self, message_id: str | None = None, **sampling: Any) -> ChatMessage:
        """Let the model go on with an answer where it ended, in the background.

        The longer answer is a new branch. It is gone on with exactly, token by token, if the tokens
        were recorded with the model that is chosen now; else by its words, which a model may split
        into other tokens.

        Parameters
        ----------
        message_id : str, optional
            An answer on screen. Default: the last one.
        **sampling
            As in `start`.

        Raises
        ------
        InvalidValueError
            It is no answer on screen, is empty, or ended in calls of tools.
        RequestError, StoreError
            As in `start`.
        """

        def make(model: ChatModel, old: ChatMessage) -> Begin:
            return begin_whole(old, self._conversations.kept_tokens(old.id), model)

        return self._branch(message_id, "continuing the answer", make, sampling, as_then=True)

    def branch_at(self, message_id: str, index: int, token: int, **sampling: Any) -> ChatMessage:
        """Write an answer once more from one of its tokens on, with another one there.

        Parameters
        ----------
        message_id : str
            An answer on screen.
        index : int
            The number of the token in `tokens(message_id)`.
        token : int
            What comes there instead; one of the recorded alternatives, or any token of the model.
        **sampling
            As in `start`.

        Raises
        ------
        InvalidValueError
            It is no answer on screen, its tokens were not recorded, there is no such place, or the
            answer began with words and the token is only part of a character.
        RequestError
            Its tokens are those of another model; as in `start` besides.
        StoreError
            As in `start`.
        """

        def make(model: ChatModel, old: ChatMessage) -> Begin:
            kept = self._conversations.kept_tokens(old.id)
            return begin_before(old, kept, index, token, model)

        return self._branch(message_id, "going on with another word", make, sampling, as_then=True)

    def edit(
        self,
        message_id: str,
        text: str,
        *,
        attachments: Iterable[Any] | None = None,
        **sampling: Any,
    ) -> ChatMessage:
        """Change a message; the one before the change stays in the store as a branch.

        Parameters
        ----------
        message_id : str
            A message on screen; what came after it goes from the screen. A person's message is
            answered anew, in the background; an answer just has another text then.
        text : str
        attachments : iterable, optional
            A person's message: its files, as in `start`. Default: those it has.
        **sampling
            A person's message: as in `start`.

        Returns
        -------
        ChatMessage
            The new answer, still empty; or the answer with its new text.

        Raises
        ------
        InvalidValueError
            It is no message on screen, or the text is empty.
        RequestError, StoreError
            As in `start`.
        """
        content = checked_text(text)
        with self._lock:
            _, old = self._line_and_message(message_id)
            self._idle()
        if old.role == "assistant":
            if attachments is not None or sampling:
                raise InvalidValueError(
                    "An answer that you edit is not written by the model, so it takes no files and "
                    "no settings."
                )
            return self._edit_answer(message_id, content)
        files = old.attachments if attachments is None else self._attached(attachments)

        def make(model: ChatModel) -> tuple[list[ChatMessage], ChatMessage, Begin]:
            line, old = self._line_and_message(message_id)
            return line, self._question(content, files, old.parent_id, model), Begin()

        return self._ask(make, sampling, remember=self._remembering("editing your message")).message

    def _edit_answer(self, message_id: str, content: str) -> ChatMessage:
        with self._lock:
            self._idle()
            line, old = self._line_and_message(message_id)
            self._saver.retry()
            edited = ChatMessage(
                id=new_id(),
                conversation_id=old.conversation_id,
                parent_id=old.parent_id,
                role="assistant",
                content=content,
                status=MessageStatus.COMPLETE,
                created_at=time.time(),
                model_name=old.model_name,
                model=old.model,
                system=old.system,
                model_type=old.model_type,
                edited=True,
                record=_what_an_edit_keeps(old.record, content),
            )
            remember = self._remembering("editing the answer")
            self._conversations.add(edited)
            remember()
            self._messages = [*line, edited]
            self._look_at_tree()
        self._emit(EventKind.RESET)
        return edited

    # -- showing ----------------------------------------------------------------------------------

    def branches(self, message_id: str) -> list[str]:
        """Return the ids of a message and of those that stand in its place in other branches.

        Oldest first.

        Raises
        ------
        InvalidValueError
            There is no such message in this conversation.
        """
        with self._lock:
            self._message(message_id)
            self._look_at_tree()
            return self._tree.branches(message_id)

    def show_branch(self, message_id: str) -> None:
        """Show the branch that holds a message, down to the newest message after it.

        A running answer goes on, on screen or not.

        Raises
        ------
        InvalidValueError
            There is no such message in this conversation.
        StoreError
            It cannot be read, or the choice not be kept.
        """
        with self._lock:
            self._message(message_id)
            self._look_at_tree()
            self._show(self._tree.newest_leaf(message_id))
        self._emit(EventKind.RESET)
        self._follow()

    @property
    def can_undo(self) -> str:
        """What `undo` takes back, in words that follow "Undo"; "" if there is nothing."""
        return self._undo.words

    def undo(self) -> str:
        """Show what was on screen before the last edit, other answer, branch, clearing or deletion.

        What it takes back stays in the store as a branch; a deleted conversation is restored. An
        answer that was being written for it is stopped. A message sent since then ends the
        possibility to take a branch back, and opening another conversation all but deletions.

        Returns
        -------
        str
            The words of `can_undo`; "" if there was nothing to undo.

        Raises
        ------
        InvalidValueError
            What was there was removed for good meanwhile.
        StoreError
            It cannot be read, or not be kept; it can be tried again.
        """
        stopped, notice, gone = None, None, None
        with self._lock:
            step = self._undo.take()
            if step is None:
                return ""
            try:
                if step.is_deleted:
                    self._conversations.restore(step.conversation_id)
                if step.conversation_id == self._conversation_id:
                    self._show(step.leaf_id)
                    stopped = self._set_aside_if_unseen()
                    self._tool_loop.stop_unseen()
                else:
                    stopped, notice = self._open(step.conversation_id, step.leaf_id)
            except InvalidValueError as error:
                gone = error  # for good; what was done before may still be undone
            except BaseException:
                self._undo.add(step)
                raise
        if gone is not None:
            self._emit(EventKind.MODEL)  # what can be undone is another thing now
            raise gone
        if stopped is not None:
            stopped.stop()
        self._emit(EventKind.RESET)
        if notice is not None:
            self._notice(notice)
        self._follow()
        return step.words

    def _set_aside_if_unseen(self) -> Any:
        answer = self._answer
        if answer is None or any(m.id == answer.message.id for m in self._messages):
            return None
        return self._set_answer_aside()

    def _show(self, leaf_id: str | None) -> None:
        """Put the line that ends in a leaf on screen, and keep the choice."""
        conversation_id = self._conversation_id
        assert conversation_id is not None  # noqa: S101 - for the type checker; callers have one
        self._saver.try_again()  # else what is shown would be older than what was here
        line = self._conversations.path(conversation_id, leaf_id) if leaf_id is not None else []
        self._conversations.set_active_leaf(conversation_id, leaf_id)
        self._messages = self._saver.newest(line)
        self._look_at_tree()

    def _open(self, conversation_id: str, leaf_id: str | None) -> tuple[Any, str | None]:
        raise NotImplementedError

    # -- making branches --------------------------------------------------------------------------

    def _branch(
        self,
        message_id: str | None,
        words: str,
        make: Callable[[ChatModel, ChatMessage], Begin],
        sampling: Mapping[str, Any],
        system: str | None = None,
        *,
        as_then: bool = False,
    ) -> ChatMessage:
        """Begin an answer in place of one on screen; `as_then` with that one's system prompt."""
        with self._lock:
            _, old = self._line_and_answer(message_id)
            asked_model = self._ready()
        if as_then and old.model_type is not None:  # else it is older than this being kept
            system = old.system or ""
        begin = make(asked_model, old)  # without the lock: the model may be asked for it

        def make_answer(model: ChatModel) -> tuple[list[ChatMessage], None, Begin]:
            if model is not asked_model:
                raise RequestError("The model was changed in this moment. Try again.")
            line, _ = self._line_and_answer(old.id)
            self._kept_conversation("", model)
            return line, None, begin

        return self._ask(
            make_answer, sampling, system=system, remember=self._remembering(words)
        ).message

    def _remembering(self, words: str) -> Callable[[], None]:
        """Return what makes it possible to come back to what is on screen now."""

        def remember() -> None:
            if self._conversation_id is not None:
                leaf_id = self._messages[-1].id if self._messages else None
                self._undo.add(Step(words, self._conversation_id, leaf_id, is_branch=True))

        return remember

    def _line_and_message(self, message_id: str) -> tuple[list[ChatMessage], ChatMessage]:
        for index, message in enumerate(self._messages):
            if message.id == message_id:
                return self._messages[:index], message
        raise InvalidValueError(
            f"{message_id!r:.80} is no message on screen. Show its branch first (show_branch)."
        )

    def _line_and_answer(self, message_id: str | None) -> tuple[list[ChatMessage], ChatMessage]:
        """Return the messages on screen before an answer, and the answer; None means the last."""
        for index in range(len(self._messages) - 1, 0, -1):
            message = self._messages[index]
            if message.role == "assistant" and message_id in (None, message.id):
                return self._messages[:index], message
        raise InvalidValueError(
            "There is no answer to write again in this conversation."
            if message_id is None
            else f"{message_id!r:.80} is no answer of this conversation on screen."
        )


def _what_an_edit_keeps(record: Mapping[str, Any] | None, text: str) -> dict[str, Any] | None:
    """Return of a record what an edited text still needs: whether it begins inside thinking.

    It does only where the thinking ends in it, too: a text without that is what the person wants
    the model to have said, and no thought of it.
    """
    record = record or {}
    if record.get("opens_thinking") and thinking_is_over(text, opened=True):
        return {"opens_thinking": True}
    kept = record.get("template_variables")
    return {"template_variables": dict(kept)} if isinstance(kept, dict) else None
