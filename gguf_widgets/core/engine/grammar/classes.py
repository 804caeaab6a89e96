r"""What the character classes of a pattern stand for: \d, \w, \s, the dot, \p{...}.

JSON Schema asks for ECMA 262's meaning. The programs that check a reply afterwards have their own:
in Python and Rust, \d is every Unicode digit and \w every Unicode letter. So a class here is two
sets: the characters that it surely matches, whoever checks, and those that somebody may count in.
What is written keeps to the sure ones; what must be avoided avoids all that are possible.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.charset import Charset

__all__ = ["CharacterClass", "category", "digit", "dot", "negated", "single", "space", "word"]


class CharacterClass(NamedTuple):
    """The characters that a class surely matches, and those that it possibly matches."""

    sure: Charset
    possible: Charset


# Not letters, marks or digits in any of the dialects: for \W, the whole of which would be a list of
# several hundred ranges, gone through for each character. tests hold it against Unicode's tables.
_NEVER_WORD = charset.of(
    [
        (0x00, 0x2F), (0x3A, 0x40), (0x5B, 0x5E), (0x60, 0x60), (0x7B, 0xA9), (0xAB, 0xB1),
        (0xB4, 0xB4), (0xB6, 0xB8), (0xBB, 0xBB), (0xBF, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7),
        (0x2010, 0x2027), (0x2030, 0x203E), (0x2041, 0x2053), (0x2055, 0x205E), (0x20A0, 0x20C0),
        (0x2190, 0x23FF), (0x2500, 0x2775), (0x2794, 0x2BFF), (0x3000, 0x3004), (0x3008, 0x3020),
        (0x1F300, 0x1F64F), (0x1F680, 0x1F6D7),
    ]
)  # fmt: skip


def single(one: Charset) -> CharacterClass:
    """Return a class that everybody reads alike."""
    return CharacterClass(one, one)


def negated(one: CharacterClass) -> CharacterClass:
    """Return the class of all other characters."""
    if one == word():
        return CharacterClass(_NEVER_WORD, charset.complement(one.sure))
    return CharacterClass(charset.complement(one.possible), charset.complement(one.sure))


def digit() -> CharacterClass:
    r"""Return \d."""
    return CharacterClass(charset.of([(0x30, 0x39)]), _category("Nd"))


def word() -> CharacterClass:
    r"""Return \w."""
    sure = charset.union(charset.of([(0x41, 0x5A), (0x61, 0x7A)]), digit().sure, charset.chars("_"))
    more = charset.of(
        # Letters in circles and squares, which are symbols by category, and the two joiners.
        [
            (0x200C, 0x200D),
            (0x24B6, 0x24E9),
            (0x1F130, 0x1F149),
            (0x1F150, 0x1F169),
            (0x1F170, 0x1F189),
        ]
    )  # fmt: skip
    possible = (_category(name) for name in ("L", "M", "N", "Pc"))
    return CharacterClass(sure, charset.union(sure, more, *possible))


def space() -> CharacterClass:
    r"""Return \s."""
    sure = charset.of(
        [
            (0x09, 0x0D),
            (0x20, 0x20),
            (0xA0, 0xA0),
            (0x1680, 0x1680),
            (0x2000, 0x200A),
            (0x2028, 0x2029),
            (0x202F, 0x202F),
            (0x205F, 0x205F),
            (0x3000, 0x3000),
        ]
    )
    return CharacterClass(sure, charset.union(sure, charset.chars("\x1c\x1d\x1e\x1f\x85\ufeff")))


def dot() -> CharacterClass:
    """Return the dot: anything but the end of a line."""
    every = charset.complement(charset.chars("\n"))
    return CharacterClass(charset.subtract(every, charset.chars("\r\u2028\u2029")), every)


def category(name: str) -> CharacterClass | None:
    r"""Return \p{name} for one of Unicode's general categories; None if it is not one.

    Characters that Unicode has not assigned yet are possibly in each: others may know more of them.
    """
    known = _categories()
    if name not in known and name not in {one[0] for one in known} - {"C"}:
        return None
    unassigned = charset.complement(charset.union(*known.values()))
    sure = _category(name)
    return CharacterClass(sure, charset.union(sure, unassigned))


def _category(name: str) -> Charset:
    return charset.union(*(one for key, one in _categories().items() if key.startswith(name)))


@lru_cache(maxsize=1)
def _categories() -> dict[str, Charset]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    # Nothing is assigned in the planes between, and asking for each of a million takes a second.
    for start, end in ((0, 0x40000), (0xE0000, 0xE1000)):
        for name, group in groupby(range(start, end), lambda n: unicodedata.category(chr(n))):
            members = list(group)
            ranges.setdefault(name, []).append((members[0], members[-1]))
    ranges["Co"] = [*ranges["Co"], (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)]
    return {name: charset.of(found) for name, found in ranges.items() if name not in ("Cn", "Cs")}
