"""Adds up, from what replies tell of their tokens, what each choice has and may have.

Promises: `Place` keeps what some replies to one prompt tell, as a tree; `Counting` goes through it
once and keeps, for each choice, its probability by `choices`' definition with a lower and an upper
bound, which hold whatever the tokens are that nobody told of. One thing is taken for granted: that
no two tokens of the vocabulary have the same text. Leaves to others: what the number means, and
what is done with it (`choices`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import Reply, TokenLogprob

__all__ = ["Counting", "Place", "logprobs_of"]

_HALF = "\ufffd"  # stands for a part of a character in a token's text
_ROUNDING = 1e-12


def logprobs_of(reply: Reply) -> list[TokenLogprob]:
    """Return a reply's log probabilities.

    Raises
    ------
    InvalidValueError
        If it has none.
    """
    if reply.logprobs is None:
        raise InvalidValueError(
            "The reply has no log probabilities. Ask for them with logprobs=100."
        )
    return reply.logprobs


# --- what is known: a tree of places in replies ---


@dataclass
class Place:
    """A place in a reply, after some tokens, and what is known of the token that comes there.

    Attributes
    ----------
    tokens : dict of int to (str, float)
        Those that are known there: the text and the log probability.
    highest : float
        No other token's probability is above this.
    after : dict of int to Place
        The places behind them at which something is known.
    blanks_lost : bool
        Some tokenizers tell a token's text without the blank in front of it.
    """

    tokens: dict[int, tuple[str, float]] = field(default_factory=dict)
    highest: float = 1.0
    after: dict[int, Place] = field(default_factory=dict)
    blanks_lost: bool = False

    def add(self, reply: Reply) -> None:
        """Add what one reply tells."""
        logprobs = logprobs_of(reply)
        spelled = "".join(one.text for one in logprobs)
        lost = spelled != reply.text and spelled == reply.text.replace(" ", "")
        place = self
        for one in logprobs:
            place.blanks_lost |= lost
            for chance in one.top:
                place.tokens.setdefault(chance.token, (chance.text, chance.logprob))
            if one.top:
                place.highest = min(place.highest, _probability(one.top[-1].logprob))
            place.tokens.setdefault(one.token, (one.text, one.logprob))
            place = place.after.setdefault(one.token, Place())

    @property
    def unseen(self) -> float:
        """The probability of all tokens together of which nothing is known."""
        seen = math.fsum(_probability(logprob) for _, logprob in self.tokens.values())
        return max(0.0, 1.0 - seen)


def _probability(logprob: float) -> float:
    return math.exp(min(logprob, 0.0))


# --- what follows for the choices ---


class _Way(NamedTuple):
    """A place on the way to some choices, and the probability of coming there: best, least, most.

    `place` is None where nothing is known of what follows.
    """

    place: Place | None
    begun: str
    value: float = 1.0
    low: float = 1.0
    high: float = 1.0


class Counting:
    """Divides the probability along the tree, among the choices that each token leads to."""

    def __init__(self, choices: Sequence[str]) -> None:
        self.choices = list(choices)
        # Sorted, what begins alike stands together; each choice also with a blank in front.
        forms = sorted(
            (form, number)
            for number, text in enumerate(self.choices)
            for form in (text, f" {text}")
        )
        self.texts = [text for text, _ in forms]
        self.numbers = [number for _, number in forms]
        self.num_bytes = [len(text.encode()) for text in self.choices]
        count = len(self.choices)
        self.value = [0.0] * count
        self.low = [0.0] * count
        self.high = [0.0] * count
        self.unknown = [0.0] * count  # of `high`, what is by tokens of which nothing is known
        self.shared: list[tuple[float, frozenset[int]]] = []
        self.share = 0.0

    def count(self, tree: Place) -> None:
        """Go through the tree."""
        self.share = 1.0
        waiting = [_Way(tree, "")]
        while waiting:
            way = waiting.pop()
            group = self.beginning(way.begun)
            if len(group) == 1:
                self.settle(next(iter(group)), way.value, way.low, way.high)
            elif way.place is None or not way.place.tokens:
                self.keep_shared(way, group)
            else:
                waiting += self.steps(way, way.place, group)

    def settle(self, number: int, value: float, low: float, high: float) -> None:
        """Give a choice what is its own."""
        self.value[number] += value
        self.low[number] += low
        self.high[number] += high

    def keep_shared(self, way: _Way, group: frozenset[int]) -> None:
        """Keep what belongs to some choices, nobody knows in which parts."""
        self.shared.append((way.value, group))
        for number in group:
            self.high[number] += way.high

    def steps(self, way: _Way, place: Place, group: frozenset[int]) -> list[_Way]:
        """Return the ways that go on from a place; keep what can go no further."""
        complete = self.complete(way.begun)
        going_on = group if complete is None else group - {complete}
        allowed: list[tuple[float, Place | None, str, frozenset[int]]] = []
        doubtful: list[tuple[float, frozenset[int]]] = []
        for token, (text, logprob) in place.tokens.items():
            chance = _probability(logprob)
            if _HALF in text:
                able = self.able(way.begun + text.partition(_HALF)[0], going_on)
                if token in place.after and able:  # a reply took it, so it leads to one of them
                    allowed.append((chance, None, "", able))
                elif able:
                    doubtful.append((chance, able))
            else:
                longer = self.spelled(way.begun, text, blanks_lost=place.blanks_lost)
                if longer is not None:
                    led = self.beginning(longer)
                    allowed.append((chance, place.after.get(token), longer, led))
        known = math.fsum(chance for chance, *_ in allowed)
        hidden = self.hidden(place, way.begun, going_on, doubtful)
        more = math.fsum(hidden.values())
        more = min(more, max(0.0, 1.0 - known))
        if way.begun == "":
            self.share = min(known, 1.0)
        if complete is not None:
            total, most = 1.0, 1.0
            rest = max(0.0, 1.0 - known)
            least = max(0.0, rest - more)
            self.settle(complete, way.value * rest, way.low * least, way.high * rest)
        elif known <= 0.0:
            self.keep_shared(way, group)
            return []
        else:
            total, most = known, known + more
        for number, chance in hidden.items():
            part = chance if complete is not None else chance / (known + chance)
            self.high[number] += way.high * part
            self.unknown[number] += way.high * part
        found = []
        for chance, after, longer, led in allowed:
            step = _Way(
                after,
                longer,
                way.value * chance / total,
                way.low * chance / most,
                way.high * chance / total,
            )
            if longer:
                found.append(step)
            elif len(led) == 1:
                self.settle(next(iter(led)), step.value, step.low, step.high)
            else:
                self.keep_shared(step, led)
        return found

    def hidden(
        self,
        place: Place,
        begun: str,
        group: frozenset[int],
        doubtful: list[tuple[float, frozenset[int]]],
    ) -> dict[int, float]:
        """Return how much each choice may have by tokens of which too little is known."""
        found: dict[int, float] = {}
        for chance, able in doubtful:
            for number in able:
                found[number] = found.get(number, 0.0) + chance
        rest = place.unseen
        if rest > _ROUNDING:
            for number in group:
                # One token for each beginning of what is left, byte by byte; at the start also with
                # a blank before it.
                left = self.num_bytes[number] - len(begun.strip(" ").encode())
                num_tokens = left if begun else 2 * left + 1
                chance = min(rest, num_tokens * place.highest)
                found[number] = found.get(number, 0.0) + chance
        return found

    def able(self, begun: str, group: frozenset[int]) -> frozenset[int]:
        """Return the choices that go on with a character that is more than one byte."""
        return frozenset(
            number
            for text, number in self.range(begun)
            if number in group and len(text) > len(begun) and not text[len(begun)].isascii()
        )

    def spelled(self, begun: str, text: str, *, blanks_lost: bool) -> str | None:
        """Return the text with a token added, if a choice begins so."""
        ways = [begun + text] if text else []
        if blanks_lost:
            ways.append(f"{begun} {text}")
        return next((longer for longer in ways if self.beginning(longer)), None)

    def range(self, begun: str) -> Iterator[tuple[str, int]]:
        """Yield the texts that begin so, and whose they are."""
        start = bisect_left(self.texts, begun)
        while start < len(self.texts) and self.texts[start].startswith(begun):
            yield self.texts[start], self.numbers[start]
            start += 1

    def beginning(self, begun: str) -> frozenset[int]:
        """Return the choices that begin so."""
        return frozenset(number for _, number in self.range(begun))

    def complete(self, begun: str) -> int | None:
        """Return the choice that this is, whole."""
        start = bisect_left(self.texts, begun)
        is_one = start < len(self.texts) and self.texts[start] == begun
        return self.numbers[start] if is_one else None

    # --- the end ---

    def values(self, likely: str) -> list[float]:
        """Return the probability of each choice, once everything is counted.

        `likely` is the choice that has what it shares with others of which nothing is known.
        """
        found = list(self.value)
        for mass, group in self.shared:
            within = math.fsum(self.value[number] for number in group)
            favourite = next((one for one in group if self.choices[one] == likely), None)
            for number in group:
                if within > 0:
                    part = self.value[number] / within
                elif favourite is not None:
                    part = float(number == favourite)
                else:
                    part = 1 / len(group)
                found[number] += mass * part
        total = math.fsum(found)  # 1, but for rounding
        return [value / total for value in found]

    def margins(self, values: Sequence[float]) -> list[float]:
        """Return how far each of the values may be off at most."""
        return [
            max(0.0, value - low, min(high, 1.0) - value)
            for value, low, high in zip(values, self.low, self.high, strict=True)
        ]

    def unsettled(self, tolerance: float, scored: set[str]) -> tuple[str, ...]:
        """Return one choice of each group that shares much, and those that may have much unseen.

        Those in `scored` have had their request.
        """
        wanted: dict[str, None] = {}
        for mass, group in sorted(self.shared, key=lambda one: -one[0]):
            if mass <= tolerance:
                break
            # The one that something is known of is the likeliest to go this way.
            ordered = sorted(group, key=lambda number: (-self.value[number], number))
            names = [self.choices[number] for number in ordered]
            if not any(name in wanted for name in names):
                wanted.update(dict.fromkeys([n for n in names if n not in scored][:1]))
        for number in sorted(range(len(self.choices)), key=lambda one: -self.unknown[one]):
            name = self.choices[number]
            if self.unknown[number] > tolerance and name not in scored:
                wanted[name] = None
        return tuple(wanted)
