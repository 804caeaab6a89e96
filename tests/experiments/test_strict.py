"""500 rows in strict mode are the same in batches of 1, 8 and 32, to the last token. About 20 s."""

from __future__ import annotations

import itertools

import pandas as pd

from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.store.store import Store
from gguf_widgets.experiments import Experiment

NUM_ROWS = 500
THINGS = ("food", "room", "film", "book", "bus", "bed", "shop", "game", "phone", "garden")
WORDS = ("great", "awful", "late", "fine", "too small")


def reviews(count: int) -> pd.DataFrame:
    """Rows that all differ and have different lengths, so that batches mix them."""
    made = (
        f"The {thing} was {word}, and we came {number} times{' in the rain' * (number % 4)}."
        for number in itertools.count(1)
        for thing in THINGS
        for word in WORDS
    )
    return pd.DataFrame({"review": list(itertools.islice(made, count))})


def test_strict_rows_do_not_depend_on_their_neighbours(manager: ModelManager, store: Store) -> None:
    model = manager.load("demo", n_ctx=4096, n_seq_max=8, n_threads=1)
    with Experiment("Strict", store=store) as experiment:
        model.map(
            reviews(NUM_ROWS),
            "Write about this review: {review}",
            max_tokens=12,
            temperature=0.9,  # a choice by chance shows the smallest change of a probability
            ignore_eos=True,
            reproducible=True,
            progress=False,
        )
    (item,) = experiment.items
    assert len({tuple(answer.tokens or ()) for answer in item.answers}) > 100  # type: ignore[union-attr]
    model.unload()
    for n_seq_max in (1, 8, 32):
        replay = experiment.replay(load={"n_seq_max": n_seq_max}, manager=manager)
        assert (replay.num_same, replay.num_different, replay.num_missing) == (NUM_ROWS, 0, 0)
        assert replay.words.startswith("All 500 answers are the same, to the last token.")
        named = [change.name for change in replay.changes]
        assert named == ([] if n_seq_max == 8 else ["n_seq_max"])
