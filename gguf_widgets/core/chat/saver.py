"""Keeping an answer in the store while it is being written.

Promises: what has arrived is written every `EVERY_S` seconds, so that a crash costs no more than
that, and its tokens, which are far bigger, every `TOKENS_EVERY_S`; a store that cannot be written
neither breaks nor holds up the answer: it is reported once, and the last form is kept here and
tried again, by itself and with whatever the person does, until it could be written; then the report
is taken back. Leaves to others: the answer (`answer`), what the person is shown (`interface`).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from gguf_widgets.core.chat.answer import Answer
from gguf_widgets.core.chat.types import ChatMessage
from gguf_widgets.core.errors import StoreError
from gguf_widgets.core.store.conversations import Conversations
from gguf_widgets.core.store.store import BUSY_S

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

# What could not be written is tried again by itself after so long, and then as often as the last
# one says; for an hour, after which only what the person does tries it again.
_AGAIN_AFTER_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
_AGAIN_FOR_S: Final = 3600.0

_log = logging.getLogger(__name__)


class Saver:
    """Writes the answers of one chat to the store.

    Parameters
    ----------
    conversations : Conversations
    report : callable
        Told in words when an answer cannot be kept; once an answer.
    take_back : callable
        Told the same words when it could be kept after all; the chat's lock may be held.
    changed : callable
        Called without any lock when the waiting ones were written by themselves.
    held : lock
        The chat's: messages change only while it is held.
    """

    def __init__(
        self,
        conversations: Conversations,
        report: Callable[[str], None],
        take_back: Callable[[str], None] = lambda _text: None,
        changed: Callable[[], None] = lambda: None,
        held: contextlib.AbstractContextManager[object] | None = None,
    ) -> None:
        self._conversations = conversations
        self._report = report
        self._take_back = take_back
        self._changed = changed
        self._held = held if held is not None else contextlib.nullcontext()
        self._trying = False
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._tokens_due: dict[str, float] = {}
        self._told: dict[str, str] = {}  # what was reported, by the message's id
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
            self._keep_trying()

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
        self._is_saved(message.id)

    def _is_saved(self, message_id: str) -> None:
        with self._lock:
            self._unsaved.pop(message_id, None)
            told = self._told.pop(message_id, None)
        if told is not None:
            self._take_back(told)

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

    def retry(self, wait_s: float = BUSY_S) -> None:
        """Write what could not be written before; the chat's lock is held.

        Parameters
        ----------
        wait_s : float
            How long another program's lock is waited for, for each of them.

        Raises
        ------
        StoreError
            It still cannot be written.
        """
        with self._lock:
            waiting = list(self._unsaved.values())
        for message, answer in waiting:
            try:
                with self._conversations.store.transaction(wait_s=wait_s):
                    self._write(message, answer)
            except StoreError as error:
                # Its conversation was removed: it must not hold up the others for ever.
                if error.details.get("reason") != "gone":
                    raise
                _log.warning("An answer has no conversation any more: %s", error)
            self._is_saved(message.id)

    def _keep_trying(self) -> None:
        """Try again by itself, on a thread of its own, unless one does already."""
        with self._lock:
            if self._trying or not self._unsaved:
                return
            self._trying = True
        # It holds this, and with it the chat: what is not saved is not to go with them.
        thread = threading.Thread(target=self._try_by_itself, name="gguf-widgets-save", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left
            _log.warning("An answer is only saved with the next thing you do: %s", error)
            with self._lock:
                self._trying = False

    def _try_by_itself(self) -> None:
        until = time.monotonic() + _AGAIN_FOR_S
        waits = itertools.chain(_AGAIN_AFTER_S, itertools.repeat(_AGAIN_AFTER_S[-1]))
        for wait_s in waits:
            time.sleep(wait_s)
            try:
                with self._held:
                    self.retry(_LOCK_WAIT_S)
            except StoreError as error:
                # Whoever closed the store has no use for this any more.
                give_up = error.details.get("reason") == "closed" or time.monotonic() > until
            except Exception:  # noqa: BLE001 - a fault of ours: the next thing one does tells it
                _log.exception("An answer that waits to be saved could not be written")
                give_up = True
            else:
                give_up = False
                self._changed()
            with self._lock:  # one that comes just now begins to be tried anew, or is tried here
                if give_up or not self._unsaved:
                    self._trying = False
                    return

    def try_again(self) -> None:
        """Do what `retry` does if it can be done; what cannot be written goes on waiting."""
        try:
            self.retry()
        except StoreError as error:
            _log.warning("An answer can still not be kept in the store: %s", error)

    def newest(self, messages: Iterable[ChatMessage]) -> list[ChatMessage]:
        """Return messages of the store, each as it would be there if all could be written."""
        return [self.waiting(message.id) or message for message in messages]

    @property
    def told(self) -> list[str]:
        """What was reported and is still so."""
        with self._lock:
            return list(self._told.values())

    def _tell(self, message_id: str, error: StoreError) -> None:
        words = f"This answer is not saved yet. {error.message}"
        with self._lock:
            if message_id in self._told:
                return
            self._told[message_id] = words
        _log.warning("An answer could not be kept in the store: %s", error)
        self._report(words)
