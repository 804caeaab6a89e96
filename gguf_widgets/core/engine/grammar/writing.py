r"""How JSON is written: white space, strings, and automata as rules.

Promises: the style of `Writer` is the one of the package's description (`grammar`). A string
without limits may use every escape of JSON; strings out of an automaton use the short ones (``\n``,
``\"``) and ``\u00XX`` for other control characters, and write all else as it is. There are no
control characters, no halves of characters, and no white space without end. Leaves to others: which
values.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.automaton import Automaton
from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.limits import MAX_REPEATS
from gguf_widgets.core.engine.grammar.rules import (
    Alternative,
    Class,
    Many,
    Ref,
    Rules,
    Symbol,
    Text,
)

__all__ = ["Writer", "json_text"]

_SHORT = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_PLAIN = charset.subtract(charset.of([(0x20, 0x10FFFF)]), charset.chars('"\\'))
_ESCAPED = charset.complement(_PLAIN)
_FEW_RANGES = 6
_HEX = charset.chars("0123456789ABCDEFabcdef")


def json_text(value: Any) -> str:
    """Return a text, number, true, false or null as it is written."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


_QUOTE: Alternative = (Text('"'),)


class Writer:
    """The parts that all of a grammar's rules share.

    Parameters
    ----------
    rules : Rules
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._escaped: dict[Charset, Ref] = {}

    @cached_property
    def space(self) -> Ref:
        """White space between tokens: none, a blank, or a new line with some indentation."""
        blanks = Many(self.rules.add("blank", [(Class(charset.chars(" ")),)]), 1, 40)
        tabs = Many(self.rules.add("tab", [(Class(charset.chars("\t")),)]), 1, 10)
        indent = self.rules.add("indent", [(), (blanks,), (tabs,)])
        return self.rules.add("space", [(), (Text(" "),), (Text("\n"), indent)])

    @cached_property
    def char(self) -> Ref:
        """One character inside a string, as it is or escaped."""
        return self.rules.add("char", [(Class(_PLAIN),), (Text("\\"), self._escape)])

    @cached_property
    def _escape(self) -> Ref:
        digit = Class(_HEX)
        low = Class(charset.chars("01234567"))
        halves = (Class(charset.chars("89ABab")), digit, digit, Text("\\u"))
        second = (Class(charset.chars("Dd")), Class(charset.chars("CDEFcdef")), digit, digit)
        after_d = self.rules.add("after-d", [(low, digit, digit), (*halves, *second)])
        others = Class(charset.subtract(_HEX, charset.chars("Dd")))
        unicode = self.rules.add(
            "unicode", [(others, digit, digit, digit), (Class(charset.chars("Dd")), after_d)]
        )
        return self.rules.add(
            "escape", [(Class(charset.chars('"\\/bfnrt')),), (Text("u"), unicode)]
        )

    @cached_property
    def string(self) -> Ref:
        """Any string."""
        return self.string_until((Text('"'),), "string")

    def string_until(self, end: Alternative, hint: str) -> Ref:
        """Return any string, with `end` in place of the closing quote."""
        rest = self.rules.reserve(f"{hint}-rest")
        self.rules.define(rest, [(Class(_PLAIN), rest), (Text("\\"), self._escape, rest), end])
        return self.rules.add(hint, [(Text('"'), rest)])

    def counted_string(self, low: int, high: int | None) -> Ref:
        """Return strings of so many characters."""
        high = None if high is None else max(low, min(high, MAX_REPEATS))
        inside = self.rules.repeated(self.char, low, high)
        return self.rules.add("string", [(Text('"'), *inside, Text('"'))])

    def string_of(self, automaton: Automaton, hint: str, end: Alternative = _QUOTE) -> Ref:
        """Return the strings of an automaton, with `end` in place of the closing quote."""
        inside = self._states(automaton, f"{hint}-text", end, self._in_string)
        return self.rules.add(hint, [(Text('"'), inside)])

    def text_of(self, automaton: Automaton, hint: str) -> Ref:
        """Return the texts of an automaton as they are: numbers, for example."""
        return self._states(automaton, hint, (), lambda edge, rest: [(self.one_of(edge), *rest)])

    def one_of(self, chars: Charset) -> Symbol:
        """Return a class; one of many ranges is a rule, so that it is there only once."""
        if len(chars) <= _FEW_RANGES:
            return Class(chars)
        return self.rules.add("class", [(Class(chars),)])

    def _states(
        self,
        automaton: Automaton,
        hint: str,
        end: Alternative,
        written: Callable[[Charset, Alternative], list[Alternative]],
    ) -> Ref:
        refs = [self.rules.reserve(hint) for _ in automaton.edges]
        for ref, edges, accepting in zip(refs, automaton.edges, automaton.accepting, strict=True):
            ways: list[Alternative] = [end] if accepting else []
            for edge, target in edges:
                is_last = automaton.accepting[target] and not automaton.edges[target]
                ways += written(edge, end if is_last else (refs[target],))
            self.rules.define(ref, ways)
        return refs[0]

    def _in_string(self, edge: Charset, rest: Alternative) -> list[Alternative]:
        ways: list[Alternative] = []
        plain, escaped = charset.intersect(edge, _PLAIN), charset.intersect(edge, _ESCAPED)
        if plain:
            ways.append((self.one_of(plain), *rest))
        if escaped:
            if escaped not in self._escaped:
                self._escaped[escaped] = self._escapes(escaped)
            ways.append((Text("\\"), self._escaped[escaped], *rest))
        return ways

    def _escapes(self, escaped: Charset) -> Ref:
        """Return how the characters that cannot stand in a string are written after a backslash."""
        letters, controls = "", []
        for low, high in escaped:
            for code_point in range(low, high + 1):
                short = _SHORT.get(chr(code_point))
                if short is None:
                    controls.append((Text(f"u00{code_point >> 4:x}"), code_point % 16))
                else:
                    letters += short
        ways: list[Alternative] = []
        if letters:
            ways.append((Class(charset.chars(letters)),))
        by_start: dict[Text, str] = {}
        for start, last in controls:
            by_start[start] = by_start.get(start, "") + f"{last:x}{last:X}"
        ways += [(start, Class(charset.chars(digits))) for start, digits in by_start.items()]
        return self.rules.choice("escaped", ways)
