"""What the store keeps of a batch run, as plain values.

Promises: immutable values with the field's standard names, each of JSON's own types or made of
them. Leaves to others: the tables (`batch_runs`), what they mean to a run (`gguf_widgets.batch`).

A *run* takes a table's rows through one or more prompts and models. What is computed for one row
with one prompt, one model and one sample is a *task*; tasks are numbered from 0 in this order:
row by row, then prompt by prompt, then model by model, then sample by sample.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from gguf_widgets.core.errors import WireError
from gguf_widgets.core.types import FinishReason, Timings, TokenLogprob, Usage

__all__ = [
    "Counts",
    "Outcome",
    "Run",
    "RunStatus",
    "RunWish",
    "Shape",
    "Task",
    "TaskStatus",
]


class RunStatus(StrEnum):
    """Where a run stands."""

    READY = "ready"  # it has not been started
    RUNNING = "running"  # a process is at it
    PAUSED = "paused"  # a process has it, and starts no more rows
    STOPPED = "stopped"  # a person stopped it; it can go on
    INTERRUPTED = "interrupted"  # the process that was at it has ended; it can go on
    FINISHED = "finished"  # every task has ended
    FAILED = "failed"  # it could not go on at all; `Run.error` says why


class RunWish(StrEnum):
    """What the process that is at a run is asked to do, by any other."""

    PAUSE = "pause"
    GO_ON = "go on"
    STOP = "stop"
    CHANGE = "change"  # load the model with other settings, and go on with it


class TaskStatus(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # on purpose: a value that it needs is missing


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there are; a run has ``rows * prompts * models * samples`` tasks."""

    num_rows: int = 0
    num_prompts: int = 1
    num_models: int = 1
    num_samples: int = 1

    @property
    def per_row(self) -> int:
        """How many tasks a row has."""
        return self.num_prompts * self.num_models * self.num_samples

    @property
    def num_tasks(self) -> int:
        """How many tasks there are."""
        return self.num_rows * self.per_row

    def place(self, number: int) -> tuple[int, int, int, int]:
        """Return a task's row, prompt, model and sample, each from 0."""
        rest, sample = divmod(number, self.num_samples)
        rest, model = divmod(rest, self.num_models)
        row, prompt = divmod(rest, self.num_prompts)
        return row, prompt, model, sample

    def number(self, row: int, prompt: int = 0, model: int = 0, sample: int = 0) -> int:
        """Return the number of the task at a place."""
        inner = (prompt * self.num_models + model) * self.num_samples + sample
        return row * self.per_row + inner


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run.

    Attributes
    ----------
    id : str
        32 hexadecimal digits.
    spec : dict
        What is to be done: prompts, output, sampling, models, options. `batch.spec` makes it.
    columns : list of dict
        The table's columns: name and dtype, and those of the index; `batch.table_rows` makes it.
    shape : Shape
    complete : bool
        Whether all rows of the table are in the store: before that the run cannot begin.
    created_at, updated_at, ended_at : float or None
        Seconds since 1970, UTC.
    """

    id: str
    title: str
    status: RunStatus
    spec: dict[str, Any]
    columns: list[dict[str, Any]]
    shape: Shape
    complete: bool
    error: WireError | None
    created_at: float
    updated_at: float
    ended_at: float | None = None
    deleted_at: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task.

    Attributes
    ----------
    number : int
        The task's.
    status : TaskStatus
    text : str or None
        The reply as the model wrote it, also where it could not be read or was cut off.
    values : dict or None
        What was read from it, by column.
    error : WireError or None
    probabilities : dict of str to float or None
        Of each choice; they add up to 1.
    certainty : float or None
        From 0 to 1: the probability of what was chosen.
    logprobs : list of TokenLogprob or None
        Of each token, where they are asked for to be kept.
    attempts : int
        How often it has been tried.
    """

    number: int
    status: TaskStatus
    attempts: int = 1
    text: str | None = None
    values: dict[str, Any] | None = None
    error: WireError | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    seed: int | None = None
    probabilities: dict[str, float] | None = None
    certainty: float | None = None
    logprobs: list[TokenLogprob] | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it is in the store: its place, its key, what came of it, and a person's edit.

    `edit` is what a person put in place of `outcome.values`; those stay as they were.
    """

    row: int
    prompt: int
    model: int
    sample: int
    key: str
    outcome: Outcome
    edit: dict[str, Any] | None = None
    ended_at: float | None = None

    @property
    def values(self) -> dict[str, Any] | None:
        """What counts: the edit, if there is one."""
        return self.edit if self.edit is not None else self.outcome.values


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of a run stand where."""

    waiting: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def ended(self) -> int:
        """How many have ended, one way or another."""
        return self.done + self.failed + self.skipped

    @property
    def total(self) -> int:
        """How many there are."""
        return self.waiting + self.ended
