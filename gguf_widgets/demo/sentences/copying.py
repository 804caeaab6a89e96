"""Copying, the exercise from which reading orders grows: repeat a text, read out a field.

Promises: every answer stands in the question, word for word.

Leaves to others: skills that a person asks for by themselves; this one is also a harmless toy
("Repeat: hello").
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import names
from gguf_widgets.demo.sentences.base import Part, Pool, Turn
from gguf_widgets.demo.sentences.texts import section

QUESTIONS = Pool(section("copying", "questions"))
FIELD_QUESTIONS = Pool(section("copying", "field_questions"))


def turn(rng: Random, part: Part) -> Turn:
    """Ask to repeat a few words, or to read one field of a small form."""
    if rng.random() < 0.4:
        fields = {
            "name": names.full_name(rng, part),
            "item": names.item(rng, part),
            "city": names.city(rng, part),
            "number": str(rng.randint(1, 999)),
        }
        keys = rng.sample(list(fields), rng.randint(2, 4))
        form = rng.choice(("\n", ", ", "; ")).join(f"{key}: {fields[key]}" for key in keys)
        key = rng.choice(keys)
        return Turn(FIELD_QUESTIONS.pick(rng, part).format(f=form, k=key), fields[key])
    makers = (
        names.first_name,
        names.full_name,
        names.city,
        names.item,
        lambda r, _: str(r.randint(0, 9999)),
        lambda r, _: names.invented_word(r),
    )
    text = " ".join(rng.choice(makers)(rng, part) for _ in range(rng.randint(1, 5)))
    return Turn(QUESTIONS.pick(rng, part).format(t=text), text)
