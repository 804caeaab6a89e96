"""The calls of the last answer of a chat, here and in the store.

Promises: a change to one call leaves the others as the store has them, where another window may
have dealt with them meanwhile; a call is claimed by one program at a time. Every method is called
with the chat's lock held. Leaves to others: what is done with a call, and when (`tools`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from gguf_widgets.core.chat.tool_host import ToolHost
from gguf_widgets.core.chat.tool_turn import FINAL, call_of, with_call
from gguf_widgets.core.chat.types import ChatMessage, ToolCall
from gguf_widgets.core.errors import InvalidValueError, RequestError, StoreError

__all__ = ["KeepsCalls"]

_SETTLE_AGAIN_S: Final = (0.5, 2.0, 8.0)  # a store that cannot be written now may be soon

_log = logging.getLogger(__name__)


class KeepsCalls:
    """The part of `ToolLoop` that finds and keeps calls; see there."""

    _host: ToolHost
    _allowed: list[str]
    _current_id: str | None

    def _leaf(self) -> ChatMessage | None:
        """Return the last message if it is an answer with calls."""
        messages = self._host.messages
        last = messages[-1] if messages else None
        return last if last is not None and last.tool_calls else None

    def _is_on_screen(self, message_id: str | None) -> bool:
        return any(message.id == message_id for message in self._host.messages)

    def _is_leaf(self, message: ChatMessage) -> bool:
        leaf = self._leaf()
        return leaf is not None and leaf.id == message.id

    def _waiting(self, call_id: str) -> tuple[ChatMessage, ToolCall]:
        message = self._leaf()
        call = call_of(message, call_id)
        taken = (*self._allowed, self._current_id)
        if message is None or call is None or call.status in FINAL or call.id in taken:
            raise InvalidValueError(
                "This call is not waiting any more, or it is not of this conversation's end.",
                call_id=str(call_id)[:40],
            )
        return message, call

    def _refresh(self, message: ChatMessage, call: ToolCall) -> None:
        """Refuse a word on a call that another window has dealt with meanwhile."""
        if call.status == "running" and self._host.is_held(message.id):
            raise RequestError(
                "This call runs in another window at this moment. Wait for its result, or write"
                " something else.",
                reason="running elsewhere",
            )
        kept = self._host.kept(message.id)
        known = call_of(kept, call.id)
        if kept is not None and known is not None and known.status != call.status:
            self._host.show(kept)
            raise RequestError(
                "This call was already answered, in another window.", reason="answered elsewhere"
            )

    def _claim(self, message_id: str, call: ToolCall) -> bool:
        """Mark a call as running, if nobody else has.

        Raises
        ------
        StoreError
            It cannot be marked, so it must not run.
        """
        host = self._host
        with host.transaction():
            kept = host.newest(message_id)
            known = call_of(kept, call.id)
            if known is None:  # the answer's end could not be kept before; it must be, now
                kept = next((one for one in host.messages if one.id == message_id), None)
                known = call_of(kept, call.id)
            if kept is not None and known is not None and known.status == call.status:
                kept = with_call(kept, call.id, status="running", error=None)
                host.write(kept, claims=True)
                host.show(kept)
                return True
        self._take_back_yes(call.id)
        if kept is not None:
            host.show(kept)
        return False

    def _change(
        self, message_id: str, call_id: str, *, unless_not: str | None = None, **changes: Any
    ) -> None:
        """Change a call, here and in the store; `unless_not` it has this status there."""
        host = self._host
        try:
            with host.transaction():
                # From the store: another window may have dealt with other calls of this answer, and
                # of a conversation that was left nothing is here.
                kept = host.newest(message_id)
                known = call_of(kept, call_id)
                if kept is not None and known is not None:
                    if unless_not in (None, known.status):
                        kept = with_call(kept, call_id, **changes)
                        host.write(kept)
                    host.show(kept)
                    return
        except StoreError as error:
            _log.info("The store does not take the state of a call: %s", error)
        shown = next((one for one in host.messages if one.id == message_id), None)
        if shown is not None:
            host.change(with_call(shown, call_id, **changes))

    def _settle_unseen(self, message_id: str, call_id: str, changes: Mapping[str, Any]) -> None:
        """Keep what came of a call whose chat nobody holds any more.

        Else it would count as running as long as this program lives.
        """
        for wait_s in (*_SETTLE_AGAIN_S, None):
            try:
                self._host.keep_unseen(message_id, call_id, changes)
            except StoreError as error:
                if wait_s is None or error.details.get("reason") in ("closed", "gone"):
                    _log.warning("What came of a call of a tool could not be kept: %s", error)
                    return
                time.sleep(wait_s)
            else:
                return

    def _take_back_yes(self, call_id: str) -> None:
        self._allowed = [one for one in self._allowed if one != call_id]
