"""The one place where a model's text becomes HTML.

Promises: what comes out holds only harmless tags (the list is in `_md_clean`), whatever goes in:
nothing in it runs, leads anywhere or loads anything; no text is lost; the time is bounded (see the
limits in `_md_blocks` and `_md_code`). While a text grows, only its last blocks change
(`StreamRenderer`). Leaves to others: the look (CSS), the Copy button on ``div.gw-code``.

The HTML of a text is the concatenation of its blocks, one string for each top-level block:
paragraphs, headings, lists, quotes, tables (``div.gw-table``), code (``div.gw-code[data-lang]``),
and plain text with a note where the limits were passed (``div.gw-plain``). Inside, links are
``span.gw-link`` and images ``span.gw-image``, both with the address as their title; code has spans
of the classes ``hl-...``.
"""

from __future__ import annotations

from gguf_widgets.widgets._md_blocks import Block, Budget, format_limit, parse, plain_html, render
from gguf_widgets.widgets._md_clean import printable
from gguf_widgets.widgets._md_code import CodeBlock

__all__ = ["StreamRenderer", "to_blocks", "to_html"]


def to_html(text: str) -> str:
    """Return Markdown as sanitised HTML."""
    return "".join(to_blocks(text))


def to_blocks(text: str) -> list[str]:
    """Return Markdown as sanitised HTML, one string for each top-level block."""
    text = printable(text)
    end = format_limit(text)
    budget = Budget()
    blocks = [render(block, budget) for block in parse(text[:end])]
    return [*blocks, *_rest(text[end:])]


def _rest(text: str) -> list[str]:
    return [plain_html(text)] if text.strip() else []


class StreamRenderer:
    """Renders a text that grows, at a cost in proportion to what is new.

    After every `feed` the blocks equal `to_blocks` of the text so far, with one exception: in a
    code block that is not closed yet, the newest lines may not have their colours yet. After
    `finish` there is no exception.

    Examples
    --------
    >>> renderer, blocks = StreamRenderer(), []
    >>> for piece in ("Hello *wor", "ld*"):
    ...     keep, new = renderer.feed(piece)
    ...     blocks[keep:] = new
    >>> blocks == to_blocks("Hello *world*")
    True
    """

    def __init__(self) -> None:
        # The text is in two parts: what can change no more, as blocks, and the tail, as text.
        self._fixed: list[str] = []
        self._fixed_chars = 0
        self._fixed_lines = 0
        self._fixed_budget = Budget()
        self._tail = ""
        self._shown: list[str] = []
        self._code = CodeBlock()
        self._after_cr = False

    @property
    def blocks(self) -> list[str]:
        """All blocks as of the last `feed`."""
        return [*self._fixed, *self._shown]

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
        self._tail += self._normal(text)
        before, shown_before = len(self._fixed), self._shown
        end = format_limit(self._tail, self._fixed_chars, self._fixed_lines)
        blocks = parse(self._tail[:end])
        budget = self._fixed_budget.copy()
        rendered: list[str] = []
        num_fixed = _num_fixed(blocks, self._tail.count("\n", 0, end))
        for index, block in enumerate(blocks):
            last = index == len(blocks) - 1
            growing = self._code if last and end == len(self._tail) and not final else None
            rendered.append(render(block, budget, growing))
            if index == num_fixed - 1:
                self._fixed_budget = budget.copy()
        if num_fixed:
            self._fix(rendered[:num_fixed], blocks[num_fixed].start)
            end = format_limit(self._tail, self._fixed_chars, self._fixed_lines)
        self._shown = [*rendered[num_fixed:], *_rest(self._tail[end:])]
        same = 0
        now = [*rendered[:num_fixed], *self._shown]
        for old, new in zip(shown_before, now, strict=False):
            if old != new:
                break
            same += 1
        return before + same, now[same:]

    def _normal(self, text: str) -> str:
        """Return new text as `printable` would in the whole: CR LF may come in two pieces."""
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        return printable(text)

    def _fix(self, rendered: list[str], start: int) -> None:
        """Take blocks out of the part that can change; it begins at line `start` from now on."""
        chars = 0
        for _ in range(start):
            chars = self._tail.index("\n", chars) + 1
        self._fixed += rendered
        self._fixed_chars += chars
        self._fixed_lines += start
        self._tail = self._tail[chars:]


def _num_fixed(blocks: list[Block], num_whole_lines: int) -> int:
    """Return how many blocks no further text can change.

    A block is finished by the beginning of the next one. Whether the next one begins there can
    depend on its first line and the one after it ("| a |" is a table only above "|---|"), so both
    must have come to their ends.
    """
    return sum(1 for after in blocks[1:] if after.start + 2 <= num_whole_lines)
