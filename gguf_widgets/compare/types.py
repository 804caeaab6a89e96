"""What a comparison is made of, as plain values.

Promises: immutable values with the field's names and units, each of JSON's own types or made of
them, so that a page, a file and a program get the same. Leaves to others: where they come from
(`comparison`), what the figures mean (`statistics`).

Sides and prompts are told by their numbers, from 0: sides in the order in which they were given,
prompts in the order of the person's table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from gguf_widgets.core.store.batch_types import Counts

__all__ = [
    "Answer",
    "Choice",
    "ComparisonStatus",
    "Difference",
    "Interval",
    "Pair",
    "Progress",
    "Row",
    "SideState",
    "SideStatus",
    "SideSummary",
    "Standing",
    "Vote",
]

Choice = Literal["a", "b", "both", "neither"]
"""What a person says of two answers: the first is better, the second, both are good, none is."""


class ComparisonStatus(StrEnum):
    """Where a comparison stands."""

    READY = "ready"  # it has not been started
    RUNNING = "running"  # a process is at it
    STOPPED = "stopped"  # a person stopped it; it can go on
    INTERRUPTED = "interrupted"  # the process that was at it has ended; it can go on
    FINISHED = "finished"  # every side that could answer has, or it was clear enough early
    FAILED = "failed"  # it could not go on at all; `Comparison.error` says why


class SideStatus(StrEnum):
    """Where one side stands."""

    WAITING = "waiting"  # its turn has not come
    LOADING = "loading"
    READY = "ready"  # its model is in memory; another side is answering
    ANSWERING = "answering"
    DONE = "done"  # every prompt has ended
    STOPPED = "stopped"  # some prompts have not been asked
    FAILED = "failed"  # it could not be loaded, or could not go on; `error` says why


class SideState(msgspec.Struct, frozen=True, kw_only=True):
    """A side at one moment.

    Attributes
    ----------
    number : int
    label : str
        What it is called; different from all others.
    model : str
        The model's name.
    path : str or None
        Its file; None until it is known.
    status : SideStatus
    error : str or None
        Why it failed, in words.
    run_id : str or None
        Of the batch run that holds its answers (`gguf_widgets.resume`).
    counts : Counts or None
        How many prompts are done, failed, skipped, waiting; None before it has begun.
    tok_per_s : float or None
        Tokens written in each second in which it was answering: all its replies together.
    busy_s : float
        Seconds in which it was answering.
    memory_bytes : int or None
        What its process took (resident set) after it had answered; None while not known.
    file_bytes : int or None
    quantization : str
    settings : dict
        What makes it another side than the others: ``load``, ``sampling``, ``system``,
        ``template``, as far as given for this side.
    """

    number: int
    label: str
    model: str
    path: str | None = None
    status: SideStatus = SideStatus.WAITING
    error: str | None = None
    run_id: str | None = None
    counts: Counts | None = None
    tok_per_s: float | None = None
    busy_s: float = 0.0
    memory_bytes: int | None = None
    file_bytes: int | None = None
    quantization: str = ""
    settings: dict[str, Any] = {}


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison at one moment.

    Attributes
    ----------
    status : ComparisonStatus
    phase : {"", "loading", "answering", "scoring"}
        What it is at.
    num_done, num_total : int
        Answers that have ended, and all that are asked for, of the sides that can answer.
    left_s : (float, float) or None
        The shortest and longest time that the answers probably still take, in seconds.
    elapsed_s : float
        How long it has been at it since it was started or resumed here.
    note : str
        What a person should know now: full sentences, mostly "".
    sides : list of SideState
    """

    status: ComparisonStatus
    phase: str = ""
    num_done: int = 0
    num_total: int = 0
    left_s: tuple[float, float] | None = None
    elapsed_s: float = 0.0
    note: str = ""
    sides: list[SideState] = []

    @property
    def fraction(self) -> float:
        """How much has ended, from 0 to 1."""
        return self.num_done / self.num_total if self.num_total else 0.0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one side answered to one prompt.

    Attributes
    ----------
    status : {"waiting", "done", "failed", "skipped"}
    text : str or None
        As the model wrote it, also where it was cut off.
    error : str or None
        Why it failed or was skipped, in words.
    finish_reason : str or None
        "stop", "length" (it was cut off), "aborted" or "error".
    num_prompt_tokens, num_completion_tokens : int or None
    total_s, ttft_s, decode_tok_per_s : float or None
        Of this reply (`Timings`); None where the answer is that of an equal prompt.
    seed : int or None
    scores : dict of str to float or None
        By the scoring's name; None: it could not be told, and `why` has the reason.
    why : dict of str to dict
        What each scoring has to say besides its figure: ``note`` (a sentence), ``fields``, ...
    """

    status: str = "waiting"
    text: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    total_s: float | None = None
    ttft_s: float | None = None
    decode_tok_per_s: float | None = None
    seed: int | None = None
    scores: dict[str, float | None] = {}
    why: dict[str, dict[str, Any]] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt and what each side answered.

    Attributes
    ----------
    number : int
        The prompt's, from 0.
    prompt : str
        What a person would call it: the last message of the user, as the first side is asked.
    values : dict
        The row of the table, by column.
    reference : object
        What is right; None if nothing was given.
    answers : list of Answer
        One for each side.
    """

    number: int
    prompt: str
    values: dict[str, Any]
    reference: Any
    answers: list[Answer]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean, and what is known of it.

    Attributes
    ----------
    mean : float or None
        None if there is nothing to take the mean of.
    low, high : float or None
        The interval; None if the data cannot tell (one value of an unbounded quantity).
    num : int
        How many values it is the mean of.
    confidence : float
        In so many of 100 experiments such an interval holds the true mean: 0.95.
    method : str
        "bootstrap", "exact" (all values were alike) or "sequential" (holds at any moment, also
        where the run ended because it was clear).
    """

    mean: float | None
    low: float | None
    high: float | None
    num: int
    confidence: float = 0.95
    method: str = "bootstrap"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart two sides are in one score, over the prompts that both have answered.

    Attributes
    ----------
    score : str
    a, b : int
        The sides.
    label_a, label_b : str
    mean, low, high : float or None
        Of a's score minus b's, with its interval; see `Interval`.
    mean_a, mean_b : float or None
        Of each, over the same prompts.
    num_pairs : int
        Prompts that count.
    num_left_out : int
        Prompts for which one of the two has no answer or no score.
    num_a, num_b, num_same : int
        How often a's score was better (without a better direction: larger), b's, and neither.
    confidence, method
        As for `Interval`.
    clear : bool
        Whether the data can tell: the interval does not hold 0.
    better : {"a", "b"} or None
        Which is better, if it is clear and the score has a better direction.
    words : str
        All this in one sentence or two for the screen.
    """

    score: str
    a: int
    b: int
    label_a: str
    label_b: str
    mean: float | None
    low: float | None
    high: float | None
    mean_a: float | None
    mean_b: float | None
    num_pairs: int
    num_left_out: int
    num_a: int
    num_b: int
    num_same: int
    confidence: float
    method: str
    clear: bool
    better: Literal["a", "b"] | None
    words: str

    def __str__(self) -> str:
        return self.words


class SideSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one side over all prompts.

    Attributes
    ----------
    state : SideState
    num_done, num_failed, num_waiting, num_cut_off : int
        Prompts; cut off are those done whose reply met its longest length.
    scores : dict of str to Interval
        By the scoring's name.
    tokens : Interval
        Tokens of a reply.
    ttft_s, total_s, decode_tok_per_s : float or None
        The median over the replies that were computed.
    """

    state: SideState
    num_done: int
    num_failed: int
    num_waiting: int
    num_cut_off: int
    scores: dict[str, Interval]
    tokens: Interval
    ttft_s: float | None
    total_s: float | None
    decode_tok_per_s: float | None


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one prompt, to be judged without knowing whose they are.

    `a` stands first (left) and `b` second; which side that is was drawn. A page should get the
    texts alone.

    Attributes
    ----------
    index : int
        Its place in the order of voting.
    prompt : int
    a, b : int
        The sides, for `Comparison.vote`; they tell who is who.
    prompt_text, text_a, text_b : str
    choice : {"a", "b", "both", "neither"} or None
        The vote, if there is one.
    """

    index: int
    prompt: int
    a: int
    b: int
    prompt_text: str
    text_a: str
    text_b: str
    choice: Choice | None = None


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """A vote: `choice` says which of the sides `a` and `b` (a < b) gave the better answer."""

    prompt: int
    a: int
    b: int
    choice: Choice
    at: float


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the votes on two sides stand.

    Attributes
    ----------
    a, b : int
    label_a, label_b : str
    num_votes, num_a, num_b, num_both, num_neither : int
    share_a : float or None
        How often `a` was preferred, a draw counting half; with its Wilson interval.
    low, high : float or None
    clear : bool
        Whether the interval does not hold one half.
    words : str
    """

    a: int
    b: int
    label_a: str
    label_b: str
    num_votes: int
    num_a: int
    num_b: int
    num_both: int
    num_neither: int
    share_a: float | None
    low: float | None
    high: float | None
    confidence: float
    clear: bool
    words: str

    def __str__(self) -> str:
        return self.words
