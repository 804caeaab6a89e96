"""What a page has to be told about a conversation, and when.

Promises: at most one update in `INTERVAL_S`, however fast the text comes, and one more for the
first piece of an answer, which does not wait; each update has the next number, so that a page
notices a lost one and asks for a snapshot; every piece of HTML in it came out of `markdown`, where
it was sanitised, or is escaped text in a frame (`_chat_settings_written`); what a person typed is
sent as text. Leaves to others: threads, the widget's socket (`send`) and the page.

One update holds only what changed: ``{"kind": "update", "seq", "messages"?, "delta"?, "state"?,
"parts"?}``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gguf_widgets.core.chat.types import (
    ChatEvent,
    ChatMessage,
    ChatSnapshot,
    EventKind,
    MessageStatus,
    Phase,
)
from gguf_widgets.core.errors import from_wire
from gguf_widgets.core.format import format_duration, format_rate
from gguf_widgets.widgets import markdown
from gguf_widgets.widgets._chat_settings_written import WrittenRenderer, style_of, written_blocks
from gguf_widgets.widgets._words import ErrorView, error_view, message_note

__all__ = ["INTERVAL_S", "ChatFeed"]

INTERVAL_S = 0.05  # 20 updates a second; thousands of messages would be dropped without a word
_FIGURES_S = 0.25  # figures that change faster cannot be read
_RATE_WINDOW_S = 2.0

Content = dict[str, Any]


class _Live:
    """The answer being written: its renderer, and how fast it comes."""

    def __init__(self, message_id: str, now: float) -> None:
        self.message_id = message_id
        self.started = now
        self.first: float | None = None
        self.text = ""
        self.blocks: list[str] = []
        self._look = ("markdown", False)
        self._renderer: markdown.StreamRenderer | WrittenRenderer = markdown.StreamRenderer()
        self._counts: list[tuple[float, int]] = []

    def count(self, num_tokens: int, now: float) -> None:
        """Note how many tokens there are at this moment."""
        if self.first is None:
            self.first = now
        self._counts.append((now, num_tokens))
        while self._counts[0][0] < now - _RATE_WINDOW_S and len(self._counts) > 2:
            self._counts.pop(0)

    def take(self, text: str, style: str, opened: bool) -> tuple[int, list[str]]:
        """Take the whole text so far; return how many blocks stay, and the ones after them.

        `opened` says that it begins inside the model's thinking, see `core.thinking`.
        """
        look = (style, opened)
        if not text.startswith(self.text) or look != self._look:  # another window wrote it anew
            self.text, self.blocks, self._look = "", [], look
            is_formatted = style == "markdown"
            self._renderer = (
                markdown.StreamRenderer(opened=opened) if is_formatted else WrittenRenderer(style)
            )
        keep, blocks = self._renderer.feed(text[len(self.text) :])
        self.text = text
        self.blocks = [*self.blocks[:keep], *blocks]
        return keep, blocks

    def tokens_per_s(self) -> float | None:
        """Return how fast the text came in the last two seconds; None before it can be told."""
        if len(self._counts) < 2:
            return None
        (then, before), (now, after) = self._counts[0], self._counts[-1]
        return (after - before) / (now - then) if now > then else None


class ChatFeed:
    """Turns the events of a `ChatInterface` into numbered messages for the page.

    An event only says that there is something new. What it is, is found by comparing the chat's
    snapshot with what was sent, so that no order of events can leave the page with something old.

    Parameters
    ----------
    take : callable
        Returns the `ChatSnapshot` of the moment.
    send : callable
        Sends one message to the page.
    surroundings : callable
        Returns the part of the state that the conversation does not know (see `chat_box`).
    states : callable
        Returns the states of the box's parts by their names; each is sent when it has changed.
    more_of : callable
        Returns what the parts add to the view of a message.
    clock : callable
        Seconds; `time.monotonic`, or a test's.
    """

    def __init__(
        self,
        take: Callable[[], ChatSnapshot],
        send: Callable[[Content], None],
        surroundings: Callable[[ChatSnapshot], Content],
        states: Callable[[ChatSnapshot], Content] = lambda _shot: {},
        more_of: Callable[[ChatMessage, ChatSnapshot], Content] = lambda _message, _shot: {},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._send = send
        self._surroundings = surroundings
        self._states = states
        self._more_of = more_of
        self._clock = clock
        self._rendered: dict[str, tuple[tuple[str, str, bool], list[str]]] = {}
        self._live: _Live | None = None
        self._shot = take()
        self._sent: dict[str, ChatMessage] = {}
        self._more_sent: dict[str, Content] = {}
        self._state_sent: Content | None = None
        self._parts_sent: Content = {}
        self._stale = self._touched = self._around_changed = False
        self._first_piece = False  # an answer's first piece is here and has not been sent
        self._begun: str | None = None  # the answer whose first piece came last
        self._around: tuple[list[Any], list[str]] = ([], [])
        self._last_update = self._last_figures = float("-inf")
        self.seq = 0

    # -- what happens -----------------------------------------------------------------------------

    def handle(self, event: ChatEvent) -> None:
        """Take one event of the conversation in."""
        self._stale = True
        added = event.message
        begun = added is not None and added.status is MessageStatus.STREAMING
        if event.message_id is not None and (begun or event.kind is EventKind.PROGRESS):
            self._live_for(event.message_id)  # the time to the first word counts from here
        if event.kind is EventKind.DELTA and event.message_id != self._begun:
            self._begun, self._first_piece = event.message_id, True
        if event.num_completion_tokens is not None and event.message_id is not None:
            self._live_for(event.message_id).count(event.num_completion_tokens, self._clock())

    def touch(self) -> None:
        """Look at everything again with the next update: the surroundings changed."""
        self._stale = self._touched = True

    def tick(self) -> float | None:
        """Send an update if there is something and it is time; return the seconds until it is."""
        if not self._stale:
            return None
        wait = self._last_update + INTERVAL_S - self._clock()
        # The update that showed the question would hold the first word back for nearly all of it.
        if wait > 0 and not self._first_piece:
            return wait
        self._last_update = self._clock()
        self._send_update()
        return None

    def send_snapshot(self) -> None:
        """Send everything; the number stays, so that other views of this chat are not disturbed."""
        self._retake()
        self._last_update = self._clock()
        self._sent, self._more_sent = {}, {}
        views = [self._view(message) for message in self._shot.messages]
        self._sent = {message.id: message for message in self._shot.messages}
        self._state_sent, self._parts_sent = self._state(), self._states(self._shot)
        self._send(
            {
                "kind": "snapshot",
                "seq": self.seq,
                "messages": views,
                "state": self._state_sent,
                "parts": self._parts_sent,
            }
        )

    # -- what is sent -----------------------------------------------------------------------------

    def _send_update(self) -> None:
        style = self._shot.style
        self._retake()
        # What the parts add to a message is asked of each only if it can have changed: not for text
        # that arrives, twenty times a second.
        around = (list(self._shot.branches.items()), [m.id for m in self._shot.messages])
        self._around_changed = self._touched or around != self._around or not self._shot.busy
        self._around, self._touched = around, False
        shown = {message.id: message for message in self._shot.messages}
        if not self._sent.keys() <= shown.keys() or style != self._shot.style:
            self.seq += 1  # another conversation: nothing that is on its way counts any more
            self.send_snapshot()
            return
        update: Content = {}
        changed = [message for message in shown.values() if self._is_new(message)]
        if changed:
            update["messages"] = [self._view(message) for message in changed]
        for message in shown.values():
            if self._has_more(message):
                keep, blocks = self._live_for(message.id).take(
                    message.content, style_of(message, self._shot.style), _opens_thinking(message)
                )
                update["delta"] = {"message": message.id, "keep": keep, "blocks": blocks}
        self._sent = shown
        if changed or "delta" not in update or self._figures_due():
            self._last_figures = self._last_update
            state = self._state()
            if state != self._state_sent:
                update["state"] = self._state_sent = state
            parts = self._states(self._shot)
            known = self._parts_sent
            if parts != known:
                update["parts"] = {
                    name: part
                    for name, part in parts.items()
                    if name not in known or known[name] != part
                }
                self._parts_sent = parts
        if update:
            self.seq += 1
            self._send({"kind": "update", "seq": self.seq, **update})

    def _figures_due(self) -> bool:
        return self._last_update - self._last_figures >= _FIGURES_S

    def _is_new(self, message: ChatMessage) -> bool:
        """Whether the whole message must be sent: it is new, or more than its text has changed."""
        sent = self._sent.get(message.id)
        if sent is None:
            return True
        if message.status is MessageStatus.STREAMING and sent.status is message.status:
            return _written_without(message) != _written_without(sent)
        if sent is not message and sent != message:
            return True
        return self._around_changed and (
            self._more_sent.get(message.id) != self._more_of(message, self._shot)
        )

    def _has_more(self, message: ChatMessage) -> bool:
        """Whether an answer that the page has is being written and has grown."""
        if message.status is not MessageStatus.STREAMING or message.id not in self._sent:
            return False
        return self._live_for(message.id).text != message.content

    def _retake(self) -> None:
        self._stale = self._first_piece = False
        self._shot = self._take()
        streaming = {m.id for m in self._shot.messages if m.status is MessageStatus.STREAMING}
        if self._live is not None and self._live.message_id not in streaming:
            self._live = None  # it has ended; its whole text goes out with its last form

    def _live_for(self, message_id: str) -> _Live:
        if self._live is None or self._live.message_id != message_id:
            self._live = _Live(message_id, self._clock())
        return self._live

    def _view(self, message: ChatMessage) -> Content:
        user = message.role == "user"
        more = self._more_sent[message.id] = self._more_of(message, self._shot)
        return {
            "id": message.id,
            "role": message.role,
            "status": str(message.status),
            "text": message.content if user else "",
            "blocks": [] if user else self._blocks(message),
            "note": message_note(message, left_out=message.id in self._shot.left_out),
            "error": _error(message),
            "thinkingS": message.thinking_s,
            "left": _left_words(message, self._before(message) if not user else None),
            "summary": message.summary or "",
            **more,
        }

    def _before(self, message: ChatMessage) -> ChatMessage | None:
        """Return the answer before one that was written without images."""
        if not message.num_unseen_images:
            return None
        answers = [m for m in self._shot.messages if m.role == "assistant"]
        at = next((n for n, one in enumerate(answers) if one.id == message.id), 0)
        return answers[at - 1] if at else None

    def _blocks(self, message: ChatMessage) -> list[str]:
        style = style_of(message, self._shot.style)
        if message.status is MessageStatus.STREAMING:
            live = self._live_for(message.id)
            live.take(message.content, style, _opens_thinking(message))
            return live.blocks
        wanted = (message.content, style, _opens_thinking(message))
        known, blocks = self._rendered.get(message.id, (None, []))
        if known != wanted:
            is_formatted = style == "markdown"
            blocks = (
                markdown.to_blocks(message.content, opened=_opens_thinking(message))
                if is_formatted
                else written_blocks(message.content, style)
            )
            self._rendered[message.id] = (wanted, blocks)
        return blocks

    # -- the state --------------------------------------------------------------------------------

    def _state(self) -> Content:
        shot = self._shot
        return {
            "busy": shot.busy,
            "working": _working(shot),
            "figures": self._figures(),
            "context": _context(shot),
            **self._surroundings(shot),
        }

    def _figures(self) -> list[Content]:
        live = self._live
        if live is not None and self._shot.busy:
            rate = live.tokens_per_s()
            ttft = live.first - live.started if live.first is not None else None
        else:
            last = next((m for m in reversed(self._shot.messages) if m.timings), None)
            timings = last.timings if last else None
            rate = timings.decode_tok_per_s if timings else None
            ttft = timings.ttft_s if timings else None
        figures = []
        if rate is not None:
            title = "How fast the answer is written, after its first token (decode_tok_per_s)"
            figures.append({"value": format_rate(rate), "title": title})
        if ttft is not None:
            title = "From Send to the first token of the answer (ttft_s, time to first token)"
            figures.append({"value": f"first word after {format_duration(ttft)}", "title": title})
        return figures


def _error(message: ChatMessage) -> ErrorView | None:
    # One that was interrupted has its note: whoever reloads a page has met no error.
    if message.error is None or message.status is MessageStatus.INTERRUPTED:
        return None
    return error_view(from_wire(message.error))


def _opens_thinking(message: ChatMessage) -> bool:
    """Whether the template had begun the model's thinking before the answer's first word."""
    return bool((message.record or {}).get("opens_thinking"))


def _written_without(message: ChatMessage) -> tuple[tuple[str, ...], str | None, int]:
    """Return what is known as soon as an answer has been prepared, and stands above its text."""
    return message.left_out, message.summary, message.num_unseen_images


def _left_words(message: ChatMessage, before: ChatMessage | None) -> str:
    """Return the visible mark of what of earlier messages an answer was written without.

    Of images that the model cannot see it is said once: where the answer `before` was not told so.
    """
    told = []
    if num := len(message.left_out):
        which = "the oldest message was" if num == 1 else f"the {num} oldest messages were"
        how = "summed up" if message.summary else "left out"
        told.append(f"The context was full: {which} {how} for this answer.")
    num = message.num_unseen_images
    if num and (before is None or before.num_unseen_images != num):
        which = "the earlier image is" if num == 1 else f"the {num} earlier images are"
        told.append(f"This model cannot see images: {which} left out from here on.")
    return " ".join(told)


def _working(shot: ChatSnapshot) -> str:
    """Return what the model does before its first word, where that takes long enough to read."""
    if shot.phase is Phase.READING and shot.num_total and shot.num_done is not None:
        return f"Reading: {shot.num_done:,} of {shot.num_total:,} tokens"
    if shot.phase is Phase.LOOKING and shot.num_total and shot.num_done is not None:
        percent = f": {100 * (shot.fraction or 0):.0f}%"
        return f"Looking at image {shot.num_done} of {shot.num_total}{percent}"
    if shot.phase is Phase.SUMMARIZING and shot.num_total and shot.num_done is not None:
        step = min(shot.num_done + 1, shot.num_total)
        return f"Summing up earlier messages: step {step} of {shot.num_total}"
    return ""


def _context(shot: ChatSnapshot) -> Content | None:
    used, available = shot.context
    if available is None:
        return None
    return {
        "used": used,
        "available": available,
        "value": f"{used:,} of {available:,} tokens of context"
        if used
        else f"{available:,} tokens of context",
        "title": "How much of the context this conversation fills (n_ctx). "
        "A token is about three quarters of an English word.",
    }
