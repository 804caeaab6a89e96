"""Where the answers of two sides to one prompt part.

Promises: it is the kept answers that are compared, not new ones (what is computed side by side
differs in the last digits, so an answer made again may be another); each side's model is asked how
likely it thought every token of its own answer, and, where both were asked the same, of the other's
at the parting. Where a model cannot say that (demo mode), the answers are compared as text. Models
that are loaded for it are given back. Leaves to others: the alignment (`core.scores`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gguf_widgets.batch.table_rows import row_of
from gguf_widgets.compare.answers import Answers
from gguf_widgets.compare.definition import Definition
from gguf_widgets.compare.memory import Memory
from gguf_widgets.compare.records import Record, Records
from gguf_widgets.compare.scorer import column_names
from gguf_widgets.core.errors import (
    InvalidValueError,
    NotEnoughMemoryError,
    RequestCancelledError,
    UnsupportedByModelError,
)
from gguf_widgets.core.manager import ModelManager
from gguf_widgets.core.model import Model
from gguf_widgets.core.scores.alignment import first_split
from gguf_widgets.core.scores.divergence import Divergence, with_both_sides
from gguf_widgets.core.store.batch_types import Outcome, TaskStatus
from gguf_widgets.core.types import FinishReason, Message, Reply, Timings, TokenLogprob, Usage

__all__ = ["parting"]

_LONG: Final = 1024  # tokens from which on the usual window might not hold all that is before

Told = Callable[[float, str], Any]


def parting(
    records: Records,
    record: Record,
    definition: Definition,
    answers: Answers,
    manager: ModelManager,
    given: Mapping[int, Model],
    prompt: int,
    sides: tuple[int, int],
    *,
    top: int,
    progress: Told | None,
) -> Divergence:
    """Return where the answers part; see `Comparison.divergence`."""
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= 100:
        raise InvalidValueError(
            f"top is {top!r:.40}; it can be from 1 to 100.", value=str(top)[:40]
        )
    ((data, _),) = records.prompts(record, prompt, prompt + 1)
    row = row_of(column_names(definition), data)
    asked = [
        definition.sides[side].prompt(definition.common).template.render(row) for side in sides
    ]
    labels = [definition.sides[side].label for side in sides]
    replies = [
        _reply(_outcome(answers, side, prompt, label))
        for side, label in zip(sides, labels, strict=True)
    ]
    memory = Memory(manager, given, lambda: False)

    def told(share: float, phrase: str) -> None:
        if progress is not None and progress(share, phrase) is False:
            raise RequestCancelledError("Looking for the parting was stopped.")

    models: list[Model] = []
    digests = []
    try:
        for place, side in enumerate(sides):
            told(0.4 * place, f"Asking “{labels[place]}” how sure it was")
            try:
                model = memory.model(side, definition.sides[side])
            except NotEnoughMemoryError:
                if not models:
                    raise
                memory.unload()  # so the first one cannot be asked about the other's words
                model = memory.model(side, definition.sides[side])
            models.append(model)
            digests.append(model.vocabulary().digest)
            replies[place] = _with_chances(model, replies[place], asked[place], top)
        told(0.8, "Looking for the place where they part")
        a, b = replies
        split = first_split(a, b, same_tokens=digests[0] == digests[1])
        both_there = all(model.loaded for model in models)
        if split is not None and asked[0] == asked[1] and both_there:
            split = with_both_sides(split, a, b, models[0], models[1], list(asked[0]), top=top)
        told(1.0, "Done")
    finally:
        memory.unload()
    return Divergence(name_a=labels[0], name_b=labels[1], a=replies[0], b=replies[1], split=split)


def _with_chances(model: Model, reply: Reply, asked: list[Message], top: int) -> Reply:
    """Return a reply with how likely its model thinks each of its tokens; as it is if it cannot."""
    if not reply.text:
        return msgspec.structs.replace(reply, logprobs=[])
    length = reply.usage.num_prompt_tokens + reply.usage.num_completion_tokens
    window = model.settings.n_ctx if length >= _LONG else None
    try:
        scores = model.score(reply.text, after=list(asked), top=top, n_window=window)
    except UnsupportedByModelError:
        return reply
    tokens = [
        TokenLogprob(token, scores.texts.get(token, ""), float(logprob), list(likeliest))
        for token, logprob, likeliest in zip(
            (scores.tokens[place] for place in scores.positions),
            scores.logprobs,
            scores.top,
            strict=True,
        )
    ]
    return msgspec.structs.replace(reply, logprobs=tokens)


def _outcome(answers: Answers, side: int, prompt: int, label: str) -> Outcome:
    tasks = answers.tasks(side)
    place = int(answers.place_of[prompt])
    task = tasks.tasks(place, place + 1).get(place) if tasks is not None else None
    if task is None or task.outcome.status is not TaskStatus.DONE:
        raise InvalidValueError(
            f"“{label}” has no answer to this prompt, so there is nothing to compare.",
            prompt=prompt,
            side=side,
        )
    return task.outcome


def _reply(outcome: Outcome) -> Reply:
    return Reply(
        text=outcome.text or "",
        finish_reason=outcome.finish_reason or FinishReason.STOP,
        usage=outcome.usage
        or Usage(num_prompt_tokens=0, num_cached_tokens=0, num_completion_tokens=0),
        timings=outcome.timings
        or Timings(queue_s=0.0, prefill_s=0.0, decode_s=0.0, ttft_s=None, total_s=0.0),
        seed=outcome.seed or 0,
    )
