"""Whether a text can be read in too many ways at once, found out by trying.

Promises: a grammar whose readings multiply with each character (``e ::= "(" e ")" | "(" e "]"``) is
refused, if some tens of characters chosen to make them multiply do so, from the root or from any
rule that comes back to itself. That is a trial and no proof: a grammar can hide it behind a text
that is not tried. The work is bounded and the same each time.
"""

from __future__ import annotations

from collections import Counter

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.gbnf import Grammar, Kind
from gguf_widgets.core.engine.grammar.limits import MAX_BRANCHES, MAX_READINGS
from gguf_widgets.core.engine.grammar.readings import Machine, Readings, TooManyError

__all__ = ["check_ambiguity"]

# How often out of ten the character is taken that leaves most readings; else it is any.
_GREED = (10, 8, 6, 8, 6, 4)
_LENGTH = 64
# Longer tokens than this are seldom, and of one letter over and over.
_TOKEN = 32
# Steps of one reading by one character: over all, and for one trial. About half a second.
_WORK = 400_000
_WORK_OF_ONE = 60_000
_MOST_TRIED = 4
_MOST_SETS = 48


def check_ambiguity(grammar: Grammar) -> None:
    """Refuse a grammar that leaves too many readings open.

    Raises
    ------
    GrammarError
    """
    machine = Machine(grammar)
    trial = _Trial(machine)
    try:
        for greed in _GREED:
            trial.run(grammar.root, greed)
        for rule in _circular(grammar):
            for greed in _GREED[:2]:
                trial.run(rule, greed)
    except TooManyError as error:
        stacks = Counter(error.stacks)
        raise trial.error(f"{len(stacks):,} at a time", stacks) from None


class _Trial:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.chance = 0

    def run(self, rule: int, greed: int) -> None:
        machine = self.machine
        until = min(machine.work + _WORK_OF_ONE, _WORK)
        readings = machine.begin(rule)
        # A long list of words is open as a whole at first, and grows no further.
        most = max(MAX_READINGS, 2 * len(readings))
        for step in range(_LENGTH):
            if step % _TOKEN == 0:
                readings = Counter(dict.fromkeys(readings, 1))
            readings = self.longer(readings, _MOST_TRIED if self.draw(10) < greed else 1)
            if len(readings) > most:
                raise self.error(f"{most:,} at a time", readings)
            if sum(readings.values()) > MAX_BRANCHES:
                raise self.error(f"{MAX_BRANCHES:,} inside one token", readings)
            if not readings or machine.work > until:
                return

    def longer(self, readings: Readings, num_tried: int) -> Readings:
        """Return the readings after one more character: the one of a few that leaves most."""
        tops = self.machine.going_on(readings)
        sets = [one for one, _ in tops.most_common(_MOST_SETS)]
        # Where sets overlap, a character goes on with the readings of all of them.
        chars = [part[0][0] for part in charset.partition(sets)]
        self.machine.work += len(chars) * len(sets) // 4
        if not chars:
            return Counter()
        if num_tried == 1:
            return self.machine.after(readings, chars[self.draw(len(chars))])
        shared = [
            (-sum(n for one, n in tops.items() if charset.contains(one, char)), self.draw(97), char)
            for char in chars
        ]
        tried = [self.machine.after(readings, char) for _, _, char in sorted(shared)[:num_tried]]
        return max(tried, key=lambda one: (sum(one.values()), len(one)))

    def draw(self, most: int) -> int:
        """Return a number below `most`: the same ones each time, in no order that matters."""
        self.chance = (self.chance * 1_103_515_245 + 12_345) % 2**31
        return (self.chance >> 8) % most

    def error(self, how_many: str, readings: Readings) -> Exception:
        return self.machine.grammar.error(
            f"a text can be read in too many ways at once here (more than {how_many}), each of "
            "which would be followed. Let alternatives that go on differently begin differently.",
            self.machine.usual_place(readings),
        )


def _circular(grammar: Grammar) -> list[int]:
    """Return the rules that can come back to themselves (Tarjan's components)."""
    uses = [
        sorted({e.rule for way in rule.alternatives or () for e in way if e.kind is Kind.RULE})
        for rule in grammar.rules
    ]
    found = [number for number, used in enumerate(uses) if number in used]
    met = [-1] * len(uses)  # in which order
    lowest = [0] * len(uses)  # the first one met that is reached again
    open_ones: list[int] = []
    is_open = [False] * len(uses)
    count = 0
    for start in range(len(uses)):
        waiting = [(start, 0)] if met[start] < 0 else []
        while waiting:
            number, place = waiting.pop()
            if place == 0:
                met[number] = lowest[number] = count
                count += 1
                open_ones.append(number)
                is_open[number] = True
            else:
                lowest[number] = min(lowest[number], lowest[uses[number][place - 1]])
            while place < len(uses[number]):
                used = uses[number][place]
                place += 1
                if met[used] < 0:
                    waiting += [(number, place), (used, 0)]
                    break
                if is_open[used]:
                    lowest[number] = min(lowest[number], met[used])
            else:
                if lowest[number] == met[number]:
                    component = [number]
                    while (top := open_ones.pop()) != number:
                        is_open[top] = False
                        component.append(top)
                    is_open[number] = False
                    found += component if len(component) > 1 else []
    return sorted(set(found))
