"""The answers that are being written, sent to the pages block by block.

Promises: at most 20 messages a second, however fast the text comes and however many sides write;
each has a number, so that a page that missed one asks for all of it; every piece of HTML came out
of `markdown`, where it was sanitised. Leaves to others: who writes (`_comparison_live`), figures
beside the text (`_comparison_words`).

One message: ``{"kind": "text", "seq", "question", "whole", "sides"}``, where each of the sides is
``[number, keep, blocks]``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from gguf_widgets.widgets import markdown
from gguf_widgets.widgets._comparison_live import LiveSides

__all__ = ["TextFeed"]

_EVERY_S: Final = 0.05


class _Rendered:
    """One side's text as blocks."""

    def __init__(self) -> None:
        self._renderer = markdown.StreamRenderer()
        self._text = ""
        self._is_final = False

    def take(self, text: str, *, final: bool) -> tuple[int, list[str]] | None:
        """Take the text so far; return what has changed, or None."""
        if text == self._text and final == self._is_final:
            return None
        if not text.startswith(self._text) or self._is_final:
            self._renderer, self._text, self._is_final = markdown.StreamRenderer(), "", False
        keep, blocks = self._renderer.feed(text[len(self._text) :])
        self._text = text
        if final:
            self._is_final = True
            more_keep, _ = self._renderer.finish()
            keep = min(keep, more_keep)
            blocks = self._renderer.blocks[keep:]
        return keep, blocks

    @property
    def blocks(self) -> list[str]:
        return self._renderer.blocks


class TextFeed:
    """Sends what the sides have written.

    Parameters
    ----------
    live : LiveSides
    send : callable
        Takes a message.
    clock : callable
        Seconds; `time.monotonic`, or a test's.
    """

    def __init__(
        self,
        live: LiveSides,
        send: Callable[[dict[str, Any]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live, self._send, self._clock = live, send, clock
        self._rendered: list[_Rendered] = []
        self._question = -1
        self._is_whole = True  # send all of it the next time
        self._sent_at = float("-inf")
        self.seq = 0

    def reset(self) -> None:
        """Send all of it the next time: a page has come, or missed something."""
        self._is_whole, self._sent_at = True, float("-inf")

    def tick(self) -> float | None:
        """Send what is new, unless that was done just now; say when to be called again."""
        early = self._sent_at + _EVERY_S - self._clock()
        if early > 0:
            return early
        live = self._live
        sides, question = live.sides, live.number
        if question != self._question:
            self._question, self._is_whole = question, True
            self._rendered = [_Rendered() for _ in sides]
        changed = []
        for side, rendered in zip(sides, self._rendered, strict=False):
            final = side.status in ("done", "stopped", "failed")
            change = rendered.take(side.text, final=final)
            if self._is_whole:
                changed.append([side.number, 0, rendered.blocks])
            elif change is not None:
                changed.append([side.number, *change])
        if changed or self._is_whole:
            self.seq += 1
            whole, self._is_whole = self._is_whole, False
            self._sent_at = self._clock()
            self._send(
                {
                    "kind": "text",
                    "seq": self.seq,
                    "question": question,
                    "whole": whole,
                    "sides": changed,
                }
            )
        return None
