"""The cards of tools under an answer: what the model wants to run, and what came of it.

Promises: a call runs only for the id of one that waits, said by the page's button; what a model
wrote is sent as text, with characters that could deceive the eye made visible; a long argument or
result is sent in part, with how much is missing, and whole when asked for. Leaves to others:
the calls themselves (`core.chat.tools`), their look (`static/_chat_tools.js`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, ClassVar

from gguf_widgets.core.chat.types import ChatMessage, ChatSnapshot, ToolCall
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.format import format_duration
from gguf_widgets.core.tools.results import MODEL_LIMIT, is_cut
from gguf_widgets.widgets._chat_part import ChatHost, ChatPart, Content

__all__ = ["ToolsPart", "visible"]

_SHOWN = 8_000  # characters of a result, an argument or what was printed that a page gets at once
_SHORT = 80
_MAX_ARGUMENTS = 100
_MOST_WHOLE = 8_000_000  # characters in one message to the page
# Control characters, and those that change the order or hide what is written (as in "Trojan
# Source"): a person decides by what is seen here.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class ToolsPart(ChatPart):
    """The tools of a chat on the page."""

    NAME = "tools"

    def __init__(self, host: ChatHost) -> None:
        super().__init__(host)
        # Not before a page has shown it: in a notebook that runs by itself nobody could say yes.
        self._leave: Callable[[], None] | None = None

    def state(self, shot: ChatSnapshot) -> Content:
        """Return which calls wait for the person, and whether the model can go on."""
        del shot
        loop = self.host.chat.tool_loop
        waiting = [call for call in loop.open_calls() if self._state_of(call) in _ASKS]
        return {
            "waiting": [{"id": call.id, "name": visible(call.name, _SHORT)} for call in waiting],
            "canGoOn": loop.may_go_on,
        }

    def view(self, message: ChatMessage, shot: ChatSnapshot) -> Content:
        """Return the cards of an answer that ended in calls."""
        if not message.tool_calls:
            return {}
        is_last = bool(shot.messages) and shot.messages[-1].id == message.id
        return {"tools": [self._card(call, is_last=is_last) for call in message.tool_calls]}

    def close(self) -> None:
        """Nobody can be asked here any more."""
        if self._leave is not None:
            self._leave()

    # -- what the page asks -----------------------------------------------------------------------

    def _here(self, _content: Content, _buffers: list[Any]) -> None:
        if self._leave is None:
            self._leave = self.host.chat.tool_loop.ask_here()

    def _allow(self, content: Content, _buffers: list[Any]) -> Content:
        self.host.chat.tool_loop.approve(_id_of(content), always=content.get("always") is True)
        self.host.touch()
        return {}

    def _decline(self, content: Content, _buffers: list[Any]) -> Content:
        self.host.chat.tool_loop.decline(_id_of(content))
        self.host.touch()
        return {}

    def _go_on(self, _content: Content, _buffers: list[Any]) -> Content:
        self.host.chat.tool_loop.go_on()
        self.host.touch()
        return {}

    def _whole(self, content: Content, _buffers: list[Any]) -> Content:
        """Return a whole text of a call, for who wants to see all of it."""
        wanted, which, name = _id_of(content), content.get("which"), content.get("name")
        for message in self.host.chat.messages:
            for call in message.tool_calls:
                if call.id != wanted:
                    continue
                if which in ("result", "printed"):
                    return {"text": _within(visible(getattr(call, which) or ""))}
                if which == "arguments":  # those that the card has no room for
                    return {"text": _within(visible(_plain(call.arguments, indent=2)))}
                if which == "argument" and isinstance(name, str) and name in call.arguments:
                    return {"text": _within(visible(_plain(call.arguments[name], indent=2)))}
        raise InvalidValueError("This call is not on screen any more.")

    ACTIONS: ClassVar = {
        "tool-here": _here,
        "tool-allow": _allow,
        "tool-decline": _decline,
        "tool-go-on": _go_on,
        "tool-whole": _whole,
    }

    # -- a card -----------------------------------------------------------------------------------

    def _state_of(self, call: ToolCall) -> str:
        loop = self.host.chat.tool_loop
        if call.status == "running" and loop.running_id != call.id:
            return "interrupted"
        if call.status == "waiting" and call.id == loop.asking_id:
            return "asking"
        if call.status == "waiting" and call.id in loop.allowed_ids:
            return "queued"
        if call.status == "waiting" and (loop.tools is None or loop.tools.get(call.name) is None):
            return "missing"
        return call.status

    def _card(self, call: ToolCall, *, is_last: bool) -> Content:
        state = self._state_of(call)
        asks = is_last and state in _ASKS
        arguments = list(call.arguments.items())
        return {
            "id": call.id,
            "name": visible(call.name, _SHORT),
            "state": state if is_last or state not in _ASKS else "passed",
            "words": _words(call, state, is_last=is_last),
            "asks": asks,
            "canAllow": asks and state != "missing",
            "brief": _brief(call),
            "arguments": [_argument(name, value) for name, value in arguments[:_MAX_ARGUMENTS]],
            "more": len(arguments) - _MAX_ARGUMENTS if len(arguments) > _MAX_ARGUMENTS else 0,
            "error": visible(call.error or "", _SHOWN),
            "result": visible(call.result or "", _SHOWN),
            "resultMore": max(0, len(call.result or "") - _SHOWN),
            "printed": visible(call.printed, _SHOWN),
            "printedMore": max(0, len(call.printed) - _SHOWN),
            "note": (
                f"The model was given {MODEL_LIMIT:,} of these {len(call.result or ''):,}"
                " characters: the beginning and the end."
                if is_cut(call)
                else ""
            ),
        }


_ASKS = ("waiting", "interrupted", "missing")


def _words(call: ToolCall, state: str, *, is_last: bool) -> str:
    time = f" in {format_duration(call.total_s)}" if call.total_s is not None else ""
    if state in _ASKS and not is_last:
        return "Not run"
    return {
        "waiting": "Waits for you",
        "interrupted": "Was interrupted",
        "missing": "Its function is not here",
        "queued": "Waits for its turn",
        "asking": "Waits for your program's word",
        "running": "Runs",
        "done": f"Done{time}",
        "failed": f"Failed{time}",
        "declined": "Declined",
    }.get(state, state)


def _brief(call: ToolCall) -> str:
    """Return the arguments on one line."""
    parts = (f"{name}: {_plain(value)}" for name, value in call.arguments.items())
    return visible(" ".join(", ".join(parts).split()), _SHORT)


def _argument(name: str, value: Any) -> list[Any]:
    """Return an argument's name and value as they are shown, what is missing, and its own name."""
    text = _plain(value, indent=2)
    return [visible(name, _SHORT), visible(text, _SHOWN), max(0, len(text) - _SHOWN), name]


def _within(text: str) -> str:
    if len(text) > _MOST_WHOLE:
        raise InvalidValueError(
            f"This has {len(text):,} characters; at most {_MOST_WHOLE:,} can be shown here. In"
            " Python: chat.messages[-1].tool_calls.",
            limit=_MOST_WHOLE,
        )
    return text


def _plain(value: Any, indent: int | None = None) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=indent)


def visible(text: str, limit: int | None = None) -> str:
    """Return a text in which no character is hidden, cut at `limit` characters where it says so."""
    cut = text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", cut)


def _id_of(content: Content) -> str:
    call_id = content.get("call")
    if not isinstance(call_id, str) or len(call_id) > 100:
        raise InvalidValueError("The page named no call. Reload it and try again.")
    return call_id
