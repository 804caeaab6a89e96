"""How many readings of a text a grammar leaves open at once, found by trying.

Promises: a grammar whose readings multiply with each character (``e ::= "(" e ")" | "(" e "]"``) is
refused, if a few hundred characters chosen to make them multiply do so. That is a trial and no
proof: a grammar can hide it behind a text that is not tried. What is tried is llama.cpp's own way:
a reading is a stack of places in rules, equal ones are joined after each token but not inside one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.gbnf import Grammar, Kind
from gguf_widgets.core.engine.grammar.limits import MAX_BRANCHES, MAX_READINGS

__all__ = ["check_readings"]

_NUM_TRIALS = 6
_LENGTH = 96
# Longer tokens than this are seldom, and of one letter over and over.
_TOKEN = 32
# Steps of one reading by one character, over all trials; a few tenths of a second.
_WORK = 60_000
_CANDIDATES = 12


def check_readings(grammar: Grammar) -> None:
    """Refuse a grammar with too many readings.

    Raises
    ------
    GrammarError
    """
    machine = _Machine(grammar)
    for trial in range(_NUM_TRIALS):
        machine.run(trial)


class _Machine:
    """Stacks of places, each made once: a stack is a number, 0 the empty one."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.elements = [
            e for rule in grammar.rules for way in rule.alternatives or () for e in way
        ]
        self.is_last: list[bool] = []
        self.starts: list[list[int]] = []
        for rule in grammar.rules:
            starts = []
            for way in rule.alternatives or ():
                starts.append(len(self.is_last) if way else -1)
                self.is_last += [place == len(way) - 1 for place in range(len(way))]
            self.starts.append(starts)
        self.stacks: list[tuple[int, int]] = [(-1, 0)]  # the place on top, and the stack below
        self.numbers: dict[tuple[int, int], int] = {}
        self.closures: dict[int, tuple[int, ...]] = {}
        self.work = 0
        self.chance = 0

    def run(self, trial: int) -> None:
        self.chance = trial
        readings = Counter(dict.fromkeys(self.begin(), 1))
        for step in range(_LENGTH):
            if step % _TOKEN == 0:
                readings = Counter(dict.fromkeys(readings, 1))
            following = self.best(readings, greedy=self.draw(10) < 7)
            if following is None or self.work > _WORK:
                return
            readings = following
            if len(readings) > MAX_READINGS:
                raise self.error(f"{MAX_READINGS:,} at a time", readings)
            if sum(readings.values()) > MAX_BRANCHES:
                raise self.error(f"{MAX_BRANCHES:,} inside one token", readings)

    def error(self, how_many: str, readings: Counter[int]) -> Exception:
        # Where the longest stack stands says most about which rule it is.
        places = Counter(self.stacks[stack][0] for stack in readings)
        return self.grammar.error(
            f"a text can be read in too many ways at once here (more than {how_many}), each "
            f"of which "
            "would be followed. Let alternatives that go on differently begin differently.",
            self.place_of(places.most_common(1)[0][0]),
        )

    def place_of(self, element: int) -> int:
        for rule in self.grammar.rules:
            element -= sum(map(len, rule.alternatives or ()))
            if element < 0:
                return rule.place
        return 0

    def draw(self, most: int) -> int:
        """Return a number below `most`: the same ones each time, in no order that matters."""
        self.chance = (self.chance * 1_103_515_245 + 12_345) % 2**31
        return (self.chance >> 8) % most

    def begin(self) -> set[int]:
        found: set[int] = set()
        for start in self.starts[self.grammar.root]:
            found.update(self.closure(0 if start < 0 else self.push(start, 0)))
        return found

    def best(self, readings: Counter[int], *, greedy: bool) -> Counter[int] | None:
        """Return the readings after the character that leaves most of them, or after any."""
        found = [
            following
            for char in self.candidates(readings, 1 if not greedy else _CANDIDATES)
            if (following := self.after(readings, char))
        ]
        return max(found, key=lambda one: (sum(one.values()), len(one)), default=None)

    def candidates(self, readings: Counter[int], count: int) -> Iterator[int]:
        sets = list(
            dict.fromkeys(
                self.elements[place].charset
                for stack in readings
                if (place := self.stacks[stack][0]) >= 0 and self.elements[place].kind is Kind.CHAR
            )
        )
        for _ in range(min(count, len(sets))):
            one = sets.pop(self.draw(len(sets)))
            low, high = one[self.draw(len(one))]
            yield low + self.draw(min(high - low + 1, 128))

    def after(self, readings: Counter[int], char: int) -> Counter[int]:
        found: Counter[int] = Counter()
        for stack, count in readings.items():
            self.work += 1
            place, below = self.stacks[stack]
            if place >= 0 and charset.contains(self.elements[place].charset, char):
                rest = below if self.is_last[place] else self.push(place + 1, below)
                for one in self.closure(rest):
                    found[one] += count
                    self.work += 1
        return found

    def closure(self, stack: int) -> tuple[int, ...]:
        """Return the stacks that this one comes to when the rules on its top are opened."""
        known = self.closures.get(stack)
        if known is not None:
            return known
        found: dict[int, None] = {}
        seen: set[int] = set()
        waiting = [stack]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen.add(one)
            self.work += 1
            place, below = self.stacks[one]
            if place < 0 or self.elements[place].kind is not Kind.RULE:
                found[one] = None
                continue
            rest = below if self.is_last[place] else self.push(place + 1, below)
            waiting += [
                rest if start < 0 else self.push(start, rest)
                for start in self.starts[self.elements[place].rule]
            ]
        self.closures[stack] = tuple(found)
        return self.closures[stack]

    def push(self, place: int, below: int) -> int:
        number = self.numbers.get((place, below))
        if number is None:
            number = self.numbers[place, below] = len(self.stacks)
            self.stacks.append((place, below))
        return number
