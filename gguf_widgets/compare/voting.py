"""Blind votes: pairs of answers in an order that was drawn, and how the votes stand.

Promises: the order of pairs and which side stands first follow from the comparison's id alone, so
that whoever comes back goes on where they were; answers that are the same, word for word, are not
shown (their number is told); a side's place says nothing about who it is. Leaves to others: keeping
votes (`records`), showing pairs (the widgets).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, overload

from gguf_widgets.compare.records import Records
from gguf_widgets.compare.results import Results
from gguf_widgets.compare.statistics import CONFIDENCE, wilson
from gguf_widgets.compare.types import Choice, Pair, Standing, Vote
from gguf_widgets.compare.verdicts import standing_words

__all__ = ["CHOICES", "Pairs", "standings"]

CHOICES: Final[tuple[Choice, ...]] = ("a", "b", "both", "neither")
_STRETCH: Final = 1000


class Pairs(Sequence[Pair]):
    """The pairs that can be voted on, in their order; texts are read when a pair is looked at.

    It shows the answers that there were when it was made; votes are those of now.

    Attributes
    ----------
    num_same : int
        Pairs whose answers are the same, word for word: they are left out.
    """

    def __init__(
        self,
        results: Results,
        records: Records,
        comparison_id: str,
        num_prompts: int,
        sides: Sequence[int],
    ) -> None:
        self._results, self._records, self._id = results, records, comparison_id
        self.num_same = 0
        found: list[tuple[int, int, int]] = []
        for start in range(0, num_prompts, _STRETCH):
            for row in results.rows(start, start + _STRETCH):
                for a, b in itertools.combinations(sorted(sides), 2):
                    one, other = row.answers[a], row.answers[b]
                    if one.status != "done" or other.status != "done":
                        continue
                    if one.text == other.text:
                        self.num_same += 1
                    else:
                        found.append((row.number, a, b))
        self._places = sorted(found, key=lambda place: _drawn(comparison_id, place)[0])

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # an IndexError, and the end counted from
        return self._pair(number, {_key(vote): vote for vote in self._records.votes(self._id)})

    def __iter__(self) -> Iterator[Pair]:
        votes = {_key(vote): vote for vote in self._records.votes(self._id)}
        return (self._pair(number, votes) for number in range(len(self)))

    def next_unvoted(self, start: int = 0) -> int | None:
        """Return the index of the first pair from `start` on without a vote, or None."""
        voted = {_key(vote) for vote in self._records.votes(self._id)}
        return next(
            (i for i in range(max(0, start), len(self)) if self._places[i] not in voted), None
        )

    @property
    def num_voted(self) -> int:
        """How many of them have a vote."""
        voted = {_key(vote) for vote in self._records.votes(self._id)}
        return sum(place in voted for place in self._places)

    def _pair(self, number: int, votes: dict[tuple[int, int, int], Vote]) -> Pair:
        prompt, first, second = place = self._places[number]
        _, is_turned = _drawn(self._id, place)
        a, b = (second, first) if is_turned else (first, second)
        (row,) = self._results.rows(prompt, prompt + 1)
        vote = votes.get(place)
        return Pair(
            index=number,
            prompt=prompt,
            a=a,
            b=b,
            prompt_text=row.prompt,
            text_a=row.answers[a].text or "",
            text_b=row.answers[b].text or "",
            choice=None if vote is None else _as_seen(vote.choice, is_turned=is_turned),
        )


def _key(vote: Vote) -> tuple[int, int, int]:
    return vote.prompt, vote.a, vote.b


def _drawn(comparison_id: str, place: tuple[int, int, int]) -> tuple[bytes, bool]:
    """Return where a pair stands among the others, and whether its sides are turned round."""
    told = f"{comparison_id} {place}".encode()
    digest = hashlib.blake2b(told, digest_size=9).digest()
    return digest[:8], bool(digest[8] & 1)


def _as_seen(choice: Choice, *, is_turned: bool) -> Choice:
    if is_turned and choice in ("a", "b"):
        return "b" if choice == "a" else "a"
    return choice


def standings(votes: Sequence[Vote], labels: Sequence[str]) -> list[Standing]:
    """Return how the votes stand, for each pair of sides."""
    found = []
    for a, b in itertools.combinations(range(len(labels)), 2):
        own = [vote.choice for vote in votes if (vote.a, vote.b) == (a, b)]
        counts = {choice: own.count(choice) for choice in CHOICES}
        num = len(own)
        share = (counts["a"] + (counts["both"] + counts["neither"]) / 2) / num if num else None
        low, high = wilson(share, num) if share is not None else (None, None)
        found.append(
            Standing(
                a=a,
                b=b,
                label_a=labels[a],
                label_b=labels[b],
                num_votes=num,
                num_a=counts["a"],
                num_b=counts["b"],
                num_both=counts["both"],
                num_neither=counts["neither"],
                share_a=share,
                low=low,
                high=high,
                confidence=CONFIDENCE,
                clear=low is not None and high is not None and (low > 0.5 or high < 0.5),
                words=standing_words(labels[a], labels[b], share, low, high, num),
            )
        )
    return found
