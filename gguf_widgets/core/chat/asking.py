"""Sending messages in a chat.

Promises: a message that cannot be sent changes nothing; an interrupt stops the answer that was
waited for, and no other. Leaves to others: the answer (`answering`), branches
(`branching`), conversations (`interface`), what is sent (`context`), tools (`tools`).
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from gguf_widgets.core.chat.answer import Answer, ChatModel
from gguf_widgets.core.chat.answering import ChatAnswering, Deltas
from gguf_widgets.core.chat.begin import Begin, begin_words
from gguf_widgets.core.chat.stream import ChatStream
from gguf_widgets.core.chat.types import Attachment, ChatMessage, MessageStatus, checked_text
from gguf_widgets.core.store.conversations import new_id
from gguf_widgets.core.types import Reply

__all__ = ["ChatAsking"]


class ChatAsking(ChatAnswering):
    """The part of `ChatInterface` that sends messages; see there."""

    def start(
        self, text: str, attachments: Iterable[Any] = (), begin: str = "", **sampling: Any
    ) -> ChatMessage:
        """Send a message and return at once; the answer is written in the background.

        Parameters
        ----------
        text : str
        attachments : iterable
            Files to send with it (one alone needs no list): each an `Attachment` that is in the
            store, or a path, bytes or a PIL image (see `attach.attach`).
        begin : str
            The words that the answer has to begin with.
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
            The text is empty, a setting is not allowed, or a file cannot be sent.
        StoreError
            The message could not be kept; nothing was sent.
        """
        return self._begin(text, sampling, attachments, begin).message

    def send(
        self, text: str, attachments: Iterable[Any] = (), begin: str = "", **sampling: Any
    ) -> Reply:
        """Send a message and wait for the whole reply; like `start` otherwise.

        Where the model asks for tools, it is the reply after their results. An interrupt (Ctrl+C,
        the notebook's Stop) stops the answer; what had arrived is kept.

        Raises
        ------
        GgufWidgetsError
            The answer failed; the message in the conversation holds the error, too.
        """
        before = self._answer
        try:
            answer = self._begin(text, sampling, attachments, begin)
            return self._tool_loop.final(answer, answer.result())
        except KeyboardInterrupt:
            # It may have come when the answer had begun and nobody waited for it yet.
            running = self._answer
            if running is not None and running is not before:
                running.give_up()
            raise

    async def asend(
        self, text: str, attachments: Iterable[Any] = (), begin: str = "", **sampling: Any
    ) -> Reply:
        """Send a message and wait for the reply without blocking; cancelling stops the answer."""
        cancelled = threading.Event()
        begun: list[Answer] = []

        def begin_it() -> Answer:
            begun.append(self._begin(text, sampling, attachments, begin))
            if cancelled.is_set():
                begun[0].stop()
            return begun[0]

        try:
            answer = await asyncio.to_thread(begin_it)
            reply = await asyncio.wrap_future(answer.future)
            return await asyncio.to_thread(self._tool_loop.final, answer, reply)
        except asyncio.CancelledError:
            # The thread cannot be called back; whichever of the two comes second stops the answer.
            cancelled.set()
            self._tool_loop.stop()
            for answer in begun:
                self._tool_loop.last_of(answer).stop()
            raise

    def stream(
        self, text: str, attachments: Iterable[Any] = (), begin: str = "", **sampling: Any
    ) -> ChatStream:
        """Send a message and return an iterator over the pieces of the answer."""
        deltas: Deltas = queue.SimpleQueue()
        answer = self._begin(text, sampling, attachments, begin, deltas)
        return ChatStream(answer, deltas, self._tool_loop)

    def stop(self) -> None:
        """End the running answer, keeping what has arrived; without one it does nothing."""
        self._tool_loop.stop()
        answer = self._answer
        if answer is not None:
            answer.stop()

    def approve(self, call_id: str, always: bool = False) -> None:
        """Let a tool's call run that waits for a yes; `always` for later calls of that tool, too.

        Raises
        ------
        InvalidValueError
            No such call waits here.
        RequestError
            It was answered in another window.
        """
        self._tool_loop.approve(call_id, always=always)

    def decline(self, call_id: str) -> None:
        """Do not let a tool's call run; the model is told so. Errors as for `approve`."""
        self._tool_loop.decline(call_id)

    # -- what is sent -----------------------------------------------------------------------------

    def _begin(
        self,
        text: str,
        sampling: Mapping[str, Any],
        attachments: Iterable[Any] = (),
        begin: str = "",
        deltas: Deltas | None = None,
    ) -> Answer:
        content = checked_text(text)
        with self._lock:
            model = self._ready()  # before files are read
            self.sampling.replace(**sampling)  # and before calls of tools are set aside
        begun = begin_words(begin, model)  # without the lock: the model may be asked for it
        files = self._attached(attachments)
        self._remark_on_preset()
        self._tool_loop.set_aside()

        def make(model: ChatModel) -> tuple[list[ChatMessage], ChatMessage, Begin]:
            parent_id = self._messages[-1].id if self._messages else None
            asked = self._question(content, files, parent_id, model)
            return list(self._messages), asked, begun

        return self._ask(make, sampling, deltas, told_as_added=True, remember=self._undo.go_on)

    def _question(
        self,
        content: str,
        attachments: tuple[Attachment, ...],
        parent_id: str | None,
        model: ChatModel,
    ) -> ChatMessage:
        """Return a person's message; the conversation is begun in the store if it is the first."""
        return ChatMessage(
            id=new_id(),
            conversation_id=self._kept_conversation(content, model),
            parent_id=parent_id,
            role="user",
            content=content,
            status=MessageStatus.COMPLETE,
            created_at=time.time(),
            attachments=attachments,
        )

    def _attached(self, sources: Iterable[Any]) -> tuple[Attachment, ...]:
        """Keep the files that a message is sent with."""
        from gguf_widgets.core.chat.attach import attach

        if isinstance(sources, str | bytes | os.PathLike | Attachment):
            sources = [sources]  # one file, and not its letters
        kept: list[Attachment] = []
        for source in sources:
            if isinstance(source, Attachment):
                if source.kind == "image":
                    self._conversations.file(source.sha256)  # an error now, and not for the model
                kept.append(source)
                continue
            attachment, data = attach(source)
            self._conversations.keep_file(data, attachment.mime)
            kept.append(attachment)
        return tuple(kept)
