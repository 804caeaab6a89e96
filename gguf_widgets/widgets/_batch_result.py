"""What came of a run's rows, as the page asks for it: a window, one row, edits.

Promises: a page gets the rows that it shows and no others; what it asks for is checked and bounded;
the whole table is read only for a download. Leaves to others: finding rows (`core.store.
batch_window`), the run (`batch.run`), files (`batch.files`), the look (static/_batch_grid.js).
"""

from __future__ import annotations

import json
from typing import Any, Final

from gguf_widgets.batch.output import Output
from gguf_widgets.batch.output_column import Column, checked
from gguf_widgets.batch.run import BatchRun
from gguf_widgets.batch.table_rows import row_of
from gguf_widgets.core.errors import GgufWidgetsError, InvalidValueError
from gguf_widgets.core.format import format_duration, format_rate
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import RunStatus, Task
from gguf_widgets.core.store.batch_window import BatchWindow, WindowQuery, WindowRow
from gguf_widgets.core.store.store import Store
from gguf_widgets.widgets._batch_cells import shown, whole_text
from gguf_widgets.widgets._batch_images import still_allowed
from gguf_widgets.widgets._batch_pictures import Pictures

__all__ = ["Result", "columns_view", "edited_values", "is_under_way"]

_MOST_ROWS: Final = 200  # in one answer: a tall screen shows sixty
_STATUSES: Final = (None, "done", "failed", "skipped", "waiting")
_ALWAYS: Final = ("row", "certainty", "total_s")
_SHOWN_PROBABILITIES: Final = 20
_TRUTH: Final = {"yes": True, "true": True, "no": False, "false": False}


def columns_view(run: BatchRun, inputs: list[str]) -> dict[str, Any]:
    """Return the grid's columns: those that the prompt uses, then the new ones, then the rest."""
    spec = run.spec
    used = [name for name in spec.columns_used(inputs) if name in inputs]
    new = [
        {"name": prompt.column(column.name), "kind": column.kind}
        for prompt in spec.prompts
        for column in prompt.output.columns
    ]
    has_certainty = any(
        prompt.output.choice_texts or spec.sampling.get("logprobs") for prompt in spec.prompts
    )
    return {
        "used": used,
        "new": new,
        "other": [name for name in inputs if name not in used],
        "hasCertainty": has_certainty,
        "models": [one.name for one in spec.models] if len(spec.models) > 1 else [],
        "samples": spec.num_samples,
        "prompts": [one.name for one in spec.prompts] if len(spec.prompts) > 1 else [],
    }


class Result:
    """The rows of one run.

    Parameters
    ----------
    run : BatchRun
    store : Store
    inputs : list of str
        The table's own columns.
    pictures : Pictures
        For the prompt of a row.
    """

    def __init__(self, run: BatchRun, store: Store, inputs: list[str], pictures: Pictures) -> None:
        self.run, self._inputs, self._pictures = run, inputs, pictures
        self._window = BatchWindow(store, run.id)
        self._tasks = RunTasks(store, run.id)
        self._shape = BatchRuns(store).get(run.id).shape
        names = {
            prompt.column(c.name) for prompt in run.spec.prompts for c in prompt.output.columns
        }
        self._new = names

    # -- rows -------------------------------------------------------------------------------------

    def changes(self) -> int:
        """Return a number that grows whenever a row changes."""
        return self._window.changes()

    def page(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return the rows that a page shows.

        Parameters
        ----------
        content : dict
            ``query`` (status, words, where, sort, descending), ``start`` and ``stop``.

        Raises
        ------
        InvalidValueError
        """
        given = content.get("query")
        selection = self._window.select(self._query(given if isinstance(given, dict) else {}))
        start, stop = content.get("start", 0), content.get("stop", 0)
        if not isinstance(start, int) or not isinstance(stop, int) or start < 0:
            raise InvalidValueError("Rows are asked for by two whole numbers.")
        stop = min(stop, start + _MOST_ROWS, selection.num_rows)
        rows = self._window.page(selection, start, stop) if stop > start else []
        return {
            "total": selection.num_rows,
            "start": start,
            "rows": [self._row_view(row) for row in rows],
        }

    def _query(self, given: dict[str, Any]) -> WindowQuery:
        status = given.get("status") or None
        words, sort = given.get("words", ""), given.get("sort", "row")
        where = given.get("where") or {}
        known = {*_ALWAYS, *self._inputs, *self._new}
        if status not in _STATUSES:
            raise InvalidValueError(f"There is no status {status!r:.40}.")
        if not isinstance(words, str) or len(words) > 500:
            raise InvalidValueError("What is searched for is a text of at most 500 characters.")
        if sort not in known:
            raise InvalidValueError(f"There is no column {sort!r:.60} to sort by.")
        if not isinstance(where, dict) or not set(where) <= known - set(_ALWAYS):
            raise InvalidValueError("Rows are chosen by the values of known columns.")
        return WindowQuery(
            status=status,
            words=words.strip(),
            where=where,
            sort=sort,
            descending=bool(given.get("descending")),
        )

    def _row_view(self, row: WindowRow) -> dict[str, Any]:
        return {
            "number": row.number,
            "row": row.row,
            "prompt": row.prompt,
            "model": row.model,
            "sample": row.sample,
            "status": str(row.status),
            "values": {name: shown(value) for name, value in row.values.items()},
            "outputs": {name: shown(value) for name, value in row.outputs.items()},
            "certainty": row.certainty,
            "error": shown(row.error),
            "edited": bool(row.edited),
        }

    # -- one row ----------------------------------------------------------------------------------

    def whole(self, number: Any) -> dict[str, Any]:
        """Return everything about one task.

        Raises
        ------
        InvalidValueError
            There is none with this number.
        """
        run = self.run
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InvalidValueError("A row is asked for by its number.")
        row, place, model, sample = self._shape.place(number)
        found = self._tasks.rows(row, row + 1)
        if not found:
            raise InvalidValueError(f"The table has no row {row + 1:,}.")
        values = row_of(self._inputs, found[0])
        task = self._tasks.tasks(number, number + 1).get(number)
        prompt = run.spec.prompts[place]
        try:
            images = still_allowed(run.spec.images)
            asked = self._pictures.asked(prompt.template, run.spec.missing, images, values)
            messages, fault = [_message_view(one) for one in asked.views], ""
        except GgufWidgetsError as error:
            messages, fault = [], error.message
        told: dict[str, Any] = {
            "number": number,
            "row": row,
            "values": [[name, whole_text(value)] for name, value in values.items()],
            "messages": messages,
            "fault": fault,
            "prompt": prompt.name,
            "model": run.spec.models[model].name if len(run.spec.models) > 1 else "",
            "sample": sample if run.spec.num_samples > 1 else None,
            "columns": [
                _column_view(column, prompt.column(column.name)) for column in prompt.output.columns
            ],
            "status": "waiting",
        }
        if task is None:
            return told
        return told | _task_view(task)

    # -- edits ------------------------------------------------------------------------------------

    def edit(self, number: Any, given: Any) -> None:
        """Put what a person typed in place of what the model gave; None takes it back."""
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidValueError("A row is changed by its number.")
        if given is None:
            self.run.edit(number, None)
            return
        prompt = self.run.spec.prompts[self._shape.place(number)[1]]
        self.run.edit(number, edited_values(prompt.output, given))


def edited_values(output: Output, given: Any) -> dict[str, Any]:
    """Read what a person typed into the columns of a row.

    Raises
    ------
    InvalidValueError
        With ``column`` in its details.
    """
    if not isinstance(given, dict):
        raise InvalidValueError("What was typed comes by column.")
    values = {}
    for name, text in given.items():
        column = output.column(str(name))
        if not isinstance(text, str) or len(text) > 1_000_000:
            raise InvalidValueError(f"{name}: write a text.", column=name)
        try:
            values[column.name] = checked(column, _typed(column, text))
        except (GgufWidgetsError, ValueError) as error:
            raise InvalidValueError(f"{name}: {_reason(column, text)}", column=name) from error
    return values


def _typed(column: Column, text: str) -> Any:
    plain = text.strip()
    if column.kind == "text":
        return text
    if not plain:
        return None
    if column.kind == "category":
        for choice in column.choices:
            if _same(choice, plain):
                return choice
        raise ValueError(plain)
    if column.kind == "boolean":
        if plain.lower() not in _TRUTH:
            raise ValueError(plain)
        return _TRUTH[plain.lower()]
    if column.kind == "integer":
        return int(plain)
    if column.kind == "number":
        return float(plain)
    if column.kind == "object":
        return json.loads(plain)
    return plain


def _same(choice: Any, text: str) -> bool:
    return (shown(choice) if isinstance(choice, bool) else str(choice)) == text


def _reason(column: Column, text: str) -> str:
    kinds = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "yes or no",
        "date": "a date, such as 2026-03-31",
        "datetime": "a date with a time, such as 2026-03-31T14:05:00",
        "instant": "a date with a time and zone, such as 2026-03-31T14:05:00Z",
        "object": "JSON",
    }
    wanted = kinds.get(column.kind)
    if column.kind == "category":
        wanted = "one of: " + ", ".join(str(one) for one in column.choices[:20])
    return f'"{text.strip():.60}" is not {wanted or "what the column takes"}.'


def _message_view(view: dict[str, Any]) -> dict[str, Any]:
    told = {"role": view["role"], "content": view["text"]}
    return {**told, "parts": view["parts"]} if "parts" in view else told


def _column_view(column: Column, shown_name: str) -> dict[str, Any]:
    choices = column.choices[:200]
    return {
        "name": column.name,
        "label": shown_name,
        "kind": column.kind,
        "choices": [shown(one) if isinstance(one, bool) else str(one) for one in choices],
    }


def _task_view(task: Task) -> dict[str, Any]:
    outcome = task.outcome
    facts = []
    if outcome.usage is not None:
        usage = outcome.usage
        cached = f" ({usage.num_cached_tokens:,} known already)" if usage.num_cached_tokens else ""
        facts.append(["Prompt", f"{usage.num_prompt_tokens:,} tokens{cached}"])
        facts.append(["Reply", f"{usage.num_completion_tokens:,} tokens"])
    if outcome.timings is not None:
        timings = outcome.timings
        waited = f", after {format_duration(timings.queue_s)} of waiting its turn"
        took = format_duration(timings.total_s - timings.queue_s)
        facts.append(["Time", took + (waited if timings.queue_s >= 0.01 else "")])
        if timings.decode_tok_per_s:
            facts.append(["Speed", format_rate(timings.decode_tok_per_s)])
    elif outcome.status == "done":
        facts.append(["Time", "none: the same question had been answered"])
    facts.append(["Asked", "once" if outcome.attempts == 1 else f"{outcome.attempts} times"])
    if outcome.finish_reason is not None:
        ends = {
            "stop": "by itself",
            "length": "cut off: the longest answer allowed, or the context is full",
            "aborted": "stopped",
            "error": "with an error",
        }
        facts.append(["Ended", ends.get(str(outcome.finish_reason), str(outcome.finish_reason))])
    if outcome.seed is not None:
        facts.append(["Seed", str(outcome.seed)])
    chances = sorted((outcome.probabilities or {}).items(), key=lambda one: -one[1])
    return {
        "status": str(outcome.status),
        "reply": outcome.text,
        "read": _texts(outcome.values),
        "edit": None if task.edit is None else _texts(task.edit),
        "probabilities": [[name, value] for name, value in chances[:_SHOWN_PROBABILITIES]],
        "moreProbabilities": max(0, len(chances) - _SHOWN_PROBABILITIES),
        "certainty": outcome.certainty,
        "facts": facts,
        "error": None if outcome.error is None else outcome.error["message"],
    }


def _texts(values: dict[str, Any] | None) -> dict[str, str | None] | None:
    return None if values is None else {name: whole_text(value) for name, value in values.items()}


def is_under_way(status: RunStatus) -> bool:
    """Say whether a process is at a run."""
    return status in (RunStatus.RUNNING, RunStatus.PAUSED)
