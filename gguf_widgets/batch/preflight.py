"""What a run will be like, told before it begins: lengths, what does not fit, what is shared, time.

Promises: every row is looked at, most of them by their letters and the longest ones by their
tokens, so that the number of rows that do not fit is exact unless it says "at least"; a time is
told only from rows that were really asked, and those are kept. Leaves to others: asking them
(`run`), what is done with the answer (a person).
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from gguf_widgets.batch.question import Question
from gguf_widgets.core.fit_machine import free_memory, process_memory
from gguf_widgets.core.format import format_bytes, format_count, format_duration
from gguf_widgets.core.images import IMAGE_MARK
from gguf_widgets.core.model import Model
from gguf_widgets.core.types import Message

__all__ = ["Preflight", "look", "time_for"]

_SAMPLE: Final = 200  # rows whose tokens are counted to know how many letters make one
_LONGEST: Final = 200  # the longest rows, counted as well
_WITH_IMAGES: Final = 20  # in place of both: images take room, and counting theirs takes time
_MARGIN: Final = 0.75  # those of them that may take so much of the room, by their letters
_COMPARED: Final = 20


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will be like.

    Attributes
    ----------
    num_rows, num_tasks : int
        Rows, and replies: of each prompt, model and sample.
    num_asked : int
        Tasks that will really be asked: without those that have ended, are skipped or are alike.
    prompt_tokens : tuple of int
        Least, median, 95th percentile and most tokens of a prompt, as far as they were counted.
    n_ctx : int
        The room for a prompt and its reply together.
    num_too_long : int
        Prompts that do not fit; their rows will fail, each with a clear word, and nothing is cut.
    too_long : tuple of int
        Their tasks' numbers, the first ones.
    is_exact : bool
        Whether `num_too_long` is all of them.
    num_shared_tokens : int
        How many tokens the prompts begin with alike, as far as some of them tell; they are computed
        once.
    seconds : (float, float) or None
        How long it takes, at least and at most, from rows that were asked; None before that.
    num_sampled : int
        How many rows that is from.
    memory_bytes, free_bytes : int or None
        What the model's process has in memory now (resident set size), and what is free on this
        machine; None where it cannot be told. A run takes no more for having more rows.
    notes : tuple of str
        Sentences for the person.
    """

    num_rows: int
    num_tasks: int
    num_asked: int
    prompt_tokens: tuple[int, int, int, int]
    n_ctx: int
    num_too_long: int = 0
    too_long: tuple[int, ...] = ()
    is_exact: bool = True
    num_shared_tokens: int = 0
    seconds: tuple[float, float] | None = None
    num_sampled: int = 0
    memory_bytes: int | None = None
    free_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_saved_tokens(self) -> int:
        """How many tokens need not be computed because they are shared."""
        return self.num_shared_tokens * max(0, self.num_asked - 1)

    @property
    def memory_words(self) -> str:
        """The memory as a sentence without its full stop; "" where it is not known."""
        if self.memory_bytes is None or self.free_bytes is None:
            return ""
        return (
            f"The model takes {format_bytes(self.memory_bytes)} of memory, however many rows there "
            f"are; {format_bytes(self.free_bytes)} is free"
        )

    def __str__(self) -> str:
        least, median, high, most = self.prompt_tokens
        lines = [
            f"{self.num_rows:,} rows, {self.num_asked:,} replies to ask for",
            f"Prompts of {least:,} to {most:,} tokens: half below {median:,}, 95% below {high:,}",
        ]
        if self.num_too_long:
            at_least = "" if self.is_exact else "At least "
            lines.append(
                f"{at_least}{self.num_too_long:,} do not fit into {self.n_ctx:,} tokens and will "
                "fail; load the model with a larger n_ctx, or shorten them"
            )
        if self.num_shared_tokens:
            lines.append(
                f"They begin with the same {self.num_shared_tokens:,} tokens, computed once: "
                f"{format_count(self.num_saved_tokens)} tokens saved"
            )
        if self.seconds is not None:
            low, high_s = (format_duration(one) for one in self.seconds)
            lines.append(f"About {low} to {high_s}, from {self.num_sampled} rows that were asked")
        if self.memory_words:
            lines.append(self.memory_words)
        return "\n".join([*lines, *self.notes])


def look(
    model: Model, questions: Iterator[Any], *, num_rows: int, num_tasks: int
) -> tuple[Preflight, list[Question]]:
    """Look at every question, and return what it comes to and some of them, drawn by lot.

    Parameters
    ----------
    model : Model
    questions : iterator of Question or Known
    num_rows, num_tasks : int
        Of the whole run.
    """
    rng = random.Random(0)  # noqa: S311 - the same rows each time; it keeps no secret
    sample: list[Question] = []
    longest: list[tuple[int, int, Question]] = []
    keys: set[str] = set()
    num_asked = 0
    has_images = False
    num_sample, num_longest = _SAMPLE, _LONGEST
    for one in questions:
        if not isinstance(one, Question) or (one.alike and one.key in keys):
            continue
        keys.add(one.key)
        num_asked += 1
        if not has_images and any("parts" in message for message in one.messages):
            has_images = True
            num_sample = num_longest = _WITH_IMAGES
            del sample[num_sample:]
            longest = heapq.nlargest(num_longest, longest)
            heapq.heapify(longest)
        text = _text(one.messages)
        entry = (len(text), one.number, one)
        if len(longest) < num_longest:
            heapq.heappush(longest, entry)
        else:
            heapq.heappushpop(longest, entry)
        if len(sample) < num_sample:
            sample.append(one)
        elif (place := rng.randrange(num_asked)) < num_sample:
            sample[place] = one
    n_ctx = model.settings.n_ctx or 0
    if not num_asked:
        nothing = Preflight(
            num_rows=num_rows,
            num_tasks=num_tasks,
            num_asked=0,
            prompt_tokens=(0, 0, 0, 0),
            n_ctx=n_ctx,
            notes=("There is nothing left to ask.",),
        )
        return nothing, []
    counted = {one.number: model.count_tokens(one.messages) for one in sample}
    letters = sum(len(_text(one.messages)) for one in sample)
    per_letter = sum(counted.values()) / max(1, letters)
    for length, number, one in longest:
        if number not in counted and length * per_letter > _MARGIN * n_ctx:
            counted[number] = model.count_tokens(one.messages)
    too_long = sorted(number for number, num in counted.items() if num >= n_ctx)
    # Rows below the ones that were counted are shorter than all of them: do they fit for sure?
    beyond = num_asked > num_longest and longest[0][0] * per_letter > _MARGIN * n_ctx
    tokens = sorted(counted.values())
    preflight = Preflight(
        num_rows=num_rows,
        num_tasks=num_tasks,
        num_asked=num_asked,
        prompt_tokens=(
            tokens[0],
            round(statistics.median(tokens)),
            tokens[min(len(tokens) - 1, round(0.95 * len(tokens)))],
            tokens[-1],
        ),
        n_ctx=n_ctx,
        num_too_long=len(too_long),
        too_long=tuple(too_long[:20]),
        is_exact=not beyond and (not has_images or num_asked <= num_sample),
        num_shared_tokens=_num_shared(model, sample),
        memory_bytes=process_memory(model.pid),
        free_bytes=free_memory(),
        notes=tuple(_notes(model)),
    )
    fitting = [one for one in sample if counted[one.number] < n_ctx]
    return preflight, fitting


def time_for(num_asked: int, num_sampled: int, times_s: Sequence[float]) -> tuple[float, float]:
    """Return how long all takes, at least and at most.

    Parameters
    ----------
    num_asked : int
        How many replies are still to come.
    num_sampled : int
        How many rows were asked in each of the rounds.
    times_s : sequence of float
        How long each round took.
    """
    each = [seconds / num_sampled for seconds in times_s]
    # Two rounds say little about their spread, so at least a fifth is added on either side.
    return num_asked * min(each) * 0.8, num_asked * max(each) * 1.25


def _text(messages: Sequence[Message]) -> str:
    return "\0".join(f"{message['role']}\0{message['content']}" for message in messages)


def _num_shared(model: Model, sample: Sequence[Question]) -> int:
    """Return how many tokens some prompts, as the model is given them, begin with alike."""
    if len(sample) < 2:
        return 0
    prompts = [
        model.tokenize(_before_images(model.render(list(one.messages))), add_special=True)
        for one in sample[:_COMPARED]
    ]
    num = 0
    for tokens in zip(*prompts, strict=False):
        if len(set(tokens)) > 1:
            break
        num += 1
    return num


def _before_images(prompt: str) -> str:
    """Return a prompt up to its first image: what is behind it is another's, or is not told."""
    return prompt.partition(IMAGE_MARK)[0]


def _notes(model: Model) -> list[str]:
    if model.info.backend == "scripted":
        return ["Demo mode: the replies are prepared sentences; no model runs."]
    return []
