"""One text that grows, as blocks of HTML.

Promises: after every `update` the blocks are those of the text so far, at a cost in proportion to
what is new; blocks before the place that `update` names have not changed. Two things may differ
for a while: the newest lines of code have no colours yet, and at the end of a block of more than
`_PATIENCE` characters that has no parts (a paragraph of a thousand words), the newest fiftieth is
not formatted yet: it comes as it is written, as a ``p.gw-more``, a string of its own. With
``final`` nothing differs. Leaves to others: what a block looks like (`_md_blocks`), thinking
(`markdown`).

A text is in two parts: what can change no more, as HTML, and the tail, as text, which is parsed
anew with each piece. Two kinds of tail may become long and are not parsed at all: code without an
end (only its closing line is looked for), and what comes after the limits.
"""

from __future__ import annotations

import re

from gguf_widgets.widgets import _md_blocks
from gguf_widgets.widgets._md_blocks import (
    Block,
    Budget,
    PlainText,
    format_limit,
    open_fence,
    parse,
    render,
)
from gguf_widgets.widgets._md_clean import clean, code_text
from gguf_widgets.widgets._md_code import CodeBlock, language_of

__all__ = ["TextRenderer", "common_length"]

_PATIENCE = 6_000
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n]*\n")


class TextRenderer:
    """Renders one text that grows.

    Parameters
    ----------
    num_chars, num_lines : int
        How much came before it that counts for the same limits.
    budget : Budget, optional
        What is left for formatting.
    """

    def __init__(
        self, num_chars: int = 0, num_lines: int = 0, budget: Budget | None = None
    ) -> None:
        self._num_chars = num_chars  # before the tail
        self._num_lines = num_lines
        self.budget = budget or Budget()
        self._fixed: list[str] = []
        self._shown: list[str] = []
        self._tail = ""
        self._context = ""
        self._parsed = 0  # how long the tail was when it was parsed last
        self._words = 0  # up to where there were words in it then
        self._num_shown = 0  # how many strings it had then
        self._code: _OpenCode | None = None
        self._has_outgrown = False  # code that came to the limits
        self._indented: CodeBlock | None = None  # code without an end in a tail that is parsed
        self._plain: PlainText | None = None

    @property
    def blocks(self) -> list[str]:
        """All blocks as of the last `update`."""
        return [*self._fixed, *self._shown]

    def update(self, text: str, *, final: bool) -> int:
        """Add text at the end, where LF ends a line.

        Returns
        -------
        int
            How many blocks stay as they were, from the first.
        """
        before, shown = len(self._fixed), self._shown
        self._tail += text
        self._grow_code(final=final)
        if self._code is None and self._plain is None:
            self._parse(final=final)
        if self._plain is not None and (self._shown or self._tail.strip()):
            self._plain.add(self._tail)
            self._tail = ""
            self._shown = self._plain.html()
        return before + common_length(shown, [*self._fixed[before:], *self._shown])

    def _parse(self, *, final: bool) -> None:
        end = format_limit(self._tail, self._num_chars, self._num_lines)
        is_over = end < len(self._tail)
        complete = final or is_over
        length = len(self._tail)
        if not complete and length > _PATIENCE and self._parsed < length < 1.02 * self._parsed:
            self._shown = [*self._shown[: self._num_shown], _unformatted(self._tail[self._words :])]
            return
        self._parsed, self._words = length, len(self._tail.rstrip())
        blocks = parse(self._tail[:end], self._context)
        num_whole = self._tail.count("\n", 0, end)
        num_fixed = len(blocks) if complete else _num_fixed(blocks, num_whole)
        if not complete and self._begin_code(blocks, num_fixed, num_whole):
            self._render(blocks[:-1], num_fixed)
            self._cut(blocks[-1].start, "")
            self._grow_code(final=False)
            return
        rendered = self._render(blocks, num_fixed, growing=not complete)
        if complete:
            self._num_chars += end
            self._num_lines += num_whole
            self._tail, self._context = self._tail[end:], ""
            self._plain = PlainText() if is_over else None
        elif num_fixed:
            self._cut(blocks[num_fixed].start, blocks[num_fixed].context)
        self._shown, self._num_shown = rendered, len(rendered)

    def _render(self, blocks: list[Block], num_fixed: int, *, growing: bool = False) -> list[str]:
        """Render blocks, the first ones for good; return the others."""
        rendered: list[str] = []
        budget = self.budget.copy()
        for index, block in enumerate(blocks):
            if index == num_fixed:
                self.budget, budget = budget, budget.copy()
            code = self._growing(block) if growing and index == len(blocks) - 1 else None
            html = render(block, budget, code)
            if index < num_fixed:
                self._fixed += html
            else:
                rendered += html
        if num_fixed >= len(blocks):
            self.budget = budget
        return rendered

    def _cut(self, start: int, context: str) -> None:
        """Take the lines before `start` out of the tail."""
        chars = 0
        for _ in range(start):
            chars = self._tail.index("\n", chars) + 1
        self._num_chars += chars
        self._num_lines += start
        self._tail, self._context = self._tail[chars:], context
        self._shown, self._parsed = [], 0

    # -- code without an end ----------------------------------------------------------------------

    def _growing(self, block: Block) -> CodeBlock | None:
        fence = open_fence(block)
        if fence is None:
            self._indented = None
            return None
        old, language = self._indented, language_of(fence.info)
        text = old.text() if old else ""
        if old is None or old.language != language or not fence.content.startswith(text):
            old, text = CodeBlock(language), ""
        old.add(fence.content[len(text) :])
        self._indented = old
        return old

    def _begin_code(self, blocks: list[Block], num_fixed: int, num_whole: int) -> bool:
        """Begin to take the tail as code: if all before is fixed and its mark is not indented."""
        if self._has_outgrown or not blocks or num_fixed != len(blocks) - 1:
            return False
        block = blocks[-1]
        fence = open_fence(block)
        mark = _FENCE.match(block.source + "\n")
        if fence is None or mark is None or num_whole <= block.start:
            return False
        self._code = _OpenCode(mark[1], mark.group(), CodeBlock(language_of(fence.info)))
        self._indented = None
        return True

    def _grow_code(self, *, final: bool) -> None:
        code = self._code
        if code is None:
            return
        if not code.is_begun:
            code.is_begun = True
            self._tail = self._tail[len(code.opening) :]
        end, after = code.find_end(self._tail)
        text = self._tail[:end]
        num_chars = self._num_chars + len(code.opening) + code.block.num_chars + len(self._tail)
        num_lines = self._num_lines + code.num_lines + self._tail.count("\n")
        if num_chars > _md_blocks.MAX_CHARS or num_lines >= _md_blocks.MAX_LINES:
            self._tail = code.opening + code.block.text() + self._tail
            self._code, self._has_outgrown = None, True
            return
        code.block.add(text)
        code.is_inside_line = not (text or "\n").endswith("\n")
        code.num_lines += text.count("\n")
        rest = self._tail[end:]
        if after is None and not final:
            self._tail = rest
            is_closing = code.is_end(rest)
            self._shown = code.block.html("" if is_closing else rest, final=is_closing)
            return
        if after is None:
            after = len(self._tail)
            if not code.is_end(rest):
                code.block.add(rest)
        self._fixed += code.block.html(final=True)
        self._num_chars += len(code.opening) + code.block.num_chars + after - end
        self._num_lines += code.num_lines + self._tail.count("\n", end, after)
        self._tail = self._tail[after:]
        self._code, self._shown, self._parsed = None, [], 0


class _OpenCode:
    """Code at the beginning of the tail that has no end yet."""

    def __init__(self, mark: str, opening: str, block: CodeBlock) -> None:
        self.opening = opening
        self.block = block
        self.num_lines = 1
        self.is_begun = False
        self.is_inside_line = False  # whether the next text goes on in a line that is no end
        sign = re.escape(mark[0])
        self._closing = re.compile(rf" {{0,3}}{sign}{{{len(mark)},}}[ \t]*")
        self._lines = re.compile(rf"^ {{0,3}}{sign}{{{len(mark)},}}[ \t]*\n", re.MULTILINE)
        self._partly = re.compile(rf" {{0,3}}{sign}*[ \t]*")

    def is_end(self, line: str) -> bool:
        """Tell whether a line ends the code."""
        return self._closing.fullmatch(line) is not None

    def find_end(self, text: str) -> tuple[int, int | None]:
        """Return where the code in `text` ends, and where the line that ends it does.

        Without an end: up to where it is code for sure, and None.
        """
        start = text.find("\n") + 1 if self.is_inside_line else 0
        if self.is_inside_line and not start:
            return len(text), None
        found = self._lines.search(text, start)
        if found:
            return found.start(), found.end()
        last = text.rfind("\n") + 1
        return (last if self._partly.fullmatch(text, last) else len(text)), None


def _unformatted(text: str) -> str:
    """Return what is shown of a text before it is formatted."""
    return clean(f'<p class="gw-more" dir="auto"><span>{code_text(text)}</span></p>\n')


def common_length(old: list[str], new: list[str]) -> int:
    """Return how many blocks are the same, from the first."""
    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    return same


def _num_fixed(blocks: list[Block], num_whole_lines: int) -> int:
    """Return how many blocks no further text can change.

    A block is finished by the beginning of the next one. Whether the next one begins there can
    depend on its first line and the one after it ("| a |" is a table only above "|---|"), so both
    must have come to their ends.
    """
    return sum(1 for after in blocks[1:] if after.start + 2 <= num_whole_lines)
