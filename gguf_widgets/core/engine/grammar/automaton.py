"""Deterministic automata over characters: built, cut to a length, made small.

Promises: every state of an automaton can be reached and can lead to an end, so a text written along
its edges is never stuck; at each place a character leads to one state at most, so llama.cpp follows
one reading of it. Building stops with `TooLargeError` at the limits of `limits`. Automata never
change and may be shared. Leaves to others: what the languages mean; writing them as rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.expression import Expression, Expressions, TooLargeError
from gguf_widgets.core.engine.grammar.limits import MAX_STATES, MAX_TRANSITIONS

__all__ = ["Automaton", "Edges", "build", "smaller", "words"]

Edges = tuple[tuple[Charset, int], ...]

# Making an automaton small compares all edges again and again; beyond this it stays as it is.
_COMPARISONS = 40_000


@dataclass(frozen=True, eq=False)
class Automaton:
    """A deterministic automaton that starts in state 0.

    Attributes
    ----------
    edges : tuple
        For each state, where it leads: pairs of a set of characters and a state.
    accepting : tuple of bool
        For each state, whether a text may end there.
    """

    edges: tuple[Edges, ...]
    accepting: tuple[bool, ...]

    def edges_of(self, state: int) -> Edges:
        """Return where a state leads."""
        return self.edges[state]

    def accepts_at(self, state: int) -> bool:
        """Say whether a text may end at a state."""
        return self.accepting[state]

    @property
    def is_empty(self) -> bool:
        """Whether there is no text in the language at all."""
        return not self.accepting[0] and not self.edges[0]

    def accepts(self, text: str) -> bool:
        """Say whether a text is in the language."""
        state = 0
        for char in text:
            code_point = ord(char)
            for edge, target in self.edges[state]:
                if charset.contains(edge, code_point):
                    state = target
                    break
            else:
                return False
        return self.accepting[state]

    def longest(self) -> int | None:
        """Return the length of the longest text, or None if there is none that is longest."""
        order = _topological(self.edges)
        if order is None:
            return None
        lengths = [0] * len(self.edges)
        for state in order:
            lengths[state] = max(
                (1 + lengths[target] for _, target in self.edges[state]), default=0
            )
        return lengths[0]

    def within(self, low: int, high: int | None) -> Automaton:
        """Return the texts that have `low` to `high` characters; None is without end.

        Raises
        ------
        TooLargeError
        """
        # A state here is one of this automaton's and the characters read, as far as they matter.
        count_to = low if high is None else high
        to_an_end = self._to_an_end() if high is not None else ()
        numbers = {(0, 0): 0}
        waiting = [(0, 0)]
        edges: list[Edges] = []
        accepting: list[bool] = []
        transitions = 0
        for state, length in waiting:  # grows while it is read
            found: list[tuple[Charset, int]] = []
            for edge, target in self.edges[state]:
                if high is not None and length + 1 + to_an_end[target] > high:
                    continue
                following = (target, min(length + 1, count_to))
                if following not in numbers:
                    numbers[following] = len(numbers)
                    waiting.append(following)
                found.append((edge, numbers[following]))
            transitions += len(found)
            if len(numbers) > 2 * MAX_STATES or transitions > MAX_TRANSITIONS:
                raise TooLargeError
            edges.append(tuple(found))
            accepting.append(self.accepting[state] and length >= low)
        return _finished(edges, accepting)

    def _to_an_end(self) -> list[int]:
        """Return for each state how many characters it needs at least to an end."""
        sources: list[list[int]] = [[] for _ in self.edges]
        for state, found in enumerate(self.edges):
            for _, target in found:
                sources[target].append(state)
        needed = [0 if ends else len(self.edges) for ends in self.accepting]
        waiting = [state for state, ends in enumerate(self.accepting) if ends]
        for state in waiting:  # grows while it is read, the nearest first
            for source in sources[state]:
                if needed[source] > needed[state] + 1:
                    needed[source] = needed[state] + 1
                    waiting.append(source)
        return needed


def build(expressions: Expressions, wanted: Expression) -> Automaton:
    """Return the automaton of an expression.

    Raises
    ------
    TooLargeError
    """
    numbers = {wanted.number: 0}
    waiting = [wanted]
    edges: list[Edges] = []
    transitions = 0
    for state in waiting:  # grows while it is read
        found: dict[int, list[Charset]] = {}
        for part in charset.partition(list(expressions.leading(state))):
            transitions += 1
            following = expressions.derive(state, part[0][0])
            if following is expressions.nothing:
                continue
            if following.number not in numbers:
                numbers[following.number] = len(numbers)
                waiting.append(following)
            found.setdefault(numbers[following.number], []).append(part)
        if len(numbers) > 2 * MAX_STATES or transitions > MAX_TRANSITIONS:
            raise TooLargeError
        edges.append(tuple((charset.union(*sets), target) for target, sets in found.items()))
    return _finished(edges, [state.nullable for state in waiting])


def words(texts: Iterable[str]) -> Automaton:
    """Return the automaton of these texts, with what they begin and end with in common shared."""
    root: dict[str, object] = {}
    for text in texts:
        node = root
        for char in text:
            node = node.setdefault(char, {})  # type: ignore[assignment]
        node[""] = True
    # Children before parents, so that equal endings become one state.
    order: list[dict[str, object]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting.extend(child for child in node.values() if isinstance(child, dict))
    known: dict[tuple[bool, Edges], int] = {}
    number_of: dict[int, int] = {}
    for node in reversed(order):
        targets: dict[int, list[str]] = {}
        for char, child in node.items():
            if isinstance(child, dict):
                targets.setdefault(number_of[id(child)], []).append(char)
        edges = tuple(
            (charset.chars("".join(letters)), target) for target, letters in targets.items()
        )
        number_of[id(node)] = known.setdefault(("" in node, edges), len(known))
    last = len(known) - 1  # the root came last
    states = [(accepting, edges) for accepting, edges in known]
    return Automaton(
        tuple(tuple((edge, last - target) for edge, target in edges) for _, edges in states[::-1]),
        tuple(accepting for accepting, _ in states[::-1]),
    )


def _finished(edges: Sequence[Edges], accepting: Sequence[bool]) -> Automaton:
    found = smaller(_trimmed(edges, accepting))
    if len(found.edges) > MAX_STATES:
        raise TooLargeError
    return found


def _trimmed(edges: Sequence[Edges], accepting: Sequence[bool]) -> Automaton:
    """Leave out the states that lead to no end; all given can be reached."""
    sources: list[list[int]] = [[] for _ in edges]
    for state, found in enumerate(edges):
        for _, target in found:
            sources[target].append(state)
    useful = {state for state, ends in enumerate(accepting) if ends}
    waiting = list(useful)
    while waiting:
        for source in sources[waiting.pop()]:
            if source not in useful:
                useful.add(source)
                waiting.append(source)
    if 0 not in useful:
        return Automaton(((),), (False,))
    number = {state: place for place, state in enumerate(sorted(useful))}
    return Automaton(
        tuple(
            tuple((edge, number[target]) for edge, target in edges[state] if target in useful)
            for state in number
        ),
        tuple(accepting[state] for state in number),
    )


def smaller(given: Automaton) -> Automaton:
    """Join the states that no following text tells apart (Moore's refinement)."""
    num_edges = sum(map(len, given.edges))
    block = [int(ends) for ends in given.accepting]
    num_blocks, compared = len(set(block)), 0
    while True:
        signatures: dict[object, int] = {}
        following = []
        for state, found in enumerate(given.edges):
            joined: dict[int, list[Charset]] = {}
            for edge, target in found:
                joined.setdefault(block[target], []).append(edge)
            signature = (
                block[state],
                frozenset((target, charset.union(*sets)) for target, sets in joined.items()),
            )
            following.append(signatures.setdefault(signature, len(signatures)))
        block = following
        if len(signatures) == num_blocks:
            break
        num_blocks = len(signatures)
        compared += num_edges
        if compared > _COMPARISONS:
            return given
    if num_blocks == len(given.edges):
        return given
    # Blocks are numbered as they are met, so the first state's is 0.
    edges: list[Edges] = []
    accepting = []
    for state, number in enumerate(block):
        if number == len(edges):
            together: dict[int, list[Charset]] = {}
            for edge, target in given.edges[state]:
                together.setdefault(block[target], []).append(edge)
            edges.append(tuple((charset.union(*sets), target) for target, sets in together.items()))
            accepting.append(given.accepting[state])
    return Automaton(tuple(edges), tuple(accepting))


def _topological(edges: Sequence[Edges]) -> list[int] | None:
    """Return the states, targets before sources; None if there is a circle."""
    order: list[int] = []
    state_of = [0] * len(edges)  # 0 not seen, 1 on the way, 2 done
    waiting = [(0, False)]
    while waiting:
        state, done = waiting.pop()
        if done:
            state_of[state] = 2
            order.append(state)
            continue
        if state_of[state]:
            continue
        state_of[state] = 1
        waiting.append((state, True))
        for _, target in edges[state]:
            if state_of[target] == 1:
                return None
            if not state_of[target]:
                waiting.append((target, False))
    return order
