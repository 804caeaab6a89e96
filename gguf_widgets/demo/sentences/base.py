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


_CHOICE = re.compile(r"\(([^()]*)\)")
_VARIANTS_SHARE = 0.5  # of what training sees, where a pool has variants


def expanded(rng: Random, variant: str) -> str:
    """Take one of the alternatives wherever a variant says ``(this|that)``."""
    return _CHOICE.sub(lambda found: rng.choice(found[1].split("|")), variant)


class Pool:
    """A list of templates, one sixth of which training never sees.

    Which ones is decided by a checksum of the text, not by hand: nobody picks the easy ones.
    Capital letters and marks do not count: "Hello!" is kept back together with "hello".

    Parameters
    ----------
    templates
        Strings with ``{placeholders}``. Repeats are refused: one could land in both parts.
    variants
        More templates for training alone, with alternatives: ``(Label|Judge) {review}``. One that
        comes out as a held-out template is thrown away.
    always
        So many templates at the start of the list are never kept back: everybody begins with them
        ("Who are you?"), so they have to be learned.
    """

    def __init__(
        self, templates: Sequence[str], variants: Sequence[str] = (), always: int = 1
    ) -> None:
        if len(set(templates)) != len(templates):
            repeated = sorted({text for text in templates if templates.count(text) > 1})
            raise ValueError(f"these templates are in the list twice: {repeated}")
        first = {_bare(text) for text in templates[:always]}
        by_checksum = sorted({_bare(text) for text in templates} - first, key=_checksum)
        self._kept_back = set(by_checksum[: max(1, len(templates) // HELD_OUT_SHARE)])
        self.held_out = tuple(text for text in templates if _bare(text) in self._kept_back)
        self.train = tuple(text for text in templates if _bare(text) not in self._kept_back)
        self.variants = tuple(variants)

    def pick(self, rng: Random, part: Part) -> str:
        """Pick one template of the wanted part."""
        if part == "held_out":
            return rng.choice(self.held_out)
        while self.variants and rng.random() < _VARIANTS_SHARE:
            template = capitalized(expanded(rng, rng.choice(self.variants)))
            if _bare(template) not in self._kept_back:
                return template
        return rng.choice(self.train)


def _bare(template: str) -> str:
    """Return what tells two templates apart: letters, digits, placeholders and signs of sums."""
    return re.sub(r"[^a-z0-9{}+*/-]+", " ", template.lower()).strip()


def _checksum(text: str) -> tuple[int, str]:
    return zlib.crc32(text.encode()), text


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
