"""A conversation with a model, without any screen.

Promises
--------
- Every message is in the store before the model is asked, and an answer is written there as it
  arrives: a reload, a new kernel or a crash finds it again.
- One answer at a time, on a thread of its own; `stop` ends it at any moment and keeps what had
  arrived. A failed answer keeps its error and loses nothing of the conversation; the next message
  works.
- A conversation is a tree: nothing that was written is changed or lost, and `undo` leads back.
- Every method may be called from any thread. Observers are called without any lock held, from the
  thread in which things happen (for an answer: its own); one that raises is logged and changes
  nothing. `ChatEvent.seq` tells in which order things happened.

Leaves to others: showing it (`widgets.chat_box`), running the model (`core.model`). The parts of
the class are in files of their own: what it holds (`state`, `settings_held`), sending
(`asking`), branches (`branching`); here is which conversation it is.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gguf_widgets.core.chat.answer import Answer, ChatModel
from gguf_widgets.core.chat.branching import ChatBranching
from gguf_widgets.core.chat.tools import Approver
from gguf_widgets.core.chat.tree import Tree
from gguf_widgets.core.chat.types import EventKind, title_from, well_formed
from gguf_widgets.core.chat.undo import Step
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.store import Store, default_store

if TYPE_CHECKING:
    from gguf_widgets.core.chat.repeat import Repeat

__all__ = ["ChatInterface"]

_CLOSE_WAIT_S = 10.0
_MAX_TITLE = 200

_log = logging.getLogger(__name__)


class ChatInterface(ChatBranching):
    """A conversation with a model.

    Parameters
    ----------
    model : Model, optional
        Who answers; it can be set and changed later.
    system : str, optional
        The system prompt. None takes the one of `model_type`; "" sends none.
    model_type : str, optional
        The preset that system prompt and sampling settings start from. Default: "text", or that of
        the conversation that is gone on with.
    conversation_id : str, optional
        A conversation of the store to go on with. Without it a new one begins with the first
        message.
    store : Store, optional
        Default: this process's own, `store.default_store()`.
    tools : ToolBox or list of callable, optional
        Functions that the model may ask for.
    approve : callable, optional
        Asked before each call of a tool that needs a yes, in place of a person: True lets it run,
        "always" later calls of that tool in this conversation, too; anything else declines it.
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
        model_type: str | None = None,
        conversation_id: str | None = None,
        store: Store | None = None,
        tools: Any = None,
        approve: Approver | None = None,
        **sampling: Any,
    ) -> None:
        store = store if store is not None else default_store()
        preset = "text" if model_type is None else model_type
        super().__init__(model, system, preset, sampling, store, tools, approve)
        if conversation_id is not None:
            self.open(conversation_id)
            # What is said here counts more than what was kept.
            if model_type is not None:
                self.model_type = model_type
            if system is not None:
                self.system = system
            if sampling:
                self.change_settings(lambda settings: settings.change(**sampling))

    # -- which conversation -----------------------------------------------------------------------

    def clear(self) -> None:
        """Begin a new conversation; the old one stays in the store. A running answer is stopped."""
        with self._lock:
            if self._conversation_id is not None:
                self._undo.leave()
                self._undo.add(self._step_back("starting a new conversation"))
            left = self._leave()
        if left is not None:
            left.stop()
        self._emit(EventKind.RESET)

    def open(self, conversation_id: str) -> None:
        """Go on with a conversation of the store, its system prompt and settings included.

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
        with self._lock:
            another = conversation_id != self._conversation_id
            left, notice = self._open(conversation_id, None)
            if another:
                self._undo.leave()
        if left is not None:
            left.stop()
        self._emit(EventKind.RESET)
        if notice is not None:
            self._notice(notice)
        self._follow()

    def open_latest(self) -> bool:
        """Go on with the conversation that was changed last; return whether there is one."""
        latest = self._conversations.latest()
        if latest is None:
            return False
        self.open(latest.id)
        return True

    def delete(self) -> None:
        """Delete the conversation and begin a new one; `undo` brings it back for 30 days.

        A running answer is stopped. Without a conversation there is nothing to do.

        Raises
        ------
        StoreError
            It could not be deleted; everything is as it was.
        """
        with self._lock:
            conversation_id = self._conversation_id
            if conversation_id is None:
                return
            step = self._step_back(f"deleting “{self._title}”")._replace(is_deleted=True)
            try:
                self._conversations.delete(conversation_id)
            except InvalidValueError:
                _log.info("The conversation %s was removed already", conversation_id)
            self._undo.leave()
            self._undo.add(step)
            left = self._leave()
        if left is not None:
            left.stop()
        self._emit(EventKind.RESET)

    @property
    def title(self) -> str:
        """The conversation's title: from its first message, or what it is set to.

        Setting it to "" takes the first message's again.
        """
        return self._title

    @title.setter
    def title(self, title: str) -> None:
        if not isinstance(title, str):
            raise InvalidValueError(f"A title must be a text, not {type(title).__name__}.")
        title = " ".join(well_formed(title).split())
        if len(title) > _MAX_TITLE:
            raise InvalidValueError(
                f"The title has {len(title):,} characters; there is room for {_MAX_TITLE}. Make it "
                "shorter."
            )
        with self._lock:
            if not title and self._messages:
                title = title_from(self._messages[0].content)
            if self._conversation_id is not None:
                self._conversations.update(self._conversation_id, title=title)
            self._title = title
        self._emit(EventKind.MODEL)

    @property
    def pinned(self) -> bool:
        """Whether the conversation stays at the top of the list."""
        return self._pinned

    @pinned.setter
    def pinned(self, pinned: bool) -> None:
        with self._lock:
            if self._conversation_id is not None:
                self._conversations.update(self._conversation_id, pinned=bool(pinned))
            self._pinned = bool(pinned)
        self._emit(EventKind.MODEL)

    def _step_back(self, words: str) -> Step:
        """Return what is needed to come back to what is on screen now."""
        assert self._conversation_id is not None  # noqa: S101 - for the type checker
        leaf_id = self._messages[-1].id if self._messages else None
        return Step(words, self._conversation_id, leaf_id)

    def _open(self, conversation_id: str, leaf_id: str | None) -> tuple[Answer | None, str | None]:
        """Put a conversation on screen, with the lock held.

        Returns the answer that was left, and what the person should be told.
        """
        self._saver.try_again()  # else what is shown would be older than what was here
        conversation = self._conversations.get(conversation_id)
        messages = self._saver.newest(self._conversations.path(conversation_id, leaf_id))
        if leaf_id is not None and leaf_id != conversation.active_leaf_id:
            self._conversations.set_active_leaf(conversation_id, leaf_id)
        left = self._leave()
        self._conversation_id = conversation.id
        self._title = conversation.title
        self._pinned = conversation.pinned
        self._messages = messages
        self._look_at_tree()
        return left, self._take_settings_of(conversation)

    def _leave(self) -> Answer | None:
        """Forget the conversation; return its answer, to be stopped without the lock."""
        left = self._set_answer_aside()
        self._tool_loop.stop()
        self._unfollow()
        self._conversation_id = None
        self._title = ""
        self._pinned = False
        self._messages = []
        self._tree = Tree()
        self._forget_notices()
        return left

    # -- files, and the same again ----------------------------------------------------------------

    def export(
        self,
        format: str = "markdown",  # noqa: A002 - the word that people look for
        *,
        tokens: bool = True,
    ) -> str:
        """Return the conversation as a text.

        Parameters
        ----------
        format : {"markdown", "html", "text", "json", "openai", "openai-jsonl"}
            JSON holds everything and can be loaded again; the others hold the branch on screen.
        tokens : bool, default True
            Whether JSON holds the tokens of the answers with their alternatives, too.

        Raises
        ------
        InvalidValueError
            There is no message yet, or no such format.
        StoreError
            The store cannot be read.
        """
        from gguf_widgets.core.chat.export import export_chat

        self._saver.try_again()
        return export_chat(self, format, tokens=tokens)

    def save(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002 - as in `export`
        *,
        tokens: bool = True,
    ) -> Path:
        """Write the conversation to a file and return its path.

        Parameters
        ----------
        path : str or path
            A file that is there already is replaced.
        format, tokens
            As in `export`; without a format the file's ending says it.

        Raises
        ------
        InvalidValueError
            There is no message yet, no such format, or the file cannot be written.
        StoreError
            The store cannot be read.
        """
        from gguf_widgets.core.chat.export import save_chat

        self._saver.try_again()
        return save_chat(self, path, format, tokens=tokens)

    @classmethod
    def load_file(
        cls,
        path: str | os.PathLike[str],
        model: ChatModel | None = None,
        *,
        store: Store | None = None,
        **keywords: Any,
    ) -> Self:
        """Take a conversation from a file into the store, and go on with it.

        Parameters
        ----------
        path : str or path
            A file that `save` has written, or messages in OpenAI's form.
        model, store, **keywords
            As for `ChatInterface`.

        Raises
        ------
        InvalidValueError
            The file is none of these.
        StoreError
            It could not be kept.
        """
        from gguf_widgets.core.chat.export import load_chat

        store = store if store is not None else default_store()
        conversation = load_chat(path, store)
        return cls(model, conversation_id=conversation.id, store=store, **keywords)

    def _repr_html_(self) -> str:
        # Also in a notebook that was exported: it needs no page and no kernel.
        from gguf_widgets.core.chat.export import html_of

        return html_of(self)

    def repeat(self, message_id: str | None = None) -> Repeat:
        """Write an answer once more with the same seed and settings, and compare the two.

        Parameters
        ----------
        message_id : str, optional
            An answer on screen. Default: the last one.

        Returns
        -------
        Repeat
            Whether the new answer, a branch, is the same, and which recorded things differ.

        Raises
        ------
        InvalidValueError
            It is no answer on screen, or none that a model has written to an end.
        RequestError, StoreError
            As in `start`.
        """
        from gguf_widgets.core.chat.repeat import repeat

        return repeat(self, message_id)

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop what runs, wait at most 10 s for it, and let go of the observers."""
        with self._lock:
            self._closed = True
            answers = [*self._ending, *([self._answer] if self._answer is not None else [])]
            self._unfollow()
        for answer in answers:
            answer.stop()
        self._tool_loop.close()
        deadline = time.monotonic() + _CLOSE_WAIT_S
        for answer in answers:
            if not answer.join(max(0.0, deadline - time.monotonic())):
                _log.warning("An answer did not end within %g s of closing.", _CLOSE_WAIT_S)
        self._saver.try_again()
        self._observers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
