"""A grammar (GBNF) under which a reply is one of some texts, and nothing else.

Promises: texts that begin alike are followed as one until they part, so that a thousand of them
cost a token hardly more than two; every character is written so that it stands for itself. Leaves
to others: which texts there may be (`output_choice`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

__all__ = ["grammar_of"]

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def grammar_of(texts: Sequence[str], *, may_begin_with_blank: bool = True) -> str:
    """Return the grammar of some texts.

    Parameters
    ----------
    texts : sequence of str
        Distinct, and none of them empty. One may be the beginning of another: then the model
        decides there whether to end its reply.
    may_begin_with_blank : bool
        Whether the reply may have one blank in front. Many models write each word with the blank
        before it as one token, and would otherwise have to spell the word in an unusual way.
    """
    rules: list[str] = []
    waiting = deque([sorted(texts)])
    number = 1  # the next rule that is not named yet
    while waiting:
        ways = []
        for beginning, ends, rest in _parted(waiting.popleft()):
            way = _literal(beginning)
            if rest:
                way += f" c{number}{'?' if ends else ''}"
                waiting.append(rest)
                number += 1
            ways.append(way)
        rules.append(f"c{len(rules)} ::= {' | '.join(ways)}")
    blank = '" "? ' if may_begin_with_blank else ""
    return "\n".join([f"root ::= {blank}c0", *rules]) + "\n"


def _parted(texts: list[str]) -> list[tuple[str, bool, list[str]]]:
    """Divide sorted texts by their first character.

    Of each group: how all of it begins, whether that is one of the texts, and how the others go on.
    """
    found = []
    start = 0
    while start < len(texts):
        end = start
        while end < len(texts) and texts[end][0] == texts[start][0]:
            end += 1
        first, last = texts[start], texts[end - 1]
        size = 0
        while size < min(len(first), len(last)) and first[size] == last[size]:
            size += 1
        rest = [text[size:] for text in texts[start:end] if len(text) > size]
        found.append((first[:size], len(first) == size, rest))
        start = end
    return found


def _literal(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or _plain(char) for char in text) + '"'


def _plain(char: str) -> str:
    return char if char.isprintable() else f"\\U{ord(char):08X}"
