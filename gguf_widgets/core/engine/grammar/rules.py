"""The rules of a grammar while it is made, and their text.

Promises: what is not needed is left out of the text: rules that can never come to an end (a schema
that contains itself without a way out), rules that nothing refers to, and rules that only pass on
to another. Repetitions are written so that llama.cpp takes them for what they say: it holds a bound
above 2,000 for none at all, and makes a rule for each repetition. Leaves to others: which rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt

from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.limits import MAX_ELEMENTS

__all__ = ["Alternative", "Class", "Many", "Ref", "Rules", "RulesTooLargeError", "Symbol", "Text"]

# Up to so many repetitions are left to llama.cpp, as one rule each; more are counted in blocks.
_IN_ONE = 256
# A long chain of rules put into each other would be copied again for each of them.
_LONGEST_PUT_IN = 100


@dataclass(frozen=True)
class Text:
    """These characters."""

    text: str


@dataclass(frozen=True)
class Class:
    """One character out of a set."""

    charset: Charset


@dataclass(frozen=True)
class Ref:
    """Another rule."""

    name: str


@dataclass(frozen=True)
class Many:
    """A rule several times; `high` None is without end."""

    ref: Ref
    low: int
    high: int | None


Symbol = Text | Class | Ref | Many
Alternative = tuple[Symbol, ...]
_Ways = dict[str, tuple[Alternative, ...]]


class RulesTooLargeError(Exception):
    """The rules would be more than llama.cpp should hold for each sequence."""


class Rules:
    """Collects rules. A rule that is equal to one that is there already is not made again."""

    def __init__(self) -> None:
        self._rules: _Ways = {}
        self._known: dict[tuple[Alternative, ...], str] = {}
        self._names: Counter[str] = Counter()
        self._num_elements = 0

    def reserve(self, hint: str) -> Ref:
        """Return a new name, for a rule that is defined later."""
        clean = re.sub(r"[^a-z0-9]+", "-", hint.lower()).strip("-")[:24].strip("-") or "rule"
        self._names[clean] += 1
        number = self._names[clean]
        # A name never ends in a number of its own, so that two hints cannot make the same one.
        return Ref(f"{clean}-{number}" if number > 1 or clean[-1].isdigit() else clean)

    def define(self, ref: Ref, alternatives: Iterable[Alternative]) -> None:
        """Define a reserved rule.

        Raises
        ------
        RulesTooLargeError
        """
        made = tuple(dict.fromkeys(_joined(alternative) for alternative in alternatives))
        self._rules[ref.name] = made
        self._known.setdefault(made, ref.name)
        self._num_elements += sum(map(_num_elements, made)) + len(made)
        if self._num_elements > MAX_ELEMENTS:
            raise RulesTooLargeError

    def add(self, hint: str, alternatives: Iterable[Alternative]) -> Ref:
        """Define a rule and return it, or one that is equal."""
        made = tuple(dict.fromkeys(_joined(alternative) for alternative in alternatives))
        known = self._known.get(made)
        if known is not None:
            return Ref(known)
        ref = self.reserve(hint)
        self.define(ref, made)
        return ref

    def choice(self, hint: str, ways: Sequence[Alternative]) -> Ref:
        """Define a rule for one of these ways, with what they begin with in common read once.

        llama.cpp follows every way that is still open at the same time, so this is what makes a
        choice between many words quick.
        """
        top = self.reserve(hint)
        waiting = [(top, [_atoms(way) for way in ways])]
        while waiting:
            ref, group = waiting.pop()
            by_first: dict[Symbol | None, list[Alternative]] = {}
            for way in group:
                by_first.setdefault(way[0] if way else None, []).append(way)
            alternatives: list[Alternative] = []
            for first, same in by_first.items():
                if first is None or len(same) == 1:
                    alternatives.append(same[0])
                    continue
                length = _common_length(same)
                rest = self.reserve(hint)
                waiting.append((rest, [way[length:] for way in same]))
                alternatives.append((*same[0][:length], rest))
            self.define(ref, alternatives)
        return top

    def repeated(self, ref: Ref, low: int, high: int | None) -> Alternative:
        """Return the symbols for a rule `low` to `high` times."""
        found = self._exactly(ref, low)
        if high is None:
            return (*found, Many(ref, 0, None))
        return (*found, *self._up_to(ref, high - low))

    def _exactly(self, ref: Ref, count: int) -> Alternative:
        if count <= 1:
            return (ref,) * count
        if count <= _IN_ONE:
            return (Many(ref, count, count),)
        block = self.add(f"{ref.name}-x", [(Many(ref, _IN_ONE, _IN_ONE),)])
        return (*self._exactly(block, count // _IN_ONE), *self._exactly(ref, count % _IN_ONE))

    def _up_to(self, ref: Ref, count: int) -> Alternative:
        if count <= _IN_ONE:
            return (Many(ref, 0, count),) if count else ()
        # Whole blocks first, then less than one: at most two readings are open at a time. Blocks of
        # the square root keep the rules few, and stay below llama.cpp's bound.
        size = max(_IN_ONE, isqrt(count))
        block = self.add(f"{ref.name}-x", [self._exactly(ref, size)])
        less = self.add(f"{ref.name}-less", [self._up_to_one(ref, size - 1)])
        rest = self.add(f"{ref.name}-up-to", [self._up_to_one(ref, count % size)])
        for _ in range(count // size):
            rest = self.add(f"{ref.name}-up-to", [(block, rest), (less,)])
        return (rest,)

    def _up_to_one(self, ref: Ref, count: int) -> Alternative:
        return (Many(ref, 0, count),) if count else ()

    # --- the text ---

    def text(self, root: Ref) -> str | None:
        """Return the whole grammar, or None if no text at all can come out of it."""
        rules = _ending(self._rules)
        if root.name not in rules:
            return None
        rules = _shortened(_merged(rules, root.name), root.name)
        order = _reachable(rules, root.name)
        names = {name: name for name in order}
        if "root" in names:
            names["root"] = "root-1"
        names[root.name] = "root"
        return "".join(
            f"{names[name]} ::= {' | '.join(_shown(way, names) for way in rules[name])}\n"
            for name in order
        )


def _atoms(way: Alternative) -> Alternative:
    found: list[Symbol] = []
    for symbol in way:
        found.extend(map(Text, symbol.text) if isinstance(symbol, Text) else (symbol,))
    return tuple(found)


def _joined(way: Alternative) -> Alternative:
    """Join texts that follow each other."""
    found: list[Symbol] = []
    for one in way:
        symbol = one
        if isinstance(one, Class) and len(one.charset) == 1:
            low, high = one.charset[0]
            symbol = Text(chr(low)) if low == high else one
        if isinstance(symbol, Text) and found and isinstance(found[-1], Text):
            found[-1] = Text(found[-1].text + symbol.text)
        elif symbol != Text(""):
            found.append(symbol)
    return tuple(found)


def _common_length(ways: Sequence[Alternative]) -> int:
    length = 0
    for symbols in zip(*ways, strict=False):
        if any(symbol != symbols[0] for symbol in symbols):
            break
        length += 1
    return length


def _num_elements(way: Alternative) -> int:
    count = 0
    for symbol in way:
        if isinstance(symbol, Text):
            count += len(symbol.text)
        elif isinstance(symbol, Class):
            count += sum(1 + (low != high) for low, high in symbol.charset)
        elif isinstance(symbol, Many):
            count += symbol.low + 5 * ((symbol.high or symbol.low + 1) - symbol.low)
        else:
            count += 1
    return count


def _needed(symbol: Symbol) -> str | None:
    """Return the rule without which a symbol cannot be written."""
    if isinstance(symbol, Ref):
        return symbol.name
    return symbol.ref.name if isinstance(symbol, Many) and symbol.low else None


def _ending(rules: _Ways) -> _Ways:
    """Keep the alternatives that can come to an end, and what is left of the rules."""
    # For each alternative, how many of its rules are not known to end yet.
    users: dict[str, list[tuple[str, int]]] = {}
    open_parts: dict[tuple[str, int], int] = {}
    ending: set[str] = set()
    waiting: list[str] = []

    def ends(name: str) -> None:
        if name not in ending:
            ending.add(name)
            waiting.append(name)

    for name, ways in rules.items():
        for number, way in enumerate(ways):
            needed = {one for symbol in way if (one := _needed(symbol)) is not None}
            open_parts[name, number] = len(needed)
            for one in needed:
                users.setdefault(one, []).append((name, number))
            if not needed:
                ends(name)
    while waiting:
        for user in users.get(waiting.pop(), ()):
            open_parts[user] -= 1
            if not open_parts[user]:
                ends(user[0])
    return {
        name: tuple(
            tuple(
                symbol
                for symbol in way
                if not isinstance(symbol, Many) or symbol.ref.name in ending
            )
            for number, way in enumerate(ways)
            if not open_parts[name, number]
        )
        for name, ways in rules.items()
        if name in ending
    }


def _merged(rules: _Ways, root: str) -> _Ways:
    """Make one rule of those that are equal, also after the rules they refer to became one."""
    same: dict[str, str] = {}
    known: dict[tuple[Alternative, ...], str] = {}
    found: _Ways = {}
    for name in _inner_first(rules):
        ways = tuple(tuple(_renamed(symbol, same) for symbol in way) for way in rules[name])
        itself = tuple(tuple(_renamed(symbol, {name: ""}) for symbol in way) for way in ways)
        same[name] = name if name == root else known.setdefault(itself, name)
        if same[name] == name:
            found[name] = ways
    # Circles of rules were read before all of their names were known.
    return {
        name: tuple(dict.fromkeys(tuple(_renamed(symbol, same) for symbol in way) for way in ways))
        for name, ways in found.items()
    }


def _renamed(symbol: Symbol, names: dict[str, str]) -> Symbol:
    if isinstance(symbol, Ref):
        return Ref(names.get(symbol.name, symbol.name))
    if isinstance(symbol, Many):
        return Many(Ref(names.get(symbol.ref.name, symbol.ref.name)), symbol.low, symbol.high)
    return symbol


def _shortened(rules: _Ways, root: str) -> _Ways:
    """Put rules with one alternative where they are used, if once only or if they are short."""
    uses: Counter[str] = Counter()
    for ways in rules.values():
        for way in ways:
            for symbol in way:
                # A repetition repeats a name, so it counts as several uses.
                uses[_referred(symbol)] += 2 if isinstance(symbol, Many) else 1
    single = {
        name: ways[0]
        for name, ways in rules.items()
        if name != root and len(ways) == 1 and (uses[name] == 1 or _is_short(ways[0]))
    }
    # In an order in which what is put in has been put together already; a circle stays as it is.
    finished: dict[str, Alternative] = {}

    def put_in(way: Alternative) -> Alternative:
        found: list[Symbol] = []
        for symbol in way:
            put = finished.get(symbol.name, ()) if isinstance(symbol, Ref) else ()
            if put and len(found) + len(put) <= _LONGEST_PUT_IN:
                found.extend(put)
            else:
                found.append(symbol)
        return _joined(tuple(found))

    for name in _inner_first({name: (way,) for name, way in single.items()}):
        finished[name] = put_in(single[name])
    return {name: tuple(dict.fromkeys(put_in(way) for way in ways)) for name, ways in rules.items()}


def _is_short(way: Alternative) -> bool:
    return len(way) < 2 and _num_elements(way) < 10


def _inner_first(rules: _Ways) -> list[str]:
    """Return the names so that a rule comes after those it refers to, but for circles."""
    order: list[str] = []
    met: set[str] = set()
    for start in rules:
        waiting = [(start, False)]
        while waiting:
            name, done = waiting.pop()
            if done:
                order.append(name)
            elif name not in met:
                met.add(name)
                waiting.append((name, True))
                waiting += [
                    (one, False)
                    for way in rules[name]
                    for symbol in way
                    if (one := _referred(symbol)) in rules and one not in met
                ]
    return order


def _referred(symbol: Symbol) -> str:
    """Return the rule that a symbol refers to, or an empty text."""
    if isinstance(symbol, Ref):
        return symbol.name
    return symbol.ref.name if isinstance(symbol, Many) else ""


def _reachable(rules: _Ways, root: str) -> list[str]:
    order: dict[str, None] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in order:
            continue
        order[name] = None
        waiting += [
            one
            for way in reversed(rules[name])
            for symbol in reversed(way)
            if (one := _referred(symbol)) in rules
        ]
    return list(order)


def _shown(way: Alternative, names: dict[str, str]) -> str:
    if not way:
        return '""'
    found = []
    for symbol in way:
        if isinstance(symbol, Text):
            found.append('"' + "".join(_char(char, '"\\') for char in symbol.text) + '"')
        elif isinstance(symbol, Class):
            found.append("[" + "".join(_range(*bounds) for bounds in symbol.charset) + "]")
        elif isinstance(symbol, Ref):
            found.append(names[symbol.name])
        else:
            found.append(names[symbol.ref.name] + _times(symbol.low, symbol.high))
    return " ".join(found)


def _times(low: int, high: int | None) -> str:
    if (low, high) == (0, None):
        return "*"
    if (low, high) == (0, 1):
        return "?"
    return f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"


def _range(low: int, high: int) -> str:
    first, last = (_char(chr(end), "[]\\-^") for end in (low, high))
    return first if low == high else first + ("-" if high > low + 1 else "") + last


def _char(char: str, special: str) -> str:
    if char == "^" and "^" in special:
        return "\\x5E"  # llama.cpp has no escape for it, and first in a class it means "not"
    if char in special:
        return "\\" + char
    code = ord(char)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if 0x20 <= code < 0x7F or char in named:
        return named.get(char, char)
    if code < 0x100:
        return f"\\x{code:02X}"
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
