"""Comparisons with made-up answers, put into the store as a run would: no model is loaded.

Not a test and no fixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.compare.comparison import Comparison
from gguf_widgets.compare.making import prepare
from gguf_widgets.compare.prompts import run_table
from gguf_widgets.compare.records import Records
from gguf_widgets.compare.scoring import AnswerScoring
from gguf_widgets.compare.sides import Side
from gguf_widgets.compare.types import ComparisonStatus
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, RunStatus, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import FinishReason, Timings, Usage


def made_up(
    store: Store,
    answers: dict[str, Sequence[str | None]],
    *,
    prompts: Sequence[Any] | None = None,
    references: Sequence[Any] | None = None,
    scores: Any = (),
    **more: Any,
) -> Comparison:
    """Return a comparison that has ended, with these answers by the sides' labels; None failed."""
    num = len(next(iter(answers.values())))
    made = prepare(
        [Side("demo", label=label) for label in answers],
        list(prompts) if prompts is not None else [f"Prompt {i}" for i in range(num)],
        references=references,
        scores=scores,
        store=store,
        **more,
    )
    definition = made.definition
    rows = [data for data, _ in made.raw_prompts()]
    found = []
    for side, texts in zip(definition.sides, answers.values(), strict=True):
        prompt = side.prompt(definition.common)
        table = run_table(definition.columns, rows, made._order, prompt)
        reference = ModelRef("demo", "/models/demo.gguf", "1-x")
        spec = Spec((Prompt(prompt.template, Output.parse(None)),), (reference,), {})
        run = BatchRuns(store).create(spec.to_dict(), table.columns, title=side.label)
        tasks = RunTasks(store, run.id)
        tasks.add_rows(table.as_json())
        outcomes = [_outcome(i, texts[int(number)]) for i, number in enumerate(made._order)]
        tasks.save([(one, f"{one.number:032x}") for one in outcomes])
        BatchRuns(store).set_status(run.id, RunStatus.FINISHED)
        side.run_id, side.path = run.id, reference.path
        side.busy_s, side.num_tokens, side.memory_bytes = 2.0, 100 * (1 + len(found)), 10**8
        side.file_bytes, side.quantization = 5 * 10**7, "Q8_0"
        found.append(side)
    records = Records(store)
    definition.sides = found
    records.put_data(made.id, definition.to_dict())
    made._known = made._with(records.get(made.id), definition)
    _score(made, records)
    records.let_go(made.id, ComparisonStatus.FINISHED)
    return made


def _outcome(number: int, text: str | None) -> Outcome:
    if text is None:
        return Outcome(
            number=number,
            status=TaskStatus.FAILED,
            error={"kind": "RequestError", "message": "It failed.", "details": {}},
            finish_reason=FinishReason.ERROR,
        )
    size = max(1, len(text.split()))
    return Outcome(
        number=number,
        status=TaskStatus.DONE,
        text=text,
        values={"reply": text},
        finish_reason=FinishReason.STOP,
        usage=Usage(num_prompt_tokens=5, num_cached_tokens=0, num_completion_tokens=size),
        timings=Timings(
            queue_s=0.5, prefill_s=0.1, decode_s=0.1 * size, ttft_s=0.6, total_s=0.6 + 0.1 * size
        ),
        seed=7,
    )


def _score(made: Comparison, records: Records) -> None:
    scores = [
        (row.number, side, one.name, one.score(answer, row.reference, row.values))
        for row in made.rows()
        for side, answer in enumerate(row.answers)
        for one in made.scorings
        if isinstance(one, AnswerScoring) and answer.status == "done"
    ]
    records.save_scores(made.id, scores)
