"""Regular languages as expressions, with "and" and "not", and their derivatives.

Promises: `Expressions` keeps one object for each expression, simplified, so that equal ones are the
same object and an automaton built from derivatives (`automaton.build`) stays small. The derivative
of a language by a character is what may follow that character; languages built this way can be cut
and subtracted as easily as joined (Owens, Reppy and Turon, "Regular-expression derivatives
re-examined"). Making expressions stops with `TooLargeError` at the limit of `limits`. Leaves to
others: building automata.

An `Expressions` belongs to one thread and one question, and is thrown away with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from gguf_widgets.core.engine.grammar import charset
from gguf_widgets.core.engine.grammar.charset import Charset
from gguf_widgets.core.engine.grammar.limits import MAX_EXPRESSION

__all__ = ["Expression", "Expressions", "Steps", "TooLargeError"]


class TooLargeError(Exception):
    """The language would take more work than the limits allow."""


class Steps(Protocol):
    """What an expression needs from an automaton that it stands for."""

    def edges_of(self, state: int) -> tuple[tuple[Charset, int], ...]:
        """Return where a state leads, with which characters."""
        ...

    def accepts_at(self, state: int) -> bool:
        """Say whether a text may end at a state."""
        ...


class Expression:
    """One language. Made by `Expressions` only; equal ones are the same object."""

    __slots__ = ("charset", "high", "kind", "low", "nullable", "number", "parts", "steps")

    def __init__(self, kind: str, number: int, *, nullable: bool) -> None:
        self.kind = kind
        self.number = number
        self.nullable = nullable
        self.parts: tuple[Expression, ...] = ()
        self.charset: Charset = charset.NONE
        self.low = 0
        self.high: int | None = 0
        self.steps: Steps | None = None


class Expressions:
    """Makes expressions.

    Attributes
    ----------
    nothing, empty, everything : Expression
        No text at all; the empty text only; every text.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Expression] = {}
        self._derived: dict[tuple[int, int], Expression] = {}
        self._leading: dict[int, frozenset[Charset]] = {}
        self._size = 0
        self.nothing = self._make(("chars", charset.NONE), "chars", nullable=False)
        self.empty = self._make(("concat",), "concat", nullable=True)
        self.everything = self.loop(self.chars(charset.ANY), 0, None)

    # --- making them ---

    def chars(self, one: Charset) -> Expression:
        """Return the language of single characters out of a set."""
        made = self._make(("chars", one), "chars", nullable=False)
        made.charset = one
        return made

    def text(self, text: str) -> Expression:
        """Return the language of one text."""
        return self.concat(*(self.chars(charset.chars(char)) for char in text))

    def concat(self, *parts: Expression) -> Expression:
        """Return one after the other."""
        flat: list[Expression] = []
        for part in parts:
            if part is self.nothing:
                return self.nothing
            flat.extend(part.parts if part.kind == "concat" else (part,))
        if len(flat) == 1:
            return flat[0]
        key = ("concat", *(part.number for part in flat))
        made = self._make(key, "concat", nullable=all(part.nullable for part in flat))
        made.parts = tuple(flat)
        self._count(len(flat))
        return made

    def either(self, parts: Iterable[Expression]) -> Expression:
        """Return the union."""
        single: list[Charset] = []
        others: dict[int, Expression] = {}
        for part in self._flat("either", parts):
            if part is self.everything:
                return part
            if part.kind == "chars":
                single.append(part.charset)
            else:
                others[part.number] = part
        joined = self.chars(charset.union(*single))
        if joined is not self.nothing:
            others[joined.number] = joined
        return self._collection("either", others, self.nothing)

    def both(self, parts: Iterable[Expression]) -> Expression:
        """Return the intersection."""
        single: list[Charset] = []
        others: dict[int, Expression] = {}
        for part in self._flat("both", parts):
            if part is self.nothing:
                return part
            if part.kind == "chars":
                single.append(part.charset)
            elif part is not self.everything:
                others[part.number] = part
        if single:
            joined = single[0]
            for one in single[1:]:
                joined = charset.intersect(joined, one)
            if not joined:
                return self.nothing
            made = self.chars(joined)
            others[made.number] = made
        if self.empty.number in others:
            # Either the empty text is in all of them, or nothing is left.
            return self.empty if all(part.nullable for part in others.values()) else self.nothing
        return self._collection("both", others, self.everything)

    def no(self, part: Expression) -> Expression:
        """Return every text that is not in a language."""
        if part.kind == "no":
            return part.parts[0]
        if part is self.everything:
            return self.nothing
        if part is self.nothing:
            return self.everything
        made = self._make(("no", part.number), "no", nullable=not part.nullable)
        made.parts = (part,)
        return made

    def loop(self, part: Expression, low: int, high: int | None) -> Expression:
        """Return `low` to `high` texts of a language after each other; None is without end."""
        if high == 0 or part is self.empty:
            return self.empty
        if part is self.nothing:
            return self.empty if low == 0 else self.nothing
        if (low, high) == (1, 1):
            return part
        if part.nullable:
            low = 0
        if part.kind == "loop" and (part.low, part.high) == (0, None):
            return part
        made = self._make(("loop", part.number, low, high), "loop", nullable=low == 0)
        made.parts, made.low, made.high = (part,), low, high
        return made

    def leaf(self, steps: Steps, state: int = 0) -> Expression:
        """Return the language of an automaton from one of its states on."""
        edges = steps.edges_of(state)
        if not edges:
            return self.empty if steps.accepts_at(state) else self.nothing
        made = self._make(("leaf", id(steps), state), "leaf", nullable=steps.accepts_at(state))
        made.steps, made.low = steps, state
        return made

    # --- reading them ---

    def leading(self, one: Expression) -> frozenset[Charset]:
        """Return the sets that tell the first characters of a language apart."""
        known = self._leading.get(one.number)
        if known is None:
            known = self._leading[one.number] = self._find_leading(one)
        return known

    def derive(self, one: Expression, code_point: int) -> Expression:
        """Return what may follow a character."""
        key = (one.number, code_point)
        known = self._derived.get(key)
        if known is None:
            known = self._derived[key] = self._find_derivative(one, code_point)
        return known

    def _find_leading(self, one: Expression) -> frozenset[Charset]:
        if one.kind == "chars":
            return frozenset((one.charset,))
        if one.kind == "leaf" and one.steps is not None:
            return frozenset(edge for edge, _ in one.steps.edges_of(one.low))
        # What is not in a language may begin with characters that nothing in it begins with.
        found: set[Charset] = {charset.ANY} if one.kind == "no" else set()
        for part in one.parts:
            found |= self.leading(part)
            if one.kind == "concat" and not part.nullable:
                break
        return frozenset(found)

    def _find_derivative(self, one: Expression, code_point: int) -> Expression:
        if one.kind == "chars":
            return self.empty if charset.contains(one.charset, code_point) else self.nothing
        if one.kind == "concat":
            ways = []
            for place, part in enumerate(one.parts):
                ways.append(self.concat(self.derive(part, code_point), *one.parts[place + 1 :]))
                if not part.nullable:
                    break
            return self.either(ways)
        if one.kind == "loop":
            (part,) = one.parts
            high = None if one.high is None else one.high - 1
            return self.concat(
                self.derive(part, code_point), self.loop(part, max(one.low - 1, 0), high)
            )
        if one.kind == "leaf" and one.steps is not None:
            for edge, target in one.steps.edges_of(one.low):
                if charset.contains(edge, code_point):
                    return self.leaf(one.steps, target)
            return self.nothing
        parts = [self.derive(part, code_point) for part in one.parts]
        if one.kind == "no":
            return self.no(parts[0])
        return self.either(parts) if one.kind == "either" else self.both(parts)

    # --- keeping them ---

    def _flat(self, kind: str, parts: Iterable[Expression]) -> Iterable[Expression]:
        for part in parts:
            if part.kind == kind:
                yield from part.parts
            else:
                yield part

    def _collection(
        self, kind: str, parts: dict[int, Expression], if_none: Expression
    ) -> Expression:
        if not parts:
            return if_none
        ordered = tuple(parts[number] for number in sorted(parts))
        if len(ordered) == 1:
            return ordered[0]
        ends = (part.nullable for part in ordered)
        made = self._make(
            (kind, *(part.number for part in ordered)),
            kind,
            nullable=any(ends) if kind == "either" else all(ends),
        )
        made.parts = ordered
        self._count(len(ordered))
        return made

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_EXPRESSION:
            raise TooLargeError

    def _make(self, key: tuple[object, ...], kind: str, *, nullable: bool) -> Expression:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Expression(kind, len(self._known), nullable=nullable)
        return known
