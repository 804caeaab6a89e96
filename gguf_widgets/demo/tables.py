"""Small tables with the right answers beside the questions, for tutorials and batch runs.

Promises: plain lists of dictionaries (``pandas.DataFrame(reviews(20))`` makes a table), the same
for the same seed, from templates that the demo model was not trained on, unless ``seen=True``.

Leaves to others: the sentences (`sentences`).
"""

from __future__ import annotations

from random import Random

from gguf_widgets.demo.sentences import orders as order_sentences
from gguf_widgets.demo.sentences import sentiment
from gguf_widgets.demo.sentences.base import Part


def reviews(n: int = 20, seed: int = 0, *, seen: bool = False) -> list[dict[str, str]]:
    """Make a table of reviews with their labels.

    Parameters
    ----------
    n
        How many rows.
    seed
        Another seed, other reviews.
    seen
        Use the templates that the demo model was trained on instead of those it never saw.

    Returns
    -------
    list of dict
        Rows with the columns ``review`` and ``label`` ("positive", "negative" or "neutral").
    """
    rng, part = Random(f"reviews {seed}"), _part(seen)
    rows = (sentiment.review(rng, part) for _ in range(n))
    return [{"review": text, "label": label} for text, label in rows]


def orders(n: int = 20, seed: int = 0, *, seen: bool = False) -> list[dict[str, str | int | None]]:
    """Make a table of order sentences with what is in them.

    Parameters
    ----------
    n
        How many rows.
    seed
        Another seed, other orders.
    seen
        Use the templates that the demo model was trained on instead of those it never saw.

    Returns
    -------
    list of dict
        Rows with the columns ``order``, ``name``, ``quantity``, ``item`` and ``city``.
    """
    rng, part = Random(f"orders {seed}"), _part(seen)
    rows = (order_sentences.order(rng, part) for _ in range(n))
    return [{"order": text, **facts} for text, facts in rows]


def _part(seen: bool) -> Part:
    return "train" if seen else "held_out"
