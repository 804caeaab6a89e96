"""A batch run of many rows, as a finished one is in the store, without a model.

Promises: the rows are the same for the same number; texts as long as short reviews, of words of
which some are in most rows and some in few; labels with their certainty, some of them failed.
Leaves to others: who looks at it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.template import Template
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, Usage

__all__ = ["FREQUENT", "RARE", "fill"]

_TEXT = (
    "the and was with this very good chair lamp price table quick again friend broke would great"
    " never fine love after café cheap small wrong colour box late soft light heavy"
)
FREQUENT = _TEXT.split()
RARE = [f"zeppelin{number:02}" for number in range(40)]
COLUMNS = [
    {"name": "review", "dtype": "str"},
    {"name": "stars", "dtype": "int64"},
    {"name": "price", "dtype": "float64"},
    {"name": "who", "dtype": "str"},
    {"name": None, "dtype": "int64", "index": True},
]
_WORDS_A_ROW = 24
_PORTION = 2000


def fill(store: Store, num_rows: int) -> str:
    """Put a run into a store, and return its id."""
    rng = random.Random(num_rows)  # noqa: S311 - it keeps no secret
    prompt = Prompt(Template.parse("Good or bad? {review}"), Output.parse(["good", "bad", "mixed"]))
    spec = Spec((prompt,), (ModelRef("demo", "demo", ""),), {"temperature": 0.0}, seed=1)
    run = BatchRuns(store).create(spec.to_dict(), COLUMNS, title=f"{num_rows:,} reviews")
    tasks = RunTasks(store, run.id)
    tasks.add_rows(_rows(rng, num_rows))
    portion = []
    for number in range(num_rows):
        portion.append((_outcome(rng, number), f"{number:032x}"))
        if len(portion) == _PORTION:
            tasks.save(portion)
            portion = []
    tasks.save(portion)
    BatchRuns(store).set_status(run.id, RunStatus.FINISHED)
    return run.id


def _rows(rng: random.Random, num_rows: int) -> Iterator[str]:
    for number in range(num_rows):
        words = rng.choices(FREQUENT, k=_WORDS_A_ROW)
        if rng.random() < 0.1:
            words[rng.randrange(_WORDS_A_ROW)] = rng.choice(RARE)
        if rng.random() < 0.1:
            words[rng.randrange(_WORDS_A_ROW)] += ".\n"
        who = f"customer {rng.randrange(5000)}"
        values = [" ".join(words), rng.randrange(6), round(rng.random() * 100, 2), who, number]
        yield json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _outcome(rng: random.Random, number: int) -> Outcome:
    sure = rng.random()
    label = rng.choice(["good", "good", "bad", "mixed"])
    is_failed = rng.random() < 0.02
    return Outcome(
        number=number,
        status=TaskStatus.FAILED if is_failed else TaskStatus.DONE,
        text=None if is_failed else label,
        values=None if is_failed else {"reply": label},
        error={"kind": "RowError", "message": "The row is bad.", "details": {}}
        if is_failed
        else None,
        finish_reason=None if is_failed else FinishReason.STOP,
        usage=Usage(num_prompt_tokens=70, num_cached_tokens=30, num_completion_tokens=2),
        timings=Timings(
            queue_s=0.1, prefill_s=0.1, decode_s=0.1, ttft_s=0.2, total_s=0.3 + sure / 10
        ),
        seed=number,
        probabilities=None if is_failed else {label: sure},
        certainty=None if is_failed else sure,
    )
