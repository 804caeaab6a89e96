"""The result of a run as a DataFrame.

Promises: the table as it was given, its index and order kept, with the new columns behind it, each
of its type; a row that has no result yet, was skipped or failed is there like any other. With one
model and one sample a row of the table is a row of the result; with several it is several (long
form), told apart by ``model`` and ``sample``. Leaves to others: reading replies (`output`).

The columns behind the table's own
----------------------------------
``model``, ``sample``
    Only where there are several: the model's name; which of the `n` samples, from 0.
the output's columns
    As `Output` names them; with named prompts, by the prompt's name.
``<output>.p.<choice>``
    Of a choice with at most 20: the probability of each. With more, ``<output>.probabilities``
    holds all of them as a dict.
``certainty``
    From 0 to 1; what it means is in `Output.certainty`.
``status``
    "done", "failed", "skipped" or "waiting".
``error``
    Why it failed or was skipped, in words.
``finish_reason``, ``num_prompt_tokens``, ``num_cached_tokens``, ``num_completion_tokens``,
``total_s``, ``ttft_s``, ``attempts``, ``seed``
    See `Usage` and `Timings`; times are missing where the answer was that of an equal row.
``edited``
    Only if a value was changed by hand: True in those rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from gguf_widgets.batch.spec import Prompt, Spec
from gguf_widgets.batch.table_rows import frame_of
from gguf_widgets.core.errors import InvalidValueError
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Run, Task, TaskStatus

__all__ = ["check_names", "result_frame", "result_names"]

_STRETCH: Final = 5000
_MOST_PROBABILITIES: Final = 20

_Get = Callable[[Task], Any]

_NO_ERROR: Final[dict[str, Any]] = {"message": None}

# What every run has: name, dtype, and where it comes from.
_FACTS: Final[tuple[tuple[str, str, _Get], ...]] = (
    ("certainty", "Float64", lambda task: task.outcome.certainty),
    ("status", "category", lambda task: task.outcome.status.value),
    ("error", "string", lambda task: (task.outcome.error or _NO_ERROR)["message"]),
    ("finish_reason", "category", lambda task: _text(task.outcome.finish_reason)),
    ("num_prompt_tokens", "Int64", lambda task: _of(task.outcome.usage, "num_prompt_tokens")),
    ("num_cached_tokens", "Int64", lambda task: _of(task.outcome.usage, "num_cached_tokens")),
    (
        "num_completion_tokens",
        "Int64",
        lambda task: _of(task.outcome.usage, "num_completion_tokens"),
    ),
    ("total_s", "Float64", lambda task: _of(task.outcome.timings, "total_s")),
    ("ttft_s", "Float64", lambda task: _of(task.outcome.timings, "ttft_s")),
    ("attempts", "Int64", lambda task: task.outcome.attempts),
    ("seed", "Int64", lambda task: task.outcome.seed),
)
_CATEGORIES: Final = {
    "status": [status.value for status in TaskStatus],
    "finish_reason": ["stop", "length", "aborted", "error"],
}


def result_names(spec: Spec) -> list[str]:
    """Return the names of the columns that the result has behind the table's own."""
    names = []
    if len(spec.models) > 1:
        names.append("model")
    if spec.num_samples > 1:
        names.append("sample")
    for prompt in spec.prompts:
        names += [prompt.column(column.name) for column in prompt.output.columns]
        names += [name for name, _ in _probability_columns(prompt)]
    for prompt in spec.prompts:
        names += [_fact_name(prompt, name) for name, _, _ in _FACTS]
    return [*names, "edited"]


def check_names(columns: Sequence[str], spec: Spec) -> None:
    """Refuse, before anything runs, a table with columns of names that the result needs.

    Raises
    ------
    InvalidValueError
    """
    names = result_names(spec)
    taken = [name for name in columns if name in set(names)]
    if taken:
        shown = ", ".join(f'"{name}"' for name in taken[:5])
        raise InvalidValueError(
            f"The table has a column called {shown}, and the result needs that name for a column "
            "of its own. Rename it first: df.rename(columns={...}).",
            columns=taken,
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidValueError(
            f"Two columns of the result would be called {twice[0]!r}. Give the prompt or the part "
            "of the schema another name.",
            columns=twice,
        )


def result_frame(run: Run, spec: Spec, tasks: RunTasks) -> Any:
    """Return the table with what has become of it."""
    import pandas as pd

    shape = run.shape
    stretches = range(0, shape.num_rows, _STRETCH)
    rows = (data for start in stretches for data in tasks.rows(start, start + _STRETCH))
    table = frame_of(run.columns, rows)
    lines = [
        (row, model, sample)
        for row in range(shape.num_rows)
        for model in range(shape.num_models)
        for sample in range(shape.num_samples)
    ]
    if len(lines) > shape.num_rows:
        table = table.iloc[[row for row, _, _ in lines]]
    ended: dict[int, Task] = {}
    for start in range(0, shape.num_tasks, _STRETCH):
        ended |= tasks.tasks(start, start + _STRETCH)
    new: dict[str, Any] = {}
    if shape.num_models > 1:
        names = [model.name for model in spec.models]
        labels = [names[model] for _, model, _ in lines]
        new["model"] = pd.Series(pd.Categorical(labels, categories=list(dict.fromkeys(names))))
    if shape.num_samples > 1:
        new["sample"] = pd.Series([sample for _, _, sample in lines], dtype="Int64")
    found = [
        [ended.get(shape.number(row, i, model, sample)) for row, model, sample in lines]
        for i in range(shape.num_prompts)
    ]
    for prompt, column in zip(spec.prompts, found, strict=True):
        new |= _outputs(prompt, column)
    for prompt, column in zip(spec.prompts, found, strict=True):
        new |= _facts(prompt, column)
    is_edited = [
        any(task is not None and task.edit is not None for task in line)
        for line in zip(*found, strict=True)
    ]
    if any(is_edited):
        new["edited"] = pd.Series(is_edited, dtype="boolean")
    made = pd.DataFrame({name: series.array for name, series in new.items()}, index=table.index)
    return pd.concat([table, made], axis=1)


def _outputs(prompt: Prompt, column: Sequence[Task | None]) -> dict[str, Any]:
    """Return the columns that were read from the replies, by name."""
    import pandas as pd

    values = [(task.values or {}) if task is not None else {} for task in column]
    new = {}
    for one in prompt.output.columns:
        series = prompt.output.to_series(one.name, [value.get(one.name) for value in values])
        new[prompt.column(one.name)] = series
    chances = [(task.outcome.probabilities or {}) if task else {} for task in column]
    for name, choice in _probability_columns(prompt):
        if choice is None:
            new[name] = pd.Series([one or None for one in chances], dtype="object")
        else:
            new[name] = pd.Series([one.get(choice) for one in chances], dtype="Float64")
    return new


def _facts(prompt: Prompt, column: Sequence[Task | None]) -> dict[str, Any]:
    """Return the columns that every run has."""
    import pandas as pd

    new = {}
    for name, dtype, get in _FACTS:
        waiting = TaskStatus.WAITING.value if name == "status" else None
        listed = [waiting if task is None else get(task) for task in column]
        kind: Any = pd.CategoricalDtype(_CATEGORIES[name]) if dtype == "category" else dtype
        new[_fact_name(prompt, name)] = pd.Series(listed, dtype=kind)
    return new


def _fact_name(prompt: Prompt, name: str) -> str:
    return f"{prompt.name}.{name}" if prompt.name else name


def _probability_columns(prompt: Prompt) -> list[tuple[str, str | None]]:
    """Return the names of the columns with probabilities, each with its choice; None is all."""
    texts = prompt.output.choice_texts
    if not texts:
        return []
    name = prompt.column(prompt.output.columns[0].name)
    if len(texts) > _MOST_PROBABILITIES:
        return [(f"{name}.probabilities", None)]
    return [(f"{name}.p.{text}", text) for text in texts]


def _of(value: Any, name: str) -> Any:
    return None if value is None else getattr(value, name)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
