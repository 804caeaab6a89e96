"""Which tests a measurement consists of, in llama-bench's terms.

Promises: a size that is no size is refused with its value and the limits; a test is there once, and
what was left out for that is said; each test knows its name and how many tokens it needs room for.
Leaves to others: carrying them out (`measure`), and whether a model's context has the room
(`work`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from gguf_widgets.core.errors import InvalidValueError

__all__ = ["MAX_REPETITIONS", "BenchTest", "Kind", "Numbers", "checked_number", "plan_tests"]

Kind = Literal["prompt", "generation", "both"]
Numbers = int | Iterable[int]
"""One number, or several."""

MAX_REPETITIONS: Final = 1000
_MAX_TOKENS: Final = 4_194_304
_MAX_SEQ: Final = 256
_MAX_TESTS: Final = 500


class BenchTest(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to measure.

    Attributes
    ----------
    n_prompt, n_gen : int
        Prompt tokens that are computed, and tokens that are written; one of them may be 0.
    n_depth : int
        So many tokens lie in the context already, before the clock starts.
    n_seq : int
        So many sequences do this at once, each with tokens of its own.
    """

    n_prompt: int
    n_gen: int
    n_depth: int = 0
    n_seq: int = 1

    @property
    def kind(self) -> Kind:
        """Whether prompts are measured, or writing, or both together."""
        if self.n_prompt and self.n_gen:
            return "both"
        return "prompt" if self.n_prompt else "generation"

    @property
    def family(self) -> str:
        """The name without depth and number of sequences: "pp512", "tg128", "pp512+tg128"."""
        parts = [f"pp{self.n_prompt}"] if self.n_prompt else []
        return "+".join([*parts, f"tg{self.n_gen}"] if self.n_gen else parts)

    @property
    def name(self) -> str:
        """As llama-bench writes it, and " x 4" for four sequences at once."""
        depth = f" @ d{self.n_depth}" if self.n_depth else ""
        return f"{self.family}{depth}" + (f" x {self.n_seq}" if self.n_seq > 1 else "")

    @property
    def num_cells(self) -> int:
        """Tokens of context that one of the sequences needs."""
        return self.n_depth + self.n_prompt + self.n_gen + 2

    @property
    def num_shared_cells(self) -> int:
        """Tokens of context that all of them need where they share one cache.

        Of what finished requests leave there, the engine keeps no more than half the cache, and the
        depths of several sequences lie there before their tests begin.
        """
        room = 2 if self.n_depth and self.n_seq > 1 else 1
        return room * self.n_seq * self.num_cells

    def words(self) -> str:
        """Say in plain words what is measured."""
        parts = []
        if self.n_prompt:
            parts.append(f"reading a prompt of {self.n_prompt:,} tokens")
        if self.n_gen:
            parts.append(f"writing {self.n_gen:,} tokens")
        text = ", then ".join(parts)
        if self.n_depth:
            text += f", after {self.n_depth:,} tokens of context"
        return text + (f", {self.n_seq} of them at once" if self.n_seq > 1 else "")


def plan_tests(
    *,
    n_prompt: Numbers,
    n_gen: Numbers,
    pg: Iterable[Sequence[int]] | Sequence[int],
    depths: Numbers,
    n_seq: Numbers,
) -> tuple[list[BenchTest], list[str]]:
    """Return the tests in the order in which they are carried out, and notes for the person.

    Parameters
    ----------
    n_prompt, n_gen : int or iterable of int
        0 is none of these tests, as in llama-bench.
    pg : iterable of (n_prompt, n_gen), or one pair
        Measured together.
    depths, n_seq : int or iterable of int
        Each of the tests with each of these.

    Raises
    ------
    InvalidValueError
        For a number that is none or out of range, for too many tests, and if there is none at all.
    """
    notes: list[str] = []
    prompts = _numbers("n_prompt", n_prompt, 0, _MAX_TOKENS, notes)
    gens = _numbers("n_gen", n_gen, 0, _MAX_TOKENS, notes)
    at = _numbers("depths", depths, 0, _MAX_TOKENS, notes)
    seqs = _numbers("n_seq", n_seq, 1, _MAX_SEQ, notes)
    pairs = [(number, 0) for number in prompts if number]
    pairs += [(0, number) for number in gens if number]
    for pair in _pairs(pg):
        if pair in pairs:
            notes.append(f"pg has {pair} twice; it is measured once.")
        else:
            pairs.append(pair)
    if not pairs or not at or not seqs:
        raise InvalidValueError(
            "There is nothing to measure: n_prompt, n_gen and pg are all 0 or empty, or depths or "
            "n_seq is empty. For the usual two tests leave them out (n_prompt=512, n_gen=128)."
        )
    num = len(pairs) * len(at) * len(seqs)
    if num > _MAX_TESTS:
        raise InvalidValueError(
            f"These are {num:,} tests for each model; at most {_MAX_TESTS} can be measured at once."
            " Give fewer sizes.",
            value=num,
            limit=_MAX_TESTS,
        )
    return [
        BenchTest(n_prompt=prompt, n_gen=gen, n_depth=depth, n_seq=together)
        for together, depth, (prompt, gen) in itertools.product(seqs, at, pairs)
    ], notes


def checked_number(name: str, value: object, low: int, high: int) -> int:
    """Return a whole number within its limits.

    Raises
    ------
    InvalidValueError
        It is none, or is outside.
    """
    # Numbers of numpy are fine, True and 1.5 are not.
    try:
        number = value.__index__() if not isinstance(value, bool) else None  # type: ignore[attr-defined]
    except AttributeError:
        number = None
    if number is None or not low <= number <= high:
        raise InvalidValueError(
            f"{name} is {value!r:.60}; it must be a whole number from {low} to {high:,}.",
            name=name,
            low=low,
            high=high,
        )
    return int(number)


def _numbers(name: str, given: object, low: int, high: int, notes: list[str]) -> list[int]:
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    items = list(itertools.islice(given, _MAX_TESTS + 1)) if several else [given]  # type: ignore[call-overload]
    numbers = [checked_number(name, item, low, high) for item in items]
    once = list(dict.fromkeys(numbers))
    if len(once) < len(numbers):
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        told = ", ".join(f"{number:,}" for number in twice)
        notes.append(f"{name} has {told} more than once; it is measured once.")
    return once


def _pairs(given: object) -> list[tuple[int, int]]:
    wrong = InvalidValueError(
        f"pg is {given!r:.60}; it must be pairs of prompt tokens and written tokens, such as "
        "[(512, 128)]."
    )
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise wrong
    items = list(itertools.islice(given, _MAX_TESTS + 1))
    if len(items) == 2 and not any(isinstance(item, Iterable) for item in items):
        items = [tuple(items)]
    pairs = []
    for item in items:
        if not isinstance(item, Sequence) or isinstance(item, str | bytes) or len(item) != 2:
            raise wrong
        pairs.append(
            (
                checked_number("The first number of a pair in pg", item[0], 1, _MAX_TOKENS),
                checked_number("The second number of a pair in pg", item[1], 1, _MAX_TOKENS),
            )
        )
    return pairs
