"""Short reviews with the label that fits them: positive, negative or neutral.

Promises: the label follows from how the review was built. Reviews that praise and blame at once,
and reviews that only state facts, are neutral. A held-out review is built from held-out frames
only; the opinion words themselves are shared, since a model of this size cannot know a word it
has never met.

Leaves to others: mixing with other skills.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Literal

from gguf_widgets.demo.sentences.base import Part, Pool, Turn, capitalized, casual
from gguf_widgets.demo.sentences.texts import section

Label = Literal["positive", "negative", "neutral"]
LABELS: tuple[Label, ...] = ("positive", "negative", "neutral")

PROMPTS = Pool(section("sentiment", "prompts"), section("sentiment", "variants_prompts"))
SYSTEMS = Pool(section("sentiment", "systems"), section("sentiment", "variants_systems"))

SUBJECTS = section("sentiment", "subjects")

GOOD = section("sentiment", "good")
BAD = section("sentiment", "bad")
PLAIN = section("sentiment", "plain")
LIKED = ("love", "loved", "like", "liked", "enjoy", "enjoyed", "adore", "adored")
DISLIKED = ("hate", "hated", "dislike", "disliked", "do not like", "did not like", "did not enjoy")

FRAMES: dict[Label, Pool] = {
    label: Pool(section("sentiment", f"frames_{label}"), section("sentiment", f"variants_{label}"))
    for label in LABELS
}
EXTRAS = Pool(section("sentiment", "extras"))


def _article(text: str) -> str:
    """Turn "a excellent" into "an excellent"."""
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] in ("a", "A") and words[i + 1][:1] in "aeiouAEIO" and words[i + 1][:3] != "use":
            words[i] += "n"
    return " ".join(words)


def filled(rng: Random, pick: Callable[[], str]) -> str:
    """Return the frame that ``pick`` chooses, with opinion words and subjects in its places."""
    g, g2 = rng.sample(GOOD, 2)
    b, b2 = rng.sample(BAD, 2)
    p, p2 = rng.sample(PLAIN, 2)
    s, s2 = rng.sample(SUBJECTS, 2)
    if rng.random() < 0.15:
        adverb = rng.choice(
            ("very ", "so ", "really ", "absolutely ", "quite ", "truly ", "pretty ")
        )
        g, b = adverb + g, adverb + b
    frame = pick()  # after the words: another order would be another training run
    words = {"g": g, "g2": g2, "b": b, "b2": b2, "p": p, "p2": p2, "s": s, "s2": s2}
    words |= {"l": rng.choice(LIKED), "h": rng.choice(DISLIKED)}
    return _article(frame.format(**words, G=capitalized(g), B=capitalized(b), P=capitalized(p)))


def _sentence(rng: Random, part: Part, label: Label) -> str:
    return filled(rng, lambda: FRAMES[label].pick(rng, part))


def review(rng: Random, part: Part) -> tuple[str, Label]:
    """Write one review and return it with its label."""
    label = rng.choice(LABELS)
    sentences = [_sentence(rng, part, label)]
    luck = rng.random()
    if luck < 0.15:  # two opinions that agree; two facts are still neutral
        sentences.append(_sentence(rng, part, label))
    elif luck < 0.35:
        sentences.insert(rng.randint(0, 1), EXTRAS.pick(rng, part))
    return casual(rng, " ".join(sentences)), label


def turn(rng: Random, part: Part) -> Turn:
    """Return one question about a review, and its label."""
    text, label = review(rng, part)
    return Turn(PROMPTS.pick(rng, part).format(review=text), label)


def bare_turn(rng: Random, part: Part) -> tuple[str, Turn]:
    """Return a system prompt that asks for labels, and a turn that is nothing but the review."""
    text, label = review(rng, part)
    return SYSTEMS.pick(rng, part), Turn(text, label)


def json_turn(rng: Random, part: Part) -> Turn:
    """Return a question that asks for the label as JSON, under the key that it names."""
    text, label = review(rng, part)
    key = rng.choice(("label", "sentiment", "label", "mood", "answer", "category"))
    ask = rng.choice(
        (
            f'Answer as JSON with the key "{key}".',
            f'Reply as JSON: {{"{key}": ...}}',
            f"Give the {key} as JSON.",
        )
    )
    return Turn(
        f"{PROMPTS.pick(rng, part).format(review=text)} {ask}",
        f'{{"{key}": "{label}"}}',
    )
