"""OpenAI's batch requests as a run, and its results in their layout.

Promises: each request is asked with its own messages, settings and number of replies; every request
has one line among the results, also one that failed or has not been asked yet. Leaves to others:
the files' layout (`files`), the questions (`questions.RequestAsker`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gguf_widgets.batch import files
from gguf_widgets.batch.output import Output
from gguf_widgets.batch.spec import MAX_SAMPLES, ModelRef, Prompt, Spec
from gguf_widgets.batch.table_rows import Table, row_of
from gguf_widgets.batch.template import Template
from gguf_widgets.core.errors import BatchError, InvalidValueError, WireError, to_wire
from gguf_widgets.core.model import Model
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, Run, Task, TaskStatus
from gguf_widgets.core.types import (
    FinishReason,
    Reply,
    SamplingSettings,
    Timings,
    Usage,
)

__all__ = ["request_spec", "save_requests", "table_of_requests"]

_STRETCH_ROWS: Final = 1000
_NOTHING: Final = Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0, ttft_s=0.0, total_s=0.0)


def table_of_requests(source: files.RowSource) -> tuple[Table, int]:
    """Return requests as a run's table, and how many replies the one that asks for most wants.

    Raises
    ------
    InvalidValueError
        The file is another one.
    TableFileError
        It cannot be read.
    """
    if source.format is not files.Format.OPENAI:
        raise InvalidValueError(f"{source.name} holds no requests of OpenAI's batch interface.")
    place = source.columns.index("settings")
    most = max((row[place]["n"] for row in source.tuples()), default=1)
    columns = [{"name": name, "dtype": "object"} for name in source.columns]
    return Table(columns, source.tuples(), source.num_rows), min(most, MAX_SAMPLES)


def request_spec(
    models: Sequence[Model], num_samples: int, sampling: Mapping[str, Any] | None = None
) -> Spec:
    """Return what a run over requests is asked to do.

    Parameters
    ----------
    models : sequence of Model
        Whatever model a request names, these are asked.
    num_samples : int
    sampling : dict, optional
        For what a request does not say; the temperature is 0 unless told.

    Raises
    ------
    InvalidValueError
    """
    settings = {"temperature": 0.0, **(sampling or {})}
    SamplingSettings.from_keywords(**settings)
    return Spec(
        prompts=(Prompt(Template.parse("{prompt}"), Output.parse(None)),),
        models=tuple(ModelRef.of(model) for model in models),
        sampling=settings,
        num_samples=num_samples,
        requests=True,
    )


def save_requests(
    path: str | os.PathLike[str], run: Run, spec: Spec, tasks: RunTasks
) -> files.Written:
    """Write the results of a run over requests in OpenAI's layout, those of its first model.

    Raises
    ------
    TableFileError
        It cannot be written; what was at the path before is untouched.
    """
    return files.write_results(path, _results(run, spec, tasks))


def _results(run: Run, spec: Spec, tasks: RunTasks) -> Iterator[files.OpenAiResult]:
    names = [str(column["name"]) for column in run.columns]
    shape = run.shape
    for start in range(0, shape.num_rows, _STRETCH_ROWS):
        stop = min(start + _STRETCH_ROWS, shape.num_rows)
        found = tasks.tasks(start * shape.per_row, stop * shape.per_row)
        for row, data in enumerate(tasks.each_row(start, stop), start):
            values = row_of(names, data)
            wanted = min(values["settings"].get("n", 1), shape.num_samples)
            numbers = [shape.number(row, sample=sample) for sample in range(wanted)]
            yield _result(run, spec, values, [found.get(number) for number in numbers])


def _result(
    run: Run, spec: Spec, values: Mapping[str, Any], asked: Sequence[Task | None]
) -> files.OpenAiResult:
    ended = [task for task in asked if task is not None]
    error: WireError | None = None
    if len(ended) < len(asked):
        error = to_wire(BatchError("This request has not been answered yet.", problem="waiting"))
    for task in ended:
        if task.outcome.status is not TaskStatus.DONE:
            error = task.outcome.error or to_wire(BatchError("This request failed."))
    return files.OpenAiResult(
        custom_id=values["custom_id"],
        model=spec.models[0].name,
        replies=[] if error else [_reply(task.outcome) for task in ended],
        error=error,
        created_at=max((task.ended_at or 0.0 for task in ended), default=0.0),
        run_id=run.id,
    )


def _reply(outcome: Outcome) -> Reply:
    plain = Usage(num_prompt_tokens=0, num_cached_tokens=0, num_completion_tokens=0)
    return Reply(
        text=outcome.text or "",
        finish_reason=outcome.finish_reason or FinishReason.STOP,
        usage=outcome.usage or plain,
        timings=outcome.timings or _NOTHING,
        seed=outcome.seed or 0,
        logprobs=outcome.logprobs,
    )
