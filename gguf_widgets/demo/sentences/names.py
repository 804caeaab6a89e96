"""Names of people, towns and goods: known, invented, and some that training never sees.

Promises: the lists of the two parts share no entry, and an invented name never equals a
kept-back one. Most names that training sees are invented, from syllables or by joining the
beginning of one real word to the end of another, so the model has to learn to copy a name instead
of learning the names.

Leaves to others: the sentences around the names.
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences.base import Part
from gguf_widgets.demo.sentences.texts import section

FIRST_NAMES = section("names", "first_names")
LAST_NAMES = section("names", "last_names")
CITIES = section("names", "cities")
ADJECTIVES = section("names", "adjectives")
ITEMS = section("names", "items")

# Kept back for measuring: training never sees any of these.
HELD_OUT_FIRST_NAMES = section("names", "held_out_first_names")
HELD_OUT_LAST_NAMES = section("names", "held_out_last_names")
HELD_OUT_CITIES = section("names", "held_out_cities")
HELD_OUT_ADJECTIVES = section("names", "held_out_adjectives")
HELD_OUT_ITEMS = section("names", "held_out_items")

_KEPT_BACK = {
    word.lower()
    for words in (
        HELD_OUT_FIRST_NAMES,
        HELD_OUT_LAST_NAMES,
        HELD_OUT_CITIES,
        HELD_OUT_ADJECTIVES,
        HELD_OUT_ITEMS,
    )
    for word in words
}

_ONSETS = section("names", "onsets")
_TOWN_PREFIXES = ("New", "Port", "San", "Old", "North", "Bad", "Saint", "East")
_VOWELS = section("names", "vowels")
_CODAS = ("", "", "", *section("names", "codas"))


_REAL_WORDS = sorted(
    {
        word.lower()
        for words in (FIRST_NAMES, LAST_NAMES, CITIES, ADJECTIVES, ITEMS)
        for phrase in words
        for word in phrase.split()
        if len(word) > 3
    }
)


def invented_word(rng: Random) -> str:
    """Return a made-up lower-case word of three to twelve letters."""
    while True:
        word = _from_syllables(rng) if rng.random() < 0.5 else _from_two_words(rng)
        if 2 < len(word) < 13 and word not in _KEPT_BACK and word + "s" not in _KEPT_BACK:
            return word


def _from_syllables(rng: Random) -> str:
    return "".join(
        (rng.choice(_ONSETS) if rng.random() < 0.85 else "")
        + rng.choice(_VOWELS)
        + (rng.choice(_CODAS) if rng.random() < 0.5 else "")
        for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4)))
    )


def _from_two_words(rng: Random) -> str:
    """Join pieces of two real words, because real names are cut into tokens like these."""
    first, second = rng.choice(_REAL_WORDS), rng.choice(_REAL_WORDS)
    return first[: rng.randint(2, len(first) - 1)] + second[rng.randint(1, len(second) - 2) :]


def _seen_or_new(rng: Random, part: Part, seen: tuple[str, ...], invented_share: float) -> str:
    if part == "train" and rng.random() < invented_share:
        return invented_word(rng)
    return rng.choice(seen)


def first_name(rng: Random, part: Part = "train", *, unseen: bool = False) -> str:
    """Return a first name; ``unseen`` takes one that training never sees."""
    if unseen:
        return rng.choice(HELD_OUT_FIRST_NAMES)
    return _seen_or_new(rng, part, FIRST_NAMES, 0.5).title()


def full_name(rng: Random, part: Part = "train", *, unseen: bool = False) -> str:
    """Return a first and a last name; training also sees middle letters and double names."""
    if unseen:
        return f"{rng.choice(HELD_OUT_FIRST_NAMES)} {rng.choice(HELD_OUT_LAST_NAMES)}"
    first = first_name(rng, part)
    last = _seen_or_new(rng, part, LAST_NAMES, 0.6).title()
    if part == "train":
        luck = rng.random()
        if luck < 0.03:
            return f"{first} {rng.choice('ABCDEFGHJKLMPRST')}. {last}"
        if luck < 0.06:
            return f"{first} {last}-{invented_word(rng).title()}"
        if luck < 0.12:
            return first
    return f"{first} {last}"


def city(rng: Random, part: Part = "train", *, unseen: bool = False) -> str:
    """Return the name of a town."""
    if unseen:
        return rng.choice(HELD_OUT_CITIES)
    name = _seen_or_new(rng, part, CITIES, 0.45)
    if name[0].islower():
        name = name.title()
        if rng.random() < 0.12:
            name = f"{rng.choice(_TOWN_PREFIXES)} {name}"
    return name


def item(rng: Random, part: Part = "train", *, unseen: bool = False) -> str:
    """Return what is ordered: a plural noun with up to two words before it."""
    if unseen:
        return f"{rng.choice(HELD_OUT_ADJECTIVES)} {rng.choice(HELD_OUT_ITEMS)}"
    noun = _seen_or_new(rng, part, ITEMS, 0.4)
    if noun not in ITEMS and rng.random() < 0.8:
        noun += "s"
    words = [noun]
    for share in (0.65, 0.12):
        if rng.random() < share:
            words.insert(0, _seen_or_new(rng, part, ADJECTIVES, 0.3))
    return " ".join(words)
