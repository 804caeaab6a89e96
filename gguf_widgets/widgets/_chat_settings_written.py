"""Answers as the model wrote them, where a person wants them so: plain text, or code.

Promises: the blocks hold the text, every character of it, escaped, and nothing else that is HTML
but a frame; a long text is in several strings, so that a growing one is sent by its end alone, in
the same form as formatted ones (`markdown.StreamRenderer`; `gw-more` in static/_chat_blocks.js).
Leaves to others: which style there is (`core.presets.STYLES`), the look.
"""

from __future__ import annotations

import html
from typing import Final

from gguf_widgets.core.chat.types import ChatMessage

__all__ = ["WrittenRenderer", "style_of", "written_blocks"]

_BLOCK: Final = 4000  # characters of one string
_FRAMES: Final = {"plain": "gw-plain gw-written", "code": "gw-plain gw-written gw-mono"}


def style_of(message: ChatMessage, style: str) -> str:
    """Return how an answer is shown: one that keeps to a schema is JSON, and no Markdown."""
    if style == "markdown" and message.sampling is not None and message.sampling.schema is not None:
        return "code"
    return style


def written_blocks(text: str, style: str) -> list[str]:
    """Return a whole text in the style "plain" or "code"."""
    return WrittenRenderer(style).feed(text)[1]


class WrittenRenderer:
    """Shows a text that grows."""

    def __init__(self, style: str) -> None:
        self._frame = _FRAMES.get(style, _FRAMES["plain"])
        self._num_closed = 0
        self._open = ""

    def feed(self, text: str) -> tuple[int, list[str]]:
        """Take the next text; return how many blocks stay as they are, and the ones after them."""
        keep = self._num_closed
        blocks = []
        self._open += text
        while len(self._open) > _BLOCK:
            part = self._open[:_BLOCK]
            end = max(part.rfind("\n"), part.rfind(" ")) + 1 or _BLOCK
            blocks.append(self._block(self._open[:end]))
            self._open = self._open[end:]
            self._num_closed += 1
        if self._open:
            blocks.append(self._block(self._open))
        return keep, blocks

    def _block(self, text: str) -> str:
        frame = self._frame if self._num_closed == 0 else "gw-plain gw-more"
        return f'<div class="{frame}"><pre dir="auto"><span>{html.escape(text)}</span></pre></div>'
