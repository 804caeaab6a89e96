"""How likely the model thought each choice, from the log probabilities that came with a reply.

**What the number means.** A reply is written token by token, and at each place only tokens are
allowed with which one of the choices can still be written. The probability of a choice is how often
that would end with this choice, if every token were drawn by the model's own probabilities
(temperature 1, nothing else set), divided among the allowed ones. Together they are 1. The
temperature and the other settings of the request do not change them. Where one choice is complete
and longer ones go on from it ("good", "good enough"), everything that does not go on counts as the
end, since the engine tells no probability of the token that ends a reply; so nothing is divided
there. One blank in front of a choice changes nothing.

**What follows from it.**

- It is decided where the choices part: beside "bad", the choice "A mixed opinion" has everything
  that begins with "A", whatever the model meant to go on with. The constrained reply itself is
  decided in the same way. `whole_probabilities` counts every token of each choice instead, and
  needs one request a choice.
- With temperature 0 a reply takes the likeliest token each time. Where choices part at several
  places this need not lead to the likeliest choice.
- The `share` is how likely the model would have begun like one of the choices, left to itself. If
  it is small, the model would rather have written something else, and all of this is about replies
  which it finds unlikely.

**How exact it is.** Each token that was written comes with the likeliest others at that place, at
most 100. Where choices part among these, the number is exact. The rest is bounded: tokens which
several choices begin with and which no reply took, other ways to spell the same text, and tokens
that are not in the list. `margins` holds how far each probability may be off at most, and `untold`
the choices where that is more than `TOLERANCE`; `scoring_requests` says which more requests would
help. (Two requests of different batches may differ in the last digits of their logits.)

Promises: the true numbers of this definition lie within the margins. Where it can only be guessed
how some choices divide what they share, it is divided as what is known of them is, and if nothing
is, the choice that was written has it. Leaves to others: the counting (`choices_count`), sending
the requests (`feeder`), the grammar (`output_grammar`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gguf_widgets.batch.choices_count import Counting, Place, logprobs_of
from gguf_widgets.batch.output_grammar import grammar_of
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.types import Reply, TokenLogprob

__all__ = [
    "NUM_TOP",
    "TOLERANCE",
    "ChoiceProbabilities",
    "certainty",
    "choice_probabilities",
    "scoring_request",
    "scoring_requests",
    "token_certainty",
    "whole_probabilities",
]

NUM_TOP = 100
"""How many of the likeliest tokens are asked for at each place: as many as the engine tells."""

TOLERANCE = 0.01
"""A choice whose probability may be further off than this is called untold."""


@dataclass(frozen=True)
class ChoiceProbabilities:
    """The probability of each choice for one row.

    Attributes
    ----------
    values : dict of str to float
        By the choice's text, in the order of the choices; together 1.
    margins : dict of str to float
        How far each value may be off at most.
    share : float
        The probability that the model, left to itself, begins like one of the choices, as far as
        the tokens are known.
    untold : tuple of str
        The choices whose margin is above `TOLERANCE`.
    unsettled : tuple of str
        Choices to score, most useful first, so that fewer are untold; see `scoring_requests`.
    """

    values: dict[str, float]
    margins: dict[str, float]
    share: float
    untold: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()

    @property
    def likeliest(self) -> str:
        """The choice with the highest probability; of equal ones the first."""
        return max(self.values, key=self.values.__getitem__)

    @property
    def certainty(self) -> float:
        """The probability of the likeliest choice."""
        return self.values[self.likeliest]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "values": dict(self.values),
            "margins": dict(self.margins),
            "share": self.share,
            "untold": list(self.untold),
            "unsettled": list(self.unsettled),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ChoiceProbabilities:
        """Make one from what `to_dict` returned."""
        return cls(
            dict(data["values"]),
            dict(data["margins"]),
            float(data["share"]),
            tuple(data["untold"]),
            tuple(data["unsettled"]),
        )


def choice_probabilities(
    choices: Sequence[str], reply: Reply, scores: Iterable[Reply] = ()
) -> ChoiceProbabilities:
    """Return the probability of each choice; the module says what that is.

    Parameters
    ----------
    choices : sequence of str
        The texts, distinct and without blanks around them.
    reply : Reply
        To a request that had the choices' grammar and ``logprobs``; the more of these, the smaller
        the margins. It may have been cut.
    scores : iterable of Reply
        To requests of `scoring_requests`, with the same prompt.

    Raises
    ------
    InvalidValueError
        If there are no choices, or a reply has no log probabilities.
    """
    if not choices:
        raise InvalidValueError("There are no choices.")
    tree = Place()
    replies = [reply, *scores]
    for one in replies:
        tree.add(one)
    counting = Counting(choices)
    counting.count(tree)
    values = counting.values(likely=reply.text.strip())
    margins = counting.margins(values)
    return ChoiceProbabilities(
        dict(zip(choices, values, strict=True)),
        dict(zip(choices, margins, strict=True)),
        counting.share,
        tuple(text for text, one in zip(choices, margins, strict=True) if one > TOLERANCE),
        counting.unsettled(TOLERANCE, {one.text.strip() for one in replies}),
    )


def scoring_request(choice: str) -> dict[str, Any]:
    """Return the sampling keywords of a request that can only be answered by this choice.

    Its log probabilities are what the model thinks of writing it, token by token.
    """
    return {
        "grammar": grammar_of([choice], may_begin_with_blank=False),
        "logprobs": NUM_TOP,
        "temperature": 0.0,
    }


def scoring_requests(found: ChoiceProbabilities) -> dict[str, dict[str, Any]]:
    """Return requests that would settle what is untold, by the choice that each one writes.

    Send them with the row's prompt and call `choice_probabilities` again with all replies so far;
    one request often settles several choices, and now and then another round is needed. None is
    left when nothing is untold, or when what is untold cannot be settled so: other ways to spell a
    choice, which no request can ask for.
    """
    return {choice: scoring_request(choice) for choice in found.unsettled}


def whole_probabilities(choices: Sequence[str], scores: Mapping[str, Reply]) -> dict[str, float]:
    """Return the probability of each choice, with every token of it counted.

    ``p(choice) = exp(sum of the log probabilities of its tokens)``, divided by the sum over the
    choices: the probability that a reply begins with the whole text, spelled with the tokens that
    the model preferred. Other spellings are not counted, nor is the end of the reply, so a choice
    counts with the longer ones that begin with it.

    Parameters
    ----------
    choices : sequence of str
    scores : mapping of str to Reply
        For each choice, the reply to its `scoring_request`.

    Raises
    ------
    InvalidValueError
        If one is missing, has no log probabilities, or is not the whole choice.
    """
    sums = []
    for choice in choices:
        reply = scores.get(choice)
        if reply is None or reply.text.strip() != choice:
            raise InvalidValueError(
                f"The choice {choice!r:.80} has no reply that scores it.", choice=choice
            )
        sums.append(math.fsum(one.logprob for one in logprobs_of(reply)))
    highest = max(sums)
    weights = [math.exp(one - highest) for one in sums]
    total = math.fsum(weights)
    return {choice: weight / total for choice, weight in zip(choices, weights, strict=True)}


def certainty(probabilities: Mapping[str, float]) -> float:
    """Return the probability of the likeliest choice, by which the least certain rows are found."""
    if not probabilities:
        raise InvalidValueError("There are no probabilities.")
    return max(probabilities.values())


def token_certainty(logprobs: Sequence[TokenLogprob]) -> float | None:
    """Return the geometric mean of a reply's token probabilities; None for a reply without tokens.

    For replies that are no choice. It is between 0 and 1, and does not fall with the length of the
    reply. It says how expected the wording was, which is not how true the content is; and of two
    outputs only those of one kind can be compared, since a schema's brackets are always expected.
    """
    if not logprobs:
        return None
    return math.exp(math.fsum(one.logprob for one in logprobs) / len(logprobs))
