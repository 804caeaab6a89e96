"""Objects and arrays, several alternatives of them at once, one step after the other.

Promises: alternatives that go on alike are followed as one, as long as they do: a choice between
objects that begin with the same properties costs nothing until they differ, however deep they are
nested. Leaves to others: what comes in which order (`objects`, `arrays`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gguf_widgets.core.engine.grammar.document import unsupported
from gguf_widgets.core.engine.grammar.limits import MAX_STATES
from gguf_widgets.core.engine.grammar.rules import Alternative, Ref, Symbol, Text
from gguf_widgets.core.engine.grammar.writing import Writer

__all__ = ["Plan", "State", "Step", "sequence"]

# A choice between words is read once for all of them, which repeats them at each place they may
# still come; from so many characters on they are followed side by side instead.
_WORDS_AT_ONCE = 20_000


State = tuple[int, ...]
"""A place in a plan: small numbers, whose meaning is the plan's own."""


@dataclass(frozen=True)
class Step:
    """One element: what stands in front of its value, its value, and the state after it."""

    label: Alternative
    value: Symbol
    following: State


class Plan(Protocol):
    """One alternative, as states and the steps between them."""

    start: State

    def steps(self, state: State) -> tuple[Sequence[Step], bool]:
        """Return the steps from a state, and whether it may end there."""
        ...


_States = frozenset[tuple[int, State]]
# A step of several plans together: its label and value, and where each of them goes.
_Joint = tuple[Alternative, Symbol, _States]


def sequence(
    writer: Writer, plans: Sequence[Plan], brackets: tuple[str, str], hint: str, pointer: str
) -> tuple[Ref, bool]:
    """Return a rule for any of these plans, and whether two readings can stay open inside a value.

    Raises
    ------
    UnsupportedSchemaError
        If their states multiply beyond the limit.
    """
    made = _Sequence(writer, plans, brackets, hint, pointer)
    return made.top(), made.is_ambiguous


class _Sequence:
    def __init__(
        self,
        writer: Writer,
        plans: Sequence[Plan],
        brackets: tuple[str, str],
        hint: str,
        where: str,
    ) -> None:
        self.writer = writer
        self.rules = writer.rules
        self.plans = plans
        self.open, self.close = brackets
        self.hint = hint
        self.where = where
        self.is_ambiguous = False
        self.num_words = 0
        self.after: dict[_States, Ref] = {}
        self.tails: dict[tuple[_Joint, ...], Ref] = {}
        self.waiting: deque[_States] = deque()

    def top(self) -> Ref:
        start: _States = frozenset((number, plan.start) for number, plan in enumerate(self.plans))
        steps, may_end = self.joint(start)
        inside: list[Alternative] = [(self.choice(steps),)] if steps else []
        if may_end:
            inside.append((Text(self.close),))
        first = self.rules.add(f"{self.hint}-first", inside)
        while self.waiting:
            states = self.waiting.popleft()
            steps, may_end = self.joint(states)
            ways: list[Alternative] = []
            if steps:
                ways.append((Text(","), self.writer.space, self.choice(steps)))
            if may_end:
                ways.append((self.writer.space, Text(self.close)))
            self.rules.define(self.after[states], ways)
        return self.rules.add(self.hint, [(Text(self.open), self.writer.space, first)])

    def joint(self, states: _States) -> tuple[tuple[_Joint, ...], bool]:
        """Return the steps of all plans together, and whether one of them may end."""
        found: dict[tuple[Alternative, Symbol], set[tuple[int, State]]] = {}
        may_end = False
        for number, state in sorted(states, key=lambda one: one[0]):
            steps, ends = self.plans[number].steps(state)
            may_end = may_end or ends
            for step in steps:
                found.setdefault((step.label, step.value), set()).add((number, step.following))
        # Where labels are equal, or names are free in more than one of them, values are read twice.
        labels = [
            label if all(isinstance(one, Text) for one in label) else ()
            for label, value in found
            if not isinstance(value, Text)
        ]
        self.is_ambiguous = self.is_ambiguous or len(set(labels)) < len(labels)
        return tuple((*key, frozenset(following)) for key, following in found.items()), may_end

    def choice(self, steps: tuple[_Joint, ...]) -> Ref:
        """Return a rule for one of the steps and what may follow it."""
        self.num_words += sum(
            len(symbol.text)
            for label, _, _ in steps
            for symbol in label
            if isinstance(symbol, Text)
        )
        ways = [
            (*label, *((self.writer.space,) if label else ()), value, self.rest(following))
            for label, value, following in steps
        ]
        if self.num_words <= _WORDS_AT_ONCE or len(ways) == 1:
            return self.rules.choice(f"{self.hint}-next", ways)
        # The same tails come again at later places, so this way each word is there once.
        place = 0
        while place < len(steps) and steps[place:] not in self.tails:
            place += 1
        for number in reversed(range(place)):
            tail = [(self.tails[steps[number + 1 :]],)] if number + 1 < len(steps) else []
            self.tails[steps[number:]] = self.rules.add(f"{self.hint}-next", [ways[number], *tail])
        return self.tails[steps]

    def rest(self, states: _States) -> Ref:
        if states not in self.after:
            if len(self.after) >= MAX_STATES:
                raise unsupported(
                    self.where,
                    f"its alternatives come to more than {MAX_STATES:,} states, which is the "
                    f"limit.",
                    limit=MAX_STATES,
                )
            self.after[states] = self.rules.reserve(f"{self.hint}-rest")
            self.waiting.append(states)
        return self.after[states]
