"""Questions that a model of this size cannot answer, and the polite reply.

Promises: the reply never pretends to know; it is one of a few sentences, chosen by the kind of
question. The questions are as mixed as possible and use invented words too, so that "anything
else" ends here.

Leaves to others: the questions that the model does answer.
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import facts, names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn, casual
from gguf_widgets.demo.sentences.texts import section

TOO_SMALL = "I am too small to know that. Put a bigger model into the models folder and ask it."
TOO_BIG_NUMBERS = (
    f"Those numbers are too big for me. I only add and subtract numbers up to {facts.LARGEST}."
)
NO_OTHER_SUMS = "I can only add and subtract. A bigger model can do more."

QUESTIONS = Pool(section("unknown", "questions"))
SUMS_TOO_BIG = Pool(section("unknown", "sums_too_big"))
OTHER_SUMS = Pool(section("unknown", "other_sums"))
NOUNS = section("unknown", "nouns")
FEELINGS = section("unknown", "feelings")


def turn(rng: Random, part: Part) -> Turn:
    """Ask something that is out of reach."""
    luck = rng.random()
    if luck < 0.1:
        a, b = rng.randint(facts.LARGEST + 1, rng.choice((99, 9999))), rng.randint(2, 9999)
        if rng.random() < 0.5:
            a, b = b, a
        return Turn(casual(rng, SUMS_TOO_BIG.pick(rng, part).format(a=a, b=b)), TOO_BIG_NUMBERS)
    if luck < 0.16:
        text = OTHER_SUMS.pick(rng, part).format(a=rng.randint(2, 200), b=rng.randint(2, 99))
        return Turn(casual(rng, text), NO_OTHER_SUMS)
    x, x2 = _thing(rng), _thing(rng)
    p, p2 = names.full_name(rng, part), names.first_name(rng, part)
    city, city2 = names.city(rng, part), names.city(rng, part)
    text = _fill(rng, part, x=x, x2=x2, p=p, p2=p2, city=city, city2=city2)
    if rng.random() < 0.08:
        second = _fill(rng, part, x=x2, x2=x, p=p2, p2=p, city=city2, city2=city)
        text = f"{text} {second}"
    return Turn(casual(rng, text), TOO_SMALL)


def _thing(rng: Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(NOUNS).replace("-", " ")
    return names.invented_word(rng)


def _fill(rng: Random, part: Part, **words: str) -> str:
    template = QUESTIONS.pick(rng, part)
    return template.format(**words, a=rng.choice(FEELINGS), year=rng.randint(1200, 2030))
