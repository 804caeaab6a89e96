"""Grammars in llama.cpp's notation (GBNF), read as llama.cpp reads them.

Promises: `parse` makes the same rules out of a text as llama.cpp's own parser of the pinned
version, repetitions spelled out, or refuses it with the line and the column. It refuses, besides,
what llama.cpp takes without a word for something else: a bound above 2,000 (for none at all),
``{5,2}`` (for four thousand million rules), an empty class (for nothing), a rule defined twice (for
the second). Leaves to others: whether the rules can be followed (`check`).
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from enum import Enum, auto

from gguf_widgets.core.engine.grammar.charset import ANY, Charset, complement, of
from gguf_widgets.core.engine.grammar.limits import (
    LLAMA_REPETITIONS,
    MAX_ELEMENTS,
    MAX_GRAMMAR_BYTES,
    MAX_NESTING,
)
from gguf_widgets.core.errors import GrammarError

__all__ = ["Element", "Grammar", "Kind", "Rule", "parse"]

_WORD = frozenset(string.ascii_letters + string.digits + "-")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}


class Kind(Enum):
    """What an element of a rule is."""

    CHAR = auto()
    TOKEN = auto()
    RULE = auto()


@dataclass(frozen=True)
class Element:
    """One element: a character out of a set, one token of the vocabulary, or a rule's number."""

    kind: Kind
    charset: Charset = ()
    rule: int = -1


Alternative = tuple[Element, ...]


@dataclass
class Rule:
    """One rule.

    Attributes
    ----------
    name : str
        For a rule that stands for a group or a repetition, the one it is in.
    place : int
        Where in the text it is defined or first named.
    alternatives : list or None
        None until it is defined.
    """

    name: str
    place: int
    alternatives: list[Alternative] | None = None


@dataclass
class Grammar:
    """A grammar that was read.

    Attributes
    ----------
    text : str
    rules : list of Rule
        An element refers to a rule by its place here.
    repeated : list of (tuple of Element, int)
        What may come more than once, and where that is said.
    root : int
    """

    text: str
    rules: list[Rule] = field(default_factory=list)
    repeated: list[tuple[Alternative, int]] = field(default_factory=list)
    root: int = -1

    def error(self, what: str, place: int) -> GrammarError:
        """Make the error that refuses the grammar at a place."""
        line = self.text.count("\n", 0, place) + 1
        column = place - (self.text.rfind("\n", 0, place) + 1) + 1
        return GrammarError(
            f"This grammar cannot be followed. Line {line}, column {column}: {what}",
            line=line,
            column=column,
        )


def parse(text: str) -> Grammar:
    """Read a grammar.

    Raises
    ------
    GrammarError
    """
    if not isinstance(text, str):
        raise GrammarError(f"A grammar is a text, not a {type(text).__name__}.")
    reader = _Reader(text)
    reader.check_text()
    reader.read()
    return reader.grammar


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.grammar = Grammar(text)
        self.numbers: dict[str, int] = {}
        self.num_elements = 0

    def check_text(self) -> None:
        for place, char in enumerate(self.text):
            if char == "\0" or "\ud800" <= char <= "\udfff":
                raise self.error("this character cannot be in a grammar", place)
        size = len(self.text.encode())
        if size > MAX_GRAMMAR_BYTES:
            raise self.error(
                f"the grammar has {size:,} bytes, and {MAX_GRAMMAR_BYTES:,} is the limit", 0
            )

    def read(self) -> None:
        self.skip(newlines=True)
        while self.place < len(self.text):
            self.rule()
        for rule in self.grammar.rules:
            if rule.alternatives is None:
                raise self.error(f"there is no rule called {rule.name!r}", rule.place)
        if "root" not in self.numbers:
            raise self.error("there is no rule called 'root', with which it would begin", 0)
        self.grammar.root = self.numbers["root"]

    def rule(self) -> None:
        start = self.place
        if self.peek() == "|":
            raise self.error(
                "an alternative on a line of its own needs the '|' at the end of the line "
                "before, or "
                "brackets around them all"
            )
        number = self.named(self.name())
        rule = self.grammar.rules[number]
        self.skip(newlines=False)
        if not self.text.startswith("::=", self.place):
            raise self.error("'::=' is missing after the name of a rule")
        if rule.alternatives is not None:
            raise self.error(f"the rule {rule.name!r} is defined twice", start)
        self.place += 3
        self.skip(newlines=True)
        rule.place = start
        rule.alternatives = self.alternatives(rule.name, 0)
        if self.peek() not in ("", "\r", "\n"):
            raise self.error(f"{self.peek()!r} does not belong here")
        self.skip(newlines=True)

    def alternatives(self, name: str, depth: int) -> list[Alternative]:
        if depth > MAX_NESTING:
            raise self.error(f"brackets are nested deeper than {MAX_NESTING}")
        found = [self.sequence(name, depth)]
        while self.peek() == "|":
            self.place += 1
            self.skip(newlines=True)
            found.append(self.sequence(name, depth))
        self.count(len(found))
        return found

    def sequence(self, name: str, depth: int) -> Alternative:
        found: list[Element] = []
        last = 0  # where the last item begins, which a repetition would repeat
        weight = 1  # llama.cpp's own count of the rules in it
        while (char := self.peek()) and char not in "|)\r\n":
            start = self.place
            if char in "*+?{":
                low, high = self.bounds(newlines=depth > 0)
                total = low if high is None else max(high, 1)
                weight *= max(total, 1)
                if last == len(found):
                    raise self.error(f"there is nothing for {char!r} to repeat", start)
                if weight > LLAMA_REPETITIONS:
                    raise self.error(
                        f"repetitions of repetitions come to {weight:,} rules; llama.cpp's "
                        f"limit is "
                        f"{LLAMA_REPETITIONS:,}",
                        start,
                    )
                item = tuple(found[last:])
                found[last:] = self.repeated(item, low, high, name, start)
                self.skip(newlines=depth > 0)
                continue
            last = len(found)
            before = len(self.grammar.rules)
            if char == '"':
                found += self.literal()
            elif char == "[":
                found.append(self.character_class())
            elif char == ".":
                self.place += 1
                found.append(Element(Kind.CHAR, ANY))
            elif char in "<!":
                found.append(self.token())
            elif char == "(":
                found.append(self.group(name, depth))
            elif char in _WORD:
                found.append(Element(Kind.RULE, rule=self.named(self.name(), start)))
            else:
                raise self.error(f"{char!r} does not belong here")
            weight = max(1, len(self.grammar.rules) - before) if char == "(" else 1
            self.count(len(found) - last)
            self.skip(newlines=depth > 0)
        return tuple(found)

    # --- items ---

    def literal(self) -> list[Element]:
        self.place += 1
        found = []
        while self.peek() != '"':
            start = self.place
            code_point = self.character()
            one = of([(code_point, code_point)])
            if not one or code_point == 0:
                raise self.error("no text can hold this character", start)
            found.append(Element(Kind.CHAR, one))
        self.place += 1
        return found

    def character_class(self) -> Element:
        start = self.place
        self.place += 1
        inverse = self.peek() == "^"
        self.place += inverse
        ranges = []
        while self.peek() != "]":
            at = self.place
            low = high = self.character()
            if self.peek() == "-" and self.text[self.place + 1 : self.place + 2] != "]":
                self.place += 1
                high = self.character()
                if high < low:
                    raise self.error("this range is the wrong way round", at)
            ranges.append((low, high))
        self.place += 1
        if not ranges:
            raise self.error("a class of no characters", start)
        self.count(2 * len(ranges))
        inside = of(ranges)
        found = complement(inside) if inverse else inside
        if not found or found == ((0, 0),):
            raise self.error("no character is in this class", start)
        return Element(Kind.CHAR, found)

    def character(self) -> int:
        char = self.peek()
        if not char:
            raise self.error("the grammar ends in the middle of a text or a class")
        start = self.place
        self.place += 1
        if char != "\\":
            return ord(char)
        kind = self.peek()
        self.place += 1
        if kind in _HEX_LENGTHS:
            length = _HEX_LENGTHS[kind]
            digits = self.text[self.place : self.place + length]
            if len(digits) < length or not all(one in string.hexdigits for one in digits):
                raise self.error(f"\\{kind} needs {length} hexadecimal digits", start)
            self.place += length
            if int(digits, 16) > 0x10FFFF:
                raise self.error("there is no such character", start)
            return int(digits, 16)
        if not kind or kind not in _ESCAPES:
            raise self.error(f"'\\{kind}' is no escape of this notation", start)
        return ord(_ESCAPES[kind])

    def token(self) -> Element:
        start = self.place
        self.place += self.peek() == "!"
        if self.peek() != "<":
            raise self.error("'<' is missing in front of a token")
        end = self.text.find(">", self.place)
        inside = self.text[self.place + 1 : end]
        if end < 0:
            raise self.error("'>' is missing after a token", start)
        if inside.startswith("["):
            number = inside[1:-1]
            if not inside.endswith("]") or not (number.isascii() and number.isdigit()):
                raise self.error("a token's number is written <[123]>", start)
            if len(number) > 9:
                raise self.error("there is no such token", start)
        self.place = end + 1
        return Element(Kind.TOKEN)

    def group(self, name: str, depth: int) -> Element:
        start = self.place
        self.place += 1
        self.skip(newlines=True)
        number = self.new(name, start)
        self.grammar.rules[number].alternatives = self.alternatives(name, depth + 1)
        if self.peek() != ")":
            raise self.error("')' is missing" if not self.peek() else "')' is missing before this")
        self.place += 1
        return Element(Kind.RULE, rule=number)

    # --- repetitions ---

    def bounds(self, *, newlines: bool) -> tuple[int, int | None]:
        char = self.peek()
        start = self.place
        self.place += 1
        if char != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        self.skip(newlines=newlines)
        low = self.number()
        high: int | None = low
        self.skip(newlines=newlines)
        if self.peek() == ",":
            self.place += 1
            self.skip(newlines=newlines)
            high = self.number() if self.peek() in string.digits and self.peek() else None
            self.skip(newlines=newlines)
        if self.peek() != "}":
            raise self.error("'}' is missing after a repetition")
        self.place += 1
        most = low if high is None else max(low, high)
        if most > LLAMA_REPETITIONS:
            raise self.error(
                f"{most:,} repetitions; llama.cpp's limit is {LLAMA_REPETITIONS:,}", start
            )
        if high is not None and high < low:
            raise self.error(f"at least {low} and at most {high} repetitions", start)
        return low, high

    def number(self) -> int:
        start = self.place
        while self.peek() in string.digits and self.peek():
            self.place += 1
        if start == self.place:
            raise self.error("a number is missing in a repetition")
        if self.place - start > 9:
            raise self.error("this number is too large", start)
        return int(self.text[start : self.place])

    def repeated(
        self, item: Alternative, low: int, high: int | None, name: str, place: int
    ) -> list[Element]:
        """Spell a repetition out, as llama.cpp does: each optional round is a rule of its own."""
        self.count(len(item) * max(low, 1))
        found = list(item) * low
        rest: int | None = None
        for _ in range(1 if high is None else high - low):
            number = self.new(name, place)
            self.count(len(item) + 2)
            following = number if high is None else rest
            tail = () if following is None else (Element(Kind.RULE, rule=following),)
            self.grammar.rules[number].alternatives = [(*item, *tail), ()]
            rest = number
        if high is None or high > 1:
            self.grammar.repeated.append((item, place))
        return found + ([] if rest is None else [Element(Kind.RULE, rule=rest)])

    # --- names, space, places ---

    def named(self, name: str, place: int | None = None) -> int:
        if name not in self.numbers:
            self.numbers[name] = self.new(name, self.place if place is None else place)
        return self.numbers[name]

    def new(self, name: str, place: int) -> int:
        self.grammar.rules.append(Rule(name, place))
        return len(self.grammar.rules) - 1

    def name(self) -> str:
        start = self.place
        while self.peek() in _WORD:
            self.place += 1
        if start == self.place:
            raise self.error(
                f"a rule begins with its name (letters, digits and '-'), not with {self.peek()!r}"
            )
        return self.text[start : self.place]

    def skip(self, *, newlines: bool) -> None:
        while (char := self.peek()) and (char in " \t#" or (newlines and char in "\r\n")):
            if char == "#":
                while self.peek() not in ("", "\r", "\n"):
                    self.place += 1
            else:
                self.place += 1

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def count(self, number: int) -> None:
        self.num_elements += number
        if self.num_elements > MAX_ELEMENTS:
            raise self.error(
                f"the rules come to more than {MAX_ELEMENTS:,} elements, which is the limit"
            )

    def error(self, what: str, place: int | None = None) -> GrammarError:
        return self.grammar.error(f"{what}.", self.place if place is None else place)
