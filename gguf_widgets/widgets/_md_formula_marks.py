r"""Finding formulas in Markdown, by the marks that models put around them.

Promises: ``$...$``, ``$$...$$``, ``\(...\)``, ``\[...\]`` and environments such as
``\begin{align}`` become tokens of the types ``formula`` (inside a paragraph) and
``formula_block``; prices and other lone dollars stay text; a mark that is not closed stays text
with its backslash, and takes nothing with it but its own paragraph; the search costs time in
proportion to the text. Leaves to others: drawing them (`_md_formula`, `_md_inert`).

A block begins at a line that begins with its mark, and ends at its closing mark; at an empty line
it is given up and its lines are a paragraph. So what comes later never changes what is above it.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from gguf_widgets.widgets._md_formula import ENVIRONMENTS

__all__ = ["find_formulas"]

_CLOSING = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
_BEGIN = re.compile(r"\\begin\{([A-Za-z]+)(\*?)\}")
_AFTER = re.compile(r"[ \t]*[.,;:!?]?[ \t]*")  # what may follow a block on its last line
_DOLLARS = re.compile(r"\$((?:\\[^\n]|[^$\\\n])+)\$(?!\d)")
_PROSE = re.compile(r"[A-Za-z]{3}|\b(?:an|at|by|in|of|on|or|to)\b")


def find_formulas(parser: MarkdownIt) -> None:
    """Teach a parser to find formulas."""
    ends = ["paragraph", "reference", "blockquote", "list"]
    parser.block.ruler.before("fence", "formula_block", _block, {"alt": ends})
    parser.inline.ruler.before("escape", "formula", _inside)


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    if state.is_code_block(start):
        return False
    line = _line(state, start)
    opening, closing = _marks(line)
    if not opening:
        return False
    body = "" if opening.startswith("\\begin") else opening
    at = line.find(closing, len(opening))
    if at >= 0 and not _AFTER.fullmatch(line, at + len(closing)):
        return False  # more text follows: a formula inside a paragraph
    if silent:
        return True
    number = start
    lines = [line]
    while at < 0:
        number += 1
        line = _line(state, number) if number < end else ""
        if not line.strip() or state.sCount[number] < state.blkIndent:
            return _paragraph(state, start, number, lines)
        lines.append(line)
        at = line.find(closing)
        if at >= 0 and not _AFTER.fullmatch(line, at + len(closing)):
            at = -1
    after = line[at + len(closing) :].strip()
    lines[-1] = line[:at] if body else line[: at + len(closing)]
    state.line = number + 1
    token = state.push("formula_block", "", 0)
    token.content = ("\n".join(lines)[len(body) :] + after).strip()
    token.markup = opening
    token.info = "\n".join(lines) + (closing if body else "") + after
    token.map = [start, state.line]
    return True


def _line(state: StateBlock, number: int) -> str:
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


def _marks(line: str) -> tuple[str, str]:
    """Return the marks of a block that begins with this line, or two empty texts."""
    for opening in ("$$", "\\["):
        if line.startswith(opening) and not line.startswith("$$$"):
            return opening, _CLOSING[opening]
    found = _BEGIN.match(line)
    if found and found[1] in ENVIRONMENTS:
        return found.group(), f"\\end{{{found[1]}{found[2]}}}"
    return "", ""


def _paragraph(state: StateBlock, start: int, end: int, lines: list[str]) -> bool:
    """Take the lines of a block without an end as a paragraph."""
    state.line = end
    token = state.push("paragraph_open", "p", 1)
    token.map = [start, end]
    token = state.push("inline", "", 0)
    token.content = "\n".join(lines).strip()
    token.map = [start, end]
    token.children = []
    state.push("paragraph_close", "p", -1)
    return True


def _inside(state: StateInline, silent: bool) -> bool:
    text, at = state.src, state.pos
    if text[at] == "$" and not text.startswith("$$", at):
        found = _dollars(text, at)
        if found is None:
            return False
        return _push(state, silent, "$", found, at + len(found) + 2, "$")
    opening = text[at : at + 2]
    closing = _CLOSING.get(opening)
    if closing is None:
        return False
    end = _find(state, closing, at + 2)
    body = text[at + 2 : end] if end >= 0 else ""
    if not body.strip() or "\n\n" in body:
        # Its backslash is seen; else it would look as if something had been taken away.
        if not silent:
            state.pending += opening
        state.pos += 2
        return True
    return _push(state, silent, opening, body, end + 2, closing)


def _dollars(text: str, at: int) -> str | None:
    """Return the formula between the dollar at `at` and the next, if it is one."""
    before = text[at - 1] if at else " "
    if before.isalnum() or before in "$\\":
        return None
    found = _DOLLARS.match(text, at)
    if found is None:
        return None
    body = found[1]
    if body[0].isspace() or body[-1].isspace() or _is_price(body):
        return None
    after = text[found.end() : found.end() + 1]
    if after.isalpha() and not (after.islower() and (body[-1].isalnum() or body[-1] in ")}]'")):
        return None  # "$HOME/$USER"
    return body


def _is_price(body: str) -> bool:
    """Tell whether this begins with a price: "5 and not more than 6"."""
    if not body[0].isdigit() or not any(map(str.isspace, body)):
        return False
    return not any(sign in body for sign in "\\^_={}") and _PROSE.search(body) is not None


def _find(state: StateInline, mark: str, start: int) -> int:
    """Find a closing mark; one that is not there is not looked for twice in one text."""
    known = state.env.setdefault("gw_formulas", {})
    if known.get("text") is not state.src:
        known.clear()
        known["text"] = state.src
    if mark in known and known[mark] <= start:
        return -1
    end = state.src.find(mark, start)
    if end < 0:
        known[mark] = start
    return end


def _push(
    state: StateInline, silent: bool, opening: str, body: str, end: int, closing: str
) -> bool:
    if not silent:
        token = state.push("formula", "", 0)
        token.content = body.strip()
        token.markup = opening
        token.info = f"{opening}{body}{closing}"
    state.pos = end
    return True
