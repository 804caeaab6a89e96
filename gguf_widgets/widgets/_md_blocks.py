"""From Markdown to sanitised HTML, one top-level block at a time.

Promises: every piece of HTML has gone through `_md_clean.clean`; a block's HTML depends on its own
lines only (so there are no reference links), which is what lets `markdown.StreamRenderer` keep the
blocks that are finished; text beyond the limits below is shown as plain text with a note, never
cut. Leaves to others: splitting a growing text (`markdown`).

Choices: links and images are inert (the address is in the title, or beside the image's words);
HTML in the text is shown as text; a line end is a line end; headings begin at the third level,
below those of the page; a list of more than `LIST_PART` items comes as several lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore, inline, text_join
from markdown_it.token import Token

from gguf_widgets.widgets._md_clean import clean
from gguf_widgets.widgets._md_code import CodeBlock, language_of
from gguf_widgets.widgets._md_inert import inert

__all__ = ["Block", "Budget", "format_limit", "parse", "plain_html", "render"]

# Where formatting ends and plain text begins, for one text. Measured: within them a text made to be
# slow needs about a second.
MAX_CHARS = 200_000
MAX_LINES = 5_000
# For one run of text (a paragraph, a table's cell), in characters and in marks that may mean
# something; and for all of them together.
MAX_RUN_CHARS = 20_000
MAX_RUN_MARKS = 4_000
MAX_MARKS = 20_000
# For one block: a short table can demand many empty cells.
MAX_TOKENS = 20_000

LIST_PART = 20

_MAX_BLOCK_NESTING = 40
_MAX_INLINE_NESTING = 10
_LISTS = {"bullet_list_open", "ordered_list_open"}
_MARKS = "*_~`&<\\"
_BRACKET_WEIGHT = 5  # an opening bracket is searched for its end

_TOO_LONG = "Shown as plain text, because it is too long to be formatted."
_TOO_DEEP = "Shown as plain text, because it is nested too deeply to be formatted."
_TOO_MANY = "Shown as plain text, because it has too many marks to be formatted."


class Block(NamedTuple):
    """One top-level block: its tokens, its source, and the lines it takes (end excluded)."""

    tokens: list[Token]
    source: str
    start: int
    end: int


class Budget:
    """What formatting may still cost in one text; blocks are charged in order."""

    def __init__(self, marks: int | None = None) -> None:
        self.marks = MAX_MARKS if marks is None else marks

    def copy(self) -> Budget:
        """Return one that can be charged without changing this one."""
        return Budget(self.marks)


def format_limit(text: str, chars_before: int = 0, lines_before: int = 0) -> int:
    """Return how many characters of `text`, whole lines, are formatted; the rest is plain.

    `chars_before` and `lines_before` tell how much of the whole text is before this part of it.
    """
    end = len(text)
    lines = MAX_LINES - lines_before
    if text.count("\n") >= lines:
        at = -1
        for _ in range(lines):
            at = text.index("\n", at + 1)
        end = at + 1
    chars = MAX_CHARS - chars_before
    if end > chars:
        end = text.rfind("\n", 0, max(chars, 0)) + 1
    return end


def parse(text: str) -> list[Block]:
    """Split `text` into its top-level blocks, and long lists into parts."""
    blocks: list[Block] = []
    for block in _parse(text):
        blocks += _parts(block) if block.tokens[0].type in _LISTS else [block]
    return blocks


def _parts(block: Block) -> list[Block]:
    """Split a list after every `LIST_PART` items, each part parsed by itself.

    Otherwise a list of hundreds of items would be rendered, sent and shown anew for every word.
    """
    items = [
        t.map[0] for t in block.tokens if t.type == "list_item_open" and t.level == 1 and t.map
    ]
    cuts = [*items[::LIST_PART], block.end]
    if len(cuts) == 2:
        return [block]
    lines = block.source.split("\n")
    parts: list[Block] = []
    for start, end in pairwise(cuts):
        source = "\n".join(lines[start - block.start : end - block.start])
        parsed = _parse(source)
        parts += [part._replace(start=part.start + start, end=part.end + start) for part in parsed]
    return parts


def _parse(text: str) -> list[Block]:
    tokens: list[Token] = []
    _BLOCKS.block.parse(text, _BLOCKS, {}, tokens)
    lines = text.split("\n")
    blocks: list[Block] = []
    first = 0
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            start, end = tokens[first].map or [0, 0]
            source = "\n".join(lines[start:end])
            blocks.append(Block(tokens[first : index + 1], source, start, end))
            first = index + 1
    return blocks


def render(block: Block, budget: Budget, growing: CodeBlock | None = None) -> str:
    """Return one block as sanitised HTML.

    Parameters
    ----------
    block : Block
    budget : Budget
        Charged with what this block costs.
    growing : CodeBlock, optional
        Renders the block if it is code without an end, at the price of colours that lag behind.
    """
    only = block.tokens[0]
    if growing is not None and only.type == "fence" and not _is_closed(only, block.source):
        return growing.html(only.content, language_of(only.info))
    if len(block.tokens) > MAX_TOKENS:
        return plain_html(block.source)
    # What is nested deeper than the parser follows is missing from the tokens.
    if any(t.nesting == 1 and t.level + 1 >= _MAX_BLOCK_NESTING for t in block.tokens):
        return plain_html(block.source, _TOO_DEEP)
    note = _charge(block.tokens, budget)
    if note is not None:
        return plain_html(block.source, note)
    state = StateCore("", _INLINE, {}, block.tokens)
    inline(state)
    text_join(state)
    return clean(_INLINE.renderer.render(inert(block.tokens), _INLINE.options, {}))


def plain_html(text: str, note: str = _TOO_LONG) -> str:
    """Return text as it is, with a note that says why."""
    return clean(
        f'<div class="gw-plain"><p class="gw-note">{escape(note)}</p>'
        f'<pre dir="auto">{escape(text, quote=False)}</pre></div>\n'
    )


def _is_closed(fence: Token, source: str) -> bool:
    lines = source.rstrip().split("\n")
    last = lines[-1].strip() if len(lines) > 1 else ""
    return len(last) >= len(fence.markup) and not last.strip(fence.markup[0])


def _charge(tokens: Sequence[Token], budget: Budget) -> str | None:
    """Charge what formatting these costs; return why it is too much, if it is."""
    for token in tokens:
        if token.type != "inline":
            continue
        if len(token.content) > MAX_RUN_CHARS:
            return _TOO_LONG
        marks = sum(map(token.content.count, _MARKS))
        marks += _BRACKET_WEIGHT * token.content.count("[")
        if marks > MAX_RUN_MARKS or marks > budget.marks:
            return _TOO_MANY
        budget.marks -= marks
    return None


def _parser(nesting: int) -> MarkdownIt:
    options: dict[str, Any] = {"html": False, "breaks": True, "maxNesting": nesting}
    parser = MarkdownIt("commonmark", options)
    return parser.enable(["table", "strikethrough"]).disable("reference")


_BLOCKS = _parser(_MAX_BLOCK_NESTING)
# Apart, because unclosed brackets cost time in proportion to how deep they may nest.
_INLINE = _parser(_MAX_INLINE_NESTING)
