"""Keeping an answer in the store while it is being written.

Promises: what has arrived is written every `EVERY_S` seconds, so that a crash costs no more than
that, and its tokens, which are far bigger, every `TOKENS_EVERY_S`; a store that cannot be written
neither breaks nor holds up the answer: it is reported once, tried again later, and the last form is
kept here until it could be written. Leaves to others: the answer (`answer`), what the person
is shown (`interface`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from gguf_widgets.core.chat.answer import Answer
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.conversations import Conversations

__all__ = ["EVERY_S", "TOKENS_EVERY_S", "Saver"]

EVERY_S = 0.25
TOKENS_EVERY_S = 2.0

# Writing the tokens of a long answer takes longer and longer: it is done so seldom that it costs no
# more than a twentieth of the time.
_TOKENS_SHARE = 20

# The answer's thread writes, and text waits behind it: in the middle of an answer another program's
# lock is waited for only so long, and after a failure the next try is so much later.
_LOCK_WAIT_S = 0.1
_AFTER_FAILURE_S = 5.0

_log = logging.getLogger(__name__)


class Saver:
    """Writes the answers of one chat to the store.

    Parameters
    ----------
    conversations : Conversations
    report : callable
        Told in words when an answer cannot be kept; once an answer.
    """

    def __init__(self, conversations: Conversations, report: Callable[[str], None]) -> None:
        self._conversations = conversations
        self._report = report
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._tokens_due: dict[str, float] = {}
        self._reported: set[str] = set()
        self._unprepared: set[str] = set()
        self._unsaved: dict[str, tuple[ChatMessage, Answer | None]] = {}

    def prepared(self, answer: Answer) -> None:
        """Write what the answer is written with, and what is left out, with the next progress."""
        self._unprepared.add(answer.message.id)

    def progress(self, answer: Answer) -> None:
        """Write what has arrived, if it is time to."""
        message_id = answer.message.id
        if time.monotonic() < self._due.get(message_id, 0.0):
            return
        try:
            details = answer.current if message_id in self._unprepared else None
            self._conversations.save_progress(
                message_id, answer.text, details=details, wait_s=_LOCK_WAIT_S
            )
            self._unprepared.discard(message_id)
            self._save_tokens(answer)
        except StoreError as error:
            self._due[message_id] = time.monotonic() + _AFTER_FAILURE_S
            # Somebody else writing at this very moment is no news; the next try gets it.
            if error.details.get("reason") != "locked":
                self._tell(message_id, error)
        else:
            self._due[message_id] = time.monotonic() + EVERY_S

    def _save_tokens(self, answer: Answer) -> None:
        message_id = answer.message.id
        begun = time.monotonic()
        if begun < self._tokens_due.setdefault(message_id, begun + TOKENS_EVERY_S):
            return
        tokens = answer.tokens
        if tokens:
            self._conversations.keep_tokens(
                message_id, tokens, num_given=answer.num_given, wait_s=_LOCK_WAIT_S
            )
        took = time.monotonic() - begun
        self._tokens_due[message_id] = begun + max(TOKENS_EVERY_S, _TOKENS_SHARE * took)

    def finish(self, message: ChatMessage, answer: Answer | None = None) -> None:
        """Write the last form of an answer, and its tokens; if that fails, keep it for `retry`."""
        self._due.pop(message.id, None)
        self._tokens_due.pop(message.id, None)
        self._unprepared.discard(message.id)
        answer = answer or self._waiting_answer(message.id)
        try:
            self.write(message, answer)
        except StoreError as error:
            # A message whose conversation was removed has nowhere to go: telling is all.
            if error.details.get("reason") != "gone":
                with self._lock:
                    self._unsaved[message.id] = message, answer
            self._tell(message.id, error)

    def write(
        self, message: ChatMessage, answer: Answer | None = None, *, claims: bool = False
    ) -> None:
        """Write a message in place of any form of it that waits for `retry`.

        `claims` says that this process runs a call of it from now on.

        Raises
        ------
        StoreError
            It cannot be written; what waits still does.
        """
        self._write(message, answer or self._waiting_answer(message.id), claims=claims)
        with self._lock:
            self._unsaved.pop(message.id, None)

    def waiting(self, message_id: str) -> ChatMessage | None:
        """Return the form of a message that could not be written yet."""
        with self._lock:
            return self._unsaved.get(message_id, (None,))[0]

    def _waiting_answer(self, message_id: str) -> Answer | None:
        """Return the answer whose tokens could not be written yet."""
        with self._lock:
            return self._unsaved.get(message_id, (None, None))[1]

    def _write(self, message: ChatMessage, answer: Answer | None, *, claims: bool = False) -> None:
        tokens = answer.tokens if answer is not None else None
        with self._conversations.store.transaction():
            self._conversations.save(message, claims=claims)
            if tokens and answer is not None:
                self._conversations.keep_tokens(message.id, tokens, num_given=answer.num_given)

    def retry(self) -> None:
        """Write what could not be written before.

        Raises
        ------
        StoreError
            It still cannot be written.
        """
        with self._lock:
            waiting = list(self._unsaved.values())
        for message, answer in waiting:
            try:
                self._write(message, answer)
            except StoreError as error:
                # Its conversation was removed: it must not hold up the others for ever.
                if error.details.get("reason") != "gone":
                    raise
                _log.warning("An answer has no conversation any more: %s", error)
            with self._lock:
                self._unsaved.pop(message.id, None)

    def try_again(self) -> None:
        """Do what `retry` does if it can be done; what cannot be written goes on waiting."""
        try:
            self.retry()
        except StoreError as error:
            _log.warning("An answer can still not be kept in the store: %s", error)

    def newest(self, messages: Iterable[ChatMessage]) -> list[ChatMessage]:
        """Return messages of the store, each as it would be there if all could be written."""
        return [self.waiting(message.id) or message for message in messages]

    def _tell(self, message_id: str, error: StoreError) -> None:
        if message_id not in self._reported:
            self._reported.add(message_id)
            _log.warning("An answer could not be kept in the store: %s", error)
            self._report(f"This answer is not saved yet. {error.message}")
