"""The one place where a model's text becomes HTML.

Promises: what comes out holds only harmless tags (the list is in `_md_clean`), whatever goes in:
nothing in it runs, leads anywhere or loads anything; no text is lost; the time is bounded (see the
limits in `_md_blocks`, `_md_code` and `_md_formula`). While a text grows, only its last blocks
change (`StreamRenderer`). Leaves to others: the look (CSS), the Copy button on ``div.gw-code``,
what a click on a link does (`_chat_blocks.js`), which marks are thinking (`core.thinking`).

The HTML of a text is made of its blocks, one string for each top-level block: paragraphs, headings,
lists, quotes, tables (``div.gw-table``), code (``div.gw-code[data-lang]``), formulas
(``div.gw-formula``), and plain text with a note where the limits were passed (``div.gw-plain``).
Inside, links are ``span.gw-link`` and images ``span.gw-image``, both with the address as their
title; code has spans of the classes ``hl-...``; a formula that cannot be drawn is
``span.gw-source``.

A long table, code or plain text comes in several strings: those after the first have the class
``gw-more`` and belong into the one before. What a model thought is between `THINKING_BEGIN` and
`THINKING_END`, each a string of its own; while it thinks, the end is missing. `to_html` puts all
this together.
"""

from __future__ import annotations

import re

from gguf_widgets.core.thinking import ThinkingSplitter
from gguf_widgets.widgets._md_blocks import Budget
from gguf_widgets.widgets._md_clean import printable
from gguf_widgets.widgets._md_stream import TextRenderer, common_length

__all__ = ["THINKING_BEGIN", "THINKING_END", "StreamRenderer", "to_blocks", "to_html"]

THINKING_BEGIN = '<details class="gw-thinking"><summary>What the model thought</summary>'
THINKING_END = "</details>"

# Where one string of a block ends and the next begins.
_SEAM = re.compile(
    r'</code></pre></div>\s*<div class="gw-code gw-more"><pre dir="ltr"><code>'
    r'|</span></pre></div>\s*<div class="gw-plain gw-more"><pre dir="auto"><span>'
    r'|</tbody>\s*</table>\s*</div>\s*<div class="gw-table gw-more"><table>\s*<tbody>\s*'
)


def to_html(text: str, *, opened: bool = False) -> str:
    """Return Markdown as sanitised HTML.

    Parameters
    ----------
    text : str
    opened : bool, default False
        Whether the text begins inside thinking, because the model's template opened it.
    """
    blocks = to_blocks(text, opened=opened)
    if blocks.count(THINKING_BEGIN) > blocks.count(THINKING_END):
        blocks.append(THINKING_END)
    return _SEAM.sub("", "".join(blocks))


def to_blocks(text: str, *, opened: bool = False, growing: bool = False) -> list[str]:
    """Return Markdown as sanitised HTML, one string for each block or part of one.

    Parameters
    ----------
    text : str
    opened : bool, default False
        Whether the text begins inside thinking, because the model's template opened it.
    growing : bool, default False
        Whether more is to come: then an end that may become a mark of thinking is left out.
    """
    renderer = StreamRenderer(opened=opened)
    renderer.feed(text)
    if not growing:
        renderer.finish()
    return renderer.blocks


class StreamRenderer:
    """Renders a text that grows, at a cost in proportion to what is new.

    After every `feed` the blocks equal those of the text so far (``to_blocks(..., growing=True)``),
    but for what `_md_stream` says may differ for a while: colours of code that is not closed yet,
    and the end of a very long paragraph. After `finish` they equal `to_blocks` of the whole.

    Parameters
    ----------
    opened : bool, default False
        Whether the text begins inside thinking, because the model's template opened it.

    Examples
    --------
    >>> renderer, blocks = StreamRenderer(), []
    >>> for piece in ("Hello *wor", "ld*"):
    ...     keep, new = renderer.feed(piece)
    ...     blocks[keep:] = new
    >>> blocks == to_blocks("Hello *world*")
    True
    """

    def __init__(self, *, opened: bool = False) -> None:
        self._splitter = ThinkingSplitter(opened=opened)
        self._after_cr = False
        self._begin()

    def _begin(self) -> None:
        self._done: list[str] = []  # the blocks of the sections that are complete
        self._section = 0  # the number of the one that is not
        self._num_taken = 0  # how much of its text was rendered
        self._has_begun = False  # whether its first block is there
        self._renderer = TextRenderer()
        self._num_chars = self._num_lines = 0  # of the sections that are complete

    @property
    def blocks(self) -> list[str]:
        """All blocks as of the last `feed`."""
        return [*self._done, *self._renderer.blocks]

    def feed(self, text: str) -> tuple[int, list[str]]:
        """Add text at the end.

        Returns
        -------
        keep : int
            How many of the blocks before stay as they are, from the first.
        blocks : list of str
            The blocks that come after those.
        """
        return self._update(text, final=False)

    def finish(self) -> tuple[int, list[str]]:
        """Render the end as it will stay; returns what `feed` does."""
        return self._update("", final=True)

    def _update(self, text: str, *, final: bool) -> tuple[int, list[str]]:
        restarts = self._splitter.num_restarts
        self._splitter.feed(self._normal(text))
        if final:
            self._splitter.finish()
        if self._splitter.num_restarts > restarts:
            before = self.blocks
            self._begin()
            self._render(final=final)
            now = self.blocks
            keep = common_length(before, now)
            return keep, now[keep:]
        keep = self._render(final=final)
        return keep, self.blocks[keep:]

    def _render(self, *, final: bool) -> int:
        """Render what the splitter has found; return how many blocks stay as they were."""
        stay: int | None = None
        sections = self._splitter.sections(self._section)
        for index, section in enumerate(sections):
            is_last = index == len(sections) - 1
            is_complete = section.is_closed or not is_last
            if section.is_thinking and not self._has_begun and section.text.strip():
                self._has_begun = True
                stay = len(self._done) if stay is None else stay
                self._done.append(THINKING_BEGIN)
            kept = len(self._done) + self._renderer.update(
                section.text[self._num_taken :], final=final or is_complete
            )
            stay = kept if stay is None else stay
            self._num_taken = len(section.text)
            if is_complete:
                self._complete(section.text)
        return len(self._done) if stay is None else stay

    def _complete(self, text: str) -> None:
        self._done += self._renderer.blocks
        if self._has_begun:
            self._done.append(THINKING_END)
        self._num_chars += len(text)
        self._num_lines += text.count("\n")
        budget: Budget = self._renderer.budget
        self._renderer = TextRenderer(self._num_chars, self._num_lines, budget)
        self._section, self._num_taken, self._has_begun = self._section + 1, 0, False

    def _normal(self, text: str) -> str:
        """Return new text as `printable` would in the whole: CR LF may come in two pieces."""
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        return printable(text)
