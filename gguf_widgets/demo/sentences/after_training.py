"""Reviews and orders in wordings that were written after the shipped model had been trained.

Promises: nobody who wrote the training templates could know these, and no choice in training was
made by them, so they tell best what to expect of a new wording. The opinion words, names and goods
are known ones.

Leaves to others: the templates that training kept back (`base.Pool`), which were written together
with those it saw and are therefore easier.
"""

from __future__ import annotations

import json
from random import Random

from gguf_widgets.demo.sentences import orders, sentiment
from gguf_widgets.demo.sentences.base import Turn
from gguf_widgets.demo.sentences.texts import section


def review_turn(rng: Random) -> Turn:
    """Return a question about a review, and the label."""
    label = rng.choice(sentiment.LABELS)
    frames = section("after_training", f"review_{label}")
    text = sentiment.filled(rng, lambda: rng.choice(frames))
    question = rng.choice(section("after_training", "review_questions"))
    return Turn(question.format(review=text), label)


def order_turn(rng: Random) -> Turn:
    """Return a question about an order, and the JSON."""
    words, found = orders.facts(rng, "held_out")
    text = rng.choice(section("after_training", "orders")).format(
        name=found["name"], n=words, item=found["item"], city=found["city"]
    )
    question = rng.choice(section("after_training", "order_questions"))
    return Turn(question.format(order=text), json.dumps(found))
