"""From Markdown to sanitised HTML, one top-level block at a time.

Promises: every piece of HTML has gone through `_md_clean.clean`; a block's HTML depends on its own
lines only (so there are no reference links), which is what lets `markdown.StreamRenderer` keep the
blocks that are finished; text beyond the limits below is shown as plain text with a note, never
cut. Leaves to others: splitting a growing text (`markdown`).

Choices: links and images are inert (the address is in the title, or beside the image's words);
HTML in the text is shown as text; a line end is a line end; headings begin at the third level,
below those of the page; a list of more than `LIST_PART` items comes as several lists; a long table,
long code and long plain text come in parts, which are one block on the page (see `markdown`).
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
from gguf_widgets.widgets._md_code import CodeBlock, code_parts, language_of, part_end
from gguf_widgets.widgets._md_formula_marks import find_formulas
from gguf_widgets.widgets._md_inert import inert

__all__ = [
    "Block",
    "Budget",
    "PlainText",
    "format_limit",
    "open_fence",
    "parse",
    "plain_parts",
    "render",
]

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

# For the formulas of one text, in characters: drawing one costs about 10 microseconds for each.
MAX_FORMULA_CHARS = 60_000

LIST_PART = 20
TABLE_PART = 25
_MAX_COLUMNS = 100  # a wider table comes in one part

_MAX_BLOCK_NESTING = 40
_MAX_INLINE_NESTING = 10
_LISTS = {"bullet_list_open", "ordered_list_open"}
_MARKS = "*_~`&<\\"
_BRACKET_WEIGHT = 5  # an opening bracket is searched for its end

_TOO_LONG = "Shown as plain text, because it is too long to be formatted."
_TOO_DEEP = "Shown as plain text, because it is nested too deeply to be formatted."
_TOO_MANY = "Shown as plain text, because it has too many marks to be formatted."


class Block(NamedTuple):
    """One top-level block, or a part of a list or a table.

    Parameters
    ----------
    tokens : list of Token
    source : str
    start, end : int
        The lines it takes, `end` excluded.
    context : str, default ""
        What must stand before it for it to be understood: the head of the table that it goes on.
    """

    tokens: list[Token]
    source: str
    start: int
    end: int
    context: str = ""


class Budget:
    """What formatting may still cost in one text; blocks are charged in order."""

    def __init__(self, marks: int | None = None, formula_chars: int | None = None) -> None:
        self.marks = MAX_MARKS if marks is None else marks
        self.formula_chars = MAX_FORMULA_CHARS if formula_chars is None else formula_chars

    def copy(self) -> Budget:
        """Return one that can be charged without changing this one."""
        return Budget(self.marks, self.formula_chars)

    def may_draw(self, num_chars: int) -> bool:
        """Charge a formula of so many characters; return whether there was enough for it."""
        if num_chars > self.formula_chars:
            return False
        self.formula_chars -= num_chars
        return True


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


def parse(text: str, context: str = "") -> list[Block]:
    """Split `text` into its top-level blocks, and long lists and tables into parts.

    Parameters
    ----------
    text : str
    context : str, default ""
        Lines before it (a block's `context`); the lines of the blocks are counted after them.
    """
    blocks: list[Block] = []
    before = context.count("\n")
    for block in _parse(context + text):
        moved = block._replace(start=max(0, block.start - before), end=block.end - before)
        if context and not blocks:
            if moved.end > 0:  # else there is nothing of this table any more
                blocks += _table_parts(moved._replace(context=context))
            context = ""
        elif block.tokens[0].type in _LISTS:
            blocks += _parts(moved)
        elif block.tokens[0].type == "table_open":
            blocks += _table_parts(moved)
        else:
            blocks.append(moved)
    return blocks


def _table_parts(block: Block) -> list[Block]:
    """Split a table after every `TABLE_PART` rows, each part parsed below the table's head."""
    lines = block.source.split("\n")
    head = "\n".join(lines[:2]) + "\n"
    rows = lines[2:]
    if len(rows) <= TABLE_PART or sum(t.type == "th_open" for t in block.tokens) > _MAX_COLUMNS:
        return [block]
    start = block.start if block.context else block.start + 2
    parts: list[Block] = []
    for number in range(0, len(rows), TABLE_PART):
        some = rows[number : number + TABLE_PART]
        source = head + "\n".join(some)
        (parsed,) = _parse(source)
        is_first = number == 0
        parts.append(
            Block(
                parsed.tokens,
                source,
                block.start if is_first else start + number,
                min(block.end, start + number + len(some)),
                block.context if is_first else head,
            )
        )
    return parts


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


def render(block: Block, budget: Budget, growing: CodeBlock | None = None) -> list[str]:
    """Return one block as sanitised HTML, a long one in parts.

    Parameters
    ----------
    block : Block
    budget : Budget
        Charged with what this block costs.
    growing : CodeBlock, optional
        Holds the code if the block is code without an end: its colours may lag behind.
    """
    only = block.tokens[0]
    if only.type == "fence":
        return growing.html() if growing else code_parts(only.content, language_of(only.info))
    if len(block.tokens) > MAX_TOKENS:
        return plain_parts(block.source)
    # What is nested deeper than the parser follows is missing from the tokens.
    if any(t.nesting == 1 and t.level + 1 >= _MAX_BLOCK_NESTING for t in block.tokens):
        return plain_parts(block.source, _TOO_DEEP)
    note = _charge(block.tokens, budget)
    if note is not None:
        return plain_parts(block.source, note)
    tokens = _body(block.tokens) if block.context else block.tokens
    state = StateCore("", _INLINE, {}, tokens)
    inline(state)
    text_join(state)
    new = inert(tokens, budget.may_draw)
    if block.context:
        new[0].content = '<div class="gw-table gw-more">'
    return [clean(_INLINE.renderer.render(new, _INLINE.options, {}))]


def _body(tokens: list[Token]) -> list[Token]:
    """Return a table's tokens without its head."""
    begin = next(i for i, t in enumerate(tokens) if t.type == "thead_open")
    end = next(i for i, t in enumerate(tokens) if t.type == "thead_close")
    return [*tokens[:begin], *tokens[end + 1 :]]


def open_fence(block: Block) -> Token | None:
    """Return the token of a block that is code without an end."""
    only = block.tokens[0]
    return only if only.type == "fence" and not _is_closed(only, block.source) else None


def plain_parts(text: str, note: str = _TOO_LONG) -> list[str]:
    """Return text as it is, in parts, with a note that says why."""
    plain = PlainText(note)
    plain.add(text)
    return plain.html()


class PlainText:
    """A text that is shown as it is and may grow, as HTML in parts; only the last one changes."""

    def __init__(self, note: str = _TOO_LONG) -> None:
        self._note = note
        self._full: list[str] = []
        self._open = ""

    def add(self, text: str) -> None:
        """Add text at the end."""
        self._open += text
        while (cut := part_end(self._open)) is not None:
            self._full.append(self._html_of(self._open[:cut], len(self._full)))
            self._open = self._open[cut:]

    def html(self) -> list[str]:
        """Return the sanitised parts."""
        if self._full and not self._open:
            return list(self._full)
        return [*self._full, self._html_of(self._open, len(self._full))]

    def _html_of(self, text: str, index: int) -> str:
        head = f'<p class="gw-note">{escape(self._note)}</p>'
        name = "gw-plain gw-more" if index else "gw-plain"
        return clean(
            f'<div class="{name}">{"" if index else head}'
            f'<pre dir="auto"><span>{escape(text, quote=False)}</span></pre></div>'
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
    find_formulas(parser)
    return parser.enable(["table", "strikethrough"]).disable("reference")


_BLOCKS = _parser(_MAX_BLOCK_NESTING)
# Apart, because unclosed brackets cost time in proportion to how deep they may nest.
_INLINE = _parser(_MAX_INLINE_NESTING)
