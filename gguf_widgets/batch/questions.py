"""From the rows of a run to the questions that its model is asked.

Promises: each task that has not ended comes once; those of a stretch of the table that begin alike
come one behind the other, so that the model computes their beginning once; a row that cannot be
asked comes as what has become of it. Only a stretch of the table is in memory. Leaves to others:
asking (`runner`), what a template makes of a row (`template`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from gguf_widgets.batch.images import described, num_image_bytes
from gguf_widgets.batch.question import Answer, Known, Question
from gguf_widgets.batch.spec import ModelRef, Prompt, Spec
from gguf_widgets.batch.table_rows import row_of
from gguf_widgets.core.conversation_input import to_messages
from gguf_widgets.core.errors import InvalidValueError, RowError, to_wire
from gguf_widgets.core.store.batch_tasks import RunTasks
from gguf_widgets.core.store.batch_types import Outcome, Shape, TaskStatus
from gguf_widgets.core.types import Message, Reply

__all__ = ["questions"]

_STRETCH_ROWS: Final = 512
_STRETCH_CHARS: Final = 16_000_000  # of prompts that are held at once
_SEEDS: Final = 2**32 - 1  # the number itself would mean "draw one"


def questions(
    spec: Spec, tasks: RunTasks, shape: Shape, names: list[str], model: int
) -> Iterator[Question | Known]:
    """Yield what has not ended of one model's tasks.

    Parameters
    ----------
    spec : Spec
    tasks : RunTasks
    shape : Shape
        With the number of rows as it is now.
    names : list of str
        The table's columns.
    model : int
        Which of the run's models.
    """
    ended = np.zeros(shape.num_tasks, dtype=bool)
    for number in tasks.ended():
        ended[number] = True
    kind = RequestAsker if spec.requests else Asker
    askers = [kind(spec, i, model) for i in range(len(spec.prompts))]
    held: list[tuple[str, Question | Known]] = []
    num_chars = 0
    for start in range(0, shape.num_rows, _STRETCH_ROWS):
        stop = min(start + _STRETCH_ROWS, shape.num_rows)
        if ended[start * shape.per_row : stop * shape.per_row].all():
            continue
        for row, data in enumerate(tasks.each_row(start, stop), start):
            values = None
            for asker in askers:
                numbers = [
                    shape.number(row, asker.prompt, model, sample)
                    for sample in range(shape.num_samples)
                ]
                waiting = [(i, number) for i, number in enumerate(numbers) if not ended[number]]
                if not waiting:
                    continue
                values = row_of(names, data) if values is None else values
                found = asker.ask(values, waiting)
                held += found
                num_chars += sum(_size(*one) for one in found)
            if num_chars > _STRETCH_CHARS:
                yield from _in_order(held)
                held, num_chars = [], 0
        yield from _in_order(held)
        held, num_chars = [], 0


def _size(text: str, item: Question | Known) -> int:
    """Return about how much room an item takes, in characters."""
    return len(text) + (num_image_bytes(item.messages) if isinstance(item, Question) else 0)


def _in_order(held: list[tuple[str, Question | Known]]) -> Iterator[Question | Known]:
    held.sort(key=lambda one: one[0])  # stable: those that are all alike stay in the table's order
    return (item for _, item in held)


class Asker:
    """Makes the questions of one prompt to one model."""

    def __init__(self, spec: Spec, prompt: int, model: int) -> None:
        self.prompt = prompt
        self._prompt: Prompt = spec.prompts[prompt]
        self._spec = spec
        settings = {**spec.sampling, **self._prompt.output.sampling}
        given = settings.pop("seed", None)
        wanted = spec.sampling.get("logprobs")
        if wanted is not None and settings.get("logprobs") is not None:
            settings["logprobs"] = max(wanted, settings["logprobs"])
        self._sampling = settings
        self._seed: int | None = given
        self._is_greedy = float(settings.get("temperature", 0.0)) == 0.0
        # With a seed of the caller's each row has the same: then equal rows have equal replies.
        self._alike = self._is_greedy or given is not None
        self._base = _base_of(spec.models[model], self._prompt, settings)
        own = spec.models[model].identity
        if any(one.identity == own for one in spec.models[:model]):
            # The same file, loaded in another way (an adapter, say): it answers for itself.
            self._base.update(f"model {model}".encode())

    def ask(
        self, row: dict[str, Any], waiting: list[tuple[int, int]]
    ) -> list[tuple[str, Question | Known]]:
        """Return what is asked of a row, each with a text to put them in order by."""
        template, rule = self._prompt.template, self._spec.missing
        images = self._spec.images
        used = dict.fromkeys([*template.columns_used(row), *images.columns])
        reason = rule.reason_to_skip(row, used)
        if reason is not None:
            error = RowError(reason)
            return [("", _known(number, TaskStatus.SKIPPED, error)) for _, number in waiting]
        try:
            if images.columns:
                marked = template.render(images.marked(row), rule)
                messages = to_messages(images.placed(marked, row, template.columns))
            else:
                messages = template.render(row, rule)
        except (RowError, InvalidValueError) as error:
            return [("", _known(number, TaskStatus.FAILED, error)) for _, number in waiting]
        text = described(messages)
        return [(text, self._question(messages, text, *one)) for one in waiting]

    def _question(self, messages: list[Message], text: str, sample: int, number: int) -> Question:
        seed = self._seed_of(sample, number, self._seed)
        digest = self._base.copy()
        digest.update(text.encode())
        if not self._is_greedy:
            digest.update(f"seed {seed}".encode())
        return Question(
            number=number,
            key=digest.hexdigest(),
            messages=messages,
            sampling={**self._sampling, "seed": seed},
            read=self._read,
            alike=self._alike,
        )

    def _seed_of(self, sample: int, number: int, given: int | None) -> int:
        """Return a task's own seed: the same whenever and by whomever it is asked."""
        if given is not None:
            return (given + sample) % _SEEDS
        mixed = hashlib.blake2b(f"{self._spec.seed} {number}".encode(), digest_size=8).digest()
        return int.from_bytes(mixed, "little") % _SEEDS

    def _read(self, reply: Reply) -> Answer:
        output = self._prompt.output
        values = output.read(reply)
        found = output.probabilities(reply)
        if found is None:
            return Answer(values, certainty=output.certainty(reply))
        return Answer(values, dict(found.values), found.certainty)


class RequestAsker(Asker):
    """Makes the questions of rows that are requests: with messages and settings of their own.

    Such a row has ``messages``, ``settings`` (what `SamplingSettings` takes, and ``n``) and
    ``unsupported``, the names of what it asks for and cannot have; `files.read` makes them of
    OpenAI's batch requests. What a request does not say is as the run has it.
    """

    def ask(
        self, row: dict[str, Any], waiting: list[tuple[int, int]]
    ) -> list[tuple[str, Question | Known]]:
        """Return what is asked of a row, each with a text to put them in order by."""
        settings = dict(row["settings"])
        num_samples = settings.pop("n", 1)
        try:
            messages = _messages_of(row)
        except (RowError, InvalidValueError) as problem:
            return [("", _known(number, TaskStatus.FAILED, problem)) for _, number in waiting]
        text = described(messages)
        found: list[tuple[str, Question | Known]] = []
        for sample, number in waiting:
            if sample < num_samples:
                found.append((text, self._request(messages, text, settings, sample, number)))
            else:
                error = RowError(f"This request asks for {num_samples} replies, and no more.")
                found.append(("", _known(number, TaskStatus.SKIPPED, error)))
        return found

    def _request(
        self,
        messages: list[Message],
        text: str,
        settings: dict[str, Any],
        sample: int,
        number: int,
    ) -> Question:
        sampling = {**self._sampling, **settings}
        given = sampling.pop("seed", self._seed)
        seed = self._seed_of(sample, number, given)
        is_greedy = float(sampling.get("temperature", 0.0)) == 0.0
        settings_told = [[name, sampling[name]] for name in sorted(sampling)]
        told = json.dumps(settings_told, separators=(",", ":"), default=str)
        digest = self._base.copy()
        digest.update(f"[{text},{told}]".encode())  # as in runs of before there were images
        if not is_greedy:
            digest.update(f"seed {seed}".encode())
        return Question(
            number=number,
            key=digest.hexdigest(),
            messages=messages,
            sampling={**sampling, "seed": seed},
            read=self._read_with_logprobs if "logprobs" in sampling else self._read,
            alike=is_greedy or given is not None,
            has_own_rules="schema" in settings,
        )

    def _read_with_logprobs(self, reply: Reply) -> Answer:
        """Keep what the request asks for beside the reply; it is no column of the table."""
        return self._read(reply)._replace(logprobs=reply.logprobs)


def _messages_of(row: Mapping[str, Any]) -> list[Message]:
    """Return a request's messages; raise `RowError` or `ImageError` if it cannot be."""
    refused = row["unsupported"]
    if refused:
        raise RowError(
            f"This request asks for what cannot be done in a run: {', '.join(refused[:10])}.",
            unsupported=refused,
        )
    messages: list[Message] = row["messages"]
    if any(not isinstance(message["content"], str) for message in messages):
        return to_messages(messages)  # with images
    return messages


def _base_of(model: ModelRef, prompt: Prompt, sampling: dict[str, Any]) -> Any:
    """Begin the digest of a key with all that a row does not change."""
    base = {
        "model": model.identity,
        "chat_template": model.chat_template,
        "output": prompt.output.to_dict(),
        # The order of a schema's properties is that of the reply, so only the settings are sorted.
        "sampling": [[name, sampling[name]] for name in sorted(sampling)],
    }
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(base, default=str).encode())
    return digest


def _known(number: int, status: TaskStatus, error: RowError | InvalidValueError) -> Known:
    return Known(Outcome(number=number, status=status, attempts=0, error=to_wire(error)))
