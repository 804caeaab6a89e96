"""What every skill is made of: a question with its answer, and templates split into two parts.

Promises: the split is by template, fixed by the template's own text and by nothing else, so that
a template is either used for training or for measuring, never for both. Everything random comes
from the `random.Random` that is handed in.

Leaves to others: the templates themselves (one file a skill) and how skills are mixed
(`conversations`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Part = Literal["train", "held_out"]

HELD_OUT_SHARE = 6  # one template in six is kept for measuring


@dataclass(frozen=True)
class Turn:
    """One question and the answer the model should give."""

    user: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """A whole training example: an optional system prompt and one or more turns."""

    skill: str
    turns: tuple[Turn, ...]
    system: str | None = None


class Pool:
    """A list of templates, one sixth of which training never sees.

    Which ones is decided by a checksum of the text, not by hand: nobody picks the easy ones.

    Parameters
    ----------
    templates
        Strings with ``{placeholders}``. Repeats are refused: one could land in both parts.
    """

    def __init__(self, templates: Sequence[str]) -> None:
        if len(set(templates)) != len(templates):
            repeated = sorted({text for text in templates if templates.count(text) > 1})
            raise ValueError(f"these templates are in the list twice: {repeated}")
        by_checksum = sorted(templates, key=lambda text: (zlib.crc32(text.encode()), text))
        cut = max(1, len(templates) // HELD_OUT_SHARE)
        self.held_out: tuple[str, ...] = tuple(by_checksum[:cut])
        self.train: tuple[str, ...] = tuple(by_checksum[cut:])

    def pick(self, rng: Random, part: Part) -> str:
        """Pick one template of the wanted part."""
        return rng.choice(self.train if part == "train" else self.held_out)


_CONTRACTIONS = (
    (re.compile(r"\bI am\b"), "I'm"),
    (re.compile(r"\b([Ww])hat is\b"), r"\1hat's"),
    (re.compile(r"\b([Ii])t is\b"), r"\1t's"),
    (re.compile(r"\b([Dd])o not\b"), r"\1on't"),
    (re.compile(r"\b([Dd])oes not\b"), r"\1oesn't"),
    (re.compile(r"\b([Dd])id not\b"), r"\1idn't"),
    (re.compile(r"\b([Cc])annot\b"), r"\1an't"),
    (re.compile(r"\bI would\b"), "I'd"),
    (re.compile(r"\b([Ww])as not\b"), r"\1asn't"),
)


def casual(rng: Random, text: str, *, keep_case: bool = False) -> str:
    """Make a tidy sentence look a little more like something a person typed.

    Parameters
    ----------
    rng
        Where the randomness comes from.
    text
        The tidy sentence.
    keep_case
        Leave capital letters alone (the answer to an order copies its words as they stand).
    """
    if rng.random() < 0.3:
        for pattern, short in _CONTRACTIONS:
            text = pattern.sub(short, text)
    if not keep_case and rng.random() < 0.3:
        text = text.lower() if rng.random() < 0.7 else text[:1].lower() + text[1:]
    if text[-1:] in ".!?" and text[-2:-1] not in ".!?":
        luck = rng.random()
        if luck < 0.3:
            text = text[:-1]
        elif luck < 0.36:
            text = text[:-1] + "!"
    return text


def capitalized(text: str) -> str:
    """Return ``text`` with its first letter in upper case and the rest as it was."""
    return text[:1].upper() + text[1:]
