"""A batch run as a record has it: what was asked, the table, and what came of each row.

Promises: what is recorded is what the store holds, whoever carried the run out; the tokens of a row
are there if it was asked in this process while somebody listened (`RunEar`). Leaves to others:
doing it again (`replay_run`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from gguf_widgets.batch.question import Question
from gguf_widgets.batch.questions import Asker, RequestAsker
from gguf_widgets.batch.spec import Spec
from gguf_widgets.batch.table_rows import decoded, row_of
from gguf_widgets.core.presets import sampling_to_json
from gguf_widgets.core.record.tried import digest_of
from gguf_widgets.core.request_events import Prompt
from gguf_widgets.core.settings import SamplingSettings
from gguf_widgets.core.store.batch_runs import BatchRuns
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, Run, Shape, TaskStatus
from gguf_widgets.core.store.store import Store
from gguf_widgets.core.types import Reply
from gguf_widgets.experiments.document import to_plain
from gguf_widgets.experiments.values import Answer, RunItem, Status

__all__ = ["Heard", "RunEar", "answers_of", "run_item"]

_AT_ONCE: Final = 500  # rows whose questions are made at a time

_STATUS: Final[dict[TaskStatus, Status]] = {
    TaskStatus.DONE: "done",
    TaskStatus.FAILED: "failed",
    TaskStatus.SKIPPED: "skipped",
    TaskStatus.WAITING: "waiting",
}


class Heard(NamedTuple):
    """The tokens of one request of a run."""

    text: str
    tokens: list[int] | None
    prompt_tokens: list[int] | None


class RunEar:
    """Keeps the tokens of a run's requests, until its rows are recorded. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prompts: dict[str, list[int]] = {}
        self._heard: dict[tuple[str, int | None], Heard] = {}

    def prompt(self, prompt: Prompt, tokens: list[int] | None) -> None:
        """Note the tokens of a prompt."""
        if tokens is not None:
            with self._lock:
                self._prompts[_key(prompt.messages)] = tokens

    def reply(self, prompt: Prompt, reply: Reply) -> None:
        """Note the tokens of a reply."""
        key = _key(prompt.messages)
        with self._lock:
            read = self._prompts.get(key)
            self._heard[(key, reply.seed)] = Heard(reply.text, reply.tokens, read)

    def of(self, question: Question, seed: int | None, text: str | None) -> Heard | None:
        """Return what was heard of a question with this seed and answer."""
        key = _key(question.messages)
        with self._lock:
            found = self._heard.get((key, seed))
        return found if found is not None and found.text == text else None


def run_item(
    run_id: str,
    store: Store,
    models: Sequence[int],
    templates: Sequence[str | None],
    ear: RunEar | None = None,
) -> RunItem:
    """Return a run as it stands now.

    Parameters
    ----------
    run_id : str
    store : Store
    models : sequence of int
        The places of its models in the record.
    templates : sequence of str or None
        Digests of their chat templates.
    ear : RunEar, optional
        Who has heard its requests.
    """
    run, tasks = BatchRuns(store).get(run_id), RunTasks(store, run_id)
    spec = Spec.from_dict(run.spec)
    sampling = SamplingSettings.from_keywords(**{"temperature": 0.0, **spec.sampling})
    return RunItem(
        run_id=run.id,
        title=run.title,
        at=run.created_at,
        models=list(models),
        templates=list(templates),
        spec=to_plain(run.spec),
        sampling=to_plain(sampling_to_json(sampling.to_dict())),
        columns=to_plain(run.columns),
        rows=[json.loads(data) for data in tasks.each_row(0, run.shape.num_rows)],
        strict=sampling.reproducible,
        status=run.status.value,
        answers=list(answers_of(run, spec, tasks, ear)),
    )


def answers_of(run: Run, spec: Spec, tasks: RunTasks, ear: RunEar | None) -> Iterator[Answer]:
    """Yield what came of each task of a run, those that wait included, by number."""
    shape = run.shape
    names = [str(decoded(column["name"])) for column in run.columns if not column.get("index")]
    for start in range(0, shape.num_rows, _AT_ONCE):
        stop = min(start + _AT_ONCE, shape.num_rows)
        found = tasks.tasks(start * shape.per_row, stop * shape.per_row)
        asked: Mapping[int, Question] = {}
        if ear is not None and found:
            rows = [row_of(names, data) for data in tasks.each_row(start, stop)]
            asked = _questions(spec, shape, rows, start)
        for number in range(start * shape.per_row, stop * shape.per_row):
            task = found.get(number)
            if task is None:
                yield Answer(number=number, status="waiting")
                continue
            question = asked.get(number)
            yield _answer(task.outcome, ear, question)


def _questions(
    spec: Spec, shape: Shape, rows: Sequence[dict[str, Any]], first: int
) -> dict[int, Question]:
    """Return what the tasks of some rows ask the model."""
    kind = RequestAsker if spec.requests else Asker
    found: dict[int, Question] = {}
    for model in range(shape.num_models):
        askers = [kind(spec, prompt, model) for prompt in range(shape.num_prompts)]
        for row, values in enumerate(rows, first):
            for asker in askers:
                numbers = [
                    (sample, shape.number(row, asker.prompt, model, sample))
                    for sample in range(shape.num_samples)
                ]
                for _, item in asker.ask(values, numbers):
                    if isinstance(item, Question):
                        found[item.number] = item
    return found


def _answer(outcome: Outcome, ear: RunEar | None, question: Question | None) -> Answer:
    usage = outcome.usage
    heard = None
    if ear is not None and question is not None:
        heard = ear.of(question, outcome.seed, outcome.text)
    return Answer(
        number=outcome.number,
        status=_STATUS[outcome.status],
        text=outcome.text,
        tokens=heard.tokens if heard is not None else None,
        prompt_tokens=heard.prompt_tokens if heard is not None else None,
        finish_reason=outcome.finish_reason.value if outcome.finish_reason else None,
        seed=outcome.seed,
        num_prompt_tokens=usage.num_prompt_tokens if usage else None,
        num_cached_tokens=usage.num_cached_tokens if usage else None,
        num_completion_tokens=usage.num_completion_tokens if usage else None,
        values=to_plain(outcome.values),
        error=to_plain(outcome.error) if outcome.error is not None else None,
    )


def _key(messages: Any) -> str:
    return digest_of(msgspec.to_builtins(messages))
