r"""Regular expressions as JSON Schema writes them, read into a tree.

Promises: reads ECMA 262's syntax as far as it can be turned into an automaton and means the same to
Python and Rust: characters and escapes, classes, groups, alternatives, quantifiers, ``^``, ``$``
and look-ahead. `PatternError` names what it does not read (references back, look-behind, ``\b``,
flags) and where. Leaves to others: what the tree means (`pattern_language`).
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from gguf_widgets.core.engine.grammar import charset, classes
from gguf_widgets.core.engine.grammar.classes import CharacterClass
from gguf_widgets.core.engine.grammar.limits import MAX_PATTERN

__all__ = [
    "Alternatives",
    "End",
    "Look",
    "PatternError",
    "Repeated",
    "Sequence",
    "Start",
    "Tree",
    "parse",
]

_MAX_NESTING = 50
_CONTROL = {"t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "0": "\0"}


class PatternError(Exception):
    """The pattern is not one, or has a part that cannot be followed."""


@dataclass(frozen=True)
class Sequence:
    """One part after the other."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Alternatives:
    """Any one of the parts."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Repeated:
    """A part `low` to `high` times; None is without end."""

    part: Tree
    low: int
    high: int | None


@dataclass(frozen=True)
class Look:
    """Look-ahead: what follows must begin with this, or must not."""

    part: Tree
    negative: bool


@dataclass(frozen=True)
class Start:
    """``^``."""


@dataclass(frozen=True)
class End:
    """``$``."""


Tree = CharacterClass | Sequence | Alternatives | Repeated | Look | Start | End


def parse(pattern: str) -> Tree:
    """Read a pattern.

    Raises
    ------
    PatternError
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"it has {len(pattern):,} characters, and {MAX_PATTERN:,} is the limit")
    reader = _Reader(pattern)
    tree = reader.alternatives(0)
    if reader.place < len(pattern):
        raise PatternError(f"the ')' at character {reader.place + 1} closes nothing")
    return tree


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.place = 0

    def alternatives(self, depth: int) -> Tree:
        if depth > _MAX_NESTING:
            raise PatternError(f"groups are nested deeper than {_MAX_NESTING}")
        found = [self.sequence(depth)]
        while self.take("|"):
            found.append(self.sequence(depth))
        return found[0] if len(found) == 1 else Alternatives(tuple(found))

    def sequence(self, depth: int) -> Tree:
        parts: list[Tree] = []
        while self.place < len(self.text) and self.peek() not in "|)":
            parts.append(self.quantified(self.atom(depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def atom(self, depth: int) -> Tree:
        char = self.next()
        if char == "^":
            return Start()
        if char == "$":
            return End()
        if char == ".":
            return classes.dot()
        if char == "(":
            return self.group(depth)
        if char == "[":
            return self.character_class()
        if char == "\\":
            return self.escape(in_class=False)
        if char in "*+?":
            raise self.error(f"there is nothing for {char!r} to repeat")
        return self.literal(char)

    def group(self, depth: int) -> Tree:
        look: bool | None = None
        if self.take("?"):
            if self.take("="):
                look = False
            elif self.take("!"):
                look = True
            elif self.take("<=") or self.take("<!"):
                raise self.error("look-behind cannot be followed")
            elif self.take("<") or self.take("P<"):
                end = self.text.find(">", self.place)
                if not self.text[self.place : end].isidentifier():
                    raise self.error("the name of a group is not one")
                self.place = end + 1
            elif not self.take(":"):
                raise self.error("this kind of group cannot be followed")
        inside = self.alternatives(depth + 1)
        if not self.take(")"):
            raise self.error("a group is not closed")
        return inside if look is None else Look(inside, look)

    def quantified(self, atom: Tree) -> Tree:
        start = self.place
        if self.take("*"):
            low, high = 0, None
        elif self.take("+"):
            low, high = 1, None
        elif self.take("?"):
            low, high = 0, 1
        else:
            bounds = self.bounds()
            if bounds is None:
                return atom
            low, high = bounds
        if isinstance(atom, Start | End | Look):
            self.place = start
            raise self.error("a position cannot be repeated")
        self.take("?")  # the lazy form matches the same texts
        if self.peek() in ("*", "+", "?") or self.bounds() is not None:
            raise self.error("a repetition cannot be repeated; put it into a group")
        return Repeated(atom, low, high)

    def bounds(self) -> tuple[int, int | None] | None:
        """Read {m}, {m,} or {m,n}; anything else is left where it is."""
        end = self.text.find("}", self.place)
        if self.peek() != "{" or end < 0:
            return None
        first, comma, second = self.text[self.place + 1 : end].partition(",")
        numbers = [first, second] if second else [first]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            return None
        if max(map(len, numbers)) > 9:
            raise self.error("a repetition is too large")
        self.place = end + 1
        low = int(first)
        high = int(second) if second else (None if comma else low)
        if high is not None and high < low:
            raise self.error(f"a repetition of at least {low} and at most {high}")
        return low, high

    def character_class(self) -> Tree:
        inverse = self.take("^")
        sure: list[charset.Charset] = []
        possible: list[charset.Charset] = []
        while not self.take("]"):
            if self.text[self.place : self.place + 2] in ("&&", "~~", "--", "||", "[:"):
                raise self.error(
                    f"{self.text[self.place : self.place + 2]!r} in a class is read differently by "
                    "different programs; escape it"
                )
            one = self.class_member()
            if self.peek() == "-" and self.text[self.place + 1 : self.place + 2] not in ("]", ""):
                self.place += 1
                one = self.range(one, self.class_member())
            sure.append(one.sure)
            possible.append(one.possible)
        whole = CharacterClass(charset.union(*sure), charset.union(*possible))
        return classes.negated(whole) if inverse else whole

    def class_member(self) -> CharacterClass:
        char = self.next()
        return self.escape(in_class=True) if char == "\\" else self.literal(char)

    def range(self, low: CharacterClass, high: CharacterClass) -> CharacterClass:
        ends = []
        for one in (low, high):
            if len(one.sure) != 1 or one.sure[0][0] != one.sure[0][1]:
                raise self.error("a range goes from one character to another")
            ends.append(one.sure[0][0])
        if ends[0] > ends[1]:
            raise self.error(f"the range {chr(ends[0])}-{chr(ends[1])} is the wrong way round")
        return classes.single(charset.of([(ends[0], ends[1])]))

    def escape(self, *, in_class: bool) -> CharacterClass:
        char = self.next()
        if char in "dDwWsS":
            one = {"d": classes.digit, "w": classes.word, "s": classes.space}[char.lower()]()
            return one if char.islower() else classes.negated(one)
        if char in "pP":
            return self.property(inverse=char == "P")
        if char == "0" and self.peek() in string.digits and self.peek():
            raise self.error("octal escapes cannot be followed")
        if char in _CONTROL:
            return self.literal(_CONTROL[char])
        if char == "b" and in_class:
            return self.literal("\b")
        if char == "c":
            letter = self.next()
            if letter not in string.ascii_letters:
                raise self.error("\\c needs a letter")
            return self.literal(chr(ord(letter) % 32))
        if char in "xu":
            return self.literal(chr(self.code_point(char)))
        if char in string.digits:
            raise self.error("a reference back to a group cannot be followed")
        if char in string.ascii_letters:
            raise self.error(f"\\{char} cannot be followed")
        return self.literal(char)

    def code_point(self, kind: str) -> int:
        if kind == "u" and self.take("{"):
            end = self.text.find("}", self.place)
            number = self.hexadecimal(max(end - self.place, 0) if end >= 0 else 0)
            self.place += 1
            return number
        number = self.hexadecimal(2 if kind == "x" else 4)
        if 0xD800 <= number <= 0xDBFF and self.take("\\u"):
            second = self.hexadecimal(4)
            if 0xDC00 <= second <= 0xDFFF:
                return 0x10000 + ((number - 0xD800) << 10) + (second - 0xDC00)
        return number

    def hexadecimal(self, length: int) -> int:
        digits = self.text[self.place : self.place + length]
        if not 0 < len(digits) == length <= 6 or not all(d in string.hexdigits for d in digits):
            raise self.error("an escape needs hexadecimal digits")
        self.place += length
        if int(digits, 16) > 0x10FFFF:
            raise self.error("there is no such character")
        return int(digits, 16)

    def property(self, *, inverse: bool) -> CharacterClass:
        name = ""
        if self.take("{"):
            end = self.text.find("}", self.place)
            name = self.text[self.place : max(end, self.place)].removeprefix("gc=")
            self.place = end + 1
        one = classes.category(name)
        if one is None:
            raise self.error(
                f"\\p{{{name}}} is none of Unicode's general categories (L, Lu, Ll, N, Nd, P, ...)"
            )
        return classes.negated(one) if inverse else one

    def literal(self, char: str) -> CharacterClass:
        one = charset.chars(char)
        if not one:
            raise self.error("half a character (a lone surrogate) can never be matched")
        return classes.single(one)

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def next(self) -> str:
        if self.place >= len(self.text):
            raise PatternError("it ends in the middle")
        self.place += 1
        return self.text[self.place - 1]

    def take(self, token: str) -> bool:
        found = self.text.startswith(token, self.place)
        self.place += len(token) * found
        return found

    def error(self, what: str) -> PatternError:
        return PatternError(f"{what} (at character {self.place + 1})")
