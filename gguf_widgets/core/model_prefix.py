"""Prefixes that are computed once and kept in files: `Model.save_prefix` and `restore_prefix`.

Promises: one request to the worker each, without a time limit and with an end: an answer, one error
of the tree, or an interrupt, which takes the request back. Paths mean here what they mean to the
worker. Leaves to others: the file, and what it belongs to (`state_file`, `state_identity`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from gguf_widgets.core import config
from gguf_widgets.core.conversation_input import Conversation, check_text, to_messages
from gguf_widgets.core.errors import InvalidValueError, RequestCancelledError, WorkerError
from gguf_widgets.core.state_file import PrefixInfo
from gguf_widgets.core.types import Finished
from gguf_widgets.core.worker import protocol
from gguf_widgets.core.worker.client import WorkerClient

__all__ = ["PrefixInfo", "PrefixMethods"]

T = TypeVar("T")


class PrefixMethods:
    """What a `Model` can do with prefixes."""

    _chat_template: str | None

    def save_prefix(
        self, conversation: Conversation, path: str | os.PathLike[str], *, raw: bool = False
    ) -> PrefixInfo:
        """Compute the beginning of a conversation once and keep it in a file.

        For a long system prompt or document that many requests begin with: after `restore_prefix`,
        today or on another day, these begin to answer at once. They begin with it if they give the
        same messages first; a last message that is the user's may go on, as a document does with a
        question behind it. It is in the model's memory after this call, too.

        Parameters
        ----------
        conversation : str or list of messages
            As for `chat`: a str is the beginning of one user message.
        path : path
            The file. A saved prefix that is there is replaced, and nothing else is. It is large:
            some dozens to hundreds of kilobytes a token, with most models.
        raw : bool, default False
            The str is a text for `complete`, without a chat template.

        Returns
        -------
        PrefixInfo

        Raises
        ------
        StateFileError
            If it cannot be written there; ``details["problem"]`` says why.
        ContextOverflowError, ChatTemplateError, DecodeError
            If it cannot be computed.

        Notes
        -----
        The file is of use to you alone, with this model file and these settings, and it holds the
        text: see `core.state_file`.

        Examples
        --------
        >>> import gguf_widgets as gw
        >>> model = gw.load("demo")  # doctest: +SKIP
        >>> rules = {"role": "system", "content": open("rules.txt").read()}  # doctest: +SKIP
        >>> model.save_prefix([rules], "rules.prefix")  # doctest: +SKIP
        >>> model.restore_prefix("rules.prefix")  # doctest: +SKIP
        >>> model.chat([rules, {"role": "user", "content": "May I?"}])  # doctest: +SKIP
        """
        if raw:
            check_text(conversation, "The text")
            if not conversation:
                raise InvalidValueError("The text is empty: there is nothing to save.")
            prompt = protocol.Prompt(text=str(conversation))
        else:
            prompt = protocol.Prompt(
                messages=to_messages(conversation), chat_template=self._chat_template
            )
        name = _full(path)
        return self._wait_for(
            lambda request_id: protocol.SavePrefix(request_id=request_id, prompt=prompt, path=name)
        )

    def restore_prefix(self, path: str | os.PathLike[str]) -> PrefixInfo:
        """Put a saved prefix into the model's memory; requests that begin with it begin at once.

        It stays there until running requests need the room, or the model's process ends. A model
        with a running state (Mamba and its like) gives each request a copy, and needs a free place
        for that (``n_seq_max``).

        Parameters
        ----------
        path : path
            What `save_prefix` wrote.

        Returns
        -------
        PrefixInfo
            `num_cached_tokens` is all of them if the prefix was there already.

        Raises
        ------
        StateFileError
            If the file is not there, not whole, not yours, or belongs to another model or other
            settings; ``details["problem"]`` says which.
        WorkerBusyError
            If running requests have the room that it needs.
        """
        name = _full(path)
        return self._wait_for(
            lambda request_id: protocol.RestorePrefix(request_id=request_id, path=name)
        )

    def _wait_for(self, make: Callable[[str], Any]) -> PrefixInfo:
        sent: list[tuple[WorkerClient, str]] = []

        def send(client: WorkerClient) -> Future[Any]:
            def note(request_id: str) -> Any:
                sent[:] = [(client, request_id)]
                return make(request_id)

            return client.call(note)

        future = self._with_client(send)
        try:
            answer = future.result()
        except BaseException:
            if not future.done():  # an interrupt: nobody waits any more
                for client, request_id in sent:
                    client.abort(request_id)
            raise
        if isinstance(answer, Finished):
            raise RequestCancelledError("The request about a saved prefix was stopped.")
        if not isinstance(answer, protocol.Prefix):
            raise WorkerError(f"The worker answered with a {type(answer).__name__}.")
        return answer.info

    def _with_client(self, use: Callable[[WorkerClient], T]) -> T:
        """Call `use` with a working connection; `Model` has it."""
        raise NotImplementedError


def _full(path: str | os.PathLike[str]) -> str:
    try:
        name = os.fspath(path)
    except TypeError as error:
        raise InvalidValueError(
            f"The path is a {type(path).__name__}; it must be a text or a Path."
        ) from error
    check_text(name, "The path")
    if not name or "\0" in name:
        raise InvalidValueError("The path is empty, or holds a zero byte: there is no such file.")
    return str(config.expanded(name))
