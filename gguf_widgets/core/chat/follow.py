"""Following an answer that another program, or another chat of this one, is writing.

Promises: while somebody else writes a message of the open conversation, its growth is seen within
`EVERY_S`; the end comes also when the writer dies. Leaves to others: what is done with it
(`interface`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from gguf_widgets.core.chat.types import ChatMessage, MessageStatus
from gguf_widgets.core.errors import GgufWidgetsError
from gguf_widgets.core.store.conversations import Conversations

__all__ = ["EVERY_S", "Follower"]

EVERY_S = 0.5

_log = logging.getLogger(__name__)


class Follower:
    """Looks at one message until it is no longer being written.

    Parameters
    ----------
    conversations : Conversations
    message : ChatMessage
    seen : callable
        Called with this follower and the message each time it has changed, from the follower's
        thread; during the call `message` is still what was seen before.
    """

    def __init__(
        self,
        conversations: Conversations,
        message: ChatMessage,
        seen: Callable[[Follower, ChatMessage], None],
    ) -> None:
        self.message = message
        self._conversations = conversations
        self._seen = seen
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gguf-widgets-follow", daemon=True)

    def start(self) -> None:
        """Begin, on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self._conversations.settle(self.message.conversation_id)
                now = self._conversations.message(self.message.id)
            except GgufWidgetsError as error:
                if error.details.get("reason") == "closed":
                    return  # whoever closed the store has no use for this any more
                _log.warning("An answer of another window cannot be followed", exc_info=True)
                continue
            if now is None:
                return  # its conversation was removed; there is nothing to show
            if now != self.message:
                self._seen(self, now)
                self.message = now
            if now.status is not MessageStatus.STREAMING:
                return
